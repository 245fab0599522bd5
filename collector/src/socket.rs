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

/// How many files the process may have open, as the kernel says.
pub fn descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    // `unlimited` is no number, and no limit.
    line.split_whitespace().next()?.parse().ok()
}

/// Of `wanted` connections as many as fit into their share of the descriptors: `all` is what all ports want together, and
/// `kept` are for other files.
pub fn share(wanted: usize, all: usize, kept: usize, descriptors: usize) -> usize {
    let room = descriptors.saturating_sub(kept);
    if room >= all { wanted } else { (wanted * room / all.max(1)).max(1) }
}

#[cfg(test)]
mod tests {
    use super::{descriptors, share};

    #[test]
    fn ports_share_the_descriptors_that_there_are() {
        assert!(descriptors().is_none_or(|all| all > 0));
        assert_eq!(share(4_096, 12_544, 256, 1 << 20), 4_096);
        assert_eq!(share(4_096, 12_544, 256, 12_800), 4_096);
        let few = [4_096, 8_192, 256].map(|wanted| share(wanted, 12_544, 256, 1_024));
        assert_eq!(few, [250, 501, 15]);
        assert_eq!(share(256, 12_544, 256, 10), 1);
    }
}
