//! Paths with a verb behind a parameter, as `/queues/{queue}:pause`. The router knows only parameters that are whole segments,
//! so the verb gets a segment of its own before the router sees the path.

use axum::{
    extract::OriginalUri,
    http::{Method, Request, Uri, uri::PathAndQuery},
};

/// The beginning of a segment that is a verb. It stands in no other segment of a rewritten path.
const MARK: &str = "~";

/// A path that no route has.
const NOWHERE: &str = "/~";

/// The path at which a route of the table is mounted: `{queue}:pause` becomes `{queue}/~pause`.
pub(super) fn mounted(path: &str) -> String {
    path.replace("}:", &format!("}}/{MARK}"))
}

/// The verbs behind parameters, each with the segment before the parameter.
#[derive(Clone, Debug)]
pub(super) struct Verbs(Vec<(&'static str, &'static str)>);

impl Verbs {
    /// The verbs of a table of routes, whose methods are all `POST`.
    pub(super) fn of(paths: impl Iterator<Item = &'static str>) -> Self {
        let verbs = paths.filter_map(|path| {
            let (path, last) = path.rsplit_once('/')?;
            let (_, verb) = last.split_once("}:")?;
            let (_, before) = path.rsplit_once('/')?;
            Some((before, verb))
        });
        Self(verbs.collect())
    }

    /// Gives the verb of a request a segment of its own, if it has one.
    pub(super) fn rewrite<B>(&self, mut request: Request<B>) -> Request<B> {
        // The router of the whole server leaves out the first of the empty segments.
        let whole = request.extensions().get::<OriginalUri>();
        if whole.is_some_and(|OriginalUri(uri)| uri.path().contains("//")) {
            *request.uri_mut() = Uri::from_static(NOWHERE);
        } else if let Some(uri) = self.rewritten(request.method(), request.uri()) {
            *request.uri_mut() = uri;
        }
        request
    }

    fn rewritten(&self, method: &Method, uri: &Uri) -> Option<Uri> {
        let verb = (method == Method::POST).then(|| self.split(uri.path())).flatten();
        if verb.is_none() && !uri.path().contains(MARK) {
            return None;
        }
        let (path, verb) = verb.unwrap_or((uri.path(), ""));
        // A name must not look like a verb.
        let mut text = path.replace(MARK, "%7E");
        if !verb.is_empty() {
            text.push('/');
            text.push_str(MARK);
            text.push_str(verb);
        }
        if let Some(query) = uri.query() {
            text.push('?');
            text.push_str(query);
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Returns the path before the verb, and the verb.
    fn split<'p>(&self, path: &'p str) -> Option<(&'p str, &'p str)> {
        let (before, last) = path.rsplit_once('/')?;
        let (name, verb) = last.rsplit_once(':')?;
        let kind = before.rsplit_once('/').map_or(before, |(_, kind)| kind);
        let is_known = !name.is_empty() && self.0.contains(&(kind, verb));
        is_known.then(|| (&path[..path.len() - verb.len() - 1], verb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_get_a_segment_of_their_own() {
        let verbs = Verbs::of(
            [
                "/queues/{queue}:pause",
                "/queues/{queue}/retry_tasks/{id}:run",
                "/queues",
            ]
            .into_iter(),
        );
        let rewritten = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            verbs.rewrite(request).uri().to_string()
        };
        for (path, expected) in [
            ("/queues/a:pause", "/queues/a/~pause"),
            ("/queues/a:pause?reason=b:pause", "/queues/a/~pause?reason=b:pause"),
            ("/queues/a:b:pause", "/queues/a:b/~pause"),
            ("/queues/a:pause:pause", "/queues/a:pause/~pause"),
            ("/queues/a%2Fb:pause", "/queues/a%2Fb/~pause"),
            ("/queues/a~b:pause", "/queues/a%7Eb/~pause"),
            ("/queues/:pause", "/queues/:pause"),
            ("/queues/a%3Apause", "/queues/a%3Apause"),
            ("/queues/a/~pause", "/queues/a/%7Epause"),
            ("/queues/a:run", "/queues/a:run"),
            ("/queues/q/retry_tasks/x:run", "/queues/q/retry_tasks/x/~run"),
            ("/queues/q/retry_tasks/x:run:run", "/queues/q/retry_tasks/x:run/~run"),
            ("/queues/q/retry_tasks/x:pause", "/queues/q/retry_tasks/x:pause"),
            ("/queues/q/pending_tasks/x:run", "/queues/q/pending_tasks/x:run"),
            ("/queues/q/retry_tasks:run_all", "/queues/q/retry_tasks:run_all"),
        ] {
            assert_eq!(rewritten(Method::POST, path), expected);
        }
        // A queue or a task may have such a name.
        for path in ["/queues/a:pause", "/queues/q/retry_tasks/x:run"] {
            assert_eq!(rewritten(Method::GET, path), path);
            assert_eq!(rewritten(Method::DELETE, path), path);
        }
        assert_eq!(
            mounted("/queues/{queue}/retry_tasks/{id}:run"),
            "/queues/{queue}/retry_tasks/{id}/~run"
        );
        assert_eq!(
            mounted("/queues/{queue}/retry_tasks:run_all"),
            "/queues/{queue}/retry_tasks:run_all"
        );
    }
}
