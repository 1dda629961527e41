//! Deterministic CBOR.
use crate::hash::Hash;
/// Err
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {at}")]
pub struct CborError { /// a
pub at: usize, /// b
pub fault: CborFault }
/// Fault
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborFault { /// a
#[error("the input ends")] End }
/// Kinds of data items, as [`Reader::kind`] sees them by their first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind { /// a
 Uint, /// a
 Negative, /// a
 Bytes, /// a
 Text, /// a
 Array, /// a
 Map, /// a
 Tag, /// a
 Bool, /// a
 Null, /// a
 Undefined, /// a
 Simple, /// a
 Float }
/// Strict reader.
#[derive(Clone, Debug)]
pub struct Reader<'a> { input: &'a [u8], at: usize }
#[allow(missing_docs)]
impl<'a> Reader<'a> {
    pub fn new(input: &'a [u8]) -> Self { Self { input, at: 0 } }
    pub fn position(&self) -> usize { self.at }
    pub fn kind(&self) -> Result<Kind, CborError> { todo!() }
    pub fn uint(&mut self) -> Result<u64, CborError> { todo!() }
    pub fn int(&mut self) -> Result<i64, CborError> { todo!() }
    pub fn bool(&mut self) -> Result<bool, CborError> { todo!() }
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> { let _ = self.input; todo!() }
    pub fn byte_array<const N: usize>(&mut self) -> Result<&'a [u8; N], CborError> { todo!() }
    pub fn hash(&mut self) -> Result<Hash, CborError> { todo!() }
    pub fn text(&mut self) -> Result<&'a str, CborError> { todo!() }
    pub fn null(&mut self) -> Result<(), CborError> { todo!() }
    /// consumes a null if one is next
    pub fn is_null(&mut self) -> Result<bool, CborError> { todo!() }
    /// number of elements
    pub fn array(&mut self) -> Result<usize, CborError> { todo!() }
    /// number of entries
    pub fn map(&mut self) -> Result<usize, CborError> { todo!() }
    /// skips one whole item, strict, at most `max_depth` containers and tags deep; returns its bytes
    pub fn skip(&mut self, _max_depth: usize) -> Result<&'a [u8], CborError> { todo!() }
    pub fn finish(self) -> Result<(), CborError> { todo!() }
}
/// Writer: appends to a buffer.
#[derive(Debug)]
pub struct Writer<'o>(&'o mut Vec<u8>);
#[allow(missing_docs)]
impl<'o> Writer<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self { Self(out) }
    pub fn uint(&mut self, _value: u64) -> &mut Self { todo!() }
    pub fn int(&mut self, _value: i64) -> &mut Self { todo!() }
    pub fn bytes(&mut self, _value: &[u8]) -> &mut Self { let _ = &self.0; todo!() }
    pub fn text(&mut self, _value: &str) -> &mut Self { todo!() }
    pub fn null(&mut self) -> &mut Self { todo!() }
    pub fn array(&mut self, _len: usize) -> &mut Self { todo!() }
    pub fn map(&mut self, _len: usize) -> &mut Self { todo!() }
}
