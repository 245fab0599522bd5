//! Peers that talk between two high ports would make an edge a port; past a cap they fold under port 0. Pure.

use std::collections::HashMap;

use crate::edge::{EdgeId, FIRST_EPHEMERAL_PORT};

/// High server ports told apart for one pair of endpoints; what comes after folds under port 0.
pub const MAX_HIGH_PORTS: u32 = 64;

/// Client, server, protocol, device.
type Pair = ([u8; 16], [u8; 16], u8, u64);

/// How many guessed high server ports each pair of endpoints has in the table.
#[derive(Debug, Default)]
pub struct HighPorts {
    pairs: HashMap<Pair, u32>,
}

impl HighPorts {
    /// Whether an edge whose client was guessed must fold under port 0.
    #[must_use]
    pub fn full(&self, id: &EdgeId) -> bool {
        id.server_port >= FIRST_EPHEMERAL_PORT
            && self.pairs.get(&pair(id)).is_some_and(|ports| *ports >= MAX_HIGH_PORTS)
    }

    /// A guessed edge entered the table.
    pub fn enter(&mut self, id: &EdgeId) {
        if id.server_port >= FIRST_EPHEMERAL_PORT {
            *self.pairs.entry(pair(id)).or_default() += 1;
        }
    }

    /// A guessed edge left it.
    pub fn leave(&mut self, id: &EdgeId) {
        if id.server_port < FIRST_EPHEMERAL_PORT {
            return;
        }
        if let Some(ports) = self.pairs.get_mut(&pair(id)) {
            *ports -= 1;
            if *ports == 0 {
                self.pairs.remove(&pair(id));
            }
        }
    }
}

fn pair(id: &EdgeId) -> Pair {
    (id.client, id.server, id.protocol, id.device)
}
