//! An actor of the user's own as the aggregator.

use std::sync::atomic::{AtomicUsize, Ordering};

use asynq_actors::{
    AggregateGroup, AggregatorActor, AggregatorActorError, SupervisedRef, Tree,
    supervisor::{Backoff, ChildSpec, ExitCell, Intensity, Strategy, Supervisor, SupervisorArgs},
};
use asynq_core::{Error, GroupAggregator as _, Task};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::kit::*;

/// A clerk's treatment of a request.
#[derive(Clone, Copy, Debug)]
enum Order {
    Answer,
    Refuse,
    /// Drops the request, and lives on.
    Forget,
    Crash,
    /// Keeps the request until the next order.
    Silent,
}

/// A message of the user's own: not only requests.
enum ClerkMsg {
    Group(AggregateGroup),
    Obey(Order),
    /// Answers, for each request that is kept, `true` if nobody waits for it any longer.
    Kept(RpcReplyPort<Vec<bool>>),
}
#[cfg(feature = "ractor-cluster")]
impl ractor::Message for ClerkMsg {}

impl From<AggregateGroup> for ClerkMsg {
    fn from(request: AggregateGroup) -> Self {
        Self::Group(request)
    }
}

struct Clerk;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Clerk {
    type Msg = ClerkMsg;
    type State = (Order, Vec<AggregateGroup>);
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ClerkMsg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok((Order::Answer, Vec::new()))
    }

    async fn handle(
        &self,
        _: ActorRef<ClerkMsg>,
        message: ClerkMsg,
        (order, kept): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let request = match message {
            ClerkMsg::Obey(new) => {
                *order = new;
                kept.clear();
                return Ok(());
            }
            ClerkMsg::Kept(reply) => {
                let _ = reply.send(kept.iter().map(|request| request.reply.is_closed()).collect());
                return Ok(());
            }
            ClerkMsg::Group(request) => request,
        };
        match *order {
            Order::Answer => {
                let payloads: Vec<_> = request.tasks.iter().map(Task::get_payload).collect();
                let sum = Task::new("sum", &payloads.join(&b","[..]));
                let _ = request.reply.send(sum);
            }
            Order::Refuse => {
                let _ = request.reply.send(Err(Error::other("not today")));
            }
            Order::Forget => {}
            Order::Crash => return Err("told to crash".into()),
            Order::Silent => kept.push(request),
        }
        Ok(())
    }
}

async fn clerk() -> ActorRef<ClerkMsg> {
    Actor::spawn(None, Clerk, ()).await.unwrap().0
}

fn obey(clerk: &ActorRef<ClerkMsg>, order: Order) {
    assert!(clerk.cast(ClerkMsg::Obey(order)).is_ok());
}

async fn kept(clerk: &ActorRef<ClerkMsg>) -> Vec<bool> {
    ractor::call_t!(clerk, ClerkMsg::Kept, 1000).unwrap()
}

fn reason(error: &Error) -> Option<AggregatorActorError> {
    match error {
        Error::Actor(cause) => cause.downcast_ref().copied(),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_does_not_answer_is_an_error_and_not_a_wait() {
    let clerk = clerk().await;
    let aggregator = AggregatorActor::new(clerk.clone());
    let tasks = [Task::new("t", b"a").unwrap(), Task::new("t", b"b").unwrap()];
    let sum = aggregator.aggregate("g", &tasks).await.unwrap();
    assert_eq!(sum.get_payload(), b"a,b");
    obey(&clerk, Order::Refuse);
    let refused = aggregator.aggregate("g", &tasks).await.unwrap_err();
    assert_eq!(refused.to_string(), "not today");
    obey(&clerk, Order::Forget);
    let forgotten = aggregator.aggregate("g", &tasks).await.unwrap_err();
    assert_eq!(reason(&forgotten), Some(AggregatorActorError::NoAnswer));
    obey(&clerk, Order::Crash);
    let crashed = aggregator.aggregate("g", &tasks).await.unwrap_err();
    assert_eq!(reason(&crashed), Some(AggregatorActorError::NoAnswer));
    let dead = aggregator.aggregate("g", &tasks).await.unwrap_err();
    assert_eq!(reason(&dead), Some(AggregatorActorError::NotAlive));
}

/// Its limit is that of every run; the actor can see that nobody waits any longer.
#[tokio::test(start_paused = true)]
async fn a_silent_actor_keeps_its_set_for_as_long_as_a_run_may_take() {
    let mut world = World::new([]);
    let clerk = clerk().await;
    obey(&clerk, Order::Silent);
    let config = quick().group_timeout(3 * MINUTE);
    let builder = world.builder(config).aggregator(AggregatorActor::new(clerk.clone()));
    let system = builder.spawn().await.unwrap();
    world.add_all(&system, "g", &["a", "b"]).await;
    pass(3 * MINUTE - SECOND).await;
    assert_eq!(world.books().await, Books::default(), "in their set");
    assert_eq!(kept(&clerk).await, [false], "asked once, and still waited for");
    pass(5 * SECOND).await;
    assert_eq!(kept(&clerk).await, [true], "given up");
    pass(10 * MINUTE).await;
    assert_eq!(kept(&clerk).await, [true], "one at a time");
    obey(&clerk, Order::Answer);
    assert_eq!(world.all_aggregated().await.sums, [names(&["a", "b"])]);
    system.shutdown().await;
    clerk.stop(None);
}

/// A request of an actor that hangs, and how many were made.
struct Request {
    _group: AggregateGroup,
}
#[cfg(feature = "ractor-cluster")]
impl ractor::Message for Request {}

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

impl From<AggregateGroup> for Request {
    fn from(group: AggregateGroup) -> Self {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        Self { _group: group }
    }
}

struct Hanging;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Hanging {
    type Msg = Request;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Request>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Request>, _request: Request, (): &mut ()) -> Result<(), ActorProcessingErr> {
        std::future::pending().await
    }
}

/// Its mailbox does not fill.
#[tokio::test(start_paused = true)]
async fn an_actor_that_hangs_is_sent_one_request() {
    let (hanging, ended) = Actor::spawn(None, Hanging, ()).await.unwrap();
    let aggregator = AggregatorActor::new(hanging.clone());
    let tasks = [Task::new("t", b"a").unwrap()];
    let ask = || tokio::time::timeout(SECOND, aggregator.aggregate("g", &tasks));
    for _ in 0..3 {
        let answers = tokio::join!(ask(), ask(), ask());
        assert!(
            answers.0.is_err() && answers.1.is_err() && answers.2.is_err(),
            "they hang"
        );
        assert_eq!(REQUESTS.load(Ordering::Relaxed), 1);
    }
    hanging.kill();
    ended.await.unwrap();
    let dead = ask().await.unwrap().unwrap_err();
    assert_eq!(
        reason(&dead),
        Some(AggregatorActorError::NotAlive),
        "and nobody's turn is lost"
    );
}

/// A supervised actor is followed through its restarts: each crash costs its set some time, no task.
#[tokio::test(start_paused = true)]
async fn an_actor_that_crashes_loses_no_task() {
    let mut world = World::new([]);
    let slot = SupervisedRef::<ClerkMsg>::new();
    let child = ChildSpec::published("clerk", slot.clone(), || (Clerk, ()));
    let args = SupervisorArgs {
        path: "clerks".to_owned(),
        children: vec![child],
        strategy: Strategy::OneForOne,
        intensity: Intensity::default(),
        backoff: Backoff::default(),
        tree: Tree::new(world.env.clock.clone()),
        entropy: world.env.entropy.clone(),
        exit: ExitCell::default(),
    };
    let (clerks, ended) = Actor::spawn(None, Supervisor, args).await.unwrap();
    let builder = world
        .builder(quick())
        .aggregator(AggregatorActor::following(slot.clone()));
    let system = builder.spawn().await.unwrap();
    let first = slot.get().unwrap();
    obey(&first, Order::Crash);
    world.add_all(&system, "g", &["a", "b"]).await;
    assert!(
        slot.newer(Some(first.get_id()), MINUTE).await,
        "the clerk crashed and was restarted"
    );
    world.add(&system, "h", "c").await;
    assert_eq!(world.all_aggregated().await.sums, [names(&["a", "b"]), names(&["c"])]);
    system.shutdown().await;
    clerks.stop(None);
    ended.await.unwrap();
}
