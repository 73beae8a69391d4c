//! What a report counts.

use super::put_family;
use crate::family::Family;

/// One number of a report (RFC 7854 section 4.8, RFC 8671 section 6.2). Counters start anew at 0
/// behind the greatest; gauges say what is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Statistic {
    /// 0: prefixes that inbound policy rejected.
    RejectedPrefixes(u32),
    /// 1: announcements of what was announced already.
    DuplicateAnnouncements(u32),
    /// 2: withdrawals of what was not announced.
    DuplicateWithdrawals(u32),
    /// 3: updates invalid for a loop in CLUSTER_LIST.
    ClusterListLoops(u32),
    /// 4: updates invalid for a loop in AS_PATH.
    AsPathLoops(u32),
    /// 5: updates invalid for their ORIGINATOR_ID.
    OriginatorLoops(u32),
    /// 7: routes received and held.
    AdjRibIn(u64),
    /// 8: best routes.
    LocRib(u64),
    /// 9: routes of a family received and held.
    AdjRibInOf(Family, u64),
    /// 10: best routes of a family.
    LocRibOf(Family, u64),
    /// 11: updates treated as withdraw.
    WithdrawnUpdates(u32),
    /// 12: prefixes treated as withdraw.
    WithdrawnPrefixes(u32),
    /// 13: updates that said what was known.
    DuplicateUpdates(u32),
    /// 14: routes to be sent, before policy.
    AdjRibOutPrePolicy(u64),
    /// 15: routes sent, behind policy.
    AdjRibOutPostPolicy(u64),
    /// 16: routes of a family to be sent, before policy.
    AdjRibOutPrePolicyOf(Family, u64),
    /// 17: routes of a family sent, behind policy.
    AdjRibOutPostPolicyOf(Family, u64),
}

impl Statistic {
    /// Appends type, length and value.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::RejectedPrefixes(count) => put_counter(0, count, out),
            Self::DuplicateAnnouncements(count) => put_counter(1, count, out),
            Self::DuplicateWithdrawals(count) => put_counter(2, count, out),
            Self::ClusterListLoops(count) => put_counter(3, count, out),
            Self::AsPathLoops(count) => put_counter(4, count, out),
            Self::OriginatorLoops(count) => put_counter(5, count, out),
            Self::AdjRibIn(routes) => put_gauge(7, None, routes, out),
            Self::LocRib(routes) => put_gauge(8, None, routes, out),
            Self::AdjRibInOf(family, routes) => put_gauge(9, Some(family), routes, out),
            Self::LocRibOf(family, routes) => put_gauge(10, Some(family), routes, out),
            Self::WithdrawnUpdates(count) => put_counter(11, count, out),
            Self::WithdrawnPrefixes(count) => put_counter(12, count, out),
            Self::DuplicateUpdates(count) => put_counter(13, count, out),
            Self::AdjRibOutPrePolicy(routes) => put_gauge(14, None, routes, out),
            Self::AdjRibOutPostPolicy(routes) => put_gauge(15, None, routes, out),
            Self::AdjRibOutPrePolicyOf(family, routes) => put_gauge(16, Some(family), routes, out),
            Self::AdjRibOutPostPolicyOf(family, routes) => put_gauge(17, Some(family), routes, out),
        }
    }
}

fn put_counter(kind: u16, count: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&4_u16.to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
}

fn put_gauge(kind: u16, family: Option<Family>, routes: u64, out: &mut Vec<u8>) {
    let length: u16 = if family.is_some() { 3 + 8 } else { 8 };
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    if let Some(family) = family {
        put_family(family, out);
    }
    out.extend_from_slice(&routes.to_be_bytes());
}
