//! The design system on one page: what the pages are made of.

use axum::response::Response;
use chrono::TimeDelta;
use maud::{Markup, html};

use super::{
    parts::{
        act::Act,
        chart::{Form, Series, count_label, meter, over_time, spark},
        data::block,
        format,
        icon::icon,
        text::{Tone, badge, command, dash, empty, figure, id, notice, number, state, time},
    },
    shell::{Nav, page_head},
    view::View,
};
use crate::records::{Data, Shown};

const TONES: [Tone; 5] = [Tone::Neutral, Tone::Info, Tone::Good, Tone::Warning, Tone::Bad];
const STATES: [&str; 7] = [
    "pending",
    "active",
    "scheduled",
    "retry",
    "archived",
    "completed",
    "aggregating",
];
const COLOURS: [&str; 14] = [
    "ground",
    "surface",
    "raised",
    "line",
    "line-strong",
    "text",
    "text-soft",
    "accent",
    "accent-soft",
    "info",
    "good",
    "warning",
    "bad",
    "focus",
];
const ICONS: [&str; 26] = [
    "overview",
    "queues",
    "findings",
    "types",
    "servers",
    "schedulers",
    "tree",
    "audit",
    "redis",
    "settings",
    "search",
    "copy",
    "play",
    "pause",
    "delete",
    "archive",
    "edit",
    "close",
    "stop",
    "check",
    "menu",
    "down",
    "right",
    "user",
    "leave",
    "clock",
];

const DATA: &str = r#"{"id":12345678901234567890123,"to":"ann@example.com","urgent":true,"lines":[{"sku":"A-1","price":19.90}],"note":null}"#;

pub(crate) async fn show(view: View) -> Response {
    let content = html! {
        (page_head(
            &html! { "Design" },
            &html! { "What the pages are made of. Rules stand in " code { "assets/app.css" } ", components in " code { "src/pages/parts" } "." },
            &html! {},
        ))
        (section("Colours", &html! {
            div class="swatches" { @for name in COLOURS { div class="swatch" { span class={ "swatch-" (name) } {} code { (name) } } } }
        }))
        (section("Type", &html! {
            h1 { "Heading of a page, 22 px" }
            h2 { "Heading of a card, 15 px" }
            p { "Text, 14 px. Numbers in columns have equal widths: " span class="num" { "1,234,567" } }
            p class="hint" { "A hint, 12.5 px" }
            p { code { "code, 13 px" } }
        }))
        (section("Words and marks", &html! {
            p class="row" { @for tone in TONES { (badge(tone, tone.class())) } }
            p class="row" { @for name in STATES { (state(name)) } }
            p class="row" { (id("5e1a9f0c-8a36-4c51-9a1a-62dbd44ea14b")) (time(&view, view.now - TimeDelta::minutes(200))) (number(1_234_567)) (number(0)) (dash()) }
            p { (command(&view, "asynq queue resume default")) }
            p class="row" { @for name in ICONS { span title=(name) { (icon(name)) } } }
        }))
        (section("Acts", &html! {
            p class="row" {
                button class="button primary" { "Primary" }
                (Act::post(String::new(), "Plain", "play").asks("Is this a question?", "This is its effect.").command("asynq --help").button(&view))
                (Act::delete(String::new(), "Delete").asks("Delete it?", "It cannot be taken back.").typed("default").button(&view))
                (Act::post(String::new(), "Quiet", "pause").quiet("default").button(&view))
                button class="button" disabled { "Disabled" }
            }
            div class="danger-zone" { p { "Acts that cannot be taken back stand apart." } button class="button bad" { (icon("delete")) "Delete" } }
        }))
        (section("Messages", &html! {
            @for tone in TONES { (notice(tone, &html! { "A message of the kind " (tone.class()) "." })) }
            (empty("Nothing here yet", "And what to do about it."))
            div class="skeleton" aria-hidden="true" { span {} span {} span {} }
        }))
        (section("Data", &html! {
            (block(&Shown::Whole(Data::of(DATA.as_bytes(), false))))
            (block(&Shown::Whole(Data::of(b"\xff\x00\x01", false))))
        }))
        (section("Figures and charts", &charts(&view)))
        (section("Form", &html! {
            form class="form" {
                label class="field" { span { "Field" } input placeholder="placeholder"; }
                label class="field" { span { "Choice" } select { option { "One" } option { "Two" } } }
                label class="field" { span { "Text" } textarea rows="3" { "{\n  \"id\": 1\n}" } }
                label class="choice" { input type="checkbox"; span { "A choice" } }
            }
        }))
        (section("Tabs", &html! {
            nav class="tabs" aria-label="Example" {
                a href="#" aria-current="page" { "Pending " span class="count" { "12" } } a href="#" { "Retry " span class="count" { "3" } } a href="#" { "Archived " span class="count zero" { "0" } }
            }
        }))
    };
    view.page(Nav::None, "Design", &content)
}

fn section(title: &str, content: &Markup) -> Markup {
    html! { section class="card" { h2 { (title) } (content) } }
}

fn charts(view: &View) -> Markup {
    let times: Vec<_> = (0..60)
        .map(|minute| view.now - TimeDelta::minutes(60 - minute))
        .collect();
    let wave = |base: u32, every: u32| (0..60_u32).map(|index| Some(f64::from(base + index % every))).collect();
    let series = [
        Series {
            name: "done",
            class: "done",
            values: wave(10, 17),
        },
        Series {
            name: "retried",
            class: "retried",
            values: wave(1, 5),
        },
        Series {
            name: "archived",
            class: "archived",
            values: wave(0, 3),
        },
    ];
    html! {
        dl class="figures" {
            (figure("Pending", &html! { (format::number(1234)) }, &html! { "tasks" }))
            (figure("Latency", &html! { (format::seconds(4.2)) }, &html! { "of the oldest" }))
        }
        p { (spark(&[1, 4, 2, 8, 5, 7, 3, 9, 12, 4], "an example")) }
        p { (meter(0.4, "40 %")) }
        (over_time(view, "Example of bars", &times, &series, Form::Bars, count_label))
        (over_time(view, "Example of lines", &times, &series, Form::Lines, format::seconds))
    }
}
