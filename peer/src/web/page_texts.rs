//! The texts of the pages, in the languages that they speak. Whole sentences; what stands in them is text, not markup.

use localization::{Language, in_language};

use crate::engine::size_format::format_size;
use crate::sys::time_zone;

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageLanguage {
    English,
    BrazilianPortuguese,
}

impl PageLanguage {
    /// Returns the language that a reader prefers, by `Accept-Language`.
    pub(super) fn preferred(accept: Option<&str>) -> Self {
        let weight = |prefix: &str| {
            let ranges = accept.unwrap_or_default().split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let tag = parts.next()?.to_ascii_lowercase();
                // A range without a weight has the full one (RFC 9110, 12.4.2).
                let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
                (tag == prefix || tag.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'))).then_some(quality)
            });
            // `f32::max` passes over `q=nan`, which parses as a number.
            ranges.fold(0.0, f32::max)
        };
        if weight("pt") > weight("en") { Self::BrazilianPortuguese } else { Self::English }
    }

    /// Returns the tag of the language.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::BrazilianPortuguese => "pt-BR",
        }
    }

    pub(super) const fn pick(self, english: &'static str, portuguese: &'static str) -> &'static str {
        match self {
            Self::English => english,
            Self::BrazilianPortuguese => portuguese,
        }
    }

    pub(super) fn size(self, bytes: u64) -> String {
        self.format(|| format_size(bytes))
    }

    /// Formats a text of the program in this language, or several in a value, whatever that of the process is.
    pub(super) fn format<T>(self, text: impl FnOnce() -> T) -> T {
        in_language(
            match self {
                Self::English => Language::English,
                Self::BrazilianPortuguese => Language::Portuguese,
            },
            text,
        )
    }

    pub(super) const fn busy(self) -> &'static str {
        self.pick("too many uploads at once: try again", "envios demais ao mesmo tempo: tente de novo")
    }

    pub(super) const fn failed(self) -> &'static str {
        self.pick(
            "that failed on the other side: try again later",
            "isso falhou do outro lado: tente de novo mais tarde",
        )
    }

    pub(super) fn file_count(self, count: usize) -> String {
        match (self, count) {
            (Self::English, 1) => "1 file".to_owned(),
            (Self::English, _) => format!("{count} files"),
            (Self::BrazilianPortuguese, 1) => "1 arquivo".to_owned(),
            (Self::BrazilianPortuguese, _) => format!("{count} arquivos"),
        }
    }

    pub(super) fn gives(self, owner: &str, count: usize) -> String {
        let files = self.file_count(count);
        match self {
            Self::English => format!("{owner} gives you {files}"),
            Self::BrazilianPortuguese => format!("{owner} tem {files} para você"),
        }
    }

    pub(super) fn takes(self, owner: &str) -> String {
        match self {
            Self::English => format!("Send files to {owner}"),
            Self::BrazilianPortuguese => format!("Envie arquivos para {owner}"),
        }
    }

    pub(super) fn until(self, time: &str) -> String {
        match self {
            Self::English => format!("until {time}"),
            Self::BrazilianPortuguese => format!("até {time}"),
        }
    }

    pub(super) fn up_to(self, size: &str) -> String {
        match self {
            Self::English => format!("up to {size} in all"),
            Self::BrazilianPortuguese => format!("até {size} no total"),
        }
    }

    pub(super) const fn once_note(self) -> &'static str {
        self.pick("only in this browser, until you have everything", "só neste navegador, até você ter tudo")
    }

    pub(super) const fn download(self) -> &'static str {
        self.pick("Download", "Baixar")
    }

    pub(super) fn download_all(self, size: &str) -> String {
        match self {
            Self::English => format!("Download all (zip, {size})"),
            Self::BrazilianPortuguese => format!("Baixar tudo (zip, {size})"),
        }
    }

    pub(super) const fn download_chosen(self) -> &'static str {
        self.pick("Download chosen (zip)", "Baixar escolhidos (zip)")
    }

    pub(super) fn choose(self, name: &str) -> String {
        match self {
            Self::English => format!("Choose {name}"),
            Self::BrazilianPortuguese => format!("Escolher {name}"),
        }
    }

    pub(super) const fn all_files(self) -> &'static str {
        self.pick("All files", "Todos os arquivos")
    }

    pub(super) const fn further(self) -> &'static str {
        self.pick("Further files", "Mais arquivos")
    }

    pub(super) const fn earlier(self) -> &'static str {
        self.pick("Earlier files", "Arquivos anteriores")
    }

    pub(super) const fn hash_label(self) -> &'static str {
        self.pick("BLAKE3 hash", "Hash BLAKE3")
    }

    pub(super) const fn enter_title(self) -> &'static str {
        self.pick("Enter the code", "Digite o código")
    }

    pub(super) const fn enter_label(self) -> &'static str {
        self.pick(
            "The code stands beside the QR code, on the screen of whoever gave you this address.",
            "O código está ao lado do QR code, na tela de quem lhe deu este endereço.",
        )
    }

    pub(super) const fn enter_button(self) -> &'static str {
        self.pick("Open", "Abrir")
    }

    pub(super) const fn enter_wrong(self) -> &'static str {
        self.pick(
            "That opens nothing here. The code may be mistyped, or the link may have ended: ask for a new one.",
            "Isso não abre nada aqui. O código pode estar errado, ou o link pode ter terminado: peça outro.",
        )
    }

    pub(super) const fn enter_wait(self) -> &'static str {
        self.pick(
            "Too many wrong codes came from your network: wait a minute, then try again.",
            "Vieram códigos errados demais da sua rede: espere um minuto e tente de novo.",
        )
    }

    pub(super) const fn not_found(self) -> &'static str {
        self.pick(
            "There is nothing at this address: open the whole link that you were given.",
            "Não há nada neste endereço: abra o link inteiro que você recebeu.",
        )
    }

    pub(super) const fn file_gone(self) -> &'static str {
        self.pick(
            "This file is not there any more: ask for a new link.",
            "Este arquivo não está mais lá: peça um novo link.",
        )
    }

    pub(super) const fn file_changed(self) -> &'static str {
        self.pick(
            "This file changed since the link was made: ask for a new link.",
            "Este arquivo mudou desde que o link foi feito: peça um novo link.",
        )
    }

    pub(super) const fn drop_here(self) -> &'static str {
        self.pick("Drop files here, or", "Solte arquivos aqui, ou")
    }

    pub(super) const fn choose_files(self) -> &'static str {
        self.pick("Choose files", "Escolher arquivos")
    }

    pub(super) const fn send(self) -> &'static str {
        self.pick("Send", "Enviar")
    }

    pub(super) fn arrived(self, count: usize) -> String {
        match (self, count) {
            (Self::English, 0) => "No file was chosen".to_owned(),
            (Self::English, 1) => "1 file arrived".to_owned(),
            (Self::English, _) => format!("{count} files arrived"),
            (Self::BrazilianPortuguese, 0) => "Nenhum arquivo foi escolhido".to_owned(),
            (Self::BrazilianPortuguese, 1) => "1 arquivo chegou".to_owned(),
            (Self::BrazilianPortuguese, _) => format!("{count} arquivos chegaram"),
        }
    }

    pub(super) const fn send_more(self) -> &'static str {
        self.pick("Send more", "Enviar mais")
    }

    pub(super) const fn uploads_label(self) -> &'static str {
        self.pick("Files on their way", "Arquivos a caminho")
    }

    pub(super) const fn privacy(self) -> &'static str {
        self.pick(
            "The connection is encrypted: nobody who listens learns anything. Your browser can't know this machine, hence its \
             warning. Whether somebody sits in between shows only when you compare the SHA-256 fingerprint of the \
             certificate, which your browser shows beside the address, with the one on the screen of whoever gave you this \
             link.",
            "A conexão é cifrada: quem escuta não descobre nada. Seu navegador não tem como conhecer esta máquina, daí o \
             aviso. Se há alguém no meio, só se vê comparando a impressão digital SHA-256 do certificado, que o navegador \
             mostra ao lado do endereço, com a que está na tela de quem lhe deu este link.",
        )
    }

    /// Returns the texts that the script of uploads shows, as attributes of its element.
    pub(super) const fn script_texts(self) -> [(&'static str, &'static str); 9] {
        match self {
            Self::English => [
                ("waiting", "waiting"),
                ("sending", "sending"),
                ("retrying", "interrupted, goes on by itself"),
                ("done", "arrived"),
                ("quota", "the link takes no more than it has"),
                ("room", "there is no room on the other side"),
                ("refused", "this file can't be taken"),
                ("unreadable", "your browser can't read it: is it a folder, or was it moved?"),
                ("ended", "the link has ended"),
            ],
            Self::BrazilianPortuguese => [
                ("waiting", "na fila"),
                ("sending", "enviando"),
                ("retrying", "interrompido, continua sozinho"),
                ("done", "chegou"),
                ("quota", "o link não recebe mais do que já tem"),
                ("room", "não há espaço do outro lado"),
                ("refused", "este arquivo não pode ser recebido"),
                ("unreadable", "o navegador não consegue ler: é uma pasta, ou foi movido?"),
                ("ended", "o link terminou"),
            ],
        }
    }

    pub(super) fn talks(self, owner: &str) -> String {
        match self {
            Self::English => format!("Write to {owner}"),
            Self::BrazilianPortuguese => format!("Escreva para {owner}"),
        }
    }

    pub(super) const fn too_fast(self) -> &'static str {
        self.pick(
            "messages come too fast: wait some seconds, then send this one again",
            "mensagens rápidas demais: espere alguns segundos e envie esta de novo",
        )
    }

    pub(super) const fn cancel(self) -> &'static str {
        self.pick("Cancel", "Cancelar")
    }
}

/// Returns a time as pages show it, in the time zone of this machine.
pub(super) fn local_time(ms: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    moment.to_zoned(time_zone()).strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_language_counts() {
        use PageLanguage::{BrazilianPortuguese as Portuguese, English};
        for (accept, expected) in [
            (None, English),
            (Some(""), English),
            (Some("pt-BR,pt;q=0.9,en;q=0.8"), Portuguese),
            (Some("en-US,en;q=0.9,pt;q=0.8"), English),
            (Some("de, pt;q=0.5"), Portuguese),
            (Some("ptx"), English),
            (Some("PT"), Portuguese),
            (Some("pt;q=0"), English),
            (Some(";;q=,,pt-PT;q=x"), Portuguese),
        ] {
            assert_eq!(PageLanguage::preferred(accept), expected, "{accept:?}");
        }
        assert_eq!(Portuguese.size(1_500_000), "1,50 MB");
    }
}
