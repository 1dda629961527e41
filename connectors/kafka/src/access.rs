//! Rights at the brokers.

use crate::settings::Settings;
use crate::topics::{Finding, Weight, tool};

/// A right that somebody needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    operation: &'static str,
    /// The option of `kafka-acls` that names the resource.
    resource: &'static str,
    name: String,
}

impl Acl {
    pub fn topic(operation: &'static str, name: &str) -> Self {
        Self { operation, resource: "topic", name: name.to_owned() }
    }

    pub fn group(operation: &'static str, name: &str) -> Self {
        Self { operation, resource: "group", name: name.to_owned() }
    }

    /// What is to be said where we have not got it.
    pub fn missing(&self, settings: &Settings) -> Finding {
        let Self { operation, resource, name } = self;
        let who = principal(settings);
        Finding {
            about: format!("{} {name}", resource.replace('-', " ")),
            found: format!("{who} has no right to {operation}"),
            wanted: format!("an ACL that allows {operation}"),
            remedy: format!(
                "{} --add --allow-principal '{who}' --operation {operation} --{resource} {name}",
                tool(settings, "kafka-acls")
            ),
            weight: Weight::Breaks,
            fix: None,
        }
    }
}

/// Who we are to the brokers.
fn principal(settings: &Settings) -> String {
    match (&settings.security.username, &settings.security.certificate_file) {
        (Some(name), _) => format!("User:{name}"),
        (None, Some(_)) => "User:<the subject of certificate_file>".to_owned(),
        (None, None) => "User:ANONYMOUS".to_owned(),
    }
}
