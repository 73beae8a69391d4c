//! Coverage-guided fuzzing on stable Rust: builds the targets of `fuzz/` with the coverage that
//! libFuzzer reads, runs them within bounds of time and memory, and says what came of it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::peers;
use crate::stages::{cargo, run as run_command, target_directory};

/// What libFuzzer needs of the compiler, as cargo-fuzz has it, without a sanitizer.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing \
    -Ccodegen-units=1";

/// Where a target finds the directory to write its seeds to.
const SEEDS: &str = "NVGATE_FUZZ_SEEDS";

/// Bounds of one input and of the process.
const MOST_SECONDS: u32 = 25;
const MOST_MEGABYTES: u32 = 2048;
const MOST_BYTES: u32 = 4096;

/// Lines of a target's output that are shown with a finding.
const SHOWN_LINES: usize = 40;

/// The targets in `fuzz/fuzz_targets`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Target {
    /// BFD packets to a session that is Up.
    Bfd,
    /// BGP messages, decoded and encoded again.
    Bgp,
    /// Frames into a whole gateway.
    Frames,
    /// Parsers of packets, and changes to packets.
    Headers,
    /// A BGP peer with an established session that sends anything.
    Speaker,
    /// A tunnel, its peer, and a stranger between them.
    Tunnel,
    /// Configuration files.
    Yaml,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Bfd => "bfd",
            Self::Bgp => "bgp",
            Self::Frames => "frames",
            Self::Headers => "headers",
            Self::Speaker => "speaker",
            Self::Tunnel => "tunnel",
            Self::Yaml => "yaml",
        }
    }
}

/// Runs a target or all of them, `seconds` each, or one on the input in the file `replay`; says
/// whether nothing was found.
pub fn run(target: Option<Target>, seconds: u32, replay: Option<&Path>) -> Result<bool> {
    if !peers::on_path("c++") {
        peers::install_packages(&["g++"])?;
    }
    let directory = target_directory()?.join("fuzz");
    let host = host()?;
    let mut build =
        cargo(&["build", "--manifest-path", "fuzz/Cargo.toml", "--release", "--locked"]);
    // With a target named, build scripts are not instrumented.
    build.args(["--bins", "--target", &host, "--target-dir"]).arg(&directory);
    run_command(build.env("RUSTFLAGS", COVERAGE))?;
    let binaries = directory.join(host).join("release");
    if let (Some(target), Some(replay)) = (target, replay) {
        let status = Command::new(binaries.join(target.name())).arg(replay).status();
        return Ok(status.context("running a fuzz target")?.success());
    }
    let mut held = true;
    for &each in Target::value_variants() {
        if target.is_none_or(|target| target == each) {
            held &= fuzz(each, &binaries, &directory, seconds)?;
        }
    }
    Ok(held)
}

/// Runs one target from its seeds and from what earlier runs found of interest.
fn fuzz(target: Target, binaries: &Path, directory: &Path, seconds: u32) -> Result<bool> {
    let name = target.name();
    let corpus = directory.join("corpus").join(name);
    let findings = directory.join("findings").join(name);
    for made in [&corpus, &findings] {
        fs::create_dir_all(made).with_context(|| format!("making {}", made.display()))?;
    }
    // The first directory gets what is new, the other one is only read.
    let committed = Path::new("fuzz/corpus").join(name);
    let log = directory.join(format!("{name}.log"));
    let output = fs::File::create(&log).with_context(|| format!("writing {}", log.display()))?;
    let status = Command::new(binaries.join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={MOST_SECONDS}"))
        .arg(format!("-rss_limit_mb={MOST_MEGABYTES}"))
        .arg(format!("-max_len={MOST_BYTES}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg("-print_final_stats=1")
        .arg(&corpus)
        .args(committed.is_dir().then_some(committed))
        .env(SEEDS, &corpus)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .status()
        .with_context(|| format!("running the fuzz target {name}"))?;
    let log = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    println!("{name:<8} {}", summary(&log));
    if status.success() {
        return Ok(true);
    }
    let lines: Vec<_> = log.lines().collect();
    println!("{}", lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"));
    match finding(&log) {
        Some(file) => println!(
            "\nreplay it by\n  cargo xtask fuzz {name} --replay {file}\n\
             and keep it, once mended, in fuzz/regressions/{name}/"
        ),
        None => println!("\n{name} ended with {status}"),
    }
    Ok(false)
}

/// The host's target triple.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    ensure!(output.status.success(), "rustc -vV failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// Executions, executions a second and coverage, as libFuzzer's log has them.
fn summary(log: &str) -> String {
    let statistic = |name: &str| {
        let line = log.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim)
    };
    let covered = log.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "cov:");
        words.nth(1)
    });
    format!(
        "{} executions, {} a second; {} of the counted branches reached; {} MiB",
        statistic("stat::number_of_executed_units:"),
        statistic("stat::average_exec_per_sec:"),
        covered.unwrap_or("?"),
        statistic("stat::peak_rss_mb:"),
    )
}

/// The file that libFuzzer wrote the input to.
fn finding(log: &str) -> Option<&str> {
    log.lines().find_map(|line| Some(line.split_once("Test unit written to ")?.1.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                       #900\tNEW    cov: 345 ft: 400 corp: 7/20b exec/s: 10 rss: 31Mb\n\
                       artifact_prefix='x/'; Test unit written to x/crash-0a\n\
                       stat::number_of_executed_units: 901\n\
                       stat::average_exec_per_sec:     10\n\
                       stat::peak_rss_mb:              31\n";

    #[test]
    fn a_log_says_how_much_was_run_and_reached_and_what_was_found() {
        assert_eq!(
            summary(LOG),
            "901 executions, 10 a second; 345 of the counted branches reached; 31 MiB"
        );
        assert_eq!(finding(LOG), Some("x/crash-0a"));
        assert_eq!(finding("DONE"), None);
    }
}
