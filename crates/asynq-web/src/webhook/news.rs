//! The findings that were posted, and those that are new.

use std::collections::{HashMap, HashSet};

use asynq::findings::{Finding, FindingKind, Findings, Severity};
use serde_json::{Value, json};

use crate::records::FindingRecord;

/// Largest number of findings in a message.
const FINDINGS: usize = 100;
/// Largest body of a message in bytes.
const BYTES: usize = 256 << 10;
/// Largest number of findings that are remembered. Further ones are not posted.
const REMEMBERED: usize = 10_000;

/// Identity of a finding, from look to look, while its numbers change.
pub(super) type Key = (&'static str, Option<String>, String);

/// A message that is to be posted.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) body: Vec<u8>,
    pub(super) keys: Vec<(Key, Severity)>,
}

/// The findings that were posted and are still there.
#[derive(Debug)]
pub(super) struct News {
    least: Severity,
    posted: HashMap<Key, Severity>,
}

impl News {
    pub(super) fn new(least: Severity) -> Self {
        Self {
            least,
            posted: HashMap::new(),
        }
    }

    /// Forgets findings that have gone, and makes a message of the new ones; `None` if there is none.
    pub(super) fn message(&mut self, findings: &Findings) -> Option<Message> {
        let unread: Vec<&Finding> = findings
            .iter()
            .filter(|one| matches!(one.kind, FindingKind::Unreadable { .. }))
            .collect();
        let present: HashSet<Key> = findings.iter().map(key).collect();
        // Where a part could not be read, its findings may be there all the same.
        self.posted
            .retain(|key, _| present.contains(key) || unread.iter().any(|part| may_hide(part, key)));
        let mut room = REMEMBERED.saturating_sub(self.posted.len());
        let (mut records, mut keys, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        let (mut size, mut left_out) = (0, 0);
        for finding in findings.iter().filter(|one| one.severity >= self.least) {
            let key = key(finding);
            let known = self.posted.get(&key);
            if known.is_some_and(|posted| *posted >= finding.severity) || !seen.insert(key.clone()) {
                continue;
            }
            let record = serde_json::to_value(FindingRecord::of(finding)).unwrap_or(Value::Null);
            let bytes = record.to_string().len();
            let has_room = known.is_some() || room > 0;
            if keys.len() == FINDINGS || size + bytes > BYTES || !has_room {
                left_out += 1;
                continue;
            }
            room -= usize::from(known.is_none());
            size += bytes;
            records.push(record);
            keys.push((key, finding.severity));
        }
        if keys.is_empty() {
            return None;
        }
        let body = json!({
            "type": "asynq.findings.new",
            "timestamp": findings.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "data": {"findings": records, "left_out": left_out},
        });
        Some(Message {
            body: body.to_string().into_bytes(),
            keys,
        })
    }

    /// Remembers that a message has arrived.
    pub(super) fn posted(&mut self, message: Message) {
        self.posted.extend(message.keys);
    }
}

/// Returns whether a finding may be missing only because a part could not be read. That the part is unreadable is over when it is not
/// found any more.
fn may_hide(unread: &Finding, (kind, queue, _): &Key) -> bool {
    let FindingKind::Unreadable { part, .. } = &unread.kind else {
        return false;
    };
    if *kind == unread.kind.name() {
        return false;
    }
    match &unread.queue {
        Some(unread) => queue.as_deref() == Some(unread.as_str()),
        // The servers and their trees tell who serves a queue, and the rest is about no queue.
        None if part.contains("server") || part.contains("tree") => queue.is_some(),
        None => queue.is_none(),
    }
}

fn key(finding: &Finding) -> Key {
    let more = match &finding.kind {
        FindingKind::Unreadable { part, .. } => (*part).to_owned(),
        FindingKind::EvictionPolicy { node, .. }
        | FindingKind::MemoryNearLimit { node, .. }
        | FindingKind::ClockSkew { node, .. } => node.clone().unwrap_or_default(),
        FindingKind::RetryStorm { error, .. } => error.signature.clone(),
        FindingKind::RepeatedEntry { spec, task_type, .. } => format!("{spec}\n{task_type}"),
        _ => String::new(),
    };
    let queue = finding.queue.as_ref().map(ToString::to_string);
    (finding.kind.name(), queue, more)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use asynq::{Client, Inspector, Task, findings::FindingsOptions, memory::MemoryStore};

    use super::*;

    /// A finding for each queue: nobody serves it.
    async fn look(queues: impl IntoIterator<Item = String>) -> Findings {
        let storage = MemoryStore::new();
        let client = Client::new(storage.clone()).await.unwrap();
        for queue in queues {
            client
                .enqueue(Task::new("t", b"").unwrap().with_queue(queue))
                .await
                .unwrap();
        }
        let inspector = Inspector::connect(storage).await.unwrap();
        let options = FindingsOptions::new().unserved_after(Duration::ZERO);
        inspector.findings_with(&options).await.unwrap()
    }

    fn queues<const N: usize>(names: [&str; N]) -> [String; N] {
        names.map(str::to_owned)
    }

    fn told(message: &Message) -> Vec<String> {
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        let findings = body["data"]["findings"].as_array().unwrap();
        findings
            .iter()
            .map(|one| one["queue"].as_str().unwrap().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn a_finding_is_new_once_and_again_after_it_went() {
        let mut news = News::new(Severity::Notice);
        assert!(news.message(&look([]).await).is_none());
        let first = news.message(&look(queues(["a", "b"])).await).unwrap();
        assert_eq!(told(&first), ["a", "b"]);
        // It did not arrive.
        let again = news.message(&look(queues(["a", "b"])).await).unwrap();
        assert_eq!(told(&again), ["a", "b"]);
        news.posted(again);
        assert!(news.message(&look(queues(["a", "b"])).await).is_none());
        assert_eq!(
            told(&news.message(&look(queues(["a", "b", "c"])).await).unwrap()),
            ["c"]
        );
        assert!(news.message(&look(queues(["a"])).await).is_none());
        assert_eq!(told(&news.message(&look(queues(["a", "b"])).await).unwrap()), ["b"]);
    }

    #[tokio::test]
    async fn only_what_is_serious_enough_is_posted_and_what_gets_worse_again() {
        let mut warning = look(queues(["a"])).await;
        warning.findings[0].severity = Severity::Warning;
        let mut critical = warning.clone();
        critical.findings[0].severity = Severity::Critical;
        assert!(News::new(Severity::Critical).message(&warning).is_none());
        let mut news = News::new(Severity::Warning);
        for (look, is_news) in [
            (&warning, true),
            (&warning, false),
            (&critical, true),
            (&warning, false),
        ] {
            let message = news.message(look);
            assert_eq!(message.is_some(), is_news);
            if let Some(message) = message {
                news.posted(message);
            }
        }
    }

    #[tokio::test]
    async fn a_message_is_bounded_and_the_rest_comes_next() {
        let all = look((0..250).map(|n| format!("q{n:03}"))).await;
        let mut news = News::new(Severity::Notice);
        let mut numbers = Vec::new();
        while let Some(message) = news.message(&all) {
            let body: Value = serde_json::from_slice(&message.body).unwrap();
            assert!(message.body.len() <= BYTES + 1000);
            numbers.push((message.keys.len(), body["data"]["left_out"].as_u64().unwrap()));
            news.posted(message);
        }
        assert_eq!(numbers, [(100, 150), (100, 50), (50, 0)]);
    }

    #[tokio::test]
    async fn what_could_be_read_has_gone_all_the_same() {
        let both = look(queues(["a", "b"])).await;
        let mut news = News::new(Severity::Notice);
        let message = news.message(&both).unwrap();
        news.posted(message);
        // "a" is served again while "b" cannot be read.
        let mut half = both.clone();
        half.findings.remove(0);
        half.findings[0].kind = FindingKind::Unreadable {
            part: "it",
            error: "no answer".to_owned(),
        };
        let message = news.message(&half).unwrap();
        news.posted(message);
        // Then nobody serves it once more: that is news, and that of "b" is not.
        assert_eq!(told(&news.message(&both).unwrap()), ["a"]);
    }

    #[tokio::test]
    async fn what_could_not_be_read_has_not_gone() {
        let both = look(queues(["a", "b"])).await;
        let mut news = News::new(Severity::Notice);
        let message = news.message(&both).unwrap();
        news.posted(message);
        let mut half = both.clone();
        half.findings[0].kind = FindingKind::Unreadable {
            part: "queue",
            error: "no answer".to_owned(),
        };
        assert!(news.message(&half).is_some(), "that it is unreadable is news");
        assert!(news.message(&both).is_none());
    }
}
