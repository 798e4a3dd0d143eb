//! The `.po` files of a crate made into its catalogue, by its build script.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::po_file::{PoEntry, PoError, parse_po};

/// The reason why translations can't be compiled.
#[derive(Debug)]
pub enum CompileError {
    /// A file or folder can't be used.
    File(PathBuf, std::io::Error),
    /// A file isn't in the format.
    Format(PathBuf, PoError),
    /// An entry stands twice; where the second is.
    Twice(PathBuf, usize),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, why) => write!(f, "{path:?}: {why}"),
            Self::Format(path, why) => write!(f, "{path:?}: {why}"),
            Self::Twice(path, line) => write!(f, "{path:?}: line {line}: this text stands in two entries"),
        }
    }
}

impl std::error::Error for CompileError {}

/// Joins the `.po` files of a folder into an expression for [`crate::compiled_translations!`], and writes that to a file.
/// Entries without a translation are left out.
///
/// # Errors
/// A file can't be read or isn't in the format, an entry stands twice, or the result can't be written.
pub fn compile_translations(folder: &Path, target: &Path) -> Result<(), CompileError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |why| CompileError::File(path, why)
    };
    let listed = std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = listed.map_err(failed(folder))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "po"));
    paths.sort();
    let mut entries = BTreeMap::<(Option<String>, String), PoEntry>::new();
    for path in &paths {
        let source = std::fs::read_to_string(path).map_err(failed(path))?;
        for entry in parse_po(&source).map_err(|why| CompileError::Format(path.clone(), why))? {
            let line = entry.line;
            if entries.insert((entry.context.clone(), entry.text.clone()), entry).is_some() {
                return Err(CompileError::Twice(path.clone(), line));
            }
        }
    }
    let write = |code: String| File::create(target)?.write_all(code.as_bytes());
    write(expression(entries.values())).map_err(failed(target))
}

fn expression<'a>(entries: impl Iterator<Item = &'a PoEntry>) -> String {
    let mut code = String::from("::localization::Catalogue::new(&[\n");
    for entry in entries.filter(|entry| entry.forms.iter().all(|form| !form.is_empty())) {
        let PoEntry { context, text, forms, .. } = entry;
        // To write to a text can't fail.
        let _ = writeln!(
            code,
            "::localization::CatalogueEntry {{ context: {context:?}, text: {text:?}, forms: &{forms:?} }},"
        );
    }
    code.push_str("])\n");
    code
}
