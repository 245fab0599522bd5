//! One machine from power-on to power-off: two serial lines into files, a time limit, and the verdict read from the
//! second line. A guest that panics ends QEMU with 0, so only an explicit result counts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::guest;
use super::kernels::Kernel;
use super::packages::{PrivateApt, folder};
use crate::sys;

/// The program.
const QEMU: &str = "qemu-system-x86_64";
/// Memory of a machine in MiB.
const MEMORY: &str = "1024";

/// A QEMU that is there to be started.
pub(super) struct Qemu {
    program: PathBuf,
    /// Where it was unpacked; installed when `None`.
    prefix: Option<PathBuf>,
    kvm: bool,
}

impl Qemu {
    /// The machine's own, else one unpacked below `target/`.
    pub(super) fn ensure() -> anyhow::Result<Self> {
        // Where the processor does not offer it, /dev/kvm opens all the same and the guest hangs.
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kvm = processor.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
            && std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
        if let Some(program) = sys::which(QEMU) {
            return Ok(Self { program, prefix: None, kvm });
        }
        let prefix = folder().join("qemu");
        let program = prefix.join("usr/bin").join(QEMU);
        if !program.is_file() {
            PrivateApt::open()?.unpack_with_dependencies("qemu-system-x86", &prefix)?;
        }
        if !program.is_file() {
            bail!("find {QEMU} in {}; hint: apt-get install qemu-system-x86", prefix.display());
        }
        Ok(Self { program, prefix: Some(prefix), kvm })
    }

    /// Whether it plays the processor itself, which takes some ten times as long.
    pub(super) fn emulates(&self) -> bool {
        !self.kvm
    }

    /// How guests run here, in a word.
    pub(super) fn accelerator(&self) -> &'static str {
        if self.kvm { "kvm" } else { "tcg" }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(prefix) = &self.prefix {
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|part| prefix.join(part));
            command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap_or_default());
            for part in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(prefix.join(part));
            }
        }
        let accelerator: &[&str] =
            if self.kvm { &["-accel", "kvm", "-cpu", "host"] } else { &["-accel", "tcg,thread=multi", "-cpu", "max"] };
        command.args(accelerator).args(["-M", "q35", "-smp", "2", "-m", MEMORY]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        command
    }

    /// Boots a kernel on an initramfs, and waits for its result at most `limit` long.
    pub(super) fn run(&self, kernel: &Kernel, initramfs: &Path, limit: Duration) -> anyhow::Result<Outcome> {
        let at = folder().join("runs").join(&kernel.series);
        std::fs::create_dir_all(&at).with_context(|| format!("create {}", at.display()))?;
        let (console, result) = (at.join("console.log"), at.join("result.log"));
        for log in [&console, &result] {
            std::fs::write(log, "").with_context(|| format!("empty {}", log.display()))?;
        }
        let line = format!(
            "console=ttyS0 panic=-1 oops=panic mitigations=off audit=0 rdinit={} -- {}",
            guest::PROGRAM,
            guest::ARGUMENT
        );
        let mut command = self.command();
        command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs).arg("-append").arg(line);
        for log in [&console, &result] {
            command.arg("-serial").arg(format!("file:{}", log.display()));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;
        let in_time = loop {
            if child.try_wait().context("wait for QEMU")?.is_some() {
                break true;
            }
            if started.elapsed() > limit {
                child.kill().context("end QEMU")?;
                child.wait().context("wait for QEMU")?;
                break false;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).replace('\r', "");
        let said = read(&result);
        let verdict = match said.lines().find_map(|line| line.strip_prefix(guest::RESULT)) {
            _ if !in_time => Err(format!("no result within {} s", limit.as_secs())),
            Some(text) if text.trim() == guest::PASSED => Ok(()),
            Some(text) => Err(text.trim().to_owned()),
            None => Err(format!("the machine ended without a result; its last words are in {}", console.display())),
        };
        Ok(Outcome { said, verdict, took: started.elapsed(), console: read(&console) })
    }
}

/// What a machine said.
pub(super) struct Outcome {
    /// The second serial line.
    pub(super) said: String,
    /// Whether all passed, else why not.
    pub(super) verdict: Result<(), String>,
    /// From power-on to power-off.
    pub(super) took: Duration,
    /// The kernel's own messages.
    pub(super) console: String,
}
