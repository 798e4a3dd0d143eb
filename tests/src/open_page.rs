//! A user's page in a browser.

use serde_json::{Value, json};

use crate::page::Page;
use crate::{Browser, Lab, Process, User};

/// A browser with the page of a user, and the server of that page.
pub struct OpenPage {
    /// The browser.
    pub browser: Browser,
    /// The server.
    pub web: Process,
}

impl OpenPage {
    /// Opens the page of a user; `None` where there is no browser.
    #[track_caller]
    pub fn open(lab: &Lab, user: &User<'_>, language: &str) -> Option<Self> {
        let folder = lab.empty_folder(format!("{}-browser", user.name()));
        let Some(browser) = Browser::start(&folder, language) else {
            println!("skipped: there is no chromium with chromedriver");
            return None;
        };
        let downloads = lab.empty_folder(format!("{}-downloads", user.name()));
        let web = user.peer(["--json", "web", "--no-open", "--folder"]).arg(downloads).start();
        browser.open(&Page::address(&web));
        browser.wait_for("return document.querySelector('.sidebar .own-name')?.innerText !== undefined");
        Some(Self { browser, web })
    }

    /// Goes to a place of the page, and waits until a selector finds something there.
    #[track_caller]
    pub fn go(&self, place: &str, selector: &str) {
        self.browser.run(&format!("location.hash = '#/{place}'"));
        self.browser.wait_for(&format!("return document.querySelector({}) !== null", json!(selector)));
    }

    /// Waits until the text of what a selector finds has these words.
    #[track_caller]
    pub fn shows(&self, selector: &str, words: &str) {
        let (selector, words) = (json!(selector), json!(words));
        self.browser.wait_for(&format!(
            "return [...document.querySelectorAll({selector})].some((element) => element.innerText.includes({words}))"
        ));
    }

    /// Writes in the open conversation.
    #[track_caller]
    pub fn write(&self, text: &str) {
        self.browser.type_into(".composer textarea", text);
        self.browser.press(&["Enter"]);
        self.shows(".message", text);
    }

    /// Drops files on what a selector finds: each a name and a text.
    #[track_caller]
    pub fn drop_files(&self, selector: &str, dropped: &[(&str, &str)]) {
        self.browser.run(&format!(
            "const transfer = new DataTransfer();
             for (const [name, text] of {}) transfer.items.add(new File([text], name));
             for (const name of ['dragenter', 'dragover', 'drop']) {{
               document.querySelector({}).dispatchEvent(
                 new DragEvent(name, {{ dataTransfer: transfer, bubbles: true, cancelable: true }}));
             }}",
            json!(dropped),
            json!(selector)
        ));
    }

    /// Returns the value of what a selector finds.
    #[track_caller]
    pub fn value_of(&self, selector: &str) -> Value {
        self.browser.run(&format!("return document.querySelector({}).value", json!(selector)))
    }
}
