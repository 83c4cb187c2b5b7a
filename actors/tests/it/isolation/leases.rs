//! Leases of each queue are extended for themselves.

use asynq_core::BrokerError;
use asynq_testing::faulty::{Fault, Op};

use super::kit::{Bench, SECOND, SICK, WELL, config};

/// A run that lasts longer than several leases ends as it would without the sick queue.
async fn keeps_the_leases_of_the_other(fault: Fault) {
    let bench = Bench::new(config(), 100 * SECOND).await;
    bench.fill(WELL, 5).await;
    bench.fill(SICK, 5).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!((bench.runs.began(SICK), bench.runs.began(WELL)), (5, 5));
    bench.sick.always(Op::ExtendLeases, fault);
    for _ in 0..25 {
        tokio::time::sleep(4 * SECOND).await;
        let hanging = bench.sick.hanging(Op::ExtendLeases);
        assert!(hanging <= 1, "{hanging} extensions hang");
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!((bench.runs.began(WELL), bench.runs.ended(WELL)), (5, 5));
    bench.mend();
    bench.system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn extensions_that_hang() {
    keeps_the_leases_of_the_other(Fault::Hang).await;
}

#[tokio::test(start_paused = true)]
async fn extensions_that_are_refused() {
    keeps_the_leases_of_the_other(Fault::Fail(|| BrokerError::WrongType { key: "k".into() })).await;
}

#[tokio::test(start_paused = true)]
async fn extensions_without_answer() {
    keeps_the_leases_of_the_other(Fault::LoseRequest).await;
}

/// A trouble shorter than a lease costs nothing, and the sick queue's leases are extended right after it.
#[tokio::test(start_paused = true)]
async fn a_short_trouble_costs_no_lease() {
    let bench = Bench::new(config(), 100 * SECOND).await;
    bench.fill(WELL, 5).await;
    bench.fill(SICK, 5).await;
    tokio::time::sleep(10 * SECOND).await;
    bench.sick.all(Fault::Hang);
    tokio::time::sleep(15 * SECOND).await;
    bench.mend();
    bench.balance(5, 5).await;
}
