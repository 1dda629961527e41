//! Pact commands: built, hashed, signed and checked; results read.

mod command;
mod exec;
mod result;
#[cfg(feature = "webauthn")]
mod webauthn;

pub use command::{Command, CommandError, MAX_SIGNATURES, Scheme, Signer, command_hash};
pub use exec::{Capability, Exec, ExecError, MAX_TTL, units};
pub use result::{CommandResult, Outcome, ResultError, output_of_poll};
#[cfg(feature = "webauthn")]
pub use webauthn::{WebAuthnError, verify as verify_webauthn};
