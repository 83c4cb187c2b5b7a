//! Answers in JSON as Go writes it, and errors in plain text.

use std::io;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::ser::Formatter;

use super::fault::{Fault, Result};
use crate::problem::Problem;

/// Bytes of a long list that are gathered before its answer begins. An error among them still gets its status.
const GATHERED: usize = 64 << 10;

/// Writes the characters that Go's encoder escapes for the sake of pages with JSON in them.
struct AsGo;

impl Formatter for AsGo {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut chars = rest[at..].chars();
            if let Some(char) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(char))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Returns a value as JSON.
pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut json, AsGo))
        .map_err(|error| Fault::internal(error.to_string()))?;
    Ok(json)
}

/// Answers a value.
pub(super) fn json(value: &impl Serialize) -> Result<Response> {
    let mut json = to_json(value)?;
    json.push(b'\n');
    Ok(answer(Body::from(json)))
}

fn answer(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Answers a list of any length: a beginning, items with commas, an end. An error after the first [`GATHERED`] bytes cuts the
/// answer off.
pub(super) async fn list(
    beginning: &'static str,
    items: impl Stream<Item = Result<Vec<u8>>> + Send + 'static,
    end: &'static str,
) -> Result<Response> {
    let mut items = Box::pin(items.enumerate().map(|(number, item)| {
        let mut item = item?;
        if number > 0 {
            item.insert(0, b',');
        }
        Ok::<_, Fault>(item)
    }));
    let mut gathered = beginning.as_bytes().to_vec();
    while gathered.len() < GATHERED {
        match items.next().await {
            Some(item) => gathered.extend(item?),
            None => {
                gathered.extend(end.as_bytes());
                return Ok(answer(Body::from(gathered)));
            }
        }
    }
    let rest = items.map_ok(Bytes::from).map_err(|fault| {
        tracing::error!(?fault, "a list is cut off");
        io::Error::other("the list is cut off")
    });
    let rest = rest.chain(stream::once(async { Ok(Bytes::from_static(end.as_bytes())) }));
    let first = stream::once(async { Ok(Bytes::from(gathered)) });
    Ok(answer(Body::from_stream(first.chain(rest))))
}

/// Turns the errors of the guard and of extractors into plain text.
pub(super) async fn in_plain_text(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>() else {
        return response;
    };
    let text = text(problem, &method);
    let (mut parts, _) = response.into_parts();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    parts.headers.insert(header::CONTENT_TYPE, kind);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}

fn text(problem: &Problem, method: &Method) -> String {
    match problem.code {
        "read_only" => format!("API Server is running in read-only mode: {method} request is not allowed\n"),
        _ => format!("{}\n", problem.detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_by_go() {
        let json = to_json(&"<b>&\u{2028}\u{2029}\"\\\n\u{1}\u{7f}é").unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            "\"\\u003cb\\u003e\\u0026\\u2028\\u2029\\\"\\\\\\n\\u0001\u{7f}é\""
        );
    }
}
