//! Somebody on the local network who announces trackers, as mDNS does it (RFC 6762, RFC 6763).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Host;

const PORT: u16 = 5353;
/// A response that nobody asked for, of somebody who has authority over what it says.
const RESPONSE: u16 = 0x8400;
const INTERNET: u16 = 1;
const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What is announced, true or not.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// What the service is called.
    pub instance: String,
    /// The texts `v` and `fp`.
    pub version: String,
    /// Said to be the key.
    pub fingerprint: String,
    /// Said to be its addresses.
    pub addresses: Vec<IpAddr>,
    /// Said to be its port.
    pub port: u16,
    /// For how long it is said to be so, in seconds; 0 takes it back.
    pub ttl: u32,
}

/// Says one thing after another to the whole network; ends when it is dropped.
pub struct HostileResponder {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Announcement {
    /// A tracker with this key at this address, on the usual port.
    pub fn new(fingerprint: impl Into<String>, address: &str) -> Self {
        let fingerprint = fingerprint.into();
        let address = address.parse().expect("an IP address");
        let short = fingerprint.get(..12).unwrap_or(&fingerprint);
        let (instance, version) = (format!("Vizinho tracker {short}"), "1".to_owned());
        Self { instance, version, fingerprint, addresses: vec![address], port: 8000, ttl: 120 }
    }

    /// The bytes of it.
    pub fn packet(&self) -> Vec<u8> {
        let service = || ["_vizinho", "_tcp", "local"].into_iter().map(str::as_bytes);
        let full = name(std::iter::once(self.instance.as_bytes()).chain(service()));
        // Hosts of different services must not share their addresses.
        let label = self.instance.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let host = name([label.as_bytes(), b"local"].into_iter());
        let location = [&[0, 0, 0, 0][..], &self.port.to_be_bytes(), &host].concat();
        let texts = [format!("v={}", self.version), format!("fp={}", self.fingerprint)];
        let texts: Vec<u8> = texts.iter().flat_map(|text| label_of(text.as_bytes())).collect();
        let mut records = vec![
            self.record(&name(service()), PTR, &full),
            self.record(&full, SRV, &location),
            self.record(&full, TXT, &texts),
        ];
        records.extend(self.addresses.iter().map(|address| match address {
            IpAddr::V4(v4) => self.record(&host, A, &v4.octets()),
            IpAddr::V6(v6) => self.record(&host, AAAA, &v6.octets()),
        }));
        let count = u16::try_from(records.len()).expect("few records");
        let header = [0, RESPONSE, 0, count, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        [header, records.concat()].concat()
    }

    /// A text of several kilobytes for an instance that nothing else tells of; a cache would keep it for `ttl`.
    pub fn bare_text(&self) -> Vec<u8> {
        let service = ["_vizinho", "_tcp", "local"].into_iter().map(str::as_bytes);
        let full = name(std::iter::once(self.instance.as_bytes()).chain(service));
        let text = label_of(&[b'x'; 250]).repeat(32);
        let header = [0, RESPONSE, 0, 1, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        [header, self.record(&full, TXT, &text)].concat()
    }

    fn record(&self, owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).expect("short records");
        let (kind, class) = (kind.to_be_bytes(), INTERNET.to_be_bytes());
        [owner, &kind, &class, &self.ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
    }
}

impl HostileResponder {
    /// On a machine that has this address at `eth0`, says what `script` has for the packets 0, 1, 2 …, one `every` so
    /// often; nothing where it has `None`.
    ///
    /// # Panics
    /// When the machine is gone.
    pub fn begin(
        host: &Host,
        address: &str,
        every: Duration,
        mut script: impl FnMut(usize) -> Option<Vec<u8>> + Send + 'static,
    ) -> Self {
        let address: IpAddr = address.parse().expect("an IP address");
        let (socket, group) = host.within(|| everybody(address));
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(packet) = script(number) {
                    // A network that takes no more for a moment is part of the attack.
                    let _ = socket.send_to(&packet, group);
                }
                // The pace is the attack's.
                std::thread::sleep(every);
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for HostileResponder {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket whose packets go out at the interface with this address, and where everybody hears them.
fn everybody(address: IpAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((address, PORT)).expect("the port is free");
    let group = match address {
        IpAddr::V4(_) => {
            socket.set_multicast_ttl_v4(255).expect("an option of IPv4");
            (Ipv4Addr::new(224, 0, 0, 251), PORT).into()
        }
        IpAddr::V6(_) => {
            let interface = rustix::net::netdevice::name_to_index(&socket, "eth0").expect("an interface");
            SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb), PORT, 0, interface).into()
        }
    };
    (socket, group)
}

fn name<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    [labels.map(label_of).collect::<Vec<_>>().concat(), vec![0]].concat()
}

fn label_of(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short label");
    [&[length], text].concat()
}
