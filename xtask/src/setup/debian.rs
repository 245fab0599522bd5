//! Debian packages, found missing by the commands they give, installed in one go.
//! On a system without apt, or without root and sudo, it only says what is missing.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{step, sys};

/// Something the project runs, and the Debian package that brings it.
pub(super) struct Need {
    /// The command looked for.
    pub(super) command: &'static str,
    /// Debian's package.
    pub(super) package: &'static str,
    /// What it is used for, told where it cannot be installed.
    pub(super) why: &'static str,
}

/// What the demo needs to build its programs and its nodes.
pub(super) const DEMO: &[Need] = &[
    need("cc", "gcc", "to link Rust programs"),
    need("ip", "iproute2", "to make the lab's namespaces and links"),
    need("nft", "nftables", "for the lab's dropping link and its counters"),
    need("ethtool", "ethtool", "to switch the lab's offloads"),
    need("dnsmasq", "dnsmasq-base", "as the lab's DNS server"),
];

/// What the tests need beyond the demo.
pub(super) const TEST: &[Need] = &[
    need("chromium", "chromium", "for the end-to-end test in a browser"),
    need("kubectl", "kubernetes-client", "to build the manifests as a user would"),
    need("valgrind", "valgrind", "to count instructions"),
];

/// What only the fuzzer needs.
pub(super) const FUZZ: &[Need] =
    &[need("cc", "gcc", "to link Rust programs"), need("c++", "g++", "to compile libFuzzer's engine")];

/// What only images need.
pub(super) const IMAGE: &[Need] = &[
    need("buildah", "buildah", "to build images"),
    need("podman", "podman", "to run them"),
    need("runc", "runc", "to run them"),
    need("readelf", "binutils", "to see that a program is static"),
];

const fn need(command: &'static str, package: &'static str, why: &'static str) -> Need {
    Need { command, package, why }
}

/// The machine's apt; its lists are brought up to date at most once a run.
#[derive(Default)]
pub(crate) struct Apt {
    updated: bool,
}

impl Apt {
    /// Whether this system has apt at all.
    pub(crate) fn exists() -> bool {
        sys::which("apt-get").is_some() && sys::which("dpkg-deb").is_some()
    }

    /// Brings the package lists up to date, once.
    pub(crate) fn update(&mut self) -> anyhow::Result<()> {
        if self.updated {
            return Ok(());
        }
        let mut command = apt_get().context("apt-get update needs root or sudo")?;
        step::run("debian", "apt-get update", command.args(["update", "-q"]))?;
        self.updated = true;
        Ok(())
    }

    /// Installs packages, without what they merely recommend.
    pub(crate) fn install(&mut self, packages: &[&str]) -> anyhow::Result<()> {
        self.update()?;
        let mut command = apt_get().context("apt-get install needs root or sudo")?;
        command.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
        step::run("debian", &format!("apt-get install {}", packages.join(" ")), &mut command)
    }
}

/// `apt-get` as root, asking nothing.
fn apt_get() -> Option<Command> {
    let mut command = sys::as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    Some(command)
}

/// Installs what of `needs` is missing.
pub(super) fn ensure(apt: &mut Apt, needs: &[&Need]) -> anyhow::Result<()> {
    let missing: Vec<&Need> = needs.iter().copied().filter(|need| sys::which(need.command).is_none()).collect();
    if missing.is_empty() {
        let commands: Vec<_> = needs.iter().map(|need| need.command).collect();
        step::say("debian", &format!("present: {}", commands.join(" ")));
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !Apt::exists() || apt_get().is_none() {
        bail!("{}", explain(&missing, &packages));
    }
    apt.install(&packages)?;
    // A package that no longer brings its command would otherwise be installed again on every run.
    for need in missing {
        if sys::which(need.command).is_none() {
            bail!("Debian's package {} did not bring the command: {}", need.package, need.command);
        }
    }
    Ok(())
}

/// The list a person needs who must install things without us.
fn explain(missing: &[&Need], packages: &[&str]) -> String {
    let mut text = String::from("these commands are missing, and set-up cannot install them here:\n");
    for need in missing {
        text.push_str(&format!("  {:<10} {}\n", need.command, need.why));
    }
    let reason = if Apt::exists() { "as root" } else { "on Debian; your system names them alike" };
    text.push_str(&format!("hint: {reason}: apt-get install --no-install-recommends {}", packages.join(" ")));
    text
}

#[cfg(test)]
mod tests {
    use super::{DEMO, IMAGE, TEST, explain};

    #[test]
    fn the_explanation_names_each_command_and_each_package() {
        let missing: Vec<_> = DEMO.iter().chain(TEST).chain(IMAGE).collect();
        let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
        let text = explain(&missing, &packages);
        for need in missing {
            assert!(text.contains(need.command), "{text}");
            assert!(text.contains(need.package), "{text}");
        }
    }
}
