//! What the running gateway says never holds a secret: its log at the finest level, everything
//! that HTTP shows, and what it says of a configuration that it refuses.

use std::fs;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use nvgate_tests::run_lab::RunLab;
use nvgate_vpn::{PresharedKey, PrivateKey};

/// A secret in every form that a careless line could have it in.
fn forms(bytes: [u8; 32], base64: &str) -> Vec<String> {
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    vec![base64.to_owned(), hexadecimal, list.trim_matches(['[', ']']).to_owned()]
}

#[test]
fn nothing_that_the_gateway_says_holds_a_secret() -> Result<()> {
    let test = "nothing_that_the_gateway_says_holds_a_secret";
    let Some(mut lab) = RunLab::build(test, 1)? else { return Ok(()) };
    // Clamped already, so that the bytes are those that the process has.
    let own = [0x48; 32];
    let shared = [0x9b; 32];
    let peer = PrivateKey::from_bytes([0x60; 32]).public();
    let own_text = PrivateKey::from_bytes(own).to_base64();
    let shared_text = PresharedKey::from_bytes(shared)?.to_base64();
    let mut red = fs::read_to_string(lab.file("red"))?;
    red.push_str(&format!(
        "
routes: [{{prefix: 192.168.50.0/24, via: hq}}]
vpn:
  listen: [{{address: 1, private_key: '{}'}}]
  sites:
    - name: hq
      tunnels:
        - name: a
          public_key: '{peer}'
          preshared_key: '{}'
          endpoint: 198.51.100.10:51820
          allowed: 192.168.50.0/24
",
        *own_text, *shared_text
    ));
    lab.write("red", &red)?;

    lab.spawn_with(Some("trace"))?;
    let has = |path: &str, text: &str| -> Result<()> {
        let (_, body) = lab.ask(path)?;
        ensure!(body.contains(text), "{path} has no `{text}`:\n{body}");
        Ok(())
    };
    lab.wait("the tunnel tries", || {
        has("/metrics", "handshakes_tried_total{tenant=\"red\",site=\"hq\",tunnel=\"a\"} 1")
    })?;
    let everything = || -> Result<String> {
        let paths = ["/healthz", "/metrics", "/v1/status"].map(|path| Ok(lab.ask(path)?.1));
        paths.into_iter().collect()
    };
    let mut said = everything()?;
    ensure!(said.contains(&peer.to_string()), "the peer's public key is no secret");
    // What is refused is quoted in health and in the log.
    lab.write("red", &red.replace("_key: '", "_key: 'x"))?;
    lab.wait("the configuration is refused", || has("/healthz", "not shown"))?;
    said.push_str(&everything()?);
    lab.end(Signal::SIGTERM)?;
    said.push_str(&fs::read_to_string(lab.config().join("gateway-1.log"))?);
    ensure!(said.contains("TRACE"), "the log is not at its finest level");
    for secret in forms(own, &own_text).into_iter().chain(forms(shared, &shared_text)) {
        ensure!(!said.contains(&secret), "{secret} is in what the gateway said");
    }
    Ok(())
}
