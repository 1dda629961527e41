use std::net::TcpListener;

use tokio::runtime::Runtime;

use super::server::{Asked, Server};
use super::*;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

// What Apicurio Registry 2.6.13 answered under /apis/ccompat/v7, byte for byte.
const TYPES: (&str, u16, &str) =
    ("GET /apis/ccompat/v7/schemas/types?deleted=true", 200, r#"["JSON","PROTOBUF","AVRO"]"#);
const SITE: &str = r#"{"schema":"{\"type\":\"record\",\"name\":\"Site\",\"namespace\":\"plant\",\"fields\":[{\"name\":\"name\",\"type\":\"string\"}]}","references":[]}"#;
const SITE_VERSION: &str = r#"{"id":1,"subject":"plant.site-value","version":1,"schema":"{\"type\":\"record\",\"name\":\"Site\",\"namespace\":\"plant\",\"fields\":[{\"name\":\"name\",\"type\":\"string\"}]}","references":[]}"#;
const READING: &str = r#"{"schema":"{\"type\":\"record\",\"name\":\"Reading\",\"namespace\":\"plant\",\"fields\":[{\"name\":\"site\",\"type\":\"plant.Site\"},{\"name\":\"id\",\"type\":\"string\"}]}","references":[{"name":"plant.Site","subject":"plant.site-value","version":1}]}"#;
const NO_ID: &str = r#"{"error_code":40403,"message":"No content with id/hash 'contentId-99' was found."}"#;
const NO_SUCH_PATH: &str = r#"{"error_code":0,"message":"RESTEASY003210: Could not find resource for full path: http://127.0.0.1/apis/ccompat/v7/schemas/guids/0"}"#;
const INCOMPATIBLE: &str = r#"{"error_code":409,"message":"io.apicurio.registry.rules.RuleViolationException: Incompatible artifact"}"#;
const NO_SCHEMA: &str = r#"{"error_code":42201,"message":"Failed to discover artifact type from content."}"#;

fn table(entries: &[(&'static str, u16, &str)]) -> Vec<(&'static str, u16, String)> {
    entries.iter().map(|(what, status, body)| (*what, *status, (*body).to_owned())).collect()
}

fn lookup(
    answers: &[(&'static str, u16, &str)],
    id: SchemaId,
) -> (Result<Lookup, RegistryError>, Vec<Asked>) {
    let server = Server::start(table(answers));
    let runtime = runtime();
    let registry = Registry::new(&server.settings(), runtime.handle().clone()).unwrap();
    (registry.lookup(id), server.asked())
}

const BY_ID: &str = "GET /apis/ccompat/v7/schemas/ids/7?deleted=true";

#[test]
fn a_schema_comes_by_its_id() {
    let (found, asked) = lookup(&[(BY_ID, 200, SITE)], SchemaId::Number(7));
    let Ok(Lookup::Found(texts)) = found else { panic!("{found:?}") };
    assert_eq!(texts.len(), 1);
    assert!(texts[0].starts_with(r#"{"type":"record","name":"Site""#));
    assert_eq!(asked.len(), 1);
}

#[test]
fn a_schema_comes_by_its_guid() {
    let by_guid = "GET /apis/ccompat/v7/schemas/guids/00112233-4455-6677-8899-aabbccddeeff?deleted=true";
    let guid = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    // As Confluent's registry answers: beside the schema its own names for it.
    let answer =
        SITE.replacen('{', r#"{"guid":"00112233-4455-6677-8899-aabbccddeeff","schemaType":"AVRO","#, 1);
    let (found, _) = lookup(&[(by_guid, 200, &answer)], SchemaId::Guid(guid));
    assert!(matches!(found, Ok(Lookup::Found(_))), "{found:?}");
}

#[test]
fn a_schema_comes_behind_those_that_it_refers_to() {
    let version = "GET /apis/ccompat/v7/subjects/plant.site-value/versions/1?deleted=true";
    let (found, _) = lookup(&[(BY_ID, 200, READING), (version, 200, SITE_VERSION)], SchemaId::Number(7));
    let Ok(Lookup::Found(texts)) = found else { panic!("{found:?}") };
    assert_eq!(texts.len(), 2);
    killick_stages::avro::schema::Schema::parse(&texts).unwrap();
}

#[test]
fn a_schema_that_refers_to_itself_or_to_too_many_ends() {
    let itself = r#"{"schema":"\"int\"","references":[{"subject":"a","version":1}]}"#;
    let (found, asked) = lookup(&[("any", 200, itself)], SchemaId::Number(7));
    assert_eq!((found.unwrap(), asked.len()), (Lookup::Found(vec!["\"int\"".into(); 2]), 2));
    let many: Vec<_> = (0..100).map(|version| format!(r#"{{"subject":"a","version":{version}}}"#)).collect();
    let many = format!(r#"{{"schema":"\"int\"","references":[{}]}}"#, many.join(","));
    let (found, asked) = lookup(&[("any", 200, &many)], SchemaId::Number(7));
    assert!(matches!(found, Ok(Lookup::Unfit(_))), "{found:?}");
    assert!(asked.len() <= MOST_REFERENCES + 1);
}

#[test]
fn an_id_that_it_does_not_have_is_asked_for_twice_and_then_missing() {
    let (found, asked) = lookup(&[(BY_ID, 404, NO_ID)], SchemaId::Number(7));
    assert_eq!((found.unwrap(), asked.len()), (Lookup::Missing, 2));
}

#[test]
fn a_404_of_a_registry_that_knows_no_guids_is_told_from_one_of_something_else() {
    let guid = SchemaId::Guid([0; 16]);
    let (found, _) = lookup(&[TYPES, ("any", 404, NO_SUCH_PATH)], guid);
    assert_eq!(found.unwrap(), Lookup::Missing);
    let (found, _) = lookup(&[("any", 404, NO_SUCH_PATH)], guid);
    assert!(matches!(found, Err(RegistryError::Unexpected { .. })), "{found:?}");
    let (found, _) = lookup(&[("any", 404, "<html>no such page</html>")], SchemaId::Number(7));
    assert!(matches!(found, Err(RegistryError::Unexpected { .. })), "{found:?}");
}

#[test]
fn what_is_no_avro_or_too_long_is_unfit_for_ever() {
    for (answer, why) in [
        (r#"{"schema":"{}","schemaType":"JSON"}"#.to_owned(), "JSON"),
        (format!(r#"{{"schema":"{}"}}"#, "x".repeat(MAX_TEXT + 1)), "more than"),
        ("x".repeat(LARGEST + 1), "more than"),
    ] {
        let (found, asked) = lookup(&[(BY_ID, 200, &answer)], SchemaId::Number(7));
        let Ok(Lookup::Unfit(said)) = found else { panic!("{found:?}") };
        assert!(said.contains(why) && asked.len() == 1, "{said}");
    }
}

#[test]
fn what_is_no_answer_says_nothing_about_the_schema() {
    for (status, body) in [
        (200, "<html>log in</html>"),
        (200, "{}"),
        (204, ""),
        (302, ""),
        (401, NO_ID),
        (403, NO_ID),
        (429, ""),
        (500, r#"{"error_code":50001,"message":"Error in the backend data store"}"#),
        (503, ""),
    ] {
        let (found, _) = lookup(&[(BY_ID, status, body)], SchemaId::Number(7));
        assert!(found.is_err(), "{status} {body}: {found:?}");
    }
    // Nobody listens.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = Settings { url: format!("http://{closed}"), ..Settings::default() };
    let runtime = runtime();
    let registry = Registry::new(&settings, runtime.handle().clone()).unwrap();
    let error = registry.lookup(SchemaId::Number(7)).unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
    Registry::open(&settings, runtime.handle().clone()).unwrap();
}

#[test]
fn a_schema_of_ours_is_registered_once_and_its_id_is_told() {
    let path = "POST /apis/ccompat/v7/subjects/killick.proofs-value/versions";
    for (status, body, expected) in [
        (200, r#"{"id":2}"#, Some(2)),
        (409, INCOMPATIBLE, None),
        (422, NO_SCHEMA, None),
        (200, "<html></html>", None),
    ] {
        let server = Server::start(table(&[(path, status, body), ("any", 500, "")]));
        let runtime = runtime();
        let registry = Registry::new(&server.settings(), runtime.handle().clone()).unwrap();
        let id = registry.register("killick.proofs-value", "\"int\"");
        assert_eq!(id.as_ref().ok().copied(), expected, "{id:?}");
        assert_eq!(server.asked()[0].2, r#"{"schema":"\"int\""}"#);
        if matches!(status, 409 | 422) {
            assert!(matches!(id, Err(RegistryError::Refused { .. })), "{id:?}");
        }
    }
}

#[test]
fn a_subject_with_a_slash_stays_one_part_of_the_path() {
    let server = Server::start(table(&[("any", 200, r#"{"id":2}"#)]));
    let runtime = runtime();
    let registry = Registry::new(&server.settings(), runtime.handle().clone()).unwrap();
    registry.register("a/../b?c", "\"int\"").unwrap();
    assert_eq!(server.asked()[0].0, "POST /apis/ccompat/v7/subjects/a%2F..%2Fb%3Fc/versions");
}

#[test]
fn the_password_goes_with_each_question_and_into_no_message() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("registry.password"), "hunter2\n").unwrap();
    let server = Server::start(table(&[(BY_ID, 403, "hunter2"), ("any", 401, "")]));
    let mut settings = server.settings();
    settings.username = Some("killick".into());
    settings.password_file = Some("registry.password".into());
    settings.resolve(Some(folder.path()));
    let runtime = runtime();
    let registry = Registry::new(&settings, runtime.handle().clone()).unwrap();
    let error = registry.lookup(SchemaId::Number(7)).unwrap_err();
    let message = format!("{error} {error:?} {settings:?}");
    assert!(message.contains("does not let us in") && !message.contains("hunter2"), "{message}");
    // "killick:hunter2"
    assert_eq!(server.asked()[0].1, "Basic a2lsbGljazpodW50ZXIy");
    let refused = Registry::open(&settings, runtime.handle().clone()).err().unwrap();
    assert!(matches!(refused.downcast_ref(), Some(RegistryError::Forbidden { status: 401, .. })));
}

#[test]
fn over_tls_only_the_authorities_of_the_file_are_trusted_if_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let (server, certificate) = Server::tls(table(&[("any", 200, SITE)]));
    let (_, stranger) = Server::tls(Vec::new());
    for (name, pem) in [("ours.pem", certificate), ("strangers.pem", stranger)] {
        std::fs::write(folder.path().join(name), pem).unwrap();
    }
    let runtime = runtime();
    let found = |ca_file: Option<&str>| {
        let mut settings = server.settings();
        settings.ca_file = ca_file.map(Into::into);
        settings.resolve(Some(folder.path()));
        let registry = Registry::new(&settings, runtime.handle().clone()).unwrap();
        registry.lookup(SchemaId::Number(7))
    };
    assert!(matches!(found(Some("ours.pem")), Ok(Lookup::Found(_))));
    for other in [Some("strangers.pem"), None] {
        assert!(matches!(found(other), Err(RegistryError::Unreachable { .. })), "{other:?}");
    }
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let fine = Settings { url: "https://registry.example".into(), ..Settings::default() };
    fine.check().unwrap();
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = fine.clone();
        change(&mut settings);
        let runtime = runtime();
        format!("{:#}", Registry::new(&settings, runtime.handle().clone()).err().unwrap())
    };
    for (change, part) in [
        ((|settings| settings.url.clear()) as fn(&mut Settings), "where is the registry"),
        (|settings| settings.url = "registry.example:8081".into(), "http://"),
        (|settings| settings.url = "ftp://registry.example".into(), "http://"),
        (|settings| settings.url = "https://killick:hunter2@registry.example".into(), "password_file"),
        (|settings| settings.url = "https://registry.example?x".into(), "query"),
        (|settings| settings.timeout = Span::millis(5), "1s to 5m"),
        (|settings| settings.username = Some("killick".into()), "go together"),
        (|settings| settings.ca_file = Some("/nowhere/ca.pem".into()), "/nowhere/ca.pem"),
        (|settings| settings.ca_file = Some("/dev/null".into()), "no certificate in it"),
        (
            |settings| {
                settings.username = Some("killick".into());
                settings.password_file = Some("/nowhere/registry.password".into());
            },
            "/nowhere/registry.password",
        ),
        (
            |settings| {
                settings.url = "http://registry.example".into();
                settings.username = Some("killick".into());
                settings.password_file = Some("/dev/null".into());
            },
            "need https",
        ),
    ] {
        let error = with(&change);
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
}
