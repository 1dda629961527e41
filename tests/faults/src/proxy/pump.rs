//! One direction of a connection.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::kafka::Request;
use super::{Direction, Fault, Strike};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Pieces on their way; then the sender has to wait, as with a real link.
const ON_THE_WAY: usize = 64;
/// A slow link lets so many portions a second through.
const PORTIONS: u32 = 20;

/// Why a connection ends before both sides have said all.
pub enum Broken {
    /// One side is gone.
    Gone,
    /// A request may not pass.
    Held(Request),
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

/// Whether a request may pass.
pub type Gate<'a> = Option<&'a (dyn Fn(&Request) -> bool + Sync)>;

/// Bytes, and when they came.
type Piece = (Instant, Bytes);

/// Carries bytes in one direction, as the fault says.
pub struct Pump {
    direction: Direction,
    fault: watch::Receiver<Fault>,
    strike: watch::Receiver<Option<Strike>>,
}

impl Pump {
    pub fn new(
        direction: Direction,
        fault: watch::Receiver<Fault>,
        strike: watch::Receiver<Option<Strike>>,
    ) -> Self {
        Self { direction, fault, strike }
    }

    /// Carries until the sender has said all; then the receiver is told.
    pub async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>, gate: Gate<'_>) -> Result<(), Broken> {
        let (sender, receiver) = mpsc::channel(ON_THE_WAY);
        tokio::try_join!(read(from, sender, gate.is_some()), self.write(receiver, to, gate)).map(drop)
    }

    async fn write(
        mut self,
        mut pieces: mpsc::Receiver<Piece>,
        mut to: WriteHalf<'_>,
        gate: Gate<'_>,
    ) -> Result<(), Broken> {
        let mut strike = self.strike.clone();
        let is_closed = async |strike: &mut watch::Receiver<Option<Strike>>| {
            // An error means that the proxy goes, which ends the connection elsewhere.
            while strike.changed().await.is_ok() {
                if *strike.borrow_and_update() == Some(Strike::HalfClose(self.direction)) {
                    return;
                }
            }
            std::future::pending().await
        };
        loop {
            let (came, bytes) = tokio::select! {
                () = is_closed(&mut strike) => break,
                piece = pieces.recv() => match piece {
                    Some(piece) => piece,
                    None => break,
                },
            };
            if let Some(gate) = gate {
                let request = Request { bytes: bytes.clone() };
                if !gate(&request) {
                    return Err(Broken::Held(request));
                }
            }
            tokio::select! {
                () = is_closed(&mut strike) => break,
                outcome = carry(&mut self.fault, self.direction, came, bytes, &mut to) => outcome?,
            }
        }
        to.shutdown().await?;
        // What comes after a half-close is read, and lost.
        while pieces.recv().await.is_some() {}
        Ok(())
    }
}

/// Reads pieces; whole requests where they are known.
async fn read(mut from: ReadHalf<'_>, pieces: mpsc::Sender<Piece>, is_framed: bool) -> Result<(), Broken> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let is_over = from.read_buf(&mut buffer).await? == 0;
        let now = Instant::now();
        while let Some(bytes) = take(&mut buffer, is_framed && !is_over) {
            if pieces.send((now, bytes)).await.is_err() {
                return Err(Broken::Gone);
            }
        }
        if is_over {
            return Ok(());
        }
    }
}

fn take(buffer: &mut BytesMut, is_framed: bool) -> Option<Bytes> {
    match is_framed {
        true => Request::take(buffer).map(|request| request.bytes),
        false => (!buffer.is_empty()).then(|| buffer.split().freeze()),
    }
}

/// Brings one piece to the other side, as the fault says at each moment.
async fn carry(
    fault: &mut watch::Receiver<Fault>,
    direction: Direction,
    came: Instant,
    mut bytes: Bytes,
    to: &mut WriteHalf<'_>,
) -> Result<(), Broken> {
    while !bytes.is_empty() {
        let now = *fault.borrow_and_update();
        match now {
            Fault::Delay(by) if came + by > Instant::now() => change(fault, Some(came + by)).await?,
            Fault::Blackhole | Fault::Cut => change(fault, None).await?,
            Fault::Hold(held) if held == direction => change(fault, None).await?,
            Fault::Slow(rate) => {
                let portion = usize::try_from(rate.div_ceil(PORTIONS)).unwrap_or(usize::MAX).max(1);
                to.write_all(&bytes.split_to(portion.min(bytes.len()))).await?;
                change(fault, Some(Instant::now() + Duration::from_secs(1) / PORTIONS)).await?;
            }
            Fault::None | Fault::Delay(_) | Fault::Hold(_) => {
                to.write_all(&std::mem::take(&mut bytes)).await?
            }
        }
    }
    Ok(())
}

/// Waits until the fault changes, or until a time.
async fn change(fault: &mut watch::Receiver<Fault>, until: Option<Instant>) -> Result<(), Broken> {
    let changed = fault.changed();
    let outcome = match until {
        Some(until) => tokio::time::timeout_at(until, changed).await.unwrap_or(Ok(())),
        None => changed.await,
    };
    outcome.map_err(|_| Broken::Gone)
}
