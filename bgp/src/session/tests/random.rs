//! Whatever happens in whatever order: never two established connections, never more than the
//! bounds waiting (both checked at every step of the network), and once the network is whole again
//! the session comes back and stands.

use std::time::Duration;

use proptest::prelude::*;

use super::network::Network;
use super::rig::{full_restart, mirrored, seconds};
use crate::config::tests::peer_config;
use crate::config::{GracefulRestart, HoldTime, Opening};
use crate::session::*;

#[derive(Clone, Copy, Debug)]
enum Happening {
    Run(u64),
    Cut(bool),
    DropConnections,
    Reboot(usize),
    Jump(u64),
    Read(usize, bool),
    Fill(usize),
    Stop(usize),
    Start(usize),
    BfdDown(usize),
    Refresh(usize),
    Segment(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let end = 0..2_usize;
    prop_oneof![
        6 => (0..20_000_u64).prop_map(Run),
        4 => (0..60_u64).prop_map(Run),
        2 => any::<bool>().prop_map(Cut),
        2 => Just(DropConnections),
        2 => end.clone().prop_map(Reboot),
        1 => (0..1000_u64).prop_map(Jump),
        2 => (end.clone(), any::<bool>()).prop_map(|(end, reads)| Read(end, reads)),
        2 => end.clone().prop_map(Fill),
        1 => end.clone().prop_map(Stop),
        2 => end.clone().prop_map(Start),
        1 => end.clone().prop_map(BfdDown),
        1 => end.prop_map(Refresh),
        1 => prop_oneof![Just(1_usize), Just(7), Just(1460)].prop_map(Segment),
    ]
}

fn happen(network: &mut Network, happening: Happening) {
    let now = network.now;
    match happening {
        Happening::Run(milliseconds) => network.run(Duration::from_millis(milliseconds)),
        Happening::Cut(is_cut) => network.is_cut = is_cut,
        Happening::DropConnections => network.drop_connections(),
        Happening::Reboot(end) => network.reboot(end),
        Happening::Jump(secs) => network.jump(seconds(secs)),
        Happening::Read(end, reads) => network.ends[end].reads = reads,
        Happening::Fill(end) => network.fill(end),
        Happening::Stop(end) => {
            let told = Notification::new(NotificationReason::AdministrativeReset, &[]);
            network.ends[end].session.stop(now, &told);
        }
        Happening::Start(end) => network.start(end),
        Happening::BfdDown(end) => network.ends[end].session.bfd_down(now),
        Happening::Refresh(end) => {
            let session = &mut network.ends[end].session;
            session.send_refresh(now, Family::Ipv4Unicast, RefreshKind::Request);
        }
        Happening::Segment(segment) => network.segment = segment,
    }
}

fn config() -> impl Strategy<Value = PeerConfig> {
    let hold = prop_oneof![Just(0_u16), Just(3), Just(9), Just(90)];
    let restart = prop_oneof![
        Just(GracefulRestart::Off),
        Just(GracefulRestart::Helper { notifications: false }),
        Just(full_restart(true)),
    ];
    (hold, restart).prop_map(|(hold, graceful_restart)| PeerConfig {
        hold_time: HoldTime::new(hold).unwrap(),
        graceful_restart,
        ..peer_config()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_session_always_comes_back_and_is_never_two(
        config in config(),
        passive in prop_oneof![2 => Just(None), 1 => (0..2_usize).prop_map(Some)],
        delays in [0..300_u64, 0..300_u64],
        seed: u64,
        happenings in prop::collection::vec(happening(), 0..40),
    ) {
        let mut configs = [config.clone(), mirrored(&config)];
        if let Some(end) = passive {
            configs[end].opening = Opening::Passive;
        }
        let [ours, theirs] = configs;
        let mut network = Network::of(ours, theirs, seed);
        network.delays = delays.map(Duration::from_millis);
        network.start_both();
        for happening in happenings {
            happen(&mut network, happening);
        }
        network.is_cut = false;
        for end in [0, 1] {
            network.ends[end].reads = true;
            network.start(end);
        }
        // What waited to be read may establish a connection that the other end forgot; without a
        // hold time that is found by the next bytes only.
        network.run(seconds(1));
        network.fill(0);
        network.fill(1);
        network.settle(seconds(900));
        network.run(seconds(300));
        network.settle(seconds(900));
        network.run(seconds(1));
        prop_assert!(network.are_established());
        prop_assert_eq!([network.connections(0), network.connections(1)], [1, 1]);
    }
}
