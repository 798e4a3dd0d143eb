//! What lasts, in Portuguese: wishes, sends, accepted people, follows, links and the clipboard.

use tests::files;
use tests::{EventProgram, Lab};

const PORTUGUESE: &str = "pt_BR.UTF-8";

#[test]
fn a_wish_is_told_in_the_language_of_its_reader() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.share([lab.file("other", 10)]);
    let hers = alice.serve();
    let say = |words: &[&str]| bob.peer(words).env("LANG", PORTUGUESE).run();
    let his = bob.peer(["serve"]).env("LANG", PORTUGUESE).start();
    his.wait_for("online como bob em ");
    let mut events = EventProgram::start(&bob);
    say(&["wish", "*nual*"]).exits(2).says("\"*nual*\" não fixa o começo de nenhuma palavra");
    say(&["wish", "notes*"]).exits(0).says("aguardando notes*; `peer wishes end 1` encerra isso");
    let into = lab.empty_folder("in");
    let fetch = ["wish", "debian*.iso", "--fetch", "--max", "1M", "-o"];
    bob.peer(fetch).arg(&into).env("LANG", PORTUGUESE).run().exits(0).says("aguardando debian*.iso, que irá para ");
    say(&["wishes"]).exits(0).prints("notes*  aguardando").prints("  em ");
    say(&["wishes", "end", "9"]).exits(2).says("nenhum tem o número ou o nome 9");
    alice.share([lab.file("debian-12.iso", 2_000_000)]);
    alice.share([lab.file("notes.txt", 1000)]);
    hers.wait_for("files are shared now");
    his.wait_for("que não é baixado: o pedido aceita arquivos de no máximo 1,00 MB; `peer fetch alice debian-12.iso`");
    his.wait_for("alice compartilha notes.txt (1,00 kB): `peer fetch alice notes.txt`");
    let mut told = std::iter::from_fn(|| events.next_event()).filter(|event| event["type"] == "wish");
    let held = told.find(|event| event["why"].is_string()).expect("it is told");
    assert_eq!(held["why"], "the wish takes files of at most 1.00 MB");
    say(&["wishes"]).exits(0).prints("notes*  atendido: notes.txt de alice");
    say(&["wishes", "pause", "debian*.iso"]).exits(0).says("pedido em pausa: debian*.iso");
    say(&["wishes", "end", "2"]).exits(0).says("pedido encerrado: debian*.iso");
    let all = say(&["--json", "wishes"]).exits(0).json();
    assert_eq!(all[0]["state"], "fulfilled");
}

#[test]
fn sends_and_accepted_people_are_listed_in_portuguese() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, _his) = (alice.serve(), bob.serve());
    alice.peer(["chat", "bob", "hello"]).run().exits(0);
    bob.peer(["chat", "alice", "hello"]).run().exits(0);
    let say = |words: &[&str]| alice.peer(words).env("LANG", PORTUGUESE).run();
    let hear = |words: &[&str]| bob.peer(words).env("LANG", PORTUGUESE).run();
    say(&["sends"]).exits(0).says("não há envios: ");
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("plano", 10)).run().exits(0);
    say(&["sends", "pause", "plano"]).exits(0).says("envio em pausa: plano (`peer sends resume 1` continua)");
    say(&["sends"]).exits(0).prints("plano (10 B)  em pausa").says("`peer sends end N` o encerra");
    say(&["sends", "resume", "1"]).exits(0).says("envio retomado: plano");
    let into = lab.empty_folder("in");
    let accept = bob.peer(["accept", "alice", "--into"]).arg(&into).env("LANG", PORTUGUESE).run();
    accept.exits(0).says("`peer accepts end alice` encerra isso").says("plano (10 B) está em ");
    hear(&["accepts", "pause", "alice"]).exits(0).says("o que alice envia agora fica aguardando");
    hear(&["accepts"]).exits(0).prints("por dia  (em pausa)");
    hear(&["accepts", "end", "alice"]).exits(0).says("volta a aguardar a sua decisão");
    hear(&["clip", "alice"]).exits(1).says("nenhum programa que conheça a área de transferência está instalado");
}

#[test]
fn a_follow_is_told_in_portuguese_and_recorded_in_english() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let photos = lab.empty_folder("photos");
    files::write(photos.join("a.jpg"), "1");
    bob.share([&photos]);
    let _his = bob.serve();
    let say = |words: &[&str]| alice.peer(words).env("LANG", PORTUGUESE).run();
    say(&["follows"]).exits(0).says("nada é acompanhado: `peer fetch USUÁRIO PASTA/ --follow` começa");
    say(&["fetch", "bob", "*.jpg", "--follow"]).exits(2).says("--follow aceita uma pasta, como photos/");
    let into = lab.empty_folder("in");
    // Where the file would be placed: it is told of by each reader's language.
    std::fs::create_dir_all(into.join("photos/a.jpg")).unwrap();
    let follow = alice.peer(["fetch", "bob", "photos/", "--follow", "-o"]).arg(&into).env("LANG", PORTUGUESE).start();
    follow.wait_for("photos/ de bob: a cópia em ");
    follow.wait_for("photos/a.jpg ainda não está aqui: outra coisa com esse nome está no lugar dele");
    follow.wait_for("photos/ de bob está em dia, menos 1 arquivo, que será tentado de novo: ");
    let listed = say(&["--json", "follows"]).exits(0).object("follow");
    assert_eq!(listed["why"], "a.jpg: something else of that name is in its place");
    say(&["follows"]).exits(0).prints("  bob  photos/  em ").prints("  1 falhou: ");
    say(&["follows", "pause", "1"]).exits(0).says("photos/ de bob está em pausa: `peer follows resume 1` continua");
    follow.finish().exits(0);
    say(&["follows"]).exits(0).prints("  em pausa  (ainda nunca esteve em dia)");
    say(&["follows", "end", "1"]).exits(0).says("photos/ de bob: o acompanhamento terminou; a cópia fica em ");
    say(&["follows", "end", "1"]).exits(2).says("não existe o acompanhamento 1");
}

#[test]
fn a_link_is_described_in_portuguese() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _hers = alice.serve();
    let say = |words: &[&str]| alice.peer(words).env("LANG", PORTUGUESE).run();
    say(&["link"]).exits(2).says("quais arquivos? `peer link CAMINHO` dá um");
    say(&["link", "--for", "2s", "x"]).exits(2).says("um link vive de um minuto a 400 dias");
    say(&["link", "list"]).exits(0).says("não há links: ");
    let made = alice.peer(["link", "--once"]).arg(lab.file("plano.pdf", 1000)).env("LANG", PORTUGUESE).run();
    made.exits(0).prints("código: ").says("link 1 dá 1 arquivo, 1,00 kB, para um só navegador, até ");
    say(&["link", "list"]).exits(0).prints("  1  dá 1 arquivo, 1,00 kB, ");
    say(&["link", "revoke", "1"]).exits(0).says("o link 1 terminou");
    say(&["link", "revoke", "1"]).exits(2).says("não existe o link \"1\"");
}
