//! What all HTTP clients here share: which certificates count, which machine an address is on, and what an error is told as.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Certificate, Url};

/// Bytes in the longest file of certificates.
const LARGEST_CA: u64 = 16 << 20;

/// The certificates of authorities in a file (PEM).
///
/// # Errors
/// There are none, or the file cannot be read.
pub fn authorities(file: &Path) -> Result<Vec<Certificate>> {
    let named = || format!("ca_file {}", file.display());
    let about = std::fs::metadata(file).with_context(named)?;
    ensure!(about.len() <= LARGEST_CA, "{}: {} bytes are too many", named(), about.len());
    let found =
        Certificate::from_pem_bundle(&std::fs::read(file).with_context(named)?).with_context(named)?;
    ensure!(!found.is_empty(), "{}: there is no certificate in it", named());
    Ok(found)
}

/// Whether an address is on this machine.
pub fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost cause: what is around it says only that a request failed.
pub fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match std::error::Error::source(error) {
        Some(_) => innermost.to_string().escape_debug().to_string(),
        None => "the request could not be made".to_owned(),
    }
}
