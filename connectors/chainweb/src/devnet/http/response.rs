//! Answers: status, content type and body, with the headers that a node adds.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::request::Encoding;
use crate::devnet::NODE_VERSION;

/// An answer before it is sent.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Vec<u8>,
    /// Whether the answer comes from the application, which names its version and the time.
    is_from_application: bool,
}

impl Answer {
    pub(super) fn ok(encoding: Encoding, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            content_type: Some(encoding.content_type()),
            body: body.into(),
            is_from_application: true,
        }
    }

    pub(super) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::ok(Encoding::Json, body)
    }

    /// A status without a body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, content_type: None, body: Vec::new(), is_from_application: true }
    }

    /// 400 for a path, query or body that does not parse: a text without content type.
    pub(super) fn unparsed(text: impl Into<String>) -> Self {
        Self { status: 400, content_type: None, body: text.into().into_bytes(), is_from_application: true }
    }

    /// A refusal by the application. A 500 comes from the server around it.
    pub(super) fn refused(status: u16, text: String) -> Self {
        if status == 500 {
            let content_type = Some("text/plain; charset=utf-8");
            return Self { status, content_type, body: text.into_bytes(), is_from_application: false };
        }
        let content_type = Some(Encoding::Text.content_type());
        Self { status, content_type, body: text.into_bytes(), is_from_application: true }
    }

    /// 404 for a hash that is not known.
    pub(super) fn key_not_found(key: &str) -> Self {
        let body = format!("{{\"key\":\"{key}\",\"reason\":\"key not found\"}}");
        Self { status: 404, ..Self::json(body) }
    }

    /// 413, of a body of `len` bytes where that is known.
    pub(super) fn too_large(limit: usize, len: Option<u64>) -> Self {
        let len = len.map_or_else(|| "unknown".to_owned(), |len| format!("{len} bytes"));
        let body = format!(
            "Request body too large to be processed. The maximum size is {limit} bytes; your request body was {len}. \
             If you're the developer of this site, you can configure the maximum length with `requestSizeLimitMiddleware`."
        );
        Self {
            status: 413,
            content_type: Some("text/plain"),
            body: body.into_bytes(),
            is_from_application: false,
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if self.is_from_application {
            sign(headers);
        }
        response
    }
}

/// Adds what the application puts into each of its answers: its version and the time.
fn sign(headers: &mut HeaderMap) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    headers.insert(HeaderName::from_static("x-server-timestamp"), HeaderValue::from(now));
    let version = HeaderValue::from_static(NODE_VERSION);
    headers.insert(HeaderName::from_static("x-chainweb-node-version"), version);
}

/// An answer of server-sent events.
pub(super) fn events(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    sign(headers);
    response
}
