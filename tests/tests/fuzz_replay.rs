//! The fuzzer's claims about its seeds, about messages that others sent, and about whatever it once
//! found.

use std::fs;
use std::path::Path;

use nvgate_tests::fuzz::{TARGETS, Target};

#[test]
fn seeds_and_former_findings_hold() {
    let kept = ["../fuzz/corpus", "../fuzz/regressions"];
    let kept = kept.map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    for Target { name, run, seeds } in TARGETS {
        seeds().iter().for_each(|seed| run(seed));
        // A target of which nothing is kept has no directory.
        for entry in kept.iter().filter_map(|path| fs::read_dir(path.join(name)).ok()).flatten() {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            run(&fs::read(path).expect("an input"));
        }
    }
}
