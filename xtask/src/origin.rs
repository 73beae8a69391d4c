//! What a package is built from: the commit, its time, and the version that follows from them.

use anyhow::{Context, Result};

use crate::tool::Tool;

/// The commit that something is built from.
pub struct Origin {
    /// The commit.
    pub commit: String,
    /// Whether files differ from the commit.
    pub changed: bool,
    /// The commit's time in seconds since 1970: the time of everything in it.
    pub epoch: u64,
    /// The version: later commits have greater ones.
    pub version: String,
}

impl Origin {
    /// The commit that is checked out.
    pub fn of_workspace() -> Result<Self> {
        let git = |arguments: &[&str]| Tool::new("git").args(arguments).output();
        let said = git(&["log", "-1", "--format=%H %ct"])?;
        let (commit, epoch) = said.trim().split_once(' ').context("git log has no commit")?;
        let epoch = epoch.parse().context("the commit has no time")?;
        let changed = !git(&["status", "--porcelain"])?.trim().is_empty();
        let day = Tool::new("date").args(["-u", "+%Y%m%d.%H%M%S", "-d"]).arg(format!("@{epoch}"));
        let time = day.output()?;
        let mark = if changed { "-changed" } else { "" };
        let version = format!("{}-{}{mark}", env!("CARGO_PKG_VERSION"), time.trim());
        Ok(Self { commit: commit.to_owned(), changed, epoch, version })
    }
}
