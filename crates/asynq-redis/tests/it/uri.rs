//! The forms of an address, and what is said about those that are none.

use asynq_core::{BrokerError, Connector, Error};
use asynq_redis::RedisConnectionType;

/// The address as it was understood, without secrets.
fn understood(address: &str) -> String {
    match RedisConnectionType::single(address) {
        Ok(connection) => connection.describe(),
        Err(error) => panic!("{address}: {error}"),
    }
}

fn fault(address: &str) -> String {
    match RedisConnectionType::single(address) {
        Err(Error::Broker(BrokerError::InvalidConnection { reason })) => reason,
        other => panic!("{address}: {other:?}"),
    }
}

#[test]
fn forms_of_go() {
    for (address, meaning) in [
        ("redis://localhost:6379", "redis://localhost:6379/0"),
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://localhost:6380/3", "redis://localhost:6380/3"),
        ("redis://:password@10.0.0.1:6379/15", "redis://10.0.0.1:6379/15"),
        ("redis://user:password@host", "redis://host:6379/0"),
        ("REDIS://host", "redis://host:6379/0"),
        (
            "redis-socket:///var/run/redis.sock",
            "redis-socket:///var/run/redis.sock?db=0",
        ),
        (
            "redis-socket:///var/run/redis.sock?db=3",
            "redis-socket:///var/run/redis.sock?db=3",
        ),
        (
            "redis-socket://:password@/var/run/redis.sock?db=3",
            "redis-socket:///var/run/redis.sock?db=3",
        ),
        ("localhost:6379", "redis://localhost:6379/0"),
        (":6379", "redis://localhost:6379/0"),
    ] {
        assert_eq!(understood(address), meaning, "{address}");
    }
}

#[test]
fn forms_of_our_own() {
    for (address, meaning) in [
        ("redis://localhost:6379/", "redis://localhost:6379/0"),
        ("redis://host?db=4", "redis://host:6379/4"),
        ("redis://host/4?db=4&protocol=2", "redis://host:6379/4"),
        ("redis://[::1]:7000/1", "redis://[::1]:7000/1"),
        ("redis://[2001:db8::1]", "redis://[2001:db8::1]:6379/0"),
        ("[::1]:7000", "redis://[::1]:7000/0"),
        (
            "unix:///run/redis%20one.sock",
            "redis-socket:///run/redis one.sock?db=0",
        ),
        (
            "unix://user:p%40ss@/run/redis.sock?db=1",
            "redis-socket:///run/redis.sock?db=1",
        ),
        ("redis.example.org", "redis://redis.example.org:6379/0"),
        ("  redis://host  ", "redis://host:6379/0"),
    ] {
        assert_eq!(understood(address), meaning, "{address}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn tls_shows_in_the_scheme() {
    assert_eq!(understood("rediss://:pw@host:6380/1"), "rediss://host:6380/1");
    let single = || RedisConnectionType::single("host:1").unwrap();
    for connection in [single().tls(), single().tls_insecure()] {
        assert_eq!(connection.describe(), "rediss://host:1/0");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_needs_its_feature() {
    assert_eq!(fault("rediss://host"), "rediss:// needs the feature `tls`");
}

#[test]
fn faults_are_named_with_their_limit() {
    for (address, part) in [
        ("", "the address is empty"),
        (
            "http://host",
            "unsupported uri scheme \"http\"; it must be redis, rediss, redis-socket or unix",
        ),
        ("redis-sentinel://h1:1,h2:2?master=m", "names sentinels"),
        ("redis://host:0", "the port must be a number from 1 to 65535"),
        ("redis://host:65536", "the port must be a number from 1 to 65535"),
        ("redis://host:port", "the port must be a number from 1 to 65535"),
        (
            "redis://host/x",
            "the database \"x\" must be a whole number from 0 to 2147483647",
        ),
        ("redis://host/-1", "must be a whole number from 0 to 2147483647"),
        ("redis://host/+1", "must be a whole number from 0 to 2147483647"),
        ("redis://host/2147483648", "must be a whole number from 0 to 2147483647"),
        ("redis://host/1/2", "must be a whole number from 0 to 2147483647"),
        ("redis://host/1?db=2", "the database is given twice"),
        (
            "redis://host?database=2",
            "unknown parameter \"database\"; there are `db` and `protocol`",
        ),
        ("redis://host?protocol=4", "the protocol must be 2 or 3"),
        ("redis://::1", "an IPv6 address must be in brackets"),
        ("redis://[::1", "the '[' of an IPv6 address is not closed"),
        ("redis://[host]", "between '[' and ']' there must be an IPv6 address"),
        ("redis://[::1]x", "only a port may follow"),
        ("redis://ho st", "characters that no host name may have"),
        (
            "redis-socket://run/redis.sock",
            "the path of the socket must be absolute",
        ),
        ("redis-socket://", "the path of the socket is missing"),
        ("unix:///run/s?db=x", "must be a whole number"),
        ("host:1/2", "an address without a scheme must be host:port"),
    ] {
        let reason = fault(address);
        assert!(reason.contains(part), "{address}: {reason}");
    }
}

#[test]
fn no_fault_shows_a_password() {
    for address in [
        "redis://:hunter2@host:port",
        "redis://:hunter2@host/x",
        "redis://:hunter2/@host",
        "redis://:hunter2?@host/1",
        "redis://:hunter2#@host",
        "redis://user:hunter2%zz@host",
        "redis://user:hunter2%ff@host",
        "redis://user:hunter2@[host",
        "redis://hunter2/5@host",
        "redis-socket://:hunter2/x@/run/s",
        "redis-socket://:hunter2@run/s",
        "unix://:hunter2?@/run/s",
        "user:hunter2@host:1",
        "user:hunter2@://host",
        "http://user:hunter2@host",
    ] {
        let reason = fault(address);
        assert!(!reason.contains("hunter2"), "{address}: {reason}");
    }
}

#[test]
fn nothing_shows_a_password() {
    let connection = RedisConnectionType::single("redis://ann:hunter2@host").unwrap();
    assert!(!connection.describe().contains("hunter2"));
    assert!(!format!("{connection:?}").contains("hunter2"), "{connection:?}");
    let connection = connection.password("hunter3");
    assert!(!format!("{connection:#?}").contains("hunter3"));
    assert!(format!("{connection:?}").contains("ann"));
}
