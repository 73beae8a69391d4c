//! The listening socket of one family, and why there is none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nvgate_model::Prefix;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::neighbours::Neighbours;
use crate::endpoint::BGP_PORT;
use crate::io::packet::tcp;

/// Connections that are complete and wait to be taken.
const BACKLOG: i32 = 64;
/// Bytes of the kernel's buffers of a connection, each way.
const BUFFER: usize = 256 << 10;

/// Why port 179 is not listened on; each says what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Somebody listens there.
    #[error(
        "TCP port {BGP_PORT} is in use, so that routers of the front end cannot connect: stop the other BGP \
         daemon of this host (`ss -ltnp sport = :{BGP_PORT}` shows it)"
    )]
    InUse,
    /// A privilege is missing.
    #[error(
        "not permitted to listen on TCP port {BGP_PORT}: run as root or with the capabilities \
         CAP_NET_BIND_SERVICE and CAP_NET_RAW"
    )]
    Forbidden,
    /// A key was refused.
    #[error(
        "the kernel takes no TCP-MD5 key for {peers}: {reason}; it needs CONFIG_TCP_MD5SIG, and with \
         many keys a greater net.core.optmem_max"
    )]
    Key {
        /// Whose key.
        peers: Prefix,
        /// What the kernel said.
        reason: String,
    },
    /// Somebody hears BFD there.
    #[error(
        "UDP port {port} is in use, so that BFD hears no router of the front end: stop the other BFD daemon of \
         this host (`ss -lunp sport = :{port}` shows it)"
    )]
    BfdInUse {
        /// The port.
        port: u16,
    },
    /// Anything else.
    #[error("cannot listen on port {port} of link {link}: {reason}")]
    Other {
        /// The port.
        port: u16,
        /// The link.
        link: String,
        /// What the kernel said.
        reason: String,
    },
}

impl Fault {
    pub(super) fn new(error: &io::Error, link: &str) -> Self {
        if error.kind() == io::ErrorKind::AddrInUse {
            Self::InUse
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            Self::Forbidden
        } else {
            Self::Other { port: BGP_PORT, link: link.to_owned(), reason: error.to_string() }
        }
    }

    pub(super) fn of_bfd(error: &io::Error, port: u16, link: &str) -> Self {
        match error.kind() == io::ErrorKind::AddrInUse {
            true => Self::BfdInUse { port },
            false => Self::Other { port, link: link.to_owned(), reason: error.to_string() },
        }
    }
}

/// A socket on the front-end link that never waits.
pub(super) fn socket(ipv4: bool, link: &str) -> io::Result<Socket> {
    let domain = if ipv4 { Domain::IPV4 } else { Domain::IPV6 };
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
    socket.bind_device(Some(link.as_bytes()))?;
    // Connections of a listener inherit both.
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    Ok(socket)
}

pub(super) fn set_ttl(socket: &Socket, ipv4: bool, ttl: u8) -> io::Result<()> {
    match ipv4 {
        true => socket.set_ttl_v4(ttl.into()),
        false => socket.set_unicast_hops_v6(ttl.into()),
    }
}

/// A listener for these neighbours.
pub(super) fn open(ipv4: bool, link: &str, neighbours: &Neighbours) -> Result<Socket, Fault> {
    let listener = prepare(ipv4, link, neighbours).map_err(|error| Fault::new(&error, link))?;
    for one in neighbours.of(ipv4) {
        let Some(key) = &one.options.key else { continue };
        tcp::sign(&listener, one.remote, Some(key.bytes()))
            .map_err(|error| Fault::Key { peers: one.remote, reason: error.to_string() })?;
    }
    listener.listen(BACKLOG).map_err(|error| Fault::new(&error, link))?;
    Ok(listener)
}

fn prepare(ipv4: bool, link: &str, neighbours: &Neighbours) -> io::Result<Socket> {
    let listener = socket(ipv4, link)?;
    listener.set_reuse_address(true)?;
    let any: IpAddr = match ipv4 {
        true => Ipv4Addr::UNSPECIFIED.into(),
        false => Ipv6Addr::UNSPECIFIED.into(),
    };
    if !ipv4 {
        listener.set_only_v6(true)?;
    }
    set_ttl(&listener, ipv4, neighbours.ttl(ipv4))?;
    tcp::set_least_ttl(&listener, ipv4, neighbours.least_ttl(ipv4))?;
    tcp::save_syns(&listener)?;
    listener.bind(&SockAddr::from(SocketAddr::new(any, BGP_PORT)))?;
    Ok(listener)
}
