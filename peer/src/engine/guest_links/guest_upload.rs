//! Uploads of guests: written to a part, resumed where they were, and given a name that nothing has.
//!
//! The length of the part is the truth about how far an upload is: it survives both sides. Names follow the rules of
//! fetches: one component, confined to the folder by its handle, never replacing anything; and none that begins with a
//! dot, since nobody would see such a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use blake3::Hasher;
use localization::tr;
use shared::names::name_encoding::display_name;
use shared::names::truncate_to_bytes;
use shared::{ContentHash, FileName};

use super::{GuestLink, GuestLinks};
use crate::engine::sends::accept_policy::MIN_FREE_BYTES;
use crate::engine::{Error, now_ms};
use crate::profile::{GuestUpload, UploadReservation};
use crate::sys::{FolderHandle, SpaceLimit};
use crate::util::TranslatedText;

/// The rest of a part's name has to fit as well.
const PART_STEM_BYTES: usize = 200;
/// Time between two looks whether the link of a running upload still holds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// An upload that a guest announces.
#[derive(Debug, Clone)]
pub struct UploadAnnouncement {
    /// The name, as bytes of the address.
    pub name: Vec<u8>,
    /// Its size.
    pub size: u64,
    /// The guest's own mark of the file; uploads of the same mark, name and size are one.
    pub key: Option<String>,
    /// The place at which the guest goes on.
    pub offset: u64,
}

/// The reason why an upload is refused or ends.
#[derive(Debug, thiserror::Error)]
pub enum GuestUploadError {
    /// The link was revoked, or has expired.
    #[error("{}", tr!("the link has ended"))]
    Ended,
    /// The link takes no files.
    #[error("{}", tr!("this link takes no files"))]
    NoFolder,
    /// The name can't be used, for this reason.
    #[error("{}", tr!("that name can't be taken: {why}", why = .0))]
    Name(TranslatedText),
    /// Fewer bytes than that are left of what the link takes.
    #[error("{}", tr!("the link takes no more than {count} further bytes", count = .0))]
    OverQuota(u64),
    /// The link has had too many uploads.
    #[error("{}", tr!("the link has taken too many files"))]
    TooMany,
    /// The part ends elsewhere.
    #[error("{}", tr!("the upload goes on at {offset}", offset = .0))]
    WrongOffset(u64),
    /// The disk has no room.
    #[error("{}", tr!("there is no room on the disk"))]
    NoSpace,
    /// The file is complete already.
    #[error("{}", tr!("the file is complete"))]
    Complete(PlacedUpload),
    /// The folder or the profile can't be used.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// An upload that is complete and has its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedUpload {
    /// The name that it got, for people.
    pub name: String,
    /// Its size.
    pub size: u64,
    /// Its hash.
    pub hash: ContentHash,
}

impl PlacedUpload {
    /// Returns an upload that is on record as complete.
    pub(super) fn of(upload: &GuestUpload) -> Option<Self> {
        upload.placed.as_ref().map(|(name, hash)| Self::new(name, upload.size, *hash))
    }

    pub(super) fn new(name: &str, size: u64, hash: ContentHash) -> Self {
        Self { name: display_name(name).into_owned(), size, hash }
    }
}

/// A part that is being written.
#[derive(Debug)]
pub struct UploadWriter {
    links: GuestLinks,
    link: GuestLink,
    looked_at: Instant,
    folder: FolderHandle,
    file: File,
    upload: GuestUpload,
    hasher: Box<Hasher>,
    written: u64,
}

impl GuestLinks {
    /// Returns how many bytes of an announced upload are here, or the file if it is complete.
    ///
    /// # Errors
    /// [`GuestUploadError::Name`], or the reason why the folder can't be used.
    pub fn upload_offset(
        &self,
        guest: &super::AdmittedGuest,
        announced: &UploadAnnouncement,
    ) -> Result<u64, GuestUploadError> {
        let name = checked_name(&announced.name)?;
        let key = upload_key(guest, &name, announced);
        let folder = open_folder(&guest.link)?;
        let Some(known) = self.known_upload(&folder, guest.link.number, &key)? else {
            // Told here as well: a browser that is refused while it sends hears nothing but a broken connection.
            let uploads = self.profile.guest_uploads(guest.link.number).map_err(Error::from)?;
            let taken = uploads.iter().fold(0_u64, |sum, upload| sum.saturating_add(upload.size));
            let left = guest.link.max_bytes.saturating_sub(taken);
            check_space(&folder, announced.size)?;
            return if announced.size > left { Err(GuestUploadError::OverQuota(left)) } else { Ok(0) };
        };
        if let Some(placed) = PlacedUpload::of(&known) {
            return Err(GuestUploadError::Complete(placed));
        }
        let here = folder.file_identity(&known.part).map_or(0, |part| part.size.min(known.size));
        check_space(&folder, known.size - here)?;
        Ok(here)
    }

    /// Opens the part of an upload, which is made or gone on with.
    ///
    /// # Errors
    /// [`GuestUploadError`].
    pub fn begin_upload(
        &self,
        guest: &super::AdmittedGuest,
        announced: &UploadAnnouncement,
    ) -> Result<UploadWriter, GuestUploadError> {
        let name = checked_name(&announced.name)?;
        let folder = open_folder(&guest.link)?;
        check_space(&folder, announced.size.saturating_sub(announced.offset))?;
        let key = upload_key(guest, &name, announced);
        let part = part_name(&name, &key);
        // What is complete has to be in its place before its part is begun anew.
        self.known_upload(&folder, guest.link.number, &key)?;
        // Without a mark of its own, the same name and size may be another file: it begins anew.
        let anew = announced.key.is_none() && announced.offset == 0;
        let quota = (guest.link.number, guest.link.max_bytes, now_ms());
        let what = (name.as_str(), announced.size);
        // Reserved before anything is written, so that uploads at once don't exceed the bound together.
        let reserved = self.profile.reserve_guest_upload(quota, &key, what, &part, anew).map_err(Error::from)?;
        let upload = match reserved {
            UploadReservation::Reserved(upload) => upload,
            UploadReservation::OverQuota(left) => return Err(GuestUploadError::OverQuota(left)),
            UploadReservation::TooMany => return Err(GuestUploadError::TooMany),
            UploadReservation::Ended => return Err(GuestUploadError::Ended),
        };
        if let Some(placed) = PlacedUpload::of(&upload) {
            return Err(GuestUploadError::Complete(placed));
        }
        let disk =
            |why| GuestUploadError::from(Error::disk(guest.link.folder.as_deref().unwrap_or(part.as_ref()))(why));
        let mut file = folder.open_or_create(&upload.part).map_err(disk)?;
        let here = if anew { 0 } else { file.metadata().map_err(disk)?.len() };
        if announced.offset > here {
            return Err(GuestUploadError::WrongOffset(here));
        }
        // The guest may go back, to what it knows to have sent.
        file.set_len(announced.offset).map_err(disk)?;
        // Hashed from the beginning, as a hasher's state doesn't outlast its request.
        let mut hasher = Box::new(Hasher::new());
        hash_prefix(&mut file, &mut hasher).map_err(disk)?;
        let (links, link, written) = (self.clone(), guest.link.clone(), announced.offset);
        Ok(UploadWriter { links, link, looked_at: Instant::now(), folder, file, upload, hasher, written })
    }

    /// Gives an unfinished upload up, which nobody writes any more: its part goes, and its bytes are free again. A complete
    /// file stays.
    ///
    /// # Errors
    /// [`GuestUploadError::Name`], or the reason of the folder or the profile.
    pub fn cancel_upload(
        &self,
        guest: &super::AdmittedGuest,
        announced: &UploadAnnouncement,
    ) -> Result<(), GuestUploadError> {
        let name = checked_name(&announced.name)?;
        let folder = open_folder(&guest.link)?;
        let known = self.known_upload(&folder, guest.link.number, &upload_key(guest, &name, announced))?;
        known.filter(|known| known.placed.is_none()).map_or(Ok(()), |known| self.discard_upload(&folder, &known))
    }

    /// Removes the part and the record of an upload.
    fn discard_upload(&self, folder: &FolderHandle, upload: &GuestUpload) -> Result<(), GuestUploadError> {
        // The part first: without the record nobody would find it.
        folder.remove(&upload.part).map_err(|why| upload_disk_error(upload, why))?;
        Ok(self.profile.remove_guest_upload(upload).map_err(Error::from)?)
    }
}

impl UploadWriter {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// [`GuestUploadError::Ended`] soon after the link has; the part is gone then. [`GuestUploadError::NoSpace`], or another
    /// reason of the disk: what was written stays.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), GuestUploadError> {
        // The link may end while a large file comes; the database isn't asked for each batch.
        if self.looked_at.elapsed() >= LOOK_INTERVAL {
            self.looked_at = Instant::now();
            if !self.links.is_live(&self.link)? {
                self.remove_last_part();
                return Err(GuestUploadError::Ended);
            }
        }
        self.file.write_all(bytes).map_err(|why| self.disk_error(why))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Returns whether all bytes are here.
    pub const fn is_complete(&self) -> bool {
        self.written == self.upload.size
    }

    /// Returns how many bytes are here.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Makes the file durable, with as many bytes as there are, and gives it its name: the first of its own and the
    /// numbered ones that nothing has.
    ///
    /// # Errors
    /// [`GuestUploadError::Ended`] if the link was removed, or the reason of the disk.
    pub fn finish(self) -> Result<PlacedUpload, GuestUploadError> {
        self.place()
    }

    /// Does the same for an upload that no later request goes on with: if it fails, the upload is given up.
    ///
    /// # Errors
    /// As for [`Self::finish`].
    pub fn finish_or_abandon(self) -> Result<PlacedUpload, GuestUploadError> {
        let placed = self.place();
        if placed.is_err()
            && let Err(why) = self.abandon()
        {
            tracing::debug!("the part of an upload stays: {why}");
        }
        placed
    }

    fn place(&self) -> Result<PlacedUpload, GuestUploadError> {
        // On the disk before it has its name: after a power cut, no name stands for a torn file.
        self.file.sync_all().map_err(|why| self.disk_error(why))?;
        let hash = ContentHash::from_bytes(*self.hasher.finalize().as_bytes());
        let upload = GuestUpload { size: self.written, ..self.upload.clone() };
        let placed = self.links.place_upload(&self.folder, &upload, hash);
        if matches!(placed, Err(GuestUploadError::Ended)) {
            self.remove_last_part();
        }
        placed
    }

    /// Removes the part of a link that has ended, which it may have got after the parts of that link were removed.
    fn remove_last_part(&self) {
        if let Err(why) = self.folder.remove(&self.upload.part) {
            tracing::debug!("the part of an upload stays: {why}");
        }
    }

    /// Gives the upload up: its part is removed, and its bytes are free again.
    ///
    /// # Errors
    /// The reason of the disk, or of the profile.
    pub fn abandon(self) -> Result<(), GuestUploadError> {
        self.links.discard_upload(&self.folder, &self.upload)
    }

    fn disk_error(&self, why: io::Error) -> GuestUploadError {
        upload_disk_error(&self.upload, why)
    }
}

pub(super) fn upload_disk_error(upload: &GuestUpload, why: io::Error) -> GuestUploadError {
    if SpaceLimit::of(&why).is_some() {
        return GuestUploadError::NoSpace;
    }
    Error::disk(upload.name.as_ref())(why).into()
}

fn open_folder(link: &GuestLink) -> Result<FolderHandle, GuestUploadError> {
    let path = link.folder.as_ref().ok_or(GuestUploadError::NoFolder)?;
    Ok(FolderHandle::open(path).map_err(Error::disk(path))?)
}

/// Fails if the disk hasn't room for so many bytes and what stays free.
fn check_space(folder: &FolderHandle, bytes: u64) -> Result<(), GuestUploadError> {
    let free = folder.free_space().ok().and_then(|free| free.bytes);
    if free.is_some_and(|free| bytes.saturating_add(MIN_FREE_BYTES) > free) {
        Err(GuestUploadError::NoSpace)
    } else {
        Ok(())
    }
}

fn refused_name(why: impl Fn() -> String) -> GuestUploadError {
    GuestUploadError::Name(TranslatedText::new(why))
}

/// Returns the name of an upload: a single component that isn't hidden.
fn checked_name(raw: &[u8]) -> Result<FileName, GuestUploadError> {
    let name = FileName::from_raw(raw).map_err(|why| refused_name(|| why.to_string()))?;
    if name.components().count() > 1 {
        return Err(refused_name(|| tr!("it names a folder")));
    }
    if name.is_hidden() {
        return Err(refused_name(|| tr!("it begins with a dot")));
    }
    Ok(name)
}

/// Returns the key under which an upload is on record: of one guest, one name, one size and one mark.
fn upload_key(guest: &super::AdmittedGuest, name: &FileName, announced: &UploadAnnouncement) -> [u8; 32] {
    let mut hasher = Hasher::new();
    // Each browser has its own: no guest can go on with, or spoil, what another one sends.
    hasher.update(&guest.session.map_or([0; 32], |session| session.claim()));
    hasher.update(&announced.size.to_le_bytes());
    for text in [name.as_str(), announced.key.as_deref().unwrap_or_default()] {
        // Each text behind its length, so that no two pairs give the same bytes.
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.update(&guest.link.number.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// Returns the name of a part, of the same form as those of fetches.
fn part_name(name: &FileName, key: &[u8; 32]) -> String {
    let tag = shared::hex::encode(&key[..4]);
    format!(".{}.{tag}.part", truncate_to_bytes(name.as_str(), PART_STEM_BYTES))
}

fn hash_prefix(file: &mut File, hasher: &mut Hasher) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => drop(hasher.update(&buffer[..read])),
        }
    }
}

#[cfg(test)]
mod tests;
