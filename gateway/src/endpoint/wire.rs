//! A smoltcp device of one packet each way.

use nvgate_model::Instant;
use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::wire::HardwareAddress;

use super::MAX_PACKET;

/// The gateway's time as the stack takes it.
pub(super) const fn stack_time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros_const((now.0 / 1000) as i64)
}

/// An interface whose chance comes from `seed`.
pub(super) fn interface(seed: u64, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    Interface::new(config, &mut OnePacket::default(), stack_time(now))
}

/// The packet that goes in, and where the one that comes out is written.
#[derive(Default)]
pub(super) struct OnePacket<'w> {
    inbound: Option<&'w [u8]>,
    outbound: Option<&'w mut [u8]>,
    /// The length of what came out.
    pub(super) length: Option<usize>,
}

impl<'w> OnePacket<'w> {
    /// `packet` goes in; one that answers it may come out to `out`.
    pub(super) const fn arriving(packet: &'w [u8], out: &'w mut [u8]) -> Self {
        Self { inbound: Some(packet), outbound: Some(out), length: None }
    }

    /// One packet may come out to `out`.
    pub(super) const fn leaving(out: &'w mut [u8]) -> Self {
        Self { inbound: None, outbound: Some(out), length: None }
    }
}

pub(super) struct Arriving<'w>(&'w [u8]);

impl RxToken for Arriving<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, handle: F) -> R {
        handle(self.0)
    }
}

pub(super) struct Leaving<'w, 'l> {
    out: &'w mut [u8],
    length: &'l mut Option<usize>,
}

impl TxToken for Leaving<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        match self.out.get_mut(..length) {
            Some(out) => {
                *self.length = Some(length);
                fill(out)
            }
            // Longer than the stack was told a packet may be; it is dropped.
            None => fill(&mut vec![0; length]),
        }
    }
}

impl<'w> Device for OnePacket<'w> {
    type RxToken<'a>
        = Arriving<'w>
    where
        Self: 'a;
    type TxToken<'a>
        = Leaving<'w, 'a>
    where
        Self: 'a;

    fn receive(
        &mut self,
        _: smoltcp::time::Instant,
    ) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let out = self.outbound.take()?;
        let packet = self.inbound.take()?;
        Some((Arriving(packet), Leaving { out, length: &mut self.length }))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        let out = self.outbound.take()?;
        Some(Leaving { out, length: &mut self.length })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MAX_PACKET;
        capabilities.checksum.tcp = Checksum::Both;
        capabilities
    }
}
