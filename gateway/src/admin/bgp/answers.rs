//! `/v1/bgp/...`: questions to the speaker's thread, answered as JSON, or refused in one sentence.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use nvgate_model::{InvalidPrefix, Prefix};
use serde::{Deserialize, Serialize};

use super::super::AdminState;
use super::destination;
use crate::peering::{PeersQuestion, PrefixQuestion, RoutesQuestion, Unanswered};

/// Routes of a page unless the query says otherwise.
const PAGE: usize = 500;
/// The most routes of a page; its last prefix is whole.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PeersQuery {
    tenant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RoutesQuery {
    tenant: Option<String>,
    peer: Option<String>,
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ExplainQuery {
    tenant: Option<String>,
    prefix: String,
}

pub(in super::super) async fn peers(
    State(state): State<AdminState>,
    Query(query): Query<PeersQuery>,
) -> Response {
    let Some(questions) = state.questions() else { return refused(&Unanswered::Absent) };
    answered(questions.peers(PeersQuestion { tenant: query.tenant }).await)
}

pub(in super::super) async fn routes(
    State(state): State<AdminState>,
    Query(query): Query<RoutesQuery>,
) -> Response {
    let Some(questions) = state.questions() else { return refused(&Unanswered::Absent) };
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        let sentence = format!("limit {limit} is not between 1 and {PAGE_MAX}\n");
        return (StatusCode::BAD_REQUEST, sentence).into_response();
    }
    let parsed = |text: Option<String>| text.map(|text| parse(&text)).transpose();
    let (prefix, after) = match (parsed(query.prefix), parsed(query.after)) {
        (Ok(prefix), Ok(after)) => (prefix, after),
        (Err(response), _) | (_, Err(response)) => return *response,
    };
    let RoutesQuery { tenant, peer, .. } = query;
    answered(questions.routes(RoutesQuestion { tenant, peer, prefix, after, limit }).await)
}

pub(in super::super) async fn explain(
    State(state): State<AdminState>,
    Query(query): Query<ExplainQuery>,
) -> Response {
    let Some(questions) = state.questions() else { return refused(&Unanswered::Absent) };
    match destination(&query.prefix).map_err(malformed) {
        Ok(prefix) => {
            answered(questions.explain(PrefixQuestion { tenant: query.tenant, prefix }).await)
        }
        Err(response) => *response,
    }
}

fn parse(text: &str) -> Result<Prefix, Box<Response>> {
    text.parse().map_err(malformed)
}

fn malformed(error: InvalidPrefix) -> Box<Response> {
    Box::new((StatusCode::BAD_REQUEST, format!("{error}\n")).into_response())
}

pub(in super::super) fn answered<T: Serialize>(answer: Result<T, Unanswered>) -> Response {
    match answer {
        Ok(report) => Json(report).into_response(),
        Err(reason) => refused(&reason),
    }
}

fn refused(reason: &Unanswered) -> Response {
    let code = match reason {
        Unanswered::NoTenant(_) | Unanswered::NoFrontEnd | Unanswered::NoPeer { .. } => {
            StatusCode::NOT_FOUND
        }
        Unanswered::Absent | Unanswered::Busy | Unanswered::Late => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, format!("{reason}\n")).into_response()
}
