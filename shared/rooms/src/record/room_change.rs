//! The change that a record makes, and its encoding.

use shared::room::MessageHash;
use shared::{Fingerprint, RoomName, RoomTopic, UserName};

use super::RecordFault;
use crate::byte_reader::ByteReader;

/// The messages that a new member may read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HistoryVisibility {
    /// All that members keep.
    #[default]
    Shared,
    /// Only those of the epoch in which the member joined and later ones.
    Joined,
}

/// The last message that counts of a membership that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Its number; 0 if none counts.
    pub number: u64,
    /// Its hash; `None` exactly if none counts.
    pub hash: Option<MessageHash>,
}

/// A change of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the fields say all")]
pub enum RoomChange {
    /// The room's beginning.
    Create { room_name: RoomName, history: HistoryVisibility },
    /// A new member. One who joins an empty room owns it.
    Join { user: UserName, key: Fingerprint },
    /// The end of a membership by the member, or because the account or its key went.
    Leave { user: UserName, key: Fingerprint, cut: Option<Cut> },
    /// The end of a membership by the owner or a moderator.
    Kick { user: UserName, key: Fingerprint, by: UserName, cut: Option<Cut> },
    /// The cut of a membership that ended at `ended_at` and was open until now.
    SetCut { key: Fingerprint, ended_at: u64, cut: Cut },
    /// The room's next owner; the one before stays as a moderator.
    Owner { user: UserName, key: Fingerprint },
    /// The line above the conversation.
    Topic { topic: RoomTopic },
    /// The room's end.
    Delete,
    /// The tracker's restore from a backup, or its promotion: records of after the backup are void.
    Restore,
    /// The rights of a member.
    SetRole { user: UserName, key: Fingerprint, moderator: bool },
}

impl RoomChange {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Create { room_name, history } => {
                out.push(1);
                encode_name(room_name.as_str(), out);
                out.push(match history {
                    HistoryVisibility::Shared => 0,
                    HistoryVisibility::Joined => 1,
                });
            }
            Self::Join { user, key } => encode_member(2, user, key, out),
            Self::Leave { user, key, cut } => {
                encode_member(3, user, key, out);
                encode_cut(*cut, out);
            }
            Self::Kick { user, key, by, cut } => {
                encode_member(4, user, key, out);
                encode_name(by.as_str(), out);
                encode_cut(*cut, out);
            }
            Self::SetCut { key, ended_at, cut } => {
                out.push(5);
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(&ended_at.to_be_bytes());
                encode_cut(Some(*cut), out);
            }
            Self::Owner { user, key } => encode_member(6, user, key, out),
            Self::Topic { topic } => {
                out.push(7);
                // A topic has at most 512 bytes.
                out.extend_from_slice(&u16::try_from(topic.as_str().len()).unwrap_or(u16::MAX).to_be_bytes());
                out.extend_from_slice(topic.as_str().as_bytes());
            }
            Self::Delete => out.push(8),
            Self::Restore => out.push(9),
            Self::SetRole { user, key, moderator } => {
                encode_member(10, user, key, out);
                out.push(u8::from(*moderator));
            }
        }
    }

    pub(super) fn parse(reader: &mut ByteReader<'_>) -> Result<Self, RecordFault> {
        Ok(match reader.u8()? {
            1 => Self::Create {
                room_name: parse_name(reader)?.parse().map_err(|_| RecordFault::Malformed)?,
                history: match parse_flag(reader)? {
                    false => HistoryVisibility::Shared,
                    true => HistoryVisibility::Joined,
                },
            },
            2 => Self::Join { user: parse_user(reader)?, key: parse_key(reader)? },
            3 => Self::Leave { user: parse_user(reader)?, key: parse_key(reader)?, cut: parse_cut(reader)? },
            4 => Self::Kick {
                user: parse_user(reader)?,
                key: parse_key(reader)?,
                by: parse_user(reader)?,
                cut: parse_cut(reader)?,
            },
            5 => Self::SetCut {
                key: parse_key(reader)?,
                ended_at: reader.u64()?,
                cut: parse_cut(reader)?.ok_or(RecordFault::Malformed)?,
            },
            6 => Self::Owner { user: parse_user(reader)?, key: parse_key(reader)? },
            7 => {
                let length = usize::from(reader.u16()?);
                Self::Topic { topic: parse_text(reader, length)?.parse().map_err(|_| RecordFault::Malformed)? }
            }
            8 => Self::Delete,
            9 => Self::Restore,
            10 => Self::SetRole { user: parse_user(reader)?, key: parse_key(reader)?, moderator: parse_flag(reader)? },
            _ => return Err(RecordFault::Malformed),
        })
    }
}

fn encode_name(name: &str, out: &mut Vec<u8>) {
    // A name has at most 32 bytes.
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name.as_bytes());
}

fn encode_member(kind: u8, user: &UserName, key: &Fingerprint, out: &mut Vec<u8>) {
    out.push(kind);
    encode_name(user.as_str(), out);
    out.extend_from_slice(key.as_bytes());
}

fn encode_cut(cut: Option<Cut>, out: &mut Vec<u8>) {
    let Some(cut) = cut else { return out.push(0) };
    out.push(1);
    out.extend_from_slice(&cut.number.to_be_bytes());
    out.extend_from_slice(cut.hash.map_or([0; 32], |hash| *hash.as_bytes()).as_slice());
}

fn parse_text<'a>(reader: &mut ByteReader<'a>, length: usize) -> Result<&'a str, RecordFault> {
    std::str::from_utf8(reader.take(length)?).map_err(|_| RecordFault::Malformed)
}

fn parse_name<'a>(reader: &mut ByteReader<'a>) -> Result<&'a str, RecordFault> {
    let length = usize::from(reader.u8()?);
    parse_text(reader, length)
}

fn parse_user(reader: &mut ByteReader<'_>) -> Result<UserName, RecordFault> {
    parse_name(reader)?.parse().map_err(|_| RecordFault::Malformed)
}

fn parse_key(reader: &mut ByteReader<'_>) -> Result<Fingerprint, RecordFault> {
    Ok(Fingerprint::from_bytes(reader.array()?))
}

fn parse_flag(reader: &mut ByteReader<'_>) -> Result<bool, RecordFault> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(RecordFault::Malformed),
    }
}

fn parse_cut(reader: &mut ByteReader<'_>) -> Result<Option<Cut>, RecordFault> {
    if !parse_flag(reader)? {
        return Ok(None);
    }
    let number = reader.u64()?;
    let hash = reader.array::<32>()?;
    let hash = (hash != [0; 32]).then(|| MessageHash::from_bytes(hash));
    // No message counts exactly if there is none to name.
    if (number == 0) != hash.is_none() {
        return Err(RecordFault::Malformed);
    }
    Ok(Some(Cut { number, hash }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user() -> impl Strategy<Value = UserName> {
        "[A-Za-z0-9_.-]{1,32}".prop_map(|text| text.parse().unwrap())
    }

    fn key() -> impl Strategy<Value = Fingerprint> {
        any::<[u8; 32]>().prop_map(Fingerprint::from_bytes)
    }

    fn cut() -> impl Strategy<Value = Cut> {
        prop_oneof![
            Just(Cut { number: 0, hash: None }),
            (1_u64.., any::<[u8; 31]>()).prop_map(|(number, rest)| {
                let mut hash = [1; 32];
                hash[1..].copy_from_slice(&rest);
                Cut { number, hash: Some(MessageHash::from_bytes(hash)) }
            }),
        ]
    }

    fn change() -> impl Strategy<Value = RoomChange> {
        let open = || proptest::option::of(cut());
        prop_oneof![
            ("[A-Za-z0-9_.-]{1,32}", any::<bool>()).prop_map(|(name, joined)| RoomChange::Create {
                room_name: name.parse().unwrap(),
                history: if joined { HistoryVisibility::Joined } else { HistoryVisibility::Shared },
            }),
            (user(), key()).prop_map(|(user, key)| RoomChange::Join { user, key }),
            (user(), key(), open()).prop_map(|(user, key, cut)| RoomChange::Leave { user, key, cut }),
            (user(), key(), user(), open()).prop_map(|(user, key, by, cut)| RoomChange::Kick { user, key, by, cut }),
            (key(), any::<u64>(), cut()).prop_map(|(key, ended_at, cut)| RoomChange::SetCut { key, ended_at, cut }),
            (user(), key()).prop_map(|(user, key)| RoomChange::Owner { user, key }),
            "[^\\p{Cc}]{0,100}".prop_map(|topic| RoomChange::Topic { topic: topic.parse().unwrap() }),
            Just(RoomChange::Delete),
            Just(RoomChange::Restore),
            (user(), key(), any::<bool>()).prop_map(|(user, key, moderator)| RoomChange::SetRole {
                user,
                key,
                moderator
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_change_has_one_encoding(change in change(), place: prop::sample::Index, byte: u8) {
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            prop_assert_eq!(RoomChange::parse(&mut ByteReader::new(&bytes)), Ok(change));
            for end in 0..bytes.len() {
                prop_assert!(RoomChange::parse(&mut ByteReader::new(&bytes[..end])).is_err());
            }
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let mut reader = ByteReader::new(&bytes);
            if let Ok(other) = RoomChange::parse(&mut reader) {
                let mut again = Vec::new();
                other.encode(&mut again);
                prop_assert!(bytes.starts_with(&again) && reader.rest().len() == bytes.len() - again.len());
            }
        }
    }
}
