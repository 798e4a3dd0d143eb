//! Abilities that the system gives a UDP socket of ours.

use std::io;

use quinn::{Runtime, TokioRuntime};

use super::endpoint::{RECEIVE_BUFFER, RECEIVE_BUFFER_HINT, bind_udp};

/// The abilities of a UDP socket on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketAbilities {
    /// Bytes that the kernel keeps for the socket until they are read.
    pub receive_buffer: usize,
    /// Bytes that were asked for.
    pub wanted_buffer: usize,
    /// Packets that one system call sends; 1 without segmentation offload.
    pub send_segments: usize,
}

impl SocketAbilities {
    /// True if the receive buffer is so small that a fast sender overruns it.
    pub const fn is_buffer_small(&self) -> bool {
        self.receive_buffer < RECEIVE_BUFFER_HINT
    }
}

/// Opens a socket as a node does, and looks what it got. Needs a runtime of tokio. Fails with the system's error.
pub fn probe_socket() -> io::Result<SocketAbilities> {
    let socket = bind_udp(0)?;
    // A refusal shows in the size that was granted.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let receive_buffer = socket.recv_buffer_size()?;
    let send_segments = TokioRuntime.wrap_udp_socket(socket.into())?.max_transmit_segments();
    Ok(SocketAbilities { receive_buffer, wanted_buffer: RECEIVE_BUFFER, send_segments })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_has_a_buffer_and_sends_one_packet_at_least() {
        let abilities = probe_socket().unwrap();
        assert!(abilities.receive_buffer > 0 && abilities.send_segments >= 1, "{abilities:?}");
    }
}
