//! What has to hold for any bytes: no panic, and whatever is read is written again as it was.
//!
//! `cargo +nightly fuzz run receipt fuzz/corpus/receipt ../../schemas/vectors/receipts/good` in `pipeline/proof`; the
//! targets are `receipt`, `headers`, `statement` and `checkpoint`. The test `fuzz` runs the same checks on a stable
//! compiler.

use std::sync::LazyLock;

use killick_proof::anchor::AnchorText;
use killick_proof::batch::BatchHeader;
use killick_proof::cbor::{Reader, scan};
use killick_proof::checkpoint::Checkpoint;
use killick_proof::headers::Headers;
use killick_proof::log::Log;
use killick_proof::note::{Note, SignerKey, Verdict, VerifierKey};
use killick_proof::origin::Origin;
use killick_proof::receipt::{MAX_RECEIPT, Parts, Receipt};
use killick_proof::report::{Level, Report};
use killick_proof::signature::SecretKey;
use killick_proof::statement::Statement;
use killick_proof::tlog_proof::TlogProof;
use killick_proof::trust::{Trust, TrustFile};
use killick_proof::verify::Verifier;

/// Nesting that a receipt may have.
const MAX_DEPTH: usize = 32;

/// A trust file under which the shared receipts reach every level.
static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let file = include_bytes!("../../../../schemas/vectors/receipts/trust.json");
    Trust::parse(file).expect("the shared trust file is well formed")
});

/// Files of headers. What is read has kept the rules, and no header makes a block trusted that nobody lists.
pub fn headers(data: &[u8]) {
    let mut headers = Headers::new();
    let Ok(count) = headers.add(data) else { return assert!(headers.is_empty()) };
    assert_eq!(count, headers.len());
    assert!(Trust::new_with(&TrustFile::default(), &headers).is_ok());
}

/// Receipts and trust files.
pub fn receipt(data: &[u8]) {
    let _ = Trust::parse(data);
    let report = verify(data);
    assert_eq!(report.level == Level::Trusted, report.not_after.is_some(), "a time is said at trusted alone");
    assert!(report.wrong().is_none() || report.held.is_none(), "a wrong receipt accuses nobody");
    let Ok(receipt) = Receipt::parse(data) else { return };
    if let Some(proof) = receipt.to_tlog_proof()
        && proof.len() <= MAX_RECEIPT
    {
        let proof = verify(proof.as_bytes());
        assert!(
            proof.level <= report.level.min(Level::Logged),
            "a tlog-proof proves no more than its receipt"
        );
        assert!(
            report.level < Level::Logged || proof.level == Level::Logged,
            "and no less, as far as the log"
        );
    }
    let is_whole = Parts::parse(data).as_ref() == Ok(&Parts::from(receipt.clone()));
    for twin in [receipt.to_json().into_bytes(), receipt.to_cbor()] {
        if twin.len() <= MAX_RECEIPT {
            assert_eq!(Receipt::parse(&twin).as_ref(), Ok(&receipt), "a twin has the same members");
            assert!(!is_whole || verify(&twin).level == report.level, "a twin proves the same");
        }
    }
}

fn verify(data: &[u8]) -> Report {
    Verifier::new(TRUST.clone()).verify(data, None)
}

/// Statements, batch headers, log states and any other CBOR.
pub fn statement(data: &[u8]) {
    if let Ok(statement) = Statement::decode(data) {
        assert_eq!(statement.encode().as_deref(), Ok(data));
        assert!(statement.event.signing_bytes().is_ok());
        let _ = statement.verify();
    }
    if let Ok(header) = BatchHeader::decode(data) {
        assert_eq!(header.encode().as_deref(), Ok(data));
        assert_eq!(header.id().map(|id| id.is_some()), Ok(header.algorithm().is_some()));
    }
    if let Ok(log) = Log::decode(data) {
        assert_eq!(log.encode(), data);
        let _ = log.root();
    }
    let mut reader = Reader::new(data);
    if let Ok(item) = reader.skip(MAX_DEPTH) {
        assert_eq!(scan(item, 0, MAX_DEPTH).map(|item| (item.end, item.breach)), Ok((item.len(), None)));
    }
}

/// Notes, checkpoints and the other texts: keys, origins, anchor texts, proofs.
pub fn checkpoint(data: &[u8]) {
    let note = Note::from_bytes(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return assert!(note.is_err(), "a note is text");
    };
    if let Ok(note) = note {
        assert!(text.starts_with(note.text()) && !note.signatures().is_empty());
        let signer = SignerKey::new("plant.example/1/sha256/7", SecretKey::from_seed(&[7; 32]));
        let signer = signer.expect("an origin is the name of a key");
        let key = signer.verifier();
        let verdict = note.verdict(&key);
        assert_eq!(note.verify(std::slice::from_ref(&key)).is_err(), verdict == Verdict::Wrong);
        if let Ok(signed) = note.with_signature(&signer) {
            let signed = Note::parse(&signed).expect("a note that is signed once more is a note");
            assert_eq!((signed.text(), signed.verdict(&key)), (note.text(), Verdict::Valid));
        }
    }
    for text in [text, note_text(text)] {
        if let Ok(checkpoint) = Checkpoint::parse(text) {
            assert_eq!(checkpoint.to_string(), text);
            let _ = checkpoint.log_origin();
        }
    }
    if let Ok(anchor) = AnchorText::parse(text)
        && let (Some(algorithm), Some(root)) = (anchor.algorithm(), anchor.root())
    {
        assert_eq!(AnchorText::format(algorithm, anchor.size(), &root), text);
    }
    if let Ok(origin) = Origin::parse(text) {
        let algorithm = origin.algorithm();
        let written = algorithm
            .map(|algorithm| Origin::format(origin.name(), origin.generation(), algorithm, origin.log()));
        assert!(written.is_none_or(|written| written.as_deref() == Ok(text)));
    }
    if let Ok(proof) = TlogProof::parse(text) {
        assert_eq!(proof.to_string(), text);
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<SignerKey>() {
        assert_eq!(key.to_secret_text(), text);
    }
}

/// What stands before the blank line.
fn note_text(note: &str) -> &str {
    note.rfind("\n\n").map_or("", |split| &note[..=split])
}
