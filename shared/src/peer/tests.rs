//! Golden JSON of every frame.

use proptest::prelude::*;

use super::*;
use crate::content::GroupLayout;
use crate::frame;

fn golden<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, text: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    assert_eq!(&serde_json::from_str::<T>(text).unwrap(), value);
}

#[test]
fn golden_asks() {
    let hash = ContentHash::from_bytes([0x11; 32]);
    let ones = "11".repeat(32);
    let hello = Hello { user: "alice".parse().unwrap(), agent: "vizinho/0.1.0".into(), capabilities: vec![] };
    golden(&PeerRequest::Hello(hello), r#"{"t":"hello","user":"alice","agent":"vizinho/0.1.0","capabilities":[]}"#);
    golden(&PeerRequest::Chat {}, r#"{"t":"chat"}"#);
    golden(&PeerRequest::Files { prefix: None, cursor: None, room: None }, r#"{"t":"files"}"#);
    golden(
        &PeerRequest::FolderTimes { prefix: Some("a".into()), cursor: None, room: None },
        r#"{"t":"folder_times","prefix":"a"}"#,
    );
    golden(&PeerRequest::Stat { name: "a/b".parse().unwrap(), room: None }, r#"{"t":"stat","name":"a/b"}"#);
    golden(
        &PeerRequest::Stat { name: "a".parse().unwrap(), room: Some(RoomId::from_bytes([0xab; 16])) },
        r#"{"t":"stat","name":"a","room":"abababababababababababababababab"}"#,
    );
    golden(&PeerRequest::Manifest { hash }, &format!(r#"{{"t":"manifest","hash":"{ones}"}}"#));
    golden(&PeerRequest::Have { hash }, &format!(r#"{{"t":"have","hash":"{ones}"}}"#));
    golden(&PeerRequest::Probe { port: 40_000 }, r#"{"t":"probe","port":40000}"#);
    golden(&PeerRequest::Changes {}, r#"{"t":"changes"}"#);
    golden(&PeerRequest::Removed { names: vec!["a/b".parse().unwrap()] }, r#"{"t":"removed","names":["a/b"]}"#);
    let get = |name| PeerRequest::Get { hash, ranges: vec![(0, 3), (7, 8)], name };
    golden(&get(None), &format!(r#"{{"t":"get","hash":"{ones}","ranges":[[0,3],[7,8]]}}"#));
    let name = Some("a/b".parse().unwrap());
    golden(&get(name), &format!(r#"{{"t":"get","hash":"{ones}","ranges":[[0,3],[7,8]],"name":"a/b"}}"#));
}

#[test]
fn golden_answers() {
    golden(
        &PeerReply::Error { code: PeerErrorCode::NotFound, message: "no".into() },
        r#"{"t":"error","code":3,"message":"no"}"#,
    );
    golden(&PeerReply::Data { bytes: 5 }, r#"{"t":"data","bytes":5}"#);
    golden(&PeerReply::Changed { mark: "7f".into() }, r#"{"t":"changed","mark":"7f"}"#);
    golden(&PeerReply::RemovedList { names: vec!["a/b".parse().unwrap()] }, r#"{"t":"removed_list","names":["a/b"]}"#);
    let probed =
        |ip: &str, ms: Option<u64>| PeerReply::Probe { ip: ip.parse().unwrap(), port: 7, answered: ms.is_some(), ms };
    golden(&probed("10.0.0.1", Some(3)), r#"{"t":"probe","ip":"10.0.0.1","port":7,"answered":true,"ms":3}"#);
    golden(&probed("fd00::1", None), r#"{"t":"probe","ip":"fd00::1","port":7,"answered":false}"#);
    let id = MessageId::from_bytes([0xab; 16]);
    golden(&ChatReply::Ack { id }, r#"{"t":"ack","id":"abababababababababababababababab"}"#);
    golden(
        &ChatFrame::Message(ChatMessage { id, ts: -1, text: "olá".into(), offer: None, send: None }),
        r#"{"t":"message","id":"abababababababababababababababab","ts":-1,"text":"olá"}"#,
    );
    let (hash, ones) = (ContentHash::from_bytes([0x11; 32]), "11".repeat(32));
    golden(&PeerReply::Have { hash, groups: 3 }, &format!(r#"{{"t":"have","hash":"{ones}","groups":3}}"#));
    let time = FolderTime { name: "a/b".parse().unwrap(), mtime: -1, mtime_ns: 7 };
    golden(
        &PeerReply::FolderTimes { folders: vec![ListEntry::Valid(time)], next: None },
        r#"{"t":"folder_times","folders":[{"name":"a/b","mtime":-1,"mtime_ns":7}]}"#,
    );
    let manifest = |zeros| PeerReply::Manifest { hash, size: 5 << 20, group_size: 1 << 20, groups: 5, zeros };
    let head = format!(r#"{{"t":"manifest","hash":"{ones}","size":5242880,"group_size":1048576,"groups":5"#);
    golden(&manifest(Vec::new()), &format!("{head}}}"));
    golden(&manifest(vec![(0, 2), (4, 5)]), &format!(r#"{head},"zeros":[[0,2],[4,5]]}}"#));
    assert_eq!(manifest(vec![(0, 2)]).without_zeros(), manifest(Vec::new()));
    let layout = GroupLayout::of(5 << 20).unwrap();
    let stat = FileStat { zero_bytes: 1 << 20, ..FileStat::new("a".parse().unwrap(), hash, &layout) };
    assert_eq!(stat.data_bytes(), 4 << 20);
    let text = format!(
        r#"{{"t":"stat","name":"a","size":5242880,"hash":"{ones}","group_size":1048576,"mtime":0,"zero_bytes":1048576}}"#
    );
    golden(&PeerReply::Stat(stat.clone()), &text);
    let plain = PeerReply::Stat(FileStat { zero_bytes: 0, ..stat });
    assert_eq!(serde_json::from_str::<PeerReply>(&text).unwrap().without_zeros(), plain);
    let private = FileStat { owner_only: true, ..FileStat::new("a".parse().unwrap(), hash, &layout) };
    let text = format!(
        r#"{{"t":"stat","name":"a","size":5242880,"hash":"{ones}","group_size":1048576,"mtime":0,"owner_only":true}}"#
    );
    golden(&PeerReply::Stat(private.clone()), &text);
    let for_one = FileStat { restricted: true, ..private.clone() };
    let text = serde_json::to_string(&PeerReply::Stat(for_one.clone())).unwrap();
    assert!(text.ends_with(r#""owner_only":true,"restricted":true}"#), "{text}");
    assert_eq!(PeerReply::Stat(for_one).without_restricted(), PeerReply::Stat(private.clone()));
    let open = FileStat { owner_only: false, ..private.clone() };
    assert_eq!(PeerReply::Stat(private.clone()).without_owner_only(), PeerReply::Stat(open.clone()));
    let list = |stat| PeerReply::FileList { files: vec![ListEntry::Valid(stat)], next: None };
    assert_eq!(list(private).without_owner_only(), list(open));
    let offer = Some(FileOffer { name: "a/b".parse().unwrap(), size: 5, hash });
    golden(
        &ChatFrame::Message(ChatMessage { id, ts: 0, text: "x".into(), offer, send: None }),
        &format!(
            r#"{{"t":"message","id":"abababababababababababababababab","ts":0,"text":"x","offer":{{"name":"a/b","size":5,"hash":"{ones}"}}}}"#
        ),
    );
}

#[test]
fn an_entry_that_is_none_leaves_the_others() {
    let ones = "11".repeat(32);
    let file = |name: &str, more: &str| {
        format!(r#"{{"name":"{name}","size":5,"hash":"{ones}","group_size":1048576,"mtime":-1{more}}}"#)
    };
    let layout = GroupLayout::of(5).unwrap();
    let stat = FileStat {
        mtime: -1,
        mtime_ns: 7,
        ..FileStat::new("a".parse().unwrap(), ContentHash::from_bytes([0x11; 32]), &layout)
    };
    let good = PeerReply::FileList { files: vec![ListEntry::Valid(stat.clone())], next: None };
    golden(&good, &format!(r#"{{"t":"file_list","files":[{}]}}"#, file("a", r#","mtime_ns":7"#)));
    let list = [file("a", r#","mtime_ns":7"#), file("../b", ""), r#"{"size":5}"#.into(), "5".into()].join(",");
    let Ok(PeerReply::FileList { files, .. }) =
        serde_json::from_str(&format!(r#"{{"t":"file_list","files":[{list}]}}"#))
    else {
        panic!("{list}")
    };
    let checked: Vec<_> = files.into_iter().map(ListEntry::into_result).collect();
    assert_eq!(checked, [Ok(stat), Err("../b".into()), Err("".into()), Err("".into())]);
    let folders = serde_json::from_str(r#"{"t":"folder_list","folders":["a/b","/c"]}"#).unwrap();
    let PeerReply::FolderList { folders, .. } = folders else { panic!("{folders:?}") };
    let checked: Vec<_> = folders.into_iter().map(ListEntry::into_result).collect();
    assert_eq!(checked, [Ok("a/b".parse().unwrap()), Err("/c".into())]);
}

#[test]
fn unknown_tags_and_fields_are_tolerated() {
    assert_eq!(serde_json::from_str::<PeerRequest>(r#"{"t":"dance","x":[1]}"#).unwrap(), PeerRequest::Unknown);
    assert_eq!(
        serde_json::from_str::<PeerReply>(r#"{"t":"data","bytes":1,"new":{}}"#).unwrap(),
        PeerReply::Data { bytes: 1 }
    );
    assert!(serde_json::from_str::<PeerRequest>(r#"{"t":"stat","name":"../x"}"#).is_err());
    assert!(serde_json::from_str::<PeerRequest>(r#"{"name":"x"}"#).is_err());
    for port in ["-1", "65536", "1.5", "\"80\"", "null"] {
        assert!(serde_json::from_str::<PeerRequest>(&format!(r#"{{"t":"probe","port":{port}}}"#)).is_err(), "{port}");
    }
}

#[test]
fn codes_round_trip() {
    for value in 0..300 {
        assert_eq!(u64::from(PeerErrorCode::from(value)), value);
    }
    assert_eq!(PeerErrorCode::from(9), PeerErrorCode::ShuttingDown);
}

fn asks() -> impl Strategy<Value = PeerRequest> {
    prop_oneof![
        (proptest::option::of(".{0,20}"), proptest::option::of(".{0,20}"))
            .prop_map(|(prefix, cursor)| PeerRequest::Files { prefix, cursor, room: None }),
        ("[a-zé ]{1,20}(/[a-z]{1,9}){0,3}", proptest::option::of(any::<[u8; 16]>())).prop_map(|(name, room)| {
            PeerRequest::Stat { name: name.parse().unwrap(), room: room.map(RoomId::from_bytes) }
        }),
        any::<[u8; 32]>().prop_map(|hash| PeerRequest::Have { hash: ContentHash::from_bytes(hash) }),
        any::<u16>().prop_map(|port| PeerRequest::Probe { port }),
        (any::<[u8; 32]>(), proptest::collection::vec(any::<(u32, u32)>(), 0..9))
            .prop_map(|(hash, ranges)| PeerRequest::Get { hash: ContentHash::from_bytes(hash), ranges, name: None }),
    ]
}

proptest! {
    #[test]
    fn asks_round_trip_through_frames(asks in proptest::collection::vec(asks(), 0..5), piece in 1_usize..50) {
        let mut bytes = Vec::new();
        for ask in &asks {
            frame::encode(ask, &mut bytes).unwrap();
        }
        let mut decoder = frame::FrameDecoder::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.extend(piece);
            while let Some(ask) = decoder.next_frame::<PeerRequest>().unwrap() {
                found.push(ask);
            }
        }
        prop_assert_eq!(found, asks);
    }

    #[test]
    fn mutated_frames_never_panic(ask in asks(), at: proptest::sample::Index, to: u8) {
        let mut bytes = serde_json::to_vec(&ask).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = serde_json::from_slice::<PeerRequest>(&bytes);
        let _ = serde_json::from_slice::<PeerReply>(&bytes);
        let _ = serde_json::from_slice::<ChatFrame>(&bytes);
    }
}
