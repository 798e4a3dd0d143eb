//! The request parser: no panic, an id on one line, and what it takes it takes again when written anew.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::tracker::{Dialect, parse_object, parse_request};

fuzz_target!(|object: &[u8]| {
    let parsed = parse_object(object, Dialect::Cmd);
    assert!(parsed.id.is_none_or(|id| !id.contains(['\n', '\r'])));
    if let Ok(request) = parsed.request {
        let again = serde_json::to_string(&request).expect("a request can be written");
        assert_eq!(parse_request(&again).request, Ok(request));
    }
});
