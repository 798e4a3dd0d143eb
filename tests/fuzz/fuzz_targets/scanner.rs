//! The scanner: however the input is cut, the same objects come out, and none is longer than allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::json_scanner::JsonScanner;

const LIMIT: usize = 256;

fn objects<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<String>) {
    let (mut scanner, mut found) = (JsonScanner::new(LIMIT, 16), Vec::new());
    for piece in pieces {
        scanner.extend(piece);
        loop {
            match scanner.next_object() {
                Ok(Some(object)) => {
                    assert!(object.len() <= LIMIT);
                    found.push(object.to_owned());
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error.to_string())),
            }
        }
    }
    (found, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let size = usize::from(size) + 1;
    let (whole, error) = objects(std::iter::once(bytes));
    let (pieces, error_in_pieces) = objects(bytes.chunks(size));
    assert_eq!((whole, error.is_some()), (pieces, error_in_pieces.is_some()));
});
