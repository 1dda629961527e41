//! What a node means by its answer to commands.

use crate::hash::Hash;

/// What a node said to commands. Only a poll tells what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It keeps them for a block: these request keys. Or it had them already.
    Accepted(Vec<Hash>),
    /// It takes none of them, for what these are.
    Refused(Vec<Refusal>),
    /// It could not read the request: no node can.
    Unreadable(String),
    /// Nothing that says anything about the commands: behind a 500 a node hides most of what its mempool refuses,
    /// also that a command is on the chain already.
    Unclear(String),
}

/// Why one command is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the request.
    pub index: usize,
    /// Its request key.
    pub key: Hash,
    /// The reason in the node's words.
    pub reason: String,
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The command is in a block already, or was just now.
    OnChain,
    /// It is wrong in itself: no node will ever take it.
    Never,
    /// It depends on the node, its clock, or what is on the chain.
    NotNow,
}

/// The beginnings of reasons that lie in the command alone.
const NEVER: [&str; 8] = [
    "Invalid transaction hash",
    "Invalid transaction sigs",
    "Pact parse error",
    "Transaction compilation failed",
    "Transaction metadata (chain id, chainweb version) conflicts with this endpoint",
    "Wrong chain, expected",
    "insert error: Too many signatures",
    "insert error: Unparsable ChainId",
];

/// The beginnings of what a node says to a request that it cannot read.
const UNREADABLE: [&str; 4] =
    ["Error in $", "reading JSON for transaction failed", "Unexpected ", "Invalid UTF-8"];

impl Refusal {
    /// What follows from it.
    pub fn meaning(&self) -> Meaning {
        let reason = self.reason.as_str();
        let is_rounding = reason.contains("is not correctly rounded");
        if reason.starts_with("Transaction already exists on chain") {
            Meaning::OnChain
        } else if is_rounding || NEVER.iter().any(|never| reason.starts_with(never)) {
            Meaning::Never
        } else {
            Meaning::NotNow
        }
    }
}

/// The text in front of the refused commands.
const REFUSED: &str = "One or more transactions were invalid: ";

impl Said {
    /// Reads the text of a 400.
    pub(super) fn refused(text: &str) -> Self {
        let unclear = || Self::Unclear(super::error::excerpt(text.as_bytes()));
        if UNREADABLE.iter().any(|beginning| text.starts_with(beginning)) {
            return Self::Unreadable(super::error::excerpt(text.as_bytes()));
        }
        let Some(list) = text.strip_prefix(REFUSED) else { return unclear() };
        let mut refusals = Vec::new();
        let mut rest = list;
        while let Some((index, key, behind)) = head(rest) {
            // A reason may have commas in it, and ends where the next command begins.
            let separators = behind.match_indices(", ").map(|(at, _)| at);
            let end = separators.into_iter().find(|at| head(&behind[at + 2..]).is_some());
            let reason = &behind[..end.unwrap_or(behind.len())];
            refusals.push(Refusal { index, key, reason: super::error::excerpt(reason.as_bytes()) });
            rest = end.map_or("", |end| &behind[end + 2..]);
        }
        if refusals.is_empty() { unclear() } else { Self::Refused(refusals) }
    }
}

/// Reads `Transaction "<key>" at index <n> failed with: `; the index, the key, and what comes behind.
fn head(text: &str) -> Option<(usize, Hash, &str)> {
    let (key, rest) = text.strip_prefix("Transaction \"")?.split_once("\" at index ")?;
    let (index, rest) = rest.split_once(" failed with: ")?;
    Some((index.parse().ok()?, key.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reasons: &[&str]) -> Said {
        let key = Hash([1; 32]);
        let command =
            |(index, reason)| format!("Transaction \"{key}\" at index {index} failed with: {reason}");
        let list: Vec<String> = reasons.iter().enumerate().map(command).collect();
        Said::refused(&format!("{REFUSED}{}", list.join(", ")))
    }

    fn meaning(reason: &str) -> Meaning {
        let Said::Refused(refusals) = refused(&[reason]) else { panic!("{reason}") };
        assert_eq!((refusals.len(), refusals[0].index, &*refusals[0].reason), (1, 0, reason));
        refusals[0].meaning()
    }

    #[test]
    fn a_refusal_is_for_good_only_where_it_lies_in_the_command() {
        assert_eq!(meaning("Transaction already exists on chain"), Meaning::OnChain);
        for reason in [
            "Invalid transaction hash",
            "Invalid transaction sigs: The signature at position 0 is invalid: invalid ed25519 signature.",
            "Pact parse error: Expected: [')']",
            "Transaction metadata (chain id, chainweb version) conflicts with this endpoint",
            "Wrong chain, expected: 1, actual: 2",
            "insert error: Too many signatures",
            "insert error: This transaction's gas price: 0.1 is not correctly rounded. It should be rounded to at most 12 decimal places.",
        ] {
            assert_eq!(meaning(reason), Meaning::Never, "{reason}");
        }
        for reason in [
            "Transaction time-to-live is expired",
            "Transaction creation time too far in the future",
            "Transaction gas limit exceeds block gas limit (ParsedInteger 150000)",
            "Transaction gas price (0) is below minimum gas price (0.00000001)",
            "Transaction is badlisted because it previously failed to validate.",
            "Transaction validation timed out",
            "Attempt to buy gas failed with: \"x\" Failed to buy gas: Insufficient funds",
            "This transaction is attempting to complete an already-completed defpact ID: x",
            "something that nobody has seen yet",
            "",
        ] {
            assert_eq!(meaning(reason), Meaning::NotNow, "{reason}");
        }
    }

    #[test]
    fn each_command_of_a_refused_request_has_its_own_reason_whatever_stands_in_it() {
        let reasons = ["a, b", "Transaction \"x\" at index 1 failed with: c", "", "d, Transaction"];
        let Said::Refused(refusals) = refused(&reasons) else { panic!("not refused") };
        assert!(refusals.iter().map(|refusal| &*refusal.reason).eq(reasons));
        assert!(refusals.iter().map(|refusal| refusal.index).eq(0..4));
    }

    #[test]
    fn texts_that_no_node_writes_say_nothing() {
        for text in
            ["", "Bad Request", "<html>", REFUSED, "One or more transactions were invalid: Transaction"]
        {
            assert!(matches!(Said::refused(text), Said::Unclear(_)), "{text:?}");
        }
        let whole = "One or more transactions were invalid: Transaction \"A\" at index 0 failed with: b";
        for end in 0..=whole.len() {
            assert!(matches!(Said::refused(&whole[..end]), Said::Unclear(_)), "no request key");
        }
        assert!(matches!(Said::refused("Error in $.cmds: x"), Said::Unreadable(_)));
    }
}
