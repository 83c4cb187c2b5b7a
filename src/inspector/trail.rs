//! The audit trail: who changed what, when and why.

use std::sync::Arc;

use asynq_core::{
    Inspect, Result,
    inspect::{Cursor, Page},
    trail::{Actor, TrailEntry},
};

use super::{
    Inspector,
    operator::{Operator, Target},
};

impl<B: Inspect + ?Sized> Inspector<B> {
    /// Returns an inspector whose acts the [audit trail](Self::audit_trail) shows as those of an operator, with the
    /// reason. It shares the connections of this one.
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, inspect::Cursor, inspector::Actor, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let storage = MemoryStore::new();
    /// let client = Client::new(storage.clone()).await?;
    /// let mail = client.enqueue(Task::new("email:send", b"42")?).await?;
    ///
    /// let inspector = Inspector::connect(storage).await?.requiring_reason();
    /// assert!(inspector.delete_task("default", mail.id.as_str()).await.is_err());
    /// let ann = inspector.acting_as(Actor::new("ann").with_reason("sent by hand"))?;
    /// ann.delete_task("default", mail.id.as_str()).await?;
    ///
    /// let trail = inspector.audit_trail(Cursor::default(), 10).await?;
    /// assert_eq!(trail.items.len(), 1);
    /// assert_eq!(trail.items[0].act, "delete_task");
    /// assert_eq!(trail.items[0].actor, Some(Actor::new("ann").with_reason("sent by hand")));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a blank name, a name above 256 bytes, or a reason above 1024 bytes.
    pub fn acting_as(&self, actor: Actor) -> Result<Self> {
        actor.check()?;
        let operator = Operator {
            actor: Some(actor),
            ..(*self.1).clone()
        };
        Ok(Self(Arc::clone(&self.0), Arc::new(operator)))
    }

    /// Returns an inspector that refuses each act for which no reason is given: [`Error::Invalid`](crate::Error::Invalid) for the field `reason`.
    /// Reads need none.
    #[must_use]
    pub fn requiring_reason(&self) -> Self {
        let operator = Operator {
            needs_reason: true,
            ..(*self.1).clone()
        };
        Self(Arc::clone(&self.0), Arc::new(operator))
    }

    /// Adds an act of the operator to the audit trail that the program makes by other means than this inspector, such as the
    /// end of work of its own. Call it before the act: it is refused where a reason is [required](Self::requiring_reason) and
    /// not given. An act that cannot be recorded is logged as an error.
    ///
    /// ```
    /// use asynq::{Inspector, inspect::Cursor, inspector::Actor, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// let inspector = Inspector::connect(MemoryStore::new()).await?.requiring_reason();
    /// assert!(inspector.record_act("stop_export", "the export of July").await.is_err());
    /// let ann = inspector.acting_as(Actor::new("ann").with_reason("it is too slow"))?;
    /// ann.record_act("stop_export", "the export of July").await?;
    /// assert_eq!(inspector.audit_trail(Cursor::default(), 10).await?.items[0].act, "stop_export");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cost: one script of constant time.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for the field `reason`.
    ///
    /// # Cancel safety
    /// A call that is dropped may still record the act.
    pub async fn record_act(&self, act: &str, detail: &str) -> Result<()> {
        let target = Target::default().detail(detail);
        self.recorded(act, target, std::future::ready(Ok(())), |()| None).await
    }

    /// Returns the acts that inspectors have recorded, newest first, at most `count` (1 to 10 000) from a cursor on. The
    /// next part begins at [`Page::next`].
    ///
    /// Each act that changed something is recorded by the inspector that made it, with its operator
    /// ([`acting_as`](Self::acting_as)), time, host and process. The trail keeps 10 000 acts or up to 500 more. Of more,
    /// the oldest acts of the operator with most of them go. Acts that were refused, acts of Go programs, and acts through the
    /// trait [`Inspect`] are not in it. An act that cannot be recorded is logged as an error; it has taken effect all the same.
    ///
    /// Cost: one `XREVRANGE`. Recording an act costs one script of constant time, and every 500th of a full
    /// trail 22 commands more, which read it in parts.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn audit_trail(&self, cursor: Cursor, count: u32) -> Result<Page<TrailEntry>> {
        Ok(self.0.trail(cursor, count).await?)
    }
}
