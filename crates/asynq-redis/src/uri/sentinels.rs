//! The addresses of sentinels: one by one, or as the `redis-sentinel` URI of Go asynq.

use std::sync::Arc;

use asynq_core::error::BrokerError;

use super::{apply_query, database, decode, invalid, parse_with, split_login, split_query};
use crate::link::settings::{Address, Secret, Sentinels, Settings};

const DEFAULT_PORT: u16 = 26379;

/// `redis-sentinel://[[user]:password@]h1[:p1][,h2[:p2]…][/db]?master=NAME[&protocol=2]`. User and password
/// are those of the sentinels.
pub(crate) fn parse_uri(input: &str) -> Result<Settings, BrokerError> {
    let Some(("redis-sentinel", rest)) = input.trim().split_once("://") else {
        return Err(invalid("the uri of sentinels begins with redis-sentinel://"));
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if tail.contains('@') {
        return Err(invalid(
            "a '/', '?', '#' or '@' in a user or password must be percent-encoded",
        ));
    }
    let (login, servers) = split_login(authority);
    let (path, query) = split_query(tail)?;
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for pair in query.split('&') {
        match pair.strip_prefix("master=") {
            Some(name) => names.push(name),
            None => others.push(pair),
        }
    }
    let [name] = names[..] else {
        return Err(invalid("master: the uri of sentinels names one master: ?master=NAME"));
    };
    let name = decode(name).ok_or_else(|| invalid("master: the name is not valid percent-encoded UTF-8"))?;
    let mut settings = parse(&name, servers.split(',').filter(|server| !server.is_empty()))?;
    let path = path.strip_prefix('/').unwrap_or(path);
    let in_path = if path.is_empty() { None } else { Some(database(path)?) };
    apply_query(&mut settings, &others.join("&"), in_path)?;
    // Read by the same rules as in the other forms, and moved to where they belong.
    let mut of_sentinels = settings.clone();
    super::log_in(&mut of_sentinels, login)?;
    Ok(with_login(settings, of_sentinels.username, of_sentinels.password))
}

/// The settings of the master; user, password and database are not known yet.
pub(crate) fn parse(
    master: &str,
    sentinels: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<Settings, BrokerError> {
    if master.trim().is_empty() {
        return Err(invalid("master: the name is blank"));
    }
    let mut nodes = Vec::new();
    let mut logins = Vec::new();
    for (place, input) in sentinels.into_iter().enumerate() {
        let fault = |reason: &str| invalid(format!("sentinels[{place}]: {reason}"));
        let node = parse_with(input.as_ref(), DEFAULT_PORT).map_err(|error| match error {
            BrokerError::InvalidConnection { reason } => fault(&reason),
            other => other,
        })?;
        if node.uses_tls() {
            return Err(fault("TLS to sentinels is not supported yet"));
        }
        if node.db != 0 {
            return Err(fault("a sentinel has no databases; say that of the master with `db`"));
        }
        let Address::Tcp { host, port } = node.address else {
            return Err(fault("a sentinel is reached by TCP"));
        };
        nodes.push((host, port));
        logins.push((node.username, node.password));
        if logins.first() != logins.last() {
            return Err(fault("all sentinels have the same user and password"));
        }
    }
    let Some((username, password)) = logins.pop() else {
        return Err(invalid("sentinels: at least one address is needed"));
    };
    Ok(Settings::new(Address::Master(Arc::new(Sentinels {
        master: master.to_owned(),
        nodes,
        username,
        password,
    }))))
}

/// The same with another login to the sentinels.
pub(crate) fn with_login(mut settings: Settings, username: Option<String>, password: Option<Secret>) -> Settings {
    if let Address::Master(sentinels) = &mut settings.address {
        let sentinels = Arc::make_mut(sentinels);
        (sentinels.username, sentinels.password) = (username, password);
    }
    settings
}
