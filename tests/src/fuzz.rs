//! What the fuzzer runs: from any bytes to a sequence of steps and the claims about them. A claim
//! that does not hold panics. The fuzzer itself is the crate in `fuzz/`, outside the workspace;
//! here the same code is compiled, linted and run over its seeds like every other test.

pub mod bfd;
pub mod bgp;
pub mod frames;
pub mod headers;
pub mod speaker;
pub mod tunnel;
pub mod yaml;

use crate::frames::checksum;

/// A target: its name, what it does with an input, and inputs that reach far.
pub struct Target {
    /// The name, as `cargo xtask fuzz` takes it.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 7] = [
    Target { name: "bfd", run: bfd::run, seeds: bfd::seeds },
    Target { name: "bgp", run: bgp::run, seeds: bgp::seeds },
    Target { name: "frames", run: frames::run, seeds: frames::seeds },
    Target { name: "headers", run: headers::run, seeds: headers::seeds },
    Target { name: "speaker", run: speaker::run, seeds: speaker::seeds },
    Target { name: "tunnel", run: tunnel::run, seeds: tunnel::seeds },
    Target { name: "yaml", run: yaml::run, seeds: yaml::seeds },
];

/// Bytes that decide; zeros when they run out.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// At most `count` bytes.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes whose number stands in front of them.
    fn block(&mut self) -> &'a [u8] {
        let count = usize::from(self.word());
        self.take(count)
    }
}

/// A block as [`Input::block`] reads it.
fn block(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Gives an IPv4 header the checksum that no fuzzer guesses.
fn mend(packet: &mut [u8]) {
    let length = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    if packet.first().is_none_or(|first| first >> 4 != 4) || length < 20 {
        return;
    }
    if let Some(header) = packet.get_mut(..length) {
        header[10..12].fill(0);
        let sum = checksum(&[header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}
