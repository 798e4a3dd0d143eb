//! Clients in the `cmd` dialect, that of the programs that were written for the exercise.

use std::time::Duration;

use certs::Identity;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tls_clients::{RESUME, registered};
use super::tracker_harness::{World, files, login, register};

/// The bytes that those programs read with one call.
const RECV: usize = 4096;

/// A program of the exercise: one `send`, one `recv`, one JSON text.
struct Student(TcpStream);

impl Student {
    async fn of(world: &World) -> Self {
        Self(TcpStream::connect(world.address).await.unwrap())
    }

    async fn says(&mut self, request: Value) -> Value {
        self.sends(request.to_string().as_bytes()).await
    }

    async fn sends(&mut self, request: &[u8]) -> Value {
        self.0.write_all(request).await.unwrap();
        let mut buffer = [0; RECV];
        let count = self.0.read(&mut buffer).await.unwrap();
        assert!(count < RECV, "{}", String::from_utf8_lossy(&buffer));
        serde_json::from_slice(&buffer[..count])
            .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&buffer[..count])))
    }

    async fn ok(&mut self, request: Value) -> Value {
        let reply = self.says(request.clone()).await;
        assert_eq!(reply["status"], "OK", "{request}: {reply}");
        reply
    }

    async fn error(&mut self, request: Value) -> String {
        let reply = self.says(request.clone()).await;
        assert_eq!(reply["status"], "ERROR", "{request}: {reply}");
        assert_eq!(reply.as_object().unwrap().len(), 2, "{reply}");
        reply["msg"].as_str().filter(|text| !text.is_empty()).unwrap().to_owned()
    }

    async fn arrives(&mut self, user: &str, porta: u16) {
        self.ok(json!({"cmd": "REGISTER", "user": user, "password": "12345"})).await;
        self.ok(json!({"cmd": "LOGIN", "user": user, "password": "12345", "porta": porta})).await;
    }
}

#[tokio::test]
async fn a_day_of_the_exercise_s_client() {
    let world = World::new().await;
    let mut ana = Student::of(&world).await;
    let registered = json!({"status": "OK", "msg": "Usuário registrado com sucesso"});
    assert_eq!(ana.says(json!({"cmd": "REGISTER", "user": "ana", "password": "12345"})).await, registered);
    assert!(ana.error(json!({"cmd": "REGISTER", "user": "ana", "password": "12345"})).await.contains("já existe"));
    assert!(ana.error(json!({"cmd": "LOGIN", "user": "ana", "password": "0"})).await.contains("senha incorretos"));
    let welcome = json!({"status": "OK", "msg": "Login bem-sucedido!"});
    assert_eq!(ana.says(json!({"cmd": "LOGIN", "user": "ana", "password": "12345", "porta": 5001})).await, welcome);
    let mut list = ana.ok(json!({"cmd": "LIST_PEERS"})).await;
    let login_time = list["peers"]["ana"]["connection"]["login_time"].take();
    assert!(login_time.as_str().unwrap().parse::<jiff::civil::DateTime>().is_ok(), "{login_time}");
    let connection = json!({"ip": "127.0.0.1", "porta": 5001, "login_time": null});
    assert_eq!(list, json!({"status": "OK", "peers": {"ana": {"connection": connection, "files": []}}}));
    let files = json!([{"name": "video.mp4", "size": 1_024_000, "hash": "abc123"}, {"name": "foto.jpg", "size": 50_000, "hash": "def456"}]);
    assert_eq!(ana.ok(json!({"cmd": "REGISTER_FILES", "user": "ana", "files": files})).await["count"], 2);
    let list = ana.ok(json!({"cmd": "LIST_PEERS"})).await;
    assert_eq!(list["peers"]["ana"]["files"], json!([files[1], files[0]]));
    assert_eq!(list["peers"]["ana"]["connection"]["login_time"], login_time);
    let heartbeat = json!({"cmd": "HEARTBEAT", "user": "ana"});
    assert_eq!(ana.says(heartbeat.clone()).await, json!({"status": "OK", "msg": "Heartbeat recebido"}));
    ana.ok(json!({"cmd": "LOGOUT", "user": "ana"})).await;
    assert_eq!(ana.says(json!({"cmd": "LIST_PEERS"})).await, json!({"status": "OK", "peers": {}}));
    assert!(ana.error(heartbeat).await.contains("LOGIN"));
}

#[tokio::test]
async fn both_dialects_see_the_same_peers() {
    let world = World::new().await;
    let (identity, mut bob) = registered(&world, "bob").await;
    assert_eq!(bob.code(RESUME).await, "ok");
    assert_eq!(bob.code(&files("bob", 1)).await, "ok");
    let mut ana = Student::of(&world).await;
    ana.arrives("ana", 5001).await;
    let list = ana.ok(json!({"cmd": "LIST_PEERS"})).await;
    assert_eq!(list["peers"]["bob"]["connection"]["porta"], 7000);
    assert_eq!(list["peers"]["bob"]["files"], json!([{"name": "file 0.txt", "size": 0, "hash": "abc"}]));
    assert_eq!(list["peers"].as_object().unwrap().len(), 2);
    let full = bob.ask(r#"{"action":"LIST_PEERS"}"#).await;
    let entry =
        json!({"user": "ana", "ip": "127.0.0.1", "port": 5001, "addresses": [], "fingerprint": null, "files": []});
    assert_eq!(full["peers"][0], entry);
    assert_eq!(full["peers"][1]["fingerprint"], identity.fingerprint().to_string());
    // `porta` and `port` mean the same wherever they stand.
    let porta = login("ana").replace("s3nha", "12345").replace("\"port\":6000", "\"porta\":5002");
    assert_eq!(world.once(&porta).await["code"], "ok");
    let plain = world.once(r#"{"action":"LIST_PEERS"}"#).await;
    assert_eq!(plain["peers"][0], json!({"user": "ana", "ip": "127.0.0.1", "port": 5002}));
    let bob = json!({"user": "bob", "ip": "127.0.0.1", "port": 7000, "files": full["peers"][1]["files"]});
    assert_eq!(plain["peers"][1], bob);
    // A login without a port shows 0, since those clients need a number.
    ana.ok(json!({"cmd": "LOGIN", "user": "ana", "password": 12345})).await;
    assert_eq!(ana.ok(json!({"cmd": "LIST_PEERS"})).await["peers"]["ana"]["connection"]["porta"], 0);
}

#[tokio::test]
async fn each_request_is_answered_in_its_own_dialect() {
    let world = World::new().await;
    let mut ana = Student::of(&world).await;
    ana.arrives("ana", 5001).await;
    assert_eq!(ana.says(json!({"action": "LIST_PEERS"})).await["code"], "ok");
    for request in [
        json!({"cmd": "CREATE_ROOM", "room": "lab", "user": "bob", "senha": ""}),
        json!({"cmd": "JOIN_ROOM", "room": "lab", "user": "ana", "senha": null}),
        json!({"cmd": "GET_ROOM_MEMBERS", "room": "lab"}),
        json!({"cmd": "KICK_MEMBER", "room": "lab", "admin": "ana", "member": "bob"}),
        json!({"cmd": "CREATE_ROOM", "room": "a b", "user": "ana"}),
        json!({"cmd": "CREATE_ROOM", "user": "ana"}),
    ] {
        ana.error(request).await;
    }
    assert_eq!(ana.ok(json!({"cmd": "LIST_ROOMS"})).await["rooms"], json!([]));
    ana.ok(json!({"cmd": "CREATE_ROOM", "room": "lab", "user": "ana", "senha": "s"})).await;
    assert_eq!(ana.ok(json!({"cmd": "LIST_ROOMS"})).await["rooms"], json!(["lab"]));
    assert!(ana.error(json!({"cmd": "FLY"})).await.contains("FLY"));
    assert!(ana.error(json!({"cmd": "LOGIN", "user": "ana"})).await.contains("password"));
    let joao = ana.error(json!({"cmd": "REGISTER", "user": "João", "password": "1"})).await;
    assert!(joao.contains("João"), "{joao}");
    for broken in [&b"{\"cmd\": \"LOGIN\", }"[..], b"{\"cmd\":\"LOGIN\",\"user\":\"jo\xe3o\"}", b"{'user': 'ana'}"] {
        assert_eq!(ana.sends(broken).await["status"], "ERROR");
    }
    assert_eq!(ana.sends(b"{\"action\" 7}").await["status"], "error");
    ana.ok(json!({"cmd": "HEARTBEAT", "user": "ana"})).await;
}

#[tokio::test]
async fn heartbeats_are_for_those_who_are_there() {
    let world = World::new().await;
    let mut ana = Student::of(&world).await;
    ana.arrives("ana", 5001).await;
    // Another connection from the same address, which the exercise's tracker allows.
    Student::of(&world).await.ok(json!({"cmd": "HEARTBEAT", "user": "ana"})).await;
    let mut nobody = Student::of(&world).await;
    for user in ["nobody", "a b", ""] {
        nobody.error(json!({"cmd": "HEARTBEAT", "user": user})).await;
    }
    nobody.error(json!({"cmd": "HEARTBEAT"})).await;
    let (_, mut bob) = registered(&world, "bob").await;
    assert_eq!(bob.code(RESUME).await, "ok");
    assert!(nobody.error(json!({"cmd": "HEARTBEAT", "user": "bob"})).await.contains("TLS"));
    // Without `user` the connection's own user is meant.
    ana.ok(json!({"cmd": "HEARTBEAT"})).await;
}

#[tokio::test]
async fn what_can_be_kept_of_a_list_is_kept() {
    let world = World::new().await;
    let mut ana = Student::of(&world).await;
    ana.arrives("ana", 5001).await;
    let bad = ["C:\\Users\\u\\b.txt", "/home/u/c.txt", "./d.txt", "dir/", "", "a\tb"];
    let mut list: Vec<Value> = bad.iter().map(|name| json!({"name": name, "size": 1, "hash": "x"})).collect();
    list.push(json!("bare.txt"));
    list.push(json!({"name": "ok.txt", "size": "1024", "hash": null}));
    let reply = ana.ok(json!({"cmd": "REGISTER_FILES", "user": "ana", "files": list.clone()})).await;
    assert_eq!((&reply["count"], &reply["left_out"]), (&json!(1), &json!(7)));
    let text = reply["msg"].as_str().unwrap();
    assert!(text.contains("C:\\\\Users") && text.contains("e mais 4"), "{text}");
    let surrogate = br#"{"cmd":"REGISTER_FILES","user":"ana","files":[{"name":"caf\udce9.txt","size":1,"hash":"x"},{"name":"b","size":2.0,"hash":"y"}]}"#;
    assert_eq!(ana.sends(surrogate).await["left_out"], 1);
    let files = json!([{"name": "b", "size": 2, "hash": "y"}]);
    assert_eq!(ana.ok(json!({"cmd": "LIST_PEERS"})).await["peers"]["ana"]["files"], files);
    // A path as a program in C puts it between quotes.
    let path = br#"{"cmd":"REGISTER_FILES","user":"ana","files":[{"name":"C:\Users\x","size":1},{"name":"b","size":2,"hash":"y"}]}"#;
    assert_eq!(ana.sends(path).await["left_out"], 1);
    list.pop();
    assert!(ana.error(json!({"cmd": "REGISTER_FILES", "user": "ana", "files": list.clone()})).await.contains("C:"));
    let english = ana.says(json!({"action": "REGISTER_FILES", "user": "ana", "files": list})).await;
    assert_eq!(english["code"], "bad_request");
    assert_eq!(ana.ok(json!({"cmd": "LIST_PEERS"})).await["peers"]["ana"]["files"], files, "nothing was lost");
}

#[tokio::test]
async fn a_class_of_24_fits_into_one_recv_in_both_dialects() {
    let world = World::new().await;
    let mut class = Vec::new();
    for number in 0..24 {
        let name = format!("{}{number:02}", "n".repeat(30));
        let (_, mut conn) = registered(&world, &name).await;
        let resume =
            r#"{"action":"RESUME","port":65535,"addresses":["10.0.0.1:65535","[fe80::1234:5678:9abc:def0]:65535"]}"#;
        assert_eq!(conn.code(resume).await, "ok");
        assert_eq!(conn.code(&files(&name, 400)).await, "ok");
        class.push(conn);
    }
    let mut student = Student::of(&world).await;
    let cmd = student.ok(json!({"cmd": "LIST_PEERS"})).await;
    let peers = cmd["peers"].as_object().unwrap();
    assert_eq!((peers.len(), &cmd["total"]), (24, &Value::Null));
    assert!(peers.values().all(|peer| peer["file_count"] == 400 && peer["connection"]["porta"] == 65535));
    let action = student.says(json!({"action": "LIST_PEERS"})).await;
    let peers = action["peers"].as_array().unwrap();
    assert_eq!((peers.len(), &action["total"]), (24, &json!(24)));
    assert!(peers.iter().all(|peer| peer["file_count"] == 400 && peer["fingerprint"].is_null()));
    // A client that asks for everything gets everything.
    let all = world.once(r#"{"action":"LIST_PEERS","with_files":true}"#).await;
    assert!(all["peers"].as_array().unwrap().iter().all(|peer| peer["files"].as_array().unwrap().len() == 400));
    let user = format!("{}07", "n".repeat(30));
    for (request, files) in [
        (json!({"action": "LIST_PEERS", "user": user}), "/peers/0/files".to_owned()),
        (json!({"cmd": "LIST_PEERS", "user": user}), format!("/peers/{user}/files")),
        (json!({"cmd": "LIST_PEERS", "with_files": true}), format!("/peers/{user}/files")),
    ] {
        let reply = world.once(&request.to_string()).await;
        assert_eq!(reply.pointer(&files).unwrap().as_array().unwrap().len(), 400, "{request}");
    }
    // Over TLS everything is as it was.
    let full = class[0].ask(r#"{"action":"LIST_PEERS"}"#).await;
    assert!(full["peers"].as_array().unwrap().iter().all(|peer| peer["files"].as_array().unwrap().len() == 400
        && peer["addresses"].as_array().unwrap().len() == 2
        && peer["fingerprint"].is_string()
        && peer["file_count"].is_null()));
}

#[tokio::test]
async fn what_stands_between_requests_harms_nobody() {
    let world = World::new().await;
    let mut padded = b"{\"cmd\":\"LIST_PEERS\"}".to_vec();
    padded.resize(1024, 0);
    let mut student = Student::of(&world).await;
    for request in [&padded[..], b"\xef\xbb\xbf{\"cmd\":\"LIST_PEERS\"}\0", b"\r\n{\"cmd\":\"LIST_PEERS\"}\r\n\0\0"] {
        for _ in 0..2 {
            assert_eq!(student.sends(request).await["status"], "OK");
        }
    }
    let text = b"{\"cmd\":\"LIST_PEERS\"}";
    let padded = [text.as_slice(), &vec![b' '; 123 - text.len()]].concat();
    // 22 bytes are a TLS record's first, 123 a brace.
    for length in [vec![0, 0, 0, 20], vec![20, 0, 0, 0], vec![0, 20], vec![22, 0, 0, 0], b"20".to_vec()] {
        one_error(&world, &[&length, text.as_slice()].concat()).await;
    }
    for length in [vec![0, 0, 0, 123], vec![123, 0, 0, 0], vec![0, 123]] {
        one_error(&world, &[&length, padded.as_slice()].concat()).await;
    }
}

#[tokio::test]
async fn what_is_refused_is_told_as_it_is() {
    let world = World::new().await;
    let mut ana = Student::of(&world).await;
    ana.arrives("Joao", 5001).await;
    for (name, said) in [
        ("a..b", "dois pontos seguidos; use a.b,"),
        ("--help", "começa com letra ou dígito; use help,"),
        (".x", "use x,"),
        ("-Joao", "use Joao2,"),
        ("João", "use Joao2,"),
        ("李雷", "use letras de a a z"),
        ("Joao", "Usuário já existe: escolha outro nome, por exemplo Joao2, ou faça LOGIN como Joao"),
        ("J0AO", "o nome J0AO pode ser confundido com Joao, que já existe"),
    ] {
        let told = ana.error(json!({"cmd": "REGISTER", "user": name, "password": "x"})).await;
        assert!(told.contains(said), "{name}: {told}");
    }
    assert!(ana.error(json!({"cmd": "WHOIS", "user": "Joao"})).await.contains("TLS"));
    let mut elsewhere = world.plain_from([127, 0, 0, 2]).await;
    let told = elsewhere.ask(r#"{"cmd":"REGISTER_FILES","user":"Joao","files":[]}"#).await;
    assert!(told["msg"].as_str().unwrap().contains("esta conexão não entrou como Joao"), "{told}");
    let told = elsewhere.ask(r#"{"cmd":"LOGOUT","user":"Joao"}"#).await;
    assert!(!told["msg"].as_str().unwrap().contains("não está online"), "{told}");
    elsewhere.send(format!(r#"{{"cmd":"LIST_PEERS","x":{}{}}}"#, "[".repeat(17), "]".repeat(17))).await;
    let told = &elsewhere.rest().await[0];
    assert!(told["msg"].as_str().unwrap().contains("mais de 16 níveis"), "{told}");
}

#[tokio::test]
async fn what_can_t_be_read_is_answered_in_its_own_dialect() {
    let world = World::new().await;
    let deep = |word: &str| format!(r#"{{"{word}":"LIST_PEERS","x":{}"#, "[".repeat(1000));
    let long = |word: &str| format!(r#"{{"{word}":"REGISTER_FILES","x":"{}"#, "x".repeat(20_000));
    for (first, cmd, action) in [
        (vec![0, 0, 0, 20], r#"{"cmd":"LIST_PEERS"}"#.to_owned(), r#"{"action":"LIST_PEERS"}"#.to_owned()),
        (vec![], deep("cmd"), deep("action")),
        (vec![], long("cmd"), long("action")),
        (vec![], r#"{"cmd":"LIST_PEERS""#.to_owned(), r#"{"action":"LIST_PEERS""#.to_owned()),
    ] {
        for (text, is_cmd) in [(cmd, true), (action, false)] {
            let mut conn = world.plain().await;
            conn.send([&first, text.as_bytes()].concat()).await;
            conn.end().await;
            let replies = tokio::time::timeout(Duration::from_secs(5), conn.rest()).await.unwrap();
            assert_eq!(replies.len(), 1, "{text:.40}: {replies:?}");
            assert_eq!(
                (&replies[0]["status"] == "ERROR", replies[0]["msg"].is_string()),
                (is_cmd, is_cmd),
                "{text:.40}"
            );
        }
    }
}

/// Sends a malformed request, and expects one error that explains the format, and the end.
async fn one_error(world: &World, bytes: &[u8]) {
    let mut conn = world.plain().await;
    conn.send(bytes).await;
    let replies = tokio::time::timeout(Duration::from_secs(5), conn.rest()).await.unwrap();
    assert_eq!(replies.len(), 1, "{bytes:?}: {replies:?}");
    let text = replies[0]["msg"].as_str().unwrap();
    assert!(text.contains("sem comprimento nem cabeçalho"), "{replies:?}");
}

#[tokio::test]
async fn the_time_of_a_login_outlasts_the_process() {
    let world = World::new().await;
    Student::of(&world).await.arrives("ana", 5001).await;
    let before = Student::of(&world).await.ok(json!({"cmd": "LIST_PEERS"})).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let world = world.restarted(false).await;
    assert_eq!(Student::of(&world).await.ok(json!({"cmd": "LIST_PEERS"})).await, before);
}

#[tokio::test]
async fn over_tls_too() {
    let world = World::new().await;
    let identity = Identity::generate().unwrap();
    let mut conn = world.tls(Some(&identity)).await;
    assert_eq!(conn.code(&register("bob")).await, "ok");
    assert_eq!(conn.ask(r#"{"cmd":"LOGIN","user":"bob","password":"s3nha","porta":5}"#).await["status"], "OK");
    assert_eq!(conn.ask(r#"{"cmd":"LIST_PEERS"}"#).await["peers"]["bob"]["connection"]["porta"], 5);
}
