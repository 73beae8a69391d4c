//! Questions about BGP and commands to it from other threads: a bounded queue to the speaker's thread,
//! which answers a few a turn, and what it publishes by itself for health and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nvgate_model::Prefix;
use tokio::sync::{mpsc, oneshot};

use crate::admin::bgp::{
    ClearReport, DrainReport, ExplainReport, PeerReport, PeersReport, RoutesReport,
};
use crate::endpoint::Refusals;
use crate::io::packet::Waker;

/// Questions that may wait.
const WAITING_MAX: usize = 16;
/// How long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What is shown of BGP, as it was at most a second or so ago.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// All peers.
    pub peers: Vec<PeerReport>,
    /// What keeps routers of the front end from connecting, with what to do.
    pub fault: Option<String>,
    /// Whether the BMP collector, if there is one, is told everything; else why not, with what to do.
    pub bmp: Option<Result<(), String>>,
    /// Whether the gateway is about to go.
    pub drain: DrainReport,
    /// What the endpoints of tenants' domains refused, by tenant; those that refused nothing are left
    /// out.
    pub refused: BTreeMap<String, Refusals>,
}

/// Where that is found.
pub type PublishedBgp = Arc<ArcSwap<Shown>>;

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unanswered {
    /// The plan has no such tenant with BGP.
    #[error("no tenant `{0}` with BGP")]
    NoTenant(String),
    /// The plan has no BGP of the front end.
    #[error("the front end has no BGP: name a tenant, or configure front_end.bgp in gateway.yaml")]
    NoFrontEnd,
    /// The tenant, or the front end, has no such peer.
    #[error("{} has no BGP peer `{peer}`", whose(.tenant.as_deref()))]
    NoPeer {
        /// The tenant; none: the front end.
        tenant: Option<String>,
        /// The name or address.
        peer: String,
    },
    /// Nobody is there to answer.
    #[error("BGP is not running: the gateway is not ready, or stops")]
    Absent,
    /// Too many questions wait.
    #[error("{WAITING_MAX} questions about BGP wait already: ask again later")]
    Busy,
    /// The answer did not come in time.
    #[error("BGP did not answer in {} s: it is not running yet, or has too much to do", PATIENCE.as_secs())]
    Late,
}

/// Which peers?
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeersQuestion {
    /// Only those of this tenant.
    pub tenant: Option<String>,
}

/// Which routes?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoutesQuestion {
    /// The tenant; none: the front end.
    pub tenant: Option<String>,
    /// Only those that this peer taught: its name or address.
    pub peer: Option<String>,
    /// Only those of this prefix.
    pub prefix: Option<Prefix>,
    /// Only those behind this prefix, IPv4 before IPv6.
    pub after: Option<Prefix>,
    /// Whole prefixes, until there are at least so many.
    pub limit: usize,
}

/// What of one prefix?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrefixQuestion {
    /// The tenant; none: the front end.
    pub tenant: Option<String>,
    /// The prefix.
    pub prefix: Prefix,
}

/// Begin the exchange with which peer anew?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClearCommand {
    /// The tenant; none: the front end.
    pub tenant: Option<String>,
    /// Its name or address.
    pub peer: String,
    /// Whether the session ends too.
    pub hard: bool,
}

/// What becomes of the gateway's announcements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainCommand {
    /// Peers are told that the gateway is about to go; after this time every session ends.
    Begin {
        /// Seconds until then.
        after_secs: u32,
    },
    /// The gateway stays.
    Cancel,
}

fn whose(tenant: Option<&str>) -> String {
    tenant.map_or_else(|| "the front end".to_owned(), |tenant| format!("tenant `{tenant}`"))
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Unanswered>>;

/// A question with where its answer goes.
#[derive(Debug)]
pub(super) enum Question {
    Peers(PeersQuestion, Reply<PeersReport>),
    Routes(RoutesQuestion, Reply<RoutesReport>),
    Explain(PrefixQuestion, Reply<ExplainReport>),
}

/// A command with where its answer goes.
#[derive(Debug)]
pub(super) enum Command {
    Clear(ClearCommand, Reply<ClearReport>),
    Drain(DrainCommand, Reply<DrainReport>),
}

/// What somebody wants.
#[derive(Debug)]
pub(super) enum Request {
    Ask(Question),
    Do(Command),
}

/// What waits to be answered. It belongs to the speaker's thread.
#[derive(Debug)]
pub struct Asked(pub(super) mpsc::Receiver<Request>);

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Questions {
    queue: mpsc::Sender<Request>,
    waker: Waker,
}

impl Questions {
    /// The two ends: who asks, and what is asked. The waker is that of the thread that answers.
    #[must_use]
    pub fn new(waker: Waker) -> (Self, Asked) {
        let (queue, asked) = mpsc::channel(WAITING_MAX);
        (Self { queue, waker }, Asked(asked))
    }

    /// The peers.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or no answer within [`PATIENCE`].
    pub async fn peers(&self, question: PeersQuestion) -> Result<PeersReport, Unanswered> {
        self.ask(|reply| Request::Ask(Question::Peers(question, reply))).await
    }

    /// A page of routes.
    ///
    /// # Errors
    ///
    /// There is no such tenant or peer, or no answer within [`PATIENCE`].
    pub async fn routes(&self, question: RoutesQuestion) -> Result<RoutesReport, Unanswered> {
        self.ask(|reply| Request::Ask(Question::Routes(question, reply))).await
    }

    /// Everything about one prefix.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or no answer within [`PATIENCE`].
    pub async fn explain(&self, question: PrefixQuestion) -> Result<ExplainReport, Unanswered> {
        self.ask(|reply| Request::Ask(Question::Explain(question, reply))).await
    }

    /// Begins the exchange with a peer anew.
    ///
    /// # Errors
    ///
    /// There is no such tenant or peer, or no answer within [`PATIENCE`].
    pub async fn clear(&self, command: ClearCommand) -> Result<ClearReport, Unanswered> {
        self.ask(|reply| Request::Do(Command::Clear(command, reply))).await
    }

    /// Prepares the gateway's going, or calls it off.
    ///
    /// # Errors
    ///
    /// There is no answer within [`PATIENCE`].
    pub async fn drain(&self, command: DrainCommand) -> Result<DrainReport, Unanswered> {
        self.ask(|reply| Request::Do(Command::Drain(command, reply))).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(request(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Absent,
        })?;
        self.waker.wake();
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Unanswered::Absent),
            Err(_) => Err(Unanswered::Late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (Questions, Asked) {
        Questions::new(Waker::new().unwrap())
    }

    #[tokio::test]
    async fn an_answer_comes_to_who_asked() {
        let (questions, mut asked) = ends();
        let answer = tokio::spawn(async move {
            let Some(Request::Ask(Question::Peers(question, reply))) = asked.0.recv().await else {
                panic!("peers were asked for")
            };
            assert_eq!(question.tenant.as_deref(), Some("red"));
            reply.send(Err(Unanswered::NoTenant("red".to_owned()))).unwrap();
        });
        let question = PeersQuestion { tenant: Some("red".to_owned()) };
        let error = questions.peers(question).await.unwrap_err();
        assert_eq!(error.to_string(), "no tenant `red` with BGP");
        answer.await.unwrap();
    }

    #[tokio::test]
    async fn questions_that_nobody_answers_end_and_are_bounded() {
        let (questions, asked) = ends();
        let mut waiting = Vec::new();
        for _ in 0..WAITING_MAX {
            let questions = questions.clone();
            waiting.push(tokio::spawn(async move {
                questions.peers(PeersQuestion::default()).await.unwrap_err()
            }));
        }
        tokio::task::yield_now().await;
        assert_eq!(questions.peers(PeersQuestion::default()).await, Err(Unanswered::Busy));
        for late in waiting {
            assert_eq!(late.await.unwrap(), Unanswered::Late);
        }
        drop(asked);
        assert_eq!(questions.peers(PeersQuestion::default()).await, Err(Unanswered::Absent));
    }
}
