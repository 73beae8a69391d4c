//! What the other side of a tunnel needs, as the configuration of three programs.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use nvgate_deploy::plan::{
    ListenerPlan, RouteTarget, SitePlan, SubnetRole, TenantPlan, TunnelPlan,
};
use nvgate_model::Prefix;

use super::PeerFormat;

/// Bytes of a packet on the site's uplink, unless it knows better.
const UPLINK_MTU: u16 = 1500;
/// What WireGuard adds: outer IP and UDP, then 16 bytes of header and 16 of authentication.
const OVERHEAD_V4: u16 = 20 + 8 + 32;
const OVERHEAD_V6: u16 = 40 + 8 + 32;
/// Seconds between keepalives of a site that has to begin, since the gateway does not know where it
/// is: shorter than the UDP timeouts of NAT on the way.
const BEGINNING_KEEPALIVE_SECS: u16 = 25;
const PRIVATE_KEY: &str = "<private key of this site>";

/// The other side of a tunnel.
pub(super) struct Peer<'a> {
    tenant: &'a TenantPlan,
    site: &'a SitePlan,
    tunnel: &'a TunnelPlan,
    listener: &'a ListenerPlan,
    endpoint: SocketAddr,
    /// What is reached through the tunnel.
    allowed: Vec<Prefix>,
    mtu: u16,
    keepalive_secs: Option<u16>,
    show_secrets: bool,
}

impl<'a> Peer<'a> {
    /// The other side of `tunnel`, which reaches the gateway at `address`.
    pub(super) fn new(
        tenant: &'a TenantPlan,
        site: &'a SitePlan,
        tunnel: &'a TunnelPlan,
        listener: &'a ListenerPlan,
        address: IpAddr,
        show_secrets: bool,
    ) -> Self {
        let keepalive_secs = match (tunnel.keepalive_secs, tunnel.endpoint) {
            (Some(secs), _) => Some(secs.get()),
            (None, None) => Some(BEGINNING_KEEPALIVE_SECS),
            (None, Some(_)) => None,
        };
        let overhead = if address.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        Self {
            tenant,
            site,
            tunnel,
            listener,
            endpoint: SocketAddr::new(address, listener.port),
            allowed: networks(tenant, site),
            mtu: UPLINK_MTU - overhead,
            keepalive_secs,
            show_secrets,
        }
    }

    /// The configuration for a program.
    pub(super) fn text(&self, format: PeerFormat) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = match format {
            PeerFormat::WgQuick => self.write_wg_quick(&mut text),
            PeerFormat::Networkd => self.write_networkd(&mut text),
            PeerFormat::Routeros => self.write_routeros(&mut text),
        };
        text
    }

    fn write_title(&self, to: &mut String) -> fmt::Result {
        let Self { tenant, site, tunnel, .. } = self;
        writeln!(to, "# Tenant {}, site {}, tunnel {}.", tenant.name, site.name, tunnel.name)?;
        writeln!(to, "# The private key is the one whose public key is {}.", tunnel.peer)
    }

    /// The port that the gateway expects the site at.
    fn listen_port(&self) -> Option<u16> {
        self.tunnel.endpoint.map(|endpoint| endpoint.port())
    }

    /// The preshared key, if there is one and it may be shown; else where it is.
    fn preshared(&self) -> Option<Result<String, String>> {
        let key = self.tunnel.preshared.as_ref()?;
        if self.show_secrets {
            return Some(Ok(key.to_base64().to_string()));
        }
        Some(Err(format!(
            "# A preshared key is needed: it is the `preshared_key` of this tunnel in the file of \
             tenant {};\n# --show-secrets prints it here.",
            self.tenant.name
        )))
    }

    fn allowed(&self, separator: &str) -> String {
        self.allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
    }

    fn write_wg_quick(&self, to: &mut String) -> fmt::Result {
        self.write_title(to)?;
        writeln!(to, "[Interface]\nPrivateKey = {PRIVATE_KEY}")?;
        if let Some(port) = self.listen_port() {
            writeln!(to, "ListenPort = {port}")?;
        }
        writeln!(to, "MTU = {}\n", self.mtu)?;
        writeln!(to, "[Peer]\nPublicKey = {}", self.listener.key.public())?;
        match self.preshared() {
            Some(Ok(key)) => writeln!(to, "PresharedKey = {key}")?,
            Some(Err(comment)) => writeln!(to, "{comment}")?,
            None => {}
        }
        writeln!(to, "Endpoint = {}", self.endpoint)?;
        writeln!(to, "AllowedIPs = {}", self.allowed(", "))?;
        if let Some(secs) = self.keepalive_secs {
            writeln!(to, "PersistentKeepalive = {secs}")?;
        }
        Ok(())
    }

    fn write_networkd(&self, to: &mut String) -> fmt::Result {
        self.write_title(to)?;
        writeln!(
            to,
            "# /etc/systemd/network/50-nvgate.netdev, owner root:systemd-network, mode 0640"
        )?;
        writeln!(to, "[NetDev]\nName=nvgate\nKind=wireguard\nMTUBytes={}\n", self.mtu)?;
        writeln!(to, "[WireGuard]\nPrivateKey={PRIVATE_KEY}")?;
        if let Some(port) = self.listen_port() {
            writeln!(to, "ListenPort={port}")?;
        }
        if self.takes_everything() {
            writeln!(to, "# Add a route to {} that leads past the tunnel.", self.endpoint.ip())?;
        }
        writeln!(to, "RouteTable=main\n")?;
        writeln!(to, "[WireGuardPeer]\nPublicKey={}", self.listener.key.public())?;
        match self.preshared() {
            Some(Ok(key)) => writeln!(to, "PresharedKey={key}")?,
            Some(Err(comment)) => writeln!(to, "{comment}")?,
            None => {}
        }
        writeln!(to, "Endpoint={}\nAllowedIPs={}", self.endpoint, self.allowed(","))?;
        if let Some(secs) = self.keepalive_secs {
            writeln!(to, "PersistentKeepalive={secs}")?;
        }
        writeln!(to, "\n# /etc/systemd/network/50-nvgate.network")?;
        writeln!(to, "[Match]\nName=nvgate\n\n[Network]\nLinkLocalAddressing=no")
    }

    fn write_routeros(&self, to: &mut String) -> fmt::Result {
        self.write_title(to)?;
        write!(to, "/interface wireguard add name=nvgate mtu={}", self.mtu)?;
        if let Some(port) = self.listen_port() {
            write!(to, " listen-port={port}")?;
        }
        writeln!(to, " private-key=\"{PRIVATE_KEY}\"")?;
        let preshared = self.preshared();
        if let Some(Err(comment)) = &preshared {
            writeln!(to, "{comment}")?;
        }
        let public = self.listener.key.public();
        write!(to, "/interface wireguard peers add interface=nvgate public-key=\"{public}\"")?;
        if let Some(Ok(key)) = &preshared {
            write!(to, " preshared-key=\"{key}\"")?;
        }
        let (address, port) = (self.endpoint.ip(), self.endpoint.port());
        write!(to, " endpoint-address={address} endpoint-port={port}")?;
        write!(to, " allowed-address={}", self.allowed(","))?;
        if let Some(secs) = self.keepalive_secs {
            write!(to, " persistent-keepalive={secs}s")?;
        }
        writeln!(to)?;
        if self.takes_everything() {
            writeln!(to, "# Add a route to {address} that leads past the tunnel.")?;
        }
        for prefix in &self.allowed {
            let family = if prefix.is_ipv4() { "ip" } else { "ipv6" };
            writeln!(to, "/{family} route add dst-address={prefix} gateway=nvgate")?;
        }
        Ok(())
    }

    /// Whether packets to the gateway itself would be sent into the tunnel.
    fn takes_everything(&self) -> bool {
        self.allowed.iter().any(|prefix| prefix.contains(self.endpoint.ip()))
    }
}

/// The tenant's networks as the site sees them: its subnets, and what its routes lead to but the
/// site itself; over IPv4 everything, if the site may use the tenant's NAT.
fn networks(tenant: &TenantPlan, site: &SitePlan) -> Vec<Prefix> {
    let subnets = tenant.subnets.iter().filter(|subnet| subnet.role == SubnetRole::Virtual);
    let subnets = subnets.flat_map(|subnet| subnet.prefixes.iter().copied());
    let sites = tenant.vpn.as_ref().map_or(&[][..], |vpn| vpn.sites.as_slice());
    let leads_on = |target: RouteTarget| match target {
        RouteTarget::Via(_) => true,
        RouteTarget::Site(index) => {
            sites.get(usize::from(index)).is_some_and(|other| other.name != site.name)
        }
        RouteTarget::Blackhole => false,
    };
    let routes = tenant.routes.iter().filter(|route| leads_on(route.target));
    let routes = routes.map(|route| route.prefix).filter(|prefix| prefix.length() > 0);
    let mut networks: Vec<Prefix> =
        subnets.chain(routes).flat_map(|prefix| site.sees(prefix)).collect();
    if site.internet {
        networks.retain(|prefix| !prefix.is_ipv4());
        networks.push(Prefix::DEFAULT_V4);
    }
    networks.sort_unstable();
    networks.dedup();
    let all = networks.clone();
    networks.retain(|one| !all.iter().any(|other| other != one && other.covers(*one)));
    networks
}
