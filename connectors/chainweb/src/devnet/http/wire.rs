//! Connections that break or dawdle when they are told to.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

/// Bytes in a piece of a slow answer.
const PIECE: usize = 16;

/// Pieces of a slow answer; the rest comes at once, so that every answer ends.
const PIECES: u32 = 24;

/// What becomes of the bytes of an answer.
#[derive(Clone, Copy, Debug)]
enum Course {
    Open,
    /// So many pieces still come one by one.
    Slow {
        pieces: u32,
        pause: Duration,
    },
    /// After so many bytes the connection ends.
    End {
        after: usize,
    },
    /// The connection is reset.
    Reset,
}

/// Decides on the answers of a connection, from within what answers.
#[derive(Clone, Debug)]
pub(super) struct Switch(Arc<Mutex<Course>>);

impl Switch {
    /// Lets what is written from now on pass.
    pub(super) fn open(&self) {
        self.set(Course::Open);
    }

    /// Ends the connection after so many more bytes.
    pub(super) fn end_after(&self, after: usize) {
        self.set(Course::End { after });
    }

    /// Resets the connection before anything more is written.
    pub(super) fn reset(&self) {
        self.set(Course::Reset);
    }

    /// Lets the answer come in pieces, with a pause after each.
    pub(super) fn slow_down(&self, pause: Duration) {
        self.set(Course::Slow { pieces: PIECES, pause });
    }

    fn set(&self, course: Course) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = course;
    }

    fn course(&self) -> Course {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, Wires>> for Switch {
    fn connect_info(stream: IncomingStream<'_, Wires>) -> Self {
        stream.io().switch.clone()
    }
}

/// Accepts connections with a switch each.
pub(super) struct Wires(pub(super) TcpListener);

impl Listener for Wires {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Wire { stream, switch: Switch(Arc::new(Mutex::new(Course::Open))), pause: None }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection with a switch.
pub(super) struct Wire {
    stream: TcpStream,
    switch: Switch,
    /// Until when no piece is written.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    /// What an answer fails with; the connection goes with it.
    fn broken(&self) -> io::Error {
        // Without it the other side would see a proper end. If it cannot be had, an end is a fault too.
        let _ = self.stream.set_zero_linger();
        io::ErrorKind::ConnectionReset.into()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        match this.switch.course() {
            Course::Open | Course::Slow { pieces: 0, .. } => {
                Pin::new(&mut this.stream).poll_write(context, bytes)
            }
            Course::Slow { pieces, pause } => {
                let piece = &bytes[..bytes.len().min(PIECE)];
                let count = ready!(Pin::new(&mut this.stream).poll_write(context, piece))?;
                this.switch.set(Course::Slow { pieces: pieces - 1, pause });
                this.pause = Some(Box::pin(sleep(pause)));
                Poll::Ready(Ok(count))
            }
            Course::Reset => Poll::Ready(Err(this.broken())),
            Course::End { after: 0 } => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Course::End { after } => {
                let part = &bytes[..bytes.len().min(after)];
                let count = ready!(Pin::new(&mut this.stream).poll_write(context, part))?;
                this.switch.set(Course::End { after: after - count });
                Poll::Ready(Ok(count))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.switch.course() {
            Course::Reset => Poll::Ready(Err(self.broken())),
            Course::End { after: 0 } => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            _ => Pin::new(&mut self.stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
