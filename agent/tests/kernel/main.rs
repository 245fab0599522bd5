//! Real agents on the lab's devices: what they count, and that they leave everything else as it was.

mod dns;
mod exact;
mod facts;
mod kinds;
mod life;
mod missed;
mod neighbour;
mod once;
mod privilege;
mod removed;
mod reports;
mod tiers;
mod upgrade;
