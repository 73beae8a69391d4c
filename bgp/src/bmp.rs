//! Messages of the BGP Monitoring Protocol, version 3: what a collector is told of sessions and
//! routes (RFC 7854), of the best routes (RFC 9069), and of what is sent (RFC 8671).
//!
//! Encoders only: a collector answers nothing. Each appends to a buffer and says nothing of the
//! connection. A message is no longer than the BGP messages and texts in it: at most 65535 bytes
//! each.

use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::Asn;

use crate::as_path::AsnWidth;
use crate::family::Family;
use crate::wire::{MessageLimit, MessageType, frame};

mod statistic;

#[cfg(test)]
mod tests;

pub use statistic::Statistic;

/// A neighbour that is monitored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Which of several places with the same addresses it is in; 0 is the front end. A place other
    /// than 0 is a local instance (RFC 7854 section 4.2, peer type 2).
    pub distinguisher: u64,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub identifier: Ipv4Addr,
}

/// The best routes of a place: a peer that there is not (RFC 9069 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocRib<'a> {
    /// As of the peers of this place.
    pub distinguisher: u64,
    /// Our AS there.
    pub asn: Asn,
    /// Our BGP identifier there.
    pub identifier: Ipv4Addr,
    /// What the place is called: 1 to 255 bytes, cut behind them.
    pub name: &'a str,
}

/// Whose routes a message is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rib<'a> {
    /// Received from a peer.
    In(&'a Peer, Stage),
    /// Sent to a peer (RFC 8671).
    Out(&'a Peer, Stage),
    /// The best of a place.
    Local(&'a LocRib<'a>, Extent),
}

/// On which side of policy routes are seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Before it.
    PrePolicy,
    /// Behind it.
    PostPolicy,
}

/// How much of the best routes is told (RFC 9069 section 4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// All of them.
    Whole,
    /// Some of them.
    Filtered,
}

/// When something happened, since 1970. Zero where that is not known (RFC 7854 section 4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timestamp {
    /// Seconds.
    pub secs: u32,
    /// Microseconds, less than a million.
    pub micros: u32,
}

/// The connection of a session that came up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transport {
    /// Our address.
    pub local: IpAddr,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

/// Why a session went down (RFC 7854 section 4.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerDown<'a> {
    /// 1: we ended it with this NOTIFICATION, a whole message.
    LocalNotification(&'a [u8]),
    /// 2: we ended it without one, on this event of the state machine (RFC 4271 section 8.1); 0 if
    /// there is none.
    LocalEvent(u16),
    /// 3: the peer ended it with this NOTIFICATION, a whole message.
    RemoteNotification(&'a [u8]),
    /// 4: the connection ended.
    RemoteClosed,
    /// 5: nothing more will be told of it.
    NotMonitored,
}

/// Why nothing more follows (RFC 7854 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Termination {
    /// The operator ended it.
    Administrative = 0,
    /// No reason is given.
    Unspecified = 1,
    /// There is no memory for it.
    OutOfResources = 2,
    /// Another connection with the collector is kept.
    RedundantConnection = 3,
    /// The operator ended it, and it is not to be tried again.
    PermanentlyAdministrative = 4,
}

const VERSION: u8 = 3;
const ROUTE_MONITORING: u8 = 0;
const STATISTICS: u8 = 1;
const PEER_DOWN: u8 = 2;
const PEER_UP: u8 = 3;
const INITIATION: u8 = 4;
const TERMINATION: u8 = 5;

/// Information of initiation and termination (RFC 7854 sections 4.4 and 4.5).
const SYS_DESCR: u16 = 1;
const SYS_NAME: u16 = 2;
const REASON: u16 = 1;
/// VRF/Table Name (RFC 9069 section 5.2.1).
const TABLE_NAME: u16 = 3;
const TABLE_NAME_MAX: usize = 255;

const GLOBAL_INSTANCE: u8 = 0;
const LOCAL_INSTANCE: u8 = 2;
const LOC_RIB: u8 = 3;

/// Flags of the per-peer header: IPv6, behind policy, AS numbers of two octets, sent; and for the
/// best routes, filtered.
const V: u8 = 0x80;
const L: u8 = 0x40;
const A: u8 = 0x20;
const O: u8 = 0x10;
const F: u8 = 0x80;

/// Appends the first message of a connection: what we are and what we are called (section 4.3).
pub fn encode_initiation(description: &str, name: &str, out: &mut Vec<u8>) {
    message(INITIATION, out, |out| {
        put_information(SYS_DESCR, description.as_bytes(), out);
        put_information(SYS_NAME, name.as_bytes(), out);
    });
}

/// Appends the last message of a connection.
pub fn encode_termination(reason: Termination, out: &mut Vec<u8>) {
    message(TERMINATION, out, |out| {
        put_information(REASON, &(reason as u16).to_be_bytes(), out);
    });
}

/// Appends that a session is established, with the OPENs of both ends, whole messages (section
/// 4.10).
pub fn encode_peer_up(
    peer: &Peer,
    time: Timestamp,
    transport: &Transport,
    [sent, received]: [&[u8]; 2],
    out: &mut Vec<u8>,
) {
    message(PEER_UP, out, |out| {
        put_peer(peer, 0, time, out);
        put_address(transport.local, out);
        out.extend_from_slice(&transport.local_port.to_be_bytes());
        out.extend_from_slice(&transport.remote_port.to_be_bytes());
        out.extend_from_slice(sent);
        out.extend_from_slice(received);
    });
}

/// Appends that the best routes of a place are told from now on. `open` is an OPEN, a whole message,
/// with the capabilities that their UPDATEs make use of, that of four-octet AS numbers among them
/// (RFC 9069 section 5.2).
pub fn encode_loc_rib_up(table: &LocRib<'_>, time: Timestamp, open: &[u8], out: &mut Vec<u8>) {
    message(PEER_UP, out, |out| {
        put_loc_rib(table, 0, time, out);
        // There is neither an address nor a port.
        out.extend_from_slice(&[0; 16 + 2 + 2]);
        out.extend_from_slice(open);
        out.extend_from_slice(open);
        put_table_name(table, out);
    });
}

/// Appends that a session is no more.
pub fn encode_peer_down(peer: &Peer, time: Timestamp, reason: PeerDown<'_>, out: &mut Vec<u8>) {
    message(PEER_DOWN, out, |out| {
        put_peer(peer, 0, time, out);
        let event;
        let (code, data) = match reason {
            PeerDown::LocalNotification(notification) => (1, notification),
            PeerDown::LocalEvent(number) => {
                event = number.to_be_bytes();
                (2, &event[..])
            }
            PeerDown::RemoteNotification(notification) => (3, notification),
            PeerDown::RemoteClosed => (4, &[][..]),
            PeerDown::NotMonitored => (5, &[][..]),
        };
        out.push(code);
        out.extend_from_slice(data);
    });
}

/// Appends that the best routes of a place are no longer told (RFC 9069 section 5.3).
pub fn encode_loc_rib_down(table: &LocRib<'_>, time: Timestamp, out: &mut Vec<u8>) {
    /// Local system closed, TLV data follows.
    const LOCAL_WITH_INFORMATION: u8 = 6;
    message(PEER_DOWN, out, |out| {
        put_loc_rib(table, 0, time, out);
        out.push(LOCAL_WITH_INFORMATION);
        put_table_name(table, out);
    });
}

/// Appends each of the UPDATEs in `updates`, whole messages as they stand on a session with AS numbers of this
/// width, in a message of its own (section 4.6). Those of the best routes have four octets
/// (RFC 9069 section 5.4.1).
pub fn encode_route_monitoring(
    rib: Rib<'_>,
    time: Timestamp,
    width: AsnWidth,
    updates: &[u8],
    out: &mut Vec<u8>,
) {
    let mut rest = updates;
    while let Ok(Some(update)) = frame(rest, MessageLimit::Extended) {
        rest = &rest[update.bytes().len()..];
        if update.kind() != MessageType::Update {
            continue;
        }
        message(ROUTE_MONITORING, out, |out| {
            put_rib(rib, time, width, out);
            out.extend_from_slice(update.bytes());
        });
    }
}

/// Appends a report of at least one statistic; of none, nothing (section 4.8).
pub fn encode_statistics(
    peer: &Peer,
    time: Timestamp,
    statistics: &[Statistic],
    out: &mut Vec<u8>,
) {
    if statistics.is_empty() {
        return;
    }
    message(STATISTICS, out, |out| {
        put_peer(peer, 0, time, out);
        out.extend_from_slice(&(statistics.len() as u32).to_be_bytes());
        statistics.iter().for_each(|statistic| statistic.put(out));
    });
}

/// Appends a message: version, length, type, and its body.
fn message(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0, kind]);
    body(out);
    let length = (out.len() - start) as u32;
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}

fn put_rib(rib: Rib<'_>, time: Timestamp, width: AsnWidth, out: &mut Vec<u8>) {
    let stage = |stage| match stage {
        Stage::PrePolicy => 0,
        Stage::PostPolicy => L,
    };
    let two_octets = match width {
        AsnWidth::Two => A,
        AsnWidth::Four => 0,
    };
    match rib {
        Rib::In(peer, seen) => put_peer(peer, stage(seen) | two_octets, time, out),
        Rib::Out(peer, seen) => put_peer(peer, O | stage(seen) | two_octets, time, out),
        Rib::Local(table, Extent::Whole) => put_loc_rib(table, 0, time, out),
        Rib::Local(table, Extent::Filtered) => put_loc_rib(table, F, time, out),
    }
}

fn put_peer(peer: &Peer, flags: u8, time: Timestamp, out: &mut Vec<u8>) {
    let kind = if peer.distinguisher == 0 { GLOBAL_INSTANCE } else { LOCAL_INSTANCE };
    let version = if peer.address.is_ipv6() { V } else { 0 };
    out.extend_from_slice(&[kind, flags | version]);
    out.extend_from_slice(&peer.distinguisher.to_be_bytes());
    put_address(peer.address, out);
    put_identity(peer.asn, peer.identifier, time, out);
}

fn put_loc_rib(table: &LocRib<'_>, flags: u8, time: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&[LOC_RIB, flags]);
    out.extend_from_slice(&table.distinguisher.to_be_bytes());
    out.extend_from_slice(&[0; 16]);
    put_identity(table.asn, table.identifier, time, out);
}

fn put_identity(asn: Asn, identifier: Ipv4Addr, time: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&asn.0.to_be_bytes());
    out.extend_from_slice(&identifier.octets());
    out.extend_from_slice(&time.secs.to_be_bytes());
    out.extend_from_slice(&time.micros.to_be_bytes());
}

/// An address in sixteen octets; one of IPv4 in the last four, behind zeros (section 4.2).
fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(v4) => {
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

fn put_table_name(table: &LocRib<'_>, out: &mut Vec<u8>) {
    let end = table.name.floor_char_boundary(TABLE_NAME_MAX);
    put_information(TABLE_NAME, &table.name.as_bytes()[..end], out);
}

/// Appends type, length and value, of which there are 65535 bytes at most.
fn put_information(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&value[..usize::from(length)]);
}

/// AFI and SAFI.
fn put_family(family: Family, out: &mut Vec<u8>) {
    let afi_safi = family.afi_safi();
    out.extend_from_slice(&afi_safi.afi.to_be_bytes());
    out.push(afi_safi.safi);
}
