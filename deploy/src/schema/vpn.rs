//! Site-to-site VPN of a tenant as records: the gateway's listeners, and sites with their
//! translations and tunnels. Secrets stand in the file or in a file of their own; neither form is
//! ever repeated in a message.

use nvgate_model::{CustomerAddress, Prefix};
use nvgate_vpn::{PresharedKey, PrivateKey, PublicKey};

use super::decode::{List, record};
use super::scalar::{Name, Number, PublicAddress, Switch};
use super::secret::{KeyFile, SecretKey, TunnelEndpoint};

/// Listeners of one tenant.
pub(crate) const MAX_LISTENERS: usize = 16;
/// Sites of one tenant.
pub(crate) const MAX_SITES: usize = 256;
/// Translations of one site.
pub(crate) const MAX_TRANSLATIONS: usize = 64;
/// Tunnels of one site.
pub(crate) const MAX_TUNNELS: usize = 8;
/// Inner prefixes of one tunnel.
pub(crate) const MAX_ALLOWED: usize = 256;

record! {
    /// Site-to-site VPN (WireGuard) between the tenant's network and its premises.
    Vpn, "`vpn`" {
        /// The gateway's side: where sites reach it.
        required listen: List<Listener, 1, MAX_LISTENERS>,
        /// The tenant's premises. What leads to them is a route `via` the site's name.
        required sites: List<Site, 1, MAX_SITES>,
    }
}

record! {
    /// An address and UDP port of the front end at which the gateway answers WireGuard.
    Listener, "a listener" {
        /// Unique in the tenant; generated keys are remembered under it. Default: main.
        optional name: Name,
        /// One of the tenant's NAT addresses, or which one (1 is the first), or one of the gateway's
        /// `shared_addresses`. Default: 1.
        optional address: PublicAddress,
        /// The UDP port, 1 to 65535, that nobody else has on the address. Default: 51820.
        optional port: Number<1, 65_535>,
        /// The gateway's private key, in base64. Default: generated once and kept in the state
        /// directory.
        optional private_key: SecretKey<PrivateKey>,
        /// Instead of `private_key`: a file that holds it and only its owner may read (chmod 600).
        optional private_key_file: KeyFile<PrivateKey>,
        /// The private key before this one; peers that still use it are answered.
        optional previous_private_key: SecretKey<PrivateKey>,
        /// Instead of `previous_private_key`: a file that holds it.
        optional previous_private_key_file: KeyFile<PrivateKey>,
    }
}

impl Listener {
    /// Its name: `main`, if it is given none.
    pub(crate) fn name(&self) -> &str {
        self.name.as_ref().map_or("main", |name| name.value.0.as_str())
    }

    /// Whether the gateway makes its private key itself.
    pub(crate) const fn is_generated(&self) -> bool {
        self.private_key.is_none() && self.private_key_file.is_none()
    }
}

record! {
    /// A site: one of the tenant's premises.
    Site, "a site" {
        /// Unique in the tenant; routes lead to it by this name.
        required name: Name,
        /// `true`: the site may use the tenant's NAT towards the front end. Default: false.
        optional internet: Switch,
        /// 1:1 translation of prefixes, where addresses on both sides collide.
        optional translate: List<Translation, 0, MAX_TRANSLATIONS>,
        /// The ways to it. Of those that are up, the lowest metric wins; equal ones share by flow.
        required tunnels: List<Tunnel, 1, MAX_TUNNELS>,
    }
}

record! {
    /// A 1:1 translation of prefixes: either `local` or `remote`, and what the other side sees.
    Translation, "a translation" {
        /// A prefix of the tenant's network, which the site sees as `seen_as`.
        optional local: Prefix,
        /// A prefix of the site, which the tenant's network sees as `seen_as`.
        optional remote: Prefix,
        /// What the other side sees it as: a prefix of the same length.
        required seen_as: Prefix,
    }
}

record! {
    /// A WireGuard tunnel to a site.
    Tunnel, "a tunnel" {
        /// Unique in the site.
        required name: Name,
        /// The listener it ends at. Default: the only one.
        optional listen: Name,
        /// The site's public key, in base64; once on each listener.
        required public_key: PublicKey,
        /// A secret that both sides have, in base64. Default: none.
        optional preshared_key: SecretKey<PresharedKey>,
        /// Instead of `preshared_key`: a file that holds it and only its owner may read (chmod 600).
        optional preshared_key_file: KeyFile<PresharedKey>,
        /// Where the site is, as an address and port; host names are not resolved. Default: learnt
        /// when the site begins.
        optional endpoint: TunnelEndpoint,
        /// Inner prefixes accepted from and sent to this tunnel, as the site has them.
        required allowed: List<Prefix, 1, MAX_ALLOWED>,
        /// Seconds of silence after which a keepalive is sent, 1 to 65535. Default: none.
        optional keepalive_secs: Number<1, 65_535>,
        /// The lower one wins among the site's tunnels, 0 to 65535. Default: 100.
        optional metric: Number<0, 65_535>,
        /// What may pass a second. Default: unlimited.
        optional bandwidth: TunnelBandwidth,
        /// Watches whether the site answers. Default: none.
        optional probe: Probe,
    }
}

record! {
    /// What may pass a tunnel a second, in kilobits of inner packets.
    TunnelBandwidth, "`bandwidth`" {
        /// From the site, 1 to 1000000000. Default: unlimited.
        optional inbound_kbps: Number<1, 1_000_000_000>,
        /// To the site, 1 to 1000000000. Default: unlimited.
        optional outbound_kbps: Number<1, 1_000_000_000>,
    }
}

record! {
    /// Echo requests through the tunnel that tell whether it works.
    Probe, "`probe`" {
        /// An address of the site that answers echo, as the site has it; within `allowed`.
        required address: CustomerAddress,
        /// Milliseconds between two requests, 100 to 60000. Default: 1000.
        optional interval_millis: Number<100, 60_000>,
        /// Requests without an answer after which the tunnel is down, 1 to 100. Default: 3.
        optional failures: Number<1, 100>,
        /// Seconds that it must have answered before it is used again, 0 to 3600. Default: 10.
        optional hold_secs: Number<0, 3600>,
    }
}
