//! What a seed's report means for health.

use std::path::Path;

use nvgate_deploy::seed::{Report, State};

use crate::admin::health::Component;

const NAME: &str = "seed";

/// The seed's component, from the report in `file`; none on a machine that is not made by a seed.
#[must_use]
pub fn component(file: &Path) -> Option<Component> {
    match Report::read(file) {
        Ok(report) => report.map(|report| judge(&report)),
        Err(error) => Some(Component::degraded(
            NAME,
            format!("{} cannot be read: {error}; run `nvgate seed apply` as root", file.display()),
        )),
    }
}

/// How well a seed is.
#[must_use]
pub fn judge(report: &Report) -> Component {
    let problems = summary(report);
    match (report.state, problems) {
        (State::Waiting, None) => Component::failed(NAME, missing_sentence()),
        (State::Waiting, Some(problems)) => Component::failed(
            NAME,
            format!("nothing is configured, because the seed is broken: {problems}"),
        ),
        (State::KeptLastGood, problems) => Component::degraded(
            NAME,
            format!(
                "the last good configuration is kept, because the seed is broken: {}",
                problems.unwrap_or_default()
            ),
        ),
        (State::Applied | State::Unchanged, Some(problems)) => Component::degraded(NAME, problems),
        (State::Applied | State::Unchanged, None) => Component::ok(NAME),
    }
}

/// What is missing when there is no seed, and what to do.
#[must_use]
pub(super) fn missing_sentence() -> String {
    use nvgate_deploy::seed::{CREDENTIAL_PREFIX, LABEL};
    format!(
        "no seed: attach a disk or ISO image with the label {LABEL} that has seed.yaml, gateway.yaml \
         and tenants.d/, or give systemd credentials {CREDENTIAL_PREFIX}seed.yaml and \
         {CREDENTIAL_PREFIX}gateway.yaml, and start the machine again"
    )
}

/// The first problem with what to do, and how many more there are.
fn summary(report: &Report) -> Option<String> {
    let first = report.problems.first()?;
    let mut place = String::new();
    if let Some(file) = &first.file {
        place = format!("{file}:{}: ", first.line.unwrap_or(1));
    }
    let more = match report.problems.len() {
        1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    Some(format!("{place}{}; {}{more}", first.message, first.remedy))
}
