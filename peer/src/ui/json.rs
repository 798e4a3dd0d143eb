//! Reports as JSON for programs: keys and codes are stable.

use std::time::Duration;

use localization::in_english;
use serde_json::{Value, json};

use crate::engine::Error;
use crate::engine::fetch::{FetchSummary, FileOutcome, FileReport, SourceReport};
use crate::engine::node_event::NodeEvent;

/// Returns the report of a fetched file.
pub fn file_json(report: &FileReport) -> Value {
    let (status, path, code, message) = match &report.outcome {
        FileOutcome::Done(path) => ("done", Some(path), None, None),
        FileOutcome::Renamed(path) => ("renamed", Some(path), None, None),
        FileOutcome::Skipped(path) => ("skipped", Some(path), None, None),
        FileOutcome::Streamed => ("done", None, None, None),
        FileOutcome::Failed(error) | FileOutcome::Aborted(error) => {
            ("failed", None, Some(error.kind().as_str()), Some(in_english(|| error.to_string())))
        }
    };
    let mut value = json!({
        "status": status,
        "name": report.name,
        "path": path.map(|path| path.to_string_lossy()),
        "size": report.size,
        "bytes_fetched": report.bytes_fetched,
        "bytes_resumed": report.bytes_resumed,
        "sources": report.sources.iter().map(source_json).collect::<Vec<_>>(),
    });
    if let (Some(code), Some(object)) = (code, value.as_object_mut()) {
        object.insert("code".to_owned(), code.into());
        object.insert("message".to_owned(), message.into());
    }
    value
}

/// Returns the summary of a fetch; `error` is the error of the whole fetch.
pub(super) fn summary_json(summary: &FetchSummary, error: Option<&Error>, time: Duration) -> Value {
    json!({
        "done": summary.done,
        "renamed": summary.renamed,
        "skipped": summary.skipped,
        "failed": summary.failed,
        "folders": summary.folders,
        "bytes_fetched": summary.bytes_fetched,
        "bytes_resumed": summary.bytes_resumed,
        "seconds": time.as_secs_f64(),
        "code": error.map(|error| error.kind().as_str()),
    })
}

fn source_json(source: &SourceReport) -> Value {
    let mut value = json!({ "user": source.user, "bytes": source.bytes });
    if let (true, Some(object)) = (source.banned, value.as_object_mut()) {
        object.insert("banned".to_owned(), true.into());
    }
    value
}

/// Returns an event with all its fields, as `peer serve --json` prints it.
pub fn event_json(event: &NodeEvent) -> Value {
    in_english(|| serde_json::to_value(event)).unwrap_or_default()
}
