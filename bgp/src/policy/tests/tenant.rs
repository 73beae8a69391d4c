//! The built-in policies of tenants and of the front end, both families.

use super::*;

const HQ: Site = Site(1);
const BRANCH: Site = Site(2);

fn facts() -> TenantFacts {
    let translation = |site, side, from: &str, seen_as: &str| Translation {
        site,
        side,
        from: prefix(from),
        seen_as: prefix(seen_as),
    };
    TenantFacts {
        subnets: prefixes(&["10.1.0.0/24", "10.2.0.0/16", "2001:db8:1::/64", "fd00:2::/48"]),
        provider_space: prefixes(&["192.168.200.0/24", "fd00:ffff::/32"]),
        front_end_space: prefixes(&["203.0.113.0/24", "2001:db8:ff::/48"]),
        translations: vec![
            translation(HQ, TranslationSide::Local, "10.1.0.0/24", "172.20.1.0/24"),
            translation(HQ, TranslationSide::Local, "10.2.128.0/17", "172.21.0.0/17"),
            translation(HQ, TranslationSide::Local, "fd00:2::/64", "fd00:99::/64"),
            translation(HQ, TranslationSide::Remote, "10.1.0.0/22", "172.30.0.0/22"),
            translation(BRANCH, TranslationSide::Local, "10.1.0.0/24", "172.22.1.0/24"),
        ],
    }
}

fn peer(site: Option<Site>) -> TenantPeer {
    TenantPeer { site, accept_default: false, announce_learned: true }
}

fn import_refusal(peer: TenantPeer, text: &str) -> Option<RuleId> {
    facts().import(peer).refusal(&learned(text), &mut Saw::default())
}

#[test]
fn a_tenants_neighbour_teaches_neither_our_prefixes_nor_martians_nor_a_default_route() {
    let overlay = peer(None);
    for (text, expected) in [
        ("10.1.0.0/24", Some(RuleId::TENANT_IMPORT_SUBNET)),
        ("10.1.0.128/25", Some(RuleId::TENANT_IMPORT_SUBNET)),
        ("10.2.7.1/32", Some(RuleId::TENANT_IMPORT_SUBNET)),
        ("2001:db8:1::/64", Some(RuleId::TENANT_IMPORT_SUBNET)),
        ("2001:db8:1::7/128", Some(RuleId::TENANT_IMPORT_SUBNET)),
        ("10.1.0.0/23", None),
        ("10.0.0.0/8", None),
        ("2001:db8::/32", None),
        ("192.168.200.0/24", Some(RuleId::TENANT_IMPORT_PROVIDER)),
        ("192.168.200.9/32", Some(RuleId::TENANT_IMPORT_PROVIDER)),
        ("fd00:ffff:1::/48", Some(RuleId::TENANT_IMPORT_PROVIDER)),
        ("203.0.113.0/25", Some(RuleId::TENANT_IMPORT_FRONT_END)),
        ("2001:db8:ff::/64", Some(RuleId::TENANT_IMPORT_FRONT_END)),
        ("0.0.0.0/8", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("127.0.0.0/8", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("127.0.0.1/32", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("169.254.1.0/24", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("224.0.0.0/4", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("224.0.0.0/3", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("255.255.255.255/32", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("::/128", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("::1/128", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("::ffff:10.0.0.0/104", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("fe80::/64", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("ff02::/16", Some(RuleId::TENANT_IMPORT_MARTIAN)),
        ("0.0.0.0/0", Some(RuleId::TENANT_IMPORT_DEFAULT)),
        ("::/0", Some(RuleId::TENANT_IMPORT_DEFAULT)),
        ("0.0.0.0/1", None),
        // What tenants rightly use.
        ("10.9.0.0/16", None),
        ("172.16.0.0/12", None),
        ("192.168.0.0/16", None),
        ("100.64.0.0/10", None),
        ("198.18.0.0/15", None),
        ("198.51.100.0/24", None),
        ("fd00:3::/48", None),
        ("2001:db8:2::/48", None),
        ("8.8.8.0/24", None),
        // What only a site's neighbour must not teach.
        ("172.20.1.0/24", None),
        ("10.1.1.0/24", None),
    ] {
        assert_eq!(import_refusal(overlay, text), expected, "{text}");
    }
    let trusted = TenantPeer { accept_default: true, ..overlay };
    assert_eq!(import_refusal(trusted, "0.0.0.0/0"), None);
    assert_eq!(import_refusal(trusted, "::/0"), None);
}

#[test]
fn a_site_teaches_neither_how_it_sees_us_nor_what_we_see_as_something_else() {
    for (site, text, expected) in [
        (HQ, "172.20.1.0/24", Some(RuleId::TENANT_IMPORT_SUBNET)),
        (HQ, "172.20.1.5/32", Some(RuleId::TENANT_IMPORT_SUBNET)),
        (HQ, "10.1.1.0/24", Some(RuleId::TENANT_IMPORT_UNTRANSLATED)),
        (HQ, "10.1.0.0/24", Some(RuleId::TENANT_IMPORT_SUBNET)),
        (HQ, "172.22.1.0/24", None),
        (HQ, "172.30.0.0/22", None),
        (HQ, "10.1.0.0/21", None),
        (BRANCH, "172.20.1.0/24", None),
        (BRANCH, "10.1.1.0/24", None),
    ] {
        assert_eq!(import_refusal(peer(Some(site)), text), expected, "{site:?} {text}");
    }
}

#[test]
fn a_tenants_neighbour_is_told_what_it_can_use() {
    use RuleId as Rule;
    let local = RouteSource::Local;
    let marked = RouteSource::Static { announce: true };
    let unmarked = RouteSource::Static { announce: false };
    let taught = learned("0.0.0.0/0").source;
    let for_hq = RouteSource::Translated(HQ);
    for (site, source, text, expected) in [
        (None, local, "10.1.0.0/24", Ok(Rule::TENANT_EXPORT_SUBNET)),
        (None, local, "2001:db8:1::/64", Ok(Rule::TENANT_EXPORT_SUBNET)),
        (None, marked, "10.50.0.0/16", Ok(Rule::TENANT_EXPORT_STATIC)),
        (None, unmarked, "10.50.0.0/16", Err(Rule::TENANT_EXPORT_STATIC)),
        (None, taught, "10.60.0.0/16", Ok(Rule::TENANT_EXPORT_LEARNED)),
        (None, for_hq, "172.20.1.0/24", Err(Rule::TENANT_EXPORT_TRANSLATED)),
        // Through the tunnel: images, never what they stand for.
        (Some(HQ), for_hq, "172.20.1.0/24", Ok(Rule::TENANT_EXPORT_TRANSLATED)),
        (Some(BRANCH), for_hq, "172.20.1.0/24", Err(Rule::TENANT_EXPORT_TRANSLATED)),
        (Some(HQ), local, "10.1.0.0/24", Err(Rule::TENANT_EXPORT_UNTRANSLATED)),
        (Some(HQ), local, "10.2.0.0/16", Err(Rule::TENANT_EXPORT_UNTRANSLATED)),
        (Some(HQ), for_hq, "10.2.0.0/17", Ok(Rule::TENANT_EXPORT_TRANSLATED)),
        (Some(HQ), local, "fd00:2::/48", Err(Rule::TENANT_EXPORT_UNTRANSLATED)),
        (Some(HQ), local, "2001:db8:1::/64", Ok(Rule::TENANT_EXPORT_SUBNET)),
        (Some(HQ), taught, "10.1.0.7/32", Err(Rule::TENANT_EXPORT_UNTRANSLATED)),
        (Some(HQ), marked, "10.1.0.0/24", Err(Rule::TENANT_EXPORT_UNTRANSLATED)),
        (Some(HQ), marked, "0.0.0.0/0", Ok(Rule::TENANT_EXPORT_STATIC)),
        (Some(HQ), taught, "10.0.0.0/8", Ok(Rule::TENANT_EXPORT_LEARNED)),
        (Some(BRANCH), local, "10.2.0.0/16", Ok(Rule::TENANT_EXPORT_SUBNET)),
    ] {
        let route = Route { prefix: prefix(text), source };
        let asked = facts().export(peer(site)).ask(&route, &mut Saw::default());
        assert_eq!(asked, expected, "{site:?} {source:?} {text}");
    }
    let silent = TenantPeer { announce_learned: false, ..peer(None) };
    let asked = facts().export(silent).ask(&learned("10.60.0.0/16"), &mut Saw::default());
    assert_eq!(asked, Err(Rule::TENANT_EXPORT_LEARNED));
}

#[test]
fn the_prefix_is_looked_at_only_where_something_is_hidden() {
    let route = Route { prefix: prefix("2001:db8:1::/64"), source: RouteSource::Local };
    for (site, saw_prefix) in [(None, false), (Some(HQ), true), (Some(Site(9)), false)] {
        let mut saw = Saw::default();
        assert!(facts().export(peer(site)).ask(&route, &mut saw).is_ok());
        assert_eq!(saw, Saw { prefix: saw_prefix, source: true });
    }
}

#[test]
fn a_site_sees_images_and_what_is_left_of_subnets_cut_by_them() {
    let mut left = prefixes(&["172.20.1.0/24", "172.21.0.0/17", "10.2.0.0/17", "fd00:99::/64"]);
    left.extend(prefix("fd00:2::/48").without(prefix("fd00:2::/64")));
    left.sort_unstable();
    assert_eq!(facts().seen_by(HQ), left);
    assert_eq!(facts().seen_by(BRANCH), prefixes(&["172.22.1.0/24"]));
    assert_eq!(facts().seen_by(Site(9)), []);

    let export = facts().export(peer(Some(HQ)));
    for prefix in facts().seen_by(HQ) {
        let route = Route { prefix, source: RouteSource::Translated(HQ) };
        assert!(export.ask(&route, &mut Saw::default()).is_ok());
        let hidden = facts().subnets.contains(&prefix);
        assert!(!hidden, "{prefix}");
    }
}

#[test]
fn the_front_end_learns_nothing_private_nor_its_own_addresses() {
    let pools = prefixes(&["9.9.9.0/24", "2a00:1::/48"]);
    let strict = FrontEndImport::new(&pools, Martians::NotGlobal);
    let loose = FrontEndImport::new(&pools, Martians::Unforwardable);
    let martian = Some(RuleId::FRONT_END_IMPORT_MARTIAN);
    let own = Some(RuleId::FRONT_END_IMPORT_OWN);
    for (text, by_strict, by_loose) in [
        ("0.0.0.0/0", None, None),
        ("::/0", None, None),
        ("8.8.8.0/24", None, None),
        ("2a00::/12", None, None),
        ("10.0.0.0/8", martian, None),
        ("10.9.0.0/16", martian, None),
        ("8.0.0.0/5", None, None),
        ("100.64.0.0/10", martian, None),
        ("192.0.0.0/24", martian, None),
        ("192.0.0.9/32", None, None),
        ("192.31.196.0/24", None, None),
        ("192.175.48.0/24", None, None),
        ("198.19.0.0/16", martian, None),
        ("203.0.113.0/24", martian, None),
        ("127.0.0.0/8", martian, martian),
        ("240.0.0.0/4", martian, martian),
        ("9.9.9.0/24", own, own),
        ("9.9.9.7/32", own, own),
        ("9.9.8.0/23", None, None),
        ("2a00:1::/64", own, own),
        ("fc00::/7", martian, None),
        ("2001:db8::/32", martian, None),
        ("2001:5::/32", martian, None),
        ("2001::/32", None, None),
        ("2001:4:112::/48", None, None),
        ("2001:200::/32", None, None),
        ("2002::/16", None, None),
        ("2620:4f:8000::/48", None, None),
        ("64:ff9b::/96", None, None),
        ("64:ff9b:1::/48", martian, None),
        ("3fff::/20", martian, None),
        ("5f00::/16", martian, None),
        ("100::/64", martian, None),
        ("fe80::/10", martian, martian),
        ("ff0e::/16", martian, martian),
    ] {
        let refusal = |policy: &FrontEndImport| policy.refusal(&learned(text), &mut Saw::default());
        assert_eq!((refusal(&strict), refusal(&loose)), (by_strict, by_loose), "{text}");
    }
}
