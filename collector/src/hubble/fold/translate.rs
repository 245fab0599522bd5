//! Sockets' translations: a socket is about to connect to a ClusterIP, and its connection goes to the pod behind it.

use std::sync::Arc;

use super::{
    Fold,
    edge::{Edge, End, Key, MAX_LISTED, address_port},
    read::{self, Packet},
};
use crate::{
    hubble::proto::flow::Flow,
    time::{Ns, SECOND},
};

/// A connection is opened this soon after its socket was translated, by the same node's clock.
const TRANSLATED_WITHIN: Ns = SECOND;
/// A socket that was about to connect to a ClusterIP.
#[derive(Debug)]
pub(super) struct Translation {
    pub(super) client: End,
    pub(super) via: String,
    pub(super) node: Arc<str>,
    pub(super) protocol: u8,
    pub(super) time: Ns,
    pub(super) cookie: u64,
    pub(super) namespace: String,
}

impl Fold {
    pub(super) fn translate(&mut self, flow: &Flow, packet: Packet, node: &str) {
        if let Some((name, seen)) = self.node(node) {
            seen.flows += 1;
            let packet = Packet { node: name, ..packet };
            self.learn(&packet);
            let after = read::translated(flow);
            if after {
                let before = self.translations.iter().position(|known| {
                    known.cookie == flow.socket_cookie && known.cookie != 0 && *known.node == *packet.node
                });
                if let Some(at) = before {
                    let known = self.translations.swap_remove(at);
                    let key = Key { client: known.client, ..packet.key() };
                    if self.edges.len() < self.bounds.edges || self.edges.contains_key(&key) {
                        let edge = self.edges.entry(key.clone()).or_insert_with(|| Edge::new(key, packet.time));
                        edge.via.extend((edge.via.len() < MAX_LISTED).then_some(known.via));
                    }
                }
                return;
            }
            if self.translations.len() >= self.bounds.waiting {
                self.translations.remove(0);
                self.hidden.untranslated += 1;
            }
            let service = flow.destination_service.as_ref();
            self.translations.push(Translation {
                client: packet.ends[0].clone(),
                via: address_port(packet.addresses[1], packet.ports[1]),
                node: Arc::clone(&packet.node),
                protocol: packet.protocol,
                time: packet.time,
                cookie: flow.socket_cookie,
                namespace: service.map_or_else(String::new, |service| service.namespace.clone()),
            });
        }
    }

    /// The ClusterIP that a connection was opened to.
    pub(super) fn take_translation(&mut self, packet: &Packet) -> Option<String> {
        let fits = |known: &Translation| {
            let late = packet.time - known.time;
            let there = match &packet.ends[1] {
                End::Pod(pod) => known.namespace.is_empty() || pod.split('/').next() == Some(&*known.namespace),
                End::Address(_) => true,
            };
            known.client == packet.ends[0]
                && known.protocol == packet.protocol
                && *known.node == *packet.node
                && (0..=TRANSLATED_WITHIN).contains(&late)
                && there
        };
        let at = self.translations.iter().position(fits)?;
        Some(self.translations.remove(at).via)
    }
}
