//! The page of the servers of Redis.

use ratatui::{Frame, layout::Rect, text::Line};

use super::{
    page_text::{scrolled, wrap},
    style,
};
use crate::{
    dash::{
        app::App,
        model::{Lines, RedisServer},
        pages::Page,
    },
    output::one_line,
};

/// The lines that are shown at first of each server.
const FIRST: [(&str, &str); 12] = [
    ("Version", "redis_version"),
    ("Mode", "redis_mode"),
    ("Role", "role"),
    ("Uptime (days)", "uptime_in_days"),
    ("Clients", "connected_clients"),
    ("Memory", "used_memory_human"),
    ("Peak memory", "used_memory_peak_human"),
    ("Largest memory", "maxmemory_human"),
    ("Eviction", "maxmemory_policy"),
    ("Commands/s", "instantaneous_ops_per_sec"),
    ("Evicted keys", "evicted_keys"),
    ("Last save", "rdb_last_bgsave_status"),
];

pub(crate) fn draw(
    app: &App,
    page: &Page,
    servers: &[RedisServer],
    cluster: Option<&Lines>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let width = usize::from(area.width);
    let mut lines: Vec<Line<'static>> = Vec::new();
    let field = |lines: &mut Vec<Line<'static>>, name: &str, value: &str| {
        let text = format!("{:<28}{}", one_line(name), one_line(value));
        lines.extend(wrap(&text, width).into_iter().map(Line::raw));
    };
    if page.read_at.is_none() {
        lines.push(Line::raw("Reading."));
    }
    if let Some(cluster) = cluster {
        lines.push(Line::styled("Cluster", style::TITLE));
        for (name, value) in cluster {
            field(&mut lines, name, value);
        }
        lines.push(Line::raw(""));
    }
    for (name, info) in servers {
        let title = name
            .as_deref()
            .map_or("Redis".to_owned(), |name| format!("Redis {}", one_line(name)));
        lines.push(Line::styled(title, style::TITLE));
        match info {
            Err(error) => lines.extend(wrap(&format!("! {error}"), width).into_iter().map(Line::raw)),
            Ok(info) => {
                for (name, key) in FIRST {
                    if let Some(value) = info.get(key) {
                        field(&mut lines, name, value);
                    }
                }
                // In a cluster all lines of all servers are too many.
                if cluster.is_none() {
                    lines.push(Line::raw(""));
                    for (name, value) in info {
                        field(&mut lines, name, value);
                    }
                }
            }
        }
        lines.push(Line::raw(""));
    }
    scrolled(app, page.cursor, &[&lines], frame, area);
}
