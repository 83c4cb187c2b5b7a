use asynq_core::{ClientConfig, Clock, Entropy};
use futures::poll;

use super::*;

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
    let mut enqueue = std::pin::pin!(handle.enqueue(task()));
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
    handle.slot.publish(actor);
    let mut enqueue = std::pin::pin!(handle.enqueue(task()));
    let soon = tokio::time::timeout(Duration::from_secs(1), &mut enqueue).await;
    assert!(soon.is_err(), "for a successor");
    handle.close();
    let answer = tokio::time::timeout(Duration::from_secs(1), enqueue).await;
    let error = answer.expect("it waits on").unwrap_err();
    assert!(matches!(&error, EnqueueError::Unknown { id } if *id == "a"), "{error}");
}
