//! The headers of an image in each supported format, with a false claim about its size.

/// Makes a PNG chunk with its checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let sum = crc(&[&kind[..], data].concat());
    [&(data.len() as u32).to_be_bytes(), &kind[..], data, &sum.to_be_bytes()].concat()
}

/// CRC-32 of PNG chunks.
fn crc(bytes: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum)))
}

/// Makes one small file in each format that claims to be `side` × `side` pixels.
pub fn claims(side: u16) -> Vec<(&'static str, Vec<u8>)> {
    let (wide, little, big) = (u32::from(side), side.to_le_bytes(), side.to_be_bytes());
    let png = [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(b"IHDR", &[&wide.to_be_bytes()[..], &wide.to_be_bytes(), &[8, 2, 0, 0, 0]].concat()),
        &chunk(b"IDAT", b"\x78\x9c\x03\x00\x00\x00\x00\x01"),
        &chunk(b"IEND", b""),
    ]
    .concat();
    let gif = [
        &b"GIF89a"[..],
        &little,
        &little,
        &[0x80, 0, 0, 0, 0, 0, 255, 255, 255, 0x2c, 0, 0, 0, 0],
        &little,
        &little,
        b"\x00\x02\x02\x44\x01\x00\x3b",
    ]
    .concat();
    let bmp = [
        &b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"[..],
        &wide.to_le_bytes(),
        &wide.to_le_bytes(),
        b"\x01\0\x18\0",
        &[0; 24],
        &[0; 64],
    ]
    .concat();
    let entry = |tag: u16, kind: u16, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &[1, 0, 0, 0], &value.to_le_bytes()].concat()
    };
    let tiff = [
        &b"II\x2a\0\x08\0\0\0\x08\0"[..],
        &entry(256, 4, wide),
        &entry(257, 4, wide),
        &entry(258, 3, 8),
        &entry(259, 3, 1),
        &entry(262, 3, 1),
        &entry(273, 4, 8),
        &entry(278, 4, wide),
        &entry(279, 4, wide * wide),
        &[0; 4],
    ]
    .concat();
    // WebP has only 14 bits per side.
    let webp =
        [&b"RIFF\x26\0\0\0WEBPVP8L\x1a\0\0\0\x2f"[..], &(0x3fff_u32 | 0x3fff << 14).to_le_bytes(), &[0; 21]].concat();
    let jpeg = [
        &b"\xff\xd8\xff\xdb\x00\x43\x00"[..],
        &[1; 64],
        b"\xff\xc0\x00\x11\x08",
        &big,
        &big,
        b"\x03\x01\x22\x00\x02\x11\x00\x03\x11\x00\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00",
        &[0; 16],
        b"\xff\xd9",
    ]
    .concat();
    vec![("a.png", png), ("a.gif", gif), ("a.bmp", bmp), ("a.tiff", tiff), ("a.webp", webp), ("a.jpg", jpeg)]
}
