mod ahead;
mod leases;
mod random;
mod runs;

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use asynq_core::{
    BrokerError, SettleError, TaskId,
    broker::{LEASE, LeaseRef, LeaseUntil, Settlement},
    error::PoisonKind,
};

use super::*;

const SLOTS: usize = 8;

/// For all queues at once.
impl Table {
    fn ended_count(&self) -> usize {
        self.lock().ended.values().map(VecDeque::len).sum()
    }

    fn claim_ended(&self, most: usize) -> Claim {
        let mut state = self.lock();
        let queues: BTreeSet<QueueName> = state.ended.keys().cloned().collect();
        let mut claim = state.new_claim();
        for queue in queues {
            state.add_ended(&mut claim, &queue, most, &self.by());
        }
        claim
    }

    fn claim_stuck(&self, most: usize, all: bool) -> Claim {
        let mut state = self.lock();
        let mut claim = state.new_claim();
        for key in state.stuck(|_| true, all).iter().take(most) {
            state.add(&mut claim, key, u32::MAX, &self.by());
        }
        claim
    }
}

fn table() -> Table {
    Table::new(SLOTS, Clock::tokio())
}

fn key(queue: &str, id: &str) -> Key {
    Key(QueueName::new(queue).unwrap(), TaskId::new(id).unwrap())
}

fn token(take: u64) -> CallToken {
    CallToken::new("server", take, LeaseUntil(0))
}

/// A task as the storage hands it out now.
fn leased(table: &Table, queue: &str, id: &str, take: u64) -> LeasedTask {
    let Key(queue, id) = key(queue, id);
    let message = TaskMessage {
        queue: queue.to_string(),
        id: id.to_string(),
        ..Default::default()
    };
    let lease = LeaseRef {
        queue,
        id,
        token: token(take),
        until: LeaseUntil::from_now(table.clock.now()),
    };
    LeasedTask {
        message: Arc::new(message),
        lease,
        deadline: None,
        pending_since: None,
    }
}

/// Takes slots and enters the tasks of queue `q` under one take.
fn take(table: &Table, ids: &[&str], take: u64) {
    let slots = table.try_slots(u32::try_from(ids.len()).unwrap());
    table.insert(ids.iter().map(|id| leased(table, "q", id, take)).collect(), slots);
}

fn done() -> End {
    End::Outcome(Outcome::Done { retain: true })
}

/// Takes, starts and finishes.
fn finished(table: &Table, ids: &[&str], by: u64) {
    take(table, ids, by);
    for start in table.start_ready() {
        table.finish(&start.key, &start.token, done());
    }
}

fn ids(claim: &Claim) -> Vec<&str> {
    claim.items.iter().map(|item| item.lease.id.as_str()).collect()
}

fn started(starts: &[Start]) -> Vec<&str> {
    starts.iter().map(|start| start.key.1.as_str()).collect()
}

fn failed() -> Result<(), SettleError> {
    Err(SettleError::Broker(BrokerError::Closed))
}

fn counts(leased: usize, running: usize, ended: usize) -> Counts {
    Counts { leased, running, ended }
}

async fn pass(secs: u64) {
    tokio::time::advance(Duration::from_secs(secs)).await;
}

// --- slots ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn slots_are_given_up_to_what_is_free() {
    let table = table();
    assert_eq!(table.try_slots(0).map(|slots| slots.num_permits()), None);
    let five = table.try_slots(5).unwrap();
    assert_eq!((five.num_permits(), table.free_slots()), (5, 3));
    let rest = table.try_slots(u32::MAX).unwrap();
    assert_eq!(rest.num_permits(), 3);
    assert!(table.try_slots(1).is_none());
    drop(five);
    assert_eq!(table.free_slots(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_free_when_the_handler_has_ended_and_not_before() {
    let table = table();
    take(&table, &["a", "b"], 1);
    assert_eq!(table.free_slots(), SLOTS - 2, "leased");
    let mut starts = table.start_ready();
    assert_eq!(table.free_slots(), SLOTS - 2, "running");
    let (a, b) = (starts.remove(0), starts.remove(0));
    table.finish(&a.key, &a.token, done());
    assert_eq!(table.free_slots(), SLOTS - 2, "told, but its future is still there");
    drop(a);
    assert_eq!(table.free_slots(), SLOTS - 1);
    table.finish(&b.key, &b.token, End::LeaseLost);
    drop(b);
    assert_eq!(table.free_slots(), SLOTS, "outcomes need no slot");
    assert_eq!(table.counts(), counts(0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn slots_that_brought_no_task_are_free_at_once() {
    let table = table();
    let slots = table.try_slots(6);
    table.insert(vec![leased(&table, "q", "a", 1)], slots);
    assert_eq!(table.free_slots(), SLOTS - 1);
}

// --- each step once ------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_task_is_started_once_in_the_order_of_the_take() {
    let table = table();
    take(&table, &["c", "a", "b"], 1);
    assert_eq!(table.counts(), counts(3, 0, 0));
    let starts = table.start_ready();
    assert_eq!(started(&starts), ["c", "a", "b"]);
    assert!(table.start_ready().is_empty());
    assert_eq!((table.counts(), table.running_count()), (counts(0, 3, 0), 3));
    assert_eq!(table.running().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_once_and_only_under_its_own_token() {
    let table = table();
    take(&table, &["a"], 1);
    table.finish(&key("q", "a"), &token(1), done());
    assert_eq!(table.counts(), counts(1, 0, 0), "not started");
    table.start_ready();
    table.finish(&key("q", "a"), &token(2), done());
    table.finish(&key("other", "a"), &token(1), done());
    assert_eq!(table.counts(), counts(0, 1, 0), "not this run");
    table.finish(&key("q", "a"), &token(1), done());
    table.finish(&key("q", "a"), &token(1), End::Outcome(Outcome::Requeue));
    assert_eq!(
        (table.counts(), table.running_count(), table.ended_count()),
        (counts(0, 0, 1), 0, 1)
    );
    let claim = table.claim_ended(10);
    assert_eq!(
        claim.items[0].outcome,
        Outcome::Done { retain: true },
        "the first word counts"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_claimed_by_one_call_only() {
    let table = table();
    finished(&table, &["a", "b", "c"], 1);
    let first = table.claim_ended(2);
    let second = table.claim_ended(2);
    assert_eq!((ids(&first), ids(&second)), (vec!["a", "b"], vec!["c"]));
    assert!(table.claim_ended(10).items.is_empty());
    assert!(table.claim_stuck(10, true).items.is_empty());
    assert_ne!(first.call, second.call);
    assert_eq!(
        (table.counts(), table.ended_count()),
        (counts(0, 0, 3), 0),
        "claimed is not settled"
    );
    table.settled(second.call, &first.items, vec![Ok(()), Ok(())]);
    assert_eq!(table.counts(), counts(0, 0, 3), "the word of another call");
    table.settled(first.call, &first.items, vec![Ok(()), Ok(())]);
    table.settled(second.call, &second.items, vec![Ok(())]);
    assert_eq!(table.counts(), Counts::default());
    assert!(table.counts().is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_to_be_started_is_cancelled_before() {
    let table = table();
    take(&table, &["a", "b"], 2);
    assert_eq!(table.cancel_id(&key("q", "a").1), 1);
    let reasons = table.start_ready().into_iter().map(|start| start.cancel.reason());
    assert_eq!(reasons.collect::<Vec<_>>(), [Some(CancelReason::Requested), None]);
}

/// The same id runs in two queues, and once more later.
#[tokio::test(start_paused = true)]
async fn a_cancel_of_one_run_is_for_that_run() {
    let table = table();
    let lease = |queue, take| leased(&table, queue, "a", take).lease;
    let tasks = vec![leased(&table, "q", "a", 1), leased(&table, "other", "a", 2)];
    table.insert(tasks, table.try_slots(2));
    assert!(!table.cancel_run(&lease("q", 7)), "another take");
    assert!(table.cancel_run(&lease("q", 1)));
    let starts = table.start_ready();
    let reasons = starts
        .iter()
        .map(|start| (start.key.0.to_string(), start.cancel.reason()));
    let expected = [
        ("q".to_owned(), Some(CancelReason::Requested)),
        ("other".to_owned(), None),
    ];
    assert_eq!(reasons.collect::<Vec<_>>(), expected);
    assert!(table.cancel_run(&lease("other", 2)));
    assert_eq!(starts[1].cancel.reason(), Some(CancelReason::Requested));
    table.finish(&starts[1].key, &token(2), End::Outcome(Outcome::Requeue));
    assert!(!table.cancel_run(&lease("other", 2)), "it has ended");
}

#[tokio::test(start_paused = true)]
async fn nothing_but_running_tasks_is_claimed_or_shown() {
    let table = table();
    take(&table, &["a"], 1);
    assert!(table.claim_stuck(10, true).items.is_empty());
    assert!(table.running().is_empty());
    assert!(table.lease_of(&key("q", "a"), &token(1)).is_none());
    table.start_ready();
    assert!(table.claim_stuck(10, true).items.is_empty());
    assert!(table.lease_of(&key("q", "a"), &token(1)).is_some());
    assert!(table.lease_of(&key("q", "a"), &token(2)).is_none());
    table.finish(&key("q", "a"), &token(1), done());
    assert_eq!(table.cancel_id(&key("q", "a").1), 0);
    assert!(table.running().is_empty());
    assert!(table.lease_of(&key("q", "a"), &token(1)).is_none());
}

// --- answers -------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn only_an_outcome_without_answer_is_offered_again() {
    let table = table();
    finished(&table, &["ok", "taken over", "damaged", "failed"], 1);
    let claim = table.claim_ended(10);
    let answers = vec![
        Ok(()),
        Err(SettleError::NotOurs),
        Err(SettleError::Poison(PoisonKind::Undecodable)),
        failed(),
    ];
    table.settled(claim.call, &claim.items, answers);
    assert_eq!(table.counts(), counts(0, 0, 1));
    assert!(table.claim_ended(10).items.is_empty(), "the syncer's from now on");
    let again = table.claim_stuck(10, false);
    assert_eq!(ids(&again), ["failed"]);
    assert_eq!(again.items[0].outcome, Outcome::Done { retain: true });
    // As often as it takes.
    table.settled(again.call, &again.items, vec![failed()]);
    assert_eq!(ids(&table.claim_stuck(10, false)), ["failed"]);
}

/// Its place in the line of first offers is void then.
#[tokio::test(start_paused = true)]
async fn an_outcome_whose_first_offer_failed_out_of_turn_is_the_syncers() {
    let table = table();
    finished(&table, &["a"], 1);
    let claim = table.claim_stuck(10, true);
    table.settled(claim.call, &claim.items, vec![failed()]);
    assert!(table.claim_ended(10).items.is_empty());
    assert_eq!(ids(&table.claim_stuck(10, false)), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_speaks_only_for_what_it_holds() {
    let table = table();
    finished(&table, &["a"], 1);
    let first = table.claim_ended(10);
    table.unclaim(first.call, &first.items);
    let second = table.claim_stuck(10, false);
    assert_eq!(ids(&second), ["a"]);
    // The first is heard of only now.
    table.settled(first.call, &first.items, vec![Ok(())]);
    table.unclaim(first.call, &first.items);
    assert_eq!(table.counts(), counts(0, 0, 1));
    assert!(table.claim_stuck(10, true).items.is_empty(), "the second holds it");
    table.settled(second.call, &second.items, vec![Ok(())]);
    assert!(table.counts().is_idle());
    // Nothing comes back from the dead.
    table.unclaim(second.call, &second.items);
    table.settled(second.call, &second.items, vec![failed()]);
    assert!(table.counts().is_idle());
}

#[tokio::test(start_paused = true)]
async fn what_a_call_gave_no_answer_for_goes_back_when_it_ends() {
    let table = table();
    finished(&table, &["a", "b", "c"], 1);
    let claim = table.claim_ended(10);
    table.settled(claim.call, &claim.items, vec![Ok(())]);
    assert!(table.claim_stuck(10, true).items.is_empty(), "not before its end");
    table.unclaim(claim.call, &claim.items);
    let again = table.claim_stuck(10, false);
    assert_eq!(ids(&again), ["c", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_nobody_offers_is_stuck_after_two_seconds() {
    let table = table();
    finished(&table, &["a"], 1);
    pass(1).await;
    finished(&table, &["b"], 2);
    assert!(table.claim_stuck(10, false).items.is_empty());
    pass(1).await;
    assert_eq!(ids(&table.claim_stuck(10, false)), ["a"]);
    assert_eq!(ids(&table.claim_stuck(10, true)), ["b"]);
    assert!(table.claim_ended(10).items.is_empty(), "both are claimed");
    assert_eq!(table.ended_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn stuck_outcomes_are_claimed_the_last_taken_first() {
    let table = table();
    take(&table, &["a", "b", "c", "d"], 1);
    let mut starts = table.start_ready();
    starts.swap(0, 2);
    for start in starts {
        table.finish(&start.key, &start.token, End::Outcome(Outcome::Requeue));
    }
    assert_eq!(ids(&table.claim_stuck(3, true)), ["d", "c", "b"]);
    assert_eq!(ids(&table.claim_stuck(3, true)), ["a"]);
}

// --- the same id again ---------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_take_over_a_waiting_task_is_run_once_under_its_own_token() {
    let table = table();
    take(&table, &["a"], 1);
    take(&table, &["a"], 2);
    assert_eq!(table.free_slots(), SLOTS - 1, "the former slot is free");
    let starts = table.start_ready();
    assert_eq!(started(&starts), ["a"]);
    assert_eq!(starts[0].token, token(2));
    assert!(table.start_ready().is_empty());
    assert_eq!((table.running_count(), table.counts()), (1, counts(0, 1, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_take_over_a_running_task_cancels_the_run_and_hears_no_more_of_it() {
    let table = table();
    take(&table, &["a"], 1);
    let former = table.start_ready().remove(0);
    take(&table, &["a"], 2);
    assert_eq!(former.cancel.reason(), Some(CancelReason::LeaseLost));
    assert!(former.cancel.token.is_cancelled());
    assert_eq!((table.running_count(), table.counts()), (0, counts(1, 0, 0)));
    assert_eq!(table.free_slots(), SLOTS - 2, "its handler has not ended yet");
    let now = table.start_ready().remove(0);
    assert_eq!(now.cancel.reason(), None);
    table.finish(&former.key, &former.token, done());
    drop(former);
    assert_eq!((table.running_count(), table.ended_count()), (1, 0));
    assert_eq!(table.free_slots(), SLOTS - 1);
    table.finish(&now.key, &now.token, done());
    let claim = table.claim_ended(10);
    assert_eq!(claim.items[0].lease.token, token(2));
    assert_eq!(claim.items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_take_over_an_ended_task_drops_its_outcome() {
    for claimed in [false, true] {
        let table = table();
        finished(&table, &["a"], 1);
        let former = if claimed { Some(table.claim_ended(10)) } else { None };
        take(&table, &["a"], 2);
        assert_eq!(table.counts(), counts(1, 0, 0));
        assert!(table.claim_ended(10).items.is_empty() && table.claim_stuck(10, true).items.is_empty());
        let start = table.start_ready().remove(0);
        if let Some(former) = &former {
            table.settled(former.call, &former.items, vec![Err(SettleError::NotOurs)]);
            table.unclaim(former.call, &former.items);
        }
        assert_eq!((table.counts(), table.running_count()), (counts(0, 1, 0), 1));
        table.finish(&start.key, &start.token, done());
        let claim = table.claim_ended(10);
        assert_eq!((claim.items.len(), &claim.items[0].lease.token), (1, &token(2)));
        if let Some(former) = &former {
            table.settled(former.call, &former.items, vec![Ok(())]);
        }
        assert_eq!(
            table.counts(),
            counts(0, 0, 1),
            "the former call knows nothing of this take"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_an_adoption_finds_again_runs_on() {
    let table = table();
    take(&table, &["a", "b", "c"], 1);
    let starts = table.start_ready();
    table.finish(&starts[1].key, &starts[1].token, done());
    table.finish(&starts[2].key, &starts[2].token, End::LeaseLost);
    pass(20).await;
    table.extended_by_adoption(&["a", "b", "c"].map(|id| leased(&table, "q", id, 1)));
    assert_eq!((table.counts(), table.running_count()), (counts(0, 1, 1), 1));
    assert_eq!(starts[0].cancel.reason(), None);
    assert!(table.start_ready().is_empty(), "nothing new");
    // The adoption has written a new lease.
    pass(20).await;
    let leases: HashSet<_> = table.leases().into_iter().map(|lease| lease.id.to_string()).collect();
    assert_eq!(leases, HashSet::from(["a", "b"].map(str::to_owned)));
    let claim = table.claim_ended(10);
    assert_eq!(ids(&claim), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_take_that_is_told_twice_is_one_take() {
    let table = table();
    take(&table, &["a"], 1);
    let twice = || table.insert(vec![leased(&table, "q", "a", 1)], table.try_slots(1));
    twice();
    assert_eq!((table.counts(), table.free_slots()), (counts(1, 0, 0), SLOTS - 1));
    let starts = table.start_ready();
    assert_eq!(started(&starts), ["a"]);
    pass(20).await;
    twice();
    assert!(table.start_ready().is_empty());
    assert_eq!(starts[0].cancel.reason(), None);
    assert_eq!((table.counts(), table.free_slots()), (counts(0, 1, 0), SLOTS - 1));
    pass(20).await;
    assert_eq!(table.leases().len(), 1, "until when the second says");
    table.finish(&starts[0].key, &starts[0].token, done());
    twice();
    assert_eq!((table.counts(), table.running_count()), (counts(0, 0, 1), 0));
    assert!(table.start_ready().is_empty());
    assert_eq!(ids(&table.claim_ended(10)), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_offered_after_what_was_not() {
    let table = table();
    take(&table, &["a", "b", "c"], 1);
    for start in table.start_ready() {
        table.finish(&start.key, &start.token, done());
    }
    // The last taken go first.
    let claim = table.claim_stuck(2, true);
    assert_eq!(ids(&claim), ["c", "b"]);
    table.unclaim(claim.call, &claim.items);
    assert_eq!(ids(&table.claim_stuck(2, true)), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_until_it_is_idle_hears_of_a_task_that_was_never_started() {
    let table = table();
    take(&table, &["a"], 1);
    let mut idle = std::pin::pin!(table.idle());
    assert!(futures::poll!(&mut idle).is_pending());
    pass(40).await;
    assert!(table.start_ready().is_empty(), "its lease is over");
    let claim = table.claim_ended(1);
    assert!(futures::poll!(&mut idle).is_pending(), "it is offered back");
    table.settled(claim.call, &claim.items, vec![Err(SettleError::NotOurs)]);
    tokio::time::timeout(Duration::from_secs(1), idle).await.unwrap();
}

/// In the order in which what is on its way turns into something else.
#[tokio::test(start_paused = true)]
async fn it_is_idle_when_nothing_is_on_its_way() {
    type Act = fn(&Table);

    let table = table();
    let is_idle = || futures::FutureExt::now_or_never(table.idle()).is_some();
    assert!(is_idle());
    assert!(table.call_began());
    assert!(!is_idle(), "a call");
    table.adoption_began();
    table.call_ended(Report::default());
    assert!(!is_idle(), "an adoption");
    table.lookout_began();
    table.adoption_ended();
    assert!(!is_idle(), "what a lost call may yet take");
    assert!(!table.is_waiting(), "which the end of service does not wait for");
    take(&table, &["a"], 1);
    table.lookout_ended();
    assert!(!is_idle(), "a task");
    let run = table.start_ready().remove(0);
    assert!(!is_idle(), "a run");
    table.finish(&run.key, &run.token, done());
    assert!(!is_idle(), "an outcome");
    let claim = table.claim_ended(10);
    assert!(!is_idle(), "an outcome that is being written");
    table.settled(claim.call, &claim.items, vec![failed()]);
    assert!(!is_idle(), "an outcome whose write failed");
    let claim = table.claim_stuck(10, true);
    let mut idle = std::pin::pin!(table.idle());
    assert!(futures::poll!(&mut idle).is_pending());
    table.settled(claim.call, &claim.items, vec![Ok(())]);
    tokio::time::timeout(Duration::from_secs(1), idle).await.unwrap();
    // Who waits is told of each end that nothing follows.
    let pairs: [(Act, Act); 3] = [
        (
            |table| assert!(table.call_began()),
            |table| table.call_ended(Report::default()),
        ),
        (Table::adoption_began, Table::adoption_ended),
        (Table::lookout_began, Table::lookout_ended),
    ];
    for (begin, end) in pairs {
        begin(&table);
        let mut idle = std::pin::pin!(table.idle());
        assert!(futures::poll!(&mut idle).is_pending());
        end(&table);
        tokio::time::timeout(Duration::from_secs(1), idle).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_begins_after_the_stop_of_fetching_takes_nothing() {
    let table = table();
    table.set_fetching(false);
    assert!(!table.call_began());
    assert_eq!(table.calls(), 1, "it may write");
    table.call_ended(Report::default());
    table.set_fetching(true);
    assert!(table.call_began());
    table.set_closing(true);
    assert!(!table.call_began());
}

#[tokio::test(start_paused = true)]
async fn a_late_find_waits_for_a_slot() {
    let table = table();
    let all = table.try_slots(u32::MAX);
    table.insert(["a", "b"].map(|id| leased(&table, "q", id, 1)).into(), None);
    assert!(table.start_ready().is_empty(), "no slot is free");
    drop(all);
    assert_eq!(started(&table.start_ready()), ["a", "b"]);
    assert_eq!(table.free_slots(), SLOTS);
}

#[tokio::test(start_paused = true)]
async fn queues_do_not_share_ids() {
    let table = table();
    for queue in ["x", "y"] {
        table.insert(vec![leased(&table, queue, "a", 1)], table.try_slots(1));
    }
    let starts = table.start_ready();
    assert_eq!(starts.len(), 2);
    assert_eq!(
        table.cancel_id(&TaskId::new("a").unwrap()),
        2,
        "the wire names no queue"
    );
    table.finish(&starts[0].key, &starts[0].token, done());
    assert_eq!(table.counts(), counts(0, 1, 1));
    assert_eq!(table.cancel_id(&TaskId::new("b").unwrap()), 0);
}

// --- cancelling ----------------------------------------------------------------------------

#[test]
fn the_first_reason_stands_but_for_the_loss_of_the_lease() {
    let cancel = Cancel::default();
    assert_eq!(cancel.reason(), None);
    cancel.cancel(CancelReason::Shutdown);
    cancel.cancel(CancelReason::Requested);
    assert_eq!(cancel.reason(), Some(CancelReason::Shutdown));
    cancel.cancel(CancelReason::LeaseLost);
    cancel.cancel(CancelReason::Requested);
    assert_eq!(cancel.reason(), Some(CancelReason::LeaseLost));
    assert!(cancel.token.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn all_that_runs_can_be_cancelled_and_aborted() {
    let table = Arc::new(table());
    take(&table, &["a", "b"], 1);
    let starts = table.start_ready();
    let mut runs = tokio::task::JoinSet::new();
    for start in &starts {
        let abort = runs.spawn(std::future::pending::<()>());
        // The handle of another take is none of ours.
        let stranger = runs.spawn(async {});
        table.set_abort(&start.key, &start.token, abort);
        table.set_abort(&start.key, &token(9), stranger);
    }
    take(&table, &["c"], 2);
    table.cancel_running(CancelReason::Shutdown);
    assert!(
        starts
            .iter()
            .all(|start| start.cancel.reason() == Some(CancelReason::Shutdown))
    );
    assert_eq!(table.start_ready()[0].cancel.reason(), None, "it did not run yet");
    table.abort_running();
    let mut aborted = 0;
    while let Some(end) = runs.join_next().await {
        aborted += usize::from(end.is_err_and(|error| error.is_cancelled()));
    }
    assert_eq!(aborted, 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_started_is_given_back_the_last_taken_first() {
    let table = table();
    take(&table, &["a"], 1);
    let running = table.start_ready();
    take(&table, &["b", "c", "d"], 2);
    table.give_back_ready();
    assert!(table.start_ready().is_empty());
    assert_eq!((table.counts(), table.free_slots()), (counts(0, 1, 3), SLOTS - 1));
    let claim = table.claim_ended(10);
    assert_eq!(ids(&claim), ["d", "c", "b"]);
    assert!(claim.items.iter().all(|item| item.outcome == Outcome::Requeue));
    table.unclaim(claim.call, &claim.items);
    assert_eq!(
        ids(&table.claim_stuck(10, true)),
        ["d", "c", "b"],
        "in whichever way it is claimed"
    );
    assert_eq!(running[0].cancel.reason(), None);
}

// --- signals -------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_of_ends_of_runs_and_calls() {
    let table = table();
    let told = async |act: &dyn Fn()| {
        let mut changed = std::pin::pin!(table.changed());
        changed.as_mut().enable();
        act();
        tokio::time::timeout(Duration::from_secs(1), changed).await.is_ok()
    };
    take(&table, &["a"], 1);
    let run = table.start_ready().remove(0);
    assert!(!told(&|| {}).await);
    assert!(told(&|| table.finish(&run.key, &run.token, done())).await);
    let claim = table.claim_ended(10);
    assert!(told(&|| table.settled(claim.call, &claim.items, vec![Ok(())])).await);
    assert!(table.call_began(), "may take tasks");
    assert_eq!(table.calls(), 1);
    let report = || Report {
        leased: 3,
        exhausted: vec![key("q", "a").0],
    };
    assert!(told(&|| table.call_ended(report())).await);
    assert_eq!(table.calls(), 0);
    let reports = table.reports();
    assert_eq!((reports.len(), reports[0].leased), (1, 3));
    assert!(table.reports().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whether_tasks_are_taken_is_remembered() {
    let table = table();
    assert!(table.is_fetching());
    table.set_fetching(false);
    assert!(!table.is_fetching());
}
