//! What is shared with everybody or offered to the one who asks, as it is on the disk now.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use shared::limits::{FRAME_BYTES, RANGES_PER_GET};
use shared::peer::{Answer, Code, Entry, FileStat, FolderTime};
use shared::{ContentHash, FileName, GroupSet, Layout, UserName};
use tokio::sync::Notify;

use super::part::Part;
use super::pieces::Pieces;
use super::reading::{OpenShare, Proof, Ranges, ReadAhead, version};
use crate::engine::private_data::PrivateData;
use crate::engine::share::{Freshness, freshness};
use crate::engine::{Error, blocking};
use crate::profile::{Profile, ProfileError, Share, SharePage};
use crate::sys::open_regular;

/// Files of one page; about 300 bytes each at the worst of what is usual.
const PAGE: usize = 200;
/// Folders of one page.
const FOLDERS: usize = 500;

/// Shares that are to be hashed again, each once however often it is asked for.
#[derive(Debug, Default)]
pub struct StaleShares {
    names: Mutex<HashSet<FileName>>,
    added: Notify,
}

impl StaleShares {
    /// One more, unless it waits already.
    pub fn add(&self, name: FileName) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        self.added.notify_one();
    }

    /// All that wait, at least one: waits for it.
    pub async fn take(&self) -> HashSet<FileName> {
        loop {
            let names = std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner));
            if !names.is_empty() {
                return names;
            }
            self.added.notified().await;
        }
    }
}

/// Why a request gets an error for an answer.
pub(super) type Refusal = (Code, String);

/// What a name stands for.
enum Named {
    Whole(Share),
    /// It changed since it was hashed.
    Stale(Share),
    Part(Part),
    Nothing,
}

/// Why a share could not be opened.
enum Unopened {
    /// None of the shares with that content is as it was hashed.
    Stale(Vec<Share>),
    Refused(Refusal),
    Failed(Error),
}

/// A request for groups of a file.
#[derive(Debug, Clone)]
pub(super) struct Get {
    pub(super) hash: ContentHash,
    /// Half-open ranges.
    pub(super) groups: Vec<(u32, u32)>,
}

/// The shares of a profile, checked against the disk whenever one is asked for.
#[derive(Debug)]
pub struct Library {
    profile: Profile,
    /// Shares found to have changed go here, to be hashed again.
    stale: Arc<StaleShares>,
    pieces: Pieces,
    /// Never served, whatever the catalogue says.
    private: Arc<PrivateData>,
}

impl Library {
    /// The shares of `profile`; those that changed are sent to `stale`.
    pub fn new(profile: Profile, stale: Arc<StaleShares>) -> Self {
        let private = Arc::new(PrivateData::of(&profile));
        Self { profile, stale, pieces: Pieces::default(), private }
    }

    /// A page of shares, as they are on the disk now.
    ///
    /// # Errors
    /// A code and words for the other side.
    pub async fn list(&self, to: &UserName, prefix: String, cursor: String) -> Result<Answer, Refusal> {
        let (profile, private, to) = (self.profile.clone(), self.private.clone(), to.clone());
        let page = blocking(move || live_page(&profile, &private, &to, &prefix, cursor)).await.map_err(internal)?;
        let mut files = Vec::with_capacity(page.shares.len());
        let mut more = page.more;
        let mut bytes = 64;
        for (share, stale) in page.shares {
            let stat = FileStat { stale, ..stat_of(&share) };
            // Names may be long and full of characters that JSON escapes.
            bytes += 224 + stat.name.as_str().len() * 2;
            if bytes > FRAME_BYTES {
                more = true;
                break;
            }
            files.push(stat);
            if stale {
                self.report_stale(share.name);
            }
        }
        let next = files.last().filter(|_| more).map(|last| last.name.to_string());
        Ok(Answer::FileList { files: files.into_iter().map(Entry::Fit).collect(), next })
    }

    /// A page of the folders that have nothing in them.
    ///
    /// # Errors
    /// A code and words for the other side.
    pub async fn folders(&self, prefix: String, cursor: String) -> Result<Answer, Refusal> {
        let profile = self.profile.clone();
        let found = blocking(move || Ok(profile.empty_folders_page(&prefix, &cursor, FOLDERS)?)).await;
        let (folders, next) = fitting(found.map_err(internal)?, |name| name);
        Ok(Answer::FolderList { folders, next })
    }

    /// A page of all folders with their times.
    ///
    /// # Errors
    /// A code and words for the other side.
    pub async fn folder_times(&self, prefix: String, cursor: String) -> Result<Answer, Refusal> {
        let profile = self.profile.clone();
        let found = blocking(move || Ok(profile.folder_times_page(&prefix, &cursor, FOLDERS)?)).await;
        let described = |(name, mtime_ns)| {
            let (mtime, mtime_ns) = seconds(mtime_ns);
            FolderTime { name, mtime, mtime_ns }
        };
        let found = found.map_err(internal)?.into_iter().map(described).collect();
        let (folders, next) = fitting(found, |time: &FolderTime| &time.name);
        Ok(Answer::FolderTimes { folders, next })
    }

    /// One share.
    ///
    /// # Errors
    /// A code and words for the other side: not shared, or changed.
    pub async fn stat(&self, to: &UserName, name: FileName) -> Result<Answer, Refusal> {
        let (profile, private, to) = (self.profile.clone(), self.private.clone(), to.clone());
        let found = blocking(move || {
            let found = match profile.offer(&to, &name)? {
                None => profile.share(&name)?,
                offered => offered,
            };
            if found.as_ref().is_some_and(|share| private.covers(share)) {
                return Ok(Named::Nothing);
            }
            Ok(match found.map(|share| (freshness(&share), share)) {
                Some((Freshness::Fresh, share)) => Named::Whole(share),
                Some((Freshness::Changed, share)) => Named::Stale(share),
                Some((Freshness::Missing, _)) => Named::Nothing,
                None => {
                    profile.partials_named(&name)?.into_iter().find_map(Part::open).map_or(Named::Nothing, Named::Part)
                }
            })
        })
        .await;
        match found.map_err(internal)? {
            Named::Whole(share) => Ok(Answer::Stat(stat_of(&share))),
            Named::Part(part) => Ok(Answer::Stat(part.stat())),
            Named::Stale(share) => Err(self.stale(share.name)),
            Named::Nothing => Err(not_found()),
        }
    }

    /// A file's manifest.
    ///
    /// # Errors
    /// A code and words for the other side: not shared.
    pub async fn manifest(&self, to: &UserName, hash: ContentHash) -> Result<(Answer, Bytes), Refusal> {
        let (profile, private, to) = (self.profile.clone(), self.private.clone(), to.clone());
        let found = blocking(move || {
            let is_served = |shares: Vec<Share>| shares.iter().any(|share| !private.covers(share));
            if is_served(profile.shares_with_hash(&hash)?)
                && let Some(shared) = profile.manifest(&hash)?
            {
                return Ok(Some(shared));
            }
            if is_served(profile.offers_with_hash(&to, &hash)?)
                && let Some(offered) = profile.offered_manifest(&to, &hash)?
            {
                return Ok(Some(offered));
            }
            Ok(Part::find(&profile, &hash)?.map(|part| (part.share.layout, part.state.manifest)))
        });
        let found = found.await.map_err(internal)?;
        let (layout, manifest) = found.ok_or_else(not_found)?;
        let (size, group_size, groups) = (layout.size(), layout.group_bytes(), layout.groups());
        let bytes = Bytes::copy_from_slice(manifest.as_bytes());
        Ok((Answer::Manifest { hash, size, group_size, groups, zeros: Vec::new() }, bytes))
    }

    /// Which groups of a file can be had.
    ///
    /// # Errors
    /// A code and words for the other side: not shared.
    pub async fn have(&self, to: &UserName, hash: ContentHash) -> Result<(Answer, Bytes), Refusal> {
        let (profile, private, to) = (self.profile.clone(), self.private.clone(), to.clone());
        let found = blocking(move || {
            let mut shares = profile.shares_with_hash(&hash)?;
            shares.extend(profile.offers_with_hash(&to, &hash)?);
            shares.retain(|share| !private.covers(share));
            if let Some(share) = shares.into_iter().find(|share| freshness(share) == Freshness::Fresh) {
                return Ok(Layout::of(share.id.size).map(|layout| (layout.groups(), GroupSet::all(layout.groups()))));
            }
            Ok(Part::find(&profile, &hash)?.map(|part| (part.share.layout.groups(), part.state.present)))
        });
        let (groups, set) = found.await.map_err(internal)?.ok_or_else(not_found)?;
        Ok((Answer::Have { hash, groups }, Bytes::copy_from_slice(set.as_bytes())))
    }

    /// Opens files to send some of their groups in pieces of `piece_bytes`: the first, and further ones while all that
    /// was read of them fits a piece. For those that it doesn't open, a code and words for the other side: not shared,
    /// changed, or ranges that make no sense. Gives back the requests that it didn't come to.
    ///
    /// # Errors
    /// [`Code::Internal`] when nothing can be said about any of them.
    pub(super) async fn open(
        &self,
        to: &UserName,
        mut gets: VecDeque<Get>,
        piece_bytes: u64,
    ) -> Result<(Vec<Result<OpenShare, Refusal>>, VecDeque<Get>), Code> {
        let (profile, pieces, to) = (self.profile.clone(), self.pieces.clone(), to.clone());
        let private = self.private.clone();
        let opened = blocking(move || {
            if profile.is_blocked(&to).unwrap_or(true) {
                return Ok((gets.iter().map(|_| Err(Unopened::Refused(refused()))).collect(), VecDeque::new()));
            }
            let mut opened = Vec::with_capacity(gets.len());
            let mut read = 0;
            while read < piece_bytes
                && let Some(get) = gets.pop_front()
            {
                let open = open_one(&profile, &private, &to, &get, piece_bytes, &pieces);
                read += open.as_ref().map_or(0, |open| open.bytes);
                opened.push(open);
            }
            Ok((opened, gets))
        });
        let (opened, rest) = opened.await.map_err(|error| internal(error).0)?;
        let opened = opened.into_iter().map(|opened| opened.map_err(|unopened| self.refusal(unopened))).collect();
        Ok((opened, rest))
    }

    fn refusal(&self, unopened: Unopened) -> Refusal {
        match unopened {
            Unopened::Stale(shares) => {
                shares.into_iter().map(|share| self.stale(share.name)).last().unwrap_or_else(not_found)
            }
            Unopened::Refused(refusal) => refusal,
            Unopened::Failed(error) => internal(error),
        }
    }

    fn stale(&self, name: FileName) -> Refusal {
        self.report_stale(name);
        (Code::Stale, "the file changed and is being hashed again".to_owned())
    }

    /// Says that a share turned out to have changed while it was sent.
    pub fn report_stale(&self, name: FileName) {
        self.stale.add(name);
    }
}

/// Some shares as they are on the disk now.
struct LivePage {
    /// Each with whether it changed since it was hashed.
    shares: Vec<(Share, bool)>,
    /// Whether there are more behind the last.
    more: bool,
}

/// A page of what is there; it is empty only where nothing more is.
fn live_page(
    profile: &Profile,
    private: &PrivateData,
    to: &UserName,
    prefix: &str,
    mut after: String,
) -> Result<LivePage, Error> {
    loop {
        let SharePage { shares, more } = profile.page_for(to, prefix, &after, PAGE)?;
        if let Some(last) = shares.last() {
            last.name.as_str().clone_into(&mut after);
        }
        let live = |share: Share| match freshness(&share) {
            _ if private.covers(&share) => None,
            Freshness::Fresh => Some((share, false)),
            Freshness::Changed => Some((share, true)),
            Freshness::Missing => None,
        };
        let shares: Vec<_> = shares.into_iter().filter_map(live).collect();
        if !shares.is_empty() || !more {
            return Ok(LivePage { shares, more });
        }
    }
}

/// Opens a file and reads its first piece.
fn open_one(
    profile: &Profile,
    private: &PrivateData,
    to: &UserName,
    get: &Get,
    piece_bytes: u64,
    pieces: &Pieces,
) -> Result<OpenShare, Unopened> {
    let failed = |error: ProfileError| Unopened::Failed(error.into());
    let mut shares = profile.shares_with_hash(&get.hash).map_err(failed)?;
    shares.extend(profile.offers_with_hash(to, &get.hash).map_err(failed)?);
    shares.retain(|share| !private.covers(share));
    let fresh = shares.iter().find_map(|share| {
        let file = open_regular(&share.path).ok().filter(|file| version(file) == Some(share.id));
        let file = file.filter(|file| private.reason_of_open(&share.path, file).is_none());
        file.map(|file| (share.clone(), file))
    });
    let (name, is_whole, layout, file, proof) = match fresh {
        Some((share, file)) => {
            let layout = Layout::of(share.id.size).ok_or_else(|| Unopened::Refused(not_found()))?;
            (share.name, true, layout, file, Proof::Version(share.id))
        }
        None if shares.is_empty() => {
            let part = Part::find(profile, &get.hash).map_err(failed)?.filter(|part| part.has(&get.groups));
            let Part { share, file, state } = part.ok_or_else(|| Unopened::Refused(not_found()))?;
            (share.name, false, share.layout, file, Proof::Groups(share.layout, state.manifest))
        }
        None => return Err(Unopened::Stale(shares)),
    };
    let ranges = byte_ranges(&layout, &get.groups).map_err(Unopened::Refused)?;
    let bytes = ranges.iter().map(|(start, end)| end - start).sum();
    let mut rest = Ranges::new(file, proof, ranges, piece_bytes, pieces.clone());
    let first = rest.read();
    Ok(OpenShare { name, hash: get.hash, is_whole, layout, bytes, pieces: ReadAhead::new(first, rest) })
}

fn byte_ranges(layout: &Layout, ranges: &[(u32, u32)]) -> Result<VecDeque<(u64, u64)>, Refusal> {
    let wrong = |message: &str| (Code::Protocol, message.to_owned());
    if ranges.len() > RANGES_PER_GET {
        return Err(wrong("too many ranges"));
    }
    let bytes = |&(start, end): &(u32, u32)| {
        if start >= end || end > layout.groups() {
            return Err(wrong("a range is outside the file"));
        }
        Ok((layout.offset(start), layout.offset(start) + layout.len_of_range(start, end)))
    };
    let ranges: Result<Vec<_>, _> = ranges.iter().map(bytes).collect();
    Ok(ranges?.into_iter().filter(|(start, end)| start < end).collect())
}

/// As many of a page's folders as fit a frame, and where the next page begins if there is one.
fn fitting<T>(found: Vec<T>, name: impl Fn(&T) -> &FileName) -> (Vec<Entry<T>>, Option<String>) {
    // Names may be full of characters that JSON escapes.
    let bytes = |folder: &T| 96 + name(folder).as_str().len() * 2;
    let sums = found.iter().scan(64, |sum, folder| {
        *sum += bytes(folder);
        Some(*sum)
    });
    let count = sums.take_while(|sum| *sum <= FRAME_BYTES).count();
    let more = count < found.len() || found.len() == FOLDERS;
    let next = found.get(..count).and_then(<[T]>::last).filter(|_| more).map(|last| name(last).to_string());
    (found.into_iter().take(count).map(Entry::Fit).collect(), next)
}

/// Nanoseconds since 1970 as whole seconds and the rest.
fn seconds(ns: i64) -> (i64, u32) {
    (ns.div_euclid(1_000_000_000), u32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0))
}

fn stat_of(share: &Share) -> FileStat {
    let (mtime, mtime_ns) = seconds(share.id.mtime_ns);
    FileStat {
        name: share.name.clone(),
        size: share.id.size,
        hash: share.hash,
        group_size: Layout::of(share.id.size).map_or(0, |layout| layout.group_bytes()),
        mtime,
        mtime_ns,
        executable: share.executable,
        partial: false,
        stale: false,
        zero_bytes: 0,
    }
}

/// What somebody hears who isn't wanted here.
pub(super) fn refused() -> Refusal {
    (Code::Unauthorised, "refused".to_owned())
}

fn not_found() -> Refusal {
    (Code::NotFound, "no such file is shared".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "it ends here: the other side learns only that it happened")]
fn internal(error: Error) -> Refusal {
    tracing::error!("{error}");
    (Code::Internal, "a fault on the sharing side".to_owned())
}
