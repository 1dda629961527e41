//! Trouble on command over HTTP, and coins: paths that no node has.
//!
//! | request | does |
//! |---|---|
//! | `GET /devnet` | how each node stands, and its cut |
//! | `GET /devnet/faults` | what goes wrong by chance, and how often it did |
//! | `POST /devnet/faults?set=SPEC` | lets other things go wrong; the text of [`crate::devnet::Faults`] |
//! | `POST /devnet/reorganize?chain=C&depth=D` | also `&commands=wait` (default), `again` or `lost` |
//! | `POST /devnet/partition?groups=0,1/2` | parts the nodes |
//! | `POST /devnet/heal` | lets all know of each other |
//! | `POST /devnet/lag?rounds=N` | this node shows what was; 0 ends it |
//! | `POST /devnet/down`, `POST /devnet/up` | this node is away, or back |
//! | `POST /devnet/lose-mempool`, `POST /devnet/restart` | this node forgets what waits; and what it held to be hopeless |
//! | `POST /devnet/bad-list?chain=C&key=K` | this node holds a command to be hopeless |
//! | `POST /devnet/coins?account=A&amount=N` | gives an account coins out of nothing, on each chain; one that is not there is made if it is `k:…` |
//! | `POST /devnet/round` | makes a round of blocks now |
//!
//! These answer at all times, also where the node is down. What is done is answered with the state of all nodes.

use axum::http::Method;

use super::Asked;
use super::response::Answer;
use crate::devnet::json::quoted;
use crate::devnet::{Devnet, Faults, GiveError, Orphaned, TroubleError, text};
use crate::graph::ChainId;

/// Most rounds that a node lags.
const MAX_LAG: u64 = 1_000;

/// Whether a path is one of these.
pub(super) fn is_its(path: &str) -> bool {
    path.strip_prefix("/devnet").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) fn answer(devnet: &Devnet, path: &[&str], asked: &Asked<'_>) -> Result<Answer, Answer> {
    let is_question = matches!(path, [] | ["faults"]) && asked.method != Method::POST;
    asked.only(if is_question { &Method::GET } else { &Method::POST })?;
    match path {
        [] if is_question => {}
        ["faults"] if is_question => return Ok(Answer::json(faults(devnet))),
        ["faults"] => {
            let text = parameter(asked, "set")?;
            devnet.set_faults(text.parse::<Faults>().map_err(wrong)?);
            return Ok(Answer::json(faults(devnet)));
        }
        ["reorganize"] => {
            let (chain, depth) = (chain(asked)?, number(asked, "depth")?);
            devnet.reorganize(chain, depth, orphaned(asked)?).map_err(refused)?;
        }
        ["partition"] => devnet.partition(&groups(asked)?).map_err(refused)?,
        ["heal"] => devnet.heal().map_err(|error| refused(error.into()))?,
        ["lag"] => devnet.set_lag(number(asked, "rounds")?.min(MAX_LAG)),
        ["down"] => devnet.set_down(true),
        ["up"] => devnet.set_down(false),
        ["lose-mempool"] => devnet.lose_mempool(),
        ["restart"] => devnet.restart(),
        ["bad-list"] => {
            let key = asked.query.get("key").unwrap_or_default();
            let key = key.parse().map_err(|error| wrong(format!("key={key}: {error}")))?;
            devnet.bad_list(chain(asked)?, &key);
        }
        ["coins"] => {
            let (account, amount) = (parameter(asked, "account")?, parameter(asked, "amount")?);
            devnet.give(&account, amount.parse().map_err(wrong)?).map_err(|error| {
                let status = if matches!(error, GiveError::Store(_)) { 503 } else { 400 };
                Answer::refused(status, error.to_string())
            })?;
        }
        ["round"] => devnet.make_round().map_err(|error| Answer::refused(503, error.to_string()))?,
        _ => return Err(Answer::empty(404)),
    }
    Ok(Answer::json(nodes(devnet)))
}

fn wrong(why: impl ToString) -> Answer {
    Answer::refused(400, why.to_string())
}

fn refused(error: TroubleError) -> Answer {
    let status = if matches!(error, TroubleError::Store(_)) { 503 } else { 400 };
    Answer::refused(status, error.to_string())
}

fn parameter(asked: &Asked<'_>, name: &str) -> Result<String, Answer> {
    asked.query.get(name).ok_or_else(|| wrong(format!("{name} is missing")))
}

fn number(asked: &Asked<'_>, name: &str) -> Result<u64, Answer> {
    asked.query.number(name)?.ok_or_else(|| wrong(format!("{name} is missing: a number")))
}

fn chain(asked: &Asked<'_>) -> Result<ChainId, Answer> {
    let chain = number(asked, "chain")?;
    Ok(ChainId(u32::try_from(chain).unwrap_or(u32::MAX)))
}

fn orphaned(asked: &Asked<'_>) -> Result<Orphaned, Answer> {
    match asked.query.get("commands").as_deref() {
        None | Some("wait") => Ok(Orphaned::Wait),
        Some("again") => Ok(Orphaned::MinedAgain),
        Some("lost") => Ok(Orphaned::Lost),
        Some(other) => Err(wrong(format!("commands={other}: it is wait, again or lost"))),
    }
}

/// Groups with slashes between them, of nodes with commas between them.
fn groups(asked: &Asked<'_>) -> Result<Vec<Vec<usize>>, Answer> {
    let text = asked.query.get("groups").unwrap_or_default();
    let group = |group: &str| group.split(',').map(|node| node.trim().parse()).collect::<Result<Vec<_>, _>>();
    let groups = text.split('/').map(group).collect::<Result<Vec<_>, _>>();
    groups.map_err(|_| wrong(format!("groups={text}: numbers of nodes, such as 0,1/2")))
}

fn faults(devnet: &Devnet) -> String {
    let happened = devnet.happened().into_iter().filter(|(_, count)| *count > 0);
    let happened = text::joined(happened.map(|(fault, count)| format!("\"{fault}\":{count}")));
    format!("{{\"faults\":{},\"happened\":{{{happened}}}}}", quoted(&devnet.faults().to_string()))
}

fn nodes(devnet: &Devnet) -> String {
    let nodes = (0..devnet.nodes()).filter_map(|index| {
        let node = devnet.node(index)?;
        let (state, cut) = (node.state(), node.cut());
        Some(format!(
            "{{\"node\":{index},\"group\":{},\"lag\":{},\"down\":{},\"height\":{},\"cut\":{}}}",
            state.group,
            state.lag,
            state.is_down,
            cut.height,
            quoted(cut.id.as_deref().unwrap_or_default())
        ))
    });
    format!("{{\"answering\":{},\"nodes\":[{}]}}", devnet.node, text::joined(nodes))
}
