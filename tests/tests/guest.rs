//! The guest that other tests are about another kernel with.

use nvgate_tests::guest::{Guest, GuestPlan, can_boot};

#[test]
fn a_guest_has_what_is_named_and_says_how_scripts_end() {
    if !can_boot("a_guest_has_what_is_named_and_says_how_scripts_end") {
        return;
    }
    let plan = GuestPlan {
        modules: ["veth", "bonding", "8021q"].map(str::to_owned).to_vec(),
        programs: vec!["ip".into()],
        files: vec![("/etc/nvgate/said".to_owned(), b"as it was\n".to_vec())],
        ..GuestPlan::default()
    };
    let mut guest = Guest::boot(&plan).unwrap();
    assert_eq!(guest.run("cat /etc/nvgate/said").unwrap(), "as it was\n");
    guest
        .run("ip link add bond1 type bond mode 802.3ad && ip link add v0 type veth peer v1")
        .unwrap();
    let links = guest.run("ip -br link").unwrap();
    assert!(links.contains("bond1") && links.contains("v1@v0"), "{links}");
    let said = guest.ask("printf 'no end'; printf more >&2; exit 7").unwrap();
    assert_eq!((said.status, said.text.as_str()), (7, "no endmore"));
    assert!(guest.run("false").unwrap_err().to_string().contains("`false` in the guest: 1"));
}
