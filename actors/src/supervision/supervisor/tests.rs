use asynq_core::Clock;

use super::*;

struct Idle;
struct Order;
crate::message!(Order);

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Idle {
    type Msg = Order;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// A timer that has fired cannot be called back: its message may wait while the plan changes.
#[tokio::test(start_paused = true)]
async fn a_restart_of_a_former_plan_is_void() {
    let tree = Tree::new(Clock::tokio());
    let long = Duration::from_secs(20);
    let args = SupervisorArgs {
        path: "root".into(),
        children: ["a", "b"].map(|id| ChildSpec::new(id, || (Idle, ()))).into(),
        strategy: Strategy::OneForAll,
        intensity: Intensity::default(),
        backoff: Backoff {
            first: long,
            most: long,
        },
        tree: tree.clone(),
        entropy: Entropy::seeded(1),
        exit: ExitCell::default(),
    };
    let (root, joined) = Actor::spawn(None, Supervisor, args).await.unwrap();
    let states = || {
        tree.snapshot()
            .unwrap()
            .children
            .iter()
            .map(|child| child.state)
            .collect::<Vec<_>>()
    };
    tree.cell("root/b").unwrap().kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(states(), [ActorState::Restarting; 2]);
    for generation in [0, 1] {
        let message = SupervisorMsg {
            first: 0,
            last: 1,
            generation,
        };
        root.cast(message).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(states(), [ActorState::Restarting; 2]);
    tokio::time::sleep(long).await;
    assert_eq!(states(), [ActorState::Running; 2]);
    root.stop(None);
    joined.await.unwrap();
}
