//! The gateway's ports: where packets come from and go to.

pub mod packet;
