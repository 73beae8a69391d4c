//! Prefix lists against their definition, and how fast they are.

use proptest::prelude::*;

use super::*;

/// A listed prefix with its bounds as written.
#[derive(Clone, Copy, Debug)]
struct Listed(Prefix, u8, u8);

/// Prefixes of few bits at the top, so that they cover one another.
fn arbitrary_prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (any::<u8>(), 0_u8..=12).prop_map(|(bits, length)| {
        Prefix::containing(IpAddr::from([bits, bits << 4, 0, 0]), length).unwrap()
    });
    let v6 = (any::<u8>(), prop_oneof![0_u8..=12, Just(128_u8)]).prop_map(|(bits, length)| {
        let address = IpAddr::from([u16::from(bits) << 8, 0, 0, 0, 0, 0, 0, 1]);
        Prefix::containing(address, length).unwrap()
    });
    prop_oneof![v4, v6]
}

fn arbitrary_listed() -> impl Strategy<Value = Listed> {
    (arbitrary_prefix(), 0_u8..=3, 0_u8..=6).prop_map(|(prefix, more, wider)| {
        let bits = if prefix.is_ipv4() { 32 } else { 128 };
        let shortest = (prefix.length() + more).min(bits);
        Listed(prefix, shortest, (shortest + wider).min(bits))
    })
}

proptest! {
    #[test]
    fn a_list_holds_what_one_of_its_ranges_holds(
        listed in prop::collection::vec(arbitrary_listed(), 1..24),
        asked in prop::collection::vec(arbitrary_prefix(), 1..24),
    ) {
        let range = |one: &Listed| PrefixRange::new(one.0, Some(one.1), Some(one.2)).unwrap();
        let list = PrefixList::new(&listed.iter().map(range).collect::<Vec<_>>()).unwrap();
        for asked in asked.into_iter().chain(listed.iter().map(|one| one.0)) {
            let within = |one: &Listed| {
                one.0.covers(asked) && (one.1..=one.2).contains(&asked.length())
            };
            let naive = listed.iter().any(within);
            prop_assert_eq!(list.holds(asked), naive, "{} {:?}", asked, listed);
            let covers = listed.iter().any(|one| asked.covers(one.0));
            prop_assert_eq!(list.overlaps(asked), naive || covers, "{} {:?}", asked, listed);
        }
    }
}

#[test]
fn bounds_have_their_defaults() {
    let holds = |ge, le, length| {
        let range = PrefixRange::new(prefix("10.0.0.0/8"), ge, le).unwrap();
        let asked = Prefix::containing(address("10.0.0.0"), length).unwrap();
        PrefixList::new(&[range]).unwrap().holds(asked)
    };
    let held = |ge, le| -> Vec<u8> { (0..=32).filter(|length| holds(ge, le, *length)).collect() };
    assert_eq!(held(None, None), [8]);
    assert_eq!(held(Some(30), None), [30, 31, 32]);
    assert_eq!(held(None, Some(10)), [8, 9, 10]);
    assert_eq!(held(Some(24), Some(25)), [24, 25]);
}

#[test]
fn the_default_routes_are_held_apart() {
    let list =
        |text, ge, le| PrefixList::new(&[PrefixRange::new(prefix(text), ge, le).unwrap()]).unwrap();
    let exact = list("0.0.0.0/0", None, None);
    assert!(exact.holds(Prefix::DEFAULT_V4) && !exact.holds(Prefix::DEFAULT_V6));
    assert!(!exact.holds(prefix("0.0.0.0/1")));
    let other = list("::/0", Some(1), None);
    assert!(!other.holds(Prefix::DEFAULT_V6) && other.holds(prefix("::/1")));
    assert!(other.holds(prefix("::1/128")) && !other.holds(prefix("0.0.0.0/1")));
}
