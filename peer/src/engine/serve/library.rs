//! What is shared with everybody or offered to the one who asks, as it is on the disk now.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | shares that are looked at for one page | 1,000, 200 at a time | the page ends; for a reader that takes no empty page, others have the disk in between |
//! | folders that are remembered to be gone | 64, for 5 s | looked for again |
//! | files that are remembered to be gone, of folders in which more than 16 are | 16,384, for 5 s | the same |

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use shared::limits::FRAME_BYTES;
use shared::peer::{Answer, Code, Entry, FileStat, FolderTime};
use shared::{ContentHash, FileName, GroupSet, Layout, UserName, ZeroRuns};

use super::copy_search::{RecordedCopy, Wanted};
use super::gone_paths::GonePaths;
use super::opening::{Get, OfferedManifest, Opener, Unopened};
use super::part::Part;
use super::reading::{OpenShare, ReadFailure};
use super::stale::{StaleReason, StaleShares, Standing};
use super::versions::ProvedVersions;
use crate::engine::share::{Freshness, freshness, is_gone, is_owner_only};
use crate::engine::{Error, blocking};
use crate::profile::{Profile, Share, SharePage};
use crate::sys::{open_regular, plain_message};

/// Files of one page; about 300 bytes each at the worst of what is usual.
const PAGE: usize = 200;
/// Shares that are looked at for one answer, however few of them are there.
const LOOKED_AT: usize = 1000;
/// Folders of one page.
const FOLDERS: usize = 500;

/// Why a request gets an error for an answer.
pub(super) type Refusal = (Code, String);

/// What a name stands for.
enum Named {
    Whole(Share),
    /// Its content may be another than the one that was hashed; perhaps it only grew.
    Changed {
        share: Share,
        grown: bool,
    },
    Part(Part),
    Unreadable(String),
    Nothing,
}

/// The shares of a profile, checked against the disk whenever one is asked for.
#[derive(Debug)]
pub struct Library {
    profile: Profile,
    /// Shares found to have changed go here, to be hashed again.
    stale: Arc<StaleShares>,
    opener: Opener,
    gone: Arc<GonePaths>,
}

impl Library {
    /// The shares of `profile`; those that changed are sent to `stale`.
    pub fn new(profile: Profile, stale: Arc<StaleShares>) -> Self {
        let opener = Opener::new(profile.clone());
        Self { profile, stale, opener, gone: Arc::default() }
    }

    /// Files that were found to be the same although their metadata differ.
    pub const fn proved(&self) -> &Arc<ProvedVersions> {
        self.opener.proved()
    }

    /// A page of shares, as they are on the disk now; for a reader that goes on behind one, perhaps an empty page.
    ///
    /// # Errors
    /// A code and words for the other side.
    pub async fn list(
        &self,
        to: &UserName,
        prefix: String,
        cursor: String,
        reads_empty_pages: bool,
    ) -> Result<Answer, Refusal> {
        let (mut after, mut looked_at) = (cursor, 0);
        let page = loop {
            let look = (self.profile.clone(), self.opener.clone(), self.gone.clone());
            let (to, prefix, cursor) = (to.clone(), prefix.clone(), after);
            // Each look for itself: nothing else waits for more than one.
            let page = blocking(move || live_page(&look, &to, &prefix, cursor)).await.map_err(internal)?;
            looked_at += PAGE;
            let ends = !page.more || !page.shares.is_empty() || (reads_empty_pages && looked_at >= LOOKED_AT);
            if ends {
                break page;
            }
            after = page.last;
        };
        let mut files = Vec::with_capacity(page.shares.len());
        let (mut last, mut more) = (page.last, page.more);
        let mut bytes = 64;
        for LiveShare { share, stale, owner_only } in page.shares {
            let stat = FileStat { stale, ..stat_of(&share, owner_only) };
            // Names may be long and full of characters that JSON escapes.
            bytes += 224 + stat.name.as_str().len() * 2;
            if bytes > FRAME_BYTES {
                more = true;
                last = files.last().map_or(last, |last: &FileStat| last.name.as_str().to_owned());
                break;
            }
            files.push(stat);
            if stale {
                self.stale.add(share.name, StaleReason::Metadata);
            }
        }
        let next = more.then_some(last);
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
        let (profile, opener, to, asks) = (self.profile.clone(), self.opener.clone(), to.clone(), to.clone());
        let found = blocking(move || {
            let found = match profile.offer(&to, &name)? {
                None => profile.share(&name)?,
                offered => offered,
            };
            if found.as_ref().is_some_and(|share| opener.is_private(share)) {
                return Ok((Named::Nothing, false));
            }
            let owner_only = found.as_ref().is_some_and(is_owner_only);
            let named = match found.map(|share| (freshness(&share), share)) {
                Some((Freshness::Fresh | Freshness::Touched, share)) => Named::Whole(share),
                Some((Freshness::Changed { grown }, share)) => match open_regular(&share.path) {
                    Err(why) if !is_gone(&why) => {
                        opener.faults().tell(&share.path, &why);
                        Named::Unreadable(plain_message(&why))
                    }
                    _ => Named::Changed { share, grown },
                },
                Some((Freshness::Missing, _)) => Named::Nothing,
                Some((Freshness::Unreadable(why), share)) => {
                    opener.faults().tell(&share.path, &why);
                    Named::Unreadable(why)
                }
                None => {
                    profile.partials_named(&name)?.into_iter().find_map(Part::open).map_or(Named::Nothing, Named::Part)
                }
            };
            Ok((named, owner_only))
        });
        let (found, owner_only) = found.await.map_err(internal)?;
        let found = match found {
            Named::Whole(share) if self.stale.is_disproved(&share.name) => Named::Changed { share, grown: false },
            found => found,
        };
        match found {
            Named::Whole(share) => Ok(Answer::Stat(stat_of(&share, owner_only))),
            Named::Part(part) => Ok(Answer::Stat(part.stat())),
            Named::Changed { share, grown } => self.describe_changed(&asks, share, grown, owner_only),
            Named::Unreadable(why) => Err(refusal(&ReadFailure::Unreadable(why))),
            Named::Nothing => Err(not_found()),
        }
    }

    /// A share that changed is described as it was hashed last, if that is no older than the question.
    fn describe_changed(&self, to: &UserName, share: Share, grown: bool, owner_only: bool) -> Result<Answer, Refusal> {
        match self.stale.standing(to, &share.name, grown, Instant::now()) {
            Standing::Described => Ok(Answer::Stat(stat_of(&share, owner_only))),
            Standing::Unreadable(why) => {
                self.opener.faults().tell(&share.path, &why);
                Err(refusal(&ReadFailure::Unreadable(why)))
            }
            Standing::Waiting => {
                self.stale.add(share.name, StaleReason::Metadata);
                Err(refusal(&ReadFailure::Changed))
            }
            // It is tried again by itself.
            Standing::Changing => Err((Code::Stale, "the file changes all the time".to_owned())),
        }
    }

    /// A file's manifest; the file is described under `name` if it has it.
    ///
    /// # Errors
    /// A code and words for the other side: not shared.
    pub async fn manifest(
        &self,
        to: &UserName,
        hash: ContentHash,
        name: Option<FileName>,
    ) -> Result<(Answer, Bytes), Refusal> {
        let (profile, opener, to) = (self.profile.clone(), self.opener.clone(), to.clone());
        let found = blocking(move || {
            if let Some(offered) = opener.manifest(&to, Wanted { hash: &hash, name: name.as_ref() })? {
                return Ok(Some(offered));
            }
            Ok(Part::find(&profile, &hash)?.map(|part| OfferedManifest {
                layout: part.share.layout,
                manifest: Arc::new(part.state.manifest),
                zeros: ZeroRuns::default(),
            }))
        });
        let found = found.await.map_err(internal)?;
        let OfferedManifest { layout, manifest, zeros } = found.ok_or_else(not_found)?;
        let (size, group_size, groups) = (layout.size(), layout.group_bytes(), layout.groups());
        let bytes = Bytes::copy_from_slice(manifest.as_bytes());
        Ok((Answer::Manifest { hash, size, group_size, groups, zeros: zeros.runs().to_vec() }, bytes))
    }

    /// Which groups of a file can be had, the one called `name` first.
    ///
    /// # Errors
    /// A code and words for the other side: not shared.
    pub async fn have(
        &self,
        to: &UserName,
        hash: ContentHash,
        name: Option<FileName>,
    ) -> Result<(Answer, Bytes), Refusal> {
        let (profile, opener, to) = (self.profile.clone(), self.opener.clone(), to.clone());
        let found = blocking(move || {
            let wanted = Wanted { hash: &hash, name: name.as_ref() };
            if let Some((RecordedCopy { share, .. }, true)) = opener.likeliest(&to, wanted)? {
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
        let (profile, opener, to) = (self.profile.clone(), self.opener.clone(), to.clone());
        let opened = blocking(move || {
            if profile.is_blocked(&to).unwrap_or(true) {
                return Ok((gets.iter().map(|_| Err(Unopened::Refused(refused()))).collect(), VecDeque::new()));
            }
            let mut opened = Vec::with_capacity(gets.len());
            let mut read = 0;
            while read < piece_bytes
                && let Some(get) = gets.pop_front()
            {
                let open = opener.open(&to, &get, piece_bytes);
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
            Unopened::Changed(shares) => {
                shares.into_iter().for_each(|(name, reason)| self.stale.add(name, reason));
                refusal(&ReadFailure::Changed)
            }
            Unopened::Refused(refusal) => refusal,
            Unopened::Failed(error) => internal(error),
        }
    }

    /// Takes the word of whoever sent a share that its content is another than the one that was hashed.
    pub fn report_changed(&self, name: FileName) {
        self.stale.add(name, StaleReason::Content);
    }
}

/// Some shares as they are on the disk now.
struct LivePage {
    shares: Vec<LiveShare>,
    /// The name that was looked at last.
    last: String,
    /// Whether there are more behind it.
    more: bool,
}

struct LiveShare {
    share: Share,
    /// It changed since it was hashed.
    stale: bool,
    /// Nobody else may read it here.
    owner_only: bool,
}

/// What is there of the next shares.
fn live_page(
    (profile, opener, gone): &(Profile, Opener, Arc<GonePaths>),
    to: &UserName,
    prefix: &str,
    after: String,
) -> Result<LivePage, Error> {
    let SharePage { shares, more } = profile.page_for(to, prefix, &after, PAGE)?;
    let last = shares.last().map_or(after, |last| last.name.as_str().to_owned());
    let live = |share: Share| {
        if gone.covers(&share.path, Instant::now()) {
            return None;
        }
        let stale = match freshness(&share) {
            Freshness::Missing => {
                gone.note_missing(&share.path, Instant::now());
                return None;
            }
            _ if opener.is_private(&share) => return None,
            // Of one that can't be read, whoever wants it hears why.
            Freshness::Fresh | Freshness::Touched | Freshness::Unreadable(_) => false,
            Freshness::Changed { .. } => true,
        };
        let owner_only = is_owner_only(&share);
        Some(LiveShare { share, stale, owner_only })
    };
    Ok(LivePage { shares: shares.into_iter().filter_map(live).collect(), last, more })
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
    let next = found.get(..count).and_then(<[T]>::last).filter(|_| more).map(|last| name(last).as_str().to_owned());
    (found.into_iter().take(count).map(Entry::Fit).collect(), next)
}

/// Nanoseconds since 1970 as whole seconds and the rest.
fn seconds(ns: i64) -> (i64, u32) {
    (ns.div_euclid(1_000_000_000), u32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0))
}

fn stat_of(share: &Share, owner_only: bool) -> FileStat {
    let (mtime, mtime_ns) = seconds(share.id.mtime_ns);
    FileStat {
        name: share.name.clone(),
        size: share.id.size,
        hash: share.hash,
        group_size: Layout::of(share.id.size).map_or(0, |layout| layout.group_bytes()),
        mtime,
        mtime_ns,
        executable: share.executable,
        owner_only,
        partial: false,
        stale: false,
        zero_bytes: Layout::of(share.id.size).map_or(0, |layout| share.zeros.bytes(&layout)),
    }
}

fn refusal(failure: &ReadFailure) -> Refusal {
    (failure.code(), failure.message())
}

/// What somebody hears who isn't wanted here.
pub(super) fn refused() -> Refusal {
    (Code::Unauthorised, "refused".to_owned())
}

pub(super) fn not_found() -> Refusal {
    (Code::NotFound, "no such file is shared".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "it ends here: the other side learns only that it happened")]
fn internal(error: Error) -> Refusal {
    tracing::error!("{error}");
    (Code::Internal, "a fault on the sharing side".to_owned())
}
