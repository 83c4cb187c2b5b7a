//! Records that servers and schedulers publish about themselves, as protobuf bytes.
//!
//! Encoding always writes every timestamp, because Go 0.24 refuses a message without one. "Never" is the first
//! instant of year 1, Go's unset time. Decoding trusts no input: readers skip a record that decodes to `None`, as Go
//! does.

use asynq_proto::{Message, NEVER, Timestamp};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, ServerStatus, WorkerInfo},
    names::{QueueName, TaskId},
};

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    // Leap seconds are the only nanos above the range, and Go has none.
    Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos().min(999_999_999)).unwrap_or(0),
    }
}

fn instant(at: Option<Timestamp>) -> Option<DateTime<Utc>> {
    let at = at.unwrap_or_default();
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
}

fn or_never(at: Option<DateTime<Utc>>) -> Timestamp {
    at.map_or(NEVER, timestamp)
}

fn unless_never(at: Option<Timestamp>) -> Option<DateTime<Utc>> {
    if at == Some(NEVER) { None } else { instant(at) }
}

/// The value of [`keys::server_info`](crate::keys::server_info).
#[must_use]
pub fn encode_server(info: &ServerInfo) -> Bytes {
    let wire = asynq_proto::ServerInfo {
        host: info.host.clone(),
        pid: info.pid,
        server_id: info.server_id.clone(),
        concurrency: info.concurrency,
        queues: info.queues.clone(),
        strict_priority: info.strict_priority,
        status: info.status.as_str().to_owned(),
        start_time: Some(timestamp(info.start_time)),
        active_worker_count: info.active_worker_count,
    };
    wire.encode_to_vec().into()
}

/// Reads the value of [`keys::server_info`](crate::keys::server_info).
#[must_use]
pub fn decode_server(bytes: &[u8]) -> Option<ServerInfo> {
    let wire = asynq_proto::ServerInfo::decode(bytes).ok()?;
    Some(ServerInfo {
        host: wire.host,
        pid: wire.pid,
        server_id: wire.server_id,
        concurrency: wire.concurrency,
        queues: wire.queues,
        strict_priority: wire.strict_priority,
        status: ServerStatus::from_wire(&wire.status),
        start_time: instant(wire.start_time)?,
        active_worker_count: wire.active_worker_count,
    })
}

/// A value of the hash [`keys::worker_info`](crate::keys::worker_info).
#[must_use]
pub fn encode_worker(info: &WorkerInfo) -> Bytes {
    let wire = asynq_proto::WorkerInfo {
        host: info.host.clone(),
        pid: info.pid,
        server_id: info.server_id.clone(),
        task_id: info.task_id.as_str().to_owned(),
        task_type: info.task_type.clone(),
        task_payload: info.payload.clone(),
        queue: info.queue.as_str().to_owned(),
        start_time: Some(timestamp(info.start_time)),
        deadline: Some(timestamp(info.deadline)),
    };
    wire.encode_to_vec().into()
}

/// Reads a value of the hash [`keys::worker_info`](crate::keys::worker_info).
#[must_use]
pub fn decode_worker(bytes: Bytes) -> Option<WorkerInfo> {
    let wire = asynq_proto::WorkerInfo::decode(bytes).ok()?;
    Some(WorkerInfo {
        host: wire.host,
        pid: wire.pid,
        server_id: wire.server_id,
        task_id: TaskId::from_storage(&wire.task_id),
        task_type: wire.task_type,
        payload: wire.task_payload,
        queue: QueueName::from_storage(&wire.queue),
        start_time: instant(wire.start_time)?,
        deadline: instant(wire.deadline)?,
    })
}

/// An element of the list [`keys::scheduler_entries`](crate::keys::scheduler_entries).
#[must_use]
pub fn encode_scheduler_entry(entry: &SchedulerEntry) -> Bytes {
    let wire = asynq_proto::SchedulerEntry {
        id: entry.id.clone(),
        spec: entry.spec.clone(),
        task_type: entry.task_type.clone(),
        task_payload: entry.payload.clone(),
        enqueue_options: entry.options.clone(),
        next_enqueue_time: Some(or_never(entry.next)),
        prev_enqueue_time: Some(or_never(entry.prev)),
    };
    wire.encode_to_vec().into()
}

/// Reads an element of the list [`keys::scheduler_entries`](crate::keys::scheduler_entries).
#[must_use]
pub fn decode_scheduler_entry(bytes: Bytes) -> Option<SchedulerEntry> {
    let wire = asynq_proto::SchedulerEntry::decode(bytes).ok()?;
    Some(SchedulerEntry {
        id: wire.id,
        spec: wire.spec,
        task_type: wire.task_type,
        payload: wire.task_payload,
        options: wire.enqueue_options,
        next: unless_never(wire.next_enqueue_time),
        prev: unless_never(wire.prev_enqueue_time),
    })
}

/// A member of the sorted set [`keys::scheduler_history`](crate::keys::scheduler_history).
#[must_use]
pub fn encode_enqueue_event(event: &SchedulerEnqueueEvent) -> Bytes {
    let wire = asynq_proto::SchedulerEnqueueEvent {
        task_id: event.task_id.as_str().to_owned(),
        enqueue_time: Some(timestamp(event.enqueued_at)),
    };
    wire.encode_to_vec().into()
}

/// Reads a member of the sorted set [`keys::scheduler_history`](crate::keys::scheduler_history).
#[must_use]
pub fn decode_enqueue_event(bytes: &[u8]) -> Option<SchedulerEnqueueEvent> {
    let wire = asynq_proto::SchedulerEnqueueEvent::decode(bytes).ok()?;
    Some(SchedulerEnqueueEvent {
        task_id: TaskId::from_storage(&wire.task_id),
        enqueued_at: instant(wire.enqueue_time)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(secs: i64, nanos: u32) -> DateTime<Utc> {
        DateTime::from_timestamp(secs, nanos).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn server_vector_of_go() {
        let info = ServerInfo {
            host: "h".into(),
            pid: 7,
            server_id: "s".into(),
            concurrency: 10,
            queues: BTreeMap::from([("default".to_owned(), 1)]),
            strict_priority: false,
            status: ServerStatus::Active,
            start_time: at(1_700_000_000, 123_456_789),
            active_worker_count: 0,
        };
        let bytes = encode_server(&info);
        assert_eq!(
            hex(&bytes),
            "0a016810071a0173200a2a0b0a0764656661756c7410013a06616374697665420b0880e2cfaa0610959aef3a"
        );
        assert_eq!(decode_server(&bytes), Some(info));
    }

    #[test]
    fn worker_vector_of_go() {
        let info = WorkerInfo {
            host: "h".into(),
            pid: 7,
            server_id: "s".into(),
            task_id: TaskId::new("id1").unwrap(),
            task_type: "t".into(),
            payload: Bytes::from_static(b"p"),
            queue: QueueName::new("q").unwrap(),
            start_time: at(1_700_000_000, 0),
            deadline: at(1_700_001_800, 0),
        };
        let bytes = encode_worker(&info);
        assert_eq!(
            hex(&bytes),
            "0a016810071a017322036964312a01743201703a017142060880e2cfaa064a060888f0cfaa06"
        );
        assert_eq!(decode_worker(bytes), Some(info));
    }

    #[test]
    fn scheduler_vectors_of_go() {
        let entry = SchedulerEntry {
            id: "e1".into(),
            spec: "@every 30s".into(),
            task_type: "t".into(),
            payload: Bytes::from_static(b"p"),
            options: vec![r#"Queue("q")"#.into(), "MaxRetry(3)".into()],
            next: Some(at(1_700_000_030, 0)),
            prev: None,
        };
        let bytes = encode_scheduler_entry(&entry);
        assert_eq!(
            hex(&bytes),
            "0a026531120a406576657279203330731a01742201702a0a517565756528227122292a0b4d6178526574727928332932\
             06089ee2cfaa063a0b088092b8c398feffffff01"
        );
        assert_eq!(decode_scheduler_entry(bytes), Some(entry));

        let event = SchedulerEnqueueEvent {
            task_id: TaskId::new("id1").unwrap(),
            enqueued_at: at(1_700_000_030, 5),
        };
        let bytes = encode_enqueue_event(&event);
        assert_eq!(hex(&bytes), "0a036964311208089ee2cfaa061005");
        assert_eq!(decode_enqueue_event(&bytes), Some(event));
    }

    #[test]
    fn garbage_is_none() {
        assert_eq!(decode_server(b"\xff"), None);
        assert_eq!(decode_worker(Bytes::from_static(b"\x0a\x05a")), None);
        assert_eq!(decode_enqueue_event(b"\x0a\x01\xff"), None);
    }
}
