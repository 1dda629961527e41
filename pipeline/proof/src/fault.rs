//! Why a receipt does not verify further: something is wrong in it, or something is missing.

use std::fmt;

use crate::value::join;

/// What stops a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The receipt is wrong.
    Wrong(Wrong),
    /// The receipt says nothing wrong, but not enough, or something that is not understood or not trusted.
    Missing(Missing),
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Wrong {
    /// The part of the receipt, as a path like `anchors[0].block.chain`; empty for the file as a whole.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

/// Something that is absent, not understood or not trusted, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The part of the receipt, as a path like `anchors[0].block`; empty for the file as a whole.
    pub field: String,
    /// What is missing.
    pub why: String,
}

/// The result of reading or checking one part of a receipt.
pub type Part<T> = Result<T, Fault>;

impl Fault {
    /// Something wrong with the part that is being read; [`within`](Self::within) says where that is.
    pub(crate) fn wrong(why: impl fmt::Display) -> Self {
        Self::Wrong(Wrong { field: String::new(), why: why.to_string() })
    }

    /// Something missing in the part that is being read.
    pub(crate) fn missing(why: impl fmt::Display) -> Self {
        Self::Missing(Missing { field: String::new(), why: why.to_string() })
    }

    /// Puts the fault into the member `name` of what is being read.
    pub(crate) fn within(mut self, name: &str) -> Self {
        let (Self::Wrong(Wrong { field, .. }) | Self::Missing(Missing { field, .. })) = &mut self;
        let outer = if name.starts_with('[') { name.to_owned() } else { join("", name) };
        let separator = if field.is_empty() || field.starts_with('[') { "" } else { "." };
        *field = format!("{outer}{separator}{field}");
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_at(f, &self.field, &self.why)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_at(f, &self.field, &self.why)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(wrong) => wrong.fmt(f),
            Self::Missing(missing) => missing.fmt(f),
        }
    }
}

fn write_at(f: &mut fmt::Formatter<'_>, field: &str, why: &str) -> fmt::Result {
    if field.is_empty() { f.write_str(why) } else { write!(f, "{field}: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_where_it_is_from_the_outside_in() {
        let fault = Fault::wrong("is 3").within("chain").within("block").within("[1]").within("anchors");
        assert_eq!(fault.to_string(), "anchors[1].block.chain: is 3");
        assert_eq!(Fault::missing("nothing there").to_string(), "nothing there");
    }
}
