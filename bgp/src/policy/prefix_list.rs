//! Lists of prefixes with bounds of length, compiled so that thousands cost one binary search.

use std::net::IpAddr;

use nvgate_model::Prefix;

use crate::family::Family;

use super::condition::EmptyList;

/// The prefixes within one prefix whose lengths lie between two bounds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PrefixRange {
    prefix: Prefix,
    shortest: u8,
    longest: u8,
}

/// Bounds of length that no prefix meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidPrefixRange {
    /// `ge` or `le` is less than the prefix's own length.
    #[error("`{bound}` {value} is less than {}, the length of {prefix}", prefix.length())]
    BelowLength {
        /// `ge` or `le`.
        bound: &'static str,
        /// Its value.
        value: u8,
        /// The prefix.
        prefix: Prefix,
    },
    /// `ge` or `le` is more than the family has bits.
    #[error("`{bound}` {value} is more than {bits}, the bits of {prefix}'s family")]
    BeyondFamily {
        /// `ge` or `le`.
        bound: &'static str,
        /// Its value.
        value: u8,
        /// 32 or 128.
        bits: u8,
        /// The prefix.
        prefix: Prefix,
    },
    /// `ge` is more than `le`.
    #[error("`ge` {ge} is more than `le` {le}")]
    Reversed {
        /// The least length.
        ge: u8,
        /// The greatest length.
        le: u8,
    },
}

/// Prefixes that any of a list's ranges holds. Empty only as built-in lists may be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PrefixList {
    families: [Tree; 2],
}

/// One family's ranges: the prefixes in ascending order, each with the nearest one around it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Tree {
    nodes: Box<[Node]>,
    /// Whether the prefix of length 0 is held, for which [`Node::lengths`] has no bit.
    holds_default: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Node {
    /// The network's bits, the first one highest in both families.
    network: u128,
    length: u8,
    /// The index of the longest listed prefix around this one.
    parent: Option<u32>,
    /// The lengths that are held within this prefix, by this range or one around it: bit 0 is 1.
    lengths: u128,
}

impl PrefixRange {
    /// The prefixes within `prefix` of at least `ge` and at most `le` bits. Without both it is
    /// `prefix` alone; `ge` alone leaves the family's bits as upper bound, `le` alone `prefix`'s
    /// length as lower one.
    ///
    /// # Errors
    ///
    /// A bound below the prefix's length or beyond its family, or `ge` above `le`.
    pub fn new(prefix: Prefix, ge: Option<u8>, le: Option<u8>) -> Result<Self, InvalidPrefixRange> {
        let bits = Family::of(prefix).bits();
        for (bound, value) in [("ge", ge), ("le", le)] {
            let Some(value) = value else { continue };
            if value < prefix.length() {
                return Err(InvalidPrefixRange::BelowLength { bound, value, prefix });
            }
            if value > bits {
                return Err(InvalidPrefixRange::BeyondFamily { bound, value, bits, prefix });
            }
        }
        let shortest = ge.unwrap_or(prefix.length());
        let longest = le.unwrap_or(if ge.is_some() { bits } else { prefix.length() });
        if shortest > longest {
            return Err(InvalidPrefixRange::Reversed { ge: shortest, le: longest });
        }
        Ok(Self { prefix, shortest, longest })
    }

    /// `prefix` and everything within it.
    #[must_use]
    pub const fn or_longer(prefix: Prefix) -> Self {
        let longest = Family::of(prefix).bits();
        Self { prefix, shortest: prefix.length(), longest }
    }
}

impl PrefixList {
    /// The list of these ranges, in any order.
    ///
    /// # Errors
    ///
    /// There is no range.
    pub fn new(ranges: &[PrefixRange]) -> Result<Self, EmptyList> {
        if ranges.is_empty() { Err(EmptyList("prefixes")) } else { Ok(Self::of(ranges)) }
    }

    /// The list of these prefixes and everything within them; an empty one holds nothing.
    pub(super) fn within(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let ranges: Vec<PrefixRange> = prefixes.into_iter().map(PrefixRange::or_longer).collect();
        Self::of(&ranges)
    }

    fn of(ranges: &[PrefixRange]) -> Self {
        let families = Family::ALL.map(|family| {
            let own = ranges.iter().filter(|range| Family::of(range.prefix) == family);
            Tree::new(own.copied().collect())
        });
        Self { families }
    }

    /// Whether one of the ranges holds `prefix`.
    #[must_use]
    pub fn holds(&self, prefix: Prefix) -> bool {
        self.tree(prefix).holds(bits_of(prefix.network()), prefix.length())
    }

    /// Whether one of the ranges holds the prefix of only this address.
    #[must_use]
    pub fn holds_address(&self, address: IpAddr) -> bool {
        self.holds(Prefix::host(address))
    }

    /// Whether one of the ranges holds `prefix`, or `prefix` covers one of the listed ones.
    pub(super) fn overlaps(&self, prefix: Prefix) -> bool {
        let tree = self.tree(prefix);
        let (network, length) = (bits_of(prefix.network()), prefix.length());
        tree.holds(network, length) || tree.covers_one(network, length)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.families.iter().all(|tree| tree.nodes.is_empty())
    }

    fn tree(&self, prefix: Prefix) -> &Tree {
        &self.families[Family::of(prefix).index()]
    }
}

impl Tree {
    fn new(mut ranges: Vec<PrefixRange>) -> Self {
        ranges
            .sort_unstable_by_key(|range| (bits_of(range.prefix.network()), range.prefix.length()));
        let holds_default = ranges.iter().any(|range| range.shortest == 0);
        let mut nodes: Vec<Node> = Vec::with_capacity(ranges.len());
        let mut around: Vec<u32> = Vec::new();
        for range in ranges {
            let (network, length) = (bits_of(range.prefix.network()), range.prefix.length());
            let lengths = ones(range.longest) & !ones(range.shortest.saturating_sub(1));
            if let Some(same) = nodes.last_mut().filter(|last| last.is(network, length)) {
                same.lengths |= lengths;
                continue;
            }
            while around.pop_if(|top| !nodes[*top as usize].covers(network, length)).is_some() {}
            let parent = around.last().copied();
            let inherited = parent.map_or(0, |parent| nodes[parent as usize].lengths);
            around.push(nodes.len() as u32);
            nodes.push(Node { network, length, parent, lengths: lengths | inherited });
        }
        Self { nodes: nodes.into(), holds_default }
    }

    fn holds(&self, network: u128, length: u8) -> bool {
        if length == 0 {
            return self.holds_default;
        }
        // The longest listed prefix around `network` is the last one not behind it, or is around it.
        let behind =
            self.nodes.partition_point(|node| (node.network, node.length) <= (network, length));
        let mut candidate = behind.checked_sub(1).map(|index| &self.nodes[index]);
        while let Some(node) = candidate {
            if node.covers(network, length) {
                return node.lengths & 1 << (length - 1) != 0;
            }
            candidate = node.parent.map(|parent| &self.nodes[parent as usize]);
        }
        false
    }

    /// Whether this prefix covers a listed one: then the first not before it is covered.
    fn covers_one(&self, network: u128, length: u8) -> bool {
        let first =
            self.nodes.partition_point(|node| (node.network, node.length) < (network, length));
        let outer = Node { network, length, parent: None, lengths: 0 };
        self.nodes.get(first).is_some_and(|node| outer.covers(node.network, node.length))
    }
}

impl Node {
    fn is(&self, network: u128, length: u8) -> bool {
        (self.network, self.length) == (network, length)
    }

    fn covers(&self, network: u128, length: u8) -> bool {
        let mask = u128::MAX.checked_shl(u32::from(128 - self.length)).unwrap_or(0);
        self.length <= length && (self.network ^ network) & mask == 0
    }
}

/// The lengths 1 to `length`.
fn ones(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX >> (128 - length) }
}

fn bits_of(network: IpAddr) -> u128 {
    match network {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
