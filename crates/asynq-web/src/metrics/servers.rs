//! Metrics of servers, from what they publish: of all that run, and of the actors of those of this library.

use asynq::{PublishedTree, TreeNode, info::ServerInfo};

use super::family::{Family, number};
use crate::{problem::Result, readings::Readings};

/// Largest number of servers that have metrics.
const SERVERS: usize = 500;
/// Largest number of actors of one server that have metrics.
const ACTORS: usize = 100;
/// Largest depth of a tree that is looked at.
const DEPTH: usize = 16;

/// Returns the metrics of all servers.
pub(super) async fn families(readings: &Readings) -> Result<Vec<Family>> {
    let (both, trees) = (readings.servers().await?, readings.trees().await?);
    let (mut servers, mut trees) = (both.0.iter().collect::<Vec<_>>(), trees.iter().collect::<Vec<_>>());
    servers.sort_by(|one, other| one.server_id.cmp(&other.server_id));
    trees.sort_by(|one, other| one.server_id.cmp(&other.server_id));
    Ok(of(&servers, &trees))
}

/// Returns the metrics of these servers and trees.
pub(super) fn of(servers: &[&ServerInfo], trees: &[&PublishedTree]) -> Vec<Family> {
    let mut families = of_servers(servers);

    let mut restarts = Family::counter(
        "asynq_server_actor_restarts_total",
        "Number of restarts of an actor; broken down by server and actor. Actors that never restarted are left out.",
    );
    let mut backlog = Family::gauge(
        "asynq_server_actor_backlog",
        "Number of work items that wait for an actor; broken down by server and actor.",
    );
    for tree in trees.iter().take(SERVERS) {
        let server = ("server", tree.server_id.as_str());
        let mut actors = Vec::new();
        walk(&tree.tree, String::new(), 0, &mut actors);
        for (path, node) in &actors {
            let labels = [server, ("actor", path.as_str())];
            if node.restarts > 0 {
                restarts.add(&labels, number(node.restarts));
            }
            if let Some(waiting) = node.backlog {
                backlog.add(&labels, number(waiting));
            }
        }
    }
    families.extend([restarts, backlog]);
    families
}

fn of_servers(servers: &[&ServerInfo]) -> Vec<Family> {
    let mut all = Family::gauge("asynq_servers", "Number of servers, of Go and of Rust.");
    all.add(&[], number(servers.len() as u64));
    let mut info = Family::gauge(
        "asynq_server_info",
        "Always 1; the host, the process and the status of a server.",
    );
    let mut active = Family::gauge(
        "asynq_server_active_workers",
        "Number of tasks that a server runs; broken down by server.",
    );
    let mut concurrency = Family::gauge(
        "asynq_server_concurrency",
        "Number of tasks that a server can run at once; broken down by server.",
    );
    for server in servers.iter().take(SERVERS) {
        let label = ("server", server.server_id.as_str());
        let (pid, status) = (server.pid.to_string(), server.status.as_str());
        info.add(&[label, ("host", &server.host), ("pid", &pid), ("status", status)], 1.0);
        active.add(&[label], f64::from(server.active_worker_count));
        concurrency.add(&[label], f64::from(server.concurrency));
    }
    vec![all, info, active, concurrency]
}

/// Lists the actors with their paths, such as `system/work/processor`.
fn walk<'t>(node: &'t TreeNode, above: String, depth: usize, actors: &mut Vec<(String, &'t TreeNode)>) {
    if depth > DEPTH || actors.len() >= ACTORS {
        return;
    }
    let path = match above.as_str() {
        "" => node.name.clone(),
        above => format!("{above}/{}", node.name),
    };
    for child in &node.children {
        walk(child, path.clone(), depth + 1, actors);
    }
    if actors.len() < ACTORS {
        actors.push((path, node));
    }
}
