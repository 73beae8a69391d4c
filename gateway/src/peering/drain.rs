//! Going without losing packets (RFC 8326): peers are told first, sessions end later.

use std::time::Duration;

use nvgate_bgp::speaker::{Clear, Place, Speaker};
use nvgate_model::{DomainSlot, Instant};

use super::questions::DrainCommand;
use crate::admin::bgp::DrainReport;

/// What every peer is told at the end.
const FAREWELL: &str = "the gateway is drained";

/// How far the gateway is with going.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Drain {
    /// It stays.
    #[default]
    Serving,
    /// Peers were told, and sessions end then.
    Draining(Instant),
    /// Sessions have ended, and none begins.
    Over,
}

impl Drain {
    pub(super) fn is_over(self) -> bool {
        self == Self::Over
    }

    pub(super) fn command(
        &mut self,
        now: Instant,
        command: DrainCommand,
        domains: impl Iterator<Item = DomainSlot>,
        speaker: &mut Speaker,
    ) {
        match command {
            DrainCommand::Begin { after_secs } => {
                if !self.is_over() {
                    speaker.drain_out(true);
                    *self = Self::Draining(now + Duration::from_secs(after_secs.into()));
                }
            }
            DrainCommand::Cancel => {
                speaker.drain_out(false);
                if self.is_over() {
                    for place in domains.map(Place::Domain).chain([Place::FrontEnd]) {
                        for peer in speaker.peers(place) {
                            speaker.clear(now, peer, Clear::Hard);
                        }
                    }
                }
                *self = Self::Serving;
            }
        }
    }

    /// Ends the sessions once their time has come.
    pub(super) fn turn(&mut self, now: Instant, speaker: &mut Speaker) {
        if self.due().is_some_and(|due| due <= now) {
            *self = Self::Over;
            self.follow(now, speaker);
        }
    }

    /// Peers that came with the configuration do not begin either.
    pub(super) fn follow(self, now: Instant, speaker: &mut Speaker) {
        if self.is_over()
            && let Err(error) = speaker.stop_all(now, FAREWELL)
        {
            tracing::error!(%error, "sessions do not end");
        }
    }

    pub(super) const fn due(self) -> Option<Instant> {
        match self {
            Self::Draining(due) => Some(due),
            Self::Serving | Self::Over => None,
        }
    }

    pub(super) fn report(self, now: Instant) -> DrainReport {
        match self {
            Self::Serving => DrainReport::Serving,
            Self::Draining(due) => DrainReport::Draining { ends_in_secs: due.since(now).as_secs() },
            Self::Over => DrainReport::Drained,
        }
    }
}
