//! `asynq context`: the contexts of the configuration file.

use asynq::Connector as _;
use clap::Subcommand;
use serde::Serialize;

use crate::{address::connector, cli::Global, error::Result, settings::Context};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the contexts; `*` marks the one that counts now.
    #[command(visible_alias = "ls")]
    List,
}

/// A context, without its secrets.
#[derive(Debug, Serialize)]
struct ContextRecord<'a> {
    name: &'a str,
    is_current: bool,
    address: String,
    protected: bool,
    read_only: bool,
    require_reason: bool,
    redact: &'a [String],
}

impl Command {
    pub(crate) fn run(&self, global: &Global) -> Result<()> {
        let settings = global.settings()?;
        let mut listing = global
            .out()
            .listing(&["Current", "Name", "Address", "Protected", "Read-only", "Reason"]);
        for (name, context) in &settings.file.contexts {
            let record = ContextRecord {
                name,
                is_current: settings.target.context.as_ref() == Some(name),
                address: address(context),
                protected: context.protected,
                read_only: context.read_only,
                require_reason: context.require_reason,
                redact: &context.redact,
            };
            let word = |flag: bool, word: &str| if flag { word.to_owned() } else { String::new() };
            let cells = vec![
                word(record.is_current, "*"),
                name.clone(),
                record.address.clone(),
                word(record.protected, "protected"),
                word(record.read_only, "read-only"),
                word(record.require_reason, "required"),
            ];
            listing.push(cells, &record)?;
        }
        let none = || match &settings.path {
            Some(path) => format!("No contexts in {}", path.display()),
            None => "No configuration file, so no contexts".to_owned(),
        };
        listing.end(none).map(drop)
    }
}

/// The address of a context without its secrets, or what is wrong with it.
fn address(context: &Context) -> String {
    match connector(&context.without_password()) {
        Ok(connector) => connector.describe(),
        Err(error) => error.message,
    }
}
