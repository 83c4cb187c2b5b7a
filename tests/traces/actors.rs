//! Actors: those that run tasks, and those that enqueue by message.

use asynq::{
    AsynqSystem, EnqueueMsg, HandleTask, HandlerActorSpec, Task, client::TaskContextExt as _, memory::MemoryStore,
};
use opentelemetry::{Context, context::FutureExt as _, trace::TraceContextExt as _};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::{ended, exporter, request};

/// Enqueues a task before it started one, after it awaited something, and after its message.
struct Relay;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Relay {
    type Msg = HandleTask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<HandleTask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<HandleTask>, task: HandleTask, (): &mut ()) -> Result<(), ActorProcessingErr> {
        // Those of an earlier message are not left over.
        assert!(!Context::current().has_active_span());
        let Some((task, reply)) = task.start() else {
            return Ok(());
        };
        assert!(Context::current().has_active_span());
        tokio::task::yield_now().await;
        let run = task.context().unwrap();
        let next = Task::new("next", b"")?.with_queue("actor-next");
        let answer = run.client().enqueue(next).await;
        // A task of its own has the context that it attaches.
        let (client, context) = (run.client(), run.otel_context());
        #[expect(clippy::disallowed_methods, reason = "its end is the answer")]
        tokio::spawn(async move {
            let other = Task::new("other", b"")?.with_queue("actor-spawned");
            let answer = client.enqueue(other).with_context(context).await;
            reply.send(answer.map(drop));
            Ok::<_, asynq::Error>(())
        });
        answer?;
        Ok(())
    }
}

#[tokio::test]
async fn a_handler_actor_is_in_the_trace_of_its_task() {
    exporter();
    let system = AsynqSystem::builder(MemoryStore::new())
        .config(asynq::ServerConfig::new().queues([("actor", 1)]))
        .handler_actor(HandlerActorSpec::new("actor:", || (Relay, ())))
        .spawn()
        .await
        .unwrap();
    for _ in 0..3 {
        let task = Task::new("actor:t", b"").unwrap().with_queue("actor");
        system.client().enqueue(task).await.unwrap();
    }
    let sent = ended("send actor", 3).await;
    let runs = ended("process actor", 3).await;
    let (next, spawned) = (ended("send actor-next", 3).await, ended("send actor-spawned", 3).await);
    system.shutdown().await;
    for run in runs {
        assert!(sent.iter().any(|sent| run.is_child_of(&sent.0.span_context)));
        let below = |spans: &[crate::Seen]| {
            spans
                .iter()
                .filter(|span| span.is_child_of(&run.0.span_context))
                .count()
        };
        assert_eq!((below(&next), below(&spawned)), (1, 1));
    }
}

#[tokio::test]
async fn a_message_to_the_client_has_the_context_of_its_sender() {
    let app = request("app");
    let system = AsynqSystem::builder(MemoryStore::new()).spawn().await.unwrap();
    let client = system.enqueue_ref().unwrap();
    let task = || Task::new("t", b"").unwrap().with_queue("message");
    {
        let _here = app.clone().attach();
        client.cast(EnqueueMsg::new(task())).unwrap();
    }
    let sent = ended("send message", 1).await;
    assert!(sent[0].is_child_of(app.span().span_context()));
    system.shutdown().await;
}
