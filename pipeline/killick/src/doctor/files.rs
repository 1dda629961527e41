//! What files are looked at: keys, secrets, certificates.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use killick_proof::note::VerifierKey;
use killick_stages::deployment::Deployment;
use time::OffsetDateTime;
use x509_parser::pem::Pem;

use super::Look;
use crate::config::Config;
use crate::secrets;

/// Days before a certificate's end from which on it is told of.
const SOON: i64 = 30;
/// Bytes in the largest file of certificates.
const LARGEST: u64 = 16 << 20;
/// Names that one finding lists.
const LISTED: usize = 8;

/// Whether the keys are there, are those of their logs, and who may read them and other secrets.
pub fn keys(config: &Config, folder: Option<&Path>) -> Look {
    let mut look = Look::default();
    let mut secrets = secret_files(config, folder);
    if let (Some(keys), Ok(deployment)) = (&config.keys.folder, Deployment::new(&config.deployment)) {
        secrets.extend(own(keys, &deployment, &mut look));
    }
    for series in config.reanchor.values() {
        secrets.extend(series.key_file.clone());
    }
    private(&secrets, &mut look);
    look
}

/// The keys of logs and of anchors in their folder. Gives the files that hold secrets.
pub fn own(folder: &Path, deployment: &Deployment, look: &mut Look) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let (mut missing, mut public_only) = (Vec::new(), 0_usize);
    for (number, origin) in deployment.origins().iter().enumerate() {
        let [key, public] = ["key", "pub"].map(|kind| folder.join(format!("log-{number}.{kind}")));
        let verifier = public.exists().then(|| verifier(&public, origin));
        let of_key = match key.exists() {
            true => Some(secrets::read(&key).and_then(|text| secrets::parse_log_key(&text, &key, origin))),
            false => None,
        };
        match (&of_key, &verifier) {
            (Some(Ok(signer)), Some(Ok(verifier)))
                if signer.verifier().to_string() != verifier.to_string() =>
            {
                look.breaks(
                    format!("key {}", public.display()),
                    format!("it is not the public part of {}", key.display()),
                    "the key with which the log's checkpoints are signed",
                    format!("write what `killick keys show {}` prints into it", key.display()),
                );
            }
            (None, None) => missing.push(format!("log-{number}.key")),
            (None, Some(_)) => public_only += 1,
            _ => {}
        }
        let errors = [
            of_key.as_ref().and_then(|key| key.as_ref().err()),
            verifier.as_ref().and_then(|key| key.as_ref().err()),
        ];
        for error in errors.into_iter().flatten() {
            look.breaks(
                format!("key of log {origin}"),
                format!("{error:#}"),
                "the log's own key",
                "restore it from a copy: a log cannot go on with another key",
            );
        }
        found.extend(of_key.map(|_| key));
    }
    look.saw(format!("{} log keys in {}", found.len(), folder.display()));
    if !missing.is_empty() {
        look.breaks(
            format!("keys in {}", folder.display()),
            format!("{} are missing", listed(&missing)),
            "a key for each log",
            "`killick keys init -c FILE` makes those of a new deployment; restore those of one that has worked from a copy",
        );
    }
    if public_only > 0 {
        look.saw(format!("{public_only} logs have their public key alone here: prove can run, batch cannot"));
    }
    match secrets::anchor_keys(folder) {
        Ok(keys) => {
            look.saw(format!("{} keys that sign anchors", keys.len()));
            let number = |number: &usize| if *number == 0 { String::new() } else { format!("-{number}") };
            let names = (0..killick_stages::anchor::MAX_KEYS)
                .map(|at| folder.join(format!("anchor{}.key", number(&at))));
            found.extend(names.filter(|path| path.exists()));
        }
        Err(error) => look.breaks(
            format!("keys in {}", folder.display()),
            format!("{error:#}"),
            "a key that signs anchors, where anchor runs",
            "`killick keys init -c FILE` makes one, and its account needs coins; or restore it from a copy",
        ),
    }
    found
}

fn verifier(path: &Path, origin: &str) -> anyhow::Result<VerifierKey> {
    let key: VerifierKey = secrets::read_public(path)?
        .trim()
        .parse()
        .map_err(|error| anyhow::anyhow!("{} is no verifier key: {error}", path.display()))?;
    anyhow::ensure!(
        key.name() == origin,
        "{} is the key of {}, and not of {origin}",
        path.display(),
        key.name()
    );
    Ok(key)
}

/// The other files of a configuration that hold secrets.
fn secret_files(config: &Config, folder: Option<&Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if let Some(kafka) = &config.kafka {
        files
            .extend([&kafka.security.password_file, &kafka.security.key_file].into_iter().flatten().cloned());
    }
    if let Some(catalog) = &config.catalog {
        files.extend(
            [&catalog.security.password_file, &catalog.security.key_file].into_iter().flatten().cloned(),
        );
    }
    files.extend(config.registry.iter().filter_map(|registry| registry.password_file.clone()));
    let tenants = config.tenants.values().filter_map(|tenant| tenant.secret_file.as_deref());
    files.extend(tenants.map(|file| folder.map_or_else(|| file.to_owned(), |folder| folder.join(file))));
    files
}

/// Whether only their owner can read these files.
pub fn private(files: &[PathBuf], look: &mut Look) {
    let (mut by_all, mut by_group) = (Vec::new(), Vec::new());
    for path in files {
        let mode = match fs::metadata(path) {
            Ok(about) => about.permissions().mode(),
            Err(error) => {
                let what =
                    if error.kind() == ErrorKind::NotFound { "it is not there" } else { "it cannot be read" };
                look.breaks(
                    format!("secret {}", path.display()),
                    format!("{what}: {error}"),
                    "a file that the configuration names",
                    "put it there, readable for the user that runs killick",
                );
                continue;
            }
        };
        let name = path.display().to_string();
        match mode {
            mode if mode & 0o007 != 0 => by_all.push(name),
            mode if mode & 0o070 != 0 => by_group.push(name),
            _ => {}
        }
    }
    look.saw(format!("who may read {} files with secrets", files.len()));
    let wanted = "secrets that only their owner can read";
    if !by_all.is_empty() {
        let found = format!("every user of this machine may read or write {}", listed(&by_all));
        look.breaks(
            "secrets",
            found,
            wanted,
            "chmod 600 them; if somebody may have read a key, it is no secret any more",
        );
    }
    if !by_group.is_empty() {
        let found = format!("others of their group may read or write {}", listed(&by_group));
        look.advice("secrets", found, wanted, "chmod 600 them, unless the group is there for that");
    }
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// When the certificates end that the configuration names.
pub fn certificates(config: &Config) -> Look {
    let mut look = Look::default();
    let mut files = Vec::new();
    let mut named = |setting: String, file: &Option<PathBuf>, is_ours: bool| {
        files.extend(file.clone().map(|file| (setting, file, is_ours)));
    };
    if let Some(kafka) = &config.kafka {
        named("[kafka.security] ca_file".to_owned(), &kafka.security.ca_file, false);
        named("[kafka.security] certificate_file".to_owned(), &kafka.security.certificate_file, true);
    }
    if let Some(catalog) = &config.catalog {
        named("[catalog.security] ca_file".to_owned(), &catalog.security.ca_file, false);
        named("[catalog.security] certificate_file".to_owned(), &catalog.security.certificate_file, true);
    }
    if let Some(chainweb) = &config.chainweb {
        named("[chainweb] ca_file".to_owned(), &chainweb.ca_file, false);
    }
    if let Some(registry) = &config.registry {
        named("[registry] ca_file".to_owned(), &registry.ca_file, false);
    }
    for (name, series) in &config.reanchor {
        if let Some(chainweb) = &series.chainweb {
            named(format!("[reanchor.{name}.chainweb] ca_file"), &chainweb.ca_file, false);
        }
    }
    if files.is_empty() {
        look.saw("no certificates: the configuration names none");
    }
    for (setting, file, is_ours) in files {
        let about = format!("{setting} {}", file.display());
        match ends(&file) {
            Ok(ends) => judge(&mut look, about, &ends, is_ours),
            Err(why) => {
                look.breaks(
                    about,
                    why,
                    "certificates in PEM",
                    "put them there, readable for the user that runs killick",
                );
            }
        }
    }
    look
}

/// The times from and until which the certificates of a file count, in s since 1970.
fn ends(file: &Path) -> Result<Vec<(i64, i64)>, String> {
    let about = fs::metadata(file).map_err(|error| error.to_string())?;
    if about.len() > LARGEST {
        return Err(format!("it has {} bytes: no file of certificates is that large", about.len()));
    }
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    let mut ends = Vec::new();
    for pem in Pem::iter_from_buffer(&bytes) {
        let pem = pem.map_err(|error| format!("it is no PEM: {error}"))?;
        if pem.label != "CERTIFICATE" {
            continue;
        }
        let certificate =
            pem.parse_x509().map_err(|error| format!("a certificate in it cannot be read: {error}"))?;
        let validity = certificate.validity();
        ends.push((validity.not_before.timestamp(), validity.not_after.timestamp()));
    }
    if ends.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(ends) }
}

/// Of our own chain each certificate has to count, of authorities one.
fn judge(look: &mut Look, about: String, ends: &[(i64, i64)], is_ours: bool) {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let day = |seconds: i64| {
        OffsetDateTime::from_unix_timestamp(seconds)
            .map_or_else(|_| seconds.to_string(), |time| time.date().to_string())
    };
    let first = ends.iter().map(|(_, end)| *end).min().unwrap_or_default();
    look.saw(format!("{about}: {} certificates, the first ends on {}", ends.len(), day(first)));
    let bad = ends.iter().filter(|(from, until)| !(*from..=*until).contains(&now));
    let (bad, all) = (bad.count(), ends.len());
    let wanted = "certificates that count today";
    let remedy = "get new ones from who issued them, and restart the processes that use them";
    if bad > 0 && (is_ours || bad == all) {
        let latest_start = ends.iter().map(|(from, _)| *from).max().unwrap_or_default();
        let found = if first < now {
            format!("it ended on {}", day(first))
        } else {
            format!("it begins on {}", day(latest_start))
        };
        look.breaks(about, found, wanted, remedy);
    } else if bad > 0 {
        look.advice(about, format!("{bad} of {all} do not count today"), wanted, "take them out of the file");
    } else if first - now < SOON * 86_400 {
        let found = format!("one ends in {} days, on {}", (first - now) / 86_400, day(first));
        look.advice(about, found, "certificates that last", remedy);
    }
}
