//! The page of the sign-in.

use maud::{Markup, html};

use super::{paths::Paths, settings::Settings, shell};

/// Returns the page, with the reason why the last attempt failed, and the page to go to afterwards.
pub(crate) fn document(paths: &Paths, settings: &Settings, fault: &str, next: &str) -> Markup {
    let action = match next {
        "" => "login".to_owned(),
        next => form_urlencoded::Serializer::for_suffix("login?".to_owned(), "login?".len())
            .append_pair("next", next)
            .finish(),
    };
    let body = html! {
        body class="plain" {
            main id="main" class="card sign-in" {
                h1 {
                    svg class="logo" viewBox="0 0 32 32" aria-hidden="true" { rect width="32" height="32" rx="8" {} path d="M7 11h11M7 21h7M22 11l4 5-4 5M19 16h6" {} }
                    "Asynq"
                }
                form method="post" action=(action) {
                    @if !fault.is_empty() { p class="notice bad" role="alert" { (fault) } }
                    label class="field" { span { "Name" } input name="name" autocomplete="username" required autofocus; }
                    label class="field" { span { "Password" } input name="password" type="password" autocomplete="current-password" required; }
                    button class="button primary wide" { "Sign in" }
                }
            }
        }
    };
    shell::document(settings, &shell::head(&paths.base, "Sign in", None), &body)
}
