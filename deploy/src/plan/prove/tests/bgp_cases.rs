//! The cases of rules about BGP peers, as those of [`super::cases`].

use super::cases::{Case, case};

pub(super) const BGP_CASES: &[Case] = &[
    // Form.
    case(
        &[("a", "limit: 8", "^^limits: 8")],
        "unknown key `limits` in a peer; did you mean `limit`?",
    ),
    case(&[("a", "  asn: 64512", "  asn: ^^0")], "`asn`: AS 0 is reserved: it must not stand"),
    case(&[("a", "  asn: 64512", "  asn: ^^23456")], "AS 23456 is reserved: it stands for numbers"),
    case(&[("a", "  asn: 64512", "  asn: ^^65535")], "AS 65535 is reserved: the last number"),
    case(
        &[("a", "  asn: 64512", "  asn: ^^4294967296")],
        "`asn`: `4294967296` is not an AS number, 0 to 4294967295",
    ),
    case(&[("a", "  accept_default", "  router_id: ^^0.0.0.0\n  accept_default")], "RFC 6286"),
    case(
        &[("a", "asn: 65000-65009", "asn: ^^65009-65000")],
        "the range 65009-65000 ends before it begins",
    ),
    case(&[("a", "limit: 8", "hold_secs: ^^70000")], "70000 is not between 0 and 65535"),
    case(
        &[("a", "limit: 8", "graceful_restart: {mode: full, restart_secs: ^^4096}")],
        "`restart_secs`: 4096 is not between 0 and 4095",
    ),
    case(
        &[("a", "limit: 8", "graceful_restart: ^^on")],
        "`graceful_restart`: `on` is not one of `off`, `helper`, `full`",
    ),
    case(&[("a", "limit: 8", "role: ^^sibling")], "`sibling` is none of provider"),
    case(
        &[("a", "bfd: true", "bfd: {interval_millis: ^^5}")],
        "`interval_millis`: 5 is not between 10 and 60000",
    ),
    case(&[("a", "bfd: true", "bfd: ^^[]")], "expected `bfd`, a mapping of `interval_millis`"),
    case(
        &[("a", "bfd: true", "add_path: {send: ^^33}")],
        "`33` is neither `off` nor `all` nor a number between 1 and 32",
    ),
    case(&[("a", "bfd: true", "families: ^^ipv5")], "`ipv5` is not one of `ipv4`, `ipv6`"),
    case(&[("a", "bfd: true", "ttl_security: ^^255")], "255 is not between 1 and 254"),
    case(&[("a", "bfd: true", "description: ^^\"a\\tb\"")], "`a\\tb` holds control characters"),
    // Who a peer is.
    case(
        &[("a", "name: routers", "name: ^^vm"), ("a", "name: vm", "name: @@vm")],
        "peer `vm` is defined twice",
    ),
    case(
        &[("a", "address: 10.1.0.10", "address: @@10.1.0.10\n      dynamic: ^^10.2.0.128/25")],
        "a peer has either `address` or `dynamic`, not both",
    ),
    case(
        &[("a", "- name: routers\n      dynamic: 10.2.0.0/25", "- ^^name: routers")],
        "missing key `address` or `dynamic` in a peer",
    ),
    case(
        &[("a", "bfd: true", "limit: ^^3")],
        "`limit` says how many peers of a `dynamic` range there may be",
    ),
    case(&[("a", "limit: 8", "passive: ^^true")], "of a `dynamic` range always begin"),
    case(
        &[("a", "bfd: true", "passive: true\n      port: ^^1179")],
        "`port` is where the gateway connects to, but it waits for this peer",
    ),
    // Where it is.
    case(&[("a", "address: 192.168.0.1\n", "address: ^^127.0.0.1\n")], "is loopback"),
    case(
        &[
            ("a", "address: 10.1.0.10\n", "address: ^^10.1.0.1\n"),
            ("a", "name: web", "name: @@web"),
        ],
        "peer address 10.1.0.1 is the default gateway of 10.1.0.0/24 in subnet `web`",
    ),
    case(
        &[
            ("a", "address: 10.1.0.10\n", "address: ^^10.1.0.77\n"),
            ("a", "name: web", "name: @@web"),
        ],
        "10.1.0.77 is in subnet `web`, but no endpoint has it, so that nothing can be sent there",
    ),
    case(
        &[("a", "address: 192.168.0.1\n", "address: ^^192.0.3.1\n")],
        "peer address 192.0.3.1 is in no subnet of this tenant and behind no route",
    ),
    case(
        &[("a", "address: 192.168.0.1\n", "address: ^^10.66.0.1\n")],
        "peer address 10.66.0.1 is dropped by the route to 10.66.0.0/16",
    ),
    case(
        &[("a", "dynamic: 10.2.0.0/25", "dynamic: ^^10.0.0.0/8")],
        "10.0.0.0/8 is in no subnet of this tenant and behind no route",
    ),
    case(&[("a", "dynamic: 10.2.0.0/25", "dynamic: ^^224.0.0.0/8")], "is multicast"),
    case(
        &[("a", "bfd: true", "local_address: ^^10.1.0.10")],
        "local address 10.1.0.10 is not the gateway's in this domain, which has 10.254.254.1, \
         10.1.0.1, 10.2.0.1, fd00:1::1",
    ),
    case(
        &[
            ("a", "address: 10.1.0.10\n", "address: @@10.1.0.10\n"),
            ("a", "bfd: true", "local_address: ^^'fd00:1::1'"),
        ],
        "local address fd00:1::1 is not of the peer's family",
    ),
    case(
        &[
            ("a", "address: 10.1.0.10\n", "address: @@192.168.0.1\n"),
            ("a", "asn: 65010\n", "asn: 65010\n      local_address: 10.254.254.1\n"),
            ("a", "office\n      address: 192.168.0.1", "office\n      address: ^^192.168.0.1"),
        ],
        "peer address 192.168.0.1 is used twice from one address of the gateway",
    ),
    case(
        &[
            ("a", "dynamic: 10.2.0.0/25", "dynamic: @@10.2.0.0/25"),
            (
                "a",
                "      limit: 8\n",
                "    - name: more\n      dynamic: ^^10.2.0.64/26\n      asn: 65020\n",
            ),
        ],
        "range 10.2.0.64/26 overlaps 10.2.0.0/25",
    ),
    case(
        &[
            ("b", "  prefixes: [10.1.0.0/24]", "  prefixes: ['fd00:b::/64']"),
            ("b", "customer_addresses: [10.1.0.10]", "customer_addresses: ['fd00:b::10']"),
            (
                "b",
                "nat:",
                "bgp:\n  ^^asn: 64512\n  peers: [{name: x, address: 'fd00:b::10', asn: 65000}]\nnat:",
            ),
        ],
        "missing key `router_id` in `bgp`: the gateway has no IPv4 address in this domain",
    ),
    case(
        &[
            ("b", "  prefixes: [10.1.0.0/24]", "  prefixes: ['fd00:b::/64']"),
            ("b", "customer_addresses: [10.1.0.10]", "customer_addresses: ['fd00:b::10']"),
            ("b", "nat:", "routes: [{prefix: 192.168.0.0/16, via: hq}]\nnat:"),
            (
                "b",
                "nat:",
                "bgp:\n  asn: 64512\n  router_id: 10.0.0.1\n  peers: [{name: x, address: \
                 ^^192.168.0.1, asn: 65000}]\nnat:",
            ),
        ],
        "192.168.0.1 cannot be spoken with: the gateway has no IPv4 address in this domain",
    ),
    case(
        &[(
            "b",
            "nat:",
            "bgp:\n  asn: 64512\n  peers: [{name: x, address: 10.1.0.10, asn: 65000, families: \
             [ipv4, ^^ipv6]}]\nnat:",
        )],
        "IPv6 routes cannot be announced: the gateway has no IPv6 address in this domain",
    ),
    // Of which AS it is, and what that allows.
    case(&[("a", "asn: 65010\n", "asn: ^^23456\n")], "AS 23456 is reserved"),
    case(
        &[
            ("a", "address: 10.1.0.10\n", "address: @@10.1.0.10\n"),
            ("a", "asn: 65010\n", "asn: ^^65010-65011\n"),
        ],
        "a range of AS numbers is for peers of a `dynamic` range",
    ),
    case(
        &[("a", "asn: 65000-65009", "asn: ^^64512-65009")],
        "the range holds the gateway's own AS 64512, whose routers are internal peers",
    ),
    case(
        &[(
            "a",
            "office\n      address: 192.168.0.1\n      asn: 64512",
            "office\n      address: 192.168.0.1\n      asn: @@64512\n      role: ^^peer",
        )],
        "`role` is for peers of other ASes, but AS 64512 is the gateway's own",
    ),
    case(
        &[(
            "a",
            "office\n      address: 192.168.0.1\n      asn: 64512",
            "office\n      address: 192.168.0.1\n      asn: @@64512\n      next_hop: ^^unchanged",
        )],
        "`next_hop: unchanged` is for peers of other ASes",
    ),
    case(
        &[(
            "a",
            "office\n      address: 192.168.0.1\n      asn: 64512",
            "office\n      address: 192.168.0.1\n      asn: @@64512\n      local_as: ^^{asn: 64513}",
        )],
        "`local_as` is for peers of other ASes",
    ),
    case(
        &[("a", "bfd: true", "reflector_client: ^^true")],
        "routes are reflected within an AS only, but this peer is of another",
    ),
    case(
        &[("a", "bfd: true", "role_strict: ^^true")],
        "`role_strict` asks for the peer's role, but the gateway has none to tell; add `role`",
    ),
    case(
        &[("a", "bfd: true", "local_as: {asn: ^^64512}")],
        "AS 64512 is the gateway's own; leave it out",
    ),
    case(
        &[("a", "asn: 65010\n", "asn: @@65010\n"), ("a", "bfd: true", "local_as: {asn: ^^65010}")],
        "AS 65010 is the peer's, which would take the gateway for an internal one",
    ),
    // What its session is like.
    case(&[("a", "bfd: true", "hold_secs: ^^2")], "hold time 2 s is neither 0 nor at least 3"),
    case(
        &[("a", "bfd: true", "multihop: @@2\n      ttl_security: ^^2")],
        "either `multihop` or `ttl_security` is given, not both",
    ),
    case(&[("a", "bfd: true", "families: [@@ipv4, ^^ipv4]")], "the family is listed twice"),
    case(
        &[("a", "bfd: true", "ipv6: ^^{max_prefixes: 5}")],
        "`ipv6` says something of routes that are not exchanged; add ipv6 to `families`",
    ),
    case(
        &[("a", "bfd: true", "families: ipv6\n      ipv6_next_hop: ^^true")],
        "`ipv6_next_hop` is for IPv4 routes, which are not exchanged",
    ),
    case(
        &[("a", "bfd: true", "families: [ipv4, ipv6]\n      max_prefixes: ^^20000")],
        "20000 prefixes of one peer are more than the 10000 of all",
    ),
    case(
        &[("a", "bfd: true", "max_prefixes: {prefixes: 5, warning_percent: ^^101}")],
        "`warning_percent`: 101 is not between 1 and 100",
    ),
    case(
        &[("a", "bfd: true", "graceful_restart: {mode: helper, restart_secs: ^^100}")],
        "`restart_secs` says how long the gateway's own restart takes, which only `mode: full`",
    ),
    case(
        &[("a", "bfd: true", "graceful_restart: {mode: off, notifications: ^^true}")],
        "`notifications` says what keeps routes, but with `mode: off` nothing does",
    ),
    case(
        &[("a", "      bfd: true", "      password_file: ^^/nonexistent/key")],
        "`password_file`: /nonexistent/key cannot be read",
    ),
    case(
        &[("a", "password: hOvBvWW2yPzXK8VbhmH5IIRdyKsWWgKTwCnDWrIMhPo=", "password: ^^''")],
        "`password`: the value (not shown) is not a password of 1 to 80 bytes, as the other side has \
         it: a TCP-MD5 key of 0 bytes is none of 1 to 80",
    ),
    // Bounds.
    case(
        &[("a", "- name: routers", "- ^^name: routers"), ("a", "limit: 8", "limit: 63")],
        "65 peers, with all that ranges admit, are more than 64; raise `peers`",
    ),
    // Routes that are announced.
    case(
        &[("b", "nat:", "routes: [{prefix: 192.168.0.0/16, via: hq, announce: ^^true}]\nnat:")],
        "the route is to be announced, but the tenant has no BGP peers; add `bgp`",
    ),
    // The front end.
    case(
        &[
            ("gateway", "name: transit", "name: ^^transit"),
            ("gateway", "        import: full\n", ""),
            ("gateway", "      - name: full\n        default: accept\n", ""),
        ],
        "peer `transit` is of another AS and has no `import` policy, so that nothing would be learned \
         from it (RFC 8212); name one, or say `import: none`",
    ),
    case(
        &[("gateway", "export: own", "export: own\n        accept_default: ^^true")],
        "`accept_default` is for peers of tenants",
    ),
    case(
        &[("gateway", "address: 203.0.113.30", "address: ^^fe80::30")],
        "peer address fe80::30 is link-local (fe80::/10); name one that can be routed to",
    ),
    case(
        &[
            ("gateway", "address: 203.0.113.30", "address: ^^203.0.113.9"),
            ("gateway", "[203.0.113.9", "[@@203.0.113.9"),
        ],
        "peer address 203.0.113.9 is one of the gateway's `shared_addresses`; name the router's",
    ),
    case(
        &[
            ("gateway", "address: 203.0.113.30", "address: ^^203.0.113.3"),
            ("gateway", "name: public", "name: @@public"),
        ],
        "peer address 203.0.113.3 is one that pool `public` leases (`except` it there)",
    ),
    case(
        &[
            ("gateway", "export: own", "export: own\n        local_address: ^^203.0.113.3"),
            ("gateway", "name: public", "name: @@public"),
        ],
        "local address 203.0.113.3 is one that pool `public` leases (`except` it there), which the \
         kernel must not have",
    ),
    case(
        &[("gateway", "aggregates: public", "aggregates: ^^pubilc")],
        "no pool is named `pubilc`; did you mean `public`?",
    ),
    case(
        &[("gateway", "aggregates: public", "aggregates: [@@public, ^^public]")],
        "pool `public` is listed twice",
    ),
    case(
        &[
            ("gateway", "provider_addresses: [192.0.2.1]", "provider_addresses: ['2001:db8::1']"),
            ("gateway", "    asn: 64496", "    ^^asn: 64496"),
            ("a", "[192.0.2.11]", "['2001:db8::11']"),
            ("a", "[192.0.2.12]", "['2001:db8::12']"),
            ("b", "[192.0.2.11]", "['2001:db8::11']"),
        ],
        "missing key `router_id` in `bgp`: the gateway has no IPv4 provider address",
    ),
];
