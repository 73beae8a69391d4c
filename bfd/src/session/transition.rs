//! The table of section 6.8.6: what becomes of our state when the neighbour reports its own.

use crate::wire::State;

/// Our next state. AdminDown ends by command only.
pub(super) const fn next_state(local: State, reported: State) -> State {
    match (local, reported) {
        (State::AdminDown, _) => State::AdminDown,
        (_, State::AdminDown) => State::Down,
        (State::Down, State::Down) => State::Init,
        (State::Down, State::Init) => State::Up,
        (State::Down, State::Up) => State::Down,
        (State::Init, State::Init | State::Up) => State::Up,
        (State::Init, State::Down) => State::Init,
        (State::Up, State::Init | State::Up) => State::Up,
        (State::Up, State::Down) => State::Down,
    }
}
