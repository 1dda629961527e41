//! How the records of one source are read: its decoder with everything that the decoder needs, made ready once.

use crate::cloudevents;
use crate::envelope::{self, Envelope, Malformed};
use crate::mapping::Mapper;
use crate::record::Record;
use crate::registry::{Found, Framed, Known, SchemaId, Schemas};
use crate::source::{Decoder, Framing, Source};

/// The way from a record to an event.
#[derive(Debug)]
pub(crate) enum Form {
    /// Our own envelope as we write it, whatever schema the record names.
    Own(Framing),
    /// Avro of the schema that is given or, if none is, that the record names; our own envelope unless it is mapped.
    Avro { framing: Framing, schema: Option<Box<Known>>, mapper: Option<Mapper> },
    /// CloudEvents.
    CloudEvents,
    /// Anything, or JSON where a pointer wants it.
    Raw(Framing, Mapper),
}

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread<'s> {
    /// It is not what its source takes.
    Malformed(Malformed),
    /// It has to wait for its schema.
    Awaits(SchemaId),
    /// The registry does not have its schema.
    Missing(SchemaId),
    /// Its schema is none that an event can be read by.
    Unfit(SchemaId, &'s str),
}

impl From<Malformed> for Unread<'_> {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Form {
    /// The form of a source; `registry` says whether there is one to ask for schemas.
    ///
    /// # Errors
    /// Settings that do not go together: which, and what to do about it.
    pub(crate) fn new(source: &Source, registry: bool) -> Result<Self, String> {
        let wrong = |why: &str| Err(why.to_owned());
        let Source { framing, .. } = *source;
        let mapper = source.mapping.as_ref().map(Mapper::new).transpose()?;
        if source.schema_file.is_some() && source.decoder != Decoder::Avro {
            return wrong("schema_file is for the decoder avro");
        }
        match source.decoder {
            Decoder::CloudEvents if mapper.is_some() => wrong(
                "a mapping is for the decoders avro and raw: a CloudEvent itself says where its parts are",
            ),
            Decoder::CloudEvents if framing == Framing::Registry => {
                wrong("framing is for the decoders avro and raw: a CloudEvent's data is taken as it is")
            }
            Decoder::CloudEvents => Ok(Self::CloudEvents),
            Decoder::Raw => {
                let mapper = mapper.map_or_else(|| Mapper::new(&Default::default()), Ok)?;
                Ok(Self::Raw(framing, mapper))
            }
            Decoder::Avro => {
                let schema = given_schema(source)?;
                match (&schema, &mapper) {
                    (Some(known), Some(mapper)) => mapper.check(&known.schema)?,
                    (Some(Known { own: Err(why), .. }), None) => {
                        return Err(format!(
                            "schema_file: {why}; a mapping would say where the parts of an event are"
                        ));
                    }
                    (None, Some(_)) if framing == Framing::Bare => {
                        return wrong(
                            "a mapping of bare avro needs schema_file: nothing else says how to read it",
                        );
                    }
                    (None, Some(_)) if !registry => {
                        return wrong(
                            "a mapping of avro needs schema_file, or a [registry] to ask for schemas",
                        );
                    }
                    (None, None) if framing == Framing::Bare || !registry => return Ok(Self::Own(framing)),
                    _ => {}
                }
                Ok(Self::Avro { framing, schema: schema.map(Box::new), mapper })
            }
        }
    }

    /// Reads a record, given the schemas that are known.
    pub(crate) fn read<'a>(
        &'a self,
        record: &'a Record,
        schemas: &'a Schemas,
    ) -> Result<Envelope<'a>, Unread<'a>> {
        let body = |framing| match framing {
            Framing::Bare => Ok(&*record.value),
            Framing::Registry => Framed::split(record).map(|framed| framed.datum),
        };
        match self {
            Self::Own(framing) => Ok(envelope::read(body(*framing)?)?),
            Self::CloudEvents => Ok(cloudevents::read(record)?),
            Self::Raw(framing, mapper) => Ok(mapper.read(record, body(*framing)?)?),
            Self::Avro { framing, schema: Some(known), mapper } => {
                let datum = body(*framing)?;
                Ok(read_avro(record, known, datum, mapper.as_ref())?)
            }
            Self::Avro { schema: None, mapper, .. } => {
                let framed = Framed::split(record)?;
                let id = framed.id()?;
                match schemas.find(id, record.append_time) {
                    Found::Known(Known { own: Err(why), .. }) if mapper.is_none() => {
                        Err(Unread::Unfit(id, why))
                    }
                    Found::Known(known) => Ok(read_avro(record, known, framed.datum, mapper.as_ref())?),
                    Found::Unfit(why) => Err(Unread::Unfit(id, why)),
                    Found::Missing => Err(Unread::Missing(id)),
                    Found::Unknown => Err(Unread::Awaits(id)),
                }
            }
        }
    }
}

fn read_avro<'a>(
    record: &'a Record,
    known: &'a Known,
    datum: &'a [u8],
    mapper: Option<&'a Mapper>,
) -> Result<Envelope<'a>, Malformed> {
    match (mapper, &known.own) {
        (Some(mapper), _) => mapper.read_avro(record, &known.schema, datum),
        (None, Ok(written)) => written.read(&known.schema, datum),
        (None, Err(why)) => Err(Malformed::new("schema", why)),
    }
}

/// The schema that the source itself gives.
fn given_schema(source: &Source) -> Result<Option<Known>, String> {
    match (&source.schema_file, &source.schema) {
        (None, None) => Ok(None),
        (_, Some(text)) => Known::new(&[text]).map(Some).map_err(|error| format!("schema_file: {error}")),
        (Some(file), None) => Err(format!("schema_file {} was not read", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const READING: &str =
        r#"{"type": "record", "name": "Reading", "fields": [{"name": "id", "type": "string"}]}"#;

    fn form(settings: serde_json::Value, schema: Option<&str>, registry: bool) -> Result<Form, String> {
        let mut source: Source = serde_json::from_value(settings).unwrap();
        source.schema = schema.map(Into::into);
        Form::new(&source, registry)
    }

    #[test]
    fn settings_that_do_not_go_together_are_named_with_the_remedy() {
        let mapping = json!({"id": {"pointer": "/id"}});
        for (settings, schema, registry, part) in [
            (json!({"topic": "t", "mapping": mapping}), None, true, "needs schema_file"),
            (json!({"topic": "t", "mapping": mapping, "framing": "registry"}), None, false, "[registry]"),
            (
                json!({"topic": "t", "decoder": "cloudevents", "mapping": mapping}),
                None,
                true,
                "a mapping is for",
            ),
            (
                json!({"topic": "t", "decoder": "cloudevents", "framing": "registry"}),
                None,
                true,
                "framing is for",
            ),
            (
                json!({"topic": "t", "decoder": "raw", "schema_file": "f"}),
                Some(READING),
                true,
                "schema_file is for",
            ),
            (json!({"topic": "t", "schema_file": "f"}), None, true, "was not read"),
            (
                json!({"topic": "t", "schema_file": "f", "mapping": mapping}),
                Some("{"),
                true,
                "schema_file: no JSON",
            ),
            (json!({"topic": "t", "schema_file": "f"}), Some(READING), true, "a mapping would say"),
            (
                json!({"topic": "t", "decoder": "raw", "mapping": {"id": {"pointer": "id"}}}),
                None,
                true,
                "begins with /",
            ),
            (
                json!({"topic": "t", "schema_file": "f", "mapping": {"id": {"pointer": "/key"}}}),
                Some(READING),
                false,
                "no value at \"/key\"",
            ),
        ] {
            let error = form(settings.clone(), schema, registry).unwrap_err();
            assert!(error.contains(part), "{settings}: {error}");
        }
    }

    #[test]
    fn settings_that_go_together_make_the_form_they_say() {
        let mapping = json!({"id": {"pointer": "/id"}});
        let avro = |mut settings: serde_json::Value| {
            settings["topic"] = "t".into();
            settings
        };
        let own = |registry| form(avro(json!({"framing": "registry"})), None, registry);
        assert!(matches!(own(false), Ok(Form::Own(Framing::Registry))));
        assert!(matches!(own(true), Ok(Form::Avro { schema: None, mapper: None, .. })));
        assert!(matches!(form(avro(json!({})), None, true), Ok(Form::Own(Framing::Bare))));
        for framing in ["bare", "registry"] {
            let given = avro(json!({"framing": framing, "schema_file": "f", "mapping": mapping}));
            let form = form(given, Some(READING), false);
            assert!(matches!(form, Ok(Form::Avro { schema: Some(_), mapper: Some(_), .. })), "{framing}");
        }
        let asked = avro(json!({"framing": "registry", "mapping": mapping}));
        assert!(matches!(form(asked, None, true), Ok(Form::Avro { schema: None, mapper: Some(_), .. })));
    }
}
