//! The plan: rows of the tables, each a piece of work.

use crate::{
    contestant::{HandlerKind, Params},
    layout::Layout,
    peers::{self, Peer},
};

/// Somebody who does the work of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contestant {
    /// Asynq for Rust, with so many worker threads of its runtime, and with so many tasks taken ahead of its slots.
    Ours { workers: usize, prefetch: usize },
    /// The bare scripts.
    Bare,
    /// Another task queue.
    Peer(Peer),
}

impl Contestant {
    /// Asynq for Rust as its users have it on this many cores.
    pub(crate) const OURS: Self = Self::ours(2);
    /// The same on one thread.
    pub(crate) const ONE: Self = Self::ours(1);
    /// The same as `OURS` with five times as many tasks taken ahead as a concurrency of 10 has slots.
    pub(crate) const AHEAD: Self = Self::ahead(50);
    /// Go asynq.
    pub(crate) const GO: Self = Self::Peer(Peer::Go);

    /// Asynq for Rust with so many worker threads.
    const fn ours(workers: usize) -> Self {
        Self::Ours { workers, prefetch: 0 }
    }

    /// Asynq for Rust with so many tasks taken ahead.
    const fn ahead(prefetch: usize) -> Self {
        Self::Ours { workers: 2, prefetch }
    }

    /// Its name in tables.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Ours {
                workers: 1,
                prefetch: 0,
            } => "ours, 1 worker".to_owned(),
            Self::Ours { workers, prefetch: 0 } => format!("ours, {workers} workers"),
            Self::Ours { workers: 2, prefetch } => format!("ours, prefetch {prefetch}"),
            Self::Ours { workers, prefetch } => format!("ours, {workers} workers, prefetch {prefetch}"),
            Self::Bare => "bare script".to_owned(),
            Self::Peer(peer) => peer.name().to_owned(),
        }
    }

    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::Peer(peer) => peer.layout(),
            _ => Layout::Asynq,
        }
    }
}

/// The kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Enqueue tasks.
    Enqueue,
    /// Settle tasks that wait.
    Drain,
    /// Enqueue and settle at once.
    Both,
    /// Delays from enqueue to start.
    Latency,
    /// Delays of scheduled tasks.
    Scheduled,
    /// Wait for work.
    Idle,
    /// Read a queue as an operator does.
    Inspect,
}

impl Work {
    /// The word for it in the line protocol.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Drain => "drain",
            Self::Both => "both",
            Self::Latency => "latency",
            Self::Scheduled => "scheduled",
            Self::Idle => "idle",
            Self::Inspect => "inspect",
        }
    }
}

/// A piece of work that some contestants do in turn.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its name, for `--only` and in JSON.
    pub(crate) id: String,
    /// Its section, a heading of the tables.
    pub(crate) section: &'static str,
    /// Its first column.
    pub(crate) title: String,
    pub(crate) work: Work,
    pub(crate) params: Params,
    /// Number of tasks for contestants that are not ours, where it would take them too long.
    pub(crate) few: u64,
    /// Tasks that wait when the work begins.
    pub(crate) fill: u64,
    /// Through the proxy that delays.
    pub(crate) far: bool,
    /// More words for the command line of Redis.
    pub(crate) redis: Vec<String>,
    /// Number of times that it is measured at most.
    pub(crate) most: usize,
    pub(crate) contestants: Vec<Contestant>,
}

const ENQUEUE: &str = "enqueue";
const DRAIN: &str = "drain";
const MIXED: &str = "mixed";
const BOTH: &str = "both";
const LATENCY: &str = "latency";
const IDLE: &str = "idle";
const FAR: &str = "far";
const GROWTH: &str = "growth";
const INSPECT: &str = "inspect";
const TUNING: &str = "tuning";

/// The sections with their headings, in order.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    (ENQUEUE, "Enqueue"),
    (DRAIN, "Drain of no-op tasks"),
    (MIXED, "Mixed outcomes, three weighted queues"),
    (BOTH, "Produce and work at once"),
    (LATENCY, "Latency"),
    (IDLE, "Idle workers"),
    (FAR, "Through a round trip of 1 ms"),
    (GROWTH, "Growth"),
    (INSPECT, "Inspector on a queue of 1,000,000 waiting tasks"),
    (TUNING, "Tuning"),
];

/// Bytes of a payload, where nothing else is said.
const PAYLOAD: usize = 100;
/// Row whose rate tells how much half of the load is.
pub(crate) const FULL_LOAD: &str = "both-100";

impl Row {
    fn new(section: &'static str, id: &str, title: impl Into<String>, work: Work) -> Self {
        let params = Params {
            payload: PAYLOAD,
            ..Params::default()
        };
        Self {
            id: id.to_owned(),
            section,
            title: title.into(),
            work,
            params,
            few: u64::MAX,
            fill: 0,
            far: false,
            redis: Vec::new(),
            most: usize::MAX,
            contestants: vec![Contestant::OURS, Contestant::ONE, Contestant::GO, Contestant::Bare],
        }
    }

    /// Number of tasks for a contestant.
    pub(crate) fn tasks(&self, contestant: Contestant) -> u64 {
        match contestant {
            Contestant::Peer(peer) => self.params.n.min(self.few).min(peer.most_tasks()),
            _ => self.params.n,
        }
    }

    fn n(mut self, n: u64) -> Self {
        self.params.n = n;
        self
    }

    fn few(mut self, n: u64) -> Self {
        self.few = n;
        self
    }

    fn concurrency(mut self, concurrency: usize) -> Self {
        self.params.concurrency = concurrency;
        self
    }

    fn callers(mut self, callers: usize) -> Self {
        self.params.callers = callers;
        self
    }

    fn bulk(mut self, bulk: usize) -> Self {
        self.params.bulk = bulk;
        self
    }

    fn most(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    fn by(mut self, contestants: &[Contestant]) -> Self {
        self.contestants = contestants.to_vec();
        self
    }

    /// Measures the peers other than Go as well, in front of the bare scripts, where the row is for them.
    fn and_peers(mut self) -> Self {
        let is_for = |peer: &Peer| self.params.concurrency <= peer.most_concurrency();
        let more = peers::ALL.iter().filter(|peer| **peer != Peer::Go && is_for(peer));
        let more: Vec<Contestant> = more.map(|peer| Contestant::Peer(*peer)).collect();
        let bare = self
            .contestants
            .iter()
            .position(|contestant| *contestant == Contestant::Bare);
        let place = bare.unwrap_or(self.contestants.len());
        self.contestants.splice(place..place, more);
        self
    }

    /// Measures ours with prefetch too, right behind ours.
    fn ahead(mut self) -> Self {
        self.contestants.insert(1, Contestant::AHEAD);
        self
    }

    fn far(mut self) -> Self {
        self.far = true;
        self
    }
}

/// All rows. `quick` has fewer of them, with fewer tasks.
pub(crate) fn rows(quick: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    enqueue(&mut rows, quick);
    drain(&mut rows, quick);
    side_by_side(&mut rows, quick);
    delays(&mut rows, quick);
    far(&mut rows, quick);
    if !quick {
        growth(&mut rows);
        inspect(&mut rows);
        tuning(&mut rows);
    }
    rows
}

/// Contestants of a quick run that is not told which.
pub(crate) fn is_quick(contestant: Contestant) -> bool {
    [Contestant::OURS, Contestant::GO, Contestant::Bare].contains(&contestant)
}

/// A number of tasks, a fifth where it is to be quick.
fn scaled(quick: bool, n: u64) -> u64 {
    if quick { n / 5 } else { n }
}

/// A number and the noun that it counts.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn enqueue(rows: &mut Vec<Row>, quick: bool) {
    for (callers, n, few) in [(1, 25_000, 25_000), (10, 100_000, 60_000), (100, 200_000, 100_000)] {
        let title = counted(callers, "caller");
        let row = Row::new(ENQUEUE, &format!("enqueue-{callers}"), title, Work::Enqueue);
        rows.push(
            row.n(scaled(quick, n))
                .few(scaled(quick, few))
                .callers(callers)
                .and_peers(),
        );
    }
    for bulk in [100, 1000] {
        let title = format!("bulk of {bulk}");
        let row = Row::new(ENQUEUE, &format!("enqueue-bulk-{bulk}"), title, Work::Enqueue);
        rows.push(
            row.n(scaled(quick, 300_000))
                .few(scaled(quick, 100_000))
                .callers(1)
                .bulk(bulk)
                .and_peers(),
        );
    }
}

fn drain(rows: &mut Vec<Row>, quick: bool) {
    for (concurrency, n) in [(1, 20_000), (10, 100_000), (100, 100_000), (1000, 100_000)] {
        let title = format!("concurrency {concurrency}");
        let row = Row::new(DRAIN, &format!("drain-{concurrency}"), title, Work::Drain);
        // Start-up must not weigh: only what takes seconds anyhow is made shorter.
        let few = if quick { 10_000 } else { n };
        let row = row
            .n(scaled(quick && concurrency == 1, n))
            .few(few)
            .concurrency(concurrency)
            .and_peers();
        rows.push(if concurrency == 10 { row.ahead() } else { row });
    }
}

fn side_by_side(rows: &mut Vec<Row>, quick: bool) {
    let no_bare = [Contestant::OURS, Contestant::ONE, Contestant::GO];
    let mut mixed = Row::new(
        MIXED,
        "mixed",
        "weights 6, 3, 1; 5 % retried, archived and kept each",
        Work::Drain,
    )
    .n(scaled(quick, 90_000))
    .few(scaled(quick, 30_000))
    .concurrency(100)
    .by(&no_bare);
    mixed.params.queues = [("critical", 6), ("default", 3), ("low", 1)]
        .map(|(name, weight)| (name.to_owned(), weight))
        .to_vec();
    mixed.params.handler = HandlerKind::Mixed;
    rows.push(mixed);
    rows.push(
        Row::new(BOTH, FULL_LOAD, "100 callers, concurrency 100", Work::Both)
            .n(scaled(quick, 150_000))
            .few(scaled(quick, 40_000))
            .callers(100)
            .concurrency(100)
            .by(&no_bare)
            .and_peers(),
    );
}

fn delays(rows: &mut Vec<Row>, quick: bool) {
    let no_bare = [Contestant::OURS, Contestant::ONE, Contestant::GO];
    let probes = |id: &str, title: &str, half_load: bool| {
        let mut row = Row::new(LATENCY, id, title, Work::Latency)
            .concurrency(100)
            .by(&no_bare)
            .and_peers()
            .most(3);
        row.params.rate = 100;
        row.params.seconds = if quick { 2.0 } else { 5.0 };
        // The rate itself is known when the row is measured.
        row.params.load = u64::from(half_load);
        row
    };
    rows.push(probes("latency-idle", "idle, 100 tasks a second", false));
    rows.push(probes("latency-load", "under half load", true));
    let mut scheduled = Row::new(
        LATENCY,
        "latency-scheduled",
        "scheduled, behind its second",
        Work::Scheduled,
    )
    .n(300)
    .concurrency(100)
    .by(&no_bare)
    .most(2);
    scheduled.params.seconds = 3.0;
    rows.push(scheduled);
    let mut idle = Row::new(IDLE, "idle", "concurrency 1000", Work::Idle)
        .concurrency(1000)
        .by(&no_bare)
        .and_peers()
        .most(2);
    // Whole periods of what happens every 5 s.
    idle.params.seconds = if quick { 5.0 } else { 15.0 };
    rows.push(idle);
}

fn far(rows: &mut Vec<Row>, quick: bool) {
    for (concurrency, n) in [(10, 15_000), (100, 100_000), (1000, 100_000)] {
        let row = Row::new(
            FAR,
            &format!("far-{concurrency}"),
            format!("concurrency {concurrency}"),
            Work::Drain,
        );
        let row = row
            .n(scaled(quick, n))
            .few(scaled(quick, 4000))
            .concurrency(concurrency)
            .far();
        rows.push(if concurrency == 10 { row.ahead() } else { row });
    }
}

fn growth(rows: &mut Vec<Row>) {
    let ours = [Contestant::OURS];
    let row = |id: String, title: String| {
        Row::new(GROWTH, &id, title, Work::Drain)
            .concurrency(100)
            .by(&ours)
            .most(3)
    };
    for (waiting, name) in [(1000, "1 k"), (100_000, "100 k"), (1_000_000, "1 M")] {
        let mut row = row(format!("waiting-{waiting}"), format!("{name} waiting all the time")).n(60_000);
        row.fill = waiting;
        row.params.refill = true;
        rows.push(row);
    }
    for count in [1, 10, 100, 1000] {
        let mut row = row(format!("queues-{count}"), counted(count, "queue")).n(60_000);
        row.params.queues = (0..count).map(|number| (format!("q{number}"), 1)).collect();
        rows.push(row);
    }
    for in_flight in [1, 10, 100, 1000, 10_000] {
        let n = if in_flight == 1 { 10_000 } else { 60_000 };
        let mut row = row(
            format!("in-flight-{in_flight}"),
            format!("{in_flight} in flight, ending in random order"),
        );
        row.params.handler = HandlerKind::Hold;
        rows.push(row.n(n).concurrency(in_flight));
    }
    for (payload, n) in [
        (1, 60_000),
        (100, 60_000),
        (1024, 60_000),
        (10 << 10, 20_000),
        (100 << 10, 2000),
        (1 << 20, 200),
    ] {
        let mut row = row(
            format!("payload-{payload}"),
            format!("payload of {}", counted(payload, "byte")),
        )
        .n(n);
        row.params.payload = payload;
        rows.push(row);
    }
}

fn inspect(rows: &mut Vec<Row>) {
    for (look, title, n) in [
        ("stats", "numbers of the queue", 200),
        ("page", "first page of 30", 1000),
        ("deep-page", "page 30,000 of 30", 1000),
        ("count", "count of a state by query", 200),
        ("findings", "findings", 50),
        ("search", "search through 10,000 tasks by payload", 20),
        ("scan", "stream of 10,000 tasks", 20),
    ] {
        let mut row = Row::new(INSPECT, &format!("inspect-{look}"), title, Work::Inspect)
            .n(n)
            .by(&[Contestant::OURS])
            .most(3);
        row.fill = 1_000_000;
        row.params.look = look.to_owned();
        rows.push(row);
    }
}

fn tuning(rows: &mut Vec<Row>) {
    let ours = [Contestant::OURS];
    let row = |id: &str, title: &str| {
        let id = format!("tuning-{id}");
        Row::new(TUNING, &id, title, Work::Drain)
            .n(80_000)
            .concurrency(100)
            .by(&ours)
            .most(3)
    };
    for (id, title, words) in [
        ("redis", "Redis as it comes", &[][..]),
        ("io-threads", "io-threads 2", &["--io-threads", "2"]),
        (
            "aof-everysec",
            "AOF, fsync every second",
            &["--appendonly", "yes", "--appendfsync", "everysec"],
        ),
        (
            "aof-always",
            "AOF, fsync always",
            &["--appendonly", "yes", "--appendfsync", "always"],
        ),
        (
            "listpack",
            "hash-max-listpack-value 1024",
            &["--hash-max-listpack-value", "1024"],
        ),
    ] {
        let mut drain = row(&format!("{id}-drain"), &format!("drain: {title}"));
        drain.redis = words.iter().map(|word| (*word).to_owned()).collect();
        let mut enqueue = drain.clone();
        enqueue.id = format!("tuning-{id}-enqueue");
        enqueue.title = format!("enqueue, 100 callers: {title}");
        enqueue.work = Work::Enqueue;
        rows.extend([drain, enqueue.callers(100)]);
    }
    for workers in [1, 2, 4] {
        let title = format!("drain: worker threads {workers}");
        rows.push(row(&format!("workers-{workers}"), &title).by(&[Contestant::ours(workers)]));
    }
    for concurrency in [5, 20, 50, 200, 500] {
        let title = format!("drain: concurrency {concurrency}");
        rows.push(row(&format!("concurrency-{concurrency}"), &title).concurrency(concurrency));
    }
    for prefetch in [0, 2, 5, 10, 20, 50] {
        let by = [Contestant::ahead(prefetch)];
        let near = row(
            &format!("prefetch-{prefetch}"),
            &format!("drain: concurrency 10, prefetch {prefetch}"),
        )
        .concurrency(10)
        .by(&by);
        let mut far = near.clone().n(15_000).far();
        far.id = format!("tuning-prefetch-{prefetch}-far");
        far.title = format!("{} through 1 ms", near.title);
        rows.extend([near, far]);
    }
    for bulk in [10, 50, 200, 5000] {
        let mut row = row(&format!("bulk-{bulk}"), &format!("enqueue in bulk of {bulk}"))
            .callers(1)
            .bulk(bulk);
        row.work = Work::Enqueue;
        rows.push(row);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_row_has_a_name_of_its_own_and_a_known_section() {
        for quick in [false, true] {
            let rows = rows(quick);
            let ids: BTreeSet<_> = rows.iter().map(|row| row.id.as_str()).collect();
            assert_eq!(ids.len(), rows.len());
            for row in &rows {
                assert!(
                    SECTIONS.iter().any(|(section, _)| *section == row.section),
                    "{}",
                    row.id
                );
                assert!(!row.contestants.is_empty(), "{}", row.id);
            }
            assert!(ids.contains(FULL_LOAD));
        }
    }
}
