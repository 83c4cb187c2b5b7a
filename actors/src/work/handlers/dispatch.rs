//! One task, from its run to an instance and back.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use asynq_core::{Error, Task, TaskContext};
use tokio::{runtime::Handle, sync::oneshot, time::sleep};

use super::{
    handle_task::{HandleTask, Ticket, Withdrawal},
    incarnation::Incarnation,
    pool::{Credit, Pool},
    rate_limit::Token,
    suspension::Standing,
};
use crate::work::handled::{Handled, PutBack};

/// Number of times that a task may be dropped unstarted before it is put back.
const DROPS: u32 = 8;
/// The wait after the second drop; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

impl Pool {
    /// Has one task run by one of the instances.
    ///
    /// # Cancel safety
    /// Dropped, the task is taken back: an instance that has not started it never will; one that
    /// works on it is killed unless it lets go of it in time.
    pub(crate) async fn run(self: &Arc<Self>, task: Task, context: &TaskContext) -> Handled {
        let mut has_token = self.bucket.is_none();
        let mut drops = 0;
        loop {
            let credit = match self.credit().await {
                Ok(credit) => credit,
                Err(put_back) => return Handled::PutBack(put_back),
            };
            if !has_token {
                match self.token() {
                    Token::After(wait) if wait.is_zero() => {}
                    Token::After(wait) => sleep(wait).await,
                    Token::Later(after) => {
                        let why = format!("rate limit of {:?}", self.pattern);
                        return Handled::PutBack(PutBack { after, why });
                    }
                }
                has_token = true;
                if let Standing::Suspended(left) = self.standing() {
                    return Handled::PutBack(self.while_suspended(left));
                }
            }
            match self.offer(credit, task.clone(), context).await {
                Offered::Answered(result) => return Handled::Ended(result),
                Offered::Refused => {}
                Offered::Dropped => {
                    drops += 1;
                    if drops >= DROPS {
                        let why = "handler actors drop the task without starting it";
                        return Handled::PutBack(self.come_back(why));
                    }
                    if drops > 1 {
                        sleep(FIRST_PAUSE * 2_u32.pow(drops - 2)).await;
                    }
                }
            }
        }
    }

    fn token(&self) -> Token {
        self.bucket.as_ref().map_or(Token::After(Duration::ZERO), |bucket| {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).take()
        })
    }

    async fn offer(self: &Arc<Self>, credit: Credit, task: Task, context: &TaskContext) -> Offered {
        let Some(live) = credit.live() else {
            return Offered::Refused;
        };
        let ticket = Arc::new(Ticket::new(Arc::clone(&live)));
        let (answer, reply) = oneshot::channel();
        let mut pending = Pending {
            pool: self,
            live: &live,
            ticket: &ticket,
            reply: Some(reply),
        };
        let message = HandleTask {
            task,
            context: context.clone(),
            ticket: Arc::clone(&ticket),
            answer,
            credit,
        };
        if !live.deliver(message) {
            pending.reply = None;
            self.leave(&live, None);
            return Offered::Refused;
        }
        match pending.answer().await {
            Ok(answer) => Offered::Answered(answer),
            Err(Withdrawal::Unstarted) => Offered::Dropped,
            // The actor saw that it is too late; so will the run, which drops this.
            Err(Withdrawal::Before) => std::future::pending().await,
            Err(Withdrawal::Started | Withdrawal::Ended) => {
                let words = live.last_words().await;
                tokio::select! {
                    () = live.mourned() => {}
                    // The whole system ends, and this instance has ended with it.
                    () = context.cancelled() => {}
                }
                Offered::Answered(Err(Error::Panic(words)))
            }
        }
    }

    /// Sees to it that an instance lets go of a task whose run has ended.
    fn watch(
        &self,
        live: &Arc<Incarnation>,
        withdrawn: Withdrawal,
        mut reply: oneshot::Receiver<asynq_core::Result<()>>,
    ) {
        if !matches!(reply.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            return;
        }
        // The runtime itself may be ending.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (live, limit, pattern) = (Arc::clone(live), self.kill_after, Arc::clone(&self.pattern));
        let mut watchdogs = self.watchdogs.lock().unwrap_or_else(PoisonError::into_inner);
        while watchdogs.try_join_next().is_some() {}
        let watchdog = async move {
            loop {
                tokio::select! {
                    _ = &mut reply => return,
                    () = live.gone() => return,
                    () = sleep(limit) => {}
                }
                // One that waits in the mailbox says nothing of an instance that is rightly busy.
                if withdrawn == Withdrawal::Started || live.is_idle() {
                    let instance = live.instance;
                    tracing::error!(%pattern, instance, ?limit, "handler actor hangs on an ended run, killing it");
                    live.says(format!(
                        "handler actor was killed: it hung for {limit:?} on an ended run"
                    ));
                    live.kill();
                    return;
                }
            }
        };
        watchdogs.spawn_on(watchdog, &runtime);
    }
}

/// The result of offering a task to an instance.
enum Offered {
    Answered(asynq_core::Result<()>),
    /// The instance was dead.
    Refused,
    /// The instance let go of it unstarted: most likely it crashed.
    Dropped,
}

/// A run that waits for its answer. Dropped before, it takes the task back.
struct Pending<'p> {
    pool: &'p Arc<Pool>,
    live: &'p Arc<Incarnation>,
    ticket: &'p Ticket,
    reply: Option<oneshot::Receiver<asynq_core::Result<()>>>,
}

impl Pending<'_> {
    /// The answer, or how far the task had come when the instance let go of it or came to its end.
    async fn answer(&mut self) -> Result<asynq_core::Result<()>, Withdrawal> {
        let Some(reply) = &mut self.reply else {
            return Err(self.ticket.withdraw());
        };
        let end = tokio::select! {
            biased;
            answer = &mut *reply => answer.map_err(|_| self.ticket.withdraw()),
            // A message that is sent while the mailbox closes stays in it for as long as anybody has a
            // reference to the actor (tokio's channel), and this run has one.
            () = self.live.gone() => if self.ticket.take_back() {
                self.pool.taken_back(self.live);
                Err(Withdrawal::Unstarted)
            } else {
                // Whoever started it may work on it elsewhere.
                reply.await.map_err(|_| self.ticket.withdraw())
            },
        };
        self.reply = None;
        end
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let Some(reply) = self.reply.take() else { return };
        match self.ticket.withdraw() {
            withdrawn @ (Withdrawal::Unstarted | Withdrawal::Started) => self.pool.watch(self.live, withdrawn, reply),
            Withdrawal::Before | Withdrawal::Ended => {}
        }
    }
}
