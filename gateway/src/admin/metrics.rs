//! `/metrics`: the Prometheus text exposition format, version 0.0.4, written from a
//! [`Status`].
//!
//! Series are bounded by the plan: a fixed number a worker, port and tenant, plus one for every
//! drop reason that happened. BGP neighbours of a range come and go: they are counted by range. Values are read once, when the status is assembled.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use nvgate_deploy::host::links::LinkReport;

use super::bgp::{PeerReport, RouteCounts};
use super::health::HealthState;
use super::sites::TunnelReport;
use super::status::{Drops, NatStatus, PortStatus, Status, TenantStatus, WorkerStatus};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every metric of the gateway.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut exposition = Exposition::default();
    write_gateway(&mut exposition, status);
    write_ports(&mut exposition, &status.ports);
    write_links(&mut exposition, &status.links);
    write_workers(&mut exposition, &status.workers);
    write_tenants(&mut exposition, &status.tenants);
    write_nat(&mut exposition, &status.tenants);
    write_tunnels(&mut exposition, &status.tenants);
    write_bgp(&mut exposition, status);
    exposition.text
}

fn write_gateway(to: &mut Exposition, status: &Status) {
    to.gauge("nvgate_build_info", "The gateway's version; always 1.")
        .sample(&[("version", &status.version)], 1);
    to.gauge("nvgate_uptime_seconds", "Seconds since the process started.")
        .sample(&[], status.uptime_secs);
    if let Some(generation) = status.config.generation {
        to.gauge("nvgate_config_generation", "Generation of the configuration in effect.")
            .sample(&[], generation);
    }
    if let Some(loaded_at) = status.config.loaded_at {
        to.gauge(
            "nvgate_config_loaded_timestamp_seconds",
            "When the configuration in effect was applied, in seconds since 1970.",
        )
        .sample(&[], loaded_at);
    }
    to.gauge("nvgate_config_valid", "Whether the newest configuration is valid and in effect.")
        .sample(&[], u8::from(status.config.last_error.is_none()));
    let mut health =
        to.gauge("nvgate_component_health", "2 when a component is ok, 1 degraded, 0 failed.");
    for component in &status.components {
        let value = match component.status {
            HealthState::Ok => 2,
            HealthState::Degraded => 1,
            HealthState::Failed => 0,
        };
        health.sample(&[("component", &component.name)], value);
    }
    let mut drops = to.counter(
        "nvgate_drops_total",
        "Packets dropped before a tenant was known, by reason; a reason appears with its first packet.",
    );
    write_drops(&mut drops, &[], &status.drops);
}

fn write_ports(to: &mut Exposition, ports: &[PortStatus]) {
    type Field = fn(&PortStatus) -> u64;
    let gauges: [(&str, &str, Field); 2] = [
        ("nvgate_port_up", "Whether the link is up with a carrier.", |port| port.running.into()),
        ("nvgate_port_mtu_bytes", "The link's MTU, 0 without a link.", |port| {
            port.mtu.unwrap_or(0).into()
        }),
    ];
    let counters: [(&str, &str, Field); 5] = [
        ("nvgate_port_receive_packets_total", "Frames received.", |port| port.received.packets),
        ("nvgate_port_receive_bytes_total", "Bytes received.", |port| port.received.bytes),
        ("nvgate_port_transmit_packets_total", "Frames sent.", |port| port.transmitted.packets),
        ("nvgate_port_transmit_bytes_total", "Bytes sent.", |port| port.transmitted.bytes),
        (
            "nvgate_port_receive_kernel_drops_total",
            "Frames the kernel dropped because a receive ring was full.",
            |port| port.kernel_drops,
        ),
    ];
    let write = |mut family: Family<'_>, field: Field| {
        for port in ports {
            family.sample(&[("port", &port.role), ("link", &port.link)], field(port));
        }
    };
    for (name, help, field) in gauges {
        write(to.gauge(name, help), field);
    }
    for (name, help, field) in counters {
        write(to.counter(name, help), field);
    }
}

fn write_links(to: &mut Exposition, links: &[LinkReport]) {
    if links.is_empty() {
        return;
    }
    let mut problems = to.gauge(
        "nvgate_link_problems",
        "How many things are wrong with a link that gateway.yaml describes.",
    );
    for link in links {
        problems.sample(&[("link", &link.name)], link.problems.len());
    }
    let mut repairs = to.counter(
        "nvgate_link_repairs_total",
        "How often somebody else's change of the link was put right.",
    );
    for link in links {
        repairs.sample(&[("link", &link.name)], link.repairs);
    }
}

fn write_workers(to: &mut Exposition, workers: &[WorkerStatus]) {
    type Field = fn(&WorkerStatus) -> u64;
    let counters: [(&str, &str, Field); 12] = [
        ("nvgate_worker_batches_total", "Batches with a packet.", |worker| worker.batches),
        ("nvgate_worker_packets_total", "Packets in those batches.", |worker| worker.packets),
        ("nvgate_worker_transmitted_total", "Packets sent.", |worker| worker.transmitted),
        ("nvgate_worker_punted_total", "Packets answered by the gateway.", |worker| worker.punted),
        ("nvgate_worker_ignored_total", "Packets left to the kernel.", |worker| worker.ignored),
        ("nvgate_worker_dropped_total", "Packets dropped.", |worker| worker.dropped),
        ("nvgate_worker_handoffs_sent_total", "Packets handed to another worker.", |worker| {
            worker.handoffs_sent
        }),
        ("nvgate_worker_handoffs_received_total", "Packets taken from other workers.", |worker| {
            worker.handoffs_received
        }),
        ("nvgate_worker_injected_total", "Packets of the gateway's own endpoints.", |worker| {
            worker.injected
        }),
        ("nvgate_worker_flow_hits_total", "Packets of a compiled flow.", |worker| worker.flow_hits),
        ("nvgate_worker_flow_misses_total", "Packets that took the slow path.", |worker| {
            worker.flow_misses
        }),
        ("nvgate_worker_flow_evictions_total", "Flows pushed out of the table.", |worker| {
            worker.flow_evictions
        }),
    ];
    for (name, help, field) in counters {
        let mut family = to.counter(name, help);
        for worker in workers {
            family.sample(&[("worker", &worker.index)], field(worker));
        }
    }
    let mut heartbeats =
        to.gauge("nvgate_worker_heartbeat_age_seconds", "Seconds since the loop last turned.");
    for worker in workers {
        if let Some(age) = worker.heartbeat_age_ms {
            let seconds = format_args!("{}.{:03}", age / 1000, age % 1000);
            heartbeats.sample(&[("worker", &worker.index)], seconds);
        }
    }
}

fn write_tenants(to: &mut Exposition, tenants: &[TenantStatus]) {
    let mut packets = to.counter(
        "nvgate_tenant_packets_total",
        "Packets from (outbound) and to (inbound) the tenant's endpoints.",
    );
    for tenant in tenants {
        for (direction, traffic) in directions(tenant) {
            let labels: &[Label<'_>] = &[("tenant", &tenant.name), ("direction", &direction)];
            packets.sample(labels, traffic.packets);
        }
    }
    let mut bytes = to.counter("nvgate_tenant_bytes_total", "Bytes of those packets, inner IP.");
    for tenant in tenants {
        for (direction, traffic) in directions(tenant) {
            let labels: &[Label<'_>] = &[("tenant", &tenant.name), ("direction", &direction)];
            bytes.sample(labels, traffic.bytes);
        }
    }
    let mut answered = to.counter(
        "nvgate_tenant_answered_total",
        "Packets the gateway answered itself: ARP, ND, echo, ICMP errors.",
    );
    for tenant in tenants {
        answered.sample(&[("tenant", &tenant.name)], tenant.traffic.answered);
    }
    let mut drops = to.counter(
        "nvgate_tenant_drops_total",
        "Packets of the tenant dropped, by reason; a reason appears with its first packet.",
    );
    for tenant in tenants {
        write_drops(&mut drops, &[("tenant", &tenant.name)], &tenant.drops);
    }
    let mut refused = to.counter(
        "nvgate_tenant_endpoint_refusals_total",
        "Packets that the gateway's own endpoint in the domain refused, by reason; a reason appears with its first packet.",
    );
    for tenant in tenants {
        write_drops(&mut refused, &[("tenant", &tenant.name)], &tenant.refused);
    }
    type Field = fn(&TenantStatus) -> u64;
    let gauges: [(&str, &str, Field); 3] = [
        ("nvgate_tenant_endpoints", "Endpoints configured.", |tenant| tenant.endpoints),
        ("nvgate_tenant_subnets", "Virtual subnets, with the gateway subnet.", |tenant| {
            tenant.subnets.len() as u64
        }),
        ("nvgate_tenant_mtu_bytes", "Longest inner IP packet carried.", |tenant| tenant.mtu.into()),
    ];
    for (name, help, field) in gauges {
        let mut family = to.gauge(name, help);
        for tenant in tenants {
            family.sample(&[("tenant", &tenant.name)], field(tenant));
        }
    }
}

fn directions(tenant: &TenantStatus) -> [(&'static str, crate::counters::TrafficTotal); 2] {
    [("outbound", tenant.traffic.outbound), ("inbound", tenant.traffic.inbound)]
}

fn write_nat(to: &mut Exposition, tenants: &[TenantStatus]) {
    type Field = fn(&NatStatus) -> u64;
    let translated =
        || tenants.iter().filter_map(|tenant| Some((&tenant.name, tenant.nat.as_ref()?)));
    let gauges: [(&str, &str, Field); 5] = [
        ("nvgate_tenant_nat_sessions", "NAT sessions.", |nat| nat.sessions),
        ("nvgate_tenant_nat_sessions_limit", "NAT sessions allowed.", |nat| nat.session_limit),
        ("nvgate_tenant_nat_mappings", "Customer sockets with a public one.", |nat| nat.mappings),
        ("nvgate_tenant_nat_blocks_used", "256-port blocks in use.", |nat| nat.blocks.used),
        ("nvgate_tenant_nat_blocks", "256-port blocks in use and free.", |nat| nat.blocks.total),
    ];
    for (name, help, field) in gauges {
        let mut family = to.gauge(name, help);
        for (tenant, nat) in translated() {
            family.sample(&[("tenant", tenant)], field(nat));
        }
    }
    let mut used = to.gauge("nvgate_tenant_nat_ports_used", "Public ports in use.");
    for (tenant, nat) in translated() {
        for (protocol, ports) in nat.ports.by_protocol() {
            used.sample(&[("tenant", tenant), ("protocol", &protocol)], ports.used);
        }
    }
    let mut total = to.gauge("nvgate_tenant_nat_ports", "Public ports in use and free.");
    for (tenant, nat) in translated() {
        for (protocol, ports) in nat.ports.by_protocol() {
            total.sample(&[("tenant", tenant), ("protocol", &protocol)], ports.total);
        }
    }
}

fn write_tunnels(to: &mut Exposition, tenants: &[TenantStatus]) {
    type Field = fn(&TunnelReport) -> u64;
    let tunnels = || {
        tenants.iter().flat_map(|tenant| {
            tenant.sites.iter().flat_map(move |site| {
                site.tunnels.iter().map(move |tunnel| (&tenant.name, &site.name, tunnel))
            })
        })
    };
    // A gateway without tunnels has no metrics about them.
    if tunnels().next().is_none() {
        return;
    }
    let write = |mut family: Family<'_>, field: Field| {
        for (tenant, site, tunnel) in tunnels() {
            let labels: &[Label<'_>] =
                &[("tenant", tenant), ("site", site), ("tunnel", &tunnel.name)];
            family.sample(labels, field(tunnel));
        }
    };
    let gauges: [(&str, &str, Field); 3] = [
        ("nvgate_tunnel_up", "Whether packets may be sent into the tunnel.", |tunnel| {
            tunnel.up.into()
        }),
        ("nvgate_tunnel_mtu_bytes", "Longest inner packet carried, 0 while unknown.", |tunnel| {
            tunnel.mtu.into()
        }),
        ("nvgate_tunnel_previous_key", "Whether the site uses the gateway's old key.", |tunnel| {
            tunnel.previous_key.into()
        }),
    ];
    for (name, help, field) in gauges {
        write(to.gauge(name, help), field);
    }
    let mut ages = to.gauge("nvgate_tunnel_handshake_age_seconds", "Since the last handshake.");
    for (tenant, site, tunnel) in tunnels() {
        if let Some(age) = tunnel.handshake_age_secs {
            let labels: &[Label<'_>] =
                &[("tenant", tenant), ("site", site), ("tunnel", &tunnel.name)];
            ages.sample(labels, age);
        }
    }
    let counters: [(&str, &str, Field); 9] = [
        ("nvgate_tunnel_outbound_packets_total", "Inner packets to the site.", |tunnel| {
            tunnel.outbound.packets
        }),
        ("nvgate_tunnel_outbound_bytes_total", "Bytes of those packets.", |tunnel| {
            tunnel.outbound.bytes
        }),
        ("nvgate_tunnel_inbound_packets_total", "Inner packets from the site.", |tunnel| {
            tunnel.inbound.packets
        }),
        ("nvgate_tunnel_inbound_bytes_total", "Bytes of those packets.", |tunnel| {
            tunnel.inbound.bytes
        }),
        ("nvgate_tunnel_handshakes_tried_total", "Initiations sent.", |tunnel| {
            tunnel.handshakes.tried
        }),
        ("nvgate_tunnel_handshakes_completed_total", "Sessions made.", |tunnel| {
            tunnel.handshakes.completed
        }),
        ("nvgate_tunnel_handshakes_failed_total", "Handshakes given up.", |tunnel| {
            tunnel.handshakes.failed
        }),
        ("nvgate_tunnel_replays_total", "Datagrams received before.", |tunnel| tunnel.replays),
        ("nvgate_tunnel_authentication_failures_total", "Datagrams not decrypted.", |tunnel| {
            tunnel.authentication_failures
        }),
    ];
    for (name, help, field) in counters {
        write(to.counter(name, help), field);
    }
}

fn write_bgp(to: &mut Exposition, status: &Status) {
    let all = || status.tenants.iter().flat_map(|tenant| &tenant.bgp).chain(&status.bgp);
    // A gateway without peers has no metrics about them.
    if all().next().is_none() {
        return;
    }
    let peers = || all().filter(|peer| peer.range.is_none());
    type Field = fn(&PeerReport) -> u64;
    let write = |mut family: Family<'_>, field: Field| {
        for peer in peers() {
            family.sample(&[("tenant", &tenant(peer)), ("peer", &peer.name)], field(peer));
        }
    };
    let up: Field = |peer| peer.up.into();
    write(to.gauge("nvgate_bgp_peer_up", "Whether the session is established."), up);
    let counters: [(&str, &str, Field); 7] = [
        ("nvgate_bgp_peer_flaps_total", "Ends of an established session.", |peer| peer.flaps),
        ("nvgate_bgp_peer_defective_updates_total", "UPDATEs with an error.", |peer| {
            peer.errors.defective_updates
        }),
        (
            "nvgate_bgp_peer_treated_as_withdraw_total",
            "UPDATEs whose routes were withdrawn for an error.",
            |peer| peer.errors.treated_as_withdraw,
        ),
        (
            "nvgate_bgp_peer_foreign_updates_total",
            "UPDATEs of families that were not agreed on.",
            |peer| peer.errors.foreign_updates,
        ),
        (
            "nvgate_bgp_peer_refused_routes_total",
            "Routes not stored because a bound was reached.",
            |peer| peer.errors.refused_routes,
        ),
        (
            "nvgate_bgp_peer_unsendable_routes_total",
            "Routes that no message to the peer could carry.",
            |peer| peer.errors.unsendable_routes,
        ),
        ("nvgate_bgp_peer_refused_connections_total", "Connections not taken.", |peer| {
            peer.errors.refused_connections
        }),
    ];
    for (name, help, field) in counters {
        write(to.counter(name, help), field);
    }
    type Count = fn(RouteCounts) -> u64;
    let routes: [(&str, &str, Count); 3] = [
        ("nvgate_bgp_peer_received_routes", "Routes held of the peer.", |of| of.received),
        ("nvgate_bgp_peer_accepted_routes", "Those that import let in.", |of| of.accepted),
        (
            "nvgate_bgp_peer_announced_routes",
            "Routes for the peer and those treated alike.",
            |of| of.announced,
        ),
    ];
    for (name, help, count) in routes {
        let mut gauge = to.gauge(name, help);
        for peer in peers() {
            for (family, counts) in peer.by_family() {
                let labels: &[Label<'_>] =
                    &[("tenant", &tenant(peer)), ("peer", &peer.name), ("family", &family)];
                gauge.sample(labels, count(counts));
            }
        }
    }
    let mut messages =
        to.counter("nvgate_bgp_peer_messages_total", "Messages by direction and type.");
    for peer in peers() {
        let both = [("received", peer.messages_received), ("sent", peer.messages_sent)];
        for (direction, (kind, count)) in both
            .iter()
            .flat_map(|(direction, totals)| totals.by_type().map(|of_type| (direction, of_type)))
        {
            let labels: &[Label<'_>] = &[
                ("tenant", &tenant(peer)),
                ("peer", &peer.name),
                ("direction", direction),
                ("type", &kind),
            ];
            messages.sample(labels, count);
        }
    }
    write_ranges(to, all().filter(|peer| peer.up));
}

/// The tenant of a peer; a router of the front end has an empty label, which is none.
fn tenant(peer: &PeerReport) -> &str {
    peer.tenant.as_deref().unwrap_or_default()
}

fn write_ranges<'a>(to: &mut Exposition, up: impl Iterator<Item = &'a PeerReport>) {
    let mut ranges: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for peer in up {
        if let Some(range) = &peer.range {
            *ranges.entry((tenant(peer), range)).or_default() += 1;
        }
    }
    if ranges.is_empty() {
        return;
    }
    let mut gauge =
        to.gauge("nvgate_bgp_range_peers_up", "Established sessions with neighbours of a range.");
    for ((tenant, range), count) in ranges {
        gauge.sample(&[("tenant", &tenant), ("range", &range)], count);
    }
}

fn write_drops(family: &mut Family<'_>, labels: &[Label<'_>], drops: &Drops) {
    for (reason, packets) in &drops.0 {
        let reason: Label<'_> = ("reason", reason);
        let labels: Vec<_> = labels.iter().copied().chain([reason]).collect();
        family.sample(&labels, packets);
    }
}

/// A label's name and what its value displays as.
type Label<'a> = (&'static str, &'a dyn Display);

/// The text so far.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        escape(&mut self.text, help, Quotes::Plain);
        let _ = write!(self.text, "\n# TYPE {name} {kind}\n");
        Family { name, text: &mut self.text }
    }
}

/// The samples of one metric: the format wants them together, and the borrow sees to it.
struct Family<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Family<'_> {
    fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.text.push_str(self.name);
        let mut separator = '{';
        for (label, shown) in labels {
            self.text.push(separator);
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, &shown.to_string(), Quotes::Escaped);
            self.text.push('"');
            separator = ',';
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.text, " {value}");
    }
}

/// Whether a quote ends the text it stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// Help texts: it does not.
    Plain,
    /// Label values: it does.
    Escaped,
}

fn escape(to: &mut String, value: &str, quotes: Quotes) {
    for character in value.chars() {
        match character {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' if quotes == Quotes::Escaped => to.push_str("\\\""),
            other => to.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::admin::samples;

    #[test]
    fn the_metrics_of_a_busy_gateway_are_these() {
        assert_eq!(render(&samples::busy()), include_str!("metrics.golden.txt"));
    }

    #[test]
    fn labels_and_help_escape_what_would_end_them() {
        let mut exposition = Exposition::default();
        exposition
            .gauge("nvgate_x", "back\\slash, \"quotes\"\nand a line")
            .sample(&[("a", &"q\"b\\n\nz"), ("b", &"ü")], 1);
        let expected = "# HELP nvgate_x back\\\\slash, \"quotes\"\\nand a line\n\
                        # TYPE nvgate_x gauge\n\
                        nvgate_x{a=\"q\\\"b\\\\n\\nz\",b=\"ü\"} 1\n";
        assert_eq!(exposition.text, expected);
    }

    /// Reads back what [`escape`] wrote; `None` when the text would end early.
    fn unescape(text: &str) -> Option<String> {
        let mut characters = text.chars();
        let mut plain = String::new();
        while let Some(character) = characters.next() {
            match character {
                '\\' => plain.push(match characters.next()? {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    _ => return None,
                }),
                '"' | '\n' => return None,
                other => plain.push(other),
            }
        }
        Some(plain)
    }

    proptest! {
        #[test]
        fn any_label_value_reads_back_as_itself(value in any::<String>()) {
            let mut text = String::new();
            escape(&mut text, &value, Quotes::Escaped);
            prop_assert_eq!(unescape(&text), Some(value));
        }
    }

    #[test]
    fn every_metric_has_its_help_and_type_once_and_before_its_samples() {
        let text = render(&samples::busy());
        let mut seen = std::collections::BTreeSet::new();
        let mut current = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                current = rest.split(' ').next().unwrap();
                assert!(seen.insert(current), "{current} twice");
            } else if !line.starts_with("# TYPE ") {
                assert_eq!(line.split(['{', ' ']).next().unwrap(), current);
            }
        }
        assert!(seen.len() > 30);
    }
}
