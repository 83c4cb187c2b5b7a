//! Search of `pending`, which can be long, in parts.

use std::collections::BTreeSet;

use asynq_core::{error::BrokerError, names::QueueName};

use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::Reply,
    scripts,
};

/// Number of entries of a list that one call searches: about a millisecond of Redis.
const SEARCHED: i64 = 2000;
/// Number of times that a search may lose its position.
const RESTARTS: u32 = 3;

/// The place at which a search goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SearchPlace {
    pub(crate) index: i64,
    /// The entry before it.
    pub(crate) before: Vec<u8>,
    pub(crate) restarts: u32,
}

/// The state of a search after a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    GoesOn,
    /// All of the list was searched.
    Done,
    /// The list changes too fast.
    Failed,
}

/// Searches a part of `pending` for ids, and adds those that are there.
pub(crate) async fn search_pending<'i>(
    core: &Core,
    queue: &QueueName,
    place: &mut SearchPlace,
    ids: impl Iterator<Item = &'i [u8]>,
    found: &mut BTreeSet<Vec<u8>>,
) -> Result<Search, BrokerError> {
    let mut args = Args::default().int(place.index);
    args.push(&place.before);
    let mut args = args.int(SEARCHED);
    ids.for_each(|id| args.push(id));
    let value = core
        .link
        .eval(&scripts::SEARCH_LIST, keys_of(queue, &["pending"]), args)
        .await?;
    let mut reply = Reply::of_script("search_list", value)?;
    (place.index, place.before) = (reply.int()?, reply.bytes()?);
    while !reply.is_empty() {
        found.insert(reply.bytes()?);
    }
    Ok(match place.index {
        -1 => Search::Done,
        -2 if place.restarts == RESTARTS => Search::Failed,
        -2 => {
            let restarts = place.restarts + 1;
            *place = SearchPlace {
                restarts,
                ..SearchPlace::default()
            };
            Search::GoesOn
        }
        _ => Search::GoesOn,
    })
}
