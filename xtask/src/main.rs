//! One door for development commands: what continuous integration and a contributor run.
//!
//! `cargo xtask test` is the project's test command and does its own set-up; the other commands
//! are its parts or tools of their own. Nothing here is part of the gateway.

mod dependencies;
mod files;
mod fuzz;
mod guest;
mod image;
mod origin;
mod package;
mod peers;
mod stages;
mod summary;
mod tool;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Development commands of nvgate.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every check: format, lints, documentation, dependency rules, tests.
    ///
    /// As root on Debian it installs the peers that the interoperation tests need and then insists
    /// on them. Without root, tests that need it are skipped and listed with the reason.
    Test {
        /// Unix time in seconds that the total is counted from, instead of this command's start.
        #[arg(long, hide = true)]
        started: Option<u64>,
        /// Leaves the machine's packages alone.
        #[arg(long)]
        no_install: bool,
    },
    /// Installs the peers of the interoperation tests (root on Debian).
    Peers,
    /// Checks that crates depend on each other in the allowed directions only.
    Dependencies,
    /// Runs the gateway's benchmarks.
    Bench {
        /// Passed on to the benchmarks.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measures site-to-site tunnels against wireguard-go and boringtun-cli (root on Debian).
    BenchVpn {
        /// Interleaved rounds.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 3)]
        seconds: u32,
        /// TCP streams at once.
        #[arg(long, default_value_t = 4)]
        streams: u32,
    },
    /// Measures a full BGP table against BIRD, FRR, GoBGP and OpenBGPD (root on Debian).
    BenchBgp {
        /// Interleaved rounds.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Routes.
        #[arg(long, default_value_t = 1_000_000)]
        routes: u32,
        /// Routes that share a set of attributes, on average.
        #[arg(long, default_value_t = 6)]
        share: u32,
        /// Only these contenders, by how their names begin.
        contenders: Vec<String>,
    },
    /// Runs the coverage-guided fuzz targets, which `test` does not.
    ///
    /// Ends with failure at the first finding of a target, and with the command that replays it.
    Fuzz {
        /// The target; all of them unless given.
        target: Option<fuzz::Target>,
        /// Seconds a target.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        /// Runs the target on the input in this file instead.
        #[arg(long, requires = "target", conflicts_with = "seconds")]
        replay: Option<PathBuf>,
    },
    /// Builds the virtual machine image (root on Debian).
    ///
    /// qcow2, VHDX and raw.zst with a manifest and a list of what is in it, in target/image.
    Image {
        /// Fetches Debian's packages anew, instead of taking those that were fetched today.
        #[arg(long)]
        fresh: bool,
    },
    /// Builds the Debian package (on Debian; root only if its tools are not installed).
    ///
    /// Prints the name of the file, which is in target/package unless --out says otherwise.
    Package {
        /// The folder for the package.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Packages this program instead of a release build.
        #[arg(long)]
        program: Option<PathBuf>,
    },
    /// Checks licences, advisories, duplicate crates and sources with cargo-deny.
    Deny,
}

fn main() -> Result<ExitCode> {
    let held = match Arguments::parse().command {
        Command::Test { started, no_install } => stages::test(started, !no_install)?,
        Command::Peers => {
            println!("{}", peers::install()?);
            true
        }
        Command::Dependencies => {
            dependencies::check()?;
            true
        }
        Command::Bench { arguments } => stages::bench(&arguments)?,
        Command::BenchVpn { rounds, seconds, streams } => {
            println!("{}", peers::install()?);
            stages::bench_vpn([rounds, seconds, streams])?
        }
        Command::BenchBgp { rounds, routes, share, contenders } => {
            println!("{}", peers::install()?);
            stages::bench_bgp([rounds, routes, share], &contenders)?
        }
        Command::Fuzz { target, seconds, replay } => fuzz::run(target, seconds, replay.as_deref())?,
        Command::Image { fresh } => {
            let packages = if fresh { image::Packages::Fresh } else { image::Packages::Cached };
            image::build(packages)?;
            true
        }
        Command::Package { out, program } => {
            let usual = stages::target_directory()?.join("package");
            let out = out.unwrap_or(usual);
            println!("{}", package::build(&out, program.as_deref())?.display());
            true
        }
        Command::Deny => stages::deny()?,
    };
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
