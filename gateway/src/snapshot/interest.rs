//! What the gateway's own endpoint in a domain listens for, for workers to see.

use std::sync::atomic::{AtomicU8, Ordering};

/// A service of the gateway's own endpoint that packets are punted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// TCP from or to port 179: BGP (RFC 4271 section 8).
    Tcp = 1,
    /// UDP to port 3784 or 4784: BFD (RFC 5881 section 4, RFC 5883 section 5).
    Udp = 2,
}

/// The services that one domain registered; only the endpoint's thread writes it. It survives
/// reloads of the tenant.
#[derive(Debug, Default)]
pub struct Interest(AtomicU8);

impl Interest {
    /// Whether packets of `service` are punted.
    #[must_use]
    pub fn wants(&self, service: Service) -> bool {
        self.0.load(Ordering::Relaxed) & service as u8 != 0
    }

    /// Registers for exactly these services.
    pub fn set(&self, services: &[Service]) {
        let bits = services.iter().fold(0, |bits, &service| bits | service as u8);
        self.0.store(bits, Ordering::Relaxed);
    }
}
