//! The service API of a node over HTTP, in the shapes recorded from a live one.

mod blocks;
mod control;
mod faults;
mod hashes;
mod pact;
mod request;
mod response;
mod updates;
mod wire;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::graph::ChainId;

use super::Devnet;
use request::{Encoding, Query, negotiate};
use response::Answer;

/// Largest body of a request: 2 MiB.
const MAX_BODY: usize = 2 << 20;

/// Everything about a request but its path.
struct Asked<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    query: Query<'a>,
    body: &'a [u8],
}

impl Asked<'_> {
    /// Refuses all methods but one (and HEAD where it is GET).
    fn only(&self, method: &Method) -> Result<(), Answer> {
        let is_head = method == Method::GET && self.method == Method::HEAD;
        if self.method == method || is_head { Ok(()) } else { Err(Answer::empty(405)) }
    }
}

/// The routes of a network's service API.
fn router(devnet: Arc<Devnet>) -> Router {
    let updates = get(updates::headers);
    Router::new().route("/chainweb/0.0/{network}/header/updates", updates).fallback(answer).with_state(devnet)
}

/// Answers on `listener` until the returned future is dropped, as far as the network's faults let it.
///
/// # Errors
/// Those of the listener.
pub(super) async fn serve(listener: TcpListener, devnet: Arc<Devnet>) -> io::Result<()> {
    let faults = from_fn_with_state(Arc::clone(&devnet), faults::around);
    let service = router(devnet).layer(faults).into_make_service_with_connect_info::<wire::Switch>();
    axum::serve(wire::Wires(listener), service).await
}

async fn answer(State(devnet): State<Arc<Devnet>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let len =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
    let Ok(body) = to_bytes(body, MAX_BODY).await else { return Answer::too_large(MAX_BODY, len) };
    let query = Query(parts.uri.query().unwrap_or_default());
    let asked = Asked { method: &parts.method, headers: &parts.headers, query, body: &body };
    let path = parts.uri.path();
    // A node takes one slash at the end as if it were not there.
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    route(&devnet, &segments, &asked).await.unwrap_or_else(|refusal| refusal)
}

async fn route(devnet: &Devnet, path: &[&str], asked: &Asked<'_>) -> Result<Answer, Answer> {
    match path {
        ["info"] => {
            asked.only(&Method::GET)?;
            negotiate(asked.headers, &[Encoding::Json])?;
            Ok(Answer::json(devnet.info()))
        }
        ["health-check"] => {
            asked.only(&Method::GET)?;
            let encoding = negotiate(asked.headers, &[Encoding::Text])?;
            Ok(Answer::ok(encoding, "Health check OK.\n"))
        }
        ["chainweb", "0.0", network, rest @ ..] if *network == devnet.network_name() => match rest {
            ["cut"] => blocks::cut(devnet, asked),
            ["chain", chain, rest @ ..] => {
                let is_number = !chain.is_empty() && chain.bytes().all(|byte| byte.is_ascii_digit());
                let chain = chain.parse().ok().filter(|_| is_number).map(ChainId);
                match chain.filter(|chain| devnet.graph().contains(*chain)) {
                    Some(chain) => of_chain(devnet, chain, rest, asked).await,
                    None => Err(Answer::empty(404)),
                }
            }
            _ => Err(Answer::empty(404)),
        },
        ["devnet", rest @ ..] => control::answer(devnet, rest, asked),
        _ => Err(Answer::empty(404)),
    }
}

async fn of_chain(
    devnet: &Devnet,
    chain: ChainId,
    path: &[&str],
    asked: &Asked<'_>,
) -> Result<Answer, Answer> {
    match path {
        ["header"] => blocks::headers(devnet, chain, asked),
        ["header", "branch"] if asked.method == Method::POST && request::is_json(asked.headers) => {
            blocks::header_branch(devnet, chain, asked)
        }
        ["header", hash] => blocks::header(devnet, chain, hash, asked),
        ["hash"] => blocks::hashes(devnet, chain, asked),
        ["hash", "branch"] => blocks::hash_branch(devnet, chain, asked),
        ["payload", "batch"] => blocks::payloads(devnet, asked, blocks::With::Transactions),
        ["payload", "outputs", "batch"] => blocks::payloads(devnet, asked, blocks::With::Outputs),
        ["payload", hash] => blocks::payload(devnet, hash, asked, blocks::With::Transactions),
        ["payload", hash, "outputs"] => blocks::payload(devnet, hash, asked, blocks::With::Outputs),
        ["pact", "api", "v1", "send"] => pact::send(devnet, chain, asked),
        ["pact", "api", "v1", "poll"] => pact::poll(devnet, chain, asked),
        ["pact", "api", "v1", "listen"] => pact::listen(devnet, chain, asked).await,
        ["pact", "api", "v1", "local"] => pact::local(devnet, chain, asked),
        ["pact", "spv"] => pact::spv(devnet, chain, asked),
        _ => Err(Answer::empty(404)),
    }
}
