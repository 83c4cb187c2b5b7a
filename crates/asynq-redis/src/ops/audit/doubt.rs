//! Tasks that may be in no container, or in two. They are looked for everywhere, in parts, and then judged.

use asynq_core::{
    error::BrokerError,
    inspect::Breach,
    keys,
    names::{QueueName, TaskId},
};

use super::step::{Doubt, Doubtful, Step};
use crate::{
    args::Args,
    broker::core::Core,
    ops::{
        group_search::{self, LOOKS, tasks_a_call},
        heal::places,
        list_search::{Search, SearchPlace, search_pending},
    },
    reply::Reply,
    scripts,
};

/// Number of calls of one part.
const CALLS: usize = 20;

impl Doubt {
    pub(super) fn new(container: String, tasks: Vec<Doubtful>) -> Self {
        Self {
            container,
            tasks,
            search: Some(SearchPlace::default()),
            cursor: "0".to_owned(),
            ..Self::default()
        }
    }
}

/// Looks on, and judges the tasks when all was looked at.
pub(super) async fn go_on(
    core: &Core,
    queue: &QueueName,
    mut doubt: Doubt,
    items: &mut Vec<Breach>,
) -> Result<Vec<Step>, BrokerError> {
    for _ in 0..CALLS {
        if let Some(mut place) = doubt.search.take() {
            let ids = doubt.tasks.iter().map(|task| task.id.as_slice());
            match search_pending(core, queue, &mut place, ids, &mut doubt.pending).await? {
                Search::GoesOn => doubt.search = Some(place),
                Search::Done => doubt.is_searched = true,
                Search::Failed => {}
            }
        } else if !doubt.cursor.is_empty() {
            search_groups(core, queue, &mut doubt).await?;
        } else {
            return judge(core, queue, &doubt, items).await;
        }
    }
    Ok(vec![Step::Doubt(doubt)])
}

/// One part of the keys of the groups.
async fn search_groups(core: &Core, queue: &QueueName, doubt: &mut Doubt) -> Result<(), BrokerError> {
    let (cursor, keys) = group_search::page(core, queue, &doubt.cursor).await?;
    let ids: Vec<_> = doubt.tasks.iter().map(|task| task.id.as_slice()).collect();
    group_search::holding(core, queue, &keys, &ids, &mut doubt.groups).await?;
    doubt.cursor = if cursor == "0" { String::new() } else { cursor };
    if doubt.cursor.is_empty() {
        let groups: Vec<_> = doubt
            .groups
            .iter()
            .filter_map(|set| group_search::group_of(set))
            .collect();
        let prefix = keys::group_prefix(queue);
        let groups = groups.into_iter().filter(|key| key.starts_with(prefix.as_bytes()));
        doubt.groups.extend(groups);
    }
    Ok(())
}

async fn judge(
    core: &Core,
    queue: &QueueName,
    doubt: &Doubt,
    items: &mut Vec<Breach>,
) -> Result<Vec<Step>, BrokerError> {
    if doubt.groups.len() > LOOKS {
        tracing::warn!(%queue, "too many groups to search for a task");
        return Ok(Vec::new());
    }
    let prefix = keys::group_prefix(queue);
    for part in doubt.tasks.chunks(tasks_a_call(doubt.groups.len())) {
        let mut args = Args::with_capacity(2 + doubt.groups.len() + 4 * part.len()).text(&keys::queue_prefix(queue));
        args.push_count(doubt.groups.len());
        doubt.groups.iter().for_each(|key| args.push(key));
        for task in part {
            args.push(&task.id);
            args.push(&task.state);
            args.push(&task.since);
            args.push(match doubt.pending.contains(&task.id) {
                true => "1",
                false if doubt.is_searched => "0",
                false => "",
            });
        }
        let value = core.link.eval(&scripts::AUDIT_PLACES, places(queue), args).await?;
        let mut reply = Reply::of_script("audit_places", value)?;
        for task in part {
            let found = Whereabouts {
                id: TaskId::from_storage(&String::from_utf8_lossy(&task.id)),
                state: reply.text()?,
                is_sure: reply.int()? == 1,
                known: reply.list()?.texts()?,
                others: reply.list()?.texts()?,
            };
            if !doubt.container.is_empty() {
                let containers = found.told_by(&doubt.container, &prefix);
                items.extend(containers.map(|containers| Breach::Duplicated {
                    id: found.id,
                    containers,
                }));
            } else if found.is_sure && found.known.len() + found.others.len() == 0 {
                items.push(Breach::Unlisted {
                    id: found.id,
                    state: found.state,
                });
            }
        }
    }
    Ok(Vec::new())
}

/// The places of a task, of all the places there are.
struct Whereabouts {
    id: TaskId,
    state: String,
    /// `true` if the task has a key, and could be looked for everywhere.
    is_sure: bool,
    /// The places that its hash leads to, once for each time.
    known: Vec<String>,
    /// Groups and sets beyond those.
    others: Vec<String>,
}

impl Whereabouts {
    /// Returns all places, if there are several, for the first container whose look at the task shows that
    /// something is wrong.
    fn told_by(&self, container: &str, groups: &str) -> Option<Vec<String>> {
        let teller = if self.known.len() > 1 {
            &self.known
        } else {
            &self.others
        };
        let told = self.known.len() + self.others.len() > 1 && teller.first().is_some_and(|first| first == container);
        told.then(|| {
            let all = self.known.iter().chain(&self.others).cloned();
            let (mut groups, mut containers): (Vec<_>, Vec<_>) = all.partition(|key| key.starts_with(groups));
            groups.sort();
            containers.append(&mut groups);
            containers
        })
    }
}
