//! The commands that anchor intervals: built from the interval and the number of the attempt, to the same bytes always.

use bytes::Bytes;
use chainweb::pact::{Capability, Command, Exec, ExecError, command_hash};
use killick_proof::signature::SecretKey;

use crate::ports::ChainId;
use crate::record::Micros;
use crate::span::Span;
use crate::state::Attempt;

/// The data path: the code gives back the text that the command carries, so the output in the block carries it too.
const CODE: &str = "(read-msg \"killick\")";

/// Seconds between the creation times of attempts with consecutive numbers: below what nodes let a creation time be
/// ahead of a block's (95 s), so that an attempt which follows a failed one need not wait.
const STEP: i64 = 60;

/// Whatever is the same for all commands of a deployment.
#[derive(Debug)]
pub(crate) struct Builder {
    /// The network's name.
    pub(crate) network: Box<str>,
    /// What tells the nonces of this deployment from those of others.
    pub(crate) name: Box<str>,
    /// The accounts that pay, at least one. A command is paid by one of them.
    pub(crate) payers: Vec<Payer>,
    /// Most gas to use.
    pub(crate) gas_limit: u64,
    /// The price of a unit of gas.
    pub(crate) gas_price: Box<str>,
    /// How long a command may wait.
    pub(crate) ttl: Span,
}

/// An account that pays, and the keys that sign for it together.
#[derive(Debug)]
pub(crate) struct Payer {
    /// The account.
    pub(crate) account: Box<str>,
    /// At least one.
    pub(crate) keys: Vec<SecretKey>,
}

impl Payer {
    /// The account that a key has of its own.
    pub(crate) fn of(key: SecretKey) -> Self {
        Self { account: format!("k:{}", hex::encode(key.public().as_bytes())).into(), keys: vec![key] }
    }
}

impl Builder {
    /// The command of one attempt to put `text` on a chain for an interval that was cut at log time `cut`.
    ///
    /// # Errors
    /// [`ExecError`] where the configuration makes no command; checked with one command when the stage is made.
    pub(crate) fn build(
        &self,
        chain: ChainId,
        interval: &str,
        cut: Micros,
        number: u64,
        text: &str,
        payer: &Payer,
    ) -> Result<Attempt, ExecError> {
        let creation_time = creation_time(cut, number);
        let public: Vec<_> = payer.keys.iter().map(|key| hex::encode(key.public().as_bytes())).collect();
        let signers: Vec<_> = public.iter().map(|key| (key.as_str(), &[Capability::GAS][..])).collect();
        let cmd = Exec {
            network: &self.network,
            code: CODE,
            // An anchor text has no character that JSON would escape.
            data: &format!("{{\"killick\":\"{text}\"}}"),
            signers: &signers,
            chain: chainweb::ChainId(chain),
            sender: &payer.account,
            gas_limit: self.gas_limit,
            gas_price: &self.gas_price,
            ttl: self.ttl.whole_secs(),
            creation_time,
            nonce: &format!("killick/{}/{interval}/{number}", self.name),
        }
        .to_cmd()?;
        let hash = command_hash(&cmd);
        let sigs = payer.keys.iter().map(|key| Some(hex::encode(key.sign(&hash.0)))).collect();
        let command = Command { hash, sigs, cmd };
        let expires = creation_time.saturating_mul(1_000_000).saturating_add(self.ttl.micros());
        Ok(Attempt {
            number,
            expires,
            key: hash.to_string().into(),
            command: Bytes::from(command.to_transaction()),
        })
    }
}

/// From when an attempt counts, in seconds since 1970; never before 1970.
fn creation_time(cut: Micros, number: u64) -> i64 {
    let step = i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(STEP);
    cut.div_euclid(1_000_000).max(0).saturating_add(step)
}

/// The number of the attempt after `last` for a chain whose time is `tip`: its creation time is then the chain's time,
/// or at most [`STEP`] ahead of it where the last attempt is younger than that.
pub(crate) fn next_number(cut: Micros, last: u64, tip: Micros) -> u64 {
    let since = tip.div_euclid(1_000_000).saturating_sub(creation_time(cut, 0)).div_euclid(STEP);
    u64::try_from(since).unwrap_or(0).max(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> Builder {
        Builder {
            network: "development".into(),
            name: "killick.local/1".into(),
            payers: [7, 8].map(|seed| Payer::of(SecretKey::from_seed(&[seed; 32]))).into(),
            gas_limit: 400,
            gas_price: "1e-8".into(),
            ttl: Span::secs(1_200),
        }
    }

    #[test]
    fn a_command_is_a_function_of_the_interval_and_the_number() {
        let text = "killick/1 sha256 1 AAAA";
        let (builder, again) = (builder(), builder());
        let [payer, other] = &builder.payers[..] else { panic!("two pay") };
        let first = builder.build(3, "17", 1_999_999, 0, text, payer).unwrap();
        assert_eq!(again.build(3, "17", 1_999_999, 0, text, &again.payers[0]), Ok(first.clone()));
        let others = [
            builder.build(4, "17", 1_999_999, 0, text, payer),
            builder.build(3, "18", 1_999_999, 0, text, payer),
            builder.build(3, "17", 2_000_000, 0, text, payer),
            builder.build(3, "17", 1_999_999, 1, text, payer),
            builder.build(3, "17", 1_999_999, 0, "killick/1 sha256 1 BBBB", payer),
            builder.build(3, "17", 1_999_999, 0, text, other),
        ];
        assert!(others.into_iter().all(|other| other.unwrap().key != first.key));
    }

    #[test]
    fn a_command_verifies_and_carries_the_text() {
        let builder = builder();
        let text = "killick/1 sha256 1 AAAA";
        let attempt = builder.build(3, "17", 5_000_000, 2, text, &builder.payers[0]).unwrap();
        let command = Command::parse(&attempt.command).unwrap();
        command.verify().unwrap();
        assert_eq!(*command.hash.to_string(), *attempt.key);
        assert!(command.cmd.contains(r#""data":{"killick":"killick/1 sha256 1 AAAA"}"#));
        assert!(command.cmd.contains(r#""creationTime":125}"#));
        assert_eq!(attempt.expires, 1_325_000_000);
    }

    #[test]
    fn all_keys_of_an_account_sign_for_it() {
        let keys: Vec<_> = [7, 8, 9].map(|seed| SecretKey::from_seed(&[seed; 32])).into();
        let public: Vec<_> = keys.iter().map(|key| hex::encode(key.public().as_bytes())).collect();
        let payer = Payer { account: "treasury".into(), keys };
        let attempt = builder().build(3, "17", 5_000_000, 0, "killick/1 sha256 1 AAAA", &payer).unwrap();
        let command = Command::parse(&attempt.command).unwrap();
        command.verify().unwrap();
        assert_eq!(command.sigs.len(), 3);
        let cmd: serde_json::Value = serde_json::from_str(&command.cmd).unwrap();
        assert_eq!(cmd["meta"]["sender"], "treasury");
        for (signer, key) in cmd["signers"].as_array().unwrap().iter().zip(&public) {
            assert_eq!(signer["pubKey"], **key);
            assert_eq!(signer["clist"], serde_json::json!([{"name": "coin.GAS", "args": []}]));
        }
    }

    #[test]
    fn attempts_follow_the_time_of_the_chain_and_never_repeat_a_number() {
        assert_eq!(next_number(0, 0, 1_200_000_000), 20);
        assert_eq!(next_number(0, 20, 1_210_000_000), 21);
        assert_eq!(next_number(600_000_000, 0, 0), 1);
        assert_eq!(next_number(Micros::MIN, 0, Micros::MAX), 153_722_867_280);
    }
}
