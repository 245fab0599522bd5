//! Children of the lab: started in a namespace, logged to files, and never outliving their parent.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Result};
use crate::sys::wait_for;

/// How long a child may take to end when asked to.
const END_WAIT: Duration = Duration::from_secs(20);

/// Where and how a child is to live.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// The network namespace.
    pub(crate) netns: Option<File>,
    /// A file that stands at `/etc/resolv.conf` for this child.
    pub(crate) resolver: Option<PathBuf>,
    /// The cgroup's directory.
    pub(crate) cgroup: Option<PathBuf>,
}

type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);

/// The one thread that forks. "Kill me when my parent dies" means the parent *thread*: this one lives as long as the lab.
#[derive(Debug)]
pub(crate) struct Spawner {
    orders: Mutex<mpsc::SyncSender<Order>>,
}

impl Spawner {
    pub(crate) fn start() -> Self {
        let (orders, inbox) = mpsc::sync_channel::<Order>(1);
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Self { orders: Mutex::new(orders) }
    }

    /// Starts `command` in its home, with its output in `log`.
    pub(crate) fn spawn(&self, mut command: Command, home: Home, log: &Path) -> Result<Process> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output =
            File::options().create(true).append(true).open(log).context(|| format!("open {}", log.display()))?;
        let errors = output.try_clone().context(|| format!("open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        settle(&mut command, home)?;
        let (answer, result) = mpsc::sync_channel(1);
        let closed = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send((command, answer))
            .map_err(|_| closed())
            .context(|| format!("start {name}"))?;
        let child = result.recv().map_err(|_| closed()).and_then(|child| child).context(|| format!("start {name}"))?;
        Ok(Process { pid: child.id(), name, log: log.to_owned(), child: Mutex::new(child) })
    }
}

/// Everything between fork and exec. What allocates is done here, before the fork.
fn settle(command: &mut Command, home: Home) -> Result<()> {
    let procs = home.cgroup.map(|dir| dir.join("cgroup.procs"));
    let procs = match procs {
        Some(path) => Some(File::options().write(true).open(&path).context(|| format!("open {}", path.display()))?),
        None => None,
    };
    let resolver = match home.resolver.filter(|_| Path::new("/etc/resolv.conf").exists()) {
        Some(path) => Some(
            CString::new(path.into_os_string().into_encoded_bytes())
                .map_err(std::io::Error::from)
                .context(|| "name the resolver file".to_owned())?,
        ),
        None => None,
    };
    let netns = home.netns;
    let parent = std::process::id().cast_signed();
    let prepare = move || {
        // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal number and touches no memory.
        nix::errno::Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // The parent may have died before the line above.
        if nix::unistd::getppid().as_raw() != parent {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        // Whoever waits for signals blocks them; a child would inherit that, and never hear of SIGTERM.
        SigSet::empty().thread_set_mask()?;
        if let Some(procs) = &procs {
            (&*procs).write_all(b"0")?;
        }
        if let Some(netns) = &netns {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
        }
        if let Some(resolver) = &resolver {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            // SAFETY: all arguments are NUL-terminated strings that live past the calls, or null where mount(2) allows it.
            unsafe {
                nix::errno::Errno::result(libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    flags,
                    std::ptr::null(),
                ))?;
                nix::errno::Errno::result(libc::mount(
                    resolver.as_ptr(),
                    c"/etc/resolv.conf".as_ptr(),
                    std::ptr::null(),
                    libc::MS_BIND,
                    std::ptr::null(),
                ))?;
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it does not allocate and takes no lock.
    unsafe { command.pre_exec(prepare) };
    Ok(())
}

/// A running child of the lab.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    name: String,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where its output went.
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its exit, if it ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Sends a signal, unless it ended already.
    pub fn signal(&self, signal: Signal) {
        // The child is reaped under this lock only, so the pid cannot belong to another process.
        if matches!(self.child().try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
        }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child().wait();
    }

    /// Asks it to end, and waits.
    pub fn terminate(&self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        wait_for(&format!("{} ends on SIGTERM", self.name), END_WAIT, || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::{Home, SigSet, Signal, Spawner};
    use std::process::Command;

    /// A spawner whose thread inherited a blocked SIGTERM, as one has beside [`crate::Stop`].
    fn blocked_spawner() -> Spawner {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.thread_block().expect("blocked");
        let spawner = Spawner::start();
        set.thread_unblock().expect("unblocked");
        spawner
    }

    #[test]
    fn a_child_hears_sigterm() {
        let log = std::env::temp_dir().join(format!("orrery-spawn-{}.log", std::process::id()));
        let mut command = Command::new("sleep");
        command.arg("60");
        // Kept to the end: its thread is the parent whose end kills the child.
        let spawner = blocked_spawner();
        let child = spawner.spawn(command, Home::default(), &log).expect("it starts");
        let status = child.terminate().expect("it ends");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGTERM as i32));
        std::fs::remove_file(&log).expect("removed");
    }

    #[test]
    fn a_child_is_logged_and_ends_with_its_handle() {
        let dir = std::env::temp_dir().join(format!("orrery-spawn-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a scratch directory");
        let spawner = Spawner::start();
        let mut command = Command::new("sh");
        command.args(["-c", "echo hello; exec sleep 60"]);
        let child = spawner.spawn(command, Home::default(), &dir.join("log")).expect("it starts");
        let pid = child.pid();
        crate::sys::wait_for("the greeting", std::time::Duration::from_secs(5), || {
            std::fs::read_to_string(dir.join("log")).ok().filter(|text| text == "hello\n")
        })
        .expect("it is logged");
        drop(child);
        assert_eq!(crate::sys::process(pid), None);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
