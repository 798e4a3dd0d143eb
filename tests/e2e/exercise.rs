//! A client of the original exercise, in another language, with plain sockets: all of it goes on working.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use serde_json::{Value, json};
use tests::{Invocation, Lab, PATIENCE, read_available};

pub(crate) fn run_client(lab: &Lab, user: &str, style: &str) {
    client(lab, "exercise_client.py", user, style).run().exits(0).prints_exactly("all six answered\n");
}

fn client(lab: &Lab, script: &str, user: &str, style: &str) -> Invocation {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e").join(script);
    let (host, port) = lab.address().split_once(':').unwrap();
    Invocation::new("python3", lab.path()).arg("-I").arg(script).args([host, port, user, style])
}

#[test]
fn one_connection_for_all() {
    let lab = Lab::start();
    for (number, style) in ["one", "one+newline", "one+pretty", "one+pretty+newline", "one+bytes"].iter().enumerate() {
        run_client(&lab, &format!("student{number}"), style);
    }
}

#[test]
fn a_connection_for_each_request() {
    let lab = Lab::start();
    let styles = ["each", "each+newline", "each+pretty", "each+shutdown", "each+newline+shutdown", "each+bytes+pretty"];
    for (number, style) in styles.iter().enumerate() {
        run_client(&lab, &format!("student{number}"), style);
    }
}

#[test]
fn all_requests_at_once() {
    let lab = Lab::start();
    for (number, style) in ["pipelined", "pipelined+newline", "pipelined+pretty"].iter().enumerate() {
        run_client(&lab, &format!("student{number}"), style);
    }
}

#[test]
fn the_dialect_of_the_exercise_s_own_programs() {
    let lab = Lab::start();
    for (number, style) in ["one", "one+bytes", "one+nul", "one+heartbeat", "each", "each+bytes"].iter().enumerate() {
        let client = client(&lab, "exercise_cmd_client.py", &format!("aluno{number}"), style);
        client.run().exits(0).prints_exactly("all of it, twice\n");
    }
}

/// The students of a class beside one peer of ours.
const CLASS: usize = 23;

#[test]
fn a_class_of_24_is_read_in_one_piece_and_sees_our_peers() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let folder = lab.path().join("stuff");
    for number in 0..60 {
        tests::files::write(folder.join(format!("a rather long name of a file, number {number}.txt")), "x");
    }
    alice.share([&folder]);
    let _node = alice.serve();
    let mut class: Vec<Student> = (0..CLASS).map(|number| Student::arrive(&lab, number)).collect();
    for round in 0..2 {
        for student in &mut class {
            let list = student.ok(&json!({ "cmd": "LIST_PEERS" }));
            let peers = list["peers"].as_object().unwrap();
            assert_eq!(peers.len(), CLASS + 1, "{list}");
            assert!(peers["alice"]["connection"]["porta"].as_u64().unwrap() > 0);
            assert_eq!(peers["alice"]["file_count"], 60, "{list}");
            assert!(
                peers.values().all(|peer| peer["files"].is_array() && peer["connection"]["login_time"].is_string())
            );
            student.ok(&json!({ "cmd": "HEARTBEAT", "user": student.name }));
        }
        // The same in the other dialect, which some of them speak.
        let list = class[round].says(&json!({ "action": "LIST_PEERS" }));
        assert_eq!(list["peers"].as_array().unwrap().len(), CLASS + 1, "{list}");
    }
    let all = class[0].ok_whole(&json!({ "cmd": "LIST_PEERS", "user": "alice" }));
    assert_eq!(all["peers"]["alice"]["files"].as_array().unwrap().len(), 60);
    let listed = alice.peer(["list"]).run();
    listed.exits(0).prints("old client");
    for student in &class {
        listed.prints(&student.name);
    }
    alice.peer(["files", &class[3].name]).run().exits(0).prints("trabalho 3.pdf").prints("trabalho 22.pdf");
}

/// A program of the exercise: what it reads at once is one reply.
struct Student {
    stream: TcpStream,
    name: String,
}

impl Student {
    fn arrive(lab: &Lab, number: usize) -> Self {
        let stream = TcpStream::connect(lab.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut student = Self { stream, name: format!("aluno.{number:02}.{}", "n".repeat(23)) };
        student.ok(&json!({ "cmd": "REGISTER", "user": student.name, "password": "12345" }));
        student.ok(&json!({ "cmd": "LOGIN", "user": student.name, "password": "12345", "porta": 5000 + number }));
        let file = |n| json!({ "name": format!("trabalho {n}.pdf"), "size": 1000 * n, "hash": "d41d8cd98f00b204e9800998ecf8427e" });
        let files: Vec<Value> = (0..30).map(file).collect();
        assert_eq!(student.ok(&json!({ "cmd": "REGISTER_FILES", "user": student.name, "files": files }))["count"], 30);
        student
    }

    /// One send, one recv(4096), one JSON text.
    fn says(&mut self, request: &Value) -> Value {
        self.stream.write_all(request.to_string().as_bytes()).unwrap();
        let mut buffer = [0; 4096];
        let count = read_available(&mut self.stream, &mut buffer).unwrap();
        assert!(count < buffer.len());
        serde_json::from_slice(&buffer[..count])
            .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&buffer[..count])))
    }

    fn ok(&mut self, request: &Value) -> Value {
        let reply = self.says(request);
        assert_eq!(reply["status"], "OK", "{request} got {reply}");
        reply
    }

    /// The same for a reply that is longer.
    fn ok_whole(&mut self, request: &Value) -> Value {
        let mut plain = Plain(self.stream.try_clone().unwrap());
        let reply = plain.ask(request);
        assert_eq!(reply["status"], "OK", "{request} got {reply}");
        reply
    }
}

#[test]
fn our_own_peers_see_that_client_and_say_what_they_cannot_do_with_it() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let mut student = Plain::connect(&lab);
    student.ok(&json!({ "action": "REGISTER", "user": "student", "password": "x" }));
    student.ok(&json!({ "action": "LOGIN", "user": "student", "password": "x", "port": 4321 }));
    let files = json!([{ "name": "notes.txt", "size": 12, "hash": "\u{1b}]0;x" }]);
    let refused = student.ask(&json!({ "action": "REGISTER_FILES", "user": "student", "files": files }));
    assert_eq!(refused["status"], "error", "a hash with an escape sequence in it is no hash");
    let files = json!([{ "name": "notes.txt", "size": 12, "hash": "md5 of notes" }]);
    student.ok(&json!({ "action": "REGISTER_FILES", "user": "student", "files": files }));

    alice.peer(["list"]).run().exits(0).prints("student  127.0.0.1:4321").prints("old client");
    alice.peer(["files", "student"]).run().exits(0).prints("notes.txt");
    alice.peer(["fetch", "student", "notes.txt"]).run().exits(4).says("other peers can't connect to");
    alice.peer(["chat", "student", "hello"]).run().exits(4).says("other peers can't connect to");
}

#[test]
fn people_without_a_key_are_people_to_every_command() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let mut student = Plain::connect(&lab);
    for (user, is_online) in [("zecaon", true), ("zecaoff", false)] {
        student.ok(&json!({ "action": "REGISTER", "user": user, "password": "x" }));
        if is_online {
            student.ok(&json!({ "action": "LOGIN", "user": user, "password": "x", "port": 4321 }));
        }
    }
    for (name, user) in [("zecaon", "zecaon"), ("ZECAON", "zecaon"), ("ZecaOff", "zecaoff")] {
        alice.peer(["block", name]).run().exits(0).says(&format!("blocked {user}"));
        alice.peer(["unblock", name]).run().exits(0).says(&format!("unblocked {user}"));
    }
    alice.peer(["list", "ZECAON"]).run().exits(0).prints("zecaon");
    alice.peer(["files", "ZECAON"]).run().exits(0).says("zecaon shares nothing");
    for command in [&["chat", "ZECAON", "hello"][..], &["fetch", "ZECAON", "notes.txt"]] {
        alice.peer(command.iter()).run().exits(4).says("zecaon is logged in with a client that other peers can't");
    }
    for command in [&["chat", "ZECAOFF", "hello"][..], &["fetch", "zecaoff", "notes.txt"], &["files", "zecaoff"]] {
        alice.peer(command.iter()).run().exits(4).says("zecaoff has only a client that other peers can't connect to");
    }
    alice.peer(["list", "zecaoff"]).run().exits(4).says("zecaoff is offline");
    let _node = alice.serve();
    alice.peer(["chat", "ZECAOFF", "hello"]).run().exits(4).says("has only a client that other peers can't");
    alice.peer(["block", "zecaofff"]).run().exits(4).says("there is no user");
}

#[test]
fn an_account_with_a_key_cannot_be_entered_in_plaintext() {
    let lab = Lab::start();
    lab.user("alice");
    let mut thief = Plain::connect(&lab);
    let reply = thief.ask(&json!({ "action": "LOGIN", "user": "alice", "password": "password of alice" }));
    assert_eq!(reply["code"], "tls_required");
}

#[test]
fn what_is_no_request_is_answered_all_the_same() {
    let lab = Lab::start();
    let mut plain = Plain::connect(&lab);
    for (request, code) in [
        (r#"{"action":"FLY"}"#, "unknown_action"),
        (r#"{"user":"x"}"#, "bad_request"),
        (r#"{"action":"LOGIN","user":"a b","password":"x"}"#, "invalid_user"),
        (r#"{"action":"LOGIN","user":"x","password":"x"}"#, "auth_failed"),
        (r#"{"action":"LOGOUT","user":"x"}"#, "not_logged_in"),
    ] {
        let reply = plain.ask_text(request);
        assert_eq!(reply["code"], code, "{request}: {reply}");
        assert_eq!(reply["status"], "error");
    }
    let echoed = plain.ask_text(r#"{"action":"LIST_PEERS","id":[1,"x"]}"#);
    assert_eq!(echoed["id"], json!([1, "x"]));
}

#[test]
fn another_protocol_gets_one_line_and_goodbye() {
    let lab = Lab::start();
    for greeting in ["GET / HTTP/1.1\r\n\r\n", "SSH-2.0-OpenSSH_9.6\r\n", "\u{0}\u{1}\u{2}"] {
        let mut plain = Plain::connect(&lab);
        plain.0.write_all(greeting.as_bytes()).unwrap();
        let mut answer = String::new();
        // Bytes that were not read when it was closed make it a reset, after the line.
        let _ = plain.0.read_to_string(&mut answer);
        let reply: Value = serde_json::from_str(answer.trim_end()).unwrap_or_else(|why| panic!("{answer:?}: {why}"));
        assert_eq!((&reply["status"], answer.lines().count()), (&json!("error"), 1), "{greeting:?}");
    }
}

#[test]
fn half_a_request_gets_no_answer_and_harms_nobody() {
    let lab = Lab::start();
    let mut plain = Plain::connect(&lab);
    plain.0.write_all(br#"{"action":"LIST_PEERS"} {"action":"LIST_P"#).unwrap();
    plain.0.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    plain.0.read_to_string(&mut answer).unwrap();
    let first = answer.lines().next().expect("what was complete is answered");
    assert_eq!(serde_json::from_str::<Value>(first).unwrap()["status"], "ok");
    assert!(!answer.lines().skip(1).any(|line| line.contains(r#""status":"ok""#)), "{answer}");
    Plain::connect(&lab).ok(&json!({ "action": "LIST_PEERS" }));
}

/// A plaintext connection.
struct Plain(TcpStream);

impl Plain {
    fn connect(lab: &Lab) -> Self {
        let stream = TcpStream::connect(lab.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.ask_text(&request.to_string())
    }

    fn ask_text(&mut self, request: &str) -> Value {
        self.0.write_all(request.as_bytes()).unwrap();
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        serde_json::from_slice(&line).unwrap()
    }

    fn ok(&mut self, request: &Value) -> Value {
        let reply = self.ask(request);
        assert_eq!(reply["status"], "ok", "{request} got {reply}");
        reply
    }
}
