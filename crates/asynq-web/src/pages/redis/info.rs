//! The answer of Redis to `INFO`, and what is wrong by it.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::pages::parts::{
    format,
    text::{Tone, dash},
};

/// Part of the largest memory above which it is nearly full.
const NEARLY_FULL: f64 = 0.9;

/// The answer to `INFO`.
#[derive(Clone, Copy)]
pub(super) struct Info<'i>(pub(super) &'i BTreeMap<String, String>);

impl<'i> Info<'i> {
    pub(super) fn text(self, name: &str) -> Option<&'i str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn number(self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    pub(super) fn float(self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }

    /// Returns the part of the largest memory that is used; `None` without a limit.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    pub(super) fn fullness(self) -> Option<f64> {
        let most = self.number("maxmemory").filter(|most| *most > 0)?;
        Some(self.number("used_memory")? as f64 / most as f64)
    }
}

/// Returns what is wrong with a server, with a command that mends it if there is one.
pub(super) fn warnings(info: Info<'_>) -> Vec<(Tone, String, Option<&'static str>)> {
    let mut found = Vec::new();
    let policy = info.text("maxmemory_policy").unwrap_or("noeviction");
    let has_limit = info.number("maxmemory").is_some_and(|most| most > 0);
    if policy != "noeviction" {
        let when = if has_limit {
            "when its memory is full"
        } else {
            "as soon as maxmemory is set and reached"
        };
        let text =
            format!("Redis may evict tasks {when}: maxmemory-policy is {policy}. Tasks that are evicted are lost.");
        found.push((
            Tone::Warning,
            text,
            Some("redis-cli CONFIG SET maxmemory-policy noeviction"),
        ));
    }
    if let Some(evicted) = info.number("evicted_keys").filter(|evicted| *evicted > 0) {
        found.push((
            Tone::Bad,
            format!(
                "Redis has evicted {} keys since its start. They may have been tasks.",
                format::number(evicted)
            ),
            Some("asynq doctor"),
        ));
    }
    if let Some(full) = info.fullness().filter(|full| *full > NEARLY_FULL) {
        let text = format!(
            "{} % of maxmemory is used. When it is full, new tasks are refused.",
            format::three_digits(full * 100.0)
        );
        found.push((Tone::Bad, text, None));
    }
    for (name, what) in [
        ("rdb_last_bgsave_status", "The last snapshot failed."),
        (
            "aof_last_write_status",
            "The last write of the append-only file failed.",
        ),
        (
            "aof_last_bgrewrite_status",
            "The last rewrite of the append-only file failed.",
        ),
    ] {
        if info.text(name).is_some_and(|status| status != "ok") {
            found.push((Tone::Bad, format!("{what} The log of Redis tells why."), None));
        }
    }
    if info.text("master_link_status") == Some("down") {
        found.push((Tone::Bad, "This replica has lost its master.".to_owned(), None));
    }
    if info.text("loading") == Some("1") {
        found.push((Tone::Warning, "Redis is loading its data from disk.".to_owned(), None));
    }
    found
}

/// Returns a number of bytes, or a dash.
pub(super) fn bytes(bytes: Option<u64>) -> Markup {
    html! { @match bytes { Some(bytes) => (format::bytes(bytes)), None => (dash()) } }
}

pub(super) fn number(number: Option<u64>) -> Markup {
    html! { @match number { Some(number) => (format::number(number)), None => (dash()) } }
}

pub(super) fn text(text: Option<&str>) -> Markup {
    html! { @match text { Some(text) => (text), None => (dash()) } }
}

/// Returns the largest memory: none is no limit.
pub(super) fn limit(info: Info<'_>) -> Markup {
    html! { @match info.number("maxmemory") { Some(0) => "no limit", most => (bytes(most)) } }
}
