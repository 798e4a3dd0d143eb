//! Likeness of a misspelt name to those that there are.

/// Returns the number of edits that make `name` of what was typed (optimal string alignment); `None` if they are too many
/// for a slip.
pub fn misspelling_distance(typed: &str, name: &str) -> Option<usize> {
    // One edit in three characters, at most three: beyond that every short name resembles every other.
    let allowed = (typed.chars().count() / 3).clamp(1, 3);
    Some(strsim::osa_distance(name, typed)).filter(|distance| *distance <= allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_the_name_the_more_slips_it_may_have() {
        assert_eq!(misspelling_distance("bbo", "bob"), Some(1));
        assert_eq!(misspelling_distance("bxy", "bob"), None);
        assert_eq!(misspelling_distance("carolena", "carolina"), Some(1));
        assert_eq!(misspelling_distance("a long name", "a lung nome"), Some(2));
        assert_eq!(misspelling_distance("a very long name", "a wery lung mane"), None);
    }
}
