//! The folder of this machine that browsers elsewhere are told nothing of.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use shared::safe_text::safe_path;

/// The folder of a door's accounts, whose place is its operator's matter. In texts for browsers, paths begin below it.
#[derive(Debug, Clone, Default)]
pub struct HiddenFolder(Option<Arc<str>>);

impl HiddenFolder {
    /// Returns this folder, whose path is absolute. The default hides nothing: the browser's user sits at this machine.
    pub(super) fn new(folder: &Path) -> Self {
        // As texts show paths.
        Self(Some(format!("{}/", safe_path(folder)).into()))
    }

    /// True if there is a folder to hide.
    pub(super) const fn is_any(&self) -> bool {
        self.0.is_some()
    }

    /// Takes the folder out of the paths in a text.
    pub(super) fn strip(&self, text: &mut String) {
        if let Some(folder) = self.0.as_deref().filter(|folder| text.contains(folder)) {
            *text = text.replace(folder, "");
        }
    }

    /// Takes the folder out of all texts of a value.
    pub(super) fn strip_value(&self, value: &mut Value) {
        match value {
            _ if self.0.is_none() => {}
            Value::String(text) => self.strip(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.strip_value(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.strip_value(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_begin_below_it() {
        let event =
            || json!({ "text": "/home/op/door/ana/a b: no space", "all": [{ "why": "in /home/op/door/x" }, 7] });
        let mut hidden = event();
        HiddenFolder::new(Path::new("/home/op/door")).strip_value(&mut hidden);
        assert_eq!(hidden, json!({ "text": "ana/a b: no space", "all": [{ "why": "in x" }, 7] }));
        let mut open = event();
        HiddenFolder::default().strip_value(&mut open);
        assert_eq!(open, event());
    }
}
