//! `killick keys`, and the keys of devices: made once, kept in a file of their own, shown by their public part only.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use killick_proof::encoding::{array_from_base64url, base64url};
use killick_proof::note::SignerKey;
use killick_proof::origin::Origin;
use killick_proof::signature::{PublicKey, SIGNATURE_LEN, SecretKey};
use killick_proof::statement::{Event, StatementError};
use killick_proof::{Algorithm, note};
use killick_stages::deployment::Deployment;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use crate::cli::{Failure, Outcome, Output};
use crate::config::{Config, ConfigArgs};
use crate::secrets;

/// The key with which a device signs its events.
#[derive(Debug, Clone)]
pub struct DeviceKey {
    tenant: String,
    source: String,
    secret: SecretKey,
}

/// A device's key file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFile {
    tenant: String,
    source: String,
    /// The seed, base64url.
    secret: String,
}

impl Drop for DeviceFile {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl DeviceKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// No statement takes this tenant or source.
    pub fn generate(tenant: &str, source: &str) -> Result<Self, StatementError> {
        let seed = Zeroizing::new(rand::random::<[u8; 32]>());
        Self::new(tenant, source, SecretKey::from_seed(&seed))
    }

    fn new(tenant: &str, source: &str, secret: SecretKey) -> Result<Self, StatementError> {
        let digest = Algorithm::Sha256.digest(&[]);
        Event { tenant, source, id: "any", time: 0, kind: "", digest }.check()?;
        Ok(Self { tenant: tenant.to_owned(), source: source.to_owned(), secret })
    }

    /// Reads a key file, and warns where others can read it too.
    ///
    /// # Errors
    /// It cannot be read or is no device key; the message has nothing of its content.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&secrets::read(path)?).with_context(|| format!("{}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        // What a JSON error says may quote the file.
        let Ok(file) = serde_json::from_str::<DeviceFile>(text) else { bail!("this is no device key") };
        let Ok(seed) = array_from_base64url(&file.secret).map(Zeroizing::new) else {
            bail!("the secret of this device key is not 32 bytes in base64url")
        };
        Ok(Self::new(&file.tenant, &file.source, SecretKey::from_seed(&seed))?)
    }

    /// Writes the key to a file that must not be there yet, for its owner's eyes only.
    ///
    /// # Errors
    /// The file is there, or cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let secret = base64url(self.secret.seed());
        let file = DeviceFile { tenant: self.tenant.clone(), source: self.source.clone(), secret };
        let text = Zeroizing::new(serde_json::to_string(&file)?);
        secrets::write_new(path, &text)
    }

    /// The tenant it was made for.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The device it was made for.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The public part.
    pub fn public(&self) -> PublicKey {
        self.secret.public()
    }

    /// Signs an event; it may be another device's, where the trust file says that this key speaks for that one too.
    ///
    /// # Errors
    /// [`StatementError`] if the event breaks a rule of statements.
    pub fn sign(&self, event: &Event<'_>) -> Result<[u8; SIGNATURE_LEN], StatementError> {
        Ok(self.secret.sign(&event.signing_bytes()?))
    }

    /// The entry of `devices` in a trust file.
    fn trust_entry(&self) -> serde_json::Value {
        json!({"tenant": self.tenant, "source": self.source, "key": base64url(self.public().as_bytes())})
    }

    /// The entry in the configuration.
    fn config_entry(&self) -> Result<String> {
        device_section(&self.tenant, &self.source, &self.public())
    }
}

/// The entry of a device's key in the configuration.
///
/// # Errors
/// It cannot be written in TOML.
pub fn device_section(tenant: &str, source: &str, key: &PublicKey) -> Result<String> {
    let mut device = toml::Table::new();
    device.insert("tenant".into(), tenant.into());
    device.insert("source".into(), source.into());
    device.insert("key".into(), base64url(key.as_bytes()).into());
    Ok(format!("[[device]]\n{}", toml::to_string(&device)?))
}

/// Makes keys, and shows their public parts.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick keys new device --tenant plant --source press-1 --out press-1.key")]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes a key in a new file that only its owner can read, and prints its public part.
    #[command(after_help = "Example: killick keys new log --origin plant.example/1/sha256/0 --out log-0.key")]
    New {
        #[command(subcommand)]
        kind: Kind,
    },
    /// Makes all keys of a deployment on servers that are not there yet, in the folder of `[keys]`.
    ///
    /// For each log `log-N.key`, with which batch signs, and `log-N.pub`, which is all that prove needs; and `anchor.key`,
    /// with which anchor signs, and if wanted `anchor-1.key` and on. Keys that are there stay as they are. Prints the accounts
    /// that pay for anchors: they need coins on each chain of the deployment.
    #[command(after_help = "Example: killick keys init -c killick.toml")]
    Init {
        #[command(flatten)]
        config: ConfigArgs,

        /// How many keys are to sign anchors, 1 to 16. Each pays from an account of its own, and they take turns; or all
        /// sign together for the account of [anchor] sender.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
        anchor_keys: u8,
    },
    /// Prints the public part of a key file.
    #[command(after_help = "Example: killick keys show press-1.key")]
    Show {
        /// The key file.
        file: PathBuf,

        /// Text for people, or one JSON object.
        #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// The key that signs the checkpoints of one log; prints its verifier key for trust files (C2SP signed note).
    #[command(after_help = "Example: killick keys new log --origin plant.example/1/sha256/0 --out log-0.key")]
    Log {
        /// The origin of the log: name/generation/hash/number.
        #[arg(long)]
        origin: String,

        #[command(flatten)]
        to: To,
    },
    /// The key with which a device signs its events; prints its entries for trust file and configuration.
    #[command(
        after_help = "Example: killick keys new device --tenant plant --source press-1 --out press-1.key"
    )]
    Device {
        /// The tenant: 1 to 64 of a-z 0-9 . _ -
        #[arg(long)]
        tenant: String,

        /// The device: 1 to 256 bytes.
        #[arg(long)]
        source: String,

        #[command(flatten)]
        to: To,
    },
}

#[derive(Debug, Args)]
struct To {
    /// The file to write; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Text for people, or one JSON object.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Does what `killick keys` is asked to.
pub fn run(args: &KeysArgs) -> Outcome {
    match &args.command {
        Action::New { kind: Kind::Log { origin, to } } => {
            Origin::parse(origin).map_err(|error| Failure::Usage(format!("--origin: {error}")))?;
            let seed = Zeroizing::new(rand::random::<[u8; 32]>());
            let key = SignerKey::new(origin, SecretKey::from_seed(&seed))?;
            secrets::write_new(&to.out, &Zeroizing::new(key.to_secret_text()))?;
            show_log(&key, to.output)?;
        }
        Action::New { kind: Kind::Device { tenant, source, to } } => {
            let key =
                DeviceKey::generate(tenant, source).map_err(|error| Failure::Usage(format!("--{error}")))?;
            key.save(&to.out)?;
            show_device(&key, to.output)?;
        }
        Action::Init { config, anchor_keys } => init(&Config::load(config)?, (*anchor_keys).into())?,
        Action::Show { file, output } => {
            let text = secrets::read(file)?;
            if let Ok(key) = text.parse::<SignerKey>() {
                show_log(&key, *output)?;
            } else if let Ok(key) = text.parse::<note::VerifierKey>() {
                print(
                    *output,
                    &format!("{key}\n"),
                    &json!({"kind": "log", "origin": key.name(), "key": key.to_string()}),
                )?;
            } else if let Ok(key) = DeviceKey::parse(&text) {
                show_device(&key, *output)?;
            } else {
                return Err(
                    anyhow::anyhow!("{} is neither a log key nor a device key", file.display()).into()
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn init(config: &Config, anchor_keys: usize) -> Result<(), Failure> {
    let folder = config.keys.folder.as_deref();
    let folder =
        folder.ok_or_else(|| Failure::Usage("[keys] folder: where are the keys to be?".to_owned()))?;
    let deployment = Deployment::new(&config.deployment)?;
    for (number, origin) in deployment.origins().iter().enumerate() {
        let key = secrets::log_key(&folder.join(format!("log-{number}.key")), origin)?;
        let path = folder.join(format!("log-{number}.pub"));
        std::fs::write(&path, format!("{}\n", key.verifier())).with_context(|| path.display().to_string())?;
    }
    let anchor = secrets::make_anchor_keys(folder, anchor_keys)?;
    let mut public = anchor.iter().map(|key| hex::encode(key.public().as_bytes()));
    let mut out = std::io::stdout().lock();
    let (logs, folder) = (deployment.logs(), folder.display());
    writeln!(out, "{logs} log keys and {} that sign anchors are in {folder}", anchor.len())?;
    match &config.anchor.sender {
        None => public.try_for_each(|key| writeln!(out, "anchors are paid by k:{key}"))?,
        Some(sender) => {
            let keys = public.collect::<Vec<_>>().join(", ");
            writeln!(
                out,
                "anchors are paid by {sender}; its guard is a keyset of {keys}, or of some of them"
            )?;
        }
    }
    Ok(())
}

fn show_log(key: &SignerKey, output: Output) -> Result<()> {
    let verifier = key.verifier().to_string();
    let text = format!("# trust file, in \"logs\":\n{verifier}\n");
    print(output, &text, &json!({"kind": "log", "origin": key.name(), "key": verifier}))
}

fn show_device(key: &DeviceKey, output: Output) -> Result<()> {
    let (trust, config) = (key.trust_entry(), key.config_entry()?);
    let text = format!("# trust file, in \"devices\":\n{trust}\n\n# configuration:\n{config}");
    print(output, &text, &json!({"kind": "device", "trust": trust, "config": config}))
}

fn print(output: Output, text: &str, object: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Text => out.write_all(text.as_bytes())?,
        Output::Json => writeln!(out, "{object}")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use killick_proof::statement::{Attestation, Statement};

    use super::*;

    #[test]
    fn a_device_key_is_kept_and_its_signatures_verify() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pump.key");
        let made = DeviceKey::generate("acme", "pump/1").unwrap();
        made.save(&path).unwrap();
        assert!(made.save(&path).is_err(), "a key is never overwritten");
        let key = DeviceKey::load(&path).unwrap();
        assert_eq!((key.tenant(), key.source(), key.public()), ("acme", "pump/1", made.public()));
        let event = Event {
            tenant: "acme",
            source: "pump/1",
            id: "1",
            time: 5,
            kind: "",
            digest: Algorithm::Sha256.digest(b"x"),
        };
        let signature = key.sign(&event).unwrap();
        let public = key.public();
        let attestation = Attestation::Signed { key: public.as_bytes(), signature: &signature };
        assert_eq!(Statement { event, attestation }.verify(), Ok(()));
    }

    #[test]
    fn what_is_no_device_key_is_not_shown() {
        for text in [
            "hunter2",
            r#"{"tenant":"a","source":"b","secret":"hunter2"}"#,
            r#"{"tenant":"a","source":"b","hunter2":1}"#,
            r#"{"tenant":"A","source":"b","secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#,
        ] {
            let error = format!("{:#}", DeviceKey::parse(text).unwrap_err());
            assert!(!error.contains("hunter2"), "{error}");
        }
        let key = DeviceKey::generate("a", "b").unwrap();
        assert!(!format!("{key:?}").contains(&base64url(key.secret.seed())));
        assert!(DeviceKey::generate("a", "").is_err());
    }
}
