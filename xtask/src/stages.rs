//! The stages of `cargo xtask test`: each is timed, all run whatever the earlier ones said, and the
//! end lists the stages, then what was skipped and why, then the test runner's own summary.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};

use crate::package::build_program;
use crate::summary::Summary;
use crate::{dependencies, image, peers};

/// The file that tests append the reason to when they cannot run here; one line a test.
const SKIPPED: &str = "NVGATE_SKIPPED";
/// Set to 1 where a missing peer is a failure instead of a skip.
const REQUIRE_PEERS: &str = "NVGATE_REQUIRE_PEERS";
/// The gateway's binary, for tests that start it.
const BINARY: &str = "NVGATE_BIN";
/// The directory with the image, for tests that boot it.
const IMAGE: &str = "NVGATE_IMAGE";

struct Stage {
    name: &'static str,
    held: bool,
    took: Duration,
}

/// Runs every check and says whether all of them held. The total is counted from `started` (Unix
/// time in seconds) when given.
pub fn test(started: Option<u64>, install: bool) -> Result<bool> {
    let began = Instant::now();
    let before = started.map_or(Duration::ZERO, since);
    let mut stages = Vec::new();
    let mut skipped = Vec::new();
    let mut summary = Summary::default();

    let insist = install && peers::installable().is_ok();
    if insist {
        stage(&mut stages, "peers", || peers::install().map(|said| println!("{said}")));
    } else if let Err(reason) = peers::installable() {
        skipped.push(format!("installing peers: {reason}"));
    }
    stage(&mut stages, "format", || run(cargo(&["fmt", "--all", "--check"])));
    stage(&mut stages, "clippy", || {
        run(cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
    });
    stage(&mut stages, "documentation", || {
        let mut command = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
        run(command.env("RUSTDOCFLAGS", "-D warnings"))
    });
    stage(&mut stages, "dependencies", dependencies::check);
    stage(&mut stages, "build", || build(insist));
    stage(&mut stages, "doc tests", || run(cargo(&["test", "--workspace", "--doc", "--locked"])));
    let mut built = None;
    if insist {
        stage(&mut stages, "image", || {
            built = Some(image::build(image::Packages::Cached)?);
            Ok(())
        });
    }
    let image = built.as_deref();
    stage(&mut stages, "tests", || run_tests(insist, image, &mut summary, &mut skipped));

    println!("\n== stages");
    for Stage { name, held, took } in &stages {
        let verdict = if *held { "ok" } else { "FAILED" };
        println!("{name:<14} {verdict:<7} {:>7.1} s", took.as_secs_f64());
    }
    println!("{:<14} {:<7} {:>7.1} s", "total", "", (before + began.elapsed()).as_secs_f64());
    println!("\n== skipped");
    for reason in &skipped {
        println!("SKIPPED: {reason}");
    }
    if skipped.is_empty() {
        println!("nothing");
    }
    println!();
    for line in summary.lines() {
        println!("{line}");
    }
    Ok(stages.iter().all(|stage| stage.held))
}

/// Runs the gateway's benchmarks.
pub fn bench(arguments: &[String]) -> Result<bool> {
    let mut command = cargo(&["bench", "--package", "nvgate", "--locked"]);
    if !arguments.is_empty() {
        command.arg("--").args(arguments);
    }
    Ok(command.status().context("running cargo bench")?.success())
}

/// Measures site-to-site tunnels of the gateway's release build: rounds, seconds and streams.
pub fn bench_vpn(numbers: [u32; 3]) -> Result<bool> {
    run(cargo(&["build", "--release", "--package", "nvgate", "--locked"]))?;
    let bench = ["--package", "nvgate-tests", "--bench", "site_to_site"];
    let mut command = cargo(&["bench", "--locked"]);
    command.args(bench).arg("--").args(numbers.map(|number| number.to_string()));
    command.env(BINARY, target_directory()?.join("release/nvgate"));
    command.env("PATH", peers::search_path()?).env(REQUIRE_PEERS, "1");
    Ok(command.status().context("running cargo bench")?.success())
}

/// Measures a full BGP table in the release build: rounds, routes and how many share attributes;
/// of these contenders, or all.
pub fn bench_bgp(numbers: [u32; 3], contenders: &[String]) -> Result<bool> {
    run(cargo(&["build", "--release", "--package", "nvgate", "--locked"]))?;
    let bench = ["--package", "nvgate-tests", "--bench", "bgp_table"];
    let mut command = cargo(&["bench", "--locked"]);
    command.args(bench).arg("--").args(numbers.map(|number| number.to_string())).args(contenders);
    command.env(BINARY, target_directory()?.join("release/nvgate"));
    command.env("PATH", peers::search_path()?).env(REQUIRE_PEERS, "1");
    Ok(command.status().context("running cargo bench")?.success())
}

/// Runs cargo-deny over the workspace.
pub fn deny() -> Result<bool> {
    if !has_cargo_command("deny") {
        bail!("cargo-deny is not installed: run `cargo install --locked cargo-deny`");
    }
    Ok(cargo(&["deny", "check"]).status().context("running cargo deny")?.success())
}

/// Builds the tests and, for the image, the program as it is shipped: that one's optimization at link
/// time leaves a processor to the others.
fn build(shipped: bool) -> Result<()> {
    thread::scope(|scope| {
        let shipped = shipped.then(|| scope.spawn(build_program));
        let tests = run(cargo(&["build", "--workspace", "--bins", "--tests", "--locked"]));
        if let Some(shipped) = shipped {
            let program = shipped.join().map_err(|_| anyhow!("building nvgate panicked"))?;
            program.context("nvgate as it is shipped")?;
        }
        tests
    })
}

fn stage(stages: &mut Vec<Stage>, name: &'static str, work: impl FnOnce() -> Result<()>) {
    println!("\n== {name}");
    let began = Instant::now();
    let result = work();
    if let Err(error) = &result {
        println!("{name}: {error:#}");
    }
    stages.push(Stage { name, held: result.is_ok(), took: began.elapsed() });
}

fn run_tests(
    insist: bool,
    image: Option<&Path>,
    summary: &mut Summary,
    skipped: &mut Vec<String>,
) -> Result<()> {
    let list = std::env::temp_dir().join(format!("nvgate-skipped-{}", std::process::id()));
    fs::write(&list, "").with_context(|| format!("writing {}", list.display()))?;
    let mut command = if has_cargo_command("nextest") {
        cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])
    } else {
        cargo(&["test", "--workspace", "--tests", "--locked", "--no-fail-fast"])
    };
    command.env(SKIPPED, &list).env(BINARY, target_directory()?.join("debug/nvgate"));
    command.env("PATH", peers::search_path()?);
    command.envs(image.map(|directory| (IMAGE, directory)));
    if insist {
        command.env(REQUIRE_PEERS, "1");
    }
    let result = watch(command, |line| summary.handle_line(line));
    let reasons = fs::read_to_string(&list).unwrap_or_default();
    skipped.extend(reasons.lines().map(str::to_owned));
    skipped.sort_unstable();
    skipped.dedup();
    fs::remove_file(&list).ok();
    result
}

/// Runs a command, passing on both of its outputs and showing each line to `handle_line`.
fn watch(mut command: Command, mut handle_line: impl FnMut(&str)) -> Result<()> {
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let described = describe(&command);
    let mut child = command.spawn().with_context(|| format!("running {described}"))?;
    // The command holds the pipe's write ends: without this the reader would never see its end.
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("reading a test runner's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        std::io::stdout().flush().ok();
        handle_line(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{described}: {status}");
    }
    Ok(())
}

/// Runs a command that has to succeed.
pub fn run(mut command: impl std::borrow::BorrowMut<Command>) -> Result<()> {
    let command = command.borrow_mut();
    let described = describe(command);
    let status = command.status().with_context(|| format!("running {described}"))?;
    if !status.success() {
        bail!("{described}: {status}");
    }
    Ok(())
}

/// The cargo that runs this program.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments);
    command
}

fn describe(command: &Command) -> String {
    let words = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once("cargo".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn has_cargo_command(name: &str) -> bool {
    cargo(&[name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Where cargo puts what it builds: this program is in its `debug` folder.
pub fn target_directory() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    own.ancestors().nth(2).map(PathBuf::from).context("this program is in no target directory")
}

fn since(unix_secs: u64) -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH + Duration::from_secs(unix_secs))
        .unwrap_or_default()
}
