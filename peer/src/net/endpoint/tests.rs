use std::thread;

use certs::{Identity, ServerPin};
use quinn::ConnectionError;
use tokio::runtime::Builder;

use super::*;

/// A process that ends right after it closed its links has told the other sides, who needn't wait for a time-out.
#[tokio::test]
async fn who_exits_after_draining_is_known_to_be_gone() {
    let [here, there] = [(); 2].map(|()| Arc::new(Identity::generate().unwrap()));
    let server = Endpoint::server(&there, 0).unwrap();
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
