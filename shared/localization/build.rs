//! Compiles the translations of the library crates.

#![allow(unreachable_pub, dead_code, reason = "the modules are those of the library")]

#[path = "src/compilation.rs"]
mod compilation;
#[path = "src/po_file.rs"]
mod po_file;

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../translations/pt_BR");
    let target = std::env::var("OUT_DIR")?;
    Ok(compilation::compile_translations(
        Path::new("../translations/pt_BR"),
        &Path::new(&target).join("translations.rs"),
    )?)
}
