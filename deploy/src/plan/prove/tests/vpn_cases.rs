//! The cases of rules about VPN, as those of [`super::cases`].

use super::cases::{Case, case};

pub(super) const VPN_CASES: &[Case] = &[
    // Form.
    case(
        &[("a", "listen: main", "^^listener: main")],
        "unknown key `listener` in a tunnel; did you mean `listen`?",
    ),
    case(&[("a", "port: 4500", "port: ^^65536")], "`port`: 65536 is not between 1 and 65535"),
    case(
        &[("a", "name: branch", "name: ^^7")],
        "`7` is not a name: a letter, then up to 62 of letters",
    ),
    case(
        &[("a", "198.51.100.77:51820", "^^hq.example.org:51820")],
        "`hq.example.org:51820` is not an address and port such as 198.51.100.7:51820 or \
         [2001:db8::7]:51820; host names are not resolved",
    ),
    case(&[("a", "metric: 10", "metric: ^^65536")], "`metric`: 65536 is not between 0 and 65535"),
    case(
        &[("a", "metric: 10", "keepalive_secs: ^^0")],
        "`keepalive_secs`: 0 is not between 1 and 65535",
    ),
    case(
        &[("a", "metric: 10", "bandwidth: {inbound_kbps: ^^0}")],
        "`inbound_kbps`: 0 is not between 1 and 1000000000",
    ),
    case(
        &[("a", "interval_millis: 500", "interval_millis: ^^50")],
        "`interval_millis`: 50 is not between 100 and 60000",
    ),
    case(&[("a", "allowed: [172.16.0.0/24]", "allowed: ^^[]")], "0 entries are fewer than 1"),
    case(
        &[("a", "public_key: TrMvSoP4", "public_key: ^^Tr")],
        "`public_key`: the value (not shown) is not a public key in base64, as `wg pubkey` prints \
         it: a key has 44 characters of base64, not 38",
    ),
    case(
        &[("a", "via: hq", "via: ^^192.168.0")],
        "`via`: `192.168.0` is neither an IP address nor a site's name",
    ),
    // Shared addresses.
    case(
        &[("gateway", "[203.0.113.9,", "[203.0.113.9, ^^224.0.0.1,")],
        "shared address 224.0.0.1 is multicast",
    ),
    case(
        &[("gateway", "[203.0.113.9,", "[@@203.0.113.9, ^^203.0.113.9,")],
        "shared address 203.0.113.9 is listed twice",
    ),
    case(
        &[
            ("gateway", "[203.0.113.9,", "[203.0.113.9, ^^192.0.2.12,"),
            ("a", "[192.0.2.12]", "[@@192.0.2.12]"),
        ],
        "shared address 192.0.2.12 is a provider address",
    ),
    case(
        &[
            ("gateway", "[203.0.113.9,", "[203.0.113.9, ^^'fd00:1::20',"),
            ("a", "front_end_prefixes: ['fd00:1::/64']", "front_end_prefixes: [@@'fd00:1::/64']"),
        ],
        "shared address fd00:1::20 lies in front-end prefix fd00:1::/64 of tenant `a`",
    ),
    case(
        &[
            ("gateway", "[203.0.113.9,", "[203.0.113.9, @@203.0.113.7,"),
            ("b", "[203.0.113.7]", "[^^203.0.113.7]"),
        ],
        "public address 203.0.113.7 is one of the gateway's `shared_addresses`",
    ),
    case(
        &[
            ("gateway", "[203.0.113.9,", "[203.0.113.9, 203.0.113.0,"),
            ("gateway", "name: public", "name: ^^public"),
            ("a", "addresses: 2", "addresses: @@7"),
        ],
        "pool `public` has 6 addresses to lease, but 7 are asked for",
    ),
    // Listeners.
    case(
        &[
            ("b", "- address: 203.0.113.9", "- @@address: 203.0.113.9"),
            ("b", "  sites:", "    - ^^port: 4502\n  sites:"),
            ("b", "- name: one", "- name: one\n          listen: main"),
        ],
        "listener `main` is defined twice; give each a name",
    ),
    case(
        &[("a", "address: 203.0.113.9", "address: ^^203.0.113.99")],
        "listen address 203.0.113.99 is neither one of this tenant's NAT addresses (203.0.113.0, \
         203.0.113.1) nor one of the gateway's; add it to `shared_addresses`",
    ),
    case(
        &[("a", "address: 203.0.113.9", "address: ^^203.0.113.7")],
        "listen address 203.0.113.7 is neither one of this tenant's",
    ),
    case(
        &[("a", "- name: main", "- name: main\n      address: ^^3")],
        "listen address 3 is none of this tenant's NAT addresses, of which it has 2",
    ),
    case(
        &[
            ("b", "nat:\n  addresses: [203.0.113.7]\n", ""),
            ("b", "address: 203.0.113.9", "address: ^^1"),
        ],
        "listen address 1 is none of this tenant's NAT addresses, of which it has 0",
    ),
    case(
        &[("b", "port: 4501", "port: ^^4500"), ("a", "port: 4500", "port: @@4500")],
        "203.0.113.9:4500 is already listened on by tenant `a`; give each its own port",
    ),
    case(
        &[
            ("a", "- name: main", "- name: main\n      address: 203.0.113.9\n      port: @@4500"),
            ("a", "port: 4500\n      private", "port: ^^4500\n      private"),
        ],
        "203.0.113.9:4500 is already listened on by another listener of this tenant",
    ),
    case(
        &[
            ("a", "- name: main", "- name: main\n      address: 2\n      port: ^^8050"),
            ("a", "public_port: 8000-8099", "public_port: @@8000-8099"),
        ],
        "UDP port 8050 of 203.0.113.1 is published by an inbound rule; give one of them another",
    ),
    case(
        &[(
            "a",
            "private_key: cA",
            "private_key_file: ^^/nonexistent/nvgate.key\n      previous_private_key: cA",
        )],
        "`private_key_file`: /nonexistent/nvgate.key cannot be read: No such file",
    ),
    case(
        &[(
            "a",
            "private_key: cA",
            "private_key_file: ^^nvgate.key\n      previous_private_key: cA",
        )],
        "`private_key_file`: the value (not shown) is not the absolute path of a file with a secret",
    ),
    case(
        &[("a", "private_key: cAdt", "private_key: ^^cAd")],
        "`private_key`: the value (not shown) is not a private key in base64, as `wg genkey`",
    ),
    case(
        &[(
            "a",
            "private_key: cA",
            "previous_private_key: ^^cAdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LGo=\n      private_key: @@cA",
        )],
        "the previous private key is the one in use",
    ),
    // Sites and tunnels.
    case(
        &[
            ("a", "name: branch", "name: ^^hq"),
            ("a", "name: hq", "name: @@hq"),
            ("a", "via: branch", "via: hq"),
            ("a", "172.16.0.0/24\n    via", "192.168.7.0/24\n    via"),
        ],
        "site `hq` is defined twice",
    ),
    case(
        &[("a", "via: branch", "via: ^^brunch")],
        "no site of this tenant is named `brunch`; did you mean `branch`?",
    ),
    case(
        &[
            ("b", "internet: false", "internet: ^^true"),
            ("b", "nat:\n  addresses: [203.0.113.7]\n", ""),
        ],
        "site `hq` may use the tenant's NAT, but the tenant has none; add `nat`",
    ),
    case(
        &[("a", "name: two", "name: ^^one"), ("a", "name: one", "name: @@one")],
        "tunnel `one` of this site is defined twice",
    ),
    case(
        &[("a", "listen: shared", "listen: ^^shred")],
        "no listener is named `shred`; did you mean `shared`?",
    ),
    case(
        &[("a", "- name: two\n          listen: shared", "- ^^name: two")],
        "missing key `listen` in a tunnel: the tenant has 2 listeners",
    ),
    case(
        &[
            (
                "a",
                "listen: shared\n          public_key: TrMv",
                "listen: shared\n          public_key: @@TrMv",
            ),
            (
                "a",
                "public_key: xTIB",
                "public_key: ^^TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=\n          # ",
            ),
        ],
        "public key TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0= is used twice at listener \
         `shared`",
    ),
    case(
        &[
            (
                "a",
                "public_key: TrMv",
                "public_key: ^^hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n          # ",
            ),
            ("a", "name: shared", "name: @@shared"),
        ],
        "public key hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo= is the gateway's own at listener \
         `shared`",
    ),
    case(
        &[("a", "[172.16.0.0/24]", "[172.16.0.0/24, ^^224.0.0.0/24]")],
        "224.0.0.0/24 is multicast",
    ),
    case(
        &[("a", "[172.16.0.0/24]", "[@@172.16.0.0/24, ^^172.16.0.0/24]")],
        "172.16.0.0/24 is allowed twice",
    ),
    case(
        &[("a", "address: 192.168.0.1", "address: ^^192.169.0.1")],
        "probe address 192.169.0.1 is not in `allowed` of this tunnel",
    ),
    // Endpoints.
    case(
        &[("a", "198.51.100.77:51820", "^^0.0.0.0:51820")],
        "endpoint 0.0.0.0 is \"this network\" (0.0.0.0/8); name the site's public address",
    ),
    case(
        &[("a", "198.51.100.77:51820", "^^255.255.255.255:51820")],
        "endpoint 255.255.255.255 is reserved",
    ),
    case(&[("a", "198.51.100.77:51820", "^^'[ff02::1]:51820'")], "endpoint ff02::1 is multicast"),
    case(
        &[("a", "198.51.100.77:51820", "^^198.51.100.77:0")],
        "endpoint 198.51.100.77:0 has port 0",
    ),
    case(
        &[("a", "198.51.100.77:51820", "^^10.2.0.7:51820"), ("a", "name: data", "name: @@data")],
        "endpoint 10.2.0.7 lies in 10.2.0.0/24 of subnet `data`; name the site's public address",
    ),
    case(
        &[
            ("a", "198.51.100.77:51820", "^^172.16.0.7:51820"),
            ("a", "[172.16.0.0/24]", "[@@172.16.0.0/24]"),
        ],
        "endpoint 172.16.0.7 lies in 172.16.0.0/24 of site `branch`, behind a tunnel",
    ),
    case(
        &[
            ("a", "198.51.100.77:51820", "^^'[2001:db8::7]:51820'"),
            ("a", "name: main", "name: @@main"),
        ],
        "endpoint 2001:db8::7 is of IPv6, but listener `main` of IPv4; name a listener of IPv6",
    ),
    // Translation.
    case(
        &[("a", "- local: 10.1.0.0/24", "- local: 10.1.0.0/24\n          remote: ^^10.9.0.0/24")],
        "a translation has either `local` or `remote`, not both",
    ),
    case(
        &[(
            "a",
            "- local: 10.1.0.0/24\n          seen_as: 172.20.1.0/24",
            "- local: 10.1.0.0/24\n          seen_as: 172.20.1.0/24\n        - ^^seen_as: 172.20.9.0/24",
        )],
        "missing key `local` or `remote` in a translation",
    ),
    case(
        &[
            ("a", "seen_as: 172.20.1.0/24", "seen_as: ^^172.20.0.0/23"),
            ("a", "local: 10.1", "local: @@10.1"),
        ],
        "172.20.0.0/23 is not of the family and length of 10.1.0.0/24; a translation is one to one",
    ),
    case(
        &[("a", "seen_as: 172.20.1.0/24", "seen_as: ^^224.0.1.0/24")],
        "224.0.1.0/24 holds addresses of multicast",
    ),
    case(
        &[(
            "a",
            "seen_as: 172.20.1.0/24",
            "seen_as: @@172.20.1.0/24\n        - {local: 10.2.0.0/24, seen_as: ^^172.20.1.0/24}",
        )],
        "`seen_as` 172.20.1.0/24 overlaps 172.20.1.0/24, which is translated too",
    ),
    case(
        &[(
            "a",
            "- local: 10.1.0.0/24",
            "- {local: @@10.2.0.0/24, seen_as: 172.20.7.0/24}\n        - {local: ^^10.2.0.0/25, seen_as: 172.20.8.0/25}\n        - local: 10.1.0.0/24",
        )],
        "`local` 10.2.0.0/25 overlaps 10.2.0.0/24, which is translated too",
    ),
    case(
        &[(
            "a",
            "- local: 10.1.0.0/24",
            "- {local: ^^10.9.0.0/24, seen_as: 172.20.9.0/24}\n        - local: 10.1.0.0/24",
        )],
        "`local` 10.9.0.0/24 is in no subnet, behind no route and in no other site of this tenant",
    ),
    case(
        &[(
            "a",
            "- local: 10.1.0.0/24",
            "- {remote: ^^10.9.0.0/24, seen_as: 172.20.9.0/24}\n        - local: 10.1.0.0/24",
        )],
        "`remote` 10.9.0.0/24 is not allowed by any tunnel of site `hq`; add it to `allowed`",
    ),
    case(
        &[
            ("a", "seen_as: 172.20.1.0/24", "seen_as: ^^10.2.0.0/24"),
            ("a", "[10.2.0.0/24]", "[@@10.2.0.0/24]"),
        ],
        "`seen_as` 10.2.0.0/24 overlaps 10.2.0.0/24 of subnet `data`, which the site sees as it is",
    ),
    case(
        &[
            ("a", "seen_as: 172.20.1.0/24", "seen_as: ^^192.168.1.0/24"),
            ("a", "[192.168.0.0/16,", "[@@192.168.0.0/16,"),
        ],
        "`seen_as` 192.168.1.0/24 overlaps 192.168.0.0/16, which site `hq` has itself",
    ),
    case(
        &[
            ("a", "172.20.2.0/24", "192.168.7.0/24"),
            ("a", "seen_as: 172.20.2.0/24", "seen_as: ^^192.168.7.0/24"),
            ("a", "[192.168.0.0/16,", "[@@192.168.0.0/16,"),
        ],
        "`seen_as` 192.168.7.0/24 overlaps 192.168.0.0/16, which site `hq` has itself",
    ),
    case(
        &[
            ("a", "172.20.2.0/24\n    via: hq", "10.2.0.0/25\n    via: hq"),
            (
                "a",
                "remote: 10.1.0.0/24\n          seen_as: 172.20.2.0/24",
                "remote: 10.1.0.0/24\n          seen_as: ^^10.2.0.0/24",
            ),
            ("a", "prefixes: [10.2.0.0/24]", "prefixes: [@@10.2.0.0/24]"),
        ],
        "10.2.0.0/24 of site `hq` overlaps 10.2.0.0/24 of subnet `data`; let it be seen as another",
    ),
    case(
        &[
            ("a", "        - local: 10.1.0.0/24\n          seen_as: 172.20.1.0/24\n", ""),
            ("a", "- remote: 10.1.0.0/24", "- remote: ^^10.1.0.0/24"),
            ("a", "prefixes: [10.1.0.0/24,", "prefixes: [@@10.1.0.0/24,"),
        ],
        "site `hq` has 10.1.0.0/24 itself and could not answer subnet `web`; let the site see",
    ),
    // Which site is meant.
    case(
        &[
            ("a", "[172.16.0.0/24]", "[172.16.0.0/24, ^^10.2.0.0/25]"),
            ("a", "prefixes: [10.2.0.0/24]", "prefixes: [@@10.2.0.0/24]"),
        ],
        "10.2.0.0/25 of site `branch` overlaps 10.2.0.0/24 of subnet `data`; let the tenant see it \
         as another one (`translate`: `remote` and `seen_as`), or allow less",
    ),
    case(
        &[
            ("a", "[192.168.0.0/16,", "[192.168.0.0/16, @@172.30.0.0/16,"),
            ("a", "[172.16.0.0/24]", "[172.16.0.0/24, ^^172.30.1.0/24]"),
        ],
        "172.30.1.0/24 of site `branch` overlaps 172.30.0.0/16 of site `hq` and no route tells \
         which of them is meant",
    ),
    case(
        &[
            (
                "a",
                "remote: 10.1.0.0/24\n          seen_as: 172.20.2.0/24",
                "remote: 10.1.0.0/24\n          seen_as: @@172.20.2.0/24",
            ),
            ("a", "[172.16.0.0/24]", "[172.16.0.0/24, ^^172.20.2.0/25]"),
        ],
        "172.20.2.0/25 of site `branch` overlaps 172.20.2.0/24 of site `hq`; a translation is one \
         to one",
    ),
    case(
        &[
            ("a", "prefix: 172.16.0.0/24", "prefix: ^^192.168.0.0/16"),
            ("a", "prefix: 192.168.0.0/16\n    via: hq", "prefix: @@192.168.0.0/16\n    via: hq"),
            ("a", "[172.16.0.0/24]", "[172.16.0.0/24, 192.168.0.0/16]"),
        ],
        "192.168.0.0/16 has two routes of metric 100; give one of them another",
    ),
    case(
        &[
            ("a", "prefix: 172.16.0.0/24", "prefix: ^^172.16.0.0/23"),
            ("a", "name: branch", "name: @@branch"),
        ],
        "172.16.1.0/24 of 172.16.0.0/23 is not allowed by the tunnels of site `branch`",
    ),
    case(
        &[("a", "prefix: 172.20.2.0/24", "prefix: ^^10.1.0.0/25"), ("a", "name: hq", "name: @@hq")],
        "10.1.0.0/25 is not allowed by the tunnels of site `hq` (as it is seen after translation)",
    ),
    case(
        &[("a", "to: 10.50.0.1", "to: ^^172.17.0.1")],
        "172.17.0.1 is in no subnet and behind no route of this tenant",
    ),
];
