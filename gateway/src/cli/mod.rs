//! The command line: what `nvgate` can be asked to do, what it prints, and its exit codes.
//!
//! Each command prints its product to standard output and what went wrong to standard error. Only
//! `run`, `demo` and `seed apply` touch the network of this host; `check` and `schema` touch nothing,
//! `status`, `links` and `bgp` ask a running gateway over HTTP, `drain` and `bgp clear` command it by
//! its control socket, `vpn` reads and makes keys in the state directory, `seed`, `image` and `wait`
//! belong to a machine of the image.

mod bgp;
mod check;
mod client;
mod documents;
mod drain;
mod image;
mod links;
mod owner;
mod seed;
mod status;
mod table;
mod vpn;

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nvgate_deploy::schema;
use tracing_subscriber::EnvFilter;

use crate::control::{self, ConfigError, RunError, RunOptions};
use crate::demo::{self, DemoOptions};

/// Where the configuration is unless the command line says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/nvgate";

/// How a command ended; the numbers are part of the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Everything as asked.
    Done = 0,
    /// The configuration is invalid, or a check of the demo failed.
    Invalid = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The host does not allow it: a privilege, a link, a port, or no gateway is running.
    CannotRun = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

const LONG_ABOUT: &str = "\
nvgate joins tenants' virtual networks to the rest of the world, at the edge of a virtualized data \
centre. Tenants' packets arrive as NVGRE (RFC 7637) from the virtualization hosts; the gateway \
routes between each tenant's subnets, translates towards public addresses (NAT), and publishes \
services by inbound rules. Site-to-site VPN (WireGuard) joins tenants' premises. Tenants may use the same addresses: each has a routing domain of its \
own, and nothing crosses between two.";

const AFTER_LONG_HELP: &str = "\
EXAMPLES
  nvgate demo                        see it work: two tenants with the same addresses, on this machine
  nvgate check examples/             is this configuration valid? every error at once
  nvgate check new/ --against-running
                                     and what would it change in the gateway that runs here?
  nvgate run --config /etc/nvgate    be the gateway; SIGHUP or a changed file reloads, SIGTERM ends
  nvgate status                      tenants, NAT headroom, drops with what they mean
  nvgate status --json               the same for programs
  nvgate links                       bonds, VLANs and cards: how they are to be, how they are, what to do
  nvgate schema tenant > tenant.json completion and checks in your editor
  nvgate bgp peers                   BGP sessions of tenants, and why one is down
  nvgate bgp explain --tenant contoso 172.30.0.0/16
                                     why a route is best, another not, and who is told
  nvgate drain                       tell BGP peers that the gateway goes, before it does
  nvgate seed check seed/            is this seed of a machine of the image valid?
  nvgate image update nvgate-0.2.0.update --reboot
                                     try a new release of the image; falls back by itself
  nvgate vpn keys                    the public keys that tenants' sites need
  nvgate vpn config --tenant contoso --site hq --format wg-quick
                                     the other side of a tunnel, ready for use

FILES
  /etc/nvgate/gateway.yaml           the gateway: ports, provider addresses, pools, workers, admin
  /etc/nvgate/tenants.d/*.yaml       one tenant a file
  /var/lib/nvgate/                   leases of front-end addresses, generated keys (state directory)

HEALTH ENDPOINT (admin.listen in gateway.yaml, 127.0.0.1:9470 unless set)
  /livez      200 while the process answers
  /readyz     200 when ports are up, the configuration is applied and workers turn; 503 with reasons
  /healthz    JSON, a component a line; 503 when one has failed
  /metrics    for Prometheus
  /v1/status  what `nvgate status --json` prints
  /v1/bgp/    peers, routes and explain: what `nvgate bgp ... --json` prints

EXIT CODES
  0  done
  1  the configuration is invalid, or a check of the demo failed
  2  the command line is wrong
  3  cannot run: a privilege, a link or a port is missing or in use, or no gateway is running

Logs go to standard error; --log or RUST_LOG choose them, as in --log info,nvgate=debug.";

/// A multi-tenant virtualization gateway: NVGRE, NAT and routing for tenants with the same addresses.
#[derive(Parser, Debug)]
#[command(name = "nvgate", version, long_about = LONG_ABOUT, after_long_help = AFTER_LONG_HELP)]
pub struct Cli {
    /// Which logs to write to standard error [default: $RUST_LOG, else info]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Be the gateway, until SIGTERM or Ctrl-C
    ///
    /// Needs CAP_NET_ADMIN and CAP_NET_RAW. A configuration that is invalid at the start ends the
    /// command with every error; one that becomes invalid later changes nothing and shows in
    /// health. SIGHUP or a changed file reloads: packets keep flowing, and tenants that did not
    /// change keep their sessions. A link that is down is waited for: the gateway is not ready
    /// until both are up.
    Run(Run),
    /// Say whether a configuration is valid, with every error at once
    ///
    /// Reads gateway.yaml and tenants.d/*.yaml and proves them together, as `run` does: each error
    /// is `file:line:col: error: text` with the offending line. Changes nothing and needs no
    /// privilege.
    Check(Check),
    /// Show what a running gateway does
    ///
    /// Tenants, subnets, endpoints, NAT sessions and headroom, ports, and drops by reason with
    /// what each reason means.
    Status(StatusArguments),
    /// Show the host's links beside how gateway.yaml wants them
    ///
    /// Each link of `links`: how it is to be and how it is, what is wrong and what to do about it,
    /// and what somebody else changed and the gateway put right.
    Links(StatusArguments),
    /// Print the JSON Schema of the configuration files, for editors
    Schema(Schema),
    /// Keys of VPN listeners, and what the other side of a tunnel needs
    ///
    /// `keys` prints public keys, `rotate` replaces a generated private key, `config` prints a
    /// tunnel's other side for wg-quick, systemd-networkd or RouterOS. Private keys are never
    /// printed.
    #[command(subcommand)]
    Vpn(vpn::Vpn),
    /// BGP of a running gateway: peers, routes, and why each is used or not
    #[command(subcommand)]
    Bgp(bgp::Bgp),
    /// Prepare the end of a running gateway, so that its going costs no packets
    ///
    /// Every BGP peer is told by the community GRACEFUL_SHUTDOWN (RFC 8326) to prefer other ways; later
    /// all sessions end, and with them what was announced. Only who may use the gateway's state
    /// directory can do it.
    Drain(drain::Drain),
    /// Virtual machines made from the image
    #[command(subcommand)]
    Image(image::Image),
    /// The seed of a virtual machine made from the image: check, apply, show
    #[command(subcommand)]
    Seed(seed::SeedCommand),
    /// Be in the gateway's place while a machine has no configuration
    ///
    /// The health endpoint, on port 9470 of the link mgmt0, says what is missing, and so does
    /// standard output whenever it changes. Ends when there is a configuration in /etc/nvgate.
    Wait(seed::Wait),
    /// Write man pages and shell completions, for packages
    #[command(hide = true)]
    Documents(documents::Documents),
    /// See the main job on this machine, in network namespaces
    ///
    /// Makes two virtualization hosts, two tenants that use the same addresses, a front-end server
    /// and a real gateway between them; sends TCP, UDP and ICMP out through NAT, in through an
    /// inbound rule and between subnets; shows that the tenants cannot reach each other; and
    /// removes everything again.
    Demo(Demo),
}

#[derive(Args, Debug)]
struct Run {
    /// The directory with gateway.yaml and tenants.d/
    #[arg(long, value_name = "DIR", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Packet workers, instead of what gateway.yaml says
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
}

#[derive(Args, Debug)]
struct Check {
    /// The directory with gateway.yaml and tenants.d/
    #[arg(value_name = "DIR", default_value = DEFAULT_CONFIG)]
    directory: PathBuf,
    /// Say as well what taking it over would change in the gateway that runs on this host
    ///
    /// Which tenants and parts change, what only a restart changes, and which BGP sessions would end.
    /// Of secrets in files of their own it sees another path, not another content.
    #[arg(long)]
    against_running: bool,
    /// Where that gateway keeps its state, if DIR says another place
    #[arg(long, value_name = "DIR", requires = "against_running")]
    state_directory: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How `check` prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people and editors: `file:line:col: error: text`
    Text,
    /// For programs
    Json,
}

#[derive(Args, Debug)]
struct StatusArguments {
    /// Print everything for programs
    #[arg(long)]
    json: bool,
    /// Where the gateway's health endpoint listens, as HOST:PORT
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    admin: Option<String>,
    /// The gateway's configuration, which says where that is
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Schema {
    /// Which file's schema; both without
    #[arg(value_enum)]
    file: Option<SchemaFile>,
}

/// The kinds of configuration files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum SchemaFile {
    /// gateway.yaml
    Gateway,
    /// A file of tenants.d
    Tenant,
    /// seed.yaml of an image's seed
    Seed,
}

#[derive(Args, Debug)]
struct Demo {
    /// Keep everything up until Ctrl-C, and say what to try
    #[arg(long)]
    hold: bool,
    /// Packet workers of the gateway, instead of its own choice
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Leave the configuration and the gateway's log in place afterwards
    #[arg(long)]
    keep_files: bool,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    // Clap prints help and usage errors and ends the process with 0 or 2.
    let cli = Cli::parse();
    match perform(cli) {
        Ok(code) => code,
        // The reader of our output is gone, as in `nvgate status | head`: nobody is left to tell.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done.into(),
        Err(error) => {
            complain(Exit::CannotRun, &format!("cannot write the output: {error}")).into()
        }
    }
}

fn perform(cli: Cli) -> io::Result<ExitCode> {
    if let Err(error) = start_logging(cli.log.as_deref()) {
        return Ok(complain(Exit::Usage, &error).into());
    }
    let exit = match cli.command {
        Command::Run(Run { config, workers }) => run(RunOptions { config, workers }),
        Command::Check(arguments) => check::check(&arguments, &mut io::stdout().lock())?,
        Command::Status(arguments) => status::status(&arguments, &mut io::stdout().lock())?,
        Command::Links(arguments) => links::links(&arguments, &mut io::stdout().lock())?,
        Command::Schema(Schema { file }) => print_schema(file)?,
        Command::Vpn(command) => vpn::vpn(&command, &mut io::stdout().lock())?,
        Command::Bgp(command) => bgp::bgp(&command, &mut io::stdout().lock())?,
        Command::Drain(arguments) => drain::drain(&arguments, &mut io::stdout().lock())?,
        Command::Image(command) => image::image(&command, &mut io::stdout().lock())?,
        Command::Seed(command) => seed::seed(&command, &mut io::stdout().lock())?,
        Command::Wait(arguments) => seed::wait(&arguments, &mut io::stdout().lock())?,
        Command::Documents(arguments) => documents::documents(&arguments),
        Command::Demo(options) => return Ok(show(options)),
    };
    Ok(exit.into())
}

/// Runs the demo, which has exit codes of its own for failed checks and Ctrl-C.
fn show(Demo { hold, workers, keep_files }: Demo) -> ExitCode {
    let workers = workers.map(NonZeroUsize::get);
    match demo::main(DemoOptions { hold, workers, keep_files }) {
        Ok(code) => code,
        Err(error) => complain(Exit::CannotRun, &format!("{error:#}")).into(),
    }
}

fn start_logging(filter: Option<&str>) -> Result<(), String> {
    let variable = std::env::var_os(EnvFilter::DEFAULT_ENV);
    let filter = filter.or_else(|| variable.as_deref().and_then(OsStr::to_str)).unwrap_or("info");
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!("`{filter}` is not a log filter such as info,nvgate=debug: {error}")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}

fn run(options: RunOptions) -> Exit {
    match control::run(options) {
        Ok(()) => Exit::Done,
        Err(error) => complain(exit_of(&error), &error.to_string()),
    }
}

/// The exit code that `run` owes for `error`.
const fn exit_of(error: &RunError) -> Exit {
    match error {
        RunError::Config(ConfigError::Invalid(_)) => Exit::Invalid,
        RunError::Config(ConfigError::Leases(_) | ConfigError::Keys(_))
        | RunError::Build(_)
        | RunError::Start(_)
        | RunError::Admin(_)
        | RunError::Netlink(_)
        | RunError::Guard(_)
        | RunError::Process(_)
        | RunError::WorkerEnded => Exit::CannotRun,
    }
}

fn print_schema(file: Option<SchemaFile>) -> io::Result<Exit> {
    let schemas = schema::json_schema();
    let chosen = match file {
        None => &schemas,
        Some(SchemaFile::Gateway) => &schemas["gateway"],
        Some(SchemaFile::Tenant) => &schemas["tenant"],
        Some(SchemaFile::Seed) => &schemas["seed"],
    };
    writeln!(io::stdout().lock(), "{chosen:#}")?;
    Ok(Exit::Done)
}

/// Says on standard error what went wrong.
fn complain(exit: Exit, sentence: &str) -> Exit {
    // Without a standard error there is nobody to tell; the exit code still says it.
    let _ = writeln!(io::stderr().lock(), "nvgate: {sentence}");
    exit
}

/// The configuration directory a command means when none is named.
fn default_config() -> &'static Path {
    Path::new(DEFAULT_CONFIG)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_read_their_options_and_know_their_defaults() {
        let Command::Run(run) = parse("nvgate run").unwrap().command else { panic!("run") };
        assert_eq!((run.config.as_path(), run.workers), (default_config(), None));
        let line = "nvgate run --config /tmp/x --workers 4";
        let Command::Run(run) = parse(line).unwrap().command else { panic!("run") };
        assert_eq!(run.config, Path::new("/tmp/x"));
        assert_eq!(run.workers.map(NonZeroUsize::get), Some(4));
        let Command::Check(check) = parse("nvgate check").unwrap().command else { panic!("check") };
        assert_eq!((check.directory.as_path(), check.format), (default_config(), Format::Text));
        let line = "nvgate check examples --format json";
        let Command::Check(check) = parse(line).unwrap().command else { panic!("check") };
        assert_eq!(
            (check.directory.as_path(), check.format),
            (Path::new("examples"), Format::Json)
        );
        let Command::Schema(schema) = parse("nvgate schema tenant").unwrap().command else {
            panic!("schema")
        };
        assert_eq!(schema.file, Some(SchemaFile::Tenant));
        let Command::Demo(demo) = parse("nvgate demo --hold").unwrap().command else {
            panic!("demo")
        };
        assert!(demo.hold && !demo.keep_files && demo.workers.is_none());
        let cli = parse("nvgate status --json --log debug").unwrap();
        assert_eq!(cli.log.as_deref(), Some("debug"));
        let Command::Status(status) = cli.command else { panic!("status") };
        assert!(status.json && status.admin.is_none() && status.config.is_none());
        for line in [
            "nvgate bgp peers",
            "nvgate bgp peers --tenant red --json --config /etc/nvgate",
            "nvgate bgp routes --tenant red --peer router --prefix 172.30.0.0/16 --json",
            "nvgate bgp explain --tenant red fd00::/8 --admin 127.0.0.1:9470",
            "nvgate bgp explain --tenant red 10.0.0.1",
            "nvgate bgp explain --front-end 2001:db8::1",
        ] {
            let Command::Bgp(_) = parse(line).unwrap().command else { panic!("{line}") };
        }
    }

    #[test]
    fn a_wrong_command_line_exits_with_2() {
        for line in [
            "nvgate",
            "nvgate fly",
            "nvgate run --workers 0",
            "nvgate check a b",
            "nvgate check --format xml",
            "nvgate check --state-directory /tmp/x",
            "nvgate schema host",
            "nvgate status --admin 127.0.0.1:1 --config /etc/nvgate",
            "nvgate links --admin 127.0.0.1:1 --config /etc/nvgate",
            "nvgate links bond0",
            "nvgate bgp",
            "nvgate bgp routes",
            "nvgate bgp routes --tenant red --prefix 10.0.0.0",
            "nvgate bgp explain 10.0.0.0/8",
            "nvgate bgp explain --tenant red",
            "nvgate bgp explain --tenant red 10.0.0.1/8",
            "nvgate bgp peers --admin 127.0.0.1:1 --config /etc/nvgate",
        ] {
            assert_eq!(
                parse(line).unwrap_err().exit_code(),
                i32::from(Exit::Usage as u8),
                "{line}"
            );
        }
    }

    #[test]
    fn help_teaches_files_exit_codes_and_the_health_endpoint() {
        let help = Cli::command().render_long_help().to_string();
        for taught in ["RFC 7637", "tenants.d", "/readyz", "EXIT CODES", "SIGHUP", "nvgate demo"] {
            assert!(help.contains(taught), "{taught} is missing in\n{help}");
        }
        assert_eq!(parse("nvgate --help").unwrap_err().exit_code(), 0);
    }
}
