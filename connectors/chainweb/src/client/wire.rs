//! One question to one node, bounded in time and bytes.

use std::error::Error as _;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Response, Url};
use serde::de::DeserializeOwned;

use super::error::excerpt;
use super::{Config, ConfigError, NodeError, Trouble};
use crate::json::parse_strict;

/// Bytes in the longest answer to a question about few things: a cut of fifty chains has 4 KB.
pub(super) const SMALL: usize = 1 << 20;
/// Bytes in the longest answer that carries results, proofs or payloads: a block's gas pays for far less.
pub(super) const LARGE: usize = 16 << 20;

/// How answers can be encoded.
pub(super) const JSON: &str = "application/json";
pub(super) const BINARY: &str = "application/octet-stream";
const EVENTS: &str = "text/event-stream";

/// What stands for no deadline: an answer without end has one for each of its parts.
const ENDLESS: Duration = Duration::from_secs(u32::MAX as u64);

/// A question.
pub(super) struct Question {
    /// What it is about, for errors.
    pub(super) what: &'static str,
    /// Path and query, behind the node's address.
    pub(super) path: String,
    /// A JSON body, which makes it a POST.
    pub(super) body: Option<String>,
    /// The encoding that is wanted.
    pub(super) accept: &'static str,
    /// Most bytes that the answer may have.
    pub(super) limit: usize,
    /// How long the answer may take; `None` is as configured.
    pub(super) timeout: Option<Duration>,
}

impl Question {
    pub(super) fn get(what: &'static str, path: String) -> Self {
        Self { what, path, body: None, accept: JSON, limit: SMALL, timeout: None }
    }

    pub(super) fn post(what: &'static str, path: String, body: String) -> Self {
        Self { what, path, body: Some(body), accept: JSON, limit: LARGE, timeout: None }
    }
}

/// A status with its body.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// When the server says that it answered, as it writes it: `Date` of HTTP.
    pub(super) date: Option<Box<str>>,
}

impl Reply {
    /// The body as a text, whatever it is.
    pub(super) fn text(&self) -> String {
        excerpt(&self.body)
    }

    /// What a status means that answers nothing.
    pub(super) fn unexpected(&self) -> Trouble {
        Trouble::Status { status: self.status, text: self.text() }
    }

    /// The body of a 200 as strict JSON of a type.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        if self.status != 200 {
            return Err(self.unexpected());
        }
        let value = parse_strict(&self.body).map_err(|error| Trouble::Malformed(error.to_string()))?;
        serde_json::from_value(value).map_err(|error| Trouble::Malformed(error.to_string()))
    }
}

/// An answer without end, or another one.
pub(super) enum Opened {
    Stream(Response),
    Reply(Reply),
}

/// The way to one node.
pub(super) struct Wire {
    http: reqwest::Client,
    base: Box<str>,
    timeout: Duration,
}

impl Wire {
    pub(super) fn new(address: &str, config: &Config) -> Result<Self, ConfigError> {
        // Not even an error may show a password.
        let shown = address.rsplit_once('@').map_or(address.to_owned(), |(_, host)| format!("***@{host}"));
        let wrong = |why: String| ConfigError::Address { address: excerpt(shown.as_bytes()), why };
        let url = Url::parse(address).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("it does not begin with http:// or https://".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it has a user name or password, which would stand in every log".to_owned()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or fragment".to_owned()));
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("killick-chainweb/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout);
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        if url.scheme() == "http" {
            // Without TLS there is nothing to trust, and a machine without any certificates can do without.
            builder = builder.tls_certs_only([]);
        } else if let Some(authorities) = &config.authorities {
            let found = Certificate::from_pem_bundle(authorities)
                .map_err(|error| ConfigError::Authorities(cause(&error)))?;
            if found.is_empty() {
                return Err(ConfigError::Authorities("there is no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_only(found);
        }
        let http = builder.build().map_err(|error| wrong(cause(&error)))?;
        Ok(Self { http, base: url.as_str().trim_end_matches('/').into(), timeout: config.timeout })
    }

    /// The node's address.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// An error of this node.
    pub(super) fn error(&self, what: &'static str, trouble: Trouble) -> NodeError {
        NodeError { node: self.base.clone(), what, trouble }
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn ask(&self, question: Question) -> Result<Reply, NodeError> {
        let (what, begun) = (question.what, Instant::now());
        let mut outcome = self.exchange(&question).await;
        // A connection that was kept open may have been closed just now. Whatever we ask may be asked twice.
        if matches!(outcome, Err(Trouble::Broken(_))) {
            outcome = self.exchange(&question).await;
        }
        let elapsed = begun.elapsed();
        match &outcome {
            Ok(reply) => {
                tracing::debug!(node = %self.base, what, status = reply.status, bytes = reply.body.len(), ?elapsed, "answered");
            }
            Err(trouble) => tracing::debug!(node = %self.base, what, %trouble, ?elapsed, "not answered"),
        }
        outcome.map_err(|trouble| self.error(what, trouble))
    }

    /// Asks for server-sent events; `silence` is how long the head of the answer may take.
    pub(super) async fn open(
        &self,
        what: &'static str,
        path: String,
        silence: Duration,
    ) -> Result<Opened, NodeError> {
        let begun = Instant::now();
        let mut question = Question::get(what, path);
        (question.accept, question.timeout) = (EVENTS, Some(ENDLESS));
        let opened = async {
            let response = self.send(&question).await?;
            let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let is_stream = content_type.is_some_and(|value| value.starts_with(EVENTS));
            match response.status().as_u16() {
                200 if is_stream => Ok(Opened::Stream(response)),
                200 => Err(Trouble::Malformed(format!("it is no {EVENTS}"))),
                _ => self.collect(&question, response).await.map(Opened::Reply),
            }
        };
        let opened = tokio::time::timeout(silence, opened).await;
        let opened = opened.unwrap_or_else(|_| Err(Trouble::Timeout(silence)));
        let elapsed = begun.elapsed();
        match &opened {
            Ok(Opened::Stream(_)) => {
                tracing::debug!(node = %self.base, what, status = 200, ?elapsed, "opened")
            }
            Ok(Opened::Reply(reply)) => {
                tracing::debug!(node = %self.base, what, status = reply.status, ?elapsed, "not opened");
            }
            Err(trouble) => tracing::debug!(node = %self.base, what, %trouble, ?elapsed, "not answered"),
        }
        opened.map_err(|trouble| self.error(what, trouble))
    }

    async fn exchange(&self, question: &Question) -> Result<Reply, Trouble> {
        let response = self.send(question).await?;
        self.collect(question, response).await
    }

    async fn send(&self, question: &Question) -> Result<Response, Trouble> {
        let url = format!("{}{}", self.base, question.path);
        let request = match &question.body {
            Some(body) => self.http.post(url).header(CONTENT_TYPE, JSON).body(body.clone()),
            None => self.http.get(url),
        };
        let mut request = request.header(ACCEPT, question.accept);
        if let Some(timeout) = question.timeout {
            request = request.timeout(timeout);
        }
        request.send().await.map_err(|error| self.trouble(question, &error))
    }

    async fn collect(&self, question: &Question, mut response: Response) -> Result<Reply, Trouble> {
        let status = response.status().as_u16();
        let date = response.headers().get(DATE).and_then(|value| value.to_str().ok()).map(Into::into);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.trouble(question, &error))? {
            if body.len() + chunk.len() > question.limit {
                return Err(Trouble::TooLarge(question.limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body, date })
    }

    fn trouble(&self, question: &Question, error: &reqwest::Error) -> Trouble {
        if error.is_connect() {
            Trouble::Unreachable(cause(error))
        } else if error.is_timeout() {
            Trouble::Timeout(question.timeout.unwrap_or(self.timeout))
        } else {
            Trouble::Broken(cause(error))
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost cause: what is around it says only that a request failed.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match error.source() {
        Some(_) => excerpt(innermost.to_string().as_bytes()),
        None => "the request could not be made".to_owned(),
    }
}
