//! Small things from all ranks, on rank 0.

use crate::Mesh;
use crate::error::CommError;
use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};
use tch::{Device, Kind, Tensor};

impl Mesh {
    /// On rank 0 the values of all ranks that give one, in rank order; nothing elsewhere. A collective,
    /// for control and not for the bulk; it waits as [`Mesh::untimed`] does.
    pub fn gather<T>(&self, mine: Option<T>) -> anyhow::Result<Vec<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        let given = mine.map(|value| serde_json::to_vec(&value)).transpose();
        let given = given.context("cannot encode what is gathered")?;
        let all = self.gather_bytes(given.unwrap_or_default())?;
        let values = all.iter().filter(|bytes| !bytes.is_empty());
        let values = values.map(|bytes| serde_json::from_slice(bytes));
        values.collect::<Result<_, _>>().context("cannot decode what another rank has given")
    }

    /// Every rank's bytes, in rank order, on rank 0; nothing elsewhere.
    pub(super) fn gather_bytes(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>, CommError> {
        if !self.is_leader() {
            let length = Tensor::from_slice(&[mine.len() as i64]); // [1]
            self.untimed.send(&length, 0)?;
            self.untimed.send(&Tensor::from_slice(&mine), 0)?; // [bytes]
            return Ok(Vec::new());
        }
        let mut all = vec![mine];
        for from in 1..self.world.size() {
            let length = Tensor::zeros([1], (Kind::Int64, Device::Cpu)); // [1]
            self.untimed.recv(&length, from)?;
            let length = length.int64_value(&[0]);
            let theirs = Tensor::zeros([length], (Kind::Uint8, Device::Cpu)); // [bytes]
            self.untimed.recv(&theirs, from)?;
            let mut bytes = vec![0; length as usize];
            theirs.copy_data(&mut bytes, length as usize);
            all.push(bytes);
        }
        Ok(all)
    }
}
