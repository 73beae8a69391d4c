//! The cases of rules about BGP policies, as those of [`super::cases`].

use super::cases::{Case, case};

pub(super) const BGP_RULE_CASES: &[Case] = &[
    // Form.
    case(
        &[("a", "- then: reject", "- then: ^^drop")],
        "`then`: `drop` is not one of `accept`, `reject`, `next`",
    ),
    case(
        &[("a", "          then: next\n", ""), ("a", "- match: {comm", "- ^^match: {comm")],
        "missing key `then` in a rule",
    ),
    case(
        &[("a", "{communities: marked", "{^^community: marked")],
        "unknown key `community` in `match`; did you mean `communities`?",
    ),
    case(
        &[("a", "add_communities: '64512:1'", "add_communities: ^^'64512:*'")],
        "`64512:*` has a `*`; what is put on routes has every part",
    ),
    case(
        &[("a", "communities: '64512:*'", "communities: ^^'64512:x'")],
        "`64512:x` is no community of any kind",
    ),
    case(&[("a", "prepend: 2", "prepend: ^^11")], "`prepend`: 11 is not between 1 and 10"),
    case(&[("a", "prepend: 2", "prepend: {asn: ^^0, times: 2}")], "AS 0 is reserved"),
    case(&[("a", "prepend: 2", "med: ^^x")], "`x` is not a number, `+` or `-` and a number"),
    case(&[("a", "peer: vm", "med: ^^'<0'")], "`med`: no number is `<0`"),
    case(&[("a", "peer: vm", "source: ^^here")], "`here` is not one of `local`, `static`"),
    case(&[("a", "peer: vm", "as_path: {length: ^^3-1}")], "the range 3-1 ends before it begins"),
    case(&[("a", "weight: 5", "weight: ^^65536")], "65536 is not between 0 and 65535"),
    case(
        &[("a", "[theirs,", "[^^10.0.0.0,")],
        "`10.0.0.0` is neither a prefix nor a prefix list's name",
    ),
    // Names.
    case(
        &[
            ("a", "import: from-vm", "import: ^^form-vm"),
            ("a", "export: to-office", "export: to-office\n      import: from-vm"),
        ],
        "no policy is named `form-vm`; did you mean `from-vm`?",
    ),
    case(
        &[("a", "      import: from-vm\n", ""), ("a", "name: from-vm", "name: ^^from-vm")],
        "policy `from-vm` is used by no peer; use it, or remove it",
    ),
    case(
        &[
            ("a", "name: to-office\n", "name: @@to-office\n"),
            ("a", "  prefix_lists:", "    - {name: ^^to-office, default: accept}\n  prefix_lists:"),
        ],
        "policy `to-office` is defined twice",
    ),
    case(
        &[("a", "  prefix_lists:", "    - {name: ^^none, default: accept}\n  prefix_lists:")],
        "`none` stands for no policy",
    ),
    case(
        &[
            ("a", "  prefix_lists:", "    - {name: ^^x}\n  prefix_lists:"),
            ("a", "export: to-office", "export: to-office\n      import: x"),
        ],
        "policy `x` has neither `rules` nor `default`, and so says nothing",
    ),
    case(
        &[("a", "[theirs,", "[^^thiers, theirs,")],
        "no prefix list is named `thiers`; did you mean `theirs`?",
    ),
    case(
        &[("a", "communities: marked", "communities: [^^unmarked, marked]")],
        "no community list is named `unmarked`; did you mean `marked`?",
    ),
    case(
        &[("a", "[customers, 65010]", "[customers, ^^costumers]")],
        "no AS list is named `costumers`; did you mean `customers`?",
    ),
    case(&[("a", "peer: vm", "peer: ^^wm")], "no peer is named `wm`; did you mean `vm`?"),
    case(
        &[("a", "peer: vm", "peer: ^^routers")],
        "peer `routers` is a range, whose neighbours' addresses nobody knows yet",
    ),
    case(
        &[(
            "a",
            "- {name: theirs,",
            "- {name: @@theirs, prefixes: 10.98.0.0/16}\n    - {name: ^^theirs,",
        )],
        "prefix list `theirs` is defined twice",
    ),
    case(
        &[("a", "- {name: marked,", "- {name: ^^spare, communities: '1:1'}\n    - {name: marked,")],
        "community list `spare` is used by no rule; use it, or remove it",
    ),
    case(
        &[(
            "a",
            "- {name: marked,",
            "- {name: ^^no-export, communities: '1:1'}\n    - {name: marked,",
        )],
        "`no-export` is a well-known community; call the list otherwise",
    ),
    // What rules mean.
    case(
        &[("a", "ge: 24}", "ge: ^^8}")],
        "`ge` 8 is less than 16, the length of 172.31.0.0/16; no prefix would match",
    ),
    case(
        &[("a", "ge: 24}", "le: ^^33}")],
        "`le` 33 is more than 32, the bits of 172.31.0.0/16's family",
    ),
    case(&[("a", "ge: 24}", "ge: 24, le: ^^20}")], "`ge` 24 is more than `le` 20"),
    case(
        &[("a", "next_hop: self", "next_hop: ^^224.0.0.1")],
        "224.0.0.1 is not a unicast address, and cannot be a next hop",
    ),
    case(
        &[(
            "a",
            "set: {local_preference: 200, weight: 5}\n          then: accept",
            "set: ^^{local_preference: 200}\n          then: reject",
        )],
        "the rule rejects the route that it changes; nobody would see it",
    ),
    case(
        &[(
            "a",
            "        - then: reject\n",
            "        - @@then: reject\n        - ^^then: accept\n",
        )],
        "this rule is never asked; put it before the one that every route matches",
    ),
    case(
        &[
            ("a", "export: to-office", "export: @@from-vm"),
            ("a", "weight: 5", "weight: ^^5"),
            ("a", "import: from-vm", "import: from-vm\n      export: to-office"),
        ],
        "`weight` is for routes that are received, but policy `from-vm` is used for others, too",
    ),
    case(
        &[
            ("a", "export: to-office", "export: to-office\n      import: @@to-office"),
            ("a", "next_hop: self", "next_hop: ^^self"),
        ],
        "`next_hop: self` is for routes that are sent, but policy `to-office` is used for others",
    ),
    case(
        &[
            ("a", "prepend: 2, next_hop: self", "prepend: 10"),
            (
                "a",
                "          then: next\n",
                concat!(
                    "          then: next\n",
                    "        - {set: {prepend: 10}, then: next}\n",
                    "        - {set: {prepend: 10}, then: next}\n",
                    "        - {set: {prepend: 10}, then: next}\n",
                    "        - {set: {prepend: 10}, then: next}\n",
                    "        - {set: {prepend: 10}, then: next}\n",
                    "        - {set: {prepend: 10}, then: next}\n",
                    "        - {set: {prepend: 10}, then: next}\n",
                    "        - {set: {prepend: 10}, then: next}\n",
                    "        - {set: {prepend: 10}, then: next}\n",
                    "        - ^^{set: {prepend: 1}, then: next}\n",
                ),
            ),
            ("a", "export: to-office", "export: to-office\n      import: to-office"),
        ],
        "101 AS numbers can be prepended to one route, which are more than 100",
    ),
];
