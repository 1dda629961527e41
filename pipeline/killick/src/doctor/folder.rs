//! What is looked at of an embedded side: its folder, also while another process has it.

use std::io;
use std::path::Path;

use killick_embedded::Folder;
use killick_stages::deployment::Deployment;

use super::{Look, files};
use crate::backup;
use crate::config::Config;

/// Free bytes below which it is told of.
const LITTLE: u64 = 2 << 30;
/// Free bytes below which nothing may be taken any more soon: a segment, and what the catalog writes meanwhile.
const NOTHING: u64 = 256 << 20;

/// Looks at a folder.
pub fn look(folder: &Path, config: &Config) -> Look {
    let mut look = Look::default();
    let about = folder.display().to_string();
    let holder = match Folder::holder(folder) {
        Ok(holder) => holder,
        Err(error) => {
            let remedy = "name the folder of a `killick run --embedded`, as its user";
            look.breaks(about, error.to_string(), "a folder of the embedded side", remedy);
            return look;
        }
    };
    look.saw(match &holder {
        Some(holder) => format!("{about}: process {holder} is at work in it"),
        None => format!("{about}: nobody is at work in it"),
    });
    if let Err(error) = backup::may_start(folder) {
        let wanted = "one folder that goes on with these keys";
        look.advice(
            about.clone(),
            format!("{error:#}"),
            wanted,
            "see to it that the original is gone for good, then confirm it",
        );
    }
    log(folder, holder.is_some(), &mut look);
    space(folder, &mut look);
    catalog(folder, &mut look);
    match Deployment::new(&config.deployment) {
        Ok(deployment) => {
            let found = files::own(&folder.join("keys"), &deployment, &mut look);
            let mut secrets = found;
            secrets.extend(tenants(&folder.join("keys")));
            files::private(&secrets, &mut look);
        }
        Err(error) => {
            look.breaks("[deployment]", error.to_string(), "a deployment", "correct the configuration")
        }
    }
    look
}

fn log(folder: &Path, is_in_use: bool, look: &mut Look) {
    let about = format!("log in {}", folder.display());
    match killick_embedded::look(folder, is_in_use) {
        Ok(found) => {
            look.saw(format!("{about}: {} segments, {} MiB", found.segments, found.bytes >> 20));
            if found.unfinished > 0 {
                look.saw(format!(
                    "{about}: {} bytes of an unfinished write, which the next start cuts off",
                    found.unfinished
                ));
            }
            for damage in found.damage {
                look.breaks(
                    about.clone(),
                    damage,
                    "what was durable",
                    "restore the folder from a backup: `killick restore`",
                );
            }
            if found.segments == 0 {
                look.breaks(
                    about,
                    "there is no segment",
                    "a log",
                    "restore the folder from a backup: `killick restore`",
                );
            }
        }
        Err(error) => look.breaks(
            about,
            error.to_string(),
            "a log that can be read",
            "look as the user that runs killick; if it is gone, restore the folder from a backup",
        ),
    }
}

fn space(folder: &Path, look: &mut Look) {
    match rustix::fs::statvfs(folder) {
        Ok(about) => {
            let free = about.f_bavail.saturating_mul(about.f_frsize);
            look.saw(format!("{} MiB are free there", free >> 20));
            let remedy = "give it a larger disk, or shorten [embedded] retention";
            let found = format!("{} MiB are free", free >> 20);
            if free < NOTHING {
                look.breaks(
                    folder.display().to_string(),
                    found,
                    "space for what comes: nothing is accepted without",
                    remedy,
                );
            } else if free < LITTLE {
                look.advice(
                    folder.display().to_string(),
                    found,
                    "space for some days, at 1.5 KB an event",
                    remedy,
                );
            }
        }
        Err(error) => look.saw(format!("free space: it is not known: {}", io::Error::from(error))),
    }
}

fn catalog(folder: &Path, look: &mut Look) {
    let path = folder.join("catalog.redb");
    match std::fs::metadata(&path) {
        Ok(about) => look.saw(format!("the catalog: {} MiB", about.len() >> 20)),
        Err(error) => look.breaks(
            path.display().to_string(),
            error.to_string(),
            "the catalog, which receipts are derived from",
            "`killick catalog rebuild --embedded DIR` writes it anew from what the log still has; restore what is older from a \
             backup",
        ),
    }
}

/// The files with the secrets of tenants.
fn tenants(keys: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(keys).into_iter().flatten().flatten();
    let is_secret =
        |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "secret");
    entries.map(|entry| entry.path()).filter(is_secret).collect()
}
