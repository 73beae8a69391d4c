//! Proves what a peer's session is like: distance, families, restarts, BFD.

use std::num::NonZeroU8;

use nvgate_bfd::{Interval, Path, Role as BfdRole, SessionConfig};
use nvgate_bgp::Family;
use nvgate_bgp::config::{
    AddPathSend, FamilyConfig, GracefulRestart, HoldTime, MaxPrefixes, Reach, RestartTime,
};

use super::ground::{Ground, Located};
use super::peer::PeerProof;
use crate::schema::bgp::{
    self as schema, Either, FamilyName, PathsSent, Peer, PrefixCount, RestartMode,
};
use crate::schema::{At, Place, Switch, entries};

/// The hold time that is proposed, unless configured: what RFC 4271 section 10 suggests.
const DEFAULT_HOLD_SECS: u32 = 90;
/// How many hops a peer behind a route may be away, unless configured.
const DEFAULT_HOPS: u8 = 64;
/// How long the gateway takes to come back, unless configured.
const DEFAULT_RESTART_SECS: u32 = 120;
/// The part of a peer's prefixes at which a warning is due, unless configured.
const DEFAULT_WARNING_PERCENT: u32 = 80;
/// Milliseconds between packets of BFD, unless configured.
const DEFAULT_BFD_MILLIS: u32 = 100;

/// Whether a switch is on; off unless given.
pub(super) fn is_on(switch: Option<At<Switch>>) -> bool {
    switch.is_some_and(|switch| switch.value == Switch::On)
}

/// Whether a switch is on; on unless given.
pub(super) fn is_not_off(switch: Option<At<Switch>>) -> bool {
    switch.is_none_or(|switch| switch.value == Switch::On)
}

/// A number that its schema bounds to two bytes.
pub(super) fn in_two_bytes(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// A number that its schema bounds to one byte.
fn in_one_byte(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

impl PeerProof<'_> {
    pub(super) fn reach(&mut self, peer: &Peer, located: Option<Located>) -> Reach {
        if let (Some(multihop), Some(security)) = (peer.multihop, peer.ttl_security) {
            let message = "either `multihop` or `ttl_security` is given, not both: the second one \
                           says how many hops, too";
            self.findings.conflict(security.place, message, multihop.place, "the other one");
        }
        match (peer.ttl_security, peer.multihop) {
            (Some(hops), _) => Reach::Security(in_one_byte(hops.value.0)),
            (None, Some(hops)) if hops.value.0 == 1 => Reach::Connected,
            (None, Some(hops)) => Reach::Multihop(in_one_byte(hops.value.0)),
            (None, None) if located.is_none_or(|located| located.connected) => Reach::Connected,
            (None, None) => Reach::Multihop(DEFAULT_HOPS),
        }
    }

    pub(super) fn hold_time(&mut self, peer: &Peer) -> HoldTime {
        let secs = peer.hold_secs.map_or(DEFAULT_HOLD_SECS, |secs| secs.value.0);
        HoldTime::new(in_two_bytes(secs)).unwrap_or_else(|error| {
            if let Some(given) = peer.hold_secs {
                self.findings.error(given.place, error);
            }
            HoldTime::NONE
        })
    }

    /// What is configured of each family. `ipv4` is the family of the peer's address.
    pub(super) fn families(
        &mut self,
        peer: &Peer,
        ipv4: Option<bool>,
    ) -> [Option<FamilyConfig>; 2] {
        let given = entries(&peer.families);
        if let [first, second] = given
            && first.value == second.value
        {
            self.findings.conflict(
                second.place,
                "the family is listed twice",
                first.place,
                "listed here first",
            );
        }
        Family::ALL.map(|family| {
            let (name, options) = match family {
                Family::Ipv4Unicast => (FamilyName::Ipv4, &peer.ipv4),
                Family::Ipv6Unicast => (FamilyName::Ipv6, &peer.ipv6),
            };
            let is_ipv4 = name == FamilyName::Ipv4;
            let own_word = given.iter().find(|one| one.value == name);
            let spoken = if given.is_empty() { ipv4 == Some(is_ipv4) } else { own_word.is_some() };
            let key = if is_ipv4 { "ipv4" } else { "ipv6" };
            if !spoken {
                if let Some(options) = options.as_ref().filter(|_| self.intact && ipv4.is_some()) {
                    let message = format!(
                        "`{key}` says something of routes that are not exchanged; add {key} to \
                         `families`"
                    );
                    self.findings.error(options.place, message);
                }
                return None;
            }
            self.next_hop_of(peer, is_ipv4, own_word.map(|word| word.place));
            let options = options.as_ref().map(|options| &options.value);
            let bound = options.and_then(|options| options.max_prefixes.as_ref());
            let bound = bound.or(peer.max_prefixes.as_ref());
            let paths = options.and_then(|options| options.add_path.as_ref());
            let paths = paths.or(peer.add_path.as_ref()).map(|paths| &paths.value);
            Some(FamilyConfig {
                add_path_receive: paths.is_some_and(|paths| is_on(paths.receive)),
                add_path_send: match paths.and_then(|paths| paths.send).map(|sent| sent.value) {
                    Some(PathsSent::Off) | None => AddPathSend::Off,
                    Some(PathsSent::All) => AddPathSend::All,
                    Some(PathsSent::Best(count)) => AddPathSend::Best(count),
                },
                max_prefixes: bound.and_then(|bound| self.max_prefixes(bound)),
            })
        })
    }

    /// Proves that routes of a family could be sent with a next hop.
    fn next_hop_of(&mut self, peer: &Peer, ipv4: bool, place: Option<Place>) {
        let over_ipv6 = ipv4 && is_on(peer.ipv6_next_hop) && self.ground.has_own(false);
        if self.ground.has_own(ipv4) || over_ipv6 {
            return;
        }
        let Some(place) = place else { return };
        let family = if ipv4 { "IPv4" } else { "IPv6" };
        let message = format!(
            "{family} routes cannot be announced: the gateway has no {family} address in this domain \
             to give as next hop; give a subnet or `gateway_subnet` a prefix of {family}"
        );
        self.findings.error(place, message);
    }

    pub(super) fn ipv6_next_hop(
        &mut self,
        peer: &Peer,
        families: &[Option<FamilyConfig>; 2],
    ) -> bool {
        let on = is_on(peer.ipv6_next_hop);
        if let Some(given) = peer.ipv6_next_hop.filter(|_| on && self.intact)
            && families[Family::Ipv4Unicast.index()].is_none()
            && families[Family::Ipv6Unicast.index()].is_some()
        {
            let message = "`ipv6_next_hop` is for IPv4 routes, which are not exchanged; add ipv4 to \
                           `families`";
            self.findings.error(given.place, message);
        }
        on
    }

    fn max_prefixes(
        &mut self,
        bound: &At<Either<PrefixCount, schema::MaxPrefixes>>,
    ) -> Option<MaxPrefixes> {
        let (prefixes, place, record) = match &bound.value {
            Either::Short(count) => (count.0, bound.place, None),
            Either::Record(record) => {
                let prefixes = record.prefixes?;
                (prefixes.value.0, prefixes.place, Some(record))
            }
        };
        let most = self.limits.prefixes;
        if prefixes > most && self.bounds_told.insert(place) {
            let message = format!(
                "{prefixes} prefixes of one peer are more than the {most} of all; raise `prefixes` \
                 under `limits` of `bgp`, or allow fewer"
            );
            self.findings.error(place, message);
        }
        let warning = record.and_then(|record| record.warning_percent);
        let restart = record.and_then(|record| record.restart_secs);
        Some(MaxPrefixes {
            prefixes,
            warning_percent: in_one_byte(
                warning.map_or(DEFAULT_WARNING_PERCENT, |percent| percent.value.0),
            ),
            restart_secs: restart.map(|secs| secs.value.0),
        })
    }

    pub(super) fn graceful_restart(&mut self, peer: &Peer) -> GracefulRestart {
        let (mode, record) = match peer.graceful_restart.as_ref().map(|given| &given.value) {
            None => (RestartMode::Helper, None),
            Some(Either::Short(mode)) => (*mode, None),
            Some(Either::Record(record)) => {
                let mode = record.mode.map_or(RestartMode::Helper, |mode| mode.value);
                (mode, Some(record).filter(|record| record.mode.is_some()))
            }
        };
        let secs = record.and_then(|record| record.restart_secs);
        let told = record.and_then(|record| record.notifications);
        if let Some(secs) = secs.filter(|_| mode != RestartMode::Full) {
            let message = "`restart_secs` says how long the gateway's own restart takes, which only \
                           `mode: full` announces";
            self.findings.error(secs.place, message);
        }
        if let Some(told) = told.filter(|_| mode == RestartMode::Off) {
            let message =
                "`notifications` says what keeps routes, but with `mode: off` nothing does";
            self.findings.error(told.place, message);
        }
        let notifications = is_not_off(told);
        match mode {
            RestartMode::Off => GracefulRestart::Off,
            RestartMode::Helper => GracefulRestart::Helper { notifications },
            RestartMode::Full => {
                let secs = secs.map_or(DEFAULT_RESTART_SECS, |secs| secs.value.0);
                let restart_time = RestartTime::new(in_two_bytes(secs))
                    .expect("the schema bounds restart times to twelve bits");
                GracefulRestart::Full { restart_time, notifications }
            }
        }
    }

    pub(super) fn bfd(&self, peer: &Peer, reach: Reach) -> Option<SessionConfig> {
        let record = match peer.bfd.as_ref().map(|bfd| &bfd.value) {
            None | Some(Either::Short(Switch::Off)) => return None,
            Some(Either::Short(Switch::On)) => None,
            Some(Either::Record(record)) => Some(record),
        };
        let path = match reach {
            Reach::Connected | Reach::Multihop(0 | 1) | Reach::Security(0 | 1) => Path::SingleHop,
            // RFC 5883 asks for no TTL, and BIRD sends with the usual one.
            Reach::Multihop(_) => Path::MultiHop { minimum_ttl: 0 },
            // It is sent with 255, of which each router between takes one.
            Reach::Security(hops) => Path::MultiHop { minimum_ttl: u8::MAX - (hops - 1) },
        };
        let config = SessionConfig::new(path);
        let Some(record) = record else { return Some(config) };
        let millis = |millis: u32| {
            Interval::from_micros(millis * 1000).expect("the schema bounds them to 10 to 60000 ms")
        };
        let sent = record.interval_millis.map_or(DEFAULT_BFD_MILLIS, |millis| millis.value.0);
        let taken = record.receive_interval_millis.map_or(sent, |millis| millis.value.0);
        let multiplier = record.multiplier.and_then(|one| NonZeroU8::new(in_one_byte(one.value.0)));
        Some(SessionConfig {
            desired_min_tx: millis(sent),
            required_min_rx: millis(taken),
            detect_multiplier: multiplier.unwrap_or(config.detect_multiplier),
            role: if is_on(record.passive) { BfdRole::Passive } else { BfdRole::Active },
            path,
        })
    }

    /// What is of tenants only, and makes no sense on the front end.
    pub(super) fn prove_of_tenants(&mut self, peer: &Peer) {
        if !matches!(self.ground, Ground::FrontEnd { .. }) {
            return;
        }
        for (key, given) in
            [("accept_default", peer.accept_default), ("announce_learned", peer.announce_learned)]
        {
            if let Some(given) = given {
                let message = format!(
                    "`{key}` is for peers of tenants; on the front end `import` and `export` say it"
                );
                self.findings.error(given.place, message);
            }
        }
    }
}
