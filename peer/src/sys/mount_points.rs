//! The places at which file systems are mounted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Returns the places at which file systems are mounted, without a look at any of them: one that hangs would keep the
/// thread. None if the system doesn't tell.
pub fn mount_points() -> Vec<PathBuf> {
    std::fs::read("/proc/self/mountinfo").map(|table| parse_mount_points(&table)).unwrap_or_default()
}

fn parse_mount_points(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    // The fifth field of a line (proc_pid_mountinfo(5)).
    let fields = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    fields.map(|field| PathBuf::from(OsString::from_vec(unescape(field)))).collect()
}

/// Replaces `\NNN`, three octal digits, by the byte (proc_pid_mountinfo(5)).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, behind)) = rest.split_first() {
        // `from_str_radix` alone would accept a sign.
        let is_escape = |digits: &&[u8]| *byte == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit));
        let digits = behind.get(..3).filter(is_escape).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &behind[3..] } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_are_read() {
        let table = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      30 22 0:26 / /mnt/my\\040disk\\134 rw - nfs server:/x rw\nrubbish\n";
        assert_eq!(parse_mount_points(table), [PathBuf::from("/"), PathBuf::from("/mnt/my disk\\")]);
        assert_eq!(unescape(br"a\+40b"), br"a\+40b");
    }
}
