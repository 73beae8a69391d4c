//! `nvgate drain`: has a running gateway prepare its going.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::bgp::{Failure, command};
use super::{Exit, complain};
use crate::admin::bgp::DrainReport;
use crate::admin::commands::DRAIN_SECS;

#[derive(Args, Debug)]
pub(super) struct Drain {
    /// Seconds from now until all BGP sessions end
    #[arg(long, value_name = "SECS", default_value_t = DRAIN_SECS, conflicts_with = "cancel")]
    after: u32,
    /// Stay: tell peers so, or begin sessions anew that have ended
    #[arg(long)]
    cancel: bool,
    /// The gateway's configuration, which says where its state directory is
    #[arg(long, value_name = "DIR", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Does what the command line says and prints to `output`.
pub(super) fn drain(arguments: &Drain, output: &mut dyn Write) -> io::Result<Exit> {
    let Drain { after, cancel, config } = arguments;
    let query = [
        ("after_secs", (!cancel).then(|| after.to_string())),
        ("cancel", Some(cancel.to_string())),
    ];
    match command::<DrainReport>(config, "/v1/drain", &query) {
        Ok(report) => {
            output.write_all(sentence(report).as_bytes())?;
            Ok(Exit::Done)
        }
        Err(Failure(exit, sentence)) => Ok(complain(exit, &sentence)),
    }
}

fn sentence(report: DrainReport) -> String {
    match report {
        DrainReport::Serving => "the gateway stays\n".to_owned(),
        DrainReport::Draining { ends_in_secs } => {
            format!("BGP peers are told that the gateway goes; sessions end in {ends_in_secs} s\n")
        }
        DrainReport::Drained => "all BGP sessions have ended\n".to_owned(),
    }
}
