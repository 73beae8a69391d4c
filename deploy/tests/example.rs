//! The annotated example is a valid configuration and shows every key there is.

#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nvgate_deploy::keys::Keyring;
use nvgate_deploy::lease::Leases;
use nvgate_deploy::plan::{Plan, RouteTarget, SubnetRole, prove};
use nvgate_deploy::schema::{json_schema, load};
use serde_json::Value;
use tempfile::TempDir;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn plan() -> Plan {
    proven(&directory())
}

fn proven(directory: &Path) -> Plan {
    match prove(&load(directory), &Leases::default(), &Keyring::default()) {
        Ok(proof) => proof.plan,
        Err(diagnostics) => {
            let text: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
            panic!("{}", text.join("\n"))
        }
    }
}

#[test]
fn the_example_is_proven_and_its_tenants_share_customer_addresses() {
    let plan = plan();
    assert_eq!(plan.tenants.len(), 2);
    let [contoso, fabrikam] = plan.tenants.as_slice() else { panic!("not two tenants") };
    assert_eq!((contoso.name.as_str(), fabrikam.name.as_str()), ("contoso", "fabrikam"));
    assert_eq!(
        contoso.endpoints[0].customer_addresses[0],
        fabrikam.endpoints[0].customer_addresses[0]
    );
    let gateway_subnet = contoso.subnets.iter().find(|one| one.role == SubnetRole::Gateway);
    assert_eq!(gateway_subnet.unwrap().vsid.number(), 5003);
    let nat = contoso.nat.as_ref().unwrap();
    let addresses: Vec<_> = nat.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["203.0.113.16", "203.0.113.18"]);
    assert_eq!(nat.inbound.len(), 4);
    assert_eq!(nat.inbound[1].public_address, nat.addresses[1]);
    assert_eq!(nat.inbound[1].port_count, 100);
    assert_eq!(nat.reserved_udp, [(nat.addresses[0], 51_820)]);
    let vpn = contoso.vpn.as_ref().unwrap();
    assert_eq!(vpn.listeners[1].address, plan.gateway.front_end.shared_addresses[1]);
    assert_eq!(vpn.sites[0].tunnels[1].listener, 1);
    assert_eq!(contoso.routes[2].target, RouteTarget::Site(0));
    let bgp = contoso.bgp.as_ref().unwrap();
    let peers: Vec<_> = bgp.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(peers, ["hq", "router-vm", "load-balancers"]);
    assert_eq!(bgp.router_id, Ipv4Addr::new(10, 254, 254, 1));
    let front_end = plan.gateway.front_end.bgp.as_ref().unwrap();
    assert_eq!(front_end.announce.aggregates[0].prefixes.len(), 2);
    assert_eq!(fabrikam.bgp, None);
    assert_eq!(fabrikam.vpn, None);
    let nat = fabrikam.nat.as_ref().unwrap();
    assert_eq!(nat.addresses[0].to_string(), "203.0.113.30");
}

#[test]
fn the_example_is_valid_by_the_json_schema() {
    let schema = json_schema();
    for (kind, file) in [
        ("gateway", "gateway.yaml"),
        ("tenant", "tenants.d/contoso.yaml"),
        ("tenant", "tenants.d/fabrikam.yaml"),
        ("seed", "seed/seed.yaml"),
        ("gateway", "seed/gateway.yaml"),
        ("tenant", "seed/tenants.d/contoso.yaml"),
        ("tenant", "seed/tenants.d/fabrikam.yaml"),
    ] {
        let text = std::fs::read_to_string(directory().join(file)).unwrap();
        let value: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(violation(&schema[kind], &value), None, "{file}");
    }
    let wrong = serde_json::json!({ "tenant": "a", "routing_domain": "x", "subnets": [] });
    assert!(violation(&schema["tenant"], &wrong).is_some());
}

/// The first value that violates the schema, by the keywords that the schemas use; patterns are
/// the editor's affair.
fn violation(schema: &Value, value: &Value) -> Option<String> {
    for (keyword, bound) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "type" => match bound.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64(),
                "boolean" => value.is_boolean(),
                other => panic!("type {other}"),
            },
            "enum" => bound.as_array().unwrap().contains(value),
            "const" => bound == value,
            "minimum" => value.as_u64() >= bound.as_u64(),
            "maximum" => value.as_u64() <= bound.as_u64(),
            "minItems" => value.as_array().unwrap().len() as u64 >= bound.as_u64().unwrap(),
            "maxItems" => value.as_array().unwrap().len() as u64 <= bound.as_u64().unwrap(),
            "required" => {
                bound.as_array().unwrap().iter().all(|key| !value[key.as_str().unwrap()].is_null())
            }
            "anyOf" => {
                bound.as_array().unwrap().iter().any(|schema| violation(schema, value).is_none())
            }
            "items" => {
                let items = value.as_array().into_iter().flatten();
                if let Some(inner) = items.filter_map(|item| violation(bound, item)).next() {
                    return Some(inner);
                }
                true
            }
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    if let Some(inner) = bound.get(key).and_then(|schema| violation(schema, inner))
                    {
                        return Some(inner);
                    }
                }
                true
            }
            "additionalProperties" => {
                let keys = value.as_object().into_iter().flatten().map(|(key, _)| key);
                keys.clone().all(|key| schema["properties"].get(key).is_some())
            }
            "$schema" | "title" | "description" | "pattern" | "minLength" | "maxLength" => true,
            other => panic!("keyword {other}"),
        };
        if !holds {
            return Some(format!("{value} violates {keyword} {bound}"));
        }
    }
    None
}

/// An example with what it offers in comments (`#| `) taken over.
fn with_offers(file: &str) -> String {
    let text = std::fs::read_to_string(directory().join(file)).unwrap();
    text.lines().map(|line| line.strip_prefix("#| ").unwrap_or(line).to_owned() + "\n").collect()
}

/// The keys that an example shows.
fn shown_keys(file: &str) -> BTreeSet<String> {
    let text = with_offers(file);
    let mut keys = BTreeSet::new();
    collect_written(&serde_yaml::from_str(&text).unwrap(), &mut keys);
    // A file with a secret is none that a repository has: it is shown in a comment.
    let secrets = text.lines().map(str::trim_start).filter(|line| line.contains("_file: /"));
    let named = secrets.filter_map(|line| line.trim_start_matches("# ").split_once(':'));
    keys.extend(named.map(|(key, _)| key.to_owned()));
    keys
}

fn collect_written(value: &Value, keys: &mut BTreeSet<String>) {
    for (key, inner) in value.as_object().into_iter().flatten() {
        keys.insert(key.clone());
        collect_written(inner, keys);
    }
    for inner in value.as_array().into_iter().flatten() {
        collect_written(inner, keys);
    }
}

#[test]
fn what_the_example_offers_in_comments_is_proven_too() {
    let offered = TempDir::new().unwrap();
    let tenants = offered.path().join("tenants.d");
    std::fs::create_dir(&tenants).unwrap();
    for tenant in ["contoso.yaml", "fabrikam.yaml"] {
        std::fs::copy(directory().join("tenants.d").join(tenant), tenants.join(tenant)).unwrap();
    }
    let text = with_offers("gateway.yaml");
    std::fs::write(offered.path().join("gateway.yaml"), &text).unwrap();
    let value: Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(violation(&json_schema()["gateway"], &value), None);
    assert_eq!(plan().gateway.links, None);
    let links = proven(offered.path()).gateway.links.unwrap();
    let names: Vec<&str> = links.links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(
        names,
        ["uplink0", "uplink1", "uplink2", "uplink3", "mgmt0", "bond0", "eth2", "eth1"]
    );
    assert_eq!(links.management.unwrap().link, "mgmt0");
}

#[test]
fn every_key_of_the_schema_is_shown_in_the_example() {
    let schema = json_schema();
    let of_tenant = shown_keys("tenants.d/contoso.yaml");
    // What a peer and a policy are is explained once, for tenants.
    let mut explained = BTreeSet::new();
    collect_keys(&schema["tenant"]["properties"]["bgp"], &mut explained);
    explained.retain(|key| of_tenant.contains(key));
    let of_gateway = &shown_keys("gateway.yaml") | &explained;
    let of_seed = shown_keys("seed/seed.yaml");
    for (kind, shown) in [("gateway", of_gateway), ("tenant", of_tenant), ("seed", of_seed)] {
        let mut named = BTreeSet::new();
        collect_keys(&schema[kind], &mut named);
        let missing: Vec<_> = named.difference(&shown).collect();
        assert_eq!(missing, [] as [&String; 0], "keys of the {kind}'s schema that nothing shows");
        assert!(named.len() > 8);
    }
}

fn collect_keys(schema: &Value, keys: &mut BTreeSet<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (key, value) in properties {
            keys.insert(key.clone());
            collect_keys(value, keys);
        }
    }
    if let Some(items) = schema.get("items") {
        collect_keys(items, keys);
    }
    for alternative in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        collect_keys(alternative, keys);
    }
}
