//! Texts that programs put together by hand: a path with backslashes, a tab as it is. It is clear what they mean.

/// Bytes that a text may grow by; one that needs more was not written by hand.
const GROWTH: usize = 1024 * 1024;

/// Returns the JSON text with the strings in it made proper: a backslash that begins no escape stands for itself, and
/// so does a control character. `None` when there is nothing of the kind, or more than [`GROWTH`] bytes of it.
pub(super) fn repaired(text: &str) -> Option<String> {
    let (mut repaired, mut copied, mut is_inside) = (String::new(), 0, false);
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let length = match byte {
            b'"' => {
                is_inside = !is_inside;
                1
            }
            b'\\' if is_inside => match escape_length(bytes.get(at..).unwrap_or_default()) {
                Some(length) => length,
                None => {
                    repaired.push_str(text.get(copied..at).unwrap_or_default());
                    repaired.push_str("\\\\");
                    copied = at + 1;
                    1
                }
            },
            0..0x20 if is_inside => {
                repaired.push_str(text.get(copied..at).unwrap_or_default());
                repaired.push_str(&format!("\\u{byte:04x}"));
                copied = at + 1;
                1
            }
            _ => 1,
        };
        at += length;
        if repaired.len() > copied + GROWTH {
            return None;
        }
    }
    if copied == 0 {
        return None;
    }
    repaired.push_str(text.get(copied..).unwrap_or_default());
    Some(repaired)
}

/// Returns the bytes of the escape that begins here; `None` when none does.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
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
            let value: serde_json::Value = serde_json::from_str(&repaired(text).unwrap()).unwrap();
            value["a"].as_str().unwrap().to_owned()
        };
        assert_eq!(read(r#"{"a":"C:\Users\x\files"}"#), "C:\\Users\\x\u{c}iles");
        assert_eq!(read("{\"a\":\"x\ty\\z\u{1}é\"}"), "x\ty\\z\u{1}é");
        assert_eq!(read(r#"{"a":"\u00e9\u12\\"}"#), "é\\u12\\");
        assert_eq!(repaired(&format!("{{\"a\":\"{}\"}}", "\u{1}".repeat(GROWTH))), None);
        for fine in [r#"{"a":"\\x \" \ud83d"}"#, "{\t\n\"a\": 1}", ""] {
            assert_eq!(repaired(fine), None, "{fine}");
        }
    }

    proptest! {
        #[test]
        fn what_is_json_stays_as_it_is(text: String) {
            let json = serde_json::json!({ "a": text }).to_string();
            prop_assert_eq!(repaired(&json), None);
        }

        #[test]
        fn what_was_repaired_needs_no_more(text: String) {
            if let Some(once) = repaired(&text) {
                prop_assert!(repaired(&once).is_none(), "{}", once);
            }
        }

        #[test]
        fn raw_text_in_a_string_is_taken_as_it_is(raw in "[a-z\\t\\n\u{1}é/ ]{0,20}") {
            let json = format!("{{\"a\":\"{raw}\"}}");
            let text = repaired(&json).unwrap_or(json);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(value["a"].as_str().unwrap(), raw);
        }
    }
}
