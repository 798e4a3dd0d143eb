//! Serialization of requests, for our own peers.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::*;
use crate::tracker::{FeatureSet, FindCriterion};

impl Serialize for TrackerRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Register { credentials, key } => {
                map.serialize_entry("action", "REGISTER")?;
                credentials.write(&mut map)?;
                serialize_optional(&mut map, "idempotency_key", key.as_ref())?;
            }
            Self::Login { credentials, presence, rebind } => {
                map.serialize_entry("action", "LOGIN")?;
                credentials.write(&mut map)?;
                presence.write(&mut map)?;
                serialize_optional(&mut map, "rebind", rebind.then_some(true).as_ref())?;
                // The latest list counts for the connection, so each request that may have one repeats it.
                map.serialize_entry("features", &FeatureSet::all())?;
            }
            Self::RegisterFiles(RegisterFilesRequest { user, files, mode, proof }) => {
                map.serialize_entry("action", "REGISTER_FILES")?;
                map.serialize_entry("user", user)?;
                map.serialize_entry("files", files)?;
                map.serialize_entry("mode", mode)?;
                proof.write(&mut map)?;
            }
            // Absent fields matter: a request without any is the complete list.
            Self::ListPeers(ListPeersRequest { user, name, hash, limit, cursor, with_files }) => {
                map.serialize_entry("action", "LIST_PEERS")?;
                serialize_optional(&mut map, "user", user.as_ref())?;
                serialize_optional(&mut map, "name", name.as_ref())?;
                serialize_optional(&mut map, "hash", hash.as_ref())?;
                serialize_optional(&mut map, "limit", limit.as_ref())?;
                serialize_optional(&mut map, "cursor", cursor.as_ref())?;
                serialize_optional(&mut map, "with_files", with_files.as_ref())?;
            }
            Self::Logout { user, proof } => {
                map.serialize_entry("action", "LOGOUT")?;
                map.serialize_entry("user", user)?;
                proof.write(&mut map)?;
            }
            Self::Resume(presence) => {
                map.serialize_entry("action", "RESUME")?;
                presence.write(&mut map)?;
                map.serialize_entry("features", &FeatureSet::all())?;
            }
            Self::Forwarded { person, proof } => {
                map.serialize_entry("action", "FORWARDED")?;
                map.serialize_entry("for", person.as_str())?;
                if let Some(DoorProof { key, signature }) = proof {
                    map.serialize_entry("key", &crate::hex::encode(key))?;
                    map.serialize_entry("signature", &crate::hex::encode(signature))?;
                }
            }
            Self::Heartbeat { user, token } => {
                map.serialize_entry("action", "HEARTBEAT")?;
                serialize_optional(&mut map, "user", user.as_ref())?;
                serialize_optional(&mut map, "token", token.as_ref())?;
            }
            Self::Whois(whois) => {
                map.serialize_entry("action", "WHOIS")?;
                match whois {
                    WhoisRequest::User(user) => map.serialize_entry("user", user)?,
                    WhoisRequest::Fingerprint(fingerprint) => map.serialize_entry("fingerprint", fingerprint)?,
                    WhoisRequest::Like(user) => map.serialize_entry("like", user)?,
                }
                map.serialize_entry("features", &FeatureSet::all())?;
            }
            Self::Find(FindRequest { criterion: wanted, limit, cursor }) => {
                map.serialize_entry("action", "FIND")?;
                match wanted {
                    FindCriterion::Hash(hash) => map.serialize_entry("hash", hash)?,
                    FindCriterion::Words(words) => map.serialize_entry("name", &words.to_string())?,
                }
                serialize_optional(&mut map, "limit", limit.as_ref())?;
                serialize_optional(&mut map, "cursor", cursor.as_ref())?;
            }
            Self::Subscribe { since } => {
                map.serialize_entry("action", "SUBSCRIBE")?;
                serialize_optional(&mut map, "since", since.as_ref())?;
                map.serialize_entry("features", &FeatureSet::all())?;
            }
            Self::Passwd { credentials, new_password, key } => {
                map.serialize_entry("action", "PASSWD")?;
                credentials.write(&mut map)?;
                map.serialize_entry("new_password", new_password.reveal())?;
                serialize_optional(&mut map, "idempotency_key", key.as_ref())?;
            }
            Self::Room(room) => room.write(&mut map)?,
            Self::ExerciseRoom(room) => room.write(&mut map)?,
        }
        map.end()
    }
}

impl Credentials {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("user", &self.user)?;
        map.serialize_entry("password", self.password.reveal())
    }
}

impl AnnouncedPresence {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        serialize_optional(map, "port", self.port.as_ref())?;
        serialize_optional(map, "addresses", Some(&self.addresses).filter(|list| !list.is_empty()))?;
        serialize_optional(map, "instance", self.instance.as_ref())?;
        serialize_optional(map, "yields", self.yields.then_some(true).as_ref())
    }
}

impl SpeakerProof {
    pub(super) fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        serialize_optional(map, "token", self.token.as_ref())?;
        serialize_optional(map, "password", self.password.as_ref().map(Password::reveal).as_ref())
    }
}

pub(super) fn serialize_optional<M: SerializeMap, T: Serialize>(
    map: &mut M,
    key: &'static str,
    value: Option<&T>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(key, value))
}
