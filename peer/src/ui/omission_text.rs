//! Text about files that were left out of a share.

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
        lines.push(format!("not shared as well: {}", beyond.join(", ")));
    }
    lines
}

/// Returns the line about one failure.
pub fn failure_line(failure: &OmissionExample) -> String {
    format!("not shared: {}: {}", name_encoding::display_name(&failure.name), safe_line(&failure.why))
}

/// Returns a line that counts the files a folder never shares, by reason and with the first names; `None` if there are
/// none.
pub fn by_design_line(left_out: &OmissionReport) -> Option<String> {
    let groups: Vec<String> = left_out.by_design().map(|(omission, group)| describe_group(omission, group)).collect();
    (!groups.is_empty()).then(|| format!("left out: {}", groups.join(", ")))
}

fn describe_group(omission: OmissionReason, group: &OmissionGroup) -> String {
    let names: Vec<_> = group.examples.iter().map(|example| name_encoding::display_name(&example.name)).collect();
    let more = if group.count > names.len() { ", …" } else { "" };
    format!("{} ({}{more})", count_words(omission, group.count), names.join(", "))
}

fn count_words(omission: OmissionReason, count: usize) -> String {
    let (one, several) = match omission {
        OmissionReason::Hidden => ("hidden", "hidden"),
        OmissionReason::Link => ("link", "links"),
        OmissionReason::Special => ("that is no file", "that are no files"),
        OmissionReason::PseudoFileSystem => ("file system of the kernel", "file systems of the kernel"),
        OmissionReason::Private => {
            ("with secret keys or messages of Vizinho", "with secret keys or messages of Vizinho")
        }
        OmissionReason::Missing => ("that isn't there", "that aren't there"),
        OmissionReason::Unreadable => ("that can't be read", "that can't be read"),
        OmissionReason::Name => ("whose name can't be shared", "whose names can't be shared"),
        OmissionReason::NameTaken => ("whose name is taken", "whose names are taken"),
        OmissionReason::TooLarge => ("that is too large", "that are too large"),
        OmissionReason::TooMany => ("beyond the 100,000 files of one user", "beyond the 100,000 files of one user"),
        OmissionReason::NotHashed => ("that couldn't be hashed", "that couldn't be hashed"),
        OmissionReason::Unshared => ("that you stopped sharing", "that you stopped sharing"),
        OmissionReason::Unhashed => ("not hashed yet", "not hashed yet"),
    };
    format!("{count} {}", if count == 1 { one } else { several })
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
