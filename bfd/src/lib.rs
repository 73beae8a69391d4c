//! Bidirectional Forwarding Detection: whether a neighbour's packets still arrive, and ours there.
//!
//! Asynchronous mode of RFC 5880 (sections named without a document are of that), over one hop (RFC
//! 5881) and several (RFC 5883). Sans-IO: time comes in as an instant, chance as a seed, UDP
//! payloads in, UDP payloads and events out. It knows neither sockets nor BGP: the gateway puts
//! headers around the packets and takes a BGP session down when an event says so.
//!
//! **Data.** [`ControlPacket`] is a packet that passed every check that needs no session.
//! A [`Session`] is the state variables of section 6.8.1 for one neighbour. [`Sessions`] is all
//! sessions of one thread: two indexes (by local discriminator, and by place, local and peer
//! address) and two schedules (when to send, when to look).
//!
//! **States** (6.8.6, `session/transition.rs`): Down, Init and Up follow from our state and the one
//! that the neighbour reports; AdminDown only from a command. Leaving Up is told at once, and so
//! are the new contents to the neighbour. Intervals change by the rules of 6.8.3
//! (`session/timing.rs`): what could make the other side expire falsely waits for a Poll Sequence.
//!
//! **Invariants.**
//! 1. A session is Up only if a packet has carried its own discriminator: the neighbour hears us.
//! 2. A packet reaches only sessions of the place that it arrived in, whatever it carries.
//! 3. Detection expires only in `handle_timeout`, so after every packet that already waited.
//! 4. Packets are never sent faster than negotiated; those out of schedule (Final, changes of
//!    state) never closer than [`UNSCHEDULED_SPACING`] to one another.
//! 5. After `poll_transmit` has nothing, nothing is due: the next timeout is later than now.
//!
//! **Failures.** A packet that breaks a rule is counted under its [`Discard`] and changes nothing.
//! A neighbour that falls silent is forgotten after the detection time, and its session Down. The
//! own thread's absence counts as silence of nobody, within bounds (see [`Sessions`]). A neighbour that changes its discriminator, restarts, or asks for silence or
//! demand mode is followed. A full table refuses. Authentication is not spoken: RFC 5880 would ask
//! for SHA1 with a secret suffix, and who can forge packets inside a tunnel or past GTSM has the
//! link already; a neighbour that insists is refused with a reason of its own.
//!
//! **Deliberately absent:** the echo function, demand mode of our own, authentication, diagnostics
//! of concatenated paths.

mod chance;
mod config;
mod discard;
mod session;
mod sessions;
mod status;
mod wire;

pub use config::{
    AdministrativeReason, Interval, InvalidInterval, MAX_INTERVAL_MICROS, MIN_INTERVAL_MICROS,
    Path, Role, SessionConfig,
};
pub use discard::{Discard, DiscardCounters};
pub use session::{MAX_HOLD, START_SPREAD, Session, UNSCHEDULED_SPACING};
pub use sessions::{
    Arrival, Hops, LATENESS_TOLERANCE, MAX_SESSIONS, OpenError, SessionKey, Sessions,
    SessionsCounters, Transmit,
};
pub use status::{DownReason, SessionCounters, SessionEvent, SessionStatus};
pub use wire::{Authentication, ControlPacket, Diagnostic, PACKET_LENGTH, State};
