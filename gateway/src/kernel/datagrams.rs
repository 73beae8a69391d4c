//! UDP of BFD: a socket a family and port that hears all neighbours, and one a session that speaks to
//! its own, since each session has a source port (RFC 5881 section 4).

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nvgate_model::Instant;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::listener::Fault;
use crate::endpoint::{BFD_PORTS, Datagram};

/// More than a Control packet with authentication has (RFC 5880 section 4.1).
const LONGEST: usize = 256;
/// How long a session's socket stays without a packet, once there is another one.
const IDLE: Duration = Duration::from_secs(120);
/// TTL of every packet (RFC 5881 section 5).
const TTL: u32 = 255;

/// The sockets of BFD on the front end.
#[derive(Debug)]
pub(super) struct Datagrams {
    link: String,
    /// With what each is bound to: whether to IPv4, and the port.
    hearing: Vec<(Socket, (bool, u16))>,
    /// By both ends, each with when it was used last.
    speaking: BTreeMap<(SocketAddr, SocketAddr), (Socket, Instant)>,
    buffer: [u8; LONGEST],
    control: Vec<u8>,
}

impl Datagrams {
    pub(super) fn new() -> Self {
        Self {
            link: String::new(),
            hearing: Vec::new(),
            speaking: BTreeMap::new(),
            buffer: [0; LONGEST],
            control: cmsg_space!(libc::in6_pktinfo, libc::c_int),
        }
    }

    /// Closes everything.
    pub(super) fn forget(&mut self) {
        self.hearing.clear();
        self.speaking.clear();
    }

    /// Hears neighbours of these families, IPv4 first, on this link; what they send wakes by `name`.
    pub(super) fn follow(
        &mut self,
        link: &str,
        families: [bool; 2],
        (epoll, name): (&Epoll, u64),
    ) -> Result<(), Fault> {
        link.clone_into(&mut self.link);
        for (ipv4, wanted) in [true, false].into_iter().zip(families) {
            for port in BFD_PORTS.into_iter().filter(|_| wanted) {
                let bound = (ipv4, port);
                if self.hearing.iter().any(|(_, other)| *other == bound) {
                    continue;
                }
                let fault = |error: io::Error| Fault::of_bfd(&error, port, link);
                let socket = hear(link, ipv4, port).map_err(fault)?;
                let added = epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, name));
                added.map_err(|error| fault(error.into()))?;
                self.hearing.push((socket, bound));
            }
        }
        Ok(())
    }

    /// The next packet that arrived.
    pub(super) fn poll(&mut self) -> Option<Datagram> {
        let Self { hearing, buffer, control, .. } = self;
        hearing.iter().find_map(|(socket, (_, port))| receive(socket, *port, buffer, control))
    }

    /// Sends a packet from its own address and port.
    pub(super) fn send(&mut self, now: Instant, datagram: &Datagram) -> io::Result<()> {
        let ends = (datagram.local, datagram.remote);
        if !self.speaking.contains_key(&ends) {
            self.speaking.retain(|_, (_, used)| now.since(*used) < IDLE);
            let socket = speak(&self.link, ends)?;
            self.speaking.insert(ends, (socket, now));
        }
        let Some((socket, used)) = self.speaking.get_mut(&ends) else { return Ok(()) };
        *used = now;
        match socket.send(&datagram.payload) {
            Ok(_) => Ok(()),
            Err(error) => {
                // Its address may be gone, or come back.
                self.speaking.remove(&ends);
                Err(error)
            }
        }
    }
}

fn socket(link: &str, ipv4: bool) -> io::Result<Socket> {
    let domain = if ipv4 { Domain::IPV4 } else { Domain::IPV6 };
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
    socket.bind_device(Some(link.as_bytes()))?;
    Ok(socket)
}

fn hear(link: &str, ipv4: bool, port: u16) -> io::Result<Socket> {
    let socket = socket(link, ipv4)?;
    let any: IpAddr = if ipv4 {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        Ipv6Addr::UNSPECIFIED.into()
    };
    socket.bind(&SockAddr::from(SocketAddr::new(any, port)))?;
    Ok(socket)
}

fn speak(link: &str, (local, remote): (SocketAddr, SocketAddr)) -> io::Result<Socket> {
    let socket = socket(link, local.is_ipv4())?;
    match local {
        SocketAddr::V4(_) => socket.set_ttl_v4(TTL)?,
        SocketAddr::V6(_) => socket.set_unicast_hops_v6(TTL)?,
    }
    socket.bind(&SockAddr::from(local))?;
    socket.connect(&SockAddr::from(remote))?;
    Ok(socket)
}

fn receive(socket: &Socket, port: u16, buffer: &mut [u8], control: &mut [u8]) -> Option<Datagram> {
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), flags).ok()?;
    let length = message.bytes;
    let mut facts = Facts::default();
    message.cmsgs().ok()?.for_each(|part| facts.note(&part));
    let from = message.address?;
    let remote = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::new(v4.ip().into(), v4.port()),
        (None, Some(v6)) => SocketAddr::new(v6.ip().into(), v6.port()),
        (None, None) => return None,
    };
    Some(Datagram {
        local: SocketAddr::new(facts.local?, port),
        remote,
        ttl: facts.ttl?,
        payload: buffer.get(..length)?.to_vec(),
    })
}

/// What the kernel says of a packet beside its bytes.
#[derive(Default)]
struct Facts {
    local: Option<IpAddr>,
    ttl: Option<u8>,
}

impl Facts {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only what was asked for comes")]
    fn note(&mut self, part: &ControlMessageOwned) {
        match part {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                self.local = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                self.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                self.ttl = u8::try_from(*ttl).ok();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::epoll::EpollCreateFlags;

    use super::*;

    #[test]
    fn what_is_heard_has_both_ends_and_the_ttl_that_it_came_with() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let mut datagrams = Datagrams::new();
        if datagrams.follow("lo", [true, false], (&epoll, 7)).is_err() {
            return;
        }
        let [local, remote] = [49_152, BFD_PORTS[0]].map(|port| ([127, 0, 0, 1], port).into());
        let said = Datagram { local, remote, ttl: 255, payload: b"hello".to_vec() };
        datagrams.send(Instant(1), &said).unwrap();
        let heard = datagrams.poll().unwrap();
        assert_eq!(heard, Datagram { local: remote, remote: local, ..said });
        assert_eq!(datagrams.poll(), None);
    }
}
