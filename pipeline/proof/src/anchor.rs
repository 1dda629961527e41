//! What goes on chain: one root over the newest checkpoints of many logs, in one line of text.

use crate::encoding::{MAX_COUNT, array_from_base64url, decimal, from_base64url};
use crate::hash::{Algorithm, Hash};
use crate::origin::is_hash_name;
use crate::tree::{ProofError, Tree};

/// What an anchor text begins with.
const PREFIX: &str = "killick/1 ";

/// Why a text is no anchor text, or texts are no anchor tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// Not four words of which the first is `killick/1`.
    #[error("an anchor text is `killick/1 <hash> <size> <root>` with single spaces")]
    Form,
    /// The hash has no name that could be one.
    #[error("the hash of an anchor text is a name of 1 to 32 characters of a-z 0-9 _")]
    Hash,
    /// The size is no shortest decimal from 1 on.
    #[error("the size of an anchor text is a decimal without leading zero, 1 to 2^53 - 1")]
    Size,
    /// The root is not strict base64url, or not of 32 bytes where the hash is known.
    #[error("the root of an anchor text is base64url without padding")]
    Root,
    /// A leaf that is no checkpoint's text.
    #[error("leaf {0} of the anchor tree is no text of lines with an origin")]
    Leaf(usize),
    /// Two checkpoints of one log.
    #[error("the log {0} is twice in the anchor tree")]
    Twice(String),
    /// No checkpoint at all.
    #[error("an anchor tree has at least one checkpoint")]
    Empty,
}

/// `killick/1 <hash> <size> <root>`: what the chain says about an anchor tree.
///
/// The hash may be one that nobody knows here: the text is then well formed and not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorText<'a> {
    hash: &'a str,
    size: u64,
    root: &'a str,
    known: Option<(Algorithm, Hash)>,
}

impl<'a> AnchorText<'a> {
    /// Reads an anchor text as a whole, strictly.
    ///
    /// # Errors
    /// [`AnchorError`] names the word that is wrong.
    pub fn parse(text: &'a str) -> Result<Self, AnchorError> {
        let mut words = text.strip_prefix(PREFIX).ok_or(AnchorError::Form)?.split(' ');
        let (Some(hash), Some(size), Some(root), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(AnchorError::Form);
        };
        if hash.len() > 32 || !is_hash_name(hash) {
            return Err(AnchorError::Hash);
        }
        let size = decimal(size).filter(|&size| size > 0).ok_or(AnchorError::Size)?;
        let known = match Algorithm::from_name(hash) {
            Some(algorithm) => {
                let root = array_from_base64url(root).map_err(|_| AnchorError::Root)?;
                Some((algorithm, Hash::new(root)))
            }
            // A hash of another length may be what its name stands for.
            None if root.is_empty() || from_base64url(root).is_err() => return Err(AnchorError::Root),
            None => None,
        };
        Ok(Self { hash, size, root, known })
    }

    /// Writes an anchor text; `size` is 1 to 2^53 − 1.
    pub fn format(algorithm: Algorithm, size: u64, root: &Hash) -> String {
        debug_assert!((1..=MAX_COUNT).contains(&size), "an anchor tree has between 1 and 2^53 - 1 leaves");
        format!("{PREFIX}{algorithm} {size} {root}")
    }

    /// The hash's name, known or not.
    pub const fn hash_name(&self) -> &'a str {
        self.hash
    }

    /// How many leaves the anchor tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root as it stands in the text.
    pub const fn root_text(&self) -> &'a str {
        self.root
    }

    /// The hash of the anchor tree; `None` where its name is not understood.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.known.map(|(algorithm, _)| algorithm)
    }

    /// The root of the anchor tree; `None` where its hash is not understood.
    pub fn root(&self) -> Option<Hash> {
        self.known.map(|(_, root)| root)
    }
}

/// The tree over checkpoints of different logs: leaves are their notes' texts, strictly ascending by origin.
#[derive(Clone, Debug)]
pub struct AnchorTree<'a> {
    texts: Vec<&'a str>,
    tree: Tree,
}

impl<'a> AnchorTree<'a> {
    /// Builds the tree over these texts, given in any order.
    ///
    /// # Errors
    /// [`AnchorError::Twice`] for two texts of one origin, [`AnchorError::Leaf`] for a text without an origin line,
    /// [`AnchorError::Empty`] for no texts.
    pub fn new(algorithm: Algorithm, mut texts: Vec<&'a str>) -> Result<Self, AnchorError> {
        if let Some(wrong) = texts.iter().position(|text| origin_of(text).is_empty() || !text.ends_with('\n'))
        {
            return Err(AnchorError::Leaf(wrong));
        }
        texts.sort_unstable_by_key(|text| origin_of(text));
        if let Some([twice, _]) =
            texts.array_windows().find(|[left, right]| origin_of(left) == origin_of(right))
        {
            return Err(AnchorError::Twice(origin_of(twice).to_owned()));
        }
        if texts.is_empty() {
            return Err(AnchorError::Empty);
        }
        let leaves = algorithm.leaves(texts.iter().map(|text| text.as_bytes()));
        Ok(Self { texts, tree: Tree::new(algorithm, leaves) })
    }

    /// The texts in leaf order.
    pub fn texts(&self) -> &[&'a str] {
        &self.texts
    }

    /// The leaf index of the log with this origin.
    pub fn index_of(&self, origin: &str) -> Option<u64> {
        self.texts.binary_search_by_key(&origin, |text| origin_of(text)).ok().map(|index| index as u64)
    }

    /// How many logs it covers.
    pub const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The path that proves the checkpoint at this leaf index.
    ///
    /// # Errors
    /// [`ProofError::Index`].
    pub fn path(&self, index: u64) -> Result<Vec<Hash>, ProofError> {
        self.tree.inclusion_path(index)
    }

    /// What goes on chain.
    pub fn anchor_text(&self) -> String {
        AnchorText::format(self.tree.algorithm(), self.size(), &self.root())
    }
}

fn origin_of(text: &str) -> &str {
    text.split_once('\n').map_or("", |(origin, _)| origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::verify_inclusion;

    fn checkpoint(log: u64) -> String {
        format!("plant.example/1/sha256/{log}\n{}\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n", log + 1)
    }

    #[test]
    fn the_text_of_a_tree_reads_back_and_proves_each_checkpoint() {
        for algorithm in Algorithm::ALL {
            let texts: Vec<_> = (0..23).rev().map(checkpoint).collect();
            let tree = AnchorTree::new(algorithm, texts.iter().map(String::as_str).collect()).unwrap();
            let line = tree.anchor_text();
            let text = AnchorText::parse(&line).unwrap();
            assert_eq!((text.algorithm(), text.size()), (Some(algorithm), 23));
            let root = text.root().unwrap();
            for (index, leaf) in (0..).zip(tree.texts()) {
                let path = tree.path(index).unwrap();
                let leaf_hash = algorithm.leaf(leaf.as_bytes());
                assert_eq!(verify_inclusion(algorithm, &leaf_hash, index, text.size(), &path, &root), Ok(()));
                assert_eq!(tree.index_of(leaf.lines().next().unwrap()), Some(index));
            }
        }
    }

    #[test]
    fn origins_ascend_by_bytes_and_occur_once() {
        let [two, ten] = [checkpoint(2), checkpoint(10)];
        let tree = AnchorTree::new(Algorithm::Sha256, vec![&two, &ten]).unwrap();
        assert_eq!(tree.texts(), [&ten, &two]); // "10" before "2"
        let newer = two.replace("\n3\n", "\n4\n");
        let twice = AnchorTree::new(Algorithm::Sha256, vec![&two, &ten, &newer]).unwrap_err();
        assert_eq!(twice, AnchorError::Twice("plant.example/1/sha256/2".to_owned()));
        assert_eq!(
            AnchorTree::new(Algorithm::Sha256, vec![&ten, "no line"]).unwrap_err(),
            AnchorError::Leaf(1)
        );
        assert_eq!(AnchorTree::new(Algorithm::Sha256, Vec::new()).unwrap_err(), AnchorError::Empty);
    }

    #[test]
    fn a_hash_nobody_knows_is_well_formed_whatever_its_length() {
        let text = AnchorText::parse("killick/1 blake3_512 3 _-8").unwrap();
        assert_eq!((text.hash_name(), text.size(), text.root_text()), ("blake3_512", 3, "_-8"));
        assert_eq!((text.algorithm(), text.root()), (None, None));
    }

    #[test]
    fn what_is_not_the_form_is_no_anchor_text() {
        let root = "A".repeat(43);
        let long = "h".repeat(33);
        let cases = [
            (String::new(), AnchorError::Form),
            (format!("killick/2 sha256 1 {root}"), AnchorError::Form),
            (format!("killick/1  sha256 1 {root}"), AnchorError::Form),
            (format!(" killick/1 sha256 1 {root}"), AnchorError::Form),
            (format!("killick/1 sha256 1 {root} "), AnchorError::Form),
            ("killick/1 sha256 1".to_owned(), AnchorError::Form),
            (format!("killick/1 SHA256 1 {root}"), AnchorError::Hash),
            (format!("killick/1 sha-256 1 {root}"), AnchorError::Hash),
            (format!("killick/1 {long} 1 {root}"), AnchorError::Hash),
            (format!("killick/1 sha256 0 {root}"), AnchorError::Size),
            (format!("killick/1 sha256 01 {root}"), AnchorError::Size),
            (format!("killick/1 sha256 9007199254740992 {root}"), AnchorError::Size),
            (format!("killick/1 blake3 x {root}"), AnchorError::Size),
            (format!("killick/1 sha256 1 {root}="), AnchorError::Root),
            (format!("killick/1 sha256 1 {root}\n"), AnchorError::Root),
            (format!("killick/1 sha256 1 {}", &root[1..]), AnchorError::Root),
            (format!("killick/1 sha256 1 {}B", &root[1..]), AnchorError::Root),
            ("killick/1 blake3 1 _-9".to_owned(), AnchorError::Root),
            ("killick/1 blake3 1 ".to_owned(), AnchorError::Root),
        ];
        for (text, error) in cases {
            assert_eq!(AnchorText::parse(&text), Err(error), "{text:?}");
        }
    }
}
