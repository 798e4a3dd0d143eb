//! Repair of texts that are almost JSON: strings put together by hand, with the backslashes of a path or a raw tab;
//! Python's `NaN`; a comma after the last element.

use std::borrow::Cow;

/// Most bytes that a repair may add. A text that needs more was not written by hand.
const GROWTH: usize = 1024 * 1024;

/// Numbers that Python's `json.dumps` writes and JSON can't represent.
const NON_FINITE_WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// Returns the text as the JSON that it was meant to be. In strings, a backslash that begins no escape and a raw
/// control character are escaped. Outside strings, `NaN` and infinities become `null`, and a comma before a closing
/// bracket is removed. Returns `None` if nothing needs repair, or if the result would be more than [`GROWTH`] bytes
/// longer.
pub(super) fn repair_json(text: &str) -> Option<String> {
    // Bytes do: all that is looked for is ASCII, which is part of no other character in UTF-8.
    let bytes = text.as_bytes();
    let (mut repaired, mut copied, mut is_inside) = (String::new(), 0, false);
    // The last byte outside strings that is not white space.
    let mut before = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        let (length, instead) =
            if is_inside { fix_in_string(byte, rest) } else { fix_outside_string(before, byte, rest) };
        if let Some(instead) = instead {
            repaired.push_str(text.get(copied..at).unwrap_or_default());
            repaired.push_str(&instead);
            copied = at + length;
        }
        // An escaped quote is passed over with its backslash, so this one begins or ends a string.
        if byte == b'"' {
            is_inside = !is_inside;
        }
        // Of a word that is replaced its first letter: that a value stands before a comma is all that counts.
        if !is_inside && !byte.is_ascii_whitespace() {
            before = byte;
        }
        at += length;
        // A hostile text of control characters would grow six times.
        if repaired.len() > copied + GROWTH {
            return None;
        }
    }
    // No replacement was made, so the text fails for another reason.
    if copied == 0 {
        return None;
    }
    repaired.push_str(text.get(copied..).unwrap_or_default());
    Some(repaired)
}

/// Returns the length of the next unit inside a string, and its replacement if it needs one.
fn fix_in_string(byte: u8, rest: &[u8]) -> (usize, Option<Cow<'static, str>>) {
    match byte {
        b'\\' => escape_length(rest).map_or((1, Some("\\\\".into())), |length| (length, None)),
        // JSON has them as escapes only (RFC 8259, section 7).
        0..0x20 => (1, Some(format!("\\u{byte:04x}").into())),
        _ => (1, None),
    }
}

/// Returns the length of the next unit outside strings, and its replacement if it needs one.
fn fix_outside_string(before: u8, byte: u8, rest: &[u8]) -> (usize, Option<Cow<'static, str>>) {
    match byte {
        // Only where a value may begin: elsewhere these bytes are an error that the parser reports.
        b'N' | b'I' | b'-' if matches!(before, b':' | b',' | b'[') => {
            let is_here =
                |word: &&&[u8]| rest.starts_with(word) && !rest.get(word.len()).is_some_and(u8::is_ascii_alphanumeric);
            NON_FINITE_WORDS.iter().find(is_here).map_or((1, None), |word| (word.len(), Some("null".into())))
        }
        // A comma that follows no value stays, and the parser rejects it.
        b',' if !matches!(before, 0 | b':' | b',' | b'[' | b'{') => {
            let next = rest.iter().skip(1).find(|next| !next.is_ascii_whitespace());
            (1, matches!(next, Some(b'}' | b']')).then_some(Cow::Borrowed("")))
        }
        _ => (1, None),
    }
}

/// Returns the length of the escape at the start of `bytes`, or `None` if there is none.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        // Half of a surrogate pair is left as it is: it fails its field and not the request.
        b'u' => bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_put_together_by_hand() {
        let read = |text: &str| {
            let value: serde_json::Value = serde_json::from_str(&repair_json(text).unwrap()).unwrap();
            value["a"].as_str().unwrap().to_owned()
        };
        assert_eq!(read(r#"{"a":"C:\Users\x\files"}"#), "C:\\Users\\x\u{c}iles");
        assert_eq!(read("{\"a\":\"x\ty\\z\u{1}é\"}"), "x\ty\\z\u{1}é");
        assert_eq!(read(r#"{"a":"\u00e9\u12\\"}"#), "é\\u12\\");
        assert_eq!(repair_json(&format!("{{\"a\":\"{}\"}}", "\u{1}".repeat(GROWTH))), None);
        for (text, meant) in [
            (r#"{"a":NaN}"#, r#"{"a":null}"#),
            (r#"{"a":[ -Infinity ,Infinity, NaN]}"#, r#"{"a":[ null ,null, null]}"#),
            ("{\"a\":[1,{\"b\":2 , },\n], }", "{\"a\":[1,{\"b\":2  }\n] }"),
            (r#"{"a":"NaN,}", }"#, r#"{"a":"NaN,}" }"#),
            (r#"{"a":"\z",}"#, r#"{"a":"\\z"}"#),
        ] {
            assert_eq!(repair_json(text).as_deref(), Some(meant), "{text}");
        }
        for wrong in ["{\"a\":NaNa}", "{,}", "{\"a\":,}", "[1,,]", "{\"a\":-Infinit}", "{NaN:1}"] {
            assert!(repair_json(wrong).is_none(), "{wrong}");
        }
        for fine in [r#"{"a":"\\x \" \ud83d"}"#, "{\t\n\"a\": 1}", ""] {
            assert_eq!(repair_json(fine), None, "{fine}");
        }
    }

    proptest! {
        #[test]
        fn what_is_json_stays_as_it_is(text: String) {
            let json = serde_json::json!({ "a": text }).to_string();
            prop_assert_eq!(repair_json(&json), None);
        }

        #[test]
        fn what_was_repaired_needs_no_more(text: String) {
            if let Some(once) = repair_json(&text) {
                prop_assert!(repair_json(&once).is_none(), "{}", once);
            }
        }

        #[test]
        fn raw_text_in_a_string_is_taken_as_it_is(raw in "[a-z\\t\\n\u{1}é/ ]{0,20}") {
            let json = format!("{{\"a\":\"{raw}\"}}");
            let text = repair_json(&json).unwrap_or(json);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(value["a"].as_str().unwrap(), raw);
        }
    }
}
