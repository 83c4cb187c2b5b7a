//! Queries of the table while the runtime is blocked.

use std::collections::BTreeMap;

use asynq_core::broker::LeaseRef;

use super::{Phase, Table};

/// Largest number of task types that are named.
const NAMED: usize = 10;

impl Table {
    /// As [`leases`](Self::leases), but not for runs whose deadline is over: nothing can end them, and they are
    /// not to keep their tasks for ever.
    pub(crate) fn leases_in_time(&self) -> Vec<LeaseRef> {
        let now = self.now();
        self.leases_where(|entry| !matches!(entry.phase, Phase::Running { .. }) || entry.deadline > now)
    }

    /// The task types that run, the most frequent first, and how many of each.
    pub(crate) fn running_types(&self) -> String {
        let mut types = BTreeMap::<String, usize>::new();
        for run in self.running() {
            *types.entry(run.message.r#type.clone()).or_default() += 1;
        }
        let mut types: Vec<_> = types.into_iter().collect();
        types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let more = types.len().saturating_sub(NAMED);
        types.truncate(NAMED);
        let mut names: Vec<_> = types
            .into_iter()
            .map(|(name, count)| format!("{name:?} x{count}"))
            .collect();
        if more > 0 {
            names.push(format!("{more} more"));
        }
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use asynq_core::{
        Clock, QueueName, TaskId, TaskMessage,
        broker::{CallToken, LeaseRef, LeaseUntil, LeasedTask},
    };

    use super::*;

    fn enter(table: &Table, id: &str, task_type: &str, timeout: Duration) {
        let message = TaskMessage {
            id: id.to_owned(),
            r#type: task_type.to_owned(),
            queue: "default".to_owned(),
            timeout: i64::try_from(timeout.as_secs()).unwrap(),
            ..Default::default()
        };
        let until = LeaseUntil::from_now(table.now());
        let lease = LeaseRef {
            queue: QueueName::default(),
            id: TaskId::new(id).unwrap(),
            token: CallToken::new("server", 1, until),
            until,
        };
        let message = Arc::new(message);
        table.insert(
            vec![LeasedTask {
                message,
                lease,
                deadline: None,
                pending_since: None,
            }],
            table.try_slots(1),
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_late_keeps_its_task_no_longer() {
        let table = Table::new(8, Clock::tokio());
        enter(&table, "brief", "a", Duration::from_secs(5));
        enter(&table, "long", "b", Duration::from_secs(60));
        let _runs = table.start_ready();
        let ids = || -> Vec<_> {
            table
                .leases_in_time()
                .into_iter()
                .map(|lease| lease.id.to_string())
                .collect()
        };
        assert_eq!(ids().len(), 2);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(ids(), ["long"]);
        assert_eq!(table.leases().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn few_types_are_named_the_most_frequent_first() {
        let table = Table::new(50, Clock::tokio());
        assert_eq!(table.running_types(), "");
        for id in 0..3 {
            enter(&table, &format!("b{id}"), "b", Duration::from_secs(60));
        }
        enter(&table, "a", "a", Duration::from_secs(60));
        let _first = table.start_ready();
        assert_eq!(table.running_types(), r#""b" x3, "a" x1"#);
        for id in 0..20 {
            enter(
                &table,
                &format!("more{id}"),
                &format!("t{id:02}"),
                Duration::from_secs(60),
            );
        }
        let _more = table.start_ready();
        let named = table.running_types();
        assert!(
            named.starts_with(r#""b" x3, "a" x1, "t00" x1"#) && named.ends_with(", 12 more"),
            "{named}"
        );
    }
}
