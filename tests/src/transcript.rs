//! Conversations with an earlier version, written down: what it was asked, letter by letter, and what it answered.
//!
//! A file of lines: `> ` and a request, then `< ` and its answer; `#` begins a comment. An answer of today has to hold
//! everything that the earlier one did ([`holds`]): whoever reads it with the earlier code finds what it looks for.
//!
//! `VIZINHO_RECORD=1` writes the file instead of reading it, from whatever binaries the tests run with:
//!
//! ```text
//! VIZINHO_RECORD=1 VIZINHO_TEST_BIN_DIR=FOLDER cargo test -p tests --test e2e -- earlier::
//! ```

use std::path::PathBuf;

use serde_json::Value;

/// One conversation, kept in a file.
pub struct Transcript {
    path: PathBuf,
    exchanges: Vec<(String, String)>,
    is_recording: bool,
}

impl Transcript {
    /// Opens the transcript of that name, or an empty one that is to be recorded.
    ///
    /// # Panics
    /// When the file isn't there or isn't a transcript.
    pub fn open(name: &str) -> Self {
        let path = crate::earlier::fixtures().join(name);
        let is_recording = std::env::var_os("VIZINHO_RECORD").is_some();
        let text = if is_recording { String::new() } else { std::fs::read_to_string(&path).expect("a transcript") };
        let mut exchanges = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match (line.get(..2), line.get(2..), exchanges.last_mut()) {
                (Some("> "), Some(request), _) => exchanges.push((request.to_owned(), String::new())),
                (Some("< "), Some(answer), Some((_, last))) => answer.clone_into(last),
                _ => panic!("{}: {line:?} is neither a request nor an answer", path.display()),
            }
        }
        Self { path, exchanges, is_recording }
    }

    /// Asks everything in `requests` and compares the answers with those on record. A request on record that isn't
    /// asked any more, or the other way round, fails: the record is the earlier version's word, not ours to change.
    ///
    /// # Panics
    /// When an answer lacks something that the earlier one had.
    #[track_caller]
    pub fn replay(mut self, requests: &[String], mut ask: impl FnMut(&str) -> Value) {
        if self.is_recording {
            self.exchanges = requests.iter().map(|request| (request.clone(), ask(request).to_string())).collect();
            return self.write();
        }
        let recorded: Vec<&String> = self.exchanges.iter().map(|(request, _)| request).collect();
        assert_eq!(recorded, requests.iter().collect::<Vec<_>>(), "the requests of {}", self.path.display());
        for (request, earlier) in &self.exchanges {
            let earlier: Value = serde_json::from_str(earlier).expect("an answer on record is JSON");
            let today = ask(request);
            if let Err(lack) = holds(&today, &earlier) {
                panic!("{request}\nearlier: {earlier}\ntoday:   {today}\n{lack}");
            }
        }
    }

    fn write(&self) {
        let mut text = String::new();
        for (request, answer) in &self.exchanges {
            text.push_str(&format!("> {request}\n< {answer}\n"));
        }
        crate::files::write(&self.path, text);
    }
}

/// Whether `today` says all that `earlier` said.
///
/// Fields may be added, and those that said nothing (`null`, an empty list) may be gone. Texts for people are free, but
/// not empty. Lists of plain texts may grow; all others have the same items in the same order.
///
/// # Errors
/// The first thing that is missing or different.
pub fn holds(today: &Value, earlier: &Value) -> Result<(), String> {
    match (today, earlier) {
        (Value::Object(today), Value::Object(earlier)) => {
            for (field, earlier) in earlier {
                let within = |lack| format!("{field}: {lack}");
                match today.get(field) {
                    Some(Value::String(text)) if field == "message" && !text.is_empty() => {}
                    Some(today) => holds(today, earlier).map_err(within)?,
                    None if earlier.is_null() || earlier.as_array().is_some_and(Vec::is_empty) => {}
                    None => return Err(format!("{field} is gone")),
                }
            }
            Ok(())
        }
        (Value::Array(today), Value::Array(earlier)) if earlier.iter().all(Value::is_string) => {
            match earlier.iter().find(|item| !today.contains(item)) {
                Some(item) => Err(format!("{item} is gone")),
                None => Ok(()),
            }
        }
        (Value::Array(today), Value::Array(earlier)) if today.len() == earlier.len() => {
            today.iter().zip(earlier).try_for_each(|(today, earlier)| holds(today, earlier))
        }
        _ if today == earlier => Ok(()),
        _ => Err(format!("{today} is not {earlier}")),
    }
}

/// The same value without what differs from run to run: each of `fields`, wherever it stands, is its own name.
pub fn without(fields: &[&str], mut value: Value) -> Value {
    fn blank(fields: &[&str], value: &mut Value) {
        match value {
            Value::Object(object) => {
                for (field, value) in object.iter_mut() {
                    if fields.contains(&field.as_str()) && !value.is_null() {
                        *value = Value::String(field.to_uppercase());
                    } else {
                        blank(fields, value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| blank(fields, item)),
            _ => {}
        }
    }
    blank(fields, &mut value);
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_may_grow_and_must_not_shrink() {
        let earlier =
            json!({ "status": "ok", "message": "hello", "port": null, "peers": [{ "user": "a", "files": [] }] });
        let mut today = json!({ "status": "ok", "message": "olá", "peers": [{ "user": "a", "more": 1 }], "total": 1 });
        assert_eq!(holds(&today, &earlier), Ok(()));
        today["message"] = json!("");
        assert!(holds(&today, &earlier).is_err());
        today["message"] = json!("x");
        today["peers"][0]["user"] = json!("b");
        assert_eq!(holds(&today, &earlier).unwrap_err(), r#"peers: user: "b" is not "a""#);
        today["peers"] = json!([]);
        assert!(holds(&today, &earlier).is_err());
        assert!(holds(&json!({}), &json!({ "status": "ok" })).is_err());
        assert_eq!(holds(&json!(["b", "a"]), &json!(["a"])), Ok(()));
        assert!(holds(&json!(["b"]), &json!(["a"])).is_err());
    }
}
