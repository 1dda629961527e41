//! The chain port: on nodes over HTTP, and on a development network in this process.

mod devchain;
mod nodechain;

pub use devchain::DevChain;
pub use nodechain::{NodeChain, OpenError, Settings, SettingsError};
