//! JSON read strictly and written as a node writes it.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Deepest nesting that [`parse_strict`] reads; the outermost value counts as 1.
pub const MAX_DEPTH: usize = 32;

/// Why a text is not strict JSON.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct JsonError(#[from] serde_json::Error);

/// Parses JSON in which no member occurs twice and nothing nests deeper than [`MAX_DEPTH`].
///
/// # Errors
/// [`JsonError`], also for a byte order mark, lone surrogates, numbers beyond a double and trailing text.
pub fn parse_strict(text: &[u8]) -> Result<Value, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: 1 }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Parses one value at a depth.
struct Strict {
    depth: usize,
}

impl Strict {
    fn inside<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth > MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.inside()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict { depth })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let depth = self.inside()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format_args!("member {name:?} occurs twice")));
            }
            let value = members.next_value_seed(Strict { depth })?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// Any value that is skipped, for checking that a text is JSON.
pub(crate) fn is_json(text: &str) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde::de::IgnoredAny::deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok()
}

/// Where the value of a member stands in the text of a JSON object; `None` where there is none, or no object.
///
/// For texts that are known to be JSON and whose bytes must not change: what is parsed and printed again is not
/// what was hashed. Names with escapes are not found.
pub fn member(text: &str, name: &str) -> Option<Range<usize>> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.expect(b'{')?;
    loop {
        let key = scanner.value()?;
        scanner.expect(b':')?;
        let value = scanner.value()?;
        if text.get(key)?.strip_prefix('"')?.strip_suffix('"')? == name {
            return Some(value);
        }
        scanner.expect(b',')?;
    }
}

/// Walks over JSON values without reading them.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn skip_space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (*self.bytes.get(self.at)? == byte).then(|| self.at += 1)
    }

    /// The place of the next value.
    fn value(&mut self) -> Option<Range<usize>> {
        self.skip_space();
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' => {
                    self.at += 1;
                    (depth > 0).then_some(())?;
                    continue;
                }
                byte if byte.is_ascii_whitespace() => {
                    self.at += 1;
                    continue;
                }
                _ => self.word(),
            }
            if depth == 0 {
                return Some(start..self.at);
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        let is_end = |byte: &u8| b",:{}[]\"".contains(byte) || byte.is_ascii_whitespace();
        while self.bytes.get(self.at).is_some_and(|byte| !is_end(byte)) {
            self.at += 1;
        }
    }
}

/// Appends `text` as a JSON string with the escapes of a node: `\"`, `\\`, `\n`, `\r`, `\t`, and `\u00xx` for
/// other control characters below U+0020. Everything else stands as it is.
pub fn write_string(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' => {
                write!(out, "\\u{:04x}", u32::from(character)).expect("writing to a string does not fail");
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_occurs_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"a":2}}]"#, r#"{"a":1,"\u0061":2}"#] {
            let error = parse_strict(text.as_bytes()).expect_err(text);
            assert!(error.to_string().contains(r#"member "a" occurs twice"#), "{error}");
        }
        assert!(parse_strict(br#"{"a":{"a":1},"A":2}"#).is_ok());
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse_strict(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse_strict(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(parse_strict("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for text in ["", "1 2", "{}x", "\u{feff}1", r#""\ud800""#, "1e999", "'a'", "{a:1}", "[1,]"] {
            assert!(parse_strict(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_member_is_found_where_it_stands() {
        let text = r#" { "a" : [1,{"c":"}\""}], "c":  -1.5e3 ,"d":{"c":null},"e":"x"}"#;
        let at = |name| member(text, name).map(|range| &text[range]);
        assert_eq!(at("a"), Some(r#"[1,{"c":"}\""}]"#));
        assert_eq!(at("c"), Some("-1.5e3"));
        assert_eq!(at("d"), Some(r#"{"c":null}"#));
        assert_eq!(at("e"), Some(r#""x""#));
        assert_eq!(at("f"), None);
        for broken in
            ["", "{", "{}", "[]", r#"{"a""#, r#"{"a":"#, r#"{"a":]}"#, r#"{"a":"\"#, "{a:1}", r#"{,"a":1}"#]
        {
            assert_eq!(member(broken, "a"), None, "{broken:?}");
        }
    }

    #[test]
    fn control_characters_are_written_as_a_node_writes_them() {
        let mut out = String::new();
        write_string(&mut out, "a\"\\\n\r\t\u{0}\u{8}\u{c}\u{1f}/é\u{7f}\u{2028}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\r\\t\\u0000\\u0008\\u000c\\u001f/é\u{7f}\u{2028}\"");
        assert_eq!(serde_json::from_str::<String>(&out).expect("JSON").chars().count(), 14);
    }
}
