//! Nodes behind TLS: only certificates of the authorities that are named.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use chainweb::client::{Client, Config, Trouble};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};

const INFO: &str = r#"{"nodeVersion":"development","nodeApiVersion":"0.0"}"#;

/// Answers every request with what a node says about itself, with a certificate for `localhost`; the port, and the
/// certificate as PEM.
fn serve() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut tls, &mut stream);
            // A client that trusts nobody here hangs up.
            if stream.read(&mut [0; 4096]).is_ok() {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{INFO}",
                    INFO.len()
                );
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (port, pem)
}

fn config(port: u16, authorities: Option<&str>) -> Config {
    let mut config = Config::new("development", [format!("https://localhost:{port}")]);
    config.timeout = Duration::from_secs(10);
    config.authorities = authorities.map(|pem| pem.as_bytes().to_vec());
    config
}

#[tokio::test]
async fn only_named_authorities_are_trusted() {
    let (port, pem) = serve();
    let client = Client::new(&config(port, Some(&pem))).unwrap();
    assert_eq!(client.info().await.unwrap().network, "development");
    let (_, other) = serve();
    let error = Client::new(&config(port, Some(&other))).unwrap().info().await.unwrap_err();
    let trouble = &error.nodes[0].trouble;
    assert!(matches!(trouble, Trouble::Unreachable(why) if why.contains("certificate")), "{trouble}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (port, pem) = serve();
    let mut config = config(port, Some(&pem));
    config.nodes = vec![format!("https://127.0.0.1:{port}")];
    let error = Client::new(&config).unwrap().info().await.unwrap_err();
    let trouble = &error.nodes[0].trouble;
    assert!(matches!(trouble, Trouble::Unreachable(why) if why.contains("certificate")), "{trouble}");
}
