//! Why a packet was dropped: one counter each, with names that stay stable.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why the gateway dropped a packet. Every dropped packet has exactly one reason, counted
        /// under its [`name`](Self::name); names never change once released.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of [`index`](Self::index).
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable name, as metrics and status show it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for an operator: what the reason means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+),)+ }
            }

            /// The position of this reason's counter, below [`COUNT`](Self::COUNT).
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

drop_reasons! {
    // The underlay: before a tenant is known.
    /// The outer IP header is malformed or longer than the frame.
    OuterMalformed => "outer_malformed",
    /// The outer IPv4 header checksum is wrong.
    OuterChecksum => "outer_checksum",
    /// The outer packet is a fragment; NVGRE is never fragmented.
    OuterFragment => "outer_fragment",
    /// The GRE header is truncated or is not key-only version 0 with protocol type 0x6558.
    GreUnsupported => "gre_unsupported",
    /// The VSID is reserved: below 0x001000, or 0xFFFFFF.
    VsidReserved => "vsid_reserved",
    /// No routing domain has this VSID.
    VsidUnknown => "vsid_unknown",
    /// The outer ECN field says congestion was experienced but the inner packet does not support ECN (RFC 6040).
    EcnInvalid => "ecn_invalid",

    // The tenant's frame.
    /// The inner Ethernet frame is truncated.
    InnerMalformed => "inner_malformed",
    /// The inner frame carries an 802.1Q tag, which RFC 7637 forbids.
    InnerTagged => "inner_tagged",
    /// The inner EtherType is neither IPv4, IPv6 nor ARP.
    InnerEtherType => "inner_ethertype",
    /// The inner source MAC is a group address or another endpoint's.
    InnerSourceMac => "inner_source_mac",
    /// An IP header is malformed or longer than its frame.
    IpMalformed => "ip_malformed",
    /// An IPv4 header checksum is wrong.
    IpChecksum => "ip_checksum",
    /// A transport header is truncated or malformed.
    TransportMalformed => "transport_malformed",
    /// The packet asks for source routing, which the gateway refuses.
    SourceRoute => "source_route",
    /// The source customer address is spoken for by a provider address that does not host it.
    SpoofedProvider => "spoofed_provider",
    /// The source customer address is none that the routing domain routes back to an endpoint.
    SpoofedSource => "spoofed_source",
    /// The source or destination is not a unicast address that can be routed.
    Martian => "martian",
    /// No endpoint of the subnet has the destination MAC; it is not flooded.
    UnknownUnicast => "unknown_unicast",
    /// No lookup record for the destination customer address.
    UnknownCustomer => "unknown_customer",
    /// The ARP or neighbour discovery message is malformed or asks for an address without a record.
    NeighbourUnanswered => "neighbour_unanswered",
    /// The broadcast and multicast budget of the tenant is used up.
    ReplicationLimited => "replication_limited",
    /// The subnet has no other host to replicate to.
    ReplicationEmpty => "replication_empty",

    // Routing.
    /// The routing domain has no route to the destination.
    NoRoute => "no_route",
    /// A blackhole route matched.
    Blackhole => "blackhole",
    /// The TTL or hop limit reached zero.
    TtlExpired => "ttl_expired",
    /// The packet is larger than the path carries and must not be fragmented.
    TooBig => "too_big",
    /// The tenant's budget for answers by the gateway itself (ARP, ND, echo, ICMP errors) is used up.
    PuntLimited => "punt_limited",
    /// A packet for the gateway's own address that it does not serve.
    NotServed => "not_served",

    // The gateway's own TCP and UDP.
    /// A fragment for the gateway's own TCP or UDP endpoint.
    EndpointFragment => "endpoint_fragment",
    /// The tenant's rate of packets to the gateway's own TCP or UDP endpoint is used up.
    EndpointLimited => "endpoint_limited",
    /// The ring to the gateway's own TCP and UDP endpoint is full, or the tenant's share of it.
    EndpointFull => "endpoint_full",
    /// A packet of the gateway's own endpoint whose source is none of its addresses in the routing domain.
    EndpointSource => "endpoint_source",

    // NAT.
    /// The routing domain has no NAT and the front end cannot be reached untranslated.
    NatAbsent => "nat_absent",
    /// NAT does not translate this protocol.
    NatProtocol => "nat_protocol",
    /// No public port is free on the tenant's addresses.
    NatNoPort => "nat_no_port",
    /// The tenant's session budget is used up.
    NatTenantSessions => "nat_tenant_sessions",
    /// The customer address's session budget is used up.
    NatCustomerSessions => "nat_customer_sessions",
    /// The worker's session table is full.
    NatTableFull => "nat_table_full",
    /// No mapping or inbound rule has this public address and port.
    NatNoMapping => "nat_no_mapping",
    /// The mapping exists but the remote address was never spoken to (address-dependent filtering).
    NatFiltered => "nat_filtered",
    /// A TCP packet that is not a SYN and belongs to no session.
    NatNoSession => "nat_no_session",
    /// An ICMP error whose quoted packet belongs to no session.
    NatIcmpUnrelated => "nat_icmp_unrelated",
    /// A fragment whose first fragment has not been seen.
    FragmentOrphan => "fragment_orphan",
    /// The table of datagrams in fragments is full.
    FragmentTableFull => "fragment_table_full",

    // Tunnels.
    /// A datagram to a tunnel port is no message of the tunnel's protocol.
    TunnelMalformed => "tunnel_malformed",
    /// A handshake by a public key that no tunnel is configured for.
    TunnelUnknownPeer => "tunnel_unknown_peer",
    /// A handshake message whose first MAC was not made for a key of the gateway's.
    TunnelMac => "tunnel_mac",
    /// The budget of handshakes (of a source, a tunnel or the gateway) is used up.
    TunnelHandshakeBudget => "tunnel_handshake_budget",
    /// A message for a session or handshake that the tunnel does not have.
    TunnelNoSession => "tunnel_no_session",
    /// A message that was received before, or is too old to tell.
    TunnelReplay => "tunnel_replay",
    /// A message that does not decrypt: damaged, forged, or the keys of both sides do not fit.
    TunnelAuth => "tunnel_auth",
    /// A message of a session that is past its time or its number of messages.
    TunnelExpired => "tunnel_expired",
    /// The source of a packet out of a tunnel is not within the site's prefixes.
    TunnelSource => "tunnel_source",
    /// The destination of a packet into a tunnel is outside the tunnel's allowed prefixes.
    TunnelAllowed => "tunnel_allowed",
    /// The tunnel is down.
    TunnelDown => "tunnel_down",
    /// A packet from a site towards the front end, which the site may not use.
    TunnelInternet => "tunnel_internet",
    /// The tunnel's peer has no known address yet.
    TunnelNoEndpoint => "tunnel_no_endpoint",
    /// A packet that waited for the tunnel's handshake made way for a newer one.
    TunnelQueueFull => "tunnel_queue_full",
    /// The tunnel's limit of inbound bandwidth is used up.
    TunnelPolicedInbound => "tunnel_policed_inbound",
    /// The tunnel's limit of outbound bandwidth is used up.
    TunnelPolicedOutbound => "tunnel_policed_outbound",
    /// A packet of the tunnel is no IP packet.
    TunnelInnerMalformed => "tunnel_inner_malformed",

    // The front end.
    /// The front-end address is leased to no tenant.
    FrontEndUnleased => "front_end_unleased",
    /// The kernel has no route to the destination on the front end.
    FrontEndNoRoute => "front_end_no_route",
    /// The next hop on the front end has not answered ARP or ND yet.
    FrontEndUnresolved => "front_end_unresolved",
    /// An untranslated source on the front end is not within the tenant's front-end prefixes.
    FrontEndSource => "front_end_source",

    // Ports, workers, queues.
    /// The next hop on the fabric has not answered ARP or ND yet.
    FabricUnresolved => "fabric_unresolved",
    /// The kernel has no route to the provider address on the fabric.
    FabricNoRoute => "fabric_no_route",
    /// The handoff ring to the owning worker is full.
    HandoffFull => "handoff_full",
    /// The transmit queue of the port is full.
    TransmitFull => "transmit_full",
    /// The frame has no room for the headers to be added.
    NoHeadroom => "no_headroom",
    /// The receive ring cut the frame short.
    Truncated => "truncated",
    /// The offload facts of the frame contradict its headers.
    OffloadInvalid => "offload_invalid",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_name_and_an_index_of_its_own() {
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(!reason.meaning().is_empty());
        }
    }
}
