//! Plans for tests: tenants that all use the same inner addresses and MACs, and the host's network
//! that goes with them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;

use nvgate_deploy::host::{HostView, LinkFacts, Neighbour, Route};
use nvgate_deploy::plan::{
    DscpMode, EndpointPlan, FabricPlan, FrontEndPlan, GatewayPlan, InboundRulePlan, NatPlan,
    NatTimeouts, Plan, PoolPlan, SubnetPlan, SubnetRole, TenantLimits, TenantPlan,
};
use nvgate_model::{
    CustomerAddress, FrontEndAddress, MacAddress, Prefix, Protocol, ProviderAddress,
    RoutingDomainId, Vsid,
};

/// The MAC of every default gateway.
pub const GATEWAY_MAC: MacAddress = MacAddress([0x02, 0x6e, 0x76, 0x67, 0, 1]);
/// The MAC of the fabric port.
pub const FABRIC_MAC: MacAddress = MacAddress([0x02, 0xfa, 0, 0, 0, 1]);
/// The MAC of the front-end port.
pub const FRONT_END_MAC: MacAddress = MacAddress([0x02, 0xfe, 0, 0, 0, 1]);
/// The MAC of the front end's router, through which the internet is reached.
pub const ROUTER_MAC: MacAddress = MacAddress([0x02, 0xfe, 0, 0, 0, 0xfe]);
/// The gateway's provider addresses.
pub const GATEWAY_PROVIDER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
/// The gateway's provider address of IPv6.
pub const GATEWAY_PROVIDER_V6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
/// The front-end router's address.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// A remote in the internet.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// A remote in the IPv6 internet.
pub const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7);
/// MTU of both links.
pub const LINK_MTU: u32 = 1500;

/// Index of the fabric link.
pub const FABRIC_LINK: u32 = 2;
/// Index of the front-end link.
pub const FRONT_END_LINK: u32 = 3;

/// A provider address of a virtualization host: 172.16.0.`last`.
#[must_use]
pub const fn provider(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, 0, last)
}

/// A provider address of IPv6: fd99::`last`.
#[must_use]
pub const fn provider_v6(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, last as u16)
}

/// The MAC of an underlay neighbour, by the last byte of its address.
#[must_use]
pub const fn underlay_mac(last: u8) -> MacAddress {
    MacAddress([0x02, 0xfa, 0, 0, 1, last])
}

/// The VSID of a tenant's subnet.
#[must_use]
pub const fn vsid(tenant: u8, subnet: u8) -> u32 {
    0x5000 + tenant as u32 * 16 + subnet as u32
}

/// The subnet with 10.1.0.0/24 and fd00:1::/64.
pub const WEB: u8 = 1;
/// The subnet with 10.2.0.0/24 and fd00:2::/64.
pub const APP: u8 = 2;
/// The gateway subnet, 10.254.254.0/29.
pub const TRANSIT: u8 = 3;

/// The customer address `last` of a subnet; the same for every tenant.
#[must_use]
pub const fn customer(subnet: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, subnet, 0, last)
}

/// The IPv6 customer address `last` of a subnet; the same for every tenant.
#[must_use]
pub const fn customer_v6(subnet: u8, last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, subnet as u16, 0, 0, 0, 0, 0, last as u16)
}

/// The IPv6 address `last` in a tenant's front-end prefix.
#[must_use]
pub const fn public_v6(tenant: u8, last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, tenant as u16, 0, 0, 0, 0, last as u16)
}

/// A tenant's public address, `index` 0 to 3.
#[must_use]
pub const fn public(tenant: u8, index: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 4 + tenant * 4 + index)
}

/// The MAC of the endpoint `last` of a subnet; the same for every tenant.
#[must_use]
pub const fn endpoint_mac(subnet: u8, last: u8) -> MacAddress {
    MacAddress([0x02, 0, 0, 0, subnet, last])
}

/// An endpoint of a subnet with its IPv4 and IPv6 customer addresses.
///
/// # Panics
///
/// The VSID is reserved.
#[must_use]
pub fn endpoint(tenant: u8, subnet: u8, last: u8, providers: &[IpAddr]) -> EndpointPlan {
    EndpointPlan {
        customer_addresses: vec![
            CustomerAddress(customer(subnet, last).into()),
            CustomerAddress(customer_v6(subnet, last).into()),
        ],
        mac: endpoint_mac(subnet, last),
        vsid: Vsid::new(vsid(tenant, subnet)).expect("a tenant's VSID"),
        provider_addresses: providers.iter().copied().map(ProviderAddress).collect(),
    }
}

/// An inbound rule for one port.
#[must_use]
pub fn rule(
    protocol: Protocol,
    public: (Ipv4Addr, u16),
    count: u16,
    customer: (Ipv4Addr, u16),
) -> InboundRulePlan {
    InboundRulePlan {
        protocol,
        public_address: FrontEndAddress(public.0.into()),
        public_port: public.1,
        port_count: count,
        customer_address: CustomerAddress(customer.0.into()),
        customer_port: customer.1,
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

/// Tenant number `index`, below 32: subnets [`WEB`] and [`APP`] and the gateway subnet, endpoints
/// on hosts with one and two provider addresses and one reached over IPv6, two public addresses,
/// inbound rules, an IPv6 front-end prefix.
///
/// # Panics
///
/// Never, for an index below 32.
#[must_use]
pub fn tenant(index: u8) -> TenantPlan {
    let subnet = |name: &str, number: u8, prefixes: &[&str], role| SubnetPlan {
        name: name.to_owned(),
        vsid: Vsid::new(vsid(index, number)).expect("a tenant's VSID"),
        prefixes: prefixes.iter().map(|text| prefix(text)).collect(),
        role,
    };
    let front_end = format!("2001:db8:{index:x}::/64");
    let web = ["10.1.0.0/24", "fd00:1::/64", &front_end];
    let app = ["10.2.0.0/24", "fd00:2::/64"];
    let mut endpoints = vec![
        endpoint(index, WEB, 10, &[provider(11).into()]),
        endpoint(index, WEB, 11, &[provider(12).into()]),
        endpoint(index, APP, 20, &[provider(13).into(), provider(14).into()]),
        endpoint(index, APP, 21, &[provider(11).into()]),
        endpoint(index, APP, 22, &[provider_v6(15).into()]),
    ];
    endpoints[0].customer_addresses.push(CustomerAddress(public_v6(index, 10).into()));
    TenantPlan {
        name: format!("tenant-{index}").parse().expect("a tenant's name"),
        routing_domain: RoutingDomainId::from_bytes([index + 1; 16]),
        subnets: vec![
            subnet("web", WEB, &web, SubnetRole::Virtual),
            subnet("app", APP, &app, SubnetRole::Virtual),
            subnet("transit", TRANSIT, &["10.254.254.0/29"], SubnetRole::Gateway),
        ],
        endpoints,
        routes: Vec::new(),
        nat: Some(NatPlan {
            addresses: (0..2).map(|at| FrontEndAddress(public(index, at).into())).collect(),
            inbound: vec![
                rule(Protocol::Tcp, (public(index, 0), 80), 1, (customer(WEB, 10), 8080)),
                rule(Protocol::Udp, (public(index, 0), 53), 1, (customer(APP, 20), 53)),
                rule(Protocol::Tcp, (public(index, 1), 9000), 10, (customer(WEB, 11), 9000)),
            ],
            reserved_udp: Vec::new(),
            timeouts: NatTimeouts::default(),
        }),
        vpn: None,
        bgp: None,
        front_end_prefixes: vec![prefix(&front_end)],
        limits: TenantLimits::default(),
    }
}

/// A plan with these tenants.
#[must_use]
pub fn plan(tenants: Vec<TenantPlan>) -> Plan {
    Plan {
        gateway: GatewayPlan {
            workers: NonZeroUsize::MIN,
            fabric: FabricPlan {
                link: "fabric".to_owned(),
                provider_addresses: vec![
                    ProviderAddress(GATEWAY_PROVIDER.into()),
                    ProviderAddress(GATEWAY_PROVIDER_V6.into()),
                ],
                tenant_mtu: 1280,
                dscp: DscpMode::Uniform,
                constant_flow: Vec::new(),
            },
            front_end: FrontEndPlan {
                link: "front".to_owned(),
                pools: vec![PoolPlan {
                    name: "internet".to_owned(),
                    prefixes: vec![prefix("203.0.113.0/24")],
                }],
                shared_addresses: Vec::new(),
                bgp: None,
            },
            links: None,
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9470)),
            bmp: None,
            state_directory: "/nowhere".into(),
            gateway_mac: GATEWAY_MAC,
            flow_entries: 1 << 12,
        },
        tenants,
    }
}

/// The host's network that goes with [`plan`]: all provider addresses on the fabric link and
/// resolved, the internet behind [`ROUTER`].
#[must_use]
pub fn host() -> HostView {
    let link = |index, mac, addresses: &[(IpAddr, u8)]| LinkFacts {
        index,
        mac,
        mtu: LINK_MTU,
        running: true,
        addresses: addresses.to_vec(),
    };
    let route = |text: &str, link, gateway: Option<IpAddr>| Route {
        prefix: prefix(text),
        metric: 0,
        link,
        gateway,
        mtu: None,
    };
    let router_v6: IpAddr = "fe80::fe".parse().expect("an address");
    let mut neighbours = BTreeMap::new();
    for last in 10..30 {
        let neighbour = Neighbour { mac: underlay_mac(last), permanent: false };
        neighbours.insert((FABRIC_LINK, provider(last).into()), neighbour);
        neighbours.insert((FABRIC_LINK, provider_v6(last).into()), neighbour);
    }
    for router in [ROUTER.into(), router_v6] {
        neighbours
            .insert((FRONT_END_LINK, router), Neighbour { mac: ROUTER_MAC, permanent: false });
    }
    let fabric = [(GATEWAY_PROVIDER.into(), 24), (GATEWAY_PROVIDER_V6.into(), 64)];
    let front = [(Ipv4Addr::new(192, 0, 2, 1).into(), 24)];
    HostView {
        links: [
            ("fabric".to_owned(), link(FABRIC_LINK, FABRIC_MAC, &fabric)),
            ("front".to_owned(), link(FRONT_END_LINK, FRONT_END_MAC, &front)),
        ]
        .into(),
        routes: vec![
            route("172.16.0.0/24", FABRIC_LINK, None),
            route("fd99::/64", FABRIC_LINK, None),
            route("192.0.2.0/24", FRONT_END_LINK, None),
            route("0.0.0.0/0", FRONT_END_LINK, Some(ROUTER.into())),
            route("::/0", FRONT_END_LINK, Some(router_v6)),
        ],
        discards: Vec::new(),
        neighbours,
    }
}
