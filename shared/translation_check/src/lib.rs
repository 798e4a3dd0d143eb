//! Compares the texts in the sources with their translations, for tests: nothing is missing, unused, unfinished or says
//! something else.

#![warn(missing_docs)]
#![allow(
    clippy::panic,
    clippy::disallowed_methods,
    reason = "used by tests alone: what can't be read must stop them, and its path is one of this tree"
)]

mod source_texts;
mod text_rules;

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use localization::{PoEntry, parse_po};

pub use source_texts::source_texts;

/// A text that a program shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedText {
    /// Where it is, for people.
    pub place: String,
    /// Tells texts apart that are equal in English.
    pub context: Option<String>,
    /// The English text; of a plural, its singular.
    pub text: String,
    /// The English plural.
    pub plural: Option<String>,
    /// The names of its arguments; `None` for a text without a format, in which braces are braces.
    pub arguments: Option<Vec<String>>,
}

impl UsedText {
    /// Returns a text without a format.
    pub fn plain(place: impl Into<String>, context: Option<&str>, text: impl Into<String>) -> Self {
        let (place, context, text) = (place.into(), context.map(str::to_owned), text.into());
        Self { place, context, text, plural: None, arguments: None }
    }
}

/// Compares texts with the `.po` files in a folder. Returns a line for each fault.
///
/// # Panics
/// When the folder or a file can't be read or isn't in the format.
pub fn translation_faults(used: &[UsedText], folder: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let mut entries = BTreeMap::<(Option<String>, String), (String, PoEntry)>::new();
    for (place, entry) in read_entries(folder) {
        entries.insert((entry.context.clone(), entry.text.clone()), (place, entry));
    }
    let mut unused = entries.clone();
    for text in used {
        faults.extend(text_rules::source_faults(text).into_iter().map(|fault| format!("{}: {fault}", text.place)));
        let key = (text.context.clone(), text.text.clone());
        unused.remove(&key);
        match entries.get(&key) {
            None => faults.push(format!("{}: not translated in {}:\n{}", text.place, folder.display(), template(text))),
            Some((place, entry)) => {
                let found = text_rules::translation_faults(text, entry);
                faults.extend(found.into_iter().map(|fault| format!("{place}: {fault} ({})", text.place)));
            }
        }
    }
    faults.extend(unused.into_values().map(|(place, entry)| format!("{place}: nothing uses {:?}", entry.text)));
    faults.sort();
    faults.dedup();
    faults
}

/// Returns the entries of all files in a folder, with their places.
fn read_entries(folder: &Path) -> Vec<(String, PoEntry)> {
    let listed = folder.read_dir().unwrap_or_else(|why| panic!("{folder:?}: {why}"));
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.unwrap_or_else(|why| panic!("{why}")).path()).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "po")) {
        let source = read_to_string(path).unwrap_or_else(|why| panic!("{path:?}: {why}"));
        let entries = parse_po(&source).unwrap_or_else(|why| panic!("{path:?}: {why}"));
        all.extend(entries.into_iter().map(|entry| (format!("{}:{}", path.display(), entry.line), entry)));
    }
    all
}

/// Returns the entry to fill in.
fn template(text: &UsedText) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let context = text.context.as_ref().map(|context| format!("msgctxt {}\n", quote(context))).unwrap_or_default();
    match &text.plural {
        None => format!("{context}msgid {}\nmsgstr \"\"\n", quote(&text.text)),
        Some(plural) => format!(
            "{context}msgid {}\nmsgid_plural {}\nmsgstr[0] \"\"\nmsgstr[1] \"\"\n",
            quote(&text.text),
            quote(plural)
        ),
    }
}
