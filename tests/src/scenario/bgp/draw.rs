//! What is drawn: routes that routers tell, and how they and their tenants are configured.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use nvgate_bgp::config::Opening;
use nvgate_model::Prefix;

use super::Random;
use super::plans::{ROUTERS, RouterPlan, Tenant, router_end};
use crate::model_bgp::{Alike, ExportRule, ImportRule, OWN_ASN, Telling};
use crate::rig_plan::{APP, WEB, customer, customer_v6};

/// What routers tell: what nobody minds, what is around and within what they must not tell, and that.
const PREFIXES: [&str; 18] = [
    "172.30.0.0/16",
    "172.30.9.0/24",
    "172.30.10.0/24",
    "172.31.0.0/16",
    "192.168.0.0/16",
    "192.168.7.0/24",
    "198.51.100.0/24",
    "0.0.0.0/0",
    "10.0.0.0/8",
    "fd00:9::/32",
    "fd00:9:1::/48",
    "10.1.0.0/24",
    "10.1.0.128/25",
    "10.254.254.0/30",
    "172.16.0.11/32",
    "203.0.113.0/25",
    "127.1.0.0/16",
    "fd00:1::/64",
];
/// The last of them that are refused whoever tells them.
const REFUSED: usize = 7;
/// Where packets are sent: into what routers tell, and elsewhere.
pub(super) const TARGETS: [&str; 8] = [
    "172.30.1.1",
    "172.30.9.1",
    "172.30.10.1",
    "172.31.5.5",
    "192.168.1.1",
    "192.168.7.1",
    "198.51.100.77",
    "100.66.1.1",
];
const TAGS: [u32; 4] = [64_601 << 16 | 1, 64_601 << 16 | 2, 0xffff_ff01, 0xffff_ff02];

/// The lookup record that comes and goes: a next hop that routers name.
pub(super) const SPARE: u8 = 30;

impl RouterPlan {
    /// A router of a tenant that has just come.
    pub(super) fn new(random: &mut Random) -> Self {
        let mut router = Self {
            asn: random.pick(&[64_601, 64_602, 64_601, OWN_ASN]),
            opening: random.pick(&[Opening::Active, Opening::Passive]),
            configured: true,
            shutdown: false,
            accept_default: random.chance(50),
            announce_learned: random.chance(75),
            import: ImportRule::None,
            export: ExportRule::None,
            tells: BTreeMap::new(),
        };
        router.draw_routes(random);
        router
    }

    /// Tells some of what it may tell, in part as before.
    pub(super) fn draw_routes(&mut self, random: &mut Random) {
        if random.chance(10) {
            return self.tells.clear();
        }
        for text in PREFIXES {
            let rarely = PREFIXES[PREFIXES.len() - REFUSED..].contains(&text);
            if random.chance(if rarely { 88 } else { 60 }) {
                continue;
            }
            let prefix: Prefix = text.parse().expect("a prefix");
            if random.chance(35) {
                self.tells.remove(&prefix);
            } else {
                let telling = self.draw(prefix, random);
                self.tells.insert(prefix, telling);
            }
        }
    }

    fn draw(&self, prefix: Prefix, random: &mut Random) -> Telling {
        let external = self.asn != OWN_ASN;
        let mut path: Vec<u32> = external.then_some(self.asn).into_iter().collect();
        for _ in 0..random.below(3) {
            path.push(random.pick(&[65_001, 65_002, 4_200_000_000]));
        }
        if random.chance(5) {
            path.push(OWN_ASN);
        }
        if random.chance(3) {
            path.insert(0, 65_009);
        }
        let tags = (0..random.below(3)).map(|_| match random.chance(15) {
            true => random.pick(&TAGS),
            false => random.pick(&TAGS[..2]),
        });
        Telling {
            path,
            communities: tags.collect(),
            origin: random.below(3) as u8,
            med: random.chance(40).then(|| random.below(3) as u32),
            // Internal neighbours must tell one (RFC 4271 section 5.1.5).
            preference: (!external).then(|| random.pick(&[50, 100, 200])),
            next_hop: next_hop(prefix.is_ipv4(), random),
        }
    }

    /// Changes one thing about how the gateway treats it.
    pub(super) fn reconfigure(&mut self, random: &mut Random) {
        match random.below(9) {
            0 => self.configured ^= true,
            1 => self.shutdown ^= true,
            2 => self.accept_default ^= true,
            3 => self.announce_learned ^= true,
            4..7 => self.import = draw_import(random),
            _ => self.export = draw_export(random),
        }
    }
}

/// An own address of a router, the spare one, one of nobody, or the gateway's own.
fn next_hop(is_ipv4: bool, random: &mut Random) -> IpAddr {
    let (subnet, last) = match random.below(20) {
        0 | 1 => (WEB, SPARE),
        2 => (WEB, 99),
        3 => (WEB, 1),
        _ => {
            let end = router_end(random.below(ROUTERS), 0);
            let IpAddr::V4(address) = end.address else { return end.address };
            let [_, subnet, _, last] = address.octets();
            (subnet, last)
        }
    };
    if is_ipv4 { customer(subnet, last).into() } else { customer_v6(subnet, last).into() }
}

fn draw_import(random: &mut Random) -> ImportRule {
    match random.below(5) {
        0 => ImportRule::None,
        1 => ImportRule::Prefer(random.pick(&[90, 150])),
        2 => ImportRule::PreferTagged(TAGS[0], 300),
        3 => ImportRule::RejectWithin("172.30.0.0/16".parse().expect("a prefix")),
        _ => ImportRule::Weigh(random.pick(&[1, 7])),
    }
}

fn draw_export(random: &mut Random) -> ExportRule {
    match random.below(5) {
        0 => ExportRule::None,
        1 => ExportRule::RejectTagged(TAGS[1]),
        2 => ExportRule::Tag(OWN_ASN << 16 | 9),
        3 => ExportRule::Prepend(2),
        _ => ExportRule::Med(random.below(100) as u32),
    }
}

impl Tenant {
    /// A tenant whose routers are all configured.
    pub(super) fn new(number: u8, random: &mut Random) -> Self {
        Self {
            number,
            present: true,
            spare: random.chance(50),
            announce_static: random.chance(50),
            always_med: random.chance(40),
            multipath: 1 + random.below(3) as u8,
            alike: random.pick(&[Alike::Path, Alike::Neighbour, Alike::Length]),
            routers: (0..ROUTERS).map(|_| RouterPlan::new(random)).collect(),
        }
    }

    /// Changes one thing about it.
    pub(super) fn reconfigure(&mut self, random: &mut Random) {
        match random.below(6) {
            0 => self.present ^= true,
            1 => self.spare ^= true,
            2 => self.announce_static ^= true,
            3 => self.always_med ^= true,
            _ => {
                self.multipath = 1 + random.below(3) as u8;
                self.alike = random.pick(&[Alike::Path, Alike::Neighbour, Alike::Length]);
            }
        }
    }
}

/// The static route of every tenant, by the endpoint 20 of [`APP`].
pub(super) const STATIC: (&str, Ipv4Addr) = ("172.31.0.0/16", customer(APP, 20));
