//! The direction of dependencies as a check: which crates of the workspace may use which, what the
//! sans-IO crates must never reach, and which outside crate belongs to one crate only. Reads
//! `cargo metadata`; dev-dependencies are free.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The crates of the workspace and the other ones that each may use, by package name.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("nvgate-model", &[]),
    ("nvgate-packet", &["nvgate-model"]),
    ("nvgate-nvgre", &["nvgate-model", "nvgate-packet"]),
    ("nvgate-nat", &["nvgate-model", "nvgate-packet"]),
    ("nvgate-vpn", &["nvgate-model", "nvgate-packet"]),
    ("nvgate-bgp", &["nvgate-model"]),
    ("nvgate-bfd", &["nvgate-model"]),
    (
        "nvgate-deploy",
        &[
            "nvgate-model",
            "nvgate-packet",
            "nvgate-nvgre",
            "nvgate-nat",
            "nvgate-vpn",
            "nvgate-bgp",
            "nvgate-bfd",
        ],
    ),
    (
        "nvgate",
        &[
            "nvgate-model",
            "nvgate-packet",
            "nvgate-nvgre",
            "nvgate-nat",
            "nvgate-vpn",
            "nvgate-bgp",
            "nvgate-bfd",
            "nvgate-deploy",
        ],
    ),
    (
        "nvgate-tests",
        &[
            "nvgate-model",
            "nvgate-packet",
            "nvgate-nvgre",
            "nvgate-nat",
            "nvgate-vpn",
            "nvgate-bgp",
            "nvgate-bfd",
            "nvgate-deploy",
            "nvgate",
        ],
    ),
    ("xtask", &[]),
];

/// The crates that learn time, network and chance only by argument.
const SANS_IO: [&str; 7] = [
    "nvgate-model",
    "nvgate-packet",
    "nvgate-nvgre",
    "nvgate-nat",
    "nvgate-vpn",
    "nvgate-bgp",
    "nvgate-bfd",
];

/// Outside crates that a sans-IO crate may use although they reach what it must not: a WireGuard
/// engine and the X25519 under it draw keys from the system's randomness and read its clock for
/// handshake timestamps. Nothing else is excused: what the crate reaches without them is checked.
const EXCUSED: [(&str, &str); 2] = [("nvgate-vpn", "boringtun"), ("nvgate-vpn", "x25519-dalek")];

/// What no sans-IO crate may reach, not even through another crate.
const FORBIDDEN_TO_SANS_IO: [&str; 15] = [
    "async-io",
    "chrono",
    "fastrand",
    "getrandom",
    "libc",
    "mio",
    "nix",
    "quanta",
    "rand",
    "rand_core",
    "rustix",
    "socket2",
    "time",
    "tokio",
    "tracing",
];

/// Outside crates that one crate alone may use directly.
const OWNED: [(&str, &str); 8] = [
    ("boringtun", "nvgate-vpn"),
    ("x25519-dalek", "nvgate-vpn"),
    ("serde-saphyr", "nvgate-deploy"),
    ("redb", "nvgate-deploy"),
    ("ssh-key", "nvgate-deploy"),
    ("smoltcp", "nvgate"),
    ("md-5", "nvgate"),
    ("axum", "nvgate"),
];

/// The gateway runs on Linux only: crates for other systems need not be fetched for this check.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Checks the workspace that this is run in.
pub fn check() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM])
        .output()
        .context("running cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let broken = violations(&Graph::read(&metadata)?);
    if broken.is_empty() {
        println!("dependency rules hold");
        return Ok(());
    }
    bail!("dependency rules are broken:\n  {}", broken.join("\n  "));
}

/// Who depends on whom, by package name, without dev-dependencies.
struct Graph {
    members: BTreeSet<String>,
    uses: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read(metadata: &Value) -> Result<Self> {
        let names: BTreeMap<&str, &str> = array(metadata, "packages")?
            .iter()
            .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
            .collect();
        let name =
            |id: &Value| id.as_str().and_then(|id| names.get(id)).map(|name| (*name).to_owned());
        let members = array(metadata, "workspace_members")?.iter().filter_map(name).collect();
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in array(&metadata["resolve"], "nodes")? {
            let user = name(&node["id"]).context("a node without a package")?;
            let used = array(node, "deps")?
                .iter()
                .filter(|dependency| is_kept(&dependency["dep_kinds"]))
                .filter_map(|dependency| name(&dependency["pkg"]));
            uses.entry(user).or_default().extend(used);
        }
        Ok(Self { members, uses })
    }

    fn used_by(&self, name: &str) -> impl Iterator<Item = &str> {
        self.uses.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Everything that `name` reaches, without the ways through crates it is excused for.
    fn reached_from<'a>(&'a self, name: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            let kept = |used: &&str| next != name || !EXCUSED.contains(&(name, *used));
            open.extend(self.used_by(next).filter(kept).filter(|used| reached.insert(*used)));
        }
        reached
    }
}

/// Whether a dependency is more than a dev-dependency.
fn is_kept(kinds: &Value) -> bool {
    kinds
        .as_array()
        .is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].as_str() != Some("dev")))
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("cargo metadata has no list {key}"))
}

fn violations(graph: &Graph) -> Vec<String> {
    let mut broken = Vec::new();
    for member in &graph.members {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == member) else {
            broken.push(format!("{member} has no rule in xtask/src/dependencies.rs"));
            continue;
        };
        for used in graph.used_by(member).filter(|used| graph.members.contains(*used)) {
            if !allowed.contains(&used) {
                broken.push(format!("{member} must not use {used}"));
            }
        }
        for (owned, owner) in OWNED {
            if member != owner && graph.used_by(member).any(|used| used == owned) {
                broken.push(format!("{member} must not use {owned}: it belongs to {owner}"));
            }
        }
    }
    for name in SANS_IO {
        let reached = graph.reached_from(name);
        for forbidden in FORBIDDEN_TO_SANS_IO.iter().filter(|name| reached.contains(*name)) {
            broken.push(format!("{name} is sans-IO and must not reach {forbidden}"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(members: &[&str], uses: &[(&str, &[&str])]) -> Graph {
        Graph {
            members: members.iter().map(|name| (*name).to_owned()).collect(),
            uses: uses
                .iter()
                .map(|(user, used)| {
                    ((*user).to_owned(), used.iter().map(|name| (*name).to_owned()).collect())
                })
                .collect(),
        }
    }

    #[test]
    fn a_sideways_dependency_is_named() {
        let sideways = graph(&["nvgate-nat", "nvgate-nvgre"], &[("nvgate-nat", &["nvgate-nvgre"])]);
        assert_eq!(violations(&sideways), ["nvgate-nat must not use nvgate-nvgre"]);
    }

    #[test]
    fn a_forbidden_crate_is_found_behind_another_one() {
        let deep = graph(&["nvgate-nat"], &[("nvgate-nat", &["ahash"]), ("ahash", &["getrandom"])]);
        assert_eq!(violations(&deep), ["nvgate-nat is sans-IO and must not reach getrandom"]);
    }

    #[test]
    fn only_the_excused_way_to_a_forbidden_crate_is_free() {
        let excused: &[(&str, &[&str])] =
            &[("nvgate-vpn", &["boringtun", "novel"]), ("boringtun", &["getrandom", "tracing"])];
        assert!(violations(&graph(&["nvgate-vpn"], excused)).is_empty());
        let beside = [excused, &[("novel", &["getrandom"])]].concat();
        assert_eq!(
            violations(&graph(&["nvgate-vpn"], &beside)),
            ["nvgate-vpn is sans-IO and must not reach getrandom"]
        );
        let elsewhere = graph(&["nvgate-nat"], &[("nvgate-nat", &["boringtun"]), excused[1]]);
        assert_eq!(
            violations(&elsewhere),
            [
                "nvgate-nat must not use boringtun: it belongs to nvgate-vpn",
                "nvgate-nat is sans-IO and must not reach getrandom",
                "nvgate-nat is sans-IO and must not reach tracing",
            ]
        );
    }

    #[test]
    fn an_owned_crate_and_a_crate_without_a_rule_are_named() {
        let strangers = graph(&["nvgate", "novel"], &[("nvgate", &["serde-saphyr"])]);
        assert_eq!(
            violations(&strangers),
            [
                "novel has no rule in xtask/src/dependencies.rs",
                "nvgate must not use serde-saphyr: it belongs to nvgate-deploy"
            ]
        );
    }

    #[test]
    fn dev_dependencies_do_not_count() {
        let metadata = serde_json::json!({
            "packages": [{"id": "m", "name": "nvgate-model"}, {"id": "r", "name": "rand"}],
            "workspace_members": ["m"],
            "resolve": {"nodes": [
                {"id": "m", "deps": [{"pkg": "r", "dep_kinds": [{"kind": "dev"}]}]},
                {"id": "r", "deps": []},
            ]},
        });
        assert!(violations(&Graph::read(&metadata).unwrap()).is_empty());
    }
}
