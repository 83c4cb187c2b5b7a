//! Leases: how long they are renewed, what their loss does, and the fence that goes with each write.

use asynq_core::broker::RECOVER_GRACE;

use super::*;

/// The lease that is known to stand; its second belongs to it.
fn stands_until(table: &Table, start: &Start) -> LeaseUntil {
    LeaseUntil((table.clock.now() + start.valid.left()).timestamp() - 1)
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_lease_has_ended_is_not_started_but_offered_back() {
    let table = table();
    take(&table, &["a", "c"], 1);
    pass(29).await;
    take(&table, &["b"], 2);
    // A lease lasts to the end of its second.
    pass(2).await;
    let taken_until = table.lock().entries[&key("q", "a")].lease.until;
    assert_eq!(started(&table.start_ready()), ["b"]);
    assert_eq!((table.counts(), table.free_slots()), (counts(0, 1, 2), SLOTS));
    assert!(table.leases().len() == 1, "they are not kept");
    let claim = table.claim_ended(10);
    assert_eq!(ids(&claim), ["c", "a"], "the last taken goes back first");
    for item in &claim.items {
        assert_eq!((&item.outcome, item.lease.until), (&Outcome::Requeue, taken_until));
    }
    // One was recovered meanwhile, the other is in its queue again.
    table.settled(claim.call, &claim.items, vec![Err(SettleError::NotOurs), Ok(())]);
    assert_eq!(table.counts(), counts(0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn leases_are_extended_from_the_take_until_the_outcome_is_written() {
    let table = table();
    let renewed = || {
        let leases = table.leases();
        table.extended(
            &leases,
            leases
                .iter()
                .map(|_| Ok(LeaseUntil::from_now(table.clock.now())))
                .collect(),
        );
        leases.len()
    };
    take(&table, &["a"], 1);
    assert_eq!(renewed(), 1, "leased");
    pass(20).await;
    let start = table.start_ready().remove(0);
    assert_eq!(renewed(), 1, "running");
    pass(20).await;
    assert_eq!(renewed(), 1, "beyond its first lease");
    assert_eq!(stands_until(&table, &start), LeaseUntil::from_now(table.clock.now()));
    table.finish(&start.key, &start.token, done());
    assert_eq!(renewed(), 1, "finished");
    let claim = table.claim_ended(10);
    assert_eq!(renewed(), 1, "claimed");
    table.settled(claim.call, &claim.items, vec![Ok(())]);
    assert_eq!(renewed(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_ended_task_is_kept_for_two_minutes_and_its_outcome_offered_for_ever() {
    let table = table();
    finished(&table, &["a"], 1);
    let renew = || {
        let leases = table.leases();
        table.extended(
            &leases,
            leases
                .iter()
                .map(|_| Ok(LeaseUntil::from_now(table.clock.now())))
                .collect(),
        );
        leases.len()
    };
    for beat in 0..12 {
        assert_eq!(renew(), 1, "{beat}");
        pass(10).await;
    }
    assert_eq!(renew(), 0);
    pass(3600).await;
    assert_eq!(renew(), 0);
    assert_eq!(ids(&table.claim_stuck(10, false)), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_has_ended_is_not_extended() {
    let table = table();
    take(&table, &["a", "b"], 1);
    table.start_ready();
    pass(30).await;
    assert_eq!(table.leases().len(), 2, "its last second");
    pass(1).await;
    assert!(table.leases().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_task_is_not_extended_any_more_and_may_end() {
    let table = table();
    take(&table, &["a", "b"], 1);
    let starts = table.start_ready();
    let leases = table.leases();
    let answers = leases.iter().map(|lease| match lease.id.as_str() {
        "a" => Err(SettleError::Poison(PoisonKind::Undecodable)),
        _ => Err(SettleError::Broker(BrokerError::Closed)),
    });
    table.extended(&leases, answers.collect());
    let next: Vec<_> = table.leases().into_iter().map(|lease| lease.id.to_string()).collect();
    assert_eq!(next, ["b"]);
    assert!(starts.iter().all(|start| start.cancel.reason().is_none()));
    table.finish(&starts[0].key, &starts[0].token, done());
    assert_eq!(ids(&table.claim_ended(10)), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_cancels_the_run_and_drops_what_was_not_started() {
    let table = table();
    finished(&table, &["claimed"], 1);
    let claim = table.claim_ended(10);
    finished(&table, &["finished"], 1);
    take(&table, &["running"], 1);
    let run = table.start_ready().remove(0);
    take(&table, &["leased"], 1);
    let leases = table.leases();
    assert_eq!(leases.len(), 4);
    table.extended(&leases, leases.iter().map(|_| Err(SettleError::NotOurs)).collect());
    assert_eq!(run.cancel.reason(), Some(CancelReason::LeaseLost));
    assert!(table.start_ready().is_empty(), "it is another's");
    assert_eq!(table.counts(), counts(0, 1, 2), "outcomes have their own answers");
    assert_eq!(table.free_slots(), SLOTS - 1);
    table.finish(&run.key, &run.token, End::LeaseLost);
    assert_eq!(table.counts(), counts(0, 0, 2));
    assert_eq!(ids(&table.claim_ended(10)), ["finished"]);
    table.settled(claim.call, &claim.items, vec![Err(SettleError::NotOurs)]);
    assert_eq!(table.counts(), counts(0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_former_take_says_nothing_about_this_one() {
    let table = table();
    take(&table, &["a", "gone"], 1);
    let leases = table.leases();
    for start in table.start_ready() {
        table.finish(&start.key, &start.token, End::LeaseLost);
    }
    take(&table, &["a"], 2);
    let run = table.start_ready().remove(0);
    table.extended(&leases, leases.iter().map(|_| Err(SettleError::NotOurs)).collect());
    table.extended(&leases, leases.iter().map(|_| Ok(LeaseUntil(i64::MAX))).collect());
    assert_eq!(run.cancel.reason(), None);
    assert_eq!(stands_until(&table, &run), LeaseUntil::from_now(table.clock.now()));
    assert_eq!(table.counts(), counts(0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_never_shortens_a_lease() {
    let table = table();
    take(&table, &["a"], 1);
    let run = table.start_ready().remove(0);
    let leases = table.leases();
    let now = table.clock.now().timestamp();
    table.extended(&leases, vec![Ok(LeaseUntil(now + 50))]);
    table.extended(&leases, vec![Ok(LeaseUntil(now + 40))]);
    assert_eq!(stands_until(&table, &run), LeaseUntil(now + 50));
    assert!(table.lease_of(&run.key, &run.token).unwrap().until >= LeaseUntil(now + 50));
}

/// The fence lets pass whatever an extension of ours may have written, and nothing that another
/// owner can have written.
#[tokio::test(start_paused = true)]
async fn the_fence_lies_between_our_leases_and_anothers() {
    let table = table();
    take(&table, &["a"], 1);
    let taken = table.clock.now();
    let run = table.start_ready().remove(0);
    // An extension is under way, written at any time while the lease stands; its answer is lost.
    pass(25).await;
    let sent = table.leases().remove(0);
    let written = LeaseUntil::from_now(table.clock.now());
    assert!(
        sent.until >= written,
        "an extension repeated after a lost answer passes"
    );
    pass(3).await;
    let written_late = LeaseUntil::from_now(table.clock.now());
    table.finish(&run.key, &run.token, done());
    let claim = table.claim_ended(10);
    assert!(claim.items[0].lease.until >= written_late);
    table.settled(claim.call, &claim.items, vec![failed()]);
    // The lease ends, the task is recovered and taken by a Go server as early as can be.
    let ours = taken + LEASE;
    let anothers = LeaseUntil::from_now(ours + RECOVER_GRACE);
    for _ in 0..200 {
        pass(1).await;
        let claim = table.claim_stuck(10, false);
        assert!(
            claim.items[0].lease.until < anothers,
            "{:?} < {anothers:?}",
            claim.items[0].lease.until
        );
        table.settled(claim.call, &claim.items, vec![failed()]);
        assert!(table.leases().iter().all(|lease| lease.until < anothers));
    }
}

#[tokio::test(start_paused = true)]
async fn the_fence_is_never_lowered() {
    let table = table();
    take(&table, &["a"], 1);
    let run = table.start_ready().remove(0);
    let mut highest = LeaseUntil(0);
    for _ in 0..40 {
        let fence = table.lease_of(&run.key, &run.token).unwrap().until;
        assert!(fence >= highest);
        highest = fence;
        pass(1).await;
    }
}

/// The claim that an extension names is a fence above every lease: an answer that nothing was written
/// must not make it the lease that stands.
#[tokio::test(start_paused = true)]
async fn an_extension_that_finds_no_lease_raises_nothing() {
    let table = table();
    take(&table, &["a"], 1);
    let until = stands_until(&table, &table.start_ready().remove(0));
    pass(25).await;
    let leases = table.leases();
    assert!(leases[0].until > until, "a fence");
    table.extended(&leases, vec![Err(SettleError::NoLease)]);
    pass(7).await;
    assert!(table.leases().is_empty(), "the lease of the take has ended");
    assert_eq!(table.counts(), counts(0, 1, 0), "the run ends by itself");
}

/// A call may be under way for so long that leases are extended beyond the fence that it carries.
#[tokio::test(start_paused = true)]
async fn an_outcome_refused_under_an_old_fence_is_offered_again() {
    let table = table();
    finished(&table, &["a"], 1);
    let claim = table.claim_ended(10);
    // An extension that waited for its connection names the time at which it is sent.
    pass(10).await;
    let leases = table.leases();
    assert_eq!(leases.len(), 1);
    pass(10).await;
    table.extended(&leases, vec![Ok(LeaseUntil::from_now(table.clock.now()))]);
    table.settled(claim.call, &claim.items, vec![Err(SettleError::NotOurs)]);
    let again = table.claim_stuck(10, false);
    assert_eq!(ids(&again), ["a"]);
    assert!(again.items[0].lease.until > claim.items[0].lease.until);
    table.settled(again.call, &again.items, vec![Err(SettleError::NotOurs)]);
    assert_eq!(table.counts(), counts(0, 0, 0), "taken over");
}

/// Extends what is to be extended: how many, and until when.
fn extend(table: &Table) -> (usize, LeaseUntil) {
    let leases = table.leases();
    let until = LeaseUntil::from_now(table.clock.now());
    table.extended(&leases, leases.iter().map(|_| Ok(until)).collect());
    (leases.len(), until)
}

/// Extensions travel apart, so they may overtake a result that was sent before them.
#[tokio::test(start_paused = true)]
async fn no_extension_passes_the_fence_of_a_result_that_is_on_its_way() {
    let table = Arc::new(table());
    take(&table, &["a"], 1);
    let start = table.start_ready().remove(0);
    let lease = table.lease_of(&start.key, &start.token).unwrap();
    let writing = table.writing(&start.key, &lease);
    for _ in 0..4 {
        let (count, until) = extend(&table);
        assert_eq!(count, 1);
        assert!(until <= lease.until);
        pass(5).await;
    }
    assert_eq!(extend(&table).0, 0, "it would be above the fence");
    drop(writing);
    assert_eq!(extend(&table).0, 1, "it has arrived");
    assert!(table.raised(&start.key, &lease));
}

/// A retained task is written whole when it is done, which may take as long.
#[tokio::test(start_paused = true)]
async fn no_extension_passes_the_fence_of_an_outcome_that_is_on_its_way() {
    let table = table();
    finished(&table, &["a"], 1);
    let claim = table.claim_ended(10);
    let fence = claim.items[0].lease.until;
    for _ in 0..4 {
        let (count, until) = extend(&table);
        assert_eq!(count, 1);
        assert!(until <= fence);
        pass(5).await;
    }
    assert_eq!(extend(&table).0, 0, "it would be above the fence");
    table.settled(claim.call, &claim.items, vec![failed()]);
    assert_eq!(extend(&table).0, 1, "it has not arrived");
}
