//! One netlink connection for requests: dumps, changes, and having the kernel resolve a neighbour.
//!
//! Everything the gateway asks of the kernel goes through a [`Netlink`]; errors name the operation
//! and what the kernel said.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's enums grow with the kernel; what is unknown is ignored"
)]

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::Handle;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be opened.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused the request.
    #[error("the kernel refused to {operation}: {source}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// The kernel's errno.
        source: io::Error,
    },
    /// The connection is closed.
    #[error("cannot {operation}: the netlink connection is closed")]
    Closed {
        /// What was asked.
        operation: &'static str,
    },
    /// The answer is incomplete because messages were lost.
    #[error("cannot {operation}: netlink messages were lost")]
    Overrun {
        /// What was asked.
        operation: &'static str,
    },
}

impl NetlinkError {
    /// The kernel's errno, when it refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Open(source) => source.raw_os_error(),
            Self::Closed { .. } | Self::Overrun { .. } => None,
        }
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct Task(tokio::task::JoinHandle<()>);

impl Task {
    /// Runs `future` on the current runtime until the value is dropped.
    pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection to the kernel for requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
    _connection: Arc<Task>,
}

impl Netlink {
    /// Opens a connection in the calling thread's network namespace and runs it on the current
    /// tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().map_err(NetlinkError::Open)?;
        Ok(Self { handle, _connection: Arc::new(Task::spawn(connection)) })
    }

    /// Asks the kernel to resolve `address` on the link with index `link`, by ARP or neighbour
    /// discovery, or to check that a stale entry still answers. Returns as soon as the kernel has
    /// started; the result arrives with the [`Observer`](super::Observer).
    pub async fn resolve(&self, link: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        let (family, destination) = match address {
            IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
            IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
        };
        message.header.family = family;
        message.header.ifindex = link;
        message.header.state = NeighbourState::None;
        message.header.flags = NeighbourFlags::Use;
        message.attributes.push(NeighbourAttribute::Destination(destination));
        self.change("resolve a neighbour", RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
            .await
    }

    /// Sends one request and waits for the kernel's acknowledgement.
    pub(super) async fn change(
        &self,
        operation: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        let mut answers = self.request(operation, message, NLM_F_ACK | flags)?;
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    }

    /// Collects a dump through `take`, which says whether it wants more; the rest is read and
    /// thrown away.
    pub(super) async fn dump(
        &self,
        operation: &'static str,
        message: RouteNetlinkMessage,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), NetlinkError> {
        let mut answers = self.request(operation, message, NLM_F_DUMP)?;
        while let Some(answer) = answers.next().await {
            if let Some(message) = answer? {
                take(message);
            }
        }
        Ok(())
    }

    /// Sends one request and returns the kernel's one answer.
    pub(super) async fn ask(
        &self,
        operation: &'static str,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        let mut answers = self.request(operation, message, 0)?;
        match answers.next().await {
            Some(answer) => answer,
            None => Err(NetlinkError::Closed { operation }),
        }
    }

    fn request(
        &self,
        operation: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<
        impl Stream<Item = Result<Option<RouteNetlinkMessage>, NetlinkError>> + Unpin + use<>,
        NetlinkError,
    > {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let answers =
            self.handle.clone().request(request).map_err(|_| NetlinkError::Closed { operation })?;
        Ok(answers.map(move |answer| match answer.payload {
            NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                Err(NetlinkError::Refused { operation, source: error.to_io() })
            }
            NetlinkPayload::Overrun(_) => Err(NetlinkError::Overrun { operation }),
            _ => Ok(None),
        }))
    }
}
