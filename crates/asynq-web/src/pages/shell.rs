//! The frame around each page: navigation, search, dialogs.

use axum::response::{IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, html};

use super::{
    assets,
    parts::{icon::icon, text::key},
    settings::{Settings, Theme},
    view::View,
};
use crate::app::Place;

/// The pages of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nav {
    Overview,
    Findings,
    Types,
    Servers,
    Tree,
    Schedulers,
    Acts,
    Audit,
    Redis,
    Settings,
    /// A page that is in no menu.
    None,
}

/// A line of the navigation: page, path, picture, label, and the key after `g`.
const NAV: [(Nav, &str, &str, &str, &str); 10] = [
    (Nav::Overview, "", "overview", "Overview", "o"),
    (Nav::Findings, "findings", "findings", "Findings", "f"),
    (Nav::Types, "types", "types", "Task types", "y"),
    (Nav::Servers, "servers", "servers", "Servers", "s"),
    (Nav::Tree, "tree", "tree", "Supervision tree", "t"),
    (Nav::Schedulers, "schedulers", "schedulers", "Schedulers", "c"),
    (Nav::Acts, "acts", "play", "Bulk acts", "b"),
    (Nav::Audit, "audit", "audit", "Audit trail", "a"),
    (Nav::Redis, "redis", "redis", "Redis", "r"),
    (Nav::Settings, "settings", "settings", "Settings", "e"),
];

/// Settings of htmx: no code in attributes, no pages in the browser's storage, no styles of its own.
const HTMX: &str = r#"{"allowEval":false,"allowScriptTags":false,"historyCacheSize":0,"includeIndicatorStyles":false,"selfRequestsOnly":true,"timeout":60000,"responseHandling":[{"code":"204","swap":false},{"code":"[23]..","swap":true},{"code":"[45]..","swap":false,"error":true}]}"#;

/// The head of an HTML page.
pub(crate) fn head(base: &str, title: &str, csrf: Option<&str>) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="robots" content="noindex";
            meta name="htmx-config" content=(HTMX);
            @if let Some(csrf) = csrf { meta name="csrf-token" content=(csrf); }
            title { (title) " – Asynq" }
            link rel="icon" type="image/svg+xml" href=(assets::link(base, "icon.svg"));
            link rel="stylesheet" href=(assets::link(base, "app.css"));
            script src=(assets::link(base, "htmx.js")) defer {}
            script src=(assets::link(base, "idiomorph.js")) defer {}
            script src=(assets::link(base, "app.js")) defer {}
            script src=(assets::link(base, "tasks.js")) defer {}
            script src=(assets::link(base, "task.js")) defer {}
        }
    }
}

/// A page around its content.
pub(crate) fn document(settings: &Settings, head: &Markup, body: &Markup) -> Markup {
    let theme = (settings.theme != Theme::Auto).then(|| settings.theme.as_str());
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[theme] data-density=[settings.is_dense.then_some("compact")] {
            (head)
            (body)
        }
    }
}

impl View {
    /// Returns a page: its content in the frame, with its place in the navigation and its title.
    pub(crate) fn page(&self, nav: Nav, title: &str, content: &Markup) -> Response {
        let csrf = self.caller.session().map(|session| session.csrf.as_str());
        let body = html! {
            body data-environment=[self.environment()] data-base=(self.paths.base) data-refresh=[self.settings.refresh] data-reason=[self.app.require_reason.then_some("needed")] {
                a class="skip" href="#main" { "Skip to the content" }
                (self.top(csrf.is_some()))
                div id="outage" class="banner" role="alert" hidden {}
                div class="frame" {
                    (self.navigation(nav))
                    main id="main" tabindex="-1" { (content) }
                }
                div id="toasts" role="status" aria-live="polite" {}
                (dialogs())
            }
        };
        document(&self.settings, &head(&self.paths.base, title, csrf), &body).into_response()
    }

    fn top(&self, has_session: bool) -> Markup {
        html! {
            header class="top" {
                a class="brand" href=(self.paths.home) {
                    svg viewBox="0 0 32 32" aria-hidden="true" { rect width="32" height="32" rx="8" {} path d="M7 11h11M7 21h7M22 11l4 5-4 5M19 16h6" {} }
                    span { "Asynq" }
                }
                (self.contexts())
                form class="search" action=(self.link("find")) method="get" role="search" {
                    (icon("search"))
                    input type="search" name="q" aria-label="Find a queue, a task or a page" placeholder="Find a queue, a task, a page" autocomplete="off" maxlength="256";
                    span class="search-keys needs-js" aria-hidden="true" { (key("⌘K")) }
                }
                div class="who" {
                    @if self.app.read_only { span class="badge info" title="The server refuses all changes." { "read-only" } }
                    span class="user" title="Your name in the audit trail" { (icon("user")) span { (self.caller.user().name) } }
                    @if has_session {
                        form method="post" action=(self.link("logout")) {
                            button class="button quiet" aria-label="Sign out" title="Sign out" { (icon("leave")) }
                        }
                    }
                }
            }
        }
    }

    /// Returns the name of the context with its environment, and the way to the others.
    fn contexts(&self) -> Markup {
        let contexts = &self.app.contexts;
        let Some(here) = contexts
            .get(self.app.context)
            .filter(|here| !here.name.is_empty() || contexts.len() > 1)
        else {
            return html! {};
        };
        if contexts.len() == 1 {
            return html! { span class="context" { (place(here)) } };
        }
        html! {
            details class="context menu" {
                summary aria-label={ "Context " (name_of(here)) ", choose another one" } { (place(here)) (icon("down")) }
                ul {
                    @for (index, context) in contexts.iter().enumerate() {
                        li { a href=(self.context_link(index)) aria-current=[(index == self.app.context).then_some("true")] { (place(context)) } }
                    }
                }
            }
        }
    }

    fn navigation(&self, nav: Nav) -> Markup {
        html! {
            nav class="side" aria-label="Pages" {
                ul {
                    @for (page, path, picture, label, shortcut) in NAV {
                        @if self.offers(page) {
                            li {
                                a href=(self.nav_link(path)) aria-current=[(page == nav).then_some("page")] data-key=(shortcut) {
                                    (icon(picture)) span { (label) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn environment(&self) -> Option<&'static str> {
        let here = self.app.contexts.get(self.app.context)?;
        here.environment.map(|environment| environment.as_str())
    }

    fn nav_link(&self, path: &str) -> String {
        match path {
            "" => self.paths.home.clone(),
            path => self.link(path),
        }
    }

    /// Returns whether the user may open a page, and there is something on it.
    fn offers(&self, page: Nav) -> bool {
        match page {
            Nav::Tree => self.sees_everything(),
            Nav::Redis => self.sees_everything() && self.app.redis.is_some(),
            Nav::Acts => self.caller.user().highest_role() >= Some(crate::access::Role::Operator),
            _ => true,
        }
    }
}

fn name_of(place: &Place) -> &str {
    match place.name.as_str() {
        "" => "first",
        name => name,
    }
}

fn place(place: &Place) -> Markup {
    html! {
        span class="context-name" { (name_of(place)) }
        @if let Some(environment) = place.environment { span class={ "environment " (environment) } { (environment) } }
    }
}

/// A part of a page that is asked for again when one of these events of `/api/v1/events` comes, after each act, and that changes
/// only where it differs. Its id must be unique on the page.
pub(crate) fn live(id: &str, events: &[&str], content: &Markup) -> Markup {
    html! {
        div id=(id) data-live=(events.join(" ")) hx-get="" hx-trigger="asynq:refresh from:body, asynq:changed" hx-select={ "#" (id) } hx-ext="morph" hx-swap="morph:outerHTML" {
            (content)
        }
    }
}

/// The head line of a page, with the acts at its end.
pub(crate) fn page_head(title: &Markup, below: &Markup, acts: &Markup) -> Markup {
    html! {
        div class="page-head" {
            div class="page-title" { h1 { (title) } p { (below) } }
            div class="page-acts" { (acts) }
        }
    }
}

/// The dialogs that all pages share: the question before an act, the command palette, the sheet of shortcuts.
fn dialogs() -> Markup {
    html! {
        dialog id="ask" aria-labelledby="ask-title" {
            form method="dialog" {
                h2 id="ask-title" {}
                p id="ask-effect" {}
                p id="ask-problem" class="notice bad" role="alert" hidden {}
                label class="field" id="ask-typed-field" hidden {
                    span { "Type " code id="ask-typed-name" {} " to confirm" }
                    input id="ask-typed" autocomplete="off" spellcheck="false";
                }
                label class="field" {
                    span { "Reason " span class="hint" id="ask-reason-hint" { "(optional, for the audit trail)" } }
                    input id="ask-reason" maxlength="1024" autocomplete="off";
                }
                p id="ask-command" class="dialog-command" hidden { "In a shell: " code {} }
                div class="dialog-acts" {
                    button type="button" class="button" data-close { "Cancel" }
                    button type="submit" class="button primary" id="ask-go" { "Do it" }
                }
            }
        }
        dialog id="palette" aria-label="Command palette" {
            form method="dialog" {
                input id="palette-input" role="combobox" aria-expanded="true" aria-controls="palette-list" aria-autocomplete="list"
                    aria-label="Find a queue, a task or a page" placeholder="Find a queue, a task, a page, or an act" autocomplete="off" spellcheck="false";
                ul id="palette-list" role="listbox" aria-label="Results" {}
                p class="palette-hint" aria-hidden="true" { (key("↑")) (key("↓")) " choose " (key("Enter")) " open " (key("Esc")) " close" }
            }
        }
        dialog id="shortcuts" aria-labelledby="shortcuts-title" {
            form method="dialog" {
                h2 id="shortcuts-title" { "Keyboard" }
                dl class="keys" {
                    div { dt { (key("⌘K")) " or " (key("Ctrl K")) } dd { "Command palette" } }
                    div { dt { (key("/")) } dd { "Go to the filter or the search" } }
                    div { dt { (key("j")) (key("k")) } dd { "Next and previous row" } }
                    div { dt { (key("Enter")) } dd { "Open the row" } }
                    div { dt { (key("x")) } dd { "Select the row" } }
                    div { dt { (key("Esc")) } dd { "Close, or clear the selection" } }
                    @for (_, _, _, label, shortcut) in NAV {
                        div { dt { (key("g")) (key(shortcut)) } dd { (label) } }
                    }
                    div { dt { (key("?")) } dd { "This sheet" } }
                }
                div class="dialog-acts" { button class="button" { "Close" } }
            }
        }
    }
}
