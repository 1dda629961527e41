use super::*;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killick.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.path().join("acme.secret"), "0123456789abcdef\n").unwrap();
    let authority = rcgen::generate_simple_self_signed(["node.example".to_owned()]).unwrap();
    std::fs::write(folder.path().join("authorities.pem"), authority.cert.pem()).unwrap();
    let reading = r#"{"type": "record", "name": "Reading", "fields": [
        {"name": "machine", "type": {"type": "record", "name": "Machine", "fields": [{"name": "name", "type": "string"}]}},
        {"name": "number", "type": "long"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
    std::fs::write(folder.path().join("reading.avsc"), reading).unwrap();
    std::fs::write(folder.path().join("broken.avsc"), "{").unwrap();
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from_parts(Some(&path), &variables).map_err(|error| error.to_string())
}

#[test]
fn the_example_is_right_and_shows_the_defaults() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/killick.example.toml");
    let text = std::fs::read_to_string(&example).unwrap();
    let config = Config::from_parts(Some(&example), &[]).unwrap();
    // Every setting that is on says its default, so that the comments beside it are believed.
    let defaults = Config::default();
    assert_eq!(show::toml(&config), show::toml(&defaults));
    // And what is commented out is right too.
    let whole = text.replace("\n#: ", "\n").replace("\n#:", "\n");
    assert_ne!(whole, text);
    let config = load(&whole, &[]).unwrap();
    assert_eq!((config.sources.len(), config.devices.len(), config.tenants.len()), (3, 1, 1));
    for section in [
        "deployment",
        "source",
        "registry",
        "device",
        "tenant",
        "dedup",
        "batch",
        "anchor",
        "prove",
        "kafka",
        "kafka.security",
        "catalog",
        "catalog.security",
        "keys",
        "chainweb",
        "devnet",
        "embedded",
        "admin",
    ] {
        assert!(text.contains(&format!("[{section}")), "{section}");
    }
}

#[test]
fn what_is_shown_says_the_same_and_no_secret() {
    let config = load(
        r#"
        [[source]]
        topic = "raw"
        decoder = "raw"
        mapping = { source = { constant = "x" }, id = "key", time = { pointer = "/t" }, type = { header = "h" }, time_format = "ms" }
        tenant = "acme"
        unsigned = "accept"
        [[source]]
        topic = "avro"
        framing = "registry"
        schema_file = "reading.avsc"
        mapping = { id = { pointer = "/number" } }
        [registry]
        url = "https://registry.example/apis/ccompat/v7"
        username = "killick"
        password_file = "registry.password"
        [[source]]
        topic = "old"
        freshness = "off"
        [[device]]
        tenant = "acme"
        source = "pump"
        key = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        until = 5
        [tenant.acme]
        secret = "a secret of acme"
        "#,
        &[],
    )
    .unwrap();
    let text = show::toml(&config);
    assert!(text.contains("***") && !text.contains("a secret of acme"), "{text}");
    assert!(!format!("{config:?}").contains("a secret of acme"));
    let again = load(&text.replace("***", "another secret of acme"), &[]).unwrap();
    assert_eq!((&again.sources, &again.devices), (&config.sources, &config.devices));
    assert_eq!(show::toml(&again), text);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
    let error = load("[batch]\nmax_leaves = 5\nwidht = \"1s\"\n", &[]).unwrap_err();
    for part in ["killick.toml", "line 3", "widht", "did you mean `width`?"] {
        assert!(error.contains(part), "{error}");
    }
    let error = load("[bacth]\n", &[]).unwrap_err();
    assert!(error.contains("did you mean `batch`?"), "{error}");
    let error = load("[[source]]\ntopic = \"a\"\ndecoder = \"avor\"\n", &[]).unwrap_err();
    assert!(error.contains("line 3") && error.contains("did you mean `avro`?"), "{error}");
    let error = load("[batch]\nzzzzzzzzz = 1\n", &[]).unwrap_err();
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn the_environment_stands_above_the_file() {
    let config = load(
        "[batch]\nwidth = \"1s\"\nmax_leaves = 7\n",
        &[
            ("KILLICK_BATCH__WIDTH", "2s"),
            ("KILLICK_DEPLOYMENT__NAME", "123"),
            ("KILLICK_DEPLOYMENT__CHAINS", "[3, 4]"),
            ("KILLICK_TENANT__ACME__SECRET", "0123456789abcdef"),
            ("KILLICK_SOURCE", "[{ topic = \"events\" }]"),
            // Not settings: an option, and what Kubernetes sets for a service of that name.
            ("KILLICK_EMBEDDED", "site"),
            ("KILLICK_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ],
    )
    .unwrap();
    assert_eq!((config.batch.width, config.batch.max_leaves), (Span::secs(2), 7));
    assert_eq!((config.deployment.name.as_str(), config.deployment.chains), ("123", vec![3, 4]));
    assert_eq!((config.sources.len(), config.tenants.len()), (1, 1));
}

#[test]
fn a_wrong_variable_is_named_and_its_value_is_not() {
    let error = load("", &[("KILLICK_BATCH__WIDHT", "1s")]).unwrap_err();
    assert!(error.contains("KILLICK_BATCH__WIDHT") && error.contains("did you mean `width`?"), "{error}");
    let error = load("", &[("KILLICK_BATCH", "1s"), ("KILLICK_BATCH__WIDTH", "soon")]).unwrap_err();
    assert!(error.contains("KILLICK_BATCH__WIDTH") && error.contains("length of time"), "{error}");
    let error = load("", &[("KILLICK_BATCH__WIDTH__X", "1")]).unwrap_err();
    assert!(error.contains("KILLICK_BATCH__WIDTH__X"), "{error}");
}

#[test]
fn what_cannot_work_is_refused_with_its_section() {
    for (text, parts) in [
        ("[deployment]\nlogs = 0\n", ["[deployment]", "1 to 4096"]),
        ("[batch]\nmax_leaves = 0\n", ["[batch]", "1 to 8192"]),
        ("[dedup]\nwindow = \"1m\"\n", ["[dedup]", "1h to 90d"]),
        ("[anchor]\ndepth = 0\n", ["[anchor]", "depth"]),
        ("[kafka]\n", ["[kafka]", "host:port"]),
        ("[kafka]\nbrokers = [\"x:1\"]\nmin_in_sync = 4\n", ["[kafka]", "1 to replication"]),
        ("[kafka]\nbrokers = [\"x:1\"]\npoll_timeout = \"20s\"\n", ["[kafka]", "twice transaction_timeout"]),
        ("[kafka]\nbrokers = [\"x:1\"]\nsecurity.mechanism = \"PLAIN\"\n", ["[kafka]", "go together"]),
        ("[chainweb]\n", ["[chainweb]", "no node is named"]),
        ("[chainweb]\nnodes = [\"ftp://x\"]\n", ["[chainweb]", "http:// or https://"]),
        ("[chainweb]\nnodes = [\"http://x\"]\ntimeout = \"1ms\"\n", ["[chainweb]", "1s to 5m"]),
        ("[prove]\npoll = \"1ms\"\n", ["[prove]", "10ms to 10m"]),
        ("[prove]\nschema_ids.receipt = 2147483648\n", ["[prove]", "an id is 0 to 2147483647"]),
        ("[catalog]\n", ["[catalog]", "1 to 64"]),
        ("[catalog]\nnodes = [\"a:1\"]\nretention = \"2y\"\n", ["line 3", "unknown variant `2y`"]),
        (
            "[catalog]\nnodes = [\"a:1\"]\ntenants = { p = \"30d\" }\n[dedup]\nwindow = \"29d\"\n\
             [[source]]\ntopic = \"t\"\nfreshness = \"1d\"\n",
            ["tenant p are kept for 30d", "choose a longer class"],
        ),
        ("[devnet]\nblock_interval = \"1ms\"\n", ["[devnet]", "10ms to 1h"]),
        ("[embedded]\nretention = \"1s\"\n", ["[embedded]", "1m to 3660d"]),
        ("[[source]]\ntopic = \"a\"\nmax_payload = 0\n", ["a", "max_payload"]),
        ("[[source]]\ntopic = \"a\"\nfreshness = \"25h\"\n", ["[source]", "an old copy would pass"]),
        ("[registry]\n", ["[registry]", "where is the registry"]),
        ("[registry]\nurl = \"x:1\"\n", ["[registry]", "http:// or https://"]),
        ("[[source]]\ntopic = \"a\"\nmapping = { id = \"key\" }\n", ["`a`", "needs schema_file"]),
        (
            "[[source]]\ntopic = \"a\"\nframing = \"registry\"\nmapping = { id = \"key\" }\n",
            ["`a`", "a [registry] to ask"],
        ),
        (
            "[[source]]\ntopic = \"a\"\ndecoder = \"raw\"\nmapping = { id = { pointer = \"id\" } }\n",
            ["`a`", "mapping id: \"id\": a pointer begins with /"],
        ),
        (
            "[[source]]\ntopic = \"a\"\nschema_file = \"reading.avsc\"\nmapping = { id = { pointer = \"/id\" } }\n",
            ["`a`", "no value at \"/id\""],
        ),
        ("[[source]]\ntopic = \"a\"\nschema_file = \"missing.avsc\"\n", ["[source]", "missing.avsc"]),
        ("[[source]]\ntopic = \"a\"\nschema_file = \"broken.avsc\"\n", ["`a`", "schema_file: no JSON"]),
        ("[[source]]\ntopic = \"a\"\nschema_file = \"reading.avsc\"\n", ["`a`", "a mapping would say"]),
        ("[[device]]\ntenant = \"a\"\nsource = \"b\"\nkey = \"x\"\n", ["a/b", "device"]),
        ("[tenant.acme]\n", ["[tenant.acme]", "secret_file"]),
        ("[tenant.acme]\nsecret_file = \"missing\"\n", ["[tenant.acme]", "missing"]),
        ("[tenant.acme]\nsecret = \"short\"\n", ["tenant", "acme"]),
        (
            "[tenant.acme]\nsecret = \"0123456789abcdef\"\nsecret_file = \"x\"\n",
            ["[tenant.acme]", "one of them"],
        ),
        ("nonsense", ["killick.toml", "line 1"]),
    ] {
        let error = load(text, &[]).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
    }
}

#[test]
fn a_secret_comes_from_a_file_beside_the_configuration() {
    let config = load("[tenant.acme]\nsecret_file = \"acme.secret\"\n", &[]).unwrap();
    assert_eq!(config.tenants["acme"].secret, Some(Secret::new("0123456789abcdef")));
    assert!(show::toml(&config).contains("secret_file"));
}
