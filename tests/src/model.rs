//! What a gateway should do with a packet, decided the slow and obvious way: lists searched from
//! end to end, nothing compiled, nothing shared with the gateway but the plan's types.
//!
//! The model does not choose public ports: it accepts any legal one and remembers it. Where a
//! session's end depends on timing that a reader of the plan cannot know, it says so
//! ([`Model::is_ambiguous`]) and the simulation lets time pass.

use std::net::IpAddr;

use nvgate_deploy::plan::{EndpointPlan, Plan, SubnetPlan, TenantPlan};
use nvgate_model::{DropReason, MacAddress, Prefix, RoutingDomainId};

use crate::frames::{Body, Frame, Packet};
use crate::model_nat::Nat;
use crate::rig_plan::GATEWAY_MAC;

/// How a packet travels that is more than one frame, or less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// As it is.
    Whole,
    /// One of its fragments.
    Fragment {
        /// Payload bytes of each.
        size: usize,
        /// Which one.
        index: usize,
    },
    /// A TCP super-packet.
    Super {
        /// Payload bytes of each segment.
        size: u16,
    },
}

/// A frame from the fabric, in its parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FromOverlay {
    /// The outer source.
    pub provider: IpAddr,
    /// The VSID it came under.
    pub vsid: u32,
    /// The inner source MAC.
    pub mac: MacAddress,
    /// The inner destination MAC.
    pub to: MacAddress,
    /// The tenant's packet, before it was cut.
    pub packet: Packet,
    /// How it travels.
    pub shape: Shape,
}

/// A packet from the front end's router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FromFrontEnd {
    /// The packet, before it was cut.
    pub packet: Packet,
    /// How it travels.
    pub shape: Shape,
}

/// How a packet ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It leaves.
    Transmitted,
    /// The gateway answers it.
    Punted,
    /// The kernel's.
    Ignored,
    /// Dropped.
    Dropped(DropReason),
}

/// Where a packet leaves to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum To {
    /// The front end's router.
    Router,
    /// An endpoint.
    Endpoint {
        /// The VSID of its subnet.
        vsid: u32,
        /// Its MAC.
        mac: MacAddress,
        /// Any of these.
        providers: Vec<IpAddr>,
    },
    /// A host, with the inner frame as it was sent.
    Copy {
        /// The VSID of the subnet.
        vsid: u32,
        /// One of these.
        providers: Vec<IpAddr>,
        /// The frame.
        inner: Frame,
    },
}

/// How exactly a packet that leaves is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Likeness {
    /// To the last bit, but for what the mapping decides.
    Exact,
    /// An ICMP error of this type, code and word about what begins with these bytes.
    Error((u8, u8, u32), Vec<u8>),
    /// An answer by the gateway's own stack: identification and DF are its own.
    Answer,
}

/// A packet that leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// Where to.
    pub to: To,
    /// The packet, before it was cut.
    pub packet: Packet,
    /// How it travels.
    pub shape: Shape,
    /// The mapping whose public socket is its source.
    pub mapping: Option<u64>,
    /// How exactly it is known.
    pub likeness: Likeness,
}

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prediction {
    /// How it ends.
    pub end: End,
    /// What leaves because of it.
    pub leaving: Vec<Leaving>,
    /// As how many packets it counts.
    pub packets: u64,
}

impl Prediction {
    /// It ends like this and this leaves.
    #[must_use]
    pub const fn new(end: End, leaving: Vec<Leaving>) -> Self {
        Self { end, leaving, packets: 1 }
    }

    const fn dropped(reason: DropReason) -> Self {
        Self::new(End::Dropped(reason), Vec::new())
    }
}

/// The model of a gateway.
#[derive(Debug)]
pub struct Model {
    /// The plan in force.
    pub plan: Plan,
    /// NAT of all tenants.
    pub nat: Nat,
}

fn subnet_of(tenant: &TenantPlan, vsid: u32) -> Option<&SubnetPlan> {
    tenant.subnets.iter().find(|subnet| subnet.vsid.number() == vsid)
}

fn endpoint_of(tenant: &TenantPlan, address: IpAddr) -> Option<&EndpointPlan> {
    let has = |endpoint: &&EndpointPlan| {
        endpoint.customer_addresses.iter().any(|customer| customer.ip() == address)
    };
    tenant.endpoints.iter().find(has)
}

fn prefix_of(tenant: &TenantPlan, address: IpAddr) -> Option<Prefix> {
    let prefixes = tenant.subnets.iter().flat_map(|subnet| &subnet.prefixes);
    prefixes.copied().find(|prefix| prefix.contains(address))
}

/// The tenant MTU behind a provider address, on links of 1500 bytes.
fn mtu(endpoint: &EndpointPlan) -> u16 {
    if endpoint.provider_addresses[0].ip().is_ipv4() { 1458 } else { 1438 }
}

fn to_endpoint(endpoint: &EndpointPlan) -> To {
    To::Endpoint {
        vsid: endpoint.vsid.number(),
        mac: endpoint.mac,
        providers: endpoint.provider_addresses.iter().map(|provider| provider.ip()).collect(),
    }
}

/// The packet as a path of this MTU lets it open a connection.
fn clamped(mut packet: Packet, mtu: u16) -> Packet {
    let headers = if packet.source.is_ipv4() { 40 } else { 60 };
    if let Body::Tcp { mss: Some(mss), .. } = &mut packet.body {
        *mss = (*mss).min(mtu - headers);
    }
    packet
}

/// The bytes that are on the wire of a packet: all of it, or the fragment.
fn wire(packet: &Packet, shape: Shape) -> Packet {
    match shape {
        Shape::Whole | Shape::Super { .. } => packet.clone(),
        Shape::Fragment { size, index } => packet.fragments(size).swap_remove(index),
    }
}

/// An error about a packet, towards `to`.
fn error(to: To, from: IpAddr, words: (u8, u8, u32), packet: &Packet, shape: Shape) -> Leaving {
    let mut about = wire(packet, shape).bytes();
    if let Shape::Super { .. } = shape {
        // What a half-made checksum looks like in the quote is nobody's business.
        about.truncate(if packet.source.is_ipv4() { 36 } else { 56 });
    }
    let body = Body::Icmp { kind: words.0, code: words.1, word: words.2, rest: Vec::new() };
    Leaving {
        to,
        packet: Packet::new(from, packet.source, body),
        shape: Shape::Whole,
        mapping: None,
        likeness: Likeness::Error(words, about),
    }
}

fn is_later(shape: Shape) -> bool {
    matches!(shape, Shape::Fragment { index, .. } if index > 0)
}

impl Model {
    /// A gateway that has seen no packet.
    #[must_use]
    pub fn new(plan: Plan, workers: u16) -> Self {
        Self { plan, nat: Nat::new(workers) }
    }

    /// Another plan is in force. Fragments under way are forgotten.
    pub fn reload(&mut self, plan: Plan) {
        self.plan = plan;
        self.nat.reload(&self.plan);
    }

    /// Whether a session may or may not be over at `tick` (100 ms each).
    #[must_use]
    pub fn is_ambiguous(&self, tick: u64) -> bool {
        self.nat.is_ambiguous(tick)
    }

    fn tenant_by_vsid(&self, vsid: u32) -> Option<&TenantPlan> {
        self.plan.tenants.iter().find(|tenant| subnet_of(tenant, vsid).is_some())
    }

    /// The tenant that a front-end address is leased to or whose front-end prefix holds it.
    #[must_use]
    pub fn tenant_by_public(&self, address: IpAddr) -> Option<&TenantPlan> {
        let owns = |tenant: &&TenantPlan| {
            let leased = tenant.nat.iter().flat_map(|nat| &nat.addresses);
            leased.into_iter().any(|lease| lease.ip() == address)
                || tenant.front_end_prefixes.iter().any(|prefix| prefix.contains(address))
        };
        self.plan.tenants.iter().find(owns)
    }

    /// The tenant with this routing domain.
    #[must_use]
    pub fn tenant(&self, id: RoutingDomainId) -> Option<&TenantPlan> {
        self.plan.tenants.iter().find(|tenant| tenant.routing_domain == id)
    }

    /// What becomes of a frame from the fabric, at `now`.
    pub fn overlay(&mut self, now: u64, from: &FromOverlay) -> Prediction {
        let Some(tenant) = self.tenant_by_vsid(from.vsid).cloned() else {
            return Prediction::dropped(DropReason::VsidUnknown);
        };
        let packet = &from.packet;
        if from.mac.is_group() {
            return Prediction::dropped(DropReason::InnerSourceMac);
        }
        let Some(speaker) = endpoint_of(&tenant, packet.source) else {
            return Prediction::dropped(DropReason::SpoofedSource);
        };
        if !speaker.provider_addresses.iter().any(|provider| provider.ip() == from.provider) {
            return Prediction::dropped(DropReason::SpoofedProvider);
        }
        if speaker.vsid.number() == from.vsid && speaker.mac != from.mac {
            return Prediction::dropped(DropReason::InnerSourceMac);
        }
        if from.to.is_group() {
            return self.broadcast(&tenant, from);
        }
        if from.to != GATEWAY_MAC {
            return Self::relay(&tenant, from);
        }
        self.route(now, &tenant, speaker, from)
    }

    fn route(
        &mut self,
        now: u64,
        tenant: &TenantPlan,
        speaker: &EndpointPlan,
        from: &FromOverlay,
    ) -> Prediction {
        let FromOverlay { packet, shape, .. } = from;
        let v4 = packet.source.is_ipv4();
        let own =
            prefix_of(tenant, packet.source).map(Prefix::lowest_host).unwrap_or(packet.source);
        let refuse = |reason, words| {
            let mut prediction = Prediction::dropped(reason);
            if !is_later(*shape) {
                prediction.leaving.push(error(to_endpoint(speaker), own, words, packet, *shape));
            }
            prediction
        };
        if let Some(prefix) = prefix_of(tenant, packet.destination) {
            if prefix.lowest_host() == packet.destination {
                return Self::answer(speaker, packet);
            }
            if prefix.broadcast().map(IpAddr::V4) == Some(packet.destination) {
                return Prediction::dropped(DropReason::Martian);
            }
            let Some(receiver) = endpoint_of(tenant, packet.destination) else {
                let words = if v4 { (3, 1, 0) } else { (1, 3, 0) };
                return refuse(DropReason::UnknownCustomer, words);
            };
            if packet.ttl <= 1 {
                let words = if v4 { (11, 0, 0) } else { (3, 0, 0) };
                return refuse(DropReason::TtlExpired, words);
            }
            let carried = mtu(receiver).min(mtu(speaker));
            let leaving = Leaving {
                to: to_endpoint(receiver),
                packet: clamped(packet.clone(), carried).hop(),
                shape: *shape,
                mapping: None,
                likeness: Likeness::Exact,
            };
            return Prediction::new(End::Transmitted, vec![leaving]);
        }
        if !v4 {
            let owned = tenant.front_end_prefixes.iter().any(|own| own.contains(packet.source));
            if !owned && tenant.front_end_prefixes.is_empty() {
                return refuse(DropReason::NoRoute, (1, 0, 0));
            }
            if !owned {
                return refuse(DropReason::FrontEndSource, (1, 1, 0));
            }
            if packet.ttl <= 1 {
                return refuse(DropReason::TtlExpired, (3, 0, 0));
            }
            let leaving = Leaving {
                to: To::Router,
                packet: clamped(packet.clone(), mtu(speaker)).hop(),
                shape: *shape,
                mapping: None,
                likeness: Likeness::Exact,
            };
            return Prediction::new(End::Transmitted, vec![leaving]);
        }
        if tenant.nat.is_none() {
            return refuse(DropReason::NatAbsent, (3, 0, 0));
        }
        let mapping = match self.nat.outbound(now, tenant, packet, *shape) {
            Ok(mapping) => mapping,
            Err(reason) => return Prediction::dropped(reason),
        };
        if packet.ttl <= 1 {
            return refuse(DropReason::TtlExpired, (11, 0, 0));
        }
        let passed = clamped(packet.clone(), mtu(speaker)).hop();
        if self.tenant_by_public(packet.destination).is_some() {
            let public = self.nat.public(mapping).expect("hairpins are sent from known sockets");
            let from_outside =
                FromFrontEnd { packet: passed.with_source(public.0, public.1), shape: *shape };
            let mut prediction = self.leased(now, &from_outside);
            for leaving in &mut prediction.leaving {
                if let (To::Router, Likeness::Error(_, about)) =
                    (&leaving.to, &mut leaving.likeness)
                {
                    // The remote is inside: the error is translated back on its way to it.
                    *about = wire(&clamped(packet.clone(), mtu(speaker)).hop(), *shape).bytes();
                    leaving.to = to_endpoint(speaker);
                    leaving.packet = leaving.packet.clone().with_destination(packet.source, 0);
                }
            }
            return prediction;
        }
        let leaving = Leaving {
            to: To::Router,
            packet: passed,
            shape: *shape,
            mapping: Some(mapping),
            likeness: Likeness::Exact,
        };
        Prediction::new(End::Transmitted, vec![leaving])
    }

    fn answer(speaker: &EndpointPlan, packet: &Packet) -> Prediction {
        let Body::Echo { reply: false, .. } = packet.body else {
            return Prediction::new(End::Dropped(DropReason::NotServed), Vec::new());
        };
        let leaving = Leaving {
            to: to_endpoint(speaker),
            packet: packet.reply(),
            shape: Shape::Whole,
            mapping: None,
            likeness: Likeness::Answer,
        };
        Prediction::new(End::Punted, vec![leaving])
    }

    fn relay(tenant: &TenantPlan, from: &FromOverlay) -> Prediction {
        let known = |endpoint: &&EndpointPlan| {
            endpoint.vsid.number() == from.vsid && endpoint.mac == from.to
        };
        let Some(receiver) = tenant.endpoints.iter().find(known) else {
            return Prediction::dropped(DropReason::UnknownUnicast);
        };
        let providers = receiver.provider_addresses.iter().map(|provider| provider.ip()).collect();
        Prediction::new(End::Transmitted, vec![copy(from, providers)])
    }

    fn broadcast(&self, tenant: &TenantPlan, from: &FromOverlay) -> Prediction {
        // Hosts of these plans never share a provider address with another that they do not share
        // all of.
        let mut hosts: Vec<Vec<IpAddr>> = Vec::new();
        for endpoint in tenant.endpoints.iter().filter(|one| one.vsid.number() == from.vsid) {
            let providers: Vec<IpAddr> =
                endpoint.provider_addresses.iter().map(|provider| provider.ip()).collect();
            if !hosts.contains(&providers) {
                hosts.push(providers);
            }
        }
        hosts.retain(|providers| !providers.contains(&from.provider));
        if hosts.is_empty() {
            return Prediction::dropped(DropReason::ReplicationEmpty);
        }
        let leaving = hosts.iter().map(|providers| copy(from, vec![providers[0]])).collect();
        Prediction::new(End::Transmitted, leaving)
    }

    /// What becomes of a packet from the front end, at `now`.
    pub fn front_end(&mut self, now: u64, from: &FromFrontEnd) -> Prediction {
        let source = from.packet.source;
        match self.tenant_by_public(from.packet.destination) {
            Some(tenant)
                if prefix_of(tenant, source).is_some()
                    || self.tenant_by_public(source).is_some() =>
            {
                Prediction::dropped(DropReason::Martian)
            }
            Some(_) | None => self.leased(now, from),
        }
    }

    /// What becomes of a packet to a leased address, from wherever.
    fn leased(&mut self, now: u64, from: &FromFrontEnd) -> Prediction {
        let FromFrontEnd { packet, shape } = from;
        let Some(tenant) = self.tenant_by_public(packet.destination).cloned() else {
            let pools = &self.plan.gateway.front_end.pools;
            let mut prefixes = pools.iter().flat_map(|pool| &pool.prefixes);
            return if prefixes.any(|prefix| prefix.contains(packet.destination)) {
                Prediction::dropped(DropReason::FrontEndUnleased)
            } else {
                Prediction::new(End::Ignored, Vec::new())
            };
        };
        let customer = if packet.source.is_ipv4() {
            match self.nat.inbound(now, &tenant, packet, *shape) {
                Ok(socket) => (IpAddr::V4(socket.0), socket.1),
                Err(reason) => return Self::told_remote(reason, from),
            }
        } else {
            (packet.destination, packet.ports().1)
        };
        let Some(receiver) = endpoint_of(&tenant, customer.0) else {
            return Self::told_remote(DropReason::UnknownCustomer, from);
        };
        if packet.ttl <= 1 {
            return Self::told_remote(DropReason::TtlExpired, from);
        }
        let arrived = clamped(packet.clone(), mtu(receiver)).hop();
        let leaving = Leaving {
            to: to_endpoint(receiver),
            packet: arrived.with_destination(customer.0, customer.1),
            shape: *shape,
            mapping: None,
            likeness: Likeness::Exact,
        };
        Prediction::new(End::Transmitted, vec![leaving])
    }

    /// A drop of which the remote is told when it is told of such things.
    fn told_remote(reason: DropReason, from: &FromFrontEnd) -> Prediction {
        let mut prediction = Prediction::dropped(reason);
        let v4 = from.packet.source.is_ipv4();
        let words = if reason == DropReason::UnknownCustomer {
            if v4 { (3, 1, 0) } else { (1, 3, 0) }
        } else if reason == DropReason::TtlExpired {
            if v4 { (11, 0, 0) } else { (3, 0, 0) }
        } else {
            return prediction;
        };
        if !is_later(from.shape) {
            let own = from.packet.destination;
            prediction.leaving.push(error(To::Router, own, words, &from.packet, from.shape));
        }
        prediction
    }

    /// Takes note that a packet of `mapping` left from this socket, by this worker.
    ///
    /// # Errors
    ///
    /// The socket is not the mapping's, or none that it may have.
    pub fn learn(
        &mut self,
        mapping: u64,
        socket: (IpAddr, u16),
        worker: usize,
    ) -> Result<(), String> {
        let IpAddr::V4(address) = socket.0 else { return Err(format!("{socket:?} is IPv6")) };
        self.nat.learn(&self.plan, mapping, (address, socket.1), worker)
    }

    /// Whether a packet would come back in by the front end from a public socket that is not known.
    #[must_use]
    pub fn is_blind_hairpin(&self, now: u64, from: &FromOverlay) -> bool {
        let Some(tenant) = self.tenant_by_vsid(from.vsid) else { return false };
        if !from.packet.source.is_ipv4()
            || tenant.nat.is_none()
            || self.tenant_by_public(from.packet.destination).is_none()
        {
            return false;
        }
        let mut nat = self.nat.clone();
        let mapping = nat.outbound(now, tenant, &from.packet, from.shape);
        mapping.is_ok_and(|mapping| nat.public(mapping).is_none())
    }
}

fn copy(from: &FromOverlay, providers: Vec<IpAddr>) -> Leaving {
    let packet = wire(&from.packet, from.shape);
    let inner = Frame::of(from.to, from.mac, &packet);
    Leaving {
        to: To::Copy { vsid: from.vsid, providers, inner },
        packet,
        shape: Shape::Whole,
        mapping: None,
        likeness: Likeness::Exact,
    }
}
