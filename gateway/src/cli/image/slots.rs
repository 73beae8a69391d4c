//! `nvgate image update`, `status` and `await-ready`: the appliance's own slots and boot entries.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use nvgate_deploy::update::{
    Archive, Entries, Entry, RootHash, Slots, Step, Update as Work, UpdateError,
    verify_by_veritysetup,
};

use crate::appliance;
use crate::cli::client::fetch;
use crate::cli::status::authority;
use crate::cli::table::{Side, Table};
use crate::cli::{DEFAULT_CONFIG, Exit, complain};

/// Where kernels are on the ESP, which is mounted when somebody looks.
const ENTRIES: &str = "/efi/EFI/Linux";

/// How long between two looks at whether the gateway is ready.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
pub(in crate::cli) struct Update {
    /// The release
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Boot it when it is written
    #[arg(long)]
    reboot: bool,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct AwaitReady {
    /// Seconds until it counts as not ready
    #[arg(long, value_name = "SECS", default_value_t = 120)]
    within: u64,
}

/// The exit code that an error owes.
const fn exit_of(error: &UpdateError) -> Exit {
    match error {
        UpdateError::Archive { .. } | UpdateError::TooLarge { .. } => Exit::Invalid,
        UpdateError::NotAnImage(_)
        | UpdateError::NotGoodYet
        | UpdateError::NotVerified(_)
        | UpdateError::Io { .. } => Exit::CannotRun,
    }
}

type Done = io::Result<Result<Exit, UpdateError>>;

/// The exit of a command, after saying what went wrong.
pub(super) fn conclude(done: Done) -> io::Result<Exit> {
    Ok(done?.unwrap_or_else(|error| complain(exit_of(&error), &error.to_string())))
}

/// The root that this machine was booted with.
fn running() -> Result<RootHash, UpdateError> {
    const PATH: &str = "/proc/cmdline";
    let words = std::fs::read_to_string(PATH)
        .map_err(|error| UpdateError::Io { path: PATH.into(), error })?;
    let none = || UpdateError::NotAnImage("its kernel was given no root hash".to_owned());
    RootHash::of_command_line(&words).ok_or_else(none)
}

pub(super) fn update(arguments: &Update, output: &mut impl Write) -> Done {
    let prepared = || {
        let running = running()?;
        let slots = Slots::find(Path::new("/sys"), Path::new("/dev"), &running)?;
        let archive = Archive::open(&arguments.file)?;
        let version = archive.version.clone();
        let work = Work::new(archive, running, slots.other, ENTRIES.into(), verify_by_veritysetup)?;
        Ok((work, version))
    };
    let (work, version) = match prepared() {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Err(error)),
    };
    for step in Step::ALL {
        writeln!(output, "{}", step.describe())?;
        if let Err(error) = work.perform(step) {
            return Ok(Err(error));
        }
    }
    if let Err(error) = tell_health() {
        writeln!(output, "health goes on telling of the update before: {error}")?;
    }
    if !arguments.reboot {
        writeln!(output, "{version} is tried at the next boot: systemctl reboot")?;
        return Ok(Ok(Exit::Done));
    }
    writeln!(output, "booting {version}")?;
    let rebooted = Command::new("systemctl").arg("reboot").status()?;
    Ok(Ok(if rebooted.success() { Exit::Done } else { Exit::CannotRun }))
}

pub(super) fn status(output: &mut impl Write) -> Done {
    let look = || Ok((running()?, Entries::read(Path::new(ENTRIES))?));
    let (running, entries) = match look() {
        Ok(seen) => seen,
        Err(error) => return Ok(Err(error)),
    };
    output.write_all(render(&running, &entries.list).as_bytes())?;
    Ok(Ok(Exit::Done))
}

pub(super) fn report() -> Done {
    Ok(tell_health().map(|()| Exit::Done))
}

fn tell_health() -> Result<(), UpdateError> {
    let entries = Entries::read(Path::new(ENTRIES))?;
    let file = Path::new(appliance::REPORT);
    let failed = |error| UpdateError::Io { path: file.into(), error };
    appliance::write_report(file, &entries, &running()?).map_err(failed)
}

fn render(running: &RootHash, entries: &[Entry]) -> String {
    let mut table =
        Table::new(&[("VERSION", Side::Left), ("STATE", Side::Left), ("ENTRY", Side::Left)]);
    for entry in entries {
        let runs = entry.hash.as_ref() == Some(running);
        let state = match (runs, entry.tries) {
            (true, None) => "runs",
            (true, Some(_)) => "runs, not known to be ready yet",
            (false, None) => "to go back to",
            (false, Some(tries)) if tries.left == 0 => "was not ready, given up",
            (false, Some(_)) => "tried at the next boot",
        };
        let file = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        table.row([entry.version.as_deref().unwrap_or("?"), state, &file]);
    }
    let mut text = String::new();
    table.write(&mut text);
    text
}

pub(super) fn await_ready(arguments: &AwaitReady, output: &mut impl Write) -> Done {
    let deadline = Instant::now() + Duration::from_secs(arguments.within);
    loop {
        // Without a configuration the waiting state is what there is to reach.
        let waiting = !Path::new(DEFAULT_CONFIG).join("gateway.yaml").exists();
        let question = if waiting { "/livez" } else { "/readyz" };
        match fetch(&authority(None, None), question) {
            Ok(_) => return Ok(Ok(Exit::Done)),
            Err(error) if Instant::now() >= deadline => {
                writeln!(output, "not ready within {} s: {error}", arguments.within)?;
                break;
            }
            Err(_) => sleep(LOOK_EVERY),
        }
    }
    let other = || Ok(Entries::read(Path::new(ENTRIES))?.has_other_than(&running()?));
    match other() {
        Ok(true) => {
            writeln!(output, "going back to the version before this one")?;
            Ok(Ok(Exit::CannotRun))
        }
        Ok(false) => {
            writeln!(output, "there is no other version to go back to")?;
            Ok(Ok(Exit::Done))
        }
        Err(error) => Ok(Err(error)),
    }
}
