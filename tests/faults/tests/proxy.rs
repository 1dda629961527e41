//! The proxy does what its faults say, with real sockets on both sides.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use killick_faults::proxy::kafka::{ADD_PARTITIONS_TO_TXN, END_TXN};
use killick_faults::proxy::{Direction, Fault, Framing, Late, Proxy, Strike};
use tokio::runtime::Runtime;

const SOON: Duration = Duration::from_millis(150);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

struct Link {
    runtime: Runtime,
    proxy: Proxy,
    /// The server's ends of the connections.
    taken: Receiver<TcpStream>,
}

impl Link {
    fn new(framing: Framing) -> Self {
        let listener = TcpListener::bind(LOOPBACK).unwrap();
        let server = listener.local_addr().unwrap();
        let (sender, taken) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if sender.send(stream.unwrap()).is_err() {
                    return;
                }
            }
        });
        let runtime = Runtime::new().unwrap();
        let proxy = Proxy::start(runtime.handle(), LOOPBACK, server, framing).unwrap();
        Self { runtime, proxy, taken }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Both ends of a connection.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.connect();
        let server = self.taken.recv_timeout(Duration::from_secs(10)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (client, server)
    }
}

fn exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Whether nothing comes within a moment.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let outcome = stream.read(&mut [0]);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    matches!(outcome, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn bytes_go_through_in_both_directions_and_so_does_the_end() {
    for framing in [Framing::Bytes, Framing::Kafka] {
        let link = Link::new(framing);
        let (mut client, mut server) = link.pair();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        let sent = bytes.clone();
        let sender = std::thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            answer
        });
        let mut came = Vec::new();
        server.read_to_end(&mut came).unwrap();
        assert!(came == bytes, "{framing:?}: {} of {} bytes", came.len(), bytes.len());
        server.write_all(&bytes[..100_000]).unwrap();
        drop(server);
        assert!(sender.join().unwrap() == bytes[..100_000]);
        let end = Instant::now() + Duration::from_secs(10);
        while link.proxy.open() > 0 {
            assert!(Instant::now() < end, "the connection stays");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_cut_ends_connections_and_new_ones_until_it_heals() {
    let link = Link::new(Framing::Bytes);
    let (mut client, mut server) = link.pair();
    link.proxy.set(Fault::Cut);
    assert_eq!((client.read(&mut [0]).unwrap_or(0), server.read(&mut [0]).unwrap_or(0)), (0, 0));
    assert_eq!(link.connect().read(&mut [0]).unwrap_or(0), 0);
    assert!(link.taken.try_recv().is_err(), "the server heard of it");
    link.proxy.set(Fault::None);
    let (mut client, mut server) = link.pair();
    client.write_all(b"again").unwrap();
    assert_eq!(exactly(&mut server, 5), b"again");
}

#[test]
fn a_black_hole_takes_everything_and_gives_it_back_when_it_heals() {
    let link = Link::new(Framing::Bytes);
    let (mut client, mut server) = link.pair();
    link.proxy.set(Fault::Blackhole);
    client.write_all(b"question").unwrap();
    let mut other = link.connect();
    other.write_all(b"hello?").unwrap();
    assert!(is_silent(&mut server) && is_silent(&mut other));
    assert!(link.taken.try_recv().is_err(), "the server heard of it");
    link.proxy.set(Fault::None);
    assert_eq!(exactly(&mut server, 8), b"question");
    let mut second = link.taken.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(exactly(&mut second, 6), b"hello?");
}

#[test]
fn one_direction_is_held_and_the_other_goes_on() {
    let link = Link::new(Framing::Bytes);
    let (mut client, mut server) = link.pair();
    link.proxy.set(Fault::Hold(Direction::ToClient));
    client.write_all(b"question").unwrap();
    assert_eq!(exactly(&mut server, 8), b"question");
    server.write_all(b"first ").unwrap();
    server.write_all(b"second").unwrap();
    assert!(is_silent(&mut client));
    link.proxy.set(Fault::None);
    assert_eq!(exactly(&mut client, 12), b"first second");
}

#[test]
fn delays_add_up_over_both_directions_but_not_over_bytes() {
    let link = Link::new(Framing::Bytes);
    let (mut client, mut server) = link.pair();
    link.proxy.set(Fault::Delay(Duration::from_millis(100)));
    let begun = Instant::now();
    for _ in 0..20 {
        client.write_all(&[7; 1_000]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    exactly(&mut server, 20_000);
    let there = begun.elapsed();
    server.write_all(b"answer").unwrap();
    exactly(&mut client, 6);
    assert!(there >= Duration::from_millis(100) && there < Duration::from_secs(1), "{there:?}");
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_slow_link_has_its_rate() {
    let link = Link::new(Framing::Bytes);
    let (mut client, mut server) = link.pair();
    link.proxy.set(Fault::Slow(20_000));
    let begun = Instant::now();
    client.write_all(&[7; 10_000]).unwrap();
    exactly(&mut server, 10_000);
    let took = begun.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(3)).contains(&took), "{took:?}");
    // And it goes on at once when it heals.
    client.write_all(&[8; 1_000_000]).unwrap();
    link.proxy.set(Fault::None);
    exactly(&mut server, 1_000_000);
}

#[test]
fn a_reset_breaks_what_is_open_and_nothing_else() {
    let link = Link::new(Framing::Bytes);
    let (mut client, mut server) = link.pair();
    client.write_all(b"first").unwrap();
    assert_eq!(exactly(&mut server, 5), b"first", "the link is at work");
    link.proxy.strike(Strike::Reset);
    for stream in [&mut client, &mut server] {
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let (mut client, mut server) = link.pair();
    client.write_all(b"again").unwrap();
    assert_eq!(exactly(&mut server, 5), b"again");
}

#[test]
fn half_a_close_ends_one_direction_and_leaves_the_other() {
    let link = Link::new(Framing::Bytes);
    let (mut client, mut server) = link.pair();
    client.write_all(b"question").unwrap();
    assert_eq!(exactly(&mut server, 8), b"question");
    link.proxy.strike(Strike::HalfClose(Direction::ToServer));
    assert_eq!(server.read(&mut [0]).unwrap(), 0, "the server sees an end");
    server.write_all(b"answer").unwrap();
    assert_eq!(exactly(&mut client, 6), b"answer");
    client.write_all(b"lost").unwrap();
    assert!(is_silent(&mut client));
}

fn request(api_key: i16, correlation: i32, client: &str) -> Vec<u8> {
    let mut rest = [api_key.to_be_bytes(), 1_i16.to_be_bytes()].concat();
    rest.extend(correlation.to_be_bytes());
    rest.extend(i16::try_from(client.len()).unwrap().to_be_bytes());
    rest.extend(client.as_bytes());
    [&i32::try_from(rest.len()).unwrap().to_be_bytes()[..], &rest].concat()
}

#[test]
fn an_end_of_a_transaction_that_is_held_back_comes_in_the_next_one() {
    let link = Link::new(Framing::Kafka);
    let (mut first, mut server_first) = link.pair();
    link.proxy.hold_back_end();
    let (begin, end) = (request(ADD_PARTITIONS_TO_TXN, 1, "batch-a"), request(END_TXN, 2, "batch-a"));
    first.write_all(&[&begin[..], &end].concat()).unwrap();
    assert_eq!(exactly(&mut server_first, begin.len()), begin);
    assert_eq!(first.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(is_silent(&mut server_first), "it is held back");

    // The client asks again on another connection: that copy passes, and so do the transactions of others.
    let (mut second, mut server_second) = link.pair();
    let other = request(ADD_PARTITIONS_TO_TXN, 3, "batch-b");
    second.write_all(&[&end[..], &other].concat()).unwrap();
    exactly(&mut server_second, end.len() + other.len());
    assert!(is_silent(&mut server_first), "nothing has begun yet");

    second.write_all(&begin).unwrap();
    exactly(&mut server_second, begin.len());
    assert_eq!(exactly(&mut server_first, end.len()), end, "the late copy, byte for byte");
    // The answers to the two requests of the first connection; the second says that the epoch is over.
    server_first.write_all(&[0, 0, 0, 6, 0, 0, 0, 1, 0, 0]).unwrap();
    server_first.write_all(&[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 90]).unwrap();
    let begun = Instant::now();
    let mut late = Vec::new();
    while late.is_empty() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
        late = link.proxy.take_late();
    }
    assert_eq!(late, [Late { client: "batch-a".to_owned(), error: Some(90) }]);
    drop(link.runtime);
}
