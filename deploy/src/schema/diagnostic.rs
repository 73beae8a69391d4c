//! What is wrong with a configuration, and where: the same shape for a syntax error, a value out
//! of its range and a contradiction between two tenants. Diagnostics are collected, never thrown:
//! whoever finds an error goes on to look for the next one.

use std::fmt;

use serde::Serialize;

use super::mask::{mask_words, masked_line};

/// A position in one of the files that were read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Place {
    /// Which file, an index into the sources.
    pub(crate) file: u32,
    /// The line, from 1.
    pub(crate) line: u32,
    /// The column in characters, from 1.
    pub(crate) column: u32,
}

impl Place {
    /// The beginning of a file, for what concerns all of it.
    pub(crate) const fn start_of(file: u32) -> Self {
        Self { file, line: 1, column: 1 }
    }
}

/// One error of a configuration, with its position.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    /// The file, as it can be opened from where the configuration was read.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong, naming the value and the bound.
    pub message: String,
    /// The offending line without the secrets on it, if the file could be read and has one.
    pub source_line: Option<String>,
    /// Other positions that take part in the error.
    pub notes: Vec<Note>,
}

/// Another position that takes part in an error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Note {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is there.
    pub message: String,
}

impl Diagnostic {
    /// Characters of an offending line that are shown; a longer line is cut around the column.
    pub const SHOWN_CHARACTERS: usize = 160;
}

impl fmt::Display for Diagnostic {
    /// Writes `file:line:col: error: text`, the offending line with a caret below its column, and
    /// a line for each note. No line break follows the last line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, source_line, notes } = self;
        write!(formatter, "{file}:{line}:{column}: error: {message}")?;
        if let Some(text) = source_line {
            let (shown, before) = shown_part(text, *column);
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            write!(formatter, "\n  {number} | {shown}\n  {margin} | {before}^")?;
        }
        for Note { file, line, column, message } in notes {
            write!(formatter, "\n{file}:{line}:{column}: note: {message}")?;
        }
        Ok(())
    }
}

/// The part of a line that is shown, free of control characters, and the white space that puts a
/// caret below `column`.
fn shown_part(text: &str, column: u32) -> (String, String) {
    let column = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
    let skipped = column.saturating_sub(Diagnostic::SHOWN_CHARACTERS * 3 / 4);
    let printable = |character: char| match character {
        '\t' => ' ',
        other if other.is_control() => '\u{fffd}',
        other => other,
    };
    let shown: String =
        text.chars().skip(skipped).take(Diagnostic::SHOWN_CHARACTERS).map(printable).collect();
    (shown, " ".repeat(column - skipped))
}

/// Errors found so far, by position, before the sources' text is joined to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    found: Vec<Finding>,
    beyond: usize,
    secrets: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Finding {
    place: Place,
    message: String,
    notes: Vec<(Place, String)>,
}

impl Findings {
    /// Errors that are kept; more are only counted.
    pub(crate) const MAX_FOUND: usize = 1000;
    /// Notes of one error.
    pub(crate) const MAX_NOTES: usize = 8;

    /// Adds an error.
    pub(crate) fn error(&mut self, place: Place, message: impl fmt::Display) {
        self.error_with_notes(place, message, Vec::new());
    }

    /// Adds an error whose other side is at `other`.
    pub(crate) fn conflict(
        &mut self,
        place: Place,
        message: impl fmt::Display,
        other: Place,
        note: impl fmt::Display,
    ) {
        self.error_with_notes(place, message, vec![(other, note.to_string())]);
    }

    /// Adds an error in which several other positions take part.
    pub(crate) fn error_with_notes(
        &mut self,
        place: Place,
        message: impl fmt::Display,
        mut notes: Vec<(Place, String)>,
    ) {
        if self.found.len() == Self::MAX_FOUND {
            self.beyond += 1;
            return;
        }
        notes.truncate(Self::MAX_NOTES);
        self.found.push(Finding { place, message: message.to_string(), notes });
    }

    /// Remembers where a secret stands, so that it is not shown with an error.
    pub(crate) fn secret(&mut self, place: Place) {
        self.secrets.push(place);
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many errors were found.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.beyond
    }

    /// Joins the sources' text to the errors and orders them by file, line and column.
    pub(crate) fn into_diagnostics(mut self, sources: &[Source]) -> Vec<Diagnostic> {
        self.found.sort_by_key(|finding| finding.place);
        let beyond = self.beyond;
        let secrets = self.secrets;
        let mut diagnostics: Vec<_> = self
            .found
            .into_iter()
            .map(|finding| finding.into_diagnostic(sources, &secrets))
            .collect();
        if let (Some(last), true) = (diagnostics.last_mut(), beyond > 0) {
            last.message.push_str(&format!(" (and {beyond} more errors that are not shown)"));
        }
        diagnostics
    }
}

impl Finding {
    fn into_diagnostic(self, sources: &[Source], secrets: &[Place]) -> Diagnostic {
        let name = |place: Place| {
            sources.get(place.file as usize).map_or_else(String::new, |source| source.name.clone())
        };
        let Place { file, line, column } = self.place;
        let secrets = secrets.iter().filter(|secret| (secret.file, secret.line) == (file, line));
        let columns: Vec<_> = secrets.map(|secret| secret.column as usize).collect();
        let source_line = sources
            .get(file as usize)
            .and_then(|source| masked_line(&source.text, line as usize, &columns));
        let note = |(place, message): (Place, String)| Note {
            file: name(place),
            line: place.line,
            column: place.column,
            message,
        };
        Diagnostic {
            file: name(self.place),
            line,
            column,
            // Some messages repeat words of the file, which may be secrets in a wrong place.
            message: mask_words(&self.message),
            source_line,
            notes: self.notes.into_iter().map(note).collect(),
        }
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What diagnostics call it.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic(source_line: &str, column: u32) -> Diagnostic {
        Diagnostic {
            file: "tenants.d/b.yaml".to_owned(),
            line: 12,
            column,
            message: "VSID 5001 is already used by tenant `a`".to_owned(),
            source_line: Some(source_line.to_owned()),
            notes: vec![Note {
                file: "tenants.d/a.yaml".to_owned(),
                line: 7,
                column: 11,
                message: "tenant `a` uses it here".to_owned(),
            }],
        }
    }

    #[test]
    fn a_diagnostic_shows_its_line_with_a_caret_and_its_notes() {
        assert_eq!(
            diagnostic("\tvsid: 5001", 8).to_string(),
            "tenants.d/b.yaml:12:8: error: VSID 5001 is already used by tenant `a`\n  \
             12 |  vsid: 5001\n     |        ^\n\
             tenants.d/a.yaml:7:11: note: tenant `a` uses it here"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_its_column() {
        let line = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let text = diagnostic(&line, 5001).to_string();
        let lines: Vec<_> = text.lines().collect();
        let caret = lines[2].chars().position(|character| character == '^').unwrap();
        assert_eq!(lines[1].chars().nth(caret), Some('X'));
        assert!(lines[1].len() < 200);
    }

    #[test]
    fn errors_beyond_the_bound_are_counted() {
        let mut findings = Findings::default();
        for line in 0..u32::try_from(Findings::MAX_FOUND).unwrap() + 5 {
            findings.error(Place { file: 0, line, column: 1 }, "x");
        }
        let diagnostics = findings.into_diagnostics(&[]);
        assert_eq!(diagnostics.len(), Findings::MAX_FOUND);
        assert_eq!(diagnostics.last().unwrap().message, "x (and 5 more errors that are not shown)");
    }
}
