//! A registry of the tests: a table of answers on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use killick_stages::span::Span;

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
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
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
                let answer = answers.iter().find(|(of, ..)| *of == what).or(answers.last()).unwrap();
                let text = String::from_utf8(body).unwrap();
                seen.lock().unwrap().push((what, header("authorization:"), text));
                let (_, status, body) = answer;
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let mut stream = reader.into_inner();
                // Who asked may have read enough.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
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
