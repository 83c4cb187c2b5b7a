//! [`Web`]: the settings of the router.

use std::{
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use asynq::{
    Inspector,
    broker::{Connector, Storage},
    redis::{RedisBroker, RedisConnectionType},
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use futures::FutureExt as _;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    access::{Authenticate, RedactionRule, Sessions, Throttle, Ways},
    acts::Acts,
    app::{App, Hosts, Place, Shared},
    background::Background,
    budget::Budgets,
    context::{Context, Environment, checked_name},
    health,
    live::Live,
    metrics::{self, Exporter, Metrics},
    mon, pages,
    problem::Problem,
    pulse::Pulses,
    range_queries::Prometheus,
    readings::Readings,
    routes, sign_in, v1,
};

/// Longest time that a request may take to be read and answered. Live updates are not bounded by it.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// Default of [`Web::max_body`].
const MAX_BODY: usize = 2 * 1024 * 1024;

/// Name of the session's cookie.
const COOKIE: &str = "asynq_session";

/// Default of [`Web::max_payload_length`] and [`Web::max_result_length`].
const MAX_LENGTH: usize = 200;

/// Settings of the web server's router. The [crate's page](crate) has an example.
#[must_use = "the settings do nothing until `router` is called"]
pub struct Web {
    /// The storage at the root of the router.
    own: Context,
    others: Vec<Context>,
    auth: Ways,
    redactions: Vec<RedactionRule>,
    exporter: Option<Arc<Exporter>>,
    read_only: bool,
    require_reason: bool,
    is_open: bool,
    hosts: Option<Hosts>,
    proxies: Vec<IpAddr>,
    cookie: Option<String>,
    origins: Vec<String>,
    https: bool,
    frame_ancestors: String,
    idle: Duration,
    longest_session: Duration,
    max_body: usize,
    payload_length: usize,
    result_length: usize,
    prometheus: Option<Prometheus>,
    tasks_per_minute: u64,
    reads_at_once: usize,
    background: Background,
}

impl Web {
    /// Returns the settings for a storage, such as [`AsynqSystem::storage`](asynq::AsynqSystem::storage). What only Redis can answer,
    /// such as its `INFO`, is missing; see [`of_redis`](Self::of_redis).
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            own: Context::new("", storage),
            others: Vec::new(),
            auth: Ways(Vec::new()),
            redactions: Vec::new(),
            exporter: None,
            read_only: false,
            require_reason: false,
            is_open: false,
            hosts: None,
            proxies: Vec::new(),
            cookie: None,
            origins: Vec::new(),
            https: false,
            frame_ancestors: "'none'".to_owned(),
            idle: Duration::from_secs(60 * 60),
            longest_session: Duration::from_secs(12 * 60 * 60),
            max_body: MAX_BODY,
            payload_length: MAX_LENGTH,
            result_length: MAX_LENGTH,
            prometheus: None,
            tasks_per_minute: 2_000_000,
            reads_at_once: 24,
            background: Background::new(),
        }
    }

    /// Returns the settings for a storage to which own connections are opened.
    ///
    /// # Errors
    /// [`asynq::Error::Broker`] when the storage cannot be reached or refuses the credentials. There is only one attempt.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(connector: impl Connector) -> asynq::Result<Self> {
        let storage = connector.connect(connector.env()).await?;
        Ok(Self::new(storage))
    }

    /// Returns the settings for a Redis to which own connections are opened, with all that Redis tells about itself.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect_redis(connection: RedisConnectionType) -> asynq::Result<Self> {
        Ok(Self::of_redis(Arc::new(RedisBroker::new(connection).await?)))
    }

    /// Returns the settings for an open connection to Redis.
    pub fn of_redis(redis: Arc<RedisBroker>) -> Self {
        let storage = Arc::clone(&redis) as Arc<dyn Storage>;
        let web = Self::new(storage);
        Self {
            own: Context::of_redis("", redis),
            ..web
        }
    }

    /// Returns the settings for a context, whose rules count for it alone if there are others [beside](Self::beside) it. Its name may be
    /// empty.
    pub fn of_context(context: Context) -> Self {
        let web = Self::new(Arc::clone(&context.storage));
        Self { own: context, ..web }
    }

    /// Names the storage, and says what it is for. Pages show both, which matters once there are several.
    ///
    /// # Errors
    /// A text, if the name is empty, has more than 40 characters or control characters, consists of dots, or is taken.
    pub fn named(mut self, name: &str, environment: Option<Environment>) -> Result<Self, String> {
        checked_name(name)?;
        if self.others.iter().any(|known| known.name == name) {
            return Err(format!("context: the name {name:?} is given twice"));
        }
        self.own.name = name.to_owned();
        self.own.environment = environment;
        Ok(self)
    }

    /// Shows another storage too, with everything that there is for the first one, under `/contexts/{name}`. Users, roles, sessions and the
    /// other settings are the same for all.
    ///
    /// # Errors
    /// A text, if the name is taken, or not one as for [`named`](Self::named).
    pub fn beside(mut self, context: Context) -> Result<Self, String> {
        checked_name(&context.name)?;
        if self
            .others
            .iter()
            .chain([&self.own])
            .any(|known| known.name == context.name)
        {
            return Err(format!("context: the name {:?} is given twice", context.name));
        }
        self.others.push(context);
        Ok(self)
    }

    /// Recognizes users in this way. Several ways are tried in the order in which they were added.
    pub fn authenticate(mut self, way: impl Authenticate) -> Self {
        self.auth.0.push(Box::new(way));
        self
    }

    /// Lets everyone who reaches the router do everything, with the name `web` in the audit trail, unless a way of
    /// [`authenticate`](Self::authenticate) recognizes them. It is for routers behind the sign-in of an application. Without it and without such a way
    /// every request is refused.
    pub fn without_authentication(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Returns whether a way to recognize users has been set.
    #[must_use]
    pub fn has_authentication(&self) -> bool {
        !self.auth.0.is_empty()
    }

    /// Hides the payloads and results of some task types. Rules add up.
    pub fn redact(mut self, rule: RedactionRule) -> Self {
        self.redactions.push(rule);
        self
    }

    /// Adds the text of an exporter for Prometheus to `/metrics`: the metrics of the application, and those of its servers
    /// if the feature `metrics` of `asynq` is on. Their names must differ from those of this server. The function must
    /// not block. Default: none.
    ///
    /// ```
    /// # use asynq_web::Web;
    /// # fn example(web: Web) -> Web {
    /// // With the crate metrics-exporter-prometheus:
    /// // let handle = PrometheusBuilder::new().install_recorder()?;
    /// // web.exporter(move || handle.render())
    /// web.exporter(|| "# TYPE shop_orders_total counter\nshop_orders_total 3\n".to_owned())
    /// # }
    /// ```
    pub fn exporter(mut self, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.exporter = Some(Arc::new(text));
        self
    }

    /// Refuses all changes, whoever asks.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Refuses changes for which no reason is given: in the header `Asynq-Reason`, in the parameter `reason`, or in the field
    /// `reason` of the body.
    pub fn require_reason(mut self) -> Self {
        self.require_reason = true;
        self
    }

    /// Answers only for these host names, without port, such as `localhost`. It protects a server without a sign-in
    /// from pages whose own name leads to its address. Default: all.
    pub fn hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        let hosts = hosts.into_iter().map(Into::into);
        self.hosts.get_or_insert_default().names.extend(hosts);
        self
    }

    /// Trusts the header `X-Forwarded-For` of these proxies: the address of a client, which slows down its guesses of passwords, is the
    /// last one there that is no such proxy. Default: none.
    pub fn trusted_proxies(mut self, proxies: impl IntoIterator<Item = IpAddr>) -> Self {
        self.proxies
            .extend(proxies.into_iter().map(|proxy| proxy.to_canonical()));
        self
    }

    /// Sets the name of the session's cookie. Two servers on one host name need different ones, as ports do not separate
    /// cookies. Default: `asynq_session`, and with [`https`](Self::https) `__Host-asynq`.
    ///
    /// # Errors
    /// A text, if the name is empty or has other characters than letters, digits, `-` and `_`.
    pub fn cookie_name(mut self, name: &str) -> Result<Self, String> {
        let is_fit = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
        if name.is_empty() || !name.chars().all(is_fit) {
            return Err(format!(
                "cookie_name: {name:?} has other characters than letters, digits, `-` and `_`"
            ));
        }
        self.cookie = Some(name.to_owned());
        Ok(self)
    }

    /// Fills in what is known of a server on an address.
    pub(crate) fn on(mut self, address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        let is_ambient = self.is_open || ip.is_loopback() && self.auth.trust_the_connection();
        if is_ambient || self.hosts.is_some() {
            let own = match ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            let origins = self.origins.iter().filter_map(|origin| origin.parse::<Uri>().ok());
            let public = origins.filter_map(|origin| origin.host().map(str::to_owned));
            let hosts = self.hosts.get_or_insert_default();
            hosts
                .names
                .extend(["localhost".to_owned(), own].into_iter().chain(public));
            hosts.addresses = is_ambient && !ip.is_loopback();
        }
        if self.cookie.is_none() && !self.https {
            self.cookie = Some(format!("{COOKIE}_{}", address.port()));
        }
        self
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// Accepts changes by pages of this origin too, such as `https://queues.example.com`. It is needed behind a proxy
    /// that changes the host name of requests.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Says that users come over HTTPS, to this server or to a proxy before it. Cookies are then bound to HTTPS. Default: no.
    pub fn https(mut self) -> Self {
        self.https = true;
        self
    }

    /// Lets pages of these origins show the server in a frame: a list of sources as in the directive `frame-ancestors`,
    /// such as `'self' https://portal.example.com`. Default: `'none'`.
    ///
    /// # Errors
    /// A text, if the list has a character that cannot stand in it.
    pub fn frame_ancestors(mut self, sources: &str) -> Result<Self, String> {
        let is_fit = |char: char| char.is_ascii_graphic() && !matches!(char, ';' | ',') || char == ' ';
        if sources.trim().is_empty() || !sources.chars().all(is_fit) {
            return Err(format!("frame_ancestors: {sources:?} is no list of sources"));
        }
        self.frame_ancestors = sources.to_owned();
        Ok(self)
    }

    /// Ends a session after this time without a request, and after this time in all. Defaults: one hour, and twelve.
    pub fn session_ends_after(mut self, idle: Duration, longest: Duration) -> Self {
        (self.idle, self.longest_session) = (idle, longest);
        self
    }

    /// Sets the largest body of a request in bytes. Default: 2 MiB. The API of asynqmon has 1 000 000 bytes, as asynqmon.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets the longest payload in the API of asynqmon, in characters. The rest of a longer one becomes `…`. Default: 200.
    pub fn max_payload_length(mut self, chars: usize) -> Self {
        self.payload_length = chars;
        self
    }

    /// Sets the longest result in the API of asynqmon, as [`max_payload_length`](Self::max_payload_length) does for payloads.
    pub fn max_result_length(mut self, chars: usize) -> Self {
        self.result_length = chars;
        self
    }

    /// Sets the number of tasks that the searches of one user may look at in a minute. A search that would look at more is answered
    /// with 429 and the place to go on from. At least 1. Default: 2 million.
    pub fn search_budget(mut self, tasks_per_minute: u64) -> Self {
        self.tasks_per_minute = tasks_per_minute.max(1);
        self
    }

    /// Sets the number of expensive reads of one user at a time, such as searches. One more is answered with 429. At least 1.
    /// Default: 24, as a page makes up to five.
    pub fn reads_at_once(mut self, reads: usize) -> Self {
        self.reads_at_once = reads.max(1);
        self
    }

    /// Returns the work of the router that outlives requests, to stop it at the end of the process.
    pub fn background(&self) -> Background {
        self.background.clone()
    }

    /// Asks this Prometheus server for the past of the queues' metrics, which the API of asynqmon shows at `/api/metrics`. The URL is
    /// that of its web interface, such as `http://127.0.0.1:9090`. HTTPS is not supported.
    ///
    /// # Errors
    /// A text, if this is no URL that begins with `http://`.
    pub fn prometheus(mut self, url: &str) -> Result<Self, String> {
        self.prometheus = Some(Prometheus::new(url)?);
        Ok(self)
    }

    /// Returns the router. It can be mounted under any path without parameters with [`Router::nest`]. Serve it with
    /// [`into_make_service_with_connect_info`](Router::into_make_service_with_connect_info), so that it knows the addresses of its clients.
    pub fn router(mut self) -> Router {
        let common = Common {
            auth: Arc::new(std::mem::take(&mut self.auth)),
            sessions: Arc::new(Sessions::new(self.idle, self.longest_session)),
            throttle: Arc::default(),
            contexts: [&self.own].into_iter().chain(&self.others).map(Place::of).collect(),
            cookie: self.cookie.clone().unwrap_or_else(|| {
                // A browser takes a cookie with this beginning only over HTTPS, from this very host.
                let name = if self.https { "__Host-asynq" } else { COOKIE };
                name.to_owned()
            }),
        };
        let app = self.app(&self.own, 0, &common);
        let mut router = everything(&app)
            .route("/healthz", get(health::healthz))
            .route("/readyz", get(health::readyz))
            .with_state(app.clone());
        for (index, context) in self.others.iter().enumerate() {
            let app = self.app(context, index + 1, &common);
            let path = format!("/contexts/{}", pages::paths::segment(&context.name));
            // A router that is nested has no path with a slash at the end.
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            router = router.route(
                &format!("{path}/"),
                get(async move || Redirect::to(&format!("../{name}"))),
            );
            router = router.nest(&path, everything(&app).with_state(app));
        }
        let requests = app.metrics.requests.clone();
        let router = router
            .fallback(no_page)
            .method_not_allowed_fallback(async || {
                Problem::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    "this path does not know this method",
                )
            })
            .layer(DefaultBodyLimit::max(self.max_body))
            .layer(middleware::from_fn(bounded))
            .layer(middleware::from_fn_with_state(requests, metrics::count));
        let policy = format!(
            "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action 'self'; frame-ancestors {}; img-src 'self'; \
             script-src 'self'; style-src 'self'",
            self.frame_ancestors
        );
        [
            (header::CONTENT_SECURITY_POLICY, policy.as_str()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::CACHE_CONTROL, "no-store"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ]
        .into_iter()
        .fold(router, |router, (name, value)| {
            // All characters were checked.
            let value = HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("default-src 'none'"));
            router.layer(SetResponseHeaderLayer::if_not_present(name, value))
        })
    }
}

/// The state that the contexts of a server share.
struct Common {
    auth: Arc<Ways>,
    sessions: Arc<Sessions>,
    throttle: Arc<Throttle>,
    contexts: Arc<[Place]>,
    cookie: String,
}

impl Web {
    /// Returns the state of the routes of one context, the one with this index among all.
    fn app(&self, context: &Context, index: usize, common: &Common) -> App {
        let require_reason = self.require_reason || context.require_reason;
        let inspector = match require_reason {
            true => Inspector::new(Arc::clone(&context.storage)).requiring_reason(),
            false => Inspector::new(Arc::clone(&context.storage)),
        };
        // Reads only: acts have the inspector of their user.
        let readings = Arc::new(Readings::new(inspector.clone()));
        let live = Live::new(inspector.clone(), Arc::clone(&readings), self.background.clone());
        App(Arc::new(Shared {
            budgets: Arc::new(Budgets::new(self.tasks_per_minute, self.reads_at_once)),
            acts: Acts::new(self.background.clone()),
            background: self.background.clone(),
            live: Arc::new(live),
            storage: Arc::clone(&context.storage),
            redis: context.redis.clone(),
            inspector,
            readings,
            pulses: Pulses::default(),
            auth: Arc::clone(&common.auth),
            is_open: self.is_open,
            sessions: Arc::clone(&common.sessions),
            throttle: Arc::clone(&common.throttle),
            contexts: Arc::clone(&common.contexts),
            context: index,
            // The exporter tells of the process, so once is enough.
            metrics: Metrics::new(self.exporter.clone().filter(|_| index == 0)),
            redactions: self.redactions.iter().chain(&context.redactions).cloned().collect(),
            read_only: self.read_only || context.read_only,
            require_reason,
            hosts: self.hosts.clone(),
            proxies: self.proxies.clone(),
            cookie: common.cookie.clone(),
            origins: self.origins.clone(),
            https: self.https,
            payload_length: self.payload_length,
            result_length: self.result_length,
            prometheus: self.prometheus.clone(),
        }))
    }
}

/// Returns the routes that each context has.
fn everything(app: &App) -> Router<App> {
    Router::new()
        .merge(pages::router(app))
        .merge(sign_in::router())
        .merge(routes::mount(metrics::routes(), app))
        .nest("/api/v1", v1::router(app).fallback(nothing_here))
        .nest("/api", mon::router(app))
        .fallback(no_page)
}

/// Bounds the time of a request, and answers for one that panics.
async fn bounded(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(LONGEST_REQUEST, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            tracing::error!("a request has panicked");
            Problem::internal("the request failed; the log of the server has more").into_response()
        }
        Err(_) => {
            let seconds = LONGEST_REQUEST.as_secs();
            let detail = format!("the request took longer than {seconds} s; a change that has begun goes on");
            Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail).into_response()
        }
    }
}

/// Answers at a path that no route has.
async fn nothing_here() -> Problem {
    Problem::not_found("there is nothing at this path")
}

/// [`nothing_here`], with a page for a browser.
async fn no_page(parts: Parts) -> Response {
    let problem = nothing_here().await;
    let accepts = parts
        .headers
        .get(header::ACCEPT)
        .and_then(|accepts| accepts.to_str().ok());
    match parts.method == Method::GET && accepts.is_some_and(|accepts| accepts.contains("text/html")) {
        true => pages::problem(&parts, &problem),
        false => problem.into_response(),
    }
}
