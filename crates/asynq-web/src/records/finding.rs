//! Findings, and the breaches that the doctor finds.

use asynq::{
    findings::Finding,
    inspect::Breach,
    inspector::{Diagnosis, Repair},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Redaction;

/// A finding: something that needs attention.
#[derive(Debug, Serialize, ToSchema)]
pub struct FindingRecord {
    /// `notice`, `warning` or `critical`.
    #[schema(value_type = String)]
    pub severity: asynq::findings::Severity,
    /// Queue that it is about, `null` if it is about none, or several.
    pub queue: Option<String>,
    #[schema(value_type = Object)]
    /// The kind, with its evidence.
    #[serde(flatten)]
    pub evidence: asynq::findings::FindingKind,
    /// The finding in a sentence.
    pub text: String,
    /// The suggested command.
    pub command: String,
}

impl FindingRecord {
    /// Returns the record of a finding.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        Self {
            severity: finding.severity,
            queue: finding.queue.as_ref().map(ToString::to_string),
            evidence: finding.kind.clone(),
            text: finding.to_string(),
            command: finding.command.clone(),
        }
    }
}

/// A broken invariant, as the doctor found it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiagnosisRecord {
    /// Name of the queue.
    pub queue: String,
    /// The breach in a sentence.
    pub breach: String,
    /// Its effect.
    pub effect: &'static str,
    /// Its usual cause.
    pub cause: &'static str,
    /// The repair of such a breach, in general.
    pub repair: &'static str,
    /// `repaired`, `can_be_repaired`, `left` or `gone`.
    pub result: &'static str,
    /// The repair that was made or can be made, or why there is none.
    pub detail: Option<String>,
}

impl DiagnosisRecord {
    /// Returns the record of a breach as a user may see it: without the hash of a payload that is hidden from them.
    pub(crate) fn shown(diagnosis: &Diagnosis, redaction: &Redaction) -> Self {
        let cut = |key: &str| without_hash(key, |task_type| redaction.hides(diagnosis.queue.as_str(), task_type));
        let breach = match &diagnosis.breach {
            Breach::OwnerlessLock { lock, id } => cut(lock).map(|lock| Breach::OwnerlessLock { lock, id: id.clone() }),
            Breach::WrongType { key, found } => cut(key).map(|key| {
                let found = found.clone();
                Breach::WrongType { key, found }
            }),
            _ => None,
        };
        let mut record = Self::of(diagnosis);
        if let Some(breach) = breach {
            record.breach = breach.to_string();
        }
        record
    }

    /// Returns the record of a breach.
    #[must_use]
    pub fn of(diagnosis: &Diagnosis) -> Self {
        let explanation = diagnosis.breach.explain();
        let (result, detail) = match &diagnosis.result {
            Repair::Done(remedy) if diagnosis.fixed => ("repaired", Some(remedy.to_string())),
            Repair::Done(remedy) => ("can_be_repaired", Some(remedy.to_string())),
            Repair::Left(obstacle) => ("left", Some(obstacle.to_string())),
            _ => ("gone", None),
        };
        Self {
            queue: diagnosis.queue.to_string(),
            breach: diagnosis.breach.to_string(),
            effect: explanation.effect,
            cause: explanation.cause,
            repair: explanation.repair,
            result,
            detail,
        }
    }
}

/// Cuts the hash of the payload from the key of a unique lock, if the data of its type are hidden.
fn without_hash(key: &str, hides: impl Fn(&str) -> bool) -> Option<String> {
    let (before, name) = key.split_once("}:unique:")?;
    let (task_type, _) = name.rsplit_once(':')?;
    hides(task_type).then(|| format!("{before}}}:unique:{task_type}:…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_locks_tell_no_hidden_payload() {
        let hides = |task_type: &str| task_type == "card:pay";
        for (key, shown) in [
            (
                "asynq:{q}:unique:card:pay:d41d8cd9",
                Some("asynq:{q}:unique:card:pay:…"),
            ),
            ("asynq:{q}:unique:card:pay:", Some("asynq:{q}:unique:card:pay:…")),
            ("asynq:{q}:unique:mail:d41d8cd9", None),
            ("asynq:{q}:pending", None),
        ] {
            assert_eq!(without_hash(key, hides).as_deref(), shown, "{key}");
        }
    }
}
