//! Nanoseconds a packet on one core, whole way through a worker on simulated ports: outbound (NVGRE
//! in, NAT, front end out) and inbound (front end in, NAT back, NVGRE out), with 1, 64 Ki and 1 Mi
//! flows. Prints a table; every packet is checked to have been forwarded by a compiled entry.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant as Clock;

use arc_swap::ArcSwap;
use nvgate::counters::WorkerCounters;
use nvgate::dispatch::DispatcherConfig;
use nvgate::io::sim::{SimRx, SimTx};
use nvgate::io::{BATCH, Capabilities, PortRole, Rx, Tx};
use nvgate::snapshot::SnapshotBuilder;
use nvgate::worker::handoff::mesh;
use nvgate::worker::{Port, Worker, WorkerSetup};
use nvgate_deploy::host::{HostView, LinkFacts, Neighbour, Route};
use nvgate_deploy::plan::{
    DscpMode, EndpointPlan, FabricPlan, FrontEndPlan, GatewayPlan, NatPlan, NatTimeouts, Plan,
    SubnetPlan, SubnetRole, TenantLimits, TenantPlan,
};
use nvgate_model::{CustomerAddress, FrontEndAddress, Instant, MacAddress, ProviderAddress, Vsid};
use nvgate_packet::buf::Offload;
use nvgate_packet::checksum;

const GATEWAY_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const FABRIC_MAC: MacAddress = MacAddress([2, 0, 0, 0, 1, 0]);
const FRONT_MAC: MacAddress = MacAddress([2, 0, 0, 0, 2, 0]);
const HOST_MAC: MacAddress = MacAddress([2, 0, 0, 0, 1, 1]);
const ROUTER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 2, 1]);
const GATEWAY_PA: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HOST_PA: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const VSID: u32 = 5001;
/// Flows of one VM; more flows are more VMs, and more public addresses.
const FLOWS_A_VM: usize = 4096;
/// Payload bytes of a packet: 64 bytes of inner Ethernet frame with FCS.
const PAYLOAD: usize = 18;
/// Packets measured in one round.
const PACKETS: usize = 1 << 21;
const ROUNDS: usize = 5;

fn main() {
    println!("machine: {}, {} cores; one worker, one core", cpu(), cores());
    println!("packets: UDP, {PAYLOAD} bytes of payload, flows in random order; median of {ROUNDS}");
    println!("{:>9} {:>10} {:>8} {:>12} {:>8}", "flows", "direction", "ns", "packets/s", "spread");
    // `cargo bench --bench forward -- 65536` measures one number of flows.
    let chosen: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let all = vec![1, 1 << 16, 1 << 20];
    for flows in if chosen.is_empty() { all } else { chosen } {
        let mut bench = Bench::new(flows);
        for role in [PortRole::Fabric, PortRole::FrontEnd] {
            let mut nanos: Vec<f64> = (0..ROUNDS).map(|_| bench.round(role)).collect();
            nanos.sort_by(f64::total_cmp);
            let median = nanos[ROUNDS / 2];
            let direction = match role {
                PortRole::Fabric => "outbound",
                PortRole::FrontEnd => "inbound",
            };
            println!(
                "{flows:>9} {direction:>10} {median:>8.1} {:>12.0} {:>7.0}%",
                1e9 / median,
                (nanos[ROUNDS - 1] - nanos[0]) / median * 100.0
            );
        }
    }
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or("unknown", |text| text.trim_start_matches([' ', '\t', ':'])).to_owned()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

struct Bench {
    worker: Worker,
    counters: Arc<WorkerCounters>,
    now: Instant,
    flows: usize,
    /// Frames of each flow, both directions.
    frames: [Vec<Vec<u8>>; 2],
    order: u64,
}

impl Bench {
    fn new(flows: usize) -> Self {
        let vms = flows.div_ceil(FLOWS_A_VM);
        let plan = plan(vms, flows);
        let mut builder = SnapshotBuilder::new(1, 1);
        let snapshot = builder.build(&plan, &host()).expect("the bench's plan holds");
        let counters = Arc::new(WorkerCounters::default());
        let (outbox, inbox) = mesh(1).pop().expect("a mesh of one has one end");
        let capabilities = Capabilities { checksum: true, gso: true };
        let port = || Port {
            rx: Rx::Sim(SimRx::new(BATCH)),
            tx: Tx::Sim(SimTx::new(2 * BATCH, capabilities)),
        };
        let worker = Worker::new(WorkerSetup {
            dispatcher: DispatcherConfig {
                worker: 0,
                workers: 1,
                flow_entries: (flows * 4).max(1024),
                max_sessions: flows + 1,
                seed: 7,
                counters: Arc::clone(&counters),
            },
            published: Arc::new(ArcSwap::from_pointee(snapshot)),
            fabric: port(),
            front_end: port(),
            outbox,
            inbox,
            endpoints: None,
        });
        let now = Instant(1_000_000_000);
        let mut bench =
            Self { worker, counters, now, flows, frames: [Vec::new(), Vec::new()], order: 1 };
        bench.open();
        bench
    }

    /// Opens every flow, and keeps its frame outbound and the reply to what came out.
    fn open(&mut self) {
        // Announcements of leased addresses come first.
        for _ in 0..64 {
            self.worker.turn(self.now);
            self.clear();
        }
        for flow in 0..self.flows {
            let frame = outbound_frame(flow);
            let sent = self.exchange(PortRole::Fabric, &frame);
            let reply = reply_to(&sent);
            self.exchange(PortRole::FrontEnd, &reply);
            self.frames[PortRole::Fabric.index()].push(frame);
            self.frames[PortRole::FrontEnd.index()].push(reply);
        }
    }

    fn exchange(&mut self, role: PortRole, frame: &[u8]) -> Vec<u8> {
        inject(&mut self.worker, role, frame);
        self.worker.turn(self.now);
        let out = match role {
            PortRole::Fabric => PortRole::FrontEnd,
            PortRole::FrontEnd => PortRole::Fabric,
        };
        let Tx::Sim(tx) = &mut self.worker.port(out).tx else {
            unreachable!("ports are simulated")
        };
        tx.take(|frame, _| frame.to_vec()).expect("the flow's packet is forwarded")
    }

    fn clear(&mut self) {
        for role in PortRole::ALL {
            if let Tx::Sim(tx) = &mut self.worker.port(role).tx {
                tx.clear();
            }
        }
    }

    /// Nanoseconds a packet: the worker's turns alone, without making frames.
    fn round(&mut self, role: PortRole) -> f64 {
        let hits = self.counters.flow_hits.read();
        let mut nanos = 0;
        for _ in 0..PACKETS / BATCH {
            for _ in 0..BATCH {
                self.order ^= self.order << 13;
                self.order ^= self.order >> 7;
                self.order ^= self.order << 17;
                let flow = (self.order >> 20) as usize % self.flows;
                inject(&mut self.worker, role, &self.frames[role.index()][flow]);
            }
            let start = Clock::now();
            self.worker.turn(self.now);
            nanos += start.elapsed().as_nanos();
            self.clear();
        }
        let forwarded = (self.counters.flow_hits.read() - hits) as usize;
        assert!(forwarded * 1000 >= PACKETS * 999, "{forwarded} of {PACKETS} packets hit");
        nanos as f64 / PACKETS as f64
    }
}

fn inject(worker: &mut Worker, role: PortRole, frame: &[u8]) {
    let Rx::Sim(rx) = &mut worker.port(role).rx else { unreachable!("ports are simulated") };
    assert!(rx.inject(frame, Offload::default()), "the queue holds a batch");
}

fn vm(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 10).to_bits() + index as u32)
}

fn vm_mac(index: usize) -> MacAddress {
    let [_, _, c, d] = (index as u32).to_be_bytes();
    MacAddress([2, 1, 0, 0, c, d])
}

fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Vec<u8> {
    let length = 28 + PAYLOAD;
    let mut packet = vec![0x45, 0, 0, length as u8, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet.extend(source.0.octets());
    packet.extend(destination.0.octets());
    let header_sum = checksum::finish(checksum::sum(&packet));
    packet[10..12].copy_from_slice(&header_sum.to_be_bytes());
    packet.extend(source.1.to_be_bytes());
    packet.extend(destination.1.to_be_bytes());
    packet.extend([0, (8 + PAYLOAD) as u8, 0, 0]);
    packet.extend([0x5a; PAYLOAD]);
    let pseudo = checksum::pseudo_v4(source.0, destination.0, 17, 8 + PAYLOAD);
    let sum = checksum::finish(checksum::add(pseudo, checksum::sum(&packet[20..])));
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn ethernet(destination: MacAddress, source: MacAddress, packet: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, &[0x08, 0x00], packet].concat()
}

fn outbound_frame(flow: usize) -> Vec<u8> {
    let (index, port) = (flow / FLOWS_A_VM, flow % FLOWS_A_VM);
    let packet = udp((vm(index), 10_000 + port as u16), (SERVER, 53));
    let inner = ethernet(GATEWAY_MAC, vm_mac(index), &packet);
    let mut outer = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 47, 0, 0];
    outer[2..4].copy_from_slice(&((28 + inner.len()) as u16).to_be_bytes());
    outer.extend(HOST_PA.octets());
    outer.extend(GATEWAY_PA.octets());
    let header_sum = checksum::finish(checksum::sum(&outer));
    outer[10..12].copy_from_slice(&header_sum.to_be_bytes());
    outer.extend([0x20, 0, 0x65, 0x58]);
    outer.extend((VSID << 8 | (flow as u32 & 0xff)).to_be_bytes());
    outer.extend(inner);
    ethernet(FABRIC_MAC, HOST_MAC, &outer)
}

/// The server's answer to a frame that left by the front end.
fn reply_to(frame: &[u8]) -> Vec<u8> {
    let public = Ipv4Addr::new(frame[26], frame[27], frame[28], frame[29]);
    let port = u16::from_be_bytes([frame[34], frame[35]]);
    ethernet(FRONT_MAC, ROUTER_MAC, &udp((SERVER, 53), (public, port)))
}

fn plan(vms: usize, flows: usize) -> Plan {
    let vsid = Vsid::new(VSID).expect("5001 is a legal VSID");
    let endpoints = (0..vms).map(|index| EndpointPlan {
        customer_addresses: vec![CustomerAddress(vm(index).into())],
        mac: vm_mac(index),
        vsid,
        provider_addresses: vec![ProviderAddress(HOST_PA.into())],
    });
    // Half of each address's ports, so that lending one stays quick.
    let addresses = (0..=flows as u32 / 32_000)
        .map(|index| FrontEndAddress(Ipv4Addr::from_bits(0xcb00_7100 + index).into()));
    Plan {
        gateway: GatewayPlan {
            workers: std::num::NonZeroUsize::MIN,
            fabric: FabricPlan {
                link: "fabric".to_owned(),
                provider_addresses: vec![ProviderAddress(GATEWAY_PA.into())],
                tenant_mtu: 1280,
                dscp: DscpMode::Uniform,
                constant_flow: Vec::new(),
            },
            front_end: FrontEndPlan {
                link: "front".to_owned(),
                pools: Vec::new(),
                shared_addresses: Vec::new(),
                bgp: None,
            },
            links: None,
            admin_listen: ([127, 0, 0, 1], 9470).into(),
            bmp: None,
            state_directory: "/nonexistent".into(),
            gateway_mac: GATEWAY_MAC,
            flow_entries: 1024,
        },
        tenants: vec![TenantPlan {
            name: "bench".parse().expect("`bench` is a name"),
            routing_domain: "6c0f2b0e-8a2f-4e3c-9b55-0a8a4f0e7d11".parse().expect("a GUID"),
            subnets: vec![SubnetPlan {
                name: "web".to_owned(),
                vsid,
                prefixes: vec!["10.0.0.0/16".parse().expect("a prefix")],
                role: SubnetRole::Virtual,
            }],
            endpoints: endpoints.collect(),
            routes: Vec::new(),
            nat: Some(NatPlan {
                addresses: addresses.collect(),
                inbound: Vec::new(),
                reserved_udp: Vec::new(),
                timeouts: NatTimeouts::default(),
            }),
            vpn: None,
            bgp: None,
            front_end_prefixes: Vec::new(),
            limits: TenantLimits {
                sessions: u32::MAX,
                sessions_per_customer: u32::MAX,
                punts_per_sec: 1000,
                replications_per_sec: 1000,
            },
        }],
    }
}

fn host() -> HostView {
    let link =
        |index, mac| LinkFacts { index, mac, mtu: 1500, running: true, addresses: Vec::new() };
    let route = |prefix: &str, link, gateway: Option<Ipv4Addr>| Route {
        prefix: prefix.parse().expect("a prefix"),
        metric: 0,
        link,
        gateway: gateway.map(Into::into),
        mtu: None,
    };
    let router = Ipv4Addr::new(198, 51, 100, 1);
    HostView {
        links: [
            ("fabric".to_owned(), link(1, FABRIC_MAC)),
            ("front".to_owned(), link(2, FRONT_MAC)),
        ]
        .into(),
        routes: vec![route("192.0.2.0/24", 1, None), route("0.0.0.0/0", 2, Some(router))],
        neighbours: [
            ((1, HOST_PA.into()), Neighbour { mac: HOST_MAC, permanent: false }),
            ((2, router.into()), Neighbour { mac: ROUTER_MAC, permanent: false }),
        ]
        .into(),
        ..HostView::default()
    }
}
