//! JSON as the node reads it: numbers keep their text, errors read like the node's.
//!
//! The node's parser (aeson) is lenient about doubled keys (the last one counts) and reports where in a value
//! a type is wrong. Clients see these texts, so they are repeated here as recorded from a node.

use crate::json::write_string;

/// Deepest nesting that is parsed; the node has no bound of its own.
const MAX_DEPTH: usize = 128;

/// A JSON value. Numbers are kept as their text, because `1.0`, `1e3` and big integers must survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Box<str>),
    Text(String),
    List(Vec<Json>),
    /// Members in the order of the text; a key occurs once.
    Map(Vec<(String, Json)>),
}

impl Json {
    /// The name the node uses for the type in its error texts.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::Bool(_) => "Boolean",
            Self::Number(_) => "Number",
            Self::Text(_) => "String",
            Self::List(_) => "Array",
            Self::Map(_) => "Object",
        }
    }

    /// The member of a map; `None` for other types too.
    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Map(members) => members.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a string value.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member of a map at `path`, or the node's error text.
    pub(super) fn member<'a>(&'a self, path: &str, key: &str) -> Result<&'a Json, String> {
        self.get(key).ok_or_else(|| format!("Error in {path}: key \"{key}\" not found"))
    }

    /// The text at `path`, or the node's error text.
    pub(super) fn text(&self, path: &str) -> Result<&str, String> {
        self.as_text().ok_or_else(|| self.mismatch(path, "Text", "String"))
    }

    /// The error text for a value of the wrong type: `what` was to be parsed, which is an `expected`.
    pub(super) fn mismatch(&self, path: &str, what: &str, expected: &str) -> String {
        let found = self.type_name();
        format!("Error in {path}: parsing {what} failed, expected {expected}, but encountered {found}")
    }
}

/// Parses one JSON text.
///
/// # Errors
/// The node's error text.
pub(super) fn parse(text: &str) -> Result<Json, String> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0, "JSON value")?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.unexpected("end-of-input")),
    }
}

/// `text` as a JSON string, escaped as the node does.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, expected: &str) -> String {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return format!("Unexpected end-of-input, expecting {expected}");
        }
        let shown: String = rest.chars().take(40).collect();
        format!("Unexpected {}, expecting {expected}", quoted(&shown))
    }

    fn value(&mut self, depth: usize, expected: &str) -> Result<Json, String> {
        if depth > MAX_DEPTH {
            return Err(format!("Error in $: nesting deeper than {MAX_DEPTH}"));
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') if self.take("null") => Ok(Json::Null),
            Some(b't') if self.take("true") => Ok(Json::Bool(true)),
            Some(b'f') if self.take("false") => Ok(Json::Bool(false)),
            _ => Err(self.unexpected(expected)),
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn list(&mut self, depth: usize) -> Result<Json, String> {
        self.at += 1;
        self.skip_space();
        let mut items = Vec::new();
        if self.take("]") {
            return Ok(Json::List(items));
        }
        loop {
            let expected = if items.is_empty() { "JSON value or ]" } else { "JSON value" };
            items.push(self.value(depth + 1, expected)?);
            self.skip_space();
            if self.take("]") {
                return Ok(Json::List(items));
            }
            if !self.take(",") {
                return Err(self.unexpected(", or ]"));
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Json, String> {
        self.at += 1;
        self.skip_space();
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        if self.take("}") {
            return Ok(Json::Map(members));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("record key literal or }"));
            }
            let key = self.string()?;
            self.skip_space();
            if !self.take(":") {
                return Err(self.unexpected(":"));
            }
            let value = self.value(depth + 1, "JSON value")?;
            match places.get(&key) {
                Some(&place) => members[place] = (key, value),
                None => {
                    places.insert(key.clone(), members.len());
                    members.push((key, value));
                }
            }
            self.skip_space();
            if self.take("}") {
                return Ok(Json::Map(members));
            }
            if !self.take(",") {
                return Err(self.unexpected(", or }"));
            }
        }
    }

    fn number(&mut self) -> Result<Json, String> {
        let start = self.at;
        self.take("-");
        let digits = self.digits();
        let has_leading_zero = digits > 1 && self.text.as_bytes()[self.at - digits] == b'0';
        if digits == 0 || has_leading_zero {
            return Err(self.unexpected("JSON number"));
        }
        if self.take(".") && self.digits() == 0 {
            return Err(self.unexpected("digit"));
        }
        if self.take("e") || self.take("E") {
            let _ = self.take("+") || self.take("-");
            if self.digits() == 0 {
                return Err(self.unexpected("digit"));
            }
        }
        Ok(Json::Number(self.text[start..self.at].into()))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn string(&mut self) -> Result<String, String> {
        const UNFINISHED: &str = "Unexpected end-of-input while parsing string literal";
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').ok_or(UNFINISHED)?;
            out.push_str(&rest[..plain]);
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'"' => return Ok(out),
                b'\\' => out.push(self.escaped()?),
                _ => return Err("Unexpected control character while parsing string literal".into()),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        const INVALID: &str = "Invalid JSON escape sequence while parsing string literal";
        let kind = self.peek().ok_or("Unexpected end-of-input while parsing string literal")?;
        if !kind.is_ascii() {
            return Err(INVALID.into());
        }
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' => Ok(char::from(kind)),
            b'b' => Ok('\u{8}'),
            b'f' => Ok('\u{c}'),
            b'n' => Ok('\n'),
            b'r' => Ok('\r'),
            b't' => Ok('\t'),
            b'u' => {
                let first = self.hex4().ok_or(INVALID)?;
                let code = match first {
                    0xd800..=0xdbff => {
                        let low = (self.take("\\u")).then(|| self.hex4()).flatten();
                        let low = low.filter(|low| (0xdc00..=0xdfff).contains(low)).ok_or(INVALID)?;
                        0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00)
                    }
                    code => code,
                };
                char::from_u32(code).ok_or_else(|| INVALID.to_owned())
            }
            _ => Err(INVALID.into()),
        }
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_texts_get_the_recorded_errors() {
        let cases = [
            ("", "Unexpected end-of-input, expecting JSON value"),
            ("{\"cmds\":[", "Unexpected end-of-input, expecting JSON value or ]"),
            ("{", "Unexpected end-of-input, expecting record key literal or }"),
            ("{\"requestKeys\":", "Unexpected end-of-input, expecting JSON value"),
            ("[\"a", "Unexpected end-of-input while parsing string literal"),
            ("hello", "Unexpected \"hello\", expecting JSON value"),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn hostile_texts_are_errors_and_never_panics() {
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).is_err());
        for text in [
            "-",
            "01",
            "1.",
            "1e",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\",
            "nul",
            "[1,]",
            "{\"a\"}",
            "1 2",
            "\"\\é\"",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        let text = "\"Gr\\u00fc\\u00dfe \\ud83d\\ude00 \\/\"";
        assert_eq!(parse(text), Ok(Json::Text("Grüße 😀 /".into())));
    }

    #[test]
    fn of_a_doubled_key_the_last_value_counts() {
        let map = parse("{\"a\":1,\"b\":2,\"a\":3}").unwrap();
        assert_eq!(map.get("a"), Some(&Json::Number("3".into())));
    }
}
