//! A TCP proxy between a client and a server that does to their connections what networks do.
//!
//! One [`Proxy`] is one link: all connections through it share its fault, and a fault counts at once, also for what is
//! under way. With Kafka's framing it knows where requests begin, and can hold one of them back: a late `EndTxn`.

pub mod kafka;
mod pump;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::kafka::Request;
use self::pump::{Broken, Pump};

/// How long a server may take to answer a request that was held back.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the next transaction is let grow before the end of the last one arrives.
const INTO_THE_NEXT: Duration = Duration::from_millis(2);

/// One way through a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// What a link does until it is told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes go through.
    None,
    /// Connections end, and new ones end at once.
    Cut,
    /// Connections are taken and stay, and no byte goes through. What came in goes on afterwards.
    Blackhole,
    /// Every byte arrives so much later.
    Delay(Duration),
    /// So many bytes a second go through, each way and connection.
    Slow(u32),
    /// Nothing goes through in this direction; afterwards all of it does.
    Hold(Direction),
}

/// What a link does once, to all connections that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// Both ends are told that the connection is broken (RST).
    Reset,
    /// One direction ends as if its sender had said so (FIN); what comes after is lost.
    HalfClose(Direction),
}

/// What stands between the bytes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing that we know of.
    Bytes,
    /// Requests of Kafka's protocol.
    Kafka,
}

/// What became of an `EndTxn` that was held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// The client whose it was.
    pub client: String,
    /// What the broker said when it came at last: 0 if it took it; `None` if it said nothing.
    pub error: Option<i16>,
}

/// A link.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    framing: Framing,
    fault: watch::Sender<Fault>,
    strike: watch::Sender<Option<Strike>>,
    open: AtomicUsize,
    hold_back: Mutex<HoldBack>,
}

/// Holding back one `EndTxn`.
#[derive(Default)]
struct HoldBack {
    is_armed: bool,
    held: Option<Held>,
    done: Vec<Late>,
}

/// A request that has not gone out, and the connection on which it is to go.
struct Held {
    client: String,
    request: Request,
    server: TcpStream,
}

impl Proxy {
    /// Listens, and passes on to `server`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(
        runtime: &Handle,
        listen: SocketAddr,
        server: SocketAddr,
        framing: Framing,
    ) -> std::io::Result<Self> {
        let listener = runtime.block_on(TcpListener::bind(listen))?;
        let shared = Arc::new(Shared {
            server,
            framing,
            fault: watch::Sender::new(Fault::None),
            strike: watch::Sender::new(None),
            open: AtomicUsize::new(0),
            hold_back: Mutex::default(),
        });
        let address = listener.local_addr()?;
        let accepting = runtime.spawn(Arc::clone(&shared).accept(listener));
        Ok(Self { address, shared, accepting })
    }

    /// Where clients have to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the link does this.
    pub fn set(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    /// What the link does.
    pub fn fault(&self) -> Fault {
        *self.shared.fault.borrow()
    }

    /// Strikes all connections that are open.
    pub fn strike(&self, strike: Strike) {
        self.shared.strike.send_replace(Some(strike));
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Holds back the next `EndTxn` and breaks its connection, so that its client sends it again on another one. The
    /// first copy goes out when the same client has begun its next transaction.
    pub fn hold_back_end(&self) {
        self.shared.hold_back().is_armed = true;
    }

    /// No `EndTxn` is held back any more; what is held back is lost.
    pub fn let_go(&self) {
        let mut hold_back = self.shared.hold_back();
        hold_back.is_armed = false;
        hold_back.held = None;
    }

    /// What became of those that were held back, since this was last asked.
    pub fn take_late(&self) -> Vec<Late> {
        std::mem::take(&mut self.shared.hold_back().done)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.fault.send_replace(Fault::Cut);
    }
}

/// How a connection ended.
enum End {
    /// By itself, or since one side broke it.
    Over,
    Reset,
    /// A request is held back.
    Held(Request),
}

impl Shared {
    fn hold_back(&self) -> MutexGuard<'_, HoldBack> {
        self.hold_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            // Out of descriptors, or the client went before it was taken: the next one may do better.
            let Ok((client, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let shared = Arc::clone(&self);
            tokio::spawn(async move {
                shared.open.fetch_add(1, Ordering::Relaxed);
                shared.connect(client).await;
                shared.open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    async fn connect(self: &Arc<Self>, mut client: TcpStream) {
        let mut fault = self.fault.subscribe();
        let Ok(now) = fault.wait_for(|fault| *fault != Fault::Blackhole).await.map(|fault| *fault) else {
            return;
        };
        if now == Fault::Cut {
            return;
        }
        let Ok(mut server) = TcpStream::connect(self.server).await else {
            // As the server would have done.
            let _ = client.set_zero_linger();
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        match self.serve(&mut client, &mut server).await {
            End::Over => {}
            End::Reset => drop((client.set_zero_linger(), server.set_zero_linger())),
            End::Held(request) => {
                let _ = client.set_zero_linger();
                let client = request.client().unwrap_or_default().to_owned();
                self.hold_back().held = Some(Held { client, request, server });
            }
        }
    }

    /// Passes bytes on until the connection ends.
    async fn serve(self: &Arc<Self>, client: &mut TcpStream, server: &mut TcpStream) -> End {
        let (mut fault, mut strike) = (self.fault.subscribe(), self.strike.subscribe());
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let pump = |direction| Pump::new(direction, self.fault.subscribe(), self.strike.subscribe());
        let gate = |request: &Request| self.gate(request);
        let up = pump(Direction::ToServer).run(
            from_client,
            to_server,
            (self.framing == Framing::Kafka).then_some(&gate),
        );
        let down = pump(Direction::ToClient).run(from_server, to_client, None);
        let cut = async {
            // Fails only when the proxy goes, which ends its connections as well.
            let _ = fault.wait_for(|fault| *fault == Fault::Cut).await;
        };
        let reset = async {
            while strike.changed().await.is_ok() {
                if *strike.borrow_and_update() == Some(Strike::Reset) {
                    return;
                }
            }
        };
        tokio::select! {
            () = cut => End::Over,
            () = reset => End::Reset,
            outcome = async { tokio::try_join!(up, down) } => match outcome {
                Err(Broken::Held(request)) => End::Held(request),
                Ok(_) | Err(Broken::Gone) => End::Over,
            },
        }
    }

    /// Whether a request may pass; where it begins the transaction that was waited for, what was held back follows.
    fn gate(self: &Arc<Self>, request: &Request) -> bool {
        let mut hold_back = self.hold_back();
        match request.api_key() {
            Some(kafka::END_TXN) if hold_back.is_armed => {
                hold_back.is_armed = false;
                return false;
            }
            Some(kafka::ADD_PARTITIONS_TO_TXN | kafka::ADD_OFFSETS_TO_TXN) => {
                let is_next = |held: &mut Held| Some(held.client.as_str()) == request.client();
                if let Some(held) = hold_back.held.take_if(is_next) {
                    tokio::spawn(Arc::clone(self).release(held));
                }
            }
            _ => {}
        }
        true
    }

    async fn release(self: Arc<Self>, held: Held) {
        let Held { client, request, mut server } = held;
        tokio::time::sleep(INTO_THE_NEXT).await;
        let answer = async {
            server.write_all(&request.bytes).await.ok()?;
            answer_to(&mut server, request.correlation()?).await
        };
        let answer = tokio::time::timeout(ANSWER, answer).await.ok().flatten();
        let error = answer.as_deref().and_then(kafka::end_txn_error);
        self.hold_back().done.push(Late { client, error });
    }
}

/// The answer of that number; those to earlier requests may stand before it.
async fn answer_to(server: &mut TcpStream, correlation: [u8; 4]) -> Option<Vec<u8>> {
    loop {
        let length = server.read_u32().await.ok()?;
        let mut answer = length.to_be_bytes().to_vec();
        let rest = server.take(length.into()).read_to_end(&mut answer).await.ok()?;
        if u32::try_from(rest) != Ok(length) || answer.get(4..8) == Some(&correlation[..]) {
            return Some(answer);
        }
    }
}
