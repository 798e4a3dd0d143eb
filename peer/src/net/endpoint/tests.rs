use std::thread;
use std::time::Duration;

use certs::{Identity, ServerPin};
use quinn::ConnectionError;
use tokio::runtime::Builder;

use super::*;

/// The links of a node are driven by its other threads, and closed in time as well.
#[tokio::test]
async fn a_node_with_threads_has_told_all_callers_when_it_is_drained() {
    let [here, there] = [(); 2].map(|()| Arc::new(Identity::generate().unwrap()));
    let client = Endpoint::client(&here, None).unwrap();
    let (addresses, address) = std::sync::mpsc::channel();
    let pin = ServerPin::expecting(there.fingerprint());
    let node = thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let server = Endpoint::server(&there, 0, 2).unwrap();
            addresses.send(SocketAddr::from(([127, 0, 0, 1], server.port().unwrap()))).unwrap();
            let mut open = Vec::new();
            for _ in 0..3 {
                let connection = server.accept().await.unwrap().connecting.await.unwrap();
                let (mut sender, mut receiver) = connection.accept_bi().await.unwrap();
                sender.write_all(&receiver.read_to_end(1 << 20).await.unwrap()).await.unwrap();
                sender.finish().unwrap();
                sender.stopped().await.unwrap();
                open.push(connection);
            }
            server.close(shared::peer::PeerErrorCode::ShuttingDown);
            server.drain().await;
        });
    });
    let address = address.recv().unwrap();
    let mut connections = Vec::new();
    for number in 0..3_u8 {
        let connection = client.connect(address, &pin).unwrap().await.unwrap();
        let (mut sender, mut receiver) = connection.open_bi().await.unwrap();
        sender.write_all(&vec![number; 1 << 20]).await.unwrap();
        sender.finish().unwrap();
        assert!(receiver.read_to_end(1 << 20).await.unwrap() == vec![number; 1 << 20]);
        connections.push(connection);
    }
    // Not on this thread, which has to acknowledge the last bytes: the node waits for that.
    tokio::task::spawn_blocking(|| node.join().unwrap()).await.unwrap();
    let code = VarInt::from_u32(shared::peer::PeerErrorCode::ShuttingDown.into());
    for connection in connections {
        let gone = tokio::time::timeout(Duration::from_secs(2), connection.closed()).await;
        assert!(matches!(&gone, Ok(ConnectionError::ApplicationClosed(why)) if why.error_code == code), "{gone:?}");
    }
}

/// A process that ends right after it closed its links has told the other sides, who needn't wait for a time-out.
#[tokio::test]
async fn who_exits_after_draining_is_known_to_be_gone() {
    let [here, there] = [(); 2].map(|()| Arc::new(Identity::generate().unwrap()));
    let server = Endpoint::server(&there, 0, 0).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], server.port().unwrap()));
    let pin = ServerPin::expecting(there.fingerprint());
    let caller = thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let client = Endpoint::client(&here, None).unwrap();
            let connecting = client.connect(address, &pin).unwrap();
            let connection = connecting.await.unwrap();
            connection.close(VarInt::from_u32(7), b"");
            client.drain().await;
        });
    });
    let connection = server.accept().await.unwrap().connecting.await.unwrap();
    caller.join().unwrap();
    let gone = tokio::time::timeout(Duration::from_secs(2), connection.closed()).await;
    assert!(
        matches!(&gone, Ok(ConnectionError::ApplicationClosed(why)) if why.error_code == VarInt::from_u32(7)),
        "{gone:?}"
    );
}
