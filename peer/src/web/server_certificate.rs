//! The certificate of the server: this machine's addresses and names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::SystemTime;

use certs::WebCertificate;

use crate::engine::{Error, ErrorKind};
use crate::sys::{host_name, local_addresses};

/// Its folder within the profile's.
const FOLDER: &str = "web";

/// Opens the certificate of a profile; it is renewed when it ends soon, or when this machine has another address.
///
/// # Errors
/// The reason why its files can't be used.
pub fn open_certificate(home: &Path) -> Result<WebCertificate, Error> {
    let mut addresses = vec![IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    // Without the temporary addresses of IPv6 (RFC 8981), each of which would renew the certificate.
    addresses.extend(local_addresses().into_iter().filter(|local| local.is_permanent).map(|local| local.ip));
    let mut names: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    names.extend(own_names());
    // Sorted, or the same interfaces in another order would look like a change.
    names.sort();
    names.dedup();
    let failed = |why: certs::WebCertificateError| Error::Relayed { kind: ErrorKind::Disk, message: why.to_string() };
    WebCertificate::open(&home.join(FOLDER), &names, SystemTime::now()).map_err(failed)
}

/// Returns the names by which this machine is reached, besides its addresses.
pub(super) fn own_names() -> Vec<String> {
    let host = host_name();
    let local = host.as_ref().filter(|host| !host.contains('.')).map(|host| format!("{host}.local"));
    [Some("localhost".to_owned()), host, local].into_iter().flatten().collect()
}

/// Returns the fingerprint of a certificate as browsers show it: hexadecimal pairs with colons.
pub fn shown_fingerprint(certificate: &WebCertificate) -> String {
    certificate.fingerprint().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
