//! The settings page.

use axum::response::Response;
use chrono_tz::TZ_VARIANTS;
use maud::html;

use super::{
    parts::text::key,
    settings::{COOKIE, REFRESH, Theme},
    shell::{Nav, page_head},
    view::View,
};

pub(crate) async fn show(view: View) -> Response {
    let settings = &view.settings;
    let content = html! {
        (page_head(&html! { "Settings" }, &html! { "They are kept in this browser, and are nobody else's." }, &html! {}))
        form class="card form" data-settings=(COOKIE) {
            noscript { p class="notice info" { "Settings need JavaScript." } }
            fieldset {
                legend { "Theme" }
                div class="choices" {
                    @for theme in Theme::ALL {
                        label class="choice" {
                            input type="radio" name="theme" value=(theme.as_str()) checked[theme == settings.theme];
                            span { (match theme { Theme::Auto => "As the system", Theme::Light => "Light", Theme::Dark => "Dark" }) }
                        }
                    }
                }
            }
            fieldset {
                legend { "Rows of tables" }
                div class="choices" {
                    label class="choice" { input type="radio" name="density" value="comfortable" checked[!settings.is_dense]; span { "Comfortable" } }
                    label class="choice" { input type="radio" name="density" value="compact" checked[settings.is_dense]; span { "Compact" } }
                }
            }
            label class="field" {
                span { "Time zone of absolute times" }
                select name="zone" {
                    @for zone in TZ_VARIANTS { option selected[zone == settings.zone] { (zone.name()) } }
                }
            }
            p class="hint needs-js" { "This browser is in " button type="button" class="link" data-zone-here { "its own zone" } "." }
            label class="field" {
                span { "Live updates" }
                select name="refresh" {
                    @for seconds in REFRESH {
                        option value=(seconds) selected[settings.refresh == Some(seconds)] { "At most every " (seconds) " s" }
                    }
                    option value="off" selected[settings.refresh.is_none()] { "Off" }
                }
            }
            p class="hint" { "Changes are saved at once. " (key("?")) " shows the keys." }
        }
    };
    view.page(Nav::Settings, "Settings", &content)
}
