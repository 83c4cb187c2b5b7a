//! The ways from a page to the others. All links are relative, since a proxy may serve the pages under a path of which
//! nothing is known here.

use axum::http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that stand for themselves in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns a name as one segment of a path. No browser can ask for a segment `.` or `..`, in whatever form.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// The ways from a page.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The way to the folder of the first page, such as `../`, to which the paths of the other pages are added.
    pub(crate) base: String,
    /// The way to the first page.
    pub(crate) home: String,
    /// The path under which the client knows the router. Empty if it is not nested.
    prefix: String,
}

impl Paths {
    /// Returns the ways from the page at a path of the router, which the client knows by another path if the router is nested.
    pub(crate) fn of(inner: &Uri, original: &Uri) -> Self {
        if matches!(inner.path(), "/" | "") {
            // A router that is nested at `/asynq` has its first page there, without a slash at the end.
            let prefix = original.path().trim_end_matches('/');
            let (base, home) = match last(original.path()) {
                "" => ("./".to_owned(), "./".to_owned()),
                name => (format!("{name}/"), name.to_owned()),
            };
            return Self {
                base,
                home,
                prefix: prefix.to_owned(),
            };
        }
        let depth = inner.path().matches('/').count();
        let base = match depth {
            0 | 1 => "./".to_owned(),
            depth => "../".repeat(depth - 1),
        };
        let prefix = original.path().strip_suffix(inner.path()).unwrap_or_default();
        let home = match last(prefix) {
            "" => base.clone(),
            name => format!("{}{name}", "../".repeat(depth)),
        };
        Self {
            base,
            home,
            prefix: prefix.to_owned(),
        }
    }

    /// Returns the way from a page of a context that is nested in the router to the first page of the router itself, and to the
    /// folder of that.
    pub(crate) fn out_of_context(&self) -> (String, String) {
        let folder = format!("{}../../", self.base);
        let outer = self.prefix.rsplitn(3, '/').nth(2).unwrap_or_default();
        let home = match last(outer) {
            "" => folder.clone(),
            name => format!("{folder}../{name}"),
        };
        (home, folder)
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_at_every_depth_and_below_a_prefix() {
        for (inner, original, base, home) in [
            ("/", "/", "./", "./"),
            ("/servers", "/servers", "./", "./"),
            ("/queues/a%2Fb", "/queues/a%2Fb", "../", "../"),
            ("/queues/q/tasks/1", "/queues/q/tasks/1", "../../../", "../../../"),
            ("/", "/asynq", "asynq/", "asynq"),
            ("/servers", "/asynq/servers", "./", "../asynq"),
            ("/queues/q", "/ops/asynq/queues/q", "../", "../../asynq"),
        ] {
            let paths = Paths::of(&inner.parse().unwrap(), &original.parse().unwrap());
            assert_eq!((paths.base.as_str(), paths.home.as_str()), (base, home), "{original}");
        }
    }

    #[test]
    fn contexts_lead_back_to_the_router() {
        for (inner, original, home, folder) in [
            ("/", "/contexts/eu", "eu/../../", "eu/../../"),
            ("/servers", "/contexts/eu/servers", "./../../", "./../../"),
            (
                "/queues/q",
                "/ops/asynq/contexts/eu/queues/q",
                "../../../../asynq",
                "../../../",
            ),
        ] {
            let paths = Paths::of(&inner.parse().unwrap(), &original.parse().unwrap());
            assert_eq!(
                paths.out_of_context(),
                (home.to_owned(), folder.to_owned()),
                "{original}"
            );
        }
    }

    #[test]
    fn names_are_one_segment() {
        for (name, shown) in [("a/b", "a%2Fb"), ("a b?#", "a%20b%3F%23"), ("mail:send", "mail%3Asend")] {
            assert_eq!(segment(name), shown);
        }
    }
}
