//! TCP transfers: a client says how much it sends and how much it wants, and both sides write down what they wrote.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use super::Pod;
use crate::control::TcpSend;
use crate::error::{Context, Result};
use crate::ledger::{Protocol, Sent};

/// Bytes to come and bytes wanted, both big-endian.
const HEADER_BYTES: usize = 16;
const CHUNK: usize = 64 << 10;
/// A transfer that stands still for this long has failed.
const STALL: Duration = Duration::from_secs(20);
/// Offset of `tcpi_bytes_retrans` in the kernel's `struct tcp_info` (since 4.19).
const BYTES_RETRANS: usize = 208;

/// Serves transfers on all addresses of the pod.
pub(super) fn serve(pod: &Arc<Pod>, port: u16) -> Result<()> {
    for address in pod.addresses.clone() {
        let listener = TcpListener::bind((address, port)).context(|| format!("listen on tcp {address} port {port}"))?;
        let pod = Arc::clone(pod);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let pod = Arc::clone(&pod);
                std::thread::spawn(move || {
                    if let Err(error) = answer(&pod, &stream, address, port) {
                        eprintln!("transfer on port {port}: {error}");
                    }
                });
            }
        });
    }
    Ok(())
}

fn answer(pod: &Pod, mut stream: &TcpStream, address: IpAddr, port: u16) -> std::io::Result<()> {
    settle(stream)?;
    let client = stream.peer_addr()?.ip();
    let mut header = [0_u8; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (coming, wanted) = header.split_at(HEADER_BYTES / 2);
    read_exactly(stream, number(coming))?;
    let wanted = number(wanted);
    write_exactly(stream, wanted)?;
    // The client's end of stream acknowledges all we wrote, so what was sent again is final.
    let rest = stream.read(&mut [0_u8; 1])?;
    let retransmitted = retransmitted(stream)?;
    // Written down before we close: a client that saw our end of stream finds it in the ledger.
    pod.count(client, address, port, Protocol::Tcp, |totals| add(&mut totals.reverse, wanted, retransmitted));
    if rest == 0 { Ok(()) } else { Err(std::io::Error::other("more bytes than announced")) }
}

/// Opens the connections one after the other.
pub(super) fn send(pod: &Pod, send: &TcpSend) -> Result<()> {
    for _ in 0..send.connections {
        transfer(pod, send).context(|| format!("transfer to {}", send.to))?;
    }
    Ok(())
}

fn transfer(pod: &Pod, send: &TcpSend) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&send.to, STALL)?;
    settle(&stream)?;
    let client = stream.local_addr()?.ip();
    let count =
        |add: &dyn Fn(&mut crate::ledger::Totals)| pod.count(client, send.to.ip(), send.to.port(), Protocol::Tcp, add);
    count(&|totals| totals.connections += 1);
    let mut header = [0_u8; HEADER_BYTES];
    header[..8].copy_from_slice(&send.send.to_be_bytes());
    header[8..].copy_from_slice(&send.receive.to_be_bytes());
    stream.write_all(&header)?;
    write_exactly(&stream, send.send)?;
    read_exactly(&stream, send.receive)?;
    stream.shutdown(Shutdown::Write)?;
    let rest = stream.read(&mut [0_u8; 1])?;
    let retransmitted = retransmitted(&stream)?;
    count(&|totals| add(&mut totals.forward, HEADER_BYTES as u64 + send.send, retransmitted));
    if rest == 0 { Ok(()) } else { Err(std::io::Error::other("more bytes than asked for")) }
}

fn add(sent: &mut Sent, written: u64, retransmitted: u64) {
    sent.payload_bytes += written;
    sent.retransmitted_bytes += retransmitted;
}

fn settle(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))
}

fn write_exactly(mut stream: &TcpStream, mut bytes: u64) -> std::io::Result<()> {
    let chunk = [0x5a_u8; CHUNK];
    while bytes > 0 {
        let now = bytes.min(CHUNK as u64);
        stream.write_all(&chunk[..usize::try_from(now).unwrap_or(CHUNK)])?;
        bytes -= now;
    }
    Ok(())
}

fn read_exactly(stream: &TcpStream, bytes: u64) -> std::io::Result<()> {
    let read = std::io::copy(&mut stream.take(bytes), &mut std::io::sink())?;
    if read == bytes { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// Payload bytes that this end's kernel sent again.
fn retransmitted(stream: &TcpStream) -> std::io::Result<u64> {
    let mut info = [0_u8; 512];
    let mut length = libc::socklen_t::try_from(info.len()).unwrap_or(0);
    // SAFETY: the buffer and its length are ours, and the kernel writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(result)?;
    let field = info[..length as usize].get(BYTES_RETRANS..BYTES_RETRANS + 8).and_then(|bytes| bytes.try_into().ok());
    field
        .map(u64::from_ne_bytes)
        .ok_or_else(|| std::io::Error::other("this kernel's TCP_INFO has no tcpi_bytes_retrans (Linux 4.19 has)"))
}
