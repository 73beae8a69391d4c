//! `crate::control` by the agreed names, for as long as this tree does not have it.

pub(super) mod control {
    use std::num::NonZeroUsize;
    use std::path::PathBuf;

    use nvgate_deploy::schema::Diagnostic;

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
        super::super::check::prove(&config).map_err(RunError::Invalid)?;
        Err(RunError::Host(format!("this build has no control for {workers:?} workers")))
    }
}
