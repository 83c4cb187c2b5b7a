//! `asynq web`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use asynq::{broker::Storage, findings::Severity};
use asynq_web::{
    Context, Web as Site, Webhook,
    access::{RedactionRule, Role, TrustedProxy, Users, hash_password, hash_token, new_token},
    serve::{Listen, ServeError, WebServer},
};
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    address::Redis,
    cli::{Global, Settings},
    commands::complete,
    error::{CliError, Result, with_causes},
    interrupt,
    session::Session,
    settings::Target,
};

const DEFAULT_PORT: u16 = 8080;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Without --users and --proxy-header everyone who reaches the address may do everything, so only programs of this machine \
                  can reach it.\n\n\
                  A file of users has for each one a name, a hash, and a role (viewer, operator, admin):\n\n    \
                  [[user]]\n    name = \"ann\"\n    password = \"$argon2id$...\"   # from `asynq web password`\n    role = \"admin\"\n\n    \
                  [[user]]\n    name = \"deploy\"\n    token = \"sha256:...\"          # from `asynq web token`\n    role = \"operator\"\n    \
                  queues = [\"mail*\"]"
)]
pub(crate) struct Web {
    #[command(subcommand)]
    secret: Option<Secret>,
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    users: UserFlags,
    /// Hide payloads and results of this task type from everybody; `*` stands for any characters. May be given several
    /// times, and adds to those of the context.
    #[arg(long, value_name = "PATTERN", help_heading = "Users")]
    redact: Vec<String>,
    /// Show what `--redact` hides to users with this role.
    #[arg(long, value_name = "ROLE", requires = "redact", help_heading = "Users")]
    redact_below: Option<RoleName>,
    /// Show this context of the configuration file too, under `/contexts/NAME`. May be given several times.
    #[arg(long, value_name = "CONTEXT", add = complete::contexts())]
    beside: Vec<String>,
    #[command(flatten)]
    programs: ProgramFlags,
    /// Refuse changes for which no reason is given.
    #[arg(long, env = "ASYNQ_WEB_REQUIRE_REASON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Users")]
    require_reason: bool,
}

/// Make the secrets of users.
#[derive(Debug, Subcommand)]
enum Secret {
    /// Ask for a password, and print its hash for the file of users.
    Password,
    /// Print a new token for a script, and its hash for the file of users.
    Token,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Address")]
struct ListenFlags {
    /// Address to listen on. Default: `127.0.0.1:8080`.
    #[arg(long, value_name = "ADDRESS", env = "ASYNQ_WEB_LISTEN", hide_env = true)]
    listen: Option<SocketAddr>,
    /// Port on the loopback address. 0 takes any free one.
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    port: Option<u16>,
    /// Serve HTTPS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// URL under which users see the server, if it is behind a proxy, such as `https://queues.example.com`.
    #[arg(long, value_name = "URL", env = "ASYNQ_WEB_PUBLIC_URL", hide_env = true, value_parser = origin)]
    public_url: Option<String>,
    /// Path under which everything is served, such as `/asynq`, for a proxy that passes it on.
    #[arg(long, value_name = "PATH", env = "ASYNQ_WEB_PREFIX", hide_env = true)]
    prefix: Option<String>,
    /// Host name for which the server answers too. It matters where it answers for known names only: without authentication, and with
    /// `--proxy-header` on the loopback address. May be given several times.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Proxy whose `X-Forwarded-For` tells the address of clients. May be given several times. Those of `--proxy-from` count too.
    #[arg(long, value_name = "IP")]
    trusted_proxy: Vec<IpAddr>,
    /// Let pages of these origins show the server in a frame. Default: `'none'`.
    #[arg(long, value_name = "SOURCES")]
    frame_ancestors: Option<String>,
    /// Listen without authentication where others can reach it. Whoever reaches it can change everything.
    #[arg(long)]
    insecure_no_auth: bool,
    /// Take passwords and tokens without HTTPS where others can reach it. Whoever stands between can read them.
    #[arg(long)]
    insecure_http: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Other programs")]
struct ProgramFlags {
    /// URL to which new findings are posted, signed as in Standard Webhooks.
    #[arg(
        long,
        value_name = "URL",
        env = "ASYNQ_WEB_WEBHOOK",
        hide_env = true,
        requires = "webhook_secret"
    )]
    webhook: Option<String>,
    /// File with the secret that signs them: `whsec_` and the base64 of 24 to 64 bytes.
    #[arg(long, value_name = "FILE", env = "ASYNQ_WEB_WEBHOOK_SECRET_FILE", hide_env = true)]
    webhook_secret: Option<PathBuf>,
    /// Post only findings that are at least so serious. Default: all.
    #[arg(long, value_name = "SEVERITY", requires = "webhook")]
    webhook_severity: Option<SeverityName>,
    /// URL of a Prometheus server, for `/api/metrics` as in asynqmon.
    #[arg(long, value_name = "URL", env = "PROMETHEUS_ADDR", hide_env = true)]
    prometheus: Option<String>,
    /// Longest payload in the API of asynqmon, in characters.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 200,
        env = "MAX_PAYLOAD_LENGTH",
        hide_env = true
    )]
    max_payload_length: usize,
    /// Longest result there, in characters.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 200,
        env = "MAX_RESULT_LENGTH",
        hide_env = true
    )]
    max_result_length: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SeverityName {
    Notice,
    Warning,
    Critical,
}

impl From<SeverityName> for Severity {
    fn from(name: SeverityName) -> Self {
        match name {
            SeverityName::Notice => Self::Notice,
            SeverityName::Warning => Self::Warning,
            SeverityName::Critical => Self::Critical,
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Users")]
struct UserFlags {
    /// File of users (TOML). It is read again when it changes.
    #[arg(long, value_name = "FILE", env = "ASYNQ_WEB_USERS", hide_env = true)]
    users: Option<PathBuf>,
    /// Trust the user name that a proxy puts into this header.
    #[arg(long, value_name = "NAME", requires = "proxy_from")]
    proxy_header: Option<String>,
    /// Address of such a proxy. May be given several times.
    #[arg(long, value_name = "IP", requires = "proxy_header")]
    proxy_from: Vec<IpAddr>,
    /// Role of users whom the proxy names. Default: `viewer`.
    #[arg(long, value_name = "ROLE", requires = "proxy_header")]
    proxy_role: Option<RoleName>,
    /// User of the proxy who is an operator. May be given several times.
    #[arg(long, value_name = "NAME", requires = "proxy_header")]
    proxy_operator: Vec<String>,
    /// User of the proxy who is an admin. May be given several times.
    #[arg(long, value_name = "NAME", requires = "proxy_header")]
    proxy_admin: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    Viewer,
    Operator,
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Admin => Self::Admin,
        }
    }
}

/// Reads the origin of a URL.
fn origin(text: &str) -> Result<String, String> {
    let wrong = || "a URL is like https://queues.example.com".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let host = rest.split('/').next().unwrap_or_default();
    match matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['@', '?', '#', ' ']) {
        true => Ok(format!("{scheme}://{host}").to_lowercase()),
        false => Err(wrong()),
    }
}

impl Web {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        match &self.secret {
            Some(Secret::Password) => return password(global),
            Some(Secret::Token) => return token(global),
            None => {}
        }
        // Wrong flags are found before anything is connected.
        let users = self.users.users()?;
        let proxy = self.users.proxy()?;
        let webhook = self.programs.webhook()?;
        let session = global.connect().await?;
        let settings = global.settings()?;
        let mut web = self.site(context(&session, &settings)?, users, proxy)?;
        for name in &self.beside {
            // As with `--context`, a context that is named decides alone about acts.
            let target = Target::choose(Redis::default(), Some(name), Redis::from_env()?, &settings.file)?;
            let beside = global.connect_to(target).await?;
            web = web.beside(context(&beside, &settings)?).map_err(CliError::usage)?;
        }
        let server = WebServer::bind(web, self.listen.listen()?).await.map_err(refused)?;
        // Before the address is told, as whoever reads it may end the program at once.
        let told_to_end = interrupt::any();
        let mut stderr = anstream::stderr();
        // Nobody is left to tell if stderr is closed.
        let _ = writeln!(stderr, "{} is served at {}", session.place(), server.url());
        if session.hands.protected.is_some() {
            let _ = writeln!(
                stderr,
                "The context is protected and was not named: nothing can be changed."
            );
        }
        let served = server.run(told_to_end);
        match webhook {
            None => served.await,
            Some(webhook) => {
                let storage: Arc<dyn Storage> = Arc::clone(&session.redis) as _;
                // A webhook that has ended leaves the server running.
                let posted = async {
                    webhook.run(storage).await;
                    std::future::pending().await
                };
                tokio::select! {
                    served = served => served,
                    () = posted => Ok(()),
                }
            }
        }
        .map_err(refused)
    }

    fn site(&self, context: Context, users: Option<Users>, proxy: Option<TrustedProxy>) -> Result<Site> {
        let mut web = Site::of_context(context);
        if let Some(users) = users {
            web = web.authenticate(users);
        }
        if let Some(proxy) = proxy {
            web = web.authenticate(proxy);
        }
        if self.require_reason {
            web = web.require_reason();
        }
        let patterns = self.redact.clone();
        web = web.redact(match self.redact_below {
            Some(role) => RedactionRule::new(patterns, role.into()),
            None => RedactionRule::from_everybody(patterns),
        });
        web = web
            .max_payload_length(self.programs.max_payload_length)
            .max_result_length(self.programs.max_result_length);
        if let Some(url) = &self.programs.prometheus {
            web = web.prometheus(url).map_err(CliError::usage)?;
        }
        web = web.trusted_proxies(self.listen.trusted_proxy.iter().chain(&self.users.proxy_from).copied());
        if let Some(origin) = &self.listen.public_url {
            web = web.origin(origin.clone());
            if origin.starts_with("https:") {
                web = web.https();
            }
        }
        if !self.listen.host.is_empty() {
            web = web.hosts(self.listen.host.iter().cloned());
        }
        match &self.listen.frame_ancestors {
            Some(sources) => web.frame_ancestors(sources).map_err(CliError::usage),
            None => Ok(web),
        }
    }
}

/// The Redis of a session, with the rules that count for it.
fn context(session: &Session, settings: &Settings) -> Result<Context> {
    let name = session.target.context.as_deref();
    let mut context = Context::of_redis(name.unwrap_or_default(), Arc::clone(&session.redis))
        .redact(RedactionRule::from_everybody(session.target.redact.clone()));
    if let Some(environment) = name
        .map(|name| settings.file.context(name))
        .transpose()?
        .and_then(|known| known.environment())
    {
        context = context.environment(environment);
    }
    if session.hands.read_only || session.hands.protected.is_some() {
        context = context.read_only();
    }
    if session.hands.require_reason {
        context = context.require_reason();
    }
    Ok(context)
}

impl ListenFlags {
    fn listen(&self) -> Result<Listen> {
        let port = self.port.unwrap_or(DEFAULT_PORT);
        let address = self.listen.unwrap_or((Ipv4Addr::LOCALHOST, port).into());
        let mut listen = Listen::on(address);
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            listen = listen.tls(certificate, key);
        }
        if self.insecure_no_auth {
            listen = listen.insecure_no_auth();
        }
        if self.insecure_http {
            listen = listen.insecure_http();
        }
        match &self.prefix {
            Some(path) => listen.prefix(path).map_err(CliError::usage),
            None => Ok(listen),
        }
    }
}

impl ProgramFlags {
    fn webhook(&self) -> Result<Option<Webhook>> {
        let (Some(url), Some(path)) = (&self.webhook, &self.webhook_secret) else {
            return Ok(None);
        };
        let secret = std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            CliError::usage(format!("cannot read the secret of the webhook in {path}: {error}"))
        })?;
        let webhook = Webhook::new(url, secret.trim()).map_err(|error| CliError::usage(error.to_string()))?;
        Ok(Some(match self.webhook_severity {
            Some(severity) => webhook.at_least(severity.into()),
            None => webhook,
        }))
    }
}

impl UserFlags {
    fn users(&self) -> Result<Option<Users>> {
        let users = self.users.as_ref().map(Users::open).transpose();
        users.map_err(|error| CliError::usage(with_causes(&error)))
    }

    fn proxy(&self) -> Result<Option<TrustedProxy>> {
        let Some(header) = &self.proxy_header else {
            return Ok(None);
        };
        let role = self.proxy_role.map_or(Role::Viewer, Role::from);
        let proxy = TrustedProxy::new(header, self.proxy_from.iter().copied(), role).map_err(CliError::usage)?;
        Ok(Some(
            proxy
                .operators(self.proxy_operator.iter().cloned())
                .admins(self.proxy_admin.iter().cloned()),
        ))
    }
}

fn refused(error: ServeError) -> CliError {
    let text = with_causes(&error);
    match error {
        ServeError::NoAuthentication(_) => {
            CliError::refused(text).hint("`--users FILE` asks for a sign-in; `--insecure-no-auth` listens all the same.")
        }
        ServeError::NoHttps(_) => CliError::refused(text).hint(
            "`--tls-cert` serves HTTPS; `--public-url https://…` says that a proxy does; `--insecure-http` listens all the same.",
        ),
        _ => CliError::failure(text),
    }
}

fn password(global: &Global) -> Result<()> {
    let password = match io::stdin().is_terminal() {
        true => {
            let password = rpassword::prompt_password("Password: ")?;
            if rpassword::prompt_password("Once more: ")? != password {
                return Err(CliError::usage("the two passwords differ"));
            }
            password
        }
        false => {
            let mut line = String::new();
            io::stdin().read_line(&mut line)?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    let hash = hash_password(&password).map_err(CliError::usage)?;
    let record = serde_json::json!({"password": hash});
    global.out().record(&record, || format!("password = \"{hash}\"\n"))
}

fn token(global: &Global) -> Result<()> {
    let token = new_token().map_err(CliError::failure)?;
    let hash = hash_token(&token);
    let record = serde_json::json!({"token": token, "hash": hash});
    let text =
        || format!("The token, which is not shown again:  {token}\nFor the file of users:\ntoken = \"{hash}\"\n");
    global.out().record(&record, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_url_is_its_scheme_and_host() {
        assert_eq!(
            origin("https://Q.example.com/asynq/"),
            Ok("https://q.example.com".to_owned())
        );
        assert_eq!(origin("http://localhost:8080"), Ok("http://localhost:8080".to_owned()));
        for wrong in [
            "",
            "q.example.com",
            "ftp://q",
            "https://",
            "https:///x",
            "https://a@b",
            "https://a b",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
