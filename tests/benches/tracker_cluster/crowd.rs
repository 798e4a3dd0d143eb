//! Many people, each with a key and an address of their own.

use std::net::SocketAddr;
use std::rc::Rc;

use certs::Identity;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::client::TlsStream;

use crate::clients::{Secure, ask_well, plain_from};

/// What is done at the same time.
const AT_ONCE: usize = 64;

pub(crate) type Connection = TlsStream<TcpStream>;

pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) key: [u8; 32],
    secure: Secure,
    from: [u8; 4],
}

impl Person {
    /// `count` users `peerNNNNN`.
    pub(crate) fn crowd(count: usize) -> Vec<Rc<Self>> {
        let person = |number: usize| {
            let identity = Identity::generate().unwrap();
            // Limits are for each address: these are people at machines of their own.
            let from = [127, 1, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250 + 1).unwrap()];
            let (name, key) = (format!("peer{number:05}"), *identity.fingerprint().as_bytes());
            Rc::new(Self { name, key, secure: Secure::new(&identity), from })
        };
        (0..count).map(person).collect()
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> Connection {
        self.secure.connect(plain_from(address, self.from).await).await
    }

    /// Becomes present.
    pub(crate) async fn come(&self, address: SocketAddr) -> Connection {
        let mut connection = self.connect(address).await;
        ask_well(&mut connection, RESUME).await;
        connection
    }
}

/// Logs in by certificate, and becomes present.
pub(crate) const RESUME: &str = r#"{"action":"RESUME","port":40000}"#;

/// Lets all of these come, spread over the trackers. Returns their connections in the same order.
pub(crate) async fn all_come(people: &[Rc<Person>], addresses: &[SocketAddr]) -> Vec<Connection> {
    let mut connections = side_by_side(people.iter().enumerate().map(|(number, person)| {
        let (person, address) = (Rc::clone(person), addresses[number % addresses.len()]);
        async move { (number, person.come(address).await) }
    }))
    .await;
    connections.sort_unstable_by_key(|(number, _)| *number);
    connections.into_iter().map(|(_, connection)| connection).collect()
}

/// Does some of the work at a time until all is done. The results have no order.
pub(crate) async fn side_by_side<F>(work: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: 'static> + 'static,
{
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    let all = async {
        for one in work {
            if running.len() == AT_ONCE {
                done.extend(running.join_next().await.map(Result::unwrap));
            }
            running.spawn_local(one);
        }
        while let Some(one) = running.join_next().await {
            done.push(one.unwrap());
        }
    };
    LocalSet::new().run_until(all).await;
    done
}
