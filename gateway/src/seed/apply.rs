//! `nvgate seed apply`: finds the seed, puts it in effect, and gives the machine its name, its
//! links' names and its SSH keys. Whatever is wrong becomes a problem of the report: a machine whose
//! seed is broken has to be reachable to say so.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::unistd::User;
use nvgate_deploy::host::{Netlink, NetlinkError};
use nvgate_deploy::seed::{
    Candidate, Decision, HostNic, Kept, LocalDisk, Owner, Problem, Rename, Report, Seed, State,
    Store, decide, from_credentials, from_folder, renames,
};

use super::{MANAGEMENT_LINK, Places, disk};

/// How often is looked for what may take.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The user and group that the gateway runs as.
const GATEWAY_USER: &str = "nvgate";
/// What a seed on a disk is said to come from.
const DISK_SOURCE: &str = "disk";

/// Why nothing can be applied and nothing reported.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel cannot be asked for its links.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A file of this machine cannot be written.
    #[error("{path}: {source}; run this as root, on the gateway's own machine")]
    File {
        /// Which.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The machine's links.
pub trait Links {
    /// Its NICs.
    fn nics(&self) -> impl Future<Output = Result<Vec<HostNic>, NetlinkError>>;

    /// Changes the name of one.
    fn rename(&self, rename: &Rename) -> impl Future<Output = Result<(), NetlinkError>>;
}

impl Links for Netlink {
    fn nics(&self) -> impl Future<Output = Result<Vec<HostNic>, NetlinkError>> {
        Self::nics(self)
    }

    fn rename(&self, rename: &Rename) -> impl Future<Output = Result<(), NetlinkError>> {
        self.rename_link(rename)
    }
}

/// Applies the seed that is found and returns what became of it, which is also in the report.
///
/// # Errors
///
/// The machine does not let it report; a seed that is broken is none.
pub async fn apply(places: &Places, links: &impl Links) -> Result<Report, ApplyError> {
    for directory in [&places.run, &places.store] {
        fs::create_dir_all(directory).map_err(|source| failed(directory, source))?;
    }
    let store = Store::new(places.store.clone(), owner());
    let mut problems = Vec::new();
    let last = store.current().unwrap_or_else(|error| {
        problems.push(Problem::general(
            format!("the configuration in effect cannot be read: {error}"),
            "give the machine its seed again",
        ));
        None
    });
    let found = find(places, last.as_ref());
    let candidate = found.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let last_seed = last.as_ref().map(|kept| &kept.seed);
    let mut decision = decided(places, links, candidate.as_ref(), last_seed).await?;
    // A source that cannot be read is a broken seed.
    if candidate.is_none() && !problems.is_empty() && last.is_some() {
        decision.state = State::KeptLastGood;
    }
    let mut version = last.as_ref().map(|kept| kept.version);
    if let (State::Applied, Some(candidate)) = (decision.state, &candidate) {
        match store.put(&LocalDisk, &candidate.seed, &candidate.source) {
            Ok(new) => version = Some(new),
            Err(error) => {
                decision = decided(places, links, None, last_seed).await?;
                if last.is_some() {
                    decision.state = State::KeptLastGood;
                }
                problems.push(Problem::general(
                    error.to_string(),
                    "give the state partition room, or replace its disk",
                ));
            }
        }
    }
    problems.append(&mut decision.problems);
    decision.problems = problems;
    name_links(links, &mut decision).await?;
    give_name(places, &mut decision);
    let source = candidate.map(|candidate| candidate.source);
    let source = source.or_else(|| last.map(|kept| kept.source));
    let keys = places.authorized_keys();
    write_keys(&keys, &decision.ssh_keys).map_err(|source| failed(&keys, source))?;
    let unmanaged = &places.unmanaged;
    leave_management(unmanaged, decision.management_is_described)
        .map_err(|source| failed(unmanaged, source))?;
    let report = report(decision, source, version);
    let file = places.report();
    write_report(&file, &report).map_err(|source| failed(&file, source))?;
    Ok(report)
}

fn failed(path: &Path, source: io::Error) -> ApplyError {
    ApplyError::File { path: path.display().to_string(), source }
}

/// The user that the gateway runs as; without one it runs as root.
fn owner() -> Option<Owner> {
    let user = User::from_name(GATEWAY_USER).ok().flatten()?;
    let owner = Owner { user: user.uid.as_raw(), group: user.gid.as_raw() };
    nix::unistd::geteuid().is_root().then_some(owner)
}

/// The seed that counts: of a disk, of credentials, of the folder on the state partition.
fn find(places: &Places, last: Option<&Kept>) -> Result<Option<Candidate>, Problem> {
    if disk_appears(places, last) {
        let device = fs::canonicalize(&places.disk).unwrap_or_else(|_| places.disk.clone());
        let source = format!("{DISK_SOURCE} {}", device.display());
        return match disk::read(&device, &places.run) {
            Ok(seed) => Ok(Some(Candidate { source, seed })),
            Err(error) => Err(Problem::general(
                format!("the seed on {source} cannot be read: {error}"),
                "make the disk again, as vfat or as an ISO image, and start the machine again",
            )),
        };
    }
    let credentials = &places.credentials;
    let seed = from_credentials(credentials).map_err(|error| unreadable(credentials, &error))?;
    if !seed.is_empty() {
        return Ok(Some(Candidate { source: "systemd credentials".to_owned(), seed }));
    }
    let folder = places.folder();
    let seed = match from_folder(&folder) {
        Ok(seed) => seed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seed::default(),
        Err(error) => return Err(unreadable(&folder, &error)),
    };
    let source = format!("folder {}", folder.display());
    Ok((!seed.is_empty()).then_some(Candidate { source, seed }))
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::general(
        format!("the seed in {} cannot be read: {error}", path.display()),
        "put it there anew, and start the machine again",
    )
}

/// Whether there is a seed's disk; one that is expected may take some time to appear.
fn disk_appears(places: &Places, last: Option<&Kept>) -> bool {
    let expected = match last {
        Some(kept) => kept.source.starts_with(DISK_SOURCE),
        None => {
            let other = from_credentials(&places.credentials).is_ok_and(|seed| !seed.is_empty())
                || from_folder(&places.folder()).is_ok_and(|seed| !seed.is_empty());
            !other
        }
    };
    let deadline = Instant::now() + if expected { places.disk_wait } else { Duration::ZERO };
    while !places.disk.exists() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK_INTERVAL);
    }
    true
}

/// Decides, and gives a NIC that is missing some time.
async fn decided(
    places: &Places,
    links: &impl Links,
    candidate: Option<&Candidate>,
    last: Option<&Seed>,
) -> Result<Decision, NetlinkError> {
    let deadline = Instant::now() + places.nic_wait;
    loop {
        let decision = decide(candidate, last, &links.nics().await?);
        if !decision.missing_nic || Instant::now() >= deadline {
            return Ok(decision);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn name_links(links: &impl Links, decision: &mut Decision) -> Result<(), NetlinkError> {
    let nics = links.nics().await?;
    for rename in renames(&nics, &decision.nics) {
        let failure = if rename.up {
            Some("it is in use".to_owned())
        } else {
            links.rename(&rename).await.err().map(|error| error.to_string())
        };
        if let Some(failure) = failure {
            decision.problems.push(Problem::general(
                format!("link {} is not called {} yet: {failure}", rename.from, rename.to),
                "start the machine again",
            ));
        }
    }
    Ok(())
}

fn give_name(places: &Places, decision: &mut Decision) {
    let Some(name) = &decision.hostname else { return };
    if let Err(error) = fs::write(&places.hostname, name) {
        decision.problems.push(Problem::general(
            format!("the machine is not called {name}: {error}"),
            "run this as root",
        ));
    }
}

/// Writes the keys that may log in, or nothing at all when there are none: SSH only listens when
/// the file is there.
fn write_keys(file: &Path, keys: &[String]) -> io::Result<()> {
    if keys.is_empty() {
        return remove(file);
    }
    put(file, 0o600, format!("{}\n", keys.join("\n")).as_bytes())
}

/// Has systemd-networkd leave the management link alone where gateway.yaml describes it, and else
/// give it its addresses as in every image.
fn leave_management(file: &Path, is_described: bool) -> io::Result<()> {
    if !is_described {
        return remove(file);
    }
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    let text = format!("[Match]\nName={MANAGEMENT_LINK}\n\n[Link]\nUnmanaged=yes\n");
    put(file, 0o644, text.as_bytes())
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_report(file: &Path, report: &Report) -> io::Result<()> {
    put(file, 0o644, &serde_json::to_vec_pretty(report)?)
}

/// Puts a whole file in the place of another.
fn put(file: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut opened =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    opened.set_permissions(Permissions::from_mode(mode))?;
    opened.write_all(bytes)?;
    fs::rename(&new, file)
}

fn report(decision: Decision, source: Option<String>, version: Option<u64>) -> Report {
    let Decision { state, hostname, nics, ssh_keys, health, problems, .. } = decision;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Report {
        state,
        source,
        version,
        hostname,
        nics,
        ssh_keys: ssh_keys.len(),
        health,
        at_unix_secs: now.map_or(0, |now| now.as_secs()),
        problems,
    }
}
