//! `asynq server`: looks at the running servers.

use std::{cmp::Reverse, collections::BTreeMap};

use asynq::info::ServerInfo;
use asynq_web::records::ServerRecord;
use chrono::Utc;
use clap::Subcommand;

use crate::{cli::Global, error::Result, go};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the running servers, Go's and ours.
    #[command(visible_alias = "ls")]
    List,
}

impl Command {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let Self::List = self;
        let session = global.connect().await?;
        let mut servers = session.inspector.servers().await?;
        // People see only the number of the workers.
        let workers = match session.out.is_text() {
            true => Vec::new(),
            false => session.inspector.workers().await?,
        };
        servers.sort_by(|a, b| (&a.host, a.pid, &a.server_id).cmp(&(&b.host, b.pid, &b.server_id)));
        let mut listing = session
            .out
            .listing(&["Host", "PID", "State", "Active Workers", "Queues", "Started"]);
        for server in &servers {
            listing.push(row(server), &ServerRecord::of(server, &workers, &session.redaction()))?;
        }
        listing.end(|| "No running servers".to_owned()).map(drop)
    }
}

fn row(server: &ServerInfo) -> Vec<String> {
    vec![
        server.host.clone(),
        server.pid.to_string(),
        server.status.as_str().to_owned(),
        format!("{}/{}", server.active_worker_count, server.concurrency),
        priorities(&server.queues),
        format!("{} ago", go::between(server.start_time, Utc::now())),
    ]
}

/// The queues with their priorities, the highest first.
fn priorities(queues: &BTreeMap<String, i32>) -> String {
    let mut queues: Vec<_> = queues.iter().collect();
    queues.sort_by_key(|&(_, &priority)| Reverse(priority));
    let texts: Vec<String> = queues
        .iter()
        .map(|(name, priority)| format!("{name}:{priority}"))
        .collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_stand_by_priority_then_by_name() {
        let queues =
            [("low", 1), ("b", 6), ("a", 6), ("default", 3)].map(|(name, priority)| (name.to_owned(), priority));
        assert_eq!(priorities(&queues.into()), "a:6 b:6 default:3 low:1");
    }
}
