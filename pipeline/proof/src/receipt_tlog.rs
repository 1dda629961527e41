//! A receipt as a C2SP `tlog-proof@v1`: as far as the log, and without its anchors.
//!
//! An event is two steps away from the log: its statement is a leaf of the batch, and the batch's header is a leaf of
//! the log. The proof is that of the second step, as every C2SP tool checks it: index, path and checkpoint are those of
//! the header. The first step stands in `extra`, as a deterministic CBOR array of 5: [`FORMAT`], the statement, the
//! header, the statement's leaf index in the batch, and its path, an array of byte strings leaf-most sibling first.
//!
//! C2SP has `extra` authenticated by nothing, and here it needs nothing: the header in it is right where it is the leaf
//! that the proof is about, the header has the root of the batch, and the path leads there from the statement.

use crate::batch::BatchHeader;
use crate::cbor::{CborError, Reader, Writer};
use crate::fault::{Fault, Part};
use crate::hash::Algorithm;
use crate::members::MAX_PATH;
use crate::receipt::{BatchProof, LogProof, Parts, Receipt};
use crate::tlog_proof::{TlogProof, TlogProofError};

/// The first element of `extra`.
const FORMAT: &str = "killick-tlog-proof/1";

/// What proofs of every version begin with.
const MAGIC: &[u8] = b"c2sp.org/tlog-proof@";

/// Whether a file is such a proof, of this version or another.
pub(crate) fn is_one(file: &[u8]) -> bool {
    file.starts_with(MAGIC)
}

/// Reads a proof as the parts of a receipt: all but the anchors.
pub(crate) fn parse(file: &[u8]) -> Result<Parts, Fault> {
    let text = std::str::from_utf8(file).map_err(|_| Fault::wrong("a tlog-proof is a text in UTF-8"))?;
    let proof = TlogProof::parse(text).map_err(|error| match error {
        TlogProofError::Header => Fault::missing("this version of tlog-proof is not understood; v1 is"),
        error => Fault::wrong(format_args!("not a tlog-proof: {error}")),
    })?;
    let extra = read_extra(proof.extra.as_deref()).map_err(|fault| fault.within("extra"));
    let (statement, batch) = match extra {
        Ok((statement, batch)) => (Ok(statement), Ok(batch)),
        Err(fault) => (Err(fault.clone()), Err(fault)),
    };
    let log = LogProof { checkpoint: proof.checkpoint.to_owned(), index: proof.index, path: proof.path };
    let no_anchors = Fault::missing("a tlog-proof ends at the log: nothing in it says when");
    Ok(Parts { statement, batch, log: Ok(log), anchors: Err(no_anchors.within("anchors")) })
}

/// The statement and its proof in the batch.
fn read_extra(extra: Option<&[u8]>) -> Part<(Vec<u8>, BatchProof)> {
    let mut reader = Reader::new(extra.ok_or_else(|| Fault::missing("is absent"))?);
    // What another program put there, or another version of this one, is not wrong.
    let begins = reader.array().and_then(|length| Ok((length, reader.text()?)));
    let (length, format) = begins.map_err(|_| Fault::missing("is not understood"))?;
    if format != FORMAT {
        return Err(Fault::missing(format_args!("{format:?} is not understood; {FORMAT:?} is")));
    }
    if length != 5 {
        return Err(Fault::wrong(format_args!("has {length} elements where 5 are expected")));
    }
    let statement = reader.bytes().map_err(refused)?.to_vec();
    let header = reader.bytes().map_err(refused)?.to_vec();
    let index = reader.uint().map_err(refused)?;
    let length = reader.array().map_err(refused)?;
    if length > MAX_PATH {
        return Err(Fault::wrong(format_args!(
            "a path of {length} hashes; no tree needs more than {MAX_PATH}"
        )));
    }
    let path = (0..length).map(|_| reader.hash()).collect::<Result<_, _>>().map_err(refused)?;
    reader.finish().map_err(refused)?;
    Ok((statement, BatchProof { header, index, path }))
}

fn refused(error: CborError) -> Fault {
    Fault::wrong(format_args!("not CBOR as it has to be: {error}"))
}

/// The receipt as such a proof; `None` where its log has another hash than SHA-256, which is the only one that C2SP has.
pub(crate) fn write(receipt: &Receipt) -> Option<String> {
    let BatchProof { header, index, path } = &receipt.batch;
    if BatchHeader::decode(header).ok()?.algorithm() != Some(Algorithm::Sha256) {
        return None;
    }
    let mut extra = Vec::with_capacity(receipt.statement.len() + header.len() + 34 * path.len() + 48);
    let mut writer = Writer::new(&mut extra);
    writer.array(5).text(FORMAT).bytes(&receipt.statement).bytes(header).uint(*index).array(path.len());
    for hash in path {
        writer.bytes(hash.as_bytes());
    }
    let log = &receipt.log;
    let proof = TlogProof {
        extra: Some(extra),
        index: log.index,
        path: log.path.clone(),
        checkpoint: &log.checkpoint,
    };
    Some(proof.to_string())
}
