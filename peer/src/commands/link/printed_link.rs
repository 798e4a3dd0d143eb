//! A link as it is printed: the address, the code, the line for curl.

use certs::WebCertificate;
use localization::tr;
use serde_json::{Value, json};
use shared::safe_text::safe_path;

use super::super::context::CommandContext;
use super::super::own_address::own_address;
use crate::engine::guest_links::{GuestFile, GuestLink, LinkToken, MadeLink, link_files};
use crate::engine::{Error, LocalUser};
use crate::ui::{date_and_time, file_count, format_size, qr_code, qr_code_columns};
use crate::util::shell_words::shell_quote;
use crate::web::{file_address, open_certificate, shown_fingerprint};

/// A link with everything that is printed of it.
#[derive(Debug)]
pub(super) struct PrintedLink {
    link: GuestLink,
    token: LinkToken,
    files: Vec<GuestFile>,
    owner: String,
    /// The address of the link, without its token.
    base: String,
    key_pin: String,
    fingerprint: String,
}

impl PrintedLink {
    /// Gathers what is printed of a new link, and records its address.
    pub(super) async fn new(me: &LocalUser, made: &MadeLink, port: u16) -> Result<Self, Error> {
        let host = match own_address(&me.tracker).await {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            // Without brackets the port would be part of the address (RFC 3986, 3.2.2).
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let place = format!("{host}:{port}");
        // The port of a node may be another after a restart.
        let address = if made.link.pid.is_some() { &place } else { &host };
        me.profile.set_guest_link_address(made.link.number, address)?;
        let certificate = open_certificate(me.profile.home())?;
        Self::of(me, &certificate, (made.link.clone(), made.token.clone()), &place)
    }

    /// Gathers what is printed of a link that is served at this host and port.
    pub(super) fn of(
        me: &LocalUser,
        certificate: &WebCertificate,
        (link, token): (GuestLink, LinkToken),
        place: &str,
    ) -> Result<Self, Error> {
        let files = link_files(&me.profile, &link)?;
        let (key_pin, fingerprint) = (certificate.key_pin(), shown_fingerprint(certificate));
        let base = format!("https://{place}/l/{}/", link.id);
        Ok(Self { link, token, files, owner: me.user.to_string(), base, key_pin, fingerprint })
    }

    /// Returns the whole address.
    pub(super) fn url(&self) -> String {
        // Behind the #: no browser sends a fragment (RFC 9110, 4.2.5), so the token stands in no log on the way.
        format!("{}#{}", self.base, self.token.text())
    }

    /// Returns the link in words.
    pub(super) fn description(&self) -> String {
        let time = date_and_time(self.link.expires_at);
        if let Some(folder) = &self.link.folder {
            let (size, folder) = (format_size(self.link.max_bytes), safe_path(folder));
            return match self.link.is_once {
                true => tr!("takes up to {size} into {folder}, for one browser, until {time}", size, folder, time),
                false => tr!("takes up to {size} into {folder}, until {time}", size, folder, time),
            };
        }
        if self.files.is_empty() {
            return match self.link.is_once {
                true => tr!("takes messages, for one browser, until {time}", time),
                false => tr!("takes messages, until {time}", time),
            };
        }
        let size = format_size(self.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size)));
        let files = file_count(self.files.len());
        match self.link.is_once {
            true => tr!("gives {files}, {size}, for one browser, until {time}", files, size, time),
            false => tr!("gives {files}, {size}, until {time}", files, size, time),
        }
    }

    /// Returns the link for programs.
    pub(super) fn json(&self) -> Value {
        let file = |file: &GuestFile| {
            json!({
                "name": file.name, "size": file.size, "hash": file.hash,
                "url": format!("{}{}", self.base, file_address(file)),
            })
        };
        let mut object = json!({
            "url": self.url(),
            "curl": self.curl(),
            "authorization": self.authorization(),
            "fingerprint": self.fingerprint,
            "expires": self.link.expires_at,
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
        });
        if self.link.has_chat {
            object["chat"] = json!(self.chat_address());
        }
        object
    }

    /// Prints a new link.
    pub(super) fn print(&self, context: &CommandContext, is_own_server: bool) -> Result<(), Error> {
        let output = &context.output;
        if output.is_json() {
            return Ok(output.print_object("link", &self.json())?);
        }
        let code = qr_code_columns().filter(|_| !output.is_plain()).and_then(|columns| qr_code(&self.url(), columns));
        if let Some(code) = code {
            output.write_raw(&code)?;
        }
        output.print_data(&self.url())?;
        output.print_data(&tr!("code: {code}", code = self.token.grouped()))?;
        output.print_data(&self.curl())?;
        output.note(&tr!("link {number} {what}", number = self.link.number, what = self.description()));
        if self.link.has_chat {
            let number = self.link.number;
            output.note(&tr!("guests can write to you: `peer link chat {number}` shows it and answers", number));
        }
        let fingerprint = &self.fingerprint;
        output.note(&tr!("the certificate's SHA-256, to compare with the browser's: {fingerprint}", fingerprint));
        if is_own_server {
            output.note(&tr!("it is served by this command until Ctrl-C, and ends then; links of `peer serve` stay"));
        } else {
            let number = self.link.number;
            output.note(&tr!("it is served by `peer serve`; `peer link revoke {number}` ends it", number));
        }
        Ok(())
    }

    fn chat_address(&self) -> String {
        format!("{}chat", self.base)
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.token.text())
    }

    /// Returns a line that fetches everything, or sends a file, from a terminal.
    fn curl(&self) -> String {
        let pin = format!("sha256//{}", self.key_pin);
        let header = format!("Authorization: {}", self.authorization());
        let quote = |word: &str| shell_quote(&[word]);
        // No authority signed the certificate (`-k`): the pin, which curl checks all the same, stands for one.
        let secure = format!("curl -k --pinnedpubkey {} -H {}", quote(&pin), quote(&header));
        if self.link.folder.is_some() {
            return format!("{secure} -T FILE {}", quote(&format!("{}in/", self.base)));
        }
        if self.files.is_empty() {
            return format!("{secure} --data-urlencode text=TEXT {}", quote(&self.chat_address()));
        }
        let (name, address) = match self.files.as_slice() {
            [only] => (only.name.display().rsplit('/').next().unwrap_or("file").to_owned(), file_address(only)),
            _ => (format!("{}.zip", self.owner), format!("zip/{}.zip", self.owner)),
        };
        // A name that begins with a dash is no option here.
        let name = if name.starts_with('-') { format!("./{name}") } else { name };
        format!("{secure} -o {} {}", quote(&name), quote(&format!("{}{address}", self.base)))
    }
}
