//! The processor: takes outcomes from the in-flight table, splits the free slots over the queues, exchanges both with
//! the storage, each queue for itself, and spawns the tasks that it got. It runs nothing itself.
//!
//! Messages: the table's calls and runs nudge it (`Pump`, at most one in its mailbox),
//! a watch or a poll wakes it (`Wake`). It waits for nothing: calls are tasks of the in-flight
//! table. On a crash running tasks go on; its successor starts what was leased and not started.

mod queues;

use std::{sync::Arc, time::Duration};

use asynq_core::{
    QueueName,
    broker::{MAX_BATCH, Wake, WatchKind},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    in_flight::{exchange::Exchange, nudge::ProcessorMsg, table::Permits, wind_down::WindDown},
    metrics::woken,
    per_queue::{
        health::Way,
        watches::{SAFETY_POLL, Watcher, Watches},
    },
    supervision::{
        supervisor::{ChildSpec, Shutdown},
        timer::Timer,
        tree::Tree,
    },
    work::run::Runner,
};

use queues::Queues;

/// A second exchange with a queue is worth its round trip from this part of all slots on, within
/// [`WORTH_A_SECOND`]; fewer items gather meanwhile.
const SECOND_OF_SLOTS: usize = 3;
/// Bounds of the number of items from which on a second exchange with a queue is worth its round trip.
const WORTH_A_SECOND: (usize, usize) = (4, MAX_BATCH as usize / 3);
/// Time for which a queue that gave less than it was asked for is not asked on its own account.
const EMPTY: Duration = Duration::from_millis(250);
/// The longest pause before the next watch after wake-ups that brought nothing (rules.md#calm-wake-ups).
const FRUITLESS_PAUSE: Duration = Duration::from_millis(50);
/// Time for which no tasks are taken ahead after some found no slot and went back; doubled each time, up to the second
/// figure, until one of them starts in time.
const NONE_AHEAD: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(32));
/// Time that the processor may take to stop beyond the shutdown timeout.
const STOP_WITHIN: Duration = Duration::from_millis(5500);

#[derive(Debug)]
pub(crate) struct Processor;

#[derive(Clone, Debug)]
pub(crate) struct ProcessorArgs {
    pub(crate) runner: Arc<Runner>,
    pub(crate) exchange: Exchange,
    pub(crate) tree: Tree,
    pub(crate) path: String,
}

#[derive(Debug)]
pub(crate) struct ProcessorState {
    args: ProcessorArgs,
    queues: Queues,
    /// The watch or timer that wakes us; one at most.
    sleep: JoinSet<()>,
    /// The queues that it watches.
    watched: Vec<QueueName>,
    watcher: Watcher,
    /// Time at which a queue that is left alone may be tried again.
    opening: Option<(Instant, Timer)>,
    generation: u64,
    asleep: bool,
    fruitless: u32,
    looks: Looks,
    ahead: Ahead,
}

/// The tasks that are taken ahead of the slots: as many as find one in time.
#[derive(Debug)]
struct Ahead {
    /// Number that may be taken ahead now; one at least, where it is configured.
    limit: usize,
    /// None is taken ahead before.
    from: Option<Instant>,
    /// The wait after the next return.
    wait: Duration,
    /// Time at which the next one is to go back, or some may be taken again.
    look: Option<(Instant, Timer)>,
}

/// The findings of the last look at the queues, in their order.
#[derive(Debug, Default)]
struct Looks {
    ways: Vec<Way>,
    /// Outcomes that wait for their first offer.
    ended: Vec<usize>,
}

/// Wakes the processor when its sleep is over, however it ends: a panic in it must not leave an idle
/// server asleep.
struct Waking {
    myself: ActorRef<ProcessorMsg>,
    generation: u64,
    watched: bool,
}

impl Drop for Waking {
    fn drop(&mut self) {
        // Void when another sleep has begun, refused when the actor has ended.
        let _ = self.myself.cast(ProcessorMsg::Wake {
            generation: self.generation,
            watched: self.watched,
        });
    }
}

/// The child spec of the processor.
pub(crate) fn spec(args: ProcessorArgs) -> ChildSpec {
    let within = args.runner.settings.shutdown_timeout + STOP_WITHIN;
    ChildSpec::new("processor", move || (Processor, args.clone())).shutdown(Shutdown::Stop(within))
}

impl ProcessorState {
    fn pump(&mut self, myself: &ActorRef<ProcessorMsg>) {
        let exchange = self.args.exchange.clone();
        let table = &exchange.table;
        for told in table.reports() {
            for queue in &told.exhausted {
                self.queues.set_empty(queue, EMPTY);
            }
            if told.leased > 0 {
                self.fruitless = 0;
                self.queues.took(told.leased);
            }
        }
        self.args.runner.start(table.start_ready());
        self.look_ahead(myself);
        while self.send(&exchange) {}
        let closed = self.looks.ways.iter().filter_map(|way| way.closed);
        if let Some(opens) = closed.min()
            && self
                .opening
                .as_ref()
                .is_none_or(|(at, _)| *at > opens || *at <= Instant::now())
        {
            let timer = Timer::after(myself, opens - Instant::now(), || ProcessorMsg::Pump);
            self.opening = Some((opens, timer));
        }
        if !table.is_fetching() {
            return;
        }
        // It is no use to know that a queue has tasks if they cannot be taken.
        let ways = &self.looks.ways;
        if (0..ways.len()).any(|place| !ways[place].is_blocked() && self.queues.is_hungry(place)) {
            return;
        }
        let usable = self.queues.names().zip(ways).filter(|(_, way)| !way.is_blocked());
        let names: Vec<QueueName> = usable.map(|(name, _)| name.clone()).collect();
        if !self.asleep || names != self.watched {
            self.sleep(myself, names);
        }
    }

    /// Gives back what was taken ahead and has found no slot in time, or all of it where nothing is to be taken.
    fn look_ahead(&mut self, myself: &ActorRef<ProcessorMsg>) {
        let most = self.args.runner.settings.prefetch;
        if most == 0 {
            return;
        }
        let (table, now) = (&self.args.exchange.table, Instant::now());
        let fetches = table.is_fetching();
        let look = table.look_ahead(!fetches);
        let ahead = &mut self.ahead;
        if look.started > 0 {
            ahead.limit = most.min(ahead.limit + look.started);
            ahead.wait = NONE_AHEAD.0;
        }
        if look.given_back > 0 && fetches {
            tracing::debug!(
                tasks = look.given_back,
                "tasks taken ahead found no slot in time, giving them back"
            );
            ahead.limit = (ahead.limit / 2).max(1);
            ahead.from = Some(now + ahead.wait);
            ahead.wait = (ahead.wait * 2).min(NONE_AHEAD.1);
        }
        ahead.from = ahead.from.filter(|from| *from > now);
        let next = look.next.into_iter().chain(ahead.from).min();
        if let Some(next) = next
            && ahead.look.as_ref().is_none_or(|(at, _)| *at > next || *at <= now)
        {
            let timer = Timer::after(myself, next - now, || ProcessorMsg::Pump);
            ahead.look = Some((next, timer));
        }
    }

    /// Returns how many more tasks may be taken ahead.
    fn may_be_ahead(&self) -> usize {
        let most = self.args.runner.settings.prefetch;
        let table = &self.args.exchange.table;
        if most == 0 || self.ahead.from.is_some() || !table.is_fetching() {
            return 0;
        }
        table.free_ahead().saturating_sub(most - self.ahead.limit)
    }

    /// Sends a call to each queue to which one is worth its round trip; whether to any.
    fn send(&mut self, exchange: &Exchange) -> bool {
        let Exchange { table, roads, .. } = exchange;
        let mut ahead = u32::try_from(self.may_be_ahead()).unwrap_or(u32::MAX);
        let Looks { ways, ended } = &mut self.looks;
        roads.look(self.queues.names(), ways);
        ended.clear();
        ended.extend(self.queues.names().map(|queue| table.ended_of(queue)));
        let free = if table.is_fetching() { table.free_slots() } else { 0 };
        let free = u32::try_from(free).unwrap_or(u32::MAX).min(MAX_BATCH);
        let (least, most) = WORTH_A_SECOND;
        let worth_a_second = (self.args.runner.settings.concurrency / SECOND_OF_SLOTS).clamp(least, most);
        let is_well = |place: usize| ways[place].is_well();
        let takes = free.saturating_add(ahead).min(MAX_BATCH);
        self.queues.promise(takes, is_well, |place| ended[place] > 0);
        let mut calls = Vec::new();
        for (place, way) in ways.iter().enumerate() {
            if !way.has_room() {
                continue;
            }
            let (want, permits) = if way.is_well() {
                let promised = self.queues.promised(place);
                let worth = ended[place].max(promised as usize);
                if worth == 0 || way.calls > 0 && worth < worth_a_second {
                    continue;
                }
                let kept = self.queues.keep(place);
                let mut permits = Permits {
                    slots: table.try_slots(kept),
                    ahead: None,
                };
                let left = kept.saturating_sub(u32::try_from(permits.count()).unwrap_or(u32::MAX));
                permits.ahead = table.try_ahead(left.min(ahead));
                let want = u32::try_from(permits.count()).unwrap_or(u32::MAX);
                ahead = ahead.saturating_sub(left);
                (want, permits)
            } else {
                // It gets no slot that it may hold for nothing: what it takes waits for one.
                let most = if way.adopting || !self.queues.is_hungry(place) {
                    0
                } else {
                    free
                };
                (way.share.unwrap_or(0).min(most), Permits::default())
            };
            if ended[place] > 0 || want > 0 {
                calls.push((place, want, permits));
            }
        }
        let sent = !calls.is_empty();
        for (place, want, permits) in calls {
            let Some(queue) = self.queues.names().nth(place) else {
                continue;
            };
            let claim = table.claim_ended_of(queue, MAX_BATCH as usize);
            exchange.send(queue, claim, want, permits);
        }
        sent
    }

    /// Waits for something to come: by a watch where the storage has one, else by a poll.
    fn sleep(&mut self, myself: &ActorRef<ProcessorMsg>, names: Vec<QueueName>) {
        self.asleep = true;
        self.watched.clone_from(&names);
        self.queues.rest(&names);
        self.generation += 1;
        let generation = self.generation;
        self.sleep.abort_all();
        while self.sleep.try_join_next().is_some() {}
        let entropy = self.args.runner.env.entropy.clone();
        let poll = entropy.around(self.args.runner.settings.task_check_interval);
        let safety = entropy.around(SAFETY_POLL);
        let pause = Duration::from_millis(1).saturating_mul(2_u32.saturating_pow(self.fruitless.min(10)));
        let pause = if self.fruitless == 0 {
            Duration::ZERO
        } else {
            entropy.up_to(pause.min(FRUITLESS_PAUSE))
        };
        let (broker, myself) = (self.args.exchange.broker.clone(), myself.clone());
        let watcher = self.watcher.clone();
        let (tree, path) = (self.args.tree.clone(), self.args.path.clone());
        let mut waking = Waking {
            myself,
            generation,
            watched: false,
        };
        self.sleep.spawn(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let mut watches = match broker.storage().await {
                Ok(storage) => watcher.watch(&storage, &names, WatchKind::Pending).await,
                Err(_) => Watches::none(),
            };
            tree.note(&path, Some(watches.note()));
            let longest = if watches.are_all() { safety } else { poll.min(safety) };
            let woken = tokio::time::timeout(longest, watches.changed()).await;
            waking.watched = matches!(woken, Ok(Wake::Changed));
            drop(waking);
        });
    }

    /// The end of service (rules.md#orderly-end): runs may end by themselves for the shutdown timeout,
    /// are then cancelled, after a grace aborted, and what did not end well is given back.
    async fn wind_down(&mut self) {
        self.sleep.abort_all();
        let ending = self.args.tree.ending();
        let timeout = self.args.runner.settings.shutdown_timeout;
        let began = Instant::now();
        // Where only this branch ends, the time counts from now.
        let runs_until = || {
            let own = || began + ending.hurry().map_or(timeout, |hurry| hurry.min(timeout));
            ending.runs_until().unwrap_or_else(own)
        };
        let until = ending.last_moment(&self.args.path, timeout + STOP_WITHIN);
        let wind_down = WindDown {
            exchange: &self.args.exchange,
            ending,
        };
        wind_down.run(runs_until, until).await;
        if ending.has_begun() {
            ending.wound_down();
        }
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Processor {
    type Msg = ProcessorMsg;
    type State = ProcessorState;
    type Arguments = ProcessorArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<ProcessorMsg>,
        args: ProcessorArgs,
    ) -> Result<ProcessorState, ActorProcessingErr> {
        args.exchange.table.set_closing(false);
        let settings = &args.runner.settings;
        let queues = Queues::new(
            &settings.queues,
            settings.strict_priority,
            args.runner.env.entropy.clone(),
        )
        .in_lots_of(settings.concurrency);
        let ahead = Ahead {
            limit: settings.prefetch,
            from: None,
            wait: NONE_AHEAD.0,
            look: None,
        };
        Ok(ProcessorState {
            args,
            queues,
            sleep: JoinSet::new(),
            watched: Vec::new(),
            watcher: Watcher::default(),
            opening: None,
            generation: 0,
            asleep: false,
            fruitless: 0,
            looks: Looks::default(),
            ahead,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<ProcessorMsg>,
        state: &mut ProcessorState,
    ) -> Result<(), ActorProcessingErr> {
        state.args.exchange.nudge.attach(myself.clone());
        myself.cast(ProcessorMsg::Pump)?;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ProcessorMsg>,
        message: ProcessorMsg,
        state: &mut ProcessorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ProcessorMsg::Pump => {
                // What is about to end ends first, and goes out with the same call: else calls with few items and
                // with many would take turns.
                if state.args.exchange.table.running_count() > 0 {
                    tokio::task::yield_now().await;
                }
                state.args.exchange.nudge.take();
            }
            ProcessorMsg::Wake { generation, watched } => {
                if generation != state.generation {
                    return Ok(());
                }
                state.asleep = false;
                woken(watched);
                if watched {
                    state.fruitless = state.fruitless.saturating_add(1);
                }
                state.queues.wake();
            }
        }
        state.pump(&myself);
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<ProcessorMsg>,
        state: &mut ProcessorState,
    ) -> Result<(), ActorProcessingErr> {
        state.wind_down().await;
        Ok(())
    }
}
