//! What the files of a log look like from outside: nothing is opened for writing, and nothing is mended.

use std::fs::File;
use std::io;
use std::path::Path;

use super::segment;

/// The files of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFiles {
    /// The number of segments.
    pub segments: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes behind the last whole entry: what a process that died was writing. 0 where it is not looked for.
    pub unfinished: u64,
    /// What is not as any crash could have left it: a line each.
    pub damage: Vec<String>,
}

/// Looks at the log of a folder. The newest segment is read as a whole where nobody `writes` meanwhile; of all others the
/// heads are looked at.
///
/// # Errors
/// The folder cannot be read.
pub fn look(folder: &Path, writes: bool) -> io::Result<LogFiles> {
    let path = folder.join("log");
    let numbers = segment::numbers(&path)?;
    let mut found = LogFiles::default();
    for pair in numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]) {
        found.damage.push(format!("segments {} to {} are missing", pair[0] + 1, pair[1] - 1));
    }
    for &number in &numbers {
        let name = segment::path(&path, number);
        let file = match File::open(&name) {
            Ok(file) => file,
            // It went meanwhile, because nobody needs it any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        found.segments += 1;
        found.bytes += file.metadata()?.len();
        if segment::head(&file)?.is_none_or(|head| head.segment != number) {
            found.damage.push(format!("{} does not begin as a segment does", name.display()));
        } else if !writes && Some(&number) == numbers.last() {
            let scan = segment::scan(&file, true, |_, _, _| {})?;
            if scan.damaged {
                found.damage.push(format!("{} is damaged at byte {}", name.display(), scan.good));
            } else {
                found.unfinished = file.metadata()?.len().saturating_sub(scan.good);
            }
        }
    }
    Ok(found)
}
