//! A door: `peer web --accounts` and the browsers at it, without the browsers.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::page::{self, Page, PageAnswer};
use crate::{Lab, Process, User};

/// A door in plain HTTP on this machine.
pub struct Door {
    /// The port of the server.
    pub port: u16,
    /// What it told at its start.
    pub told: Value,
    /// The folder of its operator.
    pub home: PathBuf,
    /// The program.
    pub process: Process,
}

impl Door {
    /// Opens a door of an operator without an account.
    #[track_caller]
    pub fn open(lab: &Lab, args: &[&str]) -> Self {
        Self::open_of(&lab.stranger("operator"), args)
    }

    /// Opens the door of this operator.
    ///
    /// # Panics
    /// When it doesn't open.
    #[track_caller]
    pub fn open_of(operator: &User<'_>, args: &[&str]) -> Self {
        let web = ["--json", "web", "--accounts", "--plain-http", "--listen", "127.0.0.1:0"];
        let process = operator.peer(web).args(args).start();
        let told: Value = serde_json::from_str(&process.wait_for("\"type\":\"door\"")).expect("an object");
        let port = told["url"].as_str().and_then(|url| url.trim_end_matches('/').rsplit(':').next()?.parse().ok());
        Self { port: port.expect("a port"), told, home: operator.home().to_owned(), process }
    }

    /// Makes an account and logs in to it.
    #[track_caller]
    pub fn new_user(&self, user: &str) -> Page {
        new_user(self.port, user)
    }

    /// Logs in with the usual password.
    #[track_caller]
    pub fn log_in(&self, user: &str) -> Page {
        log_in(self.port, user)
    }

    /// Tries to log in.
    #[track_caller]
    pub fn try_log_in(&self, user: &str, password: &str, consent: Option<&str>) -> PageAnswer {
        let mut body = json!({ "user": user, "password": password });
        if let Some(consent) = consent {
            body["consent"] = consent.into();
        }
        self.post("/session", &body)
    }

    /// Makes a call that needs no session.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> PageAnswer {
        post(self.port, path, body)
    }

    /// Returns the page of a login that succeeded.
    ///
    /// # Panics
    /// When it didn't.
    #[track_caller]
    pub fn page(port: u16, answer: &PageAnswer) -> Page {
        assert_eq!(answer.status, 201, "{answer:?}");
        let cookie = answer.field("set-cookie").split(';').next().expect("a cookie").to_owned();
        let secret = answer.json()["secret"].as_str().expect("a secret").to_owned();
        Page { port, cookie, secret }
    }

    /// The folder of an account.
    pub fn account(&self, folder: &str) -> PathBuf {
        self.home.join("door").join(folder)
    }

    /// The process.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it in order.
    #[track_caller]
    pub fn close(self) {
        self.process.interrupt();
        self.process.finish().exits(130);
    }
}

/// Makes an account at the door of this port, and logs in to it.
///
/// # Panics
/// When it can't be made.
#[track_caller]
pub fn new_user(port: u16, user: &str) -> Page {
    let made = post(port, "/accounts", &json!({ "user": user, "password": password_of(user) }));
    assert_eq!((made.status, &made.json()["user"]), (201, &json!(user)), "{made:?}");
    log_in(port, user)
}

#[track_caller]
fn log_in(port: u16, user: &str) -> Page {
    Door::page(port, &post(port, "/session", &json!({ "user": user, "password": password_of(user) })))
}

#[track_caller]
fn post(port: u16, path: &str, body: &Value) -> PageAnswer {
    page::send(port, "POST", &format!("/api/v1{path}"), &[], Some(body))
}

/// The password that a user of a lab has.
pub fn password_of(user: &str) -> String {
    format!("password of {user}")
}

/// Returns whether somebody is listed as online.
#[track_caller]
pub fn is_online(asker: &User<'_>, user: &str) -> bool {
    let listed = asker.peer(["--json", "list"]).run();
    listed.exits(0).json().iter().any(|line| line["type"] != "absent" && line["user"] == user)
}
