//! Checks SentencePiece's compiled normalisation rules (`precompiled_charsmap`), because the library that applies
//! them indexes without bounds checks.

use burgess_base::{Error, Result};

/// Checks that every path stays inside the double-array trie, and that every value points to a replacement.
///
/// Layout of the bytes: size of the array in bytes, the array (32-bit units), the replacements, each terminated by a
/// zero byte. A unit holds the byte that leads to it (bits 0–7 and 31), whether a value follows (bit 8), and the
/// offset of its children (bits 10–30, shifted left by 8 if bit 9 is set).
///
/// # Errors
/// When an offset points outside, or the bytes are truncated.
pub fn check(bytes: &[u8]) -> Result<()> {
    let broken = |what: &str| Error::failed(format!("the rules of replacement are damaged: {what}"));
    let (size, rest) = bytes.split_first_chunk().ok_or_else(|| broken("the size of the trie is missing"))?;
    let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| broken("the size of the trie is too large"))?;
    let (array, texts) = rest.split_at_checked(size / 4 * 4).ok_or_else(|| broken("the trie is truncated"))?;
    let texts = std::str::from_utf8(texts).map_err(|_| broken("a replacement is not UTF-8"))?;
    let units: Vec<u32> = array.as_chunks().0.iter().map(|u| u32::from_le_bytes(*u)).collect();
    let children = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
    let root = units.first().ok_or_else(|| broken("the trie is empty"))?;
    let mut seen = vec![false; units.len()];
    let mut open = vec![children(*root)];
    while let Some(base) = open.pop() {
        for byte in 1..=255_u32 {
            let place = base ^ byte as usize;
            let unit = *units.get(place).ok_or_else(|| broken("an offset points outside the trie"))?;
            if unit & ((1 << 31) | 0xff) != byte {
                continue;
            }
            let next = place ^ children(unit);
            if (unit >> 8) & 1 == 1 {
                let value = units.get(next).ok_or_else(|| broken("the position of a value is outside the trie"))?;
                let start = (value & !(1 << 31)) as usize;
                if !texts.is_char_boundary(start) {
                    return Err(broken("a value points to no replacement"));
                }
            }
            // Each unit is entered once, so that cycles terminate.
            if let Some(entered) = seen.get_mut(place)
                && !std::mem::replace(entered, true)
            {
                open.push(next);
            }
        }
    }
    Ok(())
}
