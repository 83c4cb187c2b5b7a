//! The guard before each route: who sends the request, may they, and did they mean to?

use std::{
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use asynq::{Inspector, info::SchedulerEntry, inspector::Actor};
use axum::{
    extract::{ConnectInfo, FromRequestParts, RawPathParams, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_extra::extract::CookieJar;
use futures::FutureExt as _;
use tokio::sync::oneshot;

use crate::{
    access::{AuthError, Credentials, Role, Session, Sessions, User},
    app::App,
    problem::{Problem, Result},
    records::{Redaction, queue_of},
    routes::Reach,
};

/// Longest time of a change whose client does not wait for it any more.
const LONGEST_CHANGE: std::time::Duration = std::time::Duration::from_secs(90);

/// The header with the reason of a change, in UTF-8.
pub(crate) const REASON: &str = "asynq-reason";

/// The header with the token of the session, which each change by a session must carry.
pub(crate) const CSRF: &str = "x-csrf-token";

/// The header of requests that a page makes by itself. They do not keep a session alive.
pub(crate) const LIVE: &str = "asynq-live";

/// The right that a route needs.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) app: App,
    pub(crate) needs: Role,
    pub(crate) writes: bool,
    pub(crate) reach: Reach,
}

/// The sender of a request, who has been recognized.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    user: User,
    /// The session, if the request belongs to one.
    session: Option<Session>,
    reason: Option<String>,
    app: App,
}

impl Caller {
    pub(crate) fn user(&self) -> &User {
        &self.0.user
    }

    /// Returns the session, `None` if the request carries its own proof, or none is needed.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.0.session.as_ref()
    }

    /// Returns whether the user may see a queue.
    pub(crate) fn sees(&self, queue: &str) -> bool {
        self.user().role_for(queue).is_some()
    }

    /// Returns whether the user may see an entry of a scheduler. One whose queue cannot be read may be of any queue.
    pub(crate) fn sees_entry(&self, entry: &SchedulerEntry) -> bool {
        match queue_of(entry) {
            Some(queue) => self.sees(&queue),
            None => self.user().role_everywhere().is_some(),
        }
    }

    /// Refuses a user without this role for a queue. The answer is the same whether the queue exists or not.
    pub(crate) fn need(&self, queue: &str, role: Role) -> Result<()> {
        match self.user().role_for(queue) {
            Some(has) if has >= role => Ok(()),
            _ => Err(missing(role, Some(queue))),
        }
    }

    /// Refuses a user without this role for everything.
    pub(crate) fn need_everywhere(&self, role: Role) -> Result<()> {
        match self.user().role_everywhere() {
            Some(has) if has >= role => Ok(()),
            _ => Err(missing(role, None)),
        }
    }

    /// Returns whether the payload and the result of a task are hidden from the user.
    pub(crate) fn hides(&self, queue: &str, task_type: &str) -> bool {
        match self.user().role_for(queue) {
            Some(role) => self.0.app.redactions.iter().any(|rule| rule.hides(task_type, role)),
            None => true,
        }
    }

    /// Returns the form in which the user sees payloads and results.
    pub(crate) fn redaction(&self) -> Redaction {
        let caller = self.clone();
        Redaction::new(move |queue, task_type| caller.hides(queue, task_type))
    }

    /// Returns the reason of a change: that of the body if it has one, else that of the header or the parameter.
    pub(crate) fn reason<'r>(&'r self, of_body: Option<&'r str>) -> &'r str {
        of_body.or(self.0.reason.as_deref()).unwrap_or_default()
    }

    /// Returns the inspector for acts in the user's name. The reason is that of the body if it has one, else that of the
    /// header `asynq-reason`, else that of the parameter `reason`.
    pub(crate) fn inspector(&self, reason: Option<&str>) -> Result<Inspector> {
        let actor = Actor::new(self.user().name.clone()).with_reason(self.reason(reason));
        Ok(self.0.app.inspector.acting_as(actor)?)
    }
}

fn missing(role: Role, queue: Option<&str>) -> Problem {
    let role = role.as_str();
    Problem::forbidden(match queue {
        Some(queue) => format!("this needs the role {role} for queue {queue:?}"),
        None => format!("this needs the role {role} for all queues"),
    })
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::internal("the route has no guard"))
    }
}

/// Lets a request pass, or answers in place of its route.
pub(crate) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let request = match check(&gate, request).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    if !gate.writes {
        return next.run(request).await;
    }
    // A client that hangs up does not stop a change in the middle, before it is in the audit trail.
    let (tell, answer) = oneshot::channel();
    let readings = Arc::clone(&gate.app.readings);
    gate.app.background.spawn(async move {
        // A client that sends its body too slowly is not waited for.
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
        let answer = tokio::time::timeout(LONGEST_CHANGE, answer).await;
        readings.changed();
        if let Ok(answer) = answer {
            let _ = tell.send(answer);
        }
    });
    match answer.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Problem::internal("the server stops").into_response(),
    }
}

async fn check(gate: &Gate, request: Request) -> Result<Request> {
    let (mut parts, body) = request.into_parts();
    // A page that is open asks for its changes without anybody's doing.
    let caller = match parts.headers.contains_key(LIVE) && !gate.writes {
        true => recognize_again(&gate.app, &parts).await?,
        false => recognize(&gate.app, &parts).await?,
    };
    if gate.writes {
        same_site(&gate.app, &parts)?;
        if let Some(session) = caller.session() {
            let token = parts.headers.get(CSRF).and_then(|token| token.to_str().ok());
            if !token.is_some_and(|token| session.has_csrf(token)) {
                return Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "csrf",
                    format!("a change by a session needs its token in the header {CSRF}"),
                ));
            }
        }
        if gate.app.read_only && gate.reach != Reach::Session {
            return Err(Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "read_only",
                "the server is read-only",
            ));
        }
    }
    let params = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .map_err(|_| Problem::invalid("path", "the path is not UTF-8"))?;
    match gate.reach {
        Reach::Queue => {
            // The last one is ours: an application may have mounted the router under a path with such a parameter.
            let queue = params.iter().filter(|(name, _)| *name == "queue").last();
            let (_, queue) = queue.ok_or_else(|| Problem::internal("the route names no queue"))?;
            caller.need(queue, gate.needs)?;
        }
        Reach::EachQueue if caller.user().highest_role().is_some_and(|role| role >= gate.needs) => {}
        Reach::EachQueue => return Err(missing(gate.needs, None)),
        Reach::Everything => caller.need_everywhere(gate.needs)?,
        Reach::Session => {}
    }
    parts.extensions.insert(caller);
    Ok(Request::from_parts(parts, body))
}

/// Finds out who sends a request.
pub(crate) async fn recognize(app: &App, parts: &Parts) -> Result<Caller> {
    recognize_by(app, parts, Sessions::of).await
}

/// Finds out whether the sender of a request that is still answered may still be here, and with which rights. It does not count
/// as a use of the session.
pub(crate) async fn recognize_again(app: &App, parts: &Parts) -> Result<Caller> {
    recognize_by(app, parts, Sessions::peek).await
}

/// Returns the user of an earlier request as they are now, for work that outlives the request. It may outlive the session too.
pub(crate) async fn user_now(app: &App, caller: &Caller, parts: &Parts) -> Result<User> {
    match caller.session() {
        Some(session) => {
            let user = app.auth.renew(session.user(), session.way()).await?;
            user.ok_or_else(|| Problem::unauthorized("the user has changed or is gone"))
        }
        None => recognize_again(app, parts).await.map(|caller| caller.user().clone()),
    }
}

async fn recognize_by(app: &App, parts: &Parts, session: fn(&Sessions, &str) -> Option<Session>) -> Result<Caller> {
    right_host(app, parts)?;
    let caller = |user, session| {
        Caller(Arc::new(Inner {
            user,
            session,
            reason: reason(parts),
            app: app.clone(),
        }))
    };
    let auth = &app.auth;
    let credentials = Credentials::of(parts, peer(parts));
    if let Some(user) = auth.recognize(&credentials).await? {
        return Ok(caller(user, None));
    }
    let id = cookie(app, &parts.headers);
    if let Some((id, session)) = id.and_then(|id| session(&app.sessions, &id).map(|session| (id, session))) {
        return match auth.renew(session.user(), session.way()).await? {
            Some(user) => Ok(caller(user, Some(session))),
            None => {
                app.sessions.end(&id);
                Err(Problem::unauthorized("the session has ended"))
            }
        };
    }
    match app.is_open {
        true => Ok(caller(User::new("web", Role::Admin), None)),
        false => Err(Problem::unauthorized("sign in, or send a token")),
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        if let AuthError::Unavailable(cause) = &error {
            tracing::error!(cause = %cause, "credentials could not be checked");
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "auth_unavailable", error.to_string());
        }
        Self::unauthorized(error.to_string())
    }
}

/// Returns the id of the session in the cookie.
pub(crate) fn cookie(app: &App, headers: &HeaderMap) -> Option<String> {
    let jar = CookieJar::from_headers(headers);
    jar.get(&app.cookie).map(|cookie| cookie.value().to_owned())
}

/// Returns the address of the connection's other end.
pub(crate) fn peer(parts: &Parts) -> Option<IpAddr> {
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    address.map(|ConnectInfo(address)| address.ip().to_canonical())
}

/// Returns the address of the client. Behind a proxy that is trusted, it is the last one in `X-Forwarded-For` that is no such proxy.
pub(crate) fn client(app: &App, parts: &Parts) -> Option<IpAddr> {
    let peer = peer(parts)?;
    if !app.proxies.contains(&peer) {
        return Some(peer);
    }
    let values = parts.headers.get_all("x-forwarded-for").iter();
    let list: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let before = list.iter().flat_map(|value| value.split(',')).map(str::trim).rev();
    for address in before {
        match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(address) if app.proxies.contains(&address) => {}
            Ok(address) => return Some(address),
            Err(_) => break,
        }
    }
    Some(peer)
}

fn reason(parts: &Parts) -> Option<String> {
    if let Some(reason) = parts.headers.get(REASON) {
        return Some(String::from_utf8_lossy(reason.as_bytes()).into_owned());
    }
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).ok()?;
    pairs
        .0
        .into_iter()
        .find(|(name, _)| name == "reason")
        .map(|(_, reason)| reason)
}

/// Refuses a request for another host, if the hosts are known: a name of a stranger may lead to this machine.
pub(crate) fn right_host(app: &App, parts: &Parts) -> Result<()> {
    let Some(hosts) = &app.hosts else {
        return Ok(());
    };
    let host = host(parts).unwrap_or_default();
    match hosts.has(without_port(host)) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong_host",
            "this server does not answer for this host name; `asynq web --public-url` or `--host` names it",
        )),
    }
}

fn host(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| parts.uri.authority().map(|authority| authority.as_str()))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Refuses a change that a page of another site has caused. Browsers say so; programs that are none send no such header.
pub(crate) fn same_site(app: &App, parts: &Parts) -> Result<()> {
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let refused = || {
        Problem::new(
            StatusCode::FORBIDDEN,
            "wrong_origin",
            "another site has caused this request",
        )
    };
    if let Some(origin) = text("origin") {
        let is_own = origin.split_once("://").is_some_and(|(scheme, authority)| {
            // Someone between could change a page that came over HTTP.
            (scheme == "https" || !app.https && scheme == "http")
                && host(parts).is_some_and(|own| own.eq_ignore_ascii_case(authority))
        });
        let is_known = app.origins.iter().any(|known| known.eq_ignore_ascii_case(origin));
        return match is_own || is_known {
            true => Ok(()),
            false => Err(refused()),
        };
    }
    match text("sec-fetch-site") {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(refused()),
    }
}
