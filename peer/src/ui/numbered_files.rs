//! Files of a user that can be fetched by number. A number stays with its name as long as the view lives. Pure.

use localization::tr;
use shared::peer::FileStat;

/// Listed and offered files, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct NumberedFiles {
    files: Vec<(String, u64)>,
    /// The index of the latest offer.
    offered: Option<usize>,
}

impl NumberedFiles {
    /// Adds a file and returns its number.
    pub(super) fn add(&mut self, name: &str, size: u64, offered: bool) -> usize {
        let index = match self.files.iter().position(|(known, _)| known == name) {
            // The number stays: the user may have read it already.
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

    /// Adds the files of a list.
    pub(super) fn add_all(&mut self, files: &[FileStat]) {
        // The map makes a list of 100,000 names take linear time.
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

    /// Returns the number, name and size of each file.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &str, u64)> {
        (1..).zip(&self.files).map(|(number, (name, size))| (number, name.as_str(), *size))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    /// True if it is a number without a file.
    pub(super) fn is_unknown_number(&self, which: &str) -> bool {
        which.parse::<usize>().is_ok_and(|number| number > self.files.len())
    }

    /// Returns the name meant by a number, by the name itself, or by nothing: the latest offer.
    pub(super) fn find(&self, which: Option<&str>) -> Result<String, String> {
        let Some(which) = which else {
            let offered = self.offered.and_then(|place| self.files.get(place));
            return offered
                .map(|(name, _)| name.clone())
                .ok_or_else(|| tr!("nothing was offered: /files shows what there is, then /get N or /get NAME"));
        };
        // Anything but a known number is a name: files may be called `12`.
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
