//! Who may have connections with the gateway's own addresses, and what holds for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nvgate_model::Prefix;

use super::key::Md5Key;

/// Peers, single ones and ranges, of one domain.
pub const MAX_PEERS: usize = 1024;

/// What holds for the connections with a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerOptions {
    /// TTL or hop limit of what is sent; 255 for GTSM.
    pub ttl: u8,
    /// The least TTL or hop limit of what is accepted; 255 for a neighbour under GTSM (RFC 5082
    /// section 3), 0 for any.
    pub minimum_ttl: u8,
    /// The key with which every segment is signed both ways (RFC 2385).
    pub key: Option<Md5Key>,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self { ttl: 64, minimum_ttl: 0, key: None }
    }
}

/// The peers of one domain by their addresses; the longest prefix counts.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<Prefix, PeerOptions>);

impl Peers {
    /// Sets a peer's options; `false` when there are too many peers.
    pub(super) fn set(&mut self, remote: Prefix, options: PeerOptions) -> bool {
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&remote) {
            return false;
        }
        self.0.insert(remote, options);
        true
    }

    pub(super) fn remove(&mut self, remote: Prefix) {
        self.0.remove(&remote);
    }

    /// The peer that `remote` is.
    pub(super) fn find(&self, remote: IpAddr) -> Option<&PeerOptions> {
        if let Some(options) = self.0.get(&Prefix::host(remote)) {
            return Some(options);
        }
        let ranges = self.0.iter().filter(|(prefix, _)| prefix.contains(remote));
        ranges.max_by_key(|(prefix, _)| prefix.length()).map(|(_, options)| options)
    }
}
