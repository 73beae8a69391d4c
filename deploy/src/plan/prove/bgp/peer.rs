//! Proves one peer: who it is, of which AS, and what that allows. What its session is like stands in
//! [`super::session`].

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use nvgate_bgp::NeighborKind;
use nvgate_bgp::config::{
    AsnRange, LocalAs, Md5Key, Opening, PeerConfig, PolicyReference, PrivateAsns,
};
use nvgate_bgp::policy::{Direction, Policy, TenantPeer};
use nvgate_model::{Asn, Prefix};

use super::super::vpn::either;
use super::ground::{Ground, Located};
use super::rules::Policies;
use super::session::{in_two_bytes, is_not_off, is_on};
use crate::plan::bgp::{BgpLimits, BgpPeerPlan, DynamicPlan, Treatment};
use crate::schema::bgp::{NextHopKind, Peer, PolicyName, PrivateAs, Shutdown};
use crate::schema::{At, Findings, Place, Switch};

/// Neighbours of a range at a time, unless configured.
const DEFAULT_DYNAMIC: u32 = 16;
/// Seconds between attempts to connect, unless configured.
const DEFAULT_CONNECT_RETRY_SECS: NonZeroU16 = NonZeroU16::new(30).expect("30 is not zero");

/// The proof of a place's peers, and what it has to look at.
pub(super) struct PeerProof<'a> {
    pub(super) ground: &'a Ground<'a>,
    /// The gateway's AS, unless it could not be read.
    pub(super) own: Option<Asn>,
    pub(super) router_id: Ipv4Addr,
    pub(super) cluster_id: Ipv4Addr,
    pub(super) limits: &'a BgpLimits,
    pub(super) accept_default: bool,
    pub(super) intact: bool,
    /// Bounds on prefixes that were refused: one may stand for two families.
    pub(super) bounds_told: HashSet<Place>,
    pub(super) policies: &'a mut Policies,
    pub(super) findings: &'a mut Findings,
}

/// Who a peer is.
#[derive(Clone, Copy)]
pub(super) enum Who {
    Static(At<IpAddr>),
    Dynamic(At<Prefix>),
}

/// A peer that is proven by itself.
pub(super) struct PeerDraft {
    pub(super) who: Option<Who>,
    pub(super) local: Option<IpAddr>,
    /// Peers that it stands for.
    pub(super) count: u32,
    pub(super) place: Place,
    pub(super) plan: Option<BgpPeerPlan>,
}

type Rules = (Option<PolicyReference>, Option<Arc<Policy>>);

impl PeerProof<'_> {
    pub(super) fn prove(&mut self, given: &At<Peer>) -> PeerDraft {
        let At { value: peer, place } = given;
        let who = self.who(peer, *place);
        self.opening(peer, who);
        let located = match who {
            Some(Who::Static(address)) => self.ground.locate(address, self.findings),
            Some(Who::Dynamic(range)) => self.ground.locate_range(range, self.findings),
            None => None,
        };
        let local = self.local(peer, who, located);
        let asns = self.asns(peer, who);
        let kind = self.kind(peer);
        if let Some(kind) = kind {
            self.prove_kind(peer, kind);
        }
        self.prove_of_tenants(peer);
        let rules = self.rules(peer, kind);
        let count = match who {
            Some(Who::Dynamic(_)) => peer.limit.map_or(DEFAULT_DYNAMIC, |limit| limit.value.0),
            Some(Who::Static(_)) | None => 1,
        };
        let plan = self.plan(peer, who, located, local, asns, rules, count);
        PeerDraft { who, local, count, place: *place, plan }
    }

    fn who(&mut self, peer: &Peer, place: Place) -> Option<Who> {
        let who = match (peer.address, peer.dynamic) {
            (Some(address), None) => Some(Who::Static(address)),
            (None, Some(range)) => Some(Who::Dynamic(range)),
            (Some(address), Some(range)) => {
                let message = "a peer has either `address` or `dynamic`, not both; make it two";
                self.findings.conflict(range.place, message, address.place, "the other one");
                None
            }
            (None, None) => {
                if self.intact {
                    let message = "missing key `address` or `dynamic` in a peer";
                    self.findings.error(place, message);
                }
                None
            }
        };
        if let (Some(Who::Static(_)), Some(limit)) = (who, peer.limit) {
            let message = "`limit` says how many peers of a `dynamic` range there may be; this is one \
                           `address`";
            self.findings.error(limit.place, message);
        }
        who
    }

    /// Proves what is said of who connects.
    fn opening(&mut self, peer: &Peer, who: Option<Who>) {
        let dynamic = matches!(who, Some(Who::Dynamic(_)));
        if let Some(passive) = peer.passive.filter(|_| dynamic) {
            let message = "peers of a `dynamic` range always begin; leave `passive` out";
            self.findings.error(passive.place, message);
        }
        if let Some(port) = peer.port.filter(|_| dynamic || is_on(peer.passive)) {
            let message = "`port` is where the gateway connects to, but it waits for this peer";
            self.findings.error(port.place, message);
        }
    }

    /// The gateway's own address on the session.
    fn local(&mut self, peer: &Peer, who: Option<Who>, located: Option<Located>) -> Option<IpAddr> {
        let Some(given) = peer.local_address else {
            return match who? {
                Who::Static(_) => located?.local,
                Who::Dynamic(_) => None,
            };
        };
        self.ground.prove_local(given, self.findings);
        let (remote_is_ipv4, remote) = match who? {
            Who::Static(address) => (address.value.is_ipv4(), address.place),
            Who::Dynamic(range) => (range.value.is_ipv4(), range.place),
        };
        if given.value.is_ipv4() != remote_is_ipv4 {
            let message = format!("local address {} is not of the peer's family", given.value);
            self.findings.conflict(given.place, message, remote, "the peer");
        }
        Some(given.value)
    }

    fn asns(&mut self, peer: &Peer, who: Option<Who>) -> Option<AsnRange> {
        let At { value: span, place } = peer.asn?;
        if let Some((asn, why)) = span.reserved_end() {
            self.findings.error(place, format!("AS {asn} is reserved: {why}"));
            return None;
        }
        if !span.is_single() {
            if let Some(Who::Static(address)) = who {
                let message = "a range of AS numbers is for peers of a `dynamic` range; name the one \
                               that the router has";
                self.findings.conflict(place, message, address.place, "one router");
            }
            let inside = |own: &Asn| (span.first..=span.last).contains(own);
            if let Some(own) = self.own.filter(inside) {
                let message = format!(
                    "the range holds the gateway's own AS {own}, whose routers are internal peers; \
                     end it before, and give those a peer of their own"
                );
                self.findings.error(place, message);
            }
        }
        AsnRange::new(span.first, span.last).ok()
    }

    /// On which side of the AS's border it is.
    fn kind(&self, peer: &Peer) -> Option<NeighborKind> {
        let (own, span) = (self.own?, peer.asn?.value);
        Some(match span.first == own && span.is_single() {
            true => NeighborKind::Internal,
            false => NeighborKind::External,
        })
    }

    /// Proves that nothing is said of the peer that makes no sense on its side of the border.
    fn prove_kind(&mut self, peer: &Peer, kind: NeighborKind) {
        match kind {
            NeighborKind::External => {
                if let Some(client) =
                    peer.reflector_client.filter(|client| client.value == Switch::On)
                {
                    let message = "routes are reflected within an AS only, but this peer is of \
                                   another";
                    self.findings.error(client.place, message);
                }
            }
            NeighborKind::Internal => self.prove_internal(peer),
        }
        if let Some(strict) = peer.role_strict.filter(|strict| strict.value == Switch::On)
            && peer.role.is_none()
            && self.intact
        {
            let message = "`role_strict` asks for the peer's role, but the gateway has none to tell; \
                           add `role`";
            self.findings.error(strict.place, message);
        }
        if let Some(local) = &peer.local_as
            && let Some(asn) = local.value.asn
        {
            if Some(asn.value) == self.own {
                let message = format!("AS {} is the gateway's own; leave it out", asn.value);
                self.findings.error(asn.place, message);
            } else if let Some(remote) = peer.asn
                && (remote.value.first..=remote.value.last).contains(&asn.value)
            {
                let message = format!(
                    "AS {} is the peer's, which would take the gateway for an internal one",
                    asn.value
                );
                self.findings.conflict(asn.place, message, remote.place, "the peer's");
            }
        }
    }

    fn prove_internal(&mut self, peer: &Peer) {
        let place = |switch: Option<At<Switch>>| switch.map(|switch| switch.place);
        let private = peer.private_as.filter(|private| private.value != PrivateAs::Keep);
        let unchanged = peer.next_hop.filter(|hop| hop.value == NextHopKind::Unchanged);
        let external_only = [
            ("role", peer.role.map(|role| role.place)),
            ("local_as", peer.local_as.as_ref().map(|local| local.place)),
            ("as_override", place(peer.as_override)),
            ("private_as", private.map(|private| private.place)),
            ("enforce_first_as", place(peer.enforce_first_as)),
            ("graceful_shutdown", place(peer.graceful_shutdown)),
            ("next_hop: unchanged", unchanged.map(|hop| hop.place)),
        ];
        for (key, place) in external_only {
            let (Some(place), Some(asn)) = (place, peer.asn) else { continue };
            let message = format!(
                "`{key}` is for peers of other ASes, but AS {} is the gateway's own; leave it out",
                asn.value.first
            );
            self.findings.conflict(place, message, asn.place, "an internal peer");
        }
    }

    /// The rules of both directions.
    fn rules(&mut self, peer: &Peer, kind: Option<NeighborKind>) -> [Rules; 2] {
        [
            (Direction::Import, &peer.import, "import", "learned from it"),
            (Direction::Export, &peer.export, "export", "announced to it"),
        ]
        .map(|(direction, given, key, what)| {
            let named = given.as_ref().map(|given| (&given.value, given.place));
            match named {
                Some((PolicyName::Named(name), place)) => {
                    let name = At { value: name.as_str(), place };
                    let compiled =
                        self.policies.compile(name, direction, self.intact, self.findings);
                    let (reference, policy) = compiled.unzip();
                    return (reference, policy);
                }
                Some((PolicyName::Nothing, _)) => {}
                None if self.ground.is_front_end() && kind == Some(NeighborKind::External) => {
                    if let Some(name) = peer.name.as_ref().filter(|_| self.intact) {
                        let message = format!(
                            "peer `{}` is of another AS and has no `{key}` policy, so that nothing \
                             would be {what} (RFC 8212); name one, or say `{key}: none`",
                            name.value.0
                        );
                        self.findings.error(name.place, message);
                    }
                }
                None => {}
            }
            (None, None)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "each is one part of what was proven before")]
    fn plan(
        &mut self,
        peer: &Peer,
        who: Option<Who>,
        located: Option<Located>,
        local: Option<IpAddr>,
        asns: Option<AsnRange>,
        [import, export]: [Rules; 2],
        count: u32,
    ) -> Option<BgpPeerPlan> {
        let reach = self.reach(peer, located);
        let hold_time = self.hold_time(peer);
        let remote = match who {
            Some(Who::Static(address)) => Some(address.value),
            Some(Who::Dynamic(range)) => Some(range.value.network()),
            None => None,
        };
        let families = self.families(peer, remote.map(|remote| remote.is_ipv4()));
        let ipv6_next_hop = self.ipv6_next_hop(peer, &families);
        let graceful_restart = self.graceful_restart(peer);
        let md5_key = self.md5_key(peer);
        let bfd = self.bfd(peer, reach);
        let dynamic = match who? {
            Who::Static(_) => None,
            Who::Dynamic(range) => Some(DynamicPlan { range: range.value, limit: count }),
        };
        let description = peer.description.as_ref().map_or("", |text| text.value.0.as_str());
        let config = PeerConfig {
            description: description.into(),
            shutdown: match peer.shutdown.as_ref().map(|shutdown| &shutdown.value) {
                Some(Shutdown::Down(text)) => Some(text.clone()),
                Some(Shutdown::Up) | None => None,
            },
            local_address: local,
            remote_address: remote?,
            remote_port: peer.port.map_or(PeerConfig::PORT, |port| in_two_bytes(port.value.0)),
            opening: match dynamic {
                Some(_) => Opening::Dynamic,
                None if is_on(peer.passive) => Opening::Passive,
                None => Opening::Active,
            },
            local_asn: self.own?,
            local_as: local_as(peer),
            remote_asns: asns?,
            router_id: self.router_id,
            hold_time,
            connect_retry_secs: peer
                .connect_retry_secs
                .and_then(|secs| NonZeroU16::new(in_two_bytes(secs.value.0)))
                .unwrap_or(DEFAULT_CONNECT_RETRY_SECS),
            families,
            ipv6_next_hop,
            extended_messages: is_on(peer.extended_messages),
            accept_as_set: is_on(peer.accept_as_set),
            role: peer.role.map(|role| role.value),
            role_strict: is_on(peer.role_strict),
            graceful_restart,
            reach,
            md5_key,
            bfd: bfd.is_some(),
            own_as_allowed: peer
                .allow_own_as
                .and_then(|times| u8::try_from(times.value.0).ok())
                .unwrap_or(0),
            as_override: is_on(peer.as_override),
            private_asns: match peer.private_as.map(|private| private.value) {
                None | Some(PrivateAs::Keep) => PrivateAsns::Keep,
                Some(PrivateAs::RemoveIfAll) => PrivateAsns::RemoveIfAll,
                Some(PrivateAs::Remove) => PrivateAsns::Remove,
                Some(PrivateAs::Replace) => PrivateAsns::Replace,
            },
            next_hop_self: peer.next_hop.is_some_and(|hop| hop.value == NextHopKind::Own),
            reflector_client: is_on(peer.reflector_client),
            cluster_id: self.cluster_id,
            import: import.0,
            export: export.0,
        };
        Some(BgpPeerPlan {
            name: peer.name.as_ref()?.value.0.clone(),
            config: Arc::new(config),
            dynamic,
            bfd,
            import: import.1,
            export: export.1,
            treatment: Treatment {
                enforce_first_as: is_not_off(peer.enforce_first_as),
                graceful_shutdown: is_not_off(peer.graceful_shutdown),
                blackhole: is_on(peer.blackhole),
                next_hop_unchanged: peer
                    .next_hop
                    .is_some_and(|hop| hop.value == NextHopKind::Unchanged),
            },
            tenant: (!self.ground.is_front_end()).then_some(TenantPeer {
                site: located?.site,
                accept_default: match peer.accept_default {
                    Some(_) => is_on(peer.accept_default),
                    None => self.accept_default,
                },
                announce_learned: is_not_off(peer.announce_learned),
            }),
        })
    }

    fn md5_key(&mut self, peer: &Peer) -> Option<Md5Key> {
        let names = ["password", "password_file"];
        let key = either(&peer.password, &peer.password_file, names, self.findings);
        key.map(|key| key.value)
    }
}

fn local_as(peer: &Peer) -> Option<LocalAs> {
    let given = &peer.local_as.as_ref()?.value;
    Some(LocalAs {
        asn: given.asn?.value,
        no_prepend: is_on(given.no_prepend),
        replace_as: is_on(given.replace_as),
    })
}
