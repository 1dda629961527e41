//! A web server of the tests: the files of a folder on loopback, and answers that no good server gives.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

/// What the server does instead of giving the file.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status, and no file.
    Status(u16),
    /// So many bytes, without saying how many.
    Endless(usize),
    /// Says that it has more than it gives.
    CutOff,
    /// Nothing, for so long.
    Silence(Duration),
}

/// For a path that ends so, an answer, so many times.
type Fault = (&'static str, Answer, u32);

pub struct Server {
    pub address: String,
    faults: Arc<Mutex<Option<Fault>>>,
}

impl Server {
    pub fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/logs", listener.local_addr().unwrap());
        let faults = Arc::new(Mutex::new(None));
        let (folder, shared) = (folder.to_owned(), Arc::clone(&faults));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever goes away has seen enough.
                let _ = answer(&stream.unwrap(), &folder, &shared);
            }
        });
        Self { address, faults }
    }

    pub fn place(&self, runtime: &tokio::runtime::Runtime) -> Place {
        Place::parse(&self.address, None, Duration::from_secs(1), runtime.handle()).unwrap()
    }

    pub fn fault(&self, fault: Option<Fault>) {
        *self.faults.lock().unwrap() = fault;
    }
}

fn answer(mut stream: &TcpStream, folder: &Path, faults: &Mutex<Option<Fault>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap()?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = request.split(' ').nth(1).unwrap().strip_prefix("/logs/").unwrap().to_owned();
    let fault = match &mut *faults.lock().unwrap() {
        Some((end, answer, left)) if path.ends_with(*end) && *left > 0 => {
            *left -= 1;
            Some(answer.clone())
        }
        _ => None,
    };
    match fault {
        Some(Answer::Status(status)) => {
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nlocation: /logs/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        }
        Some(Answer::Endless(bytes)) => {
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            stream.write_all(&vec![b'x'; bytes])
        }
        Some(Answer::CutOff) => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\nconnection: close\r\n\r\nx")
        }
        Some(Answer::Silence(span)) => {
            std::thread::sleep(span);
            Ok(())
        }
        None => give(stream, &folder.join(PathBuf::from(path))),
    }
}

fn give(mut stream: &TcpStream, file: &Path) -> std::io::Result<()> {
    let Ok(bytes) = fs::read(file) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", bytes.len())?;
    stream.write_all(&bytes)
}
