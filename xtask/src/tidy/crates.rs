//! What `deny.toml` says of dependencies, held against `cargo metadata`: licences, sources, crates that are banned and those of
//! which there may be one version. cargo-deny says more where it is installed; it takes minutes to compile, and this nothing.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::sys;

/// The one registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None of a crate of ours.
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

/// What `deny.toml` says, as far as it is looked at here.
#[derive(Debug, Default, PartialEq)]
struct Rules {
    licences: Vec<String>,
    /// A crate, and what it may have beside those.
    exceptions: Vec<(String, Vec<String>)>,
    banned: Vec<String>,
    single: Vec<String>,
}

/// Asks cargo, and complains.
pub(super) fn check() -> anyhow::Result<Vec<String>> {
    let path = sys::root().join("deny.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut command = sys::cargo();
    // What is compiled for Linux, and nothing that has to be fetched for other systems.
    command.args(["metadata", "--locked", "--format-version", "1", "--all-features"]);
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = command.output().context("start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("read what cargo metadata says")?;
    Ok(complaints(&read(&text)?, &metadata.packages))
}

fn complaints(rules: &Rules, packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        let Package { name, version, license, source, dependencies } = package;
        let Some(source) = source else {
            let wild = dependencies.iter().filter(|of| of.req == "*" && of.path.is_none());
            found.extend(wild.map(|of| format!("{name} takes any version of {}", of.name)));
            continue;
        };
        versions.entry(name).or_default().push(version);
        if source != REGISTRY {
            found.push(format!("{name} {version} comes from {source}"));
        }
        let extra = rules.exceptions.iter().find(|(of, _)| of == name).map_or(&[][..], |(_, licences)| licences);
        match license {
            Some(text) if allowed(text, &|licence| rules.licences.iter().chain(extra).any(|of| of == licence)) => {}
            Some(text) => found.push(format!("{name} {version} is licensed as {text}, which deny.toml does not allow")),
            None => found.push(format!("{name} {version} says no licence")),
        }
        if rules.banned.contains(name) {
            found.push(format!("{name} {version} is banned by deny.toml"));
        }
    }
    let several = rules.single.iter().filter_map(|name| Some((name, versions.get(name.as_str())?)));
    let several = several.filter(|(_, versions)| versions.len() > 1);
    found.extend(several.map(|(name, versions)| format!("{name} is there more than once: {}", versions.join(" "))));
    found
}

/// Whether a licence's expression can be met: `A OR B`, `A AND B`, `A WITH B`, parentheses, and the old `A/B`.
fn allowed(expression: &str, allow: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any(&mut rest, allow);
    met == Some(true) && rest.is_empty()
}

fn any(rest: &mut &[&str], allow: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut met = all(rest, allow)?;
    while let Some((&"OR", after)) = rest.split_first() {
        *rest = after;
        met |= all(rest, allow)?;
    }
    Some(met)
}

fn all(rest: &mut &[&str], allow: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut met = one(rest, allow)?;
    while let Some((&"AND", after)) = rest.split_first() {
        *rest = after;
        met &= one(rest, allow)?;
    }
    Some(met)
}

fn one(rest: &mut &[&str], allow: &dyn Fn(&str) -> bool) -> Option<bool> {
    let (word, after) = rest.split_first()?;
    *rest = after;
    if *word == "(" {
        let met = any(rest, allow)?;
        let (close, after) = rest.split_first()?;
        *rest = after;
        return (*close == ")").then_some(met);
    }
    if let [with, exception, after @ ..] = *rest
        && *with == "WITH"
    {
        *rest = after;
        return Some(allow(&format!("{word} WITH {exception}")));
    }
    Some(allow(word))
}

/// The lists of `deny.toml`: of TOML no more than they are written in.
fn read(text: &str) -> anyhow::Result<Rules> {
    let (mut rules, mut section, mut list) = (Rules::default(), "", "");
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).filter(|_| list.is_empty()) {
            section = name;
            continue;
        }
        if let Some((key, value)) = line.split_once('=')
            && list.is_empty()
            && value.trim().starts_with('[')
        {
            list = key.trim();
        }
        let strings: Vec<String> = line.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        match (section, list) {
            ("licenses", "allow") => rules.licences.extend(strings),
            ("licenses", "exceptions") => {
                if let [name, licences @ ..] = strings.as_slice() {
                    rules.exceptions.push((name.clone(), licences.to_vec()));
                }
            }
            ("bans", "deny") => {
                let single = line.contains("deny-multiple-versions = true");
                if single { &mut rules.single } else { &mut rules.banned }.extend(strings);
            }
            _ => {}
        }
        if line.ends_with(']') {
            list = "";
        }
    }
    if rules.licences.is_empty() {
        bail!("deny.toml allows no licence\nhint: [licenses] allow = [\"MIT\"]");
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::{Dependency, Package, REGISTRY, allowed, complaints, read};

    const RULES: &str = "[licenses]\nallow = [\"MIT\", \"ISC\", \"Apache-2.0 WITH LLVM-exception\"]\nexceptions = [\n    # why\n    \
                         { crate = \"odd\", allow = [\"MPL-2.0\"] },\n]\n[bans]\ndeny = [\n    { crate = \"bad\" },\n    \
                         { crate = \"one\", deny-multiple-versions = true },\n]\n[sources]\nunknown-git = \"deny\"\n";

    #[test]
    fn expressions_are_met_or_not() {
        for (text, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("(GPL-3.0 OR MIT) AND ISC", true),
            ("MIT OR GPL-3.0 AND GPL-2.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("MIT OR", false),
            ("(MIT", false),
            ("", false),
            ("MIT ISC", false),
        ] {
            let rules = read(RULES).expect("rules");
            assert_eq!(allowed(text, &|licence| rules.licences.iter().any(|of| of == licence)), expected, "{text}");
        }
    }

    #[test]
    fn each_rule_has_its_complaint() {
        let rules = read(RULES).expect("rules");
        let package = |name: &str, version: &str, license: Option<&str>, source: Option<&str>| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
            dependencies: Vec::new(),
        };
        let good = [
            package("a", "1.0.0", Some("MIT"), Some(REGISTRY)),
            package("odd", "1.0.0", Some("MPL-2.0"), Some(REGISTRY)),
            package("one", "1.0.0", Some("ISC"), Some(REGISTRY)),
            package("ours", "0.1.0", None, None),
        ];
        assert_eq!(complaints(&rules, &good), Vec::<String>::new());
        let mut ours = package("ours", "0.1.0", None, None);
        let any = |path: Option<&str>| Dependency {
            name: "a".to_owned(),
            req: "*".to_owned(),
            path: path.map(str::to_owned),
        };
        ours.dependencies = vec![any(None), any(Some("here"))];
        let wrong = [
            package("a", "1.0.0", Some("MPL-2.0"), Some(REGISTRY)),
            package("b", "1.0.0", None, Some(REGISTRY)),
            package("c", "1.0.0", Some("MIT"), Some("git+https://example.org/c")),
            package("bad", "1.0.0", Some("MIT"), Some(REGISTRY)),
            package("one", "1.0.0", Some("MIT"), Some(REGISTRY)),
            package("one", "2.0.0", Some("MIT"), Some(REGISTRY)),
            ours,
        ];
        let found = complaints(&rules, &wrong).join("\n");
        for words in [
            "a 1.0.0 is licensed as MPL-2.0",
            "b 1.0.0 says no licence",
            "c 1.0.0 comes from git+",
            "bad 1.0.0 is banned",
            "one is there more than once: 1.0.0 2.0.0",
            "ours takes any version of a",
        ] {
            assert!(found.contains(words), "{words}: {found}");
        }
        assert_eq!(found.lines().count(), 6, "{found}");
        assert!(read("[licenses]\nallow = []\n").is_err());
    }
}
