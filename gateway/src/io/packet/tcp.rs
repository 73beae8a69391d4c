//! Options of the kernel's TCP sockets that no crate has a safe call for: signatures (RFC 2385),
//! the least TTL that is taken (RFC 5082), and the headers of the SYN that made a connection.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use libc::c_int;
use nvgate_model::Prefix;
use zeroize::Zeroizing;

use super::sys;

/// `TCP_MD5SIG_EXT` and its flag for a prefix of peers, of linux/tcp.h.
const MD5_OF_PREFIX: c_int = 32;
const FLAG_PREFIX: u8 = 1;
/// The longest key (RFC 2385 section 4.5, linux/tcp.h).
const MAX_KEY: usize = 80;
/// `struct tcp_md5sig`: a socket address of 128 bytes, flags, prefix length, key length, link, key.
const ADDRESS: usize = 128;
const SIGNATURE: usize = ADDRESS + 8 + MAX_KEY;
/// Linux's `IPV6_MINHOPCOUNT`, `TCP_SAVE_SYN` and `TCP_SAVED_SYN`.
const LEAST_HOP_LIMIT: c_int = 73;
const SAVE_SYN: c_int = 27;
const SAVED_SYN: c_int = 28;
/// The longest IP and TCP headers of a SYN that are looked at.
const HEADERS: usize = 512;

/// Has every segment to and from the peers of a prefix signed with `key`, and drops those that are
/// not; none: unsigned ones. On a listener it holds for the connections that it takes.
///
/// # Errors
///
/// The kernel cannot sign, has no memory for another key, or the key has more than 80 bytes.
pub fn sign(fd: &impl AsFd, peers: Prefix, key: Option<&[u8]>) -> io::Result<()> {
    let request = signature(peers, key.unwrap_or(&[])).ok_or(io::ErrorKind::InvalidInput)?;
    sys::set(fd, libc::IPPROTO_TCP, MD5_OF_PREFIX, &*request)
}

fn signature(peers: Prefix, key: &[u8]) -> Option<Zeroizing<[u8; SIGNATURE]>> {
    let mut request = Zeroizing::new([0; SIGNATURE]);
    let (family, at) = match peers.network() {
        IpAddr::V4(_) => (libc::AF_INET, 4),
        IpAddr::V6(_) => (libc::AF_INET6, 8),
    };
    request[..2].copy_from_slice(&u16::try_from(family).ok()?.to_ne_bytes());
    match peers.network() {
        IpAddr::V4(v4) => request[at..at + 4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => request[at..at + 16].copy_from_slice(&v6.octets()),
    }
    request[ADDRESS] = FLAG_PREFIX;
    request[ADDRESS + 1] = peers.length();
    let length = u16::try_from(key.len()).ok()?.to_ne_bytes();
    request[ADDRESS + 2..ADDRESS + 4].copy_from_slice(&length);
    request[ADDRESS + 8..].get_mut(..key.len())?.copy_from_slice(key);
    Some(request)
}

/// Has packets with a lower TTL or hop limit dropped; 0 takes any. On a listener it holds for what
/// makes connections, and for these.
///
/// # Errors
///
/// The kernel cannot.
pub fn set_least_ttl(fd: &impl AsFd, ipv4: bool, least: u8) -> io::Result<()> {
    let least = c_int::from(least);
    match ipv4 {
        true => sys::set(fd, libc::IPPROTO_IP, libc::IP_MINTTL, &least),
        false => sys::set(fd, libc::IPPROTO_IPV6, LEAST_HOP_LIMIT, &least),
    }
}

/// Has a listener keep the headers of SYNs for [`syn_ttl`].
///
/// # Errors
///
/// The kernel cannot.
pub fn save_syns(fd: &impl AsFd) -> io::Result<()> {
    sys::set(fd, libc::IPPROTO_TCP, SAVE_SYN, &c_int::from(true))
}

/// The TTL or hop limit of the SYN that made a connection, once. None if it was not kept, as when a
/// SYN cookie stood for it.
#[must_use]
pub fn syn_ttl(fd: &impl AsFd) -> Option<u8> {
    let headers: [u8; HEADERS] = sys::get(fd, libc::IPPROTO_TCP, SAVED_SYN).ok()?;
    ttl_of(&headers)
}

fn ttl_of(headers: &[u8]) -> Option<u8> {
    match headers.first()? >> 4 {
        4 => headers.get(8).copied(),
        6 => headers.get(7).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_request_has_the_layout_of_the_kernels_struct() {
        let request = signature("203.0.113.0/24".parse().unwrap(), b"between us").unwrap();
        assert_eq!(request[..8], [2, 0, 0, 0, 203, 0, 113, 0]);
        assert_eq!(request[128..136], [1, 24, 10, 0, 0, 0, 0, 0]);
        assert_eq!(&request[136..146], b"between us");
        let request = signature("2001:db8::1/128".parse().unwrap(), b"x").unwrap();
        assert_eq!(request[..2], [10, 0]);
        assert_eq!(request[8..12], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!((request[23], request[129]), (1, 128));
        assert!(signature("192.0.2.1/32".parse().unwrap(), &[7; 81]).is_none());
    }

    #[test]
    fn the_ttl_of_a_syn_is_known_only_where_it_was_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        save_syns(&listener).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (taken, _) = listener.accept().unwrap();
        assert_eq!(syn_ttl(&taken), Some(client.ttl().unwrap() as u8));
        assert_eq!(syn_ttl(&taken), None, "it is told once");
        assert_eq!(syn_ttl(&client), None);
        assert_eq!((ttl_of(&[]), ttl_of(&[0; 40])), (None, None));
    }
}
