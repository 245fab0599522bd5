//! The hooks behind the facts, each in the cheapest form that this kernel grants, and the maps they fill.

use std::{
    collections::HashSet,
    fs,
    os::fd::{AsFd as _, OwnedFd},
};

use agent_ebpf::facts::{DropKey, DropTotals, MAX_SCOPE, SocketKey, SocketTotals, maps};
use aya::{
    Btf, Ebpf,
    maps::{Array, Map, MapData},
    programs::{BtfTracePoint, FEntry, KProbe, Program, ProgramError, RawTracePoint, TracePoint},
};
use tracing::{debug, info};
use wire::v1::Hook;
use zerocopy::FromBytes;

use super::{
    KernelError,
    batch::{self, Batch},
    hook,
};
use crate::{
    btf,
    drops::Reasons,
    facts::{Fact, Form},
    offsets::Offsets,
};

/// Where the kernel's types are.
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
/// The longest answer of the kernel that is told.
const MAX_REFUSAL_BYTES: usize = 200;

/// One way to learn a fact: a program of the object, and the tracepoint or function it goes to.
type Way = (Form, &'static str, &'static str);

/// The ways to learn a fact, cheapest first.
fn ways(fact: Fact) -> &'static [Way] {
    match fact {
        Fact::Connect => &[
            (Form::TpBtf, "connect_tp_btf", "inet_sock_set_state"),
            (Form::RawTracepoint, "connect_raw_tracepoint", "inet_sock_set_state"),
            (Form::Tracepoint, "connect_tracepoint", "sock/inet_sock_set_state"),
            (Form::Fentry, "connect_fentry", "tcp_set_state"),
            (Form::Kprobe, "connect_kprobe", "tcp_set_state"),
        ],
        Fact::Retransmit => &[
            (Form::TpBtf, "retransmit_tp_btf", "tcp_retransmit_skb"),
            (Form::RawTracepoint, "retransmit_raw_tracepoint", "tcp_retransmit_skb"),
            (Form::Tracepoint, "retransmit_tracepoint", "tcp/tcp_retransmit_skb"),
            (Form::Fentry, "retransmit_fentry", "tcp_retransmit_skb"),
            (Form::Kprobe, "retransmit_kprobe", "tcp_retransmit_skb"),
        ],
        Fact::Rtt => &[
            (Form::TpBtf, "rtt_tp_btf", "tcp_rcv_space_adjust"),
            (Form::RawTracepoint, "rtt_raw_tracepoint", "tcp_rcv_space_adjust"),
            (Form::Tracepoint, "rtt_tracepoint", "tcp/tcp_rcv_space_adjust"),
            (Form::Fentry, "rtt_fentry", "tcp_rcv_space_adjust"),
            (Form::Kprobe, "rtt_kprobe", "tcp_rcv_space_adjust"),
        ],
        // The function that every drop passes has changed its name twice.
        Fact::Drop => &[
            (Form::TpBtf, "drop_tp_btf", "kfree_skb"),
            (Form::RawTracepoint, "drop_raw_tracepoint", "kfree_skb"),
            (Form::Tracepoint, "drop_tracepoint", "skb/kfree_skb"),
            (Form::Fentry, "drop_for_socket_fentry", "sk_skb_reason_drop"),
            (Form::Fentry, "drop_with_reason_fentry", "kfree_skb_reason"),
            (Form::Fentry, "drop_fentry", "kfree_skb"),
            (Form::Kprobe, "drop_for_socket_kprobe", "sk_skb_reason_drop"),
            (Form::Kprobe, "drop_with_reason_kprobe", "kfree_skb_reason"),
            (Form::Kprobe, "drop_kprobe", "kfree_skb"),
        ],
        // The sockets of the other facts carry it.
        Fact::Owner => &[],
    }
}

/// What this kernel's own types say.
pub struct Types {
    /// For the programs.
    pub offsets: Offsets,
    /// Why something was dropped.
    pub reasons: Reasons,
}

impl Types {
    /// Reads the running kernel's BTF; without it the facts are off.
    #[must_use]
    pub fn read(own_netns: u32, scoped: bool) -> Self {
        let parsed = fs::read(BTF_PATH).map_err(|error| error.to_string());
        let parsed = parsed.and_then(|bytes| btf::Btf::parse(&bytes).map_err(|error| error.to_string()));
        if let Err(error) = &parsed {
            info!(error, path = BTF_PATH, "no kernel types: sockets and drops are not watched");
        }
        let parsed = parsed.ok();
        let reasons = parsed.as_ref().map(|btf| Reasons::new(&btf.enumerators("skb_drop_reason")));
        Self { offsets: Offsets::new(parsed.as_ref(), own_netns, scoped), reasons: reasons.unwrap_or_default() }
    }
}

/// Every entry of a map. Nothing of it is kept.
fn all<K: FromBytes + Copy, V: FromBytes + Copy>(map: &MapData) -> Result<Vec<(K, V)>, KernelError> {
    let mut batch = Batch::default();
    let mut reading = batch.read(map.fd().as_fd());
    let entries = reading.by_ref().collect();
    reading.end().map_err(KernelError::Batch)?;
    Ok(entries)
}

/// The facts' maps, and which hooks fill them.
pub struct Facts {
    sockets: MapData,
    drops: MapData,
    scope: aya::maps::HashMap<MapData, u32, u8>,
    in_scope: HashSet<u32>,
    hooks: Vec<Hook>,
    /// The programs behind them.
    programs: Vec<OwnedFd>,
}

impl Facts {
    /// Takes the maps and attaches the hooks; `form` allows one form only. A fact that no hook tells is off, and says so.
    ///
    /// # Errors
    /// When the object is not what it should be.
    pub fn start(ebpf: &mut Ebpf, types: &Types, form: Option<Form>) -> Result<Self, KernelError> {
        let mut take = |name| ebpf.take_map(name).ok_or(KernelError::Missing { name });
        let (Map::HashMap(sockets), Map::HashMap(drops)) = (take(maps::SOCKETS)?, take(maps::DROPS)?) else {
            return Err(KernelError::Missing { name: maps::SOCKETS });
        };
        let wrong = |name| move |source| KernelError::Map { name, source: Box::new(source) };
        let scope = take(maps::SCOPE)?.try_into().map_err(wrong(maps::SCOPE))?;
        let mut noise: Array<_, u8> = take(maps::DROP_NOISE)?.try_into().map_err(wrong(maps::DROP_NOISE))?;
        for reason in types.reasons.noise() {
            noise.set(reason, 1, 0).map_err(wrong(maps::DROP_NOISE))?;
        }
        let mut facts =
            Self { sockets, drops, scope, in_scope: HashSet::new(), hooks: Vec::new(), programs: Vec::new() };
        let btf = Btf::from_sys_fs().ok();
        for fact in Fact::ALL {
            let hook = match types.offsets.missing(fact) {
                Some(why) => none(fact, why.to_owned()),
                None if fact == Fact::Owner => facts.owner(),
                None => {
                    let (hook, program) = first_granted(ebpf, btf.as_ref(), fact, form);
                    facts.programs.extend(program);
                    hook
                }
            };
            info!(fact = hook.fact, form = hook.form, refused = hook.refused, "fact");
            facts.hooks.push(hook);
        }
        Ok(facts)
    }

    /// Owners come by the hook of the connections.
    fn owner(&self) -> Hook {
        let by = self.hooks.iter().find(|hook| hook.fact == Fact::Connect.label());
        let form = by.map_or_else(|| "none".to_owned(), |hook| hook.form.clone());
        Hook { fact: Fact::Owner.label().to_owned(), form, refused: String::new() }
    }

    /// Which fact comes by which hook.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// How often a hook was due while its program ran on the same CPU already: a fact is missing for each.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.programs.iter().filter_map(|program| hook::missed(program.as_fd()).ok()).sum()
    }

    /// Makes these namespaces the agent's, and no others.
    ///
    /// # Errors
    /// What the kernel answered, when it refused.
    pub fn set_scope(&mut self, inodes: HashSet<u32>) -> Result<(), KernelError> {
        let wrong = |source| KernelError::Map { name: maps::SCOPE, source: Box::new(source) };
        for gone in self.in_scope.difference(&inodes) {
            let _ = self.scope.remove(gone);
        }
        for new in inodes.difference(&self.in_scope) {
            self.scope.insert(new, 1, 0).map_err(wrong)?;
        }
        self.in_scope = inodes;
        Ok(())
    }

    /// Namespaces that can be in scope.
    #[must_use]
    pub fn scope_limit() -> usize {
        MAX_SCOPE as usize
    }

    /// Reads what sockets did.
    ///
    /// # Errors
    /// What the kernel answered, when it refused.
    pub fn sockets(&self) -> Result<Vec<(SocketKey, SocketTotals)>, KernelError> {
        all(&self.sockets)
    }

    /// Reads what was dropped.
    ///
    /// # Errors
    /// What the kernel answered, when it refused.
    pub fn drops(&self) -> Result<Vec<(DropKey, DropTotals)>, KernelError> {
        all(&self.drops)
    }

    /// Removes entries that have been idle for long. What a program adds in that instant is lost.
    ///
    /// # Errors
    /// What the kernel answered, when it refused.
    pub fn forget(&self, sockets: &[SocketKey], drops: &[DropKey]) -> Result<(), KernelError> {
        for key in sockets {
            batch::take::<_, SocketTotals>(self.sockets.fd().as_fd(), key).map_err(KernelError::Batch)?;
        }
        for key in drops {
            batch::take::<_, DropTotals>(self.drops.fd().as_fd(), key).map_err(KernelError::Batch)?;
        }
        Ok(())
    }
}

fn none(fact: Fact, refused: String) -> Hook {
    Hook { fact: fact.label().to_owned(), form: "none".to_owned(), refused }
}

/// Tries the ways to a fact, in their order, and keeps the first that is granted.
fn first_granted(ebpf: &mut Ebpf, btf: Option<&Btf>, fact: Fact, form: Option<Form>) -> (Hook, Option<OwnedFd>) {
    let mut refusals = Vec::new();
    for (of, program, target) in ways(fact).iter().filter(|(of, ..)| form.is_none_or(|only| only == *of)) {
        match attach(ebpf, btf, *of, program, target) {
            Ok(()) => {
                let refused = bounded(refusals.join("; "), wire::limits::MAX_TEXT_BYTES);
                let fd = ebpf.program(program).and_then(|program| program.fd().ok()?.as_fd().try_clone_to_owned().ok());
                return (Hook { fact: fact.label().to_owned(), form: of.label().to_owned(), refused }, fd);
            }
            Err(why) => refusals.push(format!("{} on {target}: {}", of.label(), bounded(why, MAX_REFUSAL_BYTES))),
        }
    }
    (none(fact, bounded(refusals.join("; "), wire::limits::MAX_TEXT_BYTES)), None)
}

fn attach(ebpf: &mut Ebpf, btf: Option<&Btf>, form: Form, name: &str, target: &str) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or_else(|| "not in this eBPF object".to_owned())?;
    let no_types = || "the kernel has no BTF".to_owned();
    match form {
        Form::TpBtf => as_program::<BtfTracePoint>(program, |program| {
            program.load(target, btf.ok_or_else(no_types)?).map_err(words)?;
            program.attach().map(drop).map_err(words)
        }),
        Form::RawTracepoint => as_program::<RawTracePoint>(program, |program| {
            program.load().map_err(words)?;
            program.attach(target).map(drop).map_err(words)
        }),
        Form::Tracepoint => as_program::<TracePoint>(program, |program| {
            let (category, name) = target.split_once('/').unwrap_or_default();
            program.load().map_err(words)?;
            program.attach(category, name).map(drop).map_err(words)
        }),
        Form::Fentry => as_program::<FEntry>(program, |program| {
            program.load(target, btf.ok_or_else(no_types)?).map_err(words)?;
            program.attach().map(drop).map_err(words)
        }),
        Form::Kprobe => as_program::<KProbe>(program, |program| {
            program.load().map_err(words)?;
            program.attach(target, 0).map(drop).map_err(words)
        }),
    }
}

fn as_program<'a, P: 'a>(
    program: &'a mut Program,
    attach: impl FnOnce(&mut P) -> Result<(), String>,
) -> Result<(), String>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    attach(program.try_into().map_err(words)?)
}

/// The kernel's answer without the verifier's log, which is long.
fn words(error: ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = &error {
        debug!(%verifier_log, "program refused");
        return format!("load: {io_error}");
    }
    format!("{:#}", anyhow::Error::from(error))
}

fn bounded(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}
