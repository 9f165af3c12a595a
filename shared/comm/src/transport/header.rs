//! The sixteen bytes in front of every message, by which ranks notice that they have made different
//! calls.

use std::fmt;

/// What a rank is doing. Two ranks whose headers differ have made different calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The operation.
    pub op: OpCode,
    /// Index into [`DTYPES`](crate::reduce::DTYPES).
    pub dtype: u8,
    /// Root of a broadcast, in group ranks; otherwise 0.
    pub root: u32,
    /// Elements in the tensor that was passed.
    pub elements: u64,
}

/// Operations, as encoded in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpCode {
    AllReduceSum,
    AllReduceMax,
    ReduceScatter,
    AllGather,
    Broadcast,
    SendRecv,
    Barrier,
    Highest,
}

impl OpCode {
    const ALL: [OpCode; 8] = [
        OpCode::AllReduceSum,
        OpCode::AllReduceMax,
        OpCode::ReduceScatter,
        OpCode::AllGather,
        OpCode::Broadcast,
        OpCode::SendRecv,
        OpCode::Barrier,
        OpCode::Highest,
    ];

    /// Its name in errors and traces.
    pub fn name(self) -> &'static str {
        match self {
            OpCode::AllReduceSum => "all_reduce",
            OpCode::AllReduceMax => "all_reduce(max)",
            OpCode::ReduceScatter => "reduce_scatter",
            OpCode::AllGather => "all_gather",
            OpCode::Broadcast => "broadcast",
            OpCode::SendRecv => "send/recv",
            OpCode::Barrier => "barrier",
            OpCode::Highest => "highest",
        }
    }
}

impl fmt::Display for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if [OpCode::Barrier, OpCode::Highest].contains(&self.op) {
            return write!(f, "{}", self.op);
        }
        let dtype = crate::reduce::name(self.dtype);
        write!(f, "{} of {} {dtype} elements", self.op, self.elements)?;
        if self.op == OpCode::Broadcast {
            write!(f, " from group rank {}", self.root)?;
        }
        Ok(())
    }
}

impl Header {
    /// The header of a barrier, which moves no tensor.
    pub(crate) const BARRIER: Header =
        Header { op: OpCode::Barrier, dtype: 0, root: 0, elements: 0 };

    /// That of ranks that agree on a number.
    pub(crate) const HIGHEST: Header = Header { op: OpCode::Highest, ..Self::BARRIER };

    /// Length on the wire.
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.op as u8;
        bytes[1] = self.dtype;
        bytes[4..8].copy_from_slice(&self.root.to_le_bytes());
        bytes[8..].copy_from_slice(&self.elements.to_le_bytes());
        bytes
    }

    /// None if the bytes are no header at all.
    pub(crate) fn decode(bytes: &[u8; Self::BYTES]) -> Option<Header> {
        let [op, dtype, _, _, r0, r1, r2, r3, elements @ ..] = *bytes;
        Some(Header {
            op: *OpCode::ALL.get(op as usize)?,
            dtype,
            root: u32::from_le_bytes([r0, r1, r2, r3]),
            elements: u64::from_le_bytes(elements),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_out_as_it_went_in() {
        for op in OpCode::ALL {
            for elements in [0, 1, (1 << 32) - 1, (1 << 32) + 5, u64::MAX] {
                let header = Header { op, dtype: 9, root: 70_000, elements };
                assert_eq!(Header::decode(&header.encode()), Some(header));
            }
        }
        assert_eq!(Header::decode(&[0xff; Header::BYTES]), None);
    }
}
