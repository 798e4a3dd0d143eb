//! The commands in Portuguese: their questions, the answers to them, and their notes.

use tests::{Invocation, Lab, User, files};

fn say(user: &User<'_>, words: &[&str]) -> Invocation {
    user.peer(words).env("LANG", "pt_BR.UTF-8")
}

#[test]
fn a_question_takes_answers_in_both_languages() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    for (answer, is_deleted) in [("n", false), ("não", false), ("sy", false), ("s", true), ("sim", true), ("y", true)]
    {
        say(&alice, &["room", "create", "lab"]).run().exits(0);
        let mut terminal = say(&alice, &["room", "delete", "lab"]).in_terminal(100, 12);
        terminal.wait_for("Apagar #lab, com 1 membro, para todos? [s/N]");
        terminal.press(&format!("{answer}\r"));
        let said = if is_deleted { "sala #lab apagada" } else { "nada foi alterado" };
        terminal.wait_for(said);
        terminal.finish().0.exits(0);
        if !is_deleted {
            say(&alice, &["room", "delete", "lab", "--yes"]).run().exits(0).says("sala #lab apagada");
        }
    }
    // In English the answer is English.
    alice.peer(["room", "create", "lab"]).run().exits(0);
    let mut terminal = alice.peer(["room", "delete", "lab"]).in_terminal(100, 12);
    terminal.wait_for("[y/N]");
    terminal.press("s\r");
    terminal.wait_for("nothing was changed");
    terminal.finish().0.exits(0);
}

#[test]
fn a_tracker_s_key_is_confirmed_in_portuguese() {
    let lab = Lab::start();
    let bob = lab.stranger("bob");
    let register = || bob.cautious_peer(["register", "bob"]).env("LANG", "pt_BR.UTF-8");
    let mut terminal = register().in_terminal(40, 30);
    let screen = terminal.wait_for("A chave é a mesma? [sim/não/cole-a]");
    assert!(screen.text().contains("Só o tracker certo pode receber a senha."), "{}", screen.text());
    terminal.press("s\r");
    terminal.wait_for("Responda sim ou não, ou cole");
    terminal.press("não\r");
    terminal.finish().0.exits(11);
    let mut terminal = register().in_terminal(100, 30);
    terminal.wait_for("[sim/não/cole-a]");
    terminal.press("sim\r");
    for label in ["Senha:", "Repita a senha:"] {
        terminal.wait_for(label);
        terminal.wait_until_secret();
        terminal.press("uma senha boa\r");
    }
    terminal.wait_for("conta bob criada em");
    terminal.wait_for("a seguir: `peer share CAMINHO`");
    terminal.finish().0.exits(0);
}

#[test]
fn notes_and_lists_are_portuguese_and_json_is_not() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    files::write(lab.join("ata.txt"), "ata");
    let share = |words: &[&str]| say(&alice, words).folder(lab.join("")).run();
    share(&["share", "ata.txt"]).exits(0).says("1 arquivo compartilhado, 3 B");
    share(&["unshare", "ata.txt"]).exits(0).says("1 arquivo deixou de ser compartilhado");
    say(&alice, &["chat", "bob", "oi"]).run().exits(0).says("mensagem na fila").says("veja `peer outbox`");
    say(&alice, &["outbox"]).run().exits(0).prints("para bob: oi").prints("ainda 14 d");
    say(&alice, &["history"]).run().exits(0).prints("para bob: oi  (aguardando)");
    say(&alice, &["whoami"]).run().exits(0).prints("usuário").prints("compartilhados 0");
    say(&alice, &["inbox"]).run().exits(0).says("nenhuma mensagem não lida");
    say(&alice, &["block", "bob"]).run().exits(0).says("usuário bob bloqueado");
    say(&alice, &["history", "bob", "--forget"]).run().exits(0).says("nenhuma mensagem com bob a apagar");
    say(&alice, &["history", "bobi"]).run().exits(4).says("não existe o usuário \"bobi\"");
    let portuguese = say(&bob, &["--json", "whoami"]).run();
    let english = bob.peer(["--json", "whoami"]).run();
    assert_eq!(portuguese.exits(0).out(), english.exits(0).out());
    let refused = say(&bob, &["--json", "send", "bob", "x"]).run();
    assert_eq!(refused.exits(2).object("error")["message"], "you can't send files to yourself");
}
