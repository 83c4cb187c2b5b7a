//! An application made of actors that has the task queue as one of its own children.
//!
//! ```text
//! cargo run --example actor_app                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example actor_app    # the same on Redis
//! ```
//!
//! `Shop` is the application's root actor. It spawns the [`AsynqSystem`] linked to itself, so that the end of
//! the system arrives as an ordinary supervision event, and passes orders to `Checkout`. That one sends messages
//! to the client actor: a cast to enqueue the mail, a call to enqueue the payment.
//!
//! Expected: three orders are paid and confirmed, the second right after the client actor was killed
//! and restarted. Then the shop closes, and the system with it, in order. It ends with status 0.

mod common;

use std::{sync::Arc, time::Duration};

use asynq::{AsynqSystem, Connector, EnqueueMsg, Exit, Task, TaskInfo, error::EnqueueError};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent, concurrency::oneshot};
use tokio::sync::mpsc;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Receives a line for each task that has run.
type Done = mpsc::UnboundedSender<String>;

struct Shop;

enum ShopMsg {
    Order {
        number: u32,
        paid: RpcReplyPort<Result<TaskInfo, EnqueueError>>,
    },
    /// Kills the client actor, to show that the shop survives a crash inside the system.
    KillClient,
}
#[cfg(feature = "ractor-cluster")]
impl ractor::Message for ShopMsg {}

struct Open {
    system: AsynqSystem,
    checkout: ActorRef<CheckoutMsg>,
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Shop {
    type Msg = ShopMsg;
    type State = Open;
    type Arguments = (Arc<dyn Connector>, Done);

    async fn pre_start(
        &self,
        myself: ActorRef<ShopMsg>,
        (storage, done): Self::Arguments,
    ) -> Result<Open, ActorProcessingErr> {
        let system = AsynqSystem::builder(storage)
            .handler(move |task: Task| {
                let done = done.clone();
                async move {
                    let order = String::from_utf8_lossy(task.get_payload()).into_owned();
                    drop(done.send(format!("{} for order {order}", task.get_type())));
                    Ok(())
                }
            })
            .spawn_linked(myself.get_cell())
            .await?;
        let (checkout, _) = Actor::spawn_linked(None, Checkout, system.clone(), myself.get_cell()).await?;
        Ok(Open { system, checkout })
    }

    async fn handle(&self, _: ActorRef<ShopMsg>, message: ShopMsg, open: &mut Open) -> Result<(), ActorProcessingErr> {
        match message {
            ShopMsg::Order { number, paid } => open.checkout.cast(CheckoutMsg { number, paid })?,
            ShopMsg::KillClient => {
                let mut changes = open.system.tree_events();
                open.system.kill_actor("client");
                while let Ok(change) = changes.recv().await {
                    // Events of other actors may come in between.
                    if change.path != "system/client" {
                        continue;
                    }
                    println!("{} is {:?}", change.path, change.state);
                    if change.state == asynq::ActorState::Running {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Called when the system has ended by itself. This shop cannot go on without it.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ShopMsg>,
        event: SupervisionEvent,
        _: &mut Open,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(..) | SupervisionEvent::ActorTerminated(..) => {
                println!("a part of the shop has ended: {event}");
                myself.stop(None);
            }
            _ => {}
        }
        Ok(())
    }

    /// Shuts the system down in order. Otherwise it would be killed, as the children of an actor that ends are.
    async fn post_stop(&self, _: ActorRef<ShopMsg>, open: &mut Open) -> Result<(), ActorProcessingErr> {
        match open.system.shutdown().await {
            Exit::Stopped => println!("the shop is closed"),
            Exit::Failed(error) => println!("the system has failed: {error}"),
            other => println!("the system ended with {other:?}"),
        }
        Ok(())
    }
}

struct Checkout;

struct CheckoutMsg {
    number: u32,
    paid: RpcReplyPort<Result<TaskInfo, EnqueueError>>,
}
#[cfg(feature = "ractor-cluster")]
impl ractor::Message for CheckoutMsg {}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Checkout {
    type Msg = CheckoutMsg;
    type State = AsynqSystem;
    type Arguments = AsynqSystem;

    async fn pre_start(
        &self,
        _: ActorRef<CheckoutMsg>,
        system: AsynqSystem,
    ) -> Result<AsynqSystem, ActorProcessingErr> {
        Ok(system)
    }

    async fn handle(
        &self,
        _: ActorRef<CheckoutMsg>,
        CheckoutMsg { number, paid }: CheckoutMsg,
        system: &mut AsynqSystem,
    ) -> Result<(), ActorProcessingErr> {
        let order = number.to_string();
        // Nobody waits for this answer; the client actor logs a refusal.
        send(system, EnqueueMsg::new(Task::new("mail:confirm", order.as_bytes())?))?;
        // This answer goes to the caller that placed the order.
        send(
            system,
            EnqueueMsg::call(Task::new("payment:charge", order.as_bytes())?, paid),
        )
    }
}

/// Sends a message to the client actor. A reference is valid until that actor restarts, so it is fetched for each
/// message.
fn send(system: &AsynqSystem, message: EnqueueMsg) -> Result<(), ActorProcessingErr> {
    let client = system.enqueue_ref().ok_or("the client is being started")?;
    Ok(client.send_message(message)?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt::init();
    let (done, mut finished) = mpsc::unbounded_channel();
    let (shop, closed) = Actor::spawn(None, Shop, (common::storage()?, done)).await?;
    for number in 1..=3 {
        if number == 2 {
            shop.cast(ShopMsg::KillClient)?;
        }
        let (paid, answer) = oneshot();
        shop.cast(ShopMsg::Order {
            number,
            paid: paid.into(),
        })?;
        let payment = tokio::time::timeout(Duration::from_secs(10), answer).await???;
        println!("order {number}: payment is task {}", payment.id);
    }
    for _ in 0..6 {
        println!("ran {}", finished.recv().await.ok_or("the shop closed too early")?);
    }
    shop.stop(None);
    closed.await?;
    Ok(())
}
