//! One case a rule: an edit of a valid configuration, and the one error it must give. In an edit
//! `^^` stands before what the error points at, and `@@` before what its note points at.

/// File, what is replaced in it, and by what.
pub(super) type Edit = (&'static str, &'static str, &'static str);

pub(super) struct Case {
    pub(super) edits: &'static [Edit],
    pub(super) message: &'static str,
}

pub(super) const fn case(edits: &'static [Edit], message: &'static str) -> Case {
    Case { edits, message }
}

pub(super) const CASES: &[Case] = &[
    // Form.
    case(
        &[("a", "vsid: 5001", "^^vsdi: 5001")],
        "unknown key `vsdi` in a subnet; did you mean `vsid`?",
    ),
    case(
        &[("a", "limits:", "limits:\n  ^^banana: 1")],
        "unknown key `banana` in `limits`; the keys are `sessions`",
    ),
    case(
        &[("a", "- name: web\n    vsid: 5001", "- ^^name: web")],
        "missing key `vsid` in a subnet",
    ),
    case(&[("a", "vsid: 5001", "@@vsid: 5001\n    ^^vsid: 5009")], "key `vsid` is given twice"),
    case(&[("a", "vsid: 5001", "vsid: ^^4095")], "`vsid`: VSID 4095 is not between 4096"),
    case(&[("a", "vsid: 5001", "vsid: ^^web")], "`vsid`: `web` is not a VSID"),
    case(
        &[("a", "vsid: 5001", "vsid: ^^[5001]")],
        "`vsid`: expected a VSID, a whole number, found a list",
    ),
    case(
        &[("a", "vsid: 5001", "vsid^^:")],
        "`vsid`: expected a VSID, a whole number, found nothing",
    ),
    case(
        &[("a", "10.2.0.0/24", "^^10.2.0.1/24")],
        "10.2.0.1/24 has host bits set; the prefix is 10.2.0.0/24",
    ),
    case(&[("a", "10.2.0.0/24", "^^10.2.0.0")], "`prefixes`: `10.2.0.0` is not a prefix"),
    case(
        &[("a", "prefixes: [10.2.0.0/24]", "prefixes: ^^[]")],
        "`prefixes`: 0 entries are fewer than 1",
    ),
    case(&[("a", "tenant: a", "tenant: ^^A_b")], "`tenant`: `A_b` is not a tenant name"),
    case(&[("a", "00000000-0000-0000-0000-00000000000a", "^^12")], "`12` is not a GUID"),
    case(&[("a", "sessions: 100", "sessions: ^^0")], "`sessions`: 0 is not between 1 and 16777216"),
    case(
        &[("a", "sessions: 100", "sessions: ^^-5")],
        "`sessions`: `-5` is not a whole number between 1",
    ),
    case(&[("a", "443", "^^0")], "`public_port`: port 0 is not between 1 and 65535"),
    case(&[("a", "443", "^^70000")], "`public_port`: port 70000 is not between 1 and 65535"),
    case(&[("a", "8000-8099", "^^8099-8000")], "the range 8099-8000 ends before it begins"),
    case(
        &[("a", "protocol: tcp", "protocol: ^^tpc")],
        "`tpc` is not one of `tcp`, `udp`, `both`; did you mean `tcp`?",
    ),
    case(&[("a", "addresses: 2", "addresses: ^^257")], "`addresses`: 257 is not between 1 and 256"),
    case(
        &[(
            "a",
            "provider_addresses: [192.0.2.11]",
            "provider_addresses: [1.0.0.1, 1.0.0.2, 1.0.0.3, 1.0.0.4, 1.0.0.5, 1.0.0.6, 1.0.0.7, 1.0.0.8, ^^1.0.0.9]",
        )],
        "`provider_addresses`: 9 entries are more than 8",
    ),
    case(
        &[(
            "a",
            "mac: 02:00:00:00:00:0a\n    provider_addresses: [192.0.2.12]",
            "mac: ^^02:00\n    provider_addresses: [192.0.2.12]",
        )],
        "`mac`: `02:00` is not a MAC address",
    ),
    case(
        &[("a", "limits:\n  sessions: 100", "limits: ^^100")],
        "`limits`: expected `limits`, a mapping of `sessions`",
    ),
    case(&[("gateway", "link: fabric0", "link: ^^a/b")], "`link`: `a/b` is no link's name"),
    case(
        &[("gateway", "fabric:", "bmp: {address: ^^224.0.0.5, port: 11019}\nfabric:")],
        "224.0.0.5 is multicast (224.0.0.0/4); name the collector's own",
    ),
    case(
        &[("gateway", "fabric:", "bmp: ^^{address: 192.0.2.50}\nfabric:")],
        "missing key `port` in `bmp`",
    ),
    case(
        &[("gateway", "fabric:", "workers: ^^0\nfabric:")],
        "`0` is neither `auto` nor a number between 1 and 64",
    ),
    case(
        &[("gateway", "fabric:", "admin: {listen: ^^9470}\nfabric:")],
        "`9470` is not an address and port",
    ),
    case(
        &[("gateway", "fabric:", "state_directory: ^^var\nfabric:")],
        "`var` is not an absolute path",
    ),
    case(
        &[("gateway", "fabric:", "flow_entries: ^^1000\nfabric:")],
        "1000 is not between 1024 and 16777216",
    ),
    case(&[("gateway", "link: fabric0", "link: fab^^: ric")], "mapping values are not allowed"),
    // The gateway.
    case(
        &[("gateway", "fabric:", "flow_entries: ^^3000\nfabric:")],
        "3000 flow entries are not a power of two; the nearest are 2048 and 4096",
    ),
    case(
        &[("gateway", "fabric:", "gateway_mac: ^^01:00:5e:00:00:01\nfabric:")],
        "is not the address of a station",
    ),
    case(
        &[
            ("gateway", "fabric0", "@@front0"),
            ("gateway", "link: front0\n  pools", "link: ^^front0\n  pools"),
        ],
        "link front0 is the fabric's too",
    ),
    case(
        &[("gateway", "[192.0.2.1]", "[@@192.0.2.1, ^^192.0.2.2]")],
        "192.0.2.2 is a second one of IPv4",
    ),
    case(&[("gateway", "[192.0.2.1]", "[^^224.0.0.1]")], "provider address 224.0.0.1 is multicast"),
    case(
        &[(
            "gateway",
            "front_end:",
            "  constant_flow: [{provider_address: @@192.0.2.9, flow_id: 0}, {provider_address: ^^192.0.2.9, flow_id: 0}]\nfront_end:",
        )],
        "192.0.2.9 has a constant flow twice",
    ),
    case(
        &[(
            "gateway",
            "[192.0.2.1]",
            "[@@192.0.2.1]\n  constant_flow: [{provider_address: ^^192.0.2.1, flow_id: 0}]",
        )],
        "192.0.2.1 is the gateway's own",
    ),
    case(
        &[
            ("gateway", "[198.51.100.0/30]", "[^^203.0.113.4/30]"),
            ("gateway", "[203.0.113.0/29]", "[@@203.0.113.0/29]"),
        ],
        "203.0.113.4/30 of pool `other` overlaps 203.0.113.0/29 of pool `public`",
    ),
    case(
        &[
            ("gateway", "name: other", "name: ^^public"),
            ("gateway", "name: public", "name: @@public"),
        ],
        "pool `public` is defined twice",
    ),
    case(&[("gateway", "198.51.100.0/30", "^^'2001:db8::/64'")], "2001:db8::/64 is not IPv4"),
    case(
        &[("gateway", "198.51.100.0/30", "^^224.0.0.0/30")],
        "224.0.0.0/30 holds addresses of multicast",
    ),
    case(
        &[("gateway", "198.51.100.0/30", "198.0.0.0/16, ^^198.1.0.0/30")],
        "198.1.0.0/30 makes pool `other` larger than 65536",
    ),
    case(
        &[("gateway", "- name: other", "- except: ^^192.0.2.200\n      name: other")],
        "192.0.2.200/32 is not in pool `other`",
    ),
    case(
        &[
            ("gateway", "198.51.100.0/30", "@@192.0.2.0/30"),
            ("gateway", "[192.0.2.1]", "[^^192.0.2.1]"),
        ],
        "provider address 192.0.2.1 lies in 192.0.2.0/30 of pool `other`",
    ),
    case(
        &[
            ("gateway", "198.51.100.0/30", "@@192.0.2.12/30"),
            ("a", "[192.0.2.12]", "[^^192.0.2.12]"),
        ],
        "provider address 192.0.2.12 lies in 192.0.2.12/30 of pool `other`",
    ),
    case(
        &[("gateway", "name: public", "name: ^^public"), ("a", "addresses: 2", "addresses: @@8")],
        "pool `public` has 7 addresses to lease, but 8 are asked for: tenant `a` (8)",
    ),
    // One tenant.
    case(
        &[
            ("a", "name: data", "name: ^^web"),
            ("a", "name: web", "name: @@web"),
            ("a", "subnet: web", "subnet: 5001"),
        ],
        "subnet `web` is defined twice",
    ),
    case(
        &[
            ("a", "name: data", "name: ^^gateway"),
            ("a", "gateway_subnet:\n  vsid: 5003\n  prefixes: [10.254.254.0/29]\n", ""),
        ],
        "`gateway` is the name of the gateway subnet",
    ),
    case(
        &[
            ("a", "[10.254.254.0/29]", "[^^10.2.0.128/29]"),
            ("a", "[10.2.0.0/24]", "[@@10.2.0.0/24]"),
        ],
        "10.2.0.128/29 of subnet `gateway` overlaps 10.2.0.0/24 of subnet `data`",
    ),
    case(
        &[("a", "10.254.254.0/29", "^^127.0.0.0/29")],
        "127.0.0.0/29 of subnet `gateway` holds addresses of loopback",
    ),
    case(
        &[("a", "10.254.254.0/29", "^^10.254.254.0/31")],
        "leaves no endpoint room beside the gateway; the longest prefix is /30",
    ),
    case(&[("a", "subnet: web", "subnet: ^^wbe")], "no subnet is named `wbe`; did you mean `web`?"),
    case(&[("a", "subnet: 5002", "subnet: ^^5009")], "no subnet of this tenant has VSID 5009"),
    case(
        &[("a", "'fd00:1::10'", "^^10.2.0.10"), ("a", "name: web", "name: @@web")],
        "customer address 10.2.0.10 is not in subnet `web` (10.1.0.0/24, fd00:1::/64)",
    ),
    case(
        &[("a", "'fd00:1::10'", "^^10.1.0.1")],
        "customer address 10.1.0.1 is the default gateway of 10.1.0.0/24 in subnet `web`",
    ),
    case(
        &[("a", "'fd00:1::10'", "^^10.1.0.0")],
        "customer address 10.1.0.0 is the network address",
    ),
    case(
        &[("a", "'fd00:1::10'", "^^10.1.0.255")],
        "customer address 10.1.0.255 is the broadcast address",
    ),
    case(
        &[("a", "'fd00:1::10'", "^^'fd00:1::1'")],
        "customer address fd00:1::1 is the default gateway",
    ),
    case(
        &[("a", "[10.1.0.10, 'fd00:1::10']", "[@@10.1.0.10, ^^10.1.0.10]")],
        "customer address 10.1.0.10 is used twice in this tenant",
    ),
    case(
        &[
            ("a", "subnet: 5002", "subnet: web"),
            ("a", "10.2.0.20]\n    mac: ", "10.1.0.20]\n    mac: ^^"),
            (
                "a",
                "mac: 02:00:00:00:00:0a\n    provider_addresses: [192.0.2.11]",
                "mac: @@02:00:00:00:00:0a\n    provider_addresses: [192.0.2.11]",
            ),
            ("a", "via: 10.2.0.20", "via: 10.1.0.20"),
        ],
        "MAC 02:00:00:00:00:0a is used twice in subnet `web`",
    ),
    case(
        &[("b", "mac: 02:00:00:00:00:0a", "mac: ^^02:6e:76:67:00:01")],
        "MAC 02:6e:76:67:00:01 is the gateway's own",
    ),
    case(
        &[("b", "mac: 02:00:00:00:00:0a", "mac: ^^ff:ff:ff:ff:ff:ff")],
        "MAC ff:ff:ff:ff:ff:ff is not the address of a station",
    ),
    case(
        &[("b", "[192.0.2.11]", "[^^192.0.2.1]"), ("gateway", "[192.0.2.1]", "[@@192.0.2.1]")],
        "provider address 192.0.2.1 is the gateway's own",
    ),
    case(
        &[("b", "[192.0.2.11]", "[^^'2001:db8::11']"), ("gateway", "[192.0.2.1]", "[@@192.0.2.1]")],
        "2001:db8::11 cannot be reached: the gateway has no IPv6 provider address",
    ),
    case(
        &[("b", "[192.0.2.11]", "[^^255.255.255.255]")],
        "provider address 255.255.255.255 is reserved",
    ),
    case(
        &[("b", "[192.0.2.11]", "[@@192.0.2.11, ^^192.0.2.11]")],
        "provider address 192.0.2.11 is listed twice",
    ),
    case(
        &[("a", "via: 10.2.0.20", "via: ^^10.2.0.21")],
        "no endpoint of this tenant has customer address 10.2.0.21",
    ),
    case(
        &[("a", "via: 10.2.0.20", "via: ^^'fd00:1::10'")],
        "10.50.0.0/16 and fd00:1::10 are not of one family",
    ),
    case(
        &[("a", "via: 10.2.0.20", "via: ^^10.2.0.20\n    blackhole: true")],
        "either `via` or `blackhole: true`, not both",
    ),
    case(
        &[("a", "- prefix: 10.66.0.0/16\n    blackhole: true", "- ^^prefix: 10.66.0.0/16")],
        "missing key `via` or `blackhole: true` in a route",
    ),
    case(
        &[("a", "10.66.0.0/16", "^^10.2.0.0/24"), ("a", "name: data", "name: @@data")],
        "10.2.0.0/24 is subnet `data` itself and needs no route",
    ),
    case(
        &[("a", "10.66.0.0/16", "^^10.50.0.0/16"), ("a", "10.50.0.0/16", "@@10.50.0.0/16")],
        "10.50.0.0/16 has two routes of metric 100",
    ),
    case(&[("a", "10.66.0.0/16", "^^224.1.0.0/16")], "224.1.0.0/16 is multicast"),
    case(
        &[("a", "front_end_prefixes: ['fd00:1::/64']", "front_end_prefixes: [^^'fd00:2::/64']")],
        "fd00:2::/64 neither lies in a prefix of this tenant's subnets nor covers one",
    ),
    case(
        &[("a", "front_end_prefixes: ['fd00:1::/64']", "front_end_prefixes: [^^10.1.0.0/24]")],
        "10.1.0.0/24 is not IPv6",
    ),
    case(
        &[("a", "sessions: 100", "sessions: 100\n  sessions_per_customer: ^^101")],
        "101 sessions of one customer address are more than the tenant's 100",
    ),
    case(
        &[("a", "- prefix: 10.50.0.0/16\n    via: 10.2.0.20", "- ^^prefix: 10.50.0.0/16")],
        "missing key `via` or `blackhole: true` in a route",
    ),
    case(
        &[("a", "blackhole: true", "blackhole: ^^yes")],
        "`blackhole`: `yes` is neither `true` nor `false`",
    ),
    case(
        &[("gateway", "203.0.113.0/29", "^^'2001:db8::/64'")],
        "2001:db8::/64 is not IPv4; NAT translates to IPv4 addresses only",
    ),
    // NAT.
    case(
        &[("a", "pool: public", "pool: ^^pubic")],
        "no pool is named `pubic`; did you mean `public`?",
    ),
    case(&[("a", "pool: public\n  addresses: 2", "^^addresses: 2")], "missing key `pool` in `nat`"),
    case(&[("b", "[203.0.113.7]", "[^^'2001:db8::7']")], "2001:db8::7 is not IPv4"),
    case(&[("b", "[203.0.113.7]", "[^^127.0.0.1]")], "127.0.0.1 is loopback"),
    case(
        &[
            ("b", "addresses: [203.0.113.7]", "addresses: [^^203.0.113.7]\n  pool: other"),
            ("gateway", "name: other", "name: @@other"),
        ],
        "203.0.113.7 is not in pool `other`",
    ),
    case(
        &[("b", "[203.0.113.7]", "[@@203.0.113.7, ^^203.0.113.7]")],
        "public address 203.0.113.7 is used twice in this tenant",
    ),
    case(
        &[("b", "[203.0.113.7]", "[^^192.0.2.12]"), ("a", "[192.0.2.12]", "[@@192.0.2.12]")],
        "public address 192.0.2.12 is a provider address",
    ),
    case(
        &[("a", "to: 10.1.0.10", "to: ^^10.3.0.10")],
        "10.3.0.10 is in no subnet and behind no route of this tenant",
    ),
    case(
        &[("a", "to: 10.50.0.1", "to: ^^10.66.0.1")],
        "10.66.0.1 is in no subnet and behind no route of this tenant",
    ),
    case(
        &[("a", "to: 10.1.0.10", "to: ^^10.1.0.1")],
        "10.1.0.1 is the default gateway of 10.1.0.0/24 in subnet `web`",
    ),
    case(&[("a", "to: 10.1.0.10", "to: ^^'fd00:1::10'")], "fd00:1::10 is not IPv4"),
    case(
        &[("a", "port: 9000", "port: ^^65500")],
        "100 ports from 65500 end at 65599, which is beyond 65535",
    ),
    case(
        &[("a", "public_address: 2", "public_address: ^^3")],
        "public address 3 is none of the tenant's, which are 2",
    ),
    case(
        &[("a", "public_address: 2", "public_address: ^^203.0.113.6")],
        "public address 203.0.113.6 is none of the tenant's, which are 203.0.113.0, 203.0.113.1",
    ),
    case(
        &[
            ("a", "public_port: 443", "public_port: @@8050"),
            ("a", "public_address: 2\n      public_port: 8000-8099", "public_port: ^^8000-8099"),
        ],
        "tcp port 8050 is published twice on one address",
    ),
    case(
        &[
            ("a", "public_port: 443", "public_port: @@8099"),
            (
                "a",
                "public_address: 2\n      public_port: 8000-8099",
                "public_address: 203.0.113.0\n      public_port: ^^8000-8099",
            ),
        ],
        "tcp port 8099 is published twice on one address",
    ),
    // Tenants together.
    case(
        &[("b", "tenant: b", "tenant: ^^a"), ("a", "tenant: a", "tenant: @@a")],
        "tenant `a` is defined twice",
    ),
    case(
        &[
            ("b", "00000000-0000-0000-0000-00000000000b", "^^00000000-0000-0000-0000-00000000000A"),
            ("a", "00000000-0000-0000-0000-00000000000a", "@@00000000-0000-0000-0000-00000000000a"),
        ],
        "routing domain 00000000-0000-0000-0000-00000000000a is already used by tenant `a`",
    ),
    case(
        &[("b", "vsid: 6001", "vsid: ^^5001"), ("a", "vsid: 5001", "vsid: @@5001")],
        "VSID 5001 is already used by tenant `a`",
    ),
    case(
        &[("a", "vsid: 5003", "vsid: ^^5001"), ("a", "vsid: 5001", "vsid: @@5001")],
        "VSID 5001 is used twice in this tenant",
    ),
    case(
        &[
            (
                "b",
                "[10.1.0.0/24]",
                "[10.1.0.0/24, 'fd00:1::/48']\nfront_end_prefixes: [^^'fd00:1::/48']",
            ),
            ("a", "front_end_prefixes: ['fd00:1::/64']", "front_end_prefixes: [@@'fd00:1::/64']"),
        ],
        "front-end prefix fd00:1::/48 overlaps fd00:1::/64 of tenant `a`",
    ),
    case(
        &[
            ("a", "pool: public\n  addresses: 2", "addresses: [@@203.0.113.7, 203.0.113.6]"),
            ("b", "[203.0.113.7]", "[^^203.0.113.7]"),
        ],
        "public address 203.0.113.7 is already used by tenant `a`",
    ),
];
