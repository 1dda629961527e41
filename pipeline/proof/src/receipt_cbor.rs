//! The CBOR form of a receipt: a map with the members of the JSON form as text keys, in deterministic encoding.

use std::borrow::Cow;

use crate::cbor::{CborError, CborFault, Kind, Reader, Writer};
use crate::fault::Fault;
use crate::hash::Hash;
use crate::receipt::{ANCHOR_TYPE, Anchor, FORMAT, Receipt, SPV_ALGORITHM};
use crate::value::{MAX_NESTING, Value};

/// Reads one item and nothing after it: shortest heads, definite lengths, keys in bytewise order.
pub(crate) fn parse(input: &[u8]) -> Result<Value<'_>, Fault> {
    let mut reader = Reader::new(input);
    let value = read(&mut reader, MAX_NESTING).and_then(|value| reader.finish().map(|()| value));
    value.or_else(|error| {
        // Of several faults the encoding's is told, by the walk that looks at nothing else.
        let mut whole = Reader::new(input);
        whole.skip(MAX_NESTING).map_err(refused)?;
        whole.finish().map_err(refused)?;
        Err(refused(error))
    })
}

fn refused(error: CborError) -> Fault {
    Fault::wrong(format_args!("not CBOR as receipts have it: {error}"))
}

/// Room that is made for items before they are there, whatever their number is said to be.
const ROOM: usize = 64;

/// Reads one item with at most `depth` containers inside each other.
fn read<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<Value<'a>, CborError> {
    Ok(match reader.kind()? {
        Kind::Uint => Value::Uint(reader.uint()?),
        Kind::Bytes => Value::Bytes(reader.bytes()?),
        Kind::Text => Value::Text(Cow::Borrowed(reader.text()?)),
        Kind::Bool => Value::Bool(reader.bool()?),
        Kind::Null => {
            reader.null()?;
            Value::Null
        }
        Kind::Array => array(reader, depth)?,
        Kind::Map => map(reader, depth)?,
        Kind::NegativeInt | Kind::Tag | Kind::Undefined | Kind::Simple | Kind::Float | Kind::Break => {
            reader.skip(depth)?;
            Value::Other
        }
    })
}

fn array<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<Value<'a>, CborError> {
    let at = reader.position();
    let length = reader.array()?;
    let mut items = Vec::with_capacity(length.min(ROOM));
    for _ in 0..length {
        items.push(read(reader, inside(depth, at)?)?);
    }
    Ok(Value::Array(items))
}

/// Reads a map; one with other keys than texts can only be an unknown member.
fn map<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<Value<'a>, CborError> {
    let start = reader.clone();
    let length = reader.map()?;
    let mut members = Vec::with_capacity(length.min(ROOM));
    let mut last = None;
    for _ in 0..length {
        if reader.kind()? != Kind::Text {
            *reader = start;
            reader.skip(depth)?;
            return Ok(Value::Other);
        }
        let at = reader.position();
        let name = reader.text()?;
        // As bytes with their heads, which are the shortest: a shorter name comes first.
        let key = Some((name.len(), name));
        if key <= last {
            return Err(CborError { at, fault: CborFault::KeyOrder });
        }
        last = key;
        members.push((Cow::Borrowed(name), read(reader, inside(depth, start.position())?)?));
    }
    Ok(Value::Object(members))
}

/// How deep what is in a container may be.
fn inside(depth: usize, at: usize) -> Result<usize, CborError> {
    depth.checked_sub(1).ok_or(CborError { at, fault: CborFault::TooDeep })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What stands in the way of an item, as the walk and then the reading of what it passed tell it.
    fn fault(input: &[u8]) -> Option<CborError> {
        let mut whole = Reader::new(input);
        let walked = whole.skip(MAX_NESTING).and_then(|_| whole.finish());
        walked.and_then(|()| read(&mut Reader::new(input), MAX_NESTING)).err()
    }

    /// Items with a few bytes changed, of the kinds that are near the edges of the rules.
    fn item() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            Just(vec![0x00]),
            Just(vec![0x18, 0x18]),
            Just(vec![0x20]),
            Just(vec![0xf6]),
            Just(vec![0xf5]),
            Just(vec![0xf9, 0x3e, 0x00]),
            Just(vec![0x42, 1, 2]),
            Just(vec![0x61, b'a']),
            Just(vec![0x61, b'b']),
            Just(vec![0x62, b'a', b'a']),
            Just(vec![0x80]),
            Just(vec![0xa0]),
        ];
        leaf.prop_recursive(40, 64, 4, |inner| {
            let of = |head: u8, each: usize| {
                proptest::collection::vec(inner.clone(), 1..5).prop_map(move |mut items| {
                    items.truncate(items.len() / each * each);
                    [vec![head | (items.len() / each) as u8], items.concat()].concat()
                })
            };
            prop_oneof![of(0x80, 1), of(0xa0, 2), inner.clone().prop_map(|item| [vec![0xc1], item].concat())]
        })
    }

    fn nested(depth: usize, inmost: u8) -> Vec<u8> {
        [vec![0x81; depth], vec![inmost]].concat()
    }

    #[test]
    fn containers_stand_inside_each_other_as_deep_as_the_walk_lets_them() {
        for depth in MAX_NESTING - 2..MAX_NESTING + 2 {
            for inmost in [0x00, 0x80, 0xa0, 0xc1, 0xf6] {
                let mut item = nested(depth, inmost);
                item.extend((inmost == 0xc1).then_some(0));
                let expected = fault(&item).map(refused);
                assert_eq!(parse(&item).err(), expected, "{depth} {inmost:02x}");
            }
        }
        assert!(parse(&nested(MAX_NESTING, 0)).is_ok());
        assert!(parse(&nested(MAX_NESTING + 1, 0)).is_err());
    }

    #[test]
    fn names_ascend_and_none_occurs_twice() {
        for (first, second) in [("a", "a"), ("b", "a"), ("aa", "b")] {
            let item = map_of([("x", text("y"))]);
            let pair = [vec![0xa2], text(first), item.clone(), text(second), item].concat();
            let why = parse(&pair).unwrap_err().to_string();
            assert!(why.contains(if first == second { "occurs twice" } else { "out of order" }), "{why}");
        }
        assert!(parse(&map_of([("b", text("y")), ("aa", text("y")), ("a", text("y"))])).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_walk_passes(mut item in item(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2)) {
            for (at, byte) in changes {
                let at = at.index(item.len());
                item[at] = byte;
            }
            prop_assert_eq!(parse(&item).err(), fault(&item).map(refused));
        }
    }
}
