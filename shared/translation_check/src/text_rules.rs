//! What makes a text or its translation wrong.

use std::collections::BTreeSet;

use localization::PoEntry;

use crate::UsedText;

/// Returns what is wrong with a text in the sources.
pub(crate) fn source_faults(text: &UsedText) -> Vec<String> {
    let mut faults = Vec::new();
    let is_format = text.arguments.is_some();
    let texts = std::iter::once(&text.text).chain(&text.plural);
    for text in texts.clone() {
        // A paragraph of help may be indented as a whole.
        let line = if is_format { text } else { text.trim_start() };
        if line.trim() != line || line.is_empty() {
            faults.push(format!("empty, or with spaces around it: {text:?}"));
        }
        if text.contains(|c: char| c.is_control() && c != '\n') {
            faults.push(format!("control characters: {text:?}"));
        }
    }
    let Some(arguments) = &text.arguments else { return faults };
    for text in texts {
        match placeholders(text) {
            Err(why) => faults.push(format!("{why}: {text:?}")),
            Ok(names) => faults.extend(
                names
                    .iter()
                    .filter(|name| !arguments.iter().any(|argument| argument == **name))
                    .map(|name| format!("no argument {name}: {text:?}")),
            ),
        }
    }
    faults
}

/// Returns what is wrong with the translation of a text.
pub(crate) fn translation_faults(text: &UsedText, entry: &PoEntry) -> Vec<String> {
    let mut faults = Vec::new();
    if entry.is_fuzzy {
        faults.push("fuzzy: look at the translation and take the mark away".to_owned());
    }
    if entry.plural != text.plural {
        faults.push(format!("its plural is {:?} in the code", text.plural));
        return faults;
    }
    let forms = if entry.plural.is_some() { 2 } else { 1 };
    if entry.forms.len() != forms || entry.forms.iter().any(|form| form.trim().is_empty()) {
        faults.push("without a translation".to_owned());
        return faults;
    }
    let originals = std::iter::once(&text.text).chain(&text.plural);
    for (original, form) in originals.zip(&entry.forms) {
        let indent = |text: &str| text.len() - text.trim_start().len();
        if form.trim_end() != form || indent(form) != indent(original) {
            faults.push(format!("other spaces around it than the text: {form:?}"));
        }
        if form.contains(|c: char| c.is_control() && c != '\n') {
            faults.push(format!("control characters: {form:?}"));
        }
        if form.matches('\n').count() != original.matches('\n').count() {
            faults.push(format!("it has other lines than the text: {form:?}"));
        }
        if words_of_programs(original) != words_of_programs(form) {
            let (there, here) = (words_of_programs(original), words_of_programs(form));
            let differ: Vec<_> = there.symmetric_difference(&here).collect();
            faults.push(format!("options or variables differ, {differ:?}: {form:?}"));
        }
        if text.arguments.is_some() {
            faults.extend(placeholder_faults(original, form, text.plural.is_some()));
        }
    }
    faults
}

fn placeholder_faults(original: &str, form: &str, is_plural: bool) -> Option<String> {
    // Zero has the singular's form in Portuguese, so the number may stand there only.
    let optional = |name: &&str| is_plural && *name == "n";
    match (placeholders(original), placeholders(form)) {
        (Ok(original), Ok(form)) => {
            let differ: Vec<_> = original.symmetric_difference(&form).filter(|name| !optional(name)).collect();
            (!differ.is_empty()).then(|| format!("its placeholders differ: {differ:?}"))
        }
        (_, Err(why)) => Some(format!("{why}: {form:?}")),
        // Said of the text itself.
        (Err(_), _) => None,
    }
}

/// Returns the names in braces. Fails for any other brace.
fn placeholders(text: &str) -> Result<BTreeSet<&str>, &'static str> {
    let mut names = BTreeSet::new();
    let mut rest = text;
    while let Some(place) = rest.find(['{', '}']) {
        let inner = rest[place..].strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = inner.ok_or("a brace that isn't of {name}")?;
        let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_name {
            return Err("a placeholder that isn't {name}");
        }
        names.insert(name);
        rest = after;
    }
    Ok(names)
}

/// Returns the long options and variables that a text names: they are the same in each language.
fn words_of_programs(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    let is_option =
        |word: &&str| word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    let is_variable = |word: &&str| word.starts_with("VIZINHO_") || word.starts_with("XDG_");
    words.filter(|word| is_option(word) || is_variable(word)).map(|word| word.trim_end_matches('-')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(text: &str, plural: Option<&str>, arguments: &[&str]) -> UsedText {
        let arguments = arguments.iter().map(|name| (*name).to_owned()).collect();
        let plain = UsedText::plain("x", None, text);
        UsedText { plural: plural.map(str::to_owned), arguments: Some(arguments), ..plain }
    }

    fn entry(text: &UsedText, forms: &[&str]) -> PoEntry {
        let forms = forms.iter().map(|form| (*form).to_owned()).collect();
        PoEntry { text: text.text.clone(), plural: text.plural.clone(), forms, ..PoEntry::default() }
    }

    #[test]
    fn a_text_has_names_in_its_braces() {
        assert!(source_faults(&used("{a} of {b_2}", None, &["a", "b_2"])).is_empty());
        assert!(source_faults(&used("{n} file", Some("{n} files of {who}"), &["n", "who"])).is_empty());
        for text in ["{}", "{a:>3}", "{{a}}", "{a", "a}", "{b}", " a", "a\u{1b}b", "{a}\n"] {
            assert!(!source_faults(&used(text, None, &["a"])).is_empty(), "{text:?}");
        }
        // Help has no format.
        assert!(source_faults(&UsedText::plain("x", None, r#"{"v":1}"#)).is_empty());
    }

    #[test]
    fn a_translation_says_the_same() {
        let text = used("{a} with --all of {b}", None, &["a", "b"]);
        assert!(translation_faults(&text, &entry(&text, &["--all de {b} com {a}"])).is_empty());
        for form in [
            "",
            "{a} com --all",
            "{a} com --tudo de {b}",
            "{a} de {b}",
            "{a} com --all de {b} ",
            "{a}\n --all {b}",
            "{a} --all {b} {c}",
        ] {
            assert!(!translation_faults(&text, &entry(&text, &[form])).is_empty(), "{form:?}");
        }
        let fuzzy = PoEntry { is_fuzzy: true, ..entry(&text, &["--all de {b} com {a}"]) };
        assert_eq!(translation_faults(&text, &fuzzy).len(), 1);
        let plural = used("one", Some("{n} of {a}"), &["n", "a"]);
        assert!(translation_faults(&plural, &entry(&plural, &["{n} um", "{n} de {a}"])).is_empty());
        assert!(!translation_faults(&plural, &entry(&plural, &["um"])).is_empty());
        assert!(!translation_faults(&plural, &entry(&plural, &["um de {a}", "{n} de {a}"])).is_empty());
    }
}
