//! A domain of libvirt.

use std::fmt::Write as _;

use super::{Machine, Role, Tagging};
use crate::seed::LABEL as SEED_LABEL;

/// The part of MAC addresses that QEMU's and KVM's guests have.
const OUI: [u8; 3] = [0x52, 0x54, 0x00];

/// The domain of a machine, for `virsh define`.
#[must_use]
pub fn domain(machine: &Machine) -> String {
    let Machine { name, folder, cpus, memory_mib, .. } = machine;
    let folder = folder.0.trim_end_matches('/');
    let notes = notes(machine, folder);
    let interfaces = Role::ALL.map(|role| interface(machine, role)).concat();
    format!(
        r"<?xml version='1.0' encoding='UTF-8'?>
<!--
{notes}-->
<domain type='kvm'>
  <name>{name}</name>
  <title>nvgate gateway {name}</title>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu placement='static'>{cpus}</vcpu>
  <os firmware='efi'>
    <type arch='x86_64' machine='q35'>hvm</type>
    <!-- The image's kernel is not signed. -->
    <firmware>
      <feature enabled='no' name='enrolled-keys'/>
      <feature enabled='no' name='secure-boot'/>
    </firmware>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <!-- Ciphers of tunnels use what the processor has. -->
  <cpu mode='host-passthrough' check='none' migratable='on'/>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>restart</on_crash>
  <devices>
    <!-- Without the host's cache: what the gateway has synced survives the host. -->
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>
      <source file='{folder}/{name}.qcow2'/>
      <target dev='vda' bus='virtio'/>
      <boot order='1'/>
    </disk>
    <!-- The seed. Not a CD-ROM: the image's kernel has no driver for the one of q35. -->
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{folder}/{name}-seed.img'/>
      <target dev='vdb' bus='virtio'/>
      <readonly/>
    </disk>
{interfaces}    <serial type='pty'/>
    <console type='pty'/>
    <rng model='virtio'>
      <backend model='random'>/dev/urandom</backend>
    </rng>
    <!-- Memory is the gateway's from the start. -->
    <memballoon model='none'/>
  </devices>
</domain>
"
    )
}

fn interface(machine: &Machine, role: Role) -> String {
    let attachment = machine.attachments.of(role);
    let mac = machine.mac(OUI, role);
    let queues = match role {
        Role::Management => 1,
        Role::Fabric | Role::FrontEnd => machine.cpus,
    };
    let tags = match &attachment.tagging {
        Tagging::Untagged => String::new(),
        Tagging::Access(vlan) => vlans("", std::iter::once(vlan.get())),
        Tagging::Trunk(ranges) => {
            let all = ranges.iter().flat_map(|range| range.first.get()..=range.last.get());
            vlans(" trunk='yes'", all)
        }
    };
    format!(
        "    <!-- {} -->
    <interface type='bridge'>
      <mac address='{mac}'/>
      <source bridge='{}'/>
{tags}      <model type='virtio'/>
      <driver name='vhost' queues='{queues}' rx_queue_size='1024'/>
    </interface>
",
        role.key(),
        attachment.switch
    )
}

/// VLANs of a port: libvirt sets them on bridges of Open vSwitch.
fn vlans(attribute: &str, tags: impl Iterator<Item = u16>) -> String {
    let mut text = format!("      <virtualport type='openvswitch'/>\n      <vlan{attribute}>\n");
    for tag in tags {
        // Writing to a string does not fail.
        let _ = writeln!(text, "        <tag id='{tag}'/>");
    }
    text + "      </vlan>\n"
}

fn notes(machine: &Machine, folder: &str) -> String {
    let Machine { name, other, .. } = machine;
    let seed = machine.seed(OUI);
    let beside = other.as_ref().map_or_else(String::new, |other| {
        format!(
            "
A pair: {name} and {other} must never share a host, a switch or a power supply that both need.
libvirt alone knows one host: define each on another one, and let nothing move them together.
  Pacemaker    pcs constraint colocation add {name} with {other} score=-INFINITY
  OpenStack    a server group with the policy anti-affinity
  oVirt        an affinity group, VM rule negative, enforcing
  Proxmox VE   an HA resource affinity rule, negative
"
        )
    });
    format!(
        "Before: put the image and the seed where the domain looks for them. SEED is the folder with
seed.yaml, gateway.yaml, tenants.d and, if there are any, keys.
  cp nvgate-VERSION.qcow2 '{folder}/{name}.qcow2'
  truncate -s 16M '{folder}/{name}-seed.img'
  mkfs.vfat -n {SEED_LABEL} '{folder}/{name}-seed.img'
  mcopy -s -i '{folder}/{name}-seed.img' SEED/* ::
Then: virsh define FILE, virsh start {name}, virsh autostart {name}.

The seed names the NICs by these addresses. In seed.yaml:
{seed}
VLANs of ports need bridges of Open vSwitch. The MTU of the fabric's bridge holds tenants' packets
and 42 bytes more over IPv4, 62 over IPv6.
{beside}"
    )
}
