//! Errors in Portuguese: each reader has a language, whatever that of the node is.

use serde_json::Value;
use tests::{Lab, files};

const PORTUGUESE: &str = "pt_BR.UTF-8";

#[test]
fn a_client_reads_its_language_whatever_the_node_s_is() {
    let lab = Lab::start();
    let (alice, _carol) = (lab.user("alice"), lab.user("carol"));
    for language in ["C.UTF-8", PORTUGUESE] {
        let node = alice.peer(["serve"]).env("LANG", language).start();
        node.wait_for("online ");
        alice.peer(["whoami"]).run().exits(0);
        let say = |words: &[&str]| alice.peer(words).env("LANG", PORTUGUESE).run();
        say(&["chat", "carol", "olá"]).exits(0).says("carol está offline");
        alice.peer(["chat", "carol", "hello"]).run().exits(0).says("carol is offline");
        let told = say(&["--json", "chat", "carol", "hello"]);
        told.exits(0);
        assert_eq!(told.object("ack")["why"], "carol is offline");
        say(&["chat", "--now", "ninguem", "olá"]).exits(4).says("não existe o usuário \"ninguem\"");
        node.interrupt();
        node.finish().exits(130);
    }
}

#[test]
fn an_event_has_the_language_of_its_reader() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.peer(["serve"]).env("LANG", PORTUGUESE).start();
    node.wait_for("online ");
    let mut events = alice.peer(["events"]).env("LANG", PORTUGUESE).open_stdin().start();
    events.write("{\"type\":\"read\",\"from\":\"nobody\",\"ref\":1}\n");
    events.wait_for("\"type\":\"done\"");
    lab.kill_tracker();
    node.wait_for("não foi possível alcançar o tracker");
    let lost = events.wait_for("\"reachable\":false");
    let lost: Value = serde_json::from_str(&lost).unwrap();
    assert!(lost["why"].as_str().unwrap().contains("can't be reached: "), "{lost}");
    events.interrupt();
    events.finish().exits(130);
    node.interrupt();
    node.finish().exits(130);
}

#[test]
fn the_errors_that_people_meet_first_are_portuguese() {
    let lab = Lab::start();
    let (alice, carol, dave) = (lab.user("alice"), lab.user("carol"), lab.stranger("dave"));
    let say = |words: &[&str]| alice.peer(words).env("LANG", PORTUGUESE).run();
    dave.peer(["list"]).env("LANG", PORTUGUESE).run().exits(3).says("você não entrou em nenhuma conta");
    dave.peer(["register", "d ave"]).env("LANG", PORTUGUESE).run().exits(2).says("um nome não pode conter espaço");
    let missing = lab.join("nada");
    say(&["send", "dave", missing.to_str().unwrap()]).exits(2).says("nada: arquivo ou pasta não encontrado");
    say(&["fetch", "alice", "x"]).exits(2).says("alice é você: não há o que baixar de si");
    say(&["room", "join", "lab"]).says("não existe a sala #lab");
    files::write(carol.home().join("profile.db"), "");
    let emptied = carol.peer(["list"]).env("LANG", PORTUGUESE).run();
    emptied.says("o banco de dados da conta").says("está vazio, mas a chave");
    lab.kill_tracker();
    say(&["list"]).exits(7).says("não foi possível alcançar o tracker").says("`peer doctor` investiga o problema");
}
