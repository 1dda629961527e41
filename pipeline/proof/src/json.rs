//! A strict reader of JSON (RFC 8259) for files that come from strangers.
//!
//! It accepts a subset that every other reader understands in the same way. Refused are a member that occurs
//! twice (names are compared byte for byte after unescaping), a byte order mark, bytes that are not UTF-8, lone
//! surrogates, control characters in texts, nesting beyond [`MAX_NESTING`], a number that is not finite or is
//! written with more than [`MAX_NUMBER_LENGTH`] characters, and anything after the value. Numbers keep their text.
//! The caller bounds the input; memory and time are proportional to it.

use std::borrow::Cow;

use crate::value::{MAX_NESTING, Value, join, repeated};

/// Characters a number may be written with.
pub const MAX_NUMBER_LENGTH: usize = 64;

/// Why a text is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {offset}")]
pub struct JsonError {
    /// The member in which it happened, like `anchors[0].block`; empty for the outermost value.
    pub path: String,
    /// Bytes before the place.
    pub offset: usize,
    /// What is wrong.
    pub problem: JsonProblem,
}

/// What a strict reader of JSON refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonProblem {
    /// Bytes that are no UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// U+FEFF at the start.
    #[error("the text starts with a byte order mark")]
    ByteOrderMark,
    /// The text ends inside a value.
    #[error("the text ends early")]
    EndsEarly,
    /// A character that cannot stand here.
    #[error("unexpected {0:?}")]
    Unexpected(char),
    /// Text after the value.
    #[error("more text after the value")]
    Trailing,
    /// Containers nested too deep.
    #[error("nested deeper than {MAX_NESTING}")]
    TooDeep,
    /// A member's name that occurs twice in one object.
    #[error("the member {0} occurs twice")]
    Repeated(String),
    /// A number with too many characters.
    #[error("a number of more than {MAX_NUMBER_LENGTH} characters")]
    LongNumber,
    /// A number beyond the range of a double.
    #[error("a number that is not finite")]
    NotFinite,
    /// A control character that is not escaped.
    #[error("a control character in a text")]
    Control,
    /// An escape that JSON does not have.
    #[error("an unknown escape in a text")]
    Escape,
    /// Half of a surrogate pair.
    #[error("a lone surrogate in a text")]
    LoneSurrogate,
}

/// Reads one value and nothing after it.
///
/// # Errors
/// [`JsonError`] names the first thing that is refused, the member and the place.
pub fn parse(input: &[u8]) -> Result<Value<'_>, JsonError> {
    let fail = |offset, problem| JsonError { path: String::new(), offset, problem };
    if input.starts_with(b"\xef\xbb\xbf") {
        return Err(fail(0, JsonProblem::ByteOrderMark));
    }
    let text = std::str::from_utf8(input).map_err(|error| fail(error.valid_up_to(), JsonProblem::NotUtf8))?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(1)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.fail(JsonProblem::Trailing)),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn fail(&self, problem: JsonProblem) -> JsonError {
        JsonError { path: String::new(), offset: self.at, problem }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// What is wrong with the next character: there is none, or it has no place here.
    fn unexpected(&self) -> JsonError {
        let next = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        self.fail(next.map_or(JsonProblem::EndsEarly, JsonProblem::Unexpected))
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Reads a value; a container in it would be the `depth`-th from outside.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'{' | b'[') if depth > MAX_NESTING => Err(self.fail(JsonProblem::TooDeep)),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.unexpected()),
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        for byte in word.bytes() {
            self.expect(byte)?;
        }
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.expect(b'[')?;
        let mut items = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            let item = self.value(depth + 1).map_err(|error| within(&format!("[{}]", items.len()), error))?;
            items.push(item);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.expect(b'{')?;
        let mut members = Vec::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            let value = self.value(depth + 1).map_err(|error| within(&join("", &name), error))?;
            members.push((name, value));
            self.skip_space();
            if self.take(b'}') {
                break;
            }
            self.expect(b',')?;
        }
        match repeated(&members) {
            None => Ok(Value::Object(members)),
            Some(name) => Err(self.fail(JsonProblem::Repeated(join("", name)))),
        }
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        } else if let Some(b'0'..=b'9') = self.peek() {
            return Err(self.unexpected());
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        if text.len() > MAX_NUMBER_LENGTH {
            return Err(self.fail(JsonProblem::LongNumber));
        }
        if !text.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(self.fail(JsonProblem::NotFinite));
        }
        Ok(Value::Number(text))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Reads a text; borrows it where nothing is escaped.
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"')?;
        let mut start = self.at;
        let mut unescaped = String::new();
        loop {
            match self.peek() {
                None => return Err(self.fail(JsonProblem::EndsEarly)),
                Some(b'"') => {
                    let rest = &self.text[start..self.at];
                    self.at += 1;
                    if unescaped.is_empty() {
                        return Ok(Cow::Borrowed(rest));
                    }
                    unescaped.push_str(rest);
                    return Ok(Cow::Owned(unescaped));
                }
                Some(b'\\') => {
                    unescaped.push_str(&self.text[start..self.at]);
                    self.at += 1;
                    unescaped.push(self.escape()?);
                    start = self.at;
                }
                Some(0..=0x1f) => return Err(self.fail(JsonProblem::Control)),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(byte) = self.peek() else { return Err(self.fail(JsonProblem::EndsEarly)) };
        let plain = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.escaped_unit();
            }
            _ => return Err(self.fail(JsonProblem::Escape)),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Reads the digits of `\uXXXX`, and the second half where it starts a surrogate pair.
    fn escaped_unit(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let lone = JsonError { path: String::new(), offset: start, problem: JsonProblem::LoneSurrogate };
        let first = self.hex4()?;
        if let Some(character) = char::from_u32(first) {
            return Ok(character);
        }
        if first >= 0xdc00 || !(self.take(b'\\') && self.take(b'u')) {
            return Err(lone);
        }
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(lone);
        }
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(lone)
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let Some(byte) = self.peek() else { return Err(self.fail(JsonProblem::EndsEarly)) };
            let digit = char::from(byte).to_digit(16).ok_or_else(|| self.fail(JsonProblem::Escape))?;
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }
}

/// Puts the error into the member or item in which it happened.
fn within(outer: &str, mut error: JsonError) -> JsonError {
    let separator = if error.path.is_empty() || error.path.starts_with('[') { "" } else { "." };
    error.path = format!("{outer}{separator}{}", error.path);
    error
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: impl AsRef<[u8]>) -> JsonProblem {
        parse(text.as_ref()).unwrap_err().problem
    }

    #[test]
    fn plain_documents_are_read_with_their_numbers_as_written() {
        let text = br#" { "a" : [ 1, -0.50e+1, true, false, null ], "b\u0041\n": "\ud83d\ude00\/" } "#;
        let value = parse(text).unwrap();
        let numbers = [Value::Number("1"), Value::Number("-0.50e+1")];
        let Some(Value::Array(items)) = value.get("a") else { panic!("no array in {value:?}") };
        assert_eq!(items[..2], numbers);
        assert_eq!(items[2..], [Value::Bool(true), Value::Bool(false), Value::Null]);
        assert_eq!(value.get("bA\n"), Some(&Value::Text("\u{1f600}/".into())));
    }

    #[test]
    fn a_member_that_occurs_twice_is_refused_also_when_it_is_escaped_once() {
        assert_eq!(problem(r#"{"a":1,"a":1}"#), JsonProblem::Repeated("a".into()));
        assert_eq!(problem(r#"{"a":1,"b":2,"\u0061":1}"#), JsonProblem::Repeated("a".into()));
        let error = parse(br#"{"x":[0,{"y":{"a":1,"a":2}}]}"#).unwrap_err();
        assert_eq!(error.path, "x[1].y");
        assert!(parse(r#"{"a":1,"A":2,"ä":3,"a\u0308":4}"#.as_bytes()).is_ok(), "other bytes, other names");
    }

    #[test]
    fn nesting_counts_the_outermost_as_one() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(32).as_bytes()).is_ok());
        assert_eq!(problem(nested(33)), JsonProblem::TooDeep);
        assert_eq!(problem("[".repeat(1_000_000)), JsonProblem::TooDeep);
        assert!(parse(format!("{}1{}", "[".repeat(32), "]".repeat(32)).as_bytes()).is_ok());
    }

    #[test]
    fn numbers_are_finite_and_at_most_64_characters_long() {
        assert!(parse("1".repeat(64).as_bytes()).is_ok());
        assert_eq!(problem("1".repeat(65)), JsonProblem::LongNumber);
        assert!(parse(b"1e308").is_ok());
        assert_eq!(problem("1e309"), JsonProblem::NotFinite);
        assert_eq!(problem("-1e999999999"), JsonProblem::NotFinite);
        for bad in ["01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "Infinity", "NaN", "-00", "1_0"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_are_utf_8_without_surrogates_and_control_characters() {
        for bad in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800x""#, r#""\ud800\n""#] {
            assert_eq!(problem(bad), JsonProblem::LoneSurrogate, "{bad}");
        }
        assert_eq!(problem(b"\"\xed\xa0\x80\""), JsonProblem::NotUtf8);
        assert_eq!(problem(b"\"\xff\""), JsonProblem::NotUtf8);
        assert_eq!(problem("\"\n\""), JsonProblem::Control);
        assert_eq!(problem("\"\0\""), JsonProblem::Control);
        assert_eq!(problem(r#""\x41""#), JsonProblem::Escape);
        assert_eq!(problem(r#""\u00g0""#), JsonProblem::Escape);
        assert_eq!(parse(br#""\u0000\u007f""#), Ok(Value::Text("\0\u{7f}".into())));
    }

    #[test]
    fn marks_and_text_around_the_value_are_refused() {
        assert_eq!(problem("\u{feff}{}"), JsonProblem::ByteOrderMark);
        assert_eq!(problem(" \u{feff}{}"), JsonProblem::Unexpected('\u{feff}'));
        for bad in ["{} x", "{}{}", "{}\0", "1 2", "\"\"\"", "[] ]", "{},"] {
            assert_eq!(problem(bad), JsonProblem::Trailing, "{bad}");
        }
        for bad in ["", " ", "{", "[1,", "\"", "\"\\", "\"\\u00", "tru", "{\"a\"", "{\"a\":", "-"] {
            assert_eq!(problem(bad), JsonProblem::EndsEarly, "{bad}");
        }
        for bad in ["[1,]", "{\"a\":1,}", "{a:1}", "['a']", "[1 2]", "\u{b}1", "\u{a0}1", "/**/1", "True"] {
            assert!(matches!(problem(bad), JsonProblem::Unexpected(_)), "{bad}");
        }
    }

    #[test]
    fn an_object_of_very_many_members_is_read_in_little_time() {
        let members: Vec<String> = (0..100_000).map(|number| format!("\"{number}\":0")).collect();
        let text = format!("{{{}}}", members.join(","));
        let Ok(Value::Object(read)) = parse(text.as_bytes()) else { panic!("refused") };
        assert_eq!(read.len(), 100_000);
        let twice = format!("{{{},\"77\":0}}", members.join(","));
        assert_eq!(problem(twice), JsonProblem::Repeated("77".into()));
    }

    fn same(ours: &Value<'_>, theirs: &serde_json::Value) -> bool {
        match (ours, theirs) {
            (Value::Null, serde_json::Value::Null) => true,
            (Value::Bool(a), serde_json::Value::Bool(b)) => a == b,
            (Value::Number(a), serde_json::Value::Number(b)) => a.parse::<f64>().ok() == b.as_f64(),
            (Value::Text(a), serde_json::Value::String(b)) => a == b,
            (Value::Array(a), serde_json::Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), serde_json::Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(name, a)| b.get(&**name).is_some_and(|b| same(a, b)))
            }
            _ => false,
        }
    }

    fn any_document() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e300f64..1e300).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_valid_document_reads_as_another_reader_reads_it(document in any_document(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let text = text.unwrap();
            let ours = parse(text.as_bytes()).unwrap();
            prop_assert!(same(&ours, &document), "{text}");
        }

        #[test]
        fn what_we_accept_another_reader_accepts_too(text in r#"[\[\]{}",:0-9eE.+\-truefalsn\\u \x00-\x20]{0,40}"#) {
            if let Ok(ours) = parse(text.as_bytes()) {
                let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
                prop_assert!(same(&ours, &theirs), "{text}");
            }
        }

        #[test]
        fn a_changed_document_is_never_read_more_leniently(document in any_document(), at: prop::sample::Index, byte: u8) {
            let mut text = serde_json::to_vec(&document).unwrap();
            let at = at.index(text.len());
            text[at] = byte;
            if parse(&text).is_ok() {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
