//! `asynq group`: looks at the groups of a queue.

use clap::Subcommand;
use serde::Serialize;

use crate::{cli::Global, error::Result, output::one_line};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the groups of a queue.
    #[command(visible_alias = "ls")]
    List {
        /// Queue of the groups.
        #[arg(short, long, add = super::complete::queues())]
        queue: String,
    },
}

/// A group of a queue.
#[derive(Debug, Serialize)]
struct GroupRecord<'a> {
    queue: &'a str,
    group: &'a str,
    /// Tasks that wait in the group.
    size: u64,
    /// Tasks that are being aggregated.
    aggregating: u64,
}

impl Command {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let Self::List { queue } = self;
        let session = global.connect().await?;
        let groups = session.inspector.list_groups(queue).await?;
        let mut listing = session.out.listing(&[]);
        for group in &groups {
            let record = GroupRecord {
                queue,
                group: group.group.as_str(),
                size: group.size,
                aggregating: group.in_sets,
            };
            session.out.text(one_line(record.group) + "\n")?;
            listing.push(Vec::new(), &record)?;
        }
        if groups.is_empty() {
            session.out.text(format!("No groups found in queue {queue:?}\n"))?;
        }
        listing.end(String::new).map(drop)
    }
}
