//! Small things from all ranks of a group, on its first.

use crate::error::CommError;
use crate::group::Group;
use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};
use tch::{Device, Kind, Tensor};

/// On group rank 0 the values of all ranks that give one, in rank order; nothing elsewhere. They
/// travel as JSON.
pub(crate) fn gather<T>(group: &Group, mine: Option<T>) -> anyhow::Result<Vec<T>>
where
    T: Serialize + DeserializeOwned,
{
    let given = mine.map(|value| serde_json::to_vec(&value)).transpose();
    let given = given.context("cannot encode what is gathered")?;
    let all = gather_bytes(group, given.unwrap_or_default())?;
    let values = all.iter().filter(|bytes| !bytes.is_empty());
    let values = values.map(|bytes| serde_json::from_slice(bytes));
    values.collect::<Result<_, _>>().context("cannot decode what another rank has given")
}

/// Every rank's bytes, in rank order, on group rank 0; nothing elsewhere.
pub(crate) fn gather_bytes(group: &Group, mine: Vec<u8>) -> Result<Vec<Vec<u8>>, CommError> {
    if group.rank() > 0 {
        let length = Tensor::from_slice(&[mine.len() as i64]); // [1]
        group.send(&length, 0)?;
        group.send(&Tensor::from_slice(&mine), 0)?; // [bytes]
        return Ok(Vec::new());
    }
    let mut all = vec![mine];
    for from in 1..group.size() {
        let length = Tensor::zeros([1], (Kind::Int64, Device::Cpu)); // [1]
        group.recv(&length, from)?;
        let length = length.int64_value(&[0]);
        let theirs = Tensor::zeros([length], (Kind::Uint8, Device::Cpu)); // [bytes]
        group.recv(&theirs, from)?;
        let mut bytes = vec![0; length as usize];
        theirs.copy_data(&mut bytes, length as usize);
        all.push(bytes);
    }
    Ok(all)
}
