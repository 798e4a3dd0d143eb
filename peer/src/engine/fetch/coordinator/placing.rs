//! Before the first byte: where each file goes, what is there already, and whether there is room.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use shared::FileName;

use super::{Account, Reporter};
use crate::engine::fetch::destination::{DiskPlacement, Placement, Vacancy};
use crate::engine::fetch::partial::{held_bytes, remove_outdated};
use crate::engine::fetch::resolve::Wanted;
use crate::engine::fetch::writer::Order;
use crate::engine::fetch::{FetchEvent, Report, Status};
use crate::engine::{Error, blocking};

/// Groups for standard output stay in memory until they are verified.
const STREAMED_GROUP_BYTES: u64 = 64 << 20;
/// Files whose places are looked at before anything is said of them.
const LOOKED_AT_ONCE: usize = 1024;

/// Decides for each file where it goes; those that are there already or can't go anywhere are settled here. Makes the
/// folders that have nothing in them.
pub(super) async fn place(
    placement: Placement,
    wanted: Vec<Wanted>,
    folders: Vec<FileName>,
    account: &mut Account,
    report: Reporter<'_>,
) -> Result<(Vec<Order>, Placement), Error> {
    let Placement::Disk(disk) = placement else {
        let (fit, unfit): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|file| file.layout.group_bytes() <= STREAMED_GROUP_BYTES);
        for file in unfit {
            let why = "it is too large to be verified in memory: fetch it to a file".to_owned();
            account.fail(report, file.stat.name.to_string(), file.stat.size, Error::Usage(why));
        }
        let order = |Wanted { stat, layout, .. }| Order { stat, layout, spot: None, told_as: account.next_number() };
        return Ok((fit.into_iter().map(order).collect(), Placement::Stdout));
    };
    let (orders, disk) = look_at_all(disk, wanted, account, report).await?;
    let (failed, disk) = blocking(move || Ok(make_folders(disk, folders))).await?;
    for (name, error) in failed {
        account.fail(report, name.to_string(), 0, error);
    }
    check_space(&orders, disk.free_bytes(), disk.path())?;
    Ok((orders, Placement::Disk(disk)))
}

/// Looks at every file's place. Of very many files, nothing is kept longer than it is needed.
async fn look_at_all(
    mut disk: DiskPlacement,
    wanted: Vec<Wanted>,
    account: &mut Account,
    report: Reporter<'_>,
) -> Result<(Vec<Order>, DiskPlacement), Error> {
    let mut orders = Vec::with_capacity(wanted.len());
    let mut wanted = wanted.into_iter();
    loop {
        let some: Vec<Wanted> = wanted.by_ref().take(LOOKED_AT_ONCE).collect();
        if some.is_empty() {
            return Ok((orders, disk));
        }
        let looked;
        (looked, disk) = blocking(move || Ok(look_at(disk, some))).await?;
        for Looked { vacancy, outdated, wanted: Wanted { stat, layout, .. } } in looked {
            if outdated {
                report(FetchEvent::Outdated { name: &stat.name });
            }
            match vacancy {
                Ok(Vacancy::Free(spot)) => {
                    orders.push(Order { stat, layout, spot: Some(spot), told_as: account.next_number() });
                }
                Ok(Vacancy::Skip(path)) => {
                    account.summary.skipped += 1;
                    let unfetched = Report::unfetched(stat.name.to_string(), stat.size);
                    let told = Report { status: Status::Skipped(path), ..unfetched };
                    report(FetchEvent::Finished { file: None, report: &told });
                }
                Err(error) => account.fail(report, stat.name.to_string(), stat.size, error),
            }
        }
    }
}

/// What was found where a file should go.
struct Looked {
    vacancy: Result<Vacancy, Error>,
    /// There was something of another version.
    outdated: bool,
    wanted: Wanted,
}

fn look_at(mut disk: DiskPlacement, wanted: Vec<Wanted>) -> (Vec<Looked>, DiskPlacement) {
    let look = |wanted: Wanted| {
        let vacancy = disk.look(&wanted);
        let outdated = matches!(&vacancy, Ok(Vacancy::Free(spot)) if remove_outdated(spot, &wanted.stat.hash));
        Looked { vacancy, outdated, wanted }
    };
    let looked = wanted.into_iter().map(look).collect();
    (looked, disk)
}

fn make_folders(mut disk: DiskPlacement, folders: Vec<FileName>) -> (Vec<(FileName, Error)>, DiskPlacement) {
    let make = |name: FileName| disk.make_folder(&name).err().map(|error| (name, error));
    let failed = folders.into_iter().filter_map(make).collect();
    (failed, disk)
}

/// Tells of names that a system which doesn't tell case or normal forms apart would take for one.
pub(super) fn report_alike(wanted: &[Wanted], report: Reporter<'_>) {
    let mut seen: HashMap<String, &str> = HashMap::with_capacity(wanted.len());
    for file in wanted {
        let name = file.local.as_str();
        if let Some(one) = seen.insert(folded(name), name) {
            report(FetchEvent::Alike { one, other: name });
        }
    }
}

fn folded(name: &str) -> String {
    use unicode_normalization::UnicodeNormalization;
    if name.is_ascii() { name.to_ascii_lowercase() } else { name.nfkc().flat_map(char::to_lowercase).collect() }
}

/// Refuses before the first byte what the disk can't hold.
fn check_space(orders: &[Order], free: Option<u64>, path: &Path) -> Result<(), Error> {
    let missing = |order: &Order| {
        let resumable = order.spot.as_ref().filter(|_| order.layout.groups() > 1);
        let held = resumable.map_or(0, |spot| held_bytes(spot, &order.stat.hash));
        order.layout.size().saturating_sub(held)
    };
    let needed = orders.iter().map(missing).fold(0, u64::saturating_add);
    match free {
        Some(free) if free < needed => {
            let why = format!(
                "{needed} bytes are needed and {free} are free: free some space, then run the same command again"
            );
            Err(Error::Disk { path: path.to_owned(), source: io::Error::new(io::ErrorKind::StorageFull, why) })
        }
        _ => Ok(()),
    }
}
