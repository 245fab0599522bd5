//! A bell that rings when any device or address changes. What changed is asked afterwards, so a missed message loses nothing.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket},
};
use tokio::io::unix::AsyncFd;

use super::KernelError;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`, include/uapi/linux/rtnetlink.h: an address may make a
/// device an uplink. Not the routes' groups: a node may have a whole fabric's.
const GROUPS: u32 = 1 | 0x10 | 0x100;

/// A netlink socket that hears of device changes.
pub struct Trigger {
    socket: AsyncFd<OwnedFd>,
}

impl Trigger {
    /// Subscribes in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open() -> Result<Self, KernelError> {
        let failed = |source: Errno| KernelError::Netlink { what: "device changes", source: Box::new(source) };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).map_err(failed)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).map_err(failed)?;
        // SAFETY: the descriptor is owned here and stays the same for as long as it lives.
        let socket = unsafe { AsyncFd::register(fd) }
            .map_err(|source| KernelError::Netlink { what: "device changes", source: Box::new(source) })?;
        Ok(Self { socket })
    }

    /// Waits for the next change, or changes: whatever is queued counts as one.
    pub async fn changed(&mut self) {
        let Ok(mut guard) = self.socket.readable_mut().await else {
            return std::future::pending().await;
        };
        let mut buffer = [0_u8; 8_192];
        // Bounded: a storm of changes rings again at once.
        for _ in 0..256 {
            match recv(guard.get_inner().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(_) => {
                    guard.clear_ready();
                    return;
                }
            }
        }
    }
}
