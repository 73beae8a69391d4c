//! What proving gives: one error for one wrong thing, at its place; all errors at once; and plans
//! and leases that depend on nothing but what the files say.

mod bgp;
mod bgp_cases;
mod bgp_rule_cases;
mod cases;
mod links_cases;
mod secrets;
mod vpn_cases;

use proptest::prelude::*;

use super::*;
use crate::keys::{ListenerKeys, PreviousKey};
use crate::lease::LeaseKey;
use crate::plan::{DscpMode, RouteTarget, SubnetRole, TranslateSide};
use crate::schema::documents_of;
use bgp_cases::BGP_CASES;
use bgp_rule_cases::BGP_RULE_CASES;
use cases::{CASES, Case, Edit};
use links_cases::{LINKS, LINKS_CASES};
use vpn_cases::VPN_CASES;

const GATEWAY: &str = "\
fabric:
  link: fabric0
  provider_addresses: [192.0.2.1]
front_end:
  link: front0
  pools:
    - name: public
      prefixes: [203.0.113.0/29]
    - name: other
      prefixes: [198.51.100.0/30]
  shared_addresses: [203.0.113.9, '2001:db8:f::9']
  bgp:
    asn: 64496
    announce:
      aggregates: public
    peers:
      - name: transit
        address: 203.0.113.30
        asn: 64500
        import: full
        export: own
    policies:
      - name: full
        default: accept
      - name: own
        rules:
          - {match: {source: local}, then: accept}
";

const A: &str = "\
tenant: a
routing_domain: 00000000-0000-0000-0000-00000000000a
subnets:
  - name: web
    vsid: 5001
    prefixes: [10.1.0.0/24, 'fd00:1::/64']
  - name: data
    vsid: 5002
    prefixes: [10.2.0.0/24]
gateway_subnet:
  vsid: 5003
  prefixes: [10.254.254.0/29]
endpoints:
  - subnet: web
    customer_addresses: [10.1.0.10, 'fd00:1::10']
    mac: 02:00:00:00:00:0a
    provider_addresses: [192.0.2.11]
  - subnet: 5002
    customer_addresses: [10.2.0.20]
    mac: 02:00:00:00:00:0a
    provider_addresses: [192.0.2.12]
routes:
  - prefix: 10.50.0.0/16
    via: 10.2.0.20
  - prefix: 10.66.0.0/16
    blackhole: true
  - prefix: 192.168.0.0/16
    via: hq
  - prefix: 172.20.2.0/24
    via: hq
  - prefix: 172.16.0.0/24
    via: branch
nat:
  pool: public
  addresses: 2
  inbound:
    - protocol: tcp
      public_port: 443
      to: 10.1.0.10
    - protocol: both
      public_address: 2
      public_port: 8000-8099
      to: 10.50.0.1
      port: 9000
front_end_prefixes: ['fd00:1::/64']
limits:
  sessions: 100
vpn:
  listen:
    - name: main
    - name: shared
      address: 203.0.113.9
      port: 4500
      private_key: cAdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LGo=
  sites:
    - name: hq
      internet: true
      translate:
        - local: 10.1.0.0/24
          seen_as: 172.20.1.0/24
        - remote: 10.1.0.0/24
          seen_as: 172.20.2.0/24
      tunnels:
        - name: one
          listen: main
          public_key: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
          endpoint: 198.51.100.77:51820
          allowed: [192.168.0.0/16, 10.1.0.0/24]
          metric: 10
          probe: {address: 192.168.0.1, interval_millis: 500}
        - name: two
          listen: shared
          public_key: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
          preshared_key: FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=
          allowed: [192.168.0.0/16]
    - name: branch
      tunnels:
        - name: branch-one
          listen: shared
          public_key: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
          allowed: [172.16.0.0/24]
bgp:
  asn: 64512
  accept_default: true
  peers:
    - name: vm
      address: 10.1.0.10
      asn: 65010
      import: from-vm
      password: hOvBvWW2yPzXK8VbhmH5IIRdyKsWWgKTwCnDWrIMhPo=
      bfd: true
    - name: office
      address: 192.168.0.1
      asn: 64512
      export: to-office
      reflector_client: true
    - name: routers
      dynamic: 10.2.0.0/25
      asn: 65000-65009
      limit: 8
  policies:
    - name: from-vm
      rules:
        - match:
            prefix: [theirs, {prefix: 172.31.0.0/16, ge: 24}]
            as_path: {originates: [customers, 65010]}
          set: {local_preference: 200, weight: 5}
          then: accept
        - then: reject
    - name: to-office
      rules:
        - match: {communities: marked, peer: vm}
          set: {prepend: 2, next_hop: self, add_communities: '64512:1'}
          then: next
  prefix_lists:
    - {name: theirs, prefixes: 10.99.0.0/16}
  community_lists:
    - {name: marked, communities: '64512:*'}
  as_lists:
    - {name: customers, asns: [65011, 65100-65110]}
";

const B: &str = "\
tenant: b
routing_domain: 00000000-0000-0000-0000-00000000000b
subnets:
  - name: web
    vsid: 6001
    prefixes: [10.1.0.0/24]
endpoints:
  - subnet: web
    customer_addresses: [10.1.0.10]
    mac: 02:00:00:00:00:0a
    provider_addresses: [192.0.2.11]
nat:
  addresses: [203.0.113.7]
vpn:
  listen:
    - address: 203.0.113.9
      port: 4501
  sites:
    - name: hq
      internet: false
      tunnels:
        - name: one
          public_key: TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
          allowed: [192.168.0.0/16]
";

/// The three texts with the edits made, and where the marks were: file, line, column.
#[derive(Debug)]
struct Marked {
    texts: [String; 3],
    error: (String, u32, u32),
    note: Option<(String, u32, u32)>,
}

const FILES: [&str; 3] = ["gateway", "a", "b"];

fn edited(base: [String; 3], edits: &[Edit]) -> Marked {
    let mut texts = base;
    for (file, from, to) in edits {
        let index = FILES.iter().position(|name| name == file).unwrap();
        let plain = texts[index].replace("^^", "").replace("@@", "");
        assert!(plain.contains(from) || texts[index].contains(from), "{file} lacks {from:?}");
        texts[index] = texts[index].replacen(from, to, 1);
    }
    let take = |mark: &str| {
        let index = texts.iter().position(|text| text.contains(mark))?;
        let (before, _) = texts[index].split_once(mark)?;
        let other = if mark == "^^" { "@@" } else { "^^" };
        let before = before.replace(other, "");
        let line = u32::try_from(before.matches('\n').count()).unwrap() + 1;
        let column = u32::try_from(before.rsplit('\n').next()?.chars().count()).unwrap() + 1;
        Some((index, line, column))
    };
    let (error, note) = (take("^^").unwrap(), take("@@"));
    let names = ["gateway.yaml", "tenants.d/a.yaml", "tenants.d/b.yaml"];
    let named = |(index, line, column): (usize, u32, u32)| (names[index].to_owned(), line, column);
    Marked {
        texts: texts.map(|text| text.replace("^^", "").replace("@@", "")),
        error: named(error),
        note: note.map(named),
    }
}

fn prove_texts(texts: &[String; 3], leases: &Leases) -> Result<Proof, Vec<Diagnostic>> {
    let [gateway, a, b] = texts;
    let documents = documents_of(gateway, &[("tenants.d/a.yaml", a), ("tenants.d/b.yaml", b)]);
    prove(&documents, leases, &Keyring::default())
}

fn base() -> [String; 3] {
    [GATEWAY, A, B].map(str::to_owned)
}

/// The valid texts, and links beside them.
fn base_with_links() -> [String; 3] {
    [GATEWAY.to_owned() + LINKS, A.to_owned(), B.to_owned()]
}

#[test]
fn every_rule_gives_its_one_error_at_its_place() {
    let of_all = CASES.iter().chain(VPN_CASES).chain(BGP_CASES).chain(BGP_RULE_CASES);
    let of_all = of_all.map(|case| (base(), case));
    let of_links = LINKS_CASES.iter().map(|case| (base_with_links(), case));
    let mut wrong = Vec::new();
    for (base, Case { edits, message }) in of_all.chain(of_links) {
        let Marked { texts, error, note } = edited(base, edits);
        let diagnostics = match prove_texts(&texts, &Leases::default()) {
            Ok(_) => Vec::new(),
            Err(diagnostics) => diagnostics,
        };
        let right = diagnostics.len() == 1
            && diagnostics.iter().all(|diagnostic| {
                let Diagnostic { file, line, column, .. } = diagnostic;
                let place = (file.clone(), *line, *column);
                let first = diagnostic.notes.first();
                let noted = first.map(|note| (note.file.clone(), note.line, note.column));
                place == error && noted == note && diagnostic.message.contains(message)
            });
        if !right {
            let shown: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
            wrong.push(format!("expected {error:?} {note:?} {message}\n{}", shown.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn the_plan_is_what_the_files_say() {
    let Proof { plan, leases, .. } = prove_texts(&base(), &Leases::default()).unwrap();
    assert_eq!(plan.gateway.fabric.dscp, DscpMode::Uniform);
    assert_eq!(plan.gateway.gateway_mac.to_string(), "02:6e:76:67:00:01");
    assert_eq!(plan.gateway.admin_listen.to_string(), "127.0.0.1:9470");
    assert_eq!(plan.gateway.flow_entries, 262_144);
    let [a, b] = plan.tenants.as_slice() else { panic!("not two tenants") };
    assert_eq!(a.subnets.iter().filter(|one| one.role == SubnetRole::Gateway).count(), 1);
    assert_eq!(a.endpoints[1].vsid.number(), 5002);
    assert_eq!(a.routes[1].target, RouteTarget::Blackhole);
    assert_eq!((a.limits.sessions, a.limits.sessions_per_customer), (100, 100));
    let nat = a.nat.as_ref().unwrap();
    let rules: Vec<_> = nat
        .inbound
        .iter()
        .map(|rule| {
            let public = format!("{} {}:{}", rule.protocol, rule.public_address, rule.public_port);
            format!("{public}+{} {}:{}", rule.port_count, rule.customer_address, rule.customer_port)
        })
        .collect();
    assert_eq!(
        rules,
        [
            "tcp 203.0.113.0:443+1 10.1.0.10:443",
            "tcp 203.0.113.1:8000+100 10.50.0.1:9000",
            "udp 203.0.113.1:8000+100 10.50.0.1:9000",
        ]
    );
    assert_eq!(b.nat.as_ref().unwrap().addresses[0].to_string(), "203.0.113.7");
    assert_eq!(leases.held().count(), 2);
    assert_eq!(prove_texts(&base(), &leases).unwrap().leases, leases);
}

#[test]
fn a_default_route_beside_nat_is_allowed() {
    let [gateway, a, b] = base();
    let a = a.replace("10.50.0.0/16", "0.0.0.0/0");
    let plan = prove_texts(&[gateway, a, b], &Leases::default()).unwrap().plan;
    assert_eq!(plan.tenants[0].routes[0].prefix, nvgate_model::Prefix::DEFAULT_V4);
}

#[test]
fn names_of_files_and_new_tenants_do_not_move_leases() {
    let first = prove_texts(&base(), &Leases::default()).unwrap();
    let newcomer = A
        .replace("tenant: a", "tenant: aaa")
        .replace("00000000a", "00000000c")
        .replace("vsid: 5", "vsid: 7")
        .replace("subnet: 5002", "subnet: 7002")
        .replace("port: 4500", "port: 4502")
        .replace("fd00:1:", "fd00:c:");
    let documents = documents_of(GATEWAY, &[("0.yaml", B), ("1.yaml", &newcomer), ("2.yaml", A)]);
    let second = prove(&documents, &first.leases, &kept(&first)).unwrap();
    assert_eq!(second.plan.tenants[0], first.plan.tenants[0]);
    let addresses = &second.plan.tenants[1].nat.as_ref().unwrap().addresses;
    assert_eq!(addresses[0].to_string(), "203.0.113.2");
}

/// The keys as they are once the new ones of a proof are kept.
fn kept(proof: &Proof) -> Keyring {
    let mut keyring = Keyring::default();
    for NewKey { name, key } in proof.new_keys.clone() {
        keyring.insert(name, ListenerKeys { current: key, previous: None });
    }
    keyring
}

#[test]
fn the_vpn_is_what_the_files_say_and_nat_leaves_its_ports_alone() {
    let proof = prove_texts(&base(), &Leases::default()).unwrap();
    let a = &proof.plan.tenants[0];
    let nat = a.nat.as_ref().unwrap();
    assert_eq!(nat.reserved_udp, [(nat.addresses[0], 51_820)]);
    let vpn = a.vpn.as_ref().unwrap();
    let sockets: Vec<_> =
        vpn.listeners.iter().map(|one| format!("{}:{}", one.address, one.port)).collect();
    assert_eq!(sockets, ["203.0.113.0:51820", "203.0.113.9:4500"]);
    let targets: Vec<_> = a.routes[2..].iter().map(|route| route.target).collect();
    assert_eq!(targets, [0, 0, 1].map(RouteTarget::Site));
    let hq = &vpn.sites[0];
    let to: Vec<_> = hq
        .translate
        .iter()
        .map(|one| (one.side, one.from.to_string(), one.to.to_string()))
        .collect();
    let from = || "10.1.0.0/24".to_owned();
    assert_eq!(
        to,
        [
            (TranslateSide::Local, from(), "172.20.1.0/24".to_owned()),
            (TranslateSide::Remote, from(), "172.20.2.0/24".to_owned()),
        ]
    );
    let [one, two] = hq.tunnels.as_slice() else { panic!("not two tunnels") };
    let probe = one.probe.unwrap();
    assert_eq!((probe.interval_millis, probe.failures, probe.hold_secs), (500, 3, 10));
    assert_eq!((one.listener, one.metric, one.preshared.is_some()), (0, 10, false));
    assert_eq!((two.listener, two.metric, two.preshared.is_some()), (1, 100, true));
    assert_eq!(proof.plan.tenants[1].vpn.as_ref().unwrap().listeners[0].name, "main");
}

#[test]
fn a_listener_without_a_key_is_given_one_and_keeps_it() {
    let first = prove_texts(&base(), &Leases::default()).unwrap();
    let names: Vec<_> = first.new_keys.iter().map(|new| new.name.clone()).collect();
    let [gateway, a, b] = base();
    let documents = documents_of(&gateway, &[("a.yaml", &a), ("b.yaml", &b)]);
    assert_eq!(documents.generated_keys(), names);
    assert_eq!(names.len(), 2);
    let second = prove(&documents, &first.leases, &kept(&first)).unwrap();
    assert_eq!((second.plan, second.new_keys), (first.plan.clone(), Vec::new()));
    let other = prove(&documents, &first.leases, &Keyring::default()).unwrap();
    assert_ne!(other.plan, first.plan, "keys that are not kept are drawn anew");
}

#[test]
fn a_previous_key_of_the_store_is_accepted_unless_the_file_names_one() {
    let previous = PreviousKey {
        key: "cAdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LGo=".parse().unwrap(),
        expires: std::time::SystemTime::now(),
    };
    let first = prove_texts(&base(), &Leases::default()).unwrap();
    let mut keyring = kept(&first);
    let NewKey { name, key } = first.new_keys[0].clone();
    keyring.insert(name, ListenerKeys { current: key, previous: Some(previous.clone()) });
    let [gateway, a, b] = base();
    let a = a.replace("- name: two\n", "- name: zwei\n");
    let documents = documents_of(&gateway, &[("a.yaml", &a), ("b.yaml", &b)]);
    let plan = prove(&documents, &Leases::default(), &keyring).unwrap().plan;
    let listener = &plan.tenants[0].vpn.as_ref().unwrap().listeners[0];
    assert_eq!(listener.previous.as_ref(), Some(&previous.key));
}

#[test]
fn a_site_may_be_a_default_route_and_receive_published_services() {
    let [gateway, a, b] = base();
    let a = a
        .replace("allowed: [172.16.0.0/24]", "allowed: ['0.0.0.0/0', 172.16.0.0/24]")
        .replace("prefix: 172.16.0.0/24", "prefix: 0.0.0.0/0")
        .replace("to: 10.50.0.1", "to: 172.16.0.7");
    let plan = prove_texts(&[gateway, a, b], &Leases::default()).unwrap().plan;
    assert_eq!(plan.tenants[0].routes[4].prefix, nvgate_model::Prefix::DEFAULT_V4);
}

#[test]
fn a_shared_address_that_a_tenant_leases_is_refused() {
    let leases = prove_texts(&base(), &Leases::default()).unwrap().leases;
    let [gateway, a, b] = base();
    let gateway = gateway.replace("[203.0.113.9,", "[203.0.113.9, 203.0.113.1,");
    let diagnostics = prove_texts(&[gateway, a, b], &leases).unwrap_err();
    assert_eq!(diagnostics.len(), 1);
    let message = &diagnostics[0].message;
    assert!(message.starts_with("public address 203.0.113.1 is leased to tenant `a`"), "{message}");
}

#[test]
fn an_explicit_address_that_another_tenant_leases_is_refused() {
    let leases = prove_texts(&base(), &Leases::default()).unwrap().leases;
    let [gateway, a, b] = base();
    let b = b.replace("203.0.113.7", "203.0.113.1");
    let diagnostics = prove_texts(&[gateway, a.clone(), b.clone()], &leases).unwrap_err();
    assert_eq!(diagnostics.len(), 1);
    assert!(
        diagnostics[0].message.starts_with("public address 203.0.113.1 is leased to tenant `a`"),
        "{}",
        diagnostics[0]
    );
    // Once that tenant asks for one address only, the second one is free.
    let fewer =
        a.replace("addresses: 2", "addresses: 1").replace("public_address: 2", "public_address: 1");
    assert!(prove_texts(&[GATEWAY.to_owned(), fewer, b], &leases).is_ok());
}

#[test]
fn a_tenant_may_keep_its_leased_address_by_naming_it() {
    let leases = prove_texts(&base(), &Leases::default()).unwrap().leases;
    let [gateway, a, b] = base();
    let a = a.replace("addresses: 2", "addresses: [203.0.113.1, 203.0.113.0]");
    let Proof { plan, leases, .. } = prove_texts(&[gateway, a, b], &leases).unwrap();
    assert_eq!(plan.tenants[0].nat.as_ref().unwrap().addresses[0].to_string(), "203.0.113.1");
    assert_eq!(leases.held().count(), 0);
}

#[test]
fn a_lease_is_kept_though_another_would_come_first() {
    let key = LeaseKey {
        routing_domain: "00000000-0000-0000-0000-00000000000a".parse().unwrap(),
        pool: "public".to_owned(),
        ordinal: 1,
    };
    let leases = Leases::new([(key, "203.0.113.5".parse().unwrap())], []);
    let plan = prove_texts(&base(), &leases).unwrap().plan;
    let addresses = &plan.tenants[0].nat.as_ref().unwrap().addresses;
    assert_eq!(addresses[0].to_string(), "203.0.113.0");
    assert_eq!(addresses[1].to_string(), "203.0.113.5");
}

#[test]
fn all_errors_of_all_files_are_reported_at_once() {
    let gateway = GATEWAY.replace("fabric0", "a/b").replace("198.51.100.0/30", "203.0.113.0/30");
    let a = A
        .replace("vsid: 5003", "vsid: 5001")
        .replace("10.254.254.0/29", "10.254.254.1/29")
        .replace("protocol: tcp", "protocol: tpc")
        .replace("'fd00:1::10'", "10.1.0.255")
        .replace("sessions: 100", "session: 100");
    let b = B.replace("vsid: 6001", "vsid: 5002").replace("nat:", "nat: 3\nnat:");
    let broken = "tenant: [";
    let documents = documents_of(
        &gateway,
        &[("a.yaml", &a), ("b.yaml", &b), ("c.yaml", broken), ("d.yaml", ""), ("e.yaml", B)],
    );
    let diagnostics = prove(&documents, &Leases::default(), &Keyring::default()).unwrap_err();
    let found: Vec<_> =
        diagnostics.iter().map(|one| format!("{}:{}", one.file, one.line)).collect();
    let expected = [
        "gateway.yaml:2",
        "gateway.yaml:10",
        "a.yaml:11",
        "a.yaml:12",
        "a.yaml:15",
        "a.yaml:37",
        "a.yaml:47",
        "b.yaml:5",
        "b.yaml:12",
        "b.yaml:13",
        "c.yaml:1",
        "d.yaml:1",
        "e.yaml:1",
        "e.yaml:2",
        "e.yaml:17",
    ];
    let text: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{}", text.join("\n"));
}

#[test]
fn a_missing_gateway_file_leaves_the_tenants_to_be_proven() {
    let documents = documents_of("", &[("a.yaml", &A.replace("'fd00:1::10'", "'fd00:1::1'"))]);
    let diagnostics = prove(&documents, &Leases::default(), &Keyring::default()).unwrap_err();
    let messages: Vec<_> = diagnostics.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].contains("found nothing"), "{messages:?}");
    assert!(messages[1].contains("is the default gateway"), "{messages:?}");
}

proptest! {
    /// A plan, or at least one error: whatever is cut out of the files or put into them.
    #[test]
    fn any_damage_to_the_files_gives_a_plan_or_errors(
        which in 0_usize..3,
        at in 0.0_f64..1.0,
        removed in 0_usize..60,
        inserted in "[a-z0-9:.\\[\\]{}/' \n-]{0,12}",
    ) {
        let mut texts = base();
        let text = &mut texts[which];
        let start = ((text.len() as f64) * at) as usize;
        let end = (start + removed).min(text.len());
        text.replace_range(start..end, &inserted);
        if let Err(diagnostics) = prove_texts(&texts, &Leases::default()) {
            prop_assert!(!diagnostics.is_empty());
            for diagnostic in diagnostics {
                prop_assert!(diagnostic.line > 0 && diagnostic.column > 0);
                prop_assert!(!diagnostic.to_string().is_empty());
            }
        }
    }

    /// Lines taken away or repeated keep the YAML whole more often and so reach further.
    #[test]
    fn any_lines_missing_or_repeated_give_a_plan_or_errors(
        which in 0_usize..3,
        at in 0.0_f64..1.0,
        lines in 1_usize..6,
        repeated in any::<bool>(),
    ) {
        let mut texts = base();
        let all: Vec<&str> = texts[which].lines().collect();
        let start = ((all.len() as f64) * at) as usize;
        let end = (start + lines).min(all.len());
        let kept = if repeated {
            [&all[..end], &all[start..]].concat()
        } else {
            [&all[..start], &all[end..]].concat()
        };
        texts[which] = kept.join("\n");
        if let Err(diagnostics) = prove_texts(&texts, &Leases::default()) {
            prop_assert!(!diagnostics.is_empty());
        }
    }
}
