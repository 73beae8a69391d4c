//! The demo's data centre with the real gateway process in it, for tests that start, kill, misuse
//! and reconfigure the process. Everything is bounded in time and gone with its [`RunLab`].

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nvgate::admin::Status;
use nvgate::admin::health::{Component, HealthState};
use nvgate::admin::status::TenantStatus;
use nvgate::demo::gateway_process::GatewayProcess;
use nvgate::demo::lab::Namespace;
use nvgate::demo::site::{self, Site};
use nvgate_deploy::keys::Keyring;
use nvgate_deploy::lease::Leases;
use nvgate_deploy::plan::prove;
use nvgate_deploy::schema;
use tempfile::TempDir;

use crate::skip::skip;

/// How long something that must come may take.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// How long a gateway may take to end after SIGTERM.
const LEAVE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// The public addresses of red and blue where the lab's own configuration names them.
pub const PUBLIC: [Ipv4Addr; 2] = [site::TENANTS[0].public, site::TENANTS[1].public];

/// Two labs at once would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

/// A data centre and its gateway.
pub struct RunLab {
    gateway: Option<GatewayProcess>,
    /// The data centre.
    pub site: Site,
    directory: TempDir,
    starts: u32,
    _alone: MutexGuard<'static, ()>,
}

impl RunLab {
    /// The lab with a configuration of both tenants for `workers` workers and no gateway yet;
    /// `None`, recorded as skipped, where this user may not make network namespaces.
    ///
    /// # Errors
    ///
    /// When the lab cannot be built.
    pub fn build(test: &str, workers: usize) -> Result<Option<Self>> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        match Namespace::new("trial") {
            Ok(_) => {}
            Err(error) if error.source.raw_os_error() == Some(Errno::EPERM as i32) => {
                skip(test, "needs CAP_SYS_ADMIN to make network namespaces");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let directory = TempDir::with_prefix("nvgate-run-")?;
        site::write_config(directory.path(), Some(workers))?;
        let documents = schema::load(directory.path());
        let proof = prove(&documents, &Leases::default(), &Keyring::default())
            .map_err(|errors| anyhow::anyhow!("the lab's configuration: {errors:?}"))?;
        let site = Site::build(&proof.plan)?;
        Ok(Some(Self { gateway: None, site, directory, starts: 0, _alone: alone }))
    }

    /// The configuration directory.
    #[must_use]
    pub fn config(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the configuration: `gateway` or a tenant.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        match name {
            "gateway" => self.config().join("gateway.yaml"),
            tenant => self.config().join(format!("tenants.d/{tenant}.yaml")),
        }
    }

    /// Replaces `from` by `to` in a file of the configuration, at once as seen by readers.
    ///
    /// # Errors
    ///
    /// When the file does not hold `from`.
    pub fn edit(&self, name: &str, from: &str, to: &str) -> Result<()> {
        let text = fs::read_to_string(self.file(name))?;
        ensure!(text.contains(from), "{name} does not hold `{from}`:\n{text}");
        self.write(name, &text.replace(from, to))
    }

    /// Writes a file of the configuration, at once as seen by readers.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let fresh = self.config().join("fresh");
        fs::write(&fresh, text)?;
        Ok(fs::rename(fresh, self.file(name))?)
    }

    /// Starts the gateway without waiting for it.
    ///
    /// # Errors
    ///
    /// When there is no binary or no process.
    pub fn spawn(&mut self) -> Result<()> {
        self.spawn_with(None)
    }

    /// As [`spawn`](Self::spawn), with a filter of what is logged.
    ///
    /// # Errors
    ///
    /// When there is no binary or no process.
    pub fn spawn_with(&mut self, filter: Option<&str>) -> Result<()> {
        self.starts += 1;
        let log = self.config().join(format!("gateway-{}.log", self.starts));
        let program = binary()?;
        self.gateway = Some(GatewayProcess::start(
            &self.site.gateway,
            &program,
            self.config(),
            (&log, filter),
            site::ADMIN,
        )?);
        Ok(())
    }

    /// Starts the gateway and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it ends or does not become ready.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let gateway = self.gateway.as_mut().context("just started")?;
        gateway.wait_ready(&self.site.gateway, || false)
    }

    /// Sends a signal to the gateway.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id()?)?;
        Ok(kill(Pid::from_raw(id), signal)?)
    }

    /// The process id of the gateway.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn id(&self) -> Result<u32> {
        Ok(self.running()?.id())
    }

    /// Sends `signal`, which must end the gateway, and waits for that.
    ///
    /// # Errors
    ///
    /// When it has not ended in time.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        let mut gateway = self.gateway.take().context("a gateway runs")?;
        let deadline = Instant::now() + LEAVE;
        loop {
            if let Some(status) = gateway.exited()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "{signal} does not end the gateway");
            thread::sleep(POLL);
        }
    }

    /// What the health endpoint answers to `path`: status code and body.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub fn ask(&self, path: &str) -> Result<(u16, String)> {
        self.running()?.ask(&self.site.gateway, path)
    }

    /// The gateway's status document.
    ///
    /// # Errors
    ///
    /// When it cannot be had or read.
    pub fn status(&self) -> Result<Status> {
        let (code, body) = self.ask("/v1/status")?;
        ensure!(code == 200, "/v1/status answers {code}: {body}");
        serde_json::from_str(&body).context("/v1/status")
    }

    /// What the status says of a tenant, if it knows it.
    ///
    /// # Errors
    ///
    /// As [`status`](Self::status).
    pub fn tenant(&self, name: &str) -> Result<Option<TenantStatus>> {
        Ok(self.status()?.tenants.into_iter().find(|tenant| tenant.name == name))
    }

    /// The components that are not ok.
    ///
    /// # Errors
    ///
    /// As [`status`](Self::status).
    pub fn complaints(&self) -> Result<Vec<Component>> {
        let components = self.status()?.components;
        Ok(components.into_iter().filter(|part| part.status != HealthState::Ok).collect())
    }

    /// Waits until the gateway is ready and has nothing to complain about.
    ///
    /// # Errors
    ///
    /// When that does not come; the error has the complaints.
    pub fn wait_well(&self) -> Result<()> {
        self.wait("the gateway is well", || {
            let complaints = self.complaints()?;
            ensure!(complaints.is_empty(), "{complaints:?}");
            let (code, body) = self.ask("/readyz")?;
            ensure!(code == 200, "{body}");
            Ok(())
        })
    }

    /// Waits until `condition` holds.
    ///
    /// # Errors
    ///
    /// With the last reason why it does not, and the end of the gateway's log.
    pub fn wait<T>(&self, what: &str, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match condition() {
                Ok(value) => return Ok(value),
                Err(error) if Instant::now() > deadline => {
                    let log = self.gateway.as_ref().map(GatewayProcess::log_tail);
                    bail!(
                        "not after {} s: {what}: {error:#}\nthe log ends:\n{}",
                        PATIENCE.as_secs(),
                        log.unwrap_or_default()
                    );
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// Waits until a configuration newer than that of `generation` is in effect without an error.
    ///
    /// # Errors
    ///
    /// When that does not come.
    pub fn wait_loaded(&self, loaded_after: Option<u32>) -> Result<()> {
        self.wait("the new configuration is in effect", || {
            let config = self.status()?.config;
            ensure!(config.last_error.is_none(), "{:?}", config.last_error);
            ensure!(config.generation > loaded_after, "still {:?}", config.generation);
            Ok(())
        })
    }

    /// The generation in effect.
    ///
    /// # Errors
    ///
    /// As [`status`](Self::status).
    pub fn generation(&self) -> Result<Option<u32>> {
        Ok(self.status()?.config.generation)
    }

    /// The namespace of a VM such as `red-web`.
    #[must_use]
    pub fn vm(&self, name: &str) -> &Namespace {
        &self.site.vm(name).namespace
    }

    fn running(&self) -> Result<&GatewayProcess> {
        self.gateway.as_ref().context("no gateway was started")
    }
}

/// The gateway's binary: `NVGATE_BIN`, or the one beside the folder of this test's executable.
///
/// # Errors
///
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("NVGATE_BIN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?
            .ancestors()
            .nth(2)
            .context("a test's executable is in target/*/deps")?
            .join("nvgate"),
    };
    ensure!(path.is_file(), "no {}: build it by `cargo build --package nvgate`", path.display());
    Ok(path)
}
