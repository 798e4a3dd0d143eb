//! Requests of the exercise and of ours, refused, mutated and round.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::limits::FILE_SIZE;

fn refused(text: &str) -> ErrorCode {
    parse_request(text).request.unwrap_err().code
}

#[test]
fn requests_of_the_exercise() {
    let parsed = parse_request(r#"{"action":"REGISTER","user":"alice","password":"s3nha"}"#);
    assert_eq!((parsed.id, parsed.action), (None, Some("REGISTER")));
    let Request::Register(credentials) = parsed.request.unwrap() else { panic!("not a REGISTER") };
    assert_eq!((credentials.user.as_str(), credentials.password.reveal()), ("alice", "s3nha"));

    let files = r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"x.txt","size":3,"hash":"abc","extra":1}]}"#;
    let Request::RegisterFiles(files) = parse_request(files).request.unwrap() else { panic!("not files") };
    assert_eq!((files.files.len(), files.mode), (1, FilesMode::Replace));
    assert_eq!(parse_request(r#"{"action":"LIST_PEERS"}"#).request, Ok(Request::ListPeers(ListPeers::default())));
}

#[test]
fn golden_requests_of_ours() {
    let resume = Request::Resume(Presence {
        port: NonZeroU16::new(4000),
        addresses: vec!["10.0.0.5:4000".parse().unwrap(), "[fe80::1]:4001".parse().unwrap()],
    });
    let text = r#"{"action":"RESUME","port":4000,"addresses":["10.0.0.5:4000","[fe80::1]:4001"],"features":["partial_files"]}"#;
    assert_eq!(serde_json::to_string(&resume).unwrap(), text);
    let first_version = r#"{"action":"RESUME","port":4000,"addresses":["10.0.0.5:4000","[fe80::1]:4001"]}"#;
    for (text, features) in [(text, Some(Features::all())), (first_version, None)] {
        let parsed = parse_request(text);
        assert_eq!((parsed.request, parsed.features), (Ok(resume.clone()), features));
    }
    let short = r#"{"action":"RESUME","port":4000,"addresses":["10.0.0.5"]}"#;
    let Ok(Request::Resume(presence)) = parse_request(short).request else { panic!("refused") };
    assert_eq!(presence.addresses, ["10.0.0.5:4000".parse().unwrap()]);
}

#[test]
fn features_count_where_they_belong_and_harm_nowhere() {
    let features = |text: &str| {
        let Parsed { features, request, .. } = parse_request(text);
        assert!(request.is_ok(), "{text}: {request:?}");
        features
    };
    assert_eq!(features(r#"{"action":"SUBSCRIBE","features":["partial_files","warp"]}"#), Some(Features::all()));
    assert_eq!(features(r#"{"action":"SUBSCRIBE","features":[]}"#), Some(Features::default()));
    for none in ["null", "\"all\"", "7", "{\"a\":1}"] {
        assert_eq!(features(&format!(r#"{{"action":"SUBSCRIBE","features":{none}}}"#)), None);
    }
    assert_eq!(features(r#"{"action":"LIST_PEERS","features":["partial_files"]}"#), None);
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
        (r#"{"action":"LIST_PEERS",}"#, ErrorCode::BadJson),
        (r#"{"action":7}"#, ErrorCode::BadRequest),
        (r"{}", ErrorCode::BadRequest),
        (r#"{"action":"list_peers"}"#, ErrorCode::UnknownAction),
        (r#"{"action":"REGISTER","user":"a"}"#, ErrorCode::BadRequest),
        (r#"{"action":"REGISTER","user":"a b","password":"x"}"#, ErrorCode::InvalidUser),
        (r#"{"action":"REGISTER","user":"","password":"x"}"#, ErrorCode::InvalidUser),
        (r#"{"action":"REGISTER","user":"a","password":""}"#, ErrorCode::InvalidPassword),
        (r#"{"action":"LOGIN","user":"a","password":"x","port":0}"#, ErrorCode::BadRequest),
        (r#"{"action":"LOGIN","user":"a","password":"x","port":65536}"#, ErrorCode::BadRequest),
        (r#"{"action":"LOGIN","user":"a","password":"x","addresses":["nowhere"]}"#, ErrorCode::BadRequest),
        (r#"{"action":"REGISTER_FILES","user":"a"}"#, ErrorCode::BadRequest),
        (
            r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"../x","size":1,"hash":""}]}"#,
            ErrorCode::BadRequest,
        ),
        (r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"x","size":-1,"hash":""}]}"#, ErrorCode::BadRequest),
        (
            r#"{"action":"REGISTER_FILES","user":"a","files":[{"name":"x","size":9007199254740992,"hash":""}]}"#,
            ErrorCode::BadRequest,
        ),
        (r#"{"action":"REGISTER_FILES","user":"a","files":[],"mode":"merge"}"#, ErrorCode::BadRequest),
        (r#"{"action":"WHOIS"}"#, ErrorCode::BadRequest),
        (r#"{"action":"WHOIS","fingerprint":"12"}"#, ErrorCode::BadRequest),
        (r#"{"action":"LOGOUT","user":"a","token":"short"}"#, ErrorCode::BadRequest),
    ] {
        assert_eq!(refused(text), code, "{text}");
    }
    let many: Vec<_> = (0..=8).map(|i| format!("10.0.0.{i}:1")).collect();
    assert_eq!(refused(&json!({"action": "RESUME", "port": 1, "addresses": many}).to_string()), ErrorCode::TooLarge);
    assert_eq!(
        refused(&json!({"action": "REGISTER", "user": "a", "password": "x".repeat(1025)}).to_string()),
        ErrorCode::InvalidPassword
    );
}

#[test]
fn a_password_is_never_in_debug_output() {
    let request = parse_request(r#"{"action":"REGISTER","user":"a","password":"hunter2"}"#);
    assert!(!format!("{request:?}").contains("hunter2"));
}

fn requests() -> impl Strategy<Value = Request> {
    let user = || "[A-Za-z0-9_.-]{1,32}".prop_map(|text| text.parse::<UserName>().unwrap());
    let password = || ".{1,30}".prop_map(|text| Password::new(&text).unwrap());
    let credentials = move || (user(), password()).prop_map(|(user, password)| Credentials { user, password });
    let token = || proptest::option::of(any::<[u8; 32]>().prop_map(Token::from_bytes));
    let proof =
        move || (token(), proptest::option::of(password())).prop_map(|(token, password)| Proof { token, password });
    let presence = || {
        let address = (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from);
        (proptest::option::of(any::<NonZeroU16>()), proptest::collection::vec(address, 0..=8))
            .prop_map(|(port, addresses)| Presence { port, addresses })
    };
    let file = ("[a-zé \"]{1,20}(/[a-z]{1,9}){0,3}", 0..=FILE_SIZE, "[^\\pC]{0,30}").prop_map(|(name, size, hash)| {
        SharedFile { name: name.parse().unwrap(), size, hash: HashText::new(&hash).unwrap() }
    });
    let mode = prop_oneof![Just(FilesMode::Replace), Just(FilesMode::Add), Just(FilesMode::Remove)];
    prop_oneof![
        credentials().prop_map(Request::Register),
        (credentials(), presence(), any::<bool>()).prop_map(|(credentials, presence, rebind)| Request::Login {
            credentials,
            presence,
            rebind
        }),
        (user(), proptest::collection::vec(file, 0..5), mode, proof()).prop_map(|(user, files, mode, proof)| {
            Request::RegisterFiles(RegisterFiles { user, files, mode, proof })
        }),
        (user(), proof()).prop_map(|(user, proof)| Request::Logout { user, proof }),
        presence().prop_map(Request::Resume),
        (proptest::option::of(user()), token()).prop_map(|(user, token)| Request::Heartbeat { user, token }),
        user().prop_map(|user| Request::Whois(Whois::User(user))),
        proptest::option::of(any::<u64>()).prop_map(|since| Request::Subscribe { since }),
        (credentials(), password())
            .prop_map(|(credentials, new_password)| Request::Passwd { credentials, new_password }),
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
}
