//! What the command line calls and this tree does not have yet, by the agreed names. Each part is
//! replaced by a `use` of the real one; nothing else changes.

/// `nvgate_deploy::schema` and `nvgate_deploy::plan::prove`.
pub(super) mod schema {
    use std::fmt;
    use std::path::Path;

    use nvgate_deploy::plan::Plan;
    use serde::Serialize;

    /// The fields of the real one.
    #[derive(Clone, PartialEq, Eq, Debug, Serialize)]
    pub struct Diagnostic {
        pub file: String,
        pub line: u32,
        pub column: u32,
        pub message: String,
        pub source_line: Option<String>,
        pub notes: Vec<String>,
    }

    impl fmt::Display for Diagnostic {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self { file, line, column, message, .. } = self;
            write!(formatter, "{file}:{line}:{column}: error: {message}")
        }
    }

    pub fn prove(directory: &Path) -> Result<Plan, Vec<Diagnostic>> {
        Err(vec![Diagnostic {
            file: directory.join("gateway.yaml").display().to_string(),
            line: 1,
            column: 1,
            message: "cannot be read".to_owned(),
            source_line: None,
            notes: vec![],
        }])
    }

    pub fn json_schema() -> serde_json::Value {
        serde_json::json!({ "gateway": {}, "tenant": {} })
    }
}

/// `crate::control`.
pub(super) mod control {
    use std::num::NonZeroUsize;
    use std::path::PathBuf;

    use super::schema::Diagnostic;

    pub struct RunOptions {
        pub config: PathBuf,
        pub workers: Option<NonZeroUsize>,
    }

    #[derive(Debug, thiserror::Error)]
    pub enum RunError {
        #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
        Invalid(Vec<Diagnostic>),
        #[error("{0}")]
        Host(String),
    }

    pub fn run(options: RunOptions) -> Result<(), RunError> {
        let RunOptions { config, workers } = options;
        super::schema::prove(&config).map_err(RunError::Invalid)?;
        Err(RunError::Host(format!("this build has no control for {workers:?} workers")))
    }
}
