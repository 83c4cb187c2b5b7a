//! Reads, with a limit of time, and acts, which always come to their end: each is a task of its own.

use std::{future::Future, time::Duration};

use asynq::{
    Inspector,
    info::QueueInfo,
    inspect::Cursor,
    inspector::{Actor, SearchLimits, Then},
    query::Query,
    redis::RedisBroker,
};
use futures::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use tokio::task::{AbortHandle, JoinSet};

use super::{
    model::{Acted, Data, Deed, Event, Fetch, Gone, List, Look, Place, Seen, TaskKey, Trouble, Verb},
    text,
};
use crate::{
    address::Redis,
    cli::Global,
    error::{CliError, Status},
    output::one_line,
    session::Session,
    settings::{File, Target},
};

/// Longest time of a read.
const LIMIT: Duration = Duration::from_secs(10);
/// Time after which a search returns what it has found.
const SEARCH: Duration = Duration::from_secs(2);
/// Most queues that are read.
const MOST_QUEUES: usize = 2000;
/// Number of queues that are read, or tasks that are acted on, at once.
const AT_ONCE: usize = 16;

/// The reads and acts that are under way.
pub(crate) struct Fetcher {
    session: Session,
    global: Global,
    file: File,
    tasks: JoinSet<Done>,
    look: Option<AbortHandle>,
    findings: Option<AbortHandle>,
    connect: Option<AbortHandle>,
    /// The session of the last answer of a connect, by its number, until it is switched to.
    opened: Option<(u64, Box<Session>)>,
}

enum Done {
    Event(Event),
    Connected(u64, Box<Session>),
}

impl Fetcher {
    pub(crate) fn new(session: Session, global: Global, file: File) -> Self {
        Self {
            session,
            global,
            file,
            tasks: JoinSet::new(),
            look: None,
            findings: None,
            connect: None,
            opened: None,
        }
    }

    /// Starts what is asked for.
    pub(crate) fn start(&mut self, fetch: Fetch) {
        let session = self.session.clone();
        match fetch {
            Fetch::Look { turn, look } => {
                let read = async move {
                    let answer = limited(read(&session, look)).await;
                    Done::Event(Event::Looked { turn, answer })
                };
                replace(&mut self.look, self.tasks.spawn(read));
            }
            Fetch::Findings { switch } => {
                let read = async move {
                    let answer = limited(async { Ok(session.inspector.findings().await?) }).await;
                    Done::Event(Event::FindingsRead { switch, answer })
                };
                replace(&mut self.findings, self.tasks.spawn(read));
            }
            Fetch::Act { deed, reason } => {
                self.tasks
                    .spawn(async move { Done::Event(Event::Acted(act(&session, deed, reason).await)) });
            }
            Fetch::Connect { number, context } => {
                let global = self.global.clone();
                let target =
                    Redis::from_env().and_then(|env| Target::choose(Redis::default(), Some(&context), env, &self.file));
                let connect = async move {
                    let opened = match target {
                        Ok(target) => global.connect_to(target).await,
                        Err(error) => Err(error),
                    };
                    match opened {
                        Ok(session) => Done::Connected(number, Box::new(session)),
                        Err(error) => {
                            let answer = Err(error.message);
                            Done::Event(Event::Connected { number, answer })
                        }
                    }
                };
                replace(&mut self.connect, self.tasks.spawn(connect));
            }
            Fetch::Switch(number) => {
                if let Some((_, session)) = self.opened.take_if(|(opened, _)| *opened == number) {
                    self.session = *session;
                }
            }
        }
    }

    /// Waits for the next answer.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            match self.tasks.join_next().await {
                None => std::future::pending().await,
                Some(Ok(Done::Event(event))) => return event,
                Some(Ok(Done::Connected(number, session))) => {
                    let answer = Ok(Place::of(&session));
                    self.opened = Some((number, session));
                    return Event::Connected { number, answer };
                }
                Some(Err(error)) => {
                    // Otherwise another read took its place.
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
    }
}

fn replace(current: &mut Option<AbortHandle>, next: AbortHandle) {
    if let Some(former) = current.replace(next) {
        former.abort();
    }
}

async fn limited<T>(read: impl Future<Output = Result<T, CliError>>) -> Result<T, Trouble> {
    match tokio::time::timeout(LIMIT, read).await {
        Ok(answer) => answer.map_err(|error| trouble(&error)),
        Err(_) => Err(Trouble {
            text: format!("no answer within {}", text::duration(LIMIT)),
            is_outage: true,
        }),
    }
}

fn trouble(error: &CliError) -> Trouble {
    Trouble {
        text: one_line(&error.message),
        is_outage: error.status == Status::Connection,
    }
}

async fn read(session: &Session, look: Look) -> Result<Data, CliError> {
    let inspector = &session.inspector;
    Ok(match look {
        Look::Queues => {
            let mut names = inspector.queues().await?;
            let left_out = names.len().saturating_sub(MOST_QUEUES);
            names.truncate(MOST_QUEUES);
            let read = stream::iter(names).map(async |name| (inspector.get_queue_stats(name.as_str()).await, name));
            let (mut queues, mut unread) = (Vec::new(), Vec::new());
            let mut read = read.buffered(AT_ONCE);
            while let Some((answer, name)) = read.next().await {
                match answer.map_err(CliError::from) {
                    Ok(info) => queues.push(info),
                    // It was deleted meanwhile.
                    Err(error) if error.status == Status::NotFound => {}
                    Err(error) if error.status == Status::Connection && !session.redis.is_cluster() => {
                        return Err(error);
                    }
                    Err(error) => unread.push((name.to_string(), one_line(&error.message))),
                }
            }
            Data::Queues {
                queues,
                unread,
                left_out,
            }
        }
        Look::Tasks {
            scope,
            page,
            size,
            from,
        } => {
            let queue: Option<Box<QueueInfo>> = match &scope.queue {
                Some(queue) => Some(Box::new(inspector.get_queue_stats(queue).await?)),
                None => None,
            };
            let list = match (&scope.queue, scope.state, scope.query()) {
                (_, _, Some(query)) => search(inspector, &query, size, &from).await?,
                (Some(queue), _, None) if scope.lists_groups() => List::Groups(inspector.list_groups(queue).await?),
                (Some(queue), Some(state), None) => {
                    let tasks = match &scope.group {
                        Some(group) => inspector.list_group(queue, group, page, size).await?,
                        None => inspector.list_tasks(queue, state, page, size).await?,
                    };
                    List::Tasks {
                        tasks,
                        next: None,
                        looked_at: 0,
                        undecided: 0,
                    }
                }
                _ => return Err(CliError::usage("nothing to list")),
            };
            Data::Tasks { queue, list }
        }
        Look::Task(key) => Data::Task(Box::new(inspector.get_task_info(&key.queue, &key.id).await?)),
        Look::Servers => {
            let (servers, workers) = futures::try_join!(inspector.servers(), inspector.workers())?;
            Data::Servers { servers, workers }
        }
        Look::Trees => Data::Trees(inspector.trees().await?),
        Look::Schedulers => Data::Schedulers(inspector.list_scheduler_entries().await?),
        Look::Findings => Data::Findings(inspector.findings().await?),
        Look::Redis => redis(&session.redis).await?,
    })
}

async fn search(inspector: &Inspector, query: &str, size: u32, from: &Cursor) -> Result<List, CliError> {
    let query: Query = query.parse().map_err(|error| CliError::usage(format!("{error}")))?;
    let limits = SearchLimits::default().found(size as usize).time(SEARCH);
    let found = inspector.search(&query, &limits, from).await?;
    Ok(List::Tasks {
        tasks: found.tasks,
        next: found.next,
        looked_at: found.looked_at,
        undecided: found.undecided,
    })
}

async fn redis(redis: &RedisBroker) -> Result<Data, CliError> {
    let servers = redis.server_infos().await;
    if let [(_, Err(_))] = servers.as_slice() {
        if let Some((_, Err(error))) = servers.into_iter().next() {
            return Err(error.into());
        }
        return Ok(Data::Redis {
            servers: Vec::new(),
            cluster: None,
        });
    }
    let text = |error: asynq::Error| one_line(&CliError::from(error).message);
    Ok(Data::Redis {
        servers: servers
            .into_iter()
            .map(|(name, info)| (name, info.map_err(text)))
            .collect(),
        cluster: match redis.is_cluster() {
            true => Some(redis.cluster_info().await?),
            false => None,
        },
    })
}

/// Carries out an act on behalf of the operator.
async fn act(session: &Session, deed: Deed, reason: String) -> Acted {
    let failure = |text: String| Acted {
        text,
        failed: true,
        done: Vec::new(),
        gone: Gone::Nothing,
    };
    let mut hands = session.hands.clone();
    hands.reason = Some(reason.clone());
    if let Err(error) = hands.must_be_free() {
        return failure(error.message);
    }
    let actor = Actor::new(hands.actor.clone()).with_reason(reason);
    let inspector = match session.inspector.acting_as(actor) {
        Ok(inspector) => inspector,
        Err(error) => return failure(CliError::from(error).message),
    };
    let on_queue = |result: Result<(), CliError>, done: String, gone: Gone| match result {
        Ok(()) => Acted {
            text: done,
            failed: false,
            done: Vec::new(),
            gone,
        },
        Err(error) => failure(unsure(&trouble(&error))),
    };
    match deed {
        Deed::Tasks { verb, tasks } => on_tasks(&inspector, verb, tasks).await,
        Deed::Pause { queue, paused } => {
            let call = async {
                match paused {
                    true => inspector.pause_queue(&queue).await?,
                    false => inspector.unpause_queue(&queue).await?,
                }
                Ok(())
            };
            let result = call.await;
            let word = if paused { "paused" } else { "resumed" };
            on_queue(result, format!("{word} queue {queue:?}"), Gone::Nothing)
        }
        Deed::DeleteQueue { queue, force } => {
            // In steps: dropped in the middle it would leave a part of the queue, and nothing in the audit trail.
            let result = inspector.delete_queue(&queue, force).await.map_err(CliError::from);
            on_queue(result, format!("deleted queue {queue:?}"), Gone::Queue(queue.clone()))
        }
    }
}

/// Returns the text of a failed act. Without an answer it is not known what became of it.
fn unsure(trouble: &Trouble) -> String {
    match trouble.is_outage {
        true => format!("{}; the act may have taken effect", trouble.text),
        false => trouble.text.clone(),
    }
}

/// The outcome of an act on one task.
#[derive(Debug)]
enum Outcome {
    Done,
    /// The task is not where it was seen any more, and was left alone.
    Moved,
    Failed(String),
    /// There was no answer, so that the act may have taken effect.
    Unknown(String),
    /// Nothing was done, as Redis does not answer.
    Untried(Option<String>),
}

async fn on_tasks(inspector: &Inspector, verb: Verb, tasks: Vec<(TaskKey, Seen)>) -> Acted {
    let act = |key: TaskKey, seen: Seen| async move {
        let outcome = on_task(inspector, verb, &key, seen).await;
        (key, outcome)
    };
    report(verb, on_each(tasks, act).await)
}

/// Acts on several tasks at once. After an outage no further act is begun; those under way come to their end.
async fn on_each<F: Future<Output = (TaskKey, Outcome)>>(
    tasks: Vec<(TaskKey, Seen)>,
    act: impl Fn(TaskKey, Seen) -> F,
) -> Vec<(TaskKey, Outcome)> {
    let (mut waiting, mut under_way) = (tasks.into_iter(), FuturesUnordered::new());
    under_way.extend(waiting.by_ref().take(AT_ONCE).map(|(key, seen)| act(key, seen)));
    let (mut outcomes, mut is_outage) = (Vec::new(), false);
    while let Some((key, outcome)) = under_way.next().await {
        is_outage |= matches!(outcome, Outcome::Unknown(_) | Outcome::Untried(_));
        outcomes.push((key, outcome));
        if !is_outage && let Some((key, seen)) = waiting.next() {
            under_way.push(act(key, seen));
        }
    }
    outcomes.extend(waiting.map(|(key, _)| (key, Outcome::Untried(None))));
    outcomes
}

/// Acts on a task, if it is still where it was seen.
async fn on_task(inspector: &Inspector, verb: Verb, key: &TaskKey, seen: Seen) -> Outcome {
    let (queue, id) = (key.queue.as_str(), key.id.as_str());
    match inspector.get_task_info(queue, id).await.map_err(CliError::from) {
        Ok(task) if seen.is_still(&task) => {}
        Ok(_) => return Outcome::Moved,
        Err(error) if error.status == Status::NotFound => return Outcome::Moved,
        Err(error) if error.status == Status::Connection => return Outcome::Untried(Some(trouble(&error).text)),
        Err(error) => return Outcome::Failed(trouble(&error).text),
    }
    let result = match verb {
        Verb::Run => inspector.run_task(queue, id).await.map(drop),
        Verb::Archive => inspector.archive_task(queue, id).await.map(drop),
        Verb::Delete => inspector.delete_task(queue, id).await.map(drop),
        Verb::Cancel => inspector.cancel_task(queue, id, Then::Retry).await.map(drop),
    };
    match result.map_err(|error| trouble(&CliError::from(error))) {
        Ok(()) => Outcome::Done,
        Err(trouble) if trouble.is_outage => Outcome::Unknown(unsure(&trouble)),
        Err(trouble) => Outcome::Failed(trouble.text),
    }
}

fn report(verb: Verb, outcomes: Vec<(TaskKey, Outcome)>) -> Acted {
    let (mut done, mut fault) = (Vec::new(), None);
    let (mut moved, mut failed, mut unknown, mut untried) = (0, 0, 0, 0);
    for (key, outcome) in outcomes {
        let cause = match outcome {
            Outcome::Done => {
                done.push(key);
                continue;
            }
            Outcome::Moved => {
                moved += 1;
                continue;
            }
            Outcome::Failed(cause) => {
                failed += 1;
                Some(cause)
            }
            Outcome::Unknown(cause) => {
                unknown += 1;
                Some(cause)
            }
            Outcome::Untried(cause) => {
                untried += 1;
                cause
            }
        };
        if let Some(cause) = cause {
            fault.get_or_insert(format!("task {}: {cause}", one_line(&key.id)));
        }
    }
    let count = text::count(done.len() as u64, "task");
    let mut text = match verb {
        Verb::Run => format!("{count} made pending"),
        Verb::Archive => format!("{count} archived"),
        Verb::Delete => format!("{count} deleted"),
        Verb::Cancel => format!("asked to cancel {count}"),
    };
    let others = [
        (moved, "moved meanwhile and left alone"),
        (failed, "failed"),
        (unknown, "unknown"),
        (untried, "not tried"),
    ];
    for (number, word) in others.into_iter().filter(|(number, _)| *number > 0) {
        text += &format!(", {number} {word}");
    }
    if let Some(fault) = fault {
        text += &format!(": {fault}");
    }
    Acted {
        text,
        failed: moved + failed + unknown + untried > 0,
        done,
        gone: match verb {
            Verb::Delete => Gone::Tasks,
            Verb::Run | Verb::Archive | Verb::Cancel => Gone::Nothing,
        },
    }
}

#[cfg(test)]
mod tests {
    use asynq::{Client, Task, TaskState, memory::MemoryStore};
    use tokio::sync::Notify;

    use super::*;

    fn task(id: &str, state: TaskState) -> (TaskKey, Seen) {
        let key = TaskKey {
            queue: "default".to_owned(),
            id: id.to_owned(),
        };
        (key, Seen { state, since: None })
    }

    #[tokio::test]
    async fn a_task_that_has_moved_is_left_alone() {
        let storage = MemoryStore::new();
        let client = Client::new(storage.clone()).await.unwrap();
        for id in ["a", "b", "c"] {
            client
                .enqueue(Task::new("x", b"").unwrap().with_task_id(id))
                .await
                .unwrap();
        }
        let inspector = Inspector::connect(storage).await.unwrap();
        let info = inspector.get_task_info("default", "c").await.unwrap();
        let mut earlier = Seen::of(&info);
        assert!(earlier.is_still(&info));
        earlier.since = earlier.since.map(|since| since - chrono::TimeDelta::seconds(1));
        let tasks = vec![
            task("a", TaskState::Pending),
            task("b", TaskState::Retry),
            (TaskKey::of(&info), earlier),
            task("gone", TaskState::Pending),
        ];
        let acted = on_tasks(&inspector, Verb::Delete, tasks).await;
        assert_eq!(acted.text, "1 task deleted, 3 moved meanwhile and left alone");
        assert_eq!((acted.failed, acted.done.len()), (true, 1));
        assert!(inspector.get_task_info("default", "b").await.is_ok());
    }

    #[tokio::test]
    async fn an_outage_begins_no_act_and_forgets_none() {
        let (outage, is_out) = (&Notify::new(), &Notify::new());
        let tasks = (0..50)
            .map(|number| task(&format!("{number}"), TaskState::Pending))
            .collect();
        let act = |key: TaskKey, _| async move {
            let outcome = match key.id.as_str() {
                "0" => {
                    // The first ends last.
                    is_out.notified().await;
                    Outcome::Done
                }
                "20" => {
                    outage.notify_one();
                    Outcome::Unknown("no answer".to_owned())
                }
                _ => Outcome::Done,
            };
            (key, outcome)
        };
        let release = async {
            outage.notified().await;
            is_out.notify_one();
        };
        let (outcomes, ()) = tokio::join!(on_each(tasks, act), release);
        assert_eq!(outcomes.len(), 50);
        let acted = report(Verb::Run, outcomes);
        let first = task("0", TaskState::Pending).0;
        assert!(acted.done.contains(&first), "an act behind which others ended is told");
        let untried = 49 - acted.done.len();
        assert!(untried > 0, "{}", acted.text);
        assert_eq!(
            acted.text,
            format!(
                "{} tasks made pending, 1 unknown, {untried} not tried: task 20: no answer",
                acted.done.len()
            )
        );
    }
}
