//! A script for Hyper-V.

use super::{Attachment, Machine, Role, Tagging};
use crate::seed::LABEL as SEED_LABEL;

/// The part of MAC addresses that Hyper-V's guests have.
const OUI: [u8; 3] = [0x00, 0x15, 0x5d];

/// The script that makes a machine, for PowerShell as administrator on the host.
#[must_use]
pub fn script(machine: &Machine) -> String {
    let Machine { name, folder, cpus, memory_mib, .. } = machine;
    let folder = folder.0.trim_end_matches('\\');
    let seed = machine.seed(OUI).lines().map(|line| format!("#   {line}\n")).collect::<String>();
    let adapters = Role::ALL.map(|role| adapter(machine, role)).concat();
    let apart = apart(machine);
    format!(
        r#"# The gateway {name}: a generation 2 virtual machine from nvgate's image.
# Before: put the image at '{folder}\{name}.vhdx', and into the folder '{folder}\{name}-seed'
# what the seed has: seed.yaml, gateway.yaml, tenants.d, keys. The seed names the NICs by their addresses.
# In seed.yaml:
{seed}
#Requires -RunAsAdministrator
#Requires -Modules Hyper-V
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version Latest

$name = '{name}'
$folder = '{folder}'
$disk = Join-Path $folder '{name}.vhdx'
$seed = Join-Path $folder '{name}-seed.vhdx'

# The seed's disk, which the guest finds by its label.
if (-not (Test-Path -LiteralPath $seed)) {{
    New-VHD -Path $seed -SizeBytes 64MB -Fixed | Out-Null
    $mounted = Mount-VHD -Path $seed -Passthru
    try {{
        Initialize-Disk -Number $mounted.DiskNumber -PartitionStyle MBR
        $partition = New-Partition -DiskNumber $mounted.DiskNumber -UseMaximumSize -AssignDriveLetter
        Format-Volume -Partition $partition -FileSystem FAT -NewFileSystemLabel '{SEED_LABEL}' | Out-Null
        Copy-Item -Recurse -Path (Join-Path $folder '{name}-seed\*') -Destination "$($partition.DriveLetter):\"
    }} finally {{
        Dismount-VHD -Path $seed
    }}
}}

New-VM -Name $name -Generation 2 -MemoryStartupBytes {memory_mib}MB -VHDPath $disk -Path $folder | Out-Null
Add-VMHardDiskDrive -VMName $name -Path $seed
# Memory is the gateway's from the start: rings and tables are made then.
Set-VMMemory -VMName $name -DynamicMemoryEnabled $false
Set-VMProcessor -VMName $name -Count {cpus}
# The image's kernel is not signed.
Set-VMFirmware -VMName $name -EnableSecureBoot Off
Set-VMFirmware -VMName $name -FirstBootDevice (Get-VMHardDiskDrive -VMName $name | Where-Object Path -eq $disk)
Set-VM -Name $name -AutomaticStartAction Start -AutomaticStopAction ShutDown -CheckpointType Disabled

# The guest's kernel has the drivers. Its own clock is kept by NTP, and nothing in the image speaks
# the services for files, data and backup.
foreach ($service in Get-VMIntegrationService -VMName $name) {{
    # By identifier: names are in the host's language.
    switch -Wildcard ($service.Id) {{
        '*9F8233AC-BE49-4C79-8EE3-E7E1985B2077' {{ $service | Enable-VMIntegrationService }}  # Shutdown
        '*84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47' {{ $service | Enable-VMIntegrationService }}  # Heartbeat
        default {{ $service | Disable-VMIntegrationService }}
    }}
}}

# NICs. New-VM made one that nobody described.
Get-VMNetworkAdapter -VMName $name | Remove-VMNetworkAdapter
{adapters}
# MAC spoofing stays off: the gateway sends with its NICs' own addresses. A bond in the guest that
# balances sends with those of all its members: it needs, for each of them,
#   Set-VMNetworkAdapter -VMName $name -Name fabric -MacAddressSpoofing On -AllowTeaming On
# The physical adapters of the fabric's switch hold tenants' packets and 42 bytes more over IPv4, 62
# over IPv6 (Set-NetAdapterAdvancedProperty -RegistryKeyword '*JumboPacket').
{apart}
Start-VM -Name $name
"#
    )
}

fn adapter(machine: &Machine, role: Role) -> String {
    let Attachment { switch, tagging } = machine.attachments.of(role);
    let key = role.key();
    let mac = machine.mac(OUI, role).to_string().replace(':', "").to_uppercase();
    let vlan = match tagging {
        Tagging::Untagged => "-Untagged".to_owned(),
        Tagging::Access(vlan) => format!("-Access -VlanId {vlan}"),
        Tagging::Trunk(ranges) => {
            let list = ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            format!("-Trunk -AllowedVlanIdList '{list}' -NativeVlanId 0")
        }
    };
    // Receive queues of the guest's NIC are spread over its processors.
    let queues = match role {
        Role::Management => "",
        Role::Fabric | Role::FrontEnd => " -VmmqEnabled $true -VrssEnabled $true",
    };
    format!(
        r"
Add-VMNetworkAdapter -VMName $name -Name {key} -SwitchName '{switch}' -StaticMacAddress '{mac}' -DeviceNaming Off
Set-VMNetworkAdapter -VMName $name -Name {key} -MacAddressSpoofing Off -DhcpGuard On -RouterGuard On{queues}
Set-VMNetworkAdapterVlan -VMName $name -VMNetworkAdapterName {key} {vlan}
"
    )
}

fn apart(machine: &Machine) -> String {
    let Some(other) = &machine.other else { return String::new() };
    let mut names = [machine.name.to_string(), other.to_string()];
    names.sort();
    format!(
        r"
# A pair: {name} and {other} must never share a host. In a failover cluster both have the same
# anti-affinity class; without one, make them on two hosts.
if (Get-Command Add-ClusterVirtualMachineRole -ErrorAction SilentlyContinue) {{
    $group = Add-ClusterVirtualMachineRole -VMName $name
    $class = New-Object System.Collections.Specialized.StringCollection
    [void]$class.Add('{class}')
    $group.AntiAffinityClassNames = $class
}}
",
        name = machine.name,
        class = names.join("+"),
    )
}
