//! `nvgate check`: proves a configuration and prints every error, changing nothing.

use std::io::{self, Write};
use std::path::Path;

use nvgate_deploy::keys::Keyring;
use nvgate_deploy::lease::Leases;
use nvgate_deploy::plan::{self, Plan};
use nvgate_deploy::schema::{self, Diagnostic};
use serde::Serialize;

use super::{Exit, Format};

/// Proves the configuration in `directory` and prints the outcome to `output`.
pub(super) fn check(directory: &Path, format: Format, output: &mut dyn Write) -> io::Result<Exit> {
    let proof = prove(directory);
    match format {
        Format::Text => write_text(directory, &proof, output)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *output, &Report::new(&proof))?;
            writeln!(output)?;
        }
    }
    Ok(if proof.is_ok() { Exit::Done } else { Exit::Invalid })
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
}

impl<'a> Report<'a> {
    fn new(proof: &'a Result<Plan, Vec<Diagnostic>>) -> Self {
        match proof {
            Ok(plan) => Self { valid: true, errors: &[], contents: Some(Contents::new(plan)) },
            Err(errors) => Self { valid: false, errors, contents: None },
        }
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
        let report = serde_json::to_value(Report::new(&proof)).unwrap();
        assert_eq!(report["valid"], false);
        assert_eq!(report["errors"][0]["line"], 3);
        assert_eq!(report["errors"][0]["source_line"], "  vsid: 12");
    }

    fn printed(directory: &Path, format: Format) -> (Exit, String) {
        let mut text = Vec::new();
        let exit = check(directory, format, &mut text).unwrap();
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
    fn a_directory_without_a_configuration_is_invalid() {
        let directory = tempfile::tempdir().unwrap();
        let (exit, text) = printed(directory.path(), Format::Text);
        assert_eq!(exit, Exit::Invalid);
        assert!(text.contains("gateway.yaml:1:1: error: "), "{text}");
    }
}
