//! Files of somebody that can be fetched by a number: the number stays with the name for as long as a view lives. Pure.

use shared::peer::FileStat;

/// Files that were listed or offered, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct NumberedFiles {
    files: Vec<(String, u64)>,
    /// The last one that was offered, by its place.
    offered: Option<usize>,
}

impl NumberedFiles {
    /// Adds a file; its number.
    pub(super) fn add(&mut self, name: &str, size: u64, offered: bool) -> usize {
        let index = match self.files.iter().position(|(known, _)| known == name) {
            Some(place) => {
                self.files[place].1 = size;
                place
            }
            None => {
                self.files.push((name.to_owned(), size));
                self.files.len() - 1
            }
        };
        if offered {
            self.offered = Some(index);
        }
        index + 1
    }

    /// Adds what somebody shares.
    pub(super) fn add_all(&mut self, files: &[FileStat]) {
        let mut known: std::collections::HashMap<String, usize> =
            self.files.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect();
        for file in files {
            match known.get(file.name.as_str()) {
                Some(place) => self.files[*place].1 = file.size,
                None => {
                    known.insert(file.name.as_str().to_owned(), self.files.len());
                    self.files.push((file.name.as_str().to_owned(), file.size));
                }
            }
        }
    }

    /// Number, name and bytes of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &str, u64)> {
        (1..).zip(&self.files).map(|(number, (name, size))| (number, name.as_str(), *size))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    /// Whether it is a number that no file has yet.
    pub(super) fn is_unknown_number(&self, which: &str) -> bool {
        which.parse::<usize>().is_ok_and(|number| number > self.files.len())
    }

    /// The name that is meant: by a number, by itself, or the last one offered.
    pub(super) fn find(&self, which: Option<&str>) -> Result<String, String> {
        let Some(which) = which else {
            let offered = self.offered.and_then(|place| self.files.get(place));
            return offered
                .map(|(name, _)| name.clone())
                .ok_or_else(|| "nothing was offered: /files shows what there is, then /get N or /get NAME".to_owned());
        };
        let numbered = which.parse::<usize>().ok().and_then(|number| self.files.get(number.checked_sub(1)?));
        Ok(numbered.map_or_else(|| which.to_owned(), |(name, _)| name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_with_their_names() {
        let mut catalogue = NumberedFiles::default();
        assert!(catalogue.find(None).is_err());
        assert_eq!(
            (catalogue.add("a", 1, true), catalogue.add("b", 2, false), catalogue.add("a", 3, false)),
            (1, 2, 1)
        );
        assert_eq!(catalogue.find(Some("2")).unwrap(), "b");
        assert_eq!(catalogue.find(Some("docs/x.pdf")).unwrap(), "docs/x.pdf");
        assert_eq!(catalogue.find(Some("7")).unwrap(), "7", "a file may be called so");
        assert_eq!(catalogue.find(Some("0")).unwrap(), "0");
        assert_eq!(catalogue.find(None).unwrap(), "a");
        assert_eq!(catalogue.iter().next(), Some((1, "a", 3)));
    }
}
