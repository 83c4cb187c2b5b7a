//! Helpers of all topics.

pub(super) use std::{sync::Arc, time::Duration};

pub(super) use asynq_core::{
    BrokerError, EnqueueError, SettleError, TaskState,
    broker::{Outcome, Want},
    raw::RawValue,
};
pub(super) use bytes::Bytes;

pub(super) use super::{
    fixture::{Fixture, Q},
    values::*,
};
pub(super) use crate::request::{batch_of, group, id, queue, request};

/// Longer than anything takes that is waited for.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
