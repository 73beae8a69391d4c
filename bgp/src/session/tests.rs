//! A session by itself, told what happens ([`rig`]), and two over a network that splits, delays and
//! fails ([`network`]), in virtual time.

mod buffers;
mod network;
mod notifications;
mod pair;
mod random;
mod restart;
mod rig;
mod timers;
