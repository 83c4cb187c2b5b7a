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
//! # Conditions
//!
//! A condition is a field, an operator and a value. `and`, `or`, `not` and parentheses combine conditions; `and` may be left
//! out, and binds closer than `or`. A value with spaces, commas, quotes or parentheses stands in quotes, `"…"` or `'…'`,
//! where `\` takes the next character as it is.
//!
//! | operator | |
//! | --- | --- |
//! | `=` `!=` | equal, not equal. Several values with commas between them: one of them, none of them |
//! | `^=` `$=` | begins with, ends with |
//! | `~` `!~` | contains, does not contain, in letters of any case. `/…/` is a regular expression, `/…/i` in letters of any case |
//! | `<` `<=` `>` `>=` | less, at most, more, at least |
//!
//! | field | value |
//! | --- | --- |
//! | `id` `queue` `type` `group` `error` | a text. `error` is that of the last failure |
//! | `header.NAME` | a text |
//! | `state` | `active`, `pending`, `aggregating`, `scheduled`, `retry`, `archived` or `completed` |
//! | `retried` `max_retry` `progress` | a number; `progress` in per cent |
//! | `size` | bytes of the payload: `1000`, `10kB`, `1MiB` |
//! | `age` | time since the task came into its state: `90s`, `1h30m`, `2d`. Known for pending, retry, archived and completed tasks |
//! | `timeout` `retention` | a duration; `timeout=0s` finds tasks without one |
//! | `last_failed_at` `next_process_at` `completed_at` `deadline` | a time: `2026-11-29`, `2026-11-29T10:00:00Z`, `now`, `now-1h`, `now+2d` |
//! | `orphaned` `damaged` | `true` or `false` |
//! | `payload` `result` | the text of all of it |
//! | `payload.user.id` `payload.items[0].sku` `payload."a key".x` `result.…` | a value in JSON or MessagePack. A number equals a number, of any size, exactly; `"5"` in quotes is a text only, and `null` finds what is absent |
//!
//! # What is not known
//!
//! A condition about a value that a task does not have, or that cannot be read, is neither true nor false: the age of an
//! active task, a field of a payload that is neither JSON nor MessagePack or is larger than [`MAX_DATA`]. `not` does not
//! make it true. A task for which the whole query remains [undecided](Verdict::Undecided) is not found, so that no action
//! concerns a task of which the condition is not known to hold.

mod check;
mod data;
mod error;
mod evaluate;
mod field;
mod grammar;
mod value;

pub use error::QueryError;
pub use evaluate::{Query, Verdict};

/// Largest number of bytes in a query.
pub const MAX_TEXT: usize = 4096;
/// Largest number of conditions in a query.
pub const MAX_CONDITIONS: usize = 100;
/// Largest depth of parentheses and `not`.
pub const MAX_DEPTH: usize = 32;
/// Largest payload or result, in bytes, in which a field is looked up.
pub const MAX_DATA: usize = 4 * 1024 * 1024;
