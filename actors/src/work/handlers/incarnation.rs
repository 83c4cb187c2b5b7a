//! One incarnation of an instance, as its pool knows it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ractor::{ActorCell, ActorId};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::handle_task::HandleTask;

/// Time for which the failure of an instance that dropped a task is waited for.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Time that a supervisor may take to hear of an end. It may be busy, or gone itself.
const MOURNING: Duration = Duration::from_secs(1);

type Deliver = Box<dyn Fn(HandleTask) -> bool + Send + Sync>;

/// One incarnation of one instance, from the end of its `post_start` on.
pub(super) struct Incarnation {
    pub(super) instance: usize,
    cell: ActorCell,
    deliver: Deliver,
    /// Started tasks whose runs wait for their answers.
    working: AtomicUsize,
    /// The failure with which it ended.
    words: OnceLock<String>,
    gone: CancellationToken,
    /// Its supervisor knows of its end.
    mourned: CancellationToken,
}

impl Incarnation {
    pub(super) fn new(instance: usize, cell: ActorCell, deliver: Deliver) -> Arc<Self> {
        Arc::new(Self {
            instance,
            cell,
            deliver,
            working: AtomicUsize::new(0),
            words: OnceLock::new(),
            gone: CancellationToken::new(),
            mourned: CancellationToken::new(),
        })
    }

    pub(super) fn id(&self) -> ActorId {
        self.cell.get_id()
    }

    /// Gives it a task. `false` when it is dead; the task is dropped then, so its run sees it
    /// unstarted.
    pub(super) fn deliver(&self, task: HandleTask) -> bool {
        (self.deliver)(task)
    }

    /// One more started task whose run waits, or one less.
    pub(super) fn works(&self, more: bool) {
        if more {
            self.working.fetch_add(1, Ordering::AcqRel);
        } else {
            self.working.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Returns whether no run waits for a task that it has started.
    pub(super) fn is_idle(&self) -> bool {
        self.working.load(Ordering::Acquire) == 0
    }

    /// Its last words, said before its end or at it; the first stand.
    pub(super) fn says(&self, words: String) {
        let _ = self.words.set(words);
    }

    /// Notes that the incarnation ended.
    pub(super) fn leaves(&self) {
        self.gone.cancel();
    }

    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    pub(super) fn mourn(&self) {
        self.mourned.cancel();
    }

    /// Waits until it is known whose end this was: where its supervisor hears of it, the actor's own;
    /// else the supervisor may have ended too. At once where it has not ended.
    pub(super) async fn mourned(&self) {
        if self.gone.is_cancelled() {
            let _ = timeout(MOURNING, self.mourned.cancelled()).await;
        }
    }

    pub(super) fn kill(&self) {
        self.cell.kill();
    }

    /// Returns why a task that was started will not be answered.
    pub(super) async fn last_words(&self) -> String {
        // One that crashes lets go of its tasks a moment before it can say why.
        let crashed = timeout(LAST_WORDS, self.gone()).await.is_ok();
        match self.words.get() {
            Some(words) => words.clone(),
            None if crashed => "handler actor was killed".to_owned(),
            None => "handler actor dropped the task without an answer".to_owned(),
        }
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({}, {})", self.instance, self.id())
    }
}
