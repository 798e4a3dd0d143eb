//! Replies: written by the tracker, read by our peers.

use std::net::{IpAddr, SocketAddr};

use localization::tr;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bounded_list::short_list;
use super::request::SharedFile;
use super::{FeatureSet, SessionToken, TrackerErrorCode, TrackerRefusal};
use crate::limits::{MAX_FILES_PER_USER, MAX_USERS_PER_REPLY};
use crate::{Fingerprint, UntrustedText, UserName};

/// The body of a reply without fields of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyReply {}

/// The reply to `LOGIN` and `RESUME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginReply {
    /// The authenticated user; for `RESUME` the certificate's.
    pub user: UserName,
    /// Authenticates requests for this user on other connections.
    pub token: SessionToken,
    /// Seconds until presence ends without a heartbeat.
    pub ttl_s: u64,
    /// The address from which the tracker sees the client.
    pub observed_ip: IpAddr,
    /// The tracker's features; empty if it lists none.
    #[serde(default, skip_serializing_if = "FeatureSet::is_empty")]
    pub features: FeatureSet,
    /// The presence of another process with this key, if this process yielded to it and is not present itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<OtherInstance>,
    /// The tracker's clock in milliseconds since 1970, in the reply to a `RESUME` that only authenticates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
    /// The tracker's version, in the same reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<UntrustedText>,
}

/// The presence of another process with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherInstance {
    /// The address from which the tracker sees it.
    pub ip: IpAddr,
    /// Seconds since it became present. A duration, because the clocks of both sides may differ.
    pub for_s: u64,
}

/// The reply to `REGISTER_FILES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterFilesReply {
    /// Number of files the user now shares.
    pub count: usize,
    /// Number of files in the request that were left out because they are invalid.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

/// The reply to `LIST_PEERS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPeersReply {
    /// Present users, ordered by name.
    #[serde(deserialize_with = "short_list::<_, _, MAX_USERS_PER_REPLY>")]
    pub peers: Vec<ListedPeer>,
    /// Number of matching users on all pages.
    pub total: usize,
    /// The cursor of the next page; `None` on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UserName>,
}

/// The reply to `LIST_PEERS` with all files of one user; nothing else is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UserFilesReply {
    /// The user, if present.
    #[serde(deserialize_with = "short_list::<_, _, 1>")]
    peers: Vec<ListedPeer>,
}

impl UserFilesReply {
    /// Returns the files.
    pub fn into_files(self) -> Vec<SharedFile> {
        self.peers.into_iter().next().map(|peer| peer.files).unwrap_or_default()
    }
}

/// Most addresses of one user in a reply.
const MAX_LISTED_ADDRESSES: usize = 64;

/// A present user, as `LIST_PEERS` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPeer {
    /// The account.
    pub user: UserName,
    /// The address from which the tracker sees the user.
    pub ip: IpAddr,
    /// The user's UDP port for peers, if there is one.
    pub port: Option<u16>,
    /// Further candidate addresses.
    #[serde(default, deserialize_with = "short_list::<_, _, MAX_LISTED_ADDRESSES>")]
    pub addresses: Vec<SocketAddr>,
    /// The key the account is bound to, if any.
    pub fingerprint: Option<Fingerprint>,
    /// Shared files, ordered by name.
    #[serde(default, deserialize_with = "short_list::<_, _, MAX_FILES_PER_USER>")]
    pub files: Vec<SharedFile>,
    /// Number of shared files (with the requested name or hash) if `files` doesn't list all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_count: Option<usize>,
}

impl ListedPeer {
    /// Returns the number of shared files, listed or not.
    pub fn total_file_count(&self) -> usize {
        self.file_count.unwrap_or(self.files.len())
    }
}

/// The reply to `HEARTBEAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// Seconds until presence ends without another heartbeat.
    pub ttl_s: u64,
}

/// The reply to `WHOIS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoisReply {
    /// The account.
    pub user: UserName,
    /// The key the account is bound to. `None` occurs only for clients that list [`super::Feature::KeylessUsers`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// True if the user is present.
    pub online: bool,
}

/// The reply to `SUBSCRIBE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeReply {
    /// The number after which the events on this connection follow.
    pub seq: u64,
    /// The tracker's features; empty if it lists none.
    #[serde(default, skip_serializing_if = "FeatureSet::is_empty")]
    pub features: FeatureSet,
}

/// Parses the features that a reply lists; `None` if it has no such list.
pub fn parse_features(line: &str) -> Option<FeatureSet> {
    // Parsed apart from the reply: a connection keeps the features, whatever type its caller reads the line as.
    #[derive(Deserialize)]
    struct FeatureListing {
        features: Option<FeatureSet>,
    }
    serde_json::from_str::<FeatureListing>(line).ok()?.features
}

/// A reason why a line doesn't give the wanted reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyError {
    /// The tracker refused the request.
    Refused {
        /// Its code and message.
        refusal: TrackerRefusal,
        /// Milliseconds until the next attempt may succeed.
        retry_after_ms: Option<u64>,
    },
    /// The line is not such a reply. Holds the parser's message, which quotes the line.
    Malformed(UntrustedText),
}

impl std::fmt::Display for ReplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { refusal, .. } => write!(f, "{}", refusal.message),
            Self::Malformed(why) => f.write_str(&tr!("not a tracker's reply: {why}", why)),
        }
    }
}

impl std::error::Error for ReplyError {}

/// Encodes the line of a positive reply with the fields of `body`. `id` is JSON text as in [`super::ParsedRequest`].
///
/// # Errors
/// Returns an error if `body` doesn't serialize as a JSON object.
pub fn encode_ok<T: Serialize>(id: Option<&str>, message: &str, body: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = begin_line(id);
    line.extend_from_slice(b"\"status\":\"ok\",\"code\":\"ok\",\"message\":");
    serde_json::to_writer(&mut line, message)?;
    append_fields(&mut line, body)?;
    Ok(line)
}

/// Encodes the line of an error.
pub fn encode_error(id: Option<&str>, refusal: &TrackerRefusal, retry_after_ms: Option<u64>) -> Vec<u8> {
    let mut line = begin_line(id);
    // The whole text: `Display` cuts it and makes it safe for a terminal, which the reader of the reply does.
    let message = serde_json::Value::from(refusal.message.as_received());
    let head = format!("\"status\":\"error\",\"code\":\"{}\",\"message\":{message}", refusal.code);
    line.extend_from_slice(head.as_bytes());
    if let Some(ms) = retry_after_ms {
        line.extend_from_slice(format!(",\"retry_after_ms\":{ms}").as_bytes());
    }
    if let Some(s) = refusal.moved_for_s {
        line.extend_from_slice(format!(",\"moved_for_s\":{s}").as_bytes());
    }
    line.extend_from_slice(b"}\n");
    line
}

/// Starts a line with the request's id.
pub(super) fn begin_line(id: Option<&str>) -> Vec<u8> {
    // The id is JSON text as received, of any type, so it is copied and not serialized.
    let mut line = Vec::with_capacity(128);
    line.push(b'{');
    if let Some(id) = id {
        line.extend_from_slice(b"\"id\":");
        line.extend_from_slice(id.as_bytes());
        line.push(b',');
    }
    line
}

/// Appends the fields of `body` to a line that has fields already, and ends the line.
pub(super) fn append_fields<T: Serialize>(line: &mut Vec<u8>, body: &T) -> Result<(), serde_json::Error> {
    let at = line.len();
    serde_json::to_writer(&mut *line, body)?;
    if line.get(at) != Some(&b'{') {
        return Err(serde::ser::Error::custom("the body of a reply is an object"));
    }
    // An empty object, `{}`: a comma before the closing brace would be invalid.
    if line.len() - at == 2 {
        line.truncate(at);
        line.push(b'}');
    } else if let Some(brace) = line.get_mut(at) {
        // The body is serialized as an object; its opening brace becomes a comma between both field lists.
        *brace = b',';
    }
    line.push(b'\n');
    Ok(())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Parses a reply with a body of type `T`.
///
/// # Errors
/// Returns [`ReplyError::Refused`] if the tracker refused the request, and [`ReplyError::Malformed`] if the line is not
/// a reply with such a body.
pub fn parse_reply<T: DeserializeOwned>(line: &str) -> Result<T, ReplyError> {
    #[derive(Deserialize)]
    struct ReplyHead {
        status: ReplyStatus,
        #[serde(default)]
        code: Option<TrackerErrorCode>,
        #[serde(default)]
        message: UntrustedText,
        #[serde(default)]
        retry_after_ms: Option<u64>,
        #[serde(default)]
        moved_for_s: Option<u64>,
    }
    #[derive(Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum ReplyStatus {
        #[serde(rename = "ok")]
        Success,
        #[serde(rename = "error")]
        Failure,
    }
    let malformed = |error: serde_json::Error| ReplyError::Malformed(error.to_string().into());
    // The head is read first: an error has no body, so reading `T` from it would fail.
    let head: ReplyHead = serde_json::from_str(line).map_err(malformed)?;
    if head.status == ReplyStatus::Failure {
        let code = head.code.unwrap_or(TrackerErrorCode::Unknown);
        let refusal = TrackerRefusal { moved_for_s: head.moved_for_s, ..TrackerRefusal::new(code, head.message) };
        return Err(ReplyError::Refused { refusal, retry_after_ms: head.retry_after_ms });
    }
    serde_json::from_str(line).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_replies() {
        let ok = encode_ok(None, "hello", &EmptyReply {}).unwrap();
        assert_eq!(ok, b"{\"status\":\"ok\",\"code\":\"ok\",\"message\":\"hello\"}\n");
        let ok = encode_ok(Some("[1]"), "2 files", &RegisterFilesReply { count: 2, left_out: 0 }).unwrap();
        assert_eq!(ok, b"{\"id\":[1],\"status\":\"ok\",\"code\":\"ok\",\"message\":\"2 files\",\"count\":2}\n");
        let refusal = TrackerRefusal::new(TrackerErrorCode::Busy, "later \"please\"\n");
        assert_eq!(
            String::from_utf8(encode_error(Some("\"x\""), &refusal, Some(250))).unwrap(),
            "{\"id\":\"x\",\"status\":\"error\",\"code\":\"busy\",\"message\":\"later \\\"please\\\"\\n\",\"retry_after_ms\":250}\n"
        );
    }

    #[test]
    fn features_are_listed_and_their_absence_is_none() {
        let subscribed = SubscribeReply { seq: 7, features: FeatureSet::all() };
        let line = String::from_utf8(encode_ok(None, "events follow", &subscribed).unwrap()).unwrap();
        assert!(
            line.ends_with(
                ",\"seq\":7,\"features\":[\"partial_files\",\"similar_names\",\"instances\",\"keyless_users\",\"rooms\"]}\n"
            ),
            "{line}"
        );
        assert_eq!(parse_reply(&line), Ok(subscribed));
        assert_eq!(parse_features(&line), Some(FeatureSet::all()));
        let old = r#"{"status":"ok","code":"ok","message":"events follow","seq":7}"#;
        assert_eq!(parse_reply(old), Ok(SubscribeReply { seq: 7, features: FeatureSet::default() }));
        assert_eq!(parse_features(old), None);
        assert_eq!(parse_features(r#"{"features":"all"}"#), None);
    }

    #[test]
    fn golden_login() {
        let reply = LoginReply {
            user: "bob".parse().unwrap(),
            token: SessionToken::from_bytes([0xab; 32]),
            ttl_s: 90,
            observed_ip: [10, 0, 0, 1].into(),
            features: FeatureSet::default(),
            elsewhere: None,
            now_ms: None,
            version: None,
        };
        let token = "ab".repeat(32);
        let text = format!(r#"{{"user":"bob","token":"{token}","ttl_s":90,"observed_ip":"10.0.0.1"}}"#);
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<LoginReply>(&text).unwrap(), reply);
        let told = LoginReply { now_ms: Some(7), version: Some("0.1.0".into()), ..reply };
        let text = text.replace('}', r#","now_ms":7,"version":"0.1.0"}"#);
        assert_eq!(serde_json::to_string(&told).unwrap(), text);
        assert_eq!(serde_json::from_str::<LoginReply>(&text).unwrap(), told);
    }

    #[test]
    fn golden_bindings() {
        let key = Fingerprint::from_bytes([0xab; 32]);
        for (fingerprint, field) in [(Some(key), format!(r#""fingerprint":"{key}","#)), (None, String::new())] {
            let reply = WhoisReply { user: "bob".parse().unwrap(), fingerprint, online: true };
            let text = format!(r#"{{"user":"bob",{field}"online":true}}"#);
            assert_eq!(serde_json::to_string(&reply).unwrap(), text);
            assert_eq!(serde_json::from_str::<WhoisReply>(&text).unwrap(), reply);
        }
    }

    #[test]
    fn golden_peer_entry() {
        let entry = ListedPeer {
            user: "bob".parse().unwrap(),
            ip: [192, 168, 1, 7].into(),
            port: None,
            addresses: vec![],
            fingerprint: None,
            files: vec![],
            file_count: None,
        };
        let text = r#"{"user":"bob","ip":"192.168.1.7","port":null,"addresses":[],"fingerprint":null,"files":[]}"#;
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        assert_eq!(serde_json::from_str::<ListedPeer>(text).unwrap(), entry);
        let counted = ListedPeer { file_count: Some(3), ..entry };
        let text = r#"{"user":"bob","ip":"192.168.1.7","port":null,"addresses":[],"fingerprint":null,"files":[],"file_count":3}"#;
        assert_eq!(serde_json::to_string(&counted).unwrap(), text);
        assert_eq!(serde_json::from_str::<ListedPeer>(text).unwrap(), counted);
        assert_eq!(counted.total_file_count(), 3);
    }

    #[test]
    fn a_reply_with_more_entries_than_there_can_be_is_none() {
        let entry = r#"{"user":"bob","ip":"10.0.0.1","port":1,"fingerprint":null}"#;
        let entry_with = |list: &str| entry.replace('}', &format!(",{list}}}"));
        let reply = |entries: &str| format!(r#"{{"status":"ok","total":1,"peers":[{entries}]}}"#);
        let many = |text: &str, count| vec![text; count].join(",");
        let listed = |entries: &str| parse_reply::<ListPeersReply>(&reply(entries)).map(|reply| reply.peers.len());
        assert_eq!(listed(&many(entry, 10_000)), Ok(10_000));
        assert!(listed(&many(entry, 10_001)).is_err());
        let address = r#""10.0.0.1:1""#;
        assert_eq!(listed(&entry_with(&format!(r#""addresses":[{}]"#, many(address, 64)))), Ok(1));
        assert!(listed(&entry_with(&format!(r#""addresses":[{}]"#, many(address, 65)))).is_err());
        let files = |count| entry_with(&format!(r#""files":[{}]"#, many(r#"{"name":"a","size":1,"hash":""}"#, count)));
        let shared =
            |entries: &str| parse_reply::<UserFilesReply>(&reply(entries)).map(|reply| reply.into_files().len());
        assert_eq!((shared(""), shared(&files(100_000))), (Ok(0), Ok(100_000)));
        assert!(shared(&files(100_001)).is_err() && shared(&many(entry, 2)).is_err());
    }

    #[test]
    fn replies_are_read_back() {
        let line =
            String::from_utf8(encode_ok(Some("7"), "ok", &RegisterFilesReply { count: 9, left_out: 1 }).unwrap())
                .unwrap();
        assert_eq!(parse_reply(&line), Ok(RegisterFilesReply { count: 9, left_out: 1 }));
        let refusal = TrackerRefusal::new(TrackerErrorCode::RateLimited, "slow down");
        let line = String::from_utf8(encode_error(None, &refusal, Some(5))).unwrap();
        assert_eq!(parse_reply::<EmptyReply>(&line), Err(ReplyError::Refused { refusal, retry_after_ms: Some(5) }));
        let moved = TrackerRefusal {
            moved_for_s: Some(90),
            ..TrackerRefusal::new(TrackerErrorCode::NotLoggedIn, "bob was moved")
        };
        let line = String::from_utf8(encode_error(None, &moved, None)).unwrap();
        assert!(line.ends_with(",\"message\":\"bob was moved\",\"moved_for_s\":90}\n"), "{line}");
        assert_eq!(parse_reply::<EmptyReply>(&line), Err(ReplyError::Refused { refusal: moved, retry_after_ms: None }));
        assert!(matches!(parse_reply::<EmptyReply>("HTTP/1.1 400"), Err(ReplyError::Malformed(_))));
        assert!(matches!(parse_reply::<RegisterFilesReply>(r#"{"status":"ok"}"#), Err(ReplyError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = parse_reply::<ListPeersReply>(&text);
        }
    }
}
