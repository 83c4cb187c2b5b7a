//! Buttons that change something. They send a request to the API, so that rights, reasons and the audit trail are those of
//! every other client.

use asynq::findings::quote;
use maud::{Markup, html};

use super::{icon::icon, text::Tone};
use crate::pages::view::View;

/// A button that sends a request to the API.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    /// `post`, `put` or `delete`.
    method: &'static str,
    /// The link to a path of the API, as [`View::queue_act`] returns it.
    path: String,
    label: &'static str,
    icon: &'static str,
    tone: Tone,
    /// The question before it, and the effect in a sentence.
    question: Option<(String, String)>,
    typed: Option<String>,
    command: Option<String>,
    done: &'static str,
    go: Option<String>,
    /// The thing that the act is about, if only the picture is shown.
    quiet: Option<String>,
}

impl Act {
    pub(crate) fn post(path: String, label: &'static str, icon: &'static str) -> Self {
        Self::new("post", path, label, icon)
    }

    pub(crate) fn delete(path: String, label: &'static str) -> Self {
        let act = Self::new("delete", path, label, "delete");
        Self { tone: Tone::Bad, ..act }
    }

    fn new(method: &'static str, path: String, label: &'static str, icon: &'static str) -> Self {
        Self {
            method,
            path,
            label,
            icon,
            tone: Tone::Neutral,
            question: None,
            typed: None,
            command: None,
            done: "Done.",
            go: None,
            quiet: None,
        }
    }

    /// Asks before the request is sent: a question, and the effect in a sentence. The dialog has a field for the reason.
    pub(crate) fn asks(mut self, question: impl Into<String>, effect: impl Into<String>) -> Self {
        self.question = Some((question.into(), effect.into()));
        self
    }

    /// Lets the user type a name before the request is sent. It is for acts that cannot be taken back.
    pub(crate) fn typed(mut self, name: impl Into<String>) -> Self {
        self.typed = Some(name.into());
        self
    }

    /// Shows the command of the CLI that does the same.
    pub(crate) fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// Says this when it is done.
    pub(crate) fn says(mut self, done: &'static str) -> Self {
        self.done = done;
        self
    }

    /// Goes to another page when it is done. `{name}` stands for a field of the answer.
    pub(crate) fn goes_to(mut self, link: impl Into<String>) -> Self {
        self.go = Some(link.into());
        self
    }

    /// Gives the button another colour.
    pub(crate) fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    /// Shows only the picture. The label is in the title, with the name of the thing that the act is about.
    pub(crate) fn quiet(mut self, about: impl Into<String>) -> Self {
        self.quiet = Some(about.into());
        self
    }

    /// Returns the button. If the server wants reasons, it asks for one.
    pub(crate) fn button(&self, view: &View) -> Markup {
        let asked = self.question.clone();
        let (question, effect) = asked.unwrap_or_else(|| (format!("{}?", self.label), String::new()));
        let named = self.quiet.as_ref().map(|about| format!("{}: {about}", self.label));
        let asks = self.question.is_some() || view.app.require_reason;
        html! {
            button type="button" class={ "button " (self.tone.class()) @if self.quiet.is_some() { " quiet" } " needs-js" }
                hx-ext="api" hx-swap="none"
                hx-post=[self.path_of("post")] hx-put=[self.path_of("put")] hx-delete=[self.path_of("delete")]
                data-ask=[asks.then_some(&question)] data-effect=[asks.then_some(&effect)]
                data-typed=[self.typed.as_ref()] data-command=[self.command.as_ref().map(|command| view.in_shell(command))]
                data-done=(self.done) data-go=[self.go.as_ref()]
                title=[&named] aria-label=[&named] data-label=(self.label) {
                (icon(self.icon))
                @if self.quiet.is_none() { (self.label) }
            }
        }
    }

    fn path_of(&self, method: &str) -> Option<&str> {
        (self.method == method).then_some(self.path.as_str())
    }
}

/// Returns a name as an argument of a command, quoted for a shell.
pub(crate) fn argument(name: &str) -> String {
    match name.starts_with('-') {
        true => format!("-- {}", quote(name)),
        false => quote(name),
    }
}

/// Returns the field for the reason of a change in a form of its own.
pub(crate) fn reason_field(view: &View) -> Markup {
    let needed = view.app.require_reason;
    html! {
        label class="field" {
            span { "Reason" @if !needed { " " span class="hint" { "(optional, for the audit trail)" } } }
            input name="reason" maxlength="1024" autocomplete="off" required[needed] data-skip-empty;
        }
    }
}
