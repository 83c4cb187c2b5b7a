//! Servers, their supervision trees, and Redis.

use std::collections::BTreeMap;

use asynq::{
    PublishedTree, TreeNode,
    info::{ServerInfo, WorkerInfo},
};
use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::common::SHORT;
use crate::{
    access::Role,
    app::App,
    guard::Caller,
    problem::{Problem, Result},
    records::ServerRecord,
};

/// The running servers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServerList {
    servers: Vec<ServerRecord>,
}

/// Lists the running servers with their queues, priorities and running tasks. A user who sees only some queues gets the servers of
/// these, without the other queues.
#[utoipa::path(get, path = "/servers", tag = "servers", responses((status = 200, body = ServerList)))]
pub(crate) async fn servers(State(app): State<App>, caller: Caller) -> Result<Json<ServerList>> {
    let (servers, workers) = (app.inspector.servers().await?, app.inspector.workers().await?);
    Ok(Json(ServerList {
        servers: seen(&caller, &servers, &workers),
    }))
}

/// The servers as a user may see them.
pub(super) fn seen(caller: &Caller, servers: &[ServerInfo], workers: &[WorkerInfo]) -> Vec<ServerRecord> {
    let redaction = caller.redaction().up_to(SHORT);
    let seen = servers.iter().filter_map(|server| {
        let mut record = ServerRecord::of(server, workers, &redaction);
        if caller.user().role_everywhere().is_none() {
            record.queues.retain(|queue, _| caller.sees(queue));
            record.workers.retain(|worker| caller.sees(&worker.queue));
            if record.queues.is_empty() {
                return None;
            }
            // The others are not theirs to count.
            record.active_workers = i32::try_from(record.workers.len()).unwrap_or(i32::MAX);
        }
        Some(record)
    });
    seen.collect()
}

/// The supervision trees of the running servers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeList {
    trees: Vec<TreeRecord>,
}

/// The supervision tree of a server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeRecord {
    host: String,
    pid: i32,
    /// Id of the server.
    server_id: String,
    tree: NodeRecord,
}

impl TreeRecord {
    pub(super) fn of(tree: &PublishedTree) -> Self {
        Self {
            host: tree.host.clone(),
            pid: tree.pid,
            server_id: tree.server_id.clone(),
            tree: NodeRecord::of(&tree.tree),
        }
    }
}

/// An actor, with those that it supervises.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NodeRecord {
    name: String,
    /// `running`, `restarting`, `stopped` or `failed`.
    #[schema(value_type = String)]
    state: asynq::ActorState,
    /// Time since which it is in its state.
    since: DateTime<Utc>,
    /// Number of restarts.
    restarts: u64,
    /// Error of the last failure.
    last_failure: Option<String>,
    note: Option<String>,
    /// Number of messages or tasks that wait for it.
    backlog: Option<u64>,
    /// Task types that its server handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    handles: Option<Vec<String>>,
    #[schema(no_recursion)]
    children: Vec<NodeRecord>,
}

impl NodeRecord {
    fn of(node: &TreeNode) -> Self {
        Self {
            name: node.name.clone(),
            state: node.state,
            since: node.since,
            restarts: node.restarts,
            last_failure: node.last_failure.clone(),
            note: node.note.clone(),
            backlog: node.backlog,
            handles: node.handles.clone(),
            children: node.children.iter().map(Self::of).collect(),
        }
    }
}

/// Shows the supervision trees of the running servers: each actor with its state, restarts, last failure and backlog. Servers of Go
/// have none. It needs a role for all queues.
#[utoipa::path(get, path = "/trees", tag = "servers", responses((status = 200, body = TreeList)))]
pub(crate) async fn trees(State(app): State<App>, caller: Caller) -> Result<Json<TreeList>> {
    caller.need_everywhere(Role::Viewer)?;
    let trees = app.inspector.trees().await?;
    Ok(Json(TreeList {
        trees: trees.iter().map(TreeRecord::of).collect(),
    }))
}

/// Redis, as it tells about itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Redis {
    /// It is a Redis Cluster.
    is_cluster: bool,
    /// The servers: one, or the masters of a cluster.
    nodes: Vec<RedisNode>,
    /// Answer of `CLUSTER INFO`. Empty without a cluster.
    cluster: BTreeMap<String, String>,
}

/// A server of Redis.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RedisNode {
    /// `host:port` of the node of a cluster. `null` without a cluster.
    node: Option<String>,
    /// Answer of `INFO`. Empty if there is an error.
    info: BTreeMap<String, String>,
    /// Reason why it does not answer.
    error: Option<String>,
}

/// Shows what Redis says about itself: version, memory, clients, throughput, persistence. It needs a role for all queues.
#[utoipa::path(get, path = "/redis", tag = "storage", responses((status = 200, body = Redis)))]
pub(crate) async fn redis(State(app): State<App>, caller: Caller) -> Result<Json<Redis>> {
    caller.need_everywhere(Role::Viewer)?;
    let Some(redis) = &app.redis else {
        return Err(Problem::not_found(
            "the tasks are not stored in Redis, or this server was not told",
        ));
    };
    let _read = app.budgets.read(&caller.user().name)?;
    let mut nodes = Vec::new();
    for (node, info) in redis.server_infos().await {
        nodes.push(match info {
            Ok(info) => RedisNode {
                node,
                info,
                error: None,
            },
            Err(error) if node.is_none() => return Err(error.into()),
            Err(error) => RedisNode {
                node,
                info: BTreeMap::new(),
                error: Some(Problem::from(error).detail),
            },
        });
    }
    let is_cluster = redis.is_cluster();
    let cluster = match is_cluster {
        true => redis.cluster_info().await?,
        false => BTreeMap::new(),
    };
    Ok(Json(Redis {
        is_cluster,
        nodes,
        cluster,
    }))
}
