//! The texts of the library crates are translated.

use std::path::Path;

use translation_check::{source_texts, translation_faults};

#[test]
fn every_text_is_translated() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["shared/src", "shared/arguments/src", "shared/rooms/src", "shared/mdns/src", "certs/src"];
    let texts: Vec<_> = folders.iter().flat_map(|folder| source_texts(&root.join(folder))).collect();
    let faults = translation_faults(&texts, &root.join("shared/translations/pt_BR"));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
