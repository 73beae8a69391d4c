//! The table of what the demo did: what was expected, what was observed, whether they agree.

use std::io::{self, Write};

/// What one check saw, and anything worth adding (a time, a rate).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observed {
    /// What must equal the expectation.
    pub text: String,
    /// Shown beside it.
    pub detail: String,
}

impl From<String> for Observed {
    fn from(text: String) -> Self {
        Self { text, detail: String::new() }
    }
}

/// The checks so far, each printed as soon as it is done.
#[derive(Debug)]
pub struct Report<W> {
    out: W,
    passed: usize,
    failed: usize,
}

const CHECK_WIDTH: usize = 56;
const EXPECTED_WIDTH: usize = 30;

impl<W: Write> Report<W> {
    /// A report that prints to `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        writeln!(out, "      {:CHECK_WIDTH$} {:EXPECTED_WIDTH$} OBSERVED", "CHECK", "EXPECTED")?;
        Ok(Self { out, passed: 0, failed: 0 })
    }

    /// Makes one check and prints its row. An error of `probe` is an observation too.
    pub fn check(
        &mut self,
        what: &str,
        expected: &str,
        probe: impl FnOnce() -> anyhow::Result<Observed>,
    ) -> io::Result<()> {
        let observed = probe().unwrap_or_else(|error| Observed::from(format!("{error:#}")));
        let held = observed.text == expected;
        *(if held { &mut self.passed } else { &mut self.failed }) += 1;
        let verdict = if held { "ok" } else { "FAIL" };
        let Observed { text, detail } = observed;
        let row =
            format!("{verdict:5} {what:CHECK_WIDTH$} {expected:EXPECTED_WIDTH$} {text}  {detail}");
        writeln!(self.out, "{}", row.trim_end())?;
        self.out.flush()
    }

    /// How many checks held.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// How many did not.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_holds_only_when_it_observed_what_was_expected() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out).unwrap();
        report.check("same", "red", || Ok("red".to_owned().into())).unwrap();
        report.check("other", "red", || Ok("blue".to_owned().into())).unwrap();
        report.check("error", "red", || anyhow::bail!("no answer")).unwrap();
        assert_eq!((report.passed(), report.failed()), (1, 2));
        let text = String::from_utf8(out).unwrap();
        let verdicts: Vec<_> = text.lines().skip(1).map(|row| row[..5].trim_end()).collect();
        assert_eq!(verdicts, ["ok", "FAIL", "FAIL"]);
    }
}
