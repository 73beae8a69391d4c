//! What the service manager that started the gateway is told: ready, reloading, stopping, one line
//! about how it is, and that it lives. The protocol is that of sd_notify(3). Nothing is told where
//! nobody listens.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::time::{ClockId, clock_gettime};

/// Names the socket of the service manager.
const SOCKET: &str = "NOTIFY_SOCKET";
/// Bytes of the line about how the gateway is.
const LONGEST_LINE: usize = 200;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// The line that it was told last.
    line: String,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Self {
        let Some(name) = env::var_os(SOCKET) else { return Self::default() };
        match Self::listening_at(&name) {
            Ok(manager) => manager,
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything");
                Self::default()
            }
        }
    }

    /// The one whose socket has this path, or this abstract name behind an `@`.
    fn listening_at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(name),
        }?;
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // One that is busy must not keep control from its work.
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(socket), line: String::new() })
    }

    /// A configuration is in effect, at the start or after a reload.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// A configuration is read, and [`ready`](Self::ready) will follow, whatever comes of it.
    pub(super) fn reloading(&self) {
        // Who wants the time to tell reloads apart does not take the message without it.
        let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return };
        let micros = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The gateway ends.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Every thread has moved since this was told last.
    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// How the gateway is, in one line; told only when it is another one.
    pub(super) fn describe(&mut self, text: &str) {
        let line = text.lines().next().unwrap_or_default();
        let line = &line[..line.floor_char_boundary(LONGEST_LINE)];
        if line != self.line {
            self.tell(&format!("STATUS={line}"));
            line.clone_into(&mut self.line);
        }
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!(%error, message, "the service manager does not listen");
        }
    }
}

/// Whether threads move. A keepalive is due only when all of them have since the last one.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Each one's heartbeat as it was at the last keepalive.
    seen: Vec<u64>,
}

impl Progress {
    /// Whether each of `heartbeats` is another one than when this was true last. They are always in
    /// the same order; further ones may join.
    pub(super) fn all_moved(&mut self, heartbeats: Vec<u64>) -> bool {
        let stuck = self.seen.iter().zip(&heartbeats).any(|(before, now)| before == now);
        if !stuck {
            self.seen = heartbeats;
        }
        !stuck
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn next(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_told_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let abstract_name = format!("nvgate-notify-{}", std::process::id());
        let at_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let listeners =
            [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&at_name).unwrap()];
        let names = [path.into_os_string(), format!("@{abstract_name}").into()];
        for (listener, name) in listeners.iter().zip(names) {
            listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut manager = ServiceManager::listening_at(&name).unwrap();
            manager.ready();
            assert_eq!(next(listener), "READY=1");
            manager.reloading();
            let told = next(listener);
            let micros = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(micros.parse::<u64>().unwrap() > 0);
            manager.describe("well");
            manager.describe("well");
            manager.describe("unwell\nREADY=1");
            assert_eq!([next(listener), next(listener)], ["STATUS=well", "STATUS=unwell"]);
            manager.describe(&"ä".repeat(LONGEST_LINE));
            assert_eq!(next(listener), format!("STATUS={}", "ä".repeat(LONGEST_LINE / 2)));
            manager.alive();
            manager.stopping();
            assert_eq!([next(listener), next(listener)], ["WATCHDOG=1", "STOPPING=1"]);
        }
    }

    #[test]
    fn a_keepalive_is_due_only_when_every_thread_has_moved_since_the_last() {
        let mut progress = Progress::default();
        assert!(progress.all_moved(vec![]), "nothing runs yet");
        assert!(progress.all_moved(vec![5, 9]), "both have begun");
        assert!(!progress.all_moved(vec![6, 9]), "one stands still");
        assert!(!progress.all_moved(vec![7, 9]), "and still does, whatever the other does");
        assert!(!progress.all_moved(vec![5, 10]), "the first has not moved since the last one");
        assert!(progress.all_moved(vec![8, 10]));
    }
}
