//! Serialization of paths for `serde(with)`: as text if they are UTF-8, else as bytes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum SerializedPath {
    Text(PathBuf),
    Bytes(Vec<u8>),
}

/// Serializes a path. Fails with the serializer's error.
pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => text.serialize(serializer),
        None => path.as_os_str().as_bytes().serialize(serializer),
    }
}

/// Deserializes a path that [`serialize`] wrote. Fails with the deserializer's error.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(match SerializedPath::deserialize(deserializer)? {
        SerializedPath::Text(path) => path,
        SerializedPath::Bytes(bytes) => OsString::from_vec(bytes).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Held(#[serde(with = "super")] PathBuf);

    #[test]
    fn every_path_comes_back() {
        for bytes in [b"docs/a.txt".as_slice(), "d\u{e9}j\u{e0} vu".as_bytes(), b"bad-\xff", b""] {
            let path = Held(OsString::from_vec(bytes.to_vec()).into());
            let text = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<Held>(&text).unwrap(), path, "{text}");
        }
        assert_eq!(serde_json::to_string(&Held("a b".into())).unwrap(), r#""a b""#);
    }
}
