//! The server's eviction policy, which may throw tasks away.

use redis::Value;

use super::wire::{Wire, field_of_info};

/// The server's `maxmemory-policy`; `None` if it does not tell. Asks CONFIG, or, where that is
/// not permitted, INFO.
pub(crate) async fn eviction_policy(wire: &Wire) -> Option<String> {
    let mut config = redis::cmd("CONFIG");
    config.arg("GET").arg("maxmemory-policy");
    if let Ok(Ok(answer)) = wire.ask(&config, "CONFIG GET".into()).await {
        let found = match &answer {
            Value::Map(pairs) => pairs.first().map(|(_, value)| value),
            Value::Array(words) => words.get(1),
            _ => None,
        };
        if let Some(Value::BulkString(policy)) = found {
            return Some(String::from_utf8_lossy(policy).into_owned());
        }
    }
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let answer = wire.ask(&info, "INFO".into()).await.ok()?.ok()?;
    field_of_info(&answer, "maxmemory_policy")
}

/// Warns if the policy lets Redis evict keys (layout.md#eviction): leases, queues and tasks go one
/// by one then.
pub(crate) async fn check(wire: &Wire, server: &str) {
    match eviction_policy(wire).await {
        Some(policy) if policy != "noeviction" => tracing::warn!(
            %server, %policy,
            "this Redis may evict tasks under memory pressure; set maxmemory-policy to noeviction",
        ),
        _ => {}
    }
}
