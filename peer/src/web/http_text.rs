//! Texts of HTTP and HTML: percent-encoding, forms, file names in headers, escaped text. No I/O.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// A text within HTML: never markup, whatever it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct HtmlText<'a>(pub(super) &'a str);

impl fmt::Display for HtmlText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// The number of the last event that a browser got from a stream.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Returns a header as text, if it is there and is text.
pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns bytes for one segment of a path or one value of a query: all but letters, digits and `-._~` as `%XX`.
pub(super) fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Returns the bytes of a segment of a path; what is no `%XX` stands for itself.
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| shared::hex::decode::<1>(digits).ok()).filter(|_| *first == b'%') {
            Some([byte]) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Returns the fields of a query or a form, in order; values that aren't UTF-8 are left out.
pub(super) fn form_fields(text: &str) -> Vec<(String, String)> {
    // The plus before the rest, for `%2B` is one.
    let decode = |text: &str| String::from_utf8(percent_decoded(&text.replace('+', " "))).ok();
    let field = |field: &str| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        Some((decode(name)?, decode(value)?))
    };
    text.split('&').filter(|field| !field.is_empty()).filter_map(field).collect()
}

/// Returns the value of `Content-Disposition` for a file to be saved (RFC 6266): its name for all, and its exact name for
/// whoever reads RFC 8187.
pub(super) fn attachment(name: &str) -> String {
    // Without `%`, which some browsers decode here as well (RFC 6266, appendix D).
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%' | '/') || c == ' ' { c } else { '_' })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent_encoded(name.as_bytes()))
}

/// Returns the value of a cookie among the `Cookie` headers of a request; the first of its name counts.
pub(super) fn cookie_value<'a>(headers: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let mut cookies = headers.flat_map(|header| header.split(';'));
    cookies.find_map(|cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Sets a field of a response; text that no field can have is left out.
pub(super) fn set_field(fields: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        fields.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_is_text() {
        let text = HtmlText("<script>\"a\" & 'b'</script>").to_string();
        assert_eq!(text, "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;");
    }

    proptest! {
        #[test]
        fn percent_encoding_is_undone(bytes: Vec<u8>) {
            let text = percent_encoded(&bytes);
            prop_assert!(text.is_ascii() && !text.contains(['/', '"', '<', ' ', '\n']));
            prop_assert_eq!(percent_decoded(&text), bytes);
        }

        #[test]
        fn escaped_text_has_no_markup(text: String) {
            let escaped = HtmlText(&text).to_string();
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            let back = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
            prop_assert_eq!(back.replace("&amp;", "&"), text);
        }

        #[test]
        fn a_name_never_leaves_its_quotes(name: String) {
            let header = attachment(&name);
            prop_assert!(header.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert_eq!(header.matches('"').count(), 2);
        }
    }

    #[test]
    fn names_in_headers() {
        assert_eq!(
            attachment("Orçamento \"1\".pdf"),
            "attachment; filename=\"Or_amento _1_.pdf\"; filename*=UTF-8''Or%C3%A7amento%20%221%22.pdf"
        );
    }

    #[test]
    fn what_is_no_encoding_stands_for_itself() {
        assert_eq!(percent_decoded("a%2Fb%zz%4"), b"a/b%zz%4");
        assert_eq!(
            form_fields("f=1&d=a%2Fb+c&&x&%ff=1"),
            [("f".to_owned(), "1".to_owned()), ("d".to_owned(), "a/b c".to_owned()), ("x".to_owned(), String::new()),]
        );
        let cookies = || ["a=1; guest=x", "guest=y"].into_iter();
        assert_eq!((cookie_value(cookies(), "guest"), cookie_value(cookies(), "gues")), (Some("x"), None));
    }
}
