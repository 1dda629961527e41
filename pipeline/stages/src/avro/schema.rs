//! Avro schemas of others (Avro 1.12 specification, "Schema Declaration"), as far as reading their data needs them.
//!
//! Written by hand like the codec beside it: what is read by these schemas comes from anyone, and complete
//! implementations recurse as deep as the data says and take data that ends early for nulls. Names, defaults and aliases
//! matter to a reader's schema; here only names do, since ours is the only reader's schema there is.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Bytes in the longest schema, with all that it refers to.
pub const MAX_TEXT: usize = 1 << 20;
/// Types in the largest schema.
const MAX_NODES: usize = 1 << 16;

/// A schema that data can be read by.
#[derive(Debug, Clone)]
pub struct Schema {
    nodes: Vec<Node>,
    root: NodeId,
}

/// A type's place in its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(usize);

/// A type.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Null,
    Boolean,
    Int,
    Long(Option<Unit>),
    Float,
    Double,
    Bytes,
    String,
    Fixed { name: Box<str>, size: usize, is_uuid: bool },
    Enum(Box<[Box<str>]>),
    Array(NodeId),
    Map(NodeId),
    Union(Box<[NodeId]>),
    Record { name: Box<str>, fields: Box<[Field]> },
}

/// A field of a record.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) node: NodeId,
}

/// What a `long` counts since 1970 (the logical types `timestamp-…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// A text that is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is no JSON, or nested too deep.
    #[error("no JSON: {0}")]
    Json(String),
    /// More than any schema needs.
    #[error("{found} {what}; at most {most} are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is at least.
        found: usize,
        /// How much is read.
        most: usize,
    },
    /// A type's definition lacks something, or has something else there.
    #[error("a type `{kind}` without `{member}`, or with a wrong one")]
    Member {
        /// What is being defined.
        kind: Box<str>,
        /// What it lacks.
        member: &'static str,
    },
    /// A name that nothing before it defines.
    #[error("no type `{0}`")]
    Unknown(Box<str>),
    /// A name that is defined twice: a type, or a field of one record.
    #[error("`{0}` is defined twice")]
    Twice(Box<str>),
    /// JSON that cannot be a type: a number, for one.
    #[error("{0} is no type")]
    NoType(Box<str>),
}

impl Schema {
    /// Reads a schema: the last text, behind all those that it refers to.
    ///
    /// # Errors
    /// [`SchemaError`].
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, SchemaError> {
        let length = texts.iter().map(|text| text.as_ref().len()).sum();
        if length > MAX_TEXT {
            return Err(SchemaError::TooLarge { what: "bytes", found: length, most: MAX_TEXT });
        }
        let mut parser = Parser { nodes: Vec::new(), names: HashMap::new() };
        let mut root = None;
        for text in texts {
            let json: Value =
                serde_json::from_str(text.as_ref()).map_err(|error| SchemaError::Json(error.to_string()))?;
            root = Some(parser.any(&json, "")?);
        }
        let root = root.ok_or_else(|| SchemaError::Json("no text".to_owned()))?;
        Ok(Self { nodes: parser.nodes, root })
    }

    /// The type of a whole datum.
    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    /// The type at a place: ids come from this schema alone.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The types that a value of this one may have: itself, or the branches of a union.
    pub(crate) fn branches<'s>(&'s self, id: &'s NodeId) -> impl Iterator<Item = &'s Node> {
        let ids = match self.node(*id) {
            Node::Union(branches) => &**branches,
            _ => std::slice::from_ref(id),
        };
        ids.iter().map(|id| self.node(*id))
    }

    /// Whether data of this schema is byte for byte data of `other`, field by field.
    pub fn writes_like(&self, other: &Self) -> bool {
        same(self, self.root, other, other.root, 32)
    }
}

/// Whether two types write alike. A schema that refers to itself has no end, and so is like no other.
fn same(one: &Schema, left: NodeId, other: &Schema, right: NodeId, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let same = |left: &NodeId, right: &NodeId| same(one, *left, other, *right, depth);
    match (one.node(left), other.node(right)) {
        (Node::Null, Node::Null)
        | (Node::Boolean, Node::Boolean)
        | (Node::Int, Node::Int)
        | (Node::Float, Node::Float)
        | (Node::Double, Node::Double)
        | (Node::Bytes, Node::Bytes)
        | (Node::String, Node::String) => true,
        (Node::Long(left), Node::Long(right)) => left == right,
        (Node::Fixed { size: left, .. }, Node::Fixed { size: right, .. }) => left == right,
        (Node::Enum(left), Node::Enum(right)) => left == right,
        (Node::Array(left), Node::Array(right)) | (Node::Map(left), Node::Map(right)) => same(left, right),
        (Node::Union(left), Node::Union(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Node::Record { fields: left, .. }, Node::Record { fields: right, .. }) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| left.name == right.name && same(&left.node, &right.node))
        }
        _ => false,
    }
}

/// Reads types in the order of their text: a name counts from its definition on.
struct Parser {
    nodes: Vec<Node>,
    /// By full name: the namespace, a dot, the name.
    names: HashMap<String, NodeId>,
}

impl Parser {
    fn add(&mut self, node: Node) -> Result<NodeId, SchemaError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(SchemaError::TooLarge { what: "types", found: MAX_NODES + 1, most: MAX_NODES });
        }
        self.nodes.push(node);
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// Any type. It recurses as deep as the JSON is nested, and that is bounded by who read it.
    fn any(&mut self, json: &Value, namespace: &str) -> Result<NodeId, SchemaError> {
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.any(branch, namespace));
                let branches = branches.collect::<Result<_, _>>()?;
                self.add(Node::Union(branches))
            }
            Value::Object(object) => self.object(object, namespace),
            other => Err(SchemaError::NoType(other.to_string().into())),
        }
    }

    /// A primitive type, or one defined before.
    fn named(&mut self, name: &str, namespace: &str) -> Result<NodeId, SchemaError> {
        let primitive = match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" => Node::Int,
            "long" => Node::Long(None),
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::String,
            _ => {
                let full = self.names.get(&full_name(name, namespace));
                // As others do: a name that its namespace does not have may be one without a namespace.
                let found = full.or_else(|| self.names.get(name));
                return found.copied().ok_or_else(|| SchemaError::Unknown(name.into()));
            }
        };
        self.add(primitive)
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<NodeId, SchemaError> {
        let known = self.nodes.len();
        let id = match object.get("type") {
            Some(Value::String(kind)) => self.kind(kind, object, namespace)?,
            Some(nested) => self.any(nested, namespace)?,
            None => return Err(SchemaError::Member { kind: "".into(), member: "type" }),
        };
        // What a name stands for keeps the meaning it was defined with.
        if id.0 >= known {
            self.refine(id, object);
        }
        Ok(id)
    }

    fn kind(
        &mut self,
        kind: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<NodeId, SchemaError> {
        let wrong = |member| SchemaError::Member { kind: kind.into(), member };
        match kind {
            "record" | "error" => self.record(object, namespace),
            "enum" => {
                let symbols =
                    object.get("symbols").and_then(Value::as_array).ok_or_else(|| wrong("symbols"))?;
                let symbols = symbols.iter().map(|symbol| symbol.as_str().map(Into::into));
                let symbols = symbols.collect::<Option<_>>().ok_or_else(|| wrong("symbols"))?;
                let (name, _) = full_name_of(object, namespace).ok_or_else(|| wrong("name"))?;
                let id = self.add(Node::Enum(symbols))?;
                self.define(name, id)
            }
            "fixed" => {
                let size =
                    object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| wrong("size"))?;
                let (full, _) = full_name_of(object, namespace).ok_or_else(|| wrong("name"))?;
                let id = self.add(Node::Fixed { name: last_part(&full).into(), size, is_uuid: false })?;
                self.define(full, id)
            }
            "array" | "map" => {
                let member = if kind == "array" { "items" } else { "values" };
                let inner = self.any(object.get(member).ok_or_else(|| wrong(member))?, namespace)?;
                self.add(if kind == "array" { Node::Array(inner) } else { Node::Map(inner) })
            }
            name => self.named(name, namespace),
        }
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<NodeId, SchemaError> {
        let wrong = |member| SchemaError::Member { kind: "record".into(), member };
        let (full, namespace) = full_name_of(object, namespace).ok_or_else(|| wrong("name"))?;
        // Its fields may refer to it: its place is known before they are.
        let id = self.add(Node::Null)?;
        let name = last_part(&full).into();
        self.define(full, id)?;
        let mut fields: Vec<Field> = Vec::new();
        for field in object.get("fields").and_then(Value::as_array).ok_or_else(|| wrong("fields"))? {
            let name = field.get("name").and_then(Value::as_str).ok_or_else(|| wrong("name"))?;
            let node = self.any(field.get("type").ok_or_else(|| wrong("type"))?, &namespace)?;
            fields.push(Field { name: name.into(), node });
        }
        let mut names: Vec<&str> = fields.iter().map(|field| &*field.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SchemaError::Twice(twice[0].into()));
        }
        self.nodes[id.0] = Node::Record { name, fields: fields.into() };
        Ok(id)
    }

    fn define(&mut self, name: String, id: NodeId) -> Result<NodeId, SchemaError> {
        match self.names.insert(name.clone(), id) {
            None => Ok(id),
            Some(_) => Err(SchemaError::Twice(name.into())),
        }
    }

    /// Adds what a logical type says, where it changes how a value is understood; unknown ones are ignored.
    fn refine(&mut self, id: NodeId, object: &Map<String, Value>) {
        let Some(Value::String(logical)) = object.get("logicalType") else { return };
        match (&mut self.nodes[id.0], logical.as_str()) {
            (Node::Long(unit), "timestamp-millis") => *unit = Some(Unit::Millis),
            (Node::Long(unit), "timestamp-micros") => *unit = Some(Unit::Micros),
            (Node::Long(unit), "timestamp-nanos") => *unit = Some(Unit::Nanos),
            (Node::Fixed { size: 16, is_uuid, .. }, "uuid") => *is_uuid = true,
            _ => {}
        }
    }
}

/// A defined type's full name, and the namespace of what is defined within it.
fn full_name_of(object: &Map<String, Value>, enclosing: &str) -> Option<(String, String)> {
    let name = object.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())?;
    let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(enclosing);
    let full = full_name(name, namespace);
    let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
    Some((full, namespace))
}

fn full_name(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// A name without its namespace: so names are compared when one schema is read as another.
fn last_part(full: &str) -> &str {
    full.rsplit_once('.').map_or(full, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schema, SchemaError> {
        Schema::parse(&[text])
    }

    #[test]
    fn names_are_found_in_their_namespace_and_from_their_definition_on() {
        for fine in [
            r#""string""#,
            r#"{"type": {"type": "long", "logicalType": "timestamp-millis"}}"#,
            r#"{"type": "record", "name": "a.b.List", "fields": [{"name": "next", "type": ["null", "List"]}]}"#,
            r#"{"type": "record", "name": "R", "namespace": "a", "fields": [
                {"name": "x", "type": {"type": "fixed", "name": "F", "size": 2}},
                {"name": "y", "type": "a.F"}, {"name": "z", "type": {"type": "F"}}]}"#,
            r#"[{"type": "enum", "name": "E", "symbols": []}, {"type": "map", "values": "E"}]"#,
            r#"{"type": "record", "name": "Plain", "fields": [{"name": "inner", "type":
                {"type": "record", "name": "a.Inner", "fields": [{"name": "up", "type": {"type": "array", "items": "Plain"}}]}}]}"#,
        ] {
            parse(fine).unwrap_or_else(|error| panic!("{fine}: {error}"));
        }
        let unknown = |name: &str| Err(SchemaError::Unknown(name.into()));
        assert_eq!(parse(r#""strnig""#).map(drop), unknown("strnig"));
        assert_eq!(parse(r#"["F", {"type": "fixed", "name": "F", "size": 2}]"#).map(drop), unknown("F"));
        let other = r#"[{"type": "fixed", "name": "a.F", "size": 2}, {"type": "array", "items": "b.F"}]"#;
        assert_eq!(parse(other).map(drop), unknown("b.F"));
    }

    #[test]
    fn a_schema_may_stand_behind_those_it_refers_to() {
        let site = r#"{"type": "record", "name": "Site", "namespace": "plant", "fields": []}"#;
        let reading =
            r#"{"type": "record", "name": "plant.Reading", "fields": [{"name": "site", "type": "Site"}]}"#;
        assert!(Schema::parse(&[site, reading]).is_ok());
        assert_eq!(Schema::parse(&[reading]).map(drop), Err(SchemaError::Unknown("Site".into())));
        assert_eq!(Schema::parse(&[site, site]).map(drop), Err(SchemaError::Twice("plant.Site".into())));
    }

    #[test]
    fn what_is_no_schema_says_why() {
        let member = |kind: &str, member| SchemaError::Member { kind: kind.into(), member };
        for (text, error) in [
            ("7", SchemaError::NoType("7".into())),
            ("{}", member("", "type")),
            (r#"{"type": "fixed", "name": "F"}"#, member("fixed", "size")),
            (r#"{"type": "fixed", "name": "F", "size": -1}"#, member("fixed", "size")),
            (r#"{"type": "fixed", "size": 1}"#, member("fixed", "name")),
            (r#"{"type": "enum", "name": "E", "symbols": [1]}"#, member("enum", "symbols")),
            (r#"{"type": "array"}"#, member("array", "items")),
            (r#"{"type": "record", "name": "R"}"#, member("record", "fields")),
            (r#"{"type": "record", "name": "", "fields": []}"#, member("record", "name")),
            (r#"{"type": "record", "name": "R", "fields": [{"name": "x"}]}"#, member("record", "type")),
            (
                r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}, {"name": "x", "type": "int"}]}"#,
                SchemaError::Twice("x".into()),
            ),
        ] {
            assert_eq!(parse(text).map(drop), Err(error), "{text}");
        }
        assert!(matches!(parse("{"), Err(SchemaError::Json(_))));
        assert!(matches!(Schema::parse::<&str>(&[]), Err(SchemaError::Json(_))));
    }

    #[test]
    fn a_schema_too_large_or_too_deep_is_refused() {
        let deep = format!("{}\"int\"{}", r#"{"type": "array", "items": "#.repeat(200), "}".repeat(200));
        assert!(matches!(parse(&deep), Err(SchemaError::Json(_))));
        let wide = format!("[{}\"int\"]", "\"int\",".repeat(MAX_NODES));
        assert!(matches!(parse(&wide), Err(SchemaError::TooLarge { what: "types", .. })));
        let long = format!("\"{}\"", " ".repeat(MAX_TEXT));
        assert!(matches!(parse(&long), Err(SchemaError::TooLarge { what: "bytes", .. })));
    }

    #[test]
    fn a_schema_writes_like_another_if_its_fields_do() {
        let ours =
            parse(r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": ["null", "int"]}]}"#);
        let ours = ours.unwrap();
        for (other, is_like) in [
            (
                r#"{"type": "record", "name": "S", "fields": [{"name": "x", "type": ["null", "int"], "default": null}]}"#,
                true,
            ),
            (r#"{"type": "record", "name": "R", "fields": [{"name": "y", "type": ["null", "int"]}]}"#, false),
            (r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": ["int", "null"]}]}"#, false),
            (r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}"#, false),
            (r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": ["null", "R"]}]}"#, false),
        ] {
            assert_eq!(parse(other).unwrap().writes_like(&ours), is_like, "{other}");
        }
        let list = r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": ["null", "R"]}]}"#;
        assert!(!parse(list).unwrap().writes_like(&parse(list).unwrap()));
    }
}
