//! One case a rule of `links` and `management`, as in [`super::cases`], on top of [`LINKS`].

use super::cases::{Case, case};

/// What is added to the valid gateway: every kind of link.
pub(super) const LINKS: &str = "\
links:
  - name: up0
    select: {path: 'pci-0000:00:04.0'}
    offloads: {tso: true, tx_checksums: true}
  - name: up1
    select: {mac: '02:00:00:00:00:01'}
  - name: up2
  - name: up3
  - name: bond0
    mtu: 1600
    bond: {mode: lacp, members: [up0, up1], hash: tunnel, lacp_rate: fast}
  - name: fabric0
    mtu: 1600
    vlan: {parent: bond0, id: 100}
    addresses: [192.0.2.1/24]
  - name: front0
    bond: {mode: active-backup, members: [up2, up3], primary: up2}
  - name: mgmt0
    addresses: [198.51.100.10/24]
management:
  link: mgmt0
  gateways: [198.51.100.129]
";

pub(super) const LINKS_CASES: &[Case] = &[
    // Form.
    case(&[("gateway", "'pci-0000:00:04.0'", "^^'../../x'")], "`../../x` is not a device such as"),
    case(&[("gateway", "id: 100", "id: ^^4095")], "`id`: 4095 is not between 1 and 4094"),
    case(
        &[("gateway", "192.0.2.1/24", "^^192.0.2.1")],
        "`192.0.2.1` is not an address with a length",
    ),
    case(
        &[("gateway", "mtu: 1600\n    vlan", "mtu: ^^1279\n    vlan")],
        "`mtu`: 1279 is not between",
    ),
    case(&[("gateway", "mode: lacp", "mode: ^^balance-rr")], "`mode`: `balance-rr` is not"),
    case(&[("gateway", "[up0, up1]", "^^[]")], "`members`: 0 entries are fewer than 1"),
    // Names and kinds.
    case(
        &[
            ("gateway", "- name: up2", "- name: @@up2"),
            ("gateway", "- name: up3", "- name: up3\n  - name: ^^up2"),
        ],
        "link `up2` is described twice",
    ),
    case(
        &[("gateway", "- name: up3", "- name: up3\n  - name: ^^lo")],
        "link `lo` is the kernel's own",
    ),
    case(
        &[
            ("gateway", "bond: {mode: active-backup", "bond: @@{mode: active-backup"),
            ("gateway", "primary: up2}", "primary: up2}\n    vlan: ^^{parent: bond0, id: 7}"),
        ],
        "link `front0` is a bond or a VLAN, not both",
    ),
    case(
        &[(
            "gateway",
            "  - name: mgmt0\n",
            "  - name: mgmt0\n    select: ^^{mac: '02:00:00:00:00:09'}\n    vlan: {parent: bond0, id: 7}\n",
        )],
        "link `mgmt0` is no network card",
    ),
    case(
        &[
            (
                "gateway",
                "    addresses: [198.51.100.10/24]\n",
                "    addresses: ^^[198.51.100.10/24]\n    dhcp: @@true\n",
            ),
            ("gateway", "  gateways: [198.51.100.129]\n", ""),
        ],
        "link `mgmt0` has addresses here, or by somebody else",
    ),
    // Which network card.
    case(
        &[("gateway", "select: {mac: '02:00:00:00:00:01'}", "select: ^^{}")],
        "selected by `mac` or by `path`",
    ),
    case(
        &[(
            "gateway",
            "select: {mac: '02:00:00:00:00:01'}",
            "select: ^^{mac: '02:00:00:00:00:01', path: x}",
        )],
        "selected by `mac` or by `path`",
    ),
    case(
        &[("gateway", "'02:00:00:00:00:01'", "^^'03:00:00:00:00:01'")],
        "is not the address of a network card",
    ),
    case(
        &[
            ("gateway", "select: {path: 'pci", "select: {path: @@'pci"),
            ("gateway", "{mac: '02:00:00:00:00:01'}", "{path: ^^'0000:00:04.0'}"),
        ],
        "network card 0000:00:04.0 is selected twice",
    ),
    // Bonds.
    case(
        &[("gateway", "[up0, up1]", "[up0, up1, ^^up9]")],
        "member `up9` of bond `bond0` is not described",
    ),
    case(
        &[
            (
                "gateway",
                "- name: mgmt0",
                "- name: @@vlan7\n    vlan: {parent: front0, id: 7}\n  - name: mgmt0",
            ),
            ("gateway", "[up0, up1]", "[up0, up1, ^^vlan7]"),
        ],
        "member `vlan7` of bond `bond0` is no uplink",
    ),
    case(
        &[
            ("gateway", "[up2, up3]", "[up2, up3, ^^up0]"),
            ("gateway", "[up0, up1]", "[@@up0, up1]"),
        ],
        "link `up0` is a member twice",
    ),
    case(
        &[
            ("gateway", "- name: up3", "- name: up3\n    mtu: ^^1500"),
            ("gateway", "[up2, up3]", "[up2, @@up3]"),
        ],
        "link `up3` is a member of a bond, which has the MTU",
    ),
    case(
        &[
            ("gateway", "- name: up3", "- name: up3\n    addresses: ^^[198.18.0.1/24]"),
            ("gateway", "[up2, up3]", "[up2, @@up3]"),
        ],
        "link `up3` is a member of a bond, which has the addresses",
    ),
    case(
        &[
            ("gateway", "- name: up3", "- name: up3\n    dhcp: ^^true"),
            ("gateway", "[up2, up3]", "[up2, @@up3]"),
        ],
        "which has the addresses by somebody else",
    ),
    case(
        &[
            ("gateway", "mode: active-backup", "mode: @@active-backup"),
            ("gateway", "primary: up2", "primary: up2, hash: ^^mac"),
        ],
        "`hash` is for `static` and `lacp`",
    ),
    case(
        &[
            ("gateway", "mode: lacp", "mode: @@static"),
            ("gateway", "lacp_rate: fast", "lacp_rate: ^^fast"),
        ],
        "`lacp_rate` is for `lacp`",
    ),
    case(
        &[
            ("gateway", "mode: lacp", "mode: @@lacp"),
            ("gateway", "lacp_rate: fast", "primary: ^^up0"),
        ],
        "`primary` is for `active-backup`",
    ),
    case(&[("gateway", "primary: up2", "primary: ^^up0")], "`up0` is no member of the bond"),
    // VLANs.
    case(
        &[("gateway", "parent: bond0", "parent: ^^bond9")],
        "`bond9`, which VLAN `fabric0` is on, is not described",
    ),
    case(
        &[
            ("gateway", "{parent: bond0, id: 100}", "{parent: bond0, id: @@100}"),
            ("gateway", "- name: mgmt0", "- name: mgmt0\n    vlan: {parent: bond0, id: ^^100}"),
        ],
        "VLAN 100 of `bond0` is described twice",
    ),
    case(
        &[
            ("gateway", "- name: fabric0", "- name: @@fabric0"),
            ("gateway", "- name: mgmt0", "- name: mgmt0\n    vlan: {parent: ^^fabric0, id: 7}"),
        ],
        "`fabric0` is a VLAN itself",
    ),
    case(
        &[
            ("gateway", "[up2, up3]", "[@@up2, up3]"),
            ("gateway", "- name: mgmt0", "- name: mgmt0\n    vlan: {parent: ^^up2, id: 7}"),
        ],
        "`up2` is a member of `front0`; name `front0`",
    ),
    case(
        &[
            ("gateway", "mtu: 1600\n    bond", "mtu: @@1600\n    bond"),
            ("gateway", "mtu: 1600\n    vlan", "mtu: ^^1601\n    vlan"),
        ],
        "MTU 1601 of VLAN `fabric0` is larger than that of `bond0` 1600",
    ),
    case(
        &[
            ("gateway", "    mtu: 1600\n    bond", "    bond"),
            ("gateway", "- name: bond0", "- name: @@bond0"),
            ("gateway", "mtu: 1600\n    vlan", "mtu: ^^1600\n    vlan"),
        ],
        "MTU 1600 of VLAN `fabric0` is larger than that of `bond0`, unless set, 1500",
    ),
    // Addresses.
    case(
        &[("gateway", "198.51.100.10/24", "198.51.100.10/24, ^^'127.0.0.2/8'")],
        "address 127.0.0.2 is",
    ),
    case(
        &[("gateway", "198.51.100.10/24", "198.51.100.10/24, ^^198.18.0.255/24")],
        "stands for all of 198.18.0.0/24",
    ),
    case(
        &[("gateway", "[198.51.100.10/24]", "[@@198.51.100.10/24, ^^198.51.100.10/25]")],
        "address 198.51.100.10 is given twice",
    ),
    // Offloads.
    case(
        &[("gateway", "tso: true, tx_checksums: true", "tso: ^^true, tx_checksums: @@false")],
        "`tso` of link `up0` needs `tx_checksums`",
    ),
    // The fabric and the front end.
    case(
        &[("gateway", "mtu: 1600\n    vlan", "mtu: ^^1321\n    vlan")],
        "the fabric's link `fabric0` carries 1321 bytes; packets of 1280 bytes in NVGRE need 1322",
    ),
    case(
        &[
            ("gateway", "link: fabric0", "link: fabric0\n  tenant_mtu: 1559"),
            ("gateway", "mtu: 1600\n    vlan", "mtu: ^^1600\n    vlan"),
        ],
        "packets of 1559 bytes in NVGRE need 1601",
    ),
    case(
        &[
            ("gateway", "    addresses: [192.0.2.1/24]\n", ""),
            ("gateway", "[192.0.2.1]", "[^^192.0.2.1]"),
            ("gateway", "- name: fabric0", "- name: @@fabric0"),
        ],
        "provider address 192.0.2.1 is none of the addresses of link `fabric0`",
    ),
    case(
        &[("gateway", "link: front0", "link: ^^up2"), ("gateway", "[up2, up3]", "[@@up2, up3]")],
        "link `up2` is a member of `front0`; name `front0`",
    ),
    case(
        &[
            ("gateway", "203.0.113.0/29", "@@203.0.113.0/29"),
            ("gateway", "primary: up2}", "primary: up2}\n    addresses: [^^203.0.113.1/24]"),
        ],
        "address 203.0.113.1 of link `front0` lies in pool `public`",
    ),
    // Management.
    case(&[("gateway", "link: mgmt0", "link: ^^mgmt9")], "link `mgmt9` is not described"),
    case(
        &[
            ("gateway", "link: front0", "link: @@front0"),
            ("gateway", "link: mgmt0", "link: ^^front0"),
            ("gateway", "  gateways: [198.51.100.129]\n", ""),
        ],
        "link `front0` is the front end's; management has its own",
    ),
    case(
        &[
            ("gateway", "link: mgmt0", "link: ^^up3"),
            ("gateway", "[up2, up3]", "[up2, @@up3]"),
            ("gateway", "  gateways: [198.51.100.129]\n", ""),
        ],
        "link `up3` is a member of `front0`",
    ),
    case(
        &[("gateway", "198.51.100.129", "^^198.51.100.10")],
        "gateway 198.51.100.10 is the link's own address",
    ),
    case(
        &[
            ("gateway", "198.51.100.129", "^^198.18.0.1"),
            ("gateway", "- name: mgmt0", "- name: @@mgmt0"),
        ],
        "gateway 198.18.0.1 is in no prefix of link `mgmt0`",
    ),
    case(
        &[("gateway", "[198.51.100.129]", "[@@198.51.100.129, ^^198.51.100.130]")],
        "gateway 198.51.100.130 is a second one of its family",
    ),
    case(
        &[
            ("gateway", "    addresses: [198.51.100.10/24]\n", "    dhcp: @@true\n"),
            ("gateway", "[198.51.100.129]", "[^^198.51.100.129]"),
        ],
        "link `mgmt0` has its routes by somebody else",
    ),
];
