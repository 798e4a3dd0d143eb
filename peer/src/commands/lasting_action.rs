//! The words for everything that lasts (sends, accepted people, wishes, folders that follow): the plural command lists
//! it, and `pause`, `resume` and `end` change one, by its number or its name.

use clap::Subcommand;
use localization::tr;
use shared::names::matching_key;
use shared::safe_text::safe_line;

use crate::engine::Error;
use crate::util::shell_words::shell_quote;

/// A change of things that last. The examples in its help are those of the command above it.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum LastingAction {
    /// Pause it until it is resumed.
    Pause {
        /// Which, as the list shows it.
        #[arg(required = true, value_name = "NUMBER|NAME")]
        which: Vec<String>,
    },
    /// Go on with what was paused.
    Resume {
        /// Which, as the list shows it.
        #[arg(required = true, value_name = "NUMBER|NAME")]
        which: Vec<String>,
    },
    /// End it for good.
    End {
        /// Which, as the list shows it.
        #[arg(required = true, value_name = "NUMBER|NAME")]
        which: Vec<String>,
    },
}

/// A change without the things to which it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastingChange {
    Pause,
    Resume,
    End,
}

impl LastingAction {
    /// Returns the change, and the texts that name the things.
    pub(crate) fn into_parts(self) -> (LastingChange, Vec<String>) {
        match self {
            Self::Pause { which } => (LastingChange::Pause, which),
            Self::Resume { which } => (LastingChange::Resume, which),
            Self::End { which } => (LastingChange::End, which),
        }
    }
}

/// Returns the item that a text names: by its number, or by its name if only one has it. `list` is the command that lists
/// the items.
///
/// # Errors
/// [`Error::Usage`] if no item has that number or name, or several have that name.
pub(crate) fn find_lasting<'a, T>(
    items: &'a [T],
    which: &str,
    list: &str,
    number: impl Fn(&T) -> Option<i64>,
    name: impl Fn(&T) -> &str,
) -> Result<&'a T, Error> {
    let wanted = which.parse::<i64>().ok();
    // `is_some`: an item without a number would be equal to a text without one.
    if let Some(item) = items.iter().find(|item| wanted.is_some() && number(item) == wanted) {
        return Ok(item);
    }
    // Lists show a folder with a slash at its end.
    let key = matching_key(which.trim_end_matches('/'));
    let mut named = items.iter().filter(|item| matching_key(name(item)) == key);
    match (named.next(), named.next()) {
        (Some(item), None) => Ok(item),
        (Some(_), Some(_)) => {
            let name = safe_line(which);
            Err(Error::Usage(tr!("several are called {name}: `peer {list}` lists their numbers", name, list)))
        }
        (None, _) => Err(Error::Usage(tr!(
            "none has the number or name {name}: `peer {list}` lists them",
            name = shell_quote(&[&*safe_line(which)]),
            list
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_found_by_number_or_by_its_only_name() {
        let items = [(1, "a"), (2, "b"), (3, "b"), (4, "2"), (5, "cafe\u{301}")];
        let find = |which: &str| {
            find_lasting(&items, which, "sends", |item| Some(item.0), |item| item.1)
                .map(|item| item.0)
                .map_err(|error| error.to_string())
        };
        assert_eq!((find("3"), find("a"), find("a/"), find("caf\u{e9}")), (Ok(3), Ok(1), Ok(1), Ok(5)));
        assert_eq!(find("2"), Ok(2), "a number comes before a name");
        assert_eq!(find("b").unwrap_err(), "several are called b: `peer sends` lists their numbers");
        assert_eq!(find("9").unwrap_err(), "none has the number or name 9: `peer sends` lists them");
        assert!(find("\u{1b}[2J").unwrap_err().contains("␛[2J"));
    }
}
