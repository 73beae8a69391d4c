//! `nvgate documents`: man pages and shell completions, made from the command line as it is parsed.
//! Packages ship them; the command is hidden from people.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Exit, complain};

#[derive(Args, Debug)]
pub(super) struct Documents {
    /// An existing folder, under which the files lie as below /usr/share
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Where each shell looks for the completions of a command, below `/usr/share`.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/nvgate"),
    (Shell::Zsh, "zsh/vendor-completions/_nvgate"),
    (Shell::Fish, "fish/vendor_completions.d/nvgate.fish"),
];

/// Writes everything below the folder.
pub(super) fn documents(arguments: &Documents) -> Exit {
    match write(&arguments.directory) {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(Exit::CannotRun, &format!("{}: {error}", arguments.directory.display()))
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let manuals = directory.join("man/man1");
    fs::create_dir_all(&manuals)?;
    clap_mangen::generate_to(Cli::command(), &manuals)?;
    for (shell, file) in COMPLETIONS {
        let path = directory.join(file);
        fs::create_dir_all(path.parent().unwrap_or(directory))?;
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "nvgate", &mut text);
        fs::write(path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page_and_every_shell_completes_it() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        let read = |file: &str| fs::read_to_string(directory.path().join(file)).unwrap();
        let visible = Cli::command();
        let visible = visible.get_subcommands().filter(|command| !command.is_hide_set());
        let names: Vec<_> = visible.map(|command| command.get_name().to_owned()).collect();
        assert!(names.contains(&"run".to_owned()));
        for name in &names {
            let page = read(&format!("man/man1/nvgate-{name}.1"));
            assert!(page.contains("SYNOPSIS"), "{name}: {page}");
        }
        for (_, file) in COMPLETIONS {
            let text = read(file);
            assert!(names.iter().all(|name| text.contains(name)), "{file}: {text}");
        }
        let page = read("man/man1/nvgate.1");
        for taught in ["RFC 7637", "EXIT CODES", "tenants.d"] {
            assert!(page.contains(taught), "{taught} is missing in\n{page}");
        }
        assert!(!directory.path().join("man/man1/nvgate-documents.1").exists());
    }
}
