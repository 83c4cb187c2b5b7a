//! Tasks that are taken ahead of the slots.

use super::{super::permits::AHEAD, *};

const PLACES: usize = 4;

fn table() -> Table {
    super::table().taking_ahead(PLACES)
}

/// Takes tasks with so many slots and as many places as are left.
fn take_with(table: &Table, ids: &[&str], slots: u32, take: u64) {
    let permits = Permits {
        slots: table.try_slots(slots),
        ahead: table.try_ahead(u32::try_from(ids.len()).unwrap() - slots),
    };
    table.enter(ids.iter().map(|id| leased(table, "q", id, take)).collect(), permits);
}

/// Ends the only run.
fn end(table: &Table, mut starts: Vec<Start>) {
    assert_eq!(starts.len(), 1);
    let run = starts.remove(0);
    drop(run.permit);
    table.finish(&run.key, &run.token, done());
}

fn full_but_for_one(table: &Table) -> OwnedSemaphorePermit {
    table.try_slots(u32::try_from(SLOTS - 1).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_slot_that_comes_free_starts_the_next_of_them() {
    let table = table();
    let _others = full_but_for_one(&table);
    take_with(&table, &["a", "b", "c"], 1, 1);
    assert_eq!(table.free_ahead(), PLACES - 2);
    let starts = table.start_ready();
    assert_eq!(started(&starts), ["a"]);
    assert!(table.start_ready().is_empty());
    end(&table, starts);
    let starts = table.start_ready();
    assert_eq!((started(&starts), table.free_ahead()), (vec!["b"], PLACES - 1));
    end(&table, starts);
    end(&table, table.start_ready());
    let look = table.look_ahead(false);
    assert_eq!((look.started, look.given_back, look.next), (2, 0, None));
    assert_eq!(table.free_ahead(), PLACES);
}

/// As after the process stood still: nobody has looked at them meanwhile.
#[tokio::test(start_paused = true)]
async fn none_starts_after_its_time() {
    let table = table();
    let _others = full_but_for_one(&table);
    take_with(&table, &["a", "b", "c"], 1, 1);
    let starts = table.start_ready();
    tokio::time::advance(AHEAD).await;
    end(&table, starts);
    assert!(table.start_ready().is_empty());
    assert_eq!(ids(&table.claim_ended(10)), ["a", "c", "b"]);
    assert_eq!((table.free_slots(), table.free_ahead()), (1, PLACES));
    assert_eq!(table.look_ahead(false).given_back, 2);
    assert_eq!(table.look_ahead(false), AheadLook::default());
}

/// A late call gives up its permits. Its tasks wait no longer than others that have no slot.
#[tokio::test(start_paused = true)]
async fn what_a_late_call_took_goes_back_as_what_was_taken_ahead_does() {
    let table = table();
    let others = table.try_slots(u32::try_from(SLOTS).unwrap());
    table.insert(vec![leased(&table, "q", "a", 1), leased(&table, "q", "b", 1)], None);
    assert!(table.start_ready().is_empty());
    let due = table.look_ahead(false).next.unwrap();
    assert_eq!(due - tokio::time::Instant::now(), AHEAD);
    tokio::time::advance(AHEAD).await;
    assert_eq!(table.look_ahead(false).given_back, 2);
    assert_eq!(ids(&table.claim_ended(10)), ["b", "a"]);
    drop(others);
}

/// Without them it waits until there is a slot.
#[tokio::test(start_paused = true)]
async fn what_a_late_call_took_waits_where_none_are_taken_ahead() {
    let table = super::table();
    let others = table.try_slots(u32::try_from(SLOTS).unwrap());
    table.insert(vec![leased(&table, "q", "a", 1)], None);
    tokio::time::advance(3 * AHEAD).await;
    assert!(table.start_ready().is_empty());
    assert_eq!(table.look_ahead(false), AheadLook::default());
    drop(others);
    assert_eq!(started(&table.start_ready()), ["a"]);
}

/// Others see by its first lease that it was never started.
#[tokio::test(start_paused = true)]
async fn none_has_its_lease_extended_while_it_may_start() {
    let table = table();
    let _others = full_but_for_one(&table);
    take_with(&table, &["a", "b"], 1, 1);
    let starts = table.start_ready();
    let leases = |table: &Table| {
        let leases = table.leases().into_iter();
        leases.map(|lease| lease.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(leases(&table), ["a"]);
    // One that is to be cancelled goes back to nobody.
    assert_eq!(table.cancel_id(&TaskId::new("b").unwrap()), 1);
    pass(14).await;
    assert_eq!(table.look_ahead(true), AheadLook::default());
    assert_eq!(leases(&table), ["a"]);
    pass(2).await;
    let mut both = leases(&table);
    both.sort();
    assert_eq!(both, ["a", "b"]);
    end(&table, starts);
    assert_eq!(started(&table.start_ready()), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_all_go_back_in_the_order_of_the_take() {
    let table = table();
    let others = table.try_slots(u32::try_from(SLOTS - 2).unwrap());
    take_with(&table, &["a", "b", "c", "d"], 2, 1);
    drop(others);
    take_with(&table, &["e"], 1, 2);
    table.set_closing(true);
    assert!(table.start_ready().is_empty());
    table.give_back_ready();
    assert_eq!(ids(&table.claim_ended(10)), ["e", "d", "c", "b", "a"]);
    assert_eq!((table.free_slots(), table.free_ahead()), (SLOTS, PLACES));
}

/// The order in which they came is that in which their tasks were taken last, or the first in line would hide how long
/// the others wait.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_taken_anew_waits_at_the_end_of_the_line() {
    let table = table();
    let others = table.try_slots(u32::try_from(SLOTS).unwrap());
    take_with(&table, &["a", "b"], 0, 1);
    tokio::time::advance(AHEAD / 2).await;
    take_with(&table, &["a"], 0, 2);
    assert!(table.start_ready().is_empty());
    tokio::time::advance(AHEAD / 2).await;
    assert_eq!(table.look_ahead(false).given_back, 2);
    assert_eq!(ids(&table.claim_ended(10)), ["a", "b"]);
    drop(others);
}
