//! A page: what a browser does with `peer web`, without the browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{PATIENCE, Process, User};

/// A page that has a session.
#[derive(Debug, Clone)]
pub struct Page {
    /// The port of the server.
    pub port: u16,
    /// The cookie, `NAME=VALUE`.
    pub cookie: String,
    /// The secret.
    pub secret: String,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct PageAnswer {
    /// The status.
    pub status: u16,
    /// The head, in small letters.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A stream of events.
pub struct PageEvents(BufReader<TcpStream>);

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageEvent {
    /// Its number, if it has one.
    pub id: Option<u64>,
    /// Its object.
    pub data: Value,
}

impl Page {
    /// Starts `peer web` and opens its page.
    #[track_caller]
    pub fn start(user: &User<'_>, args: &[&str]) -> (Process, Self) {
        let process = user.peer(["--json", "web", "--no-open"]).args(args).start();
        let page = Self::open(&Self::address(&process));
        (process, page)
    }

    /// Returns the address that `peer web` prints.
    #[track_caller]
    pub fn address(process: &Process) -> String {
        let line = process.wait_for("\"type\":\"web\"");
        let object: Value = serde_json::from_str(&line).expect("an object");
        object["url"].as_str().expect("an address").to_owned()
    }

    /// Opens a page by an address with its token.
    #[track_caller]
    pub fn open(address: &str) -> Self {
        let (place, token) = address.split_once("/#open=").expect("a token");
        let port = place.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let answer = send(port, "POST", "/api/v1/session", &[], Some(&json!({ "token": token })));
        assert_eq!(answer.status, 201, "{answer:?}");
        let cookie = answer.field("set-cookie").split(';').next().expect("a cookie").to_owned();
        Self { port, cookie, secret: answer.json()["secret"].as_str().expect("a secret").to_owned() }
    }

    /// Makes a request of the page below `/api/v1`.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> PageAnswer {
        send(self.port, method, &format!("/api/v1{path}"), &self.fields(), body)
    }

    /// Makes a request that succeeds, and returns its answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, None);
        assert_eq!(answer.status, 200, "GET {path}: {answer:?}");
        answer.json()
    }

    /// Makes a change that succeeds, and returns its answer; `null` if it has none.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.call("POST", path, Some(body));
        assert!((200..300).contains(&answer.status), "POST {path} {body}: {answer:?}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// Uploads a file of a drop, from an offset on.
    #[track_caller]
    pub fn put(&self, path: &str, bytes: &[u8], range: Option<(u64, u64)>) -> PageAnswer {
        let mut fields = self.fields();
        if let Some((offset, size)) = range {
            let end = offset + bytes.len() as u64 - 1;
            fields.push(("Content-Range", format!("bytes {offset}-{end}/{size}")));
        }
        send_bytes(self.port, "PUT", &format!("/api/v1{path}"), &fields, Some(bytes))
    }

    /// Begins to upload a file of so many bytes, which the caller sends.
    #[track_caller]
    pub fn begin_put(&self, path: &str, size: usize) -> TcpStream {
        let mut stream = connect(self.port);
        let head = head_of(self.port, "PUT", &format!("/api/v1{path}"), &self.fields(), Some(size));
        stream.write_all(head.as_bytes()).expect("it is sent");
        stream
    }

    /// Opens the stream of events, after one that was seen.
    #[track_caller]
    pub fn events(&self, seen: Option<u64>) -> PageEvents {
        let mut fields = self.fields();
        fields.extend(seen.map(|seen| ("Last-Event-ID", seen.to_string())));
        let mut stream = connect(self.port);
        stream.write_all(head_of(self.port, "GET", "/api/v1/events", &fields, None).as_bytes()).expect("it is sent");
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).expect("a head"), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        PageEvents(reader)
    }

    /// Returns the fields by which the page shows its session.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("Cookie", self.cookie.clone()), ("Page-Secret", self.secret.clone())]
    }
}

impl PageEvents {
    /// Returns the next event.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn next_event(&mut self) -> PageEvent {
        self.try_next().expect("the stream goes on")
    }

    /// Returns the next event; `None` at the end of the stream.
    #[track_caller]
    pub fn try_next(&mut self) -> Option<PageEvent> {
        let (mut id, mut data) = (None, None);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("an event in time") == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(number) = line.strip_prefix("id: ") {
                id = number.parse().ok();
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = Some(serde_json::from_str(text).expect("an object"));
            } else if let Some(data) = data.take_if(|_| line.is_empty()) {
                return Some(PageEvent { id, data });
            }
        }
    }

    /// Returns the next event of a type for which `is_meant` holds.
    #[track_caller]
    pub fn wait_for(&mut self, kind: &str, is_meant: impl Fn(&Value) -> bool) -> PageEvent {
        let mut seen = Vec::new();
        loop {
            let event = self.try_next().unwrap_or_else(|| panic!("no {kind} comes after {seen:?}"));
            if event.data["type"] == kind && is_meant(&event.data) {
                return event;
            }
            seen.push(event.data);
        }
    }
}

impl PageAnswer {
    /// Returns the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// Returns the value of a field of the head; nothing if it isn't there.
    pub fn field(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or_default()
    }

    /// Asserts that it is an error of this status, with a code and a message.
    #[track_caller]
    pub fn fails(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let error = self.json()["error"].clone();
        assert!(
            error["code"].is_string() && error["message"].as_str().is_some_and(|text| !text.is_empty()),
            "{self:?}"
        );
        error
    }
}

/// Makes a request with these fields to a server of this machine.
#[track_caller]
pub fn send(port: u16, method: &str, path: &str, fields: &[(&str, String)], body: Option<&Value>) -> PageAnswer {
    let bytes = body.map(ToString::to_string);
    let mut fields = fields.to_vec();
    if bytes.is_some() && !fields.iter().any(|(name, _)| *name == "Content-Type") {
        fields.push(("Content-Type", "application/json".to_owned()));
    }
    send_bytes(port, method, path, &fields, bytes.as_deref().map(str::as_bytes))
}

/// Makes a request with any body to a server of this machine.
#[track_caller]
pub fn send_bytes(port: u16, method: &str, path: &str, fields: &[(&str, String)], body: Option<&[u8]>) -> PageAnswer {
    let mut stream = connect(port);
    stream.write_all(head_of(port, method, path, fields, body.map(<[u8]>::len)).as_bytes()).expect("it is sent");
    // A server that refuses may close before all is sent.
    let _ = stream.write_all(body.unwrap_or_default());
    read_answer(stream)
}

/// Reads the answer of a server that closes the connection behind it.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn read_answer(mut stream: TcpStream) -> PageAnswer {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let split = all
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&all)));
    let head = String::from_utf8_lossy(&all[..split]).to_string();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let head: Vec<String> = head
        .lines()
        .map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
            None => line.to_owned(),
        })
        .collect();
    PageAnswer { status, head: head.join("\n"), body: all[split + 4..].to_vec() }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

fn head_of(port: u16, method: &str, path: &str, fields: &[(&str, String)], length: Option<usize>) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !fields.iter().any(|(name, _)| *name == "Host") {
        head.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
    }
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head + "\r\n"
}
