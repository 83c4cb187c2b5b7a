//! The files that pages load: style, script, pictures. They are part of the program.

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest as _, Sha256};
use std::{fmt::Write as _, sync::LazyLock};

use crate::{app::App, problem::Problem};

/// A file.
struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 8] = [
    Asset {
        name: "app.css",
        kind: "text/css; charset=utf-8",
        content: include_str!("../../assets/app.css"),
    },
    Asset {
        name: "app.js",
        kind: "text/javascript; charset=utf-8",
        content: include_str!("../../assets/app.js"),
    },
    Asset {
        name: "tasks.js",
        kind: "text/javascript; charset=utf-8",
        content: include_str!("../../assets/tasks.js"),
    },
    Asset {
        name: "task.js",
        kind: "text/javascript; charset=utf-8",
        content: include_str!("../../assets/task.js"),
    },
    Asset {
        name: "doctor.js",
        kind: "text/javascript; charset=utf-8",
        content: include_str!("../../assets/doctor.js"),
    },
    Asset {
        name: "htmx.js",
        kind: "text/javascript; charset=utf-8",
        content: include_str!("../../assets/vendor/htmx-2.0.11.min.js"),
    },
    Asset {
        name: "idiomorph.js",
        kind: "text/javascript; charset=utf-8",
        content: include_str!("../../assets/vendor/idiomorph-0.8.0.min.js"),
    },
    Asset {
        name: "icon.svg",
        kind: "image/svg+xml",
        content: include_str!("../../assets/icon.svg"),
    },
];

/// Tells this build's files from those of another one, so that browsers can keep them for ever.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in &ASSETS {
        hash.update(asset.content);
    }
    let digest = hash.finalize();
    digest.iter().take(6).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
});

/// Returns the link to a file from a page.
pub(crate) fn link(base: &str, name: &str) -> String {
    format!("{base}assets/{}/{name}", *VERSION)
}

pub(crate) fn router() -> Router<App> {
    Router::new().route("/assets/{version}/{name}", get(serve))
}

async fn serve(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Problem::not_found("there is no such file").into_response();
    };
    let tag = format!("\"{}\"", *VERSION);
    // During an update a page of the old version may reach the new one.
    let cache = match version == *VERSION {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let about = [
        (header::CACHE_CONTROL, cache),
        (header::ETAG, tag.as_str()),
        (header::CONTENT_TYPE, asset.kind),
    ];
    match headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known == tag.as_str())
    {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => (about, asset.content).into_response(),
    }
}
