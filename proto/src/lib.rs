//! The wire format of Asynq: what is stored in Redis, as protobuf messages equal to those of the Go task queue.
//!
//! The messages are generated from `asynq.proto`, and the generated code is committed: building this crate needs no `protoc`.
//! After a change of the schema run `cargo xtask codegen`.
//!
//! ```
//! use asynq_proto::{Message as _, TaskMessage};
//!
//! let task = TaskMessage {
//!     r#type: "email:send".to_owned(),
//!     id: "id1".to_owned(),
//!     queue: "default".to_owned(),
//!     ..TaskMessage::default()
//! };
//! let stored = task.encode_to_vec();
//! assert_eq!(TaskMessage::decode(stored.as_slice())?, task);
//! # Ok::<(), asynq_proto::DecodeError>(())
//! ```
//!
//! # What a reader has to know
//!
//! * Every field of every message may be missing and then has its default; so no bytes at all are a message too, with an empty
//!   id and type. Whether a decoded message makes sense is for its reader to check.
//! * Unknown fields are skipped, and lost when the message is written again.
//! * Strings are UTF-8, and bytes that are not are a [`DecodeError`]. Payloads are any bytes, and a missing payload reads the
//!   same as an empty one.
//! * We write map entries in the order of their keys and leave out an empty key or value; Go writes them in random order and
//!   whole. Both sides read both, but equal messages may differ in their bytes.
//! * A [`Timestamp`] is always written: Go tells "never" by [`NEVER`], not by a missing field.

mod generated {
    include!("generated/asynq.rs");
}

pub use generated::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, TaskMessage, WorkerInfo};
pub use prost::{DecodeError, Message};

/// An instant: protobuf's well-known type of that name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z, negative before it.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds after that second, 0 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// The instant that stands for "never" on the wire: 0001-01-01T00:00:00Z, which is Go's unset time.
///
/// Go reads a missing [`Timestamp`] as 1970, and older Go programs refuse the whole message.
pub const NEVER: Timestamp = Timestamp {
    seconds: -62_135_596_800,
    nanos: 0,
};
