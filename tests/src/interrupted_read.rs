//! Reads that a signal interrupts.

use std::io::{self, ErrorKind, Read};

/// Reads what is there, and goes on when a signal comes between: a test's process gets one for each child that ends, and on a
/// socket with a time limit such a read isn't restarted (signal(7)).
///
/// # Errors
/// As those of [`Read::read`], without interruptions.
pub fn read_available(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
