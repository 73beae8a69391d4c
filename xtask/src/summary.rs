//! What a test runner said at its end, kept apart from its running commentary so that it can be the
//! last thing printed. Knows the output of cargo-nextest and of `cargo test`.

/// Reads a runner's output line by line and keeps its summary.
#[derive(Default)]
pub struct Summary {
    nextest: Vec<String>,
    libtest: Totals,
}

#[derive(Default, Clone, Copy)]
struct Totals {
    binaries: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Summary {
    /// Takes the next line of the runner's output.
    pub fn handle_line(&mut self, line: &str) {
        let words = line.trim_start();
        if words.starts_with("Summary [") {
            self.nextest.clear();
            self.nextest.push(line.to_owned());
        } else if !self.nextest.is_empty() {
            // Cargo's own last word is not the runner's.
            if words.starts_with("error:") {
                return;
            }
            self.nextest.push(line.to_owned());
        } else if let Some(result) = words.strip_prefix("test result: ") {
            self.libtest.binaries += 1;
            self.libtest.passed += count_before(result, "passed");
            self.libtest.failed += count_before(result, "failed");
            self.libtest.ignored += count_before(result, "ignored");
        }
    }

    /// The summary's lines; none when the runner never came to one.
    pub fn lines(&self) -> Vec<String> {
        if !self.nextest.is_empty() {
            return self.nextest.clone();
        }
        let Totals { binaries, passed, failed, ignored } = self.libtest;
        if binaries == 0 {
            return Vec::new();
        }
        let verdict = if failed == 0 { "ok" } else { "FAILED" };
        vec![format!(
            "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored \
             ({binaries} binaries)"
        )]
    }
}

/// The number in front of `word` in libtest's `3 passed; 0 failed; ...`.
fn count_before(result: &str, word: &str) -> u64 {
    let mut previous = "";
    for token in result.split([' ', ';']).filter(|token| !token.is_empty()) {
        if token == word {
            return previous.parse().unwrap_or(0);
        }
        previous = token;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary_of(output: &str) -> Vec<String> {
        let mut summary = Summary::default();
        output.lines().for_each(|line| summary.handle_line(line));
        summary.lines()
    }

    #[test]
    fn the_summary_of_nextest_starts_at_its_line_and_keeps_the_failures_after_it() {
        let output = "        PASS [   0.003s] a b\n------------\n     Summary [   0.1s] 2 tests run: \
                      1 passed, 1 failed, 0 skipped\n        FAIL [   0.003s] c d\nerror: test run failed\n";
        assert_eq!(
            summary_of(output),
            [
                "     Summary [   0.1s] 2 tests run: 1 passed, 1 failed, 0 skipped",
                "        FAIL [   0.003s] c d"
            ]
        );
    }

    #[test]
    fn the_results_of_cargo_test_are_added_up() {
        let output = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                      test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered\n";
        assert_eq!(
            summary_of(output),
            ["test result: FAILED. 5 passed; 4 failed; 1 ignored (2 binaries)"]
        );
    }

    #[test]
    fn a_runner_that_never_finished_has_no_summary() {
        assert!(summary_of("error: could not compile\n").is_empty());
    }
}
