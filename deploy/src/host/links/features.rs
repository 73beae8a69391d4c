//! Offloads of network cards, by the kernel's ethtool family of generic netlink.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's enums grow with the kernel; what is unknown is ignored"
)]

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Nla,
    NlasIterator, Parseable,
};
use rtnetlink::proto::ConnectionHandle;
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_GENERIC;

use crate::host::NetlinkError;
use crate::host::netlink::Task;
use crate::plan::{Offload, Offloads};

/// The family that knows all others, its command to ask for one, and what it says of it
/// (linux/genetlink.h).
const CONTROL: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;
/// The family of network cards, and its commands and attributes (linux/ethtool_netlink.h).
const FAMILY: &str = "ethtool";
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const HEADER: u16 = 1;
const HEADER_DEVICE_NAME: u16 = 2;
const HEADER_FLAGS: u16 = 3;
const OMIT_REPLY: u32 = 2;
const FEATURES_CHANGEABLE: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const BITSET_NO_MASK: u16 = 1;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;
/// Bytes of the header of a generic message.
const HEADER_LENGTH: usize = 4;

/// The kernel's names of an offload's parts, as `ethtool -k` has them.
const fn parts(offload: Offload) -> &'static [&'static str] {
    match offload {
        Offload::Gro => &["rx-gro"],
        Offload::Gso => &["tx-generic-segmentation"],
        Offload::Tso => &[
            "tx-tcp-segmentation",
            "tx-tcp6-segmentation",
            "tx-tcp-ecn-segmentation",
            "tx-tcp-mangleid-segmentation",
        ],
        Offload::RxChecksums => &["rx-checksum"],
        Offload::TxChecksums => {
            &["tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-ip-generic", "tx-checksum-sctp"]
        }
    }
}

/// A message of any family of generic netlink.
#[derive(Clone, Debug)]
struct Generic {
    family: u16,
    command: u8,
    attributes: Vec<DefaultNla>,
}

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER_LENGTH + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        const VERSION: u8 = 1;
        if let Some((header, attributes)) = buffer.split_first_chunk_mut::<HEADER_LENGTH>() {
            *header = [self.command, VERSION, 0, 0];
            self.attributes.as_slice().emit(attributes);
        }
    }
}

impl NetlinkDeserializable for Generic {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let Some((head, attributes)) = payload.split_first_chunk::<HEADER_LENGTH>() else {
            return Err(DecodeError::from("a generic message has a header of 4 bytes"));
        };
        let attributes = parse(attributes)?;
        Ok(Self { family: header.message_type, command: head[0], attributes })
    }
}

impl From<Generic> for NetlinkPayload<Generic> {
    fn from(message: Generic) -> Self {
        Self::InnerMessage(message)
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<DefaultNla>, DecodeError> {
    NlasIterator::new(bytes).map(|one| DefaultNla::parse(&one?)).collect()
}

fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value
}

/// The attributes nested in the first one of this kind.
fn nested(attributes: &[DefaultNla], kind: u16) -> Vec<DefaultNla> {
    let found = attributes.iter().find(|one| one.kind() & !NLA_F_NESTED == kind);
    found.and_then(|found| parse(&value(found)).ok()).unwrap_or_default()
}

fn nest(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}

/// The names of a set's bits, and whether each is set.
fn bits(features: &[DefaultNla], kind: u16) -> Vec<(String, bool)> {
    let set = nested(features, kind);
    let listed = set.iter().any(|one| one.kind() == BITSET_NO_MASK);
    let bits = nested(&set, BITSET_BITS);
    let bit = |one: &DefaultNla| {
        let parts = parse(&value(one)).ok()?;
        let name = value(parts.iter().find(|part| part.kind() == BIT_NAME)?);
        let name = String::from_utf8(name).ok()?.trim_end_matches('\0').to_owned();
        Some((name, listed || parts.iter().any(|part| part.kind() == BIT_VALUE)))
    };
    bits.iter().filter(|one| one.kind() & !NLA_F_NESTED == BITS_BIT).filter_map(bit).collect()
}

/// A connection to the kernel's ethtool family.
#[derive(Clone, Debug)]
pub(super) struct Features {
    handle: ConnectionHandle<Generic>,
    family: u16,
    _connection: Arc<Task>,
}

impl Features {
    /// Opens a connection in the calling thread's network namespace and runs it on the current
    /// tokio runtime. There is none on kernels without that family, which came with 5.6.
    pub(super) async fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) =
            rtnetlink::proto::new_connection(NETLINK_GENERIC).map_err(NetlinkError::Open)?;
        let connection = Arc::new(Task::spawn(connection));
        let mut features = Self { handle, family: CONTROL, _connection: connection };
        let attributes = vec![text(CONTROL_FAMILY_NAME, FAMILY)];
        let answer =
            features.request("find ethtool's family", CONTROL_GET_FAMILY, attributes).await?;
        let id = answer.iter().find(|one| one.kind() == CONTROL_FAMILY_ID).map(value);
        let id = id.and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
        features.family = id.ok_or(NetlinkError::Open(io::ErrorKind::Unsupported.into()))?;
        Ok(features)
    }

    /// The offloads of a link that are on or off, and those of them that can be changed.
    pub(super) async fn read(&self, link: &str) -> Result<(Offloads, Offloads), NetlinkError> {
        let header = nest(HEADER, &[text(HEADER_DEVICE_NAME, link)]);
        let answer = self.request("read offloads", FEATURES_GET, vec![header]).await?;
        let changeable = bits(&answer, FEATURES_CHANGEABLE);
        let active = bits(&answer, FEATURES_ACTIVE);
        let has = |bits: &[(String, bool)], offload| {
            bits.iter().any(|(name, set)| *set && parts(offload).contains(&name.as_str()))
        };
        let (mut found, mut free) = (Offloads::default(), Offloads::default());
        for offload in Offload::ALL {
            found = found.with(offload, has(&active, offload));
            if has(&changeable, offload) {
                free = free.with(offload, true);
            }
        }
        Ok((found, free))
    }

    /// Turns offloads of a link on or off, as far as its driver can.
    pub(super) async fn set(&self, link: &str, offloads: Offloads) -> Result<(), NetlinkError> {
        let asked = offloads.iter().flat_map(|(offload, on)| {
            parts(offload).iter().map(move |name| {
                let name = text(BIT_NAME, name);
                let on = on.then(|| DefaultNla::new(BIT_VALUE, Vec::new()));
                nest(BITS_BIT, &std::iter::once(name).chain(on).collect::<Vec<_>>())
            })
        });
        let bits = nest(BITSET_BITS, &asked.collect::<Vec<_>>());
        let flags = DefaultNla::new(HEADER_FLAGS, OMIT_REPLY.to_ne_bytes().to_vec());
        let header = nest(HEADER, &[text(HEADER_DEVICE_NAME, link), flags]);
        let attributes = vec![header, nest(FEATURES_WANTED, &[bits])];
        self.request("change offloads", FEATURES_SET, attributes).await?;
        Ok(())
    }

    async fn request(
        &self,
        operation: &'static str,
        command: u8,
        attributes: Vec<DefaultNla>,
    ) -> Result<Vec<DefaultNla>, NetlinkError> {
        let message = Generic { family: self.family, command, attributes };
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let closed = || NetlinkError::Closed { operation };
        let mut answers =
            self.handle.request(request, SocketAddr::new(0, 0)).map_err(|_| closed())?;
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => found = message.attributes,
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(NetlinkError::Refused { operation, source: error.to_io() });
                }
                NetlinkPayload::Overrun(_) => return Err(NetlinkError::Overrun { operation }),
                _ => {}
            }
        }
        Ok(found)
    }
}
