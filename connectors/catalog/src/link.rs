//! The way to the cluster: one session, made when it is first needed and made anew when it is lost; every request bounded
//! in time, in number, and in how often it is tried.
//!
//! The driver keeps its connections alive by itself, but waits ever longer between its tries (up to ten seconds), and
//! knows only addresses that it has once seen. So a session without connections is thrown away: the next caller makes a
//! new one at once, from the names in the configuration. Who waits for that is never kept longer than the settings say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::response::PagingState;
use scylla::response::query_result::QueryResult;
use scylla::serialize::batch::BatchValues;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::batch::Batch;
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::{Mutex, Semaphore};
use tracing::{debug, info};
use zeroize::Zeroizing;

use crate::error::{Error, Remedy, no_session, remedy};
use crate::migrate;
use crate::settings::{Settings, SettingsError};
use crate::statements::Statements;
use crate::tls;

/// Times that a request is made before its failure is reported; whoever asked tries again as long as it likes.
const TRIES: u32 = 3;
/// Before the second try; doubled before each further one.
const PAUSE: Duration = Duration::from_millis(50);
/// So long a failure to get a session is told to all who ask, instead of each of them trying one after the other.
const FAILED: Duration = Duration::from_millis(500);
/// How often a connection that says nothing is asked whether it lives.
const ALIVE: Duration = Duration::from_secs(5);
/// Bytes in the longest password.
const LONGEST: u64 = 4_096;

/// The way to the cluster.
pub struct Link {
    settings: Settings,
    access: Access,
    permits: Semaphore,
    state: Mutex<State>,
}

/// Who we are. Never printed.
struct Access {
    user: Option<(String, Zeroizing<String>)>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

#[derive(Default)]
struct State {
    open: Option<Arc<Open>>,
    failed: Option<(Instant, Error)>,
}

/// A session whose tables are ours, and its statements.
pub struct Open {
    pub session: Session,
    pub statements: Statements,
}

impl Link {
    /// Reads the files that the settings name. Asks no node.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let security = &settings.security;
        let user = match (&security.username, &security.password_file) {
            (Some(name), Some(file)) => {
                let io = |cause| SettingsError::File { path: file.clone(), cause };
                let why = |why: &str| SettingsError::Content { path: file.clone(), why: why.to_owned() };
                if std::fs::metadata(file).map_err(io)?.len() > LONGEST {
                    return Err(why("no password is that long"));
                }
                let mut password = Zeroizing::new(std::fs::read_to_string(file).map_err(io)?);
                while password.ends_with(['\n', '\r']) {
                    password.pop();
                }
                if password.is_empty() {
                    return Err(why("it is empty"));
                }
                Some((name.clone(), password))
            }
            _ => None,
        };
        Ok(Self {
            access: Access { user, tls: tls::config(security)? },
            permits: Semaphore::new(settings.in_flight),
            state: Mutex::default(),
            settings: settings.clone(),
        })
    }

    /// The settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A session with whatever keyspace there is: for making and checking it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn session(&self) -> Result<Session, Error> {
        let settings = &self.settings;
        let nodes = settings.nodes.join(", ");
        let local = DefaultPolicy::builder()
            .prefer_datacenter(settings.datacenter.clone())
            .token_aware(true)
            .permit_dc_failover(false)
            .build();
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .request_timeout(Some(settings.write_timeout.duration()))
            .load_balancing_policy(local)
            .build();
        let timeout = settings.connect_timeout.duration();
        let mut builder = SessionBuilder::new()
            .known_nodes(&settings.nodes)
            .default_execution_profile_handle(profile.into_handle())
            .connection_timeout(timeout)
            .hostname_resolution_timeout(Some(timeout))
            .metadata_request_serverside_timeout(settings.read_timeout.duration())
            .metadata_request_clientside_timeout(settings.read_timeout.duration())
            .keepalive_interval(ALIVE)
            .keepalive_timeout(timeout)
            .schema_agreement_interval(Duration::from_millis(20))
            .schema_agreement_timeout(Duration::from_secs(30))
            .keyspaces_to_fetch([settings.keyspace.as_str()])
            .tls_context(self.access.tls.clone())
            .pool_size(PoolSize::PerHost(std::num::NonZeroUsize::MIN.saturating_add(1)));
        if let Some((name, password)) = &self.access.user {
            builder = builder.user(name.as_str(), password.as_str());
        }
        // A node that takes connections and says nothing keeps us as long as one that takes none.
        let all = timeout + settings.read_timeout.duration();
        let session = match tokio::time::timeout(all, builder.build()).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                let user = self.access.user.as_ref().map(|(name, _)| name.as_str());
                return Err(no_session(&error, &nodes, user));
            }
            Err(_) => return Err(Error::Away { nodes, why: format!("no session within {all:?}") }),
        };
        let cluster = session.get_cluster_state();
        let mut known: Vec<_> =
            cluster.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
        known.sort_unstable();
        known.dedup();
        let configured = settings.replication();
        for datacenter in configured.keys().chain([&settings.datacenter]) {
            if !known.contains(&datacenter.as_str()) {
                return Err(Error::Refused(format!(
                    "the cluster has no datacenter {datacenter}, it has {}: set [catalog] datacenter and replication",
                    known.join(", ")
                )));
            }
        }
        Ok(session)
    }

    /// The session, made and checked if there is none.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open(&self) -> Result<Arc<Open>, Error> {
        let mut state = self.state.lock().await;
        if let Some(open) = &state.open {
            return Ok(Arc::clone(open));
        }
        if let Some((since, error)) = &state.failed
            && since.elapsed() < FAILED
        {
            return Err(error.clone());
        }
        match self.open_anew().await {
            Ok(open) => {
                info!(keyspace = self.settings.keyspace, "the catalog is open");
                state.failed = None;
                Ok(Arc::clone(state.open.insert(Arc::new(open))))
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn open_anew(&self) -> Result<Open, Error> {
        let settings = &self.settings;
        let session = self.session().await?;
        let prepare = async {
            let differences = migrate::differences(&session, settings).await?;
            if differences.is_empty() {
                Statements::prepare(&session, settings).await
            } else {
                Err(Error::Schema(differences))
            }
        };
        let all = settings.read_timeout.duration() + settings.write_timeout.duration();
        let statements = tokio::time::timeout(all, prepare).await.map_err(|_| Error::Away {
            nodes: settings.nodes.join(", "),
            why: format!("its tables were not told within {all:?}"),
        })??;
        Ok(Open { session, statements })
    }

    /// Makes the next caller look anew at what there is.
    pub async fn forget(&self) {
        *self.state.lock().await = State::default();
    }

    /// Throws the session away, unless there is another by now.
    async fn give_up(&self, lost: &Arc<Open>) {
        let mut state = self.state.lock().await;
        if state.open.as_ref().is_some_and(|open| Arc::ptr_eq(open, lost)) {
            state.open = None;
        }
    }

    /// Makes a request until it succeeds, as often as may help.
    async fn request<T>(
        &self,
        open: &Arc<Open>,
        statement: &str,
        make: impl AsyncFn() -> Result<T, ExecutionError>,
    ) -> Result<T, Error> {
        let mut pause = PAUSE;
        for tried in 1.. {
            let outcome = {
                let _permit = self.permits.acquire().await;
                make().await
            };
            let error = match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let remedy = remedy(&error);
            if remedy == Remedy::Again && tried < TRIES {
                debug!(statement, %error, "a request is made again");
                tokio::time::sleep(pause.mul_f64(rand::rng().random_range(0.5..1.0))).await;
                pause *= 2;
                continue;
            }
            if matches!(remedy, Remedy::Reconnect | Remedy::LookAgain) {
                self.give_up(open).await;
            }
            let why = error.to_string();
            return Err(if remedy == Remedy::Reconnect {
                Error::Away { nodes: self.settings.nodes.join(", "), why }
            } else {
                Error::Request { statement: statement.to_owned(), why }
            });
        }
        unreachable!("the last try returns")
    }

    /// Writes one row.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write(
        &self,
        open: &Arc<Open>,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), Error> {
        let make = async || open.session.execute_unpaged(statement, &values).await.map(drop);
        self.request(open, statement.get_statement(), make).await
    }

    /// Writes several rows in one request.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write_batch(
        &self,
        open: &Arc<Open>,
        statement: &str,
        batch: &Batch,
        values: impl BatchValues,
    ) -> Result<(), Error> {
        let make = async || open.session.batch(batch, &values).await.map(drop);
        self.request(open, statement, make).await
    }

    /// Reads rows, page by page, until there are no more or `limit` of them.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read<R>(
        &self,
        open: &Arc<Open>,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        limit: usize,
    ) -> Result<Vec<R>, Error>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let mut rows = Vec::new();
        let mut page = PagingState::start();
        loop {
            let make = async || open.session.execute_single_page(statement, &values, page.clone()).await;
            let (result, next) = self.request(open, statement.get_statement(), make).await?;
            take(result, &mut rows)
                .map_err(|why| Error::Request { statement: statement.get_statement().to_owned(), why })?;
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Continue(next) if rows.len() < limit => page = next,
                _ => break,
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }
}

/// Adds the rows of a page.
fn take<R>(result: QueryResult, rows: &mut Vec<R>) -> Result<(), String>
where
    R: for<'f, 'm> DeserializeRow<'f, 'm>,
{
    let result = result.into_rows_result().map_err(|error| error.to_string())?;
    for row in result.rows::<R>().map_err(|error| error.to_string())? {
        rows.push(row.map_err(|error| error.to_string())?);
    }
    Ok(())
}
