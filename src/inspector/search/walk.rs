//! The way of a search through queues, states and groups.

use std::{collections::VecDeque, sync::Arc};

use asynq_core::{
    Act, BrokerError, Inspect, QueueInfo, QueueName, Result, TaskState,
    inspect::{Cursor, ListFilter, ScanLimits, ScanPlace, ScanStep, SearchPlace},
};
use asynq_query::{Query, Verdict};
use tokio::time::Instant;

/// The states in the order of a search.
const STATES: [TaskState; 7] = [
    TaskState::Active,
    TaskState::Pending,
    TaskState::Aggregating,
    TaskState::Scheduled,
    TaskState::Retry,
    TaskState::Archived,
    TaskState::Completed,
];

/// The tasks of one state or group of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) queue: QueueName,
    pub(crate) filter: ListFilter,
    /// Number of tasks that wait in a group.
    size: u64,
}

impl Container {
    fn is_of(&self, place: &SearchPlace) -> bool {
        match &self.filter {
            ListFilter::State(state) => *state == place.state,
            ListFilter::Group(group) => place.group.as_ref() == Some(group),
        }
    }
}

/// A step, and the place where it began.
pub(crate) struct Scanned {
    pub(crate) container: Container,
    pub(crate) before: Option<ScanPlace>,
    pub(crate) step: ScanStep,
}

/// The way, and the place on it.
pub(crate) struct Walk<B: ?Sized> {
    storage: Arc<B>,
    query: Query,
    /// States for which this act is not possible are left out.
    act: Option<Act>,
    queues: VecDeque<QueueName>,
    /// Containers of the current queue; the first of them is read.
    containers: VecDeque<Container>,
    place: Option<ScanPlace>,
    /// The place of an earlier walk, until its queue, or a later one, has been reached.
    resumed: Option<SearchPlace>,
    /// The numbers of the current queue, once they have been needed.
    info: Option<QueueInfo>,
}

impl<B: Inspect + ?Sized> Walk<B> {
    /// Begins, or goes on at a place.
    pub(crate) async fn new(storage: Arc<B>, query: Query, act: Option<Act>, from: &Cursor) -> Result<Self> {
        let resumed = SearchPlace::decode(from)?;
        let mut queues = VecDeque::from(storage.queues().await?);
        if let Some(resumed) = &resumed {
            queues.retain(|queue| *queue >= resumed.queue);
        }
        Ok(Self {
            storage,
            query,
            act,
            queues,
            containers: VecDeque::new(),
            place: None,
            resumed,
            info: None,
        })
    }

    /// The container that is read next; `None` at the end.
    async fn container(&mut self) -> Result<Option<&Container>> {
        self.reach(None).await?;
        Ok(self.containers.front())
    }

    /// Goes to the container that is read next, or to the end, through one queue at least if there is none in the current
    /// one. Returns `false` if the time ends before.
    pub(crate) async fn reach(&mut self, end: Option<Instant>) -> Result<bool> {
        while self.containers.is_empty() {
            let Some(queue) = self.queues.front().cloned() else {
                return Ok(true);
            };
            // Nothing changes before all is known: the call may fail or be dropped, and is then repeated.
            let resumed = self.resumed.as_ref().filter(|resumed| resumed.queue == queue);
            let containers = self.containers_of(&queue, resumed).await?;
            let place = match (resumed, containers.front()) {
                (Some(resumed), Some(first)) if first.is_of(resumed) => resumed.place.clone(),
                _ => None,
            };
            self.queues.pop_front();
            self.resumed = None;
            self.info = None;
            self.containers = containers;
            self.place = place;
            if self.containers.is_empty() && !self.queues.is_empty() && is_over(end) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The containers of a queue whose tasks can meet the query, from the place of an earlier walk on.
    async fn containers_of(&self, queue: &QueueName, resumed: Option<&SearchPlace>) -> Result<VecDeque<Container>> {
        let rank = |state: TaskState| STATES.iter().position(|of| *of == state);
        let mut containers = VecDeque::new();
        for state in STATES {
            if resumed.is_some_and(|resumed| rank(resumed.state) > rank(state))
                || self.act.is_some_and(|act| !act.applies_to(state))
                || self.query.evaluate_all(queue, state) == Verdict::NoMatch
            {
                continue;
            }
            let container = |filter, size| Container {
                queue: queue.clone(),
                filter,
                size,
            };
            if state != TaskState::Aggregating {
                containers.push_back(container(ListFilter::State(state), 0));
                continue;
            }
            let mut groups = self.storage.group_infos(queue).await?;
            groups.retain(|group| group.size > 0);
            groups.sort_by(|a, b| a.group.cmp(&b.group));
            if let Some(SearchPlace {
                state: TaskState::Aggregating,
                group: Some(first),
                ..
            }) = resumed
            {
                groups.retain(|group| group.group >= *first);
            }
            let groups = groups.into_iter();
            containers.extend(groups.map(|group| container(ListFilter::Group(group.group), group.size)));
        }
        Ok(containers)
    }

    /// Reads the next tasks; `None` at the end. The place stays until [`went_on`](Self::went_on). A step without tasks says
    /// that a state or group has none.
    pub(crate) async fn step(&mut self, bytes: u64) -> Result<Option<Scanned>> {
        let Some(container) = self.container().await?.cloned() else {
            return Ok(None);
        };
        let before = self.place.clone();
        let limits = ScanLimits {
            bytes,
            ..ScanLimits::default()
        };
        let Container { queue, filter, .. } = &container;
        let step = match self.storage.scan_tasks(queue, filter, before.as_ref(), limits).await {
            Ok(step) => step,
            // It was deleted meanwhile.
            Err(BrokerError::QueueNotFound { .. }) => ScanStep::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Scanned {
            container,
            before,
            step,
        }))
    }

    /// Goes on behind the first `used` tasks of a step.
    pub(crate) fn went_on(&mut self, scanned: &Scanned, used: usize) {
        if scanned.step.tasks.is_empty() {
            self.leave();
        } else {
            self.go_to(scanned.step.place_behind(scanned.before.as_ref(), used));
        }
    }

    /// Goes on at a place in the container that is read; `None`: it has been read.
    pub(crate) fn go_to(&mut self, place: Option<ScanPlace>) {
        match place {
            Some(place) => self.place = Some(place),
            None => self.leave(),
        }
    }

    fn leave(&mut self) {
        self.containers.pop_front();
        self.place = None;
    }

    /// Leaves the container that would be read next, and returns the number of its tasks, if the query holds for all of
    /// them.
    pub(crate) async fn whole(&mut self) -> Result<Option<u64>> {
        let Some(container) = self.container().await?.cloned() else {
            return Ok(None);
        };
        let state = container.filter.state();
        if self.place.is_some() || self.query.evaluate_all(&container.queue, state) != Verdict::Match {
            return Ok(None);
        }
        if state == TaskState::Aggregating {
            self.leave();
            return Ok(Some(container.size));
        }
        if self.info.is_none() {
            match self.storage.queue_info(&container.queue).await {
                Ok(info) => self.info = Some(info),
                Err(BrokerError::QueueNotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.leave();
        Ok(Some(self.info.as_ref().map_or(0, |info| match state {
            TaskState::Active => info.active,
            TaskState::Pending => info.pending,
            TaskState::Scheduled => info.scheduled,
            TaskState::Retry => info.retry,
            TaskState::Archived => info.archived,
            TaskState::Completed => info.completed,
            _ => 0,
        })))
    }

    /// The place where another walk goes on; `None` at the end. Queues with nothing to read are left out while there is time.
    pub(crate) async fn cursor(&mut self, end: Option<Instant>) -> Result<Option<Cursor>> {
        self.reach(end).await?;
        let Some(container) = self.containers.front() else {
            // The beginning of a queue at which nobody has looked.
            return Ok(self.queues.front().map(|queue| {
                SearchPlace {
                    queue: queue.clone(),
                    state: STATES[0],
                    group: None,
                    place: None,
                }
                .encode()
            }));
        };
        let (state, group) = match &container.filter {
            ListFilter::State(state) => (*state, None),
            ListFilter::Group(group) => (TaskState::Aggregating, Some(group.clone())),
        };
        let place = SearchPlace {
            queue: container.queue.clone(),
            state,
            group,
            place: self.place.clone(),
        };
        Ok(Some(place.encode()))
    }
}

/// Returns whether a time has come, if there is one.
pub(crate) fn is_over(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() >= end)
}
