//! Generations: which configuration a compiled decision was proven under.

/// A counter that grows whenever what it stands for changes; equal generations mean an unchanged
/// subject. Starts at 1, so that 0 can mark an entry that was never proven.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation of a subject's first configuration.
    pub const FIRST: Self = Self(1);

    /// The generation after this one; skips 0 when the counter wraps.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.wrapping_add(1) {
            0 => Self::FIRST,
            value => Self(value),
        }
    }
}
