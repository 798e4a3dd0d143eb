//! Versions of shared files that are being fetched: a fetch may end with the version that it began with, even if a
//! newer one is on record, as long as its bytes are on the disk. And the proofs of content that sending them yields.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | manifests in memory, however many ask | one for each content | |
//! | versions that are remembered | 64, with 16 MiB of manifests | the longest unused is forgotten, which only fetches of versions that aren't on record notice |
//! | files that are being proved | 256 | all proofs begin anew |
//! | files that are proved and not yet recorded | 4,096 | further ones are proved when they are sent again |

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use shared::{ContentHash, FileName, GroupLayout, GroupSet, Manifest};
use tokio::sync::Notify;

use super::share_access::ShareAccess;
use crate::profile::{Audience, Share};
use crate::sys::FileVersion;

const MAX_VERSIONS: usize = 64;
const MANIFEST_BYTES: usize = 16 << 20;
const MAX_PENDING_PROOFS: usize = 256;
const PROVED: usize = 4096;

/// A version of a file that was described to a peer.
#[derive(Debug, Clone)]
pub(super) struct ServedVersion {
    pub(super) share: Share,
    pub(super) layout: GroupLayout,
    pub(super) manifest: Arc<Manifest>,
}

/// The versions that were described last, and the manifests in use.
#[derive(Debug, Default)]
pub(super) struct ServedVersions {
    /// The latest last.
    versions: Mutex<VecDeque<ServedVersion>>,
    manifests: Mutex<HashMap<ContentHash, Weak<Manifest>>>,
}

impl ServedVersions {
    /// Returns the manifest of a content that is in memory already, whoever asked for it.
    pub(super) fn manifest_of(&self, hash: &ContentHash) -> Option<Arc<Manifest>> {
        self.manifests().get(hash).and_then(Weak::upgrade)
    }

    /// Shares a manifest with all who ask for this content while one of them uses it.
    pub(super) fn share_manifest(&self, hash: ContentHash, manifest: Manifest) -> Arc<Manifest> {
        let mut manifests = self.manifests();
        // Another request may have read it meanwhile: one copy serves both.
        if let Some(known) = manifests.get(&hash).and_then(Weak::upgrade) {
            return known;
        }
        // Only here the map grows, so the dead entries are looked for here.
        manifests.retain(|_, manifest| manifest.strong_count() > 0);
        let manifest = Arc::new(manifest);
        manifests.insert(hash, Arc::downgrade(&manifest));
        manifest
    }

    /// Remembers a version; forgets the oldest beyond the bounds.
    pub(super) fn insert(&self, version: ServedVersion) {
        let mut versions = self.versions();
        let same = |known: &ServedVersion| {
            known.share.hash == version.share.hash
                && known.share.name == version.share.name
                && known.share.audience == version.share.audience
        };
        versions.retain(|known| !same(known));
        versions.push_back(version);
        let bytes = |versions: &VecDeque<ServedVersion>| {
            versions.iter().map(|known| known.manifest.as_bytes().len()).sum::<usize>()
        };
        while versions.len() > MAX_VERSIONS || bytes(&versions) > MANIFEST_BYTES {
            versions.pop_front();
        }
    }

    /// Returns the versions with this content that `access` allows.
    pub(super) fn with_hash(&self, access: &ShareAccess, hash: &ContentHash) -> Vec<ServedVersion> {
        let is_wanted = |share: &Share| share.hash == *hash && access.allows(&share.audience);
        self.versions().iter().filter(|known| is_wanted(&known.share)).cloned().collect()
    }

    fn versions(&self) -> MutexGuard<'_, VecDeque<ServedVersion>> {
        self.versions.lock()
    }

    fn manifests(&self) -> MutexGuard<'_, HashMap<ContentHash, Weak<Manifest>>> {
        self.manifests.lock()
    }
}

/// A file whose groups all matched its manifest while it had this metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedVersion {
    /// The users who may get it.
    pub audience: Audience,
    /// The name under which it is shared.
    pub name: FileName,
    /// The content hash on record.
    pub hash: ContentHash,
    /// The metadata during the proof.
    pub id: FileVersion,
}

/// Proofs of content for files whose metadata differ from the record, collected while their groups are sent.
#[derive(Debug, Default)]
pub struct ProvedVersions {
    proofs: Mutex<VersionProofs>,
    added: Notify,
}

/// A share with the content that is being proved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SharedContent {
    pub(super) audience: Audience,
    pub(super) name: FileName,
    pub(super) hash: ContentHash,
}

#[derive(Debug, Default)]
struct VersionProofs {
    pending: HashMap<SharedContent, (FileVersion, GroupSet)>,
    proved: Vec<ProvedVersion>,
}

impl ProvedVersions {
    /// Records that a group matched its manifest, and that the file's metadata were `id` before and after it was read.
    pub(super) fn add_group(&self, of: &SharedContent, layout: &GroupLayout, id: FileVersion, group: u32) {
        let mut proofs = self.proofs();
        if proofs.pending.len() >= MAX_PENDING_PROOFS && !proofs.pending.contains_key(of) {
            // Abandoned proofs would otherwise fill the table for good.
            proofs.pending.clear();
        }
        let (known, groups) =
            proofs.pending.entry(of.clone()).or_insert_with(|| (id, GroupSet::empty(layout.group_count())));
        if *known != id {
            // Groups that were read under other metadata prove nothing about these.
            (*known, *groups) = (id, GroupSet::empty(layout.group_count()));
        }
        groups.insert(group);
        if !groups.is_full() {
            return;
        }
        proofs.pending.remove(of);
        // What finds no place is proved again when it is sent again.
        if proofs.proved.len() < PROVED {
            let SharedContent { audience, name, hash } = of.clone();
            proofs.proved.push(ProvedVersion { audience, name, hash, id });
            self.added.notify_one();
        }
    }

    /// Waits until there are proved files, and takes them all.
    pub async fn wait_for_proved(&self) -> Vec<ProvedVersion> {
        loop {
            let proved = self.take_proved();
            if !proved.is_empty() {
                return proved;
            }
            // A version that is added before this line isn't missed: `notify_one` stores a permit.
            self.added.notified().await;
        }
    }

    fn take_proved(&self) -> Vec<ProvedVersion> {
        std::mem::take(&mut self.proofs().proved)
    }

    fn proofs(&self) -> MutexGuard<'_, VersionProofs> {
        self.proofs.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::super::share_access::NoRooms;
    use super::super::share_access::tests::requester;
    use super::*;
    use crate::profile::{HashedShare, Profile};

    fn id(ctime_ns: i64) -> FileVersion {
        FileVersion { size: 3 << 20, mtime_ns: 1, ctime_ns, inode: 1 }
    }

    #[test]
    fn a_file_is_proved_when_all_groups_were_right_under_the_same_metadata() {
        let (audience, name, hash) = (Audience::Everybody, "a".parse().unwrap(), ContentHash::of(b"a"));
        let (proofs, of) = (ProvedVersions::default(), SharedContent { audience, name, hash });
        let layout = GroupLayout::of(3 << 20).unwrap();
        let add = |ctime, group| proofs.add_group(&of, &layout, id(ctime), group);
        // In the middle its metadata change: all from the beginning.
        for (ctime, group) in [(5, 0), (5, 1), (6, 2), (6, 2), (6, 0)] {
            add(ctime, group);
            assert_eq!(proofs.take_proved(), []);
        }
        add(6, 1);
        let SharedContent { audience, name, hash } = of.clone();
        assert_eq!(proofs.take_proved(), [ProvedVersion { audience, name, hash, id: id(6) }]);
        assert_eq!(proofs.take_proved(), []);
    }

    #[test]
    fn a_manifest_is_in_memory_once() {
        let (versions, hash) = (ServedVersions::default(), ContentHash::of(b"a"));
        let manifest = || Manifest::new(vec![[1; 32]; 3]);
        let first = versions.share_manifest(hash, manifest());
        let second = versions.share_manifest(hash, manifest());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(versions.manifest_of(&hash).is_some_and(|known| Arc::ptr_eq(&first, &known)));
        drop((first, second));
        assert_eq!(versions.manifest_of(&hash), None, "nobody uses it");
        drop(versions.share_manifest(ContentHash::of(b"b"), manifest()));
        assert_eq!(versions.manifests().len(), 1);
    }

    #[test]
    fn versions_are_remembered_for_those_who_may_have_them() {
        let home = tempfile::tempdir().unwrap();
        let (profile, versions) = (Profile::open(home.path()).unwrap(), ServedVersions::default());
        let layout = GroupLayout::of(3 << 20).unwrap();
        let version = |number: u32, audience: Audience| ServedVersion {
            share: Share {
                audience,
                name: format!("file{number}").parse().unwrap(),
                path: "/a".into(),
                version: id(1),
                executable: false,
                hash: ContentHash::of(&number.to_le_bytes()),
                zeros: shared::ZeroRuns::default(),
            },
            layout,
            manifest: Arc::new(Manifest::new(vec![[1; 32]; 3])),
        };
        let for_alice = Audience::Person("alice".parse().unwrap());
        let shares = [for_alice.clone(), Audience::Everybody].map(|audience| {
            let ServedVersion { share, manifest, .. } = version(0, audience);
            HashedShare { share, manifest: Manifest::clone(&manifest) }
        });
        profile.put_shares(&shares).unwrap();
        let found = |user, number: u32| {
            let access = ShareAccess::of(&profile, &NoRooms, &requester(user), None).unwrap();
            versions.with_hash(&access, &ContentHash::of(&number.to_le_bytes())).len()
        };
        versions.insert(version(0, for_alice.clone()));
        versions.insert(version(0, for_alice));
        versions.insert(version(1, Audience::Everybody));
        assert_eq!((found("alice", 0), found("carol", 0), found("carol", 1)), (1, 0, 1));
        (2..=65).for_each(|number| versions.insert(version(number, Audience::Everybody)));
        assert_eq!((found("alice", 0), found("alice", 1), found("alice", 65)), (0, 0, 1));
    }
}
