//! The admin port: probes for a supervisor, and the metrics for a scraper. Plain HTTP, to be reached by these alone.
//!
//! | path | answers 200 while |
//! |---|---|
//! | `/livez` | the process's loops turn; whoever is away outside is nothing to this |
//! | `/startupz` | from when every worker has what it was given, with its state read back; or stands by |
//! | `/readyz` | every worker has its partitions or stands by, and can commit; and the catalog answers, where it is needed |
//! | `/metrics` | always: the metrics, as text for Prometheus |
//!
//! A probe that fails answers 503 with the list of what was looked at; with `?verbose` that list is there in any case.
//! From the first signal to end on, `/readyz` fails.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::Telemetry;
use super::health::Checked;

/// Connections at the same time, each for one request; more wait.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
const CONNECTION: Duration = Duration::from_secs(15);
/// Bytes in the longest head of a request.
const HEAD_BYTES: usize = 16 << 10;
/// Between two tries to take connections where that fails, as it does where file descriptors are used up.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens; returns the address, whose port the system chose where 0 was asked for.
///
/// # Errors
/// Nobody can listen there.
pub fn listen(address: SocketAddr, runtime: &Handle, telemetry: Arc<Telemetry>) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(address)
        .with_context(|| format!("[admin]: cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let _inside = runtime.enter();
    runtime.spawn(serve(TcpListener::from_std(listener)?, telemetry));
    Ok(address)
}

async fn serve(listener: TcpListener, telemetry: Arc<Telemetry>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "the admin port takes no connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let telemetry = Arc::clone(&telemetry);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| answer(request, Arc::clone(&telemetry)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .keep_alive(false)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            // Who goes, or is too slow, has no answer: that is its own affair.
            let _ = timeout(CONNECTION, connection).await;
        });
    }
}

/// Answers a request, whose body nobody reads.
async fn answer(
    request: Request<Incoming>,
    telemetry: Arc<Telemetry>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_verbose =
        request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "verbose"));
    let probe = |checked: Checked| {
        let status = if checked.is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut text = if checked.is_ok && !is_verbose { String::new() } else { checked.list };
        text.push_str(if checked.is_ok { "ok\n" } else { "failed\n" });
        (status, text)
    };
    let health = telemetry.health();
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, path) => match path {
            "/livez" => probe(health.lives()),
            "/startupz" => probe(health.began()),
            "/readyz" => probe(health.is_ready()),
            "/metrics" => scrape(telemetry).await,
            _ => (StatusCode::NOT_FOUND, "there are /livez, /startupz, /readyz and /metrics\n".to_owned()),
        },
        _ => (StatusCode::METHOD_NOT_ALLOWED, "GET is all that is done here\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The metrics. To gather them takes locks, so that it is done beside the tasks.
async fn scrape(telemetry: Arc<Telemetry>) -> (StatusCode, String) {
    match tokio::task::spawn_blocking(move || telemetry.scrape()).await {
        Ok(Ok(text)) => (StatusCode::OK, text),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
