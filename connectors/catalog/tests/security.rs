//! A node that demands TLS and a password.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use killick_catalog::{CqlCatalog, Error, Security, Settings};
use killick_contract::catalog::Maker;
use killick_stages::ports::Catalog;

mod support;

use support::own::Node;

/// A password that no message may show.
const WRONG: &str = "wrong-and-not-to-be-shown";

fn refused(settings: &Settings, security: Security) -> String {
    let settings = Settings { security, ..settings.clone() };
    let error = CqlCatalog::new(&settings).unwrap().open().unwrap_err();
    assert!(!error.is_transient(), "waiting does not help: {error}");
    let text = format!("{error} {error:?} {settings:?}");
    assert!(!text.contains(WRONG), "{text}");
    error.to_string()
}

fn unreadable(settings: &Settings, security: Security) -> String {
    let settings = Settings { security, ..settings.clone() };
    CqlCatalog::new(&settings).err().expect("a file is wrong").to_string()
}

fn file(folder: &Path, name: &str, content: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn only_who_knows_the_authority_and_the_password_comes_in_and_others_are_told_what_to_do() {
    let node = Node::start(&["--secure"]);
    let place = tempfile::tempdir().unwrap();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let stranger = file(place.path(), "stranger.pem", &stranger.cert.pem());
    let wrong = file(place.path(), "wrong.password", &format!("{WRONG}\n"));
    let empty = file(place.path(), "empty.password", "\n");
    let right = Security {
        tls: true,
        ca_file: Some(node.dir.join("cassandra/ca.pem")),
        username: Some("cassandra".to_owned()),
        password_file: Some(file(place.path(), "right.password", "cassandra\n")),
        ..Security::default()
    };
    let settings = support::settings(vec![node.address.clone()]);

    for (security, part) in [
        (Security { password_file: Some(wrong), ..right.clone() }, "does not let cassandra in"),
        (Security { username: None, password_file: None, ..right.clone() }, "wants a name and a password"),
        (Security { ca_file: Some(stranger.clone()), ..right.clone() }, "TLS"),
        (Security { server_name: Some("other.example".to_owned()), ..right.clone() }, "server_name"),
    ] {
        let text = refused(&settings, security);
        assert!(text.contains(part) && text.contains("[catalog.security]"), "{text}");
    }
    for (security, part) in [
        (Security { password_file: Some(empty), ..right.clone() }, "it is empty"),
        (Security { password_file: Some(place.path().join("none")), ..right.clone() }, "No such file"),
        (
            Security { ca_file: Some(right.password_file.clone().unwrap()), ..right.clone() },
            "no certificates in PEM",
        ),
        (
            Security {
                certificate_file: Some(stranger),
                key_file: right.password_file.clone(),
                ..right.clone()
            },
            "no private key in PEM",
        ),
        (Security { server_name: Some("a b".to_owned()), ..right.clone() }, "no name of a server"),
    ] {
        let text = unreadable(&settings, security);
        assert!(text.contains(part), "{text}");
    }
    // Without TLS the node hangs up: nobody can tell that from one that is away.
    let plain = Security { tls: false, ca_file: None, ..right.clone() };
    let away =
        CqlCatalog::new(&Settings { security: plain, ..settings.clone() }).unwrap().open().unwrap_err();
    assert!(matches!(away, Error::Away { .. }), "{away}");

    // By its address, and by the name that all nodes share.
    for (number, server_name) in [None, Some("localhost".to_owned())].into_iter().enumerate() {
        let security = Security { server_name, ..right.clone() };
        let catalog = CqlCatalog::new(&Settings { security, ..settings.clone() }).unwrap();
        catalog.migrate().unwrap();
        let origin = format!("security.example/1/sha256/{number}");
        let batch = Maker::new(&origin).batch(0, &["a"], 30);
        catalog.put_batch(&batch).unwrap();
        assert_eq!(catalog.batch(&origin, 0).unwrap(), Some(batch));
    }
}
