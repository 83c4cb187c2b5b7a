//! Random steps against a model: no outcome and no slot is lost, nothing is done twice.

use proptest::prelude::*;

use super::{super::permits::AHEAD, *};

const PLACES: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(u8),
    TakeAhead(u8),
    Start,
    End(u8, bool),
    Claim(u8),
    ClaimStuck(u8, bool),
    Answer(u8, u8),
    EndCall(u8),
    Extend(u8),
    GiveBack,
    LookAhead(bool),
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<u8>().prop_map(Step::Take),
        2 => any::<u8>().prop_map(Step::TakeAhead),
        3 => Just(Step::Start),
        4 => (any::<u8>(), prop::bool::weighted(0.9)).prop_map(|(which, well)| Step::End(which, well)),
        2 => (1_u8..4).prop_map(Step::Claim),
        2 => (1_u8..4, any::<bool>()).prop_map(|(most, all)| Step::ClaimStuck(most, all)),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(which, how)| Step::Answer(which, how)),
        2 => any::<u8>().prop_map(Step::EndCall),
        1 => any::<u8>().prop_map(Step::Extend),
        1 => Just(Step::GiveBack),
        1 => any::<bool>().prop_map(Step::LookAhead),
        1 => (0_u8..10).prop_map(Step::Wait),
    ]
}

/// A task that waits to be started.
#[derive(Debug)]
struct Leased {
    key: Key,
    token: String,
    /// Its lease has ended.
    is_over: bool,
    ahead: bool,
    /// It was taken ahead and has waited too long.
    is_due: bool,
}

/// The promises of the table, kept by hand.
#[derive(Default)]
struct Model {
    takes: u64,
    runs: Vec<Start>,
    calls: Vec<Claim>,
    /// Tokens whose task was started.
    started: HashSet<String>,
    /// Outcomes that are owed to the storage, by token.
    owed: HashMap<String, Key>,
    /// Tokens that are claimed, by how many calls.
    claimed: HashMap<String, u32>,
}

impl Model {
    fn claimed(&mut self, claim: Claim) {
        for item in &claim.items {
            let token = item.lease.token.as_str().to_owned();
            assert!(
                self.owed.contains_key(&token),
                "{token} was settled, lost or taken anew"
            );
            let calls = self.claimed.entry(token).or_default();
            *calls += 1;
            assert_eq!(*calls, 1, "two calls hold one outcome");
        }
        self.calls.push(claim);
    }

    /// Starts what is ready. What waited for so long that its lease has ended is given back, and so is what was taken
    /// ahead, when one of these tasks has waited too long.
    fn starts(&mut self, table: &Table) -> Vec<Start> {
        let waited = self.leased(table);
        let starts = table.start_ready();
        self.given_back(table, waited, |leased, due| leased.is_over || leased.ahead && due);
        starts
    }

    /// The tasks that wait to be started.
    fn leased(&self, table: &Table) -> Vec<Leased> {
        let now = tokio::time::Instant::now();
        let mut leased = Vec::new();
        for (key, entry) in &table.lock().entries {
            if let Phase::Leased { ahead, .. } = &entry.phase {
                leased.push(Leased {
                    key: key.clone(),
                    token: entry.lease.token.as_str().to_owned(),
                    is_over: entry.valid.left().is_zero(),
                    ahead: ahead.is_some(),
                    is_due: ahead.as_ref().is_some_and(|ahead| ahead.since + AHEAD <= now),
                });
            }
        }
        leased
    }

    /// Those that had waited and have ended now are owed; `may` says of each whether it may have been given back.
    fn given_back(&mut self, table: &Table, waited: Vec<Leased>, may: impl Fn(&Leased, bool) -> bool) {
        let due = waited.iter().any(|leased| leased.is_due);
        for leased in waited {
            let ended = table.lock().entries.get(&leased.key).is_some_and(|entry| {
                entry.lease.token.as_str() == leased.token && matches!(entry.phase, Phase::Finished { .. })
            });
            if ended {
                assert!(may(&leased, due), "{leased:?} was given back");
                self.owed.insert(leased.token, leased.key);
            } else {
                assert!(!(leased.is_due && due), "{leased:?} waits too long");
            }
        }
    }

    fn end_call(&mut self, table: &Table, which: u8) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.swap_remove(usize::from(which) % self.calls.len());
        table.unclaim(call.call, &call.items);
        for item in &call.items {
            self.claimed.remove(item.lease.token.as_str());
        }
    }

    fn step(&mut self, table: &Table, step: Step) {
        match step {
            Step::Take(which) => {
                let Some(slots) = table.try_slots(1) else { return };
                // Few ids, so that the same comes back.
                let id = format!("id{}", which % 4);
                self.takes += 1;
                self.owed.retain(|_, key| key.1.as_str() != id);
                table.insert(vec![leased(table, "q", &id, self.takes)], Some(slots));
            }
            Step::TakeAhead(which) => {
                let Some(ahead) = table.try_ahead(1) else { return };
                let id = format!("id{}", which % 4);
                self.takes += 1;
                self.owed.retain(|_, key| key.1.as_str() != id);
                let permits = Permits {
                    slots: None,
                    ahead: Some(ahead),
                };
                table.enter(vec![leased(table, "q", &id, self.takes)], permits);
            }
            Step::Start => {
                for start in self.starts(table) {
                    assert!(self.started.insert(start.token.as_str().to_owned()), "started twice");
                    self.runs.push(start);
                }
            }
            Step::End(which, well) if !self.runs.is_empty() => {
                let run = self.runs.swap_remove(usize::from(which) % self.runs.len());
                let replaced = run.cancel.reason() == Some(CancelReason::LeaseLost) && {
                    let entries = &table.lock().entries;
                    entries.get(&run.key).is_none_or(|entry| entry.lease.token != run.token)
                };
                if well && !replaced {
                    self.owed.insert(run.token.as_str().to_owned(), run.key.clone());
                }
                table.finish(&run.key, &run.token, if well { done() } else { End::LeaseLost });
            }
            Step::Claim(most) => {
                let claim = table.claim_ended(usize::from(most));
                assert!(claim.items.len() <= usize::from(most));
                self.claimed(claim);
            }
            Step::ClaimStuck(most, all) => {
                let claim = table.claim_stuck(usize::from(most), all);
                assert!(claim.items.len() <= usize::from(most));
                self.claimed(claim);
            }
            Step::Answer(which, how) if !self.calls.is_empty() => {
                let index = usize::from(which) % self.calls.len();
                let call = &self.calls[index];
                let answers: Vec<_> = call
                    .items
                    .iter()
                    .enumerate()
                    .map(|(at, _)| (usize::from(how) + at) % 4)
                    .collect();
                let told = answers.iter().map(|answer| match answer {
                    0 => Ok(()),
                    1 => Err(SettleError::NotOurs),
                    2 => Err(SettleError::Poison(PoisonKind::Undecodable)),
                    _ => failed(),
                });
                // Extended since: refused perhaps for that alone.
                let is_raised = |item: &Settlement| {
                    let entries = &table.lock().entries;
                    let entry = entries.get(&Key::of(&item.lease));
                    entry.is_some_and(|entry| entry.lease.until > item.lease.until)
                };
                let raised: Vec<bool> = call.items.iter().map(is_raised).collect();
                table.settled(call.call, &call.items, told.collect());
                for ((item, answer), raised) in call.items.iter().zip(answers).zip(raised) {
                    let token = item.lease.token.as_str();
                    let again = answer == 3 || answer == 1 && raised;
                    if self.claimed.remove(token).is_some() && !again {
                        self.owed.remove(token);
                    }
                }
                self.end_call(table, which);
            }
            Step::EndCall(which) => self.end_call(table, which),
            Step::Extend(how) => {
                let leases = table.leases();
                let until = LeaseUntil::from_now(table.clock.now());
                let answers = leases
                    .iter()
                    .enumerate()
                    .map(|(at, _)| match (usize::from(how) + at) % 3 {
                        0 => Err(SettleError::NotOurs),
                        1 => failed().map(|()| until),
                        _ => Ok(until),
                    });
                table.extended(&leases, answers.collect());
            }
            Step::LookAhead(all) => {
                let waited = self.leased(table);
                table.look_ahead(all);
                self.given_back(table, waited, |leased, due| leased.ahead && (due || all));
            }
            Step::GiveBack => {
                for (key, entry) in &table.lock().entries {
                    if matches!(entry.phase, Phase::Leased { .. }) {
                        self.owed.insert(entry.lease.token.as_str().to_owned(), key.clone());
                    }
                }
                table.give_back_ready();
            }
            _ => {}
        }
    }

    /// No outcome is lost, no slot is lost, and the figures agree.
    fn check(&self, table: &Table) {
        let counts = table.counts();
        assert_eq!(counts.running, table.running_count());
        assert_eq!(counts.running, table.running().len());
        assert_eq!(counts.ended, self.owed.len(), "outcomes");
        // Runs keep their slots; what is leased keeps a slot or a place.
        let ahead = self.leased(table).iter().filter(|leased| leased.ahead).count();
        let slots = self.runs.len() + counts.leased - ahead;
        assert_eq!(
            (table.free_slots(), table.free_ahead()),
            (SLOTS - slots, PLACES - ahead),
            "slots"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_outcome_and_no_slot_is_lost_and_nothing_is_done_twice(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (table, mut model) = (table().taking_ahead(PLACES), Model::default());
            for step in steps {
                if let Step::Wait(secs) = step {
                    pass(u64::from(secs)).await;
                }
                model.step(&table, step);
                model.check(&table);
            }
            // In the end everything can still be settled.
            while !model.calls.is_empty() {
                model.end_call(&table, 0);
            }
            for run in std::mem::take(&mut model.runs) {
                table.finish(&run.key, &run.token, End::LeaseLost);
            }
            loop {
                let starts = model.starts(&table);
                if starts.is_empty() {
                    break;
                }
                for start in starts {
                    table.finish(&start.key, &start.token, End::LeaseLost);
                }
            }
            let last = table.claim_stuck(usize::MAX, true);
            assert_eq!(last.items.len(), model.owed.len());
            table.settled(last.call, &last.items, last.items.iter().map(|_| Ok(())).collect());
            assert!(table.counts().is_idle());
            assert_eq!(table.free_slots(), SLOTS);
        });
    }
}
