//! An operator asks for the run of a task to end, and says what becomes of the task.

use asynq_core::{
    Cancelled, Then,
    broker::{LeasedTask, Recovery},
    error::PoisonKind,
    message,
};

use super::kit::*;
use crate::request::RequestBuilder;

async fn cancel(fx: &Fixture, name: &str, then: Then) -> Result<Cancelled, BrokerError> {
    fx.storage.cancel_task(&queue(Q), &id(name), then).await
}

async fn kept(fx: &Fixture, name: &str, then: Then) {
    assert_eq!(cancel(fx, name, then).await.unwrap(), Cancelled::Kept);
}

/// A task that runs and is asked to end.
async fn cancelled(fx: &Fixture, new: RequestBuilder, then: Then) -> LeasedTask {
    let task = fx.running(new).await;
    kept(fx, &task.message.id, then).await;
    task
}

/// All outcomes but success and revocation.
fn failures(fx: &Fixture) -> [Outcome; 4] {
    let no_failure = Outcome::Retry {
        at: fx.after(60),
        error: "not now".into(),
        is_failure: false,
    };
    [retry(fx.after(60)), no_failure, archive(), Outcome::Requeue]
}

async fn counters(fx: &Fixture) -> [i64; 2] {
    let raw = fx.raw().await;
    ["processed", "failed"].map(|name| raw.string(name).map_or(0, |text| text.parse().unwrap()))
}

/// One field of our own beside the token of the run; the task is as active as before, and all hear its id.
pub(super) async fn a_request_is_kept_and_told(fx: &Fixture) {
    let other = fx.connect().await;
    let mut heard = other.subscribe_cancellations().await.unwrap();
    let task = fx.running(request(Q, "a")).await;
    let before = fx.raw().await;
    for then in Then::ALL {
        kept(fx, "a", then).await;
        assert_eq!(heard.next().await, Some(id("a")));
        let raw = fx.raw().await;
        assert_eq!(raw.task("a").names(), ["msg", "state", "x:cancel", "x:enq", "x:take"]);
        let value = format!("{then} {}", task.lease.token.as_str());
        assert_eq!(raw.task("a").field("x:cancel"), Some(value));
    }
    fx.edit(|state| set_field(state, "a", "x:cancel", None)).await;
    before.assert_same(&fx.raw().await);
}

/// Whatever short of success the run came to; one that is given back says why it ended.
pub(super) async fn a_cancelled_task_is_archived(fx: &Fixture) {
    for (n, outcome) in failures(fx).into_iter().enumerate() {
        let name = format!("id{n}");
        let new = request(Q, &name).payload(name.clone()).unique(Duration::from_secs(600));
        let task = cancelled(fx, new, Then::Archive).await;
        let expected = match &outcome {
            Outcome::Retry { error, is_failure, .. } => message::failed(&task.message, error, fx.secs(), *is_failure),
            Outcome::Archive { error } => message::failed(&task.message, error, fx.secs(), false),
            _ => message::failed(&task.message, "context canceled", fx.secs(), false),
        };
        let before = counters(fx).await;
        fx.settled(&task, outcome).await;
        let raw = fx.raw().await;
        let stored = raw.task(&name);
        assert_eq!(
            (stored.state().as_str(), stored.names()),
            ("archived", vec!["msg", "state", "unique_key", "x:enq"])
        );
        assert_eq!(stored.message(), expected);
        assert!(raw.zset("archived").contains(&(name.clone(), fx.secs())));
        for container in ["active", "pending"] {
            assert_eq!(raw.list(container), [""; 0]);
        }
        assert_eq!((raw.zset("retry").len(), raw.zset("lease").len()), (0, 0));
        assert_eq!(counters(fx).await, [before[0] + 1, before[1] + 1]);
        assert_eq!(raw.string(&task.message.unique_key[key("").len()..]), Some(name));
    }
}

/// The lock is free for the next one; it counts as processed, as a revoked task.
pub(super) async fn a_cancelled_task_is_deleted_with_its_lock(fx: &Fixture) {
    for (n, outcome) in failures(fx).into_iter().enumerate() {
        let new = || request(Q, "a").unique(Duration::from_secs(600)).retention(60);
        let task = cancelled(fx, new(), Then::Delete).await;
        fx.settled(&task, outcome).await;
        let raw = fx.raw().await;
        let left: Vec<_> = raw
            .q()
            .suffixes()
            .into_iter()
            .filter(|suffix| !suffix.starts_with("processed"))
            .collect();
        assert_eq!(left, [""; 0]);
        assert_eq!(counters(fx).await, [n as i64 + 1, 0]);
    }
}

/// As without the request.
pub(super) async fn a_cancelled_task_is_retried(fx: &Fixture) {
    for (n, outcome) in failures(fx).into_iter().enumerate() {
        let (name, plain) = (format!("a{n}"), format!("b{n}"));
        let task = cancelled(fx, request(Q, &name), Then::Retry).await;
        fx.settled(&task, outcome.clone()).await;
        // One that was given back is taken again, and out of the way.
        let again = fx.take(1).await;
        let other = fx.running(request(Q, &plain)).await;
        fx.settled(&other, outcome).await;
        let other = fx.take(1).await;
        assert_eq!(again.len(), other.len());
        let raw = fx.raw().await;
        let (a, b) = (raw.task(&name), raw.task(&plain));
        assert_eq!((a.names(), a.state()), (b.names(), b.state()));
        for task in again.iter().chain(&other) {
            fx.settled(task, DONE).await;
        }
    }
}

/// A run that succeeds in spite of the request, or revokes its task, ends as it says.
pub(super) async fn success_and_revocation_win(fx: &Fixture) {
    for then in [Then::Archive, Then::Delete] {
        let task = cancelled(fx, request(Q, "a").retention(60), then).await;
        fx.settled(&task, DONE).await;
        let raw = fx.raw().await;
        assert_eq!(raw.task("a").state(), "completed");
        assert_eq!(raw.task("a").names(), ["msg", "state", "x:enq"]);
        fx.advance(61);
        assert_eq!(fx.storage.delete_expired(&queue(Q), 10).await.unwrap(), 1);
        let task = cancelled(fx, request(Q, "a").retention(60), then).await;
        fx.settled(&task, Outcome::Done { retain: false }).await;
        assert!(!fx.raw().await.has_task("a"));
    }
    assert_eq!(counters(fx).await, [4, 0]);
}

/// A later request takes the place of an earlier one.
pub(super) async fn the_last_request_counts(fx: &Fixture) {
    let task = cancelled(fx, request(Q, "a"), Then::Delete).await;
    kept(fx, "a", Then::Archive).await;
    kept(fx, "a", Then::Retry).await;
    fx.settled(&task, retry(fx.after(60))).await;
    assert_eq!(fx.raw().await.task("a").state(), "retry");
}

/// Whoever was not listening hears of it when the lease is extended, on the connection that extends it, each time
/// for as long as the request is kept.
pub(super) async fn a_request_is_heard_again_with_each_extension(fx: &Fixture) {
    let task = cancelled(fx, request(Q, "a"), Then::Retry).await;
    let plain = fx.running(request(Q, "b")).await;
    let other = fx.connect().await;
    let mut strange = other.subscribe_cancellations().await.unwrap();
    let mut heard = fx.storage.subscribe_cancellations().await.unwrap();
    let leases = vec![plain.lease.clone(), task.lease.clone()];
    for _ in 0..2 {
        for answer in fx.storage.extend_leases(leases.clone()).await {
            answer.unwrap();
        }
        // That run alone is meant, and not one of the same id in another queue, or a later one.
        let again = heard.request().await.unwrap();
        assert_eq!(again.id, id("a"));
        let run = again.run.unwrap();
        assert_eq!(
            (run.queue, run.token),
            (task.lease.queue.clone(), task.lease.token.clone())
        );
    }
    fx.settled(&task, Outcome::Requeue).await;
    let again = fx.take_one().await;
    for answer in fx.storage.extend_leases(vec![again.lease, plain.lease]).await {
        answer.unwrap();
    }
    fx.storage.publish_cancellation(&id("last")).await.unwrap();
    let last = heard.request().await.unwrap();
    assert!(last.id == id("last") && last.run.is_none(), "{last:?}");
    assert_eq!(strange.next().await, Some(id("last")));
}

/// The field means nothing for another run: not after a retry, and not where a Go server, which does not
/// know it, recovered the task.
pub(super) async fn a_request_is_for_one_run(fx: &Fixture) {
    let task = cancelled(fx, request(Q, "a"), Then::Retry).await;
    fx.settled(&task, retry(fx.now())).await;
    let due = fx.secs();
    for field in ["x:take", "x:cancel"] {
        let value = match field {
            "x:take" => task.lease.token.as_str().to_owned(),
            _ => Then::Archive.encode(task.lease.token.as_str()),
        };
        fx.edit(|state| set_field(state, "a", field, Some(bytes(value)))).await;
    }
    assert_eq!(fx.raw().await.zset("retry"), [("a".to_owned(), due)]);
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    let task = fx.take_one().await;
    assert_eq!(fx.raw().await.task("a").names(), ["msg", "state", "x:enq", "x:take"]);
    let of_another = Then::Archive.encode(&format!("{}0", task.lease.token.as_str()));
    fx.edit(|state| set_field(state, "a", "x:cancel", Some(bytes(of_another))))
        .await;
    fx.settled(&task, retry(fx.after(60))).await;
    assert_eq!(fx.raw().await.task("a").state(), "retry");
}

/// The server died: who recovers the task does as was asked for, in whatever way the task would have come back.
pub(super) async fn a_request_survives_its_server(fx: &Fixture) {
    for (n, (then, outcome)) in [
        (Then::Archive, retry(fx.after(60))),
        (Then::Archive, Outcome::Requeue),
        (Then::Delete, retry(fx.after(60))),
        (Then::Delete, Outcome::Requeue),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("id{n}");
        cancelled(fx, request(Q, &name), then).await;
        fx.advance(61);
        let expired = fx.storage.expired(&queue(Q), Duration::ZERO, 10).await.unwrap();
        let batch = expired.tasks.into_iter().map(|task| Recovery {
            task,
            outcome: outcome.clone(),
        });
        for answer in fx.storage.recover(batch.collect()).await {
            answer.unwrap();
        }
        let raw = fx.raw().await;
        match then {
            Then::Archive => {
                assert_eq!(raw.task(&name).state(), "archived");
                assert_eq!(raw.task(&name).names(), ["msg", "state", "x:enq", "x:runs"]);
            }
            _ => assert!(!raw.has_task(&name)),
        }
        assert_eq!((raw.list("pending").len(), raw.zset("retry").len()), (0, 0));
    }
}

/// A Go server, which leaves the fields of ours as they are, recovered the task of a server that died, took it, and died
/// as well: the request was for the run before.
pub(super) async fn a_request_does_not_outlive_a_run_that_a_go_server_recovered(fx: &Fixture) {
    for (n, then) in [Then::Archive, Then::Delete].into_iter().enumerate() {
        let name = format!("id{n}");
        let task = cancelled(fx, request(Q, &name), then).await;
        let again = message::failed(&task.message, "asynq: task lease expired", fx.secs() + 60, true);
        fx.edit(|state| set_field(state, &name, "msg", Some(message::encode(&again))))
            .await;
        fx.advance(61);
        let expired = fx.storage.expired(&queue(Q), Duration::ZERO, 10).await.unwrap();
        assert_eq!(expired.tasks.len(), 1);
        let batch = expired.tasks.into_iter().map(|task| Recovery {
            task,
            outcome: retry(fx.after(60)),
        });
        for answer in fx.storage.recover(batch.collect()).await {
            answer.unwrap();
        }
        let raw = fx.raw().await;
        assert_eq!(raw.task(&name).state(), "retry", "{then}");
        for field in ["x:take", "x:cancel"] {
            assert_eq!(raw.task(&name).field(field), None);
        }
        // While a Go server runs it, a request is not kept.
        let task = cancelled(fx, request(Q, &format!("other{n}")), then).await;
        let again = message::failed(&task.message, "asynq: task lease expired", fx.secs() + 60, true);
        fx.edit(|state| set_field(state, &task.message.id, "msg", Some(message::encode(&again))))
            .await;
        assert_eq!(cancel(fx, &task.message.id, then).await.unwrap(), Cancelled::Told);
        assert_eq!(fx.raw().await.task(&task.message.id).field("x:cancel"), None);
        fx.settled(&task, DONE).await;
    }
}

/// The answer of the take was lost, and the request came before the task was found again.
pub(super) async fn a_request_survives_an_adoption(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    let call = fx.storage.begin();
    let want = vec![Want {
        queue: queue(Q),
        max: 1,
    }];
    drop(fx.storage.exchange(&call, &[], &want).await);
    kept(fx, "a", Then::Archive).await;
    let task = fx.storage.adopt(&queue(Q), &call).await.unwrap().remove(0);
    fx.settled(&task, retry(fx.after(60))).await;
    assert_eq!(fx.raw().await.task("a").state(), "archived");
}

/// Nobody is told, and nothing changes.
pub(super) async fn a_task_that_is_not_active_is_refused(fx: &Fixture) {
    let mut heard = fx.storage.subscribe_cancellations().await.unwrap();
    let states = [
        TaskState::Retry,
        TaskState::Archived,
        TaskState::Completed,
        TaskState::Scheduled,
        TaskState::Aggregating,
        TaskState::Pending,
    ];
    for state in states {
        fx.task_in(state.as_str(), state).await;
    }
    let before = fx.raw().await;
    for state in states {
        match cancel(fx, state.as_str(), Then::Delete).await {
            Err(BrokerError::WrongState { state: found, .. }) => assert_eq!(found, state),
            other => panic!("{state}: {other:?}"),
        }
    }
    before.assert_same(&fx.raw().await);
    fx.storage.publish_cancellation(&id("last")).await.unwrap();
    assert_eq!(heard.next().await, Some(id("last")));
}

/// A Go server took the task: it hears of the request, and would not read what is kept.
pub(super) async fn a_task_of_a_go_server_is_told_only(fx: &Fixture) {
    let mut heard = fx.storage.subscribe_cancellations().await.unwrap();
    fx.running(request(Q, "a")).await;
    fx.edit(|state| set_field(state, "a", "x:take", None)).await;
    let before = fx.raw().await;
    for then in Then::ALL {
        assert_eq!(cancel(fx, "a", then).await.unwrap(), Cancelled::Told);
        assert_eq!(heard.next().await, Some(id("a")));
    }
    before.assert_same(&fx.raw().await);
}

/// The queue, the task, or damage; nothing changes.
pub(super) async fn what_cannot_be_cancelled_is_told(fx: &Fixture) {
    fx.leaves_damage();
    for name in ["bare", "list", "stateless"] {
        fx.running(request(Q, name)).await;
    }
    fx.edit(|state| {
        set_field(state, "bare", "msg", None);
        state.insert(key("t:list"), list(&["x"]));
        set_field(state, "stateless", "state", Some(bytes("lost")));
    })
    .await;
    let before = fx.raw().await;
    match fx.storage.cancel_task(&queue("never"), &id("a"), Then::Delete).await {
        Err(BrokerError::QueueNotFound { queue: of }) => assert_eq!(of, queue("never")),
        other => panic!("{other:?}"),
    }
    match cancel(fx, "a", Then::Delete).await {
        Err(BrokerError::TaskNotFound { queue: of, id: task }) => assert_eq!((of, task), (queue(Q), id("a"))),
        other => panic!("{other:?}"),
    }
    for (name, found) in [
        ("bare", PoisonKind::NoMessage),
        ("list", PoisonKind::NotAHash),
        ("stateless", PoisonKind::BadState),
    ] {
        match cancel(fx, name, Then::Delete).await {
            Err(BrokerError::Poison { kind, .. }) => assert_eq!(kind, found, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    before.assert_same(&fx.raw().await);
}

/// The place that the request names holds another type: the outcome is refused before anything is written.
pub(super) async fn a_damaged_archive_refuses_the_outcome(fx: &Fixture) {
    let task = cancelled(fx, request(Q, "a"), Then::Archive).await;
    let healthy = fx.raw().await.state;
    fx.edit(|state| drop(state.insert(key("archived"), string("x")))).await;
    let before = fx.raw().await;
    for outcome in [Outcome::Requeue, retry(fx.after(60))] {
        match fx.settle(&task, outcome).await {
            Err(SettleError::Broker(BrokerError::WrongType { key: of })) => assert_eq!(of, key("archived")),
            other => panic!("{other:?}"),
        }
    }
    before.assert_same(&fx.raw().await);
    fx.edit(|state| state.clone_from(&healthy)).await;
    fx.settled(&task, Outcome::Requeue).await;
    assert_eq!(fx.raw().await.task("a").state(), "archived");
}

/// A field that is something else is no request.
pub(super) async fn a_request_that_cannot_be_read_is_none(fx: &Fixture) {
    for (n, damage) in ["", "archive", "archive ", "burn {}", " {}", "archive{}"]
        .into_iter()
        .enumerate()
    {
        let name = format!("id{n}");
        let task = fx.running(request(Q, &name)).await;
        let value = damage.replace("{}", task.lease.token.as_str());
        fx.edit(|state| set_field(state, &name, "x:cancel", Some(bytes(value))))
            .await;
        fx.settled(&task, retry(fx.after(60))).await;
        assert_eq!(fx.raw().await.task(&name).state(), "retry", "{damage}");
        assert_eq!(fx.raw().await.task(&name).field("x:cancel"), None);
    }
}
