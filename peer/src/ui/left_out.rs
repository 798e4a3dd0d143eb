//! What is not shared, in words for people.

use shared::names::stand_in;
use shared::safe_text::safe_line;

use crate::engine::share::{Group, LeftOut, Omission};

/// Failures that are told one by one; what there is beyond is counted.
const TOLD: usize = 3;

/// Lines that name what was asked for and is not shared, a few at most.
pub fn failure_lines(left_out: &LeftOut) -> Vec<String> {
    let mut lines = Vec::new();
    let mut beyond = Vec::new();
    for (omission, group) in left_out.failures() {
        let told = group.examples.iter().take(TOLD.saturating_sub(lines.len()));
        let before = lines.len();
        lines.extend(told.map(|example| failure_line(&example.name, &example.why)));
        let more = group.count - (lines.len() - before);
        if more > 0 {
            beyond.push(counted(omission, more));
        }
    }
    if !beyond.is_empty() {
        lines.push(format!("not shared as well: {}", beyond.join(", ")));
    }
    lines
}

/// The line about one of them.
pub fn failure_line(name: &str, why: &str) -> String {
    format!("not shared: {}: {}", stand_in::shown(name), safe_line(why))
}

/// One line that counts what is never shared with a folder, by reason and with the first names; `None` for nothing.
pub fn by_design_line(left_out: &LeftOut) -> Option<String> {
    let groups: Vec<String> = left_out.by_design().map(|(omission, group)| described(omission, group)).collect();
    (!groups.is_empty()).then(|| format!("left out: {}", groups.join(", ")))
}

fn described(omission: Omission, group: &Group) -> String {
    let names: Vec<_> = group.examples.iter().map(|example| stand_in::shown(&example.name)).collect();
    let more = if group.count > names.len() { ", …" } else { "" };
    format!("{} ({}{more})", counted(omission, group.count), names.join(", "))
}

fn counted(omission: Omission, count: usize) -> String {
    let (one, several) = match omission {
        Omission::Hidden => ("hidden", "hidden"),
        Omission::Link => ("link", "links"),
        Omission::Special => ("that is no file", "that are no files"),
        Omission::PseudoFileSystem => ("file system of the kernel", "file systems of the kernel"),
        Omission::Private => ("with secret keys or messages of Vizinho", "with secret keys or messages of Vizinho"),
        Omission::Missing => ("that isn't there", "that aren't there"),
        Omission::Unreadable => ("that can't be read", "that can't be read"),
        Omission::Name => ("whose name can't be shared", "whose names can't be shared"),
        Omission::NameTaken => ("whose name is taken", "whose names are taken"),
        Omission::TooLarge => ("that is too large", "that are too large"),
        Omission::TooMany => ("beyond the 100,000 files of one user", "beyond the 100,000 files of one user"),
        Omission::NotHashed => ("that couldn't be hashed", "that couldn't be hashed"),
    };
    format!("{count} {}", if count == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_one_line() {
        let mut left_out = LeftOut::default();
        assert_eq!((by_design_line(&left_out), failure_lines(&left_out).len()), (None, 0));
        for number in 0..5_000 {
            left_out.add_found(Omission::Hidden, || format!(".{number}"), "it is hidden");
            left_out.add_found(Omission::Unreadable, || format!("{number}"), "permission denied");
        }
        left_out.add_found(Omission::Link, || "li\rnk".to_owned(), "it is a link");
        assert_eq!(by_design_line(&left_out).unwrap(), "left out: 5000 hidden (.0, .1, .2, …), 1 link (li␍nk)");
        let lines = failure_lines(&left_out);
        assert_eq!((lines.len(), lines[0].as_str()), (4, "not shared: 0: permission denied"));
        assert_eq!(lines[3], "not shared as well: 4997 that can't be read");
    }
}
