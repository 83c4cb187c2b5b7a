//! The connection URIs of Go asynq, and a few more forms.
//!
//! No error shows more of the input than is known not to be a part of a password.

#[cfg(feature = "cluster")]
pub(crate) mod nodes;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinels;

use std::path::PathBuf;

use asynq_core::{error::BrokerError, excerpt::Excerpt};

use crate::link::settings::{Address, Secret, Settings};

const DEFAULT_PORT: u16 = 6379;
/// The largest database number that a server can be configured for.
const MAX_DB: u32 = i32::MAX as u32;

fn invalid(reason: impl Into<String>) -> BrokerError {
    BrokerError::InvalidConnection { reason: reason.into() }
}

/// Reads the address of a single server.
pub(crate) fn parse(input: &str) -> Result<Settings, BrokerError> {
    parse_with(input, DEFAULT_PORT)
}

fn parse_with(input: &str, default_port: u16) -> Result<Settings, BrokerError> {
    let input = input.trim();
    if input.is_empty() {
        return Err(invalid("the address is empty"));
    }
    let Some((scheme, rest)) = input.split_once("://") else {
        return plain(input, default_port);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "redis" => tcp(rest, default_port),
        "rediss" => with_tls(tcp(rest, default_port)?),
        "redis-socket" | "unix" => unix(rest),
        "redis-sentinel" => Err(invalid("redis-sentinel:// names sentinels, not a single server")),
        other if other.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => Err(invalid(format!(
            "unsupported uri scheme {:?}; it must be redis, rediss, redis-socket or unix",
            Excerpt(other)
        ))),
        _ => Err(invalid(
            "unsupported uri scheme; it must be redis, rediss, redis-socket or unix",
        )),
    }
}

#[cfg(feature = "tls")]
fn with_tls(mut settings: Settings) -> Result<Settings, BrokerError> {
    settings.tls = Some(crate::link::tls::Tls::default());
    Ok(settings)
}

#[cfg(not(feature = "tls"))]
fn with_tls(_: Settings) -> Result<Settings, BrokerError> {
    Err(invalid("rediss:// needs the feature `tls`"))
}

/// `host:port`, as Go's `RedisClientOpt.Addr`.
fn plain(input: &str, default_port: u16) -> Result<Settings, BrokerError> {
    if input.contains('@') {
        return Err(invalid(
            "an address with a user or password needs a scheme: redis://user:password@host:port",
        ));
    }
    if input.contains(['/', '?', '#']) {
        return Err(invalid("an address without a scheme must be host:port"));
    }
    Ok(Settings::new(host_and_port(input, default_port)?))
}

fn tcp(rest: &str, default_port: u16) -> Result<Settings, BrokerError> {
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if tail.contains('@') {
        return Err(invalid(
            "a '/', '?', '#' or '@' in a user or password must be percent-encoded",
        ));
    }
    let (login, server) = split_login(authority);
    let mut settings = Settings::new(host_and_port(server, default_port)?);
    log_in(&mut settings, login)?;

    let (path, query) = split_query(tail)?;
    let path = path.strip_prefix('/').unwrap_or(path);
    let in_path = if path.is_empty() { None } else { Some(database(path)?) };
    apply_query(&mut settings, query, in_path)?;
    Ok(settings)
}

fn unix(rest: &str) -> Result<Settings, BrokerError> {
    let (before, query) = split_query(rest)?;
    if query.contains('@') {
        return Err(invalid("a '?' or '@' in a user or password must be percent-encoded"));
    }
    let (login, path) = match before.find('/') {
        Some(0) => (None, before),
        Some(slash) => match before[..slash].strip_suffix('@') {
            Some(login) => (Some(login), &before[slash..]),
            // Not shown: it may be a password that has a slash.
            None => {
                return Err(invalid(
                    "the path of the socket must be absolute: redis-socket:///run/redis.sock",
                ));
            }
        },
        None => {
            return Err(invalid(
                "the path of the socket is missing: redis-socket:///run/redis.sock",
            ));
        }
    };
    let path = decode(path).ok_or_else(|| invalid("the path of the socket is not valid percent-encoded UTF-8"))?;
    if path == "/" {
        return Err(invalid(
            "the path of the socket is missing: redis-socket:///run/redis.sock",
        ));
    }
    let mut settings = Settings::new(Address::Unix(PathBuf::from(path)));
    log_in(&mut settings, login)?;
    apply_query(&mut settings, query, None)?;
    Ok(settings)
}

fn split_login(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((login, server)) => (Some(login), server),
        None => (None, authority),
    }
}

/// The user counts only together with a password. (Go ignores it always.)
fn log_in(settings: &mut Settings, login: Option<&str>) -> Result<(), BrokerError> {
    let Some((user, password)) = login.and_then(|login| login.split_once(':')) else {
        return Ok(());
    };
    let broken = |what| invalid(format!("the {what} is not valid percent-encoded UTF-8"));
    let user = decode(user).ok_or_else(|| broken("user"))?;
    let password = decode(password).ok_or_else(|| broken("password"))?;
    if !password.is_empty() {
        settings.username = (!user.is_empty()).then_some(user);
        settings.password = Some(Secret(password));
    }
    Ok(())
}

/// An empty host means localhost, as in Go.
fn host_and_port(server: &str, default_port: u16) -> Result<Address, BrokerError> {
    let (host, port) = if let Some(bracketed) = server.strip_prefix('[') {
        let Some((host, after)) = bracketed.split_once(']') else {
            return Err(invalid("the '[' of an IPv6 address is not closed"));
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(invalid("between '[' and ']' there must be an IPv6 address"));
        }
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(invalid("after an IPv6 address in brackets only a port may follow")),
        }
    } else {
        match server.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(invalid("an IPv6 address must be in brackets: [::1]:6379"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        }
    };
    let port = match port {
        None | Some("") => default_port,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(invalid("the port must be a number from 1 to 65535")),
            Ok(port) => port,
        },
    };
    let host = decode(host).filter(|host| !host.contains(|c: char| c.is_whitespace() || c.is_control()));
    let host = host.ok_or_else(|| invalid("the host name has characters that no host name may have"))?;
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    Ok(Address::Tcp { host, port })
}

fn database(text: &str) -> Result<u32, BrokerError> {
    let number = text
        .parse::<u32>()
        .ok()
        .filter(|db| *db <= MAX_DB && text.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| {
        invalid(format!(
            "the database {:?} must be a whole number from 0 to {MAX_DB}",
            Excerpt(text)
        ))
    })
}

fn split_query(tail: &str) -> Result<(&str, &str), BrokerError> {
    if tail.contains('#') {
        return Err(invalid(
            "a '#' has no meaning in the address; in a password it must be percent-encoded",
        ));
    }
    Ok(tail.split_once('?').unwrap_or((tail, "")))
}

fn apply_query(settings: &mut Settings, query: &str, in_path: Option<u32>) -> Result<(), BrokerError> {
    let mut db = in_path;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (name, value) {
            ("db", value) => {
                let number = database(value)?;
                if db.is_some_and(|other| other != number) {
                    return Err(invalid("the database is given twice"));
                }
                db = Some(number);
            }
            ("protocol", "2" | "resp2") => settings.resp3 = false,
            ("protocol", "3" | "resp3") => settings.resp3 = true,
            ("protocol", _) => return Err(invalid("the protocol must be 2 or 3")),
            (name, _) => {
                return Err(invalid(format!(
                    "unknown parameter {:?}; there are `db` and `protocol`",
                    Excerpt(name)
                )));
            }
        }
    }
    settings.db = db.unwrap_or(0);
    Ok(())
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding() {
        assert_eq!(decode("p%40ss%2Fw%c3%B6rt").as_deref(), Some("p@ss/wört"));
        assert_eq!(decode("100%"), None);
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn the_login_of_each_form() {
        let login = |uri: &str| {
            let settings = parse(uri).unwrap();
            settings.login().map(|(user, password)| format!("{user}/{password}"))
        };
        assert_eq!(login("redis://localhost"), None);
        assert_eq!(login("redis://:pw@localhost").as_deref(), Some("default/pw"));
        assert_eq!(login("redis://ann:p%3Aw@localhost").as_deref(), Some("ann/p:w"));
        assert_eq!(login("redis://ann:a@b@localhost").as_deref(), Some("ann/a@b"));
        assert_eq!(login("redis://ann@localhost"), None);
        assert_eq!(login("redis://ann:@localhost"), None);
        assert_eq!(login("redis-socket://:pw@/run/s").as_deref(), Some("default/pw"));
        assert_eq!(login("unix://ann:pw@/run/s").as_deref(), Some("ann/pw"));
    }
}
