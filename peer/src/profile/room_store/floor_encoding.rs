//! The encoding of a floor's contents: for each the hash (32 bytes), the depth (8) and the epoch (8).

use rooms::Predecessor;
use shared::room::MessageHash;

const CONTENT_BYTES: usize = 48;

/// Encodes the contents of a floor.
pub(super) fn encode_floor(contents: &[Predecessor]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CONTENT_BYTES * contents.len());
    for content in contents {
        bytes.extend_from_slice(content.hash.as_bytes());
        bytes.extend_from_slice(&content.depth.to_be_bytes());
        bytes.extend_from_slice(&content.epoch.to_be_bytes());
    }
    bytes
}

/// Decodes the contents of a floor; `None` if the bytes are none.
pub(super) fn decode_floor(bytes: &[u8]) -> Option<Vec<Predecessor>> {
    let (contents, rest) = bytes.as_chunks::<CONTENT_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    contents.iter().map(decode_content).collect()
}

fn decode_content(bytes: &[u8; CONTENT_BYTES]) -> Option<Predecessor> {
    let (hash, rest) = bytes.split_first_chunk()?;
    let (depth, rest) = rest.split_first_chunk()?;
    let (epoch, _) = rest.split_first_chunk()?;
    Some(Predecessor {
        hash: MessageHash::from_bytes(*hash),
        depth: u64::from_be_bytes(*depth),
        epoch: u64::from_be_bytes(*epoch),
    })
}
