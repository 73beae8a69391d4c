//! What is wrong with a seed is said once, at its file and line.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Folder, machine};
use crate::keys::MAX_SECRET_BYTES;
use crate::seed::{NamedNic, Role, from_credentials};

const KEY: &str = "keys/contoso-main.key";

/// The one error has this place and says this.
#[track_caller]
fn refused(folder: &Folder, file: &str, line: u32, says: &str) {
    let errors = folder.errors();
    let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let [error] = errors.as_slice() else { panic!("not one error: {}", shown.join("\n")) };
    assert_eq!((error.file.as_str(), error.line), (file, line), "{error}");
    assert!(error.message.contains(says), "{error}");
}

fn line_of(folder: &Folder, file: &str, text: &str) -> u32 {
    let all = fs::read_to_string(folder.path(file)).unwrap();
    let at = all.lines().position(|line| line.contains(text)).unwrap();
    u32::try_from(at + 1).unwrap()
}

#[test]
fn the_example_holds_and_its_roles_name_the_machines_nics() {
    let judgement = Folder::example().seed().judge(Some(&machine()));
    let errors = judgement.plan.as_ref().err().cloned().unwrap_or_default();
    assert_eq!(errors, []);
    assert_eq!(judgement.plan.unwrap().tenants.len(), 2);
    assert_eq!(judgement.description.hostname.as_deref(), Some("gw1.example"));
    assert_eq!(judgement.description.ssh_keys.len(), 1);
    let [one, two, three] = &machine();
    let named = [
        NamedNic::new(Role::Management, "mgmt0".into(), one),
        NamedNic::new(Role::Fabric, "fabric0".into(), two),
        NamedNic::new(Role::FrontEnd, "front0".into(), three),
    ];
    assert_eq!((judgement.named.as_slice(), judgement.missing_nic), (&named[..], false));
}

#[test]
fn a_mistake_in_a_line_is_an_error_at_that_line() {
    let gateway = "gateway.yaml";
    let seed = "seed.yaml";
    let contoso = "tenants.d/contoso.yaml";
    for (file, good, bad, at, says) in [
        (seed, "hostname: gw1.example", "hostname: gw_1", "hostname: gw_1", "not a host name"),
        (seed, "hostname: ", "host_name: ", "host_name: ", "did you mean `hostname`"),
        (seed, "  fabric:", "  fabrik:", "fabrik", "did you mean `fabric`"),
        (seed, "order: 3", "{}", "{}", "needs one of `mac`, `path` and `order`"),
        (seed, "order: 3", "{order: 3, path: \"0000:00:05.0\"}", "{order: 3", "not several"),
        (seed, "order: 3", "order: 0", "order: 0", "0"),
        (seed, "order: 3", "order: 4", "order: 4", "this machine has no NIC with order 4"),
        (seed, "order: 3", "order: 1", "order: 1", "is given to `mgmt0` and to `front0`"),
        (
            seed,
            "order: 3",
            "- path: 0000:00:04.0",
            "- path: 0000:00:04.0",
            "is given to `fabric0` and to `front0`",
        ),
        (
            seed,
            "mac: 52:54:00:6e:76:01",
            "mac: 52:54:00:6e:76:99",
            "76:99",
            "no NIC with mac 52:54:00:6e:76:99 for `mgmt0`; it has, in order: 52:54:00:6e:76:01",
        ),
        (seed, "0000:00:04.0", "0000:00:0 4.0", "0000:00:0 4.0", "not the path of a NIC"),
        (seed, "ssh-ed25519 AAAA", "ssh-ed25519 AABA", "AABA", "not a public SSH key"),
        (
            seed,
            "- ssh-ed25519 AAAA",
            "- |\n    the first line\n    ssh-ed25519 AAAA",
            "the first line",
            "more than one line",
        ),
        (gateway, "link: fabric0", "link: eth1", "link: eth1", "will have no link `eth1`"),
        (contoso, "vsid: 5001", "vsid: 9", "vsid: 9", "9"),
        (
            contoso,
            "/etc/nvgate/keys/contoso-main.key",
            "/etc/nvgate/keys/other.key",
            "other.key",
            "is not in the seed: put the file there as keys/other.key",
        ),
        (
            contoso,
            "/etc/nvgate/keys/contoso-main.key",
            "/root/contoso-main.key",
            "/root/",
            "is not below /etc/nvgate/",
        ),
    ] {
        let folder = Folder::example().replace(file, good, bad);
        let line = line_of(&folder, file, at);
        refused(&folder, file, line, says);
    }
}

#[test]
fn links_of_the_gateway_are_made_of_nics_by_the_names_of_their_roles() {
    let links = "links:\n  - name: mgmt0\n    addresses: 198.51.100.2/24\n  - name: fabric0\n  \
                 - name: front0\n  - name: bond0\n    addresses: 192.0.2.1/24\n    \
                 bond: {mode: active-backup, members: fabric0}\nmanagement:\n  link: mgmt0\n";
    let with = |links: &str| {
        let folder = Folder::example().replace("gateway.yaml", "link: fabric0", "link: bond0");
        let text = fs::read_to_string(folder.path("gateway.yaml")).unwrap();
        folder.write("gateway.yaml", format!("{text}\n{links}"))
    };
    assert_eq!(with(links).errors(), []);
    let folder = with(&links.replace("front0", "eth2"));
    let line = line_of(&folder, "gateway.yaml", "name: eth2");
    refused(&folder, "gateway.yaml", line, "will have no link `eth2`");
}

#[test]
fn what_is_no_yaml_is_an_error_where_it_stops_being_some() {
    for file in ["seed.yaml", "gateway.yaml", "tenants.d/contoso.yaml"] {
        let folder = Folder::example();
        let before = fs::read_to_string(folder.path(file)).unwrap();
        let last = u32::try_from(before.lines().count()).unwrap();
        let errors = folder.write(file, format!("{before}\n: [\n")).errors();
        let error = errors.iter().find(|error| error.file == file).unwrap();
        assert!(error.line > last, "{error}");
    }
}

#[test]
fn a_missing_file_is_an_error_of_that_file() {
    for file in ["seed.yaml", "gateway.yaml"] {
        let folder = Folder::example().remove(file);
        let errors = folder.errors();
        let error = errors.iter().find(|error| error.file == file).unwrap();
        assert!(error.message.contains("is missing in the seed"), "{error}");
    }
    let folder = Folder::example();
    let line = line_of(&folder, "tenants.d/contoso.yaml", "private_key_file");
    refused(&folder.remove(KEY), "tenants.d/contoso.yaml", line, "is not in the seed");
}

#[test]
fn a_key_that_is_none_is_an_error_where_it_is_named_and_is_not_shown() {
    let secret = "pU3KGCUwux1tEyze1iN7LtkeP3IfyxlxF0SU1kk8nS4";
    let line = line_of(&Folder::example(), "tenants.d/contoso.yaml", "private_key_file");
    for bad in [b"pU3KGCUwux1tEyze1iN7LtkeP3IfyxlxF0SU1kk8nS4=x".to_vec(), vec![0xff, 0xfe]] {
        let folder = Folder::example().write(KEY, &bad);
        let shown: String = folder.errors().iter().map(ToString::to_string).collect();
        assert!(shown.contains(&format!("tenants.d/contoso.yaml:{line}:")), "{shown}");
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn what_cannot_be_carried_is_an_error_of_its_file() {
    let large = vec![b'x'; usize::try_from(MAX_SECRET_BYTES).unwrap() + 1];
    refused(&Folder::example().write("keys/large", large), "keys/large", 1, "more than a secret");
    let misnamed = Folder::example().write("tenants.d/third.yml", "tenant: third\n");
    refused(&misnamed, "tenants.d/third.yml", 1, "rename it");
    let linked = Folder::example();
    symlink("/etc/passwd", linked.path("keys/linked")).unwrap();
    refused(&linked, "keys/linked", 1, "symbolic link");
    let folder = Folder::example();
    fs::create_dir(folder.path("keys/folder")).unwrap();
    refused(&folder, "keys/folder", 1, "not a regular file");
    let file = Folder::example();
    fs::remove_dir_all(file.path("tenants.d")).unwrap();
    refused(&file.write("tenants.d", ""), "tenants.d", 1, "is not a folder");
}

#[test]
fn other_files_beside_a_seed_are_nobodys_business() {
    let folder = Folder::example()
        .write("README.txt", "of this disk")
        .write("tenants.d/.hidden.yaml", "{")
        .write("tenants.d/notes.txt", "{");
    assert_eq!(folder.seed(), Folder::example().seed());
}

#[test]
fn on_another_machine_its_nics_are_not_asked_for_but_repetitions_are_found() {
    let seed = Folder::example().seed();
    assert!(seed.judge(None).plan.is_ok());
    assert_eq!(seed.judge(Some(&[])).plan.unwrap_err().len(), 3);
    let twice = Folder::example().replace("seed.yaml", "order: 3", "path: pci-0000:00:04.0");
    let errors = twice.seed().judge(None).plan.unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].message.contains("is given to `fabric0` and to `front0`"), "{}", errors[0]);
    assert_eq!(errors[0].notes.len(), 1);
}

#[test]
fn credentials_are_the_same_seed_and_one_with_a_name_of_no_file_is_an_error() {
    let folder = Folder::example();
    let credentials = tempfile::tempdir().unwrap();
    for (name, file) in [
        ("nvgate.seed.yaml", "seed.yaml"),
        ("nvgate.gateway.yaml", "gateway.yaml"),
        ("nvgate.tenants.contoso.yaml", "tenants.d/contoso.yaml"),
        ("nvgate.tenants.fabrikam.yaml", "tenants.d/fabrikam.yaml"),
        ("nvgate.keys.contoso-main.key", KEY),
    ] {
        fs::copy(folder.path(file), credentials.path().join(name)).unwrap();
    }
    fs::write(credentials.path().join("passwd.hashed-password.root"), "x").unwrap();
    let seed = from_credentials(credentials.path()).unwrap();
    assert_eq!(seed, folder.seed());
    for name in ["nvgate.tenant.a.yaml", "nvgate.tenants..yaml", "nvgate.keys.", "nvgate.seed"] {
        let path = credentials.path().join(name);
        fs::write(&path, "x").unwrap();
        let seed = from_credentials(credentials.path()).unwrap();
        let errors = seed.judge(Some(&machine())).plan.unwrap_err();
        assert_eq!(errors.len(), 1, "{name}: {errors:?}");
        assert_eq!(errors[0].file, format!("credential {name}"));
        fs::remove_file(path).unwrap();
    }
    assert!(from_credentials(&credentials.path().join("none")).unwrap().is_empty());
}
