//! Guards against a real kernel, in network namespaces.

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use std::net::IpAddr;

use super::*;
use crate::host::lab::{Peer, address, connect, in_namespace, skip, veth};

/// A namespace with 192.0.2.1 and .2 on link `a`, and a peer with 192.0.2.9 at the other end.
async fn lab() -> (Netlink, u32, Peer) {
    let handle = connect();
    let (left, right) = veth(&handle, "a", "b").await;
    let peer = Peer::new();
    peer.adopt(&handle, right).await;
    address(&handle, left, "192.0.2.1", 24).await;
    address(&handle, left, "192.0.2.2", 24).await;
    peer.run(move || async move { address(&connect(), right, "192.0.2.9", 24).await });
    // A link carries traffic some time after it is up at both ends.
    assert!((0..9).any(|_| reaches(&peer, "192.0.2.1")));
    (Netlink::open().unwrap(), left, peer)
}

/// Whether one of ten datagrams from the peer reaches a socket on `to`.
fn reaches(peer: &Peer, to: &str) -> bool {
    let socket = UdpSocket::bind((to, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let target = socket.local_addr().unwrap();
    (0..10).any(|_| {
        peer.run(move || async move {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", target).unwrap();
        });
        socket.recv(&mut [0; 8]).is_ok()
    })
}

/// IP packets with an unknown protocol that this namespace's kernel has seen.
fn unknown_protocols() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:")).map(str::split_whitespace);
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let (_, value) = names.zip(values).find(|(name, _)| *name == "InUnknownProtos").unwrap();
    value.parse().unwrap()
}

/// Waits until this namespace's kernel has seen so many IP packets with an unknown protocol.
fn await_unknown_protocols(expected: u64) {
    let mut looks = (0..200).map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        unknown_protocols()
    });
    assert_eq!(looks.find(|&seen| seen >= expected), Some(expected));
}

/// Has the peer send an empty GRE packet to `to`.
fn send_gre(peer: &Peer, to: &str) {
    let target: SocketAddrV4 = format!("{to}:0").parse().unwrap();
    peer.run(move || async move {
        let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)
            .unwrap();
        let mut packet = [0_u8; 28];
        packet[0] = 0x45;
        packet[8] = 64;
        packet[9] = GRE;
        packet[12..16].copy_from_slice(&[192, 0, 2, 9]);
        packet[16..20].copy_from_slice(&target.ip().octets());
        packet[20..24].copy_from_slice(&[0x20, 0, 0x65, 0x58]);
        sendto(raw.as_raw_fd(), &packet, &SockaddrIn::from(target), MsgFlags::empty()).unwrap();
    });
}

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_front_end_guard_keeps_exactly_its_prefixes_from_the_kernel() {
    in_namespace(|| async {
        let (netlink, link, peer) = lab().await;
        assert!(reaches(&peer, "192.0.2.1"));
        let guard = Guard::front_end(netlink, link, &prefixes(&["192.0.2.1/32"])).unwrap();
        assert!(!guard.check().await.unwrap());
        guard.install().await.unwrap();
        assert!(guard.check().await.unwrap());
        assert!(!reaches(&peer, "192.0.2.1"));
        assert!(reaches(&peer, "192.0.2.2"));
        guard.remove().await.unwrap();
        assert!(!guard.check().await.unwrap());
        assert!(reaches(&peer, "192.0.2.1"));
    });
}

#[test]
fn a_fabric_guard_keeps_gre_to_the_provider_address_from_the_kernel() {
    in_namespace(|| async {
        let (netlink, link, peer) = lab().await;
        send_gre(&peer, "192.0.2.1");
        await_unknown_protocols(1);
        let provider = ProviderAddress("192.0.2.1".parse().unwrap());
        let guard = Guard::fabric(netlink, link, &[provider]).unwrap();
        guard.install().await.unwrap();
        send_gre(&peer, "192.0.2.1");
        send_gre(&peer, "192.0.2.2");
        await_unknown_protocols(2);
        assert!(reaches(&peer, "192.0.2.1"));
        assert_eq!(unknown_protocols(), 2, "what was sent before the datagram is there");
    });
}

#[test]
fn installing_again_replaces_the_filters_and_leaves_those_of_others() {
    in_namespace(|| async {
        let (netlink, link, peer) = lab().await;
        let hosts: Vec<Prefix> =
            (0..500_u32).map(|n| Prefix::host(IpAddr::V4((0x0a00_0000 + 2 * n).into()))).collect();
        let many = Guard::front_end(netlink.clone(), link, &hosts).unwrap();
        many.install().await.unwrap();
        assert!(many.filters.len() > 1);
        assert!(many.check().await.unwrap());
        many.install().await.unwrap();
        assert!(many.check().await.unwrap());

        let fabric = ProviderAddress("192.0.2.1".parse().unwrap());
        let other = Guard::fabric(netlink.clone(), link, &[fabric]).unwrap();
        other.install().await.unwrap();

        let few = Guard::front_end(netlink, link, &prefixes(&["192.0.2.1/32"])).unwrap();
        few.install().await.unwrap();
        assert!(few.check().await.unwrap());
        assert!(!many.check().await.unwrap());
        assert!(!reaches(&peer, "192.0.2.1"));
        few.remove().await.unwrap();
        assert!(other.check().await.unwrap());
    });
}

#[test]
fn removing_what_is_not_there_succeeds() {
    in_namespace(|| async {
        let (netlink, link, _peer) = lab().await;
        let guard = Guard::front_end(netlink.clone(), link, &prefixes(&["192.0.2.1/32"])).unwrap();
        guard.remove().await.unwrap();
        guard.install().await.unwrap();
        guard.remove().await.unwrap();
        guard.remove().await.unwrap();
        let gone = Guard::front_end(netlink, 4242, &prefixes(&["192.0.2.1/32"])).unwrap();
        gone.remove().await.unwrap();
        assert!(gone.install().await.is_err());
    });
}

#[test]
fn guards_work_in_a_user_namespace_that_owns_the_network() {
    const INSIDE: &str = "NVGATE_TEST_INSIDE_USER_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let outcome = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(std::env::current_exe().unwrap())
        .args(["host::", "--nocapture"])
        .env(INSIDE, "1")
        .output();
    match outcome {
        Err(error) => skip(&format!("cannot run unshare(1): {error}")),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            if errors.contains("unshare:") {
                return skip(&format!("no user namespaces here: {errors}"));
            }
            assert!(output.status.success(), "{text}\n{errors}");
            assert!(!text.contains("SKIPPED"), "{text}");
        }
    }
}
