//! Anchor texts and anchor trees.
use crate::hash::{Algorithm, Hash};
use crate::tree::ProofError;
/// error
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum AnchorError { #[error("not an anchor text")] Text, #[error("origin {0} twice")] SameOrigin(String) }
/// `killick/1 <hash> <size> <root>`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AnchorText<'a> { pub hash_name: &'a str, pub size: u64, pub root: &'a str }
#[allow(missing_docs)]
impl<'a> AnchorText<'a> {
    /// a hash name that is well formed but unknown is parsed: `algorithm()` is None then
    pub fn parse(_text: &'a str) -> Result<Self, AnchorError> { todo!() }
    pub fn format(algorithm: Algorithm, size: u64, root: &Hash) -> String { format!("killick/1 {algorithm} {size} {root}") }
    pub fn algorithm(&self) -> Option<Algorithm> { Algorithm::from_name(self.hash_name) }
    /// None only when the algorithm is unknown
    pub fn root(&self) -> Option<Hash> { todo!() }
}
/// The tree over checkpoint note texts, ascending by origin
#[derive(Clone, Debug)]
pub struct AnchorTree<'a> { texts: Vec<&'a str> }
#[allow(missing_docs)]
impl<'a> AnchorTree<'a> {
    /// any order; sorted here; the same origin twice, or no text at all, is an error
    pub fn new(_algorithm: Algorithm, _texts: Vec<&'a str>) -> Result<Self, AnchorError> { todo!() }
    pub fn texts(&self) -> &[&'a str] { &self.texts }
    pub fn size(&self) -> u64 { todo!() }
    pub fn root(&self) -> Hash { todo!() }
    pub fn path(&self, _index: u64) -> Result<Vec<Hash>, ProofError> { todo!() }
    pub fn anchor_text(&self) -> String { todo!() }
}
