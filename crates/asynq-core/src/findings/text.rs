//! Findings as sentences.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};

use super::{
    facts::DayRuns,
    kind::{Aggregators, FindingKind},
};
use crate::{
    excerpt::Excerpt,
    names::{QueueName, TaskId},
};

/// A duration in its two largest units.
pub(super) struct Span(pub(super) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) if secs == 0 => write!(f, "{} ms", self.0.as_millis()),
            (0, 0, 0) => write!(f, "{secs} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", secs % 60),
            (0, ..) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn tasks(count: u64) -> String {
    if count == 1 {
        "1 task".to_owned()
    } else {
        format!("{count} tasks")
    }
}

fn percent(runs: DayRuns) -> String {
    format!("{:.1} %", runs.failure_rate() * 100.0)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The server that a finding is about.
fn server(node: Option<&String>) -> String {
    node.map_or_else(|| "Redis".to_owned(), |node| format!("Redis {node}"))
}

pub(super) fn sentence(queue: Option<&QueueName>, kind: &FindingKind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(queue) = queue {
        write!(f, "queue {:?}: ", Excerpt(queue.as_str()))?;
    }
    match kind {
        FindingKind::Unreadable { part, error } => write!(f, "{part} cannot be read: {error}"),
        FindingKind::NoConsumer { pending, late, since } => {
            write!(f, "no running server takes from it; {} pending", tasks(*pending))?;
            if *late > 0 {
                write!(f, ", {} late", tasks(*late))?;
            }
            match since {
                Some(since) => write!(f, ", the next one since {}", time(*since)),
                None => Ok(()),
            }
        }
        FindingKind::UnhandledTypes {
            types,
            tasks: count,
            looked_at,
        } => {
            write!(
                f,
                "no running server handles {} of {looked_at} looked at, of type ",
                tasks(*count)
            )?;
            for (nth, found) in types.iter().enumerate() {
                let comma = if nth > 0 { ", " } else { "" };
                write!(f, "{comma}{:?} ({})", Excerpt(&found.task_type), found.count)?;
            }
            Ok(())
        }
        FindingKind::EvictionPolicy { node, policy } => write!(
            f,
            "{} has maxmemory-policy {policy} and may delete tasks when its memory is full; set it to noeviction",
            server(node.as_ref())
        ),
        FindingKind::MemoryNearLimit { node, used, limit } => write!(
            f,
            "{} uses {} of {} ({:.0} %); a full Redis refuses new tasks",
            server(node.as_ref()),
            mib(*used),
            mib(*limit),
            *used as f64 * 100.0 / (*limit).max(1) as f64
        ),
        FindingKind::RetryStorm {
            error,
            looked_at,
            retry,
        } => {
            write!(
                f,
                "{} wait for their retry after the same error, of the first {looked_at} looked at of {retry}: {}",
                tasks(error.count),
                error.signature
            )
        }
        FindingKind::FailureJump { today, yesterday } => write!(
            f,
            "{} of the runs of today failed ({} of {}), and {} of those of yesterday ({} of {})",
            percent(*today),
            today.failed,
            today.processed,
            percent(*yesterday),
            yesterday.failed,
            yesterday.processed
        ),
        FindingKind::OldestPending { since, waited, pending } => write!(
            f,
            "the next task has been pending for {} (since {}); {} pending",
            Span(*waited),
            time(*since),
            tasks(*pending)
        ),
        FindingKind::PausedLong { since, waiting } => match since {
            Some(since) => write!(f, "paused since {}; {} waiting", time(*since), tasks(*waiting)),
            None => write!(f, "paused for an unknown time; {} waiting", tasks(*waiting)),
        },
        FindingKind::StuckGroup {
            group,
            size,
            since,
            aggregators,
            stuck,
            looked_at,
            groups,
        } => {
            write!(
                f,
                "{} wait in group {:?} since {}",
                tasks(*size),
                Excerpt(group.as_str()),
                time(*since)
            )?;
            f.write_str(match aggregators {
                Aggregators::None => ", and no running server of the queue aggregates groups",
                Aggregators::Running => ", although a server aggregates groups",
                Aggregators::Unknown => "",
            })?;
            write!(f, "; {stuck} such groups of {looked_at} looked at of {groups}")
        }
        FindingKind::Orphans { leases, first, ended } => write!(
            f,
            "{} of dead servers not recovered; the lease of {first} ended at {}",
            tasks(*leases),
            time(*ended)
        ),
        FindingKind::ActiveWithoutLease {
            at_least,
            examples,
            active,
            leases,
        } => {
            write!(
                f,
                "at least {} active without a lease ({active} active, {leases} leases)",
                tasks(*at_least)
            )?;
            example(examples, f)
        }
        FindingKind::StaleLeases { at_least, examples } => {
            write!(f, "at least {at_least} leases without an active task")?;
            example(examples, f)
        }
        FindingKind::Quarantine { tasks: count } => write!(f, "{} damaged and put aside in quarantine", tasks(*count)),
        FindingKind::RepeatedEntry {
            spec,
            task_type,
            count,
            tasks: [first, second],
            at: [at, _],
            ..
        } => write!(
            f,
            "{count} scheduler entries enqueue {:?} at {:?}, each for itself: tasks {first} and {second} at {}",
            Excerpt(task_type),
            Excerpt(spec),
            time(*at)
        ),
        FindingKind::ClockSkew { node, ahead, within } => {
            let (size, side) = (ahead.abs().to_std().unwrap_or_default(), ahead.num_milliseconds());
            write!(
                f,
                "the clock of {} is {} {} that of this host, within {}",
                server(node.as_ref()),
                Span(size),
                if side >= 0 { "ahead of" } else { "behind" },
                Span(*within)
            )
        }
        FindingKind::ArchiveNearLimit { archived, limit, first } => {
            write!(f, "{} archived of at most {limit}", tasks(*archived))?;
            match first {
                Some(first) => write!(
                    f,
                    ", the first one at {}; older ones are deleted after 90 days",
                    time(*first)
                ),
                None => Ok(()),
            }
        }
    }
}

fn example(ids: &[TaskId], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    ids.first().map_or(Ok(()), |id| write!(f, ", for example {id}"))
}
