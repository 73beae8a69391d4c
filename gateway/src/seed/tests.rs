use std::cell::RefCell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nvgate_deploy::host::NetlinkError;
use nvgate_deploy::plan::ADMIN_LISTEN;
use nvgate_deploy::seed::{HostNic, Rename, Report, State};
use nvgate_model::MacAddress;
use tempfile::TempDir;

use super::{Links, Machine, Places, apply, health, render, wait};
use crate::admin::health::{Component, HealthState};

const YAML: &str = "hostname: gw1\nnics:\n  management: {order: 1}\n  fabric: {order: 2}\n  \
                    front_end: {order: 3}\nssh_authorized_keys: ssh-ed25519 \
                    AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl a@b\n";

/// A machine of temporary files, with NICs that are only names.
struct Rig {
    root: TempDir,
    places: Places,
    nics: RefCell<Vec<HostNic>>,
}

impl Links for Rig {
    async fn nics(&self) -> Result<Vec<HostNic>, NetlinkError> {
        Ok(self.nics.borrow().clone())
    }

    async fn rename(&self, rename: &Rename) -> Result<(), NetlinkError> {
        let mut nics = self.nics.borrow_mut();
        assert!(nics.iter().all(|nic| nic.name != rename.to), "two links called {}", rename.to);
        let nic = nics.iter_mut().find(|nic| nic.index == rename.index).unwrap();
        nic.name.clone_from(&rename.to);
        Ok(())
    }
}

impl Rig {
    /// One with so many NICs, called eth0 and so on.
    fn new(nics: u8) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut places = Places::below(root.path());
        (places.nic_wait, places.disk_wait) = (Duration::ZERO, Duration::ZERO);
        fs::create_dir_all(places.hostname.parent().unwrap()).unwrap();
        fs::create_dir_all(places.disk.parent().unwrap()).unwrap();
        let nic = |number: u8| HostNic {
            index: u32::from(number) + 2,
            name: format!("eth{number}"),
            up: false,
            mac: MacAddress([2, 0, 0, 0, 0, number + 1]),
            path: format!("0000:00:0{}.0", number + 3),
        };
        Self { root, places, nics: RefCell::new((0..nics).map(nic).collect()) }
    }

    /// Puts the example seed into `folder`, with `seed.yaml` as it is given.
    fn seed(folder: &Path, seed: &str) {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/seed");
        for name in [
            "gateway.yaml",
            "tenants.d/contoso.yaml",
            "tenants.d/fabrikam.yaml",
            "keys/contoso-main.key",
        ] {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::copy(example.join(name), file).unwrap();
        }
        fs::write(folder.join("seed.yaml"), seed).unwrap();
    }

    fn apply(&self) -> Report {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let report = runtime.block_on(apply(&self.places, self)).unwrap();
        assert_eq!(Report::read(&self.places.report()).unwrap().as_ref(), Some(&report));
        report
    }

    fn names(&self) -> Vec<String> {
        self.nics.borrow().iter().map(|nic| nic.name.clone()).collect()
    }

    fn current(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.places.store.join("current").join(name)).ok()
    }

    fn health(&self) -> Component {
        health::component(&self.places.report()).unwrap()
    }

    fn text(&self, path: &Path) -> Option<String> {
        assert!(path.starts_with(self.root.path()));
        fs::read_to_string(path).ok()
    }
}

#[test]
fn a_seed_makes_the_machine_what_it_says_and_a_second_look_changes_nothing() {
    let machine = Rig::new(3);
    Rig::seed(&machine.places.folder(), YAML);
    let report = machine.apply();
    assert_eq!((report.state, report.version, report.problems.len()), (State::Applied, Some(1), 0));
    assert_eq!(machine.names(), ["mgmt0", "fabric0", "front0"]);
    assert_eq!(machine.text(&machine.places.hostname).as_deref(), Some("gw1"));
    let keys = machine.places.authorized_keys();
    assert!(machine.text(&keys).unwrap().starts_with("ssh-ed25519 AAAA"));
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(machine.current("gateway.yaml").unwrap().contains("fabric0"));
    assert_eq!(machine.health(), Component::ok("seed"));
    let again = machine.apply();
    assert_eq!((again.state, again.version), (State::Unchanged, Some(1)));
    assert_eq!(machine.names(), ["mgmt0", "fabric0", "front0"]);
}

#[test]
fn a_broken_seed_leaves_the_last_good_one_in_effect_and_says_which_line() {
    let machine = Rig::new(3);
    Rig::seed(&machine.places.folder(), YAML);
    machine.apply();
    let broken = YAML.replace("front_end", "front_edn").replace("gw1", "gw2");
    Rig::seed(&machine.places.folder(), &broken);
    let report = machine.apply();
    assert_eq!((report.state, report.version), (State::KeptLastGood, Some(1)));
    assert_eq!(report.hostname.as_deref(), Some("gw1"));
    assert_eq!(report.problems[0].file.as_deref(), Some("seed.yaml"));
    assert_eq!(report.problems[0].line, Some(5));
    assert!(!report.problems[0].remedy.is_empty());
    assert!(machine.current("seed.yaml").unwrap().contains("gw1"));
    assert!(machine.places.authorized_keys().exists());
    let health = machine.health();
    assert_eq!(health.status, HealthState::Degraded);
    let reason = health.reason.unwrap();
    let begins = "the last good configuration is kept, because the seed is broken: seed.yaml:5: \
                  unknown key `front_edn` in `nics`; did you mean `front_end`?";
    assert!(reason.starts_with(begins), "{reason}");
}

#[test]
fn a_broken_first_seed_has_the_machine_wait_reachable_by_its_keys() {
    let machine = Rig::new(3);
    Rig::seed(&machine.places.folder(), &YAML.replace("order: 2", "mac: 02:00:00:00:00:99"));
    let report = machine.apply();
    assert_eq!((report.state, report.version), (State::Waiting, None));
    assert_eq!(machine.names(), ["mgmt0", "eth1", "front0"]);
    assert!(machine.places.authorized_keys().exists());
    assert_eq!(machine.current("gateway.yaml"), None);
    let reason = machine.health().reason.unwrap();
    let begins = "nothing is configured, because the seed is broken: seed.yaml:4: this machine has \
                  no NIC with mac 02:00:00:00:00:99 for `fabric0`; it has, in order: \
                  02:00:00:00:00:01 (0000:00:03.0), ";
    assert!(reason.starts_with(begins), "{reason}");
}

#[test]
fn without_a_seed_nics_have_roles_by_order_and_health_says_what_is_missing() {
    let machine = Rig::new(3);
    let report = machine.apply();
    assert_eq!((report.state, report.source.as_deref()), (State::Waiting, None));
    assert_eq!(machine.names(), ["mgmt0", "fabric0", "front0"]);
    assert!(!machine.places.authorized_keys().exists());
    let health = machine.health();
    assert_eq!(health.status, HealthState::Failed);
    assert!(
        health
            .reason
            .unwrap()
            .starts_with("no seed: attach a disk or ISO image with the label NVGATE")
    );
}

#[test]
fn a_disk_comes_before_credentials_and_those_before_the_folder() {
    let machine = Rig::new(3);
    let Places { disk, credentials, .. } = &machine.places;
    Rig::seed(&machine.places.folder(), &YAML.replace("gw1", "folder"));
    assert_eq!(machine.apply().hostname.as_deref(), Some("folder"));
    let parts = machine.root.path().join("parts");
    Rig::seed(&parts, &YAML.replace("gw1", "credentials"));
    fs::create_dir_all(credentials).unwrap();
    for (file, name) in [
        ("seed.yaml", "nvgate.seed.yaml"),
        ("gateway.yaml", "nvgate.gateway.yaml"),
        ("tenants.d/contoso.yaml", "nvgate.tenants.contoso.yaml"),
        ("keys/contoso-main.key", "nvgate.keys.contoso-main.key"),
    ] {
        fs::copy(parts.join(file), credentials.join(name)).unwrap();
    }
    let report = machine.apply();
    assert_eq!((report.state, report.version), (State::Applied, Some(2)));
    assert_eq!(report.source.as_deref(), Some("systemd credentials"));
    assert_eq!(report.hostname.as_deref(), Some("credentials"));
    assert_eq!(machine.current("tenants.d/fabrikam.yaml"), None);
    Rig::seed(disk, &YAML.replace("gw1", "disk"));
    let report = machine.apply();
    assert_eq!((report.hostname.as_deref(), report.version), (Some("disk"), Some(3)));
    fs::remove_dir_all(disk).unwrap();
    fs::remove_dir_all(credentials).unwrap();
    fs::remove_dir_all(machine.places.folder()).unwrap();
    let report = machine.apply();
    assert_eq!((report.state, report.hostname.as_deref()), (State::Unchanged, Some("disk")));
    assert_eq!(report.source, Some(format!("disk {}", disk.display())));
}

#[test]
fn a_disk_that_is_none_is_a_broken_seed() {
    let machine = Rig::new(3);
    fs::write(&machine.places.disk, "neither vfat nor an ISO image").unwrap();
    let report = machine.apply();
    assert_eq!(report.state, State::Waiting);
    let message = &report.problems[0].message;
    assert!(message.contains("cannot be read: it cannot be mounted as vfat: "), "{message}");
    fs::remove_file(&machine.places.disk).unwrap();
    Rig::seed(&machine.places.folder(), YAML);
    machine.apply();
    fs::write(&machine.places.disk, "neither").unwrap();
    let report = machine.apply();
    assert_eq!((report.state, report.version), (State::KeptLastGood, Some(1)));
    assert_eq!(machine.health().status, HealthState::Degraded);
}

#[test]
fn a_management_link_that_gateway_yaml_describes_is_left_alone_by_networkd() {
    let machine = Rig::new(3);
    let folder = machine.places.folder();
    Rig::seed(&folder, YAML);
    machine.apply();
    assert!(!machine.places.unmanaged.exists());
    let file = folder.join("gateway.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let described = |how: &str| {
        let links = format!("links:\n  - name: mgmt0\n    {how}\nmanagement:\n  link: mgmt0\n");
        fs::write(&file, format!("{text}\n{links}")).unwrap();
        let report = machine.apply();
        assert_eq!((report.state, report.problems), (State::Applied, vec![]));
        machine.text(&machine.places.unmanaged)
    };
    let unmanaged = "[Match]\nName=mgmt0\n\n[Link]\nUnmanaged=yes\n";
    assert_eq!(described("addresses: 198.51.100.2/24").as_deref(), Some(unmanaged));
    assert_eq!(described("dhcp: true"), None);
}

#[test]
fn a_link_in_use_keeps_its_name_until_the_machine_starts_again() {
    let machine = Rig::new(3);
    machine.nics.borrow_mut()[1].up = true;
    Rig::seed(&machine.places.folder(), YAML);
    let report = machine.apply();
    assert_eq!(machine.names(), ["mgmt0", "eth1", "front0"]);
    assert_eq!(report.problems[0].message, "link eth1 is not called fabric0 yet: it is in use");
    assert_eq!(machine.health().status, HealthState::Degraded);
}

#[test]
fn the_console_shows_name_links_addresses_state_and_where_health_is() {
    let machine = Rig::new(3);
    let waiting = machine.apply();
    Rig::seed(&machine.places.folder(), YAML);
    let applied = machine.apply();
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 5));
    let mut seen = Machine { hostname: "gw1".to_owned(), ..Machine::default() };
    assert!(!seen.is_reachable());
    let text = render(&waiting, &seen);
    assert!(
        text.contains("mgmt0    management 02:00:00:00:00:01 0000:00:03.0 no address yet\n"),
        "{text}"
    );
    assert!(text.contains("\nhealth: port 9470, once mgmt0 has an address\nno seed: "), "{text}");
    let local = "fe80::1".parse().unwrap();
    seen.addresses.insert("mgmt0".to_owned(), vec![local, address]);
    assert!(seen.is_reachable());
    let folder = machine.places.folder();
    let expected = format!(
        "nvgate {} on gw1\n  \
         mgmt0    management 02:00:00:00:00:01 0000:00:03.0 192.0.2.5\n  \
         fabric0  fabric     02:00:00:00:00:02 0000:00:04.0\n  \
         front0   front_end  02:00:00:00:00:03 0000:00:05.0\n\
         seed: applied; version 1 is in effect; from folder {}\n\
         health: http://192.0.2.5:9470/healthz\n",
        env!("CARGO_PKG_VERSION"),
        folder.display()
    );
    assert_eq!(render(&applied, &seen), expected);
}

/// The answer to a request for `path` of the health endpoint.
async fn ask(path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let connected = tokio::net::TcpStream::connect(ADMIN_LISTEN).await;
    let mut stream = connected.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_machine_that_waits_serves_what_is_missing_until_there_is_a_configuration() {
    if !nix::unistd::geteuid().is_root() {
        return println!("SKIPPED: needs root, to make a network namespace");
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let loopback = rtnetlink::LinkUnspec::new_with_index(1).up().build();
            handle.link().set(loopback).execute().await.unwrap();
            let machine = Rig::new(0);
            let mut output = Vec::new();
            let console = machine.root.path().join("console");
            fs::write(&console, "").unwrap();
            let configured = &machine.places.configuration;
            let questions = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let answers = [ask("/livez").await, ask("/readyz").await, ask("/healthz").await];
                fs::create_dir_all(configured.parent().unwrap()).unwrap();
                fs::write(configured, "").unwrap();
                answers
            };
            let (waited, [live, ready, health]) =
                tokio::join!(wait(&machine.places, &mut output, vec![console.clone()]), questions);
            waited.unwrap();
            assert!(live.starts_with("HTTP/1.1 200 OK"), "{live}");
            assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
            assert!(ready.contains("not ready\nseed: no seed: attach a disk"), "{ready}");
            assert!(health.contains("{\"name\":\"seed\",\"status\":\"failed\""), "{health}");
            let shown = String::from_utf8(output).unwrap();
            assert_eq!(shown.matches("seed: waiting, nothing is configured\n").count(), 1);
            assert_eq!(machine.text(&console), Some(shown));
        });
    });
    thread.join().unwrap();
}
