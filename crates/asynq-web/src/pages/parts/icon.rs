//! Small pictures beside words. Readers of a screen do not hear them.

use maud::{Markup, html};

/// Returns a picture by its name. An unknown name is a dot.
pub(crate) fn icon(name: &str) -> Markup {
    let path = match name {
        "overview" => "M3 3h7v9H3zM14 3h7v5h-7zM14 12h7v9h-7zM3 16h7v5H3z",
        "queues" => "M4 6h16M4 12h16M4 18h10",
        "findings" => "M12 3 2.500 20h19zM12 10v4M12 17.200v.1",
        "types" => "M3 21h18M6 21V10M11 21V4M16 21v-8M21 21V8",
        "servers" => "M3 4h18v7H3zM3 13h18v7H3zM7 7.500v.1M7 16.500v.1",
        "schedulers" => "M12 3a9 9 0 1 0 .1 0zM12 7v5l3.500 2",
        "tree" => "M9 3h6v5H9zM3 16h6v5H3zM15 16h6v5h-6zM12 8v4M6 16v-4h12v4",
        "audit" => "M6 3h9l4 4v14H6zM14 3v5h5M9 13h7M9 17h7",
        "redis" => {
            "M12 3c5 0 8 1.500 8 3.500S17 10 12 10 4 8.500 4 6.500 7 3 12 3zM4 6.500v11C4 19.500 7 21 12 21s8-1.500 8-3.500v-11M4 12c0 2 3 3.500 8 3.500s8-1.500 8-3.500"
        }
        "settings" => "M4 7h10M18 7h2M4 17h2M10 17h10M14 4.500v5M10 14.500v5",
        "search" => "M10.500 4a6.500 6.500 0 1 0 .1 0zM15.500 15.500 21 21",
        "copy" => "M9 9h11v11H9zM5 15H4V4h11v1",
        "play" => "M7 4v16l13-8z",
        "pause" => "M9 5v14M15 5v14",
        "delete" => "M4 7h16M9 7V4h6v3M6 7l1 14h10l1-14M10 11v6M14 11v6",
        "archive" => "M3 4h18v5H3zM5 9v11h14V9M10 13h4",
        "edit" => "M4 20h4L20 8l-4-4L4 16zM13 7l4 4",
        "close" => "M6 6l12 12M18 6 6 18",
        "stop" => "M6 6h12v12H6z",
        "check" => "M4 12.500 9.500 18 20 6.500",
        "menu" => "M4 6h16M4 12h16M4 18h16",
        "download" => "M12 4v11M7 10.500l5 5 5-5M5 20h14",
        "down" => "M6 9l6 6 6-6",
        "right" => "M9 6l6 6-6 6",
        "user" => "M12 4a4 4 0 1 0 .1 0zM4 21c0-4 3.500-6.500 8-6.500s8 2.500 8 6.500",
        "leave" => "M10 4H4v16h6M9 12h12M17 8l4 4-4 4",
        "refresh" => "M20 11a8 8 0 1 0-1.500 6M20 4v7h-7",
        "clock" => "M12 3a9 9 0 1 0 .1 0zM12 7v5h4",
        _ => "M12 11a1 1 0 1 0 .1 0z",
    };
    html! {
        svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false" { path d=(path) {} }
    }
}
