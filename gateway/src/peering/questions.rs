//! Questions about BGP from other threads: a bounded queue to the speaker's thread, which answers a
//! few a turn, and the peers that it publishes by itself for health and metrics.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nvgate_model::Prefix;
use tokio::sync::{mpsc, oneshot};

use crate::admin::bgp::{ExplainReport, PeerReport, PeersReport, RoutesReport};
use crate::io::packet::Waker;

/// Questions that may wait.
const WAITING_MAX: usize = 16;
/// How long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// All peers as they were at most a second or so ago.
pub type PublishedPeers = Arc<ArcSwap<Vec<PeerReport>>>;

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unanswered {
    /// The plan has no such tenant with BGP.
    #[error("no tenant `{0}` with BGP")]
    NoTenant(String),
    /// The tenant has no such peer.
    #[error("tenant `{0}` has no BGP peer `{1}`")]
    NoPeer(String, String),
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
    /// The tenant.
    pub tenant: String,
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
    /// The tenant.
    pub tenant: String,
    /// The prefix.
    pub prefix: Prefix,
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

/// What waits to be answered. It belongs to the speaker's thread.
#[derive(Debug)]
pub struct Asked(pub(super) mpsc::Receiver<Question>);

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Questions {
    queue: mpsc::Sender<Question>,
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
        self.ask(|reply| Question::Peers(question, reply)).await
    }

    /// A page of routes.
    ///
    /// # Errors
    ///
    /// There is no such tenant or peer, or no answer within [`PATIENCE`].
    pub async fn routes(&self, question: RoutesQuestion) -> Result<RoutesReport, Unanswered> {
        self.ask(|reply| Question::Routes(question, reply)).await
    }

    /// Everything about one prefix.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or no answer within [`PATIENCE`].
    pub async fn explain(&self, question: PrefixQuestion) -> Result<ExplainReport, Unanswered> {
        self.ask(|reply| Question::Explain(question, reply)).await
    }

    async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Question) -> Result<T, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(question(reply)).map_err(|error| match error {
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
            let Some(Question::Peers(question, reply)) = asked.0.recv().await else {
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
