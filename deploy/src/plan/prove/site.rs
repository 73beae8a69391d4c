//! Proves one site by itself: its tunnels, and that its translations are one to one. What prefixes
//! mean beside those of other sites and routes is for [`super::reach`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};

use nvgate_model::Prefix;
use nvgate_vpn::PublicKey;

use super::address::{overlaps, special_address, special_part, special_whole};
use super::tenant::TenantDraft;
use super::vpn::{ListenerDraft, either};
use crate::plan::{Bandwidth, ProbePlan, SitePlan, TranslatePlan, TranslateSide, TunnelPlan};
use crate::schema::{
    At, Findings, Place, Probe, Site, Switch, Translation, Tunnel, TunnelBandwidth, entries, hint,
};

/// The metric of a tunnel that names none.
const DEFAULT_METRIC: u32 = 100;
/// What a probe that says nothing else does.
const DEFAULT_INTERVAL_MILLIS: u32 = 1000;
const DEFAULT_FAILURES: u32 = 3;
const DEFAULT_HOLD_SECS: u32 = 10;

/// A site, as far as it could be read.
pub(super) struct SiteDraft {
    pub(super) name: String,
    pub(super) place: Place,
    internet: bool,
    pub(super) translations: Vec<TranslationDraft>,
    /// Whether none of its translations had to be left out after an error.
    pub(super) whole: bool,
    /// What its tunnels allow, as the site has it; each prefix once, ordered.
    pub(super) allowed: Vec<At<Prefix>>,
    /// Where its tunnels lead to.
    pub(super) endpoints: Vec<At<IpAddr>>,
    tunnels: Vec<TunnelPlan>,
}

/// A translation that is whole.
#[derive(Clone, Copy)]
pub(super) struct TranslationDraft {
    pub(super) side: TranslateSide,
    pub(super) from: At<Prefix>,
    pub(super) to: At<Prefix>,
}

/// The peers of the tenant's listeners, by the listener's position, and where they are written.
pub(super) type Peers = HashMap<(usize, PublicKey), Place>;

impl SiteDraft {
    /// The translations of one side, as what is translated and what it is seen as.
    pub(super) fn translations_of(
        &self,
        side: TranslateSide,
    ) -> impl Iterator<Item = (At<Prefix>, At<Prefix>)> + Clone {
        let of_side = self.translations.iter().filter(move |one| one.side == side);
        of_side.map(|one| (one.from, one.to))
    }

    /// The site as a part of a plan; without what could not be read, after which there is none.
    pub(super) fn plan(&self) -> Option<SitePlan> {
        let translate = self.translations.iter().map(|one| TranslatePlan {
            side: one.side,
            from: one.from.value,
            to: one.to.value,
        });
        (!self.tunnels.is_empty()).then(|| SitePlan {
            name: self.name.clone(),
            internet: self.internet,
            translate: translate.collect(),
            tunnels: self.tunnels.clone(),
        })
    }
}

/// Proves a site, as far as it could be read; `None` if it has no name.
pub(super) fn prove_site(
    site: &Site,
    tenant: &TenantDraft,
    listeners: &[ListenerDraft],
    peers: &mut Peers,
    findings: &mut Findings,
) -> Option<SiteDraft> {
    let name = site.name.as_ref()?;
    let mut tunnels = Vec::new();
    let mut names: HashMap<&str, Place> = HashMap::new();
    for tunnel in entries(&site.tunnels) {
        if let Some(name) = &tunnel.value.name
            && let Some(first) = names.insert(&name.value.0, name.place)
        {
            let message = format!("tunnel `{}` of this site is defined twice", name.value.0);
            findings.conflict(name.place, message, first, "defined here first");
        }
        let proof = TunnelProof { tenant, listeners, peers: &mut *peers, findings: &mut *findings };
        tunnels.extend(proof.prove(tunnel));
    }
    let mut allowed: Vec<At<Prefix>> = entries(&site.tunnels)
        .iter()
        .flat_map(|tunnel| entries(&tunnel.value.allowed).iter().copied())
        .collect();
    allowed.sort_by_key(|prefix| (prefix.value, prefix.place));
    allowed.dedup_by_key(|prefix| prefix.value);
    let endpoints = entries(&site.tunnels).iter().filter_map(|tunnel| {
        let At { value, place } = tunnel.value.endpoint?;
        Some(At { value: value.0.ip(), place })
    });
    let translations: Vec<_> = entries(&site.translate)
        .iter()
        .filter_map(|translation| prove_translation(translation, tenant, findings))
        .collect();
    let draft = SiteDraft {
        name: name.value.0.clone(),
        place: name.place,
        internet: site.internet.is_some_and(|internet| internet.value == Switch::On),
        whole: translations.len() == entries(&site.translate).len(),
        translations,
        allowed,
        endpoints: endpoints.collect(),
        tunnels,
    };
    prove_injective(&draft, findings);
    if let Some(internet) = site.internet.filter(|_| draft.internet && tenant.intact)
        && !tenant.has_nat
    {
        let message = format!(
            "site `{}` may use the tenant's NAT, but the tenant has none; add `nat`, or leave \
             `internet` out",
            draft.name
        );
        findings.error(internet.place, message);
    }
    Some(draft)
}

fn prove_translation(
    translation: &At<Translation>,
    tenant: &TenantDraft,
    findings: &mut Findings,
) -> Option<TranslationDraft> {
    let (side, from) = match (translation.value.local, translation.value.remote) {
        (Some(local), None) => (TranslateSide::Local, local),
        (None, Some(remote)) => (TranslateSide::Remote, remote),
        (Some(_), Some(remote)) => {
            let message = "a translation has either `local` or `remote`, not both; make it two";
            findings.error(remote.place, message);
            return None;
        }
        (None, None) => {
            if tenant.intact {
                let message = "missing key `local` or `remote` in a translation";
                findings.error(translation.place, message);
            }
            return None;
        }
    };
    let to = translation.value.seen_as?;
    for prefix in [from, to] {
        if let Some(what) = special_part(prefix.value) {
            findings.error(prefix.place, format!("{} holds addresses of {what}", prefix.value));
            return None;
        }
    }
    let (a, b) = (from.value, to.value);
    if (a.is_ipv4(), a.length()) != (b.is_ipv4(), b.length()) {
        let message = format!(
            "{b} is not of the family and length of {a}; a translation is one to one, so `seen_as` \
             is another prefix of length {}",
            a.length()
        );
        findings.conflict(to.place, message, from.place, "what is translated");
        return None;
    }
    Some(TranslationDraft { side, from, to })
}

/// Proves that no address of one side has two images, nor two addresses one.
fn prove_injective(site: &SiteDraft, findings: &mut Findings) {
    for side in [TranslateSide::Local, TranslateSide::Remote] {
        let (from, to): (Vec<_>, Vec<_>) = site.translations_of(side).unzip();
        let key = match side {
            TranslateSide::Local => "local",
            TranslateSide::Remote => "remote",
        };
        for (key, prefixes) in [(key, from), ("seen_as", to)] {
            let claims: Vec<_> =
                prefixes.iter().map(|prefix| (prefix.value, prefix.place)).collect();
            for (later, earlier) in overlaps(&claims) {
                let ((prefix, place), (other, other_place)) = (claims[later], claims[earlier]);
                let message = format!(
                    "`{key}` {prefix} overlaps {other}, which is translated too; a translation is \
                     one to one"
                );
                findings.conflict(place, message, other_place, "the other one");
            }
        }
    }
}

/// The proof of one tunnel, and what it has to look at.
struct TunnelProof<'a> {
    tenant: &'a TenantDraft,
    listeners: &'a [ListenerDraft],
    peers: &'a mut Peers,
    findings: &'a mut Findings,
}

impl TunnelProof<'_> {
    fn prove(mut self, tunnel: &At<Tunnel>) -> Option<TunnelPlan> {
        let At { value: given, place } = tunnel;
        let listener = self.listener(given, *place);
        if let Some(peer) = given.public_key {
            self.peer(peer, listener);
        }
        let allowed = entries(&given.allowed);
        self.allowed(allowed);
        self.endpoint(given, listener);
        let names = ["preshared_key", "preshared_key_file"];
        let preshared =
            either(&given.preshared_key, &given.preshared_key_file, names, self.findings);
        let probe = given.probe.as_ref().and_then(|probe| self.probe(&probe.value, allowed));
        let keepalive_secs = given.keepalive_secs.map(|secs| secs.value.0);
        Some(TunnelPlan {
            name: given.name.as_ref()?.value.0.clone(),
            listener: listener?,
            peer: given.public_key?.value,
            preshared: preshared.map(|key| key.value),
            endpoint: given.endpoint.map(|endpoint| endpoint.value.0),
            allowed: allowed.iter().map(|prefix| prefix.value).collect(),
            keepalive_secs: keepalive_secs
                .and_then(|secs| NonZeroU16::new(u16::try_from(secs).ok()?)),
            metric: given.metric.map_or(DEFAULT_METRIC, |metric| metric.value.0),
            bandwidth: given
                .bandwidth
                .as_ref()
                .map_or_else(Bandwidth::default, |bandwidth| bandwidth_of(&bandwidth.value)),
            probe,
        })
    }

    /// The position of the tunnel's listener.
    fn listener(&mut self, tunnel: &Tunnel, place: Place) -> Option<usize> {
        let Some(name) = &tunnel.listen else {
            if self.listeners.len() > 1 && self.tenant.intact {
                let message = format!(
                    "missing key `listen` in a tunnel: the tenant has {} listeners",
                    self.listeners.len()
                );
                self.findings.error(place, message);
            }
            return (self.listeners.len() == 1).then_some(0);
        };
        let text = name.value.0.as_str();
        let found = self.listeners.iter().position(|listener| listener.name == text);
        if found.is_none() && self.tenant.intact {
            let names = self.listeners.iter().map(|listener| listener.name.as_str());
            let message = format!("no listener is named `{text}`{}", hint(text, names));
            self.findings.error(name.place, message);
        }
        found
    }

    fn peer(&mut self, peer: At<PublicKey>, listener: Option<usize>) {
        let At { value: key, place } = peer;
        let own = self.listeners.iter().find(|own| own.public_keys().any(|own| own == key));
        if let Some(own) = own {
            let message = format!(
                "public key {key} is the gateway's own at listener `{}`; a tunnel names the site's",
                own.name
            );
            self.findings.conflict(place, message, own.place, "the listener");
        }
        let Some(listener) = listener else { return };
        let Some(&first) = self.peers.get(&(listener, key)) else {
            self.peers.insert((listener, key), place);
            return;
        };
        let message = format!(
            "public key {key} is used twice at listener `{}`, which tells sites apart by it; give \
             each tunnel its own key, or its own listener",
            self.listeners[listener].name
        );
        self.findings.conflict(place, message, first, "used here first");
    }

    fn allowed(&mut self, allowed: &[At<Prefix>]) {
        let mut seen = HashMap::new();
        for prefix in allowed {
            if let Some(what) = special_whole(prefix.value) {
                self.findings.error(prefix.place, format!("{} is {what}", prefix.value));
            }
            if let Some(first) = seen.insert(prefix.value, prefix.place) {
                let message = format!("{} is allowed twice", prefix.value);
                self.findings.conflict(prefix.place, message, first, "allowed here first");
            }
        }
    }

    fn endpoint(&mut self, tunnel: &Tunnel, listener: Option<usize>) {
        let Some(At { value: endpoint, place }) = tunnel.endpoint else { return };
        let address = endpoint.0.ip();
        if let Some(what) = special_address(address) {
            let message = format!("endpoint {address} is {what}; name the site's public address");
            return self.findings.error(place, message);
        }
        if endpoint.0.port() == 0 {
            let message = format!("endpoint {} has port 0, which nobody listens on", endpoint.0);
            return self.findings.error(place, message);
        }
        if let Some((subnet, prefix)) = self.tenant.prefix_of(address) {
            let message = format!(
                "endpoint {address} lies in {prefix} of subnet `{}`; name the site's public address",
                subnet.name
            );
            self.findings.conflict(place, message, subnet.place, "the subnet");
        }
        let listener = listener.and_then(|listener| self.listeners.get(listener));
        let other_family = |listener: &&ListenerDraft| listener.is_ipv4() != address.is_ipv4();
        if let Some(listener) = listener.filter(other_family) {
            let [own, other] = if address.is_ipv4() { ["IPv4", "IPv6"] } else { ["IPv6", "IPv4"] };
            let message = format!(
                "endpoint {address} is of {own}, but listener `{}` of {other}; name a listener of \
                 {own}",
                listener.name
            );
            self.findings.conflict(place, message, listener.place, "the listener");
        }
    }

    fn probe(&mut self, probe: &Probe, allowed: &[At<Prefix>]) -> Option<ProbePlan> {
        let address = probe.address?;
        let within = allowed.iter().any(|prefix| prefix.value.contains(address.value.ip()));
        if !within && self.tenant.intact {
            let message = format!(
                "probe address {} is not in `allowed` of this tunnel; it is an address as the site \
                 has it",
                address.value
            );
            self.findings.error(address.place, message);
        }
        let interval = probe.interval_millis;
        Some(ProbePlan {
            address: address.value,
            interval_millis: interval.map_or(DEFAULT_INTERVAL_MILLIS, |millis| millis.value.0),
            failures: probe.failures.map_or(DEFAULT_FAILURES, |failures| failures.value.0),
            hold_secs: probe.hold_secs.map_or(DEFAULT_HOLD_SECS, |secs| secs.value.0),
        })
    }
}

fn bandwidth_of(given: &TunnelBandwidth) -> Bandwidth {
    Bandwidth {
        inbound_kbps: given.inbound_kbps.and_then(|kbps| NonZeroU32::new(kbps.value.0)),
        outbound_kbps: given.outbound_kbps.and_then(|kbps| NonZeroU32::new(kbps.value.0)),
    }
}
