//! What can go wrong between us and a node.

use std::fmt;
use std::time::Duration;

/// One node did not answer a question as a node does. Another one may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node}: {what}: {trouble}")]
pub struct NodeError {
    /// The node's address.
    pub node: Box<str>,
    /// What it was asked for: the last part of the path.
    pub what: &'static str,
    /// What happened.
    pub trouble: Trouble,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// There is no connection, so nothing was asked.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// No whole answer came in time. What was asked for may have been done.
    #[error("no whole answer within {0:?}")]
    Timeout(Duration),
    /// The connection ended before the answer did. What was asked for may have been done.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is longer than any honest one.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// A status that is no answer to the question.
    #[error("status {status}: {text}")]
    Status {
        /// The status.
        status: u16,
        /// The beginning of the body.
        text: String,
    },
    /// The answer is not what the question is answered with.
    #[error("nonsense: {0}")]
    Malformed(String),
    /// The node is one of another network.
    #[error(
        "it is a node of {found}, and not of {wanted}: take it from the list, or correct the network's name"
    )]
    Network {
        /// The network that was asked for.
        wanted: String,
        /// The network of the node.
        found: String,
    },
}

impl Trouble {
    /// Whether the node may have done what it was asked for.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Broken(_) | Self::TooLarge(_) | Self::Malformed(_) => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Unreachable(_) | Self::Network { .. } => false,
        }
    }
}

/// No node answered: what each of them did instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// One for each node that was asked, in that order.
    pub nodes: Vec<NodeError>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no node answers")?;
        for (index, error) in self.nodes.iter().enumerate() {
            write!(f, "{} {error}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The beginning of a text from outside, without characters that a terminal or a log would obey.
pub(super) fn excerpt(text: &[u8]) -> String {
    const LONGEST: usize = 300;
    let head = &text[..text.len().min(LONGEST)];
    let shown: String =
        String::from_utf8_lossy(head).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() > LONGEST { format!("{shown}…") } else { shown }
}
