//! The sixteen bytes in front of every message, by which ranks notice that they have made
//! different calls.

use comm::transport::{Header, OpCode};

pub(super) fn encode(header: &Header) -> [u8; Header::BYTES] {
    let mut bytes = [0; Header::BYTES];
    bytes[0] = header.op as u8;
    bytes[1] = header.dtype;
    bytes[4..8].copy_from_slice(&header.root.to_le_bytes());
    bytes[8..].copy_from_slice(&header.numel.to_le_bytes());
    bytes
}

/// None if the bytes are no header at all.
pub(super) fn decode(bytes: &[u8; Header::BYTES]) -> Option<Header> {
    let [op, dtype, _, _, r0, r1, r2, r3, numel @ ..] = *bytes;
    Some(Header {
        op: *OpCode::ALL.get(op as usize)?,
        dtype,
        root: u32::from_le_bytes([r0, r1, r2, r3]),
        numel: u64::from_le_bytes(numel),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_out_as_it_went_in() {
        for &op in OpCode::ALL {
            for numel in [0, 1, (1 << 32) - 1, (1 << 32) + 5, u64::MAX] {
                let header = Header { op, dtype: 9, root: 70_000, numel };
                assert_eq!(decode(&encode(&header)), Some(header));
            }
        }
        assert_eq!(decode(&[0xff; Header::BYTES]), None);
    }
}
