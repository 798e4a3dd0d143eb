//! The two dialects of requests and replies.

use serde::Serialize;

use super::reply::{append_fields, begin_line};

/// A way of saying the same things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The one of this protocol: `action` in requests, `status`, `code` and `message` in replies.
    #[default]
    Action,
    /// The one of the exercise's own clients: `cmd` in requests, `status` and `msg` in replies, texts in Portuguese.
    Cmd,
}

/// Writes one line that says yes in the `cmd` dialect, `body`'s fields in it. `id` is JSON text as [`super::Parsed`]
/// has it.
///
/// # Errors
/// When `body` can't be written as a JSON object.
pub fn encode_cmd_ok<T: Serialize>(id: Option<&str>, msg: &str, body: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = begin_line(id);
    line.extend_from_slice(b"\"status\":\"OK\",\"msg\":");
    serde_json::to_writer(&mut line, msg)?;
    append_fields(&mut line, body)?;
    Ok(line)
}

/// Writes one line that says no in the `cmd` dialect.
pub fn encode_cmd_error(id: Option<&str>, msg: &str) -> Vec<u8> {
    let mut line = begin_line(id);
    line.extend_from_slice(format!("\"status\":\"ERROR\",\"msg\":{}}}\n", serde_json::Value::from(msg)).as_bytes());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::{CountReply, Empty};

    #[test]
    fn golden_replies() {
        let text = |line: Vec<u8>| String::from_utf8(line).unwrap();
        let ok = encode_cmd_ok(None, "Login bem-sucedido!", &Empty {}).unwrap();
        assert_eq!(text(ok), "{\"status\":\"OK\",\"msg\":\"Login bem-sucedido!\"}\n");
        let ok = encode_cmd_ok(Some("7"), "3 arquivos", &CountReply { count: 3, left_out: 0 }).unwrap();
        assert_eq!(text(ok), "{\"id\":7,\"status\":\"OK\",\"msg\":\"3 arquivos\",\"count\":3}\n");
        let error = encode_cmd_error(Some("\"x\""), "não \"existe\"");
        assert_eq!(text(error), "{\"id\":\"x\",\"status\":\"ERROR\",\"msg\":\"não \\\"existe\\\"\"}\n");
    }
}
