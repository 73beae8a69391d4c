//! `nvgate seed`: checks a seed before it is put on a disk, applies it on an image's machine, and
//! shows what became of it; and `nvgate wait`, while there is none.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use nvgate_deploy::host::Netlink;
use nvgate_deploy::seed::{Report, State, from_folder};
use tokio::runtime::Builder;

use super::{Exit, complain};
use crate::seed::{self, Machine, Places, REPORT};

/// How often `show` looks whether the management link has its address.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Subcommand, Debug)]
pub(super) enum SeedCommand {
    /// Say whether a seed is valid, with every error at once
    ///
    /// For the machine on which seeds are made: the files are proven together as by `nvgate check`,
    /// and seed.yaml with them. Which NICs a machine has is only known there.
    Check(SeedCheck),
    /// Find this machine's seed and put it in effect
    ///
    /// Looks for a disk or ISO image with the label NVGATE, then for systemd credentials, then for
    /// the folder /var/lib/nvgate-seed/seed. A seed that is valid becomes the configuration
    /// /etc/nvgate, names the machine and its NICs, and says who may log in by SSH; a broken one
    /// leaves the last good one in effect. What became of it is in /run/nvgate-seed/report.json.
    /// Needs root; nvgate-seed.service runs it once a boot.
    Apply(SeedApply),
    /// Show what became of this machine's seed, its NICs with their addresses, and where health is
    Show(SeedShow),
}

#[derive(Args, Debug)]
pub(super) struct SeedCheck {
    /// The folder with seed.yaml, gateway.yaml, tenants.d/ and keys/
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct SeedApply {
    /// The root directory of the machine whose files are read and written; NICs are this one's
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct SeedShow {
    /// Print the report as it is
    #[arg(long)]
    json: bool,
    /// Give the management link so many seconds to get an address
    #[arg(long, value_name = "SECS", default_value_t = 0)]
    wait: u64,
    /// Print to every console of this machine as well
    #[arg(long, conflicts_with = "json")]
    consoles: bool,
}

#[derive(Args, Debug)]
pub(super) struct Wait {
    /// Print to every console of this machine as well
    #[arg(long)]
    consoles: bool,
}

/// Does what the command line says and prints to `output`.
pub(super) fn seed(command: &SeedCommand, output: &mut dyn Write) -> io::Result<Exit> {
    match command {
        SeedCommand::Check(SeedCheck { folder }) => check(folder, output),
        SeedCommand::Apply(SeedApply { root }) => apply(root, output),
        SeedCommand::Show(arguments) => show(arguments, output),
    }
}

fn check(folder: &Path, output: &mut dyn Write) -> io::Result<Exit> {
    let shown = folder.display();
    let seed = match from_folder(folder) {
        Ok(seed) => seed,
        Err(error) => {
            return Ok(complain(Exit::Invalid, &format!("{shown} cannot be read: {error}")));
        }
    };
    match seed.judge(None).plan {
        Ok(plan) => {
            let tenants = plan.tenants.len();
            writeln!(output, "{shown}: a valid seed; {tenants} tenants")?;
            Ok(Exit::Done)
        }
        Err(errors) => {
            for error in &errors {
                writeln!(output, "{error}\n")?;
            }
            let plural = if errors.len() == 1 { "error" } else { "errors" };
            writeln!(output, "{shown}: no valid seed; {} {plural}", errors.len())?;
            Ok(Exit::Invalid)
        }
    }
}

fn apply(root: &Path, output: &mut dyn Write) -> io::Result<Exit> {
    let mut places = Places::below(root);
    if let Some(credentials) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        places.credentials = credentials.into();
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let applied = runtime.block_on(async { seed::apply(&places, &Netlink::open()?).await });
    match applied {
        Ok(report) => {
            output.write_all(seed::render(&report, &Machine::observe()).as_bytes())?;
            let broken = !report.problems.is_empty();
            Ok(if broken { Exit::Invalid } else { Exit::Done })
        }
        Err(error) => Ok(complain(Exit::CannotRun, &error.to_string())),
    }
}

fn show(SeedShow { json, wait, consoles }: &SeedShow, output: &mut dyn Write) -> io::Result<Exit> {
    let report = match Report::read(Path::new(REPORT)) {
        Ok(Some(report)) => report,
        Ok(None) => {
            let sentence = format!("no seed was applied here: {REPORT} does not exist");
            return Ok(complain(Exit::CannotRun, &sentence));
        }
        Err(error) => {
            return Ok(complain(Exit::CannotRun, &format!("{REPORT} cannot be read: {error}")));
        }
    };
    if *json {
        serde_json::to_writer_pretty(&mut *output, &report)?;
        writeln!(output)?;
    } else {
        let deadline = Instant::now() + Duration::from_secs(*wait);
        let mut machine = Machine::observe();
        while !machine.is_reachable() && Instant::now() < deadline {
            std::thread::sleep(LOOK_INTERVAL);
            machine = Machine::observe();
        }
        let text = seed::render(&report, &machine);
        output.write_all(text.as_bytes())?;
        if *consoles {
            seed::write_to(&seed::consoles(), &text);
        }
    }
    Ok(if report.state == State::Waiting { Exit::CannotRun } else { Exit::Done })
}

/// `nvgate wait`.
pub(super) fn wait(Wait { consoles }: &Wait, output: &mut impl Write) -> io::Result<Exit> {
    let consoles = if *consoles { seed::consoles() } else { Vec::new() };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(seed::wait(&Places::below(Path::new("/")), output, consoles)) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Ok(complain(Exit::CannotRun, &error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(folder: &Path) -> (Exit, String) {
        let mut text = Vec::new();
        let command = SeedCommand::Check(SeedCheck { folder: folder.to_owned() });
        let exit = seed(&command, &mut text).unwrap();
        (exit, String::from_utf8(text).unwrap())
    }

    #[test]
    fn the_example_is_a_valid_seed_and_a_spoiled_one_has_every_error_at_its_place() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/seed");
        let (exit, text) = checked(&example);
        assert_eq!(exit, Exit::Done, "{text}");
        assert!(text.ends_with(": a valid seed; 2 tenants\n"), "{text}");
        let copy = tempfile::tempdir().unwrap();
        for file in ["seed.yaml", "gateway.yaml"] {
            std::fs::copy(example.join(file), copy.path().join(file)).unwrap();
        }
        let file = copy.path().join("gateway.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("fabric0", "eth1")).unwrap();
        std::fs::write(copy.path().join("keys"), "").unwrap();
        let (exit, text) = checked(copy.path());
        assert_eq!(exit, Exit::Invalid);
        let link = "gateway.yaml:4:9: error: this machine will have no link `eth1`: by the roles in \
                    seed.yaml its NICs are called `mgmt0`, `fabric0`, `front0`\n  4 |   link: eth1\n";
        assert!(text.contains(link), "{text}");
        assert!(text.contains("keys:1:1: error: is not a folder\n"), "{text}");
        assert!(text.ends_with(": no valid seed; 2 errors\n"), "{text}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_seed() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(checked(&directory.path().join("none")), (Exit::Invalid, String::new()));
    }
}
