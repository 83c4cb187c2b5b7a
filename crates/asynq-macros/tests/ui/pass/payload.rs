//! All options, generics, and `asynq` under another name.
#![deny(warnings, missing_docs, clippy::all)]

use std::{fmt::Debug, time::Duration};

use asynq_core::{IntoTask, TaskOptions, TaskPayload as _, options};
use asynq_macros::TaskPayload;
use serde::{Deserialize, Serialize};

mod my {
    pub(super) mod asynq {
        pub(in super::super) use asynq_core::{TaskOptions, TaskPayload};
    }
}

#[derive(Serialize, Deserialize, TaskPayload)]
#[task(type = "email:send", crate = "asynq_core")]
struct Plain {
    user: u64,
}

#[derive(Serialize, Deserialize, TaskPayload)]
#[task(
    type = "email:digest",
    queue = "critical",
    max_retry = 5,
    timeout = "30s",
    unique_ttl = "1h",
    retention = "24h",
    group = "g",
    crate = "my::asynq"
)]
enum Full {
    Daily,
    Weekly(u8),
}

#[derive(Serialize, Deserialize, TaskPayload)]
#[task(type = "limits", max_retry = 2147483647, timeout = "36500d")]
#[task(unique_ttl = "1000ms", retention = "1s")]
#[task(crate = "asynq_core")]
struct Limits;

#[derive(Serialize, Deserialize, TaskPayload)]
#[task(type = "generic", max_retry = 0, crate = "asynq_core")]
struct Generic<T, const N: usize = 1>
where
    T: Debug,
{
    inner: T,
}

#[test]
fn options_are_those_of_the_attribute() {
    assert_eq!((Plain::TYPE, Plain::options()), ("email:send", TaskOptions::new()));
    let task = Plain { user: 42 }.into_task().unwrap();
    let expected = ("email:send", &br#"{"user":42}"#[..]);
    assert_eq!((task.get_type(), task.get_payload()), expected);

    let all = TaskOptions::new()
        .queue("critical")
        .max_retry(5)
        .timeout(Duration::from_secs(30))
        .unique_ttl(Duration::from_secs(3600))
        .retention(Duration::from_secs(24 * 3600))
        .group("g");
    assert_eq!((Full::TYPE, Full::options()), ("email:digest", all.clone()));
    assert_eq!(Full::Weekly(3).into_task().unwrap().options(), &all);
    assert_eq!(Full::Daily.into_task().unwrap().get_payload(), br#""Daily""#);
}

#[test]
fn the_limits_of_the_macro_are_those_of_the_options() {
    let limits = TaskOptions::new()
        .max_retry(options::MAX_RETRIES)
        .timeout(options::MAX_DURATION)
        .unique_ttl(options::MIN_DURATION)
        .retention(options::MIN_DURATION);
    assert_eq!(Limits::options(), limits);
}

#[test]
fn a_generic_type_asks_for_what_serde_asks_for() {
    let generic = Generic::<_> { inner: 7_u8 };
    assert_eq!(generic.into_task().unwrap().get_payload(), br#"{"inner":7}"#);
    assert_eq!(Generic::<String>::options(), TaskOptions::new().max_retry(0));
}

mod without_the_trait {
    #[derive(serde::Serialize, serde::Deserialize, asynq_macros::TaskPayload)]
    #[task(type = "report", crate = "asynq_core")]
    pub(super) struct Report;

    #[derive(serde::Serialize, serde::Deserialize, asynq_macros::TaskPayload)]
    #[task(type = "many", crate = "asynq_core")]
    pub(super) struct Many<T: ToString>(pub(super) Vec<T>);
}

#[test]
fn the_type_is_known_without_the_trait() {
    mod plain {
        use super::without_the_trait::{Many, Report};

        pub(super) const TYPES: [&str; 2] = [Report::TYPE, Many::<String>::TYPE];
    }
    assert_eq!(plain::TYPES, ["report", "many"]);
    fn by_trait<T: asynq_core::TaskPayload>() -> &'static str {
        T::TYPE
    }
    assert_eq!(
        [
            by_trait::<without_the_trait::Report>(),
            by_trait::<without_the_trait::Many<u8>>()
        ],
        plain::TYPES
    );
}
