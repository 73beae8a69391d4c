//! The VPN part of a tenant's plan: listeners, sites and tunnels, with every name resolved to a
//! position and every key at hand.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

use nvgate_model::{CustomerAddress, FrontEndAddress, Prefix};
use nvgate_vpn::{PresharedKey, PrivateKey, PublicKey};

/// Site-to-site VPN of one tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VpnPlan {
    /// Where sites reach the gateway: 1 to 16.
    pub listeners: Vec<ListenerPlan>,
    /// The tenant's premises: 1 to 256, at most [`VpnPlan::MAX_SITES`] in a plan.
    pub sites: Vec<SitePlan>,
}

impl VpnPlan {
    /// Sites of one gateway.
    pub const MAX_SITES: usize = 4095;
}

/// A socket of the front end at which the gateway answers WireGuard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerPlan {
    /// What the tenant calls it.
    pub name: String,
    /// One of the tenant's NAT addresses or of the gateway's shared ones.
    pub address: FrontEndAddress,
    /// The UDP port; no other listener of the plan has it on this address.
    pub port: u16,
    /// The gateway's private key here.
    pub key: PrivateKey,
    /// The private key before it, as long as peers that still use it are to be answered.
    pub previous: Option<PrivateKey>,
}

/// A site: one of the tenant's premises.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SitePlan {
    /// What the tenant calls it, unique in the tenant.
    pub name: String,
    /// Whether it may use the tenant's NAT, which the tenant then has.
    pub internet: bool,
    /// 1:1 translations; the prefixes of one side and of what they are seen as do not overlap.
    pub translate: Vec<TranslatePlan>,
    /// The ways to it: 1 to 8.
    pub tunnels: Vec<TunnelPlan>,
}

impl SitePlan {
    /// What the site sees a prefix of the tenant's network as: more than one prefix, if only parts
    /// of it are translated.
    #[must_use]
    pub fn sees(&self, prefix: Prefix) -> Vec<Prefix> {
        let local = self.translate.iter().filter(|one| one.side == TranslateSide::Local);
        let hidden: Vec<Prefix> = local.clone().map(|one| one.from).collect();
        let mut seen = without(prefix, &hidden);
        seen.extend(
            local.filter_map(|one| Some(moved(common(prefix, one.from)?, one.from, one.to))),
        );
        seen.sort_unstable();
        seen
    }
}

/// A 1:1 translation of prefixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TranslatePlan {
    /// Whose prefix it is.
    pub side: TranslateSide,
    /// The prefix as its owner has it.
    pub from: Prefix,
    /// The prefix as the other side sees it; of the same family and length.
    pub to: Prefix,
}

/// Whose prefix is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TranslateSide {
    /// The tenant's network's; the site sees it translated.
    Local,
    /// The site's; the tenant's network sees it translated.
    Remote,
}

/// A WireGuard tunnel to a site.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelPlan {
    /// What the tenant calls it, unique in the site.
    pub name: String,
    /// The listener it ends at, a position in [`VpnPlan::listeners`].
    pub listener: usize,
    /// The site's public key, once on each listener.
    pub peer: PublicKey,
    /// A secret that both sides have.
    pub preshared: Option<PresharedKey>,
    /// Where the site is, of the listener's family; `None` waits for the site to begin.
    pub endpoint: Option<SocketAddr>,
    /// Inner prefixes accepted from and sent to this tunnel, as the site has them.
    pub allowed: Vec<Prefix>,
    /// Seconds of silence after which a keepalive is sent.
    pub keepalive_secs: Option<NonZeroU16>,
    /// Lower wins among the site's tunnels; equal ones share by flow.
    pub metric: u32,
    /// What may pass a second.
    pub bandwidth: Bandwidth,
    /// Watches whether the site answers.
    pub probe: Option<ProbePlan>,
}

/// What may pass a tunnel, in kilobits of inner packets a second; `None` is unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bandwidth {
    /// From the site.
    pub inbound_kbps: Option<NonZeroU32>,
    /// To the site.
    pub outbound_kbps: Option<NonZeroU32>,
}

/// Echo requests through a tunnel that tell whether it works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbePlan {
    /// An address of the site, as the site has it; within the tunnel's allowed prefixes.
    pub address: CustomerAddress,
    /// Milliseconds between two requests, 100 to 60000.
    pub interval_millis: u32,
    /// Requests without an answer after which the tunnel is down, 1 to 100.
    pub failures: u32,
    /// Seconds that it must have answered before it is used again, 0 to 3600.
    pub hold_secs: u32,
}

/// What is left of `prefix` without all of `holes`.
pub(super) fn without(prefix: Prefix, holes: &[Prefix]) -> Vec<Prefix> {
    holes.iter().fold(vec![prefix], |left, &hole| {
        left.into_iter().flat_map(|prefix| prefix.without(hole)).collect()
    })
}

/// The addresses that two prefixes share: the longer one, if the other covers it.
pub(super) fn common(one: Prefix, other: Prefix) -> Option<Prefix> {
    let longer = if one.length() < other.length() { other } else { one };
    one.overlaps(other).then_some(longer)
}

/// What `part` of `from` is in `to`, which is as long.
pub(super) fn moved(part: Prefix, from: Prefix, to: Prefix) -> Prefix {
    let network = match (part.network(), from.network(), to.network()) {
        (IpAddr::V4(part), IpAddr::V4(from), IpAddr::V4(to)) => {
            IpAddr::from((part.to_bits() ^ from.to_bits() ^ to.to_bits()).to_be_bytes())
        }
        (IpAddr::V6(part), IpAddr::V6(from), IpAddr::V6(to)) => {
            IpAddr::from((part.to_bits() ^ from.to_bits() ^ to.to_bits()).to_be_bytes())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _, _) => to.network(),
    };
    Prefix::containing(network, part.length()).unwrap_or(to)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_part_moves_with_the_whole() {
        for (part, from, to, image) in [
            ("10.1.0.0/24", "10.1.0.0/24", "172.20.2.0/24", "172.20.2.0/24"),
            ("10.1.7.0/26", "10.1.0.0/16", "172.20.0.0/16", "172.20.7.0/26"),
            ("fd00:1::8000:0/112", "fd00:1::/64", "fd00:2::/64", "fd00:2::8000:0/112"),
        ] {
            assert_eq!(moved(prefix(part), prefix(from), prefix(to)), prefix(image));
        }
    }

    #[test]
    fn a_site_sees_what_is_translated_and_the_rest_as_it_is() {
        let site = SitePlan {
            name: "hq".to_owned(),
            internet: false,
            translate: vec![TranslatePlan {
                side: TranslateSide::Local,
                from: prefix("10.1.0.0/25"),
                to: prefix("172.20.1.0/25"),
            }],
            tunnels: Vec::new(),
        };
        let seen = site.sees(prefix("10.1.0.0/24"));
        assert_eq!(seen, [prefix("10.1.0.128/25"), prefix("172.20.1.0/25")]);
    }

    proptest! {
        #[test]
        fn moving_there_and_back_changes_nothing(bits: u32, length in 0_u8..=24, more in 0_u8..=8) {
            let of = |bits: u32, length| Prefix::containing(IpAddr::from(bits.to_be_bytes()), length);
            let (from, to) = (of(bits, length).unwrap(), of(!bits, length).unwrap());
            let part = of(bits, length + more).unwrap();
            let image = moved(part, from, to);
            prop_assert!(to.covers(image));
            prop_assert_eq!(moved(image, to, from), part);
        }
    }
}
