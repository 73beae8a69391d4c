//! What is in effect after a boot, by what was found and what was in effect before.

use super::{Folder, machine, nic};
use crate::plan::ADMIN_LISTEN;
use crate::seed::{Candidate, Decision, HostNic, Problem, Report, Seed, State, decide};

fn found(folder: &Folder) -> Option<Candidate> {
    Some(Candidate { source: "disk".to_owned(), seed: folder.seed() })
}

fn names(decision: &Decision) -> Vec<(&str, u32)> {
    decision.nics.iter().map(|nic| (nic.name.as_str(), nic.index)).collect()
}

const BY_ROLE: [(&str, u32); 3] = [("mgmt0", 2), ("fabric0", 3), ("front0", 4)];

fn broken() -> Folder {
    Folder::example().replace("tenants.d/contoso.yaml", "vsid: 5001", "vsid: 9")
}

#[test]
fn without_a_seed_and_without_a_last_one_nics_are_named_by_order_and_nothing_is_in_effect() {
    let decision = decide(None, None, &machine());
    assert_eq!(decision.state, State::Waiting);
    assert_eq!(names(&decision), BY_ROLE);
    assert_eq!(
        (decision.health, decision.ssh_keys, decision.problems),
        (ADMIN_LISTEN, vec![], vec![])
    );
    assert_eq!(names(&decide(None, None, &[])), []);
}

#[test]
fn a_seed_that_holds_is_applied_and_the_same_one_again_is_unchanged() {
    let folder = Folder::example();
    let decision = decide(found(&folder).as_ref(), None, &machine());
    assert_eq!((decision.state, names(&decision)), (State::Applied, BY_ROLE.to_vec()));
    assert_eq!(decision.health.port(), 9470);
    assert_eq!(decision.ssh_keys.len(), 1);
    let last = folder.seed();
    let again = decide(found(&folder).as_ref(), Some(&last), &machine());
    assert_eq!((again.state, again.problems), (State::Unchanged, vec![]));
    let alone = decide(None, Some(&last), &machine());
    assert_eq!((alone.state, names(&alone)), (State::Unchanged, BY_ROLE.to_vec()));
    let changed = folder.replace("seed.yaml", "gw1", "gw2");
    let decision = decide(found(&changed).as_ref(), Some(&last), &machine());
    assert_eq!(
        (decision.state, decision.hostname.as_deref()),
        (State::Applied, Some("gw2.example"))
    );
}

#[test]
fn a_broken_seed_leaves_the_last_good_one_with_its_names_and_keys_and_says_where() {
    let last = Folder::example().seed();
    let changed = broken().replace("seed.yaml", "gw1.example", "gw2.example").replace(
        "seed.yaml",
        "mac: 52:54:00:6e:76:01",
        "order: 2",
    );
    let decision = decide(found(&changed).as_ref(), Some(&last), &machine());
    assert_eq!((decision.state, names(&decision)), (State::KeptLastGood, BY_ROLE.to_vec()));
    assert_eq!(decision.hostname.as_deref(), Some("gw1.example"));
    assert_eq!(decision.ssh_keys.len(), 1);
    let places: Vec<_> =
        decision.problems.iter().map(|one| (one.file.as_deref().unwrap(), one.line)).collect();
    assert!(places.contains(&("tenants.d/contoso.yaml", Some(6))), "{places:?}");
    assert!(decision.problems.iter().all(|one| !one.remedy.is_empty()));
}

#[test]
fn a_broken_first_seed_still_lets_its_keys_in_and_names_the_nics_it_can() {
    let decision = decide(found(&broken()).as_ref(), None, &machine());
    assert_eq!((decision.state, names(&decision)), (State::Waiting, BY_ROLE.to_vec()));
    assert_eq!((decision.ssh_keys.len(), decision.health), (1, ADMIN_LISTEN));
    assert_eq!(decision.problems.len(), 1);
    let unusable = Folder::example().write("seed.yaml", ": [");
    let decision = decide(found(&unusable).as_ref(), None, &machine());
    assert_eq!((decision.state, names(&decision)), (State::Waiting, vec![("mgmt0", 2)]));
}

#[test]
fn a_machine_that_waits_has_a_management_link_even_if_its_broken_seed_has_other_roles_for_all_nics()
{
    let [_, fabric, front_end] = machine();
    let folder = Folder::example().replace("seed.yaml", "order: 3", "order: 2");
    let decision = decide(found(&folder).as_ref(), None, &[fabric, front_end]);
    assert_eq!((decision.state, names(&decision)), (State::Waiting, vec![("mgmt0", 3)]));
    assert_eq!(decision.problems.len(), 1);
}

/// A machine whose management NIC was replaced.
fn replaced() -> [HostNic; 3] {
    let [_, fabric, front_end] = machine();
    [nic(5, 9, "0000:00:03.0"), fabric, front_end]
}

#[test]
fn a_management_nic_that_is_gone_is_a_problem_and_another_has_its_place() {
    let last = Folder::example().seed();
    let decision = decide(None, Some(&last), &replaced());
    assert_eq!((decision.state, decision.missing_nic), (State::Unchanged, true));
    assert_ne!(decision.health, ADMIN_LISTEN, "the gateway listens where it is told");
    assert_eq!(names(&decision), [("fabric0", 3), ("front0", 4), ("mgmt0", 5)]);
    assert_eq!(decision.problems.len(), 1);
    // A new seed for it, broken elsewhere, still says which one is for management.
    let mut nics = replaced().to_vec();
    nics.push(nic(6, 8, "0000:00:02.0"));
    let last = Folder::example().replace("seed.yaml", "order: 3", "path: 00:05.0").seed();
    let new = broken().replace("seed.yaml", "76:01", "76:09").replace(
        "seed.yaml",
        "order: 3",
        "path: 00:05.0",
    );
    let decision = decide(found(&new).as_ref(), Some(&last), &nics);
    assert_eq!(decision.state, State::KeptLastGood);
    assert_eq!(names(&decision), [("fabric0", 3), ("front0", 4), ("mgmt0", 5)]);
}

#[test]
fn a_seed_that_holds_but_for_a_missing_nic_is_not_applied() {
    let changed = Folder::example().replace("seed.yaml", "order: 3", "order: 7");
    let last = Folder::example().seed();
    let decision = decide(found(&changed).as_ref(), Some(&last), &machine());
    assert_eq!((decision.state, decision.missing_nic), (State::KeptLastGood, true));
    assert_eq!(names(&decision), BY_ROLE);
}

#[test]
fn a_report_comes_back_as_it_was_written_and_its_absence_is_no_error() {
    let Decision { state, hostname, nics, ssh_keys, health, problems, .. } =
        decide(found(&broken()).as_ref(), Some(&Seed::default()), &machine());
    let report = Report {
        state,
        source: Some("disk".to_owned()),
        version: Some(3),
        hostname,
        nics,
        ssh_keys: ssh_keys.len(),
        health,
        at_unix_secs: 1,
        problems,
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    assert_eq!(Report::read(&file).unwrap(), None);
    std::fs::write(&file, serde_json::to_vec(&report).unwrap()).unwrap();
    assert_eq!(Report::read(&file).unwrap(), Some(report));
    std::fs::write(&file, "{").unwrap();
    assert!(Report::read(&file).is_err());
}

#[test]
fn a_problem_reads_as_its_place_its_line_and_what_to_do() {
    let decision = decide(found(&broken()).as_ref(), None, &machine());
    let text = decision.problems[0].to_string();
    assert!(text.starts_with("tenants.d/contoso.yaml:6:11: error: "), "{text}");
    assert!(text.contains("\n  6 |     vsid: 9\n  correct it in the seed"), "{text}");
    let general = Problem::general("no disk", "attach one").to_string();
    assert_eq!(general, "error: no disk\n  attach one");
}
