//! Holding a folder for a backup: by opening it, or by asking the process that has it.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use killick_embedded::{
    CatalogAt, EmbeddedCatalog, EmbeddedLog, Folder, FolderError, Held, HeldSegment, Settings,
};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::now;

/// Where the process that has a folder listens.
const SOCKET: &str = "backup.sock";
/// Where it puts the catalog of the instant.
const STAGE: &str = "backup";
/// The catalog there.
const CATALOG: &str = "backup/catalog.redb";
/// The longest path that the address of a socket holds everywhere.
const LONGEST_ADDRESS: usize = 100;
/// Bytes in the longest line of one to the other: 100 for each of a million segments.
const LONGEST: u64 = 256 << 20;
/// What is asked, and what is said when the copy is done.
const ASK: &str = "backup 1";
const DONE: &str = "done";
/// How long a connection may stay without asking.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a copy may take: meanwhile the log only grows.
const COPY: Duration = Duration::from_secs(86_400);

/// What of a folder belongs to one instant.
#[derive(Debug, Serialize, Deserialize)]
pub struct Whole {
    /// The instant, in µs since 1970.
    pub made: i64,
    /// The log.
    #[serde(with = "Segments")]
    pub segments: Vec<HeldSegment>,
    /// The catalog: a file that nobody changes.
    pub catalog: PathBuf,
}

/// Segments on the wire.
#[derive(Serialize, Deserialize)]
struct Segments(Vec<(PathBuf, u64)>);

impl Segments {
    fn serialize<S: serde::Serializer>(held: &[HeldSegment], to: S) -> Result<S::Ok, S::Error> {
        Serialize::serialize(&Self(held.iter().map(|one| (one.path.clone(), one.len)).collect()), to)
    }

    fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<HeldSegment>, D::Error> {
        let Self(all) = Deserialize::deserialize(from)?;
        Ok(all.into_iter().map(|(path, len)| HeldSegment { path, len }).collect())
    }
}

/// What is answered.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Whole(Whole),
    Refused(String),
}

/// A folder, and how it is held.
pub enum Source {
    /// Nobody else has it.
    Own { log: EmbeddedLog, catalog: EmbeddedCatalog, folder: PathBuf, held: Mutex<Option<Held>> },
    /// Another process has it, and listens here.
    Other { folder: PathBuf, wire: UnixStream },
}

impl Source {
    /// Opens the folder, or finds who has it.
    ///
    /// # Errors
    /// It is no folder of ours, or who has it makes no backups.
    pub fn of(folder: &Path) -> Result<Self> {
        let path = folder.canonicalize().with_context(|| folder.display().to_string())?;
        match Folder::open_existing(&path) {
            Ok(open) => {
                let open = Arc::new(open);
                clear(&path)?;
                let log = EmbeddedLog::open(&open, &[], Settings::default())?;
                let catalog = EmbeddedCatalog::open(&open)?;
                Ok(Self::Own { log, catalog, folder: path, held: Mutex::default() })
            }
            Err(FolderError::InUse { holder, .. }) => {
                let wire = at_socket(&path, |address| UnixStream::connect(address)).with_context(|| {
                    format!(
                        "{} is in use by process {holder}, which does not listen for backups: wait until it ends",
                        folder.display()
                    )
                })?;
                wire.set_read_timeout(Some(COPY))?;
                wire.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Other { folder: path, wire })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Holds it as it is now, until it is released or dropped.
    ///
    /// # Errors
    /// The folder cannot be held, or the other process has ended.
    pub fn hold(&self) -> Result<Whole> {
        match self {
            Self::Own { log, catalog, folder, held } => {
                let (hold, whole) = hold(log, catalog, folder, || false)?;
                *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold);
                Ok(whole)
            }
            Self::Other { folder, wire } => {
                let mut to = wire;
                writeln!(to, "{ASK}").context("the process that has the folder ends")?;
                let said = line(wire).context("the process that has the folder ended meanwhile")?;
                match serde_json::from_slice(&said).context("it does not answer as this program does")? {
                    Answer::Whole(whole) => {
                        // It knows no other files than its own.
                        let is_own = |path: &Path| path.starts_with(folder);
                        let all = whole.segments.iter().all(|segment| is_own(&segment.path));
                        if all && is_own(&whole.catalog) {
                            Ok(whole)
                        } else {
                            bail!("it names files of others")
                        }
                    }
                    Answer::Refused(why) => bail!("the process that has the folder cannot hold it: {why}"),
                }
            }
        }
    }

    /// Lets go of it; says whether all of it was held until now.
    ///
    /// # Errors
    /// The other process has ended meanwhile: what was copied may have gaps.
    pub fn release(&self) -> Result<()> {
        match self {
            Self::Own { folder, held, .. } => {
                drop(held.lock().unwrap_or_else(PoisonError::into_inner).take());
                clear(folder)
            }
            Self::Other { wire, .. } => {
                let mut to = wire;
                let said = writeln!(to, "{DONE}").map_err(anyhow::Error::from).and_then(|()| line(wire));
                match said {
                    Ok(said) if said == DONE.as_bytes() => Ok(()),
                    _ => {
                        bail!("the process that has the folder ended meanwhile; do it again when it is back")
                    }
                }
            }
        }
    }
}

/// Holds log and catalog as they are at one instant, and writes the catalog of that instant beside them.
fn hold(
    log: &EmbeddedLog,
    catalog: &EmbeddedCatalog,
    folder: &Path,
    stop: impl FnMut() -> bool,
) -> Result<(Held, Whole)> {
    let (held, (made, at)) = log.hold(|| (now(), catalog.at_once()))?;
    let at: CatalogAt = at?;
    clear(folder)?;
    fs::create_dir(folder.join(STAGE))?;
    let path = folder.join(CATALOG);
    at.write_to(&path, stop)?;
    let whole = Whole { made, segments: held.segments().to_vec(), catalog: path };
    Ok((held, whole))
}

/// Removes what a backup has left, or one that was cut off.
fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder.join(STAGE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context("what an earlier backup left")
        }
        _ => Ok(()),
    }
}

/// Does something with the address of the socket, which may be too long as it is.
fn at_socket<T>(folder: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = folder.join(SOCKET);
    if path.as_os_str().len() <= LONGEST_ADDRESS {
        return act(&path);
    }
    let open = fs::File::open(folder)?;
    act(&PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())).join(SOCKET))
}

/// One line, without its end.
fn line(wire: &UnixStream) -> Result<Vec<u8>> {
    let mut said = Vec::new();
    BufReader::new(wire.take(LONGEST)).read_until(b'\n', &mut said)?;
    match said.pop() {
        Some(b'\n') => Ok(said),
        _ => bail!("the connection ended"),
    }
}

/// A process that listens. The socket goes with it; one that was killed leaves it to the next.
pub struct Listening(PathBuf);

impl Drop for Listening {
    fn drop(&mut self) {
        // Whoever finds it later is told that nobody listens.
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens for backups of a folder that this process has, one after another, as long as the process lives.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(folder: &Path, log: EmbeddedLog, catalog: EmbeddedCatalog) -> Result<Listening> {
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    clear(&folder)?;
    let path = folder.join(SOCKET);
    match fs::remove_file(&path) {
        // That of a process that was killed: the folder is ours.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context(path.display().to_string());
        }
        _ => {}
    }
    let listener = at_socket(&folder, |address| UnixListener::bind(address))
        .with_context(|| path.display().to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .with_context(|| path.display().to_string())?;
    std::thread::Builder::new().name("backup".into()).spawn(move || {
        for wire in listener.incoming() {
            match wire.map_err(anyhow::Error::from).and_then(|wire| answer(&wire, &folder, &log, &catalog)) {
                Ok(()) => {}
                Err(error) => warn!(error = format!("{error:#}"), "no backup was made"),
            }
            if let Err(error) = clear(&folder) {
                warn!(error = format!("{error:#}"), "what a backup used takes disk until the next start");
            }
        }
    })?;
    Ok(Listening(path))
}

fn answer(wire: &UnixStream, folder: &Path, log: &EmbeddedLog, catalog: &EmbeddedCatalog) -> Result<()> {
    wire.set_read_timeout(Some(PATIENCE))?;
    wire.set_write_timeout(Some(PATIENCE))?;
    let mut asked = [0; ASK.len() + 1];
    let mut from = wire;
    from.read_exact(&mut asked).context("nothing was asked")?;
    if asked != format!("{ASK}\n").as_bytes() {
        return say(wire, &Answer::Refused(format!("this program answers to {ASK:?} alone")));
    }
    let (held, whole) = match hold(log, catalog, folder, || is_gone(wire)) {
        Ok(done) => done,
        Err(error) => return say(wire, &Answer::Refused(format!("{error:#}"))),
    };
    info!(segments = whole.segments.len(), "held for a backup");
    say(wire, &Answer::Whole(whole))?;
    wire.set_read_timeout(Some(COPY))?;
    let done = line(wire).context("who asked for it has gone")?;
    if done != DONE.as_bytes() {
        bail!("it did not say that it is done");
    }
    let mut to = wire;
    writeln!(to, "{DONE}")?;
    drop(held);
    info!("a backup was made");
    Ok(())
}

/// Whether who asked has gone.
fn is_gone(wire: &UnixStream) -> bool {
    let mut any = [0; 1];
    let peeked = wire.set_nonblocking(true).and_then(|()| {
        rustix::net::recv(wire, &mut any, rustix::net::RecvFlags::PEEK)
            .map(|(count, _)| count)
            .map_err(io::Error::from)
    });
    let restored = wire.set_nonblocking(false);
    restored.is_err()
        || matches!(peeked, Ok(0))
        || peeked.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
}

fn say(wire: &UnixStream, answer: &Answer) -> Result<()> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    let mut to = wire;
    Ok(to.write_all(&text)?)
}
