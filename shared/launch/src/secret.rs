//! What nobody else can guess.

/// 32 bytes from the operating system.
pub(crate) fn nonce() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| anyhow::anyhow!("cannot get random bytes from the operating system: {e}"))?;
    Ok(bytes)
}
