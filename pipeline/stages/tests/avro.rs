//! The reader of other people's Avro against a complete implementation, and against bytes that are none.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use apache_avro::Schema as Complete;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use killick_stages::avro::datum::{Pointer, Scalar, find};
use killick_stages::avro::schema::Schema;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// Tokens of a pointer, and the value there as [`shown`] writes it.
type Place = Option<(Vec<String>, String)>;

/// A type in JSON, a value of it, and the place of one of its scalars with what stands there.
#[derive(Debug, Clone)]
struct Case {
    kind: Json,
    value: Value,
    /// None if it holds no scalar.
    place: Place,
}

fn scalar(kind: Json, value: Value, shown: impl Into<String>) -> Case {
    Case { kind, value, place: Some((Vec::new(), shown.into())) }
}

fn shown(found: Scalar<'_>) -> String {
    match found {
        Scalar::Null => "null".to_owned(),
        Scalar::Number(number, _) => number.to_string(),
        Scalar::Text(text) => format!("{text:?}"),
        Scalar::Bytes(bytes) => format!("{bytes:?}"),
        Scalar::Uuid(bytes) => format!("{bytes:?}"),
        Scalar::Other => "other".to_owned(),
    }
}

fn leaf() -> impl Strategy<Value = Case> {
    prop_oneof![
        Just(scalar(json!("null"), Value::Null, "null")),
        any::<bool>().prop_map(|value| scalar(json!("boolean"), Value::Boolean(value), "other")),
        any::<i32>().prop_map(|value| scalar(json!("int"), Value::Int(value), value.to_string())),
        any::<i64>().prop_map(|value| scalar(json!("long"), Value::Long(value), value.to_string())),
        any::<f32>().prop_map(|value| scalar(json!("float"), Value::Float(value), "other")),
        any::<f64>().prop_map(|value| scalar(json!("double"), Value::Double(value), "other")),
        ".{0,20}".prop_map(|value| scalar(
            json!("string"),
            Value::String(value.clone()),
            format!("{value:?}")
        )),
        vec(any::<u8>(), 0..40).prop_map(|value| {
            let shown = format!("{value:?}");
            scalar(json!("bytes"), Value::Bytes(value), shown)
        }),
        vec(any::<u8>(), 1..40).prop_map(|value| {
            let kind = json!({"type": "fixed", "name": "NAME", "size": value.len()});
            let shown = format!("{value:?}");
            scalar(kind, Value::Fixed(value.len(), value), shown)
        }),
        (0..3_u32).prop_map(|index| {
            let symbol = ["A", "B", "C"][index as usize];
            let kind = json!({"type": "enum", "name": "NAME", "symbols": ["A", "B", "C"]});
            scalar(kind, Value::Enum(index, symbol.to_owned()), format!("{symbol:?}"))
        }),
    ]
}

fn within(token: String, place: &Place) -> Place {
    place.as_ref().map(|(tokens, shown)| ([vec![token], tokens.clone()].concat(), shown.clone()))
}

fn any_case() -> impl Strategy<Value = Case> {
    leaf().prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            // A record: any number of fields, one of them the place.
            vec(inner.clone(), 1..5)
                .prop_flat_map(|fields| (Just(fields.clone()), 0..fields.len()))
                .prop_map(|(fields, chosen)| {
                    let name = |index: usize| format!("f{index}");
                    let field =
                        |(index, field): (usize, &Case)| json!({"name": name(index), "type": field.kind});
                    let kinds: Vec<_> = fields.iter().enumerate().map(field).collect();
                    let place = within(name(chosen), &fields[chosen].place);
                    let values =
                        fields.into_iter().enumerate().map(|(index, field)| (name(index), field.value));
                    let kind = json!({"type": "record", "name": "NAME", "fields": kinds});
                    Case { kind, value: Value::Record(values.collect()), place }
                }),
            // An array of one value, several times.
            (inner.clone(), 0..5_usize, 0..5_usize).prop_map(|(item, count, chosen)| {
                let place = within(chosen.to_string(), &item.place).filter(|_| chosen < count);
                let value = Value::Array(vec![item.value; count]);
                Case { kind: json!({"type": "array", "items": item.kind}), value, place }
            }),
            // A map of one value under several keys.
            (inner.clone(), btree_map("[a-z/~]{1,5}", Just(()), 0..4)).prop_map(|(item, keys)| {
                let place = keys.keys().next().and_then(|key| within(key.clone(), &item.place));
                let pairs = keys.into_keys().map(|key| (key, item.value.clone())).collect();
                Case { kind: json!({"type": "map", "values": item.kind}), value: Value::Map(pairs), place }
            }),
            // A union with null, on either side.
            (inner, any::<bool>()).prop_filter_map(
                "a union holds neither unions nor null twice",
                |(item, is_first)| {
                    let is_fine = item.kind != json!("null") && !item.kind.is_array();
                    let (kinds, branch) = match is_first {
                        true => (json!([item.kind, "null"]), 0),
                        false => (json!(["null", item.kind]), 1),
                    };
                    let value = Value::Union(branch, Box::new(item.value));
                    is_fine.then_some(Case { kind: kinds, value, place: item.place })
                }
            ),
        ]
    })
}

/// Gives each named type a name of its own.
fn name(kind: &mut Json, count: &mut usize) {
    match kind {
        Json::String(text) if text == "NAME" => {
            *count += 1;
            *text = format!("N{count}");
        }
        Json::Array(all) => all.iter_mut().for_each(|kind| name(kind, count)),
        Json::Object(members) => members.values_mut().for_each(|kind| name(kind, count)),
        _ => {}
    }
}

fn written(mut case: Case) -> (String, Vec<u8>, Place) {
    name(&mut case.kind, &mut 0);
    let text = case.kind.to_string();
    let complete = Complete::parse_str(&text).unwrap();
    let writer = GenericDatumWriter::builder(&complete).build().unwrap();
    (text, writer.write_value_to_vec(case.value).unwrap(), case.place)
}

fn pointer(tokens: &[String]) -> Pointer {
    Pointer::of(&tokens.iter().map(String::as_str).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn what_a_complete_implementation_writes_is_found_at_its_place(case in any_case()) {
        let (text, bytes, place) = written(case);
        let schema = Schema::parse(&[&text]).unwrap();
        let (tokens, expected) = place.unwrap_or_default();
        let at = pointer(&tokens);
        let [found] = find(&schema, &bytes, [Some(&at)]).unwrap();
        if !expected.is_empty() {
            prop_assert_eq!(shown(found.unwrap()), expected);
            prop_assert!(at.leads_to_a_value(&schema) || found == Some(Scalar::Null));
        }
        // No part of it is the whole of anything, nor does anything fit behind it.
        for length in 0..bytes.len() {
            prop_assert!(find(&schema, &bytes[..length], [Some(&at)]).is_err(), "{} of {}", length, text);
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert!(find(&schema, &longer, [Some(&at)]).is_err());
    }

    #[test]
    fn no_bytes_break_the_reader(case in any_case(), noise in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (text, mut bytes, place) = written(case);
        for (index, byte) in noise {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        let schema = Schema::parse(&[text]).unwrap();
        let _ = find(&schema, &bytes, [Some(&pointer(&place.unwrap_or_default().0))]);
    }

    #[test]
    fn no_bytes_break_the_reader_of_a_schema_that_refers_to_itself(bytes in vec(any::<u8>(), 0..400)) {
        let text = r#"{"type": "record", "name": "N", "fields": [
            {"name": "left", "type": ["null", "N"]}, {"name": "more", "type": {"type": "array", "items": "N"}},
            {"name": "by", "type": {"type": "map", "values": ["null", "N", "string"]}}, {"name": "none", "type": "null"}]}"#;
        let schema = Schema::parse(&[text]).unwrap();
        let _ = find(&schema, &bytes, [Some(&Pointer::of(&["left", "more", "0"])), None]);
    }

    #[test]
    fn no_text_breaks_the_reader_of_schemas(case in any_case(), at in any::<prop::sample::Index>(), with in "\\PC{0,3}") {
        let text = case.kind.to_string();
        let at = text.floor_char_boundary(at.index(text.len()));
        let _ = Schema::parse(&[format!("{}{with}{}", &text[..at], &text[at..])]);
        let _ = Schema::parse(&[&text[..at]]);
    }
}
