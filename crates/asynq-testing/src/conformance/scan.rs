//! An inspector reads long lists in steps, and acts on some of what it read (transitions.md#scan-tasks).

use std::collections::{HashMap, HashSet};

use asynq_core::{
    Act,
    clock::unix_nanos,
    inspect::{ActedOn, ListFilter, PageRequest, SCAN_STEP, ScanLimits, ScanPlace, ScanStep, ScannedTask, TaskMark},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::kit::*;

fn of(state: TaskState) -> ListFilter {
    match state {
        TaskState::Aggregating => ListFilter::Group(group("g")),
        state => ListFilter::State(state),
    }
}

fn up_to(tasks: u32) -> ScanLimits {
    ScanLimits {
        tasks,
        ..ScanLimits::default()
    }
}

async fn scan(fx: &Fixture, state: TaskState, place: Option<&ScanPlace>, tasks: u32) -> ScanStep {
    let step = fx.storage.scan_tasks(&queue(Q), &of(state), place, up_to(tasks)).await;
    step.unwrap_or_else(|error| panic!("{state}: {error:?}"))
}

fn ids_of(step: &ScanStep) -> Vec<&str> {
    step.tasks.iter().map(|task| task.info.id.as_str()).collect()
}

/// A scan from the first step to the last.
struct Scan<'f> {
    fx: &'f Fixture,
    state: TaskState,
    size: u32,
    place: Option<ScanPlace>,
    steps: u32,
    /// The ids that were read.
    read: Vec<String>,
}

impl<'f> Scan<'f> {
    fn new(fx: &'f Fixture, state: TaskState, size: u32) -> Self {
        Self {
            fx,
            state,
            size,
            place: None,
            steps: 0,
            read: Vec::new(),
        }
    }

    async fn next(&mut self) -> Option<Vec<ScannedTask>> {
        if self.steps > 0 && self.place.is_none() {
            return None;
        }
        let step = scan(self.fx, self.state, self.place.as_ref(), self.size).await;
        self.read.extend(ids_of(&step).into_iter().map(str::to_owned));
        self.place = step.next;
        self.steps += 1;
        assert!(self.steps < 10_000, "it does not end");
        Some(step.tasks)
    }
}

/// Adds tasks that are scheduled for a time, or pending ones.
async fn add(fx: &Fixture, state: TaskState, names: &[String]) {
    match state {
        TaskState::Pending => enqueue_pending(fx, names).await,
        _ => schedule(fx, names, 60).await,
    }
}

async fn act(fx: &Fixture, state: TaskState, act: Act, tasks: &[TaskMark]) -> ActedOn {
    let acted = fx.storage.act_on_these(&queue(Q), &of(state), act, tasks).await;
    acted.unwrap_or_else(|error| panic!("{act} {state}: {error:?}"))
}

fn done(tasks: u32) -> ActedOn {
    ActedOn {
        done: tasks,
        ..ActedOn::default()
    }
}

fn moved(tasks: u32) -> ActedOn {
    ActedOn {
        moved: tasks,
        ..ActedOn::default()
    }
}

fn marks(tasks: &[ScannedTask]) -> Vec<TaskMark> {
    tasks.iter().map(|task| task.mark.clone()).collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("id{n:05}")).collect()
}

async fn enqueue_pending(fx: &Fixture, names: &[String]) {
    for part in names.chunks(500) {
        fx.enqueue_ids(&part.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
    }
}

async fn schedule(fx: &Fixture, names: &[String], secs: i64) {
    for part in names.chunks(500) {
        let new = part.iter().map(|id| request(Q, id).at(fx.after(secs)).build());
        for answer in fx.storage.enqueue(&batch_of(new)).await {
            answer.unwrap();
        }
    }
}

/// transitions.md#scan-tasks: in the order of a page, however small the steps, and with the same view of each task.
pub(super) async fn a_scan_reads_what_pages_list(fx: &Fixture) {
    for state in TaskState::ALL {
        for name in ["c", "b", "a", "d", "e"] {
            match state {
                TaskState::Pending => fx.enqueue_ids(&[name]).await,
                _ => fx.task_in(name, state).await,
            }
        }
        let listed = fx
            .storage
            .list_tasks(&queue(Q), &of(state), PageRequest::default())
            .await;
        let listed = listed.unwrap().tasks;
        assert_eq!(listed.len(), 5, "{state}");
        for size in [1, 2, 5, SCAN_STEP] {
            let (mut views, mut all) = (Vec::new(), Scan::new(fx, state, size));
            while let Some(tasks) = all.next().await {
                assert!(tasks.len() <= size as usize);
                views.extend(tasks.into_iter().map(|task| task.info));
            }
            assert_eq!(views, listed, "{state} {size}");
        }
        fx.edit(|raw| raw.clear()).await;
    }
    fx.enqueue_ids(&["a"]).await;
    let nothing = scan(fx, TaskState::Retry, None, 1).await;
    assert_eq!((nothing.tasks, nothing.next, nothing.at), (vec![], None, fx.now()));
}

/// The contract: a step can be used in part.
pub(super) async fn a_scan_goes_on_behind_any_task_of_a_step(fx: &Fixture) {
    for state in [TaskState::Pending, TaskState::Active, TaskState::Retry] {
        let names = ["a", "b", "c", "d", "e", "f"];
        for name in names {
            match state {
                TaskState::Pending => fx.enqueue_ids(&[name]).await,
                _ => fx.task_in(name, state).await,
            }
        }
        for first in 0..4 {
            let begin = scan(fx, state, None, 4).await.place_behind(None, first);
            for (size, count) in [(1, 1), (2, 1), (5, 2), (6, 1), (6, 2), (3, 3)] {
                let step = scan(fx, state, begin.as_ref(), size).await;
                let count = count.min(step.tasks.len());
                let place = step.place_behind(begin.as_ref(), count);
                let rest = match &place {
                    Some(_) => ids_of(&scan(fx, state, place.as_ref(), 9).await).join(" "),
                    None => String::new(),
                };
                assert_eq!(rest, names[first + count..].join(" "), "{state} {first} {size} {count}");
            }
        }
        fx.edit(|raw| raw.clear()).await;
    }
}

/// The contract: the step ends before the task that exceeds the limit, and reads at least one.
pub(super) async fn a_step_of_a_scan_has_a_limit_of_bytes(fx: &Fixture) {
    for id in ["a", "b", "c", "d"] {
        fx.enqueue(request(Q, id).payload(vec![b'x'; 1000])).await;
        fx.enqueue(request(Q, &format!("{id}2")).payload(vec![b'x'; 1000]).at(fx.after(9)))
            .await;
    }
    for (state, all) in [
        (TaskState::Pending, ["a", "b", "c", "d"]),
        (TaskState::Scheduled, ["a2", "b2", "c2", "d2"]),
    ] {
        for (bytes, size) in [(1, 1), (2500, 2), (u64::MAX, 4)] {
            let limits = ScanLimits {
                bytes,
                ..ScanLimits::default()
            };
            let (mut read, mut place) = (Vec::new(), None);
            loop {
                let step = fx
                    .storage
                    .scan_tasks(&queue(Q), &of(state), place.as_ref(), limits)
                    .await;
                let step = step.unwrap();
                assert_eq!(step.tasks.len(), size, "{state} {bytes}");
                read.extend(ids_of(&step).into_iter().map(str::to_owned));
                place = step.next;
                if place.is_none() {
                    break;
                }
            }
            assert_eq!(read, all, "{state} {bytes}");
        }
    }
}

/// The contract: when a task came into its state, where that is stored.
pub(super) async fn a_task_tells_since_when_it_is_in_its_state(fx: &Fixture) {
    for state in TaskState::ALL {
        let name = state.as_str();
        match state {
            TaskState::Pending => fx.enqueue_ids(&[name]).await,
            _ => fx.task_in(name, state).await,
        }
        let step = scan(fx, state, None, 1).await;
        let mut one = fx.storage.task_info(&queue(Q), &id(name)).await.unwrap();
        // A step has all but the runs.
        one.runs = None;
        assert_eq!(step.tasks[0].info, one, "{state}");
        let since = one.state_since.map(|at| at.timestamp());
        let expected = match state {
            TaskState::Active | TaskState::Scheduled => None,
            _ => Some(fx.secs()),
        };
        assert_eq!(since, expected, "{state}");
        if state == TaskState::Pending {
            assert_eq!(one.state_since.map(unix_nanos), Some(unix_nanos(fx.now())));
        }
        fx.edit(|raw| raw.clear()).await;
    }
}

/// The contract: 10,000 tasks of one second, of which some are deleted while others are added before the place, behind it
/// and after the last one.
pub(super) async fn a_scan_neither_skips_nor_repeats_while_a_set_changes(fx: &Fixture) {
    let all = names(10_000);
    schedule(fx, &all, 60).await;
    let mut deleted = 0;
    let mut scan = Scan::new(fx, TaskState::Scheduled, SCAN_STEP);
    while let Some(tasks) = scan.next().await {
        // Of those that were read, in turn all, every second and the last.
        let read = marks(&tasks);
        let gone: Vec<TaskMark> = match scan.steps % 3 {
            0 => read,
            1 => read.into_iter().step_by(2).collect(),
            _ => read.into_iter().rev().take(50).collect(),
        };
        deleted += gone.len();
        let count = u32::try_from(gone.len()).unwrap();
        assert_eq!(act(fx, TaskState::Scheduled, Act::Delete, &gone).await, done(count));
        let round = scan.steps;
        schedule(fx, &[format!("a{round}"), format!("z{round}")], 60).await;
        schedule(fx, &[format!("b{round}")], 61).await;
    }
    assert_eq!(scan.read, all);
    assert_eq!(scan.steps, 50);
    let left = fx.storage.queue_info(&queue(Q)).await.unwrap().scheduled;
    assert_eq!(left, 10_000 - deleted as u64 + 3 * 50);
}

/// The contract: servers take from the tail and give back to it, clients add at the head, and tasks are deleted from the
/// middle. A task that stays is read once.
pub(super) async fn a_scan_neither_skips_nor_repeats_while_a_list_changes(fx: &Fixture) {
    for seed in 0..12 {
        let mut random = SmallRng::seed_from_u64(seed);
        let all = names(1500);
        enqueue_pending(fx, &all).await;
        let mut gone = HashSet::new();
        let mut held = Vec::new();
        let mut new = 0;
        let size = [7, 50, SCAN_STEP][random.random_range(0..3)];
        let mut scan = Scan::new(fx, TaskState::Pending, size);
        while let Some(tasks) = scan.next().await {
            let mut read = marks(&tasks);
            match random.random_range(0..6) {
                // Servers take tasks, a few or more than were read.
                0 => held.extend(fx.take(random.random_range(0..2 * size.min(50))).await),
                1 => {
                    for task in held.drain(..) {
                        fx.settled(&task, Outcome::Requeue).await;
                        gone.insert(task.lease.id.to_string());
                    }
                }
                2 => {
                    new += 1;
                    enqueue_pending(fx, &[format!("new{new}"), format!("newer{new}")]).await;
                }
                3 => read.retain(|_| random.random_bool(0.5)),
                4 => read.truncate(random.random_range(0..=read.len())),
                _ => {}
            }
            if random.random_bool(0.5) {
                let acted = act(fx, TaskState::Pending, Act::Delete, &read).await;
                assert_eq!(acted.done + acted.moved, u32::try_from(read.len()).unwrap());
                gone.extend(read.iter().map(|mark| String::from_utf8(mark.id.to_vec()).unwrap()));
                if let Some(place) = &mut scan.place {
                    place.forget(&read);
                }
            }
        }
        let read = scan.read;
        gone.extend(held.iter().map(|task| task.lease.id.to_string()));
        let mut times = HashMap::<&str, u32>::new();
        for id in &read {
            *times.entry(id).or_default() += 1;
        }
        for id in all.iter().filter(|id| !gone.contains(*id)) {
            assert_eq!(times.get(id.as_str()), Some(&1), "{seed}: {id} of {size}");
        }
        fx.edit(|raw| raw.clear()).await;
    }
}

/// The contract: a place is found again though many thousand tasks left the list meanwhile, also by its short form, and
/// a scan begins again at the tail if all that was read is gone.
pub(super) async fn a_place_in_a_list_is_found_far_away(fx: &Fixture) {
    let all = names(6000);
    enqueue_pending(fx, &all).await;
    let mut place = None;
    for _ in 0..25 {
        place = scan(fx, TaskState::Pending, place.as_ref(), SCAN_STEP).await.next;
    }
    let text = serde_json::to_string(&place.clone().map(ScanPlace::shortened)).unwrap();
    let short: Option<ScanPlace> = serde_json::from_str(&text).unwrap();
    assert_eq!(next(fx, place.as_ref(), short.as_ref()).await, all[5000..5002]);
    // Servers take what was read first.
    let mut held = Vec::new();
    while held.len() < 4900 {
        held.extend(fx.take(100).await);
    }
    assert_eq!(next(fx, place.as_ref(), short.as_ref()).await, all[5000..5002]);
    // They give it back.
    for task in held.drain(..).rev() {
        fx.settled(&task, Outcome::Requeue).await;
    }
    assert_eq!(next(fx, place.as_ref(), short.as_ref()).await, all[5000..5002]);
    while held.len() < 5100 {
        held.extend(fx.take(100).await);
    }
    assert_eq!(next(fx, place.as_ref(), short.as_ref()).await, all[5100..5102]);
}

/// The next two ids, by a long place and by a short one.
async fn next(fx: &Fixture, place: Option<&ScanPlace>, short: Option<&ScanPlace>) -> Vec<String> {
    let long = scan(fx, TaskState::Pending, place, 2).await;
    let step = scan(fx, TaskState::Pending, short, 2).await;
    assert_eq!(ids_of(&step), ids_of(&long));
    ids_of(&step).into_iter().map(str::to_owned).collect()
}

/// The contract: a place is found again though only a part of what is known stands near it, because servers gave tasks back
/// to the tail.
pub(super) async fn a_place_in_a_list_is_found_behind_the_last_known_task(fx: &Fixture) {
    let all = names(2000);
    enqueue_pending(fx, &all).await;
    let mut held = Vec::new();
    while held.len() < 800 {
        held.extend(fx.take(100).await);
    }
    let first = scan(fx, TaskState::Pending, None, SCAN_STEP).await;
    let place = scan(fx, TaskState::Pending, first.next.as_ref(), SCAN_STEP).await.next;
    for task in held.drain(..).rev() {
        fx.settled(&task, Outcome::Requeue).await;
    }
    assert_eq!(next(fx, place.as_ref(), place.as_ref()).await, all[1200..1202]);
}

/// The contract: a task that was read, left the list and came to its head, is not taken for the place.
pub(super) async fn a_task_that_comes_back_does_not_move_the_place(fx: &Fixture) {
    let all = names(600);
    enqueue_pending(fx, &all).await;
    let first = scan(fx, TaskState::Pending, None, SCAN_STEP).await;
    fx.advance(1);
    for task in fx.take(200).await {
        fx.settled(&task, retry(fx.now())).await;
        fx.storage.run_task(&queue(Q), &task.lease.id).await.unwrap();
    }
    let second = scan(fx, TaskState::Pending, first.next.as_ref(), SCAN_STEP).await;
    assert_eq!(ids_of(&second), all[200..400]);
    // The same of running tasks, which are taken again.
    fx.edit(|raw| raw.clear()).await;
    enqueue_pending(fx, &all[..60]).await;
    let held = fx.take(60).await;
    let first = scan(fx, TaskState::Active, None, 20).await;
    for task in &held[..20] {
        fx.settled(task, Outcome::Requeue).await;
    }
    fx.take(20).await;
    let second = scan(fx, TaskState::Active, first.next.as_ref(), 20).await;
    assert_eq!(ids_of(&second), all[20..40]);
}

/// The contract: a place is found though the tasks read last are gone and others left or came back meanwhile.
pub(super) async fn a_place_in_a_list_is_found_without_the_tasks_read_last(fx: &Fixture) {
    let all = names(6000);
    for (read, back, taken) in [(10, 150, 0), (25, 0, 1500), (25, 900, 0)] {
        enqueue_pending(fx, &all).await;
        let mut held = Vec::new();
        while held.len() < back {
            held.extend(fx.take(50).await);
        }
        let (mut place, mut last) = (None, Vec::new());
        for _ in 0..read {
            let step = scan(fx, TaskState::Pending, place.as_ref(), SCAN_STEP).await;
            place = step.next;
            last = marks(&step.tasks);
        }
        assert_eq!(act(fx, TaskState::Pending, Act::Delete, &last[180..]).await, done(20));
        for task in held.drain(..).rev() {
            fx.settled(&task, Outcome::Requeue).await;
        }
        while held.len() < taken {
            held.extend(fx.take(100).await);
        }
        let expected = back + read * SCAN_STEP as usize;
        let found = next(fx, place.as_ref(), place.as_ref()).await;
        assert_eq!(found, all[expected..expected + 2], "{read} {back} {taken}");
        fx.edit(|raw| raw.clear()).await;
    }
}

/// transitions.md#act-on-these-tasks: pending tasks are found though others left the list meanwhile, or came back.
pub(super) async fn pending_tasks_are_acted_on_wherever_they_stand(fx: &Fixture) {
    let all = names(3000);
    for (back, taken) in [(150, 0), (0, 1100), (1100, 0)] {
        enqueue_pending(fx, &all).await;
        let mut held = Vec::new();
        while held.len() < back {
            held.extend(fx.take(50).await);
        }
        let mut place = None;
        for _ in 0..7 {
            place = scan(fx, TaskState::Pending, place.as_ref(), SCAN_STEP).await.next;
        }
        let step = scan(fx, TaskState::Pending, place.as_ref(), SCAN_STEP).await;
        for task in held.drain(..).rev() {
            fx.settled(&task, Outcome::Requeue).await;
        }
        while held.len() < taken {
            held.extend(fx.take(100).await);
        }
        let acted = act(fx, TaskState::Pending, Act::Archive, &marks(&step.tasks)).await;
        assert_eq!(acted, done(200), "{back} {taken}");
        fx.edit(|raw| raw.clear()).await;
    }
}

/// The contract: no more than twice as many as there were at first.
pub(super) async fn a_scan_ends_while_tasks_are_added(fx: &Fixture) {
    for state in [TaskState::Pending, TaskState::Scheduled] {
        let all = names(20);
        add(fx, state, &all).await;
        let more = |round: u32| (0..10).map(|n| format!("x{round:03}-{n}")).collect::<Vec<_>>();
        let mut scan = Scan::new(fx, state, 5);
        while scan.next().await.is_some() {
            add(fx, state, &more(scan.steps)).await;
        }
        assert_eq!(scan.read, all, "{state}");
        // The last one leaves: no more than twice as many as there are.
        let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
        let count = info.size();
        let mut scan = Scan::new(fx, state, 5);
        while scan.next().await.is_some() {
            if scan.steps == 1 {
                let last = more(4).pop().unwrap();
                fx.storage.delete_task(&queue(Q), &id(&last)).await.unwrap();
            }
            add(fx, state, &more(100 + scan.steps)).await;
        }
        assert!(
            scan.read.len() as u64 <= 2 * count,
            "{state}: {} of {count}",
            scan.read.len()
        );
        fx.edit(|raw| raw.clear()).await;
    }
}

async fn scan_of(
    fx: &Fixture,
    name: &str,
    filter: &ListFilter,
    place: Option<&ScanPlace>,
) -> Result<ScanStep, BrokerError> {
    fx.storage.scan_tasks(&queue(name), filter, place, up_to(1)).await
}

/// The contract: the errors of a page, and a place of another container begins.
pub(super) async fn a_scan_refuses_what_pages_refuse(fx: &Fixture) {
    fx.task_in("c", TaskState::Retry).await;
    fx.enqueue_ids(&["a", "b"]).await;
    let unknown = scan_of(fx, "never", &of(TaskState::Retry), None).await;
    assert!(matches!(unknown, Err(BrokerError::QueueNotFound { .. })), "{unknown:?}");
    let no_group = scan_of(fx, Q, &ListFilter::State(TaskState::Aggregating), None).await;
    assert!(
        matches!(no_group, Err(BrokerError::GroupRequired { .. })),
        "{no_group:?}"
    );
    let place = scan_of(fx, Q, &of(TaskState::Pending), None)
        .await
        .unwrap()
        .next
        .unwrap();
    let step = scan_of(fx, Q, &of(TaskState::Retry), Some(&place)).await.unwrap();
    assert_eq!(ids_of(&step), ["c"]);
    fx.leaves_damage();
    for suffix in ["pending", "retry", "g:g"] {
        fx.edit(|raw| drop(raw.insert(key(suffix), string("odd")))).await;
    }
    for state in [TaskState::Pending, TaskState::Retry, TaskState::Aggregating] {
        let refused = scan_of(fx, Q, &of(state), None).await;
        assert!(matches!(refused, Err(BrokerError::WrongType { .. })), "{refused:?}");
    }
}

/// transitions.md#act-on-these-tasks: each as by the act on all of them, and others stay, in their order.
pub(super) async fn some_tasks_are_acted_on(fx: &Fixture) {
    for kind in Act::ALL {
        for state in TaskState::ALL.into_iter().filter(|state| kind.applies_to(*state)) {
            let all = ["a", "b", "c", "d", "e"];
            for name in all {
                match state {
                    TaskState::Pending => fx.enqueue_ids(&[name]).await,
                    _ => fx.task_in(name, state).await,
                }
            }
            fx.edit(|raw| {
                set_field(raw, "b", "unique_key", Some(bytes(key("unique:t:x"))));
                raw.insert(key("unique:t:x"), string("b"));
            })
            .await;
            let step = scan(fx, state, None, 10).await;
            let some: Vec<TaskMark> = marks(&step.tasks).into_iter().skip(1).step_by(2).collect();
            fx.advance(3);
            assert_eq!(act(fx, state, kind, &some).await, done(2), "{kind} {state}");
            assert_eq!(
                ids_of(&scan(fx, state, None, 10).await),
                ["a", "c", "e"],
                "{kind} {state}"
            );
            let raw = fx.raw().await;
            match kind {
                Act::Run => {
                    assert_eq!(raw.list("pending"), ["d", "b"], "{state}");
                    let since = raw.task("b").field("pending_since");
                    assert_eq!(since, Some(unix_nanos(fx.now()).to_string()));
                }
                Act::Archive => {
                    let expected = ["b", "d"].map(|name| (name.to_owned(), fx.secs()));
                    assert_eq!(raw.zset("archived"), expected, "{state}");
                    assert_eq!(raw.task("b").state(), "archived");
                }
                _ => assert!(!raw.has_task("b") && raw.q().get("unique:t:x").is_none()),
            }
            // They are not there any more.
            assert_eq!(act(fx, state, kind, &some).await, moved(2), "{kind} {state}");
            // The rest, and then the group leaves the index.
            let step = scan(fx, state, None, 10).await;
            assert_eq!(
                act(fx, state, kind, &marks(&step.tasks)).await,
                done(3),
                "{kind} {state}"
            );
            assert!(fx.raw().await.q().get("groups").is_none());
            fx.edit(|raw| raw.clear()).await;
        }
    }
}

/// transitions.md#act-on-these-tasks: one that moved or changed since is left alone.
pub(super) async fn a_task_that_moved_is_left_alone(fx: &Fixture) {
    // Taken, and pending again.
    fx.enqueue_ids(&["a"]).await;
    let step = scan(fx, TaskState::Pending, None, 1).await;
    let task = fx.take_one().await;
    assert_eq!(
        act(fx, TaskState::Pending, Act::Delete, &marks(&step.tasks)).await,
        moved(1)
    );
    fx.advance(1);
    fx.settled(&task, Outcome::Requeue).await;
    assert_eq!(
        act(fx, TaskState::Pending, Act::Delete, &marks(&step.tasks)).await,
        moved(1)
    );
    // Failed, and failed once more.
    let task = fx.take_one().await;
    fx.settled(&task, retry(fx.after(5))).await;
    let step = scan(fx, TaskState::Retry, None, 1).await;
    fx.storage.run_task(&queue(Q), &id("a")).await.unwrap();
    let task = fx.take_one().await;
    fx.settled(&task, retry(fx.after(5))).await;
    assert_eq!(
        act(fx, TaskState::Retry, Act::Delete, &marks(&step.tasks)).await,
        moved(1)
    );
    let step = scan(fx, TaskState::Retry, None, 1).await;
    let later = fx.after(500);
    fx.storage.reschedule_task(&queue(Q), &id("a"), later).await.unwrap();
    assert_eq!(act(fx, TaskState::Retry, Act::Run, &marks(&step.tasks)).await, moved(1));
    // Another payload.
    fx.enqueue(request(Q, "s").at(fx.after(60))).await;
    let step = scan(fx, TaskState::Scheduled, None, 1).await;
    let new = bytes("other");
    fx.storage.update_task_payload(&queue(Q), &id("s"), new).await.unwrap();
    assert_eq!(
        act(fx, TaskState::Scheduled, Act::Archive, &marks(&step.tasks)).await,
        moved(1)
    );
    // One of two, and one of them named twice.
    fx.enqueue(request(Q, "t").at(fx.after(60))).await;
    let step = scan(fx, TaskState::Scheduled, None, 2).await;
    fx.storage.delete_task(&queue(Q), &id("t")).await.unwrap();
    let mut tasks = marks(&step.tasks);
    tasks.push(tasks[0].clone());
    let acted = act(fx, TaskState::Scheduled, Act::Archive, &tasks).await;
    assert_eq!((acted.done, acted.moved), (1, 2));
    let before = fx.raw().await;
    assert_eq!(
        act(fx, TaskState::Scheduled, Act::Archive, &[]).await,
        ActedOn::default()
    );
    before.assert_same(&fx.raw().await);
}

/// The contract: states that Go excludes, too, and an aggregation set is not a group.
pub(super) async fn an_act_on_some_tasks_is_refused_as_that_on_all(fx: &Fixture) {
    fx.task_in("a", TaskState::Completed).await;
    let step = scan(fx, TaskState::Completed, None, 1).await;
    let before = fx.raw().await;
    let marks = marks(&step.tasks);
    let filters = [TaskState::Completed, TaskState::Aggregating].map(ListFilter::State);
    let errors = [
        format!("cannot run all completed tasks of queue \"{Q}\""),
        "needs a group".to_owned(),
    ];
    for (filter, expected) in filters.iter().zip(errors) {
        let acted = fx.storage.act_on_these(&queue(Q), filter, Act::Run, &marks).await;
        let error = acted.unwrap_err().to_string();
        assert!(error.contains(&expected), "{error}");
    }
    let unknown = queue("never");
    let acted = fx
        .storage
        .act_on_these(&unknown, &of(TaskState::Retry), Act::Run, &[])
        .await;
    assert!(matches!(acted, Err(BrokerError::QueueNotFound { .. })), "{acted:?}");
    before.assert_same(&fx.raw().await);
}

/// rules.md#damage-stays-local: damaged tasks are read, deleted, and quarantined by the other acts.
pub(super) async fn damaged_tasks_are_read_and_acted_on(fx: &Fixture) {
    for kind in Act::ALL {
        for state in TaskState::ALL.into_iter().filter(|state| kind.applies_to(*state)) {
            fx.leaves_damage();
            for name in ["a", "b", "c", "d"] {
                match state {
                    TaskState::Pending => fx.enqueue_ids(&[name]).await,
                    _ => fx.task_in(name, state).await,
                }
            }
            fx.edit(|raw| {
                raw.remove(&key("t:a"));
                set_field(raw, "b", "msg", None);
                raw.insert(key("t:c"), string("odd"));
            })
            .await;
            let step = scan(fx, state, None, 10).await;
            assert_eq!(ids_of(&step), ["a", "b", "c", "d"], "{state}");
            assert_eq!(step.tasks.iter().filter(|task| task.info.damage.is_some()).count(), 3);
            let acted = act(fx, state, kind, &marks(&step.tasks)).await;
            let (done, aside) = if kind == Act::Delete { (3, 0) } else { (1, 2) };
            assert_eq!(
                (acted.done, acted.moved, acted.dropped, acted.poisoned.len()),
                (done, 0, 1, aside),
                "{kind} {state}"
            );
            assert_eq!(scan(fx, state, None, 10).await.tasks, []);
            fx.edit(|raw| raw.clear()).await;
        }
    }
}
