//! The payload and the result of a task as files.

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};

use crate::{
    extract::Path,
    pages::view::View,
    problem::{Problem, Result},
    records::Data,
};

/// Longest part of an id in the name of a file.
const LONGEST_NAME: usize = 64;

pub(crate) async fn payload(view: View, Path((queue, id)): Path<(String, String)>) -> Result<Response> {
    let task = view.app.inspector.get_task_info(&queue, &id).await?;
    file(&view, &queue, &id, &task.task_type, "payload", task.payload.to_vec())
}

pub(crate) async fn result(view: View, Path((queue, id)): Path<(String, String)>) -> Result<Response> {
    let task = view.app.inspector.get_task_info(&queue, &id).await?;
    let result = task
        .result
        .ok_or_else(|| Problem::not_found("this task has no result"))?;
    file(&view, &queue, &id, &task.task_type, "result", result.to_vec())
}

/// Answers with a file, which no browser shows in a page.
fn file(view: &View, queue: &str, id: &str, task_type: &str, what: &str, bytes: Vec<u8>) -> Result<Response> {
    let _read = view.app.budgets.read(&view.caller.user().name)?;
    if view.caller.hides(queue, task_type) {
        return Err(Problem::forbidden(format!(
            "the {what} of this task is hidden from you"
        )));
    }
    let end = match Data::of(&bytes, false) {
        Data::Json(_) | Data::JsonText(_) => "json",
        Data::Text(_) => "txt",
        Data::Msgpack(_) => "msgpack",
        Data::Base64(_) | Data::Redacted => "bin",
    };
    let name: String = id
        .chars()
        .take(LONGEST_NAME)
        .map(|char| match char {
            char if char.is_ascii_alphanumeric() || "-_".contains(char) => char,
            _ => '_',
        })
        .collect();
    let about = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}-{what}.{end}\""),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((about, bytes).into_response())
}
