//! `nvgate image deploy`: the virtual machine of a gateway, for libvirt or Hyper-V.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nvgate_deploy::host_admin::{self, Attachment, Attachments, Folder, Machine, MachineName};

use crate::cli::{Exit, complain};

/// Asks nothing of the host: the text is the same on every machine.
#[derive(Args, Debug)]
#[command(after_long_help = "\
SWITCHES
  NAME                  a bridge or virtual switch; the port has no VLAN
  NAME:100              the port is in VLAN 100 (libvirt: an Open vSwitch bridge)
  NAME:trunk=100,200-210
                        the guest tags by itself, with links: in gateway.yaml

EXAMPLES
  nvgate image deploy --format libvirt --management br0 --fabric br1 --front-end br2:300 > gw.xml
  nvgate image deploy --format hyperv --pair --to . --management Mgmt --fabric Fabric --front-end Public")]
pub(in crate::cli) struct Deploy {
    /// For whom
    #[arg(long, value_enum)]
    format: Format,
    /// Two gateways that must not share a host: NAME-1 and NAME-2, a file each
    #[arg(long, requires = "to")]
    pair: bool,
    /// Write NAME.xml or NAME.ps1 into this folder instead of printing it
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// The machine's name
    #[arg(long, default_value = "nvgate")]
    name: MachineName,
    /// The host's folder for disks [default: /var/lib/libvirt/images or C:\nvgate]
    #[arg(long, value_name = "DIR")]
    folder: Option<Folder>,
    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    cpus: u16,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1024..=1_048_576))]
    memory: u32,
    /// The switch for SSH, health and metrics
    #[arg(long, value_name = "SWITCH")]
    management: Attachment,
    /// The switch on the provider network, where NVGRE arrives
    #[arg(long, value_name = "SWITCH")]
    fabric: Attachment,
    /// The switch on the network of public addresses
    #[arg(long, value_name = "SWITCH")]
    front_end: Attachment,
}

/// Whose format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// A domain's XML, for `virsh define`
    Libvirt,
    /// A PowerShell script that makes a generation 2 virtual machine
    Hyperv,
}

impl Format {
    const fn ending(self) -> &'static str {
        match self {
            Self::Libvirt => "xml",
            Self::Hyperv => "ps1",
        }
    }

    fn folder(self) -> Folder {
        let usual = match self {
            Self::Libvirt => "/var/lib/libvirt/images",
            Self::Hyperv => r"C:\nvgate",
        };
        usual.parse().expect("a usual folder is a folder")
    }

    fn text(self, machine: &Machine) -> String {
        match self {
            Self::Libvirt => host_admin::domain(machine),
            Self::Hyperv => host_admin::script(machine),
        }
    }
}

/// Prints or writes the text of each machine.
pub(super) fn deploy(arguments: &Deploy, out: &mut impl io::Write) -> io::Result<Exit> {
    let format = arguments.format;
    let machine = Machine {
        name: arguments.name.clone(),
        other: None,
        folder: arguments.folder.clone().unwrap_or_else(|| format.folder()),
        cpus: arguments.cpus,
        memory_mib: arguments.memory,
        attachments: Attachments {
            management: arguments.management.clone(),
            fabric: arguments.fabric.clone(),
            front_end: arguments.front_end.clone(),
        },
    };
    let machines = if arguments.pair { machine.pair().to_vec() } else { vec![machine] };
    for machine in &machines {
        let text = format.text(machine);
        let Some(folder) = &arguments.to else {
            write!(out, "{text}")?;
            continue;
        };
        let path = folder.join(format!("{}.{}", machine.name, format.ending()));
        if let Err(error) = fs::write(&path, text) {
            return Ok(complain(Exit::CannotRun, &format!("{}: {error}", path.display())));
        }
        writeln!(out, "{}", path.display())?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, image::Image};

    fn parse(line: &str) -> Result<Deploy, clap::Error> {
        let switches = " --management Mgmt --fabric Fabric:trunk=1-4 --front-end Public";
        let line = format!("nvgate image deploy {line}{switches}");
        let Command::Image(Image::Deploy(deploy)) =
            Cli::try_parse_from(line.split_whitespace())?.command
        else {
            panic!("image deploy")
        };
        Ok(deploy)
    }

    #[test]
    fn one_machine_is_printed_and_a_pair_is_written_to_files_that_are_named() {
        let mut out = Vec::new();
        let one = parse("--format hyperv --cpus 2").unwrap();
        assert_eq!(deploy(&one, &mut out).unwrap(), Exit::Done);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r"$folder = 'C:\nvgate'") && text.contains("-Count 2"), "{text}");

        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().display();
        let pair = parse(&format!("--format libvirt --pair --name gw --to {to}")).unwrap();
        let mut out = Vec::new();
        assert_eq!(deploy(&pair, &mut out).unwrap(), Exit::Done);
        let named = format!("{to}/gw-1.xml\n{to}/gw-2.xml\n");
        assert_eq!(String::from_utf8(out).unwrap(), named);
        for number in [1, 2] {
            let text = fs::read_to_string(folder.path().join(format!("gw-{number}.xml"))).unwrap();
            assert!(text.contains(&format!("<name>gw-{number}</name>")), "{text}");
        }
        let nowhere = parse("--format libvirt --to /nonexistent").unwrap();
        assert_eq!(deploy(&nowhere, &mut Vec::new()).unwrap(), Exit::CannotRun);
    }

    #[test]
    fn a_machine_that_no_gateway_fits_in_and_a_pair_without_a_folder_are_refused() {
        for wrong in ["--pair", "--cpus 0", "--memory 1023", "--name a'b", "--folder $x"] {
            let refused = parse(&format!("--format libvirt {wrong}")).unwrap_err();
            assert_eq!(refused.exit_code(), i32::from(Exit::Usage as u8), "{wrong}");
        }
        Format::Libvirt.folder();
        Format::Hyperv.folder();
    }
}
