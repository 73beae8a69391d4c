//! `nvgate image`: what concerns machines made from the image, on their hosts and within.

mod deploy;
mod slots;

use std::io;

use clap::Subcommand;

use super::Exit;
use slots::conclude;

#[derive(Subcommand, Debug)]
pub(super) enum Image {
    /// Print what a host's administrator needs to run the image: libvirt XML or PowerShell
    Deploy(deploy::Deploy),
    /// Write a release into the slot that does not run, to be booted next and once
    ///
    /// FILE is a `.update` of the image's build. All of it is checked against its manifest before
    /// anything is written, and read back through its hash tree afterwards. What runs, its boot
    /// entry, the configuration and the state stay as they are. If the new version is not ready
    /// two minutes after its boot, the machine boots this one again by itself.
    Update(slots::Update),
    /// Show which version runs and which ones the boot loader knows
    Status,
    /// Tell health which versions were tried and given up
    ///
    /// The image's own unit runs it once a boot.
    #[command(hide = true)]
    Report,
    /// Wait until this boot has a gateway that is ready
    ///
    /// The image's own unit runs it. It fails only if there is another version to go back to.
    #[command(hide = true)]
    AwaitReady(slots::AwaitReady),
}

/// Does what the command line says.
pub(super) fn image(command: &Image, out: &mut impl io::Write) -> io::Result<Exit> {
    match command {
        Image::Deploy(arguments) => deploy::deploy(arguments, out),
        Image::Update(arguments) => conclude(slots::update(arguments, out)),
        Image::Status => conclude(slots::status(out)),
        Image::Report => conclude(slots::report()),
        Image::AwaitReady(arguments) => conclude(slots::await_ready(arguments, out)),
    }
}
