//! Machines that are none: network namespaces, each with interfaces of its own, joined by a switch.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Invocation, Outcome};

/// A switch with machines on it. Only root may make one; all of it goes when it is dropped.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    switch: Host,
    hosts: Vec<Host>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    namespace: String,
}

static NETWORKS: AtomicU32 = AtomicU32::new(0);

impl Network {
    /// A switch without machines; `None`, and a word about it, where that isn't allowed.
    pub fn make() -> Option<Self> {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("vz{}-{number}", std::process::id());
        let switch = Host { namespace: format!("{prefix}-switch") };
        let made = ip(&["netns", "add", &switch.namespace]);
        if made.code != 0 {
            println!("skipped: no network namespace can be made here ({})", made.err().trim());
            return None;
        }
        let network = Self { prefix, switch, hosts: Vec::new() };
        network.switch.ip("link add switch type bridge");
        network.switch.ip("link set switch up");
        Some(network)
    }

    /// A machine whose interface `eth0` has these addresses.
    pub fn host(&mut self, name: &str, addresses: &[&str]) -> Host {
        let host = Host { namespace: format!("{}-{name}", self.prefix) };
        ip(&["netns", "add", &host.namespace]).exits(0);
        self.hosts.push(host.clone());
        host.ip("link set lo up");
        self.plug(&host, "eth0", addresses);
        host
    }

    /// The machine of this name, if there is one.
    pub fn host_called(&self, name: &str) -> Option<Host> {
        let namespace = format!("{}-{name}", self.prefix);
        self.hosts.iter().find(|host| host.namespace == namespace).cloned()
    }

    /// Pulls the cable of a machine's interface out at the switch, or puts it back.
    pub fn set_cable(&self, host: &Host, interface: &str, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        self.switch.ip(&format!("link set {} {state}", self.port(host, interface)));
    }

    /// A further interface of a machine, with a cable of its own to the switch.
    pub fn plug(&self, host: &Host, interface: &str, addresses: &[&str]) {
        let port = self.port(host, interface);
        host.ip(&format!("link add {interface} type veth peer name {port} netns {}", self.switch.namespace));
        self.switch.ip(&format!("link set {port} master switch up"));
        host.ip(&format!("link set {interface} up"));
        for address in addresses {
            host.add_address(interface, address);
        }
    }

    /// Sets how long a frame may be at a machine's interface and at the switch's side of its cable.
    pub fn set_mtu(&self, host: &Host, interface: &str, mtu: u16) {
        host.ip(&format!("link set {interface} mtu {mtu}"));
        self.set_mtu_unseen(host, interface, mtu);
    }

    /// Sets how long a frame may be at the switch's side of a cable: the machine doesn't know, and is not told.
    pub fn set_mtu_unseen(&self, host: &Host, interface: &str, mtu: u16) {
        self.switch.ip(&format!("link set {} mtu {mtu}", self.port(host, interface)));
    }

    /// Makes the switch send to a machine no faster than this many bits a second, with a queue of this many bytes before
    /// that; false, and a word about it, where the kernel can't.
    pub fn narrow(&self, host: &Host, interface: &str, rate: u64, queue: usize) -> bool {
        let (namespace, port) = (&self.switch.namespace, self.port(host, interface));
        let command =
            format!("-n {namespace} qdisc replace dev {port} root tbf rate {rate}bit burst 16kb limit {queue}");
        let made = Invocation::new("tc", Path::new("/")).args(command.split(' ')).run();
        if made.code != 0 {
            println!("skipped: the kernel makes no bottleneck ({})", made.err().trim());
        }
        made.code == 0
    }

    /// Makes the switch drop what goes to a port of a machine by this protocol ("tcp" or "udp"), over IPv4.
    ///
    /// # Panics
    /// When the kernel has no such filter.
    #[track_caller]
    pub fn block(&self, host: &Host, interface: &str, protocol: &str, number: u16) {
        let (namespace, port) = (&self.switch.namespace, self.port(host, interface));
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            other => panic!("not a protocol that can be blocked: {other}"),
        };
        // What is redirected to a cable without an end is gone. Further blocks use the first one's.
        let hole = Invocation::new("ip", Path::new("/"))
            .args(["-n", namespace, "link", "add", "hole", "up", "type", "veth", "peer", "name", "nowhere"])
            .run();
        assert!(hole.code == 0 || hole.err().contains("File exists"), "{hole}");
        let tc = |command: &str| {
            let run = Invocation::new("tc", Path::new("/")).args(["-n", namespace]).args(command.split(' ')).run();
            assert!(run.code == 0 || run.err().contains("Exclusivity flag on"), "{run}");
        };
        tc(&format!("qdisc add dev {port} clsact"));
        tc(&format!(
            "filter add dev {port} egress protocol ip u32 match ip protocol {protocol} 0xff match ip dport {number} 0xffff \
             action mirred egress redirect dev hole"
        ));
    }

    fn port(&self, host: &Host, interface: &str) -> String {
        let position = self.hosts.iter().position(|other| other == host).expect("it is on this network");
        format!("port{position}-{interface}")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in self.hosts.iter().chain([&self.switch]) {
            ip(&["netns", "delete", &host.namespace]);
            // Only those that were given names have one.
            let _ = std::fs::remove_dir_all(host.settings());
        }
    }
}

impl Host {
    /// Runs `ip` there, with these arguments.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> Outcome {
        let outcome = ip(&["-n", &self.namespace].into_iter().chain(arguments.split(' ')).collect::<Vec<_>>());
        outcome.exits(0);
        outcome
    }

    /// Gives an interface an address, usable at once.
    pub fn add_address(&self, interface: &str, address: &str) {
        // Nobody else can have it: what would look for them would take seconds.
        let at_once = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {interface}{at_once}"));
    }

    /// Names that are known there, as lines of /etc/hosts.
    pub fn add_names(&self, lines: &str) {
        crate::files::write(self.settings().join("hosts"), lines);
    }

    /// Does something there: the sockets that `work` makes belong to that machine, whoever uses them later.
    ///
    /// # Panics
    /// When the machine is gone, or `work` panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let place = std::fs::File::open(Path::new("/run/netns").join(&self.namespace)).expect("the machine is there");
        // A thread of its own: it never comes back from there.
        let there = || {
            let network = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(place.as_fd(), network).expect("root may go there");
            work()
        };
        std::thread::scope(|scope| scope.spawn(there).join().expect("the work there succeeds"))
    }

    /// What `ip netns exec` puts in place of the files in /etc.
    fn settings(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.namespace)
    }

    /// Its name for the system.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }
}

fn ip(arguments: &[&str]) -> Outcome {
    Invocation::new("ip", Path::new("/")).args(arguments).run()
}
