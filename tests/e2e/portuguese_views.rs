//! Views, bars and findings in Brazilian Portuguese, which their tables have to fit as well as English.

use tests::{Lab, Screen};

const PORTUGUESE: (&str, &str) = ("LANG", "pt_BR.UTF-8");
const CTRL_D: &str = "\u{4}";

/// Returns the column at which a text begins, where it stands last on the screen.
fn column_of(screen: &Screen, text: &str) -> usize {
    let place = |line: &String| line.find(text).map(|at| line[..at].chars().count());
    screen.lines().iter().rev().find_map(place).unwrap_or_else(|| panic!("no {text:?} in\n{}", screen.text()))
}

#[test]
fn the_line_view_is_portuguese_and_its_help_aligns() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("relatório.pdf", 1_234_567)]);
    let node = bob.serve();
    let mut view = alice.peer(["chat", "bob"]).env(PORTUGUESE.0, PORTUGUESE.1).in_terminal(80, 50);
    view.wait_for("conversando com bob; /help mostra o que há, Ctrl-D sai");
    view.press("/files\r");
    view.wait_for("1    1,23 MB  relatório.pdf");
    view.press("/nada\r");
    view.wait_for("! não existe /nada: /help mostra o que há");
    view.press("olá\r");
    node.wait_for("alice: olá");
    view.wait_for("você: olá");
    view.press("/help\r");
    let screen = view.wait_for("Tab completa");
    let texts = ["baixar um arquivo oferecido", "oferecer um arquivo só", "mostrar mensagens antigas", "uma linha que"];
    let columns = texts.map(|text| column_of(&screen, text));
    assert!(columns.iter().all(|column| *column == columns[0]), "{columns:?}\n{}", screen.text());
    view.press(CTRL_D);
    view.finish().0.exits(0);
}

#[test]
fn the_full_view_is_portuguese_on_wide_and_narrow_screens() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("relatório.pdf", 1_234_567)]);
    let _node = bob.serve();
    for columns in [80, 40] {
        let mut view = alice.peer(["ui"]).env(PORTUGUESE.0, PORTUGUESE.1).in_terminal(columns, 24);
        view.wait_for("[Você: alice]");
        view.wait_for("● bob");
        view.wait_for("?: ajuda  Enter: conversar");
        view.press("?");
        view.wait_for("outra tecla: voltar");
        view.wait_for("o próximo painel");
        view.press("\u{1b}");
        view.wait_for("[Você: alice]");
        view.press(CTRL_D);
        view.finish().0.exits(0);
    }
}

#[test]
fn a_fetch_is_summed_up_in_portuguese_and_programs_read_english() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("relatório.pdf", 1_234_567)]);
    let _node = bob.serve();
    let folder = lab.empty_folder("here");
    let fetch = || alice.fetch("bob", ["relatório.pdf"], &folder).env(PORTUGUESE.0, PORTUGUESE.1);
    fetch().run().exits(0).says("1 arquivo baixado e verificado, 1,23 MB em ");
    fetch().run().exits(0).says("relatório.pdf já existe").says("1 arquivo já existente");
    let failed = alice.peer(["--json", "fetch", "bob", "nada.pdf"]).env(PORTUGUESE.0, PORTUGUESE.1).run();
    assert!(failed.says("error: ").object("error")["message"].as_str().unwrap().is_ascii(), "{failed}");
}

#[test]
fn findings_are_portuguese_for_people_and_english_for_programs() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let doctor = |args: &[&str]| alice.peer(args).env(PORTUGUESE.0, PORTUGUESE.1).run();
    let told = doctor(&["doctor"]);
    told.prints(" conta      alice, em ").prints(" responde por TCP e TLS após ");
    // Behind the mark and the subject, all findings begin in one column.
    for line in told.out().lines().filter(|line| !line.starts_with("    ")) {
        let around: String = line.chars().skip(12).take(2).collect();
        assert!(around.starts_with(' ') && !around.ends_with(' '), "{line:?} of\n{told}");
    }
    doctor(&["--plain", "doctor"]).prints("ok:       conta      alice, em ");
    let read = doctor(&["--json", "doctor"]);
    let texts = read.json().iter().map(|line| line["text"].to_string()).collect::<Vec<_>>().join("\n");
    assert!(texts.contains(" answers by TCP and TLS after ") && texts.is_ascii(), "{texts}");
}
