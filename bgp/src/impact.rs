//! What a change of a peer's configuration costs. Reloads and `check --against-running` ask the same
//! function, so that what was printed is what happens.

use crate::config::{FamilyConfig, PeerConfig};
use crate::notification::NotificationReason;

/// What a change asks for. Nothing at all is the default: the session does not notice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Impact {
    /// The session ends with this reason; it starts again unless it is shut down. What else the
    /// change costs, a new session brings.
    pub reset: Option<NotificationReason>,
    /// The endpoint takes what it needs of connections anew: signatures, TTLs, BFD.
    pub endpoint: bool,
    /// What the peer sent is judged anew.
    pub import_sweep: bool,
    /// What the peer is sent is made anew.
    pub export_sweep: bool,
    /// The peer is asked for its routes again: some were not kept.
    pub refresh: bool,
}

impl Impact {
    const NOTHING: Self = Self {
        reset: None,
        endpoint: false,
        import_sweep: false,
        export_sweep: false,
        refresh: false,
    };
    const ENDPOINT: Self = Self { endpoint: true, ..Self::NOTHING };
    const IMPORT: Self = Self { import_sweep: true, ..Self::NOTHING };
    const EXPORT: Self = Self { export_sweep: true, ..Self::NOTHING };
    const REFRESH: Self = Self { refresh: true, ..Self::NOTHING };
    const RESET: Self =
        Self { reset: Some(NotificationReason::OtherConfigurationChange), ..Self::NOTHING };

    /// This and the other change together. Of two resets the first names the reason.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            reset: match self.reset {
                Some(reason) => Some(reason),
                None => other.reset,
            },
            endpoint: self.endpoint || other.endpoint,
            import_sweep: self.import_sweep || other.import_sweep,
            export_sweep: self.export_sweep || other.export_sweep,
            refresh: self.refresh || other.refresh,
        }
    }

    const fn if_changed(self, changed: bool) -> Self {
        if changed { self } else { Self::NOTHING }
    }
}

/// What it costs to go from `old` to `new`. A peer at another address is another peer: its key in
/// the speaker differs, and this is not asked.
#[must_use]
pub fn of(old: &PeerConfig, new: &PeerConfig) -> Impact {
    // Without `..`: a field that is new does not compile without an answer here.
    let PeerConfig {
        description: _,
        shutdown,
        local_address,
        remote_address,
        remote_port: _,
        opening: _,
        local_asn,
        local_as,
        remote_asns,
        router_id,
        hold_time,
        connect_retry_secs: _,
        families,
        ipv6_next_hop,
        extended_messages,
        accept_as_set,
        role,
        role_strict,
        graceful_restart,
        reach,
        md5_key,
        bfd,
        own_as_allowed,
        as_override,
        private_asns,
        next_hop_self,
        reflector_client,
        cluster_id,
        import,
        export,
    } = old;
    let both = Impact::IMPORT.and(Impact::EXPORT);
    [
        of_shutdown(shutdown.is_some(), new.shutdown.is_some()),
        Impact::RESET.if_changed(*local_address != new.local_address),
        Impact::RESET.if_changed(*remote_address != new.remote_address),
        Impact::RESET.if_changed(*local_asn != new.local_asn),
        Impact::RESET
            .if_changed(local_as.map(|local| local.asn) != new.local_as.map(|local| local.asn)),
        both.if_changed(*local_as != new.local_as),
        Impact::RESET.if_changed(*remote_asns != new.remote_asns),
        Impact::RESET.if_changed(*router_id != new.router_id),
        Impact::RESET.if_changed(*hold_time != new.hold_time),
        of_family(&families[0], &new.families[0]),
        of_family(&families[1], &new.families[1]),
        Impact::RESET.if_changed(*ipv6_next_hop != new.ipv6_next_hop),
        Impact::RESET.if_changed(*extended_messages != new.extended_messages),
        Impact::REFRESH.if_changed(*accept_as_set != new.accept_as_set),
        Impact::RESET.if_changed(*role != new.role),
        // A peer that told its role is not concerned; one that did not must go.
        Impact::RESET.if_changed(!*role_strict && new.role_strict),
        Impact::RESET.if_changed(*graceful_restart != new.graceful_restart),
        Impact::ENDPOINT.if_changed(*reach != new.reach),
        Impact::ENDPOINT.if_changed(*md5_key != new.md5_key),
        Impact::ENDPOINT.if_changed(*bfd != new.bfd),
        Impact::IMPORT.if_changed(*own_as_allowed != new.own_as_allowed),
        Impact::EXPORT.if_changed(*as_override != new.as_override),
        Impact::EXPORT.if_changed(*private_asns != new.private_asns),
        Impact::EXPORT.if_changed(*next_hop_self != new.next_hop_self),
        Impact::EXPORT.if_changed(*reflector_client != new.reflector_client),
        // A reflector rejects what has its own cluster in the list (RFC 4456 section 8).
        both.if_changed(*cluster_id != new.cluster_id),
        Impact::IMPORT.if_changed(*import != new.import),
        Impact::EXPORT.if_changed(*export != new.export),
    ]
    .into_iter()
    .fold(Impact::NOTHING, Impact::and)
}

const fn of_shutdown(was_down: bool, is_down: bool) -> Impact {
    match (was_down, is_down) {
        (false, true) => {
            Impact { reset: Some(NotificationReason::AdministrativeShutdown), ..Impact::NOTHING }
        }
        // Nothing is up that could be reset; another text is told to nobody.
        (true, false | true) | (false, false) => Impact::NOTHING,
    }
}

fn of_family(old: &Option<FamilyConfig>, new: &Option<FamilyConfig>) -> Impact {
    match (old, new) {
        (None, None) => Impact::NOTHING,
        (Some(_), None) | (None, Some(_)) => Impact::RESET,
        (Some(old), Some(new)) => {
            let FamilyConfig { add_path_receive, add_path_send, max_prefixes: _ } = old;
            let negotiated = *add_path_receive != new.add_path_receive
                || add_path_send.is_on() != new.add_path_send.is_on();
            // Which paths are sent is ours to change; that there are several is agreed on.
            let paths = *add_path_send != new.add_path_send;
            Impact::RESET.if_changed(negotiated).and(Impact::EXPORT.if_changed(paths))
        }
    }
}

#[cfg(test)]
mod tests;
