//! What is wrong with the folder of a copy, beside what the system says.

use localization::tr;

/// What is wrong with the folder of a copy: the cause within an error of the disk, which is put into words for each reader.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyFault {
    #[error(
        "{}",
        tr!("the copy isn't there; is its disk mounted? `peer follows resume NUMBER` begins it anew")
    )]
    Away,
    #[error("{}", tr!("it changes all the time"))]
    Unsteady,
    #[error("{}", tr!("the trash has too many files of that name: empty it"))]
    TrashFull,
}
