//! Golden JSON of sends and receipts, the rules of their fields, and the parser of an earlier version.

use proptest::prelude::*;

use super::*;
use crate::peer::{ChatFrame, ChatMessage, PeerReply, PeerRequest};

fn name(text: &str) -> FileName {
    text.parse().unwrap()
}

fn folder(files: u32) -> FileSend {
    let hash = ContentHash::from_bytes([0x11; 32]);
    FileSend { name: name("photos"), kind: SendKind::Folder, files, size: 5, hash }
}

fn message(send: Option<FileSend>) -> ChatFrame {
    let id = MessageId::from_bytes([0xab; 16]);
    ChatFrame::Message(ChatMessage { id, ts: 0, text: "x".into(), offer: None, send })
}

#[test]
fn golden_sends_and_receipts() {
    let (ones, id) = ("11".repeat(32), "ab".repeat(16));
    let text = format!(
        r#"{{"t":"message","id":"{id}","ts":0,"text":"x","send":{{"name":"photos","kind":"folder","files":3,"size":5,"hash":"{ones}"}}}}"#
    );
    assert_eq!(serde_json::to_string(&message(Some(folder(3)))).unwrap(), text);
    assert_eq!(serde_json::from_str::<ChatFrame>(&text).unwrap(), message(Some(folder(3))));

    let hash = ContentHash::from_bytes([0x11; 32]);
    let of_message = SendReceipt {
        id: Some(MessageId::from_bytes([0xab; 16])),
        room: None,
        hash,
        outcome: ReceiptOutcome::Declined,
    };
    let of_room =
        SendReceipt { id: None, room: Some(RoomId::from_bytes([0xcd; 16])), hash, outcome: ReceiptOutcome::Done };
    for (receipt, text) in [
        (of_message, format!(r#"{{"t":"receipt","id":"{id}","hash":"{ones}","outcome":"declined"}}"#)),
        (of_room, format!(r#"{{"t":"receipt","room":"{}","hash":"{ones}","outcome":"done"}}"#, "cd".repeat(16))),
    ] {
        assert_eq!(serde_json::to_string(&PeerRequest::Receipt(receipt.clone())).unwrap(), text);
        assert_eq!(serde_json::from_str::<PeerRequest>(&text).unwrap(), PeerRequest::Receipt(receipt));
    }
    assert_eq!(serde_json::to_string(&PeerReply::ReceiptStored {}).unwrap(), r#"{"t":"receipt_stored"}"#);
}

#[test]
fn an_invalid_send_leaves_the_message() {
    let valid = serde_json::to_value(folder(3)).unwrap();
    let changed = |field: &str, value: serde_json::Value| {
        let mut send = valid.clone();
        send[field] = value;
        send
    };
    let wrong = [
        changed("name", "../x".into()),
        changed("kind", "tree".into()),
        changed("kind", "file".into()),
        changed("files", 0.into()),
        changed("files", (-1).into()),
        changed("size", (MAX_FILE_SIZE + 1).into()),
        changed("hash", "11".into()),
        5.into(),
        serde_json::Value::Null,
    ];
    for send in wrong {
        let mut frame = serde_json::to_value(message(None)).unwrap();
        frame["send"] = send.clone();
        let parsed = serde_json::from_str::<ChatFrame>(&frame.to_string()).unwrap();
        assert_eq!(parsed, message(None), "{send}");
    }
}

/// The chat frames of the version f0f0c2d, as its parser had them.
mod f0f0c2d {
    use serde::Deserialize;

    use crate::{ContentHash, FileName};

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "t", rename_all = "snake_case")]
    pub(super) enum Frame {
        Message(Message),
        Typing {},
        #[serde(other)]
        Unknown,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    pub(super) struct Message {
        pub id: crate::peer::MessageId,
        pub ts: i64,
        pub text: String,
        #[serde(default)]
        pub offer: Option<Offer>,
        #[serde(default)]
        pub room: Option<String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    pub(super) struct Offer {
        pub name: FileName,
        pub size: u64,
        pub hash: ContentHash,
    }
}

#[test]
fn an_earlier_peer_reads_the_message_of_a_send() {
    let parse = |text: &str| serde_json::from_str::<f0f0c2d::Frame>(text);
    let text = serde_json::to_string(&message(Some(folder(3)))).unwrap();
    let Ok(f0f0c2d::Frame::Message(read)) = parse(&text) else { panic!("{text}") };
    assert_eq!((read.text.as_str(), read.offer, read.room, read.ts), ("x", None, None, 0));
    // Why a folder is none: that parser refuses an offer that is not exactly one file.
    let as_offer = text.replace(r#""send""#, r#""offer""#).replace(r#""size":5,"#, "");
    assert!(parse(&as_offer).is_err(), "{as_offer}");
    assert_eq!(parse(r#"{"t":"receipt"}"#).unwrap(), f0f0c2d::Frame::Unknown);
    assert_eq!(parse(r#"{"t":"typing"}"#).unwrap(), f0f0c2d::Frame::Typing {});
}

#[test]
fn the_hash_of_a_folder_is_golden_and_in_no_order() {
    let (one, two) = (ContentHash::of(b"1"), ContentHash::of(b"2"));
    let (a, b) = (name("photos/a"), name("photos/b"));
    let golden = folder_hash([(&a, &one), (&b, &two)]);
    let bytes = [b"\0\0\0\x08photos/a".as_slice(), one.as_bytes(), b"\0\0\0\x08photos/b", two.as_bytes()].concat();
    assert_eq!(golden, ContentHash::of(&bytes));
    assert_eq!(folder_hash([(&b, &two), (&a, &one)]), golden);
    assert_ne!(folder_hash([(&a, &two), (&b, &one)]), golden);
}

#[test]
fn only_what_is_sent_has_the_hash_of_the_send() {
    let (one, two) = (ContentHash::of(b"1"), ContentHash::of(b"2"));
    let (a, b, other) = (name("photos/a"), name("photos/b"), name("photosx/b"));
    assert_eq!(folder(2).hash_of([(&a, &one), (&b, &two)]), Some(folder_hash([(&a, &one), (&b, &two)])));
    assert_eq!(folder(2).hash_of([(&a, &one)]), None);
    assert_eq!(folder(2).hash_of([(&a, &one), (&other, &two)]), None);
    let file = FileSend { kind: SendKind::File, files: 1, ..folder(1) };
    assert_eq!(file.hash_of([(&name("photos"), &one)]), Some(one));
    assert_eq!(file.hash_of([(&a, &one)]), None);
    assert_eq!((file.name_prefix().as_str(), folder(1).name_prefix().as_str()), ("photos", "photos/"));
}

proptest! {
    #[test]
    fn sends_round_trip_and_mutated_ones_never_panic(
        files in 1_u32..9, size in 0..=MAX_FILE_SIZE, hash: [u8; 32], at: proptest::sample::Index, to: u8
    ) {
        let send = FileSend { size, hash: ContentHash::from_bytes(hash), ..folder(files) };
        let mut bytes = serde_json::to_vec(&message(Some(send.clone()))).unwrap();
        prop_assert_eq!(serde_json::from_slice::<ChatFrame>(&bytes).unwrap(), message(Some(send)));
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = serde_json::from_slice::<ChatFrame>(&bytes);
        let _ = serde_json::from_slice::<PeerRequest>(&bytes);
    }

    #[test]
    fn files_between_names_are_never_moved_unseen(split in 1_usize..7, text in "[a-z]{8}") {
        // The length before each name: what one name loses and the next one gains is seen.
        let hash = ContentHash::of(b"x");
        let whole = name(&format!("f/{text}"));
        let (head, tail) = (name(&format!("f/{}", &text[..split])), name(&format!("f/{}", &text[split..])));
        prop_assert_ne!(folder_hash([(&whole, &hash)]), folder_hash([(&head, &hash), (&tail, &hash)]));
    }
}
