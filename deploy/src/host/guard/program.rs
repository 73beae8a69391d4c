//! Classic BPF that picks out frames by protocol and destination prefix.
//!
//! A list of prefixes becomes a sorted list of disjoint address ranges, and that a binary search
//! written out as jumps. Long lists become several programs, each small enough for the kernel to
//! report it back in one message.

use std::net::IpAddr;

use nvgate_model::Prefix;

/// What a program returns to let the kernel go on with the next filter (`TC_ACT_UNSPEC`).
pub const PASS: u32 = u32::MAX;
/// What a program returns to drop the frame (`TC_ACT_SHOT`).
pub const DROP: u32 = 2;

/// Instructions of one program: the kernel reports a filter in a message of one page.
pub const MAX_INSTRUCTIONS: usize = 400;

/// Programs of one set.
pub const MAX_PROGRAMS: usize = 512;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_LENGTH: u16 = 0x80;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where a load finds the frame's VLAN tag (`SKF_AD_OFF + SKF_AD_VLAN_TAG`): the kernel takes the
/// tag out of the frame before filters run.
const VLAN_TAG: u32 = (-0x1000_i32 + 44) as u32;

/// One instruction (`struct sock_filter`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    constant: u32,
}

impl Instruction {
    /// Bytes of an instruction.
    pub const LENGTH: usize = 8;

    const fn new(code: u16, constant: u32) -> Self {
        Self { code, jump_true: 0, jump_false: 0, constant }
    }

    const fn branch(code: u16, constant: u32, jump_true: u8, jump_false: u8) -> Self {
        Self { code, jump_true, jump_false, constant }
    }

    /// The instruction as the kernel reads it.
    pub fn bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..2].copy_from_slice(&self.code.to_ne_bytes());
        bytes[2] = self.jump_true;
        bytes[3] = self.jump_false;
        bytes[4..].copy_from_slice(&self.constant.to_ne_bytes());
        bytes
    }
}

/// The destinations need more programs than a set may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany {
    /// Disjoint address ranges the destinations make.
    pub ranges: usize,
}

/// Programs which together drop untagged frames to `destinations`, of `protocol` only when one is
/// given (directly after the IP header's fixed part), and let everything else pass.
pub fn programs(
    protocol: Option<u8>,
    destinations: &[Prefix],
) -> Result<Vec<Vec<Instruction>>, TooMany> {
    let mut programs = Vec::new();
    let mut total = 0;
    for family in [Family::V4, Family::V6] {
        let ranges = ranges(family, destinations);
        total += ranges.len();
        let mut rest = ranges.as_slice();
        while !rest.is_empty() {
            if programs.len() == MAX_PROGRAMS {
                return Err(TooMany { ranges: total });
            }
            let mut code = prologue(family, protocol);
            let count = fitting(family, rest, MAX_INSTRUCTIONS - code.len());
            let (now, later) = rest.split_at(count);
            rest = later;
            search(&mut code, family, &boundaries(family, now), 0);
            programs.push(code);
        }
    }
    Ok(programs)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn ether_type(self) -> u32 {
        match self {
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }

    /// Bytes of Ethernet and fixed IP header.
    const fn headers(self) -> u32 {
        match self {
            Self::V4 => 14 + 20,
            Self::V6 => 14 + 40,
        }
    }

    /// Where the protocol byte is in the frame.
    const fn protocol_at(self) -> u32 {
        match self {
            Self::V4 => 14 + 9,
            Self::V6 => 14 + 6,
        }
    }

    /// Where the destination address is in the frame.
    const fn destination_at(self) -> u32 {
        match self {
            Self::V4 => 14 + 16,
            Self::V6 => 14 + 24,
        }
    }

    const fn highest(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    /// The 32-bit words to compare with `boundary`: up to the last one that is not zero.
    fn words(self, boundary: u128) -> Vec<u32> {
        match self {
            Self::V4 => vec![boundary as u32],
            Self::V6 => {
                let words = [96, 64, 32, 0].map(|shift| (boundary >> shift) as u32);
                let last = words.iter().rposition(|&word| word != 0).unwrap_or(0);
                words[..=last].to_vec()
            }
        }
    }
}

/// The address ranges of one family, sorted, disjoint and not adjacent.
fn ranges(family: Family, prefixes: &[Prefix]) -> Vec<(u128, u128)> {
    let mut all: Vec<(u128, u128)> = prefixes
        .iter()
        .filter(|prefix| prefix.is_ipv4() == (family == Family::V4))
        .map(|prefix| {
            let low = match prefix.network() {
                IpAddr::V4(v4) => u128::from(v4.to_bits()),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            let hosts = family.highest().checked_shr(u32::from(prefix.length())).unwrap_or(0);
            (low, low | hosts)
        })
        .collect();
    all.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(all.len());
    for (low, high) in all {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// Where the answer changes: the first address of every range and the first one behind it. An
/// address is in a range when it is at or above an odd number of boundaries.
fn boundaries(family: Family, ranges: &[(u128, u128)]) -> Vec<u128> {
    ranges
        .iter()
        .flat_map(|&(low, high)| [Some(low), (high < family.highest()).then(|| high + 1)])
        .flatten()
        .collect()
}

/// How many of `ranges` fit into `room` instructions, at least one.
fn fitting(family: Family, ranges: &[(u128, u128)], room: usize) -> usize {
    let mut used = 2;
    let fit = ranges
        .iter()
        .take_while(|&&range| {
            used += boundaries(family, &[range])
                .iter()
                .map(|&boundary| comparison(family, boundary).len() + 2)
                .sum::<usize>();
            used <= room
        })
        .count();
    fit.max(1)
}

fn prologue(family: Family, protocol: Option<u8>) -> Vec<Instruction> {
    let mut code = vec![
        // VLAN 0 carries a priority only; the kernel treats such a frame as untagged.
        Instruction::new(LOAD_WORD, VLAN_TAG),
        Instruction::new(AND, 0x0fff),
        Instruction::branch(JUMP_EQUAL, 0, 1, 0),
        Instruction::new(RETURN, PASS),
        // A load behind the end of the frame would end the program with 0, which is not PASS.
        Instruction::new(LOAD_LENGTH, 0),
        Instruction::branch(JUMP_GREATER_EQUAL, family.headers(), 1, 0),
        Instruction::new(RETURN, PASS),
        Instruction::new(LOAD_HALF, 12),
        Instruction::branch(JUMP_EQUAL, family.ether_type(), 1, 0),
        Instruction::new(RETURN, PASS),
    ];
    if let Some(protocol) = protocol {
        code.extend([
            Instruction::new(LOAD_BYTE, family.protocol_at()),
            Instruction::branch(JUMP_EQUAL, u32::from(protocol), 1, 0),
            Instruction::new(RETURN, PASS),
        ]);
    }
    if family == Family::V4 {
        code.push(Instruction::new(LOAD_WORD, family.destination_at()));
    }
    code
}

/// Binary search for the destination among `boundaries`, `below` of which lie below the first.
fn search(code: &mut Vec<Instruction>, family: Family, boundaries: &[u128], below: usize) {
    let middle = boundaries.len() / 2;
    let Some(&boundary) = boundaries.get(middle) else {
        let verdict = if below % 2 == 1 { DROP } else { PASS };
        code.push(Instruction::new(RETURN, verdict));
        return;
    };
    code.extend(comparison(family, boundary));
    let to_lower = code.len();
    code.push(Instruction::new(JUMP, 0));
    search(code, family, &boundaries[middle + 1..], below + middle + 1);
    // Jumps without a condition have 32 bits of offset, counted from the next instruction.
    code[to_lower].constant = (code.len() - to_lower - 1) as u32;
    search(code, family, &boundaries[..middle], below);
}

/// Falls through when the destination is below `boundary`; skips one instruction otherwise.
fn comparison(family: Family, boundary: u128) -> Vec<Instruction> {
    let words = family.words(boundary);
    let mut code = Vec::new();
    // Filled from the end, because a jump's distance is to what follows.
    for (index, &word) in words.iter().enumerate().rev() {
        let to_end = code.len() as u8;
        let mut step = Vec::with_capacity(3);
        if family == Family::V6 {
            step.push(Instruction::new(LOAD_WORD, family.destination_at() + 4 * index as u32));
        }
        if index + 1 == words.len() {
            step.push(Instruction::branch(JUMP_GREATER_EQUAL, word, to_end + 1, to_end));
        } else {
            step.push(Instruction::branch(JUMP_GREATER, word, to_end + 2, 0));
            step.push(Instruction::branch(JUMP_EQUAL, word, 0, to_end));
        }
        code.splice(0..0, step);
    }
    code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a program over a frame, as the kernel would, and counts steps.
    fn run(code: &[Instruction], frame: &[u8], vlan: u32) -> u32 {
        let mut accumulator = 0_u32;
        let mut at = 0;
        loop {
            let Instruction { code: operation, jump_true, jump_false, constant } = code[at];
            at += 1;
            let branch = |taken: bool| usize::from(if taken { jump_true } else { jump_false });
            let load = |length: usize| {
                let from = constant as usize;
                let bytes = frame.get(from..from + length)?;
                Some(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
            };
            let loaded = match operation {
                LOAD_WORD if constant == VLAN_TAG => Some(vlan),
                LOAD_WORD => load(4),
                LOAD_HALF => load(2),
                LOAD_BYTE => load(1),
                LOAD_LENGTH => Some(frame.len() as u32),
                AND => Some(accumulator & constant),
                JUMP => {
                    at += constant as usize;
                    continue;
                }
                JUMP_EQUAL => {
                    at += branch(accumulator == constant);
                    continue;
                }
                JUMP_GREATER => {
                    at += branch(accumulator > constant);
                    continue;
                }
                JUMP_GREATER_EQUAL => {
                    at += branch(accumulator >= constant);
                    continue;
                }
                RETURN => return constant,
                other => panic!("operation {other:#x} is none the generator uses"),
            };
            match loaded {
                Some(value) => accumulator = value,
                None => return 0,
            }
        }
    }

    /// The verdict of a set: the first program that does not pass decides.
    fn verdict(programs: &[Vec<Instruction>], frame: &[u8], vlan: u32) -> u32 {
        programs.iter().map(|code| run(code, frame, vlan)).find(|&v| v != PASS).unwrap_or(PASS)
    }

    fn frame(destination: IpAddr, protocol: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        match destination {
            IpAddr::V4(v4) => {
                frame[12..14].copy_from_slice(&[0x08, 0x00]);
                frame[23] = protocol;
                frame[30..34].copy_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                frame[20] = protocol;
                frame[38..54].copy_from_slice(&v6.octets());
            }
        }
        frame
    }

    /// Every load that can fail lies behind a length check and every jump lands in the program.
    fn assert_sound(code: &[Instruction]) {
        assert!(code.len() <= MAX_INSTRUCTIONS, "{} instructions", code.len());
        for (at, instruction) in code.iter().enumerate() {
            let next = at + 1;
            let furthest = match instruction.code {
                JUMP => next + instruction.constant as usize,
                _ => next + usize::from(instruction.jump_true.max(instruction.jump_false)),
            };
            assert!(furthest < code.len() || instruction.code == RETURN);
        }
        assert_eq!(code.last().map(|last| last.code), Some(RETURN));
    }

    /// Addresses close together, so that prefixes meet and contain each other.
    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = (0_u32..1024, prop::bool::ANY)
            .prop_map(|(low, top)| (if top { u32::MAX - low } else { 0x0a00_0000 | low }).into())
            .prop_map(IpAddr::V4);
        let near = prop::sample::select(vec![0_u32, 1, 2, 0x7fff_ffff, u32::MAX - 1, u32::MAX]);
        let v6 = [near.clone(), near.clone(), near.clone(), near]
            .prop_map(|words| words.into_iter().fold(0, |bits, word| bits << 32 | u128::from(word)))
            .prop_map(|bits: u128| IpAddr::V6(bits.into()));
        prop_oneof![v4, v6]
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        (address(), 0_u8..=128).prop_map(|(address, length)| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            // Mostly long prefixes: short ones hide everything else.
            let length = if length < 4 { length } else { bits - length % 12 };
            Prefix::containing(address, length).unwrap()
        })
    }

    proptest! {
        #[test]
        fn exactly_the_destinations_are_dropped(
            destinations in prop::collection::vec(prefix(), 0..200),
            addresses in prop::collection::vec(address(), 50),
            protocol in prop::option::of(Just(47_u8)),
            frame_protocol in prop::sample::select(vec![6_u8, 47]),
        ) {
            let programs = programs(protocol, &destinations).unwrap();
            programs.iter().for_each(|code| assert_sound(code));
            let edges = destinations.iter().map(|prefix| prefix.network());
            for address in addresses.into_iter().chain(edges) {
                let listed = destinations.iter().any(|prefix| prefix.contains(address));
                let wanted = protocol.is_none_or(|protocol| protocol == frame_protocol);
                let expected = if listed && wanted { DROP } else { PASS };
                let frame = frame(address, frame_protocol);
                prop_assert_eq!(verdict(&programs, &frame, 0), expected, "{}", address);
                prop_assert_eq!(verdict(&programs, &frame, 0x2000), expected);
                prop_assert_eq!(verdict(&programs, &frame, 5), PASS);
            }
        }

        #[test]
        fn any_frame_gets_one_of_the_two_verdicts(
            destinations in prop::collection::vec(prefix(), 1..50),
            frame in prop::collection::vec(any::<u8>(), 0..80),
            vlan in any::<u16>(),
        ) {
            for code in programs(None, &destinations).unwrap() {
                let verdict = run(&code, &frame, u32::from(vlan));
                prop_assert!(verdict == PASS || verdict == DROP);
            }
        }
    }

    #[test]
    fn adjacent_addresses_share_a_range() {
        let addresses: Vec<Prefix> = (0..1000_u32)
            .map(|host| Prefix::host(IpAddr::V4((0xcb00_7100 + host).into())))
            .collect();
        assert_eq!(ranges(Family::V4, &addresses).len(), 1);
        assert_eq!(programs(None, &addresses).unwrap().len(), 1);
    }

    #[test]
    fn scattered_addresses_are_split_into_programs_that_all_fit() {
        let addresses: Vec<Prefix> = (0..1000_u32)
            .map(|host| Prefix::host(IpAddr::V4((0x0a00_0000 + 3 * host).into())))
            .chain((0..200_u128).map(|host| {
                Prefix::host(IpAddr::V6(((0x2001_0db8 << 96) + (host << 64) + 5).into()))
            }))
            .collect();
        let programs = programs(None, &addresses).unwrap();
        programs.iter().for_each(|code| assert_sound(code));
        assert!(programs.len() > 2);
        for prefix in &addresses {
            assert_eq!(verdict(&programs, &frame(prefix.network(), 6), 0), DROP);
        }
    }

    #[test]
    fn too_many_scattered_addresses_are_refused() {
        let addresses: Vec<Prefix> =
            (0..40_000_u32).map(|host| Prefix::host(IpAddr::V4((2 * host).into()))).collect();
        assert_eq!(programs(None, &addresses), Err(TooMany { ranges: 40_000 }));
    }
}
