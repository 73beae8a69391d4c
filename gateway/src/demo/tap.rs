//! The near end of a veth, as the wire from a machine: whole frames by a packet socket, with the
//! checksums that the kernel leaves to a link completed. The demo's own endpoints stand here.

use std::io::{self, Read};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::libc::ETH_P_ALL;
use nix::sys::socket::{SockaddrStorage, bind};
use nvgate_model::MacAddress;
use socket2::{Domain, Protocol, Socket, Type};

use super::lab::probe::ones_complement_sum;

/// Socket buffers, so that a burst at full speed waits and is not lost.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// A packet socket that sees and sends whole frames on `link`.
pub fn open(link: &str) -> io::Result<Socket> {
    let every_protocol = i32::from((ETH_P_ALL as u16).to_be());
    let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(every_protocol)))?;
    let address = link_address(link)?;
    bind(socket.as_raw_fd(), &address)?;
    prepare(&socket)?;
    // Until it was bound, the socket saw every link of the namespace.
    let mut scratch = [0; 1];
    while socket.read(&mut scratch).is_ok() {}
    Ok(socket)
}

/// The packet-socket address of a link of this thread's namespace.
fn link_address(link: &str) -> io::Result<SockaddrStorage> {
    getifaddrs()?
        .filter(|interface| interface.interface_name == link)
        .filter_map(|interface| interface.address)
        .find(|address| address.as_link_addr().is_some())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {link}")))
}

/// Makes a socket of an endpoint never wait, and hold a burst.
pub fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)
}

/// The destination and source of a frame, if it is that long.
pub fn macs(frame: &[u8]) -> Option<(MacAddress, MacAddress)> {
    let (destination, rest) = frame.split_first_chunk::<6>()?;
    let (source, _) = rest.split_first_chunk::<6>()?;
    Some((MacAddress(*destination), MacAddress(*source)))
}

/// Computes the TCP or UDP checksum of a frame, which the sender's kernel may have left to the
/// link. Fragments are left alone: the kernel never leaves theirs partial.
pub fn complete_checksum(frame: &mut [u8]) {
    let Some((ethernet, ip)) = frame.split_at_mut_checked(14) else { return };
    let (protocol, addresses, start, end) = match (&ethernet[12..], ip.len()) {
        ([0x08, 0x00], 20..) => {
            let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
            if fragment {
                return;
            }
            let end = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            (ip[9], 12..20, usize::from(ip[0] & 0xf) * 4, end)
        }
        ([0x86, 0xdd], 40..) => {
            (ip[6], 8..40, 40, 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])))
        }
        _ => return,
    };
    let at = match protocol {
        6 => 16,
        17 => 6,
        _ => return,
    };
    let pseudo = u32::from(ones_complement_sum(u32::from(protocol), &ip[addresses]));
    let Some(segment) = ip.get_mut(start..end).filter(|segment| segment.len() >= at + 2) else {
        return;
    };
    if protocol == 17 && segment[at..at + 2] == [0, 0] {
        return;
    }
    segment[at..at + 2].fill(0);
    let sum = ones_complement_sum(pseudo + segment.len() as u32, segment);
    let checksum = if sum == 0xffff { 0xffff } else { !sum };
    segment[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, IPv4 10.0.0.1 to 10.0.0.2 and a UDP header with the checksum `checksum`.
    fn udp_frame(flags: u16, checksum: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 32, 0, 0]);
        frame.extend(flags.to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 7, 0, 7, 0, 12]);
        frame.extend(checksum.to_be_bytes());
        frame.extend(*b"ping");
        frame
    }

    fn checksum_of(frame: &[u8]) -> u16 {
        u16::from_be_bytes([frame[40], frame[41]])
    }

    #[test]
    fn a_partial_checksum_is_completed_and_sums_to_zero() {
        let mut frame = udp_frame(0, 0x1420);
        complete_checksum(&mut frame);
        let pseudo = ones_complement_sum(17 + 12, &frame[26..34]);
        assert_eq!(ones_complement_sum(u32::from(pseudo), &frame[34..]), 0xffff);
        let complete = frame.clone();
        complete_checksum(&mut frame);
        assert_eq!(frame, complete);
    }

    #[test]
    fn fragments_and_absent_checksums_are_left_alone() {
        for (flags, checksum) in [(0x2000, 0x1420), (0x0001, 0x1420), (0, 0)] {
            let mut frame = udp_frame(flags, checksum);
            complete_checksum(&mut frame);
            assert_eq!(checksum_of(&frame), checksum);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_frame_returns(
            mut frame in proptest::collection::vec(proptest::num::u8::ANY, 0..128),
            kind in 0_u8..3,
        ) {
            if let Some(ether_type) = frame.get_mut(12..14) {
                ether_type.copy_from_slice(&[[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06]][usize::from(kind)]);
            }
            complete_checksum(&mut frame);
            let _ = macs(&frame);
        }
    }
}
