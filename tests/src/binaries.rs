//! Finding the binaries: `cargo test` doesn't build those of other packages.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A folder with ready binaries, in place of building them.
const OVERRIDE: &str = "VIZINHO_TEST_BIN_DIR";

static BUILT: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();

/// The path of `peer` or `tracker`, built once a process in the profile that this code was built in.
///
/// # Panics
/// When they don't build.
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os(OVERRIDE) {
        let path = Path::new(&folder).join(name);
        assert!(path.is_file(), "{OVERRIDE} names {}, where no {name} is", path.display());
        return path;
    }
    let built = BUILT.get_or_init(build);
    built.get(name).unwrap_or_else(|| panic!("cargo built no {name}, only {:?}", built.keys())).clone()
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn build() -> HashMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--message-format=json-render-diagnostics",
        "-p",
        "tracker",
        "-p",
        "peer",
        "--bins",
    ]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What cargo told this process about its own package is not for that one.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_BIN_") {
            cargo.env_remove(&name);
        }
    }
    let output = cargo.current_dir(workspace()).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "peer and tracker must build");
    let artifacts = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| {
        let message: serde_json::Value = serde_json::from_slice(line).ok()?;
        let path = PathBuf::from(message["executable"].as_str()?);
        Some((message["target"]["name"].as_str()?.to_owned(), path))
    });
    artifacts.collect()
}
