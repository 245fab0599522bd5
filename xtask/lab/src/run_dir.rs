//! The run directory: who owns a lab, what it made, and how all of it goes away, also when its owner died.
//!
//! A lab is `/run/orrery-lab/<id>/`; its `owner` file is locked (flock) for as long as its owner lives. Everything else that
//! a lab makes carries the id in its name or is written down there, so whoever gets the lock can remove the rest.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup;
use crate::error::{Context, Result};
use crate::sys::{process, wait_for};

const ROOT: &str = "/run/orrery-lab";

/// What `reap` removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reaped {
    /// Labs without a living owner.
    pub labs: usize,
    /// Network namespaces.
    pub namespaces: usize,
    /// Processes.
    pub processes: usize,
}

/// A lab's directory, held by its living owner.
#[derive(Debug)]
pub(crate) struct RunDir {
    id: String,
    path: PathBuf,
    owner: Option<Flock<File>>,
    janitor: Option<Child>,
}

impl RunDir {
    /// Reaps the dead, then takes a fresh directory. `janitor` is the binary that watches over us: when we die without
    /// cleaning up (SIGKILL, abort), it does.
    pub(crate) fn create(janitor: &Path) -> Result<Self> {
        reap()?;
        let _global = global_lock()?;
        let pid = std::process::id();
        let free = |n: u32| {
            let id = if n == 0 { format!("{pid:x}") } else { format!("{pid:x}.{n}") };
            let path = Path::new(ROOT).join(&id);
            std::fs::create_dir(&path).is_ok().then_some((id, path))
        };
        let (id, path) = (0..1000)
            .find_map(free)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::AlreadyExists))
            .context(|| format!("make a run directory in {ROOT}"))?;
        let owner = lock(&path.join("owner"), FlockArg::LockExclusiveNonblock)?;
        let janitor = Command::new(janitor)
            .args(["janitor", &id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(|| format!("start {}", janitor.display()))?;
        Ok(Self { id, path, owner: Some(owner), janitor: Some(janitor) })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a process down, so that a successor can end it.
    pub(crate) fn record(&self, pid: u32) -> Result<()> {
        let start = process(pid).map_or(0, |(_, start)| start);
        let path = self.path.join("processes");
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).context(|| format!("open {}", path.display()))?;
        writeln!(file, "{pid} {start}").context(|| format!("write {}", path.display()))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        remove(&self.id, &mut Reaped::default());
        drop(self.owner.take());
        if let Some(mut janitor) = self.janitor.take() {
            // It gets the lock now, finds nothing to do, and ends.
            let _ = janitor.wait();
        }
    }
}

/// Removes every lab whose owner is dead.
pub fn reap() -> Result<Reaped> {
    let _global = global_lock()?;
    let mut reaped = Reaped::default();
    let mut ids: Vec<String> = names_in(Path::new(ROOT)).into_iter().filter(|name| !name.starts_with('.')).collect();
    // Namespaces whose directory somebody removed are found by their name.
    ids.extend(
        names_in(Path::new("/run/netns"))
            .iter()
            .filter_map(|name| Some(name.strip_prefix("orrery-")?.split_once('-')?.0.to_owned())),
    );
    ids.sort();
    ids.dedup();
    for id in ids {
        let owner = Path::new(ROOT).join(&id).join("owner");
        if owner.exists() {
            let Ok(_lock) = lock(&owner, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            remove(&id, &mut reaped);
        } else {
            remove(&id, &mut reaped);
        }
        reaped.labs += 1;
    }
    Ok(reaped)
}

/// Waits until the owner of a lab is gone, and removes what it left. The body of `orrery-lab janitor`.
pub fn watch(id: &str) -> Result<()> {
    let owner = Path::new(ROOT).join(id).join("owner");
    let gone = lock(&owner, FlockArg::LockExclusive);
    if gone.is_ok() && owner.exists() {
        let _global = global_lock()?;
        remove(id, &mut Reaped::default());
    }
    Ok(())
}

/// Ends the processes, then removes namespaces (their devices go with them), cgroups and the directory. Goes on when a step
/// fails: what cannot be removed now is found by the next reap.
fn remove(id: &str, reaped: &mut Reaped) {
    let dir = Path::new(ROOT).join(id);
    let written = std::fs::read_to_string(dir.join("processes")).unwrap_or_default();
    for line in written.lines() {
        let Some((pid, start)) = line.split_once(' ') else {
            continue;
        };
        let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else {
            continue;
        };
        let alive = || process(pid).filter(|(state, began)| *state != 'Z' && *began == start);
        if start != 0 && alive().is_some() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            let _ = wait_for("a killed process to end", Duration::from_secs(2), || alive().is_none().then_some(()));
            reaped.processes += 1;
        }
    }
    let prefix = format!("orrery-{id}-");
    let namespaces: Vec<String> =
        names_in(Path::new("/run/netns")).into_iter().filter(|name| name.starts_with(&prefix)).collect();
    let lines: String = namespaces.iter().map(|name| format!("netns del {name}\n")).collect();
    if !namespaces.is_empty() {
        let _ = crate::sys::tool(Command::new("ip").args(["-force", "-batch", "-"]), &lines);
        reaped.namespaces += namespaces.len();
    }
    cgroup::remove(id);
    let _ = std::fs::remove_dir_all(&dir);
}

fn global_lock() -> Result<Flock<File>> {
    std::fs::create_dir_all(ROOT).context(|| format!("make {ROOT}"))?;
    lock(&Path::new(ROOT).join(".lock"), FlockArg::LockExclusive)
}

fn lock(path: &Path, how: FlockArg) -> Result<Flock<File>> {
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .context(|| format!("open {}", path.display()))?;
    Flock::lock(file, how).map_err(|(_, errno)| errno).context(|| format!("lock {}", path.display()))
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
