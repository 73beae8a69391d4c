//! The commands on a copy of the annotated example with a state directory of its own.

use std::fs;

use clap::Parser as _;
use tempfile::TempDir;

use super::*;

/// The example, and its contoso with `edits` made.
fn example(edits: &[(&str, &str)]) -> TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("tenants.d")).unwrap();
    let gateway = fs::read_to_string(source.join("gateway.yaml")).unwrap();
    let state = format!("state_directory: {}", copy.path().join("state").display());
    let gateway = gateway.replace("state_directory: /var/lib/nvgate", &state);
    fs::write(copy.path().join("gateway.yaml"), gateway).unwrap();
    let mut contoso = fs::read_to_string(source.join("tenants.d/contoso.yaml")).unwrap();
    for (from, to) in edits {
        assert!(contoso.contains(from), "{from}");
        contoso = contoso.replace(from, to);
    }
    fs::write(copy.path().join("tenants.d/contoso.yaml"), contoso).unwrap();
    copy
}

/// What `nvgate vpn` prints for this command line.
fn printed(example: &TempDir, line: &str) -> Result<String, Failure> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        vpn: Vpn,
    }
    let config = example.path().to_str().unwrap();
    let words = ["vpn"].into_iter().chain(line.split_whitespace()).chain(["--config", config]);
    match Line::try_parse_from(words).unwrap().vpn {
        Vpn::Keys(arguments) => keys(&arguments),
        Vpn::Rotate(arguments) => rotate(&arguments, SystemTime::now()),
        Vpn::Config(arguments) => super::config(&arguments),
    }
}

#[test]
fn wg_quick_gets_the_networks_as_the_site_sees_them() {
    let example = example(&[("internet: true", "internet: false")]);
    let line = "config --tenant contoso --site hq --tunnel a --format wg-quick";
    assert_eq!(printed(&example, line).unwrap(), include_str!("golden/wg-quick.conf"));
}

#[test]
fn networkd_gets_everything_for_a_site_that_may_use_nat() {
    let example = example(&[]);
    let line = "config --tenant contoso --site hq --tunnel a --format networkd --show-secrets";
    assert_eq!(printed(&example, line).unwrap(), include_str!("golden/networkd.conf"));
}

#[test]
fn routeros_gets_commands_and_a_route_a_prefix() {
    let example = example(&[("internet: true", "internet: false")]);
    let line = "config --tenant contoso --site hq --tunnel a --format routeros";
    assert_eq!(printed(&example, line).unwrap(), include_str!("golden/routeros.rsc"));
}

#[test]
fn a_key_is_made_once_on_demand_and_its_public_half_stays() {
    let example = example(&[]);
    let text = printed(&example, "keys").unwrap();
    assert!(text.contains("none yet: --generate makes it"), "{text}");
    assert!(!example.path().join("state").exists(), "a look makes nothing");
    let line = "config --tenant contoso --site hq --tunnel b --format wg-quick";
    let Failure(exit, sentence) = printed(&example, line).unwrap_err();
    assert_eq!(exit, Exit::CannotRun);
    assert!(sentence.contains("`nvgate vpn keys --generate`"), "{sentence}");
    let made = printed(&example, "keys --generate --json").unwrap();
    assert_eq!(printed(&example, "keys --json --tenant contoso").unwrap(), made);
    let rows: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!((&rows[0]["origin"], &rows[1]["origin"]), (&"given".into(), &"generated".into()));
    let public = rows[1]["public_key"].as_str().unwrap();
    let text = printed(&example, line).unwrap();
    assert!(text.contains(&format!("PublicKey = {public}")), "{text}");
    assert!(text.contains("Endpoint = [2001:db8:f::20]:51820\n"), "{text}");
    assert!(text.contains("MTU = 1420\n") && text.contains("PersistentKeepalive = 25\n"), "{text}");
}

#[test]
fn a_rotated_key_is_followed_by_a_new_one_and_accepted_for_some_time() {
    let example = example(&[]);
    let rows = |line| -> serde_json::Value {
        serde_json::from_str(&printed(&example, line).unwrap()).unwrap()
    };
    let before = rows("keys --generate --json")[1]["public_key"].clone();
    let text = printed(&example, "rotate --tenant contoso --listen v6 --overlap 2").unwrap();
    let before = before.as_str().unwrap();
    let accepted = format!("{before}, the one before it, is accepted for 2 more hours");
    assert!(text.contains(&accepted), "{text}");
    let after = rows("keys --json");
    assert_ne!(after[1]["public_key"], before);
    assert_eq!(after[1]["previous_public_key"], before);
    assert!(printed(&example, "keys").unwrap().contains(&format!("{before} for ")));
    let text = printed(&example, "rotate --tenant contoso --listen v6 --overlap 0").unwrap();
    assert!(
        text.contains(&format!("{before}, which was accepted until now, is no longer")),
        "{text}"
    );
    assert_eq!(rows("keys --json")[1]["previous_public_key"], serde_json::Value::Null);
}

#[test]
fn what_cannot_be_done_is_said_with_the_names_that_there_are() {
    let example = example(&[]);
    for (line, sentence) in [
        ("keys --tenant cantoso", "no tenant is named `cantoso`; there are: contoso"),
        ("rotate --tenant contoso", "say which listener (--listen NAME); there are: main, v6"),
        ("rotate --tenant contoso --listen v4", "no listener is named `v4`; there are: main, v6"),
        ("rotate --tenant contoso --listen main", "write a new one under `private_key` there"),
        (
            "config --tenant contoso --site h --format networkd",
            "no site is named `h`; there are: hq",
        ),
        ("config --tenant contoso --site hq --format networkd", "there are: a, b"),
    ] {
        let Failure(exit, text) = printed(&example, line).unwrap_err();
        assert!(exit == Exit::Usage && text.contains(sentence), "{line}: {text}");
    }
    fs::write(example.path().join("tenants.d/x.yaml"), "tenant: [").unwrap();
    let Failure(exit, text) = printed(&example, "keys").unwrap_err();
    assert!(exit == Exit::Invalid && text.contains("see `nvgate check"), "{text}");
}
