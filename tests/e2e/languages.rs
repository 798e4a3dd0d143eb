//! The language of messages, help and man pages: by the locale, `--lang` or the configuration file.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;
use tests::binaries::workspace;
use tests::{Invocation, Lab, files};

const PORTUGUESE: &str = "pt_BR.UTF-8";

fn with(invocation: Invocation, variables: &[(&str, &str)]) -> Invocation {
    variables.iter().fold(invocation, |invocation, (name, value)| invocation.env(name, value))
}

#[test]
fn the_locale_chooses_the_language_of_help() {
    let lab = Lab::without_tracker();
    let bob = lab.stranger("bob");
    for (variables, is_portuguese) in [
        (&[("LANG", PORTUGUESE)] as &[(&str, &str)], true),
        (&[("LANG", "pt_PT.UTF-8")], true),
        (&[("LANG", "C")], false),
        (&[("LANG", "")], false),
        (&[("LANG", "xx_YY.UTF-8")], false),
        (&[("LANG", PORTUGUESE), ("LC_ALL", "C")], false),
        (&[("LANG", "en_US.UTF-8"), ("LC_MESSAGES", PORTUGUESE)], true),
        (&[("LANG", "en_US.UTF-8"), ("LANGUAGE", "pt_BR:en")], true),
    ] {
        let shown = with(bob.peer(["fetch", "--help"]), variables).run();
        shown.exits(0).prints(if is_portuguese { "Uso: peer fetch [OPÇÕES]" } else { "Usage: peer fetch [OPTIONS]" });
        shown.prints(if is_portuguese { "Baixar arquivos" } else { "Download files" });
    }
    for option in [&["--lang", "pt-BR"] as &[&str], &["--lang=pt_BR.UTF-8"], &["--lang", "pt"]] {
        bob.peer(option).arg("--help").run().exits(0).prints("Arquivos  share").prints("Códigos de saída:");
    }
    bob.peer(["--lang", "en", "--help"]).env("LANG", PORTUGUESE).run().exits(0).prints("Exit codes:");
    let unknown = bob.peer(["--lang", "klingon", "list"]).env("LANG", PORTUGUESE).run();
    unknown.exits(2).says("valor inválido 'klingon' para '--lang <IDIOMA>'").says("en and pt-BR");
}

#[test]
fn errors_in_the_arguments_have_the_language() {
    let lab = Lab::without_tracker();
    let bob = lab.stranger("bob");
    for (args, said) in [
        (&["fecth"] as &[&str], "erro: não existe o comando 'fecth'"),
        (&["fecth"], "dica: há um comando parecido: 'fetch'"),
        (&["fetch"], "erro: faltam argumentos obrigatórios:"),
        (&["get", "bob"], "não existe `peer get`: talvez seja `peer fetch USER NAME`"),
        (&["serve", "--port", "80"], "80 não está em 1024..=65535"),
        (&["register", "a b"], "um nome não pode conter espaço"),
        (&["fetch", "bob", "-x"], "argumento inesperado '-x'"),
        (&["room", "join"], "o shell toma #lab por comentário"),
    ] {
        let refused = bob.peer(args).env("LANG", PORTUGUESE).run();
        refused.exits(2).says(said).says("Para mais informações, tente '--help'.");
        let english = bob.peer(args).run();
        english.exits(2).says("error: ").says("For more information, try '--help'.");
    }
}

#[test]
fn programs_read_english() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    for args in [&["--json", "register", "a b"] as &[&str], &["--json", "files", "nobody"], &["--json", "login"]] {
        let run = |language| bob.peer(args).env("LANG", language).run();
        let (english, portuguese) = (run("C.UTF-8"), run(PORTUGUESE));
        assert_eq!(english.out(), portuguese.out(), "{args:?}");
        assert_eq!(english.err(), portuguese.err(), "{args:?}");
        assert_eq!(english.object("error"), portuguese.object("error"));
        let named = bob.peer(args).arg("--lang=pt-BR").run();
        assert_eq!(english.out(), named.out());
    }
}

#[test]
fn the_configuration_file_chooses_too() {
    let lab = Lab::without_tracker();
    let bob = lab.stranger("bob");
    let write = |text: &str| {
        std::fs::create_dir_all(bob.home()).unwrap();
        let path = files::write(bob.home().join("config.toml"), text);
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    };
    write("lang = \"pt-BR\"\n");
    bob.peer(["list", "--help"]).run().exits(0).prints("Mostrar quem está online");
    bob.peer(["list", "--help", "--lang", "en"]).run().exits(0).prints("Show who is online");
    bob.peer(["list", "--help", "--no-config"]).run().exits(0).prints("Show who is online");
    bob.peer(["--json", "config"]).run().exits(0).prints(r#""key":"lang""#);
    write("lang = \"klingon\"\n");
    bob.peer(["list"]).run().exits(2).says("lang").says("the languages are en and pt-BR");
    write("lang = \"pt-BR\"\nlanguage = 1\n");
    bob.peer(["list"]).run().exits(2).says("o arquivo de configuração").says("não existe a chave \"language\"");
}

#[test]
fn completions_describe_in_the_language() {
    let lab = Lab::without_tracker();
    let bob = lab.stranger("bob");
    let asked = bob.peer([""; 0]).args(["completions", "--of", "zsh", "--", "peer", "fet"]);
    asked.clone().env("LANG", PORTUGUESE).run().exits(0).prints("fetch\tBaixar arquivos");
    asked.run().exits(0).prints("fetch\tDownload files");
}

#[test]
fn a_tracker_speaks_to_people_and_logs_in_english() {
    let lab = Lab::without_tracker();
    let tracker = |args: &[&str]| lab.tracker_invocation("127.0.0.1:0").env("LANG", PORTUGUESE).args(args);
    let ask = |args: &[&str]| {
        let program = tests::binaries::binary("tracker");
        let ask = Invocation::new(program, lab.path()).env("LANG", PORTUGUESE).args(args);
        ask.arg("--data-dir").arg(lab.join("tracker")).run()
    };
    std::fs::create_dir_all(lab.join("tracker")).unwrap();
    ask(&["status"]).exits(1).says("nenhum tracker roda na pasta de dados");
    let config = files::write(lab.join("tracker.toml"), "log = \"debug\"\n");
    let running = tracker(&["--config", config.to_str().unwrap()]).start();
    running.wait_for("tracker listening on ");
    running.wait_for("na máquina de cada pessoa");
    ask(&["status"]).exits(0).prints("as contas são criadas com").prints("impressão digital ");
    ask(&["status", "--lang", "en"]).exits(0).prints("accounts are made with");
    ask(&["status", "--json"]).exits(0).prints("\"fingerprint\"");
    ask(&["user", "--help"]).exits(0).prints("Uso: tracker user [OPÇÕES] <COMANDO>").prints("Listar, criar");
    ask(&["user", "ad"]).exits(2).says("erro: não existe o comando 'ad'").says("dica: ");
    // What goes wrong while it runs is for the log.
    files::write(lab.join("tracker.toml"), "log = \"loud\"\n");
    running.send(Signal::HUP);
    running.wait_for("the configuration stays as it was");
    let said = running.said();
    let line = said.lines().find(|line| line.contains("stays as it was")).unwrap_or_default();
    assert!(line.contains("invalid value 'loud'"), "{line}");
    running.terminate();
    running.finish().exits(0);
}

#[test]
fn man_shows_the_page_of_the_language() {
    let lab = Lab::without_tracker();
    let pages = lab.empty_folder("man");
    // As the package installs them.
    for (from, to) in [("man", "man/man1"), ("man/pt_BR/man1", "man/pt_BR/man1")] {
        let page = workspace().join("peer/packaging").join(from).join("peer-fetch.1");
        std::fs::copy(page, lab.empty_folder(to).join("peer-fetch.1")).unwrap();
    }
    let shown = |language: &str| {
        let mut man = Command::new("man");
        man.args(["-P", "cat", "-M"]).arg(&pages).arg("peer-fetch").env_clear();
        man.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LANG", "C.UTF-8").args(["-L", language]);
        man.output().ok().filter(|output| output.status.success())
    };
    let Some(portuguese) = shown("pt_BR.UTF-8") else {
        println!("skipped: there is no man here");
        return;
    };
    let text = String::from_utf8_lossy(&portuguese.stdout).into_owned();
    assert!(text.contains("SINOPSE") && text.contains("Baixar arquivos"), "{text}");
    let english = String::from_utf8_lossy(&shown("en_US.UTF-8").unwrap().stdout).into_owned();
    assert!(english.contains("SYNOPSIS") && english.contains("Download files"), "{english}");
}
