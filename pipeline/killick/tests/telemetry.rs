//! What a running pipeline says of itself: to who scrapes it, and to a collector.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use killick_embedded::{EmbeddedLog, Folder, Settings};
use killick_stages::ports::Producer as _;
use killick_stages::record::{Header, Output, Partition};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use support::brokers;
use support::running::{Running, address, make_topic, produce};

const EVENTS: u64 = 21;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const SPENT: &str = "killick_anchor_spent_coins{chain=\"0\",series=\"\"}";
const CONFIG: &str = r#"
[admin]
listen = "127.0.0.1:0"

[deployment]
logs = 1

[anchor]
interval = "300ms"
depth = 2
poll = "50ms"

[prove]
poll = "50ms"

[devnet]
block_interval = "100ms"

[[source]]
topic = "machines"
decoder = "raw"
tenant = "plant"
unsigned = "accept"
mapping = { id = { pointer = "/id" } }
"#;

/// The path and the body of a request.
type Taken = (String, Vec<u8>);

/// A collector of OpenTelemetry, as far as it is one that takes what comes.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Taken>>>);

impl Collector {
    fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        let taken = collector.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let taken = taken.clone();
                std::thread::spawn(move || while taken.take(stream.as_ref().unwrap()).is_some() {});
            }
        });
        (collector, format!("http://{address}"))
    }

    fn take(&self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let line = line.trim_end().to_lowercase();
            match (line.strip_prefix("post "), line.strip_prefix("content-length: ")) {
                (Some(rest), _) => path = rest.split(' ').next()?.to_owned(),
                (_, Some(count)) => length = count.parse().ok()?,
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        self.0.lock().unwrap().push((path, body));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
    }

    fn all<M: prost::Message + Default>(&self, path: &str) -> Vec<M> {
        let taken = self.0.lock().unwrap();
        let of_path = taken.iter().filter(|(of, _)| of == path);
        of_path.map(|(_, body)| M::decode(&body[..]).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.all::<ExportTraceServiceRequest>("/v1/traces");
        let scopes = requests.into_iter().flat_map(|request| request.resource_spans);
        scopes.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
    }
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: killick\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Scrapes until it is so.
fn scraped(address: &str, is_so: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = scrape(address);
        if is_so(&text) {
            return text;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Gives events to the log of a site that nobody runs; the first one belongs to a trace.
fn give(site: &Path) {
    let folder = Arc::new(Folder::open_existing(site).unwrap());
    let log = EmbeddedLog::open(&folder, &[], Settings::default()).unwrap();
    let outputs: Vec<_> = (0..EVENTS)
        .map(|number| {
            let value = format!("{{\"id\":\"{number}\",\"reading\":{}}}", number * number);
            let mut output = Output::new(Partition::new("machines", 0), "", value);
            if number == 0 {
                let value = format!("00-{TRACE}-{SPAN}-01").into();
                output.headers.push(Header { name: "traceparent".into(), value });
            }
            output
        })
        .collect();
    log.produce(&outputs).unwrap();
}

fn text(span: &Span, name: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

#[test]
fn a_pipeline_says_of_itself_what_is_documented_and_an_event_is_followed_to_its_proof() {
    let folder = tempfile::tempdir().unwrap();
    let (site, config) = (folder.path().join("site"), folder.path().join("killick.toml"));
    std::fs::write(&config, CONFIG).unwrap();
    let args = ["run", "--embedded", site.to_str().unwrap(), "-c", config.to_str().unwrap()];
    let mut running = Running::start(&args, &[]);
    running.says("the pipeline runs");
    running.ends();
    give(&site);

    let (collector, endpoint) = Collector::start();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_TRACES_SAMPLER", "always_on"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "300"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=plant"),
        ("KILLICK_LOG_FORMAT", "json"),
        ("KILLICK_LOG", "info"),
    ];
    let mut running = Running::start(&args, &variables);
    let address = address(&running.says("the admin port is open"));
    let events = |of: &str| format!("killick_events_total{{outcome=\"{of}\"}}");
    let is_proven = |text: &str| value(text, &events("proven")) == Some(EVENTS as f64);
    let is_idle =
        |text: &str| value(text, "killick_event_oldest_age_seconds{without=\"proof\"}") == Some(0.0);
    // A stage is asked for its own figures each second.
    let is_spent = |text: &str| value(text, SPENT).is_some_and(|spent| spent > 0.0);
    let text = scraped(&address, |text| is_proven(text) && is_idle(text) && is_spent(text));
    running.ends();

    is_documented(&text);
    assert_eq!(value(&text, &events("accepted")), Some(EVENTS as f64));
    assert_eq!(value(&text, &events("duplicate")), Some(0.0));
    for until in ["checkpoint", "anchored", "proof"] {
        let count = format!("killick_event_time_seconds_count{{class=\"all\",until=\"{until}\"}}");
        assert_eq!(value(&text, &count), value(&text, "killick_batches_total"), "{text}");
    }
    let balance = value(&text, "killick_anchor_balance_coins{chain=\"0\",series=\"\"}").unwrap();
    assert!(balance > 99_999_999.0 && balance <= 100_000_000.0, "{balance}");

    is_followed(&collector.spans());
    let metrics = collector.all::<ExportMetricsServiceRequest>("/v1/metrics");
    let metrics = metrics.iter().flat_map(|request| &request.resource_metrics);
    let names: BTreeSet<_> =
        metrics.flat_map(|of| &of.scope_metrics).flat_map(|of| &of.metrics).map(|of| &*of.name).collect();
    assert!(names.contains("killick.events") && names.contains("killick.event.oldest_age"), "{names:?}");
    let logs = format!("{:?}", collector.all::<ExportLogsServiceRequest>("/v1/logs"));
    assert!(
        logs.contains("the pipeline runs")
            && logs.contains("\"service.namespace\"")
            && logs.contains("\"killick\"")
    );
}

/// Every metric of the document is there, but for those of `killick audit`, and no other.
fn is_documented(text: &str) {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let document = std::fs::read_to_string(document).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeSet<_> = rows
        .map(|row| row.split_once("` | ").unwrap())
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap()))
        .filter(|(name, _)| !name.starts_with("killick_audit_"))
        .collect();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let found: BTreeSet<_> = types.map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(found, told);
}

/// The event is in its producer's trace up to its batch, and its batch in one of its own up to its proof.
fn is_followed(spans: &[Span]) {
    let own: Vec<_> = spans.iter().filter(|span| hex::encode(&span.trace_id) == TRACE).collect();
    let mut names: Vec<_> = own.iter().map(|span| &*span.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["process accepted", "process machines", "process unique"]);
    assert!(own.iter().all(|span| hex::encode(&span.parent_span_id) == SPAN));

    let batched = own.iter().find(|span| span.name == "process unique").unwrap();
    let batch = &batched.links.first().unwrap();
    assert_eq!(text(batched, "killick.batch.trace"), Some(hex::encode(&batch.trace_id)));
    let of_batch: Vec<_> = spans.iter().filter(|span| span.trace_id == batch.trace_id).collect();
    let mut names: Vec<_> = of_batch.iter().map(|span| &*span.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["batch unique", "process batches", "process checkpoints", "send proofs"]);
    for span in of_batch {
        if span.name == "batch unique" {
            assert_eq!((&span.span_id, &span.parent_span_id), (&batch.span_id, &Vec::new()));
            assert_eq!(hex::encode(&span.links.first().unwrap().trace_id), TRACE);
        } else {
            assert_eq!(span.parent_span_id, batch.span_id, "{}", span.name);
        }
        if span.name != "batch unique" && span.name != "process batches" {
            assert_eq!(text(span, "killick.chain").as_deref(), Some("0"), "{}", span.name);
        }
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
}

/// Three events come again, and nothing else, and are counted by that series: they wait in `unique` for the next batch, and no
/// event does.
fn what_came_again_has_no_age(address: &str, again: impl FnOnce(), counted: &str) {
    let oldest = |without: &str| format!("killick_event_oldest_age_seconds{{without=\"{without}\"}}");
    let is_idle = |text: &str| value(text, &oldest("checkpoint")) == Some(0.0);
    let lag = |of: &str| format!("killick_consumer_lag_{of}{{stage=\"batch\",topic=\"unique\"}}");
    scraped(address, |text| value(text, "killick_batches_total") >= Some(1.0) && is_idle(text));
    again();
    scraped(address, |text| value(text, counted) == Some(3.0) && value(text, &lag("records")) >= Some(1.0));
    // Of a topic that is read to its end nothing is left, though a mark of a transaction may stand there.
    let done = "killick_consumer_lag_records{stage=\"dedup\",topic=\"accepted\"}";
    scraped(address, |text| value(text, done) == Some(0.0));
    // Long enough for an age to grow, and for the brokers' statistics to come anew.
    let text = scraped(address, is_idle);
    assert_eq!(value(&text, &lag("seconds")), Some(0.0), "{text}");
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(100));
        let text = scrape(address);
        assert!(is_idle(&text) && value(&text, &lag("records")) >= Some(1.0), "{text}");
        assert_eq!(value(&text, &lag("seconds")), Some(0.0), "{text}");
    }
}

#[test]
fn copies_that_wait_for_the_next_batch_have_no_age_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (site, config) = (folder.path().join("site"), folder.path().join("killick.toml"));
    std::fs::write(&config, CONFIG).unwrap();
    let line = ["run", "--embedded", site.to_str().unwrap(), "-c", config.to_str().unwrap(), "--input", "-"];
    let (input, mut events) = std::io::pipe().unwrap();
    let mut running = Running::fed(
        [&line[..], &["--format", "ndjson", "--id-column", "reading"]].concat().as_slice(),
        &[],
        input,
    );
    let address = address(&running.says("the admin port is open"));
    let lines =
        |count: u64| (0..count).map(|number| format!("{{\"machine\":\"m\",\"reading\":\"{number}\"}}\n"));
    events.write_all(lines(3).collect::<String>().as_bytes()).unwrap();
    what_came_again_has_no_age(
        &address,
        || events.write_all(lines(3).collect::<String>().as_bytes()).unwrap(),
        "killick_events_total{outcome=\"duplicate\"}",
    );
    drop(events);
    running.ends();
}

#[test]
fn conflicts_that_wait_for_the_next_batch_have_no_age_on_brokers() {
    let folder = tempfile::tempdir().unwrap();
    let run = format!("t-{:08x}", rand::random::<u32>());
    let topic = format!("{run}.machines");
    make_topic(&topic);
    let brokers: Vec<_> = brokers().split(',').map(str::to_owned).collect();
    let config = folder.path().join("killick.toml");
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[deployment]\nname = \"{run}.example\"\nlogs = 1\n[keys]\nfolder = \"keys\"\n\
         [kafka]\nbrokers = {brokers:?}\nprefix = \"{run}.\"\nreplication = 1\nmin_in_sync = 1\n[tenant.plant]\n\
         secret = \"no neighbour can guess this\"\n[[source]]\ntopic = \"{topic}\"\ndecoder = \"raw\"\ntenant = \"plant\"\n\
         unsigned = \"accept\"\n[source.mapping]\nid = {{ pointer = \"/id\" }}\nsource = {{ constant = \"machine/1\" }}\n"
    );
    std::fs::write(&config, text).unwrap();
    for line in ["keys init -c", "topics apply -c"] {
        support::ends(0, line, &[&config]);
    }
    let args = ["run", "-c", config.to_str().unwrap(), "--stages", "ingest,dedup,batch"];
    let mut running = Running::start(&args, &[]);
    let address = address(&running.says("the admin port is open"));
    produce(&topic, 3);
    what_came_again_has_no_age(
        &address,
        || produce(&topic, 3),
        "killick_events_rejected_total{code=\"conflict\"}",
    );
    running.ends();
}

#[test]
fn a_collector_that_is_away_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("events.ndjson");
    std::fs::write(&input, "{\"machine\":\"press-1\",\"reading\":\"7\"}\n").unwrap();
    for protocol in ["grpc", "http/protobuf"] {
        let site = folder.path().join(protocol.replace('/', "-"));
        let args = [
            "run",
            "--embedded",
            site.to_str().unwrap(),
            "--input",
            input.to_str().unwrap(),
            "--output",
            "json",
        ];
        let mut command = support::command(&args);
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let output = command.env("OTEL_TRACES_SAMPLER", "always_on").output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success() && out.contains("\"proven\":1"), "{protocol}: {out}{err}");
        assert!(
            err.contains("the last of the telemetry was not taken") && !err.contains("panicked"),
            "{err}"
        );
    }
}

#[test]
fn a_sampler_that_there_is_not_is_refused_with_those_that_there_are() {
    let mut command = support::command(&["run", "--embedded", "never-made"]);
    command.env("OTEL_TRACES_EXPORTER", "otlp").env("OTEL_TRACES_SAMPLER", "sometimes");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("\"sometimes\"") && said.contains("always_on"), "{said}");
}
