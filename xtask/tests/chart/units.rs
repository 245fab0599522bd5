//! The systemd units: systemd itself reads them, their programs know what they are told, and the token is where each looks.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::manifests::root;

const UNITS: [&str; 2] = ["orrery-agent.service", "orrery-collector.service"];
const DROP_IN: &str = "orrery-collector.names.conf";

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn unit(name: &str) -> String {
    text(&root().join("deploy").join(name))
}

/// What `systemd-analyze` has to say of a unit with its drop-in. It looks whether the program is there, which only an
/// installation has: another one stands in for it.
fn analyze(verb: &[&str], name: &str) -> Option<(bool, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let there = unit(name).replace("=/usr/local/bin/", "=/bin/true --as=");
    fs::write(folder.path().join(name), there).expect("write");
    if name.contains("collector") {
        let more = folder.path().join(format!("{name}.d"));
        fs::create_dir(&more).expect("a folder");
        fs::write(more.join("names.conf"), unit(DROP_IN)).expect("write");
    }
    let mut command = Command::new("systemd-analyze");
    let output = match command.args(verb).arg(folder.path().join(name)).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: there is no systemd-analyze here");
            return None;
        }
        Err(error) => panic!("systemd-analyze: {error}"),
    };
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((output.status.success(), said))
}

#[test]
fn systemd_takes_the_units_as_they_are() {
    for name in UNITS {
        // It ends well even where it passes over a line that it does not know: whatever it says of a unit is too much.
        let Some((well, said)) = analyze(&["verify", "--man=no"], name) else { return };
        let of_ours: Vec<_> = said.lines().filter(|line| line.contains("orrery")).collect();
        assert!(well && of_ours.is_empty(), "{name}: {said}");
    }
}

/// The most that `systemd-analyze security` finds exposed, of 10: what the agent needs, and hardly anything for the collector.
#[test]
fn the_units_expose_no_more_than_they_have_to() {
    for (name, most) in [("orrery-agent.service", "55"), ("orrery-collector.service", "35")] {
        let verb = ["security", "--offline=true", "--no-pager", &format!("--threshold={most}")];
        let Some((well, said)) = analyze(&verb, name) else { return };
        assert!(well, "{name} is above {most} of 100: {}", said.lines().last().unwrap_or_default());
    }
}

#[test]
fn each_variable_that_deploy_names_is_one_of_its_program() {
    let known: BTreeSet<String> =
        ["agent/src/config.rs", "collector/src/config.rs", "collector/src/config/security.rs"]
            .iter()
            .flat_map(|path| variables(&text(&root().join(path)), "env = \""))
            .collect();
    assert!(known.contains("ORRERY_TOKEN_FILE") && known.contains("ORRERY_REPORT_TOKEN_FILE"), "{known:?}");
    let mut named = BTreeSet::new();
    for path in UNITS.into_iter().chain([DROP_IN, "README.md", "kubernetes/orrery.yaml"]) {
        named.extend(variables(&unit(path), ""));
    }
    for entry in fs::read_dir(root().join("deploy/helm/orrery/templates")).expect("templates").flatten() {
        named.extend(variables(&text(&entry.path()), ""));
    }
    assert!(named.len() > 20, "{named:?}");
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "no program knows these: {unknown:?}");
}

/// The names of Orrery's own variables behind `before`.
fn variables(text: &str, before: &str) -> Vec<String> {
    let wanted = format!("{before}ORRERY_");
    let parts = text.match_indices(&wanted).map(|(at, _)| &text[at + before.len()..]);
    let end =
        |part: &str| part.find(|letter: char| !letter.is_ascii_uppercase() && letter != '_').unwrap_or(part.len());
    parts.map(|part| part[..end(part)].to_owned()).collect()
}

/// The report port of a collector on another machine is refused without credentials: both ends have the same file, and the
/// collector's user, who is made when it starts, gets it from systemd.
#[test]
fn both_units_hold_the_token_of_the_report_port() {
    let file = "/etc/orrery/agents.token";
    assert!(unit("orrery-agent.service").contains(&format!("\nEnvironment=ORRERY_TOKEN_FILE={file}\n")));
    let collector = unit("orrery-collector.service");
    assert!(collector.contains("\nDynamicUser=yes\n"));
    for (text, id, path, variable) in [
        (collector, "agents.token", file, "ORRERY_REPORT_TOKEN_FILE"),
        (unit(DROP_IN), "kubeconfig", "/etc/orrery/kubeconfig", "ORRERY_KUBECONFIG"),
    ] {
        assert!(text.contains(&format!("\nLoadCredential={id}:{path}\n")), "{text}");
        assert!(text.contains(&format!("\nEnvironment={variable}=%d/{id}\n")), "{text}");
        assert!(unit("README.md").contains(path), "{path} is not in the steps");
    }
}
