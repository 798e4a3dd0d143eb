//! The two dialects of requests and replies, and replies in the `cmd` dialect.

use serde::Serialize;

use crate::limits::MAX_PLAIN_REPLY_BYTES;

use super::reply::{append_fields, begin_line};

/// A variant of the protocol's JSON with the same content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// This protocol's own: `action` in requests; `status`, `code` and `message` in replies.
    #[default]
    Action,
    /// That of the exercise's clients: `cmd` in requests; `status` and `msg`, in Portuguese, in replies.
    Cmd,
}

/// Encodes the line of a positive reply in the `cmd` dialect with the fields of `body`. `id` is JSON text as in
/// [`super::ParsedRequest`].
///
/// # Errors
/// Returns an error if `body` doesn't serialize as a JSON object.
pub fn encode_cmd_ok<T: Serialize>(id: Option<&str>, msg: &str, body: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = begin_line(id);
    line.extend_from_slice(b"\"status\":\"OK\",\"msg\":");
    serde_json::to_writer(&mut line, msg)?;
    append_fields(&mut line, body)?;
    Ok(line)
}

/// Encodes the line of an error in the `cmd` dialect.
pub fn encode_cmd_error(id: Option<&str>, msg: &str) -> Vec<u8> {
    let mut line = begin_line(id);
    line.extend_from_slice(format!("\"status\":\"ERROR\",\"msg\":{}}}\n", serde_json::Value::from(msg)).as_bytes());
    line
}

/// Encodes the line of a positive reply with a list of names: as many as fit into [`MAX_PLAIN_REPLY_BYTES`]. `total` is
/// their number if some are missing.
pub fn encode_names<'a>(
    dialect: Dialect,
    id: Option<&str>,
    message: &str,
    field: &'static str,
    names: impl ExactSizeIterator<Item = &'a str>,
) -> Vec<u8> {
    // Known before the first name is written: the end of the line depends on it.
    let total = names.len();
    let end = |shown: usize| if shown < total { format!("],\"total\":{total}}}\n") } else { "]}\n".to_owned() };
    let message = serde_json::Value::from(message);
    let head = match dialect {
        Dialect::Action => format!("\"status\":\"ok\",\"code\":\"ok\",\"message\":{message}"),
        Dialect::Cmd => format!("\"status\":\"OK\",\"msg\":{message}"),
    };
    let mut line = begin_line(id);
    line.extend_from_slice(format!("{head},\"{field}\":[").as_bytes());
    for (index, name) in names.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let more = format!("{comma}{}", serde_json::Value::from(name));
        // The end that would follow counts, too: `total` takes space only if names are missing.
        if line.len() + more.len() + end(index + 1).len() > MAX_PLAIN_REPLY_BYTES {
            line.extend_from_slice(end(index).as_bytes());
            return line;
        }
        line.extend_from_slice(more.as_bytes());
    }
    line.extend_from_slice(end(total).as_bytes());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::{EmptyReply, RegisterFilesReply};

    #[test]
    fn golden_replies() {
        let text = |line: Vec<u8>| String::from_utf8(line).unwrap();
        let ok = encode_cmd_ok(None, "Login bem-sucedido!", &EmptyReply {}).unwrap();
        assert_eq!(text(ok), "{\"status\":\"OK\",\"msg\":\"Login bem-sucedido!\"}\n");
        let ok = encode_cmd_ok(Some("7"), "3 arquivos", &RegisterFilesReply { count: 3, left_out: 0 }).unwrap();
        assert_eq!(text(ok), "{\"id\":7,\"status\":\"OK\",\"msg\":\"3 arquivos\",\"count\":3}\n");
        let error = encode_cmd_error(Some("\"x\""), "não \"existe\"");
        assert_eq!(text(error), "{\"id\":\"x\",\"status\":\"ERROR\",\"msg\":\"não \\\"existe\\\"\"}\n");
    }

    #[test]
    fn lists_of_names_fit_into_what_is_read_at_once() {
        let line = |dialect, names: &[&str]| {
            String::from_utf8(encode_names(dialect, None, "Salas", "rooms", names.iter().copied())).unwrap()
        };
        assert_eq!(line(Dialect::Cmd, &[]), "{\"status\":\"OK\",\"msg\":\"Salas\",\"rooms\":[]}\n");
        assert_eq!(
            line(Dialect::Action, &["lab", "a \"b\""]),
            "{\"status\":\"ok\",\"code\":\"ok\",\"message\":\"Salas\",\"rooms\":[\"lab\",\"a \\\"b\\\"\"]}\n"
        );
        for length in [1, 2, 32, 500, 5000] {
            let name = "n".repeat(length);
            for count in 0..200_usize {
                let names = vec![name.as_str(); count * count];
                let line = encode_names(Dialect::Cmd, None, "Membros", "members", names.iter().copied());
                assert!(line.len() <= MAX_PLAIN_REPLY_BYTES && line.ends_with(b"}\n"));
                let reply: serde_json::Value = serde_json::from_slice(&line).unwrap();
                let (shown, total) = (reply["members"].as_array().unwrap().len(), reply["total"].as_u64());
                assert_eq!(total, (shown < names.len()).then_some(names.len() as u64));
                assert!(shown == names.len() || line.len() + length + 20 > MAX_PLAIN_REPLY_BYTES);
            }
        }
    }
}
