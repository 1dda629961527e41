//! The forms that receipts are exported in, and what `killick verify` says of each: on a folder that the program has filled.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{LazyLock, Mutex, PoisonError};

use killick_proof::batch::BatchHeader;
use killick_proof::cose;
use killick_proof::note::SignerKey;
use killick_proof::receipt::Receipt;
use killick_proof::tlog_proof::TlogProof;
use support::{command, ends, files};

/// Events of the folder.
const EVENTS: usize = 80;

/// A folder in which all is proven; made once, and only read, by one command at a time.
struct Site {
    place: tempfile::TempDir,
    is_open: Mutex<()>,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let site = Site { place: tempfile::tempdir().unwrap(), is_open: Mutex::default() };
    let pace = "[deployment]\nname = \"forms.example\"\nlogs = 2\n[batch]\nmax_leaves = 9\nwidth = \"50ms\"\n\
                [anchor]\ninterval = \"200ms\"\ndepth = 2\npoll = \"20ms\"\n[prove]\npoll = \"20ms\"\n\
                [devnet]\nblock_interval = \"20ms\"\n";
    std::fs::write(site.at("killick.toml"), pace).unwrap();
    let rows = (0..EVENTS).map(|row| format!("{{\"id\":\"{row}\",\"source\":\"press-{}\"}}\n", row % 5));
    std::fs::write(site.at("events.ndjson"), rows.collect::<String>()).unwrap();
    let (folder, config, input) = (site.at("site"), site.at("killick.toml"), site.at("events.ndjson"));
    let line = "run --tenant plant --id-pointer /id --source-pointer /source --log error";
    let more = [Path::new("--embedded"), &folder, Path::new("-c"), &config, Path::new("--input"), &input];
    ends(0, line, &more);
    site.export("json", &site.at("json"), "");
    site
});

impl Site {
    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Exports in this form; returns what is said of it.
    fn export(&self, form: &str, out: &Path, more: &str) -> String {
        let output = self.killick(&format!("receipts export --as {form} {more}"), &[Path::new("--out"), out]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs a command on the folder.
    fn killick(&self, line: &str, more: &[&Path]) -> Output {
        let mut args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        args.extend(["--embedded".to_owned(), self.at("site").display().to_string()]);
        args.extend(more.iter().map(|path| path.display().to_string()));
        let _one = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        command(&args).output().unwrap()
    }

    /// Each event's name as a file, and its receipt.
    fn receipts(&self) -> Vec<(String, Receipt)> {
        let read = |(name, bytes): (String, Vec<u8>)| {
            (name.strip_suffix(".json").unwrap().to_owned(), Receipt::parse(&bytes).unwrap())
        };
        files(&self.at("json")).into_iter().map(read).collect()
    }
}

#[test]
fn every_event_has_a_tlog_proof_that_is_logged_and_its_payload_can_be_given() {
    let out = SITE.at("proofs");
    let said = SITE.export("tlog-proof", &out, "");
    assert!(said.contains("80 receipts"), "{said}");
    let again = SITE.export("tlog-proof", &out, "");
    assert_eq!(again, said, "an export again adds nothing");
    let (receipts, proofs) = (SITE.receipts(), files(&out));
    assert_eq!((receipts.len(), proofs.len()), (EVENTS, EVENTS));
    for (name, receipt) in &receipts {
        let proof = std::str::from_utf8(&proofs[&format!("{name}.tlog-proof")]).unwrap();
        assert_eq!(Some(proof), receipt.to_tlog_proof().as_deref());
        let proof = TlogProof::parse(proof).unwrap();
        let header = BatchHeader::decode(&receipt.batch.header).unwrap();
        assert_eq!((proof.index, proof.checkpoint), (header.number, &*receipt.log.checkpoint));
    }
    let trust = SITE.at("site/trust.json");
    let files = [&*out, Path::new("--trust"), &trust];
    assert!(ends(0, "verify --level logged", &files).contains("80 receipts"));
    let short = ends(4, "verify --output json", &files);
    let object: serde_json::Value = serde_json::from_str(short.lines().next().unwrap()).unwrap();
    assert_eq!(object["level"], "logged", "{object}");
    assert!(object["missing"].as_str().unwrap().starts_with("anchors: "), "{object}");
    // Held against the receipts of the same events: they say the same.
    ends(0, "verify --level logged", &[&out, &SITE.at("json"), Path::new("--trust"), &trust]);

    // The payload is the input's line; named as the proof, without its ending.
    let payloads = SITE.at("payloads");
    std::fs::create_dir_all(&payloads).unwrap();
    let (name, receipt) = &receipts[0];
    let event = killick_proof::statement::Statement::decode(&receipt.statement).unwrap().event;
    let line = format!("{{\"id\":\"{}\",\"source\":\"{}\"}}", event.id, event.source);
    std::fs::write(payloads.join(name), &line).unwrap();
    let proof = out.join(format!("{name}.tlog-proof"));
    let files = [&*proof, Path::new("--payload"), &payloads, Path::new("--trust"), &trust];
    ends(0, "verify --level logged", &files);
    std::fs::write(payloads.join(name), line + " ").unwrap();
    ends(3, "verify --level logged", &files);
}

#[test]
fn one_events_tlog_proof_goes_to_standard_output() {
    let (_, receipt) = &SITE.receipts()[0];
    let event = killick_proof::statement::Statement::decode(&receipt.statement).unwrap().event;
    let line = format!("receipts get {} {} {} --as tlog-proof", event.tenant, event.source, event.id);
    let output = SITE.killick(&line, &[]);
    assert_eq!(Some(String::from_utf8(output.stdout).unwrap()), receipt.to_tlog_proof());

    let header = BatchHeader::decode(&receipt.batch.header).unwrap();
    let key = SITE.at(&format!("site/keys/log-{}.key", header.origin.log()));
    let key: SignerKey = std::fs::read_to_string(key).unwrap().trim().parse().unwrap();
    let output = SITE.killick(&line.replace("tlog-proof", "cose"), &[]);
    match cose::receipt(&receipt.batch.header, &receipt.log, &key) {
        Ok(receipt) => assert_eq!(receipt, output.stdout),
        Err(error) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(&error.to_string()), "{said}");
        }
    }
}

#[test]
fn every_batch_that_can_has_a_cose_receipt_beside_its_header() {
    let out = SITE.at("batches");
    let said = SITE.export("cose", &out, "");
    let receipts = SITE.receipts();
    let batches: BTreeSet<&[u8]> = receipts.iter().map(|(_, receipt)| &*receipt.batch.header).collect();
    let with_path: BTreeSet<&[u8]> = receipts
        .iter()
        .filter(|(_, receipt)| !receipt.log.path.is_empty())
        .map(|(_, receipt)| &*receipt.batch.header)
        .collect();
    let (count, alone) = (with_path.len(), batches.len() - with_path.len());
    assert!(count >= 4, "{count}");
    assert!(said.contains(&format!("{count} COSE receipts of {} batches", batches.len())), "{said}");
    assert_eq!(said.contains(&format!("and {alone} can have none")), alone > 0, "{said}");
    let files = files(&out);
    assert_eq!(files.len(), 2 * count);
    for header in with_path {
        let fields = BatchHeader::decode(header).unwrap();
        let name = format!("{}-{}", fields.origin.as_str().replace('/', "_"), fields.number);
        assert_eq!(files[&format!("{name}.header")], header);
        assert_eq!(files[&format!("{name}.cose")][..2], [0xd2, 0x84]);
    }
    SITE.export("cose", &out, "");
    assert_eq!(support::files(&out), files, "the same again");
    let none = SITE.export("cose", &SITE.at("none"), "--tenant other");
    assert!(none.starts_with("0 COSE receipts of 0 batches"), "{none}");
}

#[test]
fn without_the_logs_key_nothing_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("site");
    std::fs::create_dir_all(copy.join("keys")).unwrap();
    for file in ["catalog.redb", "lock"] {
        let _one = SITE.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        std::fs::copy(SITE.at("site").join(file), copy.join(file)).unwrap();
    }
    let line = "receipts export --as cose";
    let (embedded, out) = (Path::new("--embedded"), folder.path().join("out"));
    let args = [embedded, &copy, Path::new("--out"), &out];
    let said = ends(1, line, &args);
    assert!(said.contains("log-0.key") && said.contains("signed by its key"), "{said}");
    // Another key of the same log.
    for log in 0..2 {
        let key = copy.join(format!("keys/log-{log}.key"));
        ends(0, &format!("keys new log --origin forms.example/1/sha256/{log} --out"), &[&key]);
    }
    let said = ends(1, line, &args);
    assert!(said.contains("not signed by the key forms.example/1/sha256/0"), "{said}");
    assert!(files(&out).is_empty(), "{said}");
}

#[test]
fn a_form_that_needs_a_key_or_a_file_says_so() {
    let message = SITE.at("killick.toml");
    let said = ends(2, "receipts derive --as cose", &[&message]);
    assert!(said.contains("tlog-proof") && said.contains("cose"), "{said}");
    let said = ends(2, "receipts derive --as tlog-proof", &[&message]);
    assert!(said.contains("give --out"), "{said}");
}
