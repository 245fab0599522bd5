//! What runs inside a pod: servers, senders and loads, all told what to do over one Unix socket.

mod icmp;
mod load;
mod pace;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::{Answer, Request};
use crate::error::{Context, Result};
use crate::http1;
use crate::ledger::{Edge, Ledger, Protocol, Totals};

/// What all threads of a pod's process share.
#[derive(Debug)]
struct Pod {
    addresses: Vec<IpAddr>,
    mtu: usize,
    ledger: Mutex<Ledger>,
    flows: Mutex<BTreeMap<u64, udp::Flow>>,
    next_flow: AtomicU64,
}

/// A poisoned lock only means that a sender panicked between two additions; the numbers are whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pod {
    fn count(&self, client: IpAddr, server: IpAddr, port: u16, protocol: Protocol, add: impl FnOnce(&mut Totals)) {
        add(locked(&self.ledger).edge(Edge { client, server, port, protocol }));
    }

    fn answer(self: &Arc<Self>, request: Request) -> Result<Answer> {
        Ok(match request {
            Request::ServeUdp { port, reply } => udp::serve(self, port, reply).map(|()| Answer::Done)?,
            Request::ServeTcp { port } => tcp::serve(self, port).map(|()| Answer::Done)?,
            Request::ServeHttp { port, bytes } => {
                for address in &self.addresses {
                    http1::serve((*address, port).into(), bytes)?;
                }
                Answer::Done
            }
            Request::Udp(send) => udp::send(self, &send).map(|()| Answer::Done)?,
            Request::Tcp(send) => tcp::send(self, &send).map(|()| Answer::Done)?,
            Request::Icmp(send) => icmp::send(self, &send).map(|()| Answer::Done)?,
            Request::StartUdp(send) => {
                let id = self.next_flow.fetch_add(1, Ordering::Relaxed);
                let flow = udp::Flow::start(Arc::clone(self), send)?;
                locked(&self.flows).insert(id, flow);
                Answer::Started { id }
            }
            Request::SetRate { id, pps } => match locked(&self.flows).get(&id) {
                Some(flow) => {
                    flow.set_rate(pps);
                    Answer::Done
                }
                None => Answer::Failed { message: format!("no such flow: {id}") },
            },
            Request::Stop { id } => {
                // The lock ends with this statement: a flow's last send may take a while.
                let flow = locked(&self.flows).remove(&id);
                match flow {
                    Some(flow) => flow.stop().map(|()| Answer::Done)?,
                    None => Answer::Failed { message: format!("no such flow: {id}") },
                }
            }
            Request::Load(load) => {
                load::start(Arc::clone(self), load);
                Answer::Done
            }
            Request::Ledger => Answer::Ledger(locked(&self.ledger).clone()),
        })
    }

    fn converse(self: &Arc<Self>, stream: &UnixStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let mut stream = stream;
        while let Some(line) = lines.next().transpose()? {
            let answer = match serde_json::from_str::<Request>(&line) {
                Ok(request) => {
                    self.answer(request).unwrap_or_else(|error| Answer::Failed { message: with_sources(&error) })
                }
                Err(error) => Answer::Failed { message: error.to_string() },
            };
            let mut text = serde_json::to_vec(&answer)?;
            text.push(b'\n');
            stream.write_all(&text)?;
        }
        Ok(())
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Listens on `socket` until the process is killed.
pub fn run(socket: &Path, addresses: Vec<IpAddr>, mtu: usize) -> Result<()> {
    let pod = Arc::new(Pod {
        addresses,
        mtu,
        ledger: Mutex::default(),
        flows: Mutex::default(),
        next_flow: AtomicU64::new(1),
    });
    let listener = UnixListener::bind(socket).context(|| format!("listen on {}", socket.display()))?;
    loop {
        let (stream, _) = listener.accept().context(|| format!("accept on {}", socket.display()))?;
        let pod = Arc::clone(&pod);
        std::thread::spawn(move || {
            if let Err(error) = pod.converse(&stream) {
                eprintln!("control connection: {error}");
            }
        });
    }
}
