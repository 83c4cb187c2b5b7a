//! Random crashes in random trees: what must hold whatever happens.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{
    ActorState, TreeEvent,
    supervisor::{self, Backoff, ChildSpec, Intensity, Restart, Shutdown, SupervisorArgs, SupervisorError},
};
use proptest::{prelude::*, strategy::Strategy as Generated};
use ractor::ActorId;
use tokio::{sync::broadcast::error::RecvError, task::JoinSet, time::Instant};

use super::kit::{Boot, Order, World, settle};

const LEAVES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
const BRANCHES: [&str; 4] = ["s0", "s1", "s2", "s3"];

#[derive(Clone, Debug)]
enum Shape {
    Leaf(Restart, Shutdown),
    Branch(Settings, Vec<Shape>),
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    strategy: supervisor::Strategy,
    intensity: Intensity,
    restart: Restart,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Panic(usize),
    Fail(usize),
    End(usize),
    Kill(usize),
    Hang(usize),
    KillSupervisorOf(usize),
    FailNextStarts(usize, usize),
    CrashAfterNextStart(usize),
    Wait(u64),
}

fn restart() -> impl Generated<Value = Restart> {
    prop_oneof![3 => Just(Restart::Permanent), 1 => Just(Restart::Transient), 1 => Just(Restart::Temporary)]
}

fn settings() -> impl Generated<Value = Settings> {
    let strategy = prop_oneof![
        Just(supervisor::Strategy::OneForOne),
        Just(supervisor::Strategy::RestForOne),
        Just(supervisor::Strategy::OneForAll)
    ];
    let intensity = prop_oneof![
        2 => Just(Intensity { restarts: 1000, within: Duration::from_secs(60) }),
        1 => Just(Intensity::UNLIMITED),
        1 => (0_u32..4, 1_u64..20).prop_map(|(restarts, secs)| Intensity {
            restarts,
            within: Duration::from_secs(secs)
        }),
    ];
    (strategy, intensity, restart()).prop_map(|(strategy, intensity, restart)| Settings {
        strategy,
        intensity,
        restart,
    })
}

fn leaf() -> impl Generated<Value = Shape> {
    let shutdown = prop_oneof![
        4 => Just(Shutdown::Stop(Duration::from_secs(2))),
        1 => Just(Shutdown::Drain(Duration::from_secs(2))),
        1 => Just(Shutdown::Kill),
    ];
    (restart(), shutdown).prop_map(|(restart, shutdown)| Shape::Leaf(restart, shutdown))
}

fn tree() -> impl Generated<Value = Shape> {
    let inner = (settings(), prop::collection::vec(leaf(), 1..4)).prop_map(|(own, below)| Shape::Branch(own, below));
    let child = prop_oneof![2 => leaf(), 1 => inner];
    (settings(), prop::collection::vec(child, 1..5)).prop_map(|(own, below)| Shape::Branch(own, below))
}

fn act() -> impl Generated<Value = Act> {
    let leaf = 0..LEAVES.len();
    prop_oneof![
        3 => leaf.clone().prop_map(Act::Panic),
        2 => leaf.clone().prop_map(Act::Fail),
        2 => leaf.clone().prop_map(Act::End),
        2 => leaf.clone().prop_map(Act::Kill),
        1 => leaf.clone().prop_map(Act::Hang),
        1 => leaf.clone().prop_map(Act::KillSupervisorOf),
        1 => (leaf.clone(), 1_usize..4).prop_map(|(leaf, times)| Act::FailNextStarts(leaf, times)),
        1 => leaf.prop_map(Act::CrashAfterNextStart),
        4 => prop_oneof![Just(0_u64), Just(1), Just(60), Just(150), Just(1000), Just(5000)].prop_map(Act::Wait),
    ]
}

/// A supervisor as it was built.
#[derive(Debug)]
struct Built {
    path: String,
    settings: Settings,
    /// Names, with whether it is a leaf and how it is restarted.
    children: Vec<(&'static str, bool, Restart)>,
}

fn build(world: &World, path: &str, own: Settings, below: &[Shape], built: &mut Vec<Built>) -> SupervisorArgs {
    let place = built.len();
    built.push(Built {
        path: path.to_owned(),
        settings: own,
        children: Vec::new(),
    });
    let mut children: Vec<ChildSpec> = Vec::new();
    for shape in below {
        let (spec, known) = match shape {
            Shape::Leaf(restart, shutdown) => {
                let used: usize = built
                    .iter()
                    .map(|b| b.children.iter().filter(|(_, is_leaf, _)| *is_leaf).count())
                    .sum();
                let name = LEAVES[used];
                (
                    world.child(name).restart(*restart).shutdown(*shutdown),
                    (name, true, *restart),
                )
            }
            Shape::Branch(settings, below) => {
                let name = BRANCHES[built.len() - 1];
                let args = build(world, &format!("{path}/{name}"), *settings, below, built);
                let spec = world.nested(name, args).restart(settings.restart);
                (
                    spec.shutdown(Shutdown::Stop(Duration::from_secs(60))),
                    (name, false, settings.restart),
                )
            }
        };
        children.push(spec);
        built[place].children.push(known);
    }
    let mut args = world.args(own.strategy, children);
    args.path = path.to_owned();
    args.intensity = own.intensity;
    args.backoff = Backoff {
        first: Duration::from_millis(100),
        most: Duration::from_secs(2),
    };
    args
}

type Events = Arc<Mutex<Vec<(Instant, TreeEvent)>>>;

fn state(world: &World, path: &str) -> ActorState {
    let names: Vec<_> = path.split('/').skip(1).collect();
    world.state(&names)
}

/// The last reason for which a transient leaf is not there may only be that it had ended well.
fn check_settled(world: &World, built: &[Built], ended_well: &HashMap<ActorId, bool>) -> Result<(), TestCaseError> {
    prop_assert_eq!(world.breaches(), Vec::<String>::new());
    for own in built {
        let runs = state(world, &own.path) == ActorState::Running;
        let mut numbers = Vec::new();
        for (name, is_leaf, restart) in &own.children {
            let shown = state(world, &format!("{}/{name}", own.path));
            if !runs {
                prop_assert_ne!(shown, ActorState::Running, "{} below a dead supervisor", name);
                prop_assert_ne!(shown, ActorState::Restarting, "{} below a dead supervisor", name);
            }
            if *is_leaf {
                let alive = world.alive(name);
                prop_assert_eq!(
                    alive,
                    usize::from(shown == ActorState::Running),
                    "{} is shown as {:?}",
                    name,
                    shown
                );
                if alive == 1 {
                    numbers.push(world.start_number(name));
                }
            }
            if runs && *restart == Restart::Permanent {
                prop_assert_eq!(shown, ActorState::Running, "{} is permanent", name);
            }
            if runs && *is_leaf && *restart == Restart::Transient && shown != ActorState::Running {
                let last = world.probe(name).get_id();
                prop_assert!(ended_well.get(&last).copied().unwrap_or(false), "{} has crashed", name);
            }
        }
        if own.settings.strategy != supervisor::Strategy::OneForOne {
            prop_assert!(numbers.is_sorted(), "{}: {:?}", own.path, numbers);
        }
    }
    Ok(())
}

/// Replays what the tree told: no supervisor restarts more than it may, and none gives up before.
fn check_intensity(built: &[Built], events: &[(Instant, TreeEvent)]) -> Result<(), TestCaseError> {
    for own in built {
        let Intensity { restarts, within } = own.settings.intensity;
        let mut recent: VecDeque<Instant> = VecDeque::new();
        let mut last_straw = None;
        for (at, event) in events {
            if event.path == own.path {
                match event.state {
                    // Another incarnation: it begins with a clean slate.
                    ActorState::Running => recent.clear(),
                    ActorState::Failed if event.failure.as_ref().is_some_and(|why| why.contains("more than")) => {
                        let at = last_straw.unwrap_or(*at);
                        recent.retain(|before| at - *before <= within);
                        prop_assert!(recent.len() >= restarts as usize, "{} gave up early", own.path);
                    }
                    _ => {}
                }
                continue;
            }
            let own_child = event
                .path
                .rsplit_once('/')
                .is_some_and(|(parent, _)| parent == own.path);
            // It is said before the others are stopped, which takes its time.
            if own_child && event.failure.is_some() && event.state != ActorState::Restarting {
                last_straw = Some(*at);
            }
            // Siblings that are restarted too have no failure of their own.
            if own_child && event.state == ActorState::Restarting && event.failure.is_some() {
                recent.push_back(*at);
                recent.retain(|before| *at - *before <= within);
                prop_assert!(recent.len() <= restarts as usize, "{} restarts too much", own.path);
            }
        }
    }
    Ok(())
}

async fn run(shape: Shape, acts: Vec<Act>) -> Result<(), TestCaseError> {
    let Shape::Branch(own, below) = shape else {
        unreachable!()
    };
    let world = World::new();
    let mut built = Vec::new();
    let args = build(&world, "root", own, &below, &mut built);
    let leaves: Vec<&'static str> = built
        .iter()
        .flat_map(|b| b.children.iter().filter(|c| c.1).map(|c| c.0))
        .collect();

    let events = Events::default();
    let (told, mut changes) = (Arc::clone(&events), world.tree.events());
    let mut listening = JoinSet::new();
    listening.spawn(async move {
        loop {
            let event = match changes.recv().await {
                Ok(event) => event,
                Err(RecvError::Closed) => return,
                Err(lagged) => panic!("{lagged}"),
            };
            told.lock().unwrap().push((Instant::now(), event));
        }
    });

    let root = world.spawn(args).await;
    let mut ended_well: HashMap<ActorId, bool> = HashMap::new();
    for act in acts {
        let name = |index: usize| leaves[index % leaves.len()];
        // The first that an incarnation is told is its end; what is dead is told nothing.
        let mut order = |leaf: usize, order: Order| {
            let well = matches!(order, Order::End);
            if let Some(probe) = world.probe_if_any(name(leaf))
                && probe.cast(order).is_ok()
            {
                ended_well.entry(probe.get_id()).or_insert(well);
            }
        };
        match act {
            Act::Panic(leaf) => order(leaf, Order::Panic),
            Act::Fail(leaf) => order(leaf, Order::Fail),
            Act::End(leaf) => order(leaf, Order::End),
            Act::Hang(leaf) => order(leaf, Order::Hang),
            Act::Kill(leaf) => world
                .probe_if_any(name(leaf))
                .into_iter()
                .for_each(|probe| probe.kill()),
            Act::KillSupervisorOf(leaf) => {
                let supervisor = world
                    .probe_if_any(name(leaf))
                    .and_then(|probe| probe.try_get_supervisor());
                // The root is nobody's to restart.
                if let Some(supervisor) = supervisor.filter(|cell| cell.get_id() != root.cell.get_id()) {
                    supervisor.kill();
                }
            }
            Act::FailNextStarts(leaf, times) => {
                world.boots(name(leaf), [Boot::Fail, Boot::Panic].into_iter().cycle().take(times))
            }
            Act::CrashAfterNextStart(leaf) => world.boots(name(leaf), [Boot::PanicAfterwards]),
            Act::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }
    settle().await;
    check_settled(&world, &built, &ended_well)?;
    check_intensity(&built, &events.lock().unwrap())?;

    let survived = state(&world, "root") == ActorState::Running;
    if !survived {
        let gave_up = matches!(world.failed_with(), SupervisorError::IntensityExceeded { .. });
        prop_assert!(gave_up, "the root ended otherwise");
    }
    let alive: Vec<String> = built_order(&built, "root")
        .filter(|leaf| world.alive(leaf) == 1)
        .map(str::to_owned)
        .collect();
    world.log();
    root.stop().await;
    settle().await;
    // Who hangs or is killed says nothing; the others stop in reverse.
    let said = world.log();
    let mut expected = alive.iter().rev().map(|leaf| format!("stop {leaf}"));
    prop_assert!(
        said.iter().all(|line| expected.any(|other| other == *line)),
        "{:?} of {:?}",
        said,
        alive
    );
    for leaf in &leaves {
        prop_assert_eq!(world.alive(leaf), 0, "{} after the end", leaf);
    }
    if survived {
        prop_assert_eq!(world.exit.get(), Some(&Ok(())));
    }
    Ok(())
}

/// The leaves below a supervisor, in the order they are started.
fn built_order<'b>(built: &'b [Built], path: &str) -> Box<dyn Iterator<Item = &'static str> + 'b> {
    let path = path.to_owned();
    let Some(own) = built.iter().find(|b| b.path == path) else {
        return Box::new(std::iter::empty());
    };
    Box::new(own.children.iter().flat_map(
        move |(name, is_leaf, _)| -> Box<dyn Iterator<Item = &'static str> + 'b> {
            if *is_leaf {
                Box::new(std::iter::once(*name))
            } else {
                built_order(built, &format!("{path}/{name}"))
            }
        },
    ))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_crashes_the_tree_comes_to_rest(shape in tree(), acts in prop::collection::vec(act(), 0..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(shape, acts))?;
    }
}
