//! Hash tables that nobody outside can steer and that grow in small steps.
//!
//! Keys are hashed with a seed. A table is split into shards that grow one at a time, so that the
//! longest pause for growing is a small part of what one large table would need.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, Hasher};

use nvgate_packet::flow_key::hash_words;

/// Shards of a table, a power of two.
const SHARDS: usize = 32;
/// The hash bits that choose a shard: above those that choose a bucket, below those of the tag.
const SHARD_SHIFT: u32 = 40;

/// Builds hashers with a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(pub(crate) u64);

/// A hasher of whole words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WordHasher {
    state: u64,
    seed: u64,
}

impl BuildHasher for Seeded {
    type Hasher = WordHasher;

    fn build_hasher(&self) -> WordHasher {
        WordHasher { state: 0, seed: self.0 }
    }
}

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.state = hash_words(self.state, word, self.seed);
    }
}

/// A map from small keys to small values.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    seed: Seeded,
    shards: Box<[HashMap<K, V, Seeded>]>,
}

impl<K: Copy + Eq + Hash, V: Copy> Table<K, V> {
    pub(crate) fn new(seed: u64) -> Self {
        let seed = Seeded(seed);
        let shards = std::iter::repeat_with(|| HashMap::with_hasher(seed)).take(SHARDS).collect();
        Self { seed, shards }
    }

    fn shard(&self, key: K) -> usize {
        (self.seed.hash_one(key) >> SHARD_SHIFT) as usize % SHARDS
    }

    pub(crate) fn lookup(&self, key: K) -> Option<V> {
        self.shards[self.shard(key)].get(&key).copied()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        let shard = self.shard(key);
        self.shards[shard].insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: K) {
        let shard = self.shard(key);
        self.shards[shard].remove(&key);
    }

    pub(crate) fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        let shard = self.shard(key);
        self.shards[shard].entry(key)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(HashMap::len).sum()
    }
}
