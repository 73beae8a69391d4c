//! Address-dependent filtering (RFC 4787 section 5): which remote addresses a mapping has sent to.

use std::collections::hash_map::Entry;
use std::net::Ipv4Addr;

use crate::table::Table;

/// For each (mapping, remote address), how many live sessions have sent something out. A session
/// that only ever received does not count, so that a remote cannot keep a mapping open by itself.
#[derive(Debug)]
pub(crate) struct Filter(Table<u64, u32>);

impl Filter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Table::new(seed))
    }

    /// Whether `remote` may send to the mapping.
    pub(crate) fn admits(&self, mapping: u32, remote: Ipv4Addr) -> bool {
        self.0.lookup(key(mapping, remote)).is_some()
    }

    /// One more session of the mapping has sent to `remote`.
    pub(crate) fn open(&mut self, mapping: u32, remote: Ipv4Addr) {
        *self.0.entry(key(mapping, remote)).or_insert(0) += 1;
    }

    /// A session counted by [`open`](Self::open) is gone.
    pub(crate) fn close(&mut self, mapping: u32, remote: Ipv4Addr) {
        if let Entry::Occupied(mut entry) = self.0.entry(key(mapping, remote)) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn key(mapping: u32, remote: Ipv4Addr) -> u64 {
    u64::from(mapping) << 32 | u64::from(remote.to_bits())
}
