//! Accessibility, as axe-core sees it.

use std::{path::PathBuf, sync::OnceLock};

use serde_json::{Value, json};

use crate::{
    browser::{Browser, Theme, Width},
    site::Site,
};

/// The variable with the path of axe-core, which `cargo xtask test` sets.
const VARIABLE: &str = "ASYNQ_AXE";

/// The rules of WCAG, and what axe-core itself thinks good.
const TAGS: [&str; 6] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/// Returns axe-core: the file of the variable, or the one that xtask has installed.
fn axe() -> &'static str {
    static AXE: OnceLock<String> = OnceLock::new();
    AXE.get_or_init(|| {
        let chosen = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        let path = chosen.map(PathBuf::from).or_else(installed).unwrap_or_else(|| {
            panic!("there is no axe-core: `cargo xtask test` installs it, and {VARIABLE} names the file axe.min.js")
        });
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}

/// The file in the folder in which `cargo xtask test` installs programs.
fn installed() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let tools = program
        .ancestors()
        .find_map(|folder| std::fs::read_dir(folder.join("tools")).ok())?;
    let libraries = tools
        .filter_map(|tool| std::fs::read_dir(tool.ok()?.path().join("lib")).ok())
        .flatten();
    libraries
        .filter_map(|library| {
            Some(
                library
                    .ok()?
                    .path()
                    .join("site-packages/axe_playwright_python/axe.min.js"),
            )
        })
        .find(|path| path.is_file())
}

/// The findings of axe-core on a page.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) serious: Vec<String>,
    pub(crate) others: Vec<String>,
}

/// Checks that axe-core finds nothing serious on the page.
pub(crate) async fn check(browser: &Browser, page: &str) {
    let found = find(browser, page).await;
    for other in &found.others {
        println!("{other}");
    }
    assert!(found.serious.is_empty(), "{}", found.serious.join("\n"));
}

/// Lets axe-core look at the page.
pub(crate) async fn find(browser: &Browser, page: &str) -> Found {
    browser.cdp("Runtime.evaluate", json!({"expression": axe()})).await;
    let script = "const [tags, done] = arguments;\
                  axe.run(document, {runOnly: tags, resultTypes: ['violations']}).then(done, error => done(String(error)))";
    let found = browser.client.execute_async(script, vec![json!(TAGS)]).await.unwrap();
    let Some(violations) = found["violations"].as_array() else {
        panic!("{page}: axe-core fails: {found}");
    };
    assert!(found["toolOptions"].is_object(), "{page}: axe-core has looked at it");
    let described = |violation: &Value| {
        let nodes = violation["nodes"].as_array().cloned().unwrap_or_default();
        let places = nodes
            .iter()
            .take(4)
            .map(|node| format!("{} {}", node["target"], node["html"]));
        format!(
            "{page}: {} {}: {} ({} places): {}",
            violation["impact"].as_str().unwrap_or("-"),
            violation["id"].as_str().unwrap_or_default(),
            violation["help"].as_str().unwrap_or_default(),
            nodes.len(),
            places.collect::<Vec<_>>().join(" | ")
        )
    };
    let is_serious = |violation: &&Value| matches!(violation["impact"].as_str(), Some("serious" | "critical"));
    let (serious, others): (Vec<_>, Vec<_>) = violations.iter().partition(is_serious);
    Found {
        serious: serious.into_iter().map(described).collect(),
        others: others.into_iter().map(described).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sign_in_is_accessible() {
    let site = Site::with_users().await;
    let browser = Browser::open().await;
    for theme in Theme::ALL {
        for width in Width::ALL {
            browser.show(theme, width).await;
            browser.go(&site.at("login")).await;
            check(&browser, &format!("login, {}, {}", theme.name(), width.name())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_accessible_is_found() {
    let site = Site::with_users().await;
    let browser = Browser::open().await;
    browser.go(&site.at("login")).await;
    let remove =
        "for (const label of document.querySelectorAll('label')) label.replaceWith(label.querySelector('input'))";
    browser.js(remove).await;
    let found = find(&browser, "login").await;
    assert!(
        found
            .serious
            .iter()
            .any(|violation| violation.contains("critical label")),
        "{found:?}"
    );
}
