//! A file that is offered, with everything that can be said of it truthfully.

use serde_json::{Value, json};
use shared::ContentHash;
use shared::content::{GroupLayout, Manifest};

/// A file that is offered.
#[derive(Debug, Clone)]
pub struct Offer {
    name: String,
    content: Vec<u8>,
    layout: GroupLayout,
    manifest: Manifest,
    hash: ContentHash,
}

impl Offer {
    /// A file of this name and content.
    pub fn new(name: &str, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        let layout = GroupLayout::of(content.len() as u64).expect("a size that is allowed");
        let groups =
            (0..layout.group_count()).map(|index| layout.chaining_value(index, slice(&layout, &content, index)));
        let manifest = Manifest::new(groups.collect());
        let (hash, name) = (manifest.content_hash(), name.to_owned());
        Self { name, content, layout, manifest, hash }
    }

    /// What is in it.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn layout(&self) -> &GroupLayout {
        &self.layout
    }

    pub(super) const fn hash(&self) -> ContentHash {
        self.hash
    }

    pub(super) fn manifest(&self) -> &[u8] {
        self.manifest.as_bytes()
    }

    pub(super) fn group(&self, group: u32) -> &[u8] {
        slice(&self.layout, &self.content, group)
    }

    pub(super) fn bytes_of(&self, groups: &[u32]) -> Vec<u8> {
        groups.iter().map(|group| self.group(*group)).collect::<Vec<_>>().concat()
    }

    pub(super) fn stat(&self) -> Value {
        json!({ "name": self.name, "size": self.layout.size(), "hash": self.hash,
                "group_size": self.layout.group_bytes(), "mtime": 1_700_000_000 })
    }
}

fn slice<'a>(layout: &GroupLayout, content: &'a [u8], group: u32) -> &'a [u8] {
    let start = usize::try_from(layout.offset(group)).expect("it is in memory");
    &content[start..start + usize::try_from(layout.group_len(group)).expect("it is in memory")]
}
