//! A set of communities of one kind, in the one form that equal sets have.

/// Communities in ascending order, each once: what the order on the wire was means nothing
/// (RFC 1997, RFC 4360 section 2, RFC 8092 section 3), so equal sets are equal values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommunitySet<T>(Box<[T]>);

impl<T: Ord + Copy> CommunitySet<T> {
    /// The communities in ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// Whether there is none; the attribute is then left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `community` is in the set.
    #[must_use]
    pub fn contains(&self, community: T) -> bool {
        self.0.binary_search(&community).is_ok()
    }

    /// The set with these communities too.
    #[must_use]
    pub fn with(&self, added: impl IntoIterator<Item = T>) -> Self {
        self.0.iter().copied().chain(added).collect()
    }

    /// The set of those that `keep` keeps.
    #[must_use]
    pub fn retained(&self, mut keep: impl FnMut(T) -> bool) -> Self {
        Self(self.0.iter().copied().filter(|community| keep(*community)).collect())
    }

    /// The bytes that the set takes beside the value itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of_val(self.as_slice())
    }
}

impl<T> Default for CommunitySet<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T: Ord> FromIterator<T> for CommunitySet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(communities: I) -> Self {
        let mut sorted: Vec<T> = communities.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted.into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_make_no_difference() {
        let set: CommunitySet<u32> = [3, 1, 2, 1].into_iter().collect();
        assert_eq!(set.as_slice(), [1, 2, 3]);
        assert_eq!(set, [1, 2].into_iter().collect::<CommunitySet<_>>().with([3, 2]));
        assert!(set.contains(2) && !set.contains(4));
        assert_eq!(set.retained(|community| community != 2).as_slice(), [1, 3]);
        assert_eq!(set.heap_bytes(), 12);
        assert!(CommunitySet::<u32>::default().is_empty());
    }
}
