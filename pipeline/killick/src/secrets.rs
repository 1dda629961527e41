//! Secrets in files: made once, readable by their owner alone, never printed.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use killick_proof::note::SignerKey;
use killick_proof::signature::SecretKey;
use killick_stages::anchor::MAX_KEYS;
use tracing::warn;
use zeroize::Zeroizing;

/// Bytes in the longest secret file.
const LONGEST: u64 = 4_096;

/// The secret in `path`; if there is no such file, `make` makes it.
///
/// # Errors
/// The file cannot be read or written.
pub fn read_or_make(path: &Path, make: impl FnOnce() -> Zeroizing<String>) -> Result<Zeroizing<String>> {
    match read(path) {
        Err(error)
            if error.downcast_ref().is_some_and(|io: &std::io::Error| io.kind() == ErrorKind::NotFound) => {}
        outcome => return outcome,
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    let secret = make();
    write_new(path, &secret)?;
    Ok(secret)
}

/// A text that is no secret, in a file that is no longer than one.
///
/// # Errors
/// The file cannot be read.
pub fn read_public(path: &Path) -> Result<String> {
    let named = || format!("{}", path.display());
    let about = std::fs::metadata(path).with_context(named)?;
    if about.len() > LONGEST {
        bail!("{} has {} bytes: no key is that long", path.display(), about.len());
    }
    std::fs::read_to_string(path).with_context(named)
}

/// The secret in `path`, without the line end.
///
/// # Errors
/// The file cannot be read; the message has its name and never its content.
pub fn read(path: &Path) -> Result<Zeroizing<String>> {
    let named = || format!("{}", path.display());
    let about = std::fs::metadata(path).with_context(named)?;
    if about.len() > LONGEST {
        bail!("{} has {} bytes: no key is that long", path.display(), about.len());
    }
    let mode = about.permissions().mode();
    // Where it is another's, as in a pod, its group is the only way to it.
    let is_by_group = mode & 0o037 == 0 && about.uid() != rustix::process::geteuid().as_raw();
    if mode & 0o077 != 0 && !is_by_group {
        warn!(file = %path.display(), "others can read this secret: chmod 600 it");
    }
    let mut secret = Zeroizing::new(std::fs::read_to_string(path).with_context(named)?);
    while secret.ends_with('\n') {
        secret.pop();
    }
    Ok(secret)
}

/// Writes a secret to a file that must not be there yet; durable when it returns.
///
/// # Errors
/// The file is there, or cannot be written.
pub fn write_new(path: &Path, secret: &str) -> Result<()> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = open.with_context(|| format!("{}", path.display()))?;
    file.write_all(secret.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{}", path.display()))?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("{}", folder.display()))?;
    }
    Ok(())
}

/// The key of a log, in the text form of note signers; made if there is none.
///
/// # Errors
/// The file cannot be read or written, or holds the key of another log.
pub fn log_key(path: &Path, origin: &str) -> Result<SignerKey> {
    let fresh = SignerKey::new(origin, SecretKey::from_seed(&rand::random()))?;
    let text = read_or_make(path, || Zeroizing::new(fresh.to_secret_text()))?;
    parse_log_key(&text, path, origin)
}

/// The key of a log, from the text that stood in a file.
///
/// # Errors
/// It is no key, or that of another log.
pub fn parse_log_key(text: &str, path: &Path, origin: &str) -> Result<SignerKey> {
    let key: SignerKey = text.parse().with_context(|| format!("{} is no log key", path.display()))?;
    if key.name() != origin {
        bail!("{} is the key of {}, and not of {origin}", path.display(), key.name());
    }
    Ok(key)
}

/// An Ed25519 key as 64 hex digits; made if there is none.
///
/// # Errors
/// The file cannot be read or written, or holds something else.
pub fn seed(path: &Path) -> Result<SecretKey> {
    parse_seed(&read_or_make(path, || Zeroizing::new(hex::encode(rand::random::<[u8; 32]>())))?, path)
}

/// An Ed25519 key as 64 hex digits, which has to be there.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn read_seed(path: &Path) -> Result<SecretKey> {
    parse_seed(&read(path)?, path)
}

/// The keys that sign anchors: `anchor.key`, which has to be there, and of `anchor-1.key` to `anchor-15.key` those that are.
///
/// # Errors
/// As for [`read_seed`].
pub fn anchor_keys(folder: &Path) -> Result<Vec<SecretKey>> {
    let paths = (0..MAX_KEYS).map(|number| folder.join(anchor_file(number)));
    let paths = paths.enumerate().filter(|(number, path)| *number == 0 || path.exists());
    paths.map(|(_, path)| read_seed(&path)).collect()
}

/// The same, but the first `count` are made where they are missing.
///
/// # Errors
/// As for [`seed`].
pub fn make_anchor_keys(folder: &Path, count: usize) -> Result<Vec<SecretKey>> {
    for number in 0..count {
        seed(&folder.join(anchor_file(number)))?;
    }
    anchor_keys(folder)
}

fn anchor_file(number: usize) -> String {
    if number == 0 { "anchor.key".to_owned() } else { format!("anchor-{number}.key") }
}

fn parse_seed(text: &str, path: &Path) -> Result<SecretKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    if hex::decode_to_slice(text.as_bytes(), bytes.as_mut_slice()).is_err() {
        bail!("{} does not hold a key: 64 hex digits", path.display());
    }
    Ok(SecretKey::from_seed(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys/log-0.key");
        let made = log_key(&path, "plant.example/1/sha256/0").unwrap();
        let read = log_key(&path, "plant.example/1/sha256/0").unwrap();
        assert_eq!(made.verifier().to_string(), read.verifier().to_string());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let other = log_key(&path, "plant.example/1/sha256/1").unwrap_err().to_string();
        assert!(other.contains("is the key of plant.example/1/sha256/0"), "{other}");
    }

    #[test]
    fn the_keys_that_sign_anchors_are_all_that_are_there() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        let missing = format!("{:#}", anchor_keys(folder).unwrap_err());
        assert!(missing.contains("anchor.key"), "{missing}");
        let public = |keys: Vec<SecretKey>| keys.iter().map(SecretKey::public).collect::<Vec<_>>();
        let first = public(make_anchor_keys(folder, 1).unwrap());
        let three = public(make_anchor_keys(folder, 3).unwrap());
        assert_eq!((first.len(), three.len()), (1, 3));
        assert_eq!(three[0], first[0], "what is there stays");
        std::fs::remove_file(folder.join("anchor-1.key")).unwrap();
        assert_eq!(public(anchor_keys(folder).unwrap()), [three[0].clone(), three[2].clone()]);
        assert_eq!(public(make_anchor_keys(folder, 1).unwrap()).len(), 2);
    }

    #[test]
    fn what_is_no_key_is_named_and_not_shown() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("anchor.key");
        std::fs::write(&path, "hunter2").unwrap();
        let error = format!("{:#}", seed(&path).unwrap_err());
        assert!(error.contains("anchor.key") && !error.contains("hunter2"), "{error}");
    }
}
