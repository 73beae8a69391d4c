//! `nvgate bgp`: asks a running gateway about its BGP peers and routes, and prints what it says.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nvgate_model::Prefix;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{self, FetchError, fetch};
use super::table::{Side, Table, span};
use super::{Exit, check, complain, status};
use crate::admin::bgp::{
    AdvertisedReport, ClearReport, ExplainReport, PeerReport, PeersReport, RouteReport,
    RoutesReport, destination,
};
use crate::admin::commands::socket_path;

/// Routes asked for at once.
const PAGE: usize = 1000;

#[derive(Subcommand, Debug)]
pub(super) enum Bgp {
    /// Show the peers of the front end and of all tenants, or of one
    ///
    /// State, how long that is so, routes received, accepted and announced, and what ended the last
    /// session or attempt.
    Peers(Peers),
    /// Show the routes of a tenant or of the front end, with what became of each
    ///
    /// `*` the best of its prefix, `=` used beside it, `-` not used; then who taught it and with
    /// what, and why it is used or not: the step at which it lost, or the rule that rejected it.
    Routes(Routes),
    /// Say everything about one prefix of a tenant or of the front end, in sentences
    ///
    /// Of an address or a prefix without a route, it is the longest prefix that covers it. Each route with what import made of it and why it is best or not; and for each peer what it
    /// is told, or which rule keeps the route back.
    Explain(Explain),
    /// Begin the exchange with a peer anew
    ///
    /// Softly, what it sent is judged anew and asked for again, and it is told everything again; hard,
    /// its session ends and starts again. Only who may use the gateway's state directory can.
    Clear(Clear),
}

/// Whose BGP.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Whose {
    /// The tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The front end
    #[arg(long)]
    front_end: bool,
}

/// Which gateway is asked, and how the answer is printed.
#[derive(Args, Debug)]
pub(super) struct Asking {
    /// Print JSON
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
pub(super) struct Peers {
    /// Only this tenant's
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Debug)]
pub(super) struct Routes {
    #[command(flatten)]
    whose: Whose,
    /// Only what this peer taught: its name or address
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    /// Only this prefix
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<Prefix>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Debug)]
pub(super) struct Explain {
    #[command(flatten)]
    whose: Whose,
    /// The prefix, such as 172.30.0.0/16, or an address
    #[arg(value_name = "PREFIX", value_parser = destination)]
    prefix: Prefix,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Debug)]
pub(super) struct Clear {
    #[command(flatten)]
    whose: Whose,
    /// The peer: its name or address
    #[arg(value_name = "PEER")]
    peer: String,
    /// Judge and tell routes anew, and leave the session alone [default]
    #[arg(long, conflicts_with = "hard")]
    soft: bool,
    /// End the session, which starts again
    #[arg(long)]
    hard: bool,
    /// The gateway's configuration, which says where its state directory is
    #[arg(long, value_name = "DIR", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Why a command ends early: its exit code and one sentence.
pub(super) struct Failure(pub(super) Exit, pub(super) String);

/// Does what the command line says and prints to `output`.
pub(super) fn bgp(command: &Bgp, output: &mut dyn Write) -> io::Result<Exit> {
    let text = match command {
        Bgp::Peers(Peers { tenant, asking }) => {
            let query = [("tenant", tenant.clone())];
            ask::<PeersReport>(asking, "peers", &query)
                .and_then(|report| print(asking, &report, |report| render_peers(&report.peers)))
        }
        Bgp::Routes(arguments) => all_routes(arguments)
            .and_then(|report| print(&arguments.asking, &report, render_routes)),
        Bgp::Explain(Explain { whose, prefix, asking }) => {
            let query = [("tenant", whose.tenant.clone()), ("prefix", Some(prefix.to_string()))];
            ask::<ExplainReport>(asking, "explain", &query)
                .and_then(|report| print(asking, &report, render_explanation))
        }
        Bgp::Clear(arguments) => clear(arguments),
    };
    match text {
        Ok(text) => {
            output.write_all(text.as_bytes())?;
            Ok(Exit::Done)
        }
        Err(Failure(exit, sentence)) => Ok(complain(exit, &sentence)),
    }
}

/// Every page of the routes that were asked for.
fn all_routes(Routes { whose, peer, prefix, asking }: &Routes) -> Result<RoutesReport, Failure> {
    let tenant = &whose.tenant;
    let mut all = RoutesReport { tenant: tenant.clone(), ..RoutesReport::default() };
    loop {
        let query = [
            ("tenant", tenant.clone()),
            ("peer", peer.clone()),
            ("prefix", prefix.map(|prefix| prefix.to_string())),
            ("after", all.after.take()),
            ("limit", Some(PAGE.to_string())),
        ];
        let page: RoutesReport = ask(asking, "routes", &query)?;
        all.routes.extend(page.routes);
        all.after = page.after;
        if all.after.is_none() {
            return Ok(all);
        }
    }
}

fn ask<T: DeserializeOwned>(
    asking: &Asking,
    what: &str,
    query: &[(&str, Option<String>)],
) -> Result<T, Failure> {
    let authority = status::authority(asking.admin.as_deref(), asking.config.as_deref());
    let body = fetch(&authority, &path(&format!("/v1/bgp/{what}"), query));
    read(body, &authority)
}

/// Has the gateway of a configuration do something.
pub(super) fn command<T: DeserializeOwned>(
    config: &Path,
    what: &str,
    query: &[(&str, Option<String>)],
) -> Result<T, Failure> {
    let plan = check::prove(config).map_err(|_| {
        let sentence = format!(
            "the configuration in {} is invalid and does not say where the gateway's state \
             directory is: `nvgate check` says why",
            config.display()
        );
        Failure(Exit::Invalid, sentence)
    })?;
    let socket = socket_path(&plan.gateway.state_directory);
    read(client::command(&socket, &path(what, query)), &socket.display().to_string())
}

fn read<T: DeserializeOwned>(
    body: Result<Vec<u8>, FetchError>,
    authority: &str,
) -> Result<T, Failure> {
    let body = body.map_err(|error| {
        let exit = match &error {
            FetchError::Address(..) | FetchError::Refused(_, 400 | 404, _) => Exit::Usage,
            FetchError::NotRunning(_)
            | FetchError::NoSocket(_)
            | FetchError::Forbidden(_)
            | FetchError::Unreachable(..)
            | FetchError::Slow(_)
            | FetchError::Strange(..)
            | FetchError::Refused(..) => Exit::CannotRun,
        };
        Failure(exit, error.to_string())
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        let sentence = format!(
            "the answer from {authority} cannot be read: {error}; \
             is the gateway of another version than this command?"
        );
        Failure(Exit::CannotRun, sentence)
    })
}

fn clear(Clear { whose, peer, soft: _, hard, config }: &Clear) -> Result<String, Failure> {
    let query = [
        ("tenant", whose.tenant.clone()),
        ("peer", Some(peer.clone())),
        ("hard", Some(hard.to_string())),
    ];
    let ClearReport { peer, hard, .. } = command(config, "/v1/bgp/clear", &query)?;
    Ok(match hard {
        true => format!("the session with {peer} ends and starts again\n"),
        false => format!("the routes of {peer} are judged and told anew\n"),
    })
}

fn path(what: &str, query: &[(&str, Option<String>)]) -> String {
    let mut path = what.to_owned();
    let mut separator = '?';
    for (name, value) in query {
        if let Some(value) = value {
            path.push(separator);
            path.push_str(name);
            path.push('=');
            encode(&mut path, value);
            separator = '&';
        }
    }
    path
}

/// Percent-encodes what means something else in a query (RFC 3986 sections 2.1 and 3.4).
fn encode(to: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte) {
            to.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

fn print<T: Serialize>(
    asking: &Asking,
    report: &T,
    render: impl FnOnce(&T) -> String,
) -> Result<String, Failure> {
    if !asking.json {
        return Ok(render(report));
    }
    let mut text = serde_json::to_string_pretty(report)
        .map_err(|error| Failure(Exit::CannotRun, error.to_string()))?;
    text.push('\n');
    Ok(text)
}

fn render_peers(peers: &[PeerReport]) -> String {
    if peers.is_empty() {
        return "nobody has a BGP peer\n".to_owned();
    }
    let mut table = Table::new(&[
        ("tenant", Side::Left),
        ("peer", Side::Left),
        ("address", Side::Left),
        ("as", Side::Right),
        ("state", Side::Left),
        ("since", Side::Right),
        ("received", Side::Right),
        ("accepted", Side::Right),
        ("announced", Side::Right),
        ("flaps", Side::Right),
        ("last error", Side::Left),
    ]);
    for peer in peers {
        let [received, accepted, announced] = peer.routes().map(|count| count.to_string());
        let error = match (&peer.last_error, peer.last_error_age_secs) {
            (Some(error), Some(age)) => format!("{error}, {} ago", span(age)),
            (Some(error), None) => error.clone(),
            (None, _) => String::new(),
        };
        table.row([
            peer.tenant.as_deref().unwrap_or("(front end)"),
            &peer.name,
            &peer.address,
            &peer.asn,
            if peer.shutdown { "shut down" } else { &peer.state },
            &peer.since_secs.map_or_else(|| "never".to_owned(), span),
            &received,
            &accepted,
            &announced,
            &peer.flaps.to_string(),
            &error,
        ]);
    }
    let mut text = String::new();
    table.write(&mut text);
    text
}

fn render_routes(report: &RoutesReport) -> String {
    if report.routes.is_empty() {
        return "no such route\n".to_owned();
    }
    let mut table = Table::new(&[
        ("", Side::Left),
        ("prefix", Side::Left),
        ("peer", Side::Left),
        ("next hop", Side::Left),
        ("as path", Side::Left),
        ("med", Side::Right),
        ("pref", Side::Right),
        ("age", Side::Right),
        ("why", Side::Left),
    ]);
    let number = |of: Option<u32>| of.map_or_else(|| "-".to_owned(), |of| of.to_string());
    for route in &report.routes {
        let shown = route.imported.as_ref().unwrap_or(&route.received);
        let prefix = match route.path_id {
            Some(id) => format!("{} path {id}", route.prefix),
            None => route.prefix.clone(),
        };
        let own = route.own.join(", ");
        table.row([
            match (route.best, route.multipath) {
                (true, _) => "*",
                (false, true) => "=",
                (false, false) => "-",
            },
            &prefix,
            route.peer.as_deref().unwrap_or(if own.is_empty() { "-" } else { "(own)" }),
            if route.peer.is_some() { &shown.next_hop } else { "-" },
            &shown.as_path,
            &number(shown.med),
            &number(shown.local_preference),
            &span(route.age_secs),
            &if own.is_empty() { route.why.clone() } else { format!("{}: {own}", route.why) },
        ]);
    }
    let mut text = String::new();
    table.write(&mut text);
    text
}

fn render_explanation(report: &ExplainReport) -> String {
    let ExplainReport { tenant, asked, prefix, routes, omitted, advertised } = report;
    let mut text = String::new();
    let tenant = tenant.as_deref().unwrap_or("The front end");
    // Writing to a string does not fail.
    if asked != prefix {
        let _ = writeln!(text, "{tenant} has no route to {asked}; {prefix} covers it.");
    }
    let _ = match routes.len() {
        0 => writeln!(text, "{tenant} has no route to {prefix}."),
        1 => writeln!(text, "{tenant} has one route to {prefix}."),
        many => writeln!(text, "{tenant} has {many} routes to {prefix}, the best first."),
    };
    for (number, route) in (1..).zip(routes) {
        write_route(&mut text, number, route);
    }
    if *omitted > 0 {
        let _ = writeln!(text, "\n{omitted} more are not shown.");
    }
    let best = routes.iter().find(|route| route.best);
    // Of what is not there nobody is told.
    let told = advertised.iter().filter(|_| !routes.is_empty());
    for (number, one) in told.enumerate() {
        text.push_str(if number == 0 { "\n" } else { "" });
        write_advertised(&mut text, one, best);
    }
    let printable =
        |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(printable).collect()
}

fn write_route(text: &mut String, number: usize, route: &RouteReport) {
    let age = span(route.age_secs);
    let path = route.path_id.map_or_else(String::new, |id| format!(" as path {id}"));
    let _ = match &route.peer {
        Some(peer) => {
            writeln!(text, "\n{number}. {peer} taught it{path} {age} ago: {}.", route.received)
        }
        None if route.own.is_empty() => {
            writeln!(
                text,
                "\n{number}. A peer that is gone taught it{path} {age} ago: {}.",
                route.received
            )
        }
        None => writeln!(text, "\n{number}. The gateway's own, {}.", route.own.join(", ")),
    };
    match (&route.imported, &route.rule) {
        (Some(imported), Some(rule)) if *imported == route.received => {
            let _ = writeln!(text, "   Import let it in as it came, by {rule}.");
        }
        (Some(imported), Some(rule)) => {
            let _ = writeln!(text, "   Import let it in by {rule}, as {imported}.");
        }
        (Some(_) | None, _) => {}
    }
    if route.weight > 0 {
        let _ = writeln!(text, "   It has weight {}.", route.weight);
    }
    let _ = match (route.best, route.multipath) {
        (true, _) => writeln!(text, "   It is the best route: packets take it."),
        (false, true) => writeln!(text, "   It is {}: packets take it too.", route.why),
        (false, false) => writeln!(text, "   It is not used: {}.", route.why),
    };
    if route.discard {
        text.push_str("   Packets that take it are discarded.\n");
    }
    if route.stale {
        text.push_str("   It is stale: its peer restarts and has not announced it again.\n");
    }
}

fn write_advertised(text: &mut String, one: &AdvertisedReport, best: Option<&RouteReport>) {
    let AdvertisedReport { peer, paths, sent, export } = one;
    let by = export.as_ref().filter(|export| export.accepted);
    let by = by.map_or_else(String::new, |export| format!(", by {}", export.rule));
    let on_the_way = if *sent { "" } else { " (on the way)" };
    for path in paths {
        let id = path.path_id.map_or_else(String::new, |id| format!(" as path {id}"));
        let _ = writeln!(text, "{peer} is told it{id}{on_the_way}{by}: {}.", path.attributes);
    }
    if paths.is_empty() {
        let _ = match export {
            Some(export) if !export.accepted => {
                writeln!(text, "{peer} is not told: {} keeps it back.", export.rule)
            }
            Some(_) => writeln!(text, "{peer} is not told yet{on_the_way}."),
            None if best.is_some_and(|best| best.peer.as_ref() == Some(peer)) => {
                writeln!(text, "{peer} is not told: it taught the best route.")
            }
            None => writeln!(text, "{peer} is not told: there is no best route."),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::samples;

    #[test]
    fn peers_read_like_this() {
        let mut peers = samples::peers();
        peers[1].tenant = Some("fabrikam\u{1b}[2J".to_owned());
        (peers[1].state, peers[1].since_secs) = ("Connect".to_owned(), None);
        let expected = include_str!("bgp_peers.golden.txt");
        assert_eq!(render_peers(&peers), expected);
        assert!(render_peers(&[samples::transit()]).contains("(front end)  transit"));
        assert_eq!(render_peers(&[]), "nobody has a BGP peer\n");
    }

    #[test]
    fn routes_read_like_this() {
        let ExplainReport { tenant, mut routes, .. } = samples::explanation();
        let mut own = routes[0].clone();
        (own.peer, own.own) = (None, vec!["a subnet of the tenant".to_owned()]);
        (own.received.as_path, own.imported, own.rule) = (String::new(), None, None);
        routes.push(own);
        let report = RoutesReport { tenant, routes, after: None };
        assert_eq!(render_routes(&report), include_str!("bgp_routes.golden.txt"));
        assert_eq!(render_routes(&RoutesReport::default()), "no such route\n");
    }

    #[test]
    fn an_explanation_reads_like_this() {
        let text = render_explanation(&samples::explanation());
        assert_eq!(text, include_str!("bgp_explain.golden.txt"));
        let none = ExplainReport {
            tenant: Some("red".to_owned()),
            asked: "10.0.0.0/8".to_owned(),
            prefix: "10.0.0.0/8".to_owned(),
            advertised: samples::explanation().advertised,
            ..ExplainReport::default()
        };
        assert_eq!(render_explanation(&none), "red has no route to 10.0.0.0/8.\n");
        let address = "172.30.7.7/32".to_owned();
        let covered =
            render_explanation(&ExplainReport { asked: address, ..samples::explanation() });
        let (first, rest) = covered.split_once('\n').unwrap();
        assert_eq!(first, "contoso has no route to 172.30.7.7/32; 172.30.0.0/16 covers it.");
        assert_eq!(rest, text);
    }

    #[test]
    fn a_query_cannot_be_broken_out_of() {
        let query = [("tenant", Some("a&b c".to_owned())), ("peer", None)];
        let query = query.into_iter().chain([("prefix", Some("fd00::/8".to_owned()))]);
        let text = path("/v1/bgp/routes", &query.collect::<Vec<_>>());
        assert_eq!(text, "/v1/bgp/routes?tenant=a%26b%20c&prefix=fd00::/8");
    }

    #[test]
    fn no_gateway_is_cannot_run() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let asking = Asking { json: true, admin: Some(free.to_string()), config: None };
        let command = Bgp::Peers(Peers { tenant: None, asking });
        let mut output = Vec::new();
        assert_eq!(bgp(&command, &mut output).unwrap(), Exit::CannotRun);
        assert_eq!(output, b"");
    }
}
