//! Ten slots, tasks of 100 ms: a well queue alone has 1000 runs in ten seconds.

use std::time::Duration;

use asynq_actors::Exit;
use asynq_core::BrokerError;
use asynq_testing::faulty::{Fault, Op};

use super::kit::{Bench, SECOND, SICK, WELL, config};

const LASTS: Duration = Duration::from_millis(100);
const WINDOW: Duration = Duration::from_secs(10);
/// Runs of one queue in the window that has all slots.
const ALONE: usize = 1000;

fn wrong_type() -> Fault {
    Fault::Fail(|| BrokerError::WrongType { key: "k".into() })
}

fn refused() -> Fault {
    Fault::Fail(|| BrokerError::Refused { source: "no".into() })
}

/// The trouble of the sick queue.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    exchange: Fault,
    adopt: Option<Fault>,
    /// Time for which a storage waits for a part.
    late_after: Option<Duration>,
    barrier: bool,
    /// `true` if tasks of the sick queue run all the same, and take slots.
    runs: bool,
    windows: usize,
}

impl Trouble {
    fn of(exchange: Fault) -> Self {
        Self {
            exchange,
            adopt: None,
            late_after: None,
            barrier: true,
            runs: false,
            windows: 2,
        }
    }

    fn adopt(self, adopt: Fault) -> Self {
        Self {
            adopt: Some(adopt),
            ..self
        }
    }
}

/// In trouble for some windows, of which the well queue must have 80 % in each; then all is well again.
async fn leaves_the_other_its_throughput(trouble: Trouble) {
    const SICK_TASKS: usize = 200;
    let enough = trouble.windows * ALONE * 11 / 10;
    let bench = Bench::new(config(), LASTS).await;
    if let Some(limit) = trouble.late_after {
        bench.faults.late_after(limit);
    }
    if !trouble.barrier {
        bench.faults.without_barrier();
    }
    bench.fill(WELL, enough).await;
    bench.fill(SICK, SICK_TASKS).await;
    tokio::time::sleep(SECOND / 2).await;
    bench.sick.always(Op::Exchange, trouble.exchange);
    if let Some(adopt) = trouble.adopt {
        bench.sick.always(Op::Adopt, adopt);
    }
    for _ in 0..trouble.windows {
        let (before, well) = (bench.runs.ended(SICK), bench.well_in(WINDOW).await);
        let sick = bench.runs.ended(SICK) - before;
        // Slots that the sick queue puts to use are not lost.
        let least = if trouble.runs { ALONE / 2 } else { ALONE };
        assert!(
            well * 10 >= least * 8 && (well + sick) * 10 >= ALONE * 8,
            "{well} runs, and {sick} of the sick queue: {trouble:?}"
        );
        assert!(
            bench.sick.hanging(Op::Exchange) <= 3,
            "{}",
            bench.sick.hanging(Op::Exchange)
        );
        assert!(bench.sick.hanging(Op::Adopt) <= 3, "{}", bench.sick.hanging(Op::Adopt));
    }
    bench.mend();
    bench.balance(SICK_TASKS, enough).await;
}

macro_rules! troubles {
    ($($name:ident: $trouble:expr;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                leaves_the_other_its_throughput($trouble).await;
            }
        )*
    };
}

troubles! {
    // Longer than a lease, whose extension goes on meanwhile.
    calls_that_hang: Trouble { windows: 4, ..Trouble::of(Fault::Hang) };
    refusals: Trouble::of(wrong_type());
    no_connection: Trouble::of(Fault::unavailable());
    requests_that_are_lost: Trouble::of(Fault::LoseRequest);
    answers_that_are_lost: Trouble { runs: true, ..Trouble::of(Fault::LoseReply) };
    parts_that_are_answered_late: Trouble { late_after: Some(SECOND), ..Trouble::of(Fault::Hang) };
    parts_that_are_answered_late_without_a_barrier:
        Trouble { late_after: Some(SECOND), barrier: false, ..Trouble::of(Fault::Hang) };
    requests_that_are_lost_and_adoptions_that_are_refused: Trouble::of(Fault::LoseRequest).adopt(refused());
    requests_that_are_lost_and_adoptions_that_hang: Trouble::of(Fault::LoseRequest).adopt(Fault::Hang);
    requests_that_are_lost_and_adoptions_that_are_lost: Trouble::of(Fault::LoseRequest).adopt(Fault::LoseReply);
    late_parts_and_adoptions_that_hang:
        Trouble { late_after: Some(SECOND), ..Trouble::of(Fault::Hang).adopt(Fault::Hang) };
}

/// Executed, so the tasks are taken, and their leases end: this time others recover them. So long it
/// takes only in this test; what is looked at is what was taken and is found late.
#[tokio::test(start_paused = true)]
async fn answers_that_hang() {
    let bench = Bench::new(config(), LASTS).await;
    bench.fill(WELL, 2300).await;
    bench.fill(SICK, 100).await;
    tokio::time::sleep(SECOND / 2).await;
    bench.sick.always(Op::Exchange, Fault::HoldReply);
    for _ in 0..2 {
        let well = bench.well_in(WINDOW).await;
        assert!(well * 10 >= ALONE * 8, "{well} runs");
    }
    bench.mend();
    bench.balance(100, 2300).await;
}

/// A queue that answers, but slowly, holds nobody up, and is served.
#[tokio::test(start_paused = true)]
async fn a_slow_queue() {
    const SICK_TASKS: usize = 200;
    let bench = Bench::new(config(), LASTS).await;
    bench.fill(WELL, 2300).await;
    bench.fill(SICK, SICK_TASKS).await;
    tokio::time::sleep(SECOND / 2).await;
    bench.sick.always(Op::Exchange, Fault::Hang);
    let before = bench.runs.ended(SICK);
    for _ in 0..10 {
        let well = bench.well_in(2 * SECOND).await;
        assert!(well * 10 >= ALONE / 10 * 8, "{well} runs in two seconds");
        bench.sick.release();
    }
    assert!(
        bench.runs.ended(SICK) >= before + 10,
        "{}",
        bench.runs.ended(SICK) - before
    );
    bench.mend();
    bench.balance(SICK_TASKS, 2300).await;
}

/// However small the share of slots, and however the queues are ordered.
#[tokio::test(start_paused = true)]
async fn one_slot_and_strict_priority() {
    for fault in [Fault::Hang, Fault::LoseRequest, wrong_type()] {
        for adopt in [None, Some(refused())] {
            let config = asynq_core::ServerConfig::new()
                .concurrency(1)
                .queues([(SICK, 9), (WELL, 1)])
                .strict_priority(true);
            let bench = Bench::new(config, LASTS).await;
            bench.fill(WELL, 300).await;
            bench.sick.always(Op::Exchange, fault);
            if let Some(adopt) = adopt {
                bench.sick.always(Op::Adopt, adopt);
            }
            bench.fill(SICK, 10).await;
            let well = bench.well_in(WINDOW).await;
            assert!(well >= 80, "{well} runs: {fault:?}");
            bench.mend();
            bench.balance(10, 300).await;
        }
    }
}

/// A task that runs when its queue falls silent keeps its outcome until the queue is back.
#[tokio::test(start_paused = true)]
async fn outcomes_of_a_silent_queue_wait_and_pile_up_no_calls() {
    let bench = Bench::new(config().concurrency(40), 5 * SECOND).await;
    bench.fill(SICK, 20).await;
    bench.fill(WELL, 200).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.runs.began(SICK), 20);
    bench.sick.always(Op::Exchange, Fault::Hang);
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(bench.runs.ended(SICK), 20);
    assert!(
        bench.sick.hanging(Op::Exchange) <= 3,
        "{}",
        bench.sick.hanging(Op::Exchange)
    );
    assert!(bench.runs.ended(WELL) >= 160, "{}", bench.runs.ended(WELL));
    bench.mend();
    bench.balance(20, 200).await;
}

/// At the end of service, outcomes of other queues are written at once.
#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_what_can_be_written() {
    for fault in [Fault::Hang, Fault::unavailable(), Fault::LoseRequest] {
        let bench = Bench::new(config(), 3 * SECOND).await;
        bench.fill(SICK, 5).await;
        bench.fill(WELL, 5).await;
        tokio::time::sleep(SECOND).await;
        assert_eq!((bench.runs.began(SICK), bench.runs.began(WELL)), (5, 5));
        bench.sick.all(fault);
        tokio::time::sleep(SECOND).await;
        assert_eq!(bench.system.shutdown().await, Exit::Stopped);
        for number in 0..5 {
            assert_eq!(bench.state(WELL, &format!("{WELL}{number}")).await, None, "{fault:?}");
        }
    }
}

/// An idle server whose sick queue cannot be watched starts the tasks of the other at once.
#[tokio::test(start_paused = true)]
async fn an_idle_server_is_woken_although_one_queue_cannot_be_watched() {
    for fault in [Fault::Hang, Fault::unavailable(), wrong_type()] {
        let bench = Bench::new(config().task_check_interval(60 * SECOND), LASTS).await;
        bench.sick.always(Op::Watch, fault);
        bench.sick.always(Op::Exchange, fault);
        bench.fill(WELL, 1).await;
        tokio::time::sleep(30 * SECOND).await;
        for number in 0..10 {
            let task = super::kit::task(WELL, format!("t{number}"));
            bench.system.client().enqueue(task).await.unwrap();
            tokio::time::sleep(2 * SECOND).await;
            assert_eq!(bench.runs.began(WELL), 2 + number, "{fault:?}");
        }
        let before = bench.faults.calls(Op::Exchange);
        tokio::time::sleep(60 * SECOND).await;
        let calls = bench.faults.calls(Op::Exchange) - before;
        assert!(calls < 150, "{calls} calls in an idle minute: {fault:?}");
        bench.mend();
        bench.balance(0, 11).await;
    }
}
