//! Which frames a port receives: classic BPF on the socket, before anything is copied.
//!
//! Frames to other stations, frames the host itself sends and frames with a VLAN tag (they belong
//! to a VLAN link on top) are never received.

use libc::sock_filter;

/// Which frames a port receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admit {
    /// GRE directly in IPv4 or IPv6: what a fabric port needs.
    Gre,
    /// IPv4, IPv6 and ARP, with every multicast group: what a front-end port needs to answer
    /// neighbour discovery.
    Ip,
}

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;

const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
const VLAN_TAG: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32;
/// The highest type of a frame to this host: host 0, broadcast 1, multicast 2.
const MULTICAST: u32 = 2;

const ETHER_TYPE_AT: u32 = 12;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const ARP: u32 = 0x0806;
const GRE: u32 = 47;

const fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

impl Admit {
    /// The program: returns how many bytes of the frame to keep.
    pub(super) fn program(self) -> Vec<sock_filter> {
        let mut program = vec![
            step(LOAD_WORD, PACKET_TYPE),
            branch(JUMP_GREATER, MULTICAST, 0, 1),
            step(RETURN, 0),
            // VLAN 0 carries a priority only.
            step(LOAD_WORD, VLAN_TAG),
            step(AND, 0x0fff),
            branch(JUMP_EQUAL, 0, 1, 0),
            step(RETURN, 0),
            step(LOAD_HALF, ETHER_TYPE_AT),
        ];
        match self {
            Self::Gre => program.extend([
                branch(JUMP_EQUAL, IPV4, 0, 2),
                step(LOAD_BYTE, 14 + 9),
                branch(JUMP_EQUAL, GRE, 3, 4),
                branch(JUMP_EQUAL, IPV6, 0, 3),
                step(LOAD_BYTE, 14 + 6),
                branch(JUMP_EQUAL, GRE, 0, 1),
            ]),
            Self::Ip => program.extend([
                branch(JUMP_EQUAL, IPV4, 2, 0),
                branch(JUMP_EQUAL, IPV6, 1, 0),
                branch(JUMP_EQUAL, ARP, 0, 1),
            ]),
        }
        program.extend([step(RETURN, u32::MAX), step(RETURN, 0)]);
        program
    }
}
