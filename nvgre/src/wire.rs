//! The GRE header of NVGRE (RFC 7637 section 3.2): key present and nothing else, transparent
//! Ethernet bridging, VSID and FlowID in the key.

use nvgate_model::{DropReason, FlowId, Vsid};

/// Bytes of the GRE header.
pub const GRE_LENGTH: usize = 8;
/// The flags word: key present (K); checksum (C), sequence number (S) and version are zero.
pub const FLAGS: u16 = 0x2000;
/// The protocol type: transparent Ethernet bridging.
pub const PROTOCOL_TYPE: u16 = 0x6558;

/// What the GRE header of a tenant's frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GreHeader {
    /// The virtual subnet.
    pub vsid: Vsid,
    /// The sender's entropy for the underlay; it means nothing to the receiver.
    pub flow: FlowId,
}

impl GreHeader {
    /// Reads the header at the front of `bytes`.
    ///
    /// # Errors
    ///
    /// `GreUnsupported` when it is cut short or its flags or protocol type are others;
    /// `VsidReserved` when no tenant can have the VSID.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let Some(&[f1, f0, p1, p0, v2, v1, v0, flow]) = bytes.first_chunk::<GRE_LENGTH>() else {
            return Err(DropReason::GreUnsupported);
        };
        if u16::from_be_bytes([f1, f0]) != FLAGS || u16::from_be_bytes([p1, p0]) != PROTOCOL_TYPE {
            return Err(DropReason::GreUnsupported);
        }
        let vsid =
            Vsid::new(u32::from_be_bytes([0, v2, v1, v0])).map_err(|_| DropReason::VsidReserved)?;
        Ok(Self { vsid, flow: FlowId(flow) })
    }

    /// Writes the header.
    #[inline]
    pub fn emit(self, out: &mut [u8; GRE_LENGTH]) {
        let word = u64::from(FLAGS) << 48
            | u64::from(PROTOCOL_TYPE) << 32
            | u64::from(self.vsid.key(self.flow));
        *out = word.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_header_is_that_of_rfc_7637() {
        let header = GreHeader { vsid: Vsid::new(0x12_3456).unwrap(), flow: FlowId(0x78) };
        let mut bytes = [0xff; GRE_LENGTH];
        header.emit(&mut bytes);
        assert_eq!(bytes, [0x20, 0x00, 0x65, 0x58, 0x12, 0x34, 0x56, 0x78]);
        assert_eq!(GreHeader::parse(&bytes), Ok(header));
    }

    #[test]
    fn other_flags_protocols_and_versions_are_refused() {
        let good = [0x20, 0x00, 0x65, 0x58, 0x00, 0x10, 0x00, 0x00];
        assert!(GreHeader::parse(&good).is_ok());
        for bit in 0..32 {
            let mut bytes = good;
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(GreHeader::parse(&bytes), Err(DropReason::GreUnsupported), "bit {bit}");
        }
        assert_eq!(GreHeader::parse(&good[..7]), Err(DropReason::GreUnsupported));
    }

    #[test]
    fn reserved_vsids_are_refused_by_name() {
        for vsid in [[0, 0, 0], [0, 0x0f, 0xff], [0xff, 0xff, 0xff]] {
            let bytes = [0x20, 0, 0x65, 0x58, vsid[0], vsid[1], vsid[2], 0];
            assert_eq!(GreHeader::parse(&bytes), Err(DropReason::VsidReserved));
        }
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(number in Vsid::MIN..=Vsid::MAX, flow in any::<u8>()) {
            let header = GreHeader { vsid: Vsid::new(number).unwrap(), flow: FlowId(flow) };
            let mut bytes = [0; GRE_LENGTH];
            header.emit(&mut bytes);
            prop_assert_eq!(GreHeader::parse(&bytes), Ok(header));
        }

        #[test]
        fn any_bytes_return_and_what_parses_emits_the_same(bytes in any::<[u8; 8]>(), cut in 0_usize..=8, nvgre in any::<bool>()) {
            let mut bytes = bytes;
            if nvgre {
                bytes[..4].copy_from_slice(&[0x20, 0, 0x65, 0x58]);
            }
            if let Ok(header) = GreHeader::parse(&bytes[..cut]) {
                let mut again = [0; GRE_LENGTH];
                header.emit(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
