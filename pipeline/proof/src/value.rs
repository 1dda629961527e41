//! What the strict readers of JSON and CBOR both produce: one tree of values that borrows from its input.

use std::borrow::Cow;

/// Containers inside each other, the outermost counted as 1, that any reader here accepts.
pub const MAX_NESTING: usize = 32;

/// A value as it stands in a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A JSON number, as written.
    Number(&'a str),
    /// A CBOR unsigned integer.
    Uint(u64),
    /// A text.
    Text(Cow<'a, str>),
    /// A CBOR byte string.
    Bytes(&'a [u8]),
    /// Values in order.
    Array(Vec<Value<'a>>),
    /// Members in the order of the file; no name occurs twice.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
    /// A CBOR value that no known member has: a negative integer, a float, a tag, a simple value.
    Other,
}

impl<'a> Value<'a> {
    /// Looks up the member of an object by its exact name.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        match self {
            Self::Object(members) => members.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// What to call the value in an error message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) | Self::Uint(_) => "a number",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "a byte string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
            Self::Other => "a value of no known kind",
        }
    }
}

/// Appends a member's name to a path like `anchors[0].block`; names that could confuse a reader are quoted.
pub(crate) fn join(path: &str, name: &str) -> String {
    let is_plain = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match (path.is_empty(), is_plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => {
            let short: String = name.chars().take(64).flat_map(char::escape_default).collect();
            format!("{path}[\"{short}\"]")
        }
    }
}

/// Finds a name that occurs twice.
pub(crate) fn repeated<'m>(members: &'m [(Cow<'_, str>, Value<'_>)]) -> Option<&'m str> {
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_quotes_names_that_are_not_plain() {
        assert_eq!(join("", "batch"), "batch");
        assert_eq!(join("anchors[0]", "block"), "anchors[0].block");
        assert_eq!(join("a", "x\u{1b}[2J"), "a[\"x\\u{1b}[2J\"]");
        assert_eq!(join("", ""), "[\"\"]");
    }
}
