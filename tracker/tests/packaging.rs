//! What is installed beside the binary: the man page says what the command line says, and the files fit together.

use std::fs::{File, read_to_string};
use std::io::Write;
use std::path::PathBuf;

use clap::CommandFactory;
use tracker::daemon::{Args, Settings};

fn packaging(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// `UPDATE_MAN=1 cargo test -p tracker --test packaging` writes the page anew.
#[test]
fn the_man_page_is_current() {
    let mut page = Vec::new();
    clap_mangen::Man::new(Args::command()).render(&mut page).unwrap();
    let path = packaging("tracker.1");
    if std::env::var_os("UPDATE_MAN").is_some() {
        File::create(&path).unwrap().write_all(&page).unwrap();
    }
    let current = read_to_string(&path).unwrap();
    assert_eq!(current, String::from_utf8(page).unwrap(), "see above how to write it anew");
}

#[test]
fn the_installed_configuration_is_one() {
    let path = packaging("tracker.toml");
    let words = ["tracker".into(), "--config".into(), path.clone().into_os_string()];
    let settings = Settings::resolve(&words).unwrap();
    assert_eq!(settings.args.data_folder(), Some("/var/lib/vizinho-tracker".into()));
    // What is commented out is right, too.
    let all: String = read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") && !rest.contains('`') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let table: toml::Table = all.parse().unwrap();
    assert_eq!(table.len(), 4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.toml");
    File::create(&path).unwrap().write_all(all.as_bytes()).unwrap();
    Settings::resolve(&["tracker".into(), "--config".into(), path.into_os_string()]).unwrap();
}

#[test]
fn what_the_package_installs_is_there() {
    let manifest: toml::Table =
        read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap().parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    for asset in deb["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        let built = source.starts_with("target/");
        assert!(built || packaging("..").join(source).exists(), "{source}");
    }
    let unit = read_to_string(packaging("units/vizinho-tracker.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/tracker --config /etc/vizinho/tracker.toml"));
}
