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
    /// Signs, and pays unless another account is named.
    pub(crate) key: SecretKey,
    /// The account that pays.
    pub(crate) sender: Box<str>,
    /// Most gas to use.
    pub(crate) gas_limit: u64,
    /// The price of a unit of gas.
    pub(crate) gas_price: Box<str>,
    /// How long a command may wait.
    pub(crate) ttl: Span,
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
    ) -> Result<Attempt, ExecError> {
        let creation_time = creation_time(cut, number);
        let public = hex::encode(self.key.public().as_bytes());
        let cmd = Exec {
            network: &self.network,
            code: CODE,
            // An anchor text has no character that JSON would escape.
            data: &format!("{{\"killick\":\"{text}\"}}"),
            signers: &[(&public, &[Capability::GAS])],
            chain: chainweb::ChainId(chain),
            sender: &self.sender,
            gas_limit: self.gas_limit,
            gas_price: &self.gas_price,
            ttl: self.ttl.whole_secs(),
            creation_time,
            nonce: &format!("killick/{}/{interval}/{number}", self.name),
        }
        .to_cmd()?;
        let hash = command_hash(&cmd);
        let sigs = vec![Some(hex::encode(self.key.sign(&hash.0)))];
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
            key: SecretKey::from_seed(&[7; 32]),
            sender: "sender00".into(),
            gas_limit: 400,
            gas_price: "1e-8".into(),
            ttl: Span::secs(1_200),
        }
    }

    #[test]
    fn a_command_is_a_function_of_the_interval_and_the_number() {
        let text = "killick/1 sha256 1 AAAA";
        let first = builder().build(3, "17", 1_999_999, 0, text).unwrap();
        assert_eq!(builder().build(3, "17", 1_999_999, 0, text), Ok(first.clone()));
        let others = [
            builder().build(4, "17", 1_999_999, 0, text),
            builder().build(3, "18", 1_999_999, 0, text),
            builder().build(3, "17", 2_000_000, 0, text),
            builder().build(3, "17", 1_999_999, 1, text),
            builder().build(3, "17", 1_999_999, 0, "killick/1 sha256 1 BBBB"),
        ];
        assert!(others.into_iter().all(|other| other.unwrap().key != first.key));
    }

    #[test]
    fn a_command_verifies_and_carries_the_text() {
        let attempt = builder().build(3, "17", 5_000_000, 2, "killick/1 sha256 1 AAAA").unwrap();
        let command = Command::parse(&attempt.command).unwrap();
        command.verify().unwrap();
        assert_eq!(*command.hash.to_string(), *attempt.key);
        assert!(command.cmd.contains(r#""data":{"killick":"killick/1 sha256 1 AAAA"}"#));
        assert!(command.cmd.contains(r#""creationTime":125}"#));
        assert_eq!(attempt.expires, 1_325_000_000);
    }

    #[test]
    fn attempts_follow_the_time_of_the_chain_and_never_repeat_a_number() {
        assert_eq!(next_number(0, 0, 1_200_000_000), 20);
        assert_eq!(next_number(0, 20, 1_210_000_000), 21);
        assert_eq!(next_number(600_000_000, 0, 0), 1);
        assert_eq!(next_number(Micros::MIN, 0, Micros::MAX), 153_722_867_280);
    }
}
