//! The demo.
pub mod host_endpoint;
pub mod lab;
