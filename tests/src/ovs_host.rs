//! Open vSwitch's userspace datapath as a virtualization host: its own database and switch daemon
//! in a namespace, a bridge with the provider address, GRE ports towards the gateway.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ovs_lab::{Lab, Namespace, Process, run, wait_until, words};

/// The database schema as Debian installs it.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// How long a daemon may take to open its socket.
const START: Duration = Duration::from_secs(10);

/// One Open vSwitch instance; both daemons end with it.
pub struct OpenVswitch {
    // The switch goes before its database.
    _switch: Process,
    _database: Process,
    directory: PathBuf,
}

impl OpenVswitch {
    /// Starts an instance in `namespace`.
    ///
    /// # Errors
    ///
    /// When a daemon does not come up.
    pub fn start(lab: &Lab, namespace: &Namespace, name: &str) -> Result<Self> {
        let directory = lab.directory().join(name);
        std::fs::create_dir(&directory)?;
        let at = directory.display();
        let environment = [("OVS_RUNDIR", &*directory), ("OVS_LOGDIR", &*directory)];
        run(&mut words("ovsdb-tool", &format!("create {at}/conf.db {SCHEMA}")))?;
        let mut database = namespace.spawn(
            &format!(
                "ovsdb-server {at}/conf.db --remote=punix:{at}/db.sock --unixctl={at}/ovsdb.ctl \
                 -vconsole:warn"
            ),
            &environment,
        )?;
        wait_until(START, || directory.join("db.sock").exists().then_some(()))
            .and_then(|()| database.must_run())
            .context("waiting for ovsdb-server")?;
        run(&mut words("ovs-vsctl", &format!("--db=unix:{at}/db.sock --no-wait init")))?;
        let mut switch = namespace.spawn(
            &format!(
                "ovs-vswitchd unix:{at}/db.sock --unixctl={at}/vswitchd.ctl -vconsole:warn \
                 --log-file={at}/vswitchd.log"
            ),
            &environment,
        )?;
        wait_until(START, || directory.join("vswitchd.ctl").exists().then_some(()))
            .and_then(|()| switch.must_run())
            .context("waiting for ovs-vswitchd")?;
        Ok(Self { _switch: switch, _database: database, directory })
    }

    /// Runs `ovs-vsctl`.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn configure(&self, line: &str) -> Result<()> {
        let at = self.directory.display();
        run(&mut words("ovs-vsctl", &format!("--db=unix:{at}/db.sock --timeout=10 {line}")))
            .map(drop)
    }

    /// Adds an OpenFlow rule to a bridge.
    ///
    /// # Errors
    ///
    /// When the switch refuses.
    pub fn add_flow(&self, bridge: &str, flow: &str) -> Result<()> {
        let mut command = words("ovs-ofctl", "add-flow");
        run(command.args([bridge, flow]).env("OVS_RUNDIR", &self.directory)).map(drop)
    }

    /// Gives the host its provider address, on a bridge over the link `port`.
    ///
    /// # Errors
    ///
    /// When the switch or the kernel refuses.
    pub fn underlay(&self, host: &Namespace, port: &str, address: Ipv4Addr) -> Result<()> {
        self.configure(&format!(
            "add-br br-phy -- set bridge br-phy datapath_type=netdev fail-mode=standalone \
             -- add-port br-phy {port}"
        ))?;
        host.run(&format!("ip addr add {address}/24 dev br-phy"))?;
        host.run("ip link set br-phy up").map(drop)
    }

    /// A virtual subnet of one VM as a learning bridge of its own, with a GRE port whose key is
    /// fixed: this host takes packets of that VSID with FlowID 0 only.
    ///
    /// # Errors
    ///
    /// When the switch refuses.
    pub fn fixed_key_subnet(
        &self,
        vm_port: &str,
        vsid: u32,
        local: Ipv4Addr,
        gateway: Ipv4Addr,
    ) -> Result<()> {
        let key = vsid << 8;
        self.configure(&format!(
            "add-br br-{vsid} -- set bridge br-{vsid} datapath_type=netdev fail-mode=standalone \
             -- add-port br-{vsid} {vm_port} \
             -- add-port br-{vsid} gre-{vsid} -- set interface gre-{vsid} type=gre \
             options:remote_ip={gateway} options:local_ip={local} options:key={key}"
        ))
    }

    /// Virtual subnets of one VM each behind one GRE port, told apart by OpenFlow rules that ignore
    /// the FlowID on receive and send a FlowID of their own. The VMs are (port, VSID).
    ///
    /// # Errors
    ///
    /// When the switch refuses.
    pub fn any_flow_subnets(
        &self,
        vms: &[(&str, u32)],
        local: Ipv4Addr,
        gateway: Ipv4Addr,
    ) -> Result<()> {
        self.configure(&format!(
            "add-br br-int -- set bridge br-int datapath_type=netdev fail-mode=secure \
             -- add-port br-int gre -- set interface gre type=gre ofport_request=1 \
             options:remote_ip={gateway} options:local_ip={local} options:key=flow"
        ))?;
        for ((vm_port, vsid), number) in vms.iter().zip(2..) {
            self.configure(&format!(
                "add-port br-int {vm_port} -- set interface {vm_port} ofport_request={number}"
            ))?;
            let key = vsid << 8;
            let sent = key | 0x5a;
            self.add_flow(
                "br-int",
                &format!("in_port={number},actions=set_field:{sent:#x}->tun_id,output:1"),
            )?;
            self.add_flow(
                "br-int",
                &format!("in_port=1,tun_id={key:#x}/0xffffff00,actions=output:{number}"),
            )?;
        }
        Ok(())
    }
}
