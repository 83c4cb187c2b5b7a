//! Runs that the table ends, as it tells them for the record of their tasks.

use super::*;

fn server() -> Arc<ServerIdentity> {
    Arc::new(ServerIdentity {
        host: "h".to_owned(),
        pid: 7,
        server_id: "s".to_owned(),
    })
}

/// Takes a task with this retention, starts it, and ends it after a second.
async fn ended(table: &Table, retention: i64, end: End) -> Settlement {
    let mut task = leased(table, "q", "a", 1);
    Arc::make_mut(&mut task.message).retention = retention;
    table.insert(vec![task], table.try_slots(1));
    let start = table.start_ready().remove(0);
    tokio::time::advance(Duration::from_secs(1)).await;
    table.finish(&start.key, &start.token, end);
    // The outcome is offered a while after the end.
    tokio::time::advance(Duration::from_secs(5)).await;
    let claim = table.claim_ended(10);
    table.settled(claim.call, &claim.items, vec![failed()]);
    let again = table.claim_stuck(10, true);
    assert_eq!(again.items[0].run, claim.items[0].run, "offered again");
    table.settled(again.call, &again.items, vec![Ok(())]);
    claim.items.into_iter().next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_leaves_its_task_tells_its_times_and_its_server() {
    let table = table().of_server(server());
    let retry = Outcome::Retry {
        at: table.now(),
        error: "no".to_owned(),
        is_failure: true,
    };
    let archive = Outcome::Archive { error: "no".to_owned() };
    let ends = [
        (0, retry),
        (0, archive),
        (0, Outcome::Requeue),
        (60, Outcome::Done { retain: true }),
    ];
    for (retention, outcome) in ends {
        let began = table.now();
        let settlement = ended(&table, retention, End::Outcome(outcome)).await;
        let run = settlement.run.unwrap();
        assert_eq!(run.server, Some(server()));
        assert_eq!(run.started, Some(began));
        assert_eq!(run.ended, Some(began + chrono::TimeDelta::seconds(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_is_not_kept_and_a_task_that_was_not_run_tell_nothing() {
    let table = table().of_server(server());
    for (retention, retain) in [(0, true), (60, false)] {
        let end = End::Outcome(Outcome::Done { retain });
        assert_eq!(ended(&table, retention, end).await.run, None);
    }
    let later = Outcome::Retry {
        at: table.now(),
        error: "no handler".to_owned(),
        is_failure: false,
    };
    assert_eq!(ended(&table, 60, End::PutBack(later)).await.run, None);

    take(&table, &["b"], 2);
    table.give_back_ready();
    let claim = table.claim_ended(10);
    assert_eq!((ids(&claim), &claim.items[0].run), (vec!["b"], &None));
}
