//! Bytes that mostly are few: up to 22 lie in the value itself, more on the heap.

use std::hash::{Hash, Hasher};

/// An immutable byte string of 24 bytes. An AS path of five hops fits without an allocation.
#[derive(Clone)]
pub(crate) enum InlineBytes {
    Inline { length: u8, bytes: [u8; InlineBytes::INLINE] },
    Heap(Box<[u8]>),
}

impl InlineBytes {
    /// The most bytes that need no allocation.
    pub(crate) const INLINE: usize = 22;

    /// No bytes.
    pub(crate) const EMPTY: Self = Self::Inline { length: 0, bytes: [0; Self::INLINE] };

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
        }
    }

    /// The bytes allocated beside the value.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Heap(bytes) => bytes.len(),
        }
    }
}

impl From<&[u8]> for InlineBytes {
    fn from(slice: &[u8]) -> Self {
        if slice.len() > Self::INLINE {
            return Self::Heap(slice.into());
        }
        let mut bytes = [0; Self::INLINE];
        bytes[..slice.len()].copy_from_slice(slice);
        Self::Inline { length: slice.len() as u8, bytes }
    }
}

impl PartialEq for InlineBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for InlineBytes {}

impl Hash for InlineBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_fit_is_allocated() {
        assert_eq!(size_of::<InlineBytes>(), 24);
        for length in [0, 1, 22, 23, 300] {
            let bytes: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let kept = InlineBytes::from(bytes.as_slice());
            assert_eq!(kept.as_slice(), bytes);
            assert_eq!(kept.heap_bytes(), if length <= 22 { 0 } else { bytes.len() });
        }
    }
}
