//! Sites of a routing domain, the tunnels that lead to them, and the sockets that tunnels end at.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use nvgate_deploy::plan::TunnelPlan;
use nvgate_model::{DomainSlot, Prefix};
use nvgate_nat::Budget;
use nvgate_packet::flow_key::Place;
use nvgate_packet::renumber::Renumbering;
use nvgate_vpn::{OwnKeys, PublicKey, TunnelIndex, TunnelStatus};

/// The position of a site in its domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SiteIndex(pub u16);

/// A tenant's premises behind tunnels.
#[derive(Debug)]
pub struct Site {
    /// What the tenant calls it.
    pub name: String,
    /// Where packets that leave its tunnels enter the flow table.
    pub place: Place,
    /// Whether it may use the tenant's NAT.
    pub internet: bool,
    /// The tenant's addresses as the site sees them.
    pub local: Renumbering,
    /// The site's addresses as the tenant's network sees them.
    pub remote: Renumbering,
    /// NAT sessions of all its addresses together.
    pub sessions: Arc<Budget>,
    /// The ways to it.
    pub tunnels: Vec<SiteTunnel>,
}

/// One tunnel of a site.
#[derive(Debug)]
pub struct SiteTunnel {
    /// Its number in the process, which also says which worker has it.
    pub index: TunnelIndex,
    /// What it is to be.
    pub plan: TunnelPlan,
    /// The gateway's socket.
    pub local: SocketAddr,
    /// The gateway's keys there.
    pub own: OwnKeys,
    /// What its worker says of it.
    pub shared: Arc<TunnelShared>,
}

/// A socket on the front end that tunnels end at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelSocket {
    /// The domain whose tenant has it.
    pub domain: DomainSlot,
    /// The gateway's keys.
    pub own: OwnKeys,
    /// Who may come.
    pub peers: BTreeMap<PublicKey, TunnelIndex>,
}

/// What the worker that has a tunnel says of it, for all to read.
#[derive(Debug, Default)]
pub struct TunnelShared {
    up: AtomicBool,
    mtu: AtomicU16,
    /// The details, as they were within the last second; a worker that finds it locked tries again later.
    pub status: Mutex<Option<TunnelStatus>>,
}

impl TunnelShared {
    /// Whether packets may be sent into it.
    #[inline]
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// The longest inner packet it carries, in bytes; 0 before it was up.
    #[inline]
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Says what it carries and whether it is up.
    pub fn publish(&self, up: bool, mtu: u16) {
        self.mtu.store(mtu, Ordering::Relaxed);
        self.up.store(up, Ordering::Relaxed);
    }
}

impl SiteTunnel {
    /// Whether the site has `address`, in its own numbers, behind this tunnel.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.plan.allowed.iter().any(|prefix| prefix.contains(address))
    }
}

impl Site {
    /// Whether any tunnel is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.tunnels.iter().any(|tunnel| tunnel.shared.is_up())
    }

    /// The longest packet to `address`, which is in the tenant's numbers, that every tunnel carries
    /// that is up and allows it, in bytes.
    #[must_use]
    pub fn mtu(&self, address: IpAddr) -> Option<u16> {
        self.usable(address).map(|tunnel| tunnel.shared.mtu()).min()
    }

    /// The tunnels that are up and have `address`, which is in the tenant's numbers, behind them.
    fn usable(&self, address: IpAddr) -> impl Iterator<Item = &SiteTunnel> {
        let address = self.remote.back(address);
        self.tunnels.iter().filter(move |tunnel| tunnel.shared.is_up() && tunnel.allows(address))
    }

    /// Whether any tunnel is up that has some of `prefix` behind it, which a proven route leads to:
    /// it lies in one network of the site's, or covers whole ones.
    #[must_use]
    pub fn carries(&self, prefix: Prefix) -> bool {
        let inside = self.remote.back(prefix.network());
        self.tunnels.iter().filter(|tunnel| tunnel.shared.is_up()).any(|tunnel| {
            let mut allowed = tunnel.plan.allowed.iter();
            allowed.any(|allowed| {
                allowed.contains(inside) || prefix.contains(self.remote.forward(allowed.network()))
            })
        })
    }

    /// The tunnel for a flow to `destination`, which is in the tenant's numbers: of those that are
    /// up, the ones with the lowest metric share by flow.
    #[must_use]
    pub fn choose(&self, destination: IpAddr, flow: u64) -> Option<&SiteTunnel> {
        self.choose_among(destination, flow, |_| true)
    }

    /// As [`choose`](Self::choose), among tunnels that `eligible` names.
    #[must_use]
    pub fn choose_among(
        &self,
        destination: IpAddr,
        flow: u64,
        eligible: impl Fn(&SiteTunnel) -> bool,
    ) -> Option<&SiteTunnel> {
        let usable = || self.usable(destination).filter(|tunnel| eligible(tunnel));
        let best = usable().map(|tunnel| tunnel.plan.metric).min()?;
        let equals = || usable().filter(|tunnel| tunnel.plan.metric == best);
        // A tunnel may go down between the two looks.
        let count = equals().count().max(1);
        equals().nth((flow >> 40) as usize % count)
    }
}
