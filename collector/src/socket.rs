//! What a client's connection may hold: a little of the past, and not for ever.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// What the kernel keeps for a client that reads slowly, in bytes (it doubles this for its own book-keeping): beyond it the
/// client gets the latest state instead of all that led to it.
pub const SEND_BUFFER: usize = 128 << 10;
/// A client that takes nothing for this long, with something to take, is cut.
pub const STALLED: Duration = Duration::from_secs(20);

/// Sets the limits of a connection, which hang on `stalled`; small events must not wait for an acknowledgement.
pub fn tune(stream: &TcpStream, stalled: Duration) {
    let socket = SockRef::from(stream);
    let set = [
        stream.set_nodelay(true),
        socket.set_send_buffer_size(SEND_BUFFER),
        // Counts an empty window, too: so it ends clients that are there and never read.
        socket.set_tcp_user_timeout(Some(stalled)),
    ];
    for error in set.into_iter().filter_map(Result::err) {
        tracing::trace!(%error, "set a connection's limits");
    }
}
