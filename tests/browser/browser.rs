//! Real headless Chromium, driven over WebDriver.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    future::Future,
    net::TcpListener,
    panic::AssertUnwindSafe,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element, key::Key, wd::WindowHandle};
use futures::FutureExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::lines::{Lines, PATIENCE};

const INSTALL: &str = "apt-get install chromium chromium-driver";

/// A browser of its own profile.
pub(crate) struct Browser {
    client: Client,
}

/// What the browser shows itself as.
#[derive(Clone, Copy)]
pub(crate) enum Device {
    Desktop,
    Phone,
    /// One of 390 px, whose owner prefers dark pages.
    DarkPhone,
}

/// chromedriver, ended when dropped.
struct Driver {
    process: Child,
    url: String,
}

impl Driver {
    async fn start() -> Self {
        // It binds two addresses to one port, and ends where another has the second, or takes it meanwhile.
        for _ in 0..20 {
            let port = free_port();
            let started = Command::new("chromedriver").arg(format!("--port={port}")).stdout(Stdio::piped()).spawn();
            let process = started.unwrap_or_else(|error| panic!("chromedriver: {error}; `{INSTALL}` installs it"));
            let mut driver = Self { process, url: String::new() };
            let mut output = Lines::of(driver.process.stdout.take().unwrap());
            if let Some(port) = output.after_if_ever("started successfully on port ").await {
                driver.url = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
                return driver;
            }
        }
        panic!("chromedriver does not start");
    }
}

/// A port that is free at both addresses of this machine.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if TcpListener::bind(("::1", port)).is_ok() || TcpListener::bind("[::1]:0").is_err() {
            return port;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl Browser {
    /// Runs a test in a fresh browser, which is closed also when the test fails.
    pub(crate) async fn run<F: Future<Output = ()>>(device: Device, test: impl FnOnce(Self) -> F) {
        let driver = Driver::start().await;
        let profile = tempfile::tempdir().unwrap();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(device, profile.path()))
            .connect(&driver.url)
            .await
            .unwrap_or_else(|error| panic!("Chromium does not start: {error}; `{INSTALL}` installs it"));
        let result = AssertUnwindSafe(test(Self { client: client.clone() })).catch_unwind().await;
        _ = client.close().await;
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }

    /// The window that is there from the start.
    pub(crate) async fn first(&self, url: &str) -> Page {
        let page = Page { client: self.client.clone(), window: self.client.window().await.unwrap() };
        page.open(url).await;
        page
    }

    /// One window more.
    pub(crate) async fn another(&self, url: &str) -> Page {
        let window = self.client.new_window(false).await.unwrap().handle;
        let page = Page { client: self.client.clone(), window };
        page.open(url).await;
        page
    }
}

fn capabilities(device: Device, profile: &Path) -> serde_json::Map<String, Value> {
    let mut options = json!({"args": [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1100,900",
        format!("--user-data-dir={}", profile.display()),
    ]});
    let phone =
        |width: u32, height: u32| json!({"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0}});
    match device {
        Device::Desktop => {}
        Device::Phone => options["mobileEmulation"] = phone(360, 740),
        Device::DarkPhone => {
            options["mobileEmulation"] = phone(390, 844);
            if let Some(args) = options["args"].as_array_mut() {
                // 0 is dark.
                args.push(json!("--blink-settings=preferredColorScheme=0"));
            }
        }
    }
    [("goog:chromeOptions".to_owned(), options), ("acceptInsecureCerts".to_owned(), json!(true))].into_iter().collect()
}

/// One window.
pub(crate) struct Page {
    client: Client,
    window: WindowHandle,
}

impl Page {
    /// The client, with this window before it.
    async fn here(&self) -> &Client {
        self.client.switch_to_window(self.window.clone()).await.unwrap();
        &self.client
    }

    pub(crate) async fn open(&self, url: &str) {
        self.here().await.goto(url).await.unwrap();
    }

    pub(crate) async fn close(self) {
        self.here().await.close_window().await.unwrap();
    }

    pub(crate) async fn find(&self, css: &str) -> Element {
        self.here().await.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await.unwrap()
    }

    pub(crate) async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap();
    }

    pub(crate) async fn fill(&self, css: &str, text: &str) {
        self.find(css).await.send_keys(text).await.unwrap();
    }

    /// Presses keys where the focus is.
    pub(crate) async fn keys(&self, keys: &str) {
        self.here().await.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    /// Tabs until an element has the focus, at most once round the page.
    pub(crate) async fn tab_to(&self, id: &str) {
        for _ in 0..25 {
            if self.script("return document.activeElement.id").await == json!(id) {
                return;
            }
            self.keys(&Key::Tab).await;
        }
        panic!("{id} can't be reached with the Tab key");
    }

    pub(crate) async fn script(&self, script: &str) -> Value {
        self.here().await.execute(script, Vec::new()).await.unwrap()
    }

    /// Keeps the sockets that the page opens from now on, as `sockets`.
    pub(crate) async fn keep_sockets(&self) {
        let keep = "window.sockets = [];
            window.WebSocket = class extends WebSocket { constructor(...how) { super(...how); sockets.push(this); } };";
        self.script(keep).await;
    }

    /// As if the server had said this on the newest of the sockets that were kept.
    pub(crate) async fn hears(&self, message: &str) {
        self.script(&format!("sockets.at(-1).onmessage({{ data: {} }})", json!(message))).await;
    }

    /// As if the newest of the sockets that were kept had been closed.
    pub(crate) async fn is_closed(&self, code: u16, reason: &str) {
        let close =
            format!("const socket = sockets.at(-1); socket.onclose({{ code: {code}, reason: {} }})", json!(reason));
        self.script(&close).await;
    }

    /// Lets the page's timers run out ten times as fast, but for those that repeat.
    pub(crate) async fn hurry(&self) {
        self.script("const after = setTimeout; window.setTimeout = (run, ms) => after(run, ms / 10)").await;
    }

    /// Leaves the page for another by a link, so that the browser keeps it as it is.
    pub(crate) async fn leave_for(&self, url: &str) {
        self.script(&format!("window.kept = true; location.href = {}", json!(url))).await;
        self.until(&format!("return location.href === {} && document.readyState === 'complete'", json!(url))).await;
    }

    /// Goes back to a page that was left, and sees that it is as it was.
    pub(crate) async fn back(&self) {
        self.here().await.back().await.unwrap();
        self.until("return window.kept === true").await;
    }

    /// The rows of the page's header.
    pub(crate) async fn header_rows(&self) -> Value {
        let rows = "const parts = [...document.querySelectorAll('.bar > *')].filter(part => part.checkVisibility());
            const middles = parts.map(part => part.getBoundingClientRect()).filter(at => at.height);
            return new Set(middles.map(at => Math.round((at.top + at.bottom) / 8))).size";
        self.script(rows).await
    }

    /// Whether the state is in the colour of what is beside the point.
    pub(crate) async fn state_is_quiet(&self) -> bool {
        let colour = |css: &str| format!("getComputedStyle(document.querySelector('{css}')).color");
        self.script(&format!("return {} === {}", colour("#state"), colour(".hint"))).await == json!(true)
    }

    /// Waits until a script returns `true`.
    pub(crate) async fn until(&self, script: &str) {
        let by = Instant::now() + PATIENCE;
        while self.script(script).await != json!(true) {
            assert!(Instant::now() < by, "never so: {script}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The buttons in sight, by their ids.
    pub(crate) async fn buttons(&self) -> Value {
        let seen =
            "return [...document.querySelectorAll('button')].filter(it => it.checkVisibility()).map(it => it.id)";
        self.script(seen).await
    }

    /// What an element says.
    pub(crate) async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap()
    }

    /// Waits until an element says what it should.
    pub(crate) async fn shows(&self, css: &str, expected: impl Fn(&str) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let text = self.text(css).await;
            if expected(&text) {
                return;
            }
            assert!(Instant::now() < until, "{css} still says {text:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn says(&self, css: &str, expected: &str) {
        self.shows(css, |text| text == expected).await;
    }

    /// A picture of the window, for whoever wants to look: `target/tmp/<name>.png`.
    pub(crate) async fn picture(&self, name: &str) {
        let picture = self.here().await.screenshot().await.unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }
}
