//! A proxy that stands between a client and one node, and cuts them off at a request that a test has named.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(dead_code, reason = "not every test that has this module needs all of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the cut is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The request never comes to the node.
    Before,
    /// The node gets the request, and nobody hears what it says.
    After,
}

#[derive(Default)]
struct State {
    /// Requests until the cut, counted from when it was set.
    left: Option<(usize, Cut)>,
    /// No byte comes through any more, and no connection is taken.
    is_cut: bool,
    /// Connections are taken and nothing is said on them.
    is_mute: bool,
    open: Vec<TcpStream>,
}

/// The proxy. Its threads end with its connections.
pub struct Proxy {
    pub address: String,
    state: Arc<Mutex<State>>,
}

/// EXECUTE and BATCH: what reads and writes rows once a session is made.
const OPCODES: [u8; 2] = [0x0a, 0x0d];

impl Proxy {
    pub fn to(node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { address: listener.local_addr().unwrap().to_string(), state: Arc::default() };
        let (state, node) = (Arc::clone(&proxy.state), node.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                serve(client, &node, &state);
            }
        });
        proxy
    }

    /// Cuts at the `request`-th request from now, counted from 1.
    pub fn cut_at(&self, request: usize, cut: Cut) {
        self.state.lock().unwrap().left = Some((request, cut));
    }

    /// Whether the cut was made.
    pub fn is_cut(&self) -> bool {
        self.state.lock().unwrap().is_cut
    }

    /// Takes connections and says nothing on them, or lets everything through again.
    pub fn mute(&self, is_mute: bool) {
        let mut state = self.state.lock().unwrap();
        state.is_mute = is_mute;
        if !is_mute {
            hang_up(&mut state);
        }
    }
}

fn hang_up(state: &mut State) {
    for stream in state.open.drain(..) {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn serve(client: TcpStream, node: &str, state: &Arc<Mutex<State>>) {
    let mut shared = state.lock().unwrap();
    if shared.is_cut {
        return;
    }
    let Ok(server) = TcpStream::connect(node) else { return };
    let copies = [client.try_clone().unwrap(), server.try_clone().unwrap()];
    shared.open.extend(copies);
    drop(shared);
    let (back, from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let ours = Arc::clone(state);
    std::thread::spawn(move || answers(from, back, &ours));
    let ours = Arc::clone(state);
    std::thread::spawn(move || requests(client, server, &ours));
}

/// Passes frames of protocol 4 on: nine bytes, of which the fifth is the opcode and the last four the length.
fn requests(mut from: TcpStream, mut to: TcpStream, state: &Mutex<State>) {
    let mut head = [0; 9];
    while from.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut body = vec![0; usize::try_from(length).unwrap()];
        if from.read_exact(&mut body).is_err() {
            return;
        }
        let mut shared = state.lock().unwrap();
        if shared.is_cut || shared.is_mute {
            continue;
        }
        let now = match &mut shared.left {
            Some((left, cut)) if OPCODES.contains(&head[4]) => {
                *left -= 1;
                (*left == 0).then_some(*cut)
            }
            _ => None,
        };
        shared.is_cut = now.is_some();
        if now == Some(Cut::Before) {
            hang_up(&mut shared);
            return;
        }
        drop(shared);
        if to.write_all(&[&head[..], &body].concat()).is_err() {
            return;
        }
        if now == Some(Cut::After) {
            // Long enough for the node to do what it was told.
            std::thread::sleep(Duration::from_millis(200));
            hang_up(&mut state.lock().unwrap());
            return;
        }
    }
}

fn answers(mut from: TcpStream, mut to: TcpStream, state: &Mutex<State>) {
    let mut bytes = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let is_heard = {
            let shared = state.lock().unwrap();
            !shared.is_cut && !shared.is_mute
        };
        if is_heard && to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
