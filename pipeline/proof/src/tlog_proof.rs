//! Proofs as text (C2SP `tlog-proof@v1`): a leaf index, its inclusion path and the checkpoint, in one file.

use std::fmt;

use crate::encoding::{array_from_base64, base64, decimal, from_base64};
use crate::hash::Hash;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The longest path that is read.
const MAX_PATH: usize = 64;

/// A proof's parts. Nothing in it is verified; `extra` is authenticated by nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof<'a> {
    /// Data for the application; not part of what is proven.
    pub extra: Option<Vec<u8>>,
    /// The leaf index.
    pub index: u64,
    /// The inclusion path, leaf-most sibling first.
    pub path: Vec<Hash>,
    /// The checkpoint, a signed note, as it stands there.
    pub checkpoint: &'a str,
}

/// Why a text is no such proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// It begins otherwise.
    #[error("the first line is not {HEADER}")]
    Header,
    /// The extra data is not base64.
    #[error("the extra data is not base64")]
    Extra,
    /// No index follows, or none that is a shortest decimal.
    #[error("no line `index` with a decimal without leading zero, at most 2^53 - 1")]
    Index,
    /// A line of the path that is not the base64 of 32 bytes.
    #[error("hash {0} of the path is not 32 bytes in base64")]
    Hash(usize),
    /// More than 64 hashes.
    #[error("the path has more than {MAX_PATH} hashes")]
    TooLong,
    /// No blank line, or nothing behind it.
    #[error("no checkpoint behind a blank line")]
    Checkpoint,
}

impl<'a> TlogProof<'a> {
    /// Reads a proof strictly.
    ///
    /// # Errors
    /// [`TlogProofError`] names the part.
    pub fn parse(text: &'a str) -> Result<Self, TlogProofError> {
        let (header, mut rest) = line(text).ok_or(TlogProofError::Header)?;
        if header != HEADER {
            return Err(TlogProofError::Header);
        }
        let mut next = |error| {
            let (line, behind) = line(rest).ok_or(error)?;
            rest = behind;
            Ok(line)
        };
        let mut first = next(TlogProofError::Index)?;
        let mut extra = None;
        if let Some(data) = first.strip_prefix("extra ") {
            extra = Some(from_base64(data).map_err(|_| TlogProofError::Extra)?);
            first = next(TlogProofError::Index)?;
        }
        let index = first.strip_prefix("index ").and_then(decimal).ok_or(TlogProofError::Index)?;
        let mut path = Vec::new();
        loop {
            let line = next(TlogProofError::Checkpoint)?;
            if line.is_empty() {
                break;
            }
            if path.len() == MAX_PATH {
                return Err(TlogProofError::TooLong);
            }
            let hash = array_from_base64(line).map_err(|_| TlogProofError::Hash(path.len() + 1))?;
            path.push(Hash::new(hash));
        }
        if rest.is_empty() {
            return Err(TlogProofError::Checkpoint);
        }
        Ok(Self { extra, index, path, checkpoint: rest })
    }
}

fn line(text: &str) -> Option<(&str, &str)> {
    text.split_once('\n')
}

/// The proof's text.
impl fmt::Display for TlogProof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", base64(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", base64(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_reads_back_as_it_was_written() {
        for extra in [None, Some(Vec::new()), Some(b"extra information".to_vec())] {
            for length in [0, 1, 64] {
                let path = vec![Hash::new([7; 32]); length];
                let proof = TlogProof {
                    extra: extra.clone(),
                    index: 73_894,
                    path,
                    checkpoint: "log\n1\nroot\n\n— log sig\n",
                };
                let text = proof.to_string();
                assert_eq!(TlogProof::parse(&text), Ok(proof), "{text}");
            }
        }
    }

    #[test]
    fn what_is_not_the_form_is_refused() {
        let hash = base64(&[7; 32]);
        let cases = [
            ("wrong\nindex 0\n\nc\n".to_owned(), TlogProofError::Header),
            (HEADER.to_owned(), TlogProofError::Header),
            (format!("{HEADER}\n\n\nc\n"), TlogProofError::Index),
            (format!("{HEADER}\nextra !\nindex 0\n\nc\n"), TlogProofError::Extra),
            (format!("{HEADER}\nindex 0\nextra eHg=\n\nc\n"), TlogProofError::Hash(1)),
            (format!("{HEADER}\nindex 007\n\nc\n"), TlogProofError::Index),
            (format!("{HEADER}\nindex -5\n\nc\n"), TlogProofError::Index),
            (format!("{HEADER}\nindex 0"), TlogProofError::Index),
            (format!("{HEADER}\nindex 0\n{hash}\n{hash}A\n\nc\n"), TlogProofError::Hash(2)),
            (format!("{HEADER}\nindex 0\n{}\n\nc\n", base64(&[0; 64])), TlogProofError::Hash(1)),
            (format!("{HEADER}\nindex 0\n{}\nc\n", format!("{hash}\n").repeat(65)), TlogProofError::TooLong),
            (format!("{HEADER}\nindex 0\n{hash}\n"), TlogProofError::Checkpoint),
            (format!("{HEADER}\nindex 0\n\n"), TlogProofError::Checkpoint),
        ];
        for (text, error) in cases {
            assert_eq!(TlogProof::parse(&text), Err(error), "{text}");
        }
    }
}
