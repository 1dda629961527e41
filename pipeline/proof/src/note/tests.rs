use proptest::prelude::*;

use super::*;

const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_SECRET: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PETER_LINE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const ENOCH_LINE: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

fn key(text: &str) -> VerifierKey {
    text.parse().unwrap()
}

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey::new(name, SecretKey::from_seed(&[seed; 32])).unwrap()
}

#[test]
fn signing_gives_the_published_note() {
    let signer: SignerKey = PETER_SECRET.parse().unwrap();
    assert_eq!(signer.to_secret_text(), PETER_SECRET);
    assert_eq!(signer.verifier().to_string(), PETER);
    assert_eq!(sign(TEXT, &[&signer]).unwrap(), format!("{TEXT}\n{PETER_LINE}"));
    assert!(!format!("{signer:?}").contains("gQoU"), "a debug print shows no secret");
}

#[test]
fn known_keys_verify_and_unknown_ones_are_counted() {
    let keys = [key(PETER), key(ENOCH)];
    let note = format!("{TEXT}\n{PETER_LINE}{ENOCH_LINE}");
    let note = Note::parse(&note).unwrap();
    assert_eq!(note.text(), TEXT);
    assert_eq!(note.verify(&keys).unwrap(), Opened { verified: vec![&keys[0], &keys[1]], unverified: 0 });
    assert_eq!(note.verify(&keys[1..]).unwrap(), Opened { verified: vec![&keys[1]], unverified: 1 });
    assert_eq!(note.verify(&[]).unwrap(), Opened { verified: vec![], unverified: 2 });
    assert_eq!(note.verdict(&signer("PeterNeumann", 1).verifier()), Verdict::Absent);
}

#[test]
fn a_wrong_signature_of_a_known_key_is_wrong_also_beside_a_right_one() {
    let wrong_line = PETER_LINE.replace("x08go/ZJ", "x08go/ZK");
    let keys = [key(PETER), key(ENOCH)];
    for lines in [
        wrong_line.clone(),
        format!("{PETER_LINE}{wrong_line}"),
        format!("{wrong_line}{PETER_LINE}"),
        format!("{ENOCH_LINE}{wrong_line}"),
    ] {
        let note = format!("{TEXT}\n{lines}");
        let note = Note::parse(&note).unwrap();
        let error = note.verify(&keys).unwrap_err();
        assert_eq!(error, NoteError::WrongSignature { name: "PeterNeumann".to_owned(), id: 0xc74f_20a3 });
        assert_eq!(note.verdict(&keys[0]), Verdict::Wrong);
        assert!(note.verify(&keys[1..]).is_ok(), "nobody can judge it who does not know the key");
    }
    let short = format!("{TEXT}\n— PeterNeumann x08goww=\n");
    assert_eq!(Note::parse(&short).unwrap().verdict(&keys[0]), Verdict::Wrong);
}

#[test]
fn the_same_line_twice_counts_once_and_a_key_given_twice_is_ambiguous() {
    let note = format!("{TEXT}\n{PETER_LINE}{PETER_LINE}{ENOCH_LINE}{ENOCH_LINE}");
    let note = Note::parse(&note).unwrap();
    let keys = [key(PETER)];
    assert_eq!(note.verify(&keys).unwrap(), Opened { verified: vec![&keys[0]], unverified: 1 });
    let error = note.verify(&[key(PETER), key(ENOCH), key(PETER)]).unwrap_err();
    assert_eq!(error, NoteError::AmbiguousKey { name: "PeterNeumann".to_owned(), id: 0xc74f_20a3 });
}

#[test]
fn signatures_are_added_and_replaced() {
    let signers = [signer("log", 1), signer("witness.example/w1", 2), signer("log", 3)];
    let first = sign(TEXT, &[&signers[0]]).unwrap();
    let second = Note::parse(&first).unwrap().with_signature(&signers[1]).unwrap();
    let third = Note::parse(&second).unwrap().with_signature(&signers[2]).unwrap();
    assert_eq!(third, sign(TEXT, &[&signers[0], &signers[1], &signers[2]]).unwrap());
    let again = Note::parse(&third).unwrap().with_signature(&signers[0]).unwrap();
    assert_eq!(again, sign(TEXT, &[&signers[1], &signers[2], &signers[0]]).unwrap());
    let keys = signers.each_ref().map(SignerKey::verifier);
    assert_eq!(Note::parse(&again).unwrap().verify(&keys).unwrap().verified.len(), 3);
}

#[test]
fn a_hundred_signatures_are_read_and_no_more() {
    let lines = PETER_LINE.repeat(MAX_SIGNATURES);
    let full = format!("{TEXT}\n{lines}");
    assert_eq!(Note::parse(&full).unwrap().signatures().len(), MAX_SIGNATURES);
    let over = format!("{full}{PETER_LINE}");
    assert_eq!(Note::parse(&over), Err(NoteError::TooManySignatures));
    assert_eq!(
        Note::parse(&full).unwrap().with_signature(&signer("log", 1)),
        Err(NoteError::TooManySignatures)
    );
}

#[test]
fn what_is_not_the_form_is_refused() {
    let line = PETER_LINE.trim_end();
    let cases = [
        (TEXT.to_owned(), NoteError::NoSignatures),
        (format!("{TEXT}\n"), NoteError::NoSignatures),
        (format!("{TEXT}{PETER_LINE}"), NoteError::NoSignatures),
        (format!("{TEXT}\n{line}"), NoteError::NoSignatures),
        (format!("{TEXT}\n{PETER_LINE}\n"), NoteError::NoSignatures),
        (format!("{TEXT}\n{PETER_LINE}unexpected\n"), NoteError::SignatureLine(2)),
        (format!("\u{1}{TEXT}\n{PETER_LINE}"), NoteError::NotText),
        (format!("{TEXT}\t\n\n{PETER_LINE}"), NoteError::NotText),
        (format!("{TEXT}\r\n\r\n{PETER_LINE}"), NoteError::NotText),
        (format!("{TEXT}\n{}\n", line.replace('—', "-")), NoteError::SignatureLine(1)),
        (format!("{TEXT}\n{}\n", line.replace("Neumann", " Neumann")), NoteError::SignatureLine(1)),
        (format!("{TEXT}\n{}\n", line.replace("Neumann", "\u{a0}Neumann")), NoteError::SignatureLine(1)),
        (format!("{TEXT}\n{}\n", line.replace("Neumann", "+Neumann")), NoteError::SignatureLine(1)),
        (format!("{TEXT}\n{}\n", line.replace("PeterNeumann", "")), NoteError::SignatureLine(1)),
        (format!("{TEXT}\n{line} \n"), NoteError::SignatureLine(1)),
        (format!("{TEXT}\n{}\n", line.trim_end_matches('=')), NoteError::SignatureLine(1)),
        (format!("{TEXT}\n{}\n", line.replace("nAM=", "nAN=")), NoteError::SignatureLine(1)),
        (format!("{TEXT}\n— PeterNeumann x08gow==\n"), NoteError::SignatureLine(1)),
        (format!("{TEXT}\n— PeterNeumann \n"), NoteError::SignatureLine(1)),
    ];
    for (note, error) in cases {
        assert_eq!(Note::parse(&note), Err(error), "{note:?}");
    }
    assert_eq!(Note::from_bytes(b"\xff\n\n"), Err(NoteError::NotText));
    let long = vec![b'a'; MAX_NOTE + 1];
    assert_eq!(Note::from_bytes(&long), Err(NoteError::TooLong(MAX_NOTE + 1)));
}

#[test]
fn a_text_with_blank_lines_ends_at_the_last_one() {
    let signer = signer("log", 1);
    let text = "one\n\n— two eHg=\n\nthree\n";
    let note = sign(text, &[&signer]).unwrap();
    assert_eq!(Note::parse(&note).unwrap().text(), text);
    assert_eq!(sign("no newline", &[&signer]), Err(NoteError::Text));
    assert_eq!(sign("a\tb\n", &[&signer]), Err(NoteError::NotText));
    assert_eq!(sign(TEXT, &[]), Err(NoteError::NoSignatures));
}

#[test]
fn no_mangled_key_is_read() {
    for text in [PETER, PETER_SECRET] {
        let read = |text: &str| text.parse::<VerifierKey>().is_ok() || text.parse::<SignerKey>().is_ok();
        assert!(read(text));
        for start in 0..text.len() {
            for end in start..=text.len() {
                assert!((start, end) == (0, text.len()) || !read(&text[start..end]), "{start}..{end}");
            }
        }
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] += 1;
            assert!(!read(std::str::from_utf8(&bytes).unwrap()), "byte {at}");
        }
    }
    let kind = "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse::<VerifierKey>();
    assert_eq!(kind, Err(NoteKeyError::Type(0x65)));
    assert!(
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY=="
            .parse::<VerifierKey>()
            .is_err()
    );
    assert!(PETER.replace("c74f20a3", "C74F20A3").parse::<VerifierKey>().is_err());
    let weak = VerifierKey { name: "n".to_owned(), id: key_id("n", &[0; 32]), key: key(PETER).key };
    let weak = format!("n+{:08x}+{}", weak.id, base64(&typed(&[0; 32])));
    assert_eq!(weak.parse::<VerifierKey>(), Err(NoteKeyError::Key(KeyError::SmallOrder)));
}

proptest! {
    #[test]
    fn a_signed_text_opens_and_a_changed_one_does_not(
        text in "[ -~äß\n]{0,80}\n", name in "[a-z/.]{1,20}", seed in any::<[u8; 32]>(), other in any::<[u8; 32]>(),
        at in any::<prop::sample::Index>(), flip in 1..128_u8,
    ) {
        prop_assume!(seed != other);
        let signers = [seed, other].map(|seed| SignerKey::new(&name, SecretKey::from_seed(&seed)).unwrap());
        let note = sign(&text, &[&signers[0], &signers[1]]).unwrap();
        let keys = signers.each_ref().map(SignerKey::verifier);
        for key in &keys {
            prop_assert_eq!(&key.to_string().parse::<VerifierKey>().unwrap(), key);
        }
        let read = Note::parse(&note).unwrap();
        prop_assert_eq!(read.text(), &text);
        prop_assert_eq!(read.verify(&keys).unwrap().verified.len(), 2);
        let mut changed = note.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] ^= flip;
        if let Ok(changed) = Note::from_bytes(&changed) {
            let is_same = changed.text() == text && changed.verify(&keys).is_ok_and(|opened| opened.verified.len() == 2);
            prop_assert!(!is_same, "byte {}", at);
        }
    }

    #[test]
    fn no_input_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,40}") {
        let _ = Note::from_bytes(&bytes);
        let _ = Note::parse(&text);
        let _ = Note::parse(&format!("a\n\n— {text}\n"));
        let _ = (text.parse::<VerifierKey>(), text.parse::<SignerKey>());
    }
}
