//! What only the whole can show: a gateway on simulated ports against a naive model, and
//! interoperation of the running gateway with real peers.

pub mod bgp_lab;
pub mod bgp_peers;
pub mod bgp_raw;
pub mod bgp_routers;
pub mod frames;
pub mod frames_link;
pub mod fuzz;
pub mod model;
pub mod model_bgp;
pub mod model_nat;
pub mod oracle;
pub mod oracle_errors;
pub mod ovs_capture;
pub mod ovs_host;
pub mod ovs_http;
pub mod ovs_lab;
pub mod ovs_topology;
pub mod rig;
pub mod rig_bgp;
pub mod rig_claims;
pub mod rig_endpoint;
pub mod rig_plan;
pub mod rig_site;
pub mod rig_site_claims;
pub mod run_lab;
pub mod run_lab_host;
pub mod run_lab_traffic;
pub mod scenario;
pub mod seeds;
pub mod skip;
pub mod wg_between;
pub mod wg_lab;
pub mod wg_pings;
pub mod wg_twins;
