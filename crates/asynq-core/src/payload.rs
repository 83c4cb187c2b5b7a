//! Payloads: [`IntoTask`] converts a value into a task, and [`TaskPayload`] marks types that are the payload of one
//! task type.

#[cfg(feature = "json")]
use serde::{Serialize, de::DeserializeOwned};

use crate::{error::Result, task::Task};
#[cfg(feature = "json")]
use crate::{
    extract::{FromTask, Rejection},
    options::TaskOptions,
    shared_state::States,
};

/// A value that can be converted into a task: a [`Task`] itself, and every `TaskPayload` (feature `json`).
#[diagnostic::on_unimplemented(
    message = "a task cannot be made of `{Self}`",
    note = "derive `TaskPayload` for the type, or make a `Task` with `Task::new_with_json`"
)]
pub trait IntoTask {
    /// The task, with the options it brings.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when the type is blank,
    /// [`Error::Json`](crate::Error::Json) when the value cannot be written as JSON. The options are
    /// checked when the task is enqueued.
    fn into_task(self) -> Result<Task>;
}

impl IntoTask for Task {
    fn into_task(self) -> Result<Task> {
        Ok(self)
    }
}

/// A type whose values are the JSON payloads of one task type. Its values can be enqueued, and can be arguments of
/// handlers, see [`ServeMux::route`](crate::ServeMux::route).
///
/// The macro of this name derives it. By hand it is:
///
/// ```
/// use asynq::{IntoTask, TaskOptions, TaskPayload};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SendEmail {
///     user: u64,
/// }
///
/// impl TaskPayload for SendEmail {
///     const TYPE: &'static str = "email:send";
///
///     fn options() -> TaskOptions {
///         TaskOptions::new().queue("critical").max_retry(5)
///     }
/// }
///
/// let task = SendEmail { user: 42 }.into_task()?;
/// assert_eq!(task.get_type(), "email:send");
/// assert_eq!(task.get_payload(), br#"{"user":42}"#);
/// assert_eq!(task.options(), &SendEmail::options());
/// # Ok::<(), asynq::Error>(())
/// ```
#[cfg(feature = "json")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the payload of a task type",
    note = "derive it: `#[derive(TaskPayload)] #[task(type = \"email:send\")]`"
)]
pub trait TaskPayload: Serialize + DeserializeOwned {
    /// The task type; not blank.
    const TYPE: &'static str;

    /// Returns the options of every task of this payload type. Options that are set on the task, or in a call,
    /// override them. Default: none are set.
    #[must_use]
    fn options() -> TaskOptions {
        TaskOptions::new()
    }
}

// For other types the compiler's error names `IntoTask` and `FromTask`, but not the traits that these two require.
#[cfg(feature = "json")]
#[diagnostic::do_not_recommend]
impl<T: TaskPayload> IntoTask for T {
    fn into_task(self) -> Result<Task> {
        Ok(Task::new_with_json(T::TYPE, &self)?.with_options(T::options()))
    }
}

#[cfg(feature = "json")]
#[diagnostic::do_not_recommend]
impl<T: TaskPayload + Send> FromTask for T {
    const TASK_TYPE: Option<&'static str> = Some(T::TYPE);

    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        task.get_payload_with_json().map_err(Rejection::Payload)
    }
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use super::*;
    use crate::Error;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Plain(u8);

    impl TaskPayload for Plain {
        const TYPE: &'static str = "plain";
    }

    #[test]
    fn a_payload_without_options_sets_none() {
        let task = Plain(7).into_task().unwrap();
        assert_eq!((task.get_type(), task.get_payload()), ("plain", &b"7"[..]));
        assert_eq!(task.options(), &TaskOptions::new());
    }

    #[test]
    fn a_payload_is_an_argument_that_names_its_task_type() {
        let task = Plain(7).into_task().unwrap();
        let Plain(read) = Plain::from_task(&task, &States::new()).unwrap();
        assert_eq!((read, Plain::TASK_TYPE), (7, Some("plain")));
        let other = Task::new("plain", b"text").unwrap();
        let refused = Plain::from_task(&other, &States::new()).err().unwrap();
        assert!(matches!(refused, Rejection::Payload(Error::Json(_))), "{refused:?}");
    }

    #[test]
    fn a_task_is_made_of_itself() {
        let task = Task::new("t", b"payload").unwrap().with_queue("low");
        let same = task.clone().into_task().unwrap();
        assert_eq!((same.get_type(), same.get_payload()), ("t", &b"payload"[..]));
        assert_eq!(same.options(), task.options());
    }

    #[test]
    fn what_json_cannot_say_and_a_blank_type_are_errors() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Unwritable(std::collections::BTreeMap<(u8, u8), u8>);
        impl TaskPayload for Unwritable {
            const TYPE: &'static str = "unwritable";
        }
        let error = Unwritable([((1, 2), 3)].into()).into_task().unwrap_err();
        assert!(matches!(error, Error::Json(_)), "{error:?}");

        #[derive(serde::Serialize, serde::Deserialize)]
        struct Blank;
        impl TaskPayload for Blank {
            const TYPE: &'static str = " ";
        }
        let error = Blank.into_task().unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }
}
