//! Acts on the tasks that a body names.

use std::fmt;

use axum::{
    body::{self, Body},
    response::Response,
};
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor},
};

use super::{
    acts::cancel_one,
    answer::json,
    fault::{Fault, Result},
};
use crate::{extract::Path, guard::Caller};

/// Largest body.
const MAX_BODY: usize = 1_000_000;

/// Largest number of tasks.
const MAX_TASKS: usize = 10_000;

/// The queue of a batch, whether or not the path has a group.
#[derive(Debug, Deserialize)]
pub(super) struct BatchPath {
    queue: String,
}

/// The body: `{"task_ids": ["…"]}`. As in Go, the case of the name does not count, `null` is nothing, and the last one of
/// several fields counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Batch {
    task_ids: Vec<String>,
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Batch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with task_ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Batch, A::Error> {
                let mut batch = Batch::default();
                while let Some(name) = map.next_key::<String>()? {
                    if !name.eq_ignore_ascii_case("task_ids") {
                        map.next_value::<IgnoredAny>()?;
                        return Err(A::Error::custom(format_args!("unknown field {name:?}")));
                    }
                    let ids = map.next_value::<Option<Vec<Option<String>>>>()?;
                    batch.task_ids = ids.into_iter().flatten().map(Option::unwrap_or_default).collect();
                }
                Ok(batch)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Reads the ids of a body. What follows its first value is ignored, as by Go.
async fn ids(body: Body) -> Result<Vec<String>> {
    let body = body::to_bytes(body, MAX_BODY)
        .await
        .map_err(|_| Fault::bad_request(format!("the body cannot be read, or has more than {MAX_BODY} bytes")))?;
    let batch = parse(&body)?;
    match batch.task_ids.len() {
        0..=MAX_TASKS => Ok(batch.task_ids),
        count => Err(Fault::bad_request(format!(
            "task_ids: {count} ids are more than {MAX_TASKS}"
        ))),
    }
}

fn parse(body: &[u8]) -> Result<Batch> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Option<Batch>>();
    match values.next() {
        Some(Ok(batch)) => Ok(batch.unwrap_or_default()),
        Some(Err(error)) => Err(Fault::bad_request(error.to_string())),
        None => Err(Fault::bad_request("EOF")),
    }
}

/// The handlers of batches: what is done to each task, and the names of the lists of those that it was done to, and of the
/// others.
macro_rules! batch {
    ($($name:ident: $act:expr => $answer:ident { $done:ident, $failed:ident };)*) => {$(
        #[derive(Default, Serialize)]
        struct $answer {
            $done: Vec<String>,
            $failed: Vec<String>,
        }

        pub(super) async fn $name(caller: Caller, Path(path): Path<BatchPath>, body: Body) -> Result<Response> {
            let (mut answer, act) = ($answer::default(), $act);
            for id in ids(body).await? {
                match act(&caller, &path.queue, &id).await {
                    Ok(()) => answer.$done.push(id),
                    Err(fault) => {
                        let fault: Fault = fault;
                        fault.must_not_end_a_batch()?;
                        tracing::debug!(queue = path.queue, id, ?fault, "a task of a batch was left out");
                        answer.$failed.push(id);
                    }
                }
            }
            json(&answer)
        }
    )*};
}

batch! {
    delete: async |caller: &Caller, queue: &str, id: &str| {
        let done = caller.inspector(None)?.delete_task(queue, id).await;
        done.map_err(|error| Fault::of_task("delete", error))
    } => Deleted { deleted_ids, failed_ids };
    run: async |caller: &Caller, queue: &str, id: &str| {
        let done = caller.inspector(None)?.run_task(queue, id).await;
        done.map_err(|error| Fault::of_task("run", error))
    } => Pending { pending_ids, error_ids };
    archive: async |caller: &Caller, queue: &str, id: &str| {
        let done = caller.inspector(None)?.archive_task(queue, id).await;
        done.map_err(|error| Fault::of_task("archive", error))
    } => Archived { archived_ids, error_ids };
    cancel: async |caller: &Caller, queue: &str, id: &str| {
        cancel_one(caller, queue, id).await
    } => Cancelled { canceled_ids, error_ids };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_as_by_go() {
        for (body, expected) in [
            (r#"{"task_ids":["a","b"]}"#, &["a", "b"][..]),
            (r#"{"Task_IDs":["a"]} rubbish"#, &["a"]),
            (r#"{"task_ids":["a"],"task_ids":["b"]}"#, &["b"]),
            (r#"{"task_ids":["é\u0000/",null]}"#, &["é\0/", ""]),
            (r#"{"task_ids":null}"#, &[]),
            ("{}", &[]),
            ("null", &[]),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap().task_ids, expected, "{body}");
        }
        for body in [
            "",
            " ",
            "{",
            r#"{"task_ids":["#,
            r#"{"task_ids":"a"}"#,
            r#"{"task_ids":[1]}"#,
            r#"{"task_ids":[],"reason":"x"}"#,
            "[]",
            "1",
            "\u{feff}{}",
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!(r#"{{"task_ids":{}"#, "[".repeat(100_000));
        assert!(parse(deep.as_bytes()).is_err());
    }
}
