//! The texts of `tr!` in Rust sources.

use std::fs::read_to_string;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::UsedText;

/// Returns the texts of `tr!` in all sources below a folder. Tests in them count as well.
///
/// # Panics
/// When a source can't be read, or the macro stands in it in a form that it doesn't have.
pub fn source_texts(folder: &Path) -> Vec<UsedText> {
    let mut texts = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap_or_else(|why| panic!("{folder:?}: {why}")) {
            let path = entry.unwrap_or_else(|why| panic!("{why}")).path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = read_to_string(&path).unwrap_or_else(|why| panic!("{path:?}: {why}"));
                texts.extend(texts_of(&source, &path.display().to_string()));
            }
        }
    }
    texts
}

fn texts_of(source: &str, name: &str) -> Vec<UsedText> {
    let tokens: TokenStream = source.parse().unwrap_or_else(|why| panic!("{name}: {why}"));
    let mut texts = Vec::new();
    collect(tokens, name, &mut texts);
    texts
}

fn collect(tokens: TokenStream, name: &str, texts: &mut Vec<UsedText>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (number, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        collect(group.stream(), name, texts);
        let is_macro = number >= 2
            && matches!(&tokens[number - 2], TokenTree::Ident(name) if name == "tr")
            && is_punct(&tokens[number - 1], '!')
            && group.delimiter() == Delimiter::Parenthesis;
        if is_macro {
            let place = format!("{name}:{}", group.span_open().start().line);
            let arguments: Vec<TokenTree> = group.stream().into_iter().collect();
            let text = used_text(&arguments, &place);
            texts.push(text.unwrap_or_else(|| panic!("{place}: this is no tr!(\"text\", name = value)")));
        }
    }
}

fn used_text(tokens: &[TokenTree], place: &str) -> Option<UsedText> {
    let mut parts = tokens.split(|token| is_punct(token, ','));
    let mut context = None;
    let mut plural = None;
    let mut arguments = Vec::new();
    let text = match parts.next()? {
        [TokenTree::Literal(text)] => string(text)?,
        [TokenTree::Literal(kind), arrow, tip, TokenTree::Literal(text)]
            if is_punct(arrow, '=') && is_punct(tip, '>') =>
        {
            context = Some(string(kind)?);
            string(text)?
        }
        [TokenTree::Literal(singular), bar, TokenTree::Literal(other), percent, _, ..]
            if is_punct(bar, '|') && is_punct(percent, '%') =>
        {
            plural = Some(string(other)?);
            arguments.push("n".to_owned());
            string(singular)?
        }
        _ => return None,
    };
    for part in parts.filter(|part| !part.is_empty()) {
        match part {
            [TokenTree::Ident(name)] => arguments.push(name.to_string()),
            [TokenTree::Ident(name), equals, _, ..] if is_punct(equals, '=') => arguments.push(name.to_string()),
            // The rest of an argument with a comma of its own, as in a list of types.
            _ => {}
        }
    }
    Some(UsedText { place: place.to_owned(), context, text, plural, arguments: Some(arguments) })
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn string(literal: &proc_macro2::Literal) -> Option<String> {
    match syn::Lit::new(literal.clone()) {
        syn::Lit::Str(text) => Some(text.value()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_wherever_they_stand() {
        let source = r##"
            // tr!("in a comment")
            const TEXT: &str = "tr!(\"in a text\")";
            #[error("{}", tr!("a {name} \
                b", name = .name))]
            fn f() { let x = vec![tr!("one" | "many {n}" % items.len(), who, of = g(1, 2),)]; tr!("ctx" => r#"raw"#); strtr!("no") }
        "##;
        let found = texts_of(source, "x.rs");
        let texts: Vec<_> = found.iter().map(|text| (&*text.place, &*text.text)).collect();
        assert_eq!(texts, [("x.rs:4", "a {name} b"), ("x.rs:6", "one"), ("x.rs:6", "raw")]);
        assert_eq!(found[0].arguments, Some(vec!["name".to_owned()]));
        assert_eq!(found[1].arguments, Some(["n", "who", "of"].map(str::to_owned).to_vec()));
        assert_eq!((found[1].plural.as_deref(), found[2].context.as_deref()), (Some("many {n}"), Some("ctx")));
    }

    #[test]
    #[should_panic(expected = "x.rs:1")]
    fn a_text_that_is_none_is_a_fault() {
        texts_of("fn f() { tr!(TEXT) }", "x.rs");
    }
}
