//! Keeps the host's own IP stack away from the traffic that the gateway handles.
//!
//! The gateway reads copies of frames; without a guard the kernel would answer GRE to its own
//! addresses with "protocol unreachable", and forward or refuse leased addresses. A guard drops
//! exactly that traffic at the link's tc ingress, which comes after the gateway's taps. It needs
//! CAP_NET_ADMIN in the user namespace that owns the network namespace.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's enums grow with the kernel; what is unknown is ignored"
)]

mod program;

use std::collections::BTreeMap;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, Nla};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use nvgate_model::{Prefix, ProviderAddress};

use super::{Netlink, NetlinkError};

/// Why a guard could not be made or installed.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The destinations make more address ranges than filters can hold.
    #[error("{ranges} separate address ranges are too many to keep from the host's kernel")]
    TooManyRanges {
        /// Disjoint ranges that the destinations make.
        ranges: usize,
    },
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// IP protocol number of GRE.
const GRE: u8 = 47;

/// The filters' priorities, which mark them as the gateway's.
const FABRIC_PRIORITY: u16 = 0x4e56;
const FRONT_END_PRIORITY: u16 = 0x4e57;

/// `ETH_P_ALL` as tc messages hold it, in network byte order.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();

const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;

const ENOENT: i32 = 2;
const ENODEV: i32 = 19;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;

/// The filters of one port's link. Dropping the value leaves them in place, so that a gateway that
/// restarts does not let the kernel in; [`remove`](Self::remove) takes them away.
#[derive(Clone, Debug)]
pub struct Guard {
    netlink: Netlink,
    link: u32,
    priority: u16,
    /// The filters' instructions by handle, as the kernel holds them.
    filters: BTreeMap<u32, Vec<u8>>,
}

impl Guard {
    /// A guard of the fabric link with index `link`: GRE to the gateway's own provider addresses.
    pub fn fabric(
        netlink: Netlink,
        link: u32,
        providers: &[ProviderAddress],
    ) -> Result<Self, GuardError> {
        let hosts: Vec<Prefix> =
            providers.iter().map(|provider| Prefix::host(provider.ip())).collect();
        Self::new(netlink, link, FABRIC_PRIORITY, Some(GRE), &hosts)
    }

    /// A guard of the front-end link with index `link`: everything to the given prefixes.
    pub fn front_end(
        netlink: Netlink,
        link: u32,
        destinations: &[Prefix],
    ) -> Result<Self, GuardError> {
        Self::new(netlink, link, FRONT_END_PRIORITY, None, destinations)
    }

    fn new(
        netlink: Netlink,
        link: u32,
        priority: u16,
        protocol: Option<u8>,
        destinations: &[Prefix],
    ) -> Result<Self, GuardError> {
        let programs = program::programs(protocol, destinations)
            .map_err(|program::TooMany { ranges }| GuardError::TooManyRanges { ranges })?;
        let bytes = |code: Vec<program::Instruction>| {
            code.into_iter().flat_map(program::Instruction::bytes).collect()
        };
        let filters = (1..).zip(programs.into_iter().map(bytes)).collect();
        Ok(Self { netlink, link, priority, filters })
    }

    /// Installs the filters, replacing those of an earlier guard of the same link and kind one by
    /// one, so that what both drop is dropped throughout. An ingress or clsact qdisc that is
    /// there already is kept, with what others installed on it.
    pub async fn install(&self) -> Result<(), GuardError> {
        let mut qdisc = TcMessage::with_index(self.link.cast_signed());
        qdisc.header.parent = TcHandle::CLSACT;
        qdisc.header.handle = TcHandle { major: 0xffff, minor: 0 };
        qdisc.attributes.push(TcAttribute::Kind("clsact".to_owned()));
        let qdisc = RouteNetlinkMessage::NewQueueDiscipline(qdisc);
        match self.netlink.change("add a clsact qdisc", qdisc, NLM_F_CREATE | NLM_F_EXCL).await {
            Err(error) if error.errno() != Some(EEXIST) => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        for (&handle, code) in &self.filters {
            let filter = RouteNetlinkMessage::NewTrafficFilter(self.filter(handle, code));
            self.netlink.change("add a tc filter", filter, NLM_F_CREATE).await?;
        }
        for handle in self.installed().await?.into_keys() {
            if !self.filters.contains_key(&handle) {
                let filter = RouteNetlinkMessage::DelTrafficFilter(self.message(handle));
                self.netlink.change("remove a tc filter", filter, 0).await?;
            }
        }
        Ok(())
    }

    /// Whether exactly the filters of this guard are in place.
    pub async fn check(&self) -> Result<bool, GuardError> {
        Ok(self.installed().await? == self.filters)
    }

    /// Removes the filters of this link and kind; the qdisc stays. A link that is gone is fine.
    pub async fn remove(&self) -> Result<(), GuardError> {
        let filters = RouteNetlinkMessage::DelTrafficFilter(self.message(0));
        match self.netlink.change("remove the tc filters", filters, 0).await {
            Ok(()) => Ok(()),
            Err(error) => match error.errno() {
                Some(ENOENT | ENODEV) => Ok(()),
                // The kernel's answer when there is no qdisc to hold filters.
                Some(EINVAL) if self.installed().await?.is_empty() => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    /// The instructions by handle of the filters that are in place.
    async fn installed(&self) -> Result<BTreeMap<u32, Vec<u8>>, GuardError> {
        let mut found = BTreeMap::new();
        let request = RouteNetlinkMessage::GetTrafficFilter(self.message(0));
        self.netlink
            .dump("list tc filters", request, |answer| {
                if let RouteNetlinkMessage::NewTrafficFilter(message) = answer
                    && message.header.info >> 16 == u32::from(self.priority)
                    && u32::from(message.header.handle) != 0
                {
                    found.insert(message.header.handle.into(), instructions(&message));
                }
            })
            .await?;
        Ok(found)
    }

    /// A message about the filter with this handle, or about all of this guard's with 0.
    fn message(&self, handle: u32) -> TcMessage {
        let mut message = TcMessage::with_index(self.link.cast_signed());
        message.header.parent = TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS };
        message.header.handle = handle.into();
        message.header.info = u32::from(self.priority) << 16 | u32::from(ALL_PROTOCOLS);
        message
    }

    fn filter(&self, handle: u32, code: &[u8]) -> TcMessage {
        let count = (code.len() / program::Instruction::LENGTH) as u16;
        let mut message = self.message(handle);
        message.attributes = vec![
            TcAttribute::Kind("bpf".to_owned()),
            TcAttribute::Options(
                [
                    TcFilterBpfOption::Other(DefaultNla::new(
                        TCA_BPF_OPS_LEN,
                        count.to_ne_bytes().to_vec(),
                    )),
                    TcFilterBpfOption::Other(DefaultNla::new(TCA_BPF_OPS, code.to_vec())),
                    TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
                ]
                .map(TcOption::Bpf)
                .to_vec(),
            ),
        ];
        message
    }
}

/// The instructions a filter holds; none when it is not a classic BPF program that decides itself.
fn instructions(message: &TcMessage) -> Vec<u8> {
    let mut code = Vec::new();
    let mut decides = false;
    for attribute in &message.attributes {
        let TcAttribute::Options(options) = attribute else { continue };
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::Flags(flags)) => {
                    decides = flags.contains(TcBpfFlags::DirectAction);
                }
                TcOption::Bpf(TcFilterBpfOption::Other(nla)) if nla.kind() == TCA_BPF_OPS => {
                    code.resize(nla.value_len(), 0);
                    nla.emit_value(&mut code);
                }
                _ => {}
            }
        }
    }
    if decides { code } else { Vec::new() }
}

#[cfg(test)]
mod tests;
