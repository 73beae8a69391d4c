//! What tenants and remotes send of their own accord.

use std::net::{IpAddr, Ipv4Addr};

use nvgate::io::PortRole;
use nvgate_deploy::plan::{EndpointPlan, TenantPlan};
use nvgate_model::MacAddress;

use super::{Flight, REMOTES, Scenario, speaks};
use crate::frames::{Body, Packet, flags};
use crate::model::{FromFrontEnd, FromOverlay, Shape};
use crate::oracle::EVERYONE;
use crate::rig_plan::{
    APP, REMOTE_V6, TRANSIT, WEB, customer, customer_v6, endpoint_mac, provider, public, public_v6,
    vsid,
};

impl Scenario {
    /// Somebody sends something new.
    pub(super) fn send(&mut self) {
        let at = self.random.below(self.candidates.len());
        let number = self.candidates[at].number;
        let plan = self.candidates[at].plan.clone();
        match self.random.below(20) {
            0..8 => self.send_outbound(number, &plan),
            8..10 => self.send_inside(number, &plan),
            10..13 => self.send_inbound(number, &plan),
            13 => self.send_hairpin(number, &plan),
            14 => self.send_fragments(number, &plan),
            15 => self.send_spoofed(number, &plan),
            16 => self.send_ipv6(number, &plan),
            17 => self.send_in_subnet(number, &plan),
            18 => self.send_super(number, &plan),
            _ => self.send_garbage(),
        }
    }

    fn customer_socket(&mut self, plan: &TenantPlan) -> (EndpointPlan, Ipv4Addr, u16) {
        let at = self.random.below(plan.endpoints.len());
        let endpoint = plan.endpoints[at].clone();
        let addresses = endpoint.customer_addresses.iter();
        let address = addresses.map(|one| one.ip()).find_map(|ip| match ip {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        let port = self.random.pick(&[1000, 1001, 53, 8080, 9003]);
        (endpoint, address.expect("endpoints of tests have IPv4 addresses"), port)
    }

    fn transport(
        &mut self,
        number: u8,
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        opening: usize,
    ) -> Packet {
        let length = 16 + 8 * self.random.below(4);
        let payload = self.mark(number, length);
        match self.random.below(5) {
            0 | 1 => Packet::udp(from, to, &payload),
            2 | 3 => {
                let data = [flags::ACK, flags::ACK | flags::FIN, flags::SYN | flags::ACK];
                let is_opening = self.random.chance(opening);
                let flags = if is_opening { flags::SYN } else { self.random.pick(&data) };
                let mut packet = Packet::tcp(from, to, flags, &payload);
                if let Body::Tcp { mss, .. } = &mut packet.body
                    && flags & flags::SYN != 0
                {
                    *mss = Some(self.random.pick(&[536, 1400, 1460, 9000]));
                }
                packet
            }
            _ => Packet::echo(from.0, to.0, from.1, &payload),
        }
    }

    fn remote(&mut self) -> (IpAddr, u16) {
        (self.random.pick(&REMOTES).into(), self.random.pick(&[443, 4000]))
    }

    fn send_outbound(&mut self, number: u8, plan: &TenantPlan) {
        let (endpoint, address, port) = self.customer_socket(plan);
        let remote = self.remote();
        let mut packet = self.transport(number, (address.into(), port), remote, 80);
        if self.random.chance(4) {
            packet.ttl = 1;
        }
        let mut from = speaks(&endpoint, packet);
        if self.random.chance(20) {
            // A host that routes for its VMs sends under the gateway subnet's VSID.
            from.vsid = vsid(number, TRANSIT);
            from.mac = MacAddress([2, 7, 7, 7, 7, number]);
        }
        self.enqueue(Flight::Overlay(from));
    }

    fn send_inside(&mut self, number: u8, plan: &TenantPlan) {
        let (endpoint, address, port) = self.customer_socket(plan);
        let subnet = self.random.pick(&[WEB, APP]);
        let last = self.random.pick(&[1, 10, 11, 20, 21, 22, 99, 255]);
        let v6 = endpoint.customer_addresses[1].ip();
        let (from, to) = if self.random.chance(50) {
            (address.into(), customer(subnet, last).into())
        } else {
            (v6, customer_v6(subnet, last).into())
        };
        let mut packet = self.transport(number, (from, port), (to, 7), 50);
        if last == 1 {
            let payload = self.mark(number, 32);
            packet = Packet::echo(from, to, port, &payload);
        } else if self.random.chance(5) {
            packet.ttl = 1;
        }
        self.enqueue(Flight::Overlay(speaks(&endpoint, packet)));
    }

    fn send_inbound(&mut self, number: u8, plan: &TenantPlan) {
        let remote = self.remote();
        let in_use: Vec<_> = self
            .model
            .nat
            .in_use()
            .filter(|one| one.0.0 == plan.routing_domain)
            .map(|(key, _, public)| (key.1, public))
            .collect();
        let address = public(number, self.random.below(3) as u8);
        let port = self.random.pick(&[80, 53, 22, 9003, 30_000]);
        let mut packet = self.transport(number, remote, (address.into(), port), 80);
        if !in_use.is_empty() && self.random.chance(60) {
            let (protocol, public) = self.random.pick(&in_use);
            let payload = self.mark(number, 24);
            let to = (IpAddr::V4(public.0), public.1);
            packet = match protocol {
                17 => Packet::udp(remote, to, &payload),
                6 => {
                    let flags = self.random.pick(&[flags::SYN, flags::ACK, flags::RST]);
                    Packet::tcp(remote, to, flags, &payload)
                }
                _ => Packet::echo(public.0, remote.0, public.1, &payload).reply(),
            };
        }
        if self.random.chance(4) {
            packet.ttl = 1;
        }
        self.enqueue(Flight::FrontEnd(FromFrontEnd { packet, shape: Shape::Whole }));
    }

    fn send_hairpin(&mut self, number: u8, plan: &TenantPlan) {
        let other = self.random.below(self.candidates.len()) as u8;
        let in_use: Vec<_> = self
            .model
            .nat
            .in_use()
            .filter(|one| one.0.0 == plan.routing_domain && one.0.1 != 1)
            .map(|(key, customer, _)| (key.1, customer))
            .collect();
        if in_use.is_empty() {
            return;
        }
        let (protocol, socket) = self.random.pick(&in_use);
        let speaker = plan.endpoints.iter().find(|endpoint| {
            endpoint.customer_addresses.iter().any(|own| own.ip() == IpAddr::V4(socket.0))
        });
        let Some(speaker) = speaker else { return };
        let payload = self.mark(EVERYONE, 24);
        let packet = if protocol == 17 {
            let port = self.random.pick(&[53, 22, 31_000]);
            Packet::udp(socket, (public(other, 0), port), &payload)
        } else {
            let to = self.random.pick(&[(public(other, 0), 80), (public(other, 1), 9003)]);
            Packet::tcp(socket, to, flags::SYN, &payload)
        };
        let _ = number;
        self.enqueue(Flight::Overlay(speaks(speaker, packet)));
    }

    fn send_fragments(&mut self, number: u8, plan: &TenantPlan) {
        let (endpoint, address, port) = self.customer_socket(plan);
        let remote = self.remote();
        let payload = self.mark(number, 400);
        let identification = self.random.next() as u16;
        let inbound: Vec<_> = self
            .model
            .nat
            .in_use()
            .filter(|one| one.0 == (plan.routing_domain, 17))
            .map(|(_, _, public)| public)
            .collect();
        let shapes = (0..3).map(|index| Shape::Fragment { size: 160, index });
        if !inbound.is_empty() && self.random.chance(40) {
            let to = self.random.pick(&inbound);
            let packet = Packet::udp(remote, to, &payload).fragmentable(identification);
            for shape in shapes {
                self.enqueue(Flight::FrontEnd(FromFrontEnd { packet: packet.clone(), shape }));
            }
            return;
        }
        let packet = Packet::udp((address, port), remote, &payload).fragmentable(identification);
        for shape in shapes {
            let from = speaks(&endpoint, packet.clone());
            self.enqueue(Flight::Overlay(FromOverlay { shape, ..from }));
        }
    }

    fn send_spoofed(&mut self, number: u8, plan: &TenantPlan) {
        let (endpoint, address, port) = self.customer_socket(plan);
        let remote = self.remote();
        let packet = self.transport(number, (address.into(), port), remote, 90);
        let mut from = speaks(&endpoint, packet);
        match self.random.below(5) {
            0 => from.provider = provider(29).into(),
            1 => from.mac = MacAddress([2, 6, 6, 6, 6, 6]),
            2 => from.mac = MacAddress::BROADCAST,
            3 => from.vsid = 0x7777,
            _ => from.packet.source = customer(WEB, 200).into(),
        }
        self.enqueue(Flight::Overlay(from));
    }

    fn send_ipv6(&mut self, number: u8, plan: &TenantPlan) {
        let payload = self.mark(number, 40);
        let inside = (public_v6(number, self.random.pick(&[10, 10, 77])), 1000);
        let remote = (REMOTE_V6, 443);
        if self.random.chance(50) {
            let packet = Packet::udp(remote, inside, &payload);
            self.enqueue(Flight::FrontEnd(FromFrontEnd { packet, shape: Shape::Whole }));
            return;
        }
        let source = self.random.pick(&[inside.0, public_v6(number, 10), customer_v6(WEB, 10)]);
        let packet = Packet::udp((source, 1000), remote, &payload);
        self.enqueue(Flight::Overlay(speaks(&plan.endpoints[0], packet)));
    }

    fn send_in_subnet(&mut self, number: u8, plan: &TenantPlan) {
        let payload = self.mark(number, 40);
        let to = self.random.pick(&[
            MacAddress::BROADCAST,
            endpoint_mac(WEB, 11),
            endpoint_mac(WEB, 98),
        ]);
        let packet = Packet::udp((customer(WEB, 10), 68), (Ipv4Addr::BROADCAST, 67), &payload);
        let from = speaks(&plan.endpoints[0], packet);
        self.enqueue(Flight::Overlay(FromOverlay { to, ..from }));
    }

    fn send_super(&mut self, number: u8, plan: &TenantPlan) {
        let (endpoint, address, port) = self.customer_socket(plan);
        let remote = self.remote();
        let length = 1200 + 8 * self.random.below(300);
        let payload = self.mark(number, length);
        let shape = Shape::Super { size: 1200 };
        let open: Vec<_> = self
            .model
            .nat
            .in_use()
            .filter(|one| one.0 == (plan.routing_domain, 6))
            .map(|(_, customer, public)| (customer, public))
            .collect();
        let flags = flags::ACK | flags::PSH;
        if !open.is_empty() && self.random.chance(70) {
            let (_, public) = self.random.pick(&open);
            let packet = Packet::tcp(remote, public, flags, &payload);
            self.enqueue(Flight::FrontEnd(FromFrontEnd { packet, shape }));
            return;
        }
        let packet = Packet::tcp((address, port), remote, flags, &payload);
        let from = speaks(&endpoint, packet);
        self.enqueue(Flight::Overlay(FromOverlay { shape, ..from }));
    }

    fn send_garbage(&mut self) {
        let length = self.random.below(200);
        let mut bytes: Vec<u8> = (0..length).map(|_| self.random.next() as u8).collect();
        let role = self.random.pick(&PortRole::ALL);
        // Never a multicast or own destination by chance.
        if let Some(first) = bytes.first_mut() {
            *first = 0x0a;
        }
        self.enqueue(Flight::Garbage(role, bytes));
    }
}
