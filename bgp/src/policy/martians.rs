//! Prefixes that no neighbour can rightly announce.
//!
//! Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190) of
//! 2025, and the multicast blocks, which those registries leave out.

use nvgate_model::Prefix;

use super::prefix_list::PrefixList;

/// What is refused as a martian.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Martians {
    /// What nothing can be forwarded to: this network, loopback, link-local, multicast, reserved.
    /// Private and shared space, unique local addresses and documentation are not among it: a tenant
    /// rightly uses them.
    Unforwardable,
    /// Beside those, whatever the registries say is not globally reachable: for the public side.
    NotGlobal,
}

/// Not forwardable whatever the place.
const UNFORWARDABLE: [&str; 9] = [
    "0.0.0.0/8",      // this network: RFC 791 section 3.2
    "127.0.0.0/8",    // loopback: RFC 1122 section 3.2.1.3
    "169.254.0.0/16", // link-local: RFC 3927
    "224.0.0.0/3",    // multicast and reserved: RFC 5771, RFC 1112 section 4, RFC 919
    "::/128",         // unspecified: RFC 4291
    "::1/128",        // loopback: RFC 4291
    "::ffff:0:0/96",  // IPv4-mapped: RFC 4291
    "fe80::/10",      // link-local: RFC 4291
    "ff00::/8",       // multicast: RFC 4291
];

/// Beside [`UNFORWARDABLE`], not globally reachable.
const NOT_GLOBAL: [&str; 17] = [
    "10.0.0.0/8",      // private use: RFC 1918
    "100.64.0.0/10",   // shared address space: RFC 6598
    "172.16.0.0/12",   // private use: RFC 1918
    "192.0.0.0/24",    // IETF protocol assignments: RFC 6890 section 2.1
    "192.0.2.0/24",    // documentation: RFC 5737
    "192.168.0.0/16",  // private use: RFC 1918
    "198.18.0.0/15",   // benchmarking: RFC 2544
    "198.51.100.0/24", // documentation: RFC 5737
    "203.0.113.0/24",  // documentation: RFC 5737
    "64:ff9b:1::/48",  // local-use translation: RFC 8215
    "100::/64",        // discard only: RFC 6666
    "100:0:0:1::/64",  // dummy prefix: RFC 9780
    "2001::/23",       // IETF protocol assignments: RFC 2928
    "2001:db8::/32",   // documentation: RFC 3849
    "3fff::/20",       // documentation: RFC 9637
    "5f00::/16",       // segment routing SIDs: RFC 9602
    "fc00::/7",        // unique local: RFC 4193
];

/// Within [`NOT_GLOBAL`], and yet globally reachable, or not said to be unreachable.
const GLOBAL: [&str; 10] = [
    "192.0.0.9/32",    // port control anycast: RFC 7723
    "192.0.0.10/32",   // TURN anycast: RFC 8155
    "2001::/32",       // Teredo: RFC 4380
    "2001:1::1/128",   // port control anycast: RFC 7723
    "2001:1::2/128",   // TURN anycast: RFC 8155
    "2001:1::3/128",   // DNS-SD SRP anycast: RFC 9665
    "2001:3::/32",     // AMT: RFC 7450
    "2001:4:112::/48", // AS112: RFC 7535
    "2001:20::/28",    // ORCHIDv2: RFC 7343
    "2001:30::/28",    // drone remote identification: RFC 9374
];

/// The martians of one place, compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MartianList {
    refused: PrefixList,
    global: PrefixList,
}

impl MartianList {
    pub(super) fn new(martians: Martians) -> Self {
        let not_global: &[&str] = match martians {
            Martians::Unforwardable => &[],
            Martians::NotGlobal => &NOT_GLOBAL,
        };
        Self { refused: list(&[&UNFORWARDABLE, not_global]), global: list(&[&GLOBAL]) }
    }

    /// Whether `prefix` lies within a martian block.
    pub(super) fn holds(&self, prefix: Prefix) -> bool {
        self.refused.holds(prefix) && !self.global.holds(prefix)
    }
}

fn list(texts: &[&[&str]]) -> PrefixList {
    let prefixes = texts.iter().copied().flatten();
    PrefixList::within(prefixes.map(|text| text.parse().expect("the tables above hold prefixes")))
}
