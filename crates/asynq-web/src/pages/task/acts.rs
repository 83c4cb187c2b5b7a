//! The acts on a task, with their commands.

use asynq::{TaskState, findings::quote};
use maud::{Markup, html};

use super::subject::{Fitting, Subject, command};
use crate::pages::{
    parts::{
        act::{Act, reason_field},
        icon::icon,
        text::{Tone, command as shell_command},
    },
    view::View,
};

/// Returns the buttons of the acts that fit the state and the role. Destructive ones stand apart.
pub(super) fn buttons(subject: &Subject<'_>) -> Markup {
    if !subject.may_act() {
        return html! {};
    }
    let (view, queue, id) = (subject.view, subject.queue_name(), subject.id());
    html! {
        @if subject.fits(Fitting::Run) {
            (Act::post(subject.act("/run"), "Run now", "play").command(command("run", queue, id)).says("The task is pending now.").button(view))
        }
        @if subject.fits(Fitting::Reschedule) { (opener("reschedule-dialog", "clock", "Reschedule")) }
        @if subject.fits(Fitting::Edit) { (opener("edit-dialog", "edit", "Edit payload")) }
        (opener("copy-dialog", "copy", "Copy"))
        span class="apart" {
            @if subject.fits(Fitting::Cancel) {
                button type="button" class="button bad needs-js" data-open="cancel-dialog" { (icon("stop")) "Cancel" }
            }
            @if subject.fits(Fitting::Archive) {
                (Act::post(subject.act("/archive"), "Archive", "archive")
                    .asks("Archive this task?", "It does not run any more unless somebody runs it.")
                    .command(command("archive", queue, id)).says("The task is archived.").button(view))
            }
            @if subject.fits(Fitting::Delete) { (delete(view, queue, id, subject.task.state.as_str())) }
        }
    }
}

/// Returns the button that deletes a task, and then shows the other tasks of its state.
pub(super) fn delete(view: &View, queue: &str, id: &str, state: &str) -> Markup {
    let list = match state {
        "" => view.queue_link(queue),
        state => view.state_link(queue, state),
    };
    Act::delete(view.task_act(queue, id, ""), "Delete")
        .asks(
            "Delete this task?",
            "It is gone with its result and its record. This cannot be taken back.",
        )
        .command(command("delete", queue, id))
        .says("The task is deleted.")
        .tone(Tone::Bad)
        .goes_to(list)
        .button(view)
}

fn opener(dialog: &str, picture: &str, label: &str) -> Markup {
    html! { button type="button" class="button needs-js" data-open=(dialog) { (icon(picture)) (label) } }
}

/// Returns the dialogs of the acts that need more than a question, but for those about payloads.
pub(super) fn dialogs(subject: &Subject<'_>) -> Markup {
    if !subject.may_act() {
        return html! {};
    }
    html! { (cancel(subject)) (reschedule(subject)) }
}

fn cancel(subject: &Subject<'_>) -> Markup {
    let fates = [
        (
            "retry",
            "Retry it",
            "as after any failure, until its retries are used up",
        ),
        (
            "archive",
            "Archive it",
            "so that it can be looked at, and run again by hand",
        ),
        ("delete", "Delete it", "which cannot be taken back"),
    ];
    html! {
        dialog id="cancel-dialog" aria-labelledby="cancel-title" {
            form hx-ext="api" hx-post=(subject.act("/cancel")) hx-swap="none" data-done="The server was asked to end the run." {
                h2 id="cancel-title" { "Cancel this run?" }
                p { "The server that runs the task ends the run. Then:" }
                fieldset class="fates" {
                    legend class="sr" { "Fate of the task" }
                    @for (index, (value, label, hint)) in fates.into_iter().enumerate() {
                        label class="choice" { input type="radio" name="then" value=(value) checked[index == 0]; span { (label) " " span class="hint" { (hint) } } }
                    }
                }
                p class="hint" { "A server of Go retries the task whatever is chosen here." }
                (reason_field(subject.view))
                (end(subject.view, &cancel_command(subject), "Cancel the run", "bad"))
            }
        }
    }
}

fn cancel_command(subject: &Subject<'_>) -> String {
    format!(
        "asynq task cancel --queue={} --then=retry -- {}",
        quote(subject.queue_name()),
        quote(subject.id())
    )
}

fn reschedule(subject: &Subject<'_>) -> Markup {
    html! {
        dialog id="reschedule-dialog" aria-labelledby="reschedule-title" {
            form hx-ext="api" hx-post=(subject.act("/reschedule")) hx-swap="none" data-done="The task has another time." {
                h2 id="reschedule-title" { "Reschedule this task" }
                @if subject.task.state == TaskState::Archived { p { "It leaves the archive, and is scheduled." } }
                label class="field" {
                    span { "Time of the next run " span class="hint" { "in the time zone of this browser; one that has passed is now" } }
                    input type="datetime-local" name="at" step="1" data-type="time" required;
                }
                (reason_field(subject.view))
                (end(subject.view, &format!("{} --in=10m", command("edit", subject.queue_name(), subject.id())), "Reschedule", "primary"))
            }
        }
    }
}

/// Returns the end of a dialog: the problem, the command, the buttons.
pub(super) fn end(view: &View, command: &str, label: &str, class: &str) -> Markup {
    html! {
        p class="notice bad" data-problem role="alert" hidden {}
        p class="dialog-command" { "In a shell: " code { (view.in_shell(command)) } }
        div class="dialog-acts" {
            button type="button" class="button" data-close { "Close" }
            button class={ "button primary " (class) } { (label) }
        }
    }
}

/// Returns the commands of the CLI for this task.
pub(super) fn commands(subject: &Subject<'_>) -> Markup {
    let (queue, id) = (subject.queue_name(), subject.id());
    let mut commands = vec![
        ("Look at it", command("inspect", queue, id)),
        ("Wait for its end", command("follow", queue, id)),
    ];
    for (fitting, label, act) in [
        (Fitting::Run, "Run it now", "run"),
        (Fitting::Archive, "Archive it", "archive"),
        (Fitting::Delete, "Delete it", "delete"),
    ] {
        if subject.fits(fitting) {
            commands.push((label, command(act, queue, id)));
        }
    }
    if subject.fits(Fitting::Cancel) {
        commands.push(("Cancel its run", cancel_command(subject)));
    }
    if subject.fits(Fitting::Reschedule) {
        commands.push(("Change its time", format!("{} --in=10m", command("edit", queue, id))));
    }
    if subject.fits(Fitting::Edit) {
        commands.push((
            "Change its payload",
            format!("{} --payload-file=FILE", command("edit", queue, id)),
        ));
    }
    commands.push(("Copy it", command("copy", queue, id)));
    html! {
        section class="card" aria-labelledby="commands-title" {
            details {
                summary { h2 id="commands-title" { "In a shell" } }
                dl class="commands" {
                    @for (label, command) in &commands { div { dt { (label) } dd { (shell_command(subject.view, command)) } } }
                }
            }
        }
    }
}
