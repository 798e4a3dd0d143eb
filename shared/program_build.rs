//! Build script of both programs: their version and their translations.

#![expect(clippy::print_stdout, reason = "a build script tells cargo by it")]

#[path = "commit_version.rs"]
mod commit_version;

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    commit_version::main();
    println!("cargo::rerun-if-changed=../shared/program_build.rs");
    println!("cargo::rerun-if-changed=translations/pt_BR");
    let target = Path::new(&std::env::var("OUT_DIR")?).join("translations.rs");
    Ok(localization::compile_translations(Path::new("translations/pt_BR"), &target)?)
}
