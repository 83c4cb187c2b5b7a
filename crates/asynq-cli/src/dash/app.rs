//! The state of the dashboard. It changes by events only, and asks for reads and acts as values.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use asynq::{TaskState, findings::Findings, query::Query};
use chrono::TimeDelta;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    input::Input,
    keys::{COMMANDS, Key},
    model::{Acted, Data, Event, Fetch, Gone, Place, Request, Scope, Seen, TaskKey, Time, Trouble, Verb},
    overlay::{self, Confirm, Overlay, Verdict},
    pages::{Content, Page, Queues, Sort, SortBy, TaskPage, Tasks, page_named},
};
use crate::output::one_line;

/// Time after which a read that has no answer is shown.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time after which a failed read is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest interval between reads of the supervision trees.
const TREES: Duration = Duration::from_secs(2);
/// Interval between reads of the findings beside another page.
const FINDINGS: Duration = Duration::from_secs(30);
/// Time for which a notice is shown.
const NOTICE: Duration = Duration::from_secs(20);

/// The state.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) now: Time,
    pub(crate) place: Place,
    pub(crate) contexts: Vec<String>,
    /// The pages from the first to the one that is shown; never empty.
    pages: Vec<Page>,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) notice: Option<Notice>,
    pub(crate) findings: Option<Findings>,
    findings_asked: Option<Time>,
    pub(crate) link: Link,
    /// An act is under way.
    pub(crate) acting: Option<String>,
    /// A context is being connected to.
    pub(crate) connecting: Option<String>,
    /// Number of the last connect.
    connects: u64,
    /// Number of times that another context took the place of one.
    switches: u64,
    /// A context that is connected to, and waits until nothing is being typed.
    ready: Option<Place>,
    asked_to_quit: bool,
    /// The program ends with the act under way.
    leaving: bool,
    refresh: Duration,
    pub(crate) size: (u16, u16),
    /// The last line to which the text on the screen can be scrolled. The drawing knows it.
    pub(crate) last_line: Cell<usize>,
}

/// The reads of the page that is shown.
#[derive(Debug, Default)]
pub(crate) struct Link {
    turn: u64,
    asked: Option<Time>,
    /// A read is under way.
    waiting: bool,
    /// Time of the first read that has no answer yet.
    silent_since: Option<Time>,
    pub(crate) trouble: Option<String>,
}

/// A message to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) is_error: bool,
    at: Time,
}

type Requests = Vec<Request>;

impl App {
    pub(crate) fn new(place: Place, contexts: Vec<String>, refresh: Duration, now: Time) -> Self {
        Self {
            now,
            place,
            contexts,
            pages: vec![Page::new(Content::Queues(Queues::default()))],
            overlay: None,
            notice: None,
            findings: None,
            findings_asked: None,
            link: Link::default(),
            acting: None,
            connecting: None,
            connects: 0,
            switches: 0,
            ready: None,
            asked_to_quit: false,
            leaving: false,
            refresh,
            size: (80, 24),
            last_line: Cell::new(0),
        }
    }

    /// Returns the page that is shown.
    pub(crate) fn page(&self) -> &Page {
        &self.pages[self.pages.len() - 1]
    }

    /// Returns the number of the last read.
    #[cfg(test)]
    pub(crate) fn turn(&self) -> u64 {
        self.link.turn
    }

    /// Returns the titles of the pages, from the first to the one that is shown.
    pub(crate) fn titles(&self) -> Vec<String> {
        self.pages.iter().map(Page::title).collect()
    }

    fn page_mut(&mut self) -> &mut Page {
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    /// Returns the number of rows that a list can show.
    pub(crate) fn list_size(&self) -> usize {
        usize::from(self.size.1).saturating_sub(8).max(1)
    }

    /// Returns whether a signal has asked the program to end.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Returns the time since which Redis has not answered, if it is worth a word.
    pub(crate) fn silent_since(&self) -> Option<Time> {
        let since = self.link.silent_since?;
        (self.link.trouble.is_some() || self.now - since >= delta(PATIENCE)).then_some(since)
    }

    /// Changes the state by an event, and returns what is to be done.
    pub(crate) fn update(&mut self, event: Event, now: Time) -> Requests {
        self.now = now;
        match event {
            Event::Resized(width, height) => {
                self.size = (width, height);
                return self.read();
            }
            Event::Tick => return self.tick(),
            Event::Looked { turn, answer } if turn == self.link.turn => self.looked(answer),
            Event::Looked { .. } => {}
            Event::FindingsRead {
                switch,
                answer: Ok(findings),
            } if switch == self.switches => self.findings = Some(findings),
            // The next turn tries again, and the page shows an outage itself.
            Event::FindingsRead { .. } => {}
            Event::Acted(acted) => return self.acted(acted),
            Event::Connected { number, answer } if number == self.connects => match answer {
                Ok(place) => {
                    self.ready = Some(place);
                    return self.switch();
                }
                Err(fault) => {
                    self.connecting = None;
                    self.say(fault, true);
                }
            },
            // A later one took its place.
            Event::Connected { .. } => {}
            Event::Signalled => return self.signalled(),
            Event::Pasted(text) => {
                if let Some(overlay) = &mut self.overlay {
                    overlay.paste(&text);
                }
            }
            Event::Key(key) => {
                let mut requests = self.key(key);
                requests.extend(self.switch());
                return requests;
            }
        }
        Vec::new()
    }

    fn say(&mut self, text: impl Into<String>, is_error: bool) {
        self.notice = Some(Notice {
            text: one_line(&text.into()),
            is_error,
            at: self.now,
        });
    }

    fn refuse(&mut self, text: impl Into<String>) -> Requests {
        self.say(text, true);
        Vec::new()
    }

    /// Reads the page that is shown.
    fn read(&mut self) -> Requests {
        self.link.turn += 1;
        self.link.waiting = true;
        self.link.asked = Some(self.now);
        self.link.silent_since.get_or_insert(self.now);
        let look = self.page().look(self.list_size());
        let mut requests = vec![Request::Fetch(Fetch::Look {
            turn: self.link.turn,
            look,
        })];
        let is_due = self
            .findings_asked
            .is_none_or(|asked| self.now - asked >= delta(FINDINGS));
        if is_due && matches!(self.page().content, Content::Queues(_) | Content::Tasks(_)) {
            self.findings_asked = Some(self.now);
            requests.push(Request::Fetch(Fetch::Findings { switch: self.switches }));
        }
        requests
    }

    fn tick(&mut self) -> Requests {
        if self
            .notice
            .as_ref()
            .is_some_and(|notice| self.now - notice.at >= delta(NOTICE))
        {
            self.notice = None;
        }
        let interval = match (&self.link.trouble, &self.page().content) {
            (Some(_), _) => AGAIN,
            (None, Content::Trees(_)) => self.refresh.min(TREES),
            _ => self.refresh,
        };
        let is_due = self.link.asked.is_none_or(|asked| {
            // After a step of the clock it is due too.
            self.now - asked >= delta(interval) || self.now < asked
        });
        match is_due && !self.link.waiting {
            true => self.read(),
            false => Vec::new(),
        }
    }

    fn looked(&mut self, answer: Result<Data, Trouble>) {
        self.link.waiting = false;
        let now = self.now;
        match answer {
            Ok(data) => {
                if let Data::Findings(findings) = &data {
                    self.findings = Some(findings.clone());
                    self.findings_asked = Some(now);
                }
                let page = self.page_mut();
                page.take(data);
                page.read_at = Some(now);
                self.link.trouble = None;
                self.link.silent_since = None;
            }
            Err(trouble) if trouble.is_outage => self.link.trouble = Some(trouble.text),
            Err(trouble) => {
                self.link.trouble = None;
                self.link.silent_since = None;
                self.page_mut().fault = Some(trouble.text);
            }
        }
    }

    fn acted(&mut self, acted: Acted) -> Requests {
        self.acting = None;
        if self.leaving {
            return vec![Request::Quit];
        }
        self.say(acted.text.clone(), acted.failed);
        for page in &mut self.pages {
            if let Content::Tasks(page) = &mut page.content {
                page.marks.retain(|key, _| !acted.done.contains(key));
            }
        }
        let is_gone = |page: &Page| match (&acted.gone, &page.content) {
            (Gone::Queue(queue), Content::Tasks(page)) => page.scope.queue.as_ref() == Some(queue),
            (Gone::Queue(queue), Content::Task(page)) => page.key.queue == *queue,
            (Gone::Tasks, Content::Task(page)) => acted.done.contains(&page.key),
            _ => false,
        };
        self.pages.retain(|page| !is_gone(page));
        self.findings_asked = None;
        self.read()
    }

    /// Goes to the context that was connected to, unless something is being typed: the rest of it is for no other page.
    fn switch(&mut self) -> Requests {
        if self.overlay.is_some() {
            return Vec::new();
        }
        let Some(place) = self.ready.take() else {
            return Vec::new();
        };
        self.connecting = None;
        self.switches += 1;
        self.say(format!("connected to {}", place.name), false);
        self.place = place;
        self.pages = vec![Page::new(Content::Queues(Queues::default()))];
        (self.findings, self.findings_asked) = (None, None);
        self.forget_link();
        (self.link.silent_since, self.link.trouble) = (None, None);
        let mut requests = vec![Request::Fetch(Fetch::Switch(self.connects))];
        requests.extend(self.read());
        requests
    }

    /// Forgets the read under way: its answer is for another page.
    fn forget_link(&mut self) {
        // Redis is as silent to another page.
        self.link.turn += 1;
        (self.link.waiting, self.link.asked) = (false, None);
    }

    fn key(&mut self, mut key: KeyEvent) -> Requests {
        if key.modifiers.contains(KeyModifiers::ALT) {
            // Esc and a key that quickly follows it look the same to a terminal as Alt and the key.
            key.modifiers -= KeyModifiers::ALT;
            let mut requests = self.key(KeyCode::Esc.into());
            requests.extend(self.key(key));
            return requests;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return self.quit();
        }
        if control && key.code == KeyCode::Char('l') {
            let mut requests = vec![Request::Redraw];
            self.findings_asked = None;
            requests.extend(self.read());
            return requests;
        }
        match self.overlay.take() {
            None => match Key::of(key) {
                Some(key) => self.command_key(key),
                None => Vec::new(),
            },
            Some(Overlay::Help { scroll }) => {
                let scroll = match Key::of(key) {
                    Some(Key::Down) => (scroll + 1).min(self.last_line.get()),
                    Some(Key::Up) => scroll.saturating_sub(1),
                    Some(Key::NextPage) => (scroll + self.list_size()).min(self.last_line.get()),
                    Some(Key::PreviousPage) => scroll.saturating_sub(self.list_size()),
                    _ => return Vec::new(),
                };
                self.overlay = Some(Overlay::Help { scroll });
                Vec::new()
            }
            Some(Overlay::Filter { input, .. }) => self.filter_key(input, key),
            Some(Overlay::Command { input, .. }) => self.line_key(input, key),
            Some(Overlay::Confirm(confirm)) => self.confirm_key(confirm, key),
        }
    }

    fn quit(&mut self) -> Requests {
        if let (Some(act), false) = (&self.acting, self.asked_to_quit) {
            let text = format!("{act}: still under way; quit again to leave it unfinished");
            self.asked_to_quit = true;
            return self.refuse(text);
        }
        vec![Request::Quit]
    }

    /// Ends with the act under way, and at the second signal at once.
    fn signalled(&mut self) -> Requests {
        match &self.acting {
            Some(act) if !self.leaving => {
                let text =
                    format!("{act}: still under way, the program ends with it; quit again to leave it unfinished");
                (self.leaving, self.asked_to_quit) = (true, true);
                self.refuse(text)
            }
            _ => vec![Request::Quit],
        }
    }

    fn command_key(&mut self, key: Key) -> Requests {
        let rows = self.page().rows();
        let is_text = self.page().is_text();
        let last = if is_text {
            self.last_line.get()
        } else {
            rows.saturating_sub(1)
        };
        let size = self.list_size();
        let cursor = self.page().cursor;
        match key {
            Key::Quit => return self.quit(),
            Key::Back => return self.back(),
            Key::Select => return self.select(),
            Key::Up => self.page_mut().cursor = cursor.min(last).saturating_sub(1),
            Key::Down => self.page_mut().cursor = (cursor + 1).min(last),
            Key::Top => self.page_mut().cursor = 0,
            Key::Bottom => self.page_mut().cursor = last,
            Key::NextPage | Key::PreviousPage => return self.turn_page(key == Key::NextPage, size, last),
            Key::Left => return self.next_state(TaskState::ALL.len() - 1),
            Key::Right => return self.next_state(1),
            Key::Help => self.overlay = Some(Overlay::Help { scroll: 0 }),
            Key::Command => {
                self.overlay = Some(Overlay::Command {
                    input: Input::default(),
                    fault: None,
                });
            }
            Key::Filter => self.open_filter(),
            Key::Mark | Key::MarkAll | Key::Unmark => self.mark(key),
            Key::Raw => {
                if let Content::Task(page) = &mut self.page_mut().content {
                    page.raw = !page.raw;
                }
            }
            Key::NextSort => self.page_mut().sort(|sort| {
                let at = SortBy::ALL.iter().position(|by| *by == sort.by).unwrap_or(0);
                *sort = Sort {
                    by: SortBy::ALL[(at + 1) % SortBy::ALL.len()],
                    reversed: false,
                };
            }),
            Key::Reverse => self.page_mut().sort(|sort| sort.reversed = !sort.reversed),
            Key::Sort(column) => {
                if let Some(by) = SortBy::ALL.get(column).copied() {
                    self.page_mut().sort(|sort| {
                        let reversed = sort.by == by && !sort.reversed;
                        *sort = Sort { by, reversed };
                    });
                }
            }
            Key::Run => return self.ask(|page| overlay::about_tasks(page, Verb::Run)),
            Key::Archive => return self.ask(|page| overlay::about_tasks(page, Verb::Archive)),
            Key::Delete if matches!(self.page().content, Content::Queues(_)) => {
                return self.ask(overlay::about_deleting_queue);
            }
            Key::Delete => return self.ask(|page| overlay::about_tasks(page, Verb::Delete)),
            Key::Cancel => return self.ask(|page| overlay::about_tasks(page, Verb::Cancel)),
            Key::Pause => return self.ask(overlay::about_pausing),
            Key::Redraw => {}
        }
        Vec::new()
    }

    fn back(&mut self) -> Requests {
        if let Content::Tasks(page) = &mut self.page_mut().content
            && page.scope.filter.is_some()
            && page.scope.queue.is_some()
        {
            let scope = Scope {
                filter: None,
                ..page.scope.clone()
            };
            return self.show(scope);
        }
        if self.pages.len() == 1 {
            self.say("this is the first page; q leaves the dashboard", false);
            return Vec::new();
        }
        self.pages.pop();
        self.turned()
    }

    /// Goes on with another page.
    fn turned(&mut self) -> Requests {
        self.notice = None;
        self.forget_link();
        self.read()
    }

    fn open(&mut self, content: Content) -> Requests {
        self.pages.push(Page::new(content));
        self.turned()
    }

    /// Lists other tasks on the same page.
    fn show(&mut self, scope: Scope) -> Requests {
        let page = self.page_mut();
        page.cursor = 0;
        page.read_at = None;
        page.fault = None;
        if let Content::Tasks(tasks) = &mut page.content {
            tasks.show(scope);
        }
        self.turned()
    }

    fn select(&mut self) -> Requests {
        let page = self.page();
        match &page.content {
            Content::Queues(queues) => {
                let Some(queue) = queues.rows.get(page.cursor) else {
                    return Vec::new();
                };
                let scope = Scope {
                    queue: Some(queue.queue.to_string()),
                    state: Some(TaskState::Active),
                    ..Scope::default()
                };
                self.open(Content::Tasks(Tasks::of(scope)))
            }
            Content::Tasks(tasks) if tasks.scope.lists_groups() => {
                let Some(group) = tasks.groups.get(page.cursor) else {
                    return Vec::new();
                };
                let scope = Scope {
                    group: Some(group.group.to_string()),
                    ..tasks.scope.clone()
                };
                self.open(Content::Tasks(Tasks::of(scope)))
            }
            Content::Tasks(_) | Content::Servers { .. } => match page.task() {
                Some((key, _)) => self.open(Content::Task(TaskPage {
                    key,
                    task: None,
                    raw: false,
                    sizes: (0, 0),
                    laid_out: RefCell::default(),
                })),
                None => Vec::new(),
            },
            Content::Findings(findings) => {
                let queue = findings.get(page.cursor).and_then(|finding| finding.queue.clone());
                match queue {
                    Some(queue) => {
                        let scope = Scope {
                            queue: Some(queue.to_string()),
                            state: Some(TaskState::Pending),
                            ..Scope::default()
                        };
                        self.open(Content::Tasks(Tasks::of(scope)))
                    }
                    None => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn turn_page(&mut self, forward: bool, size: usize, last: usize) -> Requests {
        let page = self.page_mut();
        if let Content::Tasks(tasks) = &mut page.content
            && !tasks.scope.lists_groups()
        {
            match forward {
                true if tasks.has_next(size) => tasks.next_page(),
                false if tasks.page > 0 => tasks.page -= 1,
                _ => return Vec::new(),
            }
            page.cursor = 0;
            return self.read();
        }
        page.cursor = match forward {
            true => (page.cursor + size).min(last),
            false => page.cursor.min(last).saturating_sub(size),
        };
        Vec::new()
    }

    fn next_state(&mut self, by: usize) -> Requests {
        let Content::Tasks(tasks) = &self.page().content else {
            return Vec::new();
        };
        let (Some(state), None) = (tasks.scope.state, &tasks.scope.group) else {
            return Vec::new();
        };
        let at = TaskState::ALL.iter().position(|other| *other == state).unwrap_or(0);
        let scope = Scope {
            state: Some(TaskState::ALL[(at + by) % TaskState::ALL.len()]),
            ..tasks.scope.clone()
        };
        self.show(scope)
    }

    fn open_filter(&mut self) {
        let text = match &self.page().content {
            Content::Queues(_) => "",
            Content::Tasks(tasks) => tasks.scope.filter.as_deref().unwrap_or_default(),
            _ => return,
        };
        self.overlay = Some(Overlay::Filter {
            input: Input::new(text),
            fault: None,
        });
    }

    fn filter_key(&mut self, mut input: Input, key: KeyEvent) -> Requests {
        match key.code {
            KeyCode::Esc => return Vec::new(),
            KeyCode::Enter => {}
            _ => {
                input.key(key);
                self.overlay = Some(Overlay::Filter { input, fault: None });
                return Vec::new();
            }
        }
        let text = input.text().trim().to_owned();
        let is_queues = matches!(self.page().content, Content::Queues(_));
        if text.is_empty() && is_queues {
            return Vec::new();
        }
        if let (false, Err(error)) = (text.is_empty(), Query::parse(&text)) {
            let fault = Some((error.position, one_line(&error.to_string())));
            // The place counts from the first character of the query.
            let input = Input::new(text);
            self.overlay = Some(Overlay::Filter { input, fault });
            return Vec::new();
        }
        let filter = (!text.is_empty()).then_some(text);
        match &self.page().content {
            Content::Tasks(tasks) if filter.is_some() || tasks.scope.queue.is_some() => {
                let scope = Scope {
                    filter,
                    ..tasks.scope.clone()
                };
                self.show(scope)
            }
            Content::Queues(_) => self.open(Content::Tasks(Tasks::of(Scope {
                filter,
                ..Scope::default()
            }))),
            _ => Vec::new(),
        }
    }

    fn line_key(&mut self, mut input: Input, key: KeyEvent) -> Requests {
        match key.code {
            KeyCode::Esc => return Vec::new(),
            KeyCode::Backspace if input.text().is_empty() => return Vec::new(),
            KeyCode::Enter => {}
            KeyCode::Tab => {
                let typed = input.text().trim_start().to_owned();
                let contexts = self.contexts.iter().map(|name| format!("context {name}"));
                let mut all = COMMANDS.iter().map(|&name| name.to_owned()).chain(contexts);
                if let Some(whole) = all.find(|name| name.starts_with(&typed)) {
                    input = Input::new(whole);
                }
                self.overlay = Some(Overlay::Command { input, fault: None });
                return Vec::new();
            }
            _ => {
                input.key(key);
                self.overlay = Some(Overlay::Command { input, fault: None });
                return Vec::new();
            }
        }
        let mut words = input.text().split_whitespace();
        let fault = match (words.next(), words.next(), words.next()) {
            (None, ..) => return Vec::new(),
            (Some("q" | "quit" | "q!"), None, _) => return self.quit(),
            (Some("help"), None, _) => {
                self.overlay = Some(Overlay::Help { scroll: 0 });
                return Vec::new();
            }
            (Some("context"), Some(_), None) if self.acting.is_some() => {
                let act = self.acting.as_deref().unwrap_or_default();
                return self.refuse(format!("{act}: still under way, the context stays"));
            }
            (Some("context"), Some(name), None) if self.contexts.iter().any(|context| context == name) => {
                let name = name.to_owned();
                (self.connecting, self.ready, self.notice) = (Some(name.clone()), None, None);
                self.connects += 1;
                return vec![Request::Fetch(Fetch::Connect {
                    number: self.connects,
                    context: name,
                })];
            }
            (Some("context"), _, None) if self.contexts.is_empty() => {
                "the configuration file names no context".to_owned()
            }
            (Some("context"), _, None) => format!("contexts are: {}", self.contexts.join(", ")),
            (Some(name), None, _) => match page_named(name) {
                Some(content) => return self.go(content),
                None => format!("no command {name:?}; there are: {}", COMMANDS.join(", ")),
            },
            _ => "too many words".to_owned(),
        };
        self.overlay = Some(Overlay::Command {
            input,
            fault: Some(one_line(&fault)),
        });
        Vec::new()
    }

    /// Goes to a page by its name, from the first one.
    fn go(&mut self, content: Option<Content>) -> Requests {
        self.pages.truncate(1);
        match content {
            Some(content) => self.open(content),
            None => self.turned(),
        }
    }

    fn mark(&mut self, key: Key) {
        let (page, last) = (self.page(), self.page().rows().saturating_sub(1));
        let here = page.task();
        let page = self.page_mut();
        let Content::Tasks(tasks) = &mut page.content else {
            return;
        };
        match (key, here) {
            (Key::Unmark, _) => tasks.marks.clear(),
            (Key::MarkAll, _) => {
                tasks
                    .marks
                    .extend(tasks.rows.iter().map(|task| (TaskKey::of(task), Seen::of(task))));
            }
            (_, Some((key, seen))) => {
                if tasks.marks.remove(&key).is_none() {
                    tasks.marks.insert(key, seen);
                }
                page.cursor = (page.cursor + 1).min(last);
            }
            (_, None) => {}
        }
    }

    /// Refuses where nothing may be changed, or an act is under way.
    fn is_free(&self) -> Result<(), String> {
        let mut hands = self.place.hands.clone();
        // It is asked for later.
        hands.reason = Some("to be asked for".to_owned());
        if let (Some(context), false) = (&hands.protected, hands.read_only) {
            return Err(format!(
                "context {context:?} is protected, nothing was changed. `:context {context}` names it."
            ));
        }
        if let Err(error) = hands.must_be_free() {
            let hint = error.hint.map(|hint| format!(" {hint}")).unwrap_or_default();
            return Err(format!("{}.{hint}", error.message));
        }
        match (&self.acting, &self.connecting) {
            (Some(act), _) => Err(format!("{act}: still under way")),
            (None, Some(context)) => Err(format!("connecting to {context}")),
            (None, None) => Ok(()),
        }
    }

    /// Opens the question before an act, or says why there is none.
    fn ask(&mut self, question: impl FnOnce(&Page) -> Result<Confirm, String>) -> Requests {
        match self.is_free().and_then(|()| question(self.page())) {
            Ok(mut confirm) => {
                confirm.lines.insert(0, format!("on {}", self.place.name));
                confirm.reason = Input::new(self.place.hands.reason.clone().unwrap_or_default());
                self.overlay = Some(Overlay::Confirm(confirm));
            }
            Err(refusal) => self.say(refusal, true),
        }
        Vec::new()
    }

    fn confirm_key(&mut self, mut confirm: Confirm, key: KeyEvent) -> Requests {
        match confirm.key(key, self.place.hands.require_reason, self.size) {
            Verdict::Open => self.overlay = Some(Overlay::Confirm(confirm)),
            Verdict::Cancelled => self.say("not confirmed, nothing was changed", false),
            Verdict::Confirmed => {
                (self.acting, self.notice) = (Some(confirm.title), None);
                self.asked_to_quit = false;
                return vec![Request::Fetch(Fetch::Act {
                    reason: confirm.reason.text().trim().to_owned(),
                    deed: confirm.deed,
                })];
            }
        }
        Vec::new()
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests;
