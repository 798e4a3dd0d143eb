//! The way from a program to its PostgreSQL server, which can be cut, closed and mended.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use postgres_server::PostgresServer;
use tempfile::TempDir;

/// The name of a server's socket in its folder.
const SOCKET: &str = ".s.PGSQL.5432";

/// A proxy on a socket of its own. Cut, it is as silent as a network without a cable: nothing arrives, nothing is closed,
/// and all of it arrives later. Its threads end with the process.
#[derive(Debug)]
pub struct DatabaseProxy {
    folder: TempDir,
    cable: Arc<Cable>,
}

#[derive(Debug, Default)]
struct Cable {
    is_cut: Mutex<bool>,
    changed: Condvar,
    /// `None` while the way is closed.
    open: Mutex<Option<Vec<UnixStream>>>,
}

impl DatabaseProxy {
    /// Leads to this server.
    ///
    /// # Panics
    /// When there is no place for its socket.
    pub fn start(server: &PostgresServer) -> Self {
        let folder = tempfile::Builder::new().prefix("vz-px-").tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("a socket");
        let cable = Cable { open: Mutex::new(Some(Vec::new())), ..Cable::default() };
        let (cable, to) = (Arc::new(cable), server.socket_folder().join(SOCKET));
        let shared = Arc::clone(&cable);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&to) else { continue };
                let clone = |stream: &UnixStream| stream.try_clone().expect("a descriptor");
                match &mut *shared.open.lock().unwrap() {
                    Some(open) => open.extend([clone(&client), clone(&server)]),
                    None => continue,
                }
                for (from, to) in [(clone(&client), clone(&server)), (server, client)] {
                    let cable = Arc::clone(&shared);
                    std::thread::spawn(move || pass(from, to, &cable));
                }
            }
        });
        Self { folder, cable }
    }

    /// Returns the address of a database of the server, through the proxy.
    pub fn address(&self, server: &PostgresServer, database: &str) -> String {
        let text = |folder: &Path| folder.display().to_string().replace('/', "%2F");
        server.address(database).replace(&text(server.socket_folder()), &text(self.folder.path()))
    }

    /// Ends all connections and each that comes, or lets them pass again.
    ///
    /// # Panics
    /// When a thread of it has panicked.
    pub fn set_closed(&self, is_closed: bool) {
        let open = std::mem::replace(&mut *self.cable.open.lock().unwrap(), (!is_closed).then(Vec::new));
        for stream in open.into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Cuts the way, or mends it.
    ///
    /// # Panics
    /// When a thread of it has panicked.
    pub fn set_cut(&self, is_cut: bool) {
        *self.cable.is_cut.lock().unwrap() = is_cut;
        self.cable.changed.notify_all();
    }
}

fn pass(mut from: UnixStream, mut to: UnixStream, cable: &Cable) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // A cut hides that the other side closed, too.
        let count = from.read(&mut buffer).unwrap_or_default();
        drop(cable.changed.wait_while(cable.is_cut.lock().unwrap(), |is_cut| *is_cut).unwrap());
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    for stream in [&from, &to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
