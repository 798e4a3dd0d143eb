//! The pages for guests, as HTML: they work without a script, and every name in them is text.

use std::fmt::{Display, Write as _};

use super::chat_section::ChatSection;
use super::file_listing::{FileListing, ListingRow, folder_trail};
use super::http_text::{HtmlText, percent_encoded};
use super::page_assets::{CHAT_SCRIPT, DOWNLOAD_SCRIPT, ENTER_SCRIPT, PageAsset, STYLE, UPLOAD_SCRIPT};
use super::page_texts::{PageLanguage, local_time};
use crate::engine::guest_links::{GuestFile, GuestLink, PlacedUpload};

/// What all pages of a server show.
#[derive(Debug, Clone)]
pub(super) struct PageFrame {
    /// The user whose machine this is.
    pub(super) owner: String,
}

impl PageFrame {
    /// Returns the form that takes a code, with a complaint if one was wrong.
    pub(super) fn enter_page(&self, language: PageLanguage, complaint: Option<&str>) -> String {
        let mut body = String::new();
        let (title, label, button) = (language.enter_title(), language.enter_label(), language.enter_button());
        // The address without a slash at its end is redirected, so that this one is relative to the link.
        let _ = write!(
            body,
            "<h1>{}</h1></header><main><form class=\"enter\" action=\"enter\" method=\"post\">",
            HtmlText(title)
        );
        if let Some(complaint) = complaint {
            let _ = write!(body, "<p class=\"alarm\" role=\"alert\">{}</p>", HtmlText(complaint));
        }
        let _ = write!(
            body,
            "<label for=\"code\">{}</label><input type=\"text\" id=\"code\" name=\"code\" required autofocus maxlength=\"64\" \
             autocomplete=\"off\" autocapitalize=\"none\" autocorrect=\"off\" spellcheck=\"false\">\
             <button>{}</button></form></main>",
            HtmlText(label),
            HtmlText(button)
        );
        // A wrong code from the address would be sent for ever.
        let script = complaint.is_none().then_some(&ENTER_SCRIPT);
        self.page(language, title, &body, script.as_slice())
    }

    /// Returns a page that only says something.
    pub(super) fn message_page(&self, language: PageLanguage, message: &str) -> String {
        self.page(language, message, &format!("<h1>{}</h1></header>", HtmlText(message)), &[])
    }

    /// Returns the page of a link that gives files.
    pub(super) fn download_page(
        &self,
        language: PageLanguage,
        link: &GuestLink,
        files: &[GuestFile],
        listing: &FileListing<'_>,
        chat: Option<&ChatSection>,
    ) -> String {
        let title = language.gives(&self.owner, files.len());
        let size = language.size(files.iter().fold(0, |sum, file| sum.saturating_add(file.size)));
        let mut body = format!("<h1>{}</h1>", HtmlText(&title));
        let mut facts = vec![size.clone(), language.until(&local_time(link.expires_at))];
        facts.extend(link.is_once.then(|| language.once_note().to_owned()));
        write_facts(&mut body, &facts);
        body.push_str("</header><main>");
        match files {
            [only] => write_single_file(&mut body, language, only),
            _ => self.write_list(&mut body, language, &size, listing),
        }
        self.write_chat(&mut body, language, chat);
        body.push_str("</main>");
        let scripts = [(files.len() > 1).then_some(&DOWNLOAD_SCRIPT), chat.map(|_| &CHAT_SCRIPT)];
        self.page(language, &title, &body, &scripts.into_iter().flatten().collect::<Vec<_>>())
    }

    /// Returns the page of a link that only takes messages.
    pub(super) fn chat_page(&self, language: PageLanguage, link: &GuestLink, chat: &ChatSection) -> String {
        let title = language.talks(&self.owner);
        let mut body = format!("<h1>{}</h1>", HtmlText(&title));
        write_facts(&mut body, &[language.until(&local_time(link.expires_at))]);
        body.push_str("</header><main>");
        self.write_chat(&mut body, language, Some(chat));
        body.push_str("</main>");
        self.page(language, &title, &body, &[&CHAT_SCRIPT])
    }

    /// Returns the page of a link that takes files.
    pub(super) fn upload_page(&self, language: PageLanguage, link: &GuestLink, chat: Option<&ChatSection>) -> String {
        let title = language.takes(&self.owner);
        let mut body = format!("<h1>{}</h1>", HtmlText(&title));
        let facts = [language.up_to(&language.size(link.max_bytes)), language.until(&local_time(link.expires_at))];
        write_facts(&mut body, &facts);
        body.push_str("</header><main><div class=\"drop\"");
        // One script serves all languages, so that its texts come with the page.
        for (name, text) in language.script_texts().into_iter().chain([("cancel", language.cancel())]) {
            let _ = write!(body, " data-{name}=\"{}\"", HtmlText(text));
        }
        let _ = write!(
            body,
            "><p>{}</p><input type=\"file\" id=\"chosen\" multiple><label class=\"button\" for=\"chosen\">{}</label>\
             <noscript><form action=\"in/\" method=\"post\" enctype=\"multipart/form-data\"><input type=\"file\" name=\"file\" \
             multiple required><button>{}</button></form></noscript></div>\
             <ul class=\"uploads\" aria-label=\"{}\" aria-live=\"polite\"></ul>",
            HtmlText(language.drop_here()),
            HtmlText(language.choose_files()),
            HtmlText(language.send()),
            HtmlText(language.uploads_label())
        );
        self.write_chat(&mut body, language, chat);
        body.push_str("</main>");
        let scripts = [Some(&UPLOAD_SCRIPT), chat.map(|_| &CHAT_SCRIPT)];
        self.page(language, &title, &body, &scripts.into_iter().flatten().collect::<Vec<_>>())
    }

    /// Returns the answer to a form with files: what arrived, with its hashes.
    pub(super) fn arrival_page(&self, language: PageLanguage, placed: &[PlacedUpload]) -> String {
        let title = language.arrived(placed.len());
        let mut body = format!("<h1>{}</h1></header><main><ul class=\"uploads\">", HtmlText(&title));
        for PlacedUpload { name, size, hash } in placed {
            let (name, size) = (HtmlText(name), language.size(*size));
            let _ =
                write!(body, "<li><span>{name}</span><span>{}</span><code>BLAKE3 {hash}</code></li>", HtmlText(&size));
        }
        let _ = write!(
            body,
            "</ul><div class=\"bar\"><a class=\"button\" href=\"../\">{}</a></div></main>",
            HtmlText(language.send_more())
        );
        self.page(language, &title, &body, &[])
    }

    fn write_chat(&self, body: &mut String, language: PageLanguage, chat: Option<&ChatSection>) {
        if let Some(chat) = chat {
            chat.write(body, language, &self.owner);
        }
    }

    fn write_list(&self, body: &mut String, language: PageLanguage, size: &str, listing: &FileListing<'_>) {
        if !listing.folder.is_empty() {
            let _ = write!(body, "<nav class=\"crumbs\"><a href=\"./\">{}</a>", HtmlText(language.all_files()));
            for (path, name) in folder_trail(listing.folder) {
                let _ = write!(body, " / <a href=\"{}\">{}</a>", folder_address(path, 1), HtmlText(&shown(name)));
            }
            body.push_str("</nav>");
        }
        let archive = format!("zip/{}.zip", percent_encoded(self.owner.as_bytes()));
        let _ = write!(body, "<form class=\"choice\" action=\"{archive}\"><ul class=\"files\">");
        for row in &listing.rows {
            write_row(body, language, row);
        }
        body.push_str("</ul>");
        if listing.last_page > 1 {
            body.push_str("<nav class=\"pages\">");
            for (page, text) in [(listing.page - 1, language.earlier()), (listing.page + 1, language.further())] {
                if (1..=listing.last_page).contains(&page) {
                    let _ = write!(body, "<a href=\"{}\">{}</a>", folder_address(listing.folder, page), HtmlText(text));
                }
            }
            body.push_str("</nav>");
        }
        let _ = write!(
            body,
            "<div class=\"bar\"><button class=\"quiet\">{}</button><a class=\"button\" href=\"{archive}\" download>{}</a></div></form>",
            HtmlText(language.download_chosen()),
            HtmlText(&language.download_all(size))
        );
    }

    fn page(&self, language: PageLanguage, title: &str, body: &str, scripts: &[&PageAsset]) -> String {
        let mut script = String::new();
        for asset in scripts {
            let _ = write!(script, "<script type=\"module\" src=\"{}\"></script>", HtmlText(&asset.path()));
        }
        // With an empty icon, or browsers would ask for /favicon.ico each time.
        format!(
            "<!doctype html><html lang=\"{}\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title>\
             <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"{}\">{script}</head>\
             <body><header><p class=\"mark\">Vizinho</p>{body}<footer><p>{}</p></footer></body></html>",
            language.tag(),
            HtmlText(title),
            HtmlText(&STYLE.path()),
            // Without the fingerprint: whoever sits in between could write any other here.
            HtmlText(language.privacy())
        )
    }
}

fn write_facts(body: &mut String, facts: &[String]) {
    body.push_str("<p class=\"facts\">");
    for fact in facts {
        let _ = write!(body, "<span>{}</span>", HtmlText(fact));
    }
    body.push_str("</p>");
}

fn write_single_file(body: &mut String, language: PageLanguage, file: &GuestFile) {
    let name = shown(file.name.as_str());
    let _ = write!(
        body,
        "<section class=\"one\"><h2>{}</h2><p>{}</p><a class=\"button\" href=\"{}\" download>{}</a>\
         <code>{} {}</code></section>",
        HtmlText(&name),
        HtmlText(&language.size(file.size)),
        HtmlText(&file_address(file)),
        HtmlText(language.download()),
        HtmlText(language.hash_label()),
        file.hash
    );
}

fn write_row(body: &mut String, language: PageLanguage, row: &ListingRow<'_>) {
    let pick = |body: &mut String, field: &str, value: &dyn Display, name: &str| {
        let choose = language.choose(name);
        let _ = write!(
            body,
            "<label class=\"pick\"><input type=\"checkbox\" name=\"{field}\" value=\"{value}\" aria-label=\"{}\"></label>",
            HtmlText(&choose)
        );
    };
    match row {
        ListingRow::Folder { path, count, bytes } => {
            let name = shown(path.rsplit('/').next().unwrap_or(path));
            body.push_str("<li class=\"folder\">");
            // A folder has no number: it is no record of its own, but the start of the names in it.
            pick(body, "d", &HtmlText(path), &name);
            let _ = write!(
                body,
                "<a class=\"name\" href=\"{}\">{}/</a><span class=\"size\">{} · {}</span></li>",
                folder_address(path, 1),
                HtmlText(&name),
                HtmlText(&language.file_count(*count)),
                HtmlText(&language.size(*bytes))
            );
        }
        ListingRow::File { file, name } => {
            let name = shown(name);
            body.push_str("<li>");
            pick(body, "f", &file.number, &name);
            let _ = write!(
                body,
                "<a class=\"name\" href=\"{}\" download>{}</a><span class=\"size\">{}</span>\
                 <details><summary>{}</summary><code>{}</code></details></li>",
                HtmlText(&file_address(file)),
                HtmlText(&name),
                HtmlText(&language.size(file.size)),
                HtmlText(language.hash_label()),
                file.hash
            );
        }
    }
}

/// Returns the address of a file, relative to its link.
pub fn file_address(file: &GuestFile) -> String {
    format!("file/{}/{}", file.number, percent_encoded(shown(file.name.last_component()).as_bytes()))
}

fn folder_address(folder: &str, page: usize) -> String {
    // For an attribute, in which `&` begins a reference.
    let page = if page > 1 { format!("&amp;page={page}") } else { String::new() };
    format!("./?in={}{page}", percent_encoded(folder.as_bytes()))
}

/// Returns a name for people: decoded, and without characters that hide or turn anything.
fn shown(name: &str) -> String {
    shared::names::name_encoding::display_name(name).into_owned()
}

#[cfg(test)]
mod tests {
    use shared::ContentHash;

    use super::*;
    use crate::engine::guest_links::GuestChatView;

    fn frame() -> PageFrame {
        PageFrame { owner: "alice".to_owned() }
    }

    fn link() -> GuestLink {
        GuestLink {
            number: 1,
            id: "abc".to_owned(),
            nonce: Vec::new(),
            folder: None,
            max_bytes: 1000,
            is_once: true,
            has_chat: false,
            claimed_by: None,
            made_at: 0,
            expires_at: 0,
            address: String::new(),
            pid: None,
        }
    }

    fn file(number: u32, name: &str) -> GuestFile {
        let hash = ContentHash::of(b"");
        let name = shared::FileName::from_raw(name.as_bytes()).unwrap();
        GuestFile { number, name, size: 5, mtime_ns: 0, crc: 0, hash, is_delivered: false }
    }

    #[test]
    fn names_are_text_wherever_they_stand() {
        let hostile = "<img src=x onerror=alert(1)>\" autofocus onfocus='alert(1)";
        let files = [file(0, hostile), file(1, &format!("{hostile}/{hostile}")), file(2, "a\u{1b}[2J\u{200f}")];
        for (files, folder) in
            [(&files[..], ""), (&files[..1], ""), (&files[..], files[1].name.as_str().split('/').next().unwrap())]
        {
            for language in [PageLanguage::English, PageLanguage::BrazilianPortuguese] {
                let page = frame().download_page(language, &link(), files, &FileListing::new(files, folder, 1), None);
                assert!(!page.contains("<img") && !page.contains("\" autofocus"), "{page}");
                assert!(!page.contains('\u{1b}') && !page.contains('\u{200f}'));
            }
        }
        let page = frame().message_page(PageLanguage::English, hostile);
        assert!(!page.contains("<img"), "{page}");
    }

    #[test]
    fn every_page_is_whole_and_says_what_is_true() {
        let (frame, link, files) = (frame(), link(), [file(0, "a b"), file(1, "d/ç#?%.txt")]);
        let chat = ChatSection::new(GuestChatView::default());
        for language in [PageLanguage::English, PageLanguage::BrazilianPortuguese] {
            let pages = [
                frame.enter_page(language, None),
                frame.enter_page(language, Some(language.enter_wrong())),
                frame.message_page(language, language.not_found()),
                frame.download_page(language, &link, &files, &FileListing::new(&files, "", 1), None),
                frame.download_page(language, &link, &files, &FileListing::new(&files, "d", 1), Some(&chat)),
                frame.chat_page(language, &link, &chat),
                frame.upload_page(language, &link, Some(&chat)),
                frame.arrival_page(
                    language,
                    &[PlacedUpload { name: "a".to_owned(), size: 1, hash: ContentHash::of(b"a") }],
                ),
            ];
            for page in pages {
                assert!(
                    page.contains("SHA-256") && page.contains("<h1>") && page.ends_with("</body></html>"),
                    "{page}"
                );
                for element in
                    ["header", "footer", "form", "ul", "li", "nav", "main", "label", "details", "div", "p", "section"]
                {
                    let opened =
                        page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
                    assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element} in {page}");
                }
            }
        }
        let page = frame.download_page(PageLanguage::English, &link, &files, &FileListing::new(&files, "d", 1), None);
        assert!(page.contains("href=\"file/1/%C3%A7%23%3F%25.txt\""), "{page}");
    }
}
