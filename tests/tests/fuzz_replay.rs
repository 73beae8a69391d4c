//! The fuzzer's claims about its seeds, and about whatever it once found.

use std::fs;
use std::path::Path;

use nvgate_tests::fuzz::{TARGETS, Target};

#[test]
fn seeds_and_former_findings_hold() {
    let findings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions");
    for Target { name, run, seeds } in TARGETS {
        seeds().iter().for_each(|seed| run(seed));
        // A target without findings has no directory.
        for entry in fs::read_dir(findings.join(name)).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            run(&fs::read(path).expect("an input"));
        }
    }
}
