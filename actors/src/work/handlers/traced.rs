//! The trace context of a task that an actor has started, which is the current one while the actor handles the message
//! that brought the task.

use std::{cell::RefCell, future::poll_fn, pin::pin};

use asynq_core::trace_context::{Attached, TraceContext};

thread_local! {
    /// The tasks that were started in the present poll of a handler actor; `None` outside of one.
    static STARTED: RefCell<Option<Started>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Started {
    /// The context of the last one.
    last: Option<TraceContext>,
    attached: Vec<Attached>,
}

/// A poll of an actor. When it ends, all that it attached is detached.
struct Poll(Option<Started>);

impl Poll {
    fn begin() -> Self {
        Self(STARTED.replace(Some(Started::default())))
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        if let Some(mut started) = STARTED.replace(self.0.take()) {
            // The last one first.
            while started.attached.pop().is_some() {}
        }
    }
}

/// Handles a message. The contexts of tasks that it starts hold from their start to its end.
pub(super) async fn message<F: Future>(act: F) -> F::Output {
    if cfg!(not(feature = "otel")) {
        return act.await;
    }
    let mut act = pin!(act);
    let mut context = TraceContext::default();
    poll_fn(move |cx| {
        let _before = context.attach();
        let _poll = Poll::begin();
        let polled = act.as_mut().poll(cx);
        let started = STARTED.with_borrow_mut(|started| started.as_mut().and_then(|started| started.last.take()));
        if let Some(started) = started {
            context = started;
        }
        polled
    })
    .await
}

/// Makes the context of a task the current one, where an actor starts it.
pub(super) fn started(context: &TraceContext) {
    if context.is_none() {
        return;
    }
    STARTED.with_borrow_mut(|started| {
        if let Some(started) = started {
            started.attached.push(context.attach());
            started.last = Some(context.clone());
        }
    });
}
