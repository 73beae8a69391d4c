//! `nvgate links`: how the host's links are beside how gateway.yaml wants them, and what to do.

use std::fmt::Write as _;
use std::io;

use nvgate_deploy::host::links::LinkReport;

use super::table::{Side, Table, span};
use super::{Exit, StatusArguments, status};

/// Prints the links of the gateway that `arguments` mean to `output`.
pub(super) fn links(arguments: &StatusArguments, output: &mut dyn io::Write) -> io::Result<Exit> {
    let links = match status::ask(arguments) {
        Ok(status) => status.links,
        Err(exit) => return Ok(exit),
    };
    if arguments.json {
        serde_json::to_writer_pretty(&mut *output, &links)?;
        writeln!(output)?;
    } else {
        output.write_all(render(&links).as_bytes())?;
    }
    Ok(Exit::Done)
}

fn render(links: &[LinkReport]) -> String {
    if links.is_empty() {
        return "gateway.yaml describes no links: they are the host's own affair\n".to_owned();
    }
    let mut text = String::new();
    let mut table = Table::new(&[
        ("link", Side::Left),
        ("state", Side::Left),
        ("desired", Side::Left),
        ("observed", Side::Left),
        ("repairs", Side::Right),
    ]);
    let mut wrong = Table::new(&[("link", Side::Left), ("what is wrong, what to do", Side::Left)]);
    let mut repaired =
        Table::new(&[("link", Side::Left), ("ago", Side::Right), ("what was done", Side::Left)]);
    for link in links {
        let LinkReport { name, desired, observed, problems, repairs, last_repair, .. } = link;
        let state = if problems.is_empty() { "ok" } else { "degraded" };
        let observed = observed.as_deref().unwrap_or("absent");
        table.row([name, state, desired, observed, &repairs.to_string()]);
        for problem in problems {
            wrong.row([name, problem]);
        }
        if let (Some(done), Some(secs)) = (last_repair, link.last_repair_secs) {
            repaired.row([name, &span(secs), done]);
        }
    }
    table.write(&mut text);
    for (title, table) in [("PROBLEMS", wrong), ("LAST REPAIRS", repaired)] {
        let mut body = String::new();
        table.write(&mut body);
        if !body.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{title}\n{body}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::samples;

    #[test]
    fn links_show_what_is_wrong_and_what_was_repaired() {
        let mut links = samples::busy().links;
        links[1].problems = vec![
            "member uplink1 has no carrier: the others carry its share".to_owned(),
            "its MTU is 1500, not 1600: see that the card and what carries it allow so much"
                .to_owned(),
        ];
        links.push(LinkReport {
            name: "mgmt0".to_owned(),
            desired: "uplink".to_owned(),
            problems: vec!["there is no network card mgmt0".to_owned()],
            ..LinkReport::default()
        });
        assert_eq!(render(&links), include_str!("links.golden.txt"));
    }

    #[test]
    fn without_described_links_that_is_said() {
        assert!(render(&[]).starts_with("gateway.yaml describes no links"));
    }
}
