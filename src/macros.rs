//! Macros for handlers and payloads.

/// Registers functions with `#[task_handler]` in a [`ServeMux`](crate::serve_mux::ServeMux), each under its pattern,
/// as `mux.handle_func(f::PATTERN, f)` does.
///
/// The first argument is the mux: a variable or field that is owned or `&mut`. A function can be named by its path.
///
/// ```
/// use asynq::{Result, ServeMux, Task, register_handlers, task_handler};
///
/// #[task_handler("report:build")]
/// fn build(task: Task) -> Result<()> {
///     println!("{} bytes", task.get_payload().len());
///     Ok(())
/// }
///
/// mod emails {
///     # use asynq::{error::Result, task::Task, task_handler};
///     #[task_handler("email:")]
///     pub fn any(task: Task) -> Result<()> {
///         println!("{}", task.get_type());
///         Ok(())
///     }
/// }
///
/// let mut mux = ServeMux::new();
/// register_handlers!(mux, build, emails::any);
/// assert!(mux.patterns().eq(["email:", "report:build"]));
/// ```
#[macro_export]
macro_rules! register_handlers {
    ($mux:expr, $($($handler:ident)::+),+ $(,)?) => {{
        $( $mux.handle_func($($handler)::+::PATTERN, $($handler)::+); )+
    }};
}

/// Registers functions with `#[task_handler_async]`, as `mux.route_on(f::PATTERN, f)` does. The arguments are those
/// of [`register_handlers!`](crate::register_handlers).
///
/// ```
/// use asynq::{ServeMux, Task, register_async_handlers, task_handler_async};
///
/// #[task_handler_async("image:resize")]
/// async fn resize(task: Task) -> asynq::Result<()> {
///     println!("{} bytes", task.get_payload().len());
///     Ok(())
/// }
///
/// let mut mux = ServeMux::new();
/// register_async_handlers!(mux, resize);
/// assert!(mux.patterns().eq(["image:resize"]));
/// ```
///
/// A function that is not async belongs in `register_handlers!`:
///
/// ```compile_fail,E0277
/// # use asynq::{Result, ServeMux, Task, register_async_handlers, task_handler};
/// #[task_handler("report:build")]
/// fn build(task: Task) -> Result<()> {
///     Ok(())
/// }
///
/// let mut mux = ServeMux::new();
/// register_async_handlers!(mux, build);
/// ```
#[macro_export]
macro_rules! register_async_handlers {
    ($mux:expr, $($($handler:ident)::+),+ $(,)?) => {{
        $( $mux.route_on($($handler)::+::PATTERN, $($handler)::+); )+
    }};
}

/// # Example
/// ```
/// use asynq::{Result, Task, task_handler};
///
/// #[task_handler("email:send")]
/// fn send(task: Task) -> Result<()> {
///     println!("{} bytes to send", task.get_payload().len());
///     Ok(())
/// }
///
/// assert_eq!(send::PATTERN, "email:send");
/// assert!(send(Task::new(send::PATTERN, b"hello")?).is_ok());
/// # Ok::<(), asynq::Error>(())
/// ```
pub use asynq_macros::task_handler;

/// # Example
/// ```
/// # #[cfg(feature = "json")] {
/// use asynq::{TaskPayload, extract::State, task_handler_async};
///
/// #[derive(serde::Serialize, serde::Deserialize, TaskPayload)]
/// #[task(type = "email:send")]
/// struct Email {
///     to: String,
/// }
///
/// struct Mailer;
///
/// #[task_handler_async("email:send")]
/// async fn send(email: Email, mailer: State<Mailer>) -> Result<(), std::fmt::Error> {
///     // … sends the email with the mailer.
///     # let _: (String, State<Mailer>) = (email.to, mailer);
///     Ok(())
/// }
///
/// assert_eq!(send::PATTERN, "email:send");
/// # }
/// ```
pub use asynq_macros::task_handler_async;

/// # Example
/// ```
/// use asynq::{IntoTask as _, TaskOptions, TaskPayload};
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize, TaskPayload)]
/// #[task(type = "email:send", queue = "critical", max_retry = 5, timeout = "30s")]
/// struct Email {
///     to: String,
/// }
///
/// let task = Email { to: "user@example.com".to_owned() }.into_task()?;
/// assert_eq!(task.get_type(), Email::TYPE);
/// assert_eq!(task.get_payload(), br#"{"to":"user@example.com"}"#);
/// let options = TaskOptions::new()
///     .queue("critical")
///     .max_retry(5)
///     .timeout(Duration::from_secs(30));
/// assert_eq!(task.options(), &options);
/// # Ok::<(), asynq::Error>(())
/// ```
#[cfg(feature = "json")]
pub use asynq_macros::TaskPayload;
