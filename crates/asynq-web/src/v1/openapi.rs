//! The description of the API, in OpenAPI 3.1.

use std::sync::LazyLock;

use axum::{
    extract::OriginalUri,
    http::header,
    response::{IntoResponse, Response},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        server::ServerBuilder,
    },
};

use super::{act, acts, enqueue, events, queues, schedulers, search, servers, session, statistics, tasks, upkeep};
use crate::{guard::CSRF, problem::Problem, sign_in};

#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Asynq",
        description = "Looks at queues and tasks of Asynq, in Go and in Rust, and acts on them.\n\nErrors are problem details as in RFC 9457. Names in paths are percent-encoded. A change can carry a reason for the audit trail in the header `Asynq-Reason`, in the parameter `reason`, or in its body. A change by a session carries its token in the header `X-CSRF-Token`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    paths(
        session::show, sign_in::sign_in, session::end, describe,
        queues::list, queues::show, queues::pause, queues::resume, queues::delete, queues::clear_counters, queues::groups,
        queues::errors, queues::place, statistics::show,
        tasks::list, tasks::show, tasks::life,
        act::run, act::archive, act::delete, act::cancel, act::edit, act::reschedule,
        enqueue::enqueue, enqueue::copy,
        search::search, search::count,
        acts::preview, acts::start, acts::list, acts::show, acts::stop,
        upkeep::findings, upkeep::check, upkeep::fix, upkeep::audit,
        servers::servers, servers::trees, servers::redis,
        schedulers::list, schedulers::history, schedulers::run, schedulers::backfill,
        events::events,
    ),
    components(schemas(Problem)),
    modifiers(&Common),
)]
struct Api;

/// The parts that all operations share.
struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        api.servers = Some(vec![ServerBuilder::new().url(BASE).build()]);
        let components = api.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        let name = "Its name is another if the server was told one: `__Host-asynq` over HTTPS, and `asynq_session_` with the port \
                    for `asynq web`.";
        let cookie = ApiKeyValue::with_description("asynq_session", name);
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        let token = ApiKeyValue::with_description(CSRF, "Token of the session, which changes need.");
        components.add_security_scheme("csrf", SecurityScheme::ApiKey(ApiKey::Header(token)));
        for (path, item) in &mut api.paths.paths {
            let operations: [(&str, bool, &mut Option<Operation>); 4] = [
                ("get", false, &mut item.get),
                ("post", true, &mut item.post),
                ("put", true, &mut item.put),
                ("delete", true, &mut item.delete),
            ];
            for (method, writes, operation) in operations {
                if let Some(operation) = operation {
                    complete(operation, method, path, writes);
                }
            }
        }
    }
}

fn complete(operation: &mut Operation, method: &str, path: &str, writes: bool) {
    let words = path
        .split(|char: char| !char.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    operation.operation_id = Some(std::iter::once(method).chain(words).collect::<Vec<_>>().join("_"));
    // The doc comments of the handlers have lines.
    let one_line = |text: &mut Option<String>| *text = text.take().map(|text| text.replace('\n', " "));
    one_line(&mut operation.summary);
    one_line(&mut operation.description);
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = meaning(status).to_owned();
        }
    }
    let problem = ResponseBuilder::new()
        .description("An error")
        .content(
            "application/problem+json",
            Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem")))),
        )
        .build();
    operation
        .responses
        .responses
        .entry("default".to_owned())
        .or_insert(RefOr::T(problem));
    if operation.security.is_none() {
        let none: [&str; 0] = [];
        let session = SecurityRequirement::new("session", none);
        let session = if writes { session.add("csrf", none) } else { session };
        operation.security = Some(vec![SecurityRequirement::new("token", none), session]);
    }
}

/// The meaning of a status, which the document must have.
fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "The answer",
        "201" => "It was made",
        "202" => "It was begun, and goes on after the answer",
        "204" => "It was done",
        _ => "An error",
    }
}

/// The description of the API as JSON.
pub(super) static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| Api::openapi().to_pretty_json().unwrap_or_default() + "\n");

/// The path of the API, unless the router is mounted under another one.
const BASE: &str = "/api/v1";

/// Returns the description with the path under which the router is mounted.
fn at(path: &str) -> String {
    let base = path.strip_suffix("/openapi.json").unwrap_or(BASE);
    let url = |base: &str| format!("\"url\": {}", serde_json::Value::from(base));
    DOCUMENT.replacen(&url(BASE), &url(base), 1)
}

/// Describes the API in OpenAPI 3.1. It needs no proof, as it has no data.
#[utoipa::path(
    get, path = "/openapi.json", tag = "session", responses((status = 200, body = serde_json::Value)), security(()),
)]
pub(crate) async fn describe(OriginalUri(uri): OriginalUri) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], at(uri.path())).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::from_str(&DOCUMENT).unwrap()
    }

    /// The operations with their paths and methods.
    fn operations(document: &Value) -> Vec<(String, String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
        });
        operations.collect()
    }

    /// All references of a part of the document.
    fn references<'v>(part: &'v Value, found: &mut BTreeSet<&'v str>) {
        match part {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_describes_its_routes_and_no_others() {
        let document = document();
        let described: BTreeSet<_> = operations(&document)
            .into_iter()
            .map(|(method, path, _)| (method, path))
            .collect();
        let mut routes: BTreeSet<_> = crate::v1::routes()
            .into_iter()
            .map(|route| (route.method.to_string(), route.path.to_owned()))
            .collect();
        // Those that need no proof are not in the table.
        routes.insert(("POST".to_owned(), "/session".to_owned()));
        routes.insert(("GET".to_owned(), "/openapi.json".to_owned()));
        assert_eq!(described, routes);
    }

    #[test]
    fn the_document_is_whole() {
        let document = document();
        assert!(
            document["openapi"].as_str().unwrap().starts_with("3.1."),
            "{}",
            document["openapi"]
        );
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let mut ids = BTreeSet::new();
        for (method, path, operation) in operations(&document) {
            let name = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{name}");
            let in_path: BTreeSet<_> = path
                .split('{')
                .skip(1)
                .filter_map(|rest| rest.split('}').next())
                .collect();
            let parameters = operation["parameters"].as_array();
            let described: BTreeSet<_> = parameters
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(in_path, described, "{name}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
            for response in responses.values() {
                assert!(
                    response["description"].as_str().is_some_and(|text| !text.is_empty()),
                    "{name}"
                );
            }
            for scheme in operation["security"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|of| of.as_object().unwrap().keys())
            {
                let known = &document["components"]["securitySchemes"];
                assert!(known.get(scheme).is_some(), "{name}: {scheme}");
            }
        }
    }

    #[test]
    fn only_changes_need_the_token_of_the_session() {
        let document = document();
        let writes: std::collections::BTreeMap<_, _> = crate::v1::routes()
            .into_iter()
            .map(|route| ((route.method.to_string(), route.path.to_owned()), route.writes))
            .collect();
        for (method, path, operation) in operations(&document) {
            let Some(writes) = writes.get(&(method.clone(), path.clone())) else {
                continue;
            };
            let schemes = operation["security"].as_array().unwrap().iter();
            let needs_csrf = schemes
                .flat_map(|of| of.as_object().unwrap().keys())
                .any(|name| name == "csrf");
            assert_eq!(needs_csrf, *writes, "{method} {path}");
        }
    }

    /// The copy in `docs/openapi.json` is what the server answers. `ASYNQ_UPDATE_DOCS=1` rewrites it.
    #[test]
    fn the_committed_document_is_that_of_the_code() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let written = std::fs::read_to_string(file).unwrap_or_default();
        if std::env::var_os("ASYNQ_UPDATE_DOCS").is_some() {
            std::fs::write(file, DOCUMENT.as_str()).unwrap();
        } else {
            assert!(written == *DOCUMENT, "ASYNQ_UPDATE_DOCS=1 rewrites docs/openapi.json");
        }
    }
}
