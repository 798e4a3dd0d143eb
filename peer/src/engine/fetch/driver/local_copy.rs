//! The copy of a file that this fetch has placed already, in place of fetching the same content again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::GroupLayout;
use shared::safe_text::safe_path;

use crate::engine::fetch::FileNo;
use crate::engine::fetch::downloader::DownloadContext;
use crate::engine::fetch::session::{CopyOutcome, LOCAL_SOURCE};
use crate::engine::fetch::writer::{FileJob, WriterCommand};
use crate::engine::share::{KeySearch, hash_file, ignore_progress};
use crate::engine::{Error, run_blocking};
use crate::profile::HashedFile;

/// Sends the groups of the file at `from`, the placed file `of`, to the writer as those of `copy`: they are verified, and
/// the copy has its own partial file.
pub(super) async fn copy_groups(context: Arc<DownloadContext>, of: FileNo, copy: FileNo, from: PathBuf) -> CopyOutcome {
    let (jobs, path) = (context.jobs.clone(), from.clone());
    let opened = run_blocking(move || open_placed(jobs.get(of), &path)).await;
    let (file, layout, known) = match opened {
        Ok((file, known)) => match GroupLayout::of(known.version.size) {
            Some(layout) => (Arc::new(file), layout, known),
            None => return CopyOutcome::NotBegun(Error::Internal("a file that is too large".to_owned())),
        },
        Err(error) => return CopyOutcome::NotBegun(error),
    };
    let HashedFile { manifest, zeros, .. } = known;
    // The writer opens a file of one group when that group comes.
    if layout.group_count() > 1 {
        let zeros = zeros.clone();
        context.writer.send(WriterCommand::Open { file: copy, manifest, zeros, source: LOCAL_SOURCE }).await;
    }
    // The writer makes the zero groups itself from the claims in `Open`.
    for group in (0..layout.group_count()).filter(|group| !zeros.contains(*group)) {
        let (file, from) = (file.clone(), from.clone());
        let len = usize::try_from(layout.group_len(group)).unwrap_or(usize::MAX);
        // Before the buffer, unlike for a group from the network: nothing is under way that would have to go on.
        let memory = context.writer.reserve_memory(len).await;
        let mut bytes = context.writer.buffer(len);
        let read = run_blocking(move || {
            bytes.resize(len, 0);
            file.read_exact_at(&mut bytes, layout.offset(group)).map_err(Error::disk(&from))?;
            Ok(bytes)
        });
        match read.await {
            Ok(bytes) => context.writer.send_reserved_group(copy, group, bytes, LOCAL_SOURCE, memory).await,
            Err(error) => return CopyOutcome::Failed(error),
        }
    }
    CopyOutcome::Sent
}

/// Opens a placed file and hashes it: only the fetched content may be copied.
fn open_placed(job: Option<&FileJob>, path: &Path) -> Result<(File, HashedFile), Error> {
    let gone = || Error::Internal(format!("{} is not where it was put", safe_path(path)));
    let job = job.ok_or_else(gone)?;
    // By folder handle, not by path: a link that somebody put on the way since is not followed.
    let folder = job.target.as_ref().ok_or_else(gone)?.folder.open_existing()?.ok_or_else(gone)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(gone)?;
    let file = folder.open_existing(name).map_err(Error::disk(path))?;
    let known = hash_file(&file, &mut KeySearch::new(None), &mut ignore_progress)
        .map_err(|why| Error::Internal(why.to_string()))?;
    if known.hash == job.stat.hash { Ok((file, known)) } else { Err(gone()) }
}
