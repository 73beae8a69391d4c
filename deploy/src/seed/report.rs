//! What became of a seed, for people, for health and for `nvgate seed show`: written by whoever
//! applies it, read by everybody else.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::nics::NamedNic;
use crate::schema::Diagnostic;

/// Bytes of a report.
const MAX_REPORT_BYTES: u64 = 4 << 20;
/// Problems of a report; what is beyond them is found when these are corrected.
pub(super) const MAX_PROBLEMS: usize = 100;

/// What became of a seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is in effect from now on.
    Applied,
    /// It is what was in effect, or there is none and what was in effect remains.
    Unchanged,
    /// It is broken: what was in effect remains.
    KeptLastGood,
    /// Nothing is in effect.
    Waiting,
}

impl State {
    /// The state in words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::KeptLastGood => "broken, the last good configuration is kept",
            Self::Waiting => "waiting, nothing is configured",
        }
    }
}

/// Something that is wrong, where, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// The file of the seed; absent when it is not about one.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// The offending line without secrets.
    pub source_line: Option<String>,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// One that is not about a file.
    #[must_use]
    pub fn general(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: None,
            line: None,
            column: None,
            message: message.into(),
            source_line: None,
            remedy: remedy.into(),
        }
    }

    pub(super) fn of_diagnostic(diagnostic: Diagnostic) -> Self {
        let Diagnostic { file, line, column, mut message, source_line, notes } = diagnostic;
        for note in notes {
            message.push_str(&format!(" ({}:{}: {})", note.file, note.line, note.message));
        }
        Self {
            file: Some(file),
            line: Some(line),
            column: Some(column),
            message,
            source_line,
            remedy:
                "correct it in the seed, see that `nvgate seed check FOLDER` finds nothing, and \
                     start the machine again"
                    .to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    /// `file:line:column: error: text`, the offending line, and what to do, a line each; no line
    /// break follows the last one.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, source_line, remedy } = self;
        for part in [file.clone(), line.map(|line| line.to_string())].into_iter().flatten() {
            write!(formatter, "{part}:")?;
        }
        if let Some(column) = column {
            write!(formatter, "{column}: ")?;
        }
        write!(formatter, "error: {message}")?;
        if let (Some(line), Some(text)) = (line, source_line) {
            let shown: String = text
                .chars()
                .map(|one| if one.is_control() { ' ' } else { one })
                .take(Diagnostic::SHOWN_CHARACTERS)
                .collect();
            write!(formatter, "\n  {line} | {shown}")?;
        }
        write!(formatter, "\n  {remedy}")
    }
}

/// What became of a seed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// In one word.
    pub state: State,
    /// Where the seed came from; absent without one.
    pub source: Option<String>,
    /// The version in effect; absent when nothing is.
    pub version: Option<u64>,
    /// The machine's name, when the seed in effect gives it one.
    pub hostname: Option<String>,
    /// The NICs with their roles.
    pub nics: Vec<NamedNic>,
    /// How many SSH keys may log in.
    pub ssh_keys: usize,
    /// Where the health endpoint listens.
    pub health: SocketAddr,
    /// When the seed was looked at: seconds since 1970-01-01 00:00 UTC.
    pub at_unix_secs: u64,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Reads the report in `file`; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not a report.
    pub fn read(file: &Path) -> io::Result<Option<Self>> {
        let opened = match fs::File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut text = Vec::new();
        opened.take(MAX_REPORT_BYTES).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }
}
