//! The connections of the health endpoint and of the control socket: how many may be connected and for how long.
//!
//! A connection holds one of [`MAX_CONNECTIONS`] permits and carries one request, which must have
//! come in [`REQUEST_TIMEOUT`] and whose answer must be taken in [`RESPONSE_TIMEOUT`]; whoever is
//! slower is disconnected, so that slow clients delay others by at most the two.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at a time; more wait in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send its request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a client may take to receive the answer.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How much patience a server has with its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Patience {
    pub connections: usize,
    pub request: Duration,
    pub response: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connections: MAX_CONNECTIONS, request: REQUEST_TIMEOUT, response: RESPONSE_TIMEOUT }
    }
}

/// A listener whose connections are bounded in number and time.
pub(super) struct Bounded<L> {
    listener: L,
    permits: Arc<Semaphore>,
    patience: Patience,
}

impl<L> Bounded<L> {
    pub fn new(listener: L, patience: Patience) -> Self {
        Self { listener, permits: Arc::new(Semaphore::new(patience.connections)), patience }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, L::Addr) {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore lives as long as the listener and nobody closes it");
        // Axum's own listener logs and retries what accept can fail with.
        let (stream, address) = self.listener.accept().await;
        let deadline = Box::pin(sleep(self.patience.request));
        let phase = Phase::Request { response: self.patience.response };
        (Connection { stream, deadline, phase, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// What a connection waits for.
enum Phase {
    /// The request; the answer will have `response` to be taken.
    Request { response: Duration },
    /// The client to take the answer.
    Response,
}

/// A connection that fails with `TimedOut` once its deadline has passed.
pub(super) struct Connection<S> {
    stream: S,
    deadline: Pin<Box<Sleep>>,
    phase: Phase,
    _permit: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    /// What `polled` says, unless the deadline has passed before it was ready.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The answer begins: from now on its deadline counts.
    fn begin_response(&mut self) {
        if let Phase::Request { response } = self.phase {
            self.deadline.as_mut().reset(Instant::now() + response);
            self.phase = Phase::Response;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.in_time(context, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin_response();
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.in_time(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(context, polled)
    }
}
