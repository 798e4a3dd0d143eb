//! The conversation on the page of a link, as HTML: it works without a script, and what was written is text.

use std::fmt::Write as _;

use shared::safe_text::safe_block;

use super::http_text::HtmlText;
use super::page_texts::{PageLanguage, local_time};
use crate::engine::guest_links::GuestChatView;

/// The texts that the script shows, as attributes of its element.
const SCRIPT_TEXTS: [(&str, &str, &str); 5] = [
    ("you", "You", "Você"),
    ("failed", "This was not sent: try again.", "Não foi enviada: tente de novo."),
    ("lost", "Not connected; trying again…", "Sem conexão; tentando de novo…"),
    ("ended", "The link has ended.", "O link terminou."),
    ("paused", "This conversation is open in another window.", "Esta conversa está aberta em outra janela."),
];

/// A conversation, as the page begins with it.
#[derive(Debug)]
pub(super) struct ChatSection {
    view: GuestChatView,
    /// The id of the message that is written first: sent twice, it is stored once.
    id: String,
}

impl ChatSection {
    pub(super) fn new(view: GuestChatView) -> Self {
        Self { view, id: shared::hex::encode(&rand::random::<[u8; 16]>()) }
    }

    /// Writes the section.
    pub(super) fn write(&self, body: &mut String, language: PageLanguage, owner: &str) {
        let title = language.talks(owner);
        let last = self.view.messages.last().map_or(0, |message| message.seq);
        let _ = write!(
            body,
            "<section class=\"talk\" id=\"talk\" aria-labelledby=\"talk-title\" data-last=\"{last}\" data-owner=\"{}\"",
            HtmlText(owner)
        );
        for (name, english, portuguese) in SCRIPT_TEXTS {
            let _ = write!(body, " data-{name}=\"{}\"", HtmlText(language.pick(english, portuguese)));
        }
        let _ = write!(body, "><h2 id=\"talk-title\">{}</h2><ol class=\"said\" role=\"log\">", HtmlText(&title));
        self.write_messages(body, language, owner);
        body.push_str("</ol>");
        self.write_form(body, language);
        let _ = write!(
            body,
            "<p class=\"state\" role=\"status\"></p><noscript><p><a href=\"./#talk\">{}</a></p></noscript></section>",
            HtmlText(language.pick("Look for an answer", "Ver se há resposta"))
        );
    }

    fn write_messages(&self, body: &mut String, language: PageLanguage, owner: &str) {
        for message in &self.view.messages {
            let (class, who) = match message.is_answer {
                true => ("theirs", owner),
                false => ("ours", language.pick("You", "Você")),
            };
            let _ = write!(
                body,
                "<li class=\"{class}\"><p class=\"by\"><b>{}</b> <time data-at=\"{}\">{}</time></p>\
                 <p class=\"text\" dir=\"auto\">{}</p></li>",
                HtmlText(who),
                message.at,
                HtmlText(&local_time(message.at)),
                HtmlText(&safe_block(message.text.as_received()))
            );
        }
    }

    fn write_form(&self, body: &mut String, language: PageLanguage) {
        let name = self.view.who.as_ref().and_then(|who| who.name.as_ref());
        let _ = write!(
            body,
            "<form class=\"write\" action=\"chat\" method=\"post\"><input type=\"hidden\" name=\"id\" value=\"{}\">\
             <label>{}<input type=\"text\" name=\"name\" value=\"{}\" maxlength=\"32\" autocomplete=\"given-name\"></label>\
             <label>{}<textarea name=\"text\" rows=\"3\" maxlength=\"16384\" required></textarea></label>\
             <button>{}</button></form>",
            HtmlText(&self.id),
            HtmlText(language.pick("Your name, if you like", "Seu nome, se quiser")),
            HtmlText(name.map_or("", |name| name.as_str())),
            HtmlText(language.pick("Message", "Mensagem")),
            HtmlText(language.send())
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::guest_links::{GuestIdentity, GuestMessage};

    #[test]
    fn what_was_written_is_text() {
        let hostile = "<script>alert(1)</script>\" onfocus='x'\u{202e}\u{1b}[2J\n</p></li>&";
        let message = |seq, is_answer| GuestMessage { seq, is_answer, at: 0, text: hostile.into() };
        let who = GuestIdentity { link: 1, guest: 1, name: "<b>O'Ana</b>".parse().ok() };
        let view = GuestChatView { who: Some(who), messages: vec![message(3, false), message(4, true)] };
        for language in [PageLanguage::English, PageLanguage::BrazilianPortuguese] {
            let mut body = String::new();
            ChatSection::new(view.clone()).write(&mut body, language, "alice");
            assert!(!body.contains("<script") && !body.contains("\" onfocus") && !body.contains("<b>O"), "{body}");
            assert!(!body.contains('\u{202e}') && !body.contains('\u{1b}'), "{body}");
            assert_eq!((body.matches("<li").count(), body.matches("</li>").count()), (2, 2));
            assert!(
                body.contains("data-last=\"4\"") && body.contains("value=\"&lt;b&gt;O&#39;Ana&lt;/b&gt;\""),
                "{body}"
            );
        }
    }
}
