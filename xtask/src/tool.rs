//! Programs that a build runs: each must succeed, and what it said is shown when it does not.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program to be run.
pub struct Tool(Command);

impl Tool {
    /// A program by name, in an environment that does not depend on who runs it.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command.stdin(Stdio::null());
        Self(command)
    }

    /// A program within a tree that has Debian's packages.
    pub fn within(tree: &Path, program: impl AsRef<OsStr>) -> Self {
        Self::new("chroot").arg(tree).arg(program).env("SYSTEMD_OFFLINE", "1")
    }

    /// With another argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// With more arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    /// With a variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// In a directory.
    pub fn within_directory(mut self, directory: &Path) -> Self {
        self.0.current_dir(directory);
        self
    }

    /// With what it reads from its standard input.
    pub fn input(mut self, input: impl Into<Stdio>) -> Self {
        self.0.stdin(input);
        self
    }

    /// Runs it.
    pub fn run(self) -> Result<()> {
        self.output().map(drop)
    }

    /// Runs it and returns what it printed.
    pub fn output(mut self) -> Result<String> {
        let program = self.0.get_program().to_string_lossy().into_owned();
        let output = self.0.output().with_context(|| format!("running {program}"))?;
        if !output.status.success() {
            let arguments = self.0.get_args().map(|argument| argument.to_string_lossy());
            let arguments = arguments.collect::<Vec<_>>().join(" ");
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {arguments}: {}\n{}", output.status, said.trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
