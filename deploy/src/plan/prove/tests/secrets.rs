//! That no secret is in anything that is shown: errors as text and JSON, a plan's Debug, what a
//! reload changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::diff::diff;

const PRIVATE: &str = "cAdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LGo=";
const PRESHARED: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";
const PASSWORD: &str = "hOvBvWW2yPzXK8VbhmH5IIRdyKsWWgKTwCnDWrIMhPo=";

/// Whether more of a secret than a few characters is in `text`.
fn shows_secret(text: &str) -> bool {
    [PRIVATE, PRESHARED, PASSWORD].iter().any(|secret| text.contains(&secret[3..15]))
}

fn shown(diagnostics: &[Diagnostic]) -> String {
    let text: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
    format!("{}\n{}", text.join("\n"), serde_json::to_string(diagnostics).unwrap())
}

#[test]
fn an_error_at_a_secret_shows_its_line_without_it() {
    for (from, to) in [
        ("private_key: cAdt", "private_key: !cAdt"),
        ("private_key: cAdt", "private_key: cAdt$"),
        ("private_key: cAdt", "private_kye: cAdt"),
        ("private_key: cAdt", "private_key: [cAdt"),
        ("private_key: cAdt", "private_key: x: cAdt"),
        ("private_key: cAdt", "private_key: >\n       x\n       cAdt"),
        ("private_key: cAdt", "private_key_file: cAdt"),
        ("private_key: cAdt", "private_key:\n      - cAdt"),
        ("private_key: cAdt", "port: cAdt"),
        ("preshared_key: FpCy", "preshared_key: \"FpCy"),
        ("preshared_key: FpCy", "public_key: FpCy"),
        ("preshared_key: FpCy", "preshared_key: {a: 1, FpCy: FpCy"),
        ("name: two", "name: two, preshared_key: FpCy"),
    ] {
        let [gateway, a, b] = base();
        assert!(a.contains(from), "{from}");
        let a = a.replace(from, to);
        let diagnostics = prove_texts(&[gateway, a, b], &Leases::default()).unwrap_err();
        let shown = shown(&diagnostics);
        assert!(!shows_secret(&shown), "{to}:\n{shown}");
    }
}

/// A password looks like nothing: only its key, or one that was meant to be it, tells.
#[test]
fn an_error_at_a_password_shows_its_line_without_it() {
    for to in [
        "password: hunter2\n      password_file: x",
        "password: hunter2\n      password_file: hunter2",
        "password_file: hunter2",
        "passwrod: hunter2",
        "passowrd : \"hunter2\"",
        "pasword: hunter2",
        "md5: hunter2",
        "md5_password: hunter2",
        "secret: hunter2",
        "psk: hunter2",
        "authentication: hunter2",
        "password: !hunter2 x",
        "password: [hunter2",
        "password: *hunter2",
        "password: 'hunter2' hunter2",
        "password: {hunter2: hunter2}",
        "password:\n      - hunter2",
        "password: >\n       x\n       hunter2\n      asn: 1",
        "password: \"hunter2",
    ] {
        let [gateway, a, b] = base();
        let a = a.replace(&format!("password: {PASSWORD}"), to);
        let diagnostics = prove_texts(&[gateway, a, b], &Leases::default()).unwrap_err();
        let shown = shown(&diagnostics);
        assert!(!shown.contains("hunter2"), "{to}:\n{shown}");
    }
    let long = "x".repeat(81);
    let [gateway, a, b] = base();
    let a = a.replace(PASSWORD, &long);
    let shown = shown(&prove_texts(&[gateway, a, b], &Leases::default()).unwrap_err());
    assert!(shown.contains("a TCP-MD5 key of 81 bytes is none of 1 to 80"), "{shown}");
    assert!(!shown.contains(&long), "{shown}");
}

#[test]
fn plans_and_changes_show_no_secret() {
    let first = prove_texts(&base(), &Leases::default()).unwrap();
    let [gateway, a, b] = base();
    let second = prove_texts(&[gateway, a.replace(PRIVATE, PRESHARED), b], &Leases::default());
    let impact = diff(&first.plan, &second.unwrap().plan);
    let json = serde_json::to_string(&impact).unwrap();
    let shown = format!("{first:?} {:?} {impact:?} {impact} {json}", kept(&first));
    assert!(shown.contains("PrivateKey(secret)") && !shows_secret(&shown), "{shown}");
    let drawn = first.new_keys[0].key.to_base64();
    assert!(!shown.contains(&drawn[..12]), "{shown}");
}

#[test]
fn a_key_file_is_read_and_one_that_is_open_or_no_key_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.key");
    let prove_with = |text: &str, mode: u32| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        prove_file(&file)
    };
    let plan = prove_with(&format!("{PRIVATE}\n"), 0o400).unwrap().plan;
    let key = &plan.tenants[0].vpn.as_ref().unwrap().listeners[1].key;
    assert_eq!(key.to_base64().as_str(), PRIVATE);
    for (text, mode, message) in [
        (PRIVATE, 0o640, "is open to others than its owner (mode 640); run `chmod 600` on it"),
        (PRIVATE, 0o604, "(mode 604)"),
        (
            &PRIVATE[1..],
            0o600,
            "does not hold a private key in base64, as `wg genkey` prints it: a",
        ),
        ("", 0o600, "a key has 44 characters of base64, not 0"),
        (&PRIVATE.repeat(9), 0o600, "holds more than 256 bytes"),
    ] {
        let shown = shown(&prove_with(text, mode).unwrap_err());
        assert!(shown.contains(message) && !shows_secret(&shown), "{shown}");
    }
    let shown = shown(&prove_file(directory.path()).unwrap_err());
    assert!(
        shown.contains("is not a regular file; name the file that holds the secret"),
        "{shown}"
    );
}

fn prove_file(file: &Path) -> Result<Proof, Vec<Diagnostic>> {
    let [gateway, a, b] = base();
    let to = format!("private_key_file: {}", file.display());
    prove_texts(
        &[gateway, a.replace(&format!("private_key: {PRIVATE}"), &to), b],
        &Leases::default(),
    )
}

proptest! {
    /// Whatever is cut out of the lines with secrets or put into them.
    #[test]
    fn no_damage_to_the_files_shows_a_secret(
        at in 0.0_f64..1.0,
        removed in 0_usize..40,
        inserted in "[a-z:.\\[\\]{}/'\"|>&*! \n-]{0,8}",
    ) {
        let [gateway, mut a, b] = base();
        let vpn = a.find("vpn:").unwrap();
        let start = vpn + (((a.len() - vpn) as f64) * at) as usize;
        let end = (start + removed).min(a.len());
        // A secret that is itself cut to pieces is none any longer.
        let cuts = |secret: &str| {
            let secret = a.find(secret).unwrap()..a.find(secret).unwrap() + secret.len();
            secret.contains(&start) || secret.contains(&end)
        };
        prop_assume!(!cuts(PRIVATE) && !cuts(PRESHARED) && !cuts(PASSWORD));
        a.replace_range(start..end, &inserted);
        if let Err(diagnostics) = prove_texts(&[gateway, a, b], &Leases::default()) {
            let shown = shown(&diagnostics);
            prop_assert!(!shows_secret(&shown), "{}", shown);
        }
    }
}
