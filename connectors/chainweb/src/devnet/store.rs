//! The folder of a development network: one append-only file of checked frames.
//!
//! Each round of blocks is one frame, written and synced before anyone sees the blocks. So after a crash only
//! the last frame can be torn, and it was never seen: it is cut off. Anything else that does not check is not
//! the work of a crash and is reported.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha512_256};

const MAGIC: &[u8] = b"killick devnet 1\n";
const HEAD_BYTES: usize = 12;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file of the folder cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Another process has the folder open.
    #[error("another process uses {}", .0.display())]
    InUse(PathBuf),
    /// The file is damaged in a way that no crash explains.
    #[error("{} is damaged at byte {at}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The folder belongs to another kind of network.
    #[error("{} holds the network {found}, not {wanted}", path.display())]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// The network in the folder.
        found: String,
        /// The network that was asked for.
        wanted: String,
    },
}

/// A file that is locked.
struct Lock(File);

impl Drop for Lock {
    /// By hand, since a process that is being started has a copy of the file for a moment, and would keep the lock with it.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// An open folder. Nobody else can open it while this lives.
pub(super) struct Store {
    path: PathBuf,
    file: File,
    len: u64,
    _lock: Lock,
}

impl Store {
    /// Opens or creates the folder and hands each frame's body, with its place in the file, to `replay`.
    pub(super) fn open(
        folder: &Path,
        mut replay: impl FnMut(&[u8]) -> Result<(), &'static str>,
    ) -> Result<Self, StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| StoreError::Io { path, cause }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let lock_path = folder.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(failed(&lock_path))?;
        let lock = match lock.try_lock() {
            Ok(()) => Lock(lock),
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(folder.to_owned())),
            Err(TryLockError::Error(cause)) => return Err(StoreError::Io { path: lock_path, cause }),
        };
        let path = folder.join("blocks");
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = open.map_err(failed(&path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed(&path))?;
        let len = if text.len() < MAGIC.len() && MAGIC.starts_with(&text) {
            start_file(&mut file).and_then(|()| sync_folder(folder)).map_err(failed(&path))?;
            MAGIC.len()
        } else {
            let len = replay_frames(&text, &mut replay);
            len.map_err(|(at, what)| StoreError::Damaged { path: path.clone(), at: at as u64, what })?
        };
        let len = len as u64;
        file.set_len(len).and_then(|()| file.sync_all()).map_err(failed(&path))?;
        Ok(Self { path, file, len, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Appends one frame; it is durable when this returns. After an error the file is only good for
    /// [`Store::rewrite`].
    pub(super) fn append(&mut self, body: &[u8]) -> io::Result<()> {
        let frame = frame(body)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.write_all(&frame)?;
        self.file.sync_data()?;
        self.len += frame.len() as u64;
        Ok(())
    }

    /// Replaces all frames at once: after a crash the file has either the old ones or the new ones.
    pub(super) fn rewrite(&mut self, bodies: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let new_path = self.path.with_extension("new");
        let mut new =
            OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&new_path)?;
        let mut out = io::BufWriter::new(&mut new);
        out.write_all(MAGIC)?;
        let mut len = MAGIC.len() as u64;
        for body in bodies {
            let frame = frame(&body)?;
            out.write_all(&frame)?;
            len += frame.len() as u64;
        }
        out.flush()?;
        drop(out);
        new.sync_all()?;
        std::fs::rename(&new_path, &self.path)?;
        if let Some(folder) = self.path.parent() {
            sync_folder(folder)?;
        }
        (self.file, self.len) = (new, len);
        Ok(())
    }
}

fn start_file(file: &mut File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(MAGIC)?;
    file.sync_all()
}

/// Makes a created or renamed file of the folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn frame(body: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(body.len()).map_err(|_| io::Error::other("a frame of 4 GiB or more"))?;
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&checksum(len, body));
    frame.extend_from_slice(body);
    Ok(frame)
}

fn checksum(len: u32, body: &[u8]) -> [u8; 8] {
    let digest = Sha512_256::new().chain_update(len.to_le_bytes()).chain_update(body).finalize();
    let mut sum = [0; 8];
    sum.copy_from_slice(&digest[..8]);
    sum
}

/// Replays all whole frames. Returns the length of the file up to the end of the last one.
fn replay_frames(
    text: &[u8],
    replay: &mut impl FnMut(&[u8]) -> Result<(), &'static str>,
) -> Result<usize, (usize, &'static str)> {
    if !text.starts_with(MAGIC) {
        return Err((0, "not a file of a development network"));
    }
    let mut at = MAGIC.len();
    while let Some((len, sum, rest)) = split_head(&text[at..]) {
        let Some(body) = rest.get(..len as usize) else { break };
        if checksum(len, body) != sum {
            let end = at + HEAD_BYTES + body.len();
            let is_last = text[end..].iter().all(|&byte| byte == 0);
            return if is_last { Ok(at) } else { Err((at, "wrong checksum")) };
        }
        replay(body).map_err(|what| (at, what))?;
        at += HEAD_BYTES + body.len();
    }
    Ok(at)
}

fn split_head(text: &[u8]) -> Option<(u32, [u8; 8], &[u8])> {
    let (len, rest) = text.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    Some((u32::from_le_bytes(*len), *sum, rest))
}

/// Writes the parts of a frame.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn i64(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn u128(&mut self, number: u128) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

/// Reads the parts of a frame; `None` where it ends too early.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*chunk)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.chunk().map(u128::from_le_bytes)
    }

    pub(super) fn hash(&mut self) -> Option<[u8; 32]> {
        self.chunk()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}
