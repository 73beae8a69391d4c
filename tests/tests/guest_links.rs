//! The host's links on a real kernel, which is a guest's: bonds in every mode, VLANs, MTUs and
//! management's routing, with a switch in a namespace of the guest.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nvgate::admin::Status;
use nvgate::admin::health::HealthState;
use nvgate_deploy::host::links::LinkReport;
use nvgate_tests::guest::{Guest, GuestPlan, Said, can_boot};
use nvgate_tests::run_lab::binary;

/// How long LACP and a reload may take together, under emulation.
const PATIENCE: Duration = Duration::from_secs(40);

/// Two uplinks and a management port, whose other ends are the ports of a switch.
const CABLES: &str = "
ip netns add switch
ip -n switch link set lo up
for pair in up0:s0 up1:s1 m0:sm; do
    ip link add ${pair%:*} mtu 1700 type veth peer ${pair#*:} mtu 1700 netns switch
    ip -n switch link set ${pair#*:} up
done
ip link set m0 address 02:00:00:00:00:77
ip -n switch address add 198.51.100.1/24 dev sm
ip -n switch address add 2001:db8:77::1/64 dev sm nodad
ip -n switch address add 100.64.0.1/32 dev lo
ip -n switch address add 2001:db8:64::1/128 dev lo
";

/// Defines `switch KIND...`: joins the uplinks' ports by a link of this kind, with a host on
/// VLAN 100 and a router on VLAN 200.
const SWITCH: &str = "
switch() {
    for link in lag0 lag1; do ip -n switch link del $link 2>/dev/null; done
    ip -n switch link add lag0 mtu 1700 type $*
    for port in s0 s1; do
        ip -n switch link set $port down
        ip -n switch link set $port master lag0
        ip -n switch link set $port up
    done
    ip -n switch link set lag0 mtu 1700 up
    for vlan in 100:192.0.2.13 200:203.0.113.17; do
        ip -n switch link add lag0.${vlan%:*} link lag0 mtu 1600 type vlan id ${vlan%:*}
        ip -n switch address add ${vlan#*:}/24 dev lag0.${vlan%:*}
        ip -n switch link set lag0.${vlan%:*} up
    done
}
";

fn config(bond: &str, mtu: &str) -> String {
    format!(
        "
fabric:
  link: fabric0
  provider_addresses: 192.0.2.1
front_end:
  link: front0
workers: 1
flow_entries: 1024
# An address that the kernel does not let anybody listen on before it has looked for duplicates.
admin:
  listen: \"[2001:db8:77::10]:9470\"
links:
  - name: up0
    offloads: {{tso: false}}
  - name: up1
  - name: bond0
    {mtu}
    bond:
      members: [up0, up1]
      {bond}
  - name: fabric0
    vlan: {{parent: bond0, id: 100}}
    {mtu}
    addresses: 192.0.2.1/24
  - name: front0
    vlan: {{parent: bond0, id: 200}}
    addresses: [203.0.113.18/24, \"2001:db8:f::18/64\"]
  - name: mgmt0
    select: {{mac: 02:00:00:00:00:77}}
    addresses: [198.51.100.10/24, \"2001:db8:77::10/64\"]
management:
  link: mgmt0
  gateways: [198.51.100.1, \"2001:db8:77::1\"]
"
    )
}

/// A guest with a gateway whose links are described.
struct Trial(Guest);

impl Trial {
    fn start() -> Result<Self> {
        let modules = ["veth", "bridge", "bonding", "8021q", "cls_bpf", "sch_ingress"];
        let mut guest = Guest::boot(&GuestPlan {
            modules: modules.map(str::to_owned).to_vec(),
            programs: vec!["ip".into(), "ping".into(), "ethtool".into(), binary()?],
            ..GuestPlan::default()
        })?;
        guest.run(CABLES)?;
        Ok(Self(guest))
    }

    fn switch(&mut self, kind: &str) -> Result<()> {
        self.0.run(&format!("{SWITCH}\nswitch {kind}")).map(drop)
    }

    /// Takes the configuration over by a rename, as the gateway asks for.
    fn configure(&mut self, bond: &str, mtu: &str) -> Result<()> {
        let text = config(bond, mtu);
        self.0.run(&format!(
            "mkdir -p /etc/nvgate /var/lib/nvgate
             cat >/etc/new.yaml <<'END'\n{text}\nEND
             mv /etc/new.yaml /etc/nvgate/gateway.yaml"
        ))?;
        Ok(())
    }

    fn gateway(&mut self) -> Result<()> {
        self.0.run("nvgate run >/run/nvgate.log 2>&1 &")?;
        Ok(())
    }

    /// Waits until `holds` of the links' reports.
    fn until(&mut self, what: &str, holds: impl Fn(&Reports) -> bool) -> Result<Reports> {
        let read = |said: &Said| serde_json::from_str(&said.text).ok().map(Reports);
        let met = |said: &Said| read(said).is_some_and(|reports| holds(&reports));
        let text = match self.0.until(PATIENCE, "nvgate links --json", met) {
            Ok(text) => text,
            Err(error) => {
                let log = self
                    .0
                    .run("tail -30 /run/nvgate.log; ip -d link; cat /proc/net/bonding/bond0")?;
                return Err(error.context(format!("{what}; {log}")));
            }
        };
        Ok(Reports(serde_json::from_str(&text)?))
    }

    /// Waits until every link is as described, and bond0 is `bond`.
    fn until_well(&mut self, bond: &str) -> Result<Reports> {
        self.until(bond, |reports| {
            let observed = reports.of("bond0").and_then(|report| report.observed.as_deref());
            reports.complaints().is_empty() && observed.is_some_and(|words| words.contains(bond))
        })
    }

    /// Waits until `link` has a problem that begins so.
    fn until_told(&mut self, link: &str, sentence: &str) -> Result<Reports> {
        self.until(sentence, |reports| {
            let problems = reports.of(link).map(|report| &report.problems[..]).unwrap_or_default();
            problems.iter().any(|problem| problem.starts_with(sentence))
        })
    }

    fn pings(&mut self, address: &str) -> Result<()> {
        let ping = format!("ping -c 1 -W 1 {address}");
        self.0.until(PATIENCE, &ping, |said| said.status == 0).map(drop)
    }

    /// How health says that a component is.
    fn health(&mut self, component: &str) -> Result<Option<HealthState>> {
        let status: Status = serde_json::from_str(&self.0.run("nvgate status --json")?)?;
        let found = status.components.iter().find(|one| one.name == component);
        Ok(found.map(|one| one.status))
    }

    fn bonding(&mut self, option: &str) -> Result<String> {
        self.0
            .run(&format!("cut -d' ' -f1 /sys/class/net/bond0/bonding/{option}"))
            .map(|value| value.trim().to_owned())
    }
}

struct Reports(Vec<LinkReport>);

impl Reports {
    fn of(&self, link: &str) -> Option<&LinkReport> {
        self.0.iter().find(|report| report.name == link)
    }

    fn repairs(&self, link: &str) -> u64 {
        self.of(link).map_or(0, |report| report.repairs)
    }

    fn complaints(&self) -> Vec<&String> {
        self.0.iter().flat_map(|report| &report.problems).collect()
    }
}

const MTU: &str = "mtu: 1600";

#[test]
fn links_are_set_up_kept_and_complained_of_on_a_real_kernel() {
    if !can_boot("links_are_set_up_kept_and_complained_of_on_a_real_kernel") {
        return;
    }
    let mut trial = Trial::start().unwrap();
    active_backup_fails_over(&mut trial).unwrap();
    what_others_change_is_put_right(&mut trial).unwrap();
    management_has_its_own_routes(&mut trial).unwrap();
    transmit_load_balancing(&mut trial).unwrap();
    static_with_each_hash(&mut trial).unwrap();
    lacp_with_right_and_wrong_partners(&mut trial).unwrap();
    too_small_an_underlay_is_told(&mut trial).unwrap();
    who_changes_it_again_and_again_is_told_of(&mut trial).unwrap();
    ports_outlive_all_but_their_link(&mut trial).unwrap();
    links_outlive_the_gateway(&mut trial).unwrap();
}

fn active_backup_fails_over(trial: &mut Trial) -> Result<()> {
    trial.switch("bridge")?;
    trial.configure("mode: active-backup\n      primary: up0", MTU)?;
    trial.gateway()?;
    let reports = trial.until_well("active-backup")?;
    assert_eq!(
        reports.of("fabric0").and_then(|report| report.observed.as_deref()),
        Some("VLAN 100 of bond0, MTU 1600, 192.0.2.1/24, up")
    );
    trial.pings("192.0.2.13")?;
    trial.pings("203.0.113.17")?;
    assert_eq!(trial.bonding("active_slave")?, "up0");
    trial.0.run("ip -n switch link set s0 down")?;
    let told =
        trial.until_told("bond0", "member up0 has no carrier: the others carry its share")?;
    assert_eq!(told.repairs("bond0"), 0);
    assert_eq!(trial.bonding("active_slave")?, "up1");
    trial.pings("192.0.2.13")?;
    assert_eq!(trial.health("link bond0")?, Some(HealthState::Degraded));
    trial.0.run("ip -n switch link set s1 down")?;
    trial.until_told("bond0", "no member carries anything (up0, up1)")?;
    trial.0.run("ip -n switch link set s0 up; ip -n switch link set s1 up")?;
    trial.until_well("active-backup")?;
    assert_eq!(trial.bonding("active_slave")?, "up0");
    trial.pings("192.0.2.13")
}

fn what_others_change_is_put_right(trial: &mut Trial) -> Result<()> {
    for (change, link, repair) in [
        ("ip link set bond0 mtu 1400", "bond0", "set the MTU of bond0 to 1600"),
        ("ip link set up1 nomaster", "bond0", "put up1 into bond0"),
        ("ethtool -K up0 tso on", "up0", "turn tso off at up0"),
        ("ip address del 192.0.2.1/24 dev fabric0", "fabric0", "add 192.0.2.1/24 to fabric0"),
        ("ip link set front0 down", "front0", "bring front0 up, add 2001:db8:f::18/64 to front0"),
    ] {
        let before = trial.until_well("active-backup")?.repairs(link);
        trial.0.run(change)?;
        let after = trial.until(change, |reports| {
            reports.repairs(link) > before && reports.complaints().is_empty()
        })?;
        let done = after.of(link).and_then(|report| report.last_repair.as_deref());
        assert!(done.is_some_and(|done| done.contains(repair)), "{change}: {done:?}");
    }
    Ok(())
}

fn management_has_its_own_routes(trial: &mut Trial) -> Result<()> {
    let main = trial.0.run("ip route show table main")?;
    assert!(!main.contains("default"), "{main}");
    let own = trial.0.run("ip route show table 20054")?;
    let own: Vec<&str> = own.lines().map(str::trim).collect();
    assert_eq!(
        own,
        [
            "default via 198.51.100.1 dev mgmt0 proto 110",
            "unreachable default proto 110 metric 4294967294",
            "198.51.100.0/24 dev mgmt0 proto 110 scope link",
        ]
    );
    let own = trial.0.run("ip -6 route show table 20054")?;
    assert!(own.contains("default via 2001:db8:77::1 dev mgmt0 proto 110"), "{own}");
    assert!(own.contains("unreachable default dev lo proto 110 metric 4294967294"), "{own}");
    // What the host sends by itself goes by management; what has a port's address never does.
    trial.pings("100.64.0.1")?;
    trial.pings("2001:db8:64::1")?;
    for (what, route) in [
        ("the fabric leaves by management", "100.64.0.1 from 192.0.2.1"),
        ("the front end leaves by management", "100.64.0.1 from 203.0.113.18"),
        ("the front end leaves by management", "2001:db8:64::1 from 2001:db8:f::18"),
        ("management reaches the fabric", "192.0.2.13 from 198.51.100.129 iif mgmt0"),
    ] {
        let said = trial.0.ask(&format!("ip route get {route}"))?;
        assert!(said.status != 0 || said.text.starts_with("unreachable"), "{what}: {}", said.text);
    }
    trial.0.run("ip route del default table 20054 metric 0")?;
    trial.until("the default route", |reports| reports.repairs("mgmt0") > 0)?;
    trial.pings("100.64.0.1")
}

fn transmit_load_balancing(trial: &mut Trial) -> Result<()> {
    trial.configure("mode: transmit-load-balancing\n      monitor_millis: 50", MTU)?;
    trial.until_well("transmit-load-balancing")?;
    assert_eq!(trial.bonding("mode")?, "balance-tlb");
    assert_eq!(trial.bonding("miimon")?, "50");
    trial.pings("192.0.2.13")
}

fn static_with_each_hash(trial: &mut Trial) -> Result<()> {
    trial.switch("bond mode balance-xor miimon 100")?;
    for (hash, policy) in
        [("address", "layer2+3"), ("port", "layer3+4"), ("mac", "layer2"), ("tunnel", "encap3+4")]
    {
        trial.configure(&format!("mode: static\n      hash: {hash}"), MTU)?;
        trial.until_well(&format!("static by {hash}"))?;
        assert_eq!(trial.bonding("mode")?, "balance-xor");
        assert_eq!(trial.bonding("xmit_hash_policy")?, policy);
        trial.pings("192.0.2.13")?;
    }
    Ok(())
}

fn lacp_with_right_and_wrong_partners(trial: &mut Trial) -> Result<()> {
    const LACP: &str = "bond mode 802.3ad miimon 100 lacp_rate fast";
    // A switch without LACP, then one with it.
    trial.configure("mode: lacp\n      lacp_rate: fast\n      hash: port", MTU)?;
    trial
        .until_told("bond0", "no LACP partner answers: set the switch's ports up as one channel")?;
    trial.switch(LACP)?;
    trial.until_well("lacp by port, fast")?;
    trial.pings("192.0.2.13")?;
    trial.0.run("ip -n switch link set s1 down")?;
    trial.until_told("bond0", "member up1 has no carrier")?;
    trial.pings("192.0.2.13")?;
    trial.0.run("ip -n switch link set s1 up")?;
    trial.until_well("lacp by port, fast")?;
    // One cable in another channel.
    trial.0.run(&format!(
        "ip -n switch link set s1 nomaster
         ip -n switch link add lag1 type {LACP}
         ip -n switch link set s1 down
         ip -n switch link set s1 master lag1
         ip -n switch link set lag1 up; ip -n switch link set s1 up"
    ))?;
    trial.until_told("bond0", "member up1 does not have the LACP partner")?;
    let shown = trial.0.run("nvgate links")?;
    assert!(
        shown.contains("PROBLEMS") && shown.contains("its port on the switch is in another"),
        "{shown}"
    );
    trial.pings("192.0.2.13")?;
    trial.switch(LACP)?;
    trial.until_well("lacp by port, fast").map(drop)
}

fn too_small_an_underlay_is_told(trial: &mut Trial) -> Result<()> {
    trial.configure("mode: lacp\n      lacp_rate: fast\n      hash: port", "")?;
    trial.until("links without MTU", |reports| {
        reports.of("bond0").is_some_and(|report| !report.desired.contains("MTU"))
    })?;
    trial.0.run("ip link set bond0 mtu 1300")?;
    trial
        .until_told("fabric0", "its MTU is 1300, and tenants' packets in NVGRE need 1322: raise")?;
    trial.0.run(
        "ip link set bond0 mtu 1500; ip link set fabric0 mtu 1500; ip link set front0 mtu 1500",
    )?;
    trial.until_well("lacp by port, fast").map(drop)
}

/// Two who want different things do not fight for ever; a reload begins anew.
fn who_changes_it_again_and_again_is_told_of(trial: &mut Trial) -> Result<()> {
    const LACP: &str = "mode: lacp\n      lacp_rate: fast\n      hash: port";
    trial.configure(LACP, MTU)?;
    trial.until("links with MTU", |reports| {
        reports.of("fabric0").is_some_and(|report| report.desired.contains("MTU 1600"))
            && reports.complaints().is_empty()
    })?;
    trial.0.run("(while sleep 0.3; do ip link set fabric0 mtu 1400; done) >/dev/null 2>&1 & echo $! >/run/fight")?;
    trial.until_told("fabric0", "it was repaired 10 times within 60 s")?;
    trial.until_told("fabric0", "its MTU is 1400, not 1600")?;
    trial.0.run("kill $(cat /run/fight)")?;
    trial.configure(LACP, "mtu: 1601")?;
    trial
        .until("after a reload", |reports| {
            let well = |report: &LinkReport| {
                report.observed.as_deref().is_some_and(|words| words.contains("MTU 1601"))
            };
            reports.of("fabric0").is_some_and(well) && reports.complaints().is_empty()
        })
        .map(drop)
}

/// A port stays open while the bond below it changes its mode, and is lost with its link.
fn ports_outlive_all_but_their_link(trial: &mut Trial) -> Result<()> {
    for component in ["port fabric", "port front_end", "host"] {
        assert_eq!(trial.health(component)?, Some(HealthState::Ok), "{component}");
    }
    trial.0.run("ip link del fabric0")?;
    trial.until("fabric0 made anew", |reports| {
        let done = reports.of("fabric0").and_then(|report| report.last_repair.as_deref());
        let made = "make fabric0, VLAN 100 of bond0";
        done.is_some_and(|done| done.contains(made)) && reports.complaints().is_empty()
    })?;
    assert_eq!(trial.health("host")?, Some(HealthState::Failed));
    trial.pings("192.0.2.13")
}

fn links_outlive_the_gateway(trial: &mut Trial) -> Result<()> {
    trial.0.run("kill $(pidof nvgate)")?;
    trial.0.until(PATIENCE, "pidof nvgate", |said| said.status != 0)?;
    trial.pings("192.0.2.13").context("after the gateway")?;
    trial.pings("100.64.0.1")
}
