//! The module is as visible as its function, and gives no warning that the function would not give.
#![deny(warnings, missing_docs, unreachable_pub, rust_2018_idioms, clippy::all)]

use asynq_core::{Error, Result, Task, TaskContext, extract::Headers};
use asynq_macros::{task_handler, task_handler_async};

mod handlers {
    use super::*;

    pub(crate) mod inner {
        use super::*;

        #[task_handler("super")]
        pub(super) fn in_super(_: Task) -> std::result::Result<(), Error> {
            Ok(())
        }
    }

    #[task_handler("crate")]
    pub(crate) fn in_crate(task: Task) -> Result<()> {
        assert_eq!(inner::in_super::PATTERN, "super");
        inner::in_super(task)
    }
}

/// Handled here.
#[task_handler("email:send")]
pub fn send(_task: Task) -> Result<()> {
    Ok(())
}

#[task_handler_async("raw", crate = "asynq_core")]
async fn r#type(_: Task) -> Result<()> {
    Ok(())
}

#[task_handler_async("many", crate = "asynq_core")]
async fn many(_: Task, Headers(_): Headers, mut _context: TaskContext) -> std::result::Result<(), std::io::Error> {
    std::future::ready(Ok(())).await
}

#[task_handler_async("none", crate = "asynq_core")]
async fn none() {}

#[task_handler_async("no more", crate = "asynq_core")]
#[deprecated]
async fn no_more(_: Task) -> impl asynq_core::extract::IntoOutcome {
    Ok::<(), Error>(())
}

#[task_handler("left out")]
#[cfg(any())]
fn left_out(_: NotThere) -> Result<()> {}

#[task_handler_async("left out", crate = "asynq_core")]
#[cfg(any())]
async fn left_out_too(_: NotThere) {}

#[test]
fn patterns_stand_beside_functions_that_are_as_they_were() {
    // Inside of a function too, where modules cannot see the function.
    #[task_handler("local")]
    fn local(_: Task) -> Result<()> {
        Ok(())
    }
    #[task_handler_async("local", crate = "asynq_core")]
    async fn local_too(_: Task) -> Result<()> {
        Ok(())
    }

    assert_eq!((send::PATTERN, handlers::in_crate::PATTERN), ("email:send", "crate"));
    assert_eq!(r#type::PATTERN, "raw");
    assert_eq!(
        (many::PATTERN, none::PATTERN, no_more::PATTERN),
        ("many", "none", "no more")
    );
    assert_eq!((local::PATTERN, local_too::PATTERN), ("local", "local"));

    let task = || Task::new("email:send", b"").unwrap();
    for handler in [send, handlers::in_crate, local] {
        assert!(handler(task()).is_ok());
    }
    let _ = many;
    drop((r#type(task()), none(), local_too(task())));
    #[expect(deprecated, reason = "it is, and its check says nothing about it")]
    let _ = no_more;
}
