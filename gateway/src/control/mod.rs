//! Control: makes a plan and the host's network into snapshots for the workers, and follows both.
//!
//! One asynchronous thread: it reads the configuration, watches the host by netlink, keeps the
//! host's kernel away from the gateway's traffic, answers the health endpoint, and ends in good
//! order. It never touches a packet.

mod config;
mod error;
mod guarded;
mod host;
mod links;
mod moderation;
mod neighbours;
mod privileges;
mod service_manager;
pub mod speaker;
mod status;
pub mod threads;

use std::collections::hash_map::RandomState;
use std::future::pending;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sys::prctl::set_dumpable;
use nvgate_deploy::diff::diff;
use nvgate_deploy::host::{Guard, GuardError, HostView, Netlink, Observer};
use nvgate_deploy::plan::Plan;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::health::Component;
use crate::admin::{self, AdminState, commands};
use crate::demo::gateway_process::end_with_owner;
use crate::dispatch::ResolveRequest;
use crate::io::packet::{OpenError, Waker};
use crate::peering::{Asked, LearntBox, Peering, Questions, Ties};
use crate::snapshot::{BuildError, Retired, Snapshot, SnapshotBuilder};
use crate::worker::Published;

pub use config::ConfigError;
use config::{Configuration, Fingerprint};
pub use error::RunError;
use guarded::{GuardedTraffic, guard};
use host::link_indices;
use links::HostLinks;
use privileges::{Keeper, give_up};
use service_manager::{Progress, ServiceManager};
use speaker::Speaker;
use status::Shared;
use threads::{GatewayClock, StartError, Workers};

/// How often control looks for changed files, unresolved neighbours and dead workers.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often control looks whether a site came up or went down.
const SITES_INTERVAL: Duration = Duration::from_millis(100);
/// Every how many looks the host's links are observed without an event.
const LOOKS_A_LINK_ROUND: u32 = 5;
/// Every how many looks the guards are checked and resolved neighbours are confirmed.
const LOOKS_A_ROUND: u32 = 15;
/// Neighbours asked for in one look.
const MAX_RESOLUTIONS: usize = 256;
/// Resolve requests of workers that may wait.
const RESOLVE_QUEUE: usize = 256;

/// What `nvgate run` was told.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration directory.
    pub config: PathBuf,
    /// Packet workers, instead of what gateway.yaml says.
    pub workers: Option<NonZeroUsize>,
}

/// Runs the gateway until it is told to stop (SIGINT, SIGTERM).
///
/// # Errors
///
/// One clear sentence on why it cannot run.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    end_with_owner().map_err(io::Error::from)?;
    forbid_core_dumps().map_err(io::Error::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // From here on no signal ends the process halfway.
        let mut signals = Signals::listen()?;
        let (configuration, loaded) = Configuration::open(&options.config)?;
        let mut plan = loaded.proof.plan.clone();
        if let Some(workers) = options.workers {
            plan.gateway.workers = workers;
        }
        let mut control = Control::start(configuration, plan, options.workers).await?;
        control.configuration.note_in_effect(&loaded);
        let ended = control.serve(&mut signals).await;
        control.stop().await;
        ended
    })
}

/// Private keys of tunnels are in memory: no crash writes them to a disk, and no other process of
/// the same user reads them there.
fn forbid_core_dumps() -> nix::Result<()> {
    set_dumpable(false)
}

/// What the process is told by signals.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

/// A running gateway.
struct Control {
    configuration: Configuration,
    workers_override: Option<NonZeroUsize>,
    fingerprint: Fingerprint,
    /// A change seen once; taken over when it is still the same at the next look.
    pending: Option<Fingerprint>,
    builder: SnapshotBuilder,
    netlink: Netlink,
    observer: Observer,
    host_links: HostLinks,
    /// The indices of the links that the ports were opened on.
    links: [u32; 2],
    guards: Vec<Guard>,
    guarded: GuardedTraffic,
    workers: Workers,
    /// The thread of BGP and BFD, which runs with the workers.
    speaker: Option<Speaker>,
    speaker_waker: Waker,
    /// What is asked about BGP, until the speaker has it.
    asked: Option<Asked>,
    /// What neighbours taught, until it is built into the snapshot.
    learnt: Arc<LearntBox>,
    retired: Retired,
    seed: u64,
    shared: Arc<Shared>,
    resolve: mpsc::Receiver<ResolveRequest>,
    resolve_sender: mpsc::Sender<ResolveRequest>,
    admin_stop: Option<oneshot::Sender<()>>,
    admin: tokio::task::JoinHandle<()>,
    /// Who takes commands.
    commands: Option<tokio::task::JoinHandle<()>>,
    looks: u32,
    manager: ServiceManager,
    progress: Progress,
}

impl Control {
    async fn start(
        configuration: Configuration,
        plan: Plan,
        workers_override: Option<NonZeroUsize>,
    ) -> Result<Self, RunError> {
        let netlink = Netlink::open()?;
        // Ports and the health endpoint are on links that may have to be made first.
        let host_links = HostLinks::set_up(plan.gateway.links.as_ref()).await?;
        let observer = Observer::start().await?;
        let host = observer.view();
        let view = host.borrow().clone();
        let listener = match plan.gateway.links {
            Some(_) => admin::bind_soon(plan.gateway.admin_listen).await?,
            None => admin::bind(plan.gateway.admin_listen).await?,
        };
        let clock = GatewayClock::start();
        let seed = random_seed();
        let mut builder = SnapshotBuilder::new(plan.gateway.workers.get() as u16, seed);
        let snapshot = builder.build(&plan, &view)?;
        let links = link_indices(&plan, &view)?;
        let generation = snapshot.generation.0;
        let published: Published = Arc::new(ArcSwap::from_pointee(snapshot));
        let (resolve_sender, resolve) = mpsc::channel(RESOLVE_QUEUE);
        let workers = Workers::new(plan.gateway.workers)?;
        let guarded = GuardedTraffic::of(&plan);
        let shared = Arc::new(Shared {
            plan: Arc::new(ArcSwap::from_pointee(plan)),
            published,
            counters: workers.counters.clone(),
            host,
            clock,
            config: Mutex::default(),
            components: Mutex::default(),
            links: Mutex::default(),
            bgp: Arc::default(),
        });
        shared.note_loaded(generation);
        shared.note_links(host_links.reports());
        let speaker_waker = Waker::new()?;
        let (questions, asked) = Questions::new(speaker_waker.clone());
        let (admin_stop, stopped) = oneshot::channel();
        let state = AdminState::new({
            let shared = Arc::clone(&shared);
            move || shared.status()
        })
        .with_bgp(questions.clone());
        let admin = tokio::spawn(admin::serve(listener, state, async {
            // Ends when told to, or when control is gone.
            let _ = stopped.await;
        }));
        let commands = match commands::bind(&shared.plan.load().gateway.state_directory) {
            Ok(listener) => Some(tokio::spawn(commands::serve(listener, questions, pending()))),
            Err(reason) => {
                shared.note(Component::degraded("control socket", reason));
                None
            }
        };
        let mut control = Self {
            commands,
            fingerprint: configuration.fingerprint(),
            pending: None,
            configuration,
            workers_override,
            builder,
            netlink,
            observer,
            host_links,
            links,
            guards: Vec::new(),
            guarded: GuardedTraffic::default(),
            workers,
            speaker: None,
            speaker_waker,
            asked: Some(asked),
            learnt: Arc::default(),
            retired: Retired::default(),
            seed,
            shared,
            resolve,
            resolve_sender,
            admin_stop: Some(admin_stop),
            admin,
            looks: 0,
            manager: ServiceManager::of_environment(),
            progress: Progress::default(),
        };
        if let Err(error) = control.open(&guarded).await {
            control.stop().await;
            return Err(error);
        }
        control.note_host(&view);
        control.resolve_neighbours(false).await;
        let plan = control.shared.plan.load();
        tracing::info!(
            tenants = plan.tenants.len(),
            workers = plan.gateway.workers,
            fabric = plan.gateway.fabric.link,
            front_end = plan.gateway.front_end.link,
            admin = %plan.gateway.admin_listen,
            "gateway started"
        );
        control.manager.ready();
        control.describe();
        Ok(control)
    }

    /// Keeps the kernel away from what the gateway is to serve, then starts the workers: a gateway
    /// that is ready is guarded.
    async fn open(&mut self, guarded: &GuardedTraffic) -> Result<(), RunError> {
        let plan = self.shared.plan.load_full();
        self.follow_guard(&plan, guarded).await?;
        Ok(self.start_workers()?)
    }

    /// Starts the workers if they do not run yet and both links are up. The gateway is not ready
    /// before; its health says which link it waits for.
    fn start_workers(&mut self) -> Result<(), StartError> {
        if self.workers.running() {
            return Ok(());
        }
        let Shared { plan, published, clock, bgp, counters, .. } = &*self.shared;
        let current = plan.load();
        let waker = &self.speaker_waker;
        let started = self.workers.start(
            &current.gateway,
            published,
            *clock,
            self.seed,
            &self.resolve_sender,
            waker,
        );
        let rings = match started {
            Ok(rings) => rings,
            Err(StartError::Port(OpenError::LinkDown { link })) => {
                tracing::debug!(link, "waiting for a link to come up");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // Workers start once, and it with them.
        let Some(asked) = self.asked.take() else { return Ok(()) };
        let seed = random_seed();
        let ties = Ties {
            plan: Arc::clone(plan),
            learnt: Arc::clone(&self.learnt),
            shown: Arc::clone(bgp),
            asked,
            workers: counters.clone(),
            waker: waker.clone(),
        };
        let peering = Peering::new(ties, clock.now(), seed)?;
        let workers = self.workers.wakers().to_vec();
        let time = (*clock, seed);
        let published = Arc::clone(published);
        self.speaker =
            Some(Speaker::start(peering, published, rings, workers, time, waker.clone())?);
        Ok(give_up(Keeper::Control)?)
    }

    /// Tells the service manager how the gateway is.
    fn describe(&mut self) {
        let text = self.shared.summary(self.workers.running());
        self.manager.describe(&text);
    }

    /// Tells the service manager that the gateway lives if every thread that carries packets or
    /// routes has moved since. That control moves is what brings it here.
    fn keep_alive(&mut self) {
        let workers = self.shared.counters.iter().map(|worker| worker.heartbeat.read());
        let running = self.workers.running();
        let heartbeats = workers.filter(|_| running);
        let speaker = self.speaker.as_ref().map(Speaker::heartbeat);
        if self.progress.all_moved(heartbeats.chain(speaker).collect()) {
            self.manager.alive();
        }
    }

    async fn serve(&mut self, signals: &mut Signals) -> Result<(), RunError> {
        let mut host: watch::Receiver<Arc<HostView>> = self.observer.view();
        let mut network = self.observer.network();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sites = tokio::time::interval(SITES_INTERVAL);
        sites.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = host.changed() => {
                    if changed.is_err() {
                        return Err(RunError::Process(io::Error::other("netlink has ended")));
                    }
                    let view = host.borrow_and_update().clone();
                    self.follow_host(&view).await?;
                }
                Ok(()) = network.changed() => self.host_links.note_event(),
                () = self.host_links.due() => self.look_after_links().await,
                Some(request) = self.resolve.recv() => self.resolve(request).await,
                _ = signals.hangup.recv() => self.reload().await,
                _ = look.tick() => self.look().await?,
                _ = sites.tick(), if self.builder.has_sites() => self.follow_sites(),
                () = self.learnt.filled() => self.learn(),
                _ = signals.interrupt.recv() => return Ok(()),
                _ = signals.terminate.recv() => return Ok(()),
            }
        }
    }

    async fn stop(&mut self) {
        tracing::info!("gateway stops");
        self.manager.stopping();
        if let Some(commands) = self.commands.take() {
            commands.abort();
        }
        // Its connections end with it; peers hear of it while workers still carry packets.
        self.speaker = None;
        self.workers.stop();
        for guard in &self.guards {
            if let Err(error) = guard.remove().await {
                tracing::error!(%error, "cannot remove a guard");
            }
        }
        if let Some(stop) = self.admin_stop.take() {
            // The endpoint may have ended already.
            let _ = stop.send(());
        }
        if tokio::time::timeout(Duration::from_secs(1), &mut self.admin).await.is_err() {
            self.admin.abort();
        }
    }

    /// Builds and publishes a snapshot of what is known now.
    fn publish(&mut self, plan: &Plan, view: &HostView) -> Result<(), BuildError> {
        let snapshot = self.builder.build(plan, view)?;
        self.give_out(snapshot);
        Ok(())
    }

    fn give_out(&mut self, snapshot: Snapshot) {
        self.retired.replace(&self.shared.published, snapshot);
        self.workers.wake();
        self.speaker_waker.wake();
    }

    async fn follow_host(&mut self, view: &HostView) -> Result<(), StartError> {
        let plan = self.shared.plan.load_full();
        match self.publish(&plan, view) {
            Ok(()) => self.note_host(view),
            Err(error) => self.shared.note(Component::failed("host", error.to_string())),
        }
        self.start_workers()?;
        self.resolve_neighbours(false).await;
        Ok(())
    }

    /// Routes around sites that went down, and back to those that came up.
    fn follow_sites(&mut self) {
        if self.builder.sites_changed() {
            self.publish_again();
        }
    }

    /// Builds what neighbours taught into their domains' routes.
    fn learn(&mut self) {
        let (domains, upstream) = self.learnt.take();
        for (domain, changes) in domains {
            self.builder.learn(domain, changes);
        }
        if upstream.is_empty() {
            let snapshot = self.builder.relearned(&self.shared.published.load());
            self.give_out(snapshot);
        } else {
            self.builder.learn_upstream(upstream);
            self.publish_again();
        }
    }

    fn publish_again(&mut self) {
        let plan = self.shared.plan.load_full();
        let view = self.observer.view().borrow().clone();
        if let Err(error) = self.publish(&plan, &view) {
            self.shared.note(Component::failed("host", error.to_string()));
        }
    }

    /// Reads the configuration again. An invalid one changes nothing.
    async fn reload(&mut self) {
        self.manager.reloading();
        self.take_over().await;
        self.describe();
        self.manager.ready();
    }

    async fn take_over(&mut self) {
        self.fingerprint = self.configuration.fingerprint();
        self.pending = None;
        let loaded = match self.configuration.read() {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(error.texts()),
        };
        let mut plan = loaded.proof.plan.clone();
        if let Some(workers) = self.workers_override {
            plan.gateway.workers = workers;
        }
        let before = self.shared.plan.load_full();
        let impact = diff(&before, &plan);
        if !impact.restart.is_empty() {
            let parts: Vec<String> = impact.restart.iter().map(ToString::to_string).collect();
            let parts = parts.join(", ");
            let text = format!("it changes {parts}, which needs a restart of the gateway");
            return self.refuse(vec![text]);
        }
        if let Err(error) = self.configuration.keep(&loaded.proof) {
            return self.refuse(error.texts());
        }
        // New addresses are kept from the kernel before they are served, old ones as long as they
        // are.
        let served = self.guarded.clone();
        let wanted = GuardedTraffic::of(&plan);
        if let Err(error) = self.follow_guard(&plan, &served.with(&wanted)).await {
            return self.refuse(vec![error.to_string()]);
        }
        let view = self.observer.view().borrow().clone();
        let published = self.publish(&plan, &view);
        let served = if published.is_ok() { wanted } else { served };
        if let Err(error) = self.follow_guard(&plan, &served).await {
            tracing::warn!(%error, "the host's kernel is kept from more than the gateway serves");
        }
        if let Err(error) = published {
            return self.refuse(vec![error.to_string()]);
        }
        let described = self.host_links.follow(plan.gateway.links.as_ref()).await;
        self.note_links(described);
        self.shared.plan.store(Arc::new(plan));
        self.speaker_waker.wake();
        self.shared.note_loaded(self.shared.published.load().generation.0);
        self.configuration.note_in_effect(&loaded);
        tracing::info!("configuration reloaded: {impact}");
        self.resolve_neighbours(false).await;
    }

    /// Stays with the configuration in effect, and says why.
    fn refuse(&self, errors: Vec<String>) {
        tracing::warn!("the new configuration is refused: {}", errors.join("\n\n"));
        self.shared.note_refused(errors);
    }

    async fn follow_guard(
        &mut self,
        plan: &Plan,
        guarded: &GuardedTraffic,
    ) -> Result<(), GuardError> {
        if self.guards.is_empty() || *guarded != self.guarded {
            self.guards = guard(&self.netlink, plan, self.links, guarded).await?;
            self.guarded = guarded.clone();
        }
        Ok(())
    }

    /// Looks after everything that no event tells.
    async fn look(&mut self) -> Result<(), RunError> {
        if self.workers.any_ended() || self.speaker.as_ref().is_some_and(Speaker::has_ended) {
            return Err(RunError::WorkerEnded);
        }
        self.start_workers()?;
        self.describe();
        self.keep_alive();
        self.retired.free();
        let fingerprint = self.configuration.fingerprint();
        if fingerprint == self.fingerprint {
            self.pending = None;
        } else if self.pending.as_ref() == Some(&fingerprint) {
            self.reload().await;
        } else {
            // Whoever writes several files gets a look's time to finish.
            self.pending = Some(fingerprint);
        }
        if self.configuration.has_expired_key() {
            self.reload().await;
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(LOOKS_A_LINK_ROUND) && self.host_links.described() {
            self.look_after_links().await;
        }
        let round = self.looks.is_multiple_of(LOOKS_A_ROUND);
        if round {
            self.check_guards().await;
        }
        self.resolve_neighbours(round).await;
        Ok(())
    }
}

/// A seed that nobody outside can know.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_is_dumped_once_that_is_forbidden() {
        forbid_core_dumps().unwrap();
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
    }
}
