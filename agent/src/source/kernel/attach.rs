//! Which of our programs is on what: put there, looked after, taken off again. Never more than our own.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use agent_ebpf::abi::{CGROUP_IFINDEX, Direction};
use tracing::info;

use super::{
    clsact::{Clsact, ClsactError, Filter},
    hook::{self, Hook, Program, Target},
    pins::{self, Pins},
};
use crate::config::PinPath;

/// Both ways past a device, in the order of [`Direction`].
pub const WAYS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// A program could not be put where it was to be.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// A BPF link was refused.
    #[error("put {program} on {target}")]
    Link {
        /// Its name.
        program: &'static str,
        /// Where it was to go.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A filter was refused.
    #[error("put {program} on {target}")]
    Filter {
        /// Its name.
        program: &'static str,
        /// Where it was to go.
        target: String,
        /// Why.
        #[source]
        source: ClsactError,
    },
    /// The machine has no v2 hierarchy of cgroups.
    #[error("find the cgroup v2 hierarchy; hint: mount it, or name a directory of it by --scope-cgroup PATH")]
    NoCgroup,
    /// The folder for pins cannot be used.
    #[error("keep pins in {path}; hint: --pin-path DIR on a BPF file system (`mount -t bpf`), or --pin-path off")]
    Pins {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cgroup cannot be opened.
    #[error("open cgroup: {path}; hint: a directory of the cgroup v2 hierarchy, by --scope-cgroup PATH")]
    Cgroup {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Takes ownership of the pins that earlier runs left, where pins can be: `auto`, `off`, or a folder.
///
/// # Errors
/// When a folder that was asked for cannot be used.
pub fn own_pins(place: &PinPath, node: &str, epoch: u64) -> Result<Option<Pins>, AttachError> {
    let base = match place {
        PinPath::Off => return Ok(None),
        PinPath::Auto => Path::new(pins::DEFAULT),
        PinPath::At(path) => path,
    };
    let failed = |source| AttachError::Pins { path: base.display().to_string(), source };
    let owned = if pins::on_bpffs(base) {
        Pins::own(base, node, epoch).map_err(failed)
    } else {
        Err(failed(io::Error::other("no BPF file system is there")))
    };
    match owned {
        Ok(pins) => Ok(Some(pins)),
        Err(error) if *place == PinPath::Auto => {
            let why = format!("{:#}", anyhow::Error::from(error));
            info!(why, "no pins: an upgrade leaves a gap, which is counted as unseen");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether this kernel has TCX.
#[must_use]
pub fn has_tcx() -> bool {
    hook::has_tcx()
}

/// How a device, or the cgroup, is held.
#[derive(Debug)]
enum Hold {
    Links([Hook; 2]),
    Filters { ifindex: u32 },
}

/// Whether our programs are still where they were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// They are.
    Ours,
    /// Somebody took one of them off.
    Removed,
    /// A later run of the agent has put its own in their place.
    TakenOver,
}

/// A pair of programs, one for each way.
#[derive(Debug)]
pub struct Pair {
    programs: [Program; 2],
    names: [&'static str; 2],
}

impl Pair {
    /// A pair by its programs and their names, in the order of [`Direction`].
    #[must_use]
    pub fn new(programs: [Program; 2], names: [&'static str; 2]) -> Self {
        Self { programs, names }
    }

    fn ways(&self) -> impl Iterator<Item = (Direction, &Program, &'static str)> {
        WAYS.into_iter().zip(&self.programs).zip(self.names).map(|((way, program), name)| (way, program, name))
    }

    fn program(&self, way: Direction) -> &Program {
        &self.programs[way as usize]
    }
}

/// Everything our programs are on.
#[derive(Debug)]
pub struct Hooks {
    tc: Pair,
    cgroup: Option<Pair>,
    holds: HashMap<u32, Hold>,
    clsact: Option<Clsact>,
    pins: Option<Pins>,
}

impl Hooks {
    /// Nothing yet.
    #[must_use]
    pub fn new(tc: Pair) -> Self {
        Self { tc, cgroup: None, holds: HashMap::new(), clsact: None, pins: None }
    }

    /// Links are pinned from now on, and found pinned.
    pub fn set_pins(&mut self, pins: Pins) {
        self.pins = Some(pins);
    }

    /// The pins, where there are any.
    #[must_use]
    pub fn pins(&self) -> Option<&Pins> {
        self.pins.as_ref()
    }

    /// Puts both programs at the head of a device's TCX chains, or none.
    ///
    /// # Errors
    /// What the kernel answered; the device is then as it was.
    pub fn attach_tcx(&mut self, ifindex: u32) -> Result<(), AttachError> {
        let pins = self.pins.as_ref();
        let mut hooks = Vec::new();
        for (way, program, name) in self.tc.ways() {
            let put = || Hook::device(program, ifindex, way);
            let hook = match pins {
                Some(pins) => pins.take_or(&Pins::device(ifindex, way), Target::Device(ifindex), program, put),
                None => put(),
            };
            // A first hook that was made is dropped, and with it what it did.
            let failed = |source| AttachError::Link { program: name, target: format!("device {ifindex}"), source };
            match hook {
                Ok(hook) => hooks.push(hook),
                Err(source) => {
                    if let Some(pins) = pins {
                        WAYS.into_iter().for_each(|way| pins.remove(&Pins::device(ifindex, way)));
                    }
                    return Err(failed(source));
                }
            }
        }
        if let Ok(hooks) = hooks.try_into() {
            self.holds.insert(ifindex, Hold::Links(hooks));
        }
        Ok(())
    }

    /// Puts both programs on a device's clsact qdisc, or none.
    ///
    /// # Errors
    /// What rtnetlink answered, or that there is no place in front.
    pub fn attach_clsact(&mut self, ifindex: u32) -> Result<(), AttachError> {
        let failed = |name, source| AttachError::Filter { program: name, target: format!("device {ifindex}"), source };
        let clsact = match &mut self.clsact {
            Some(clsact) => clsact,
            none => {
                let opened = Clsact::open().map_err(|source| ClsactError::Refused { what: "a connection", source });
                none.insert(opened.map_err(|source| failed("filters", source))?)
            }
        };
        self.holds.insert(ifindex, Hold::Filters { ifindex });
        let mut put = self
            .tc
            .ways()
            .map(|(way, program, name)| clsact.attach(program, ifindex, way).map_err(|source| failed(name, source)));
        let outcome = put.try_for_each(|put| put);
        drop(put);
        if outcome.is_err() {
            self.detach(ifindex);
        }
        outcome
    }

    /// Puts a pair on a cgroup.
    ///
    /// # Errors
    /// When the cgroup cannot be opened, or what the kernel answered.
    pub fn attach_cgroup(&mut self, pair: Pair, path: Option<&Path>) -> Result<(), AttachError> {
        let path = path.ok_or(AttachError::NoCgroup)?;
        let unusable = |source| AttachError::Cgroup { path: path.display().to_string(), source };
        let cgroup = File::open(path).map_err(unusable)?;
        // A cgroup's id is its inode number.
        let target = Target::Cgroup(cgroup.metadata().map_err(unusable)?.ino());
        let mut hooks = Vec::new();
        for (way, program, name) in pair.ways() {
            let put = || Hook::cgroup(program, cgroup.as_fd(), way);
            let hook = match &self.pins {
                Some(pins) => pins.take_or(&Pins::cgroup(way), target, program, put),
                None => put(),
            };
            let target = || path.display().to_string();
            hooks.push(hook.map_err(|source| AttachError::Link { program: name, target: target(), source })?);
        }
        if let Ok(hooks) = hooks.try_into() {
            self.holds.insert(CGROUP_IFINDEX, Hold::Links(hooks));
            self.cgroup = Some(pair);
        }
        Ok(())
    }

    /// Whether our programs are still on a device, or on the cgroup.
    #[must_use]
    pub fn held(&mut self, index: u32) -> Held {
        let Some(hold) = self.holds.get(&index) else { return Held::Removed };
        for way in WAYS {
            let pair = if index == CGROUP_IFINDEX { self.cgroup.as_ref() } else { Some(&self.tc) };
            let Some(ours) = pair.map(|pair| pair.program(way).id) else { return Held::Removed };
            let on_it = match hold {
                Hold::Links(hooks) => match hooks[way as usize].info() {
                    Ok((Target::Nowhere, _)) | Err(_) => None,
                    Ok((_, program)) => Some(program),
                },
                Hold::Filters { ifindex } => {
                    let filters = self.clsact.as_mut().and_then(|clsact| clsact.filters(*ifindex, way).ok());
                    let found = filters.into_iter().flatten().find(Filter::is_ours);
                    found.and_then(|filter| filter.program)
                }
            };
            match on_it {
                Some(program) if program == ours => {}
                Some(_) => return Held::TakenOver,
                None => return Held::Removed,
            }
        }
        Held::Ours
    }

    /// How many programs of others run before ours on a device and may keep packets from us.
    #[must_use]
    pub fn behind(&mut self, ifindex: u32) -> usize {
        let before = |way: Direction| match self.holds.get(&ifindex) {
            Some(Hold::Links(_)) => {
                let ours = self.tc.program(way).id;
                hook::chain(ifindex, way).ok()?.iter().position(|program| *program == ours)
            }
            Some(Hold::Filters { ifindex }) => {
                let filters = self.clsact.as_mut()?.filters(*ifindex, way).ok()?;
                filters.iter().position(Filter::is_ours)
            }
            None => None,
        };
        WAYS.into_iter().filter_map(before).max().unwrap_or(0)
    }

    /// Takes our programs off, where they are still ours. What is gone took them with it.
    pub fn detach(&mut self, index: u32) {
        let cgroup = index == CGROUP_IFINDEX;
        match self.holds.remove(&index) {
            Some(Hold::Links(hooks)) => {
                let Some(pins) = &self.pins else { return };
                let pair = if cgroup { self.cgroup.as_ref() } else { Some(&self.tc) };
                for (way, hook) in WAYS.into_iter().zip(hooks) {
                    let theirs = hook.info().is_ok_and(|(target, program)| {
                        target != Target::Nowhere && pair.is_some_and(|pair| pair.program(way).id != program)
                    });
                    if !theirs {
                        pins.remove(&if cgroup { Pins::cgroup(way) } else { Pins::device(index, way) });
                    }
                }
            }
            Some(Hold::Filters { ifindex }) => {
                let Some(clsact) = &mut self.clsact else { return };
                for way in WAYS {
                    let ours = self.tc.program(way).id;
                    let filters = clsact.filters(ifindex, way).unwrap_or_default();
                    for filter in filters.iter().filter(|filter| filter.is_ours() && filter.program == Some(ours)) {
                        // A device that is gone took it along; what else is refused, `cleanup` finds by its name.
                        let _ = clsact.remove(ifindex, way, filter);
                    }
                }
            }
            None => {}
        }
    }

    /// Removes what earlier runs left and this one did not take over: pins, and filters known by their name.
    pub fn sweep(&mut self) {
        if let Some(pins) = &self.pins {
            let ours = |name: &str| {
                WAYS.into_iter().any(|way| {
                    let devices = self.holds.keys().any(|index| Pins::device(*index, way) == name);
                    devices || (self.cgroup.is_some() && Pins::cgroup(way) == name)
                })
            };
            let _ = pins.sweep(ours).inspect_err(|error| info!(%error, "pins of earlier runs not looked through"));
        }
        let mine = [&self.tc.programs[0].id, &self.tc.programs[1].id].map(|id| Some(*id));
        let swept = remove_filters(|filter| !mine.contains(&filter.program));
        let _ = swept.inspect_err(|error| info!(%error, "filters of earlier runs not looked for"));
    }
}

/// Removes filters of ours that `unwanted` names, on every device of this network namespace, and says on which they were.
///
/// # Errors
/// What rtnetlink answered.
pub fn remove_filters(unwanted: impl Fn(&Filter) -> bool) -> io::Result<Vec<(u32, Filter)>> {
    let mut clsact = Clsact::open()?;
    let mut removed = Vec::new();
    for ifindex in clsact.devices()? {
        for way in WAYS {
            for filter in clsact.filters(ifindex, way)? {
                if filter.is_ours() && unwanted(&filter) {
                    clsact.remove(ifindex, way, &filter)?;
                    removed.push((ifindex, filter));
                }
            }
        }
    }
    Ok(removed)
}
