//! A real browser, driven by WebDriver (W3C): Chromium without a window.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::{Invocation, Process, poll_until};

/// The key of an element's reference (WebDriver, section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Drivers that are started until one has a port.
const DRIVER_ATTEMPTS: usize = 5;

/// A browser with one window. It ends with the value.
pub struct Browser {
    port: u16,
    session: String,
    _driver: Process,
}

impl Browser {
    /// Starts a browser that saves downloads in `folder`; `None` where there is none.
    ///
    /// # Panics
    /// When it is there and doesn't start.
    pub fn start(folder: &Path, language: &str) -> Option<Self> {
        let is_there = |name: &str| Path::new("/usr/bin").join(name).exists();
        if !is_there("chromedriver") || !is_there("chromium") {
            return None;
        }
        let (driver, port) = start_driver(folder);
        let mut browser = Self { port, session: String::new(), _driver: driver };
        let options = json!({
            // Root may not use the sandbox; a container may have little shared memory.
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                     format!("--lang={language}"), format!("--user-data-dir={}", folder.join("browser").display())],
            "prefs": {"download.default_directory": folder, "intl.accept_languages": language},
        });
        // The machine's own certificate is what a person would accept by hand.
        let wanted = json!({"browserName": "chrome", "acceptInsecureCerts": true, "goog:chromeOptions": options});
        let made = browser.call("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        // Without a window a browser saves nothing unless it is told to.
        let behavior = json!({"behavior": "allow", "downloadPath": folder});
        let command = json!({"cmd": "Browser.setDownloadBehavior", "params": behavior});
        browser.command("POST", "/chromium/send_command", &command);
        Some(browser)
    }

    /// Opens an address.
    pub fn open(&self, address: &str) {
        self.command("POST", "/url", &json!({"url": address}));
    }

    /// Runs a script in the page; gives back what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns something true, and gives it back.
    #[track_caller]
    pub fn wait_for(&self, script: &str) -> Value {
        let look = || Some(self.run(script)).filter(|value| !matches!(value, Value::Null | Value::Bool(false)));
        poll_until(look, || format!("{script} never comes true: {}", self.run("return document.body.innerText")))
    }

    /// Types into the element that a selector finds; into a field for files, their paths.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        self.act_on(selector, "value", &json!({"text": text}));
    }

    /// Clicks the element that a selector finds, as a person does: a script may not save files.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.act_on(selector, "click", &json!({}));
    }

    /// Presses keys together, as `["Control", "k"]`; those with a name by that of `key_code`.
    ///
    /// # Panics
    /// When there is no key of that name.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        let codes: Vec<&str> = keys.iter().map(|key| key_code(key)).collect();
        let down = codes.iter().map(|code| json!({"type": "keyDown", "value": code}));
        let up = codes.iter().rev().map(|code| json!({"type": "keyUp", "value": code}));
        let actions: Vec<Value> = down.chain(up).collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.command("POST", "/actions", &json!({"actions": [keyboard]}));
    }

    /// Drops files and folders of this machine on what a selector finds, as a person does.
    ///
    /// # Panics
    /// When there is nothing.
    pub fn drop_paths(&self, selector: &str, paths: &[&Path]) {
        let place = self.run(&format!(
            "const {{ x, y, width, height }} = document.querySelector({}).getBoundingClientRect();
             return {{ x: x + width / 2, y: y + height / 2 }}",
            json!(selector)
        ));
        let data = json!({"items": [], "files": paths, "dragOperationsMask": 1});
        for kind in ["dragEnter", "dragOver", "drop"] {
            let params = json!({"type": kind, "x": place["x"], "y": place["y"], "data": data});
            let command = json!({"cmd": "Input.dispatchDragEvent", "params": params});
            self.command("POST", "/chromium/send_command", &command);
        }
    }

    /// Types a text where the focus is.
    #[track_caller]
    pub fn type_text(&self, text: &str) {
        for letter in text.chars() {
            self.press(&[&letter.to_string()]);
        }
    }

    /// Does something with the element that a selector finds, once it is there; with the next one if the page draws it anew
    /// meanwhile.
    #[track_caller]
    fn act_on(&self, selector: &str, action: &str, body: &Value) {
        let try_act = || {
            let found = self.try_command("/element", &json!({"using": "css selector", "value": selector}))?;
            let element = found[ELEMENT].as_str().expect("an element");
            self.try_command(&format!("/element/{element}/{action}"), body)
        };
        let act = || match try_act() {
            Err(fault) if fault["error"] == "stale element reference" || fault["error"] == "no such element" => None,
            done => Some(done),
        };
        let done = poll_until(act, || format!("{selector} is not there, or is drawn anew all the time"));
        done.unwrap_or_else(|fault| panic!("{action} of {selector}: {fault}"));
    }

    fn try_command(&self, path: &str, body: &Value) -> Result<Value, Value> {
        self.try_call("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_call(method, path, body).unwrap_or_else(|fault| panic!("{method} {path}: {fault}"))
    }

    /// Returns what the driver answers, or its error.
    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the driver listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("it reads");
        let (mut reader, mut length) = (BufReader::new(stream), 0);
        // It keeps the connection, so that only the length tells the end.
        for line in reader.by_ref().lines().map(|line| line.expect("it answers")).take_while(|line| !line.is_empty()) {
            let field = line.to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("all of it");
        let value: Value = serde_json::from_slice(&body).expect("it speaks JSON");
        let value = value["value"].clone();
        if value["error"].is_null() { Ok(value) } else { Err(value) }
    }
}

/// Starts a driver; returns it and its port. It takes a free port for IPv4 and then needs the same one for IPv6: another
/// process may have that.
fn start_driver(folder: &Path) -> (Process, u16) {
    for _ in 0..DRIVER_ATTEMPTS {
        let driver = Invocation::new("chromedriver", folder).arg("--port=0").start();
        let look = || {
            let said = driver.said();
            let line = said.lines().find(|line| line.contains("started successfully on port"));
            match line.map(|line| line.rsplit(' ').next().unwrap().trim_end_matches('.').parse().expect("a port")) {
                Some(port) => Some(Some(port)),
                None => (!driver.is_running()).then_some(None),
            }
        };
        if let Some(port) = poll_until(look, || "the driver says nothing".to_owned()) {
            return (driver, port);
        }
    }
    panic!("no driver starts");
}

/// Returns the character that stands for a key (WebDriver, section 17.4.2), or the key itself if it is one.
fn key_code(key: &str) -> &str {
    match key {
        "Tab" => "\u{e004}",
        "Enter" => "\u{e007}",
        "Shift" => "\u{e008}",
        "Control" => "\u{e009}",
        "Escape" => "\u{e00c}",
        "ArrowUp" => "\u{e013}",
        "ArrowDown" => "\u{e015}",
        _ => {
            assert_eq!(key.chars().count(), 1, "there is no key {key}");
            key
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Else the browser would outlive its driver.
        if !std::thread::panicking() {
            self.command("DELETE", "", &json!({}));
        }
    }
}
