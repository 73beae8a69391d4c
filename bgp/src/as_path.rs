//! The AS_PATH attribute: which autonomous systems a route came through.
//!
//! A path is kept as it stands on the wire between speakers of four-octet AS numbers, checked once.
//! Segments of confederations are refused: this speaker is in none (RFC 5065 section 5).

use std::fmt;
use std::str::FromStr;

use nvgate_model::Asn;

use crate::inline_bytes::InlineBytes;

#[cfg(test)]
mod tests;

/// An AS path: segments, each of 1 to 255 AS numbers, nearest AS first (RFC 4271 section 4.3 b).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AsPath {
    /// Segments of known kinds, none of them empty, with four-octet numbers.
    wire: InlineBytes,
}

/// One segment of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// Ordered or not.
    pub kind: SegmentKind,
    numbers: &'a [u8],
}

/// The kinds of segments outside confederations (RFC 4271 section 4.3 b).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SegmentKind {
    /// AS_SET: in no order, the trace of aggregation; deprecated by RFC 9774.
    Set = 1,
    /// AS_SEQUENCE: in the order passed, the nearest first.
    Sequence = 2,
}

/// How many octets an AS number has on a session (RFC 6793 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AsnWidth {
    /// The peer did not announce the capability.
    Two = 2,
    /// Both ends announced the capability; also in AS4_PATH.
    Four = 4,
}

/// Bytes or text that are not an AS path (RFC 7606 section 7.2).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidAsPath {
    /// The segment is longer than what is left.
    #[error("segment at byte {offset} says {count} AS numbers, which end behind the path")]
    Overrun {
        /// Where the segment begins.
        offset: usize,
        /// The AS numbers it says it has.
        count: u8,
    },
    /// A single byte is left where a segment should begin.
    #[error("one byte is left at byte {0}, less than a segment's head")]
    Underrun(usize),
    /// The segment has no AS number.
    #[error("segment at byte {0} has no AS number")]
    EmptySegment(usize),
    /// A confederation's segment from outside a confederation (RFC 5065 section 5).
    #[error("segment at byte {0} is a confederation's, and this session is not in one")]
    Confederation(usize),
    /// No segment has this kind.
    #[error("segment at byte {offset} has kind {kind}, which is neither 1 nor 2")]
    Kind {
        /// Where the segment begins.
        offset: usize,
        /// Its kind.
        kind: u8,
    },
    /// AS 0 is in the path (RFC 7607 section 2).
    #[error("segment at byte {0} holds AS 0")]
    Zero(usize),
    /// The text is not a path.
    #[error("`{0}` is not an AS path such as 64496 64497 {{64498,64499}}")]
    Text(String),
}

impl AsPath {
    /// The path of a route that never left its AS.
    pub const EMPTY: Self = Self { wire: InlineBytes::EMPTY };

    /// The most AS numbers in a segment.
    const SEGMENT_MAX: usize = u8::MAX as usize;

    /// The path with this value of an AS_PATH or AS4_PATH attribute.
    ///
    /// # Errors
    ///
    /// What makes the attribute malformed, by RFC 7606 section 7.2, RFC 7607 and RFC 5065. How long
    /// a path may be is the caller's to decide.
    pub fn from_wire(value: &[u8], width: AsnWidth) -> Result<Self, InvalidAsPath> {
        let mut offset = 0;
        let mut widened = Vec::new();
        while offset < value.len() {
            let (kind, numbers) = checked_segment(value, offset, width)?;
            if width == AsnWidth::Two {
                push_segment(&mut widened, kind, numbers.chunks_exact(2).map(asn));
            }
            offset += 2 + numbers.len();
        }
        let wire = match width {
            AsnWidth::Two => widened.as_slice(),
            AsnWidth::Four => value,
        };
        Ok(Self { wire: wire.into() })
    }

    /// A path of one sequence, nearest AS first; longer ones are split as the wire demands.
    #[must_use]
    pub fn sequence(numbers: &[Asn]) -> Self {
        let mut wire = Vec::with_capacity(2 + 4 * numbers.len());
        for part in numbers.chunks(Self::SEGMENT_MAX) {
            push_segment(&mut wire, SegmentKind::Sequence, part.iter().copied());
        }
        Self { wire: wire.as_slice().into() }
    }

    /// The value of the attribute with four-octet numbers. [`segments`](Self::segments) give what a
    /// session with two-octet numbers needs.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        self.wire.as_slice()
    }

    /// The segments, nearest first.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut rest = self.as_wire();
        std::iter::from_fn(move || {
            let (&[kind, count], behind) = rest.split_first_chunk()?;
            let kind = if kind == SegmentKind::Set as u8 {
                SegmentKind::Set
            } else {
                SegmentKind::Sequence
            };
            let (numbers, behind) = behind.split_at(usize::from(count) * 4);
            rest = behind;
            Some(Segment { kind, numbers })
        })
    }

    /// Every AS number, of sequences and sets, in the order of the wire.
    pub fn numbers(&self) -> impl Iterator<Item = Asn> {
        self.segments().flat_map(Segment::numbers)
    }

    /// Whether the route never left its AS.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_wire().is_empty()
    }

    /// The length that the decision compares: a set counts as one (RFC 4271 section 9.1.2.2 a).
    #[must_use]
    pub fn hop_count(&self) -> usize {
        self.segments().map(Segment::hop_count).sum()
    }

    /// Whether the route came through `asn`, as part of a set too (RFC 4271 section 9.1.2).
    #[must_use]
    pub fn contains(&self, asn: Asn) -> bool {
        self.numbers().any(|number| number == asn)
    }

    /// How often `asn` is in the path: what `allowas-in` limits.
    #[must_use]
    pub fn count(&self, asn: Asn) -> usize {
        self.numbers().filter(|number| *number == asn).count()
    }

    /// Whether any segment is a set, which RFC 9774 deprecates.
    #[must_use]
    pub fn has_set(&self) -> bool {
        self.segments().any(|segment| segment.kind == SegmentKind::Set)
    }

    /// The AS that the route was received from, within which MEDs compare (RFC 4271 section
    /// 9.1.2.2 c). None for an empty path and one that begins with a set: then it is the local AS.
    #[must_use]
    pub fn neighbor(&self) -> Option<Asn> {
        let first = self.segments().next()?;
        (first.kind == SegmentKind::Sequence).then(|| first.numbers().next())?
    }

    /// The AS that originated the route. None for an empty path and one that ends with a set.
    #[must_use]
    pub fn origin(&self) -> Option<Asn> {
        let last = self.segments().last()?;
        (last.kind == SegmentKind::Sequence).then(|| last.numbers().last())?
    }

    /// The path with `asn` before it `times` times (RFC 4271 section 5.1.2).
    #[must_use]
    pub fn prepended(&self, asn: Asn, times: u8) -> Self {
        let leading = self.segments().next().filter(|first| first.kind == SegmentKind::Sequence);
        let head: Vec<Asn> = std::iter::repeat_n(asn, usize::from(times))
            .chain(leading.into_iter().flat_map(Segment::numbers))
            .collect();
        let mut wire = Vec::with_capacity(self.as_wire().len() + 4 * usize::from(times) + 4);
        // Full segments come last, so that the next prepend finds room in the first.
        let (first, full) = head.split_at(head.len() % Self::SEGMENT_MAX);
        for part in std::iter::once(first).chain(full.chunks(Self::SEGMENT_MAX)) {
            push_segment(&mut wire, SegmentKind::Sequence, part.iter().copied());
        }
        for segment in self.segments().skip(usize::from(leading.is_some())) {
            push_segment(&mut wire, segment.kind, segment.numbers());
        }
        Self { wire: wire.as_slice().into() }
    }

    /// The path with every AS number that `change` gives another for replaced, and every one that
    /// it gives none for left out: `as-override`, `remove-private-as`. Emptied segments go.
    #[must_use]
    pub fn mapped(&self, mut change: impl FnMut(Asn) -> Option<Asn>) -> Self {
        let mut wire = Vec::with_capacity(self.as_wire().len());
        for segment in self.segments() {
            let left: Vec<Asn> = segment.numbers().filter_map(&mut change).collect();
            push_segment(&mut wire, segment.kind, left.into_iter());
        }
        Self { wire: wire.as_slice().into() }
    }

    /// The path that this AS_PATH of two-octet numbers and an AS4_PATH make together: the AS4_PATH
    /// behind as many leading hops as it lacks, or this path alone if the AS4_PATH has more hops
    /// (RFC 6793 section 4.2.3).
    #[must_use]
    pub fn joined(&self, as4_path: &Self) -> Self {
        let Some(mut missing) = self.hop_count().checked_sub(as4_path.hop_count()) else {
            return self.clone();
        };
        let mut wire = Vec::new();
        for segment in self.segments() {
            let taken = missing.min(segment.hop_count());
            match segment.kind {
                SegmentKind::Sequence => {
                    push_segment(&mut wire, segment.kind, segment.numbers().take(taken));
                }
                SegmentKind::Set if taken == 1 => {
                    push_segment(&mut wire, segment.kind, segment.numbers());
                }
                SegmentKind::Set => {}
            }
            missing -= taken;
        }
        wire.extend_from_slice(as4_path.as_wire());
        Self { wire: wire.as_slice().into() }
    }

    /// The bytes that the path takes beside the value itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.wire.heap_bytes()
    }
}

impl<'a> Segment<'a> {
    /// The AS numbers, 1 to 255.
    pub fn numbers(self) -> impl Iterator<Item = Asn> + use<'a> {
        self.numbers.chunks_exact(4).map(asn)
    }

    /// What the segment adds to a path's length.
    fn hop_count(self) -> usize {
        match self.kind {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => self.numbers.len() / 4,
        }
    }
}

fn checked_segment(
    value: &[u8],
    offset: usize,
    width: AsnWidth,
) -> Result<(SegmentKind, &[u8]), InvalidAsPath> {
    let Some((&[kind, count], behind)) = value[offset..].split_first_chunk() else {
        return Err(InvalidAsPath::Underrun(offset));
    };
    let kind = match kind {
        1 => SegmentKind::Set,
        2 => SegmentKind::Sequence,
        3 | 4 => return Err(InvalidAsPath::Confederation(offset)),
        kind => return Err(InvalidAsPath::Kind { offset, kind }),
    };
    if count == 0 {
        return Err(InvalidAsPath::EmptySegment(offset));
    }
    let numbers = behind
        .get(..usize::from(count) * width as usize)
        .ok_or(InvalidAsPath::Overrun { offset, count })?;
    if numbers.chunks_exact(width as usize).map(asn).any(|number| number == Asn::ZERO) {
        return Err(InvalidAsPath::Zero(offset));
    }
    Ok((kind, numbers))
}

/// The number in two or four octets.
fn asn(octets: &[u8]) -> Asn {
    Asn(octets.iter().fold(0, |number, octet| number << 8 | u32::from(*octet)))
}

/// Appends a segment of at most 255 numbers, unless it has none.
fn push_segment(wire: &mut Vec<u8>, kind: SegmentKind, numbers: impl Iterator<Item = Asn>) {
    let start = wire.len();
    wire.extend([kind as u8, 0]);
    wire.extend(numbers.flat_map(|number| number.0.to_be_bytes()));
    let count = (wire.len() - start - 2) / 4;
    if count == 0 {
        wire.truncate(start);
    } else {
        wire[start + 1] = count as u8;
    }
}

/// Sequences as numbers with blanks between, sets in braces; an empty path is an empty text.
impl fmt::Display for AsPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments().enumerate() {
            let (open, between, close) = match segment.kind {
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::Set => ("{", ",", "}"),
            };
            formatter.write_str(if index == 0 { "" } else { " " })?;
            formatter.write_str(open)?;
            for (index, number) in segment.numbers().enumerate() {
                formatter.write_str(if index == 0 { "" } else { between })?;
                number.fmt(formatter)?;
            }
            formatter.write_str(close)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AsPath({self})")
    }
}

impl FromStr for AsPath {
    type Err = InvalidAsPath;

    fn from_str(text: &str) -> Result<Self, InvalidAsPath> {
        let refuse = || InvalidAsPath::Text(text.to_owned());
        let number = |text: &str| match text.parse() {
            Ok(Asn::ZERO) | Err(_) => Err(refuse()),
            Ok(asn) => Ok(asn),
        };
        let mut wire = Vec::new();
        let mut sequence = Vec::new();
        for word in text.split_ascii_whitespace() {
            let Some(set) = word.strip_prefix('{') else {
                sequence.push(number(word)?);
                continue;
            };
            wire.extend_from_slice(Self::sequence(&std::mem::take(&mut sequence)).as_wire());
            let set = set.strip_suffix('}').ok_or_else(refuse)?;
            let members: Vec<Asn> = set.split(',').map(number).collect::<Result<_, _>>()?;
            if members.len() > Self::SEGMENT_MAX {
                return Err(refuse());
            }
            push_segment(&mut wire, SegmentKind::Set, members.into_iter());
        }
        wire.extend_from_slice(Self::sequence(&sequence).as_wire());
        Ok(Self { wire: wire.as_slice().into() })
    }
}
