//! Detection of holes in sparse files.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SeekFrom, seek};

/// Returns the holes of `file`, which is `size` bytes long, as ranges of at least `min` bytes. Returns none if the file
/// system doesn't report holes. Moves the file's position.
pub fn holes(file: &File, size: u64, min: u64) -> Vec<(u64, u64)> {
    const BLOCK_BYTES: u64 = 512;
    let mut holes = Vec::new();
    // Most files have all their blocks, which one call tells.
    if file.metadata().is_ok_and(|metadata| metadata.blocks().saturating_mul(BLOCK_BYTES) >= size) {
        return holes;
    }
    let mut at = 0;
    while at < size {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(size),
            // ENXIO: there is no data up to the end of the file.
            Err(rustix::io::Errno::NXIO) => size,
            Err(_) => return holes,
        };
        if data.saturating_sub(at) >= min {
            holes.push((at, data));
        }
        if data >= size {
            break;
        }
        match seek(file, SeekFrom::Hole(data)) {
            // A file system that answers with an earlier position would loop forever.
            Ok(hole) if hole > at => at = hole,
            _ => return holes,
        }
    }
    holes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_where_nothing_was_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(16 << 20).unwrap();
        file.write_all_at(&[1; 100_000], 5 << 20).unwrap();
        let found = holes(&file, 16 << 20, 1 << 20);
        if found.is_empty() {
            println!("skipped: the file system doesn't tell of holes");
            return;
        }
        for (start, end) in &found {
            let mut bytes = vec![1; usize::try_from(end - start).unwrap()];
            file.read_exact_at(&mut bytes, *start).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 0));
        }
        assert!(found.iter().map(|(start, end)| end - start).sum::<u64>() >= 15 << 20, "{found:?}");
        file.write_all_at(&[1; 16 << 20], 0).unwrap();
        assert_eq!(holes(&file, 16 << 20, 1), []);
        assert_eq!(holes(&tempfile::tempfile().unwrap(), 0, 1), []);
    }
}
