//! A BGP peer, or a range of addresses that peers come from, as a record.

use std::net::IpAddr;

use nvgate_bgp::Role;
use nvgate_bgp::config::Md5Key;
use nvgate_model::{Asn, Prefix};

use super::scalar::{AsSpan, Either, PathsSent, PolicyName, Shutdown, Text};
use super::words::{FamilyName, NextHopKind, PrivateAs, RestartMode};
use crate::schema::decode::{List, record};
use crate::schema::scalar::{Name, Number, Switch};
use crate::schema::secret::{KeyFile, SecretKey};

/// A bound on prefixes.
pub(crate) type PrefixCount = Number<1, 16_777_216>;

record! {
    /// A router that BGP is spoken with: either at an `address`, or `dynamic`, any of a range.
    Peer, "a peer" {
        /// Unique here: a letter, then letters, digits, `-`, `_` and `.`.
        required name: Name,
        /// A text for humans, up to 255 bytes.
        optional description: Text,
        /// The router's address; of one at a site as the tenant's network sees it.
        optional address: IpAddr,
        /// Instead of `address`: routers of this prefix may begin; the gateway waits for them.
        optional dynamic: Prefix,
        /// How many dynamic ones at a time, 1 to 4096. Default: 16.
        optional limit: Number<1, 4096>,
        /// The router's AS; of dynamic ones also a range such as 64512-65534.
        required asn: AsSpan,
        /// The gateway's own address on the session. Default of a tenant: that in the router's subnet,
        /// else that in the gateway subnet, else the lowest; of the front end: the kernel's choice.
        optional local_address: IpAddr,
        /// The router's TCP port, 1 to 65535. Default: 179.
        optional port: Number<1, 65_535>,
        /// `true`: the gateway waits for the router to connect. Default: false.
        optional passive: Switch,
        /// `true`, or a text that the router is told (up to 255 bytes): no session. Default: false.
        optional shutdown: Shutdown,
        /// A TCP-MD5 password (RFC 2385) of up to 80 bytes that both sides have. Default: none.
        optional password: SecretKey<Md5Key>,
        /// Instead of `password`: a file that holds it and only its owner may read (chmod 600).
        optional password_file: KeyFile<Md5Key>,
        /// How many hops away the router may be, 1 to 255. Default: 1 in a subnet and on the front
        /// end, 64 behind a route.
        optional multihop: Number<1, 255>,
        /// Instead of `multihop`: both sides send with TTL 255, and packets from more than so many
        /// hops away are dropped (GTSM, RFC 5082), 1 to 254. Default: off.
        optional ttl_security: Number<1, 254>,
        /// The hold time that is proposed in seconds: 0 (none), or 3 to 65535. Default: 90.
        optional hold_secs: Number<0, 65_535>,
        /// Seconds between attempts to connect, 1 to 65535. Default: 30.
        optional connect_retry_secs: Number<1, 65_535>,
        /// Which routes are exchanged: `ipv4`, `ipv6` or both. Default: those of the address's family.
        optional families: List<FamilyName, 1, 2>,
        /// The most prefixes of each family, or a record. Beyond it the session ends.
        /// Default: no bound of its own.
        optional max_prefixes: Either<PrefixCount, MaxPrefixes>,
        /// Several paths of a prefix (RFC 7911) in each family. Default: one.
        optional add_path: AddPath,
        /// What is different for IPv4 routes.
        optional ipv4: FamilyOptions,
        /// What is different for IPv6 routes.
        optional ipv6: FamilyOptions,
        /// `true`: IPv4 routes may have IPv6 next hops (RFC 8950). Default: false.
        optional ipv6_next_hop: Switch,
        /// `true`: messages of up to 65535 bytes (RFC 8654). Default: false.
        optional extended_messages: Switch,
        /// What survives a restart (RFC 4724): `off`, `helper` (the router's routes are kept while it
        /// restarts), `full` (ours as well), or a record. Default: helper.
        optional graceful_restart: Either<RestartMode, GracefulRestart>,
        /// `true`, or a record: BFD watches the router, and takes the session down within
        /// milliseconds. Default: false.
        optional bfd: Either<Switch, Bfd>,
        /// The gateway's role towards the router (RFC 9234): `provider`, `customer`, `peer`,
        /// `route-server` or `route-server-client`. Default: none.
        optional role: Role,
        /// `true`: a router that tells no role is refused. Default: false.
        optional role_strict: Switch,
        /// Another AS that the router is shown instead of the gateway's own. Default: none.
        optional local_as: LocalAs,
        /// How often the gateway's own AS may stand in a path that the router sends, 0 to 10.
        /// Default: 0.
        optional allow_own_as: Number<0, 10>,
        /// `true`: the router's AS is replaced by the gateway's in what it is sent. Default: false.
        optional as_override: Switch,
        /// Private AS numbers in what the router is sent: `keep`, `remove-if-all` (if there are no
        /// others), `remove`, or `replace` by the gateway's. Default: keep.
        optional private_as: PrivateAs,
        /// `false`: paths need not begin with the router's AS (route servers). Default: true.
        optional enforce_first_as: Switch,
        /// `true`: paths with an AS_SET are taken, which RFC 9774 forbids. Default: false.
        optional accept_as_set: Switch,
        /// The next hop of what the router is sent: `self` or `unchanged`. Default: the rules of
        /// RFC 4271 section 5.1.3.
        optional next_hop: NextHopKind,
        /// `true`: the router is a client, whom routes are reflected to (RFC 4456). Default: false.
        optional reflector_client: Switch,
        /// `false`: GRACEFUL_SHUTDOWN of the router (RFC 8326) is not honoured. Default: true.
        optional graceful_shutdown: Switch,
        /// `true`: BLACKHOLE of the router (RFC 7999) is honoured; `import` must see to it that it
        /// only blackholes what is its own. Default: false.
        optional blackhole: Switch,
        /// Tenants only: whether this one may teach a default route. Default: `accept_default` of
        /// `bgp`.
        optional accept_default: Switch,
        /// Tenants only. `false`: what other routers taught is not announced to this one.
        /// Default: true.
        optional announce_learned: Switch,
        /// The policy for what the router sends. Default of a tenant: what the built-in rules let in.
        /// The front end must name one for other ASes, or `none`: nothing (RFC 8212).
        optional import: PolicyName,
        /// The policy for what the router is sent. Default of a tenant: what the built-in rules let
        /// out. The front end must name one for other ASes, or `none`: nothing (RFC 8212).
        optional export: PolicyName,
    }
}

record! {
    /// A bound on a peer's prefixes of one family.
    MaxPrefixes, "`max_prefixes`" {
        /// The most, 1 to 16777216.
        required prefixes: PrefixCount,
        /// The part of them at which a warning is due, 1 to 100. Default: 80.
        optional warning_percent: Number<1, 100>,
        /// Seconds after which an ended session is tried again, 1 to 604800. Default: by hand only.
        optional restart_secs: Number<1, 604_800>,
    }
}

record! {
    /// Several paths of a prefix (RFC 7911).
    AddPath, "`add_path`" {
        /// `true`: the router may send several. Default: false.
        optional receive: Switch,
        /// What the router is sent: `off`, `all`, or so many of the best, 1 to 32. Default: off.
        optional send: PathsSent,
    }
}

record! {
    /// What is different for one family.
    FamilyOptions, "a family" {
        /// The most prefixes of this family, or a record.
        optional max_prefixes: Either<PrefixCount, MaxPrefixes>,
        /// Several paths of a prefix of this family.
        optional add_path: AddPath,
    }
}

record! {
    /// What survives a restart.
    GracefulRestart, "`graceful_restart`" {
        /// `off`, `helper` or `full`.
        required mode: RestartMode,
        /// With `full`: how long the gateway takes to come back, 0 to 4095. Default: 120.
        optional restart_secs: Number<0, 4095>,
        /// Whether routes survive NOTIFICATIONs, too (RFC 8538). Default: true.
        optional notifications: Switch,
    }
}

record! {
    /// BFD with a peer (RFC 5880).
    Bfd, "`bfd`" {
        /// Milliseconds between the gateway's packets, 10 to 60000. Default: 100.
        optional interval_millis: Number<10, 60_000>,
        /// Milliseconds between the router's packets that it can take. Default: `interval_millis`.
        optional receive_interval_millis: Number<10, 60_000>,
        /// Packets missed in a row until the other side is down, 1 to 255. Default: 3.
        optional multiplier: Number<1, 255>,
        /// `true`: the gateway waits for the router's packets. Default: false.
        optional passive: Switch,
    }
}

record! {
    /// Another AS that the peer is shown (RFC 7705).
    LocalAs, "`local_as`" {
        /// The AS.
        required asn: Asn,
        /// `true`: it is not put in front of what the router sends. Default: false.
        optional no_prepend: Switch,
        /// `true`: the gateway's own AS is left out of what the router is sent. Default: false.
        optional replace_as: Switch,
    }
}
