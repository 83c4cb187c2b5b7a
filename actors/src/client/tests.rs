use asynq_core::{ClientConfig, Clock, EnqueueError, Entropy, Env};
use futures::{FutureExt as _, poll};

use super::*;
use crate::broker::BrokerHandle;

fn handle() -> ClientHandle {
    let env = Env {
        clock: Clock::tokio(),
        entropy: Entropy::seeded(5),
    };
    ClientHandle::new(&ClientConfig::new().validate().unwrap(), env)
}

fn task() -> Task {
    Task::new("t", b"").unwrap().with_task_id("a")
}

/// Takes requests and lets them fall.
struct Careless;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Careless {
    type Msg = ClientMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ClientMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_finds_no_actor_hears_of_the_end_at_once() {
    let handle = handle();
    let (task, options) = (task(), TaskOptions::new());
    let mut enqueue = std::pin::pin!(handle.enqueue(&task, &options));
    assert!(poll!(&mut enqueue).is_pending(), "for a successor");
    handle.close();
    let answer = tokio::time::timeout(Duration::from_secs(1), enqueue).await;
    let error = answer.expect("it waits on").unwrap_err();
    assert!(matches!(error, EnqueueError::Closed), "{error}");
}

#[tokio::test(start_paused = true)]
async fn one_that_an_actor_took_with_it_is_unknown_at_once() {
    let handle = handle();
    let (actor, _) = Actor::spawn(None, Careless, ()).await.unwrap();
    handle.actor.publish(actor);
    let (task, options) = (task(), TaskOptions::new());
    let mut enqueue = std::pin::pin!(handle.enqueue(&task, &options));
    let soon = tokio::time::timeout(Duration::from_secs(1), &mut enqueue).await;
    assert!(soon.is_err(), "for a successor");
    handle.close();
    let answer = tokio::time::timeout(Duration::from_secs(1), enqueue).await;
    let error = answer.expect("it waits on").unwrap_err();
    assert!(matches!(&error, EnqueueError::Unknown { id } if *id == "a"), "{error}");
}

/// Keeps the requests beyond its own end.
struct Hoarder(Arc<std::sync::Mutex<Vec<ClientMsg>>>);

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Hoarder {
    type Msg = ClientMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ClientMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<ClientMsg>, request: ClientMsg, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.lock().unwrap().push(request);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_a_dead_actor_never_read_goes_to_its_successor() {
    let handle = handle();
    let hoards = [Arc::default(), Arc::default()];
    let (first, _) = Actor::spawn(None, Hoarder(Arc::clone(&hoards[0])), ()).await.unwrap();
    let (second, _) = Actor::spawn(None, Hoarder(Arc::clone(&hoards[1])), ()).await.unwrap();
    handle.actor.publish(first.clone());
    let (task, options) = (task(), TaskOptions::new());
    let mut enqueue = std::pin::pin!(handle.enqueue(&task, &options));
    let soon = tokio::time::timeout(Duration::from_secs(1), &mut enqueue).await;
    assert!(soon.is_err() && hoards[0].lock().unwrap().len() == 1);
    first.stop_and_wait(None, None).await.unwrap();
    handle.actor.publish(second);
    let soon = tokio::time::timeout(Duration::from_secs(1), &mut enqueue).await;
    assert!(soon.is_err(), "nobody answers");
    let ClientMsg::Composed(again) = hoards[1].lock().unwrap().pop().expect("it was not sent again") else {
        panic!("another message");
    };
    assert!(again.ambiguous, "the first may have been sent");
}

#[tokio::test(start_paused = true)]
async fn many_tasks_are_one_message_and_go_again_to_a_successor() {
    let env = Env {
        clock: Clock::tokio(),
        entropy: Entropy::seeded(5),
    };
    let config = ClientConfig::new().max_waiting(3);
    let handle = ClientHandle::new(&config.validate().unwrap(), env);
    let hoards = [Arc::default(), Arc::default()];
    let (first, _) = Actor::spawn(None, Hoarder(Arc::clone(&hoards[0])), ()).await.unwrap();
    let (second, _) = Actor::spawn(None, Hoarder(Arc::clone(&hoards[1])), ()).await.unwrap();
    handle.actor.publish(first.clone());
    let named = |id: &str| Ok(task().with_task_id(id));
    let tasks = vec![
        named("a"),
        Err(asynq_core::Error::other("no task")),
        named("b"),
        named("c"),
        named("d"),
    ];
    let mut enqueue = std::pin::pin!(handle.enqueue_many(tasks));
    let soon = tokio::time::timeout(Duration::from_secs(1), &mut enqueue).await;
    assert!(soon.is_err(), "nobody answers");
    let sent = std::mem::take(&mut *hoards[0].lock().unwrap());
    let [ClientMsg::Many(batch)] = sent.as_slice() else {
        panic!("other messages: {sent:?}");
    };
    let ids = |batch: &[Queued]| {
        batch
            .iter()
            .map(|item| item.request.message.id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(batch), ["a", "b", "c"], "there is no place for the fourth");

    first.stop_and_wait(None, None).await.unwrap();
    drop(sent);
    handle.actor.publish(second);
    let soon = tokio::time::timeout(Duration::from_secs(1), &mut enqueue).await;
    assert!(soon.is_err(), "nobody answers");
    let again = std::mem::take(&mut *hoards[1].lock().unwrap());
    let mut items = Vec::new();
    for message in again {
        let ClientMsg::Composed(item) = message else {
            panic!("another message");
        };
        assert!(item.ambiguous, "the first may have been sent");
        items.push(*item);
    }
    assert_eq!(ids(&items), ["a", "b", "c"]);
    for item in items {
        item.fail(EnqueueError::DuplicateTask, &BrokerHandle::ended());
    }
    // Their places are free.
    let soon = tokio::time::timeout(Duration::from_secs(1), &mut enqueue).await;
    assert!(soon.is_err(), "nobody answers");
    let last = hoards[1].lock().unwrap().pop();
    let Some(ClientMsg::Composed(last)) = last else {
        panic!("the fourth was not sent");
    };
    assert_eq!(last.request.message.id, "d");
    last.fail(EnqueueError::TaskIdConflict, &BrokerHandle::ended());
    let answers = enqueue.await;
    assert!(answers.iter().all(Result::is_err) && answers.len() == 5, "{answers:?}");
    assert!(answers[1].as_ref().unwrap_err().to_string().contains("no task"));
}

/// A task of about `bytes`, all of them in one place.
fn heavy(place: &str, bytes: usize) -> Task {
    let text = "x".repeat(bytes);
    match place {
        "payload" => Task::new("t", text.as_bytes()).unwrap(),
        "type" => Task::new(&text, b"").unwrap(),
        "header value" => Task::new("t", b"").unwrap().with_header("k", &text),
        "header name" => Task::new("t", b"").unwrap().with_header(&text, "v"),
        "headers" => {
            // Each takes several times its text in memory.
            let names = (0..bytes / 96).map(|n| n.to_string());
            names.fold(Task::new("t", b"").unwrap(), |task, name| task.with_header(name, ""))
        }
        "id" => task().with_task_id(&text),
        "queue" => task().with_queue(&text),
        "group" => task().with_group(&text),
        _ => Task::new(&text[..bytes / 2], b"")
            .unwrap()
            .with_unique_ttl(Duration::from_secs(60)),
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_makes_a_task_heavy_counts_as_waiting_bytes() {
    for place in [
        "payload",
        "type",
        "header value",
        "header name",
        "headers",
        "id",
        "queue",
        "group",
        "unique lock",
    ] {
        let env = Env {
            clock: Clock::tokio(),
            entropy: Entropy::seeded(5),
        };
        let config = ClientConfig::new().max_waiting_bytes(1 << 20);
        let handle = ClientHandle::new(&config.validate().unwrap(), env);
        let (task, options) = (heavy(place, 600 << 10), TaskOptions::new());
        let mut first = std::pin::pin!(handle.try_enqueue(&task, &options));
        assert!(poll!(&mut first).is_pending(), "{place}: nobody sends it");
        let second = handle.try_enqueue(&task, &options).now_or_never();
        let refused = matches!(second, Some(Err(EnqueueError::Overloaded)));
        assert!(
            refused,
            "1.2 MB wait for an answer where 1 MiB may, in the {place}: {second:?}"
        );
        handle.close();
    }
}
