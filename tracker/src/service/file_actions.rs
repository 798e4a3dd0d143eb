//! The actions on shared files: REGISTER_FILES and FIND.

use std::time::Instant;

use shared::UserName;
use shared::tracker::{FilesMode, FindReply, FindRequest, FoundFile, RegisterFilesRequest, RejectedFiles, SharedFile};

use super::client_state::ClientState;
use super::presence_actions::too_many_replies_error;
use super::shared_registry::drop_in_background;
use super::speaker_check::{not_online, speaking_session};
use super::{ActionReply, ActionResult, RefusalReason, RequestError, TrackerService, busy};
use crate::catalogue::{FileList, FileListError, SearchPosition, cursor_after};
use crate::fair_semaphore::FairPermit;
use crate::rate_limits::ClientOrigin;
use crate::registry::{AuthorityClaim, LocalDetails, PresenceRegistry, ReplicatedChange};

/// Lists longer than this are sorted and indexed on the worker thread.
const MAX_INLINE_FILES: usize = 500;
/// Changes that go through more bytes of lists than this are made on the worker thread.
const MAX_INLINE_BYTES: usize = 256 * 1024;
/// Attempts to change a list that others change at the same time.
const MAX_CHANGE_ATTEMPTS: usize = 5;
/// Advice to clients after the catalogue was full.
const CATALOGUE_RETRY_MS: u64 = 60_000;
/// FIND's reply ends at about this size.
const MAX_PAGE_BYTES: usize = 256 * 1024;
/// Bytes of a file in FIND's reply without its texts, about.
const ENTRY_OVERHEAD_BYTES: usize = 60;
/// Files in a page of FIND by default.
const DEFAULT_PAGE_FILES: usize = 100;
/// Files in a page of FIND at most.
const MAX_PAGE_FILES: usize = 1000;

impl TrackerService {
    pub(super) async fn register_files(
        &self,
        client: &ClientState,
        request: RegisterFilesRequest,
        left_out: RejectedFiles,
        permit: Option<FairPermit>,
    ) -> ActionResult {
        let RegisterFilesRequest { user, files, mode, proof } = request;
        // The password is checked before the change is charged, so that nobody can use up the rate of another user.
        self.check_authority(client, &user, &proof).await?;
        self.access_policy().limits.charge_change(&user, client.from(), Instant::now())?;
        let (changes, permit) = self.prepare_files(files, permit, client.from()).await?;
        let count = self.change_files(&user, mode, &changes, &client.claim(&proof), permit).await?;
        Ok(ActionReply::FilesRegistered { user, count, left_out })
    }

    async fn prepare_files(
        &self,
        files: Vec<SharedFile>,
        permit: Option<FairPermit>,
        from: ClientOrigin,
    ) -> Result<(FileList, Option<FairPermit>), RequestError> {
        let permit = match permit {
            None if files.len() <= MAX_INLINE_FILES => return Ok((FileList::from_list(files), None)),
            None => self.long_work_permit(from).await?,
            Some(permit) => permit,
        };
        let (files, permit) = self.long_work.run(permit, || FileList::from_list(files)).await?;
        Ok((files, Some(permit)))
    }

    /// Changes a list without the registry's lock. The registry then takes the result if the list is still the same.
    async fn change_files(
        &self,
        user: &UserName,
        mode: FilesMode,
        changes: &FileList,
        shown: &AuthorityClaim<'_>,
        mut permit: Option<FairPermit>,
    ) -> Result<usize, RequestError> {
        // Optimistic: a copy is changed, and put back only if the list is still the one that was copied.
        for _ in 0..MAX_CHANGE_ATTEMPTS {
            let before = self.with_registry(|registry, _| registry.files(user).cloned());
            let before = before.ok_or_else(|| not_online(user))?;
            let after = if before.effort(mode, changes) <= MAX_INLINE_BYTES {
                before.with_changes(mode, changes)
            } else {
                let held = match permit.take() {
                    Some(permit) => permit,
                    None => self.long_work_permit(shown.from).await?,
                };
                let (before, changes) = (before.clone(), changes.clone());
                let (after, held) = self.long_work.run(held, move || before.with_changes(mode, &changes)).await?;
                // Kept for a further attempt, which would otherwise wait behind all others again.
                permit = Some(held);
                after
            };
            let after = after.map_err(|why| files_refused(user, why))?;
            if self.is_replicated() {
                let count = self.replicate_files(user, mode, changes, (before, after), shown).await;
                match count {
                    Err(refused) if matches!(refused.reason, RefusalReason::ListChanged) => continue,
                    count => return count,
                }
            }
            let count = self.with_registry(|registry, now| {
                let is_as_before = registry.files(user).is_some_and(|now| now.is_copy_of(&before));
                is_as_before.then(|| put_files(registry, now, user, after, shown))
            });
            // `before` may be the last copy of the replaced list.
            drop_in_background(vec![before]);
            if let Some(count) = count {
                return count;
            }
        }
        Err(busy(RefusalReason::ListChanged, super::RETRY_AFTER_CHANGE_MS))
    }

    /// Changes a list on all trackers of the database, if it is still the one from which `after` was made.
    async fn replicate_files(
        &self,
        user: &UserName,
        mode: FilesMode,
        changes: &FileList,
        (before, after): (FileList, Option<FileList>),
        shown: &AuthorityClaim<'_>,
    ) -> Result<usize, RequestError> {
        let token = self.with_registry(|registry, now| {
            let session = speaking_session(registry, user, shown)?;
            let presence = registry.presence_session(user).unwrap_or(session);
            // The lease is no part of the log: the request is a sign of life, whatever becomes of the change.
            let _ = registry.renew(presence, now);
            registry.presence_token(user).ok_or_else(|| not_online(user))
        })?;
        // A change without effect needs no place in the log.
        let Some(after) = after else { return Ok(before.len()) };
        let count = after.len();
        let change = ReplicatedChange::Files { user: user.clone(), token, mode, files: changes.to_list() };
        let details = LocalDetails { files: Some(after), before: Some(before), ..LocalDetails::default() };
        self.replicate(change, details).await?;
        Ok(count)
    }

    pub(super) async fn find(&self, client: &ClientState, find: &FindRequest) -> ActionResult {
        self.certified_user(client).await?;
        self.ensure_replies_are_read(client)?;
        let limit = find.limit.unwrap_or(DEFAULT_PAGE_FILES).clamp(1, MAX_PAGE_FILES);
        let mut position = find.cursor.clone().map_or(SearchPosition::Start, SearchPosition::After);
        let mut files = Vec::new();
        loop {
            let permit = self.search_permit(client).await?;
            let lists = self.with_registry(|registry, _| registry.snapshot_lists(&position));
            let piece = lists.find(&find.criterion, &position, limit - files.len());
            // Given back between two pieces, so that origins take turns.
            drop((lists, permit));
            files.extend(piece.files);
            let next = match piece.next {
                // Cut by size: the next page begins behind the last file that stayed.
                _ if truncate_to_page(&mut files) => cursor_after(&files),
                None => None,
                Some(_) if files.len() == limit => cursor_after(&files),
                Some(rest) => {
                    position = rest;
                    // Lets other tasks run between two pieces.
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            return Ok(ActionReply::Found(FindReply { files, next }));
        }
    }
}

/// Replaces the user's list by `after` (`None`: the change had no effect), and returns the length of the list.
fn put_files(
    registry: &mut PresenceRegistry,
    now: Instant,
    user: &UserName,
    after: Option<FileList>,
    shown: &AuthorityClaim<'_>,
) -> Result<usize, RequestError> {
    // Checked again: the list was made without the lock, and the session may have ended meanwhile.
    let session = speaking_session(registry, user, shown)?;
    let count = match after {
        Some(after) => registry.put_files(user, after).map_err(|why| files_refused(user, why))?,
        None => registry.files(user).map(FileList::len),
    };
    // An attached session, and one proved by a password, have no lease: the presence's lease is renewed.
    let presence = registry.presence_session(user).unwrap_or(session);
    let _ = registry.renew(presence, now);
    count.ok_or_else(|| not_online(user))
}

pub(super) fn files_refused(user: &UserName, why: FileListError) -> RequestError {
    match why {
        FileListError::TooMany => RefusalReason::TooManyFiles(user.clone()).into(),
        FileListError::TooManyInFlight => too_many_replies_error(),
        FileListError::CatalogueFull => busy(RefusalReason::CatalogueFull, CATALOGUE_RETRY_MS),
        FileListError::ShareExceeded => busy(RefusalReason::CatalogueShareExceeded, CATALOGUE_RETRY_MS),
    }
}

/// Truncates the files to one page. Returns whether some were cut off.
fn truncate_to_page(files: &mut Vec<FoundFile>) -> bool {
    let mut bytes = 0;
    let fit = files.iter().take_while(|FoundFile { user, name, hash, .. }| {
        // Without its own bytes: each page has a file at least, however long its texts are.
        let fits = bytes < MAX_PAGE_BYTES;
        bytes += ENTRY_OVERHEAD_BYTES + user.as_str().len() + name.as_str().len() + hash.as_str().len();
        fits
    });
    let fit = fit.count();
    let is_cut = fit < files.len();
    files.truncate(fit);
    is_cut
}
