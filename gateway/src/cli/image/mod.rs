//! `nvgate image`: what concerns machines made from the image.

mod deploy;

use std::io;

use clap::Subcommand;

use super::Exit;

#[derive(Subcommand, Debug)]
pub(super) enum Image {
    /// Print what a host's administrator needs to run the image: libvirt XML or PowerShell
    Deploy(deploy::Deploy),
}

/// Does what the command line says.
pub(super) fn image(command: &Image, out: &mut impl io::Write) -> io::Result<Exit> {
    match command {
        Image::Deploy(arguments) => deploy::deploy(arguments, out),
    }
}
