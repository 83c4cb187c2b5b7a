//! Tests of the whole: storages beside each other, and the system on top of them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[cfg(feature = "redis")]
mod aggregation;
#[cfg(feature = "redis")]
mod classic;
#[cfg(feature = "redis")]
mod clocks;
#[cfg(feature = "redis")]
mod crash;
mod inputs;
#[cfg(feature = "redis")]
#[path = "../../actors/tests/it/load.rs"]
mod load;
#[cfg(all(feature = "macros", feature = "json"))]
mod macros;
#[cfg(feature = "redis")]
mod outages;
#[cfg(feature = "redis")]
mod parents;
#[cfg(feature = "redis")]
mod property;
mod readme;
mod scheduler;
#[cfg(feature = "redis")]
mod sizes;
#[cfg(feature = "testing")]
mod testing;
#[cfg(any(feature = "cluster", feature = "sentinel"))]
mod topologies;
#[cfg(feature = "tower")]
mod tower;
#[cfg(all(feature = "testing", feature = "tower"))]
mod wrapped;
