//! The other spellings of an IPv4 address that the system's resolver takes for one.

use std::net::Ipv4Addr;

/// Reads one to four numbers, decimal, octal (`0`) or hexadecimal (`0x`), of which the last takes the place of all parts
/// that are missing, as `inet_aton` does: `0x0a420001` and `10.66.1` are 10.66.0.1.
pub(super) fn parse_ipv4_number(text: &str) -> Option<Ipv4Addr> {
    let numbers = text.split('.').map(parse_number).collect::<Option<Vec<u32>>>()?;
    let (last, head) = numbers.split_last()?;
    if head.len() > 3 || head.iter().any(|part| *part > 0xff) {
        return None;
    }
    let low_bits = 32 - 8 * u32::try_from(head.len()).ok()?;
    // A single number has all 32 bits, and a `u32` can't be shifted by 32.
    if low_bits < 32 && *last >> low_bits != 0 {
        return None;
    }
    let high = head.iter().fold(0, |bits: u64, part| bits << 8 | u64::from(*part)) << low_bits;
    Some(Ipv4Addr::from_bits(u32::try_from(high).ok()? | last))
}

fn parse_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..)?, 16),
        [b'0', _, ..] => (text.get(1..)?, 8),
        _ => (text, 10),
    };
    // A sign would be taken as well.
    if digits.chars().all(|c| c.is_ascii_alphanumeric()) { u32::from_str_radix(digits, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::net::ToSocketAddrs;

    use super::*;

    #[test]
    fn spellings_of_one_address() {
        let texts = ["10.66.0.1", "0x0a420001", "0X0A420001", "172097537", "01220400001", "10.66.1", "10.0x420001"];
        for text in texts.into_iter().chain(["012.0102.0.1", "0xa.66.0x0.01"]) {
            assert_eq!(parse_ipv4_number(text), Some([10, 66, 0, 1].into()), "{text}");
        }
        for none in ["", ".", "10.", ".10", "1.2.3.4.5", "256.1", "1.2.3.256", "1.2.65536", "4294967296", "0x", "08"] {
            assert_eq!(parse_ipv4_number(none), None, "{none}");
        }
        for none in ["+1", "1.-2", "0x+1", "host", "10.66.0.x", "a"] {
            assert_eq!(parse_ipv4_number(none), None, "{none}");
        }
    }

    #[test]
    fn the_system_reads_them_alike() {
        for text in ["0x0a420001", "10.66.1", "0", "0x7f.1", "037777777777", "10.0102.1"] {
            let read: Vec<_> = (text, 1).to_socket_addrs().unwrap().map(|address| address.ip()).collect();
            assert!(read.contains(&parse_ipv4_number(text).unwrap().into()), "{text}: {read:?}");
        }
    }
}
