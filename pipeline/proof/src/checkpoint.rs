//! Checkpoints (C2SP `tlog-checkpoint`): the text a log signs about its tree at one size.

use std::fmt;

use crate::encoding::{MAX_COUNT, array_from_base64, base64, decimal};
use crate::hash::Hash;
use crate::note::{self, NoteError, SignerKey};
use crate::origin::{Origin, OriginError};

/// What a checkpoint's text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint<'a> {
    /// The log, in whatever form its name has: see [`log_origin`](Self::log_origin) for logs of ours.
    pub origin: &'a str,
    /// How many leaves the tree has.
    pub size: u64,
    /// The root of the tree.
    pub root: Hash,
    /// Further lines, each with its newline; they are signed and mean nothing here.
    pub extensions: &'a str,
}

/// Why a text is no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Fewer than three lines, an empty one, or no newline at the end.
    #[error("a checkpoint has three lines or more, none empty, each with its newline")]
    Lines,
    /// The second line is no shortest decimal.
    #[error("the second line is no tree size: a decimal without leading zero, at most 2^53 - 1")]
    Size,
    /// The third line is not the standard base64 of 32 bytes.
    #[error("the third line is no root: 32 bytes in base64")]
    Root,
    /// The log is none of ours, by its origin.
    #[error("origin: {0}")]
    Origin(#[from] OriginError),
    /// A checkpoint of an empty tree.
    #[error("the checkpoint of a log with batches has a size of at least 1")]
    Empty,
}

impl<'a> Checkpoint<'a> {
    /// Reads the text of any log's checkpoint strictly (a note's text, without blank line and signatures).
    ///
    /// # Errors
    /// [`CheckpointError`] names the line.
    pub fn parse(text: &'a str) -> Result<Self, CheckpointError> {
        let mut lines = text.splitn(4, '\n');
        let (Some(origin), Some(size), Some(root), Some(extensions)) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Lines);
        };
        let are_lines =
            extensions.is_empty() || (extensions.ends_with('\n') && !extensions.starts_with('\n'));
        if origin.is_empty() || !are_lines || extensions.contains("\n\n") {
            return Err(CheckpointError::Lines);
        }
        let size = decimal(size).ok_or(CheckpointError::Size)?;
        let root = array_from_base64(root).map_err(|_| CheckpointError::Root)?;
        Ok(Self { origin, size, root: Hash::new(root), extensions })
    }

    /// The origin in parts, where this is a checkpoint of a log of ours: its size is then at least 1.
    ///
    /// # Errors
    /// [`CheckpointError::Origin`] or [`CheckpointError::Empty`].
    pub fn log_origin(&self) -> Result<Origin<'a>, CheckpointError> {
        let origin = Origin::parse(self.origin)?;
        if self.size == 0 { Err(CheckpointError::Empty) } else { Ok(origin) }
    }

    /// Writes the text, and signs it.
    ///
    /// # Errors
    /// [`SignError`] where the text would not read back the same.
    pub fn sign(&self, signer: &SignerKey) -> Result<String, SignError> {
        let text = self.to_string();
        if Checkpoint::parse(&text)? != *self || self.size > MAX_COUNT {
            return Err(CheckpointError::Lines.into());
        }
        Ok(note::sign(&text, &[signer])?)
    }
}

/// The checkpoint's text.
impl fmt::Display for Checkpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n{}", self.origin, self.size, base64(self.root.as_bytes()), self.extensions)
    }
}

/// Why a checkpoint cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its text is no note's.
    #[error(transparent)]
    Note(#[from] NoteError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::note::{Note, Verdict};
    use crate::signature::SecretKey;

    const ROOT: &str = "TszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=";

    #[test]
    fn a_checkpoint_signed_by_its_log_reads_back() {
        let origin = "plant.example/1/sha256/7";
        let signer = SignerKey::new(origin, SecretKey::from_seed(&[7; 32])).unwrap();
        let checkpoint = Checkpoint { origin, size: 5_124, root: Hash::new([3; 32]), extensions: "" };
        let note = checkpoint.sign(&signer).unwrap();
        let note = Note::parse(&note).unwrap();
        assert_eq!(note.verdict(&signer.verifier()), Verdict::Valid);
        let read = Checkpoint::parse(note.text()).unwrap();
        assert_eq!(read, checkpoint);
        assert_eq!(read.log_origin().unwrap().log(), 7);
    }

    #[test]
    fn extension_lines_belong_to_the_text() {
        let text = format!("any name at all\n0\n{ROOT}\none\n — two\n");
        let checkpoint = Checkpoint::parse(&text).unwrap();
        assert_eq!(checkpoint.extensions, "one\n — two\n");
        assert_eq!(checkpoint.to_string(), text);
        assert!(matches!(checkpoint.log_origin(), Err(CheckpointError::Origin(_))));
        let ours = format!("plant.example/1/sha256/7\n0\n{ROOT}\n");
        assert_eq!(Checkpoint::parse(&ours).unwrap().log_origin(), Err(CheckpointError::Empty));
    }

    #[test]
    fn what_is_not_the_form_is_refused() {
        let cases = [
            (String::new(), CheckpointError::Lines),
            (format!("o\n1\n{ROOT}"), CheckpointError::Lines),
            (format!("\n1\n{ROOT}\n"), CheckpointError::Lines),
            (format!("o\n1\n{ROOT}\n\n"), CheckpointError::Lines),
            (format!("o\n1\n{ROOT}\na\n\nb\n"), CheckpointError::Lines),
            (format!("o\n1\n{ROOT}\nno newline"), CheckpointError::Lines),
            (format!("o\n01\n{ROOT}\n"), CheckpointError::Size),
            (format!("o\n+1\n{ROOT}\n"), CheckpointError::Size),
            (format!("o\n\n{ROOT}\n"), CheckpointError::Size),
            (format!("o\n9007199254740992\n{ROOT}\n"), CheckpointError::Size),
            (format!("o\r\n1\r\n{ROOT}\r\n"), CheckpointError::Size),
            ("o\n1\n\n".to_owned(), CheckpointError::Root),
            ("o\n1\nYWJjZGVm\n".to_owned(), CheckpointError::Root),
            (format!("o\n1\n{}\n", &ROOT[..43]), CheckpointError::Root),
            (format!("o\n1\n{}\n", ROOT.replace("b0=", "b1=")), CheckpointError::Root),
            (format!("o\n1\n{}\n", ROOT.replace('+', "-")), CheckpointError::Root),
            (format!("o\n1\n {ROOT}\n"), CheckpointError::Root),
        ];
        for (text, error) in cases {
            assert_eq!(Checkpoint::parse(&text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn nothing_is_signed_that_would_read_differently() {
        let signer = SignerKey::new("log", SecretKey::from_seed(&[7; 32])).unwrap();
        let good = Checkpoint { origin: "log", size: 1, root: Hash::new([3; 32]), extensions: "" };
        let wrong = [
            Checkpoint { origin: "", ..good },
            Checkpoint { origin: "a\nb", ..good },
            Checkpoint { origin: "a\tb", ..good },
            Checkpoint { size: MAX_COUNT + 1, ..good },
            Checkpoint { extensions: "x", ..good },
            Checkpoint { extensions: "\n", ..good },
        ];
        for checkpoint in wrong {
            assert!(checkpoint.sign(&signer).is_err(), "{checkpoint:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_that_is_read_is_the_text_that_is_written(text in "[a/\n]{0,4}[0-9]{0,4}\n{0,2}(TszzRgjTG6xce\\+z2AG31kAXYKBgQVtCSCE40HmuwBb0=)?\n?[ab\n]{0,6}") {
            if let Ok(checkpoint) = Checkpoint::parse(&text) {
                prop_assert_eq!(checkpoint.to_string(), text);
            }
        }
    }
}
