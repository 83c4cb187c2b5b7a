//! The macros of Asynq for Rust. Use them through the crate `asynq`, feature `macros`: the paths in
//! what they write lead there, and its documentation has examples that run.
//!
//! A macro that refuses its input says what to write instead, leaves a function as it is, and names
//! every fault it finds at once.

mod faults;
mod handler;
mod payload;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Names the task types that a function handles; `register_handlers!` registers it.
///
/// The argument is a pattern: a task type, or a prefix of task types. The function takes the `Task`
/// and returns `asynq::Result<()>`. It stays as it is; beside it comes a module of its name
/// and visibility, which holds the pattern:
///
/// ```text
/// #[task_handler("email:send")]
/// fn send_email(task: Task) -> Result<()> { … }
///
/// // adds:
/// mod send_email {
///     pub const PATTERN: &str = "email:send";
/// }
/// ```
///
/// It may block its thread, as a function that is not async does; one that waits is better async,
/// with `#[task_handler_async]`.
///
/// # Compile errors
/// A pattern that is no literal or blank; an async, unsafe or generic function; a method; other
/// arguments than one; no return type.
#[proc_macro_attribute]
pub fn task_handler(pattern: TokenStream, item: TokenStream) -> TokenStream {
    handler::expand(handler::Kind::Sync, pattern.into(), item.into()).into()
}

/// Like `#[task_handler]`, for async functions; `register_async_handlers!` registers them.
///
/// The arguments are the `Task` and what can be made from it: up to eight types that are `FromTask`,
/// such as a payload with `#[derive(TaskPayload)]`, `Json<T>`, `State<T>` and `TaskContext`. The
/// function returns nothing, or a result whose error can be boxed.
///
/// `#[task_handler_async("email:send", crate = "my::asynq")]` says where `asynq` is found, for
/// re-exports. Default: `::asynq`.
///
/// # Compile errors
/// A pattern that is no literal or blank; a function that is not async, or is unsafe or generic; a
/// method; more than eight arguments, or one that is not `FromTask`; a future that is not `Send`.
#[proc_macro_attribute]
pub fn task_handler_async(pattern: TokenStream, item: TokenStream) -> TokenStream {
    handler::expand(handler::Kind::Async, pattern.into(), item.into()).into()
}

/// Makes a type the payload of one task type: implements `TaskPayload`, and with it `IntoTask`
/// (values are enqueued) and `FromTask` (values are arguments of handlers). Needs the feature `json`
/// of `asynq`, and that the type is `Serialize` and `Deserialize`.
///
/// `#[task(…)]` on the type has the task type and the options of every task made of it. An option that
/// is left out has its default; options of a call, or of the task, take the place of these.
///
/// | key | value | |
/// | --- | --- | --- |
/// | `type` | `"email:send"` | the task type; not blank; the only key that must be there |
/// | `queue` | `"critical"` | the queue; not blank |
/// | `max_retry` | `5` | how often a failed task is tried again, 0 to 2147483647 |
/// | `timeout` | `"30s"` | how long one run may take |
/// | `unique_ttl` | `"1h"` | refuse tasks of the same queue, type and payload for so long |
/// | `retention` | `"24h"` | how long to keep the task after success |
/// | `group` | `"digest"` | the group in which it waits to be aggregated; not blank |
/// | `crate` | `"my::asynq"` | where `asynq` is found; for re-exports. Default: `::asynq` |
///
/// Durations are a whole number and one unit, `ms`, `s`, `m`, `h` or `d` (24 h), from 1 s to 100 years
/// of 365 days. The wire carries whole seconds: fractions are cut when the task is enqueued.
///
/// The type itself has the task type as a constant `TYPE` too, as visible as the type: `SendEmail::TYPE` needs no
/// import of the trait. So it cannot have another associated constant of that name: give that one another name, or
/// implement `TaskPayload` by hand, which is the same constant and a function of the options.
///
/// A generic type is a payload wherever it is `Serialize` and `DeserializeOwned`.
///
/// # Compile errors
/// A missing `type`; a blank text; a number or duration outside of its range; a key that is unknown or
/// stands twice; `#[task(…)]` on a field or variant; a union; a constant `TYPE` of the type's own.
#[proc_macro_derive(TaskPayload, attributes(task))]
pub fn derive_task_payload(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    payload::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
