//! The messages against bytes that Go wrote.

mod golden;
mod tolerance;
