//! Connections: accepted up to a limit, with deadlines for what a client must send and take.

use crate::Limits;
use crate::metrics::Metrics;
use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// Maximum number of bytes of a request's head, and size of the buffers of a connection.
const HEAD_BYTES: usize = 64 << 10;
/// Maximum number of headers of a request.
const HEADERS: usize = 64;
/// Time to wait after the system refused a connection, for example because the process has too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// Number of bytes that a client must take within [`Limits::write_time`].
const WRITE_STEP: usize = 64 << 10;

/// Serves connections until `shutdown` is ready, then finishes those that are in use within the limit.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: &Limits,
    metrics: &Metrics,
    shutdown: impl Future<Output = ()>,
) {
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .half_close(false);
    let permits = Arc::new(Semaphore::new(limits.connections.max(1)));
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            // Ended connections are taken out of the set.
            Some(_) = tasks.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, permit)) = accepted else {
            metrics.connection_refused();
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Events are sent when they are written; a failure only delays them.
        stream.set_nodelay(true).ok();
        let service = TowerToHyperService::new(routes.clone());
        let io = TokioIo::new(Timed { stream, limit: limits.write_time, written: 0, stalled: None });
        let connection = graceful.watch(builder.serve_connection(io, service));
        let open = metrics.connection();
        tasks.spawn(async move {
            // An error is the client's end: it went away, was too slow, or did not speak HTTP.
            connection.await.ok();
            drop((permit, open));
        });
    }
    drop(listener);
    let finished = async {
        graceful.shutdown().await;
        while tasks.join_next().await.is_some() {}
    };
    // What is not finished in time is aborted when the set is dropped.
    tokio::time::timeout(limits.shutdown_time, finished).await.ok();
}

/// Waits until a connection may be opened, and for a client; `None` if the system refused it.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    Some((stream, permit))
}

/// A connection whose client must take what is written: [`WRITE_STEP`] bytes or all there is within a limit.
struct Timed {
    stream: TcpStream,
    limit: Duration,
    /// Bytes written since the deadline was set.
    written: usize,
    /// The deadline, while the client does not take everything.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    /// Notes that bytes were written, or fails if they could not be for too long.
    fn progress(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                self.written += bytes;
                if self.written >= WRITE_STEP {
                    self.caught_up();
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Pending => {
                let limit = self.limit;
                let deadline = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take the response")))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn caught_up(&mut self) {
        self.written = 0;
        self.stalled = None;
    }
}

impl AsyncRead for Timed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progress(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // Called when everything was written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.caught_up();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
