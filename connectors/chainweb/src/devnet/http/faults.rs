//! What can go wrong between an answer and who asked for it, around everything that is answered.

use std::sync::{Arc, OnceLock};

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::sleep;

use super::super::SendError;
use super::response::Answer;
use super::wire::Switch;
use super::{Devnet, control};
use crate::devnet::Fault;

/// Bytes of a body that nobody should read to its end.
const HUGE: usize = 20 << 20;

/// Largest body that is spoiled; larger ones are left as they are.
const LARGEST: usize = 16 << 20;

/// Bytes that every head of an answer has at least.
const HEAD: u64 = 60;

/// Most bytes that an answer is cut after, where nobody knows how long it will be.
const LONGEST_PART: u64 = 600;

/// Pauses of the latest answer.
const MAX_PAUSES: u64 = 3;

/// Answers a request, or spoils the answer.
pub(super) async fn around(
    State(devnet): State<Arc<Devnet>>,
    ConnectInfo(wire): ConnectInfo<Switch>,
    request: Request,
    next: Next,
) -> Response {
    wire.open();
    if control::is_its(request.uri().path()) {
        return next.run(request).await;
    }
    if devnet.state().is_down {
        wire.reset();
        return Response::default();
    }
    let Some((fault, number)) = devnet.fault_of_answer() else { return next.run(request).await };
    tracing::debug!(%fault, path = request.uri().path(), "an answer is spoiled");
    if let Some(answer) = in_place_of(fault, &wire) {
        return answer;
    }
    let faults = devnet.faults();
    let response = next.run(request).await;
    match fault {
        Fault::LostAnswer => wire.reset(),
        Fault::NoAnswer => {
            sleep(faults.hang()).await;
            wire.reset();
        }
        Fault::CutAnswer => {
            let body = response.body().size_hint().exact();
            let part = 1 + number % body.map_or(LONGEST_PART, |body| body.saturating_add(HEAD));
            wire.end_after(usize::try_from(part).unwrap_or(1));
        }
        Fault::Delay => {
            let pauses = 1 + u32::try_from(number % MAX_PAUSES).unwrap_or(0);
            sleep(faults.pause().saturating_mul(pauses)).await;
        }
        Fault::Slow => wire.slow_down(faults.pause()),
        spoiled => return spoil(spoiled, response).await,
    }
    response
}

/// The answer to a request that is not even looked at.
fn in_place_of(fault: Fault, wire: &Switch) -> Option<Response> {
    let between = |status: StatusCode| {
        let page = format!("<html><body><h1>{status}</h1></body></html>\n");
        (status, [(header::CONTENT_TYPE, "text/html")], page).into_response()
    };
    match fault {
        Fault::Http500 => {
            let SendError { status, text } = SendError::swallowed();
            Some(Answer::refused(status, text).into_response())
        }
        Fault::Http502 => Some(between(StatusCode::BAD_GATEWAY)),
        Fault::Http503 => Some(between(StatusCode::SERVICE_UNAVAILABLE)),
        Fault::Reset => {
            wire.reset();
            Some(Response::default())
        }
        _ => None,
    }
}

/// Puts another body in place of the right one.
async fn spoil(fault: Fault, response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let is_endless = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if is_endless {
        return Response::from_parts(parts, body);
    }
    let Ok(whole) = to_bytes(body, LARGEST).await else { return Response::default() };
    let (body, content_type) = match fault {
        Fault::Truncated => (whole.slice(..whole.len() / 2), None),
        Fault::Html => {
            let page = "<!DOCTYPE html><html><body><h1>It works!</h1></body></html>\n";
            (Bytes::from_static(page.as_bytes()), Some("text/html; charset=utf-8"))
        }
        Fault::ContentType => (whole, Some("text/html; charset=utf-8")),
        Fault::Huge => (huge(), None),
        _ => (whole, None),
    };
    parts.headers.remove(header::CONTENT_LENGTH); // of the body that was
    if let Some(content_type) = content_type {
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Response::from_parts(parts, Body::from(body))
}

/// White space, which any JSON may begin with; made once.
fn huge() -> Bytes {
    static SPACES: OnceLock<Bytes> = OnceLock::new();
    SPACES.get_or_init(|| vec![b' '; HUGE].into()).clone()
}
