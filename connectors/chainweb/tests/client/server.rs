//! A server that answers as it is told to, and not always as servers should.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chainweb::client::{Client, Config, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// What to do with a request.
pub enum Act {
    /// A status, a content type and a body.
    Answer(u16, &'static str, Vec<u8>),
    /// These bytes, and then the end.
    Raw(Vec<u8>),
    /// These bytes, one by one with a pause between.
    Drip(Vec<u8>, Duration),
    /// These bytes, and the end after a pause.
    Pause(Vec<u8>, Duration),
    /// Nothing, for ever.
    Hang,
}

impl Act {
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::Answer(200, "application/json;charset=utf-8", body.into())
    }

    pub fn text(status: u16, body: &str) -> Self {
        Self::Answer(status, "text/plain;charset=utf-8", body.into())
    }

    pub fn unknown_hash() -> Self {
        Self::Answer(
            404,
            "application/json;charset=utf-8",
            br#"{"key":"x","reason":"key not found"}"#.to_vec(),
        )
    }
}

/// A running server; it stops when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves on a free port.
    pub async fn start(act: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, act) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(act));
        let notes = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (notes, act) = (Arc::clone(&notes), Arc::clone(&act));
                tokio::spawn(async move {
                    // A client that goes away is no failure of the server.
                    let _ = serve(stream, &notes, &*act).await;
                });
            }
        });
        Self { address, asked, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// A client of this server alone.
    pub fn client(&self) -> Client {
        client(&[self.url()])
    }

    /// The only node of such a client.
    pub fn node(&self) -> Arc<Node> {
        Arc::clone(&self.client().nodes()[0])
    }
}

/// A client of `development` that does not wait for long.
pub fn client(nodes: &[String]) -> Client {
    Client::new(&config(nodes)).unwrap()
}

pub fn config(nodes: &[String]) -> Config {
    let mut config = Config::new("development", nodes.iter().cloned());
    config.timeout = Duration::from_millis(600);
    config.connect_timeout = Duration::from_millis(300);
    config
}

async fn serve(
    mut stream: TcpStream,
    notes: &Mutex<Vec<Asked>>,
    act: &(impl Fn(&Asked) -> Act + Send + Sync),
) -> std::io::Result<()> {
    let asked = read(&mut stream).await?;
    notes.lock().unwrap().push(asked.clone());
    match act(&asked) {
        Act::Answer(status, content_type, body) => {
            let head = format!(
                "HTTP/1.1 {status} Said\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Act::Raw(bytes) => stream.write_all(&bytes).await?,
        Act::Drip(bytes, pause) => {
            for byte in bytes {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(pause).await;
            }
        }
        Act::Pause(bytes, pause) => {
            stream.write_all(&bytes).await?;
            tokio::time::sleep(pause).await;
        }
        Act::Hang => std::future::pending().await,
    }
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Asked> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut lines = head.lines();
            let mut first = lines.next().unwrap().split(' ');
            let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
            let header = |line: &str| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_lowercase(), value.to_owned())
            };
            let headers: BTreeMap<_, _> = lines.map(header).collect();
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = String::from_utf8(bytes[end + 4..].to_vec()).unwrap();
                return Ok(Asked { method, path, headers, body });
            }
        }
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}
