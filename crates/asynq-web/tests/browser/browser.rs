//! A real browser without a window, and what tests do with it.

use std::{fmt::Write as _, time::Duration};

use axum::http::Method;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fantoccini::{
    Client, ClientBuilder,
    actions::{InputSource as _, KeyAction, KeyActions},
    error::CmdError,
    key::Key,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

use crate::driver::{self, Driver};

/// Longest wait for anything on a page. Far more than it takes: tests share the machine with others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Time between two looks at a page.
const LOOK: Duration = Duration::from_millis(40);

/// Browsers at a time in one test program: each has half a dozen processes.
static BROWSERS: Semaphore = Semaphore::const_new(2);

/// A colour scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    Light,
    Dark,
}

impl Theme {
    pub(crate) const ALL: [Self; 2] = [Self::Light, Self::Dark];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A window's size in CSS pixels, and its name in the names of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Wide,
    Narrow,
}

impl Width {
    pub(crate) const ALL: [Self; 2] = [Self::Wide, Self::Narrow];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    pub(crate) fn size(self) -> (u32, u32) {
        match self {
            Self::Wide => (1440, 900),
            Self::Narrow => (360, 740),
        }
    }
}

/// A browser. It ends with its value.
#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) client: Client,
    driver: Driver,
    _place: SemaphorePermit<'static>,
}

impl Browser {
    /// Starts one, wide and light.
    pub(crate) async fn open() -> Self {
        let place = BROWSERS.acquire().await.unwrap();
        let driver = Driver::start();
        let mut args = vec![
            "--headless=new".to_owned(),
            format!("--user-data-dir={}", driver.folder().join("profile").display()),
            "--disable-gpu".to_owned(),
            // Containers have little of it.
            "--disable-dev-shm-usage".to_owned(),
            "--disable-breakpad".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-extensions".to_owned(),
            "--disable-sync".to_owned(),
            "--no-first-run".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--force-color-profile=srgb".to_owned(),
            "--lang=en-US".to_owned(),
            "--window-size=1440,900".to_owned(),
        ];
        if rustix::process::geteuid().is_root() {
            args.push("--no-sandbox".to_owned());
        }
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": driver::browser(), "args": args},
            "timeouts": {"script": PATIENCE.as_millis(), "pageLoad": PATIENCE.as_millis()},
        });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("it is an object");
        };
        let url = driver.url();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(Capabilities::from_iter(capabilities));
        let client = match timeout(PATIENCE, builder.connect(&url)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => panic!("the browser does not start: {error}\n{}", driver.log()),
            Err(_) => panic!("the browser does not start\n{}", driver.log()),
        };
        let browser = Self {
            client,
            driver,
            _place: place,
        };
        browser
            .cdp("Emulation.setScrollbarsHidden", json!({"hidden": true}))
            .await;
        browser.show(Theme::Light, Width::Wide).await;
        browser
    }

    /// Sets the theme that the user's system has, and the size of the window.
    pub(crate) async fn show(&self, theme: Theme, width: Width) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": theme.name()},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.cdp("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
        let (width, height) = width.size();
        self.resize(width, height).await;
    }

    /// Sets the size of the window, which can be smaller than a window of the desktop.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) async fn go(&self, url: &str) {
        let went = timeout(PATIENCE, self.client.goto(url)).await;
        match went {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("{url}: {error}\n{}", self.driver.log()),
            Err(_) => panic!("{url} does not open\n{}", self.driver.log()),
        }
    }

    /// The path and the query of the page.
    pub(crate) async fn path(&self) -> String {
        let path = self.js("return location.pathname + location.search").await;
        path.as_str().unwrap_or_default().to_owned()
    }

    /// The value of a script, which must not fail.
    pub(crate) async fn js(&self, script: &str) -> Value {
        self.try_js(script)
            .await
            .unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    async fn try_js(&self, script: &str) -> Result<Value, CmdError> {
        let run = timeout(PATIENCE, self.client.execute(script, Vec::new())).await;
        run.unwrap_or_else(|_| panic!("{script}: no answer\n{}", self.driver.log()))
    }

    /// Waits until an expression is true on the page, and returns its value. An error counts as false, since pages are left and
    /// replaced.
    pub(crate) async fn until(&self, expression: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let script = format!("return ({expression})");
        loop {
            let value = self.try_js(&script).await;
            match &value {
                Ok(Value::Null | Value::Bool(false)) | Err(_) => {}
                Ok(Value::String(text)) if text.is_empty() => {}
                Ok(Value::Number(number)) if number.as_f64() == Some(0.0) => {}
                Ok(_) => return value.unwrap(),
            }
            if Instant::now() > deadline {
                let text = self
                    .try_js("return location.href + '\\n' + document.body.innerText")
                    .await;
                let text = text.unwrap_or_default();
                let text: String = text.as_str().unwrap_or_default().chars().take(4000).collect();
                let console = self.console().await.join("\n");
                panic!("{expression} did not become true: {value:?}\n{text}\n{console}");
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the page shows this text.
    pub(crate) async fn until_text(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({})", quoted(text)))
            .await;
    }

    /// The text that the first element with this selector shows. Waits for the element.
    pub(crate) async fn text(&self, css: &str) -> String {
        let css = quoted(css);
        self.until(&format!("document.querySelector({css}) !== null")).await;
        let text = self
            .js(&format!("return document.querySelector({css}).innerText"))
            .await;
        text.as_str().unwrap_or_default().trim().to_owned()
    }

    /// Waits until the first element with this selector can be clicked, and clicks it as a user does.
    pub(crate) async fn click(&self, css: &str) {
        self.act(css, async |element| element.click().await).await;
    }

    /// Types into the first element with this selector, in place of its text.
    pub(crate) async fn fill(&self, css: &str, text: &str) {
        self.act(css, async |element| {
            element.clear().await?;
            element.send_keys(text).await
        })
        .await;
    }

    /// Tries an act on an element until it works: a page may just be replacing it.
    async fn act(&self, css: &str, act: impl AsyncFn(&fantoccini::elements::Element) -> Result<(), CmdError>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let done = match self.client.find(fantoccini::Locator::Css(css)).await {
                Ok(element) => act(&element).await,
                Err(error) => Err(error),
            };
            let Err(error) = done else { return };
            if Instant::now() > deadline {
                let console = self.console().await.join("\n");
                panic!("{css} at {}: {error}\n{console}", self.path().await);
            }
            sleep(LOOK).await;
        }
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        for key in keys.chars() {
            self.keys(KeyActions::new("keyboard".to_owned()).then(down(key)).then(up(key)))
                .await;
        }
    }

    /// Presses a key that has a name.
    pub(crate) async fn press_key(&self, key: Key) {
        self.press(&char::from(key).to_string()).await;
    }

    /// Presses a key while Control is held.
    pub(crate) async fn press_with_control(&self, key: char) {
        let control = char::from(Key::Control);
        let chord = KeyActions::new("keyboard".to_owned())
            .then(down(control))
            .then(down(key));
        self.keys(chord.then(up(key)).then(up(control))).await;
    }

    async fn keys(&self, actions: KeyActions) {
        let pressed = timeout(PATIENCE, self.client.perform_actions(actions)).await;
        pressed
            .unwrap_or_else(|_| panic!("no key is taken\n{}", self.driver.log()))
            .unwrap();
    }

    /// The lines that the console has got since the last look at it, each with its level first.
    pub(crate) async fn console(&self) -> Vec<String> {
        let log = self.command("se/log", json!({"type": "browser"})).await;
        let lines = log.as_array().cloned().unwrap_or_default();
        lines
            .iter()
            .map(|line| format!("{} {}", text(&line["level"]), text(&line["message"])))
            .collect()
    }

    /// The errors that the console has got since the last look at it. What the policy of the page has refused is one.
    pub(crate) async fn errors(&self) -> Vec<String> {
        let is_error = |line: &String| line.starts_with("SEVERE") || line.contains("Content Security Policy");
        self.console().await.into_iter().filter(is_error).collect()
    }

    /// Checks that the console has got no errors.
    #[track_caller]
    pub(crate) fn no_errors(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let errors = self.errors().await;
            assert_eq!(
                errors,
                [""; 0],
                "the console at {}, checked in {caller}",
                self.path().await
            );
        }
    }

    /// A picture of the whole page, at most so many pixels high, as PNG.
    pub(crate) async fn picture(&self, most_height: f64) -> Vec<u8> {
        self.picture_as(json!({"format": "png"}), most_height).await
    }

    /// [`picture`](Self::picture), with parameters of the format.
    pub(crate) async fn picture_as(&self, mut parameters: Value, most_height: f64) -> Vec<u8> {
        let size = self.cdp("Page.getLayoutMetrics", json!({})).await;
        let view = &size["cssVisualViewport"];
        let height = size["cssContentSize"]["height"].as_f64().unwrap_or_default();
        let height = height
            .max(view["clientHeight"].as_f64().unwrap_or_default())
            .min(most_height);
        parameters["captureBeyondViewport"] = json!(true);
        parameters["clip"] = json!({"x": 0, "y": 0, "width": view["clientWidth"], "height": height, "scale": 1});
        let shot = self.cdp("Page.captureScreenshot", parameters).await;
        BASE64_STANDARD.decode(text(&shot["data"])).unwrap()
    }

    /// A command of Chrome's own protocol.
    pub(crate) async fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", json!({"cmd": command, "params": parameters}))
            .await
    }

    /// A command of chromedriver, by the end of its path.
    async fn command(&self, path: &'static str, body: Value) -> Value {
        let sent = timeout(PATIENCE, self.client.issue_cmd(Post { path, body })).await;
        match sent {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => panic!("{path}: {error}\n{}", self.driver.log()),
            Err(_) => panic!("{path}: no answer\n{}", self.driver.log()),
        }
    }
}

fn down(value: char) -> KeyAction {
    KeyAction::Down { value }
}

fn up(value: char) -> KeyAction {
    KeyAction::Up { value }
}

/// A `POST` to a path of the session.
#[derive(Debug)]
struct Post {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Post {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        let mut path = String::new();
        let _ = write!(path, "session/{}/{}", session.unwrap_or_default(), self.path);
        base.join(&path)
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text as a literal of JavaScript.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
