//! Wrapping and truncation of text by terminal cells. Pure.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Wraps text to `columns` cells, at blanks where possible; keeps its line breaks.
pub fn wrap_text(text: &str, columns: usize) -> Vec<String> {
    // A wide character needs two cells.
    let columns = columns.max(2);
    text.split('\n').flat_map(|line| wrap_line(line, columns)).collect()
}

/// Truncates text to `columns` cells, with `ellipsis` in place of the omitted end.
pub(super) fn truncate(text: &str, columns: usize, ellipsis: &str) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(ellipsis.width());
    let mut out = String::new();
    let mut used = 0;
    for cluster in text.graphemes(true) {
        if used + cluster.width() > room {
            break;
        }
        used += cluster.width();
        out.push_str(cluster);
    }
    if columns >= ellipsis.width() {
        out.push_str(ellipsis);
    }
    out
}

/// Truncates text in the middle: a file is recognised by the beginning of its name and by its extension.
pub(super) fn truncate_middle(text: &str, columns: usize, ellipsis: &str) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(ellipsis.width());
    // The tail has at least the extension, but never more than half: text behind a dot may be no extension.
    let extension = text.rfind('.').map_or(0, |at| text[at..].width());
    let tail_room = (room / 3).max(extension + 1).min(room / 2);
    let mut tail = String::new();
    let mut used = 0;
    for cluster in text.graphemes(true).rev().take_while(|cluster| {
        used += cluster.width();
        used <= tail_room
    }) {
        tail.insert_str(0, cluster);
    }
    let head = columns.saturating_sub(tail.width());
    format!("{}{tail}", truncate(text, head, ellipsis))
}

/// Truncates a name among other names: if several would look alike, their common beginning is left out.
pub(super) fn truncate_distinct<'a>(
    text: &str,
    others: impl Iterator<Item = &'a str>,
    columns: usize,
    ellipsis: &str,
) -> String {
    let plain = truncate_middle(text, columns, ellipsis);
    if plain == text {
        return plain;
    }
    let alike = others.filter(|other| *other != text && truncate_middle(other, columns, ellipsis) == plain);
    let common = |other: &str| -> usize {
        let pairs = text.graphemes(true).zip(other.graphemes(true));
        pairs.take_while(|(one, another)| one == another).map(|(one, _)| one.len()).sum()
    };
    match alike.map(common).max() {
        Some(common) if common > 0 && columns > ellipsis.width() => {
            let rest = truncate_middle(&text[common..], columns - ellipsis.width(), ellipsis);
            format!("{ellipsis}{rest}")
        }
        _ => plain,
    }
}

fn wrap_line(line: &str, columns: usize) -> Vec<String> {
    let mut rows = Vec::new();
    let mut row = String::new();
    let mut used = 0;
    for piece in split_pieces(line) {
        let width = piece.width();
        if used + width <= columns {
            row.push_str(piece);
            used += width;
            continue;
        }
        if width <= columns {
            rows.push(std::mem::take(&mut row));
            // The blank at which a line is broken is dropped.
            used = if piece.trim().is_empty() { 0 } else { width };
            row.push_str(if used == 0 { "" } else { piece });
            continue;
        }
        for cluster in piece.graphemes(true) {
            if used + cluster.width() > columns {
                rows.push(std::mem::take(&mut row));
                used = 0;
            }
            row.push_str(cluster);
            used += cluster.width();
        }
    }
    rows.push(row);
    rows
}

/// Splits a line into the pieces between which it may be broken: runs of blanks, words, and single wide characters.
pub(super) fn split_pieces(line: &str) -> impl Iterator<Item = &str> {
    #[derive(PartialEq)]
    enum ClusterKind {
        Blank,
        Wide,
        Other,
    }
    let kind = |cluster: &str| match cluster {
        blank if blank.trim().is_empty() => ClusterKind::Blank,
        // East Asian text has no blanks between its words and may be broken between any two characters.
        wide if wide.width() > 1 => ClusterKind::Wide,
        _ => ClusterKind::Other,
    };
    let mut rest = line;
    std::iter::from_fn(move || {
        let mut clusters = rest.grapheme_indices(true);
        let first = kind(clusters.next()?.1);
        let end = clusters.find(|(_, cluster)| first == ClusterKind::Wide || kind(cluster) != first);
        let (piece, after) = rest.split_at(end.map_or(rest.len(), |(end, _)| end));
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn breaks_at_blanks_and_else_anywhere() {
        assert_eq!(wrap_text("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap_text("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap_text("talk; /help shows", 8), ["talk; ", "/help ", "shows"]);
        assert_eq!(wrap_text("a well-known file", 10), ["a ", "well-known", "file"]);
        assert_eq!(wrap_text("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap_text("日本語", 5), ["日本", "語"]);
        assert_eq!(wrap_text("a\n\nb", 5), ["a", "", "b"]);
    }

    #[test]
    fn names_of_a_series_are_told_apart() {
        let names = ["Relatorio janeiro final.pdf", "Relatorio fevereiro final.pdf", "x.pdf"];
        let cut = |columns| names.map(|name| truncate_distinct(name, names.into_iter(), columns, "…"));
        assert_eq!(cut(12), ["…janei…l.pdf", "…fever…l.pdf", "x.pdf"]);
        assert_eq!(cut(60), names);
        for columns in 0..40 {
            assert!(cut(columns).iter().all(|name| name.width() <= columns), "{columns}: {:?}", cut(columns));
        }
    }

    #[test]
    fn cuts_with_a_sign() {
        assert_eq!(truncate("report.pdf", 10, "…"), "report.pdf");
        assert_eq!(truncate("report.pdf", 7, "…"), "report…");
        assert_eq!(truncate("日本語", 4, "…"), "日…");
        assert_eq!(truncate("ab", 0, "…"), "");
    }

    #[test]
    fn names_keep_both_ends() {
        assert_eq!(truncate_middle("report.pdf", 10, "…"), "report.pdf");
        assert_eq!(truncate_middle("a long name of a song.flac", 15, "…"), "a long n…g.flac");
        assert_eq!(truncate_middle("photos/2026/holiday/IMG_0042.jpeg", 24, "…"), "photos/2026/holi…42.jpeg");
        assert_eq!(truncate_middle("no extension at all", 9, "…"), "no ext…ll");
        assert_eq!(truncate_middle("日本語日本語.txt", 10, "…"), "日本….txt");
        for columns in 0..20 {
            assert!(truncate_middle("日本語 a long one.tar.gz", columns, "…").width() <= columns, "{columns}");
        }
    }

    proptest! {
        #[test]
        fn every_row_fits_and_nothing_but_blanks_is_lost(text in "(\\PC| |\n){0,60}", columns in 2_usize..30) {
            let rows = wrap_text(&text, columns);
            for row in &rows {
                prop_assert!(row.width() <= columns || row.graphemes(true).count() == 1, "{row:?} in {columns}");
            }
            let seen = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(seen(&rows.concat()), seen(&text));
        }
    }
}
