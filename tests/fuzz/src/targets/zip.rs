//! Zip archives of stored members with correct checksums, so that only the contents are damaged.

/// Makes an archive of these members.
pub fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let size = (content.len() as u32).to_le_bytes();
        let mut head = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        head.extend([&crc.sum().to_le_bytes()[..], &size, &size, &(name.len() as u16).to_le_bytes(), &[0, 0]].concat());
        directory.extend([&b"PK\x01\x02\x14\0"[..], &head, &[0; 10], &(bytes.len() as u32).to_le_bytes()].concat());
        directory.extend(name.bytes());
        bytes.extend([b"PK\x03\x04", &head[..], name.as_bytes(), content].concat());
    }
    let (start, length) = ((bytes.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    let count = (members.len() as u16).to_le_bytes();
    bytes.extend([&directory[..], b"PK\x05\x06\0\0\0\0", &count, &count, &length, &start, &[0, 0]].concat());
    bytes
}
