//! Text about files that were left out of a share.

use localization::tr;
use shared::names::name_encoding;
use shared::safe_text::safe_line;

use crate::engine::share::{OmissionExample, OmissionGroup, OmissionReason, OmissionReport};

/// Failures inside folders that are listed one by one; the others are counted.
const MAX_LISTED: usize = 3;

/// Returns lines about requested files that aren't shared: each that the user typed, and of those inside folders the
/// first by name, the others by number.
pub fn failure_lines(left_out: &OmissionReport) -> Vec<String> {
    let mut lines: Vec<String> = left_out.named().map(failure_line).collect();
    let (mut room, mut beyond) = (MAX_LISTED, Vec::new());
    for (omission, group) in left_out.failures() {
        let told = group.examples.len().min(room);
        lines.extend(group.examples.iter().take(told).map(failure_line));
        room -= told;
        let more = group.count - told;
        if more > 0 {
            beyond.push(count_words(omission, more));
        }
    }
    if !beyond.is_empty() {
        lines.push(tr!("not shared as well: {list}", list = beyond.join(", ")));
    }
    lines
}

/// Returns the line about one failure.
pub fn failure_line(failure: &OmissionExample) -> String {
    let (name, why) = (name_encoding::display_name(&failure.name), safe_line(&failure.why));
    tr!("not shared: {name}: {why}", name, why)
}

/// Returns a line that counts the files a folder never shares, by reason and with the first names; `None` if there are
/// none.
pub fn by_design_line(left_out: &OmissionReport) -> Option<String> {
    let groups: Vec<String> = left_out.by_design().map(|(omission, group)| describe_group(omission, group)).collect();
    (!groups.is_empty()).then(|| tr!("left out: {list}", list = groups.join(", ")))
}

fn describe_group(omission: OmissionReason, group: &OmissionGroup) -> String {
    let names: Vec<_> = group.examples.iter().map(|example| name_encoding::display_name(&example.name)).collect();
    let more = if group.count > names.len() { ", …" } else { "" };
    format!("{} ({}{more})", count_words(omission, group.count), names.join(", "))
}

fn count_words(omission: OmissionReason, count: usize) -> String {
    match omission {
        OmissionReason::Hidden => tr!("{n} hidden" | "{n} hidden" % count),
        OmissionReason::Link => tr!("{n} link" | "{n} links" % count),
        OmissionReason::Special => tr!("{n} that is no file" | "{n} that are no files" % count),
        OmissionReason::PseudoFileSystem => {
            tr!("{n} file system of the kernel" | "{n} file systems of the kernel" % count)
        }
        OmissionReason::Private => {
            tr!("{n} with secret keys or messages of Vizinho" | "{n} with secret keys or messages of Vizinho" % count)
        }
        OmissionReason::Missing => tr!("{n} that isn't there" | "{n} that aren't there" % count),
        OmissionReason::Unreadable => tr!("{n} that can't be read" | "{n} that can't be read" % count),
        OmissionReason::Name => tr!("{n} whose name can't be shared" | "{n} whose names can't be shared" % count),
        OmissionReason::NameTaken => tr!("{n} whose name is taken" | "{n} whose names are taken" % count),
        OmissionReason::TooLarge => tr!("{n} that is too large" | "{n} that are too large" % count),
        OmissionReason::TooMany => {
            tr!("{n} beyond the 100,000 files of one user" | "{n} beyond the 100,000 files of one user" % count)
        }
        OmissionReason::NotHashed => tr!("{n} that couldn't be hashed" | "{n} that couldn't be hashed" % count),
        OmissionReason::Unshared => tr!("{n} that you stopped sharing" | "{n} that you stopped sharing" % count),
        OmissionReason::Unhashed => tr!("{n} not hashed yet" | "{n} not hashed yet" % count),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn thousands_are_one_line() {
        let mut left_out = OmissionReport::default();
        assert_eq!((by_design_line(&left_out), failure_lines(&left_out).len()), (None, 0));
        for number in 0..5_000 {
            left_out.add_found(OmissionReason::Hidden, || format!(".{number}"), "it is hidden");
            left_out.add_found(OmissionReason::Unreadable, || format!("{number}"), "permission denied");
        }
        left_out.add_found(OmissionReason::Link, || "li\rnk".to_owned(), "it is a link");
        assert_eq!(by_design_line(&left_out).unwrap(), "left out: 5000 hidden (.0, .1, .2, …), 1 link (li␍nk)");
        let lines = failure_lines(&left_out);
        assert_eq!((lines.len(), lines[0].as_str()), (4, "not shared: 0: permission denied"));
        assert_eq!(lines[3], "not shared as well: 4997 that can't be read");
        for number in 0..9 {
            left_out.add_named(OmissionReason::Missing, Path::new(&format!("../it{number}")), "not there");
        }
        let lines = failure_lines(&left_out);
        assert_eq!((lines.len(), lines[8].as_str()), (13, "not shared: ../it8: not there"));
    }
}
