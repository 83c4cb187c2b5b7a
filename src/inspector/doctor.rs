//! The doctor: proves the invariants of the layout, explains what does not hold, and repairs what is safe.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

pub use asynq_core::doctor::{Diagnosis, DoctorPlace, DoctorReport, DoctorStep};
use asynq_core::{
    Inspect, QueueName, Result,
    doctor::{Remedy, Repair, RepairMode},
    inspect::{Breach, Cursor},
};

use super::{Inspector, operator::Target};

/// A run of the [doctor](Inspector::doctor) over one queue or all.
pub struct Doctor<B: Inspect + ?Sized> {
    inspector: Inspector<B>,
    fixes: bool,
    /// Queues that are left, the present one first; `None` before they are listed.
    queues: Option<VecDeque<QueueName>>,
    cursor: Cursor,
    report: DoctorReport,
}

impl<B: Inspect + ?Sized> fmt::Debug for Doctor<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doctor")
            .field("fixes", &self.fixes)
            .field("queues", &self.queues)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl<B: Inspect + ?Sized> Inspector<B> {
    /// Returns a run that proves the invariants of the layout (`docs/wire-format/layout.md#invariants`) in all queues,
    /// on the data of Go's programs and ours alike. It explains what does not hold, and with [`fix`](Doctor::fix)
    /// repairs what is safe. Servers and clients can go on meanwhile.
    ///
    /// ```
    /// use asynq::{Client, Inspector, Task, memory::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> asynq::Result<()> {
    /// # let storage = MemoryStore::new();
    /// # let client = Client::new(storage.clone()).await?;
    /// # let inspector = Inspector::connect(storage).await?;
    /// client.enqueue(Task::new("email:send", b"42")?).await?;
    /// let mut doctor = inspector.doctor().queue("default")?;
    /// while let Some(step) = doctor.next().await? {
    ///     for finding in &step.findings {
    ///         println!("{finding}");
    ///     }
    /// }
    /// assert_eq!(doctor.report().found, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn doctor(&self) -> Doctor<B> {
        Doctor {
            inspector: self.clone(),
            fixes: false,
            queues: None,
            cursor: Cursor::default(),
            report: DoctorReport::default(),
        }
    }
}

impl<B: Inspect + ?Sized> Doctor<B> {
    /// Looks only at this queue, which need not be in the index of queues. Each call adds one. By default the run looks
    /// at all queues of the index and of the living servers.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a blank name.
    pub fn queue(mut self, queue: &str) -> Result<Self> {
        let queue = QueueName::new(queue)?;
        self.queues.get_or_insert_default().push_back(queue);
        Ok(self)
    }

    /// Repairs each breach that is safe to repair; see [`Remedy`]. No repair deletes a task: data that cannot be used
    /// go to quarantine. What is not safe is left, with the reason.
    ///
    /// A breach is tested again in the step that repairs it, so a task that moves meanwhile is not touched. Each step
    /// that repairs something is recorded in the [audit trail](Inspector::audit_trail) as `doctor_fix`, with the number
    /// and kinds of the repairs.
    #[must_use]
    pub fn fix(mut self) -> Self {
        self.fixes = true;
        self
    }

    /// Goes on where another run was, instead of at the beginning.
    #[must_use]
    pub fn from(mut self, place: DoctorPlace) -> Self {
        self.queues = Some(place.queues.iter().map(|name| QueueName::from_storage(name)).collect());
        self.cursor = Cursor(place.cursor);
        self
    }

    /// Returns the place at which another run can go on; `None` before the first step of a run over all queues. The run
    /// can be stopped at any time: drop it.
    #[must_use]
    pub fn place(&self) -> Option<DoctorPlace> {
        let queues = self.queues.as_ref()?;
        Some(DoctorPlace {
            queues: queues.iter().map(|queue| queue.as_str().to_owned()).collect(),
            cursor: self.cursor.0.clone(),
        })
    }

    /// The sums of all steps until now.
    #[must_use]
    pub fn report(&self) -> &DoctorReport {
        &self.report
    }

    /// Makes all steps to the end.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn run(&mut self) -> Result<&DoctorReport> {
        while self.next().await?.is_some() {}
        Ok(&self.report)
    }

    /// Looks at the next part: about a hundred ids or keys of one queue. Returns `None` at the end.
    ///
    /// Each breach was seen twice: by the audit, and by a second look in one script at all that concerns it. Breaches
    /// that were gone by then are only [counted](DoctorReport::gone).
    ///
    /// Cost: a script of a millisecond or two, however large the queue is. A step that searches for a task that may be
    /// in no container, or in two, has about 20 scripts or `SCAN`s. The breaches of a step need a script for 50 of them, and
    /// twice as many to repair them. One that searches or shortens a long `pending` walks through it: about 15 ms for a
    /// million tasks. The number of steps is that of the ids and keys of the queue divided by a hundred, and at least that
    /// of all keys of the database divided by a hundred.
    ///
    /// # Errors
    /// [`Error::Broker`](crate::Error::Broker). The same step can be made again. With [`fix`](Self::fix) and an
    /// inspector that [requires a reason](Inspector::requiring_reason), [`Error::Invalid`](crate::Error::Invalid) without
    /// one, before the first repair.
    ///
    /// # Cancel safety
    /// The same step is made again by the next call. Each breach is repaired completely or not at all; what a dropped
    /// call has repaired may be missing in the audit trail.
    pub async fn next(&mut self) -> Result<Option<DoctorStep>> {
        let storage = &self.inspector.0;
        if self.queues.is_none() {
            let mut names: BTreeSet<_> = storage.queues().await?.into_iter().collect();
            for server in storage.servers().await? {
                names.extend(server.queues.keys().map(|name| QueueName::from_storage(name)));
            }
            self.queues = Some(names.into_iter().collect());
        }
        let Some(queue) = self.queues.as_ref().and_then(VecDeque::front).cloned() else {
            return Ok(None);
        };
        let page = storage.audit(&queue, self.cursor.clone()).await?;
        let findings = self.judge(&queue, page.items).await?;

        self.report.looked += page.looked;
        for finding in &findings {
            self.report.found += 1;
            match finding.result {
                Repair::Done(_) if self.fixes => self.report.repaired += 1,
                Repair::Left(_) => self.report.left += 1,
                _ => {}
            }
        }
        match page.next {
            Some(next) => self.cursor = next,
            None => {
                self.cursor = Cursor::default();
                self.report.queues += 1;
                if let Some(queues) = &mut self.queues {
                    queues.pop_front();
                }
            }
        }
        let left = self.queues.as_ref().map_or(0, VecDeque::len);
        let mut step = DoctorStep::new(queue, page.looked, left);
        step.findings = findings;
        Ok(Some(step))
    }

    /// Looks again at breaches, and repairs them if that is wanted.
    async fn judge(&mut self, queue: &QueueName, breaches: Vec<Breach>) -> Result<Vec<Diagnosis>> {
        if breaches.is_empty() {
            return Ok(Vec::new());
        }
        let storage = &self.inspector.0;
        let looks = storage.repair(queue, &breaches, RepairMode::Check).await?;
        let (mut confirmed, mut results) = (Vec::new(), Vec::new());
        for (breach, result) in breaches.into_iter().zip(looks) {
            if result == Repair::Gone {
                self.report.gone += 1;
            } else {
                confirmed.push(breach);
                results.push(result);
            }
        }
        if self.fixes && results.iter().any(|result| matches!(result, Repair::Done(_))) {
            let target = Target {
                tasks: Some("breaches of invariants".to_owned()),
                ..Target::queue(queue.as_str())
            };
            let act = async { Ok(storage.repair(queue, &confirmed, RepairMode::Write).await?) };
            let changed = |results: &Vec<Repair>| Some(results.iter().filter(|result| is_done(result)).count() as u64);
            results = self
                .inspector
                .recorded("doctor_fix", target.detail(kinds(&results)), act, changed)
                .await?;
        }
        let (queue, fixed) = (queue.clone(), self.fixes);
        let findings = confirmed.into_iter().zip(results);
        let findings = findings.map(|(breach, result)| Diagnosis::new(queue.clone(), breach, result, fixed));
        Ok(findings.collect())
    }
}

fn is_done(result: &Repair) -> bool {
    matches!(result, Repair::Done(_))
}

/// The kinds of repairs with their numbers.
fn kinds(results: &[Repair]) -> String {
    let mut numbers: BTreeMap<&Remedy, u64> = BTreeMap::new();
    for result in results {
        if let Repair::Done(remedy) = result {
            *numbers.entry(remedy).or_default() += 1;
        }
    }
    let kinds = numbers.iter().map(|(remedy, number)| format!("{remedy}: {number}"));
    kinds.collect::<Vec<_>>().join(", ")
}
