//! Schema registries with Confluent's API (Confluent's own, Apicurio, Karapace): schemas by id and by GUID, and ids for
//! schemas of ours.
//!
//! What a registry says of an id decides about events, so an answer counts only if it is certainly one: a 404 of a proxy,
//! a page to log in, a refused password are no answers, and the question is asked again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use killick_stages::avro::schema::MAX_TEXT;
use killick_stages::registry::{Lookup, SchemaId};
use killick_stages::span::Span;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::runtime::Handle;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use crate::secrets;
use crate::web::{authorities, cause, is_here};

/// Bytes in the longest answer: the longest schema, written in JSON, and what stands beside it.
const LARGEST: usize = 2 * MAX_TEXT + (64 << 10);
/// Schemas that one may refer to, directly or not.
const MOST_REFERENCES: usize = 64;
/// Pause before a registry is asked once more for what it does not have: one of its replicas may be behind the one that
/// gave the id away.
const ONCE_MORE: Duration = Duration::from_millis(100);
/// The media type of Confluent's API.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// `[registry]`: where schemas are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Its address, `http://…` or `https://…`, up to where `/schemas` and `/subjects` begin.
    pub url: String,
    /// Our name there; with it goes `password_file`, and `https` unless the registry is on this machine.
    pub username: Option<String>,
    /// A file that holds our password; a relative path begins at the configuration's folder.
    pub password_file: Option<PathBuf>,
    /// A file of certificates (PEM) of authorities: they alone are trusted for `https`. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to be made. 100 ms to 1 min; default 3 s.
    pub connect_timeout: Span,
    /// How long one question may take in all. 1 s to 5 min; default 10 s.
    pub timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            username: None,
            password_file: None,
            ca_file: None,
            connect_timeout: Span::secs(3),
            timeout: Span::secs(10),
        }
    }
}

impl Settings {
    /// Makes relative paths begin at the configuration's folder.
    pub fn resolve(&mut self, folder: Option<&Path>) {
        for file in [&mut self.password_file, &mut self.ca_file].into_iter().flatten() {
            if let Some(folder) = folder {
                *file = folder.join(&*file);
            }
        }
    }

    /// Whether they can work, as far as can be told without the registry and without files, which only those processes
    /// need that ask it.
    ///
    /// # Errors
    /// A setting is out of its range, the address is none, or settings do not go together.
    pub fn check(&self) -> Result<()> {
        let ranges = [
            ("connect_timeout", self.connect_timeout, Span::millis(100), Span::secs(60)),
            ("timeout", self.timeout, Span::secs(1), Span::secs(300)),
        ];
        for (name, found, least, most) in ranges {
            ensure!((least..=most).contains(&found), "{name} is {found}; it is {least} to {most}");
        }
        let url = self.address()?;
        ensure!(
            self.username.is_some() == self.password_file.is_some(),
            "username and password_file go together"
        );
        ensure!(
            self.username.is_none() || url.scheme() == "https" || is_here(&url),
            "username and password_file need https: else the password itself is on the wire"
        );
        Ok(())
    }

    fn client(&self) -> Result<(Client, Url, Option<Login>)> {
        self.check()?;
        let url = self.address()?;
        let login = match (&self.username, &self.password_file) {
            (Some(username), Some(file)) => {
                let password = secrets::read(file).context("password_file")?;
                Some(Login { username: username.clone(), password })
            }
            _ => None,
        };
        let mut builder = Client::builder()
            .user_agent(concat!("killick/", env!("CARGO_PKG_VERSION")))
            // A redirect would take the password elsewhere.
            .redirect(Policy::none())
            .connect_timeout(self.connect_timeout.duration())
            .timeout(self.timeout.duration());
        if is_here(&url) {
            builder = builder.no_proxy();
        }
        if url.scheme() == "http" {
            // Without TLS there is nothing to trust, and a machine without any certificates can do without.
            builder = builder.tls_certs_only([]);
        } else if let Some(file) = &self.ca_file {
            builder = builder.tls_certs_only(authorities(file)?);
        }
        Ok((builder.build().context("no HTTP client can be made")?, url, login))
    }

    fn address(&self) -> Result<Url> {
        ensure!(!self.url.is_empty(), "url: where is the registry?");
        // What does not parse may hold a password: it is not repeated.
        let url = Url::parse(&self.url).context("url is no address")?;
        ensure!(matches!(url.scheme(), "http" | "https"), "url does not begin with http:// or https://");
        ensure!(url.has_host(), "url names no host");
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            "url has a user name or password in it; give username and password_file"
        );
        ensure!(url.query().is_none() && url.fragment().is_none(), "url has a query or fragment");
        Ok(url)
    }
}

struct Login {
    username: String,
    password: Zeroizing<String>,
}

/// Why a registry does not answer. Each is a matter of time or of an operator, and none says anything about a schema.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, goes away before it has answered, or says that it is unwell.
    #[error("the schema registry {url} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        url: Box<str>,
        /// What happened.
        why: String,
    },
    /// It does not let us in.
    #[error(
        "the schema registry {url} does not let us in (status {status}): are username and password right?"
    )]
    Forbidden {
        /// Its address.
        url: Box<str>,
        /// 401 or 403.
        status: u16,
    },
    /// It answers what no registry does.
    #[error("{url} does not answer as a schema registry does: {why}")]
    Unexpected {
        /// What was asked.
        url: Box<str>,
        /// What came.
        why: String,
    },
    /// It does not take a schema.
    #[error("the schema registry does not take the schema of {subject}: {why}")]
    Refused {
        /// The subject.
        subject: Box<str>,
        /// Its reason.
        why: String,
    },
}

/// A registry.
///
/// Its calls block: they may come from any thread that is not one of the runtime's own, such as those of
/// `spawn_blocking`.
pub struct Registry {
    http: Client,
    base: Url,
    login: Option<Login>,
    runtime: Handle,
}

/// A schema as a registry gives it.
#[derive(Deserialize)]
struct Registered {
    schema: Box<str>,
    #[serde(default, rename = "schemaType")]
    kind: Option<Box<str>>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
struct Reference {
    subject: Box<str>,
    version: i64,
}

/// A failure as a registry words it.
#[derive(Deserialize)]
struct Failure {
    error_code: u32,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

/// A status with the body, or as much of it as is read.
struct Reply {
    status: u16,
    body: Vec<u8>,
    is_whole: bool,
}

impl Reply {
    fn failure(&self) -> Option<Failure> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The status and the start of the body, without what a terminal obeys.
    fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(200)]);
        format!("status {}, {:?}", self.status, text)
    }
}

impl Registry {
    /// A registry, asked once whether it is there. Where it is not, that is said and nothing else: registries come back.
    ///
    /// # Errors
    /// The settings cannot work, it does not let us in, or something else answers in its place.
    pub fn open(settings: &Settings, runtime: Handle) -> Result<Self> {
        let registry = Self::new(settings, runtime)?;
        match registry.runtime.block_on(registry.probe()) {
            Ok(()) => info!(registry = %registry.base, "a schema registry"),
            Err(error @ RegistryError::Unreachable { .. }) => {
                warn!(%error, "events whose schemas are not known yet wait for it");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(registry)
    }

    /// The same, and nothing is asked yet.
    ///
    /// # Errors
    /// The settings cannot work.
    pub fn new(settings: &Settings, runtime: Handle) -> Result<Self> {
        let (http, base, login) = settings.client()?;
        Ok(Self { http, base, login, runtime })
    }

    /// Whether it answers, and takes us.
    ///
    /// # Errors
    /// It does not, with why.
    pub fn check(&self) -> Result<(), RegistryError> {
        self.runtime.block_on(self.probe())
    }

    /// What it says of an id.
    ///
    /// # Errors
    /// It does not answer: ask again.
    pub fn lookup(&self, id: SchemaId) -> Result<Lookup, RegistryError> {
        self.runtime.block_on(async {
            match self.schema(id).await? {
                Lookup::Missing => {
                    tokio::time::sleep(ONCE_MORE).await;
                    self.schema(id).await
                }
                lookup => Ok(lookup),
            }
        })
    }

    /// The id of a schema under a subject; it is registered if it is not yet.
    ///
    /// # Errors
    /// The registry does not answer, or does not take the schema: it is not compatible with an earlier one.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        self.runtime.block_on(async {
            let url = self.at(&["subjects", subject, "versions"]);
            let body = serde_json::json!({ "schema": schema }).to_string();
            let request = self.http.post(url.clone()).header(CONTENT_TYPE, MEDIA_TYPE).body(body);
            let reply = self.exchange(&url, request).await?;
            match (reply.status, reply.failure()) {
                (200, _) => serde_json::from_slice::<Id>(&reply.body)
                    .map(|id| id.id)
                    .map_err(|_| unexpected(&url, &reply)),
                (409 | 422, Some(failure)) => {
                    Err(RegistryError::Refused { subject: subject.into(), why: failure.message })
                }
                _ => Err(unexpected(&url, &reply)),
            }
        })
    }

    /// Whether what answers is a registry.
    async fn probe(&self) -> Result<(), RegistryError> {
        let url = self.at(&["schemas", "types"]);
        let reply = self.get(&url).await?;
        match serde_json::from_slice::<Vec<Box<str>>>(&reply.body) {
            Ok(_) if reply.status == 200 => Ok(()),
            _ => Err(unexpected(&url, &reply)),
        }
    }

    async fn schema(&self, id: SchemaId) -> Result<Lookup, RegistryError> {
        let url = match id {
            SchemaId::Number(number) => self.at(&["schemas", "ids", &number.to_string()]),
            SchemaId::Guid(_) => self.at(&["schemas", "guids", &id.to_string()]),
        };
        let mut gathered = Gathered::default();
        Ok(match self.gather(&url, &mut gathered).await? {
            None => Lookup::Found(gathered.texts),
            Some(instead) => instead,
        })
    }

    /// Puts the schema at `url` behind those that it refers to; what there is to say instead if that cannot be.
    async fn gather(&self, url: &Url, gathered: &mut Gathered) -> Result<Option<Lookup>, RegistryError> {
        let unfit = |why: String| Ok(Some(Lookup::Unfit(why.into())));
        let registered = match self.registered(url).await? {
            Ok(registered) => registered,
            Err(instead) => return Ok(Some(instead)),
        };
        if let Some(kind) = registered.kind.filter(|kind| &**kind != "AVRO") {
            return unfit(format!("it is {kind}, and no Avro"));
        }
        gathered.bytes += registered.schema.len();
        if gathered.bytes > MAX_TEXT {
            return unfit(format!("with all that it refers to it has more than {MAX_TEXT} bytes"));
        }
        for reference in registered.references.unwrap_or_default() {
            if !gathered.seen.insert(reference.clone()) {
                continue;
            }
            if gathered.seen.len() > MOST_REFERENCES {
                return unfit(format!("it refers to more than {MOST_REFERENCES} others"));
            }
            let url = self.at(&["subjects", &reference.subject, "versions", &reference.version.to_string()]);
            // Each turn has seen one more, so this ends.
            if let Some(instead) = Box::pin(self.gather(&url, gathered)).await? {
                return Ok(Some(instead));
            }
        }
        gathered.texts.push(registered.schema);
        Ok(None)
    }

    async fn registered(&self, url: &Url) -> Result<Result<Registered, Lookup>, RegistryError> {
        let reply = self.get(url).await?;
        match (reply.status, reply.failure()) {
            (200, _) if !reply.is_whole => {
                Ok(Err(Lookup::Unfit(format!("its answer has more than {LARGEST} bytes").into())))
            }
            (200, _) => serde_json::from_slice(&reply.body).map(Ok).map_err(|_| unexpected(url, &reply)),
            // Its own words for: no such schema, subject or version.
            (404, Some(Failure { error_code: 40_400..=40_499, .. })) => Ok(Err(Lookup::Missing)),
            // It does not even look for such an id, or knows no GUIDs; unless it is no registry at all.
            (404, _) => self.probe().await.map(|()| Err(Lookup::Missing)),
            _ => Err(unexpected(url, &reply)),
        }
    }

    fn at(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        // A consumer may have to read what was written before its subject was deleted.
        if segments.last() != Some(&"versions") {
            url.set_query(Some("deleted=true"));
        }
        url
    }

    async fn get(&self, url: &Url) -> Result<Reply, RegistryError> {
        self.exchange(url, self.http.get(url.clone())).await
    }

    async fn exchange(&self, url: &Url, request: reqwest::RequestBuilder) -> Result<Reply, RegistryError> {
        let request = match &self.login {
            Some(login) => request.basic_auth(&login.username, Some(login.password.as_str())),
            None => request,
        };
        let unreachable = |error: reqwest::Error| RegistryError::Unreachable {
            url: self.base.as_str().into(),
            why: cause(&error),
        };
        let request = request.header(ACCEPT, format!("{MEDIA_TYPE}, application/json"));
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        if matches!(status, 401 | 403) {
            return Err(RegistryError::Forbidden { url: self.base.as_str().into(), status });
        }
        let mut reply = Reply { status, body: Vec::new(), is_whole: true };
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if reply.body.len() + chunk.len() > LARGEST {
                reply.is_whole = false;
                break;
            }
            reply.body.extend_from_slice(&chunk);
        }
        debug!(%url, status, bytes = reply.body.len(), "the registry answered");
        if status >= 500 || status == 429 {
            return Err(RegistryError::Unreachable { url: self.base.as_str().into(), why: reply.excerpt() });
        }
        Ok(reply)
    }
}

/// A schema behind those that it refers to.
#[derive(Default)]
struct Gathered {
    texts: Vec<Box<str>>,
    seen: HashSet<Reference>,
    bytes: usize,
}

fn unexpected(url: &Url, reply: &Reply) -> RegistryError {
    RegistryError::Unexpected { url: url.as_str().into(), why: reply.excerpt() }
}

#[cfg(test)]
pub mod server;
#[cfg(test)]
mod tests;
