//! Where logs are published: a folder, or an address that a web server answers for.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use tokio::runtime::Handle;
use tracing::debug;

use crate::verify::files::read_bounded;
use crate::web::{authorities, cause, is_here};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Pauses before a question is asked again that nobody answered.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// Why a file cannot be had. That it is not there is no error.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Nobody answers, or not in time, or with something that is no answer.
    #[error("{at} cannot be read: {why}")]
    Unreachable {
        /// The file.
        at: String,
        /// What happened.
        why: String,
    },
    /// The file is larger than any such file may be.
    #[error("{at} has more than {most} bytes")]
    TooLarge {
        /// The file.
        at: String,
        /// Bytes that it may have.
        most: usize,
    },
}

/// A folder or an address.
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// An address.
    Web(Web),
}

/// An address, with what is needed to ask there. Its calls block: they come from threads that are not the runtime's.
pub struct Web {
    http: Client,
    base: Url,
    runtime: Handle,
}

impl Place {
    /// What a user named: `http://…` and `https://…` are addresses, everything else is a folder.
    ///
    /// # Errors
    /// It is no address that can be asked, or the certificates cannot be read.
    pub fn parse(text: &str, ca_file: Option<&Path>, timeout: Duration, runtime: &Handle) -> Result<Self> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Ok(Self::Folder(text.into()));
        }
        // What does not parse may hold a password: it is not repeated.
        let mut base = Url::parse(text).context("this is no address")?;
        ensure!(
            base.username().is_empty() && base.password().is_none(),
            "an address with a user name or password in it"
        );
        ensure!(base.query().is_none() && base.fragment().is_none(), "an address with a query or fragment");
        // What follows is joined: the last part of the path is a folder.
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let mut builder = Client::builder()
            .user_agent(concat!("killick/", env!("CARGO_PKG_VERSION")))
            // Where it leads is not where the log is published.
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .timeout(timeout);
        if is_here(&base) {
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            // Without TLS there is nothing to trust, and a machine without any certificates can do without.
            builder = builder.tls_certs_only([]);
        } else if let Some(file) = ca_file {
            builder = builder.tls_certs_only(authorities(file)?);
        }
        let http = builder.build().context("no HTTP client can be made")?;
        Ok(Self::Web(Web { http, base, runtime: runtime.clone() }))
    }

    /// A file as people find it.
    pub fn at(&self, path: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(path).display().to_string(),
            Self::Web(web) => format!("{}{path}", web.base),
        }
    }

    /// Reads a file of at most `most` bytes; `None` if it is not there.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, PlaceError> {
        let at = || self.at(path);
        let read = match self {
            Self::Folder(folder) => match read_bounded(&folder.join(path), most) {
                Ok(bytes) => Some(bytes),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    None
                }
                Err(error) => return Err(PlaceError::Unreachable { at: at(), why: error.to_string() }),
            },
            Self::Web(web) => {
                web.read(path, most).map_err(|why| PlaceError::Unreachable { at: at(), why })?
            }
        };
        match read {
            Some(bytes) if bytes.len() > most => Err(PlaceError::TooLarge { at: at(), most }),
            read => Ok(read),
        }
    }
}

impl Web {
    /// Reads a file, or one byte more than it may have; asks again where nobody answered.
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, String> {
        let url = self.base.join(path).map_err(|error| error.to_string())?;
        let mut pauses = AGAIN.iter();
        loop {
            match (self.runtime.block_on(self.get(&url, most)), pauses.next()) {
                (Err(why), Some(pause)) => {
                    debug!(%url, why, "asking again");
                    std::thread::sleep(*pause);
                }
                (read, _) => return read,
            }
        }
    }

    async fn get(&self, url: &Url, most: usize) -> Result<Option<Vec<u8>>, String> {
        let told = |error: reqwest::Error| cause(&error);
        let response = self.http.get(url.clone()).send().await.map_err(told)?;
        match response.status().as_u16() {
            200 => body(response, most).await.map(Some).map_err(told),
            // Stores of objects say so of what is not there.
            403 | 404 | 410 => Ok(None),
            status => Err(format!("status {status}")),
        }
    }
}

async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = (most + 1).saturating_sub(body.len());
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() > most {
            break;
        }
    }
    Ok(body)
}
