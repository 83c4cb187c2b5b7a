//! Handler actors on the embedded broker. All time is virtual.

mod answers;
mod crashes;
mod kit;
mod limits;
mod middleware;
mod routing;
mod suspension;
