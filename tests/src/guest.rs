//! A guest: somebody with curl and nothing else.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Invocation, Lab, Outcome, User};

/// A link as `peer --json link` prints it, and the folder in which its guest works.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The link.
    pub link: Value,
    /// The folder.
    pub folder: PathBuf,
}

impl Guest {
    /// Makes a link that the user's node serves.
    ///
    /// # Panics
    /// When it can't be made.
    #[track_caller]
    pub fn of(lab: &Lab, user: &User<'_>, args: &[&str], paths: &[&Path]) -> Self {
        let made = user.peer(["--json", "link"]).args(args).args(paths).run();
        let link = made.exits(0).object("link");
        let code = link["url"].as_str().unwrap().rsplit('#').next().unwrap().to_owned();
        Self { link, folder: lab.empty_folder(format!("guest-{code}")) }
    }

    /// Returns a field of the link.
    ///
    /// # Panics
    /// When it is no text.
    pub fn text(&self, key: &str) -> &str {
        self.link[key].as_str().expect("it is text")
    }

    /// Returns the address of the link or below it, without the token.
    pub fn address(&self, below: &str) -> String {
        format!("{}{below}", self.text("url").split('#').next().unwrap_or_default())
    }

    /// Returns the token.
    pub fn code(&self) -> &str {
        self.text("url").split('#').nth(1).unwrap_or_default()
    }

    /// Returns host and port of the server.
    pub fn place(&self) -> (String, String) {
        let address = self.address("");
        let (host, port) = address.split('/').nth(2).and_then(|place| place.rsplit_once(':')).expect("a port");
        (host.to_owned(), port.to_owned())
    }

    /// Returns curl as the link's line has it, without what it does.
    pub fn bare_curl(&self) -> Invocation {
        let pin = self.text("curl").split_whitespace().nth(3).unwrap_or_default();
        Invocation::new("curl", &self.folder).args(["-sS", "-k", "--max-time", "50", "--pinnedpubkey", pin])
    }

    /// Returns the same with the link's authorization.
    pub fn curl(&self) -> Invocation {
        self.bare_curl().arg("-H").arg(format!("Authorization: {}", self.text("authorization")))
    }

    /// Runs the link's line as a person would paste it.
    #[track_caller]
    pub fn paste(&self) -> Outcome {
        Invocation::new("sh", &self.folder).args(["-c", self.text("curl")]).run()
    }

    /// Returns a file of the link.
    ///
    /// # Panics
    /// When the link doesn't give it.
    #[track_caller]
    pub fn file(&self, name: &str) -> Value {
        let files = self.link["files"].as_array().expect("a list");
        files.iter().find(|file| file["name"] == name).expect("the link gives it").clone()
    }

    /// Returns the address of a file of the link.
    ///
    /// # Panics
    /// When the link doesn't give it.
    #[track_caller]
    pub fn file_address(&self, name: &str) -> String {
        self.file(name)["url"].as_str().expect("an address").to_owned()
    }

    /// Returns the status of an answer, whose body is then in the file `answer`.
    #[track_caller]
    pub fn status(curl: Invocation) -> String {
        let outcome = curl.args(["-o", "answer", "-w", "%{http_code}"]).run();
        outcome.exits(0);
        outcome.out()
    }

    /// Returns the headers of an answer, in small letters.
    #[track_caller]
    pub fn headers(curl: Invocation) -> String {
        let outcome = curl.args(["-o", "answer", "-D", "-"]).run();
        outcome.exits(0);
        outcome.out().to_lowercase()
    }

    /// Runs a script of Python in the guest's folder.
    #[track_caller]
    pub fn python(&self, script: &str, args: &[&str]) -> Outcome {
        Invocation::new("python3", &self.folder).args(["-c", script]).args(args).run()
    }
}
