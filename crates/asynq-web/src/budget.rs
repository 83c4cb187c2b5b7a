//! Bounds on what one user may ask for, over several requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::problem::{Problem, Result};

/// Number of users of whom the spending is remembered.
const MOST_USERS: usize = 10_000;

/// The budgets of all users.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// Number of tasks that searches of one user may look at in a minute.
    tasks_per_minute: u64,
    /// Number of expensive reads of one user at a time.
    reads_at_once: usize,
    by_user: Mutex<HashMap<String, Spending>>,
}

#[derive(Debug)]
struct Spending {
    /// Number of tasks that may be looked at. It can be below zero: a search looks at a few more than it may.
    tasks: f64,
    at: Instant,
    reads: usize,
}

impl Budgets {
    pub(crate) fn new(tasks_per_minute: u64, reads_at_once: usize) -> Self {
        Self {
            tasks_per_minute,
            reads_at_once,
            by_user: Mutex::default(),
        }
    }

    /// Begins an expensive read of a user, or refuses it if too many run. It ends when the answer is dropped.
    pub(crate) fn read(self: &Arc<Self>, user: &str) -> Result<Read> {
        let mut by_user = self.lock();
        let spending = self.of(&mut by_user, user, Instant::now());
        if spending.reads >= self.reads_at_once {
            return Err(Problem::too_many(
                format!("{} expensive reads of this user run already", self.reads_at_once),
                1,
            ));
        }
        spending.reads += 1;
        drop(by_user);
        Ok(Read {
            budgets: Arc::clone(self),
            user: user.to_owned(),
        })
    }

    /// Takes tasks that a search of the user may look at: `most`, or as many as are left, or refuses it if these are fewer than `least`.
    pub(crate) fn take(self: &Arc<Self>, user: &str, most: u64, least: u64) -> Result<Taken> {
        let mut by_user = self.lock();
        let spending = self.of(&mut by_user, user, Instant::now());
        let left = spending.tasks;
        // A fraction of a task is none.
        let whole = left.max(0.0) as u64;
        if whole >= least.min(self.tasks_per_minute) {
            let tasks = whole.min(most);
            spending.tasks -= tasks as f64;
            return Ok(Taken {
                budgets: Arc::clone(self),
                user: user.to_owned(),
                tasks,
            });
        }
        let missing = least.min(self.tasks_per_minute) as f64 - left;
        let seconds = (missing * 60.0 / self.tasks_per_minute.max(1) as f64).ceil();
        Err(Problem::too_many(
            format!(
                "the searches of this user have looked at {} tasks within a minute",
                self.tasks_per_minute
            ),
            (seconds as u64).clamp(1, 60),
        ))
    }

    fn of<'a>(&self, by_user: &'a mut HashMap<String, Spending>, user: &str, now: Instant) -> &'a mut Spending {
        let full = self.tasks_per_minute as f64;
        let gained = |spending: &Spending| {
            let seconds = now.saturating_duration_since(spending.at).as_secs_f64();
            (spending.tasks + seconds * full / 60.0).min(full)
        };
        if by_user.len() >= MOST_USERS && !by_user.contains_key(user) {
            // One with a full budget is as one that was never here.
            by_user.retain(|_, spending| spending.reads > 0 || gained(spending) < full);
        }
        let spending = by_user.entry(user.to_owned()).or_insert(Spending {
            tasks: full,
            at: now,
            reads: 0,
        });
        spending.tasks = gained(spending);
        spending.at = now;
        spending
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Spending>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An expensive read that runs.
#[derive(Debug)]
pub(crate) struct Read {
    budgets: Arc<Budgets>,
    user: String,
}

impl Drop for Read {
    fn drop(&mut self) {
        if let Some(spending) = self.budgets.lock().get_mut(&self.user) {
            spending.reads = spending.reads.saturating_sub(1);
        }
    }
}

/// Tasks that a search may look at. All of them count, unless it tells how many it has looked at: one that is given up may have
/// looked at all.
#[derive(Debug)]
#[must_use = "a search has to tell what it has looked at"]
pub(crate) struct Taken {
    budgets: Arc<Budgets>,
    user: String,
    pub(crate) tasks: u64,
}

impl Taken {
    /// Gives back what a search has not looked at. It may have looked at a few more than it could. One that was refused has looked
    /// at none.
    pub(crate) fn end<T>(self, ended: asynq::Result<T>, looked_at: impl Fn(&T) -> u64) -> Result<T> {
        let ended = ended.map_err(Problem::from);
        let spent = match &ended {
            Ok(found) => looked_at(found),
            Err(problem) if problem.status.is_client_error() => 0,
            Err(_) => return ended,
        };
        let mut by_user = self.budgets.lock();
        let spending = self.budgets.of(&mut by_user, &self.user, Instant::now());
        spending.tasks += self.tasks as f64 - spent as f64;
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reads_of_a_user_are_bounded() {
        let budgets = Arc::new(Budgets::new(100, 2));
        let first = budgets.read("ann").unwrap();
        let _second = budgets.read("ann").unwrap();
        assert_eq!(budgets.read("ann").unwrap_err().retry_after, Some(1));
        budgets.read("bob").unwrap();
        drop(first);
        budgets.read("ann").unwrap();
    }

    #[test]
    fn a_budget_of_tasks_fills_up_with_time() {
        let budgets = Arc::new(Budgets::new(600, 1));
        let taken = budgets.take("ann", 1000, 200).unwrap();
        assert_eq!(taken.tasks, 600);
        taken.end(Ok(700), |looked_at| *looked_at).unwrap();
        let refused = budgets.take("ann", 1000, 200).unwrap_err();
        let wait = refused.retry_after.unwrap();
        assert!((29..=30).contains(&wait), "{wait}");
        assert_eq!(budgets.take("bob", 1000, 200).unwrap().tasks, 600);
        // Half a minute later there are 300 more.
        if let Some(spending) = budgets.lock().get_mut("ann") {
            spending.at = spending.at.checked_sub(Duration::from_secs(30)).unwrap();
        }
        let left = budgets.take("ann", 1000, 200).unwrap().tasks;
        assert!((200..260).contains(&left), "{left}");
    }

    #[test]
    fn searches_at_the_same_time_share_a_budget_and_give_back_what_they_do_not_need() {
        let budgets = Arc::new(Budgets::new(1000, 9));
        let (first, second) = (
            budgets.take("ann", 700, 200).unwrap(),
            budgets.take("ann", 700, 200).unwrap(),
        );
        assert_eq!((first.tasks, second.tasks), (700, 300));
        assert!(budgets.take("ann", 700, 200).is_err());
        first.end(Ok(()), |()| 100).unwrap();
        let third = budgets.take("ann", 9000, 200).unwrap();
        assert!((600..=610).contains(&third.tasks), "{third:?}");
        // One that is refused has looked at none, and one that is given up may have looked at all.
        let refused = asynq::inspector::Actor::new(" ").check().unwrap_err();
        second.end(Err::<(), _>(refused.into()), |()| 0).unwrap_err();
        let fourth = budgets.take("ann", 9000, 200).unwrap();
        assert!((300..=310).contains(&fourth.tasks), "{fourth:?}");
        drop((third, fourth));
        assert!(budgets.take("ann", 9000, 200).is_err());
    }

    #[test]
    fn a_small_budget_is_given_out_whole() {
        let budgets = Arc::new(Budgets::new(50, 1));
        assert_eq!(budgets.take("ann", 1000, 200).unwrap().tasks, 50);
        budgets.take("ann", 1000, 200).unwrap_err();
    }

    #[test]
    fn the_memory_of_users_is_bounded() {
        let budgets = Arc::new(Budgets::new(100, 1));
        for user in 0..MOST_USERS + 10 {
            let taken = budgets.take(&user.to_string(), 1, 1).unwrap();
            taken.end(Ok(()), |()| 0).unwrap();
        }
        assert!(budgets.lock().len() <= MOST_USERS);
    }
}
