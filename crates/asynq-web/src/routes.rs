//! The table of routes: each says who may use it. The router, the guard, the documentation and the tests of rights all come
//! from it, so that no route can be forgotten.

use axum::{
    Router,
    handler::Handler,
    http::Method,
    middleware,
    routing::{MethodFilter, MethodRouter, on},
};

use crate::{access::Role, app::App, guard};

/// A route of an API.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    #[cfg(test)]
    pub(crate) method: Method,
    /// The path below that of its API, in the notation of axum. A parameter `{queue}` names the queue for which the role counts.
    pub(crate) path: &'static str,
    /// The least role that may use it.
    pub(crate) needs: Role,
    /// It changes something: refused in read-only mode, and for requests that another site has caused.
    pub(crate) writes: bool,
    pub(crate) reach: Reach,
    handler: MethodRouter<App>,
}

/// The things for which a user needs the role of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The queue that the path names.
    Queue,
    /// Any queue: the route shows and changes only what the user has the role for.
    EachQueue,
    /// Everything.
    Everything,
    /// Nothing: the route is about the user's own session, also in read-only mode.
    Session,
}

impl Route {
    /// A route that only reads.
    pub(crate) fn get<H: Handler<T, App>, T: 'static>(path: &'static str, needs: Role, handler: H) -> Self {
        Self::new(Method::GET, MethodFilter::GET, path, needs, handler)
    }

    /// A route that changes something.
    pub(crate) fn post<H: Handler<T, App>, T: 'static>(path: &'static str, needs: Role, handler: H) -> Self {
        Self::new(Method::POST, MethodFilter::POST, path, needs, handler)
    }

    /// A route that changes a value.
    pub(crate) fn put<H: Handler<T, App>, T: 'static>(path: &'static str, needs: Role, handler: H) -> Self {
        Self::new(Method::PUT, MethodFilter::PUT, path, needs, handler)
    }

    /// A route that deletes something.
    pub(crate) fn delete<H: Handler<T, App>, T: 'static>(path: &'static str, needs: Role, handler: H) -> Self {
        Self::new(Method::DELETE, MethodFilter::DELETE, path, needs, handler)
    }

    /// Says of a `POST` that it only reads: its question is too long for a URL.
    pub(crate) fn that_reads(mut self) -> Self {
        self.writes = false;
        self
    }

    /// Says that the route itself looks at the user's role for each queue. Without it a route whose path names no queue needs its role
    /// for everything.
    pub(crate) fn for_each_queue(mut self) -> Self {
        self.reach = Reach::EachQueue;
        self
    }

    /// Says that the route is about the user's own session.
    pub(crate) fn for_the_session(mut self) -> Self {
        self.reach = Reach::Session;
        self
    }

    fn new<H: Handler<T, App>, T: 'static>(
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        needs: Role,
        handler: H,
    ) -> Self {
        Self {
            writes: method != Method::GET,
            reach: match path.contains("{queue}") {
                true => Reach::Queue,
                false => Reach::Everything,
            },
            #[cfg(test)]
            method,
            path,
            needs,
            handler: on(filter, handler),
        }
    }
}

/// The router of an API, with the guard before each route.
pub(crate) fn mount(routes: Vec<Route>, app: &App) -> Router<App> {
    mount_as(routes, app, str::to_owned)
}

/// [`mount`], with each route at another path than the one in the table.
pub(crate) fn mount_as(routes: Vec<Route>, app: &App, path: impl Fn(&str) -> String) -> Router<App> {
    routes.into_iter().fold(Router::new(), |router, route| {
        let gate = guard::Gate {
            app: app.clone(),
            needs: route.needs,
            writes: route.writes,
            reach: route.reach,
        };
        router.route(
            &path(route.path),
            route.handler.layer(middleware::from_fn_with_state(gate, guard::pass)),
        )
    })
}
