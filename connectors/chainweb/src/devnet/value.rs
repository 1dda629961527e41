//! Pact values as JSON: what `read-msg` makes of the data that came with a command.
//!
//! Objects come back in the node's own order of keys: the iteration order of a hash map of an old version of
//! its libraries (FNV-1 over UTF-16, tries of 16). The order is part of the bytes that are proven, so it is
//! rebuilt here; all recorded objects of a live node agree.

use crate::json::write_string;

use super::decimal::{Decimal, integer_json};
use super::json::Json;

/// Writes `data` as the Pact value it reads as. Bare numbers are decimals; `{"int":n}` and `{"decimal":"n"}`
/// are what they say.
///
/// # Errors
/// The reason, for a number beyond what is computed with.
pub(super) fn pact_value(data: &Json) -> Result<String, String> {
    let mut out = String::new();
    push_value(&mut out, data)?;
    Ok(out)
}

fn push_value(out: &mut String, data: &Json) -> Result<(), String> {
    match data {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(text) => out.push_str(&decimal(text)?),
        Json::Text(text) => write_string(out, text),
        Json::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_value(out, item)?;
            }
            out.push(']');
        }
        Json::Map(members) => match tagged_number(members) {
            Some(number) => out.push_str(&number),
            None => push_object(out, members)?,
        },
    }
    Ok(())
}

fn push_object(out: &mut String, members: &[(String, Json)]) -> Result<(), String> {
    let mut ordered: Vec<_> = members.iter().collect();
    ordered.sort_by_key(|(key, _)| hash_map_position(key));
    out.push('{');
    for (index, (key, value)) in ordered.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        push_value(out, value)?;
    }
    out.push('}');
    Ok(())
}

fn decimal(text: &str) -> Result<String, String> {
    let number = Decimal::parse(text).ok_or_else(|| format!("number out of range: {text}"))?;
    Ok(number.json())
}

/// The number that an object like `{"int":7}` or `{"decimal":"0.5"}` stands for.
fn tagged_number(members: &[(String, Json)]) -> Option<String> {
    let [(key, value)] = members else { return None };
    let text = match value {
        Json::Number(text) => text,
        Json::Text(text) => text.as_str(),
        _ => return None,
    };
    match key.as_str() {
        "int" => integer_json(text),
        "decimal" => Decimal::parse(text).map(|number| number.json()),
        _ => None,
    }
}

/// Where a key stands among others in the node's hash maps.
pub(super) fn hash_map_position(key: &str) -> u64 {
    const SALT: u64 = 0xdc36_d161_5b74_00a4;
    const PRIME: u64 = 16_777_619;
    let bytes = key.encode_utf16().flat_map(u16::to_le_bytes);
    let hash = bytes.fold(SALT, |hash, byte| hash.wrapping_mul(PRIME) ^ u64::from(byte));
    // The trie branches by four bits at a time, the lowest first.
    (0..16).fold(0, |position, level| (position << 4) | ((hash >> (4 * level)) & 0xf))
}

#[cfg(test)]
mod tests {
    use super::super::json::parse;
    use super::*;

    #[test]
    fn data_comes_back_as_recorded_on_a_node() {
        let data = r#"{"a":[1,1.0,1.50,1e3,1e21,1e-7,-0.0,9007199254740993,0.12345678901234567,123456789012345678901234567890],"i":{"int":7},"d":{"decimal":"0.5"},"t":{"time":"2026-01-01T00:00:00Z"},"n":null,"b":true,"z":"","o":{"z":1,"a":2,"m":{}}}"#;
        let result = r#"{"z":"","n":null,"a":[1,1,1.5,1000,{"decimal":"1000000000000000000000"},1.0e-7,0,{"decimal":"9007199254740993"},{"decimal":"0.12345678901234567"},{"decimal":"123456789012345678901234567890"}],"d":0.5,"t":{"time":"2026-01-01T00:00:00Z"},"o":{"z":1,"m":{},"a":2},"b":true,"i":{"int":7}}"#;
        assert_eq!(pact_value(&parse(data).unwrap()).unwrap(), result);
    }

    #[test]
    fn keys_stand_in_the_recorded_order() {
        let data = parse(r#"{"v":1,"root":"r","size":17}"#).unwrap();
        assert_eq!(pact_value(&data).unwrap(), r#"{"size":17,"root":"r","v":1}"#);
    }
}
