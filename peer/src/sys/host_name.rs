//! The name of this machine.

use std::fs;

/// Returns the name of this machine if it is one that could stand in an address; `None` if the system doesn't tell.
pub fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname")).ok()?;
    is_host_name(name.trim()).then(|| name.trim().to_ascii_lowercase())
}

/// Returns true for labels of letters, digits and hyphens with dots between them (RFC 1123, section 2.1).
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() < 64
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() < 254 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_machines() {
        for name in ["desk", "Desk-2.local", "1"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "-a", "a-", "a_b", "é", "a b", &"x".repeat(64)] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
