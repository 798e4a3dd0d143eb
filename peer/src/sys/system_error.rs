//! Messages and classification of system errors.

use std::io;

use localization::tr;
use rustix::io::Errno;

/// Returns an I/O error in lower case without its number, for use within a sentence.
pub fn plain_message(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        // rustls's message ends with the address of a web page.
        return tr!("the connection ended without a word");
    }
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Returns true if the process or the system has no descriptors left.
pub fn is_too_many_open_files(error: &io::Error) -> bool {
    let full = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|error| full.contains(&error))
}

/// Returns true if a device or its connection failed.
pub fn is_device_failure(error: &io::Error) -> bool {
    let failed = [Errno::IO, Errno::NODEV, Errno::NXIO].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|error| failed.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_of_a_library_is_shown_to_people() {
        let tls =
            "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/latest/rustls/manual";
        let end = io::Error::new(io::ErrorKind::UnexpectedEof, tls);
        assert_eq!(plain_message(&end), "the connection ended without a word");
        assert_eq!(plain_message(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
