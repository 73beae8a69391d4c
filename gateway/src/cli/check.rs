//! `nvgate check`: proves a configuration and prints every error, changing nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nvgate_deploy::diff::{Impact, diff};
use nvgate_deploy::in_effect::{self, InEffectError};
use nvgate_deploy::keys::{KeyStore, KeyStoreError, Keyring};
use nvgate_deploy::lease::{self, Leases};
use nvgate_deploy::plan::{self, Plan};
use nvgate_deploy::schema::{self, Diagnostic};
use serde::Serialize;

use super::{Check, Exit, Format, complain};

/// Proves the configuration and prints the outcome to `output`.
pub(super) fn check(arguments: &Check, output: &mut dyn Write) -> io::Result<Exit> {
    let Check { directory, against_running, state_directory, format } = arguments;
    let proof = prove(directory);
    let compared = match &proof {
        Ok(plan) if *against_running => {
            let state = state_directory.as_ref().unwrap_or(&plan.gateway.state_directory);
            match compare(directory, state) {
                Ok(comparison) => Some(comparison),
                Err(CannotCompare::Invalid(errors)) => {
                    return print((directory, *format), &Err(errors), None, output);
                }
                Err(error) => return Ok(complain(Exit::CannotRun, &error.to_string())),
            }
        }
        Ok(_) | Err(_) => None,
    };
    print((directory, *format), &proof, compared.as_ref(), output)
}

fn print(
    (directory, format): (&Path, Format),
    proof: &Result<Plan, Vec<Diagnostic>>,
    compared: Option<&Comparison>,
    output: &mut dyn Write,
) -> io::Result<Exit> {
    match format {
        Format::Text => {
            write_text(directory, proof, output)?;
            if let Some(Comparison { since_unix_secs: _, impact }) = compared {
                writeln!(output, "{impact}")?;
            }
        }
        Format::Json => {
            serde_json::to_writer_pretty(&mut *output, &Report::new(proof, compared))?;
            writeln!(output)?;
        }
    }
    Ok(if proof.is_ok() { Exit::Done } else { Exit::Invalid })
}

/// What taking over a configuration would change.
#[derive(Serialize)]
struct Comparison {
    /// When the gateway took over what it goes by, in seconds since 1970.
    since_unix_secs: u64,
    impact: Impact,
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
enum CannotCompare {
    #[error(
        "no gateway runs with state directory {}: start one, or name its state with --state-directory", .0.display()
    )]
    NotRunning(PathBuf),
    #[error(transparent)]
    InEffect(#[from] InEffectError),
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// With the leases of the running gateway it does not hold.
    #[error("the configuration is invalid")]
    Invalid(Vec<Diagnostic>),
}

/// Proves the configuration in `directory` as the gateway with this state directory would, and what
/// that goes by in the same way.
fn compare(directory: &Path, state: &Path) -> Result<Comparison, CannotCompare> {
    if !lease::in_use(state) {
        return Err(CannotCompare::NotRunning(state.to_owned()));
    }
    let in_effect = in_effect::read(state)?;
    let documents = schema::load(directory);
    let mut names = in_effect.documents().generated_keys();
    names.extend(documents.generated_keys());
    names.sort_unstable();
    names.dedup();
    let keys = KeyStore::new(state).load(&names, SystemTime::now())?;
    let old = in_effect.plan(&keys)?;
    let new = plan::prove(&documents, &in_effect.leases, &keys).map_err(CannotCompare::Invalid)?;
    Ok(Comparison {
        since_unix_secs: in_effect
            .since
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs()),
        impact: diff(&old, &new.plan),
    })
}

/// Proves the configuration in `directory` without the leases and generated keys that a gateway
/// holds. Leases decide which addresses of a pool a tenant gets, never whether there are enough,
/// and a running gateway has their store locked; keys are only the gateway's to read, and others
/// drawn for this plan stand for them.
pub(super) fn prove(directory: &Path) -> Result<Plan, Vec<Diagnostic>> {
    let documents = schema::load(directory);
    plan::prove(&documents, &Leases::default(), &Keyring::default()).map(|proof| proof.plan)
}

fn write_text(
    directory: &Path,
    proof: &Result<Plan, Vec<Diagnostic>>,
    output: &mut dyn Write,
) -> io::Result<()> {
    let directory = directory.display();
    match proof {
        Ok(plan) => {
            let Contents { tenants, subnets, endpoints, front_end_addresses } = Contents::new(plan);
            writeln!(
                output,
                "{directory}: valid; {tenants} tenants, {subnets} subnets, {endpoints} endpoints, \
                 {front_end_addresses} front-end addresses"
            )
        }
        Err(errors) => {
            for error in errors {
                writeln!(output, "{error}\n")?;
            }
            let plural = if errors.len() == 1 { "error" } else { "errors" };
            writeln!(output, "{directory}: invalid; {} {plural}", errors.len())
        }
    }
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    errors: &'a [Diagnostic],
    contents: Option<Contents>,
    /// With `--against-running`.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_running: Option<&'a Comparison>,
}

impl<'a> Report<'a> {
    fn new(
        proof: &'a Result<Plan, Vec<Diagnostic>>,
        against_running: Option<&'a Comparison>,
    ) -> Self {
        let (valid, errors, contents) = match proof {
            Ok(plan) => (true, &[][..], Some(Contents::new(plan))),
            Err(errors) => (false, &errors[..], None),
        };
        Self { valid, errors, contents, against_running }
    }
}

/// How much a plan holds.
#[derive(Serialize)]
struct Contents {
    tenants: usize,
    subnets: usize,
    endpoints: usize,
    front_end_addresses: usize,
}

impl Contents {
    fn new(plan: &Plan) -> Self {
        let tenants = &plan.tenants;
        Self {
            tenants: tenants.len(),
            subnets: tenants.iter().map(|tenant| tenant.subnets.len()).sum(),
            endpoints: tenants.iter().map(|tenant| tenant.endpoints.len()).sum(),
            front_end_addresses: tenants
                .iter()
                .filter_map(|tenant| tenant.nat.as_ref())
                .map(|nat| nat.addresses.len())
                .sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use nvgate_deploy::lease::LeaseStore;

    use super::*;

    fn diagnostic() -> Diagnostic {
        Diagnostic {
            file: "tenants.d/a.yaml".to_owned(),
            line: 3,
            column: 9,
            message: "VSID 12 is not between 4096 (0x001000) and 16777214 (0xFFFFFE)".to_owned(),
            source_line: Some("  vsid: 12".to_owned()),
            notes: vec![],
        }
    }

    #[test]
    fn every_error_is_printed_with_its_place_and_counted() {
        let mut text = Vec::new();
        let errors = vec![diagnostic(), diagnostic()];
        write_text(Path::new("etc"), &Err(errors), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let place = "tenants.d/a.yaml:3:9: error: VSID 12";
        assert_eq!(text.matches(place).count(), 2, "{text}");
        assert!(text.ends_with("etc: invalid; 2 errors\n"), "{text}");
    }

    #[test]
    fn json_says_whether_it_is_valid_and_where_not() {
        let proof = Err(vec![diagnostic()]);
        let report = serde_json::to_value(Report::new(&proof, None)).unwrap();
        assert_eq!(report["valid"], false);
        assert_eq!(report["errors"][0]["line"], 3);
        assert_eq!(report["errors"][0]["source_line"], "  vsid: 12");
    }

    fn printed(directory: &Path, format: Format) -> (Exit, String) {
        let mut text = Vec::new();
        let arguments = Check {
            directory: directory.to_owned(),
            against_running: false,
            state_directory: None,
            format,
        };
        let exit = check(&arguments, &mut text).unwrap();
        (exit, String::from_utf8(text).unwrap())
    }

    /// A copy of the annotated example that a test may spoil.
    fn example() -> tempfile::TempDir {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("tenants.d")).unwrap();
        for file in ["gateway.yaml", "tenants.d/contoso.yaml", "tenants.d/fabrikam.yaml"] {
            std::fs::copy(source.join(file), copy.path().join(file)).unwrap();
        }
        copy
    }

    #[test]
    fn the_example_is_valid_and_says_what_it_holds() {
        let example = example();
        let (exit, text) = printed(example.path(), Format::Text);
        assert_eq!(exit, Exit::Done, "{text}");
        assert!(text.contains(": valid; 2 tenants, "), "{text}");
        let (exit, json) = printed(example.path(), Format::Json);
        let report: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((exit, &report["valid"]), (Exit::Done, &true.into()));
        assert_eq!(report["contents"]["tenants"], 2);
    }

    #[test]
    fn a_spoiled_example_is_invalid_with_every_error_at_its_place() {
        let example = example();
        for tenant in ["contoso", "fabrikam"] {
            let file = example.path().join(format!("tenants.d/{tenant}.yaml"));
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text + "\nno_such_key: 1\n").unwrap();
        }
        let (exit, text) = printed(example.path(), Format::Text);
        assert_eq!(exit, Exit::Invalid);
        for tenant in ["contoso", "fabrikam"] {
            assert!(text.contains(&format!("tenants.d/{tenant}.yaml:")), "{text}");
        }
        assert!(text.contains("| no_such_key: 1\n"), "{text}");
        assert!(text.ends_with(": invalid; 2 errors\n"), "{text}");
    }

    #[test]
    fn a_check_leaves_no_trace() {
        let example = example();
        let state = example.path().join("state");
        let file = example.path().join("gateway.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let kept: Vec<_> =
            text.lines().filter(|line| !line.starts_with("state_directory")).collect();
        let text = format!("{}\nstate_directory: {}\n", kept.join("\n"), state.display());
        std::fs::write(&file, text).unwrap();
        let (exit, text) = printed(example.path(), Format::Text);
        assert_eq!(exit, Exit::Done, "{text}");
        assert!(!state.exists());
    }

    #[test]
    fn a_change_is_compared_with_what_the_running_gateway_goes_by() {
        let example = example();
        let state = tempfile::tempdir().unwrap();
        let refused = compare(example.path(), state.path()).err().unwrap().to_string();
        assert!(refused.starts_with("no gateway runs with state directory /"), "{refused}");
        // As a gateway does that starts.
        let _running = LeaseStore::open(state.path()).unwrap();
        let documents = schema::load(example.path());
        let keys = KeyStore::new(state.path());
        let proof = plan::prove(&documents, &Leases::default(), &Keyring::default()).unwrap();
        keys.keep(&proof.new_keys).unwrap();
        in_effect::keep(state.path(), &documents, &proof.leases).unwrap();
        let same = compare(example.path(), state.path()).unwrap();
        assert_eq!(same.impact, Impact { unchanged: 2, ..Impact::default() });

        std::fs::remove_file(example.path().join("tenants.d/fabrikam.yaml")).unwrap();
        let changed = compare(example.path(), state.path()).unwrap().impact.to_string();
        assert!(changed.contains("tenants removed: fabrikam\n"), "{changed}");
        assert!(changed.ends_with("tenants unchanged: 1"), "{changed}");
    }

    #[test]
    fn a_directory_without_a_configuration_is_invalid() {
        let directory = tempfile::tempdir().unwrap();
        let (exit, text) = printed(directory.path(), Format::Text);
        assert_eq!(exit, Exit::Invalid);
        assert!(text.contains("gateway.yaml:1:1: error: "), "{text}");
    }
}
