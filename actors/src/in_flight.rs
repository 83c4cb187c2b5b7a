//! Tasks that are taken and not yet settled, with the calls that take and settle them. None of it belongs to
//! an actor, so none of it is lost with one (rules.md#calls-outlive-actors).

pub(crate) mod exchange;
pub(crate) mod nudge;
pub(crate) mod table;
pub(crate) mod wind_down;
