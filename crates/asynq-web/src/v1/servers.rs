//! Servers, their supervision trees, and Redis.

use std::collections::{BTreeMap, HashMap};

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
    pub(crate) servers: Vec<ServerRecord>,
}

/// Lists the running servers with their queues, priorities and running tasks. A user who sees only some queues gets the servers of
/// these, without the other queues.
#[utoipa::path(get, path = "/servers", tag = "servers", responses((status = 200, body = ServerList)))]
pub(crate) async fn servers(State(app): State<App>, caller: Caller) -> Result<Json<ServerList>> {
    let _read = app.budgets.read(&caller.user().name)?;
    let both = app.readings.servers().await?;
    Ok(Json(ServerList {
        servers: seen(&caller, &both.0, &both.1),
    }))
}

/// The servers as a user may see them.
pub(crate) fn seen(caller: &Caller, servers: &[ServerInfo], workers: &[WorkerInfo]) -> Vec<ServerRecord> {
    let redaction = caller.redaction().up_to(SHORT);
    let mut by_server: HashMap<_, Vec<&WorkerInfo>> = HashMap::new();
    for worker in workers {
        let server = (worker.host.as_str(), worker.pid, worker.server_id.as_str());
        by_server.entry(server).or_default().push(worker);
    }
    let seen = servers.iter().filter_map(|server| {
        let own = by_server.get(&(server.host.as_str(), server.pid, server.server_id.as_str()));
        let own = own.into_iter().flatten().copied();
        let mut record = ServerRecord::with(server, own, &redaction);
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
    pub(crate) trees: Vec<TreeRecord>,
}

/// The supervision tree of a server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeRecord {
    pub(crate) host: String,
    pub(crate) pid: i32,
    /// Id of the server.
    pub(crate) server_id: String,
    pub(crate) tree: NodeRecord,
}

impl TreeRecord {
    pub(crate) fn of(tree: &PublishedTree) -> Self {
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
    pub(crate) name: String,
    /// `running`, `restarting`, `stopped` or `failed`.
    #[schema(value_type = String)]
    pub(crate) state: asynq::ActorState,
    /// Time since which it is in its state.
    pub(crate) since: DateTime<Utc>,
    /// Number of restarts.
    pub(crate) restarts: u64,
    /// Error of the last failure.
    pub(crate) last_failure: Option<String>,
    pub(crate) note: Option<String>,
    /// Number of messages or tasks that wait for it.
    pub(crate) backlog: Option<u64>,
    /// Task types that its server handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) handles: Option<Vec<String>>,
    #[schema(no_recursion)]
    pub(crate) children: Vec<NodeRecord>,
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
    let _read = app.budgets.read(&caller.user().name)?;
    let trees = app.readings.trees().await?;
    Ok(Json(TreeList {
        trees: trees.iter().map(TreeRecord::of).collect(),
    }))
}

/// Redis, as it tells about itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Redis {
    /// It is a Redis Cluster.
    pub(crate) is_cluster: bool,
    /// The servers: one, or the masters of a cluster.
    pub(crate) nodes: Vec<RedisNode>,
    /// Answer of `CLUSTER INFO`. Empty without a cluster.
    pub(crate) cluster: BTreeMap<String, String>,
}

/// A server of Redis.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RedisNode {
    /// `host:port` of the node of a cluster. `null` without a cluster.
    pub(crate) node: Option<String>,
    /// Answer of `INFO`. Empty if there is an error.
    pub(crate) info: BTreeMap<String, String>,
    /// Reason why it does not answer.
    pub(crate) error: Option<String>,
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
