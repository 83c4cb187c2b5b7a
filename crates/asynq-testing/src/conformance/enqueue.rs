//! New tasks (transitions.md#publish-the-queue, transitions.md#enqueue, transitions.md#schedule,
//! transitions.md#add-to-a-group).

use asynq_core::{keys, message};

use super::kit::*;

/// transitions.md#enqueue, layout.md#task-hash and layout.md#messages: the bytes that Go writes, and beside
/// them our own `x:enq` alone.
pub(super) async fn a_pending_task_is_stored_as_go_stores_it(fx: &Fixture) {
    fx.enqueue(request("default", "a1").payload("p")).await;
    let raw = fx.raw().await;
    let keys: Vec<_> = raw.state.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["asynq:queues", "asynq:{default}:pending", "asynq:{default}:t:a1"]
    );
    assert_eq!(raw.state["asynq:queues"], RawValue::Set([bytes("default")].into()));
    assert_eq!(raw.state["asynq:{default}:pending"], list(&["a1"]));
    let name = queue("default");
    let view = crate::view::QueueView::new(&raw.state, &name);
    let Some(task) = view.task("a1") else {
        panic!("the task is there")
    };
    assert_eq!(task.names(), ["msg", "pending_since", "state", "x:enq"]);
    let golden = b"\x0a\x01t\x12\x01p\x1a\x02a1\x22\x07default\x28\x19\x40\x88\x0e";
    assert_eq!(task.bytes("msg").as_deref(), Some(&golden[..]));
    assert_eq!(task.state(), "pending");
    let nanos = asynq_core::clock::unix_nanos(fx.now());
    assert_eq!(task.field("pending_since"), Some(nanos.to_string()));
}

/// transitions.md#enqueue: LPUSH, so that the first is at the tail; a batch does as single calls in its order.
pub(super) async fn new_tasks_go_to_the_head(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    fx.enqueue_ids(&["b", "c", "d"]).await;
    fx.enqueue_ids(&["e"]).await;
    assert_eq!(fx.raw().await.list("pending"), ["e", "d", "c", "b", "a"]);
}

/// transitions.md#enqueue, layout.md#task-ids: an id is taken as long as its hash exists, in whatever state, and for
/// every kind of new task; a refusal changes nothing.
pub(super) async fn a_taken_id_is_a_conflict_in_every_state(fx: &Fixture) {
    let all = TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending);
    // Pending comes last: what is taken must be the only one that is pending.
    for state in all.chain([TaskState::Pending]) {
        fx.task_in(state.as_str(), state).await;
    }
    let before = fx.raw().await;
    for state in TaskState::ALL {
        let id = state.as_str();
        for new in [
            request(Q, id),
            request(Q, id).at(fx.after(9)),
            request(Q, id).group("g2"),
        ] {
            let answer = fx.try_enqueue(new).await;
            assert!(
                matches!(answer, Err(EnqueueError::TaskIdConflict)),
                "{state}: {answer:?}"
            );
        }
    }
    before.assert_same(&fx.raw().await);
}

/// layout.md#task-ids: an id belongs to its queue.
pub(super) async fn the_same_id_in_another_queue_is_another_task(fx: &Fixture) {
    fx.enqueue(request("one", "a")).await;
    fx.enqueue(request("two", "a")).await;
    let raw = fx.raw().await;
    assert_eq!(
        raw.state["asynq:queues"],
        RawValue::Set([bytes("one"), bytes("two")].into())
    );
    assert!(raw.state.contains_key("asynq:{one}:t:a") && raw.state.contains_key("asynq:{two}:t:a"));
}

/// differences.md#batches: each item of a batch is atomic and answered for itself, in order.
pub(super) async fn a_batch_is_answered_per_item(fx: &Fixture) {
    fx.enqueue_ids(&["b"]).await;
    let batch = ["a", "b", "c", "a"].map(|id| request(Q, id).build());
    let answers = fx.storage.enqueue(&batch_of(batch)).await;
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0].as_ref().unwrap().id, "a");
    assert!(matches!(answers[1], Err(EnqueueError::TaskIdConflict)));
    assert_eq!(answers[2].as_ref().unwrap().id, "c");
    assert!(
        matches!(answers[3], Err(EnqueueError::TaskIdConflict)),
        "taken by the first item"
    );
    assert_eq!(fx.raw().await.list("pending"), ["c", "a", "b"]);
}

/// The contract of `enqueue`: a batch may concern several queues and placements; the answers stay
/// in the order of the items.
pub(super) async fn a_batch_may_concern_several_queues(fx: &Fixture) {
    let batch = vec![
        request("one", "a").build(),
        request("two", "b").at(fx.after(5)).build(),
        request("one", "c").group("g").build(),
        request("two", "d").build(),
    ];
    let answers = fx.storage.enqueue(&batch_of(batch)).await;
    let told: Vec<_> = answers
        .into_iter()
        .map(Result::unwrap)
        .map(|info| (info.queue, info.id, info.state))
        .collect();
    let expected = [
        (queue("one"), id("a"), TaskState::Pending),
        (queue("two"), id("b"), TaskState::Scheduled),
        (queue("one"), id("c"), TaskState::Aggregating),
        (queue("two"), id("d"), TaskState::Pending),
    ];
    assert_eq!(told, expected);
}

/// transitions.md#enqueue-many: an empty batch has no answers and no effect.
pub(super) async fn an_empty_batch_does_nothing(fx: &Fixture) {
    assert!(fx.storage.enqueue(&[]).await.is_empty());
    assert!(fx.raw().await.state.is_empty());
}

/// rules.md#bounded-calls: a batch of any length is carried out, in as many calls as it takes, in order.
pub(super) async fn a_long_batch_is_carried_out_whole(fx: &Fixture) {
    let ids: Vec<_> = (0..1100).map(|n| format!("id{n:04}")).collect();
    fx.enqueue_ids(&ids.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let mut pending = fx.raw().await.list("pending");
    pending.reverse();
    assert_eq!(pending, ids);
}

/// rules.md#bounded-calls: payloads beyond the bound of one call are carried out too.
pub(super) async fn large_payloads_are_carried_out_whole(fx: &Fixture) {
    let payload = |n: u8| vec![n; 600 << 10];
    let batch = (0..4).map(|n| request(Q, &format!("id{n}")).payload(payload(n)).build());
    assert!(fx.storage.enqueue(&batch_of(batch)).await.iter().all(Result::is_ok));
    let raw = fx.raw().await;
    for n in 0..4 {
        assert!(
            raw.task(&format!("id{n}")).message().payload == payload(n),
            "payload {n}"
        );
    }
}

/// rules.md#ambiguous-is-a-state: the same request sent again, known by its token, is success and changes nothing,
/// whatever became of the task meanwhile; another token is a conflict.
pub(super) async fn a_request_sent_again_is_success(fx: &Fixture) {
    let kinds = [
        request(Q, "a"),
        request(Q, "b").at(fx.after(60)),
        request(Q, "c").group("g"),
    ];
    for new in kinds {
        let new = new.token(7);
        let first = fx.enqueue(new.clone()).await;
        let before = fx.raw().await;
        let second = fx.enqueue(new.clone()).await;
        assert_eq!((first.id, first.queue), (second.id, second.queue));
        let other = fx.try_enqueue(new.token(8)).await;
        assert!(matches!(other, Err(EnqueueError::TaskIdConflict)), "{other:?}");
        before.assert_same(&fx.raw().await);
    }
    let task = fx.take_one().await;
    let before = fx.raw().await;
    fx.enqueue(request(Q, "a").token(7)).await;
    before.assert_same(&fx.raw().await);
    fx.settled(&task, retry(fx.after(60))).await;
    let before = fx.raw().await;
    fx.enqueue(request(Q, "a").token(7)).await;
    before.assert_same(&fx.raw().await);
}

/// rules.md#ambiguous-is-a-state: a request that stands twice in one batch is one task.
pub(super) async fn a_request_twice_in_one_batch_is_one_task(fx: &Fixture) {
    let one = request(Q, "a").token(7);
    let answers = fx.storage.enqueue(&batch_of([one.clone().build(), one.build()])).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(fx.raw().await.list("pending"), ["a"]);
}

/// The answer describes the task as it was stored.
pub(super) async fn the_answer_describes_the_task(fx: &Fixture) {
    let new = request(Q, "a")
        .task_type("email")
        .payload("p")
        .header("k", "v")
        .max_retry(3)
        .retention(60);
    let new = new.timeout(90).deadline(fx.secs() + 500);
    let info = fx.enqueue(new).await;
    assert_eq!(
        (info.id.as_str(), info.queue.as_str(), info.task_type.as_str()),
        ("a", Q, "email")
    );
    assert_eq!((info.payload.as_ref(), info.headers["k"].as_str()), (&b"p"[..], "v"));
    assert_eq!(
        (info.max_retry, info.retried, info.retention),
        (3, 0, Duration::from_secs(60))
    );
    assert_eq!(
        (info.timeout, info.deadline.unwrap().timestamp()),
        (Some(Duration::from_secs(90)), fx.secs() + 500)
    );
    assert_eq!((info.state, info.group, info.result), (TaskState::Pending, None, None));
    assert_eq!(info.next_process_at, Some(fx.now()));
    assert_eq!(
        (info.last_failed_at, info.completed_at, info.is_orphaned),
        (None, None, false)
    );
    let info = fx.enqueue(request(Q, "b").group("g")).await;
    assert_eq!(
        (info.state, info.group, info.next_process_at),
        (TaskState::Aggregating, Some(group("g")), None)
    );
    let info = fx.enqueue(request(Q, "c").at(fx.after(60))).await;
    assert_eq!(
        (info.state, info.next_process_at.unwrap().timestamp()),
        (TaskState::Scheduled, fx.secs() + 60)
    );
}

/// layout.md#messages: any bytes are a payload, any UTF-8 a name or a header.
pub(super) async fn any_payload_and_any_name_is_kept(fx: &Fixture) {
    let binary: Vec<u8> = (0..=255).collect();
    let names = [
        "a b",
        "ünï{x}",
        "q:with:colons",
        "{",
        "x}y",
        " padded ",
        "new\nline",
        "*?[a]",
    ];
    for name in names {
        let new = request(name, name)
            .task_type(name)
            .payload(binary.clone())
            .header("", "")
            .header(name, name);
        let sent = new.clone().build().message;
        fx.enqueue(new).await;
        let raw = fx.raw().await;
        let stored = &raw.state[&keys::task(&queue(name), &id(name))];
        let RawValue::Hash(fields) = stored else {
            panic!("{stored:?}")
        };
        assert_eq!(message::decode(fields["msg"].clone()).unwrap(), sent, "{name:?}");
        let found = fx.storage.task_info(&queue(name), &id(name)).await.unwrap();
        assert_eq!((found.task_type.as_str(), found.payload.as_ref()), (name, &binary[..]));
    }
    let queues = fx.storage.queues().await.unwrap();
    assert_eq!(queues.len(), names.len());
}

/// differences.md#the-index-of-queues: the name of the queue is published with every call, so that a queue that
/// another process removed does not vanish from the tools.
pub(super) async fn the_queue_name_is_published_with_every_call(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    fx.edit(|state| drop(state.remove("asynq:queues"))).await;
    fx.enqueue_ids(&["b"]).await;
    assert_eq!(fx.raw().await.state["asynq:queues"], RawValue::Set([bytes(Q)].into()));
}

/// rules.md#check-then-write: a container of the wrong type refuses the call with the key's name and without a
/// write; other containers and queues are not affected.
pub(super) async fn a_container_of_the_wrong_type_refuses_the_call(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue(request("other", "a")).await;
    for (suffix, new) in [
        ("pending", request(Q, "a")),
        ("scheduled", request(Q, "a").at(fx.after(60))),
        ("groups", request(Q, "a").group("g")),
        ("g:g", request(Q, "a").group("g")),
    ] {
        fx.edit(|state| drop(state.insert(key(suffix), string("x")))).await;
        let unique = new.clone().unique(Duration::from_secs(60));
        for new in [new, unique] {
            match fx.try_enqueue(new).await {
                Err(EnqueueError::Broker(BrokerError::WrongType { key: named })) => assert_eq!(named, key(suffix)),
                other => panic!("{suffix}: {other:?}"),
            }
        }
        let raw = fx.raw().await;
        assert_eq!(raw.q().suffixes(), [suffix], "nothing was written");
        fx.enqueue(request("other", suffix)).await;
        fx.edit(|state| drop(state.remove(&key(suffix)))).await;
    }
}

/// rules.md#isolation: of a batch, only the tasks are refused whose own place is damaged; they may be another
/// caller's.
pub(super) async fn a_damaged_place_refuses_its_own_tasks_alone(fx: &Fixture) {
    fx.leaves_damage();
    let all = [
        ("pending", request(Q, "pending")),
        ("scheduled", request(Q, "scheduled").at(fx.after(60))),
        ("g:bad", request(Q, "g:bad").group("bad")),
        ("g:good", request(Q, "g:good").group("good")),
    ];
    for (damaged, _) in &all {
        fx.edit(|state| drop(state.insert(key(damaged), string("x")))).await;
        let batch = all.iter().map(|(_, new)| new.clone().build());
        for ((suffix, _), answer) in all.iter().zip(fx.storage.enqueue(&batch_of(batch)).await) {
            match answer {
                Ok(info) => assert!(suffix != damaged && info.id == *suffix),
                Err(EnqueueError::Broker(BrokerError::WrongType { key: named })) => {
                    assert_eq!((suffix, named), (damaged, key(damaged)));
                }
                other => panic!("{damaged}: {other:?}"),
            }
        }
        let raw = fx.raw().await;
        for (suffix, _) in &all {
            assert_eq!(raw.has_task(suffix), suffix != damaged, "{suffix}");
        }
        fx.edit(asynq_core::raw::RawState::clear).await;
    }
}
