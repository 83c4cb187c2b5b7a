//! Tasks that are taken and not yet settled, with the calls that take and settle them. They belong to no actor, so no
//! crash of an actor loses them (rules.md#calls-outlive-actors).

pub(crate) mod exchange;
pub(crate) mod nudge;
pub(crate) mod starter;
pub(crate) mod table;
pub(crate) mod wind_down;
