//! The framing of TFRecord files: length, masked CRC-32C of the length, data, masked CRC-32C of the data
//! (<https://www.tensorflow.org/tutorials/load_data/tfrecord>).

/// Returns a record with this data.
pub(super) fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked(data).to_le_bytes());
    record
}

/// Iterates over the data of the records of a file; ends before the first one that is cut off or damaged.
pub(super) struct Records<'a> {
    left: &'a [u8],
}

impl<'a> Records<'a> {
    pub(super) fn new(file: &'a [u8]) -> Self {
        Self { left: file }
    }

    fn record(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.left.split_first_chunk::<8>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        if masked(length) != u32::from_le_bytes(*sum) {
            return None;
        }
        let (data, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        self.left = rest;
        (masked(data) == u32::from_le_bytes(*sum)).then_some(data)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let record = self.record();
        if record.is_none() {
            self.left = &[];
        }
        record
    }
}

/// Returns the CRC-32C, rotated and shifted so that the sum of data that contains sums is not degenerate.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !data.iter().fold(!0, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_specification() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn records_end_before_damage() {
        let file = [framed(b"one"), framed(b""), framed(b"three")].concat();
        let read = |file: &[u8]| Records::new(file).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(read(&file), [b"one".to_vec(), Vec::new(), b"three".to_vec()]);
        for cut in 36..file.len() {
            assert_eq!(read(&file[..cut]).len(), 2, "{cut}");
        }
        let mut damaged = file.clone();
        damaged[13] ^= 4;
        assert!(read(&damaged).is_empty());
        // A length that no file has.
        assert!(read(&[[0xff; 8].as_slice(), &masked(&[0xff; 8]).to_le_bytes()].concat()).is_empty());
    }
}
