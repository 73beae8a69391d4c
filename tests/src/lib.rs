//! What only the whole can show: interoperation of the running gateway with real peers.

pub mod ovs_capture;
pub mod ovs_host;
pub mod ovs_http;
pub mod ovs_lab;
pub mod ovs_topology;
pub mod skip;
