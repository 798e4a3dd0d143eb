//! A TCP connection that breaks: a proxy that cuts all its connections whenever so many bytes have passed, or says no more.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A proxy on a free loopback port. Its threads end with the process.
#[derive(Debug)]
pub struct CuttingProxy {
    port: u16,
    wire: Arc<Mutex<BreakingWire>>,
}

#[derive(Debug)]
struct BreakingWire {
    passed: u64,
    /// The bytes after which everything is cut, the next one last.
    cuts: Vec<u64>,
    open: Vec<TcpStream>,
    is_mute: bool,
}

impl CuttingProxy {
    /// Leads to an address, and cuts all connections each time that one of these numbers of bytes has passed, of both
    /// directions together.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(to: SocketAddr, mut cuts: Vec<u64>) -> Self {
        cuts.sort_unstable_by_key(|bytes| std::cmp::Reverse(*bytes));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let wire = Arc::new(Mutex::new(BreakingWire { passed: 0, cuts, open: Vec::new(), is_mute: false }));
        let shared = wire.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(to) else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                shared.lock().unwrap().open.extend([clone(&client), clone(&server)]);
                for (from, to) in [(clone(&client), clone(&server)), (server, client)] {
                    let wire = shared.clone();
                    std::thread::spawn(move || pass(from, to, &wire));
                }
            }
        });
        Self { port, wire }
    }

    /// The port to which one connects.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many cuts are still to come.
    ///
    /// # Panics
    /// When a thread of it has panicked.
    pub fn cuts_left(&self) -> usize {
        self.wire.lock().unwrap().cuts.len()
    }

    /// Passes nothing on from now on, as a network does that is gone: connections stay open, new ones as well.
    ///
    /// # Panics
    /// When a thread of it has panicked.
    pub fn mute(&self) {
        self.wire.lock().unwrap().is_mute = true;
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, wire: &Mutex<BreakingWire>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if wire.lock().unwrap().is_mute {
            continue;
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        wire.lock().unwrap().count(count as u64);
    }
    // Nor does an end pass.
    while wire.lock().unwrap().is_mute {
        std::thread::park();
    }
    for stream in [&from, &to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl BreakingWire {
    fn count(&mut self, bytes: u64) {
        self.passed += bytes;
        if self.cuts.pop_if(|cut| *cut <= self.passed).is_some() {
            for stream in self.open.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}
