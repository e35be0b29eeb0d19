//! The connections of clients: how many there are at a time, and how long each may be silent.
//!
//! A connection beyond the limit is accepted as long as a few places are left for such connections: `/healthz` is
//! answered on it, and any other request with 503 and `Retry-After`; then it is closed. Once those places are taken
//! too, new connections wait in the kernel's queue, for a few seconds at most, because such connections have little
//! time.
//!
//! Only HTTP/1.1 is spoken. A proxy that speaks HTTP/2 to clients speaks HTTP/1.1 to this server.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::error::Error;
use crate::limits;
use crate::routes::health;

/// The limits of a server's connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    pub(crate) connections: usize,
    pub(crate) overflow: usize,
    pub(crate) header_time: Duration,
    pub(crate) overflow_header_time: Duration,
    /// Longest pause of a client that takes an answer.
    pub(crate) idle_time: Duration,
    /// Time that open requests have to end after the server was told to stop.
    pub(crate) grace: Duration,
}

impl ConnectionLimits {
    pub(crate) fn new(connections: usize, grace: Duration) -> Self {
        Self {
            connections,
            overflow: limits::OVERFLOW_CONNECTIONS,
            header_time: limits::HEADER_TIME,
            overflow_header_time: limits::OVERFLOW_HEADER_TIME,
            idle_time: limits::IDLE_TIME,
            grace,
        }
    }
}

/// Pause after a failed accept, which is mostly a lack of descriptors: those of other connections become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is cancelled; open requests then have `limits.grace` to end.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let overflow = Arc::new(Semaphore::new(limits.overflow));
    let graceful = GracefulShutdown::new();
    let mut open = JoinSet::new();
    loop {
        let (stream, peer, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next(&listener, &places, &overflow) => next,
            // Ended connections are taken out of the set.
            Some(_) = open.join_next() => continue,
        };
        let connection = Connection { router: router.clone(), limits, peer, watcher: graceful.watcher() };
        open.spawn(connection.serve(stream, place));
    }
    drop(listener);
    if timeout(limits.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = limits.grace.as_secs(), "requests that are still open are cut off");
    }
    open.shutdown().await;
}

/// The place that a connection takes until it ends.
enum Place {
    Regular { _permit: OwnedSemaphorePermit },
    Overflow { _permit: OwnedSemaphorePermit },
}

/// The next connection, with its place.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    overflow: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Place) {
    // A place comes first, so that a connection without one is not taken out of the kernel's queue.
    let place = match places.clone().try_acquire_owned() {
        Ok(permit) => Place::Regular { _permit: permit },
        Err(_) => tokio::select! {
            Ok(permit) = places.clone().acquire_owned() => Place::Regular { _permit: permit },
            Ok(permit) = overflow.clone().acquire_owned() => Place::Overflow { _permit: permit },
            // Neither semaphore is ever closed.
            else => std::future::pending().await,
        },
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, better(place, places)),
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A regular place if one has become free since `place` was taken.
fn better(place: Place, places: &Arc<Semaphore>) -> Place {
    match (&place, places.clone().try_acquire_owned()) {
        (Place::Overflow { .. }, Ok(permit)) => Place::Regular { _permit: permit },
        _ => place,
    }
}

/// True for an error of the one connection that was to be accepted; the next one may be in order.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

struct Connection {
    router: Router,
    limits: ConnectionLimits,
    peer: SocketAddr,
    watcher: Watcher,
}

impl Connection {
    /// Serves the requests of a connection, one after the other, until the client or a time limit ends it.
    async fn serve(self, stream: TcpStream, place: Place) {
        let Self { router, limits, peer, watcher } = self;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(limits.idle_time));
        let io = TokioIo::new(Box::pin(stream));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).max_buf_size(limits::HEADER_BYTES);
        let ended = match &place {
            Place::Regular { .. } => {
                let service = service_fn(move |request| answer(router.clone(), peer, request));
                http.header_read_timeout(limits.header_time);
                watcher.watch(http.serve_connection(io, service)).await
            }
            Place::Overflow { .. } => {
                http.header_read_timeout(limits.overflow_header_time).keep_alive(false);
                watcher.watch(http.serve_connection(io, service_fn(refuse))).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }
}

async fn answer(router: Router, peer: SocketAddr, request: hyper::Request<Incoming>) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}

/// The answer on a connection beyond the limit.
async fn refuse(request: Request<Incoming>) -> Result<Response, Infallible> {
    let is_health = request.uri().path() == health::LIVE && matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match is_health {
        true => health::live().await.into_response(),
        false => {
            Error::Busy("the server has as many connections as it can hold; try again later".into()).into_response()
        }
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Duration = Duration::from_secs(30);
    const LONG: Duration = Duration::from_secs(600);

    struct Running {
        address: SocketAddr,
        shutdown: CancellationToken,
        server: tokio::task::JoinHandle<()>,
    }

    fn limits() -> ConnectionLimits {
        ConnectionLimits {
            connections: 2,
            overflow: 2,
            header_time: LONG,
            overflow_header_time: LONG,
            idle_time: LONG,
            grace: LONG,
        }
    }

    async fn start(limits: ConnectionLimits, router: Router) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let token = shutdown.clone();
        let server = tokio::spawn(async move { serve(listener, router, limits, &token).await });
        Running { address, shutdown, server }
    }

    fn router() -> Router {
        let address = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
        Router::new().route("/", get(address)).route("/healthz", get(health::live))
    }

    /// All that the server sends until it closes the connection.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let read = timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("the connection stays open");
        // A connection that is reset has ended as well.
        drop(read);
        text
    }

    /// The start of the answer to a request on a connection that stays open.
    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await.unwrap();
        let mut bytes = vec![0; 4096];
        let read = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("there is no answer").unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_is_told_so_and_health_is_answered() {
        let running = start(limits(), router()).await;
        let mut regular =
            [TcpStream::connect(running.address).await.unwrap(), TcpStream::connect(running.address).await.unwrap()];
        for stream in &mut regular {
            let answer = ask(stream, "/").await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
        }
        let mut beyond = TcpStream::connect(running.address).await.unwrap();
        beyond.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let answer = rest(&mut beyond).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 503") && answer.contains("retry-after: "), "{answer}");
        let mut beyond = TcpStream::connect(running.address).await.unwrap();
        beyond.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        assert!(rest(&mut beyond).await.starts_with("HTTP/1.1 200"));
        // A place that becomes free is taken again.
        let [first, mut second] = regular;
        drop(first);
        let taken = async {
            loop {
                let mut next = TcpStream::connect(running.address).await.unwrap();
                if ask(&mut next, "/").await.starts_with("HTTP/1.1 200") {
                    return;
                }
            }
        };
        timeout(PATIENCE, taken).await.expect("the place of a closed connection is lost");
        assert!(ask(&mut second, "/").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn half_open_connections_are_closed_and_others_are_served() {
        let short = Duration::from_millis(50);
        let running = start(ConnectionLimits { header_time: short, overflow_header_time: short, ..limits() }, router());
        let running = running.await;
        let mut silent = Vec::new();
        for index in 0..20 {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            // Some send nothing, others the start of a request.
            if index % 2 == 0 {
                stream.write_all(b"GET / HT").await.unwrap();
            }
            silent.push(stream);
        }
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        assert!(ask(&mut stream, "/healthz").await.starts_with("HTTP/1.1 200"));
        for stream in &mut silent {
            rest(stream).await;
        }
    }

    #[tokio::test]
    async fn a_stop_waits_for_open_requests_and_not_for_idle_connections() {
        let (arrived, mut has_arrived) = tokio::sync::mpsc::channel(1);
        let (answer, answered) = tokio::sync::watch::channel(false);
        let handler = move || async move {
            arrived.send(()).await.unwrap();
            answered.clone().wait_for(|answered| *answered).await.unwrap();
            "done"
        };
        let running = start(limits(), Router::new().route("/", get(handler))).await;
        let _idle = TcpStream::connect(running.address).await.unwrap();
        let mut open = TcpStream::connect(running.address).await.unwrap();
        open.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        timeout(PATIENCE, has_arrived.recv()).await.expect("the request does not arrive");
        running.shutdown.cancel();
        answer.send_replace(true);
        assert!(rest(&mut open).await.ends_with("done"));
        timeout(PATIENCE, running.server).await.expect("the server does not stop").unwrap();
        assert!(TcpStream::connect(running.address).await.is_err());
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_is_cut_off_after_the_grace() {
        let (arrived, mut has_arrived) = tokio::sync::mpsc::channel(1);
        let handler = move || async move {
            arrived.send(()).await.unwrap();
            std::future::pending::<()>().await;
        };
        let grace = Duration::from_millis(10);
        let running = start(ConnectionLimits { grace, ..limits() }, Router::new().route("/", get(handler))).await;
        let mut open = TcpStream::connect(running.address).await.unwrap();
        open.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        timeout(PATIENCE, has_arrived.recv()).await.expect("the request does not arrive");
        running.shutdown.cancel();
        timeout(PATIENCE, running.server).await.expect("the server does not stop").unwrap();
        assert_eq!(rest(&mut open).await, "");
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_its_answer_is_dropped() {
        // More than the kernel holds for a client that does not read.
        let large = || async { vec![0u8; 64 << 20] };
        let idle_time = Duration::from_millis(50);
        let running = start(
            ConnectionLimits { connections: 1, overflow: 0, idle_time, ..limits() },
            Router::new().route("/large", get(large)).route("/healthz", get(health::live)),
        )
        .await;
        let mut lazy = TcpStream::connect(running.address).await.unwrap();
        lazy.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        // There is one place, so this one is served only when the lazy one is gone.
        let mut next = TcpStream::connect(running.address).await.unwrap();
        assert!(ask(&mut next, "/healthz").await.starts_with("HTTP/1.1 200"));
    }
}
