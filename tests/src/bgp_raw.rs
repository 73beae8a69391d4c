//! A BGP neighbour of our own over plain TCP that says whatever it is told to, for what no honest
//! daemon does. It writes its messages from RFC 4271 alone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nvgate::demo::lab::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

/// Message types (RFC 4271 section 4.1).
pub const OPEN: u8 = 1;
/// UPDATE.
pub const UPDATE: u8 = 2;
/// NOTIFICATION.
pub const NOTIFICATION: u8 = 3;
/// KEEPALIVE.
pub const KEEPALIVE: u8 = 4;

const PORT: u16 = 179;
/// How long the gateway may take to say something.
const PATIENCE: Duration = Duration::from_secs(8);
/// The least that a kernel has as receive buffer, about.
const LITTLE: usize = 2048;
/// What waits in this side's kernel to be sent, so that what the gateway does not take is soon felt.
const SEND_BUFFER: usize = 32 * 1024;

/// One neighbour: who it is, and its connection.
#[derive(Debug)]
pub struct RawPeer {
    stream: Socket,
    asn: u16,
    hold_secs: u16,
    identifier: Ipv4Addr,
}

/// How much of what comes a neighbour's kernel keeps for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// As much as usual.
    Open,
    /// Next to nothing, so that it is soon closed.
    Small,
}

impl RawPeer {
    /// Connects from `local` inside `namespace` to the gateway's BGP port, and says nothing yet.
    ///
    /// # Errors
    ///
    /// When nobody answers, or refuses.
    pub fn connect(
        namespace: &Namespace,
        [local, gateway]: [IpAddr; 2],
        (asn, hold_secs): (u16, u16),
        window: Window,
    ) -> Result<Self> {
        let stream = namespace.run(|| -> std::io::Result<Socket> {
            let domain = if local.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            if window == Window::Small {
                socket.set_recv_buffer_size(LITTLE)?;
            }
            socket.set_send_buffer_size(SEND_BUFFER)?;
            socket.bind(&SocketAddr::new(local, 0).into())?;
            socket.connect_timeout(&SocketAddr::new(gateway, PORT).into(), PATIENCE)?;
            socket.set_tcp_nodelay(true)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(socket)
        })?;
        let stream = stream.with_context(|| format!("{local} to {gateway}"))?;
        Ok(Self { stream, asn, hold_secs, identifier: Ipv4Addr::new(10, 99, 0, 1) })
    }

    /// The same, up to an established session.
    ///
    /// # Errors
    ///
    /// When it does not come to that.
    pub fn establish(
        namespace: &Namespace,
        ends: [IpAddr; 2],
        who: (u16, u16),
        window: Window,
    ) -> Result<Self> {
        let mut peer = Self::connect(namespace, ends, who, window)?;
        peer.send(&peer.open())?;
        peer.agree()?;
        Ok(peer)
    }

    /// Its OPEN: IPv4 unicast, AS numbers of four octets, extended messages.
    #[must_use]
    pub fn open(&self) -> Vec<u8> {
        let [a, b] = self.asn.to_be_bytes();
        let capabilities = [&[1, 4, 0, 1, 0, 1][..], &[65, 4, 0, 0, a, b], &[6, 0]].concat();
        let mut body = vec![4, a, b];
        body.extend(self.hold_secs.to_be_bytes());
        body.extend(self.identifier.octets());
        body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
        body.extend(capabilities);
        message(OPEN, &body)
    }

    /// After its OPEN was sent: the gateway's, and a KEEPALIVE each way.
    ///
    /// # Errors
    ///
    /// When something else comes.
    pub fn agree(&mut self) -> Result<()> {
        let (kind, body) = self.receive()?;
        ensure!(kind == OPEN, "{kind} instead of OPEN: {body:?}");
        self.send(&message(KEEPALIVE, &[]))?;
        let (kind, body) = self.receive()?;
        ensure!(kind == KEEPALIVE, "{kind} instead of KEEPALIVE: {body:?}");
        Ok(())
    }

    /// Sends all of these bytes.
    ///
    /// # Errors
    ///
    /// When the connection is over, or takes nothing for too long.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Another handle on the connection, to send from another thread.
    ///
    /// # Errors
    ///
    /// When the kernel has none.
    pub fn sender(&self) -> Result<Socket> {
        Ok(self.stream.try_clone()?)
    }

    /// Ends the connection both ways, also for who waits to send.
    ///
    /// # Errors
    ///
    /// When it is over already.
    pub fn end(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Both)?)
    }

    /// The next message: its type and body.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub fn receive(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut header = [0; 19];
        self.stream.read_exact(&mut header).context("no message")?;
        ensure!(header[..16] == [0xff; 16], "{header:?}");
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length.checked_sub(19).context("a length")?];
        self.stream.read_exact(&mut body).context("half a message")?;
        Ok((header[18], body))
    }

    /// Whether the gateway keeps the connection, as far as is known here; what it said is dropped.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn is_open(&mut self) -> Result<bool> {
        self.stream.set_nonblocking(true)?;
        let mut dropped = [0; 4096];
        let open = loop {
            match self.stream.read(&mut dropped) {
                Ok(0) => break false,
                Ok(_) => {}
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
        };
        self.stream.set_nonblocking(false)?;
        Ok(open)
    }

    /// Code and subcode of the NOTIFICATION that must come, whatever comes before.
    ///
    /// # Errors
    ///
    /// When none comes.
    pub fn notification(&mut self) -> Result<[u8; 2]> {
        loop {
            let (kind, body) = self.receive()?;
            if kind == NOTIFICATION {
                let [code, subcode, ..] = body[..] else { bail!("{body:?}") };
                return Ok([code, subcode]);
            }
        }
    }
}

/// A message of this type.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 19).unwrap_or(u16::MAX);
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// An UPDATE that announces IPv4 networks of 24 bits, with these path attributes.
#[must_use]
pub fn update(attributes: &[Vec<u8>], networks: &[[u8; 3]]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut body = vec![0, 0];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(networks.iter().flat_map(|[a, b, c]| [24, *a, *b, *c]));
    message(UPDATE, &body)
}

/// An UPDATE that withdraws IPv4 networks of 24 bits.
#[must_use]
pub fn withdrawal(networks: &[[u8; 3]]) -> Vec<u8> {
    let routes: Vec<u8> = networks.iter().flat_map(|[a, b, c]| [24, *a, *b, *c]).collect();
    let length = (routes.len() as u16).to_be_bytes();
    message(UPDATE, &[&length[..], &routes, &[0, 0]].concat())
}

/// A path attribute, its length in two octets.
#[must_use]
pub fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    const EXTENDED_LENGTH: u8 = 0x10;
    let length = (value.len() as u16).to_be_bytes();
    [&[flags | EXTENDED_LENGTH, code][..], &length, value].concat()
}

/// ORIGIN, AS_PATH and NEXT_HOP.
#[must_use]
pub fn mandatory(path: &[u32], next_hop: Ipv4Addr) -> Vec<Vec<u8>> {
    let segments = path.chunks(255).flat_map(|numbers| {
        let bytes = numbers.iter().flat_map(|number| number.to_be_bytes());
        [2, numbers.len() as u8].into_iter().chain(bytes)
    });
    let segments: Vec<u8> = segments.collect();
    vec![
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &segments),
        attribute(0x40, 3, &next_hop.octets()),
    ]
}
