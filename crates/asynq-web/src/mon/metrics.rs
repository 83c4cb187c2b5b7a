//! The past of the queues' metrics, as a Prometheus server has it.

use axum::{
    extract::{Query, State},
    http::Uri,
    response::Response,
};
use chrono::Utc;
use futures::future::try_join_all;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    answer::json,
    fault::{Fault, Result, quoted},
    queues,
};
use crate::{app::App, guard::Caller, range_queries::Range};

const HOUR: i64 = 3600;

/// The place of the queues in a query.
const FILTER: &str = "QUEUE_FILTER";

/// The queries, in the order of the fields of [`MetricsAnswer`].
const QUERIES: [&str; 9] = [
    "asynq_queue_size{QUEUE_FILTER}",
    "asynq_queue_latency_seconds{QUEUE_FILTER}",
    "asynq_queue_memory_usage_approx_bytes{QUEUE_FILTER}",
    "rate(asynq_tasks_processed_total{QUEUE_FILTER}[5m])",
    "rate(asynq_tasks_failed_total{QUEUE_FILTER}[5m])",
    "rate(asynq_tasks_failed_total{QUEUE_FILTER}[5m]) / rate(asynq_tasks_processed_total{QUEUE_FILTER}[5m])",
    r#"asynq_tasks_enqueued_total{state="pending",QUEUE_FILTER}"#,
    r#"asynq_tasks_enqueued_total{state="retry",QUEUE_FILTER}"#,
    r#"asynq_tasks_enqueued_total{state="archived",QUEUE_FILTER}"#,
];

#[derive(Serialize)]
struct MetricsAnswer<'r> {
    queue_size: &'r RawValue,
    queue_latency_seconds: &'r RawValue,
    queue_memory_usage_approx_bytes: &'r RawValue,
    tasks_processed_per_second: &'r RawValue,
    tasks_failed_per_second: &'r RawValue,
    error_rate: &'r RawValue,
    pending_tasks_by_queue: &'r RawValue,
    retry_tasks_by_queue: &'r RawValue,
    archived_tasks_by_queue: &'r RawValue,
}

/// A request, as it was understood.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    range: Range,
    /// Empty: all.
    queues: Vec<String>,
}

impl Question {
    fn of(uri: &Uri, now: i64) -> Result<Self> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let pairs = pairs.map(|Query(pairs)| pairs).unwrap_or_default();
        let text = |wanted: &str| {
            let found = pairs.iter().find(|(name, _)| name == wanted);
            found.map(|(_, text)| text.as_str()).filter(|text| !text.is_empty())
        };
        let number = |name: &str, words: &str, default: i64| {
            let number = text(name).map(str::parse);
            number.unwrap_or(Ok(default)).map_err(|_| {
                let text = quoted(text(name).unwrap_or_default());
                Fault::bad_request(format!(
                    "invalid query parameter: invalid value provided for {words}: {text}"
                ))
            })
        };
        let duration: i64 = number("duration", "duration", HOUR)?;
        let end: i64 = number("endtime", "end_time", now)?;
        let queues = text("queues").map(|text| text.split(',').map(str::to_owned).collect());
        Ok(Self {
            range: Range {
                start: end.saturating_sub(duration),
                end,
                step: step(duration),
            },
            queues: queues.unwrap_or_default(),
        })
    }
}

/// The longer the time, the longer the step.
fn step(duration: i64) -> i64 {
    let hours = |hours: i64| hours * HOUR;
    match duration {
        duration if duration <= hours(6) => 10,
        duration if duration <= hours(24) => 60,
        duration if duration <= hours(8 * 24) => 180,
        duration if duration <= hours(30 * 24) => 600,
        duration => duration / 3000,
    }
}

/// The label of these queues, and of no other.
fn filter(queues: &[String]) -> String {
    if queues.is_empty() {
        // An empty pattern would fit what has no such label. This one fits nothing.
        return "queue=~\".^\"".to_owned();
    }
    let name = |queue: &String| {
        let mut pattern = String::new();
        for char in queue.chars() {
            if r"\.+*?()|[]{}^$".contains(char) {
                pattern.push('\\');
            }
            pattern.push(char);
        }
        pattern.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
    };
    let names: Vec<_> = queues.iter().map(name).collect();
    format!("queue=~\"{}\"", names.join("|"))
}

pub(super) async fn show(State(app): State<App>, caller: Caller, uri: Uri) -> Result<Response> {
    let mut question = Question::of(&uri, Utc::now().timestamp())?;
    let mut is_limited = !question.queues.is_empty();
    if caller.user().role_everywhere().is_none() {
        if question.queues.is_empty() {
            let seen = queues::seen(&app, &caller).await?;
            question.queues = seen.into_iter().map(String::from).collect();
        }
        question.queues.retain(|queue| caller.sees(queue));
        is_limited = true;
    }
    let filter = match is_limited {
        true => filter(&question.queues),
        false => String::new(),
    };
    let answers = QUERIES.map(|query| {
        let (app, filter) = (&app, &filter);
        async move {
            let failed = |error: String| Fault::internal(format!("failed to fetch {}: {error}", quoted(query)));
            let prometheus = app.prometheus.as_ref();
            let prometheus = prometheus.ok_or_else(|| failed("no Prometheus server is set".to_owned()))?;
            let query = query.replace(FILTER, filter);
            prometheus.query(&query, question.range).await.map_err(failed)
        }
    });
    let answers = try_join_all(answers).await?;
    let [a, b, c, d, e, f, g, h, i] = answers.as_slice() else {
        return Err(Fault::internal("an answer is missing"));
    };
    json(&MetricsAnswer {
        queue_size: a,
        queue_latency_seconds: b,
        queue_memory_usage_approx_bytes: c,
        tasks_processed_per_second: d,
        tasks_failed_per_second: e,
        error_rate: f,
        pending_tasks_by_queue: g,
        retry_tasks_by_queue: h,
        archived_tasks_by_queue: i,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_any_numbers_are_read() {
        let question = |query: &str| Question::of(&format!("/metrics?{query}").parse().unwrap(), 10_000_000);
        let range = |query: &str| {
            let Range { start, end, step } = question(query).unwrap().range;
            (start, end, step)
        };
        assert_eq!(range(""), (9_996_400, 10_000_000, 10));
        assert_eq!(range("duration=86400&endtime=100000"), (13_600, 100_000, 60));
        assert_eq!(range("duration=6000000"), (4_000_000, 10_000_000, 2000));
        let most = i64::MAX;
        assert_eq!(
            range(&format!("duration={most}&endtime=-{most}")),
            (i64::MIN, -most, most / 3000)
        );
        for query in ["duration=x", "duration=1.5", "endtime=9223372036854775808"] {
            assert!(question(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_queue_is_no_part_of_a_query() {
        for (queue, expected) in [
            ("low", r#"queue=~"low""#),
            ("a.b", r#"queue=~"a\\.b""#),
            ("\"} or up{x=\"", r#"queue=~"\"\\} or up\\{x=\"""#),
            ("a\\", r#"queue=~"a\\\\""#),
        ] {
            assert_eq!(filter(&[queue.to_owned()]), expected);
        }
        assert_eq!(filter(&["a".to_owned(), "b".to_owned()]), r#"queue=~"a|b""#);
        assert_eq!(filter(&[]), r#"queue=~".^""#);
    }
}
