//! What only the whole can show: a gateway on simulated ports against a naive model, and
//! interoperation of the running gateway with real peers.

pub mod frames;
pub mod model;
pub mod model_nat;
pub mod oracle;
pub mod oracle_errors;
pub mod ovs_capture;
pub mod ovs_host;
pub mod ovs_http;
pub mod ovs_lab;
pub mod ovs_topology;
pub mod rig;
pub mod rig_plan;
pub mod scenario;
pub mod skip;
