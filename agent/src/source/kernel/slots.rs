//! The devices' totals: an array of slots on the kernel side, a device's among the first behind its interface index.

use std::collections::HashMap;

use agent_ebpf::abi::{CGROUP_IFINDEX, CGROUP_SLOT, DEVICE_PROBES, DeviceTotals, maps, slot, slot_owner};
use aya::{
    Pod,
    maps::{Map, MapData, MapError, PerCpuArray, PerCpuValues},
};

use super::KernelError;

/// `aya` wants its own marker on what it copies; the type itself is `zerocopy`'s.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain(DeviceTotals);
// SAFETY: any bytes are a DeviceTotals, it has no padding (zerocopy derives check both).
unsafe impl Pod for Plain {}

/// The array, and which slot is whose.
pub struct Slots {
    map: PerCpuArray<MapData, Plain>,
    places: Places,
    cpus: usize,
}

impl Slots {
    /// Takes the map over; all slots are free.
    ///
    /// # Errors
    /// When it is no such map, or nobody says how many CPUs there may be.
    pub fn new(map: Map) -> Result<Self, KernelError> {
        let map = PerCpuArray::try_from(map).map_err(refused)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| KernelError::Ring(error))?;
        Ok(Self { map, places: Places::default(), cpus })
    }

    /// Gives a device a slot with these totals on every CPU.
    ///
    /// # Errors
    /// When no slot near its index is free, or the kernel refuses.
    pub fn insert(&mut self, ifindex: u32, totals: DeviceTotals) -> Result<(), KernelError> {
        let place = self.places.take(ifindex).ok_or(KernelError::NoSlot { ifindex })?;
        self.write(place, DeviceTotals { owner: slot_owner(ifindex), ..totals })
    }

    /// A device's totals on each CPU; none where it has no slot.
    pub fn get(&self, ifindex: u32) -> impl Iterator<Item = DeviceTotals> {
        let values = self.places.of(ifindex).and_then(|place| self.map.get(&place, 0).ok());
        values.into_iter().flat_map(|values| values.iter().map(|Plain(totals)| *totals).collect::<Vec<_>>())
    }

    /// Frees a device's slot.
    pub fn remove(&mut self, ifindex: u32) {
        if let Some(place) = self.places.free(ifindex) {
            // A slot that kept its owner would count for a device that nobody asks about, and is written anew when
            // another one takes it.
            let _ = self.write(place, DeviceTotals::default());
        }
    }

    fn write(&mut self, place: u32, totals: DeviceTotals) -> Result<(), KernelError> {
        let values = PerCpuValues::try_from(vec![Plain(totals); self.cpus]).map_err(|error| refused(error.into()))?;
        self.map.set(place, values, 0).map_err(refused)
    }
}

fn refused(source: MapError) -> KernelError {
    KernelError::Map { name: maps::DEVICES, source: Box::new(source) }
}

/// Which slot is whose.
#[derive(Debug, Default)]
struct Places {
    by_device: HashMap<u32, u32>,
    taken: HashMap<u32, u32>,
}

impl Places {
    fn of(&self, ifindex: u32) -> Option<u32> {
        self.by_device.get(&ifindex).copied()
    }

    fn take(&mut self, ifindex: u32) -> Option<u32> {
        if let Some(place) = self.of(ifindex) {
            return Some(place);
        }
        let free = |place: &u32| !self.taken.contains_key(place);
        let place = match ifindex {
            CGROUP_IFINDEX => CGROUP_SLOT,
            _ => (0..DEVICE_PROBES).map(|probe| slot(ifindex, probe)).find(free)?,
        };
        self.by_device.insert(ifindex, place);
        self.taken.insert(place, ifindex);
        Some(place)
    }

    fn free(&mut self, ifindex: u32) -> Option<u32> {
        let place = self.by_device.remove(&ifindex)?;
        self.taken.remove(&place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use agent_ebpf::abi::{CGROUP_IFINDEX, CGROUP_SLOT, DEVICE_PROBES, DEVICE_SLOTS, MAX_DEVICES, slot};

    use super::Places;

    #[test]
    fn indices_in_a_row_have_their_own_slots_and_far_ones_the_next() {
        let mut places = Places::default();
        assert_eq!(places.take(CGROUP_IFINDEX), Some(CGROUP_SLOT));
        for ifindex in 1..MAX_DEVICES {
            assert_eq!(places.take(ifindex), Some(slot(ifindex, 0)));
        }
        assert_eq!(places.take(DEVICE_SLOTS + MAX_DEVICES - 1), Some(MAX_DEVICES));
        assert_eq!(places.free(DEVICE_SLOTS + MAX_DEVICES - 1), Some(MAX_DEVICES));
        assert_eq!(places.take(2 * DEVICE_SLOTS + MAX_DEVICES - 1), Some(MAX_DEVICES));
    }

    #[test]
    fn a_full_neighbourhood_refuses_and_a_freed_slot_is_found_again() {
        let mut places = Places::default();
        for lap in 0..DEVICE_PROBES {
            assert!(places.take(7 + lap * DEVICE_SLOTS).is_some());
        }
        assert_eq!(places.take(7 + DEVICE_PROBES * DEVICE_SLOTS), None);
        let freed = places.free(7).expect("it had one");
        assert_eq!(places.take(7 + DEVICE_PROBES * DEVICE_SLOTS), Some(freed));
    }

    /// Indices as a node has them after years of pods: as many as there may be devices, anywhere.
    #[test]
    fn as_many_devices_as_are_promised_find_a_slot_wherever_their_indices_are() {
        let mut places = Places::default();
        let mut index = 1_u32;
        for _ in 0..MAX_DEVICES {
            index = index.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            assert!(places.take(index >> 1).is_some());
        }
    }
}
