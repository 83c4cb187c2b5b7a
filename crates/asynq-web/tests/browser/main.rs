//! The pages in a real browser without a window.
//!
//! `cargo xtask test` installs chromium, chromedriver and axe-core. A test without them fails.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod acts;
mod axe;
mod browser;
mod driver;
mod hostile;
mod keyboard;
mod live;
mod pages;
mod rights;
mod screenshots;
mod shop;
mod sign_in;
mod site;
mod weight;
