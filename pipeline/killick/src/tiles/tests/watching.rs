//! What a monitor makes of files that are not what they should be, of places that fail, and of what it remembers.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use killick_proof::batch::BatchHeader;
use killick_proof::note::{self, SignerKey};
use killick_proof::signature::SecretKey;
use killick_proof::tiles::{Tiler, encode, put_entry};

use super::server::{Answer, Server};
use super::*;
use crate::registry::server::Server as Tls;

/// Whether it is damage, and what is said of it.
fn damage(found: Result<Checked, Trouble>) -> String {
    match found {
        Err(Trouble::Damaged(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn missing(found: Result<Checked, Trouble>) -> String {
    match found {
        Err(Trouble::Missing(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flipped_bit_in_any_file_is_refused() {
    let public = Public::of(FORK);
    let mut refused = 0;
    for (path, bytes) in public.files() {
        let file = public.log().join(&path);
        for bit in (0..bytes.len() * 8).step_by(bytes.len() / 8) {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &changed).unwrap();
            let why = damage(look(&public.place()));
            assert!(why.contains("tile") || why.contains(CHECKPOINT_FILE), "{path}, bit {bit}: {why}");
            refused += 1;
        }
        fs::write(&file, bytes).unwrap();
    }
    assert!(refused > 6 * 60, "{refused}");
    look(&public.place()).unwrap();
}

#[test]
fn a_file_that_is_cut_off_too_long_or_gone_is_told_of() {
    let public = Public::of(FORK);
    for (path, bytes) in public.files() {
        let file = public.log().join(&path);
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&file, &bytes[..length]).unwrap();
            damage(look(&public.place()));
        }
        let mut longer = bytes.clone();
        for more in [1, 1 << 20, 2 << 20] {
            longer.resize(bytes.len() + more, b'\n');
            fs::write(&file, &longer).unwrap();
            damage(look(&public.place()));
        }
        fs::remove_file(&file).unwrap();
        if path == CHECKPOINT_FILE {
            assert!(matches!(look(&public.place()), Err(Trouble::Absent(_))));
        } else {
            assert!(missing(look(&public.place())).contains(&path));
        }
        // What is there is no file.
        fs::create_dir(&file).unwrap();
        missing(look(&public.place()));
        fs::remove_dir(&file).unwrap();
        fs::write(&file, bytes).unwrap();
    }
}

#[test]
fn whoever_has_seen_a_log_that_is_gone_is_told_that_it_is_missing() {
    let public = Public::of(5);
    let mut memory = Memory::open(None, ORIGIN, &keys()).unwrap();
    look_again(&public.place(), None, &mut memory).unwrap();
    missing(look_again(&Public::new().place(), None, &mut memory));
}

#[test]
fn the_log_is_found_at_the_place_itself_if_it_is_this_one() {
    let public = Public::of(5);
    assert_eq!(look(&Place::Folder(public.log())).unwrap().size, 5);
    let other = "plant.example/1/sha256/8";
    let keys = [keys(), vec![Maker::new(other).verifier()]].concat();
    let place = Place::Folder(public.log());
    let mut memory = Memory::open(None, other, &keys).unwrap();
    let found = check(&mut View::new(&place, other, &keys), None, &mut memory, &mut |_| true);
    assert!(matches!(found, Err(Trouble::Absent(_))), "{found:?}");
    // Below its own name it has to be its own.
    let wrong = public.place.path().join(other);
    fs::create_dir_all(&wrong).unwrap();
    fs::copy(public.log().join(CHECKPOINT_FILE), wrong.join(CHECKPOINT_FILE)).unwrap();
    let place = public.place();
    let found = check(&mut View::new(&place, other, &keys), None, &mut memory, &mut |_| true);
    assert!(damage(found).contains("and not of"));
}

#[test]
fn a_checkpoint_counts_only_with_a_right_signature_of_its_log() {
    let other = SignerKey::new(ORIGIN, SecretKey::from_seed(&[1; 32])).unwrap();
    let own = SignerKey::new(ORIGIN, SecretKey::from_seed(&[9; 32])).unwrap();
    let text = format!("{ORIGIN}\n5\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n");
    let read = |note: &str| Signed::read(note.as_bytes(), ORIGIN, &keys());
    let good = note::sign(&text, &[&own]).unwrap();
    assert_eq!(read(&good).unwrap().size, 5);
    assert!(read(&note::sign(&text, &[&other]).unwrap()).unwrap_err().contains("no known key"));
    assert_eq!(read(&note::sign(&text, &[&other, &own]).unwrap()).unwrap().size, 5);
    assert!(read(&good.replace("\n5\n", "\n6\n")).unwrap_err().contains("wrong"));
    assert!(read(&text).unwrap_err().contains("signature"));
    let empty = note::sign(&text.replace("\n5\n", "\n0\n"), &[&own]).unwrap();
    assert!(read(&empty).unwrap_err().contains("at least 1"));
    let named = "plant.example/1/sha256/8";
    assert!(Signed::read(good.as_bytes(), named, &keys()).unwrap_err().contains("and not of"));
}

/// Publishes entries under the log's own key, whatever they are.
fn publish_entries(entries: &[Bytes]) -> Public {
    let public = Public::new();
    let shelf = Folder::open(public.log()).unwrap();
    let put = |path: &str, bytes: &[u8]| crate::tiles::shelf::Shelf::put(&shelf, path, bytes).unwrap();
    let (mut tiler, mut bundle) = (Tiler::default(), Vec::new());
    for entry in entries {
        put_entry(&mut bundle, entry).unwrap();
        tiler.append(Algorithm::Sha256.leaf(entry), |_, _| panic!("fewer than a tile")).unwrap();
    }
    for (tile, hashes) in tiler.partial() {
        put(&tile.path(), &encode(hashes));
        put(&tile.entries_path(), &bundle);
    }
    let signer = SignerKey::new(ORIGIN, SecretKey::from_seed(&[9; 32])).unwrap();
    let checkpoint = Checkpoint { origin: ORIGIN, size: tiler.size(), root: tiler.root(), extensions: "" };
    put(CHECKPOINT_FILE, checkpoint.sign(&signer).unwrap().as_bytes());
    public
}

#[test]
fn entries_that_no_log_of_ours_has_are_told_of_even_if_they_are_signed() {
    let catalog = &histories()[0].catalog;
    let entries: Vec<Bytes> =
        (0..6).map(|number| catalog.batch(ORIGIN, number).unwrap().unwrap().header).collect();
    assert_eq!(look(&publish_entries(&entries).place()).unwrap().entries, 6);
    let changed = |change: &dyn Fn(&mut BatchHeader<'_>)| {
        let mut header = BatchHeader::decode(&entries[3]).unwrap();
        change(&mut header);
        Bytes::from(header.encode().unwrap())
    };
    let cases = [
        (Bytes::from_static(b"hello"), "array"),
        (Bytes::new(), "header"),
        (entries[2].clone(), "batch 2, and 3 is next"),
        (entries[4].clone(), "batch 4, and 3 is next"),
        (changed(&|header| header.last_offset += 1), "begins at offset 4, and 5 is next"),
        (
            changed(&|header| (header.first_offset, header.last_offset) = (4, 4)),
            "begins at offset 4, and 3 is next",
        ),
        (changed(&|header| header.first_time = -1), "before that of the last"),
        (changed(&|header| header.origin = Origin::parse("plant.example/1/sha256/8").unwrap()), "of the log"),
    ];
    for (entry, why) in cases {
        let mut entries = entries.clone();
        entries[3] = entry;
        match look(&publish_entries(&entries).place()) {
            Err(Trouble::Wrong(told)) => {
                assert!(told.contains(why) && told.contains(ORIGIN), "{told}");
            }
            other => panic!("{why}: {other:?}"),
        }
    }
    // Longer than any header is: it is not even read.
    damage(look(&publish_entries(&[Bytes::from(vec![7; 600])]).place()));
}

#[test]
fn a_state_that_does_not_serve_is_refused() {
    let states = tempfile::tempdir().unwrap();
    let open = || Memory::open(Some(states.path()), ORIGIN, &keys());
    let mut memory = open().unwrap();
    look_again(&Public::of(300).place(), None, &mut memory).unwrap();
    let again = open().unwrap();
    assert_eq!((&again.kept, &again.log, &again.next), (&memory.kept, &memory.log, &memory.next));
    let path = states.path().join(ORIGIN).join("state.json");
    let good = fs::read_to_string(&path).unwrap();
    let cases = [
        (String::new(), "no state"),
        ("[]".to_owned(), "no state"),
        (good.replace("monitor/1", "monitor/2"), "format"),
        (good.replacen("/7", "/8", 1), "it is of"),
        (good.replace("\\n300\\n", "\\n301\\n"), "not believed"),
        (good.replace("\"nextOffset\": 300", "\"nextOffset\": 9007199254740993"), "cannot be"),
        (good.replace("\"checked\": \"", "\"checked\": \"_"), "state.json"),
    ];
    for (bad, why) in cases {
        assert_ne!(bad, good, "{why}");
        fs::write(&path, &bad).unwrap();
        let refused = format!("{:#}", open().unwrap_err());
        assert!(refused.contains(why) && refused.contains("state.json"), "{why}: {refused}");
    }
    // Entries that were never checked: the tree that they make is another.
    let mut other = killick_proof::log::Log::new(Algorithm::Sha256);
    other.append(Hash::new([1; 32]), |_, _| {}).unwrap();
    memory.log = other;
    memory.next.number = 1;
    memory.next.offset = 1;
    memory.save().unwrap();
    let found = look_again(&Public::of(300).place(), None, &mut open().unwrap());
    assert!(matches!(found, Err(Trouble::Failed(_))), "{found:?}");
}

#[test]
fn whoever_is_told_to_end_goes_on_later_where_it_was() {
    let (public, states) = (Public::of(SIZE), tempfile::tempdir().unwrap());
    let keys = keys();
    let mut memory = Memory::open(Some(states.path()), ORIGIN, &keys).unwrap();
    let place = public.place();
    let found = check(&mut View::new(&place, ORIGIN, &keys), None, &mut memory, &mut |checked| checked < 512);
    assert!(matches!(found, Err(Trouble::Stopped)), "{found:?}");
    let mut memory = Memory::open(Some(states.path()), ORIGIN, &keys).unwrap();
    let checked = look_again(&place, None, &mut memory).unwrap();
    assert_eq!((checked.before, checked.entries), (SIZE, SIZE - 512));
}

#[test]
fn a_log_is_followed_over_http() {
    let (public, server_of) = (Public::of(256), Public::of(256));
    let server = Server::start(public.place.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = server.place(&runtime);
    let mut memory = Memory::open(None, ORIGIN, &keys()).unwrap();
    assert_eq!(look_again(&place, None, &mut memory).unwrap().entries, 256);
    public.publish(0, SIZE).unwrap();
    let next = look_again(&place, Some(&server_of.place()), &mut memory).unwrap();
    assert_eq!((next.before, next.size, next.entries, next.also), (256, SIZE, SIZE - 256, Some(256)));
}

#[test]
fn a_server_that_fails_decides_nothing_and_cannot_keep_the_monitor() {
    let public = Public::of(FORK);
    let server = Server::start(public.place.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = server.place(&runtime);
    let looks = |fault| {
        server.fault(Some(fault));
        look(&place)
    };
    for (answer, why) in [
        (Answer::Status(500), "status 500"),
        (Answer::Status(302), "status 302"),
        (Answer::CutOff, "tile/0/000 cannot be read"),
        (Answer::Status(404), "tile/0/000 is not there"),
        (Answer::Status(403), "tile/0/000 is not there"),
    ] {
        let told = missing(looks(("tile/0/000", answer, u32::MAX)));
        assert!(told.contains(why), "{told}");
    }
    // One failure is none: it is asked again.
    for answer in [Answer::Status(503), Answer::CutOff] {
        assert_eq!(looks(("tile/1/000.p/1", answer, 2)).unwrap().size, FORK);
    }
    // Much more than such a file can have: it is read no further, and damage.
    for (path, most) in [("tile/0/000", 8_192), ("tile/entries/000", 131_584), ("checkpoint", 1 << 20)] {
        let told = damage(looks((path, Answer::Endless(64 << 20), u32::MAX)));
        assert!(told.contains(&format!("{path} has more than {most} bytes")), "{told}");
    }
    let begun = Instant::now();
    missing(looks(("tile/0/000", Answer::Silence(Duration::from_millis(1_500)), u32::MAX)));
    assert!(begun.elapsed() < Duration::from_secs(20));
    server.fault(None);
    look(&place).unwrap();
    let nobody = Place::parse("http://127.0.0.1:1/", None, Duration::from_secs(1), runtime.handle()).unwrap();
    missing(look(&nobody));
}

#[test]
fn an_address_with_more_than_a_place_in_it_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let parse = |text: &str| Place::parse(text, None, Duration::from_secs(1), runtime.handle());
    for wrong in [
        "http://",
        "https://me@plant.example/",
        "https://:secret@plant.example/",
        "http://a/?b",
        "http://a/#b",
    ] {
        let error = parse(wrong).err().map(|error| format!("{error:#}"));
        assert!(error.as_ref().is_some_and(|error| !error.contains("secret")), "{wrong}: {error:?}");
    }
    let at = |text: &str| parse(text).unwrap().at("x/checkpoint");
    assert_eq!(at("http://127.0.0.1:1/logs"), "http://127.0.0.1:1/logs/x/checkpoint");
    assert_eq!(at("http://127.0.0.1:1"), "http://127.0.0.1:1/x/checkpoint");
    assert_eq!(at("public"), "public/x/checkpoint");
}

#[test]
fn over_https_only_the_authorities_that_were_named_count() {
    let note = fs::read_to_string(Public::of(1).log().join(CHECKPOINT_FILE)).unwrap();
    let (server, pem) = Tls::tls(vec![("GET /checkpoint", 200, note.clone())]);
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), pem).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let read = |ca| {
        let place =
            Place::parse(&server.settings().url, ca, Duration::from_secs(5), runtime.handle()).unwrap();
        place.read(CHECKPOINT_FILE, MAX_CHECKPOINT)
    };
    assert_eq!(read(Some(ca.path())).unwrap(), Some(note.into_bytes()));
    let refused = read(None).unwrap_err().to_string();
    assert!(refused.contains("cannot be read"), "{refused}");
    let no_ca =
        Place::parse("https://a/", Some(Path::new("no such file")), Duration::from_secs(5), runtime.handle());
    assert!(no_ca.is_err());
}
