# The gateway gw-a-2: a generation 2 virtual machine from nvgate's image.
# Before: put the image at 'C:\Gateways (new)\gw-a-2.vhdx', and into the folder 'C:\Gateways (new)\gw-a-2-seed'
# what the seed has: seed.yaml, gateway.yaml, tenants.d, keys. The seed names the NICs by their addresses.
# In seed.yaml:
#   hostname: gw-a-2
#   nics:
#     management:
#       mac: 00:15:5d:dc:ce:50
#     fabric:
#       mac: 00:15:5d:dc:ce:51
#     front_end:
#       mac: 00:15:5d:dc:ce:52

#Requires -RunAsAdministrator
#Requires -Modules Hyper-V
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version Latest

$name = 'gw-a-2'
$folder = 'C:\Gateways (new)'
$disk = Join-Path $folder 'gw-a-2.vhdx'
$seed = Join-Path $folder 'gw-a-2-seed.vhdx'

# The seed's disk, which the guest finds by its label.
if (-not (Test-Path -LiteralPath $seed)) {
    New-VHD -Path $seed -SizeBytes 64MB -Fixed | Out-Null
    $mounted = Mount-VHD -Path $seed -Passthru
    try {
        Initialize-Disk -Number $mounted.DiskNumber -PartitionStyle MBR
        $partition = New-Partition -DiskNumber $mounted.DiskNumber -UseMaximumSize -AssignDriveLetter
        Format-Volume -Partition $partition -FileSystem FAT -NewFileSystemLabel 'NVGATE' | Out-Null
        Copy-Item -Recurse -Path (Join-Path $folder 'gw-a-2-seed\*') -Destination "$($partition.DriveLetter):\"
    } finally {
        Dismount-VHD -Path $seed
    }
}

New-VM -Name $name -Generation 2 -MemoryStartupBytes 4096MB -VHDPath $disk -Path $folder | Out-Null
Add-VMHardDiskDrive -VMName $name -Path $seed
# Memory is the gateway's from the start: rings and tables are made then.
Set-VMMemory -VMName $name -DynamicMemoryEnabled $false
Set-VMProcessor -VMName $name -Count 4
# The image's kernel is not signed.
Set-VMFirmware -VMName $name -EnableSecureBoot Off
Set-VMFirmware -VMName $name -FirstBootDevice (Get-VMHardDiskDrive -VMName $name | Where-Object Path -eq $disk)
Set-VM -Name $name -AutomaticStartAction Start -AutomaticStopAction ShutDown -CheckpointType Disabled

# The guest's kernel has the drivers. Its own clock is kept by NTP, and nothing in the image speaks
# the services for files, data and backup.
foreach ($service in Get-VMIntegrationService -VMName $name) {
    # By identifier: names are in the host's language.
    switch -Wildcard ($service.Id) {
        '*9F8233AC-BE49-4C79-8EE3-E7E1985B2077' { $service | Enable-VMIntegrationService }  # Shutdown
        '*84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47' { $service | Enable-VMIntegrationService }  # Heartbeat
        default { $service | Disable-VMIntegrationService }
    }
}

# NICs. New-VM made one that nobody described.
Get-VMNetworkAdapter -VMName $name | Remove-VMNetworkAdapter

Add-VMNetworkAdapter -VMName $name -Name management -SwitchName 'br-mgmt' -StaticMacAddress '00155DDCCE50' -DeviceNaming Off
Set-VMNetworkAdapter -VMName $name -Name management -MacAddressSpoofing Off -DhcpGuard On -RouterGuard On
Set-VMNetworkAdapterVlan -VMName $name -VMNetworkAdapterName management -Untagged

Add-VMNetworkAdapter -VMName $name -Name fabric -SwitchName 'br-fabric' -StaticMacAddress '00155DDCCE51' -DeviceNaming Off
Set-VMNetworkAdapter -VMName $name -Name fabric -MacAddressSpoofing Off -DhcpGuard On -RouterGuard On -VmmqEnabled $true -VrssEnabled $true
Set-VMNetworkAdapterVlan -VMName $name -VMNetworkAdapterName fabric -Trunk -AllowedVlanIdList '100,200-202' -NativeVlanId 0

Add-VMNetworkAdapter -VMName $name -Name front_end -SwitchName 'br-front' -StaticMacAddress '00155DDCCE52' -DeviceNaming Off
Set-VMNetworkAdapter -VMName $name -Name front_end -MacAddressSpoofing Off -DhcpGuard On -RouterGuard On -VmmqEnabled $true -VrssEnabled $true
Set-VMNetworkAdapterVlan -VMName $name -VMNetworkAdapterName front_end -Access -VlanId 300

# MAC spoofing stays off: the gateway sends with its NICs' own addresses. A bond in the guest that
# balances sends with those of all its members: it needs, for each of them,
#   Set-VMNetworkAdapter -VMName $name -Name fabric -MacAddressSpoofing On -AllowTeaming On
# The physical adapters of the fabric's switch hold tenants' packets and 42 bytes more over IPv4, 62
# over IPv6 (Set-NetAdapterAdvancedProperty -RegistryKeyword '*JumboPacket').

# A pair: gw-a-2 and gw-a-1 must never share a host. In a failover cluster both have the same
# anti-affinity class; without one, make them on two hosts.
if (Get-Command Add-ClusterVirtualMachineRole -ErrorAction SilentlyContinue) {
    $group = Add-ClusterVirtualMachineRole -VMName $name
    $class = New-Object System.Collections.Specialized.StringCollection
    [void]$class.Add('gw-a-1+gw-a-2')
    $group.AntiAffinityClassNames = $class
}

Start-VM -Name $name
