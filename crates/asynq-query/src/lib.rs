//! The query language of Asynq for Rust: one text finds tasks in the library, on the command line and in the web pages.
//!
//! A query is a list of conditions, and a task must meet them all:
//!
//! ```
//! use asynq_query::Query;
//!
//! let query: Query = r#"state=retry type^=email: retried>3 error~"timeout" age>1h payload.user_id=1002"#.parse()?;
//! assert_eq!(query.conditions(), 6);
//! # Ok::<(), asynq_query::QueryError>(())
//! ```
//!
//! The page of [`Query`] describes the language.

mod check;
mod data;
mod error;
mod evaluate;
mod field;
mod grammar;
mod value;

pub use error::QueryError;
pub use evaluate::{Query, Scope, Verdict};

/// Largest number of bytes in a query.
pub const MAX_TEXT: usize = 4096;
/// Largest number of conditions in a query.
pub const MAX_CONDITIONS: usize = 100;
/// Largest depth of parentheses and `not`.
pub const MAX_DEPTH: usize = 32;
/// Largest payload or result, in bytes, in which a field is looked up.
pub const MAX_DATA: usize = 4 * 1024 * 1024;
