//! The health endpoint: HTTP on the management address, for probes, for Prometheus and for
//! `nvgate status`.
//!
//! It only reads: every answer is printed from one [`Status`], assembled anew for each request by
//! the closure that control hands in, but for `/v1/bgp/`, which asks the speaker's thread. It answers GET (and HEAD, RFC 9110 section 9.1), ignores
//! request bodies, carries one request a connection, and disconnects clients that are slow. It has
//! no authentication: it listens where gateway.yaml says, on loopback unless configured otherwise.

pub mod bgp;
pub mod commands;
pub mod health;
mod listener;
pub mod metrics;
#[cfg(test)]
pub(crate) mod samples;
pub mod sites;
pub mod status;

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use self::health::{Component, HealthState};
use self::listener::{Bounded, Patience};
pub use self::listener::{MAX_CONNECTIONS, REQUEST_TIMEOUT, RESPONSE_TIMEOUT};
pub use self::status::Status;
use crate::peering::Questions;

/// Where the answers come from.
#[derive(Clone)]
pub struct AdminState {
    status: Arc<dyn Fn() -> Status + Send + Sync>,
    questions: Option<Questions>,
}

impl AdminState {
    /// Answers are printed from what `status` assembles. It is called once a request and must not
    /// block.
    pub fn new(status: impl Fn() -> Status + Send + Sync + 'static) -> Self {
        Self { status: Arc::new(status), questions: None }
    }

    /// The same, with BGP to be asked about.
    #[must_use]
    pub fn with_bgp(self, questions: Questions) -> Self {
        Self { questions: Some(questions), ..self }
    }

    const fn questions(&self) -> Option<&Questions> {
        self.questions.as_ref()
    }

    fn status(&self) -> Status {
        (self.status)()
    }
}

/// The management address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error(
        "admin address {0} is in use: change admin.listen in gateway.yaml or stop the other process"
    )]
    InUse(SocketAddr),
    /// The address is none of this host's.
    #[error(
        "admin address {0} is not an address of this host: change admin.listen in gateway.yaml \
         or add the address to the management link"
    )]
    NotOurs(SocketAddr),
    /// A port below 1024 without the privilege for it.
    #[error(
        "admin address {0} may not be listened on without CAP_NET_BIND_SERVICE: \
         choose a port above 1023 for admin.listen in gateway.yaml"
    )]
    Privileged(SocketAddr),
    /// Anything else.
    #[error("admin address {address} cannot be listened on: {error}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
}

/// How long [`bind_soon`] waits for the address, and how long between two tries.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(5);
const ADDRESS_RETRY: Duration = Duration::from_millis(100);

/// As [`bind`], when the host's links may just have been set up: an IPv6 address is not listened on
/// before the kernel has asked whether another machine has it (RFC 4862 section 5.4), and one that
/// somebody else assigns takes its time. It is waited for at most 5 s.
///
/// # Errors
///
/// Those of [`bind`].
pub async fn bind_soon(address: SocketAddr) -> Result<TcpListener, BindError> {
    let deadline = tokio::time::Instant::now() + ADDRESS_PATIENCE;
    loop {
        match bind(address).await {
            Err(BindError::NotOurs(_)) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(ADDRESS_RETRY).await;
            }
            bound => return bound,
        }
    }
}

/// Listens on the management address.
///
/// # Errors
///
/// One sentence that says what to do, for every reason the kernel may refuse.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse(address)
        } else if error.kind() == io::ErrorKind::AddrNotAvailable {
            BindError::NotOurs(address)
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            BindError::Privileged(address)
        } else {
            BindError::Other { address, error }
        }
    })
}

/// Answers on `listener` until `stop` is done, and then until the connections that are open have
/// their answer: at most [`REQUEST_TIMEOUT`] and [`RESPONSE_TIMEOUT`] later.
pub async fn serve(
    listener: TcpListener,
    state: AdminState,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    serve_with(listener, state, stop, Patience::default()).await;
}

async fn serve_with(
    listener: TcpListener,
    state: AdminState,
    stop: impl Future<Output = ()> + Send + 'static,
    patience: Patience,
) {
    let server = axum::serve(Bounded::new(listener, patience), router(state));
    if let Err(error) = server.with_graceful_shutdown(stop).await {
        tracing::error!(%error, "health endpoint ended");
    }
}

/// The routes of the health endpoint.
pub fn router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route("/metrics", get(render_metrics))
        .route("/v1/status", get(status_document))
        .route("/v1/bgp/peers", get(bgp::answers::peers))
        .route("/v1/bgp/routes", get(bgp::answers::routes))
        .route("/v1/bgp/explain", get(bgp::answers::explain))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(close))
        .with_state(state)
}

/// One request a connection: a client's time is bounded by its connection's.
async fn close(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(state): State<AdminState>) -> Response {
    let components = state.status().components;
    let mut text = String::new();
    for component in components.iter().filter(|part| part.status == HealthState::Failed) {
        let reason = component.reason.as_deref().unwrap_or("failed");
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}: {reason}", component.name);
    }
    if text.is_empty() {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{text}")).into_response()
    }
}

async fn healthz(State(state): State<AdminState>) -> Response {
    let status = state.status();
    let health = status.health();
    let code = match health {
        HealthState::Ok | HealthState::Degraded => StatusCode::OK,
        HealthState::Failed => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = health_document(health, &status.components);
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// JSON with a component a line, so that it reads well in a terminal too.
fn health_document(health: HealthState, components: &[Component]) -> String {
    let lines: Vec<String> = components
        .iter()
        .map(|component| {
            serde_json::to_string(component).expect("a struct of texts always has a JSON form")
        })
        .collect();
    format!("{{\"status\":\"{}\",\"components\":[\n{}\n]}}\n", health.name(), lines.join(",\n"))
}

async fn render_metrics(State(state): State<AdminState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&state.status()))
}

async fn status_document(State(state): State<AdminState>) -> Json<Status> {
    Json(state.status())
}

async fn not_found() -> impl IntoResponse {
    let text = "not found; there are /livez /readyz /healthz /metrics /v1/status /v1/bgp/peers \
                /v1/bgp/routes /v1/bgp/explain\n";
    (StatusCode::NOT_FOUND, text)
}

async fn method_not_allowed() -> impl IntoResponse {
    (StatusCode::METHOD_NOT_ALLOWED, "only GET: this endpoint changes nothing\n")
}

#[cfg(test)]
mod tests;
