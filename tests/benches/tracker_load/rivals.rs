//! What the tracker is measured against.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Invocation, Process};

use crate::TIME;
use crate::clients::{plain, rate};

/// A redis-server with nothing but one value.
pub(crate) struct Redis {
    _process: Process,
    plain: SocketAddr,
    secure: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
}

impl Redis {
    pub(crate) fn start(folder: &Path) -> Self {
        let (plain, secure) = (free_port(), free_port());
        let (certificate, key) = (folder.join("redis.crt"), folder.join("redis.key"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=redis"])
            // Our own client takes no authority for a server.
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"])
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key)
            .output();
        assert!(made.unwrap().status.success(), "openssl makes a certificate");
        let process = Invocation::new("redis-server", folder)
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &plain.port().to_string()])
            .args(["--tls-port", &secure.port().to_string(), "--tls-auth-clients", "no", "--tls-cert-file"])
            .arg(&certificate)
            .arg("--tls-key-file")
            .arg(&key)
            .start();
        process.wait_for("Ready to accept connections");
        Self { _process: process, plain, secure, certificate, key }
    }

    /// GETs a second of a value this long, as redis-benchmark has it.
    pub(crate) fn rate(&self, length: usize, clients: usize, requests: usize, secure: bool) -> f64 {
        self.set(length);
        let port = if secure { self.secure.port() } else { self.plain.port() };
        let mut benchmark = Command::new("redis-benchmark");
        benchmark.args(["-p", &port.to_string(), "-c", &clients.to_string(), "-n", &requests.to_string(), "--csv"]);
        if secure {
            benchmark.args(["--tls", "--insecure", "--cacert"]).arg(&self.certificate);
        }
        let output = benchmark.args(["GET", "value"]).output().expect("redis-benchmark runs");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().last().unwrap_or_default();
        let rate = line.split(',').nth(1).and_then(|field| field.trim_matches('"').parse().ok());
        rate.unwrap_or_else(|| panic!("redis-benchmark says {text:?} {:?}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The same as our own client has it.
    pub(crate) async fn rate_with_our_client(&self, length: usize, clients: usize) -> f64 {
        let mut streams = Vec::new();
        for _ in 0..clients {
            streams.push(plain(self.plain).await);
        }
        let reply = format!("${length}\r\n").len() + length + 2;
        rate(streams, "*2\r\n$3\r\nGET\r\n$5\r\nvalue\r\n", reply, TIME).await
    }

    /// The certificate and the key that it serves TLS with.
    pub(crate) fn tls_files(&self) -> (&Path, &Path) {
        (&self.certificate, &self.key)
    }

    fn set(&self, length: usize) {
        let script = format!("return redis.call('SET', 'value', string.rep('x', {length}))");
        let set = Command::new("redis-cli").args(["-p", &self.plain.port().to_string(), "EVAL", &script, "0"]).output();
        assert!(set.unwrap().stdout.starts_with(b"OK"));
    }
}

/// A thread a connection, all in memory, JSON in and out: the exercise's kind of server.
pub(crate) struct Python {
    _process: Process,
    pub(crate) address: SocketAddr,
}

impl Python {
    /// With as many peers; over TLS with this certificate and key, if they are given.
    pub(crate) fn start(folder: &Path, peers: usize, tls: Option<(&Path, &Path)>) -> Self {
        const SCRIPT: &str = include_str!("threading_server.py");
        let address = free_port();
        let process = Invocation::new("python3", folder)
            .args(["-c", SCRIPT, &address.port().to_string(), &peers.to_string()])
            .args(tls.into_iter().flat_map(|(certificate, key)| [certificate, key]))
            .start();
        process.wait_for("ready");
        Self { _process: process, address }
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
