//! What this kernel grants: every form of hook that the kernel side may take, tried with a program of two instructions
//! and no help from any library, so that the answer is the kernel's alone.

mod btf;
mod calls;

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::Command;

use self::btf::Kind;
use self::calls::PerfEvent;
use crate::bpf::{self, Attach, Load, SCHED_CLS, TCX_INGRESS};
use crate::{cgroup, clsact};

// Numbers of include/uapi/linux/bpf.h: program types, then attach types, then map types.
const KPROBE: u32 = 2;
const TRACEPOINT: u32 = 5;
const CGROUP_SKB: u32 = 8;
const SOCK_OPS: u32 = 13;
const RAW_TRACEPOINT: u32 = 17;
const TRACING: u32 = 26;
const CGROUP_INGRESS: u32 = 0;
const CGROUP_SOCK_OPS: u32 = 3;
const TRACE_RAW_TP: u32 = 23;
const TRACE_FENTRY: u32 = 24;
const TRACE_FEXIT: u32 = 25;
const RING_BUFFER: u32 = 27;

/// The function that probes are put on.
const FUNCTION: &str = "tcp_connect";

/// One form: its name, and how it is tried.
type Form = (&'static str, fn() -> io::Result<()>);

/// Every form, the preferred first.
const FORMS: [Form; 13] = [
    ("tcx", tcx),
    ("clsact", || in_namespace(filter)),
    ("cgroup_skb", || on_cgroup(CGROUP_SKB, CGROUP_INGRESS)),
    ("sock_ops", || on_cgroup(SOCK_OPS, CGROUP_SOCK_OPS)),
    ("tp_btf", || tracing(TRACE_RAW_TP, Kind::Typedef, "btf_trace_kfree_skb")),
    ("raw_tp", || {
        let program = Load::new(RAW_TRACEPOINT).load()?;
        calls::open_raw_tracepoint(&program, Some(c"kfree_skb")).map(drop)
    }),
    ("tracepoint", tracepoint),
    ("fentry", || tracing(TRACE_FENTRY, Kind::Function, FUNCTION)),
    ("fexit", || tracing(TRACE_FEXIT, Kind::Function, FUNCTION)),
    ("kprobe", || probe(false)),
    ("kretprobe", || probe(true)),
    ("ring buffer", || bpf::make_map(RING_BUFFER, 0, 0, 1 << 16).map(drop)),
    ("batch look-up", calls::batch_look_up),
];

/// Tries every form; each leaves nothing behind.
pub fn try_all() -> Vec<(&'static str, io::Result<()>)> {
    // Up to 5.10 a ring needs more locked memory than the usual limit; the agent lifts it too.
    calls::unlimit_locked_memory();
    FORMS.iter().map(|(name, attempt)| (*name, attempt())).collect()
}

/// The name of an error number, as manuals have it.
pub fn errno(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| format!("{:?}", nix::errno::Errno::from_raw(code)))
}

/// Runs `work` in a network namespace of its own, on a thread that ends with it.
fn in_namespace(work: impl FnOnce(u32) -> io::Result<()> + Send) -> io::Result<()> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            work(nix::net::if_::if_nametoindex("lo")?)
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn tcx() -> io::Result<()> {
    in_namespace(|lo| {
        let program = Load::new(SCHED_CLS).load()?;
        bpf::link(&program, &Attach { target: lo, kind: TCX_INGRESS, flags: 0 }).map(drop)
    })
}

fn filter(lo: u32) -> io::Result<()> {
    clsact::qdisc(lo)?;
    clsact::put(lo, clsact::Place::default(), "orrery", &Load::new(SCHED_CLS).load()?)
}

fn on_cgroup(program: u32, kind: u32) -> io::Result<()> {
    let root = cgroup::hierarchy().ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    let path: PathBuf = root.join(format!("orrery-hooks-{}", std::process::id()));
    std::fs::create_dir_all(&path)?;
    let attempt = || {
        let folder = std::fs::File::open(&path)?;
        let program = Load { expected: kind, ..Load::new(program) }.load()?;
        bpf::link(&program, &Attach { target: folder.as_raw_fd().cast_unsigned(), kind, flags: 0 }).map(drop)
    };
    let outcome = attempt();
    cgroup::remove_tree(&path);
    outcome
}

fn tracing(expected: u32, kind: Kind, name: &str) -> io::Result<()> {
    let btf_id = btf::id_of(kind, name)?;
    let program = Load { expected, btf_id, ..Load::new(TRACING) }.load()?;
    calls::open_raw_tracepoint(&program, None).map(drop)
}

fn tracepoint() -> io::Result<()> {
    let id = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .find_map(|at| std::fs::read_to_string(format!("{at}/events/sock/inet_sock_set_state/id")).ok());
    // A machine that has not mounted it has it all the same.
    let id = match id {
        Some(id) => id,
        None => with_tracefs(|at| std::fs::read_to_string(format!("{at}/events/sock/inet_sock_set_state/id")))?,
    };
    let config = id.trim().parse().map_err(io::Error::other)?;
    let program = Load::new(TRACEPOINT).load()?;
    calls::on_perf_event(&program, PerfEvent { kind: calls::PERF_TYPE_TRACEPOINT, config, function: None })
}

/// Runs `work` with tracefs mounted at a place of its own.
fn with_tracefs<T>(work: impl FnOnce(&str) -> io::Result<T>) -> io::Result<T> {
    let at = std::env::temp_dir().join(format!("orrery-tracefs-{}", std::process::id()));
    std::fs::create_dir_all(&at)?;
    let text = at.to_string_lossy().into_owned();
    let mounted = Command::new("mount").args(["-t", "tracefs", "tracefs", &text]).status()?;
    let outcome = if mounted.success() { work(&text) } else { Err(io::Error::from_raw_os_error(libc::ENODEV)) };
    if mounted.success() {
        let _ = Command::new("umount").arg(&text).status();
    }
    let _ = std::fs::remove_dir(&at);
    outcome
}

fn probe(at_return: bool) -> io::Result<()> {
    // Without the unit of this name the kernel was built without kprobes.
    let kind = std::fs::read_to_string("/sys/bus/event_source/devices/kprobe/type")?;
    let kind = kind.trim().parse().map_err(io::Error::other)?;
    let function = std::ffi::CString::new(FUNCTION).map_err(io::Error::other)?;
    let program = Load::new(KPROBE).load()?;
    calls::on_perf_event(&program, PerfEvent { kind, config: u64::from(at_return), function: Some(&function) })
}
