//! What the files say of BGP, as the plan has it.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

use nvgate_bfd::{Interval, Path, Role as BfdRole, SessionConfig};
use nvgate_bgp::config::{
    AddPathSend, AsnRange, FamilyConfig, GracefulRestart, HoldTime, LocalAs, MaxPrefixes, Opening,
    PeerConfig, PrivateAsns, Reach, RestartTime, ShutdownText,
};
use nvgate_bgp::policy::{
    Change, Martians, Outcome, Policy, Route, RouteSource, RuleId, Site, Teacher, TenantPeer,
    TranslationSide, Verdict,
};
use nvgate_bgp::{AsPath, Attributes, NeighborKind, Origin, Role};
use nvgate_model::{Asn, Prefix};

use super::*;
use crate::plan::{
    AggregatePlan, BgpLimits, BgpPeerPlan, BgpPlan, DecisionPlan, DynamicPlan, MultipathPath,
    Treatment,
};

fn plan_of(edits: &[(&str, &str)]) -> Plan {
    let [gateway, mut a, b] = base();
    for (from, to) in edits {
        assert!(a.contains(from), "{from}");
        a = a.replacen(from, to, 1);
    }
    prove_texts(&[gateway, a, b], &Leases::default()).unwrap().plan
}

fn bgp_of(edits: &[(&str, &str)]) -> BgpPlan {
    plan_of(edits).tenants[0].bgp.clone().unwrap()
}

/// The first peer, with this said of it instead of BFD.
fn vm_with(said: &str) -> BgpPeerPlan {
    bgp_of(&[("bfd: true", said)]).peers[0].clone()
}

#[test]
fn a_peer_that_says_little_has_the_defaults_and_the_address_next_to_it() {
    let [vm, office, routers] = <[BgpPeerPlan; 3]>::try_from(bgp_of(&[]).peers).unwrap();
    let family = FamilyConfig {
        add_path_receive: false,
        add_path_send: AddPathSend::Off,
        max_prefixes: None,
    };
    let md5_key = vm.config.md5_key.clone();
    assert_eq!(md5_key.as_ref().map(|key| key.bytes().len()), Some(44));
    let id = Ipv4Addr::new(10, 254, 254, 1);
    let expected = PeerConfig {
        description: "".into(),
        shutdown: None,
        local_address: Some("10.1.0.1".parse().unwrap()),
        remote_address: "10.1.0.10".parse().unwrap(),
        remote_port: 179,
        opening: Opening::Active,
        local_asn: Asn(64_512),
        local_as: None,
        remote_asns: AsnRange::single(Asn(65_010)),
        router_id: id,
        hold_time: HoldTime::new(90).unwrap(),
        connect_retry_secs: NonZeroU16::new(30).unwrap(),
        families: [Some(family), None],
        ipv6_next_hop: false,
        extended_messages: false,
        accept_as_set: false,
        role: None,
        role_strict: false,
        graceful_restart: GracefulRestart::Helper { notifications: true },
        reach: Reach::Connected,
        md5_key,
        bfd: true,
        own_as_allowed: 0,
        as_override: false,
        private_asns: PrivateAsns::Keep,
        next_hop_self: false,
        reflector_client: false,
        cluster_id: id,
        import: vm.config.import.clone(),
        export: None,
    };
    assert_eq!(*vm.config, expected);
    assert_eq!(vm.config.import.as_ref().unwrap().name.as_ref(), "from-vm");
    assert_eq!(vm.bfd, Some(SessionConfig::new(Path::SingleHop)));
    let tenant = TenantPeer { site: None, accept_default: true, announce_learned: true };
    assert_eq!(vm.tenant, Some(tenant));
    let treatment = Treatment {
        enforce_first_as: true,
        graceful_shutdown: true,
        blackhole: false,
        next_hop_unchanged: false,
    };
    assert_eq!((vm.treatment, vm.dynamic), (treatment, None));

    assert_eq!(office.config.local_address, Some(id.into()));
    assert_eq!((office.config.reach, office.config.bfd), (Reach::Multihop(64), false));
    assert_eq!(office.tenant, Some(TenantPeer { site: Some(Site(0)), ..tenant }));
    assert!(office.config.reflector_client && office.import.is_none() && office.export.is_some());

    let range = "10.2.0.0/25".parse().unwrap();
    assert_eq!(routers.dynamic, Some(DynamicPlan { range, limit: 8 }));
    assert_eq!((routers.config.opening, routers.config.local_address), (Opening::Dynamic, None));
    let asns = AsnRange::new(Asn(65_000), Asn(65_009)).unwrap();
    assert_eq!(routers.config.remote_asns, asns);
}

#[test]
fn everything_that_is_said_of_a_peer_is_in_its_plan() {
    let peer = vm_with(
        "description: a router
      shutdown: moving house
      local_address: 10.254.254.1
      ttl_security: 3
      port: 1179
      hold_secs: 0
      connect_retry_secs: 5
      families: [ipv6, ipv4]
      max_prefixes: {prefixes: 100, warning_percent: 50, restart_secs: 60}
      add_path: {receive: true, send: 4}
      ipv6: {max_prefixes: 7, add_path: {send: all}}
      ipv6_next_hop: true
      extended_messages: true
      accept_as_set: true
      graceful_restart: {mode: full, restart_secs: 4095, notifications: false}
      bfd: {interval_millis: 50, receive_interval_millis: 60, multiplier: 5, passive: true}
      role: provider
      role_strict: true
      local_as: {asn: 64600, no_prepend: true, replace_as: true}
      allow_own_as: 2
      as_override: true
      private_as: replace
      enforce_first_as: false
      next_hop: unchanged
      graceful_shutdown: false
      blackhole: true
      accept_default: false
      announce_learned: false",
    );
    let config = &peer.config;
    assert_eq!(config.shutdown, Some(ShutdownText::new("moving house").unwrap()));
    assert_eq!(config.local_address.unwrap().to_string(), "10.254.254.1");
    assert_eq!((config.reach, config.remote_port), (Reach::Security(3), 1179));
    assert_eq!(
        (config.hold_time, config.connect_retry_secs),
        (HoldTime::NONE, NonZeroU16::new(5).unwrap())
    );
    let bound = |prefixes, warning_percent, restart_secs| {
        Some(MaxPrefixes { prefixes, warning_percent, restart_secs })
    };
    let of_ipv4 = FamilyConfig {
        add_path_receive: true,
        add_path_send: AddPathSend::Best(4),
        max_prefixes: bound(100, 50, Some(60)),
    };
    let of_ipv6 = FamilyConfig {
        add_path_receive: false,
        add_path_send: AddPathSend::All,
        max_prefixes: bound(7, 80, None),
    };
    assert_eq!(config.families, [Some(of_ipv4), Some(of_ipv6)]);
    assert!(config.ipv6_next_hop && config.extended_messages && config.accept_as_set);
    let restart_time = RestartTime::new(4095).unwrap();
    let restart = GracefulRestart::Full { restart_time, notifications: false };
    assert_eq!(config.graceful_restart, restart);
    assert_eq!((config.role, config.role_strict), (Some(Role::Provider), true));
    let local_as = LocalAs { asn: Asn(64_600), no_prepend: true, replace_as: true };
    assert_eq!((config.local_as, config.own_as_allowed), (Some(local_as), 2));
    assert_eq!((config.as_override, config.private_asns), (true, PrivateAsns::Replace));
    let bfd = SessionConfig {
        desired_min_tx: Interval::from_micros(50_000).unwrap(),
        required_min_rx: Interval::from_micros(60_000).unwrap(),
        detect_multiplier: 5.try_into().unwrap(),
        role: BfdRole::Passive,
        path: Path::MultiHop { minimum_ttl: 253 },
    };
    assert_eq!(peer.bfd, Some(bfd));
    let treatment = Treatment {
        enforce_first_as: false,
        graceful_shutdown: false,
        blackhole: true,
        next_hop_unchanged: true,
    };
    assert_eq!((peer.treatment, config.next_hop_self), (treatment, false));
    let tenant = TenantPeer { site: None, accept_default: false, announce_learned: false };
    assert_eq!(peer.tenant, Some(tenant));
}

#[test]
fn bfd_over_several_hops_asks_for_a_ttl_only_where_bgp_does() {
    let path =
        |distance: &str| vm_with(&format!("{distance}\n      bfd: true")).bfd.map(|bfd| bfd.path);
    assert_eq!(path("multihop: 3"), Some(Path::MultiHop { minimum_ttl: 0 }));
    assert_eq!(path("ttl_security: 3"), Some(Path::MultiHop { minimum_ttl: 253 }));
    assert_eq!(path("multihop: 1"), Some(Path::SingleHop));
}

#[test]
fn words_numbers_and_records_say_the_same() {
    for (short, record) in [
        ("max_prefixes: 9", "max_prefixes: {prefixes: 9}"),
        ("bfd: true", "bfd: {interval_millis: 100}"),
        ("graceful_restart: full", "graceful_restart: {mode: full, restart_secs: 120}"),
        ("graceful_restart: off", "graceful_restart: {mode: off}"),
        ("shutdown: false", "hold_secs: 90"),
        ("export: none", "bfd: false"),
        ("multihop: 1", "families: ipv4"),
    ] {
        assert_eq!(vm_with(short), vm_with(record), "{short}");
    }
}

/// What the policy makes of a route that the first peer taught.
fn judged(policy: &Policy, prefix: &str, attributes: &Attributes) -> (Outcome, Attributes) {
    let teacher = Teacher {
        address: "10.1.0.10".parse().unwrap(),
        router_id: Ipv4Addr::LOCALHOST,
        kind: NeighborKind::External,
        client: false,
    };
    let route = Route { prefix: prefix.parse().unwrap(), source: RouteSource::Learned(teacher) };
    let mut change = Change::new(attributes, Asn(64_512));
    let outcome = policy.evaluate(&route, &mut change);
    (outcome, Cow::into_owned(change.attributes))
}

fn taught(path: &[u32]) -> Attributes {
    let path: Vec<Asn> = path.iter().copied().map(Asn).collect();
    let mut attributes = Attributes::originated("10.1.0.10".parse().unwrap(), Origin::Igp);
    attributes.as_path = AsPath::sequence(&path);
    attributes
}

#[test]
fn policies_do_what_their_rules_say_and_each_rule_is_found_in_the_file() {
    let bgp = bgp_of(&[]);
    let import = bgp.peers[0].import.as_ref().unwrap();
    let verdict = |prefix, path: &[u32]| judged(import, prefix, &taught(path)).0.verdict;
    assert_eq!(verdict("10.99.0.0/16", &[65_010]), Verdict::Accept);
    assert_eq!(verdict("172.31.1.0/24", &[65_010, 65_105]), Verdict::Accept);
    assert_eq!(verdict("172.31.0.0/20", &[65_010]), Verdict::Reject);
    assert_eq!(verdict("10.99.0.0/16", &[65_010, 65_012]), Verdict::Reject);
    let (outcome, changed) = judged(import, "10.99.0.0/16", &taught(&[65_011]));
    assert_eq!((outcome.weight, changed.local_preference), (Some(5), Some(200)));
    let place = bgp.rules.of(outcome.rule).unwrap();
    assert_eq!((place.policy.as_ref(), place.rule, place.file.as_ref()), ("from-vm", 1, FILE_A));
    let line = A.lines().nth(place.line as usize - 1).unwrap();
    assert_eq!(line, "        - match:");
    assert_eq!(bgp.rules.of(RuleId::NO_POLICY), None);

    let export = bgp.peers[1].export.as_ref().unwrap();
    let mut marked = taught(&[65_010]);
    let unmarked = judged(export, "10.0.0.0/8", &marked);
    assert_eq!((unmarked.0.rule, unmarked.0.verdict), (RuleId::DEFAULT, Verdict::Accept));
    assert_eq!(unmarked.1, marked);
    marked.communities = ["64512:7".parse().unwrap()].into_iter().collect();
    let (_, changed) = judged(export, "10.0.0.0/8", &marked);
    assert_eq!(changed.as_path.hop_count(), 3);
    assert!(changed.communities.contains("64512:1".parse().unwrap()));
}

const FILE_A: &str = "tenants.d/a.yaml";

#[test]
fn a_policy_has_another_digest_if_it_or_a_list_says_something_else() {
    let digest =
        |edits: &[(&str, &str)]| bgp_of(edits).peers[0].config.import.as_ref().unwrap().digest;
    let before = digest(&[]);
    assert_eq!(before, digest(&[("  policies:", "  # a comment\n  policies:")]));
    for edit in [
        ("10.99.0.0/16", "10.98.0.0/16"),
        ("65100-65110", "65100-65111"),
        ("weight: 5", "weight: 6"),
        ("    - name: to-office", "      default: reject\n    - name: to-office"),
        ("        - then: reject", "        - then: accept"),
    ] {
        assert_ne!(before, digest(&[edit]), "{edit:?}");
    }
}

#[test]
fn where_rules_are_written_is_no_change_of_a_plan() {
    let moved = bgp_of(&[("bgp:", "\n\n# moved\nbgp:")]);
    let first = RuleId::configured(0).unwrap();
    assert_ne!(bgp_of(&[]).rules.of(first), moved.rules.of(first));
    assert_eq!(bgp_of(&[]), moved);
}

#[test]
fn limits_and_choices_are_what_the_file_says_or_the_defaults() {
    let bgp = bgp_of(&[]);
    assert_eq!((bgp.limits, bgp.decision.multipath), (BgpLimits::TENANT, 1));
    let said = "  limits: {peers: 10, prefixes: 5, attributes_mib: 2, updates_per_sec: 3, \
                path_length: 4}\n  decision: {always_compare_med: true, multipath: 8, \
                multipath_path: length}\n  router_id: 1.2.3.4\n  peers:";
    let bgp = bgp_of(&[("  peers:", said)]);
    let limits = BgpLimits {
        peers: 10,
        prefixes: 5,
        attribute_bytes: 2 << 20,
        updates_per_sec: std::num::NonZeroU32::new(3),
        path_length: 4,
    };
    let decision = DecisionPlan {
        always_compare_med: true,
        multipath: 8,
        multipath_path: MultipathPath::Length,
    };
    assert_eq!((bgp.limits, bgp.decision), (limits, decision));
    let id = Ipv4Addr::new(1, 2, 3, 4);
    assert_eq!((bgp.router_id, bgp.cluster_id, bgp.peers[0].config.router_id), (id, id, id));
}

#[test]
fn the_front_end_announces_what_it_says_and_rejects_what_no_rule_lets_out() {
    let front_end = plan_of(&[]).gateway.front_end.bgp.unwrap();
    assert_eq!(front_end.bgp.router_id, Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(front_end.martians, Martians::NotGlobal);
    let aggregate = AggregatePlan {
        pool: "public".to_owned(),
        prefixes: vec!["203.0.113.0/29".parse().unwrap()],
    };
    assert_eq!(front_end.announce.aggregates, [aggregate]);
    assert!(front_end.announce.addresses && front_end.announce.front_end_prefixes);
    let [transit] = front_end.bgp.peers.as_slice() else { panic!("not one peer") };
    assert_eq!((transit.config.local_address, transit.tenant), (None, None));
    let judge = |policy: &Option<std::sync::Arc<Policy>>| {
        judged(policy.as_ref().unwrap(), "0.0.0.0/0", &taught(&[64_500])).0.verdict
    };
    assert_eq!(judge(&transit.import), Verdict::Accept);
    assert_eq!(judge(&transit.export), Verdict::Reject);
}

#[test]
fn what_the_built_in_rules_are_made_from_is_in_the_plan() {
    let plan = plan_of(&[]);
    let facts = plan.tenants[0].bgp_facts(&plan.gateway);
    let texts = |prefixes: &[Prefix]| {
        prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(texts(&facts.subnets), "10.1.0.0/24 fd00:1::/64 10.2.0.0/24 10.254.254.0/29");
    assert_eq!(texts(&facts.provider_space), "192.0.2.1/32 192.0.2.11/32 192.0.2.12/32");
    assert_eq!(
        texts(&facts.front_end_space),
        "203.0.113.0/29 198.51.100.0/30 203.0.113.0/32 203.0.113.1/32 203.0.113.9/32 \
         2001:db8:f::9/128"
    );
    let sides: Vec<_> = facts.translations.iter().map(|one| (one.site, one.side)).collect();
    let site = Site(0);
    assert_eq!(sides, [(site, TranslationSide::Local), (site, TranslationSide::Remote)]);
    let announced =
        plan_of(&[("    via: 10.2.0.20\n", "    via: 10.2.0.20\n    announce: true\n")]);
    let marks: Vec<_> = announced.tenants[0].routes.iter().map(|route| route.announce).collect();
    assert_eq!(marks, [true, false, false, false, false]);
}

#[test]
fn rules_hold_so_much_and_no_more() {
    let listed = (0..300).map(|one| format!("10.{}.{}.0/24", one / 256, one % 256));
    let listed = listed.collect::<Vec<_>>().join(", ");
    let rules = "        - {match: {prefix: theirs}, then: next}\n".repeat(900);
    let [gateway, a, b] = base();
    let a = a
        .replace("prefixes: 10.99.0.0/16}", &format!("prefixes: [{listed}]}}"))
        .replace("        - then: reject\n", &format!("{rules}        - then: reject\n"));
    let diagnostics = prove_texts(&[gateway, a, b], &Leases::default()).unwrap_err();
    assert_eq!(diagnostics.len(), 1);
    let message = &diagnostics[0].message;
    assert!(message.starts_with("with this the rules hold more than 262144 prefixes"), "{message}");
}
