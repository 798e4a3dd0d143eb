//! Translations as `.po` files, the format of GNU gettext that translators' programs read and write.

use std::fmt;

/// One entry of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoEntry {
    /// The line of its `msgid`.
    pub line: usize,
    /// Tells texts apart that are equal in English.
    pub context: Option<String>,
    /// The English text, empty in the file's header.
    pub text: String,
    /// The English plural.
    pub plural: Option<String>,
    /// The translation; of a plural, one for each form.
    pub forms: Vec<String>,
    /// True if a program guessed the translation and nobody has looked at it since.
    pub is_fuzzy: bool,
}

/// The line that is wrong in a file, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoError {
    /// The number of the line.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl fmt::Display for PoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for PoError {}

/// The plural rule of Brazilian Portuguese, which [`crate::Catalogue`] follows.
const PLURAL_RULE: &str = "nplurals=2; plural=(n > 1);";

/// Reads the entries of a file, without its header.
///
/// # Errors
/// A line isn't in the format, or the header has another plural rule.
pub fn parse_po(source: &str) -> Result<Vec<PoEntry>, PoError> {
    let mut reader = PoReader::default();
    for (number, line) in (1..).zip(source.lines()) {
        reader.read_line(line.trim(), number).map_err(|reason| PoError { line: number, reason })?;
    }
    reader.finish_entry();
    let mut entries = reader.entries.into_iter();
    let header = entries.next().filter(|entry| entry.text.is_empty());
    let header = header.ok_or(PoError { line: 1, reason: "the first entry is no header" })?;
    if !header.forms.iter().any(|text| text.contains(PLURAL_RULE)) {
        return Err(PoError { line: header.line, reason: "Plural-Forms isn't nplurals=2; plural=(n > 1);" });
    }
    Ok(entries.collect())
}

/// The string to which further quoted lines belong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum PoField {
    #[default]
    Nothing,
    Context,
    Text,
    Plural,
    Form,
}

#[derive(Debug, Default)]
struct PoReader {
    entries: Vec<PoEntry>,
    entry: PoEntry,
    field: PoField,
}

impl PoReader {
    fn read_line(&mut self, line: &str, number: usize) -> Result<(), &'static str> {
        // Obsolete entries are comments that begin with `#~`.
        if line.is_empty() || line.starts_with('#') {
            if self.field == PoField::Form {
                self.finish_entry();
            }
            self.entry.is_fuzzy |= line.starts_with("#,") && line.contains("fuzzy");
            return Ok(());
        }
        if line.starts_with('"') {
            let more = unquote(line)?;
            self.current().ok_or("a text that belongs to nothing")?.push_str(&more);
            return Ok(());
        }
        let (keyword, quoted) = line.split_once(' ').ok_or("neither a keyword with a text nor a text")?;
        let text = unquote(quoted.trim_start())?;
        match keyword {
            "msgctxt" => {
                self.begin_entry();
                self.entry.context = Some(text);
                self.field = PoField::Context;
            }
            "msgid" => {
                if self.field != PoField::Context {
                    self.begin_entry();
                }
                (self.entry.text, self.entry.line) = (text, number);
                self.field = PoField::Text;
            }
            "msgid_plural" if self.field == PoField::Text => {
                self.entry.plural = Some(text);
                self.field = PoField::Plural;
            }
            "msgstr" if self.field == PoField::Text => self.add_form(text),
            "msgstr[0]" if self.field == PoField::Plural => self.add_form(text),
            "msgstr[1]" if self.field == PoField::Form && self.entry.forms.len() == 1 => self.add_form(text),
            _ => return Err("a keyword that can't stand here"),
        }
        Ok(())
    }

    fn add_form(&mut self, text: String) {
        self.entry.forms.push(text);
        self.field = PoField::Form;
    }

    fn current(&mut self) -> Option<&mut String> {
        match self.field {
            PoField::Nothing => None,
            PoField::Context => self.entry.context.as_mut(),
            PoField::Text => Some(&mut self.entry.text),
            PoField::Plural => self.entry.plural.as_mut(),
            PoField::Form => self.entry.forms.last_mut(),
        }
    }

    /// Ends the entry before, if it isn't ended; the flags above the new one stay.
    fn begin_entry(&mut self) {
        if self.field != PoField::Nothing {
            self.finish_entry();
        }
    }

    fn finish_entry(&mut self) {
        let entry = std::mem::take(&mut self.entry);
        if self.field != PoField::Nothing {
            self.entries.push(entry);
        }
        self.field = PoField::Nothing;
    }
}

fn unquote(quoted: &str) -> Result<String, &'static str> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or("a text without its quotes")?;
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => return Err("a quote within a text"),
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(c @ ('"' | '\\')) => text.push(c),
                _ => return Err("an unknown escape"),
            },
            other => text.push(other),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "msgid \"\"\nmsgstr \"\"\n\"Plural-Forms: nplurals=2; plural=(n > 1);\\n\"\n";

    fn parsed(rest: &str) -> Result<Vec<PoEntry>, PoError> {
        parse_po(&format!("{HEADER}\n{rest}"))
    }

    #[test]
    fn entries_are_read_as_translators_programs_write_them() {
        let entries = parsed(
            "# a remark\n#. of the extractor\n#: src/x.rs:1\n#, fuzzy, c-format\n#| msgid \"before\"\nmsgid \"\"\n\"two \"\n\"lines\\n\"\nmsgstr \"duas \\\"linhas\\\"\\\\\"\n\n\
             msgctxt \"menu\"\nmsgid \"open\"\nmsgstr \"abrir\"\nmsgid \"{n} file\"\nmsgid_plural \"{n} files\"\n\
             msgstr[0] \"a\"\nmsgstr[1] \"\"\n\"b\"\n\n#~ msgid \"gone\"\n#~ msgstr \"x\"\n",
        );
        let entries = entries.unwrap();
        assert_eq!(entries.len(), 3, "{entries:?}");
        assert_eq!((&*entries[0].text, &*entries[0].forms[0]), ("two lines\n", "duas \"linhas\"\\"));
        assert_eq!(entries.iter().map(|entry| entry.is_fuzzy).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!((entries[1].context.as_deref(), &*entries[1].text), (Some("menu"), "open"));
        assert_eq!(
            (entries[2].plural.as_deref(), &*entries[2].forms),
            (Some("{n} files"), &["a".to_owned(), "b".to_owned()][..])
        );
        assert_eq!(entries[1].context.as_deref(), Some("menu"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (rest, line) in [
            ("msgid \"a\"\nmsgstr \"b", 6),
            ("msgid \"a\"\nmsgstr \"\\x\"", 6),
            ("msgid \"a\"\nmsgstr \"\"b\"", 6),
            ("\"lonely\"", 5),
            ("msgid \"a\"\nmsgid_plural \"b\"\nmsgstr \"c\"", 7),
            ("msgid \"a\"\nmsgstr[0] \"c\"", 6),
            ("domain \"a\"", 5),
            ("what", 5),
        ] {
            assert_eq!(parsed(rest).map_err(|why| why.line), Err(line), "{rest:?}");
        }
        assert!(parse_po("").is_err() && parse_po("msgid \"a\"\nmsgstr \"b\"\n").is_err());
        assert!(parse_po("msgid \"\"\nmsgstr \"Plural-Forms: nplurals=3; plural=n;\"\n").is_err());
    }
}
