//! The enqueues that wait for their first attempt or are under way, by queue.
//!
//! The actor owns them: they end with it, and their callers then send them again through its successor. Handles reach
//! them without a message. An enqueue that finds its line idle is sent in the task of its caller ([`Held`]); the
//! others wait in the line, and a task of the actor's sends them in batches. That task takes over the call of a
//! caller who has been dropped, as soon as another enqueue waits behind the call, after a while and at the end: so
//! nothing hangs on how often a caller polls.

use std::{
    collections::{HashMap, VecDeque},
    fmt, mem,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use asynq_core::{
    broker::{EnqueueRequest, LARGE_BYTES, MAX_BATCH},
    panics::drop_quietly,
};
use futures::{FutureExt as _, future::BoxFuture};
use ractor::ActorId;
use tokio::{runtime::Handle, task::JoinSet};

use super::{
    attempt::{ClientArgs, FIRST_RETRY, Queued, attempt, attempt_one},
    retries::Lanes,
};

/// Batches of first attempts in flight at most, of each queue.
const CALLS: usize = 2;
/// A second batch of a queue is worth its round trip from so many items on.
const WORTH_A_SECOND: usize = 4;
/// A second batch is worth its round trip from this part of what is in flight on.
const PART: usize = 3;
/// Lines that are kept while they are idle; those of a program are few.
const KEPT: usize = 64;

/// The enqueues into one queue.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Queued>,
    /// Calls in flight. While anything waits there is one, whose task sends what waits next.
    calls: usize,
    /// Items in flight.
    sent: usize,
    /// The call that its caller holds, one of `calls`.
    held: Option<HeldCall>,
}

struct HeldCall {
    call: Arc<Call>,
    /// The place of its item among all.
    order: u64,
    /// The look of the actor before which it began.
    look: u64,
}

impl Line {
    /// Returns whether another batch is worth its round trip beside `others` that are in flight.
    fn is_worth_it(&self, others: usize) -> bool {
        others == 0 || self.waiting.len() >= WORTH_A_SECOND.max(self.sent / PART)
    }

    /// The task to be started for what waits, if one is needed. It has a place among the calls.
    fn start(&mut self) -> Option<Start> {
        if let Some(held) = self.held.take() {
            return Some(Start(Some(held.call)));
        }
        let room = !self.waiting.is_empty() && self.calls < CALLS && self.is_worth_it(self.calls);
        room.then(|| {
            self.calls += 1;
            Start(None)
        })
    }

    fn is_idle(&self) -> bool {
        self.calls == 0 && self.waiting.is_empty()
    }
}

/// A task to be started, with the held call that it takes over.
struct Start(Option<Arc<Call>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Sends what is there, and takes nothing more.
    Draining,
    /// The actor has ended.
    Ended,
}

struct State {
    phase: Phase,
    lines: HashMap<String, Line>,
    order: u64,
    /// Looks of the actor at the held calls.
    looks: u64,
    /// `true` while the actor looks every so often.
    looked_after: bool,
    /// An item came since the last look.
    used: bool,
}

impl State {
    fn line(&mut self, queue: &str) -> &mut Line {
        if !self.lines.contains_key(queue) {
            self.lines.insert(queue.to_owned(), Line::default());
        }
        #[expect(clippy::expect_used, reason = "it was put there")]
        self.lines.get_mut(queue).expect("the line is there")
    }

    /// Removes a line where nothing is, unless there are few.
    fn tidy(&mut self, queue: &str) {
        if self.lines.len() > KEPT && self.lines.get(queue).is_some_and(Line::is_idle) {
            self.lines.remove(queue);
        }
    }
}

/// The lines of one incarnation of the actor.
pub(crate) struct Lines {
    args: ClientArgs,
    owner: ActorId,
    /// Asks the actor to look at the lines every so often.
    look_after: Box<dyn Fn() + Send + Sync>,
    /// The runtime of the actor, in which timers and tasks of a held call are, too.
    runtime: Handle,
    state: Mutex<State>,
    /// Requests that failed and are retried.
    lanes: Lanes,
    /// Ends with the actor.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({})", self.state().lines.len())
    }
}

impl Lines {
    /// Lines of an actor that is starting, in its runtime.
    pub(super) fn new(args: ClientArgs, owner: ActorId, look_after: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            args,
            owner,
            look_after: Box::new(look_after),
            runtime: Handle::current(),
            state: Mutex::new(State {
                phase: Phase::Open,
                lines: HashMap::new(),
                order: 0,
                looks: 0,
                looked_after: false,
                used: false,
            }),
            lanes: Lanes::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the actor whose lines they are.
    pub(super) fn owner(&self) -> ActorId {
        self.owner
    }

    /// Starts a task of the actor's. Dropped if that has ended.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        if let Some(tasks) = &mut *tasks {
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(task, &self.runtime);
        } else {
            // What it drops may come here again.
            drop(tasks);
            drop(task);
        }
    }

    fn run(self: &Arc<Self>, queue: &str, Start(held): Start) {
        let place = Place {
            lines: Arc::clone(self),
            queue: queue.to_owned(),
            sent: usize::from(held.is_some()),
            left: false,
        };
        self.spawn(place.serve(held));
    }

    /// Adds an item that may be sent in the task of its caller. Returns the call that the caller is to poll; `None`
    /// where a task of the actor's sends the item.
    ///
    /// # Errors
    /// The item itself when no more are taken.
    pub(super) fn send(self: &Arc<Self>, item: Queued) -> Result<Option<Held>, Queued> {
        self.add(item, true)
    }

    /// Adds an item that a task of the actor's sends.
    ///
    /// # Errors
    /// The item itself when no more are taken.
    pub(super) fn push(self: &Arc<Self>, item: Queued) -> Result<(), Queued> {
        self.add(item, false).map(drop)
    }

    fn add(self: &Arc<Self>, mut item: Queued, hold: bool) -> Result<Option<Held>, Queued> {
        let request = Arc::clone(&item.request);
        let queue = request.message.queue.as_str();
        let mut state = self.state();
        if state.phase != Phase::Open {
            drop(state);
            return Err(item);
        }
        state.order += 1;
        item.order = state.order;
        if is_large(&item) {
            drop(state);
            self.send_alone(item);
            return Ok(None);
        }
        let (order, look) = (state.order, state.looks);
        let line = state.line(queue);
        if hold && line.calls == 0 && !self.args.limits.is_in_trouble(queue) {
            // What follows items of its queue that are tried again waits behind them.
            let Some(item) = self.lanes.join_one(item) else {
                state.tidy(queue);
                return Ok(None);
            };
            line.calls = 1;
            line.sent = 1;
            let seat = Seat {
                lines: Arc::clone(self),
                request,
                order,
            };
            let call = Arc::new(Call(Mutex::new(Some(seat.call(item).boxed()))));
            line.held = Some(HeldCall {
                call: Arc::clone(&call),
                order,
                look,
            });
            self.used(state);
            return Ok(Some(Held {
                lines: Arc::clone(self),
                call,
            }));
        }
        line.waiting.push_back(item);
        let start = line.start();
        self.used(state);
        if let Some(start) = start {
            self.run(queue, start);
        }
        Ok(None)
    }

    /// Tells the actor that its lines are used, unless it looks at them every so often already.
    fn used(&self, mut state: MutexGuard<'_, State>) {
        state.used = true;
        let begins = !mem::replace(&mut state.looked_after, true);
        drop(state);
        if begins {
            (self.look_after)();
        }
    }

    /// Adds items, in their order.
    ///
    /// # Errors
    /// The items themselves when no more are taken.
    pub(super) fn push_many(self: &Arc<Self>, batch: Vec<Queued>) -> Result<(), Vec<Queued>> {
        let mut state = self.state();
        if state.phase != Phase::Open {
            drop(state);
            return Err(batch);
        }
        let mut alone = Vec::new();
        let mut queues: Vec<Arc<EnqueueRequest>> = Vec::new();
        // All of them wait before any is sent, so that a call takes as many as it may.
        for mut item in batch {
            state.order += 1;
            item.order = state.order;
            if is_large(&item) {
                alone.push(item);
                continue;
            }
            let queue = &item.request.message.queue;
            if queues.iter().rev().all(|known| known.message.queue != *queue) {
                queues.push(Arc::clone(&item.request));
            }
            let line = state.line(&item.request.message.queue);
            line.waiting.push_back(item);
        }
        let mut starts = Vec::new();
        for known in &queues {
            let line = state.line(&known.message.queue);
            while let Some(start) = line.start() {
                starts.push((known, start));
            }
        }
        self.used(state);
        for (known, start) in starts {
            self.run(&known.message.queue, start);
        }
        for item in alone {
            self.send_alone(item);
        }
        Ok(())
    }

    /// Sends an item for whose bytes no other one waits. How many there may be is bounded by what may wait at all.
    fn send_alone(self: &Arc<Self>, item: Queued) {
        let Some(item) = self.lanes.join_one(item) else { return };
        let lines = Arc::clone(self);
        self.spawn(async move {
            let request = Arc::clone(&item.request);
            let failed = attempt_one(&lines.args, &request.message.queue, item, FIRST_RETRY).await;
            lines.retry(failed);
        });
    }

    /// Sends what failed again, until each item has its answer.
    fn retry(self: &Arc<Self>, failed: impl IntoIterator<Item = Queued>) {
        let mut failed = failed.into_iter().peekable();
        if failed.peek().is_none() {
            return;
        }
        for lane in self.lanes.open(failed) {
            let lines = Arc::clone(self);
            self.spawn(async move { lane.run(&lines.args).await });
        }
    }

    /// The actor takes over what its callers have held for a while. Returns whether it is to look again.
    pub(super) fn look(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        state.looks += 1;
        let now = state.looks;
        let mut old = Vec::new();
        for (queue, line) in &mut state.lines {
            if let Some(held) = line.held.take_if(|held| held.look + 2 <= now) {
                old.push((queue.clone(), held.call));
            }
        }
        let again = mem::take(&mut state.used) || state.lines.values().any(|line| line.held.is_some());
        state.looked_after = again;
        drop(state);
        for (queue, call) in old {
            self.run(&queue, Start(Some(call)));
        }
        again
    }

    /// Takes no more items, and takes over what is held.
    pub(super) fn drain(self: &Arc<Self>) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
        let held: Vec<_> = state
            .lines
            .iter_mut()
            .filter_map(|(queue, line)| Some((queue.clone(), line.held.take()?.call)))
            .collect();
        drop(state);
        for (queue, call) in held {
            self.run(&queue, Start(Some(call)));
        }
    }

    /// Waits until nothing is under way.
    pub(super) async fn finished(&self) {
        std::future::poll_fn(|cx| {
            let mut tasks = self.tasks();
            let Some(tasks) = &mut *tasks else {
                return Poll::Ready(());
            };
            loop {
                match tasks.poll_join_next(cx) {
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    /// Takes what waits for its turn or for a retry.
    pub(super) fn take_waiting(&self) -> Vec<Queued> {
        let mut state = self.state();
        let waiting = state.lines.values_mut().flat_map(|line| line.waiting.drain(..));
        let mut left: Vec<_> = waiting.collect();
        drop(state);
        left.extend(self.lanes.take());
        left
    }

    /// Ends with the actor: callers of what is here hear that it was lost.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.phase = Phase::Ended;
        let lines = mem::take(&mut state.lines);
        drop(state);
        let tasks = self.tasks().take();
        for line in lines.values() {
            if let Some(held) = &line.held {
                drop(held.call.take());
            }
        }
        drop((lines, tasks));
        drop(self.lanes.take());
    }

    /// Takes over a call whose caller has been dropped.
    fn abandoned(self: &Arc<Self>, call: &Arc<Call>) {
        let mut state = self.state();
        let found = state.lines.iter_mut().find_map(|(queue, line)| {
            let held = line.held.take_if(|held| Arc::ptr_eq(&held.call, call))?;
            Some((queue.clone(), held.call))
        });
        drop(state);
        if let Some((queue, call)) = found {
            self.run(&queue, Start(Some(call)));
        }
    }
}

/// Returns whether an item travels apart from the others.
fn is_large(item: &Queued) -> bool {
    item.admission.kib() >= LARGE_BYTES >> 10
}

/// A call of one item that its caller polls; `None` when it has ended or a task of the actor's has taken it over.
struct Call(Mutex<Option<BoxFuture<'static, ()>>>);

impl Call {
    fn lock(&self) -> MutexGuard<'_, Option<BoxFuture<'static, ()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it over; `None` when it has ended.
    fn take(&self) -> Option<BoxFuture<'static, ()>> {
        self.lock().take()
    }
}

/// A call that is polled by the caller. Dropped, the call goes on in a task of the actor's.
pub(super) struct Held {
    lines: Arc<Lines>,
    call: Arc<Call>,
}

impl Held {
    /// Polls the call; ready when it has ended, or when it is a task of the actor's that polls it.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _runtime = self.lines.runtime.enter();
        let mut call = self.call.lock();
        let Some(polled) = call.as_mut() else {
            return Poll::Ready(());
        };
        let ended = polled.poll_unpin(cx);
        if ended.is_ready() {
            *call = None;
        }
        ended
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.call.lock().is_some() {
            self.lines.abandoned(&self.call);
        }
    }
}

/// The place of a held call in its line.
struct Seat {
    lines: Arc<Lines>,
    request: Arc<EnqueueRequest>,
    order: u64,
}

impl Seat {
    async fn call(self, item: Queued) {
        let queue = &self.request.message.queue;
        let call = attempt_one(&self.lines.args, queue, item, FIRST_RETRY);
        match AssertUnwindSafe(call).catch_unwind().await {
            Ok(failed) => self.lines.retry(failed),
            // A storage of anybody's making: the caller is told that the item was lost, and goes on.
            Err(panic) => drop(drop_quietly(panic)),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let queue = &self.request.message.queue;
        let mut state = self.lines.state();
        let Some(line) = state.lines.get_mut(queue) else { return };
        // A task that has taken it over has its place.
        let ours = line.held.take_if(|held| held.order == self.order);
        if ours.is_some() {
            line.calls -= 1;
            line.sent -= 1;
            state.tidy(queue);
        }
        drop(state);
    }
}

/// The place of a task of the actor's among the calls of a line.
struct Place {
    lines: Arc<Lines>,
    queue: String,
    /// Items that it has in flight.
    sent: usize,
    left: bool,
}

impl Place {
    /// Sends what waits until there is nothing for it to do, after the held call that it takes over.
    async fn serve(mut self, held: Option<Arc<Call>>) {
        // Owned by this task, so that it ends with it.
        if let Some(call) = held.and_then(|call| call.take()) {
            call.await;
        }
        while let Some(batch) = self.next() {
            let several = batch.len() > 1;
            let failed = attempt(&self.lines.args, &self.queue, batch, FIRST_RETRY).await;
            // What failed keeps nothing else waiting.
            self.lines.retry(failed);
            if several {
                // Those who have their answer go first: what they send next goes out together. One alone sends its
                // next item itself.
                tokio::task::yield_now().await;
            }
        }
    }

    /// The next batch; `None` when it has left its place.
    fn next(&mut self) -> Option<Vec<Queued>> {
        loop {
            let mut state = self.lines.state();
            if state.phase == Phase::Ended {
                self.left = true;
                return None;
            }
            let line = state.line(&self.queue);
            line.sent -= mem::take(&mut self.sent);
            let count = line.waiting.len().min(MAX_BATCH as usize);
            if count == 0 || !line.is_worth_it(line.calls - 1) {
                line.calls -= 1;
                self.left = true;
                state.tidy(&self.queue);
                return None;
            }
            self.sent = count;
            line.sent += count;
            let batch = line.waiting.drain(..count).collect();
            drop(state);
            // What follows items of its queue that are tried again waits behind them.
            let batch = self.lines.lanes.join(batch);
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }
}

impl Drop for Place {
    /// Leaves the place also where the storage has panicked; what waits goes on.
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut state = self.lines.state();
        if state.phase == Phase::Ended {
            return;
        }
        let line = state.line(&self.queue);
        line.sent -= self.sent;
        line.calls -= 1;
        let start = line.start();
        drop(state);
        if let Some(start) = start {
            self.lines.run(&self.queue, start);
        }
    }
}

/// The lines of the present incarnation of the actor, which handles follow.
#[derive(Clone, Debug, Default)]
pub(crate) struct CurrentLines(Arc<Mutex<Option<Arc<Lines>>>>);

impl CurrentLines {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Lines>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lines, if an actor is there.
    pub(super) fn get(&self) -> Option<Arc<Lines>> {
        self.lock().clone()
    }

    pub(super) fn publish(&self, lines: &Arc<Lines>) {
        let before = self.lock().replace(Arc::clone(lines));
        drop(before);
    }

    /// Takes lines back, unless others have been published since.
    pub(super) fn withdraw(&self, lines: &Arc<Lines>) {
        let taken = self.lock().take_if(|current| Arc::ptr_eq(current, lines));
        drop(taken);
    }
}
