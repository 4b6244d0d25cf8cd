//! Zip archives whose headers and directory may contradict their contents.

/// A member; its entry in the central directory may differ from its real values.
#[derive(Clone)]
pub struct Member {
    pub name: String,
    pub content: Vec<u8>,
    pub directory_name: String,
    pub directory_method: Option<u16>,
    pub method: u16,
    pub flags: u16,
    pub size: u32,
    pub packed: u32,
    /// Offset of the member's header as the directory claims it; `None` for the true one.
    pub header: Option<u32>,
}

impl Member {
    pub fn new(name: &str, content: &[u8]) -> Self {
        let size = u32::try_from(content.len()).unwrap();
        let (name, content) = (name.to_string(), content.to_vec());
        let directory_name = name.clone();
        Self {
            name,
            content,
            directory_name,
            directory_method: None,
            method: 0,
            flags: 0,
            size,
            packed: size,
            header: None,
        }
    }

    /// Returns the member's local header and content.
    pub fn stored(&self) -> Vec<u8> {
        let mut out = b"PK\x03\x04\x14\x00".to_vec();
        out.extend([self.flags.to_le_bytes(), self.method.to_le_bytes()].concat());
        out.extend([0; 8]);
        out.extend([self.packed.to_le_bytes(), self.size.to_le_bytes()].concat());
        out.extend((self.name.len() as u32).to_le_bytes());
        out.extend(self.name.as_bytes());
        out.extend(&self.content);
        out
    }

    fn line(&self, at: u32) -> Vec<u8> {
        let mut out = b"PK\x01\x02\x14\x00\x14\x00".to_vec();
        out.extend([self.flags.to_le_bytes(), self.directory_method.unwrap_or(self.method).to_le_bytes()].concat());
        out.extend([0; 8]);
        out.extend([self.packed.to_le_bytes(), self.size.to_le_bytes()].concat());
        out.extend((self.directory_name.len() as u32).to_le_bytes());
        out.extend([0; 10]);
        out.extend(self.header.unwrap_or(at).to_le_bytes());
        out.extend(self.directory_name.as_bytes());
        out
    }
}

/// An archive; its end record may differ from its real values.
pub struct Archive {
    pub members: Vec<Member>,
    /// Members that only the central directory lists.
    pub unstored: Vec<Member>,
    pub count: Option<u16>,
    pub directory: Option<u32>,
    /// Count, length and offset of the directory in a Zip64 end record.
    pub wide: Option<(u64, u64, u64)>,
}

impl Archive {
    pub fn new(members: &[(&str, &[u8])]) -> Self {
        let members = members.iter().map(|(name, content)| Member::new(name, content)).collect();
        Self { members, unstored: Vec::new(), count: None, directory: None, wide: None }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for member in &self.members {
            directory.extend(member.line(out.len() as u32));
            out.extend(member.stored());
        }
        for member in &self.unstored {
            directory.extend(member.line(0));
        }
        let place = out.len() as u32;
        out.extend(&directory);
        let all = self.members.len() + self.unstored.len();
        let many = (all > 0xffff).then_some((all as u64, directory.len() as u64, u64::from(place)));
        if let Some((count, length, place)) = self.wide.or(many) {
            let at = out.len() as u64;
            out.extend(b"PK\x06\x06");
            out.extend(44u64.to_le_bytes());
            out.extend([0; 12]);
            out.extend([count, count, length, place].map(u64::to_le_bytes).concat());
            out.extend(b"PK\x06\x07\0\0\0\0");
            out.extend(at.to_le_bytes());
            out.extend(1u32.to_le_bytes());
        }
        let count = self.count.unwrap_or(all.min(0xffff) as u16);
        out.extend(b"PK\x05\x06\0\0\0\0");
        out.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
        out.extend((directory.len() as u32).to_le_bytes());
        out.extend(self.directory.unwrap_or(place).to_le_bytes());
        out.extend([0; 2]);
        out
    }
}
