//! What stands inside of `cmd`: parsed once when a command arrives, with the node's error texts.

use super::code::Program;
use super::decimal::Decimal;
use super::json::{self, Json};

/// The parsed `cmd` of a command.
pub(super) struct Payload {
    pub(super) network: Option<String>,
    pub(super) action: Action,
    pub(super) signers: Vec<Signer>,
    pub(super) meta: Meta,
}

/// What the command wants to be done.
pub(super) enum Action {
    /// Code (parsed, or why it does not parse) and the data that comes with it.
    Exec { program: Result<Program, String>, data: Json },
    /// The next step of a multi-step transaction, which no one can have begun here.
    Cont { pact_id: String, proof_bytes: usize },
}

pub(super) struct Signer {
    /// The public key in hex, as it stands in the command.
    pub(super) key: String,
    /// Names of the capabilities that the signature is scoped to; an empty list scopes to nothing.
    pub(super) capabilities: Vec<String>,
}

pub(super) struct Meta {
    pub(super) chain_id: String,
    pub(super) sender: String,
    pub(super) gas_limit: u64,
    pub(super) gas_price: Decimal,
    /// Seconds.
    pub(super) ttl: i64,
    /// Seconds since 1970.
    pub(super) creation_time: i64,
}

impl Payload {
    /// Parses the text of `cmd`.
    ///
    /// # Errors
    /// The node's text, without what it puts in front.
    pub(super) fn parse(cmd: &str) -> Result<Self, String> {
        let cmd = json::parse(cmd)?;
        let field = |key: &str| match &cmd {
            Json::Map(_) => cmd.get(key).ok_or_else(|| {
                format!(
                    "Error in $: parsing Pact.Types.Command.Payload(Payload) failed, key \"{key}\" not found"
                )
            }),
            other => Err(other.mismatch("$", "Pact.Types.Command.Payload(Payload)", "Object")),
        };
        let action = Action::parse(field("payload")?)?;
        field("nonce")?.text("$.nonce")?;
        let meta = Meta::parse(field("meta")?)?;
        let signers = match field("signers")? {
            Json::List(signers) => signers
                .iter()
                .enumerate()
                .map(|(index, signer)| Signer::parse(signer, index))
                .collect::<Result<_, _>>()?,
            other => return Err(other.mismatch("$.signers", "[]", "Array")),
        };
        let network = match cmd.get("networkId") {
            None | Some(Json::Null) => None,
            Some(network) => Some(network.text("$.networkId")?.to_owned()),
        };
        Ok(Self { network, action, signers, meta })
    }
}

impl Action {
    fn parse(payload: &Json) -> Result<Self, String> {
        if let Some(exec) = payload.get("exec")
            && let (Some(code), Some(data)) = (exec.get("code"), exec.get("data"))
        {
            let program = Program::parse(code.text("$.payload.exec.code")?);
            return Ok(Self::Exec { program, data: data.clone() });
        }
        let path = "$.payload.cont";
        let cont = payload.member("$.payload", "cont")?;
        let pact_id = cont.member(path, "pactId")?.text("$.payload.cont.pactId")?.to_owned();
        cont.member(path, "step")?;
        cont.member(path, "rollback")?;
        cont.member(path, "data")?;
        let proof_bytes = cont.get("proof").and_then(Json::as_text).map_or(0, str::len);
        Ok(Self::Cont { pact_id, proof_bytes })
    }
}

impl Signer {
    fn parse(signer: &Json, index: usize) -> Result<Self, String> {
        let path = format!("$.signers[{index}]");
        let key = signer.member(&path, "pubKey")?.text(&format!("{path}.pubKey"))?.to_owned();
        let capabilities = match signer.get("clist") {
            None | Some(Json::Null) => Vec::new(),
            Some(Json::List(list)) => list
                .iter()
                .enumerate()
                .map(|(at, capability)| capability_name(capability, &format!("{path}.clist[{at}]")))
                .collect::<Result<_, _>>()?,
            Some(other) => return Err(other.mismatch(&format!("{path}.clist"), "[]", "Array")),
        };
        Ok(Self { key, capabilities })
    }

    /// Whether the signature may be used to pay for gas: it is unscoped, or scoped to it among others.
    pub(super) fn pays_gas(&self) -> bool {
        self.capabilities.is_empty() || self.capabilities.iter().any(|name| name == "coin.GAS")
    }
}

fn capability_name(capability: &Json, path: &str) -> Result<String, String> {
    let name = capability.member(path, "name")?.text(&format!("{path}.name"))?;
    capability.member(path, "args")?;
    match name.split_once('.') {
        Some((module, member)) if !module.is_empty() && !member.is_empty() => Ok(name.to_owned()),
        _ => Err(format!("Error in {path}.name: {}: not enough input", json::quoted("."))),
    }
}

impl Meta {
    fn parse(meta: &Json) -> Result<Self, String> {
        let text = |key: &str| meta.member("$.meta", key)?.text(&format!("$.meta.{key}")).map(str::to_owned);
        let gas_limit = number(meta, "gasLimit")?;
        let gas_price = number(meta, "gasPrice")?;
        for (key, number) in [("gasLimit", &gas_limit), ("gasPrice", &gas_price)] {
            if number.is_negative() {
                return Err(format!("Error in $.meta.{key}: value must be greater than 0"));
            }
        }
        Ok(Self {
            chain_id: text("chainId")?,
            sender: text("sender")?,
            gas_limit: gas_limit.truncated().and_then(|limit| u64::try_from(limit).ok()).unwrap_or(u64::MAX),
            gas_price,
            ttl: seconds(meta, "ttl")?,
            creation_time: seconds(meta, "creationTime")?,
        })
    }

    /// The second in which the command ceases to be valid.
    pub(super) fn expires(&self) -> i64 {
        self.creation_time.saturating_add(self.ttl)
    }
}

/// A number of whole seconds; the node accepts a fraction and drops it.
fn seconds(meta: &Json, key: &str) -> Result<i64, String> {
    let number = number(meta, key)?;
    let clamped = if number.is_negative() { i64::MIN } else { i64::MAX };
    Ok(number.truncated().unwrap_or(clamped))
}

fn number(meta: &Json, key: &str) -> Result<Decimal, String> {
    let value = meta.member("$.meta", key)?;
    let text = match value {
        Json::Number(text) => text,
        Json::Text(text) => text.as_str(),
        other => return Err(other.mismatch(&format!("$.meta.{key}"), "Scientific", "Number")),
    };
    Decimal::parse(text).ok_or_else(|| format!("Error in $.meta.{key}: number out of range: {text}"))
}
