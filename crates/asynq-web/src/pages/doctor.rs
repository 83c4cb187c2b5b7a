//! The check of the data, on the page of the findings.

use maud::{Markup, html};

use super::{
    assets,
    parts::{
        act::Act,
        icon::icon,
        text::{Tone, command},
    },
    view::View,
};
use crate::access::Role;

/// Returns the card that checks the data. Without JavaScript it shows the command.
pub(crate) fn card(view: &View) -> Markup {
    let may_repair = !view.app.read_only && view.caller.user().highest_role() >= Some(Role::Admin);
    html! {
        section class="card" aria-labelledby="doctor-title" data-doctor {
            div class="card-head" {
                h2 id="doctor-title" { "Doctor" }
                @if may_repair {
                    span data-repair hidden {
                        (Act::post(view.link("api/v1/doctor/fix"), "Repair", "check")
                            .tone(Tone::Warning)
                            .asks("Repair the data?", "What can be repaired safely is repaired, in all queues of which you are an admin. No task is deleted: data that cannot be used go to quarantine.")
                            .typed("repair")
                            .command("asynq doctor --fix")
                            .says("The repair goes on below.")
                            .button(view))
                    }
                }
                button type="button" class="button needs-js" data-stop hidden { (icon("stop")) "Stop" }
                button type="button" class="button primary needs-js" data-go { (icon("search")) "Check the data" }
            }
            p class="hint" { "It looks at each task, list and lock, and tells what does not fit together, with its effect, its usual cause and its repair. It changes nothing." }
            p class="row" { span class="hint" { "In a shell:" } (command(view, "asynq doctor")) }
            p role="status" aria-live="polite" data-told {}
            ul class="findings" data-breaches {}
            template id="breach" {
                li class="finding" {
                    div class="finding-head" { span class="badge" {} a class="name" {} }
                    p data-breach {}
                    dl class="pairs" {
                        dt { "Effect" } dd data-effect {}
                        dt { "Cause" } dd data-cause {}
                        dt { "Repair" } dd data-mends {}
                    }
                }
            }
        }
        script src=(assets::link(&view.paths.base, "doctor.js")) defer {}
    }
}
