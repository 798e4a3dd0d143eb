//! Requests of the exercise and of our peers: golden forms, refusals, mutations and round trips.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::limits::MAX_FILE_SIZE;
use crate::room::{MessageHash, RecordHash};
use crate::tracker::room_request::{
    GrantedRole, NewRoom, PasswordChange, RequestedChange, RoomCut, RoomReference, RoomSpeaker,
};
use crate::{RoomId, RoomName};

fn refused(text: &str) -> TrackerErrorCode {
    parse_request(text).request.unwrap_err().code
}

#[test]
fn requests_of_the_exercise() {
    let parsed = parse_request(r#"{"action":"REGISTER","user":"alice","password":"s3nha"}"#);
    assert_eq!((parsed.id, parsed.action), (None, Some("REGISTER")));
    let TrackerRequest::Register { credentials, .. } = parsed.request.unwrap() else { panic!("not a REGISTER") };
    assert_eq!((credentials.user.as_str(), credentials.password.reveal()), ("alice", "s3nha"));

    let files = r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"x.txt","size":3,"hash":"abc","extra":1}]}"#;
    let TrackerRequest::RegisterFiles(files) = parse_request(files).request.unwrap() else { panic!("not files") };
    assert_eq!((files.files.len(), files.mode), (1, FilesMode::Replace));
    assert_eq!(
        parse_request(r#"{"action":"LIST_PEERS"}"#).request,
        Ok(TrackerRequest::ListPeers(ListPeersRequest::default()))
    );
}

#[test]
fn golden_requests_of_ours() {
    let resume = TrackerRequest::Resume(AnnouncedPresence {
        port: NonZeroU16::new(4000),
        addresses: vec!["10.0.0.5:4000".parse().unwrap(), "[fe80::1]:4001".parse().unwrap()],
        ..AnnouncedPresence::default()
    });
    let text = r#"{"action":"RESUME","port":4000,"addresses":["10.0.0.5:4000","[fe80::1]:4001"],"features":["partial_files","similar_names","instances","keyless_users","rooms"]}"#;
    assert_eq!(serde_json::to_string(&resume).unwrap(), text);
    let first_version = r#"{"action":"RESUME","port":4000,"addresses":["10.0.0.5:4000","[fe80::1]:4001"]}"#;
    for (text, features) in [(text, Some(FeatureSet::all())), (first_version, None)] {
        let parsed = parse_request(text);
        assert_eq!((parsed.request, parsed.features), (Ok(resume.clone()), features));
    }
    let instance = Some(InstanceId::from_bytes([0xab; 16]));
    let back = TrackerRequest::Resume(AnnouncedPresence {
        port: NonZeroU16::new(1),
        instance,
        yields: true,
        ..AnnouncedPresence::default()
    });
    let text = serde_json::to_string(&back).unwrap();
    let fields = r#""port":1,"instance":"abababababababababababababababab","yields":true"#;
    assert!(text.contains(fields), "{text}");
    assert_eq!(parse_request(&text).request, Ok(back));
    let short = r#"{"action":"RESUME","port":4000,"addresses":["10.0.0.5"]}"#;
    let Ok(TrackerRequest::Resume(presence)) = parse_request(short).request else { panic!("refused") };
    assert_eq!(presence.addresses, ["10.0.0.5:4000".parse().unwrap()]);
}

#[test]
fn features_count_where_they_belong_and_harm_nowhere() {
    let features = |text: &str| {
        let ParsedRequest { features, request, .. } = parse_request(text);
        assert!(request.is_ok(), "{text}: {request:?}");
        features
    };
    let listed = r#"{"action":"SUBSCRIBE","features":["partial_files","similar_names","warp","instances","keyless_users","rooms"]}"#;
    assert_eq!(features(listed), Some(FeatureSet::all()));
    assert_eq!(features(r#"{"action":"SUBSCRIBE","features":[]}"#), Some(FeatureSet::default()));
    for none in ["null", "\"all\"", "7", "{\"a\":1}"] {
        assert_eq!(features(&format!(r#"{{"action":"SUBSCRIBE","features":{none}}}"#)), None);
    }
    assert_eq!(features(r#"{"action":"LIST_PEERS","features":["partial_files"]}"#), None);
}

fn text_of(request: TrackerRequest) -> serde_json::Value {
    let mut value = serde_json::to_value(request).unwrap();
    value.as_object_mut().unwrap().remove("features");
    value
}

/// Returns the parsed request as our own peers would write it.
fn understood(text: &str) -> serde_json::Value {
    text_of(parse_request(text).request.unwrap_or_else(|refusal| panic!("{text}: {refusal}")))
}

#[test]
fn whoever_says_cmd_is_answered_so() {
    for (text, dialect, action) in [
        (r#"{"cmd":"LIST_PEERS"}"#, Dialect::Cmd, Some("LIST_PEERS")),
        (r#"{"Cmd":"list_Peers"}"#, Dialect::Cmd, Some("LIST_PEERS")),
        (r#"{"action":" login ","user":"a","password":"x"}"#, Dialect::Action, Some("LOGIN")),
        (r#"{"action":"LIST_PEERS","cmd":null}"#, Dialect::Action, Some("LIST_PEERS")),
        (r#"{"cmd":"LIST_PEERS","CMD":null,"action":null}"#, Dialect::Cmd, Some("LIST_PEERS")),
        (r#"{"cmd":"LIST_PEERS","action":"LOGOUT"}"#, Dialect::Cmd, Some("LIST_PEERS")),
        (r#"{"cmd":"JOIN_ROOM","room":"r","user":"a","senha":null}"#, Dialect::Cmd, Some("JOIN_ROOM")),
        (r#"{"cmd":"FLY"}"#, Dialect::Cmd, None),
        (r#"{"cmd":7}"#, Dialect::Cmd, None),
        (r#"{"cmd":"LOGIN","#, Dialect::Cmd, None),
        (r#"{"action":"LOGIN","cmd"}"#, Dialect::Action, None),
    ] {
        let parsed = parse_request(text);
        assert_eq!((parsed.dialect, parsed.action), (dialect, action), "{text}");
    }
    for usual in [Dialect::Action, Dialect::Cmd] {
        assert_eq!(parse_object(b"{}", usual).dialect, usual);
        assert_eq!(parse_object(b"{'user': 1}", usual).dialect, usual);
    }
}

#[test]
fn refusals_are_in_the_words_of_the_dialect_and_name_fields() {
    let message = |text: &str| parse_request(text).request.unwrap_err().message.into_received();
    for (rest, english, portuguese) in [
        (r#"LOGIN","password":"x""#, "the field \"user\" is missing", "falta o campo \"user\""),
        (r#"LOGIN","user":"a","password":"x","porta":70000"#, "port: 70000 is not", "porta: 70000 não está"),
        (r#"LOGIN","user":"a b","password":"x""#, "a name can't contain a space", "o nome de usuário \"a b\""),
        (r#"LOGIN","user":"a","password":[]"#, "password: it is not text", "password: não é texto"),
        (r#"LOGIN","user":"a","password":"\udce9""#, "half of a surrogate", "metade de um par"),
        (
            r#"REGISTER_FILES","user":"a","files":[{"size":1}]"#,
            "no file was kept: files[0]",
            "nenhum arquivo foi aceito",
        ),
        (r#"FLY""#, "there is no action \"FLY\"", "não existe o comando \"FLY\""),
        (r#"JOIN_ROOM","room":"a b","user":"a""#, "\"a b\" can't be the name of a room", "o nome de sala \"a b\""),
        (r#"KICK_MEMBER","room":"a","member":"b""#, "the field \"admin\" is missing", "falta o campo \"admin\""),
        (r#"LIST_PEERS",]"#, "the request is not JSON", "o pedido não é JSON"),
    ] {
        let (one, other) = (message(&format!(r#"{{"action":"{rest}}}"#)), message(&format!(r#"{{"cmd":"{rest}}}"#)));
        assert!(one.contains(english), "{one}");
        assert!(other.contains(portuguese), "{other}");
        for text in [one, other] {
            assert!(
                ["u64", "struct", "str", "FileFields", "expected"]
                    .iter()
                    .all(|of_rust| !text.split(' ').any(|word| word == *of_rust)),
                "{text}"
            );
        }
    }
    let not_utf8 = parse_object(b"{\"cmd\":\"LOGIN\",\"id\":3,\"user\":\"jo\xe3o\"}", Dialect::Action);
    assert_eq!((not_utf8.id.as_deref(), not_utf8.dialect), (Some("3"), Dialect::Cmd));
    assert_eq!(not_utf8.request.unwrap_err().code, TrackerErrorCode::BadJson);
}

#[test]
fn values_are_taken_however_a_language_writes_them() {
    let login = understood(r#"{"action":"LOGIN","user":"a","password":"12345","port":5000}"#);
    for text in [
        r#"{"cmd":"LOGIN","user":"a","password":"12345","porta":5000}"#,
        r#"{"cmd":"login","user":"a","password":12345,"porta":"5000"}"#,
        r#"{"Cmd":"Login","User":"a","Password":"12345","Porta":5000.0}"#,
        r#"{"action":"LOGIN","user":"a","password":"12345","porta":5e3,"port":null,"porta":" 5000 "}"#,
        r#"{"action":"LOGIN","user":"a","password":"12345","port":5000,"porta":null,"User":null,}"#,
        r#"{"action":"LOGIN","user":"a","password":"12345","port":5000,"size":NaN,"limit":1e400}"#,
        r#"{"action":"LOGIN","user":"a","password":"12345","port":5000,"limit":"10","name":7,"files":"none",
            "with_files":"yes","hash":5,"token":7,"mode":{},"cursor":"?","rebind":"no","\u0072oom":"\ud83d"}"#,
    ] {
        assert_eq!(understood(text), login, "{text}");
    }
    let without = understood(r#"{"action":"LOGIN","user":"1","password":"x"}"#);
    for port in ["0", "\"\"", "null", "0.0"] {
        assert_eq!(understood(&format!(r#"{{"cmd":"LOGIN","user":1,"password":"x","porta":{port}}}"#)), without);
    }
    let addresses = understood(r#"{"action":"RESUME","port":7,"addresses":["10.0.0.1:7","10.0.0.2:9"]}"#);
    for text in ["\"10.0.0.1, 10.0.0.2:9\"", "[\"10.0.0.1\",null,\"10.0.0.2:9\"]"] {
        assert_eq!(understood(&format!(r#"{{"action":"RESUME","port":7,"addresses":{text}}}"#)), addresses);
    }
    let all = understood(r#"{"action":"LIST_PEERS","with_files":true,"limit":5}"#);
    assert_eq!(
        understood(r#"{"cmd":"LIST_PEERS","with_files":"True","limit":"5","user":"","name":"","cursor":""}"#),
        all
    );
    assert_eq!(understood(r#"{"action":"HEARTBEAT","user":"","token":""}"#), json!({"action": "HEARTBEAT"}));
}

fn files_of(list: &str) -> (Vec<(String, u64, String)>, RejectedFiles) {
    let parsed = parse_request(&format!(r#"{{"cmd":"REGISTER_FILES","user":"a","files":{list}}}"#));
    let Ok(TrackerRequest::RegisterFiles(RegisterFilesRequest { files, .. })) = parsed.request else {
        panic!("{parsed:?}")
    };
    let text = |SharedFile { name, size, hash }| (name.as_str().to_owned(), size, hash.as_str().to_owned());
    (files.into_iter().map(text).collect(), parsed.left_out)
}

#[test]
fn one_bad_file_costs_no_other() {
    let good = r#"{"name":"ok.txt","size":1,"hash":"x"}"#;
    for bad in [
        r#"{"name":"C:\\Users\\u\\b.txt","size":1,"hash":"x"}"#,
        r#"{"name":"/home/u/c.txt","size":1,"hash":"x"}"#,
        r#"{"name":"./d.txt","size":1,"hash":"x"}"#,
        r#"{"name":"dir/","size":1,"hash":"x"}"#,
        r#"{"name":"","size":1,"hash":"x"}"#,
        // JSON put together by hand, as C programs do.
        r#"{"name":"C:\Users\u\b.txt","size":1,"hash":"x"}"#,
        r#"{"name":"C:\xeno","size":1,"hash":"x"}"#,
        "{\"name\":\"a\tb\",\"size\":1,\"hash\":\"x\"}",
        "{\"name\":\"a\r\",\"size\":1,\"hash\":\"\\udc00\"}",
        r#"{"name":"a\tb","size":1,"hash":"x"}"#,
        r#"{"name":"caf\udce9.txt","size":1,"hash":"x"}"#,
        r#"{"name":"\ud83d","size":1,"hash":"x"}"#,
        r#"{"name":"x","size":1,"hash":"\udc00"}"#,
        r#"{"name":"x","size":1.5,"hash":"x"}"#,
        r#"{"name":"x","size":-1,"hash":"x"}"#,
        r#"{"name":"x","size":1e300,"hash":"x"}"#,
        r#"{"name":"x","size":"big","hash":"x"}"#,
        r#"{"name":"x","size":true,"hash":"x"}"#,
        r#"{"name":"x","size":9007199254740992,"hash":"x"}"#,
        r#"{"name":"x","hash":"x"}"#,
        r#"{"name":"x","size":null,"hash":"x"}"#,
        r#"{"name":"x","size":1,"hash":"a\u001b"}"#,
        r#"{"name":"x","size":1,"hash":{}}"#,
        r#"{"name":["x"],"size":1,"hash":"x"}"#,
        r#"{"size":1,"hash":"x"}"#,
        r#"{"name":null}"#,
        r#""a.txt""#,
        "7",
        "null",
        "[]",
        "{}",
    ] {
        for list in [format!("[{good},{bad}]"), format!("[{bad},{good}]")] {
            let (files, left_out) = files_of(&list);
            assert_eq!((files.len(), left_out.count()), (1, 1), "{list}");
            assert!(!left_out.reasons(Dialect::Action).is_empty() && !left_out.reasons(Dialect::Cmd).is_empty());
        }
        assert_eq!(
            refused(&format!(r#"{{"action":"REGISTER_FILES","user":"a","files":[{bad}]}}"#)),
            TrackerErrorCode::BadRequest
        );
    }
    let unread =
        r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"x","size":1,"hash":"\ud83d\ude00"}],"x":"\ud83d"}"#;
    assert!(parse_request(unread).request.is_ok());
}

#[test]
fn files_however_a_language_writes_them() {
    let expected = vec![("a.txt".to_owned(), 1024, "12".to_owned()), ("é.txt".to_owned(), 0, String::new())];
    for list in [
        r#"[{"name":"a.txt","size":1024,"hash":"12"},{"name":"é.txt","size":0,"hash":""}]"#,
        r#"[{"Name":"a.txt","Size":1024.0,"Hash":12},{"NAME":"\u00e9.txt","size":"0","hash":null}]"#,
        r#"[{"hash":"12","size":"1024","name":"a.txt","path":"C:\\x"},{"name":"é.txt","size":0.0}]"#,
    ] {
        assert_eq!(files_of(list), (expected.clone(), RejectedFiles::default()), "{list}");
    }
    assert_eq!(files_of(r#"{"name":"a.txt","size":1024,"hash":"12"}"#).0, expected[..1]);
    assert_eq!(files_of(r#"{"name":"a.txt","size":1024,"hash":"12","x":"\ud800"}"#).0, expected[..1]);
}

#[test]
fn numbers_beyond_all_bounds_are_no_half_characters() {
    let digits = "9".repeat(400);
    for huge in ["1e400", "-1e400", &digits] {
        for (rest, field) in [
            (format!(r#""LOGIN","user":"a","password":"x","port":{huge}"#), "port"),
            (format!(r#""LIST_PEERS","limit":{huge}"#), "limit"),
            (format!(r#""SUBSCRIBE","since":{huge}"#), "since"),
        ] {
            let refusal = parse_request(&format!(r#"{{"action":{rest}}}"#)).request.unwrap_err();
            assert_eq!(refusal.message.to_string(), format!("{field}: it is not a whole number from 0 on"), "{rest}");
        }
        let one = format!(r#"{{"name":"big.iso","size":{huge},"hash":"x"}}"#);
        let (kept, left_out) = files_of(&format!(r#"[{{"name":"a","size":1,"hash":1e999}},{one}]"#));
        assert_eq!(kept, [("a".to_owned(), 1, "1e999".to_owned())]);
        let reasons = left_out.reasons(Dialect::Action);
        assert!(reasons.starts_with("\"big.iso\" (size: it is not a whole number"), "{reasons}");
        // Alone, without a list around it.
        let alone = format!(r#"{{"action":"REGISTER_FILES","user":"a","files":{one}}}"#);
        let alone = parse_request(&alone).request.unwrap_err().message.into_received();
        assert!(alone.contains("big.iso") && alone.contains("not a whole number"), "{alone}");
    }
    let addresses = r#"{"action":"LOGIN","user":"a","password":"x","addresses":[1e400]}"#;
    assert_eq!(parse_request(addresses).request.unwrap_err().message, "addresses: \"1e400\" is not IP:PORT or IP");
    let by_hash = parse_request(r#"{"action":"LIST_PEERS","hash":1e400}"#).request.unwrap();
    assert_eq!(text_of(by_hash)["hash"], "1e400");
}

#[test]
fn what_is_no_number_costs_one_file_and_null_erases_nothing() {
    let (kept, left_out) =
        files_of(r#"[{"name":"a","size":NaN},{"name":"b","size":2,"Size":null,"hash":-Infinity,},]"#);
    assert_eq!((kept, left_out.count()), (vec![("b".to_owned(), 2, String::new())], 1));
    assert_eq!(left_out.reasons(Dialect::Action), "\"a\" (size is missing)");
    let twice = understood(r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"b","size":2}],"Files":null}"#);
    assert_eq!(twice["files"][0]["name"], "b");
}

#[test]
fn reasons_stay_short() {
    let bad = format!(r#"{{"name":"{}/","size":1,"hash":"x"}}"#, "\\u202e\\u009b".repeat(500));
    let list = format!(r#"[{{"name":"ok","size":1,"hash":""}}{}]"#, format!(",{bad}").repeat(1000));
    let (_, left_out) = files_of(&list);
    assert_eq!(left_out.count(), 1000);
    for dialect in [Dialect::Action, Dialect::Cmd] {
        let text = left_out.reasons(dialect);
        assert!(serde_json::to_string(&text).unwrap().len() < 2048, "{}", text.len());
        assert!(text.ends_with("997 more") || text.ends_with("mais 997"), "{text}");
    }
}

#[test]
fn the_id_is_echoed_even_from_refused_requests() {
    let id = |text: &str| parse_request(text).id;
    assert_eq!(id(r#"{"id":[1, {"a":null}],"action":"X"}"#).unwrap(), r#"[1, {"a":null}]"#);
    assert_eq!(id("{\"id\":{\n\"a\":1},\"action\":\"X\"}").unwrap(), "{ \"a\":1}");
    assert_eq!(id(r#"{"action":7,"id":"q"}"#).unwrap(), "\"q\"");
    assert_eq!(id(r#"{"action":"LIST_PEERS","id":null}"#), None);
    assert_eq!(id(r#"{"action" 7}"#), None);
}

#[test]
fn refusals_carry_the_right_code() {
    for (text, code) in [
        (r#"{"action":"LIST_PEERS",,}"#, TrackerErrorCode::BadJson),
        (r#"{"action":7}"#, TrackerErrorCode::BadRequest),
        (r"{}", TrackerErrorCode::BadRequest),
        (r#"{"action":"list peers"}"#, TrackerErrorCode::UnknownAction),
        (r#"{"cmd":"FLY"}"#, TrackerErrorCode::UnknownAction),
        (r#"{"cmd":"CREATE_ROOM","room":"r"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"REGISTER","user":"a"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"REGISTER","user":"a b","password":"x"}"#, TrackerErrorCode::InvalidUser),
        (r#"{"action":"REGISTER","user":"","password":"x"}"#, TrackerErrorCode::InvalidUser),
        (r#"{"action":"REGISTER","user":"a","password":""}"#, TrackerErrorCode::InvalidPassword),
        (r#"{"action":"LOGIN","user":"a","password":"x","port":-1}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"LOGIN","user":"a","password":"x","port":"http"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"LOGIN","user":"a","password":true}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"LOGIN","user":["a"],"password":"x"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"REGISTER_FILES","user":"a","files":"x.txt"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"REGISTER_FILES","user":"a","files":null}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"LOGIN","user":"a","password":"x","port":65536}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"LOGIN","user":"a","password":"x","addresses":["nowhere"]}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"REGISTER_FILES","user":"a"}"#, TrackerErrorCode::BadRequest),
        (
            r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"../x","size":1,"hash":""}]}"#,
            TrackerErrorCode::BadRequest,
        ),
        (
            r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"x","size":-1,"hash":""}]}"#,
            TrackerErrorCode::BadRequest,
        ),
        (
            r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"x","size":9007199254740992,"hash":""}]}"#,
            TrackerErrorCode::BadRequest,
        ),
        (r#"{"action":"REGISTER_FILES","user":"a","files":[],"mode":"merge"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"WHOIS"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"WHOIS","fingerprint":"12"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"LOGOUT","user":"a","token":"short"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"FORWARDED"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"FORWARDED","for":""}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"FORWARDED","for":"ana","key":"ab"}"#, TrackerErrorCode::BadRequest),
        (r#"{"action":"FORWARDED","for":"ana","signature":"ab"}"#, TrackerErrorCode::BadRequest),
    ] {
        assert_eq!(refused(text), code, "{text}");
    }
    let many: Vec<_> = (0..=8).map(|i| format!("10.0.0.{i}:1")).collect();
    assert_eq!(
        refused(&json!({"action": "RESUME", "port": 1, "addresses": many}).to_string()),
        TrackerErrorCode::TooLarge
    );
    assert_eq!(
        refused(&json!({"action": "REGISTER", "user": "a", "password": "x".repeat(1025)}).to_string()),
        TrackerErrorCode::InvalidPassword
    );
}

#[test]
fn a_password_is_never_in_debug_output() {
    let request = parse_request(r#"{"action":"REGISTER","user":"a","password":"hunter2"}"#);
    assert!(!format!("{request:?}").contains("hunter2"));
}

fn requests() -> impl Strategy<Value = TrackerRequest> {
    let user = || "[A-Za-z0-9_.-]{1,32}".prop_map(|text| text.parse::<UserName>().unwrap());
    let password = || ".{1,30}".prop_map(|text| Password::new(&text).unwrap());
    let credentials = move || (user(), password()).prop_map(|(user, password)| Credentials { user, password });
    let token = || proptest::option::of(any::<[u8; 32]>().prop_map(SessionToken::from_bytes));
    let proof = move || {
        (token(), proptest::option::of(password())).prop_map(|(token, password)| SpeakerProof { token, password })
    };
    let presence = || {
        let address = (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from);
        let instance = any::<[u8; 16]>().prop_map(InstanceId::from_bytes);
        let addresses = proptest::collection::vec(address, 0..=8);
        (proptest::option::of(any::<NonZeroU16>()), addresses, proptest::option::of(instance), any::<bool>())
            .prop_map(|(port, addresses, instance, yields)| AnnouncedPresence { port, addresses, instance, yields })
    };
    let file =
        ("[a-zé \"]{1,20}(/[a-z]{1,9}){0,3}", 0..=MAX_FILE_SIZE, "[^\\pC]{0,30}").prop_map(|(name, size, hash)| {
            SharedFile { name: name.parse().unwrap(), size, hash: HashText::new(&hash).unwrap() }
        });
    let mode = prop_oneof![Just(FilesMode::Replace), Just(FilesMode::Add), Just(FilesMode::Remove)];
    prop_oneof![
        (credentials(), key()).prop_map(|(credentials, key)| TrackerRequest::Register { credentials, key }),
        (credentials(), presence(), any::<bool>()).prop_map(|(credentials, presence, rebind)| TrackerRequest::Login {
            credentials,
            presence,
            rebind
        }),
        (user(), proptest::collection::vec(file, 0..5), mode, proof()).prop_map(|(user, files, mode, proof)| {
            TrackerRequest::RegisterFiles(RegisterFilesRequest { user, files, mode, proof })
        }),
        (user(), proof()).prop_map(|(user, proof)| TrackerRequest::Logout { user, proof }),
        presence().prop_map(TrackerRequest::Resume),
        (proptest::option::of(user()), token()).prop_map(|(user, token)| TrackerRequest::Heartbeat { user, token }),
        user().prop_map(|user| TrackerRequest::Whois(WhoisRequest::User(user))),
        user().prop_map(|user| TrackerRequest::Whois(WhoisRequest::Like(user))),
        proptest::option::of(any::<u64>()).prop_map(|since| TrackerRequest::Subscribe { since }),
        (".{1,30}", proptest::option::of((any::<[u8; 32]>(), any::<[u8; 32]>()))).prop_map(|(text, proof)| {
            let proof = proof.map(|(key, half)| {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&half);
                DoorProof { key, signature }
            });
            TrackerRequest::Forwarded { person: ForwardedPerson::new(&text).unwrap(), proof }
        }),
        (credentials(), password(), key()).prop_map(|(credentials, new_password, key)| TrackerRequest::Passwd {
            credentials,
            new_password,
            key
        }),
        room_requests().prop_map(TrackerRequest::Room),
        (user(), user(), proof()).prop_map(|(user, member, proof)| {
            let (name, speaker) = ("lab".parse().unwrap(), RoomSpeaker { user, proof });
            TrackerRequest::ExerciseRoom(ExerciseRoomRequest::Kick { name, member, speaker })
        }),
    ]
}

fn key() -> impl Strategy<Value = Option<IdempotencyKey>> {
    proptest::option::of(any::<[u8; 16]>().prop_map(IdempotencyKey::from_bytes))
}

fn room_requests() -> impl Strategy<Value = RoomRequest> {
    let user = || "[A-Za-z0-9_.-]{1,32}".prop_map(|text| text.parse::<UserName>().unwrap());
    let name = || "[A-Za-z0-9_.-]{1,32}".prop_map(|text| text.parse::<RoomName>().unwrap());
    let room = || {
        let id = any::<[u8; 16]>().prop_map(|bytes| RoomReference::Id(RoomId::from_bytes(bytes)));
        prop_oneof![name().prop_map(RoomReference::Name), id]
    };
    let password = || proptest::option::of(".{1,30}".prop_map(|text| Password::new(&text).unwrap()));
    let hash = || any::<[u8; 32]>();
    let cut = move || {
        let hash = hash().prop_map(|bytes| Some(MessageHash::from_bytes(bytes)));
        prop_oneof![Just((0, None)), (1..=u64::MAX, hash)]
            .prop_map(|(number, hash)| RoomCut::new(number, hash).unwrap())
    };
    let change = prop_oneof![
        user().prop_map(|user| RequestedChange::Invite { user }),
        (user(), proptest::option::of(cut())).prop_map(|(user, cut)| RequestedChange::Kick { user, cut }),
        (user(), proptest::option::of(cut())).prop_map(|(user, cut)| RequestedChange::Ban { user, cut }),
        user().prop_map(|user| RequestedChange::Unban { user }),
        (hash(), any::<u64>(), cut()).prop_map(|(key, ended_at, cut)| RequestedChange::SetCut {
            key: Fingerprint::from_bytes(key),
            ended_at,
            cut
        }),
        user().prop_map(|user| RequestedChange::SetRole { user, role: GrantedRole::Moderator }),
        "[^\\pC]{0,60}".prop_map(|text| RequestedChange::SetTopic { topic: text.parse().unwrap() }),
        user().prop_map(|user| RequestedChange::PassOn { user }),
        Just(RequestedChange::Delete),
    ];
    prop_oneof![
        (name(), password(), any::<bool>(), any::<bool>(), key()).prop_map(
            |(name, password, invite_only, history, key)| {
                RoomRequest::Create(NewRoom { name, password, invite_only, history, key })
            }
        ),
        (room(), password()).prop_map(|(room, password)| RoomRequest::Join { room, password }),
        (room(), proptest::option::of(cut())).prop_map(|(room, cut)| RoomRequest::Leave { room, cut }),
        (any::<Option<usize>>(), proptest::option::of(name()))
            .prop_map(|(limit, cursor)| RoomRequest::List { limit, cursor }),
        (room(), proptest::collection::vec(hash().prop_map(RecordHash::from_bytes), 0..=40))
            .prop_map(|(room, after)| RoomRequest::Members { room, after }),
        (room(), password(), any::<Option<bool>>()).prop_map(|(room, password, invite_only)| {
            let password = password.map_or(PasswordChange::Remove, PasswordChange::Set);
            RoomRequest::Passwd { room, password, invite_only }
        }),
        (room(), change).prop_map(|(room, change)| RoomRequest::Change { room, change }),
    ]
}

proptest! {
    #[test]
    fn round_trip(request in requests()) {
        let text = serde_json::to_string(&request).unwrap();
        prop_assert_eq!(parse_request(&text).request, Ok(request));
    }

    #[test]
    fn mutated_requests_never_panic(request in requests(), at: proptest::sample::Index, to: char) {
        let text = serde_json::to_string(&request).unwrap();
        let chars = text.chars().count();
        let at = at.index(chars);
        let mutated: String = text.chars().enumerate().map(|(i, c)| if i == at { to } else { c }).collect();
        let parsed = parse_request(&mutated);
        prop_assert!(parsed.id.is_none_or(|id| !id.contains('\n')));
    }

    #[test]
    fn mutated_bytes_never_panic(request in requests(), at: proptest::sample::Index, to: u8) {
        let mut bytes = serde_json::to_vec(&request).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let parsed = parse_object(&bytes, Dialect::Cmd);
        prop_assert!(parsed.id.is_none_or(|id| !id.contains('\n')));
        if let Ok(request) = parsed.request {
            let again = serde_json::to_string(&request).unwrap();
            prop_assert_eq!(parse_request(&again).request, Ok(request));
        }
    }

    #[test]
    fn both_ways_to_read_files_read_the_same(request in requests()) {
        // A lone surrogate makes the reader read each file by itself, which changes nothing of the others.
        let text = serde_json::to_string(&request).unwrap();
        let by_itself = text.replacen("\"files\":[{", "\"files\":[{\"name\":\"\\ud800\"},{", 1);
        if by_itself != text {
            let parsed = parse_request(&by_itself);
            prop_assert_eq!(parsed.left_out.count(), 1);
            prop_assert_eq!(parsed.request, Ok(request));
        }
    }
}
