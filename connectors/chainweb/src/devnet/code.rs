//! The part of Pact that anchoring needs: constants, `(read-msg)` and `(+ integer integer)`.
//!
//! Everything else parses, and fails when it is executed, as a call of an unknown module does on a node.

use super::decimal::{Decimal, balance_json, integer_json};
use super::json::{Json, quoted};
use super::value::pact_value;

/// Deepest nesting of forms that is parsed.
const MAX_DEPTH: usize = 128;

/// Looks up what an account has, in 10^-12 of the coin.
pub(super) type Balances<'a> = &'a dyn Fn(&str) -> Option<u128>;

/// What a program sees beside itself.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The data of its command.
    pub(super) data: &'a Json,
    /// What `coin.get-balance` looks into; in blocks it is not executed.
    pub(super) balances: Option<Balances<'a>>,
}

/// Gas of one `coin.get-balance`, as recorded on a node.
const BALANCE_GAS: u64 = 15;

/// A parsed program: one or more forms, of which the last is the result.
pub(super) struct Program(Vec<Form>);

enum Form {
    Integer(String),
    Decimal(String),
    Text(String),
    Bool(bool),
    Name(String),
    Call(Vec<Form>),
    /// A list or an object literal: it parses, and is not executed here.
    Literal,
}

/// Why an execution failed: the parts of the node's error object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: &'static str,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn eval(message: impl Into<String>) -> Self {
        Self { kind: "EvalError", message: message.into() }
    }

    /// The `result` member of a command result.
    pub(super) fn json(&self) -> String {
        format!(
            "{{\"status\":\"failure\",\"error\":{{\"callStack\":[],\"type\":\"{}\",\"message\":{},\"info\":\"<toplevel>:0\"}}}}",
            self.kind,
            quoted(&self.message)
        )
    }
}

impl Program {
    /// Parses `code`.
    ///
    /// # Errors
    /// The node's text for a syntax error. Also for code without any form: a node accepts that and then stops
    /// making blocks, so this network refuses it.
    pub(super) fn parse(code: &str) -> Result<Self, String> {
        let mut parser = Parser { code, at: 0 };
        let mut forms = Vec::new();
        while let Some(next) = parser.next_token() {
            forms.push(parser.form(next, 0)?);
        }
        if forms.is_empty() {
            return Err("Pact parse error: empty code, which stops a node from making blocks".into());
        }
        Ok(Self(forms))
    }

    /// Executes the program. Returns the value as the node writes it in JSON.
    pub(super) fn execute(&self, around: Around<'_>) -> Result<String, Failure> {
        let mut value = String::new();
        for form in &self.0 {
            value = form.evaluate(around)?;
        }
        Ok(value)
    }

    /// Gas of the evaluation alone: less than one unit for what is executed here, but for balances.
    pub(super) fn gas(&self) -> u64 {
        let is_balance = |form: &&Form| matches!(form, Form::Call(forms) if is_get_balance(forms).is_some());
        let balances = u64::try_from(self.0.iter().filter(is_balance).count()).unwrap_or(u64::MAX);
        let has_call = self.0.iter().any(|form| matches!(form, Form::Call(_)));
        if balances > 0 { balances.saturating_mul(BALANCE_GAS) } else { u64::from(has_call) }
    }
}

impl Form {
    fn evaluate(&self, around: Around<'_>) -> Result<String, Failure> {
        let too_large = || Failure::eval("number out of range");
        match self {
            Self::Integer(digits) => integer_json(digits).ok_or_else(too_large),
            Self::Decimal(text) => Ok(Decimal::parse(text).ok_or_else(too_large)?.json()),
            Self::Text(text) => Ok(quoted(text)),
            Self::Bool(value) => Ok(value.to_string()),
            Self::Name(name) => Err(unsupported(name)),
            Self::Literal => Err(unsupported("list or object")),
            Self::Call(forms) => call(forms, around),
        }
    }
}

/// The account in `(coin.get-balance "account")`.
fn is_get_balance(forms: &[Form]) -> Option<&str> {
    match forms {
        [Form::Name(name), Form::Text(account)] if name == "coin.get-balance" => Some(account),
        _ => None,
    }
}

fn call(forms: &[Form], around: Around<'_>) -> Result<String, Failure> {
    if let (Some(account), Some(balances)) = (is_get_balance(forms), around.balances) {
        let none = || Failure::eval(format!("No value found in table coin_coin-table for key: {account}"));
        return balances(account).map(balance_json).ok_or_else(none);
    }
    let data = around.data;
    match forms {
        [Form::Name(name)] if name == "read-msg" => pact_value(data).map_err(Failure::eval),
        [Form::Name(name), Form::Text(key)] if name == "read-msg" => match data.get(key) {
            Some(value) => pact_value(value).map_err(Failure::eval),
            None => Err(Failure::eval(format!("No such key in message: {key}"))),
        },
        [Form::Name(name), Form::Integer(left), Form::Integer(right)] if name == "+" => {
            let sum = left.parse::<i128>().ok().zip(right.parse().ok()).and_then(|(l, r)| l.checked_add(r));
            let sum = sum.ok_or_else(|| Failure::eval("number out of range"))?;
            integer_json(&sum.to_string()).ok_or_else(|| Failure::eval("number out of range"))
        }
        [Form::Name(name), ..] => match name.rsplit_once('.') {
            Some((module, member)) => {
                Err(Failure::eval(format!("Module {module} has no such member: {member}")))
            }
            None => Err(unsupported(name)),
        },
        _ => Err(unsupported("form")),
    }
}

fn unsupported(what: &str) -> Failure {
    Failure::eval(format!(
        "the development network executes constants, read-msg and + of integers only: {what}"
    ))
}

struct Parser<'a> {
    code: &'a str,
    at: usize,
}

impl Parser<'_> {
    /// Skips space and comments; the next character, if any.
    fn next_token(&mut self) -> Option<char> {
        loop {
            let rest = &self.code[self.at..];
            let next = rest.chars().next()?;
            if next.is_whitespace() {
                self.at += next.len_utf8();
            } else if next == ';' {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else {
                return Some(next);
            }
        }
    }

    fn form(&mut self, next: char, depth: usize) -> Result<Form, String> {
        if depth > MAX_DEPTH {
            return Err(format!("Pact parse error: nesting deeper than {MAX_DEPTH}"));
        }
        match next {
            '(' => self.sequence(')', depth).map(Form::Call),
            '[' => self.sequence(']', depth).map(|_| Form::Literal),
            '{' => self.sequence('}', depth).map(|_| Form::Literal),
            '"' => self.text().map(Form::Text),
            '\'' => {
                self.at += 1;
                match self.word() {
                    "" => Err("Pact parse error: Expected: [identifier]".into()),
                    name => Ok(Form::Text(name.to_owned())),
                }
            }
            // Punctuation of objects, types and lists: only ever inside of a form that is not executed.
            ',' | ':' | '@' if depth > 0 => {
                self.at += 1;
                Ok(Form::Literal)
            }
            ')' | ']' | '}' => Err(format!("Pact parse error: Unexpected token: {next}")),
            _ => match self.word() {
                "" => Err(format!("Pact parse error: Unexpected token: {next}")),
                word => Ok(atom(word)),
            },
        }
    }

    fn sequence(&mut self, end: char, depth: usize) -> Result<Vec<Form>, String> {
        self.at += 1;
        let mut forms = Vec::new();
        loop {
            match self.next_token() {
                None => return Err(format!("Pact parse error: Expected: ['{end}']")),
                Some(next) if next == end => {
                    self.at += 1;
                    return Ok(forms);
                }
                Some(next) => forms.push(self.form(next, depth + 1)?),
            }
        }
    }

    fn word(&mut self) -> &str {
        let rest = &self.code[self.at..];
        let is_end = |c: char| c.is_whitespace() || "()[]{}\"',:;@".contains(c);
        let word = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn text(&mut self) -> Result<String, String> {
        let unfinished = || "Pact parse error: Lexical error: unterminated string".to_owned();
        self.at += 1;
        let mut out = String::new();
        let mut characters = self.code[self.at..].char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += offset + 1;
                    return Ok(out);
                }
                '\\' => match characters.next().ok_or_else(unfinished)?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    escaped @ ('"' | '\\' | '\'') => out.push(escaped),
                    other => {
                        return Err(format!(
                            "Pact parse error: Lexical error: escape {}",
                            quoted(&other.to_string())
                        ));
                    }
                },
                '\n' => return Err(unfinished()),
                other => out.push(other),
            }
        }
        Err(unfinished())
    }
}

fn atom(word: &str) -> Form {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match word {
        "true" => Form::Bool(true),
        "false" => Form::Bool(false),
        _ if is_digits(digits) => Form::Integer(word.to_owned()),
        _ => match digits.split_once('.') {
            Some((whole, fraction)) if is_digits(whole) && is_digits(fraction) => {
                Form::Decimal(word.to_owned())
            }
            _ => Form::Name(word.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::parse;
    use super::*;

    fn run(code: &str) -> Result<String, String> {
        let data = parse(r#"{"killick":"killick/1 sha256 3 root","n":1e-7}"#).unwrap();
        let balances = |account: &str| (account == "rich").then_some(99_999_925_000_000);
        let around = Around { data: &data, balances: Some(&balances) };
        Program::parse(code)?.execute(around).map_err(|failure| failure.message)
    }

    #[test]
    fn constants_and_data_are_results() {
        let cases = [
            ("1", r#"{"int":1}"#),
            ("-17 ; a comment", r#"{"int":-17}"#),
            ("1.50", "1.5"),
            ("true", "true"),
            ("\"availability probe\"", "\"availability probe\""),
            ("'name", "\"name\""),
            ("(+ 1 1)", r#"{"int":2}"#),
            ("(read-msg 'killick)", "\"killick/1 sha256 3 root\""),
            ("(read-msg \"killick\")", "\"killick/1 sha256 3 root\""),
            ("1 2\n3", r#"{"int":3}"#),
        ];
        for (code, value) in cases {
            assert_eq!(run(code), Ok(value.to_owned()), "{code}");
        }
        assert!(run("(read-msg)").unwrap().contains("1.0e-7"));
    }

    #[test]
    fn a_balance_is_looked_up_where_there_are_balances() {
        assert_eq!(run("(coin.get-balance \"rich\")"), Ok("99.999925".into()));
        assert_eq!(
            run("(coin.get-balance 'nobody)"),
            Err("No value found in table coin_coin-table for key: nobody".into())
        );
        let program = Program::parse("(coin.get-balance \"rich\")").unwrap();
        let around = Around { data: &Json::Null, balances: None };
        assert_eq!(
            program.execute(around).unwrap_err().message,
            "Module coin has no such member: get-balance"
        );
        let gas = |code| Program::parse(code).unwrap().gas();
        assert_eq!((gas("1 2 \"three\""), gas("(+ 1 1)"), program.gas()), (0, 1, 15));
    }

    #[test]
    fn what_is_not_executed_fails_like_an_unknown_member() {
        assert_eq!(
            run("(free.nothing.record 1)"),
            Err("Module free.nothing has no such member: record".into())
        );
        for code in [
            "(enforce false \"boom\")",
            "[1, 2]",
            "{\"a\": 1}",
            "name",
            "((f) 1)",
            "(read-msg 'none)",
            "()",
            "(+ 1 \"a\")",
        ] {
            assert!(Program::parse(code).is_ok(), "{code}");
            assert!(run(code).is_err(), "{code}");
        }
    }

    #[test]
    fn syntax_errors_are_found_before_anything_runs() {
        assert_eq!(Program::parse("(+ 1 ").err(), Some("Pact parse error: Expected: [')']".into()));
        let deep = "(".repeat(100_000);
        for code in ["", " ; nothing", ")", "\"open", "\"a\\", "'", "@", "1)", &deep] {
            assert!(Program::parse(code).is_err(), "{code}");
        }
    }
}
