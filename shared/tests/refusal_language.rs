//! What goes over the wire has the language of its dialect, whatever that of the program is.

use localization::{Language, in_language};
use shared::names::NameError;
use shared::tracker::{Dialect, parse_request};

#[test]
fn the_english_dialect_stays_english() {
    shared::use_translations();
    let refusals = || {
        let refused = parse_request(r#"{"action":"REGISTER","user":"a b","password":"x"}"#);
        let partly = r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"","size":1},{"name":"b","size":1}]}"#;
        let refusal = refused.request.err().map(|refusal| refusal.message.into_received());
        (refusal, parse_request(partly).left_out.reasons(Dialect::Action))
    };
    let (refusal, reasons) = in_language(Language::Portuguese, refusals);
    assert!(refusal.is_some_and(|refusal| refusal.starts_with("a name can't contain a space")));
    assert!(reasons.contains("name: it is empty"), "{reasons}");
    assert_eq!(in_language(Language::Portuguese, || NameError::Empty.to_string()), "está vazio");
}
