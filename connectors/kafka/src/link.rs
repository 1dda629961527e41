//! A connection for questions: what topics and groups there are, and if there is no connection, why.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigSource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::{self, ASK, Plain, client_config};
use crate::names::Names;
use crate::settings::{Security, Settings, SettingsError};

/// How long the brokers have for a first answer.
const CONNECT: Duration = Duration::from_secs(8);
/// Between two looks at what went wrong meanwhile.
const LOOK: Duration = Duration::from_millis(250);
/// How long a broker that was refused for good is given to be right after all: another may answer.
const SETTLE: Duration = Duration::from_secs(2);

/// How long partitions may be without a leader that answers: those of a topic that was just made are, for a moment.
const LED: Duration = Duration::from_secs(10);

/// Why the brokers cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No broker answers.
    #[error(transparent)]
    Unreachable(Unreachable),
    /// One question failed.
    #[error(transparent)]
    Asked(Box<Asked>),
}

impl LinkError {
    /// Whether it passes by itself, as where brokers are being restarted. Otherwise something has to be changed.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Settings(_) => false,
            Self::Unreachable(why) => why.is_away,
            Self::Asked(asked) => passes(&asked.cause),
        }
    }
}

/// Whether an answer is one of brokers that are coming or going.
pub fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotCoordinator
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                // Only partitions that were there a moment ago are asked about.
                | Code::UnknownPartition
        )
    )
}

/// A question that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}{said}")]
pub struct Asked {
    /// The question.
    pub what: String,
    /// What librdkafka makes of it.
    pub cause: KafkaError,
    /// What brokers said meanwhile.
    pub said: Said,
}

/// No broker can be used: each that was tried, with what it said and what to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    brokers: Vec<(String, String, String)>,
    /// Whether nothing answers at all. Otherwise somebody refuses us, and goes on doing so.
    is_away: bool,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no broker can be used")?;
        for (broker, said, remedy) in &self.brokers {
            write!(f, "\n{broker}: {said}; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unreachable {}

/// What brokers said that belongs to no question, by broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said(BTreeMap<String, (RDKafkaErrorCode, String)>);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(broker, (_, said))| write!(f, "\n{broker}: {said}"))
    }
}

/// A topic's configuration: each value, and whether it was set for this topic.
pub type Configs = BTreeMap<String, (String, bool)>;

/// A topic as the brokers have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Missing,
    /// We may not know.
    Forbidden,
    /// There is.
    There {
        /// The number of its partitions.
        partitions: u32,
        /// The least number of replicas of one of them.
        replication: u32,
        /// None if we may not know.
        configs: Option<Configs>,
    },
}

/// A connection.
pub struct Link {
    pub settings: Settings,
    pub names: Names,
    consumer: BaseConsumer<Ear>,
    pub admin: AdminClient<Plain>,
    /// The number of brokers of the cluster.
    pub brokers: usize,
}

impl Link {
    /// Connects; `name` tells us apart in the brokers' logs.
    ///
    /// # Errors
    /// [`LinkError`], within 10 seconds.
    pub fn open(settings: &Settings, name: &str) -> Result<Self, LinkError> {
        let mut config = client_config(settings, name)?;
        // A first answer comes soon or never.
        config
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("api.version.request.timeout.ms", "4000")
            .set("reconnect.backoff.max.ms", "500");
        let opened = |cause| asked("a client".to_owned(), cause, Said::default());
        let admin = create(&config, Plain).map_err(opened)?;
        config.set("isolation.level", "read_uncommitted");
        let consumer = config
            .create_with_context(Ear { security: settings.security.clone(), heard: Mutex::default() })
            .map_err(opened)?;
        let names = Names::new(&settings.prefix);
        let mut link = Self { settings: settings.clone(), names, consumer, admin, brokers: 0 };
        link.connect()?;
        Ok(link)
    }

    fn connect(&mut self) -> Result<(), LinkError> {
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            // The names of brokers come with any topic, also with one that is not there.
            match self.consumer.fetch_metadata(Some(&self.names.topic("connect")), LOOK) {
                Ok(metadata) => {
                    self.brokers = metadata.brokers().len();
                    return Ok(());
                }
                Err(error) => {
                    let said = self.listen();
                    let refused = said.0.values().filter(|(code, _)| is_final(*code)).count();
                    let patience = if refused >= self.settings.brokers.len() { SETTLE } else { CONNECT };
                    if begun.elapsed() > patience {
                        return Err(LinkError::Unreachable(unreachable(&self.settings, said, &error)));
                    }
                    // Where there is no connection the answer comes at once.
                    std::thread::sleep(LOOK.saturating_sub(asked.elapsed()));
                }
            }
        }
    }

    /// What the brokers said meanwhile.
    fn listen(&self) -> Said {
        // Gives what waits to be told, and ends where nothing does.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        Said(self.consumer.context().heard())
    }

    /// What went wrong with a question.
    pub fn failed(&self, what: impl fmt::Display, cause: KafkaError) -> LinkError {
        asked(what.to_string(), cause, self.listen())
    }

    /// Topics as the brokers have them, by their names there.
    ///
    /// # Errors
    /// [`LinkError::Asked`].
    pub fn topics<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, Found>, LinkError> {
        let mut found = BTreeMap::new();
        for name in names {
            found.insert(name.to_owned(), self.topic(name)?);
        }
        let there = found.iter().filter(|(_, found)| matches!(found, Found::There { .. }));
        let there: Vec<&str> = there.map(|(name, _)| name.as_str()).collect();
        for (name, entries) in self.configs(&there)? {
            if let Some(Found::There { configs, .. }) = found.get_mut(&name) {
                *configs = Some(entries);
            }
        }
        Ok(found)
    }

    /// One topic, without its configuration.
    ///
    /// # Errors
    /// [`LinkError::Asked`].
    pub fn topic(&self, name: &str) -> Result<Found, LinkError> {
        let what = || format!("the partitions of {name}");
        let metadata =
            self.consumer.fetch_metadata(Some(name), ASK).map_err(|error| self.failed(what(), error))?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return Ok(Found::Missing);
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                return Ok(Found::Missing);
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => return Ok(Found::Forbidden),
            Some(code) => return Err(self.failed(what(), KafkaError::MetadataFetch(code))),
        }
        let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
        Ok(Found::There {
            partitions: u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX),
            replication: u32::try_from(replicas.unwrap_or(0)).unwrap_or(u32::MAX),
            configs: None,
        })
    }

    fn configs(&self, names: &[&str]) -> Result<HashMap<String, Configs>, LinkError> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let asked: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let answer = wait(self.admin.describe_configs(&asked, &options()));
        let answer = answer.map_err(|error| self.failed("the configuration of the topics", error))?;
        let mut configs = HashMap::new();
        for resource in answer.into_iter().flatten() {
            let OwnedResourceSpecifier::Topic(name) = resource.specifier else { continue };
            // An answer that is refused comes without entries.
            if resource.entries.is_empty() {
                continue;
            }
            let entries = resource.entries.into_iter().filter_map(|entry| {
                Some((entry.name, (entry.value?, entry.source == ConfigSource::DynamicTopic)))
            });
            configs.insert(name, entries.collect());
        }
        Ok(configs)
    }

    /// The first offset that is kept in each partition of a topic, and the one behind the last, in order.
    ///
    /// # Errors
    /// [`LinkError::Asked`].
    pub fn ranges(&self, name: &str, partitions: u32) -> Result<Vec<(u64, u64)>, LinkError> {
        let first = self.offsets(name, partitions, Offset::Beginning)?;
        let end = self.offsets(name, partitions, Offset::End)?;
        Ok(first.into_iter().zip(end).collect())
    }

    fn offsets(&self, name: &str, partitions: u32, at: Offset) -> Result<Vec<u64>, LinkError> {
        let what = || format!("the offsets of {name}");
        let mut list = TopicPartitionList::new();
        for number in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            list.add_partition_offset(name, number, at).map_err(|error| self.failed(what(), error))?;
        }
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + LED;
        let found = loop {
            let found = self.consumer.offsets_for_times(list.clone(), ASK);
            let found =
                found.and_then(|list| list.elements().iter().try_for_each(|it| it.error()).map(|()| list));
            match found {
                Ok(found) => break found,
                Err(error) if passes(&error) && Instant::now() < deadline => std::thread::sleep(LOOK),
                Err(error) => return Err(self.failed(what(), error)),
            }
        };
        let mut offsets = Vec::new();
        for entry in found.elements() {
            match entry.offset() {
                Offset::Offset(offset) => offsets.push(u64::try_from(offset).unwrap_or_default()),
                _ => return Err(self.failed(what(), KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset))),
            }
        }
        Ok(offsets)
    }
}

fn asked(what: String, cause: KafkaError, said: Said) -> LinkError {
    LinkError::Asked(Box::new(Asked { what, cause, said }))
}

/// What administration is asked with.
pub fn options() -> AdminOptions {
    let patience = Duration::from_secs(15);
    AdminOptions::new().request_timeout(Some(patience)).operation_timeout(Some(patience))
}

fn create(config: &ClientConfig, context: Plain) -> Result<AdminClient<Plain>, KafkaError> {
    config.create_with_context(context)
}

/// Waits for an answer in this thread, whoever else runs in it.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Does the same with each, each in a thread of its own.
pub fn side_by_side<T: Sync, U: Send>(all: &[T], act: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let act = &act;
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(move || act(one))).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// A client that remembers what was last said of each broker.
struct Ear {
    security: Security,
    heard: Mutex<BTreeMap<String, (RDKafkaErrorCode, String)>>,
}

impl Ear {
    fn heard(&self) -> BTreeMap<String, (RDKafkaErrorCode, String)> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what says more than what was said before.
    fn hear(&self, code: RDKafkaErrorCode, reason: &str) {
        let Some((broker, said)) = reason.split_once(": ").filter(|(broker, _)| is_broker(broker)) else {
            return;
        };
        let said = said.split(" (after ").next().unwrap_or(said);
        let worth = |code, said: &str| (is_final(code), remedy(&self.security, code, said) != UNKNOWN);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = heard.get(&address(broker)).map(|(code, said)| worth(*code, said));
        if before.is_none_or(|before| worth(code, said) >= before) {
            heard.insert(address(broker), (code, said.to_owned()));
        }
    }
}

impl ClientContext for Ear {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        // A connection that is closed is no error to librdkafka.
        if facility == "FAIL" {
            let message = message.split_once("]: ").map_or(message, |(_, message)| message);
            self.hear(RDKafkaErrorCode::BrokerTransportFailure, message);
        }
        // Told once, by whoever asked.
        client::log(RDKafkaLogLevel::Info, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.hear(code, reason);
        }
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Ear {}

/// Whether trying again helps nobody.
fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
}

/// Whether a text is a broker as librdkafka writes it: `sasl_ssl://127.0.0.1:9092/bootstrap`.
fn is_broker(text: &str) -> bool {
    text.contains(':') && !text.contains(' ')
}

fn address(broker: &str) -> String {
    let address = broker.split_once("://").map_or(broker, |(_, address)| address);
    address.split('/').next().unwrap_or(address).to_owned()
}

fn unreachable(settings: &Settings, said: Said, error: &KafkaError) -> Unreachable {
    let silent = ["connection refused", "timed out", "no route to host"];
    let is_silent = |said: &str| silent.iter().any(|part| said.to_ascii_lowercase().contains(part));
    let is_away =
        said.0.values().all(|(code, said)| *code != RDKafkaErrorCode::Authentication && is_silent(said));
    let mut brokers: Vec<_> = said
        .0
        .into_iter()
        .map(|(broker, (code, said))| {
            let remedy = remedy(&settings.security, code, &said).to_owned();
            (broker, said, remedy)
        })
        .collect();
    if brokers.is_empty() {
        let said = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        brokers = settings
            .brokers
            .iter()
            .map(|broker| (broker.clone(), said.clone(), UNKNOWN.to_owned()))
            .collect();
    }
    Unreachable { brokers, is_away }
}

/// What to check where nothing better is known.
const UNKNOWN: &str = "is a firewall in between, or does something else listen there?";

/// What to check when a broker is lost with these words.
fn remedy(security: &Security, code: RDKafkaErrorCode, said: &str) -> &'static str {
    let has = |part: &str| said.to_ascii_lowercase().contains(part);
    match code {
        RDKafkaErrorCode::Authentication
            if has("unsupported sasl mechanism") || has("enabled mechanisms") =>
        {
            "the broker has other mechanisms: see [kafka.security] mechanism"
        }
        RDKafkaErrorCode::Authentication => {
            "are [kafka.security] username and password_file right, and does the user exist for this mechanism?"
        }
        _ if ["certificate required", "bad certificate", "certificate unknown", "unknown ca"]
            .iter()
            .any(|part| has(part)) =>
        {
            "the broker wants a certificate of ours that it trusts: [kafka.security] certificate_file and key_file"
        }
        _ if has("certificate verify failed") => {
            "the broker's certificate is not of an authority that we trust, or not for this name: is [kafka.security] \
             ca_file right?"
        }
        _ if has("wrong version number")
            || has("connecting to a plaintext")
            || has("record layer failure") =>
        {
            "this listener does not speak TLS: set [kafka.security] tls = false, or take the port of one that does"
        }
        RDKafkaErrorCode::Resolve => "is the name in [kafka] brokers right, and can this machine resolve it?",
        _ if has("connection refused") => {
            "nothing listens there: is the address in [kafka] brokers right, and does the broker run?"
        }
        _ if has("require sasl") || has("disconnected") && !security.tls && security.mechanism.is_none() => {
            "does this listener expect TLS or SASL? then set [kafka.security] tls and mechanism"
        }
        _ if has("disconnected") && security.mechanism.is_none() => {
            // Also one that speaks no TLS, and ends the connection before it has said so.
            "does this listener speak TLS at all, and does it expect SASL or a certificate of ours? see [kafka.security] \
             tls, mechanism, certificate_file"
        }
        _ if has("disconnected") => "does this listener expect SASL with TLS? see [kafka.security]",
        _ => UNKNOWN,
    }
}
