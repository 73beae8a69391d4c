//! DSCP and ECN at the two ends of the tunnel: DSCP by configuration (RFC 2983), ECN always by
//! RFC 6040, so that congestion marked in the underlay reaches the tenant's transport.

use nvgate_model::DropReason;

/// How DSCP crosses the tunnel's ends (RFC 2983 section 3). ECN crosses them alike in both modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DscpMode {
    /// One DSCP inside and outside: copied out at the entry and back in at the exit.
    #[default]
    Uniform,
    /// The outer DSCP is 0 and says nothing about the inner one.
    Pipe,
}

/// The ECN bits of a traffic class.
const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// The outer traffic class of a packet with this inner one (RFC 6040 section 4.1, normal mode:
/// the ECN field is copied).
#[inline]
#[must_use]
pub const fn encapsulate(inner_class: u8, mode: DscpMode) -> u8 {
    match mode {
        DscpMode::Uniform => inner_class,
        DscpMode::Pipe => inner_class & ECN,
    }
}

/// The traffic class that a packet which arrived with these two goes on with (RFC 6040 section
/// 4.2, figure 4).
///
/// # Errors
///
/// `EcnInvalid` when the underlay marked congestion on a packet whose transport would not
/// understand it: the mark must not be lost, so the packet is.
#[inline]
pub const fn decapsulate(
    inner_class: u8,
    outer_class: u8,
    mode: DscpMode,
) -> Result<u8, DropReason> {
    let dscp = match mode {
        DscpMode::Uniform => outer_class & !ECN,
        DscpMode::Pipe => inner_class & !ECN,
    };
    let ecn = match (inner_class & ECN, outer_class & ECN) {
        (NOT_ECT, CE) => return Err(DropReason::EcnInvalid),
        (ECT_0 | ECT_1, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        (inner, _) => inner,
    };
    Ok(dscp | ecn)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6040 figure 3: the ECN field of the outer header in normal mode is the inner one's.
    #[test]
    fn the_outer_ecn_is_the_inner_one_whatever_the_dscp() {
        for class in 0..=255 {
            assert_eq!(encapsulate(class, DscpMode::Uniform), class);
            assert_eq!(encapsulate(class, DscpMode::Pipe), class & 3);
        }
    }

    /// RFC 6040 figure 4, row by row; columns are Not-ECT, ECT(0), ECT(1), CE outside.
    #[test]
    fn the_outgoing_ecn_is_that_of_the_figure() {
        const OUTER: [u8; 4] = [NOT_ECT, ECT_0, ECT_1, CE];
        let figure = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in figure {
            for (outer, outgoing) in OUTER.into_iter().zip(row) {
                let (inner_class, outer_class) = (46 << 2 | inner, 10 << 2 | outer);
                let with =
                    |dscp: u8| outgoing.map(|ecn| dscp << 2 | ecn).ok_or(DropReason::EcnInvalid);
                assert_eq!(decapsulate(inner_class, outer_class, DscpMode::Uniform), with(10));
                assert_eq!(decapsulate(inner_class, outer_class, DscpMode::Pipe), with(46));
            }
        }
    }

    #[test]
    fn an_undisturbed_tunnel_changes_no_class() {
        for mode in [DscpMode::Uniform, DscpMode::Pipe] {
            for class in 0..=255 {
                assert_eq!(decapsulate(class, encapsulate(class, mode), mode), Ok(class));
            }
        }
    }
}
