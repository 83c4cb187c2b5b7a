//! Periodic tasks: each tick of an entry is enqueued once, whatever becomes of the scheduler, of its
//! storage, of the clock and of other schedulers. All time is virtual.

mod clock;
mod crashes;
mod faults;
mod hooks;
mod kit;
mod manager;
mod missed;
mod several;
mod shown;
mod ticks;
