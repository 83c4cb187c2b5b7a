//! Pictures of the pages: `cargo xtask screenshots`.

use std::{fs, path::PathBuf};

use serde_json::json;

use crate::{
    browser::{Browser, Theme, Width},
    pages::PAGES,
    shop::Shop,
};

/// The variable with the folder for the pictures.
const FOLDER: &str = "ASYNQ_SCREENSHOTS";

/// The variable with the folder for the pictures of README and docs.
const DOCS: &str = "ASYNQ_SCREENSHOTS_DOCS";

/// The variable with the beginning of the names of the pages that are wanted; all without it.
const ONLY: &str = "ASYNQ_SCREENSHOTS_ONLY";

/// Largest height of a picture in pixels. A page that is longer is cut.
const HEIGHT: f64 = 2600.0;

/// Largest picture in the docs in bytes.
const MOST: usize = 150_000;

/// The pages whose pictures README and docs show: in the light theme, and in the dark one.
const SHOWN: [&[&str]; 2] = [&["overview", "queue", "task", "tree", "types"], &["overview"]];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it writes pictures; `cargo xtask screenshots` runs it"]
async fn pictures_of_all_pages() {
    let folder = |variable| std::env::var_os(variable).map(PathBuf::from);
    let (Some(folder), docs) = (folder(FOLDER), folder(DOCS)) else {
        panic!("{FOLDER} names the folder for the pictures");
    };
    let only = std::env::var(ONLY).unwrap_or_default();
    for folder in [Some(&folder), docs.as_ref()].into_iter().flatten() {
        fs::create_dir_all(folder).unwrap();
    }
    let shop = Shop::open().await;
    let site = shop.site().await;
    let sign_in = shop.site_with_users().await;
    let browser = Browser::open().await;
    for theme in Theme::ALL {
        for width in Width::ALL {
            browser.show(theme, width).await;
            let pages = PAGES.iter().map(|page| (page.name, site.at(page.path), page.shows));
            let login = [("sign-in", sign_in.at("login"), "Sign in")];
            for (name, url, shows) in login.into_iter().chain(pages) {
                if !name.starts_with(&only) {
                    continue;
                }
                browser.go(&url).await;
                browser.until_text(shows).await;
                let file = format!("{name}-{}-{}.png", theme.name(), width.name());
                fs::write(folder.join(&file), browser.picture(HEIGHT).await).unwrap();
                if let Some(docs) = &docs
                    && width == Width::Wide
                    && SHOWN[usize::from(theme == Theme::Dark)].contains(&name)
                {
                    fs::write(docs.join(format!("{name}-{}.jpg", theme.name())), small(&browser).await).unwrap();
                }
            }
        }
    }
}

/// A picture of the upper part of the page that is small enough for the docs.
async fn small(browser: &Browser) -> Vec<u8> {
    for quality in [85, 75, 65, 50, 35] {
        let picture = browser
            .picture_as(json!({"format": "jpeg", "quality": quality}), 900.0)
            .await;
        if picture.len() <= MOST {
            return picture;
        }
    }
    panic!("the picture of {} is too large", browser.path().await);
}
