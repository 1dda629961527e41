//! A registry of the tests: a table of answers on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use killick_stages::span::Span;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Settings;

/// A question as the server saw it: method and path, the header `authorization`, the body.
pub type Asked = (String, String, String);

/// A server on loopback that answers each path as a table says, and everything else with the last entry's answer.
pub struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answers: Vec<(&'static str, u16, String)>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), answers)
    }

    pub fn on(listener: TcpListener, answers: Vec<(&'static str, u16, String)>) -> Self {
        let address = format!("http://{}/apis/ccompat/v7", listener.local_addr().unwrap());
        Self::serve(listener, address, answers, Some)
    }

    /// The same over TLS, and the certificate that has to be trusted for it, in PEM.
    pub fn tls(answers: Vec<(&'static str, u16, String)>) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let wrap = move |stream| {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream: TcpStream = stream;
            // A client that does not trust the certificate goes away here.
            connection.complete_io(&mut stream).ok()?;
            Some(StreamOwned::new(connection, stream))
        };
        (Self::serve(listener, address, answers, wrap), made.cert.pem())
    }

    fn serve<S: Read + Write>(
        listener: TcpListener,
        address: String,
        answers: Vec<(&'static str, u16, String)>,
        wrap: impl Fn(TcpStream) -> Option<S> + Send + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if let Some(stream) = wrap(stream.unwrap()) {
                    answer(stream, &answers, &seen);
                }
            }
        });
        Self { address, asked }
    }

    pub fn settings(&self) -> Settings {
        Settings { url: self.address.clone(), timeout: Span::secs(5), ..Settings::default() }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(stream: impl Read + Write, answers: &[(&'static str, u16, String)], seen: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        let line = lines.iter().find(|line| line.to_ascii_lowercase().starts_with(name));
        line.map_or_else(String::new, |line| line[name.len()..].trim().to_owned())
    };
    let mut body = vec![0; header("content-length:").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let what = lines[0].trim_end_matches(" HTTP/1.1").to_owned();
    let (_, status, answer) = answers.iter().find(|(of, ..)| *of == what).or(answers.last()).unwrap();
    seen.lock().unwrap().push((what, header("authorization:"), String::from_utf8(body).unwrap()));
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    let mut stream = reader.into_inner();
    // Who asked may have read enough.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes()));
    let _ = stream.flush();
}
