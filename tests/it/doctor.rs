//! The doctor on Redis: it finds, explains, repairs and records; it can be stopped and go on; and it finds nothing where
//! nothing is wrong.

use asynq::{
    Client, Inspector, Task,
    inspect::Cursor,
    inspector::{Actor, DoctorPlace, DoctorReport, Remedy, Repair},
    redis::RedisConnectionType,
};
use asynq_testing::RedisServer;

/// Asserts that the doctor finds nothing in any queue.
pub(crate) async fn finds_nothing(connector: RedisConnectionType) {
    let inspector = Inspector::connect(connector).await.unwrap();
    let mut doctor = inspector.doctor();
    let mut findings = Vec::new();
    while let Some(step) = doctor.next().await.unwrap() {
        findings.extend(step.findings.iter().map(ToString::to_string));
    }
    assert!(findings.is_empty(), "{findings:#?}");
    let DoctorReport { found, gone, .. } = *doctor.report();
    assert_eq!((found, gone), (0, 0));
}

fn connector(server: &RedisServer) -> RedisConnectionType {
    RedisConnectionType::single(server.url()).unwrap()
}

/// A queue with so many tasks, of which every tenth has lost its data.
async fn damaged(server: &RedisServer, queue: &str, count: usize) -> Inspector {
    let client = Client::new(connector(server)).await.unwrap();
    let mut raw = server.client().await;
    for number in 0..count {
        let id = format!("id{number}");
        let task = Task::new("t", b"1").unwrap().with_task_id(&id).with_queue(queue);
        client.enqueue(task).await.unwrap();
        if number % 10 == 0 {
            raw.ok(&["DEL", &format!("asynq:{{{queue}}}:t:{id}")]).await;
        }
    }
    client.close().await;
    Inspector::connect(connector(server)).await.unwrap()
}

#[tokio::test]
async fn the_doctor_finds_explains_repairs_and_records() {
    let server = RedisServer::start().await;
    let inspector = damaged(&server, "q", 20).await;
    let before = server.client().await.raw_state().await;
    let mut doctor = inspector.doctor();
    let mut findings = Vec::new();
    while let Some(step) = doctor.next().await.unwrap() {
        findings.extend(step.findings);
    }
    assert_eq!(findings.len(), 2);
    for finding in &findings {
        assert_eq!(finding.result, Repair::Done(Remedy::RemoveId));
        let text = finding.to_string();
        for part in [
            "queue q:",
            "no task hash",
            "evicted",
            "Not repaired yet: remove the id.",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
    let report = *doctor.report();
    assert_eq!(
        (report.queues, report.found, report.repaired, report.left),
        (1, 2, 0, 0)
    );
    assert!(report.looked >= 38, "{report:?}");
    assert_eq!(server.client().await.raw_state().await, before);
    assert!(
        inspector
            .audit_trail(Cursor::default(), 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );

    let reason = Actor::new("ann").with_reason("ticket 7");
    let ann = inspector.acting_as(reason.clone()).unwrap();
    let mut doctor = ann.doctor().fix();
    let report = *doctor.run().await.unwrap();
    assert_eq!((report.found, report.repaired, report.left), (2, 2, 0));
    let trail = inspector.audit_trail(Cursor::default(), 10).await.unwrap().items;
    assert_eq!(trail.len(), 1);
    assert_eq!((trail[0].act.as_str(), trail[0].changed), ("doctor_fix", Some(2)));
    assert_eq!(trail[0].queue.as_deref(), Some("q"));
    assert_eq!(trail[0].detail.as_deref(), Some("remove the id: 2"));
    assert_eq!(trail[0].actor, Some(reason));

    finds_nothing(connector(&server)).await;
    assert_eq!(inspector.get_queue_stats("q").await.unwrap().pending, 18);
    assert_eq!(
        inspector.audit_trail(Cursor::default(), 10).await.unwrap().items.len(),
        1
    );
}

#[tokio::test]
async fn a_run_is_stopped_and_goes_on_in_another() {
    let server = RedisServer::start().await;
    damaged(&server, "a", 300).await;
    let inspector = damaged(&server, "b", 300).await;
    let (mut found, mut steps) = (0, 0);
    let mut place: Option<DoctorPlace> = None;
    loop {
        // Each run makes one step.
        let mut doctor = match place.take() {
            Some(place) => inspector.doctor().from(place),
            None => inspector.doctor(),
        };
        let step = doctor.next().await.unwrap();
        found += doctor.report().found;
        steps += 1;
        let Some(step) = step else { break };
        assert!(["a", "b"].contains(&step.queue.as_str()));
        place = doctor.place();
    }
    assert_eq!(found, 60);
    assert!(steps > 20, "{steps}");
}

#[tokio::test]
async fn a_fix_without_the_reason_that_is_required_changes_nothing() {
    let server = RedisServer::start().await;
    let inspector = damaged(&server, "q", 20).await.requiring_reason();
    let before = server.client().await.raw_state().await;
    let refused = inspector.doctor().fix().run().await.copied().unwrap_err();
    assert!(refused.to_string().contains("reason"), "{refused}");
    assert_eq!(server.client().await.raw_state().await, before);
    assert_eq!(inspector.doctor().run().await.unwrap().found, 2);
}

/// A queue that the index has lost is looked at if it is named, and every name is looked at.
#[tokio::test]
async fn queues_of_any_name_are_looked_at() {
    let server = RedisServer::start().await;
    for queue in ["a b", "ü", "x:y", "x/y", "#", "a{b}c"] {
        let inspector = damaged(&server, queue, 10).await;
        server.client().await.ok(&["SREM", "asynq:queues", queue]).await;
        let mut doctor = inspector.doctor().queue(queue).unwrap().fix();
        let report = *doctor.run().await.unwrap();
        assert_eq!((report.found, report.repaired), (2, 2), "{queue}");
    }
    finds_nothing(connector(&server)).await;
    assert!(
        Inspector::connect(connector(&server))
            .await
            .unwrap()
            .doctor()
            .queue(" ")
            .is_err()
    );
}
