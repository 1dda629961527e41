//! The CBOR form of a receipt: a map with the members of the JSON form as text keys, in deterministic encoding.

use std::borrow::Cow;

use crate::cbor::{CborError, Kind, Reader, Writer};
use crate::fault::Fault;
use crate::hash::Hash;
use crate::receipt::{ANCHOR_TYPE, Anchor, FORMAT, Receipt, SPV_ALGORITHM};
use crate::value::{MAX_NESTING, Value};

/// Reads one item and nothing after it: shortest heads, definite lengths, keys in bytewise order.
pub(crate) fn parse(input: &[u8]) -> Result<Value<'_>, Fault> {
    let mut whole = Reader::new(input);
    whole.skip(MAX_NESTING).map_err(refused)?;
    whole.finish().map_err(refused)?;
    read(&mut Reader::new(input)).map_err(refused)
}

fn refused(error: CborError) -> Fault {
    Fault::wrong(format_args!("not CBOR as receipts have it: {error}"))
}

/// Reads one item that is known to be deterministic and nested no deeper than it may be, and to have what it says to have.
fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, CborError> {
    Ok(match reader.kind()? {
        Kind::Uint => Value::Uint(reader.uint()?),
        Kind::Bytes => Value::Bytes(reader.bytes()?),
        Kind::Text => Value::Text(Cow::Borrowed(reader.text()?)),
        Kind::Bool => Value::Bool(reader.bool()?),
        Kind::Null => {
            reader.null()?;
            Value::Null
        }
        Kind::Array => {
            let length = reader.array()?;
            let mut items = Vec::with_capacity(length);
            for _ in 0..length {
                items.push(read(reader)?);
            }
            Value::Array(items)
        }
        Kind::Map => map(reader)?,
        Kind::NegativeInt | Kind::Tag | Kind::Undefined | Kind::Simple | Kind::Float | Kind::Break => {
            reader.skip(MAX_NESTING)?;
            Value::Other
        }
    })
}

/// Reads a map; one with other keys than texts can only be an unknown member.
fn map<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, CborError> {
    let start = reader.clone();
    let length = reader.map()?;
    let mut members = Vec::with_capacity(length);
    for _ in 0..length {
        if reader.kind()? != Kind::Text {
            *reader = start;
            reader.skip(MAX_NESTING)?;
            return Ok(Value::Other);
        }
        let name = Cow::Borrowed(reader.text()?);
        members.push((name, read(reader)?));
    }
    Ok(Value::Object(members))
}

/// The receipt as a deterministic CBOR map.
pub(crate) fn write(receipt: &Receipt) -> Vec<u8> {
    let batch = map_of([
        ("header", bytes(&receipt.batch.header)),
        ("index", uint(receipt.batch.index)),
        ("path", path(&receipt.batch.path)),
    ]);
    let log = map_of([
        ("checkpoint", text(&receipt.log.checkpoint)),
        ("index", uint(receipt.log.index)),
        ("path", path(&receipt.log.path)),
    ]);
    map_of([
        ("format", text(FORMAT)),
        ("statement", bytes(&receipt.statement)),
        ("batch", batch),
        ("log", log),
        ("anchors", array_of(receipt.anchors.iter().map(anchor))),
    ])
}

fn anchor(anchor: &Anchor) -> Vec<u8> {
    let tree = map_of([
        ("root", bytes(anchor.tree.root.as_ref())),
        ("size", uint(anchor.tree.size)),
        ("index", uint(anchor.tree.index)),
        ("path", path(&anchor.tree.path)),
    ]);
    let spv = map_of([
        ("chain", uint(anchor.spv.chain)),
        ("object", bytes(&anchor.spv.object)),
        ("subject", map_of([("input", bytes(&anchor.spv.input))])),
        ("algorithm", text(SPV_ALGORITHM)),
    ]);
    let block = map_of([
        ("network", text(&anchor.block.network)),
        ("chain", uint(anchor.block.chain)),
        ("height", uint(anchor.block.height)),
        ("hash", bytes(anchor.block.hash.as_ref())),
        ("header", bytes(&anchor.block.header)),
    ]);
    let log = anchor
        .log
        .as_ref()
        .map(|log| ("log", map_of([("checkpoint", text(&log.checkpoint)), ("path", path(&log.path))])));
    map_of(
        [("type", text(ANCHOR_TYPE)), ("tree", tree), ("spv", spv), ("block", block)].into_iter().chain(log),
    )
}

/// A map in bytewise order of its keys, whatever order the members come in.
fn map_of(members: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Vec<u8> {
    let mut members: Vec<_> = members.into_iter().map(|(name, value)| (text(name), value)).collect();
    members.sort_unstable();
    let mut out = encoded(|writer| writer.map(members.len()));
    for (key, value) in members {
        out.extend_from_slice(&key);
        out.extend_from_slice(&value);
    }
    out
}

fn array_of(items: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = encoded(|writer| writer.array(items.len()));
    items.for_each(|item| out.extend_from_slice(&item));
    out
}

fn path(path: &[Hash]) -> Vec<u8> {
    array_of(path.iter().map(|hash| bytes(hash.as_ref())))
}

fn uint(value: u64) -> Vec<u8> {
    encoded(|writer| writer.uint(value))
}

fn bytes(value: &[u8]) -> Vec<u8> {
    encoded(|writer| writer.bytes(value))
}

fn text(value: &str) -> Vec<u8> {
    encoded(|writer| writer.text(value))
}

fn encoded(write: impl for<'w, 'o> FnOnce(&'w mut Writer<'o>) -> &'w mut Writer<'o>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out));
    out
}
