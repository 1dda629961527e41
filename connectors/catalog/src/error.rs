//! What can go wrong between us and the cluster, and whether waiting helps.

use killick_stages::ports::CatalogError;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, RequestAttemptError,
};

use crate::schema::Difference;
use crate::settings::SettingsError;

/// What can go wrong between us and the cluster.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No node answers: waiting may help.
    #[error("no node of {nodes} answers: {why}")]
    Away {
        /// Who was asked.
        nodes: String,
        /// The last thing that happened.
        why: String,
    },
    /// A node answers, and will not do what we ask: somebody has to change something.
    #[error("{0}")]
    Refused(String),
    /// The keyspace is not what this program needs.
    #[error("the catalog is not what this program needs: {}", list(.0))]
    Schema(Vec<Difference>),
    /// A request failed, or nobody knows whether it did: it may be made again.
    #[error("{statement}: {why}")]
    Request {
        /// What was asked.
        statement: String,
        /// What happened.
        why: String,
    },
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// Whether waiting may help, and nobody has to do anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Request { .. })
    }
}

impl From<Error> for CatalogError {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The cluster is busy, or nobody knows: soon, again.
    Again,
    /// No connection is left: a new session.
    Reconnect,
    /// The tables are others than they were: a new session, which looks at them.
    LookAgain,
    /// None here: nothing helps, or too much time is over already.
    None,
}

/// What to do about a failed request.
pub fn remedy(error: &ExecutionError) -> Remedy {
    match error {
        ExecutionError::ConnectionPoolError(_) | ExecutionError::EmptyPlan => Remedy::Reconnect,
        ExecutionError::LastAttemptError(RequestAttemptError::BrokenConnectionError(_)) => Remedy::Reconnect,
        ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId) => Remedy::Again,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => match error {
            DbError::Unavailable { .. }
            | DbError::Overloaded
            | DbError::IsBootstrapping
            | DbError::ServerError
            | DbError::ReadTimeout { .. }
            | DbError::WriteTimeout { .. }
            | DbError::ReadFailure { .. }
            | DbError::WriteFailure { .. }
            | DbError::RateLimitReached { .. } => Remedy::Again,
            DbError::Invalid | DbError::Unprepared { .. } | DbError::ConfigError => Remedy::LookAgain,
            _ => Remedy::None,
        },
        ExecutionError::LastAttemptError(
            RequestAttemptError::RepreparedIdChanged { .. } | RequestAttemptError::RepreparedIdMissingInBatch,
        ) => Remedy::LookAgain,
        _ => Remedy::None,
    }
}

/// Why there is no session. `nodes` says who was asked, `user` as whom.
pub fn no_session(error: &NewSessionError, nodes: &str, user: Option<&str>) -> Error {
    let away = || Error::Away { nodes: nodes.to_owned(), why: error.to_string() };
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error,
    })) = error
    else {
        return away();
    };
    match last_connection_error {
        ConnectionError::IoError(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            Error::Refused(format!(
                "TLS with {nodes}: {io}: look at [catalog.security] ca_file and server_name, and at what the nodes' \
             certificates name"
            ))
        }
        ConnectionError::ConnectionSetupRequestError(setup) => match &setup.error {
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, why) => {
                Error::Refused(format!(
                    "{nodes} does not let {} in: {why}: look at [catalog.security] username and password_file",
                    user.unwrap_or("us")
                ))
            }
            ConnectionSetupRequestErrorKind::MissingAuthentication => Error::Refused(format!(
                "{nodes} wants a name and a password: set [catalog.security] username and password_file"
            )),
            _ => away(),
        },
        _ => away(),
    }
}

/// What became of reading a file of the settings, as an error of the start.
impl From<SettingsError> for Error {
    fn from(error: SettingsError) -> Self {
        Self::Refused(format!("[catalog] {error}"))
    }
}
