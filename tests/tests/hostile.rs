//! Malicious files, and 125,000 damaged ones: they must give only errors and take no more memory than their size plus a
//! constant. Every allocation of this binary is counted.

mod hostile_files;

use burgess_encoders::checkpoint::Checkpoint;
use burgess_encoders::preprocess::decode;
use hostile_files::{Stream, claims, counted, float, gguf, index, line, pickled, safetensors, torch, zip, zip_of};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

/// Memory that reading tensor descriptions may take beyond the file's size (`checkpoint/budget.rs`), and the memory of
/// the tests' own texts, in bytes.
const SPARE: usize = (16 << 20) + (64 << 10);

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts the present and the peak number of bytes of each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn took(size: usize) {
        let live = LIVE.get() + size;
        LIVE.set(live);
        PEAK.set(PEAK.get().max(live));
    }

    fn gave(size: usize) {
        // Memory may be freed by another thread than the one that allocated it.
        LIVE.set(LIVE.get().saturating_sub(size));
    }
}

// SAFETY: every call is passed to the system's allocator; the counters are plain integers and allocate nothing.
#[allow(unsafe_code, reason = "an allocator that counts can only be written so")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::took(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        Self::gave(layout.size());
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new block exist together while the contents are copied.
        Self::took(size);
        Self::gave(layout.size());
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Returns the result of `work` and its peak memory in bytes.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

/// Opens a file with these bytes, which must fail; checks memory and hint, and returns the error.
fn refusal(name: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let (opened, peak) = measured(|| Checkpoint::open(&path).map(|_| ()));
    let error = opened.expect_err(name);
    assert!(peak <= bytes.len() + SPARE, "{name}: {peak} bytes for a file of {}", bytes.len());
    assert!(error.hint_text().is_some(), "{name}: {error}");
    let text = error.to_string();
    assert!(text.contains(name) && text.len() < 3000, "{name}: {} bytes of message", text.len());
    text
}

/// Checks that a file with these bytes is rejected with `because` in the message.
#[track_caller]
fn refused(name: &str, bytes: &[u8], because: &str) {
    let text = refusal(name, bytes);
    assert!(text.contains(because), "{text}");
}

/// Checks that a file with these bytes opens and has exactly these tensors.
#[track_caller]
fn opens(bytes: &[u8], keys: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("good");
    std::fs::write(&path, bytes).unwrap();
    let file = Checkpoint::open(&path).unwrap();
    assert_eq!(file.keys().collect::<Vec<_>>(), keys);
    for key in keys {
        assert_eq!(file.read(key).unwrap(), [1.0; 4]);
    }
}

#[test]
fn headers_of_safetensors() {
    opens(&safetensors(r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, &float()), &["w"]);
    let say = |name: &str, header: &str, because: &str| refused(name, &safetensors(header, &float()), because);
    let line = |shape: &str| format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,16]}}}}"#);
    say("overflow", &line("[4294967296,4294967296,4]"), "does not match shape");
    say("wide", &line("[18446744073709551616]"), "not valid");
    say("negative", &line("[-4]"), "not valid");
    say("dimensions", &line(&format!("[{}1]", "1,".repeat(1_000_000))), "at most 64 dimensions");
    say("nested", &format!("{}{}", r#"{"w":"#.repeat(100_000), "}".repeat(100_000)), "not valid");
    say("lists", &line(&"[".repeat(1_000_000)), "not valid");
    say("metadata", &format!(r#"{{"__metadata__":{}"#, "[".repeat(1_000_000)), "not valid");
    say("long", &format!(r#"{{"{}":1}}"#, "x".repeat(1_000_000)), "a name has 1000000 bytes");
    let both = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#;
    say("overlapping", both, "overlaps");
    let twice = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#;
    say("twice", twice, "listed twice");
    say("backwards", r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#, "lies at bytes 16..0");
    let empty = |i| format!(r#""{i}":{{"dtype":"F32","shape":[],"data_offsets":[0,0]}}"#);
    let crowd = (0..400_000).map(empty).collect::<Vec<_>>().join(",");
    say("crowd", &format!("{{{crowd}}}"), "more memory than the whole file");
    for length in [17u64, 1 << 40, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}              ");
        refused("length", &bytes, if length == 17 { "header length is 17 bytes" } else { "header length is" });
    }
}

#[test]
fn directories_of_zip_archives() {
    let pickle = pickled(b"");
    let good = [("a/data.pkl", pickle.as_slice()), ("a/data/0", &float())];
    opens(&zip_of(&good), &["w"]);
    let say = |name: &str, change: &dyn Fn(&mut zip::Archive), because: &str| {
        let mut archive = zip::Archive::new(&good);
        change(&mut archive);
        refused(name, &archive.bytes(), because);
    };
    say("bomb", &|a| (a.members[1].method, a.members[1].size) = (8, u32::MAX - 1), "is compressed");
    say("locked", &|a| a.members[1].flags = 1, "is compressed");
    say("inflated", &|a| a.members[1].size = 1 << 30, "and is stored in 16");
    say("beyond", &|a| (a.members[1].size, a.members[1].packed) = (1 << 30, 1 << 30), "lies beyond its end");
    say("renamed", &|a| a.members[1].directory_name = "a/data/1".into(), "has no header at the position");
    say("method", &|a| a.members[1].directory_method = Some(8), "is compressed");
    say("elsewhere", &|a| a.members[1].header = Some(u32::MAX - 1), "has no header at the position");
    say("itself", &|a| a.members[1].header = Some(0), "has no header at the position");
    say("counted", &|a| a.count = Some(1), "more entries than it states");
    say("uncounted", &|a| a.count = Some(3), "truncated or damaged");
    say("outside", &|a| a.directory = Some(u32::MAX - 100), "beyond its end");
    say("twice", &|a| a.members.push(a.members[1].clone()), "in it twice");
    // The second member contains a third one, with its header.
    let inner = zip::Member::new("a/data/1", &float());
    say(
        "overlapping",
        &|a| {
            let start = a.members[0].stored().len() + 30 + a.members[1].name.len();
            a.members[1].content = inner.stored();
            (a.members[1].size, a.members[1].packed) = (inner.stored().len() as u32, inner.stored().len() as u32);
            a.unstored.push(zip::Member { header: Some(start as u32), ..inner.clone() });
        },
        "overlap",
    );
    say("wide count", &|a| a.wide = Some((u64::MAX, 100, 0)), "truncated or damaged");
    say("wide place", &|a| a.wide = Some((2, u64::MAX, u64::MAX)), "beyond its end");
    say("wide length", &|a| a.wide = Some((2, u64::MAX - 8, 8)), "beyond its end");
    let many: Vec<(String, Vec<u8>)> = (0..200_000).map(|i| (format!("a/{i}"), Vec::new())).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    refused("many", &zip_of(&many), "more memory than the whole file");
    refused("two", &zip_of(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle)]), "not written by torch.save");
    refused("none", &zip_of(&[("a/b", b"c")]), "not written by torch.save");
    refused("empty", &zip_of(&[]), "header");
}

#[test]
fn programs_in_pickles() {
    // Other constructors and calls beside the tensors have no effect: no code is executed.
    for beside in [
        &b"cposix\nsystem\nX\x04\x00\x00\x00true\x85R"[..],
        b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R",
        b"cbuiltins\nexec\nX\x01\x00\x00\x001\x85\x81",
        b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93X\x04\x00\x00\x00true\x85R",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R0N",
        b"ctorch._utils\n_rebuild_tensor_v2\nN\x85R0N",
        b"cos\nenviron\n}X\x04\x00\x00\x00PATHX\x00\x00\x00\x00sb",
        b"}(X\x0c\x00\x00\x00__setstate__cos\nsystem\nu}b",
        b"ccollections\nOrderedDict\n)R}X\x0a\x00\x00\x00__reduce__cos\nsystem\nsb",
    ] {
        opens(&torch(&pickled(beside)), &["w"]);
    }
    let say = |name: &str, pickle: &[u8], because: &str| refused(name, &torch(pickle), because);
    let beside = |name: &str, pickle: &[u8], because: &str| say(name, &pickled(pickle), because);
    beside("inst", b"(ios\nsystem\n", "instruction 0x69");
    beside("obj", b"(cos\nsystem\no", "instruction 0x6f");
    beside("extension", b"\x82\x01", "instruction 0x82");
    beside("persistent", b"P0\n", "instruction 0x50");
    beside("text length", b"X\xff\xff\xff\xff", "truncated");
    beside("bytes length", b"B\xff\xff\xff\xff", "truncated");
    beside("wide length", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "truncated");
    beside("long length", b"\x8a\xff", "truncated");
    beside("longest", b"\x8b\xff\xff\xff\x7f", "truncated");
    beside("memo", b"r\xff\xff\xff\xff", "memo has gaps");
    beside("recall", b"j\xff\xff\xff\xff", "undefined entry");
    beside("unmarked", b"t", "mark is missing");
    say("endless", &[b')'; 1_000_000], "more memory than the whole file");
    say("marks", &[b'('; 3_000_000], "more memory than the whole file");
    say("copies", &[&b")"[..], &[b'2'; 3_000_000]].concat(), "more memory than the whole file");
    say("memos", &[&b")"[..], &[0x94; 3_000_000]].concat(), "more memory than the whole file");
    say("deep", &[&b")"[..], &[0x85; 50_000], b"."].concat(), "nested too deeply");
    say("itself", b"}q\x00X\x01\x00\x00\x00ah\x00s.", "contain themselves");

    // "Billion laughs" attack: each list contains the previous one ten times.
    let mut laughs = b"]q\x00Na".to_vec();
    for level in 0..12u8 {
        laughs.extend([b']', b'q', level + 1, b'(']);
        laughs.extend([b'h', level].repeat(10));
        laughs.push(b'e');
    }
    laughs.push(b'.');
    say("laughs", &laughs, "more memory than the whole file");
    // A long tuple that is the argument of many calls.
    let call = b"ctorch._utils\n_rebuild_tensor_v2\nq\x01(";
    let calls = [&call[..], &b"N".repeat(10_000), b"tq\x02", &b"h\x01h\x02R".repeat(50_000), b"."].concat();
    say("calls", &calls, "more memory than the whole file");
    // A long string as the name of many classes and of many values.
    let long = [&b"X\xa0\x86\x01\x00"[..], &[b'x'; 100_000], b"q\x01"].concat();
    say("classes", &[&long[..], &b"h\x01h\x01\x93".repeat(50_000), b"."].concat(), "more memory than the whole file");
    say("names", &[b"}(", &long[..], b"N", &b"h\x01N".repeat(50_000), b"u."].concat(), "nested too deeply");

    // Views, shapes and storages that do not exist.
    let tensor = |storage: &[u8], place: &[u8]| {
        let front = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n";
        torch(&[&front[..], storage, b"X\x03\x00\x00\x00cpuK\x04", place, b"tRs."].concat())
    };
    let own = b"FloatStorage\nX\x01\x00\x00\x000";
    opens(&tensor(own, b"tQK\x00K\x04\x85K\x01\x85"), &["w"]);
    refused("offset", &tensor(own, b"tQK\x01K\x04\x85K\x01\x85"), "exceeds its storage");
    refused("negative", &tensor(own, b"tQJ\xff\xff\xff\xffK\x04\x85K\x01\x85"), "description is damaged");
    refused("expanded", &tensor(own, b"tQK\x00J\xff\xff\xff\x7f\x85K\x00\x85"), "larger than its storage");
    refused("ranks", &tensor(own, b"tQK\x00K\x04\x85)"), "exceeds its storage");
    let huge = [b"tQK\x00", &b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f".repeat(2)[..], b"\x86K\x01K\x01\x86"].concat();
    refused("huge", &tensor(own, &huge), "exceeds its storage");
    refused("absent", &tensor(b"FloatStorage\nX\x01\x00\x00\x001", b"tQK\x00K\x04\x85K\x01\x85"), "not in the file");
    refused("typeless", &tensor(b"QStorage\nX\x01\x00\x00\x000", b"tQK\x00K\x04\x85K\x01\x85"), "not supported");
    refused("view", &tensor(own, b"(X\x01\x00\x00\x001K\x00K\x04ttQK\x00K\x04\x85K\x01\x85"), "view of another");
    let negated = b"tQK\x00K\x04\x85K\x01\x85\x89N}X\x03\x00\x00\x00neg\x88s";
    refused("negated", &tensor(own, negated), "negated");
}

#[test]
fn tables_of_gguf() {
    let good = line(&[4], 0, 0);
    opens(&gguf(0, &[], 1, &good), &["w"]);
    opens(&gguf(1, &counted("k", &[&4u32.to_le_bytes(), &[1, 2, 3, 4]]), 1, &good), &["w"]);

    // Damage in the header.
    let front = |version: u32, tensors: u64, pairs: u64| {
        [b"GGUF", &version.to_le_bytes()[..], &tensors.to_le_bytes(), &pairs.to_le_bytes()].concat()
    };
    refused("short", b"GGUF", "but only 0 are left");
    refused("version 1", &front(1, 0, 0), "version 1 of GGUF");
    refused("version 4", &front(4, 0, 0), "version 4 of GGUF, expected 2 or 3");
    refused("big-endian", &front(3u32.swap_bytes(), 0, 0), "big-endian");
    refused("tensors", &front(3, 1 << 60, 0), "tensors, but only 8 bytes are left");
    refused("pairs", &front(3, 0, u64::MAX), "pairs of metadata, but only 0 bytes are left");

    // Damage in the metadata.
    let pairs = |name: &str, pairs: u64, metadata: &[u8], because: &str| {
        refused(name, &gguf(pairs, metadata, 1, &good), because);
    };
    let pair = |name: &str, kind: u32, value: &[u8], because: &str| {
        pairs(name, 1, &counted("k", &[&kind.to_le_bytes(), value]), because);
    };
    let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    pair("type", 13, &[], "has type 13");
    pair("flag", 7, &[2], "neither true nor false");
    pair("text", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff], "not UTF-8");
    pair("length", 8, &u64::MAX.to_le_bytes(), "18446744073709551615 bytes are needed");
    pair("long list", 9, &list(8, 1 << 60), "elements, but only");
    pair("longest list", 9, &list(10, u64::MAX / 8 + 2), "elements, but only");
    pair("odd list", 9, &list(99, 1), "has type 99");
    pair("nested", 9, &[list(9, 1), list(9, 1), list(9, 1)].concat(), "list of lists");
    pair("cut list", 9, &[list(8, 2), counted("a", &[&u64::MAX.to_le_bytes()])].concat(), "bytes are needed");
    let one = counted("k", &[&7u32.to_le_bytes(), &[1]]);
    pairs("twice", 2, &one.repeat(2), "`k` is listed twice");
    pairs("key", 1, &counted(&"k".repeat(2000), &[&7u32.to_le_bytes(), &[1]]), "a name has 2000 bytes");
    pairs("odd key", 1, &[&1u64.to_le_bytes()[..], &[0xc3], &7u32.to_le_bytes(), &[1]].concat(), "not UTF-8");
    let crowd: Vec<u8> = (0..200_000).flat_map(|i| counted(&i.to_string(), &[&7u32.to_le_bytes(), &[1]])).collect();
    pairs("crowd", 200_000, &crowd, "more memory than the whole file");
    let alignment = |n: u32| counted("general.alignment", &[&4u32.to_le_bytes(), &n.to_le_bytes()]);
    pairs("unaligned", 1, &alignment(0), "not a power of two");
    pairs("odd", 1, &alignment(24), "not a power of two");
    pairs("far", 1, &alignment(1 << 31), "exceeds the file of");
    pairs("typed", 1, &counted("general.alignment", &[&7u32.to_le_bytes(), &[1]]), "is true or false, expected a size");

    // Damage in the table of tensors.
    let tensor = |name: &str, line: &[u8], because: &str| refused(name, &gguf(0, &[], 1, line), because);
    tensor("dimensions", &line(&[1; 5], 0, 0), "has 5 dimensions");
    tensor("more dimensions", &counted("w", &[&u32::MAX.to_le_bytes()]), "dimensions, ggml has");
    tensor("overflow", &line(&[1 << 32, 1 << 32, 4], 0, 0), "exceeds the file of");
    tensor("bytes overflow", &line(&[u64::MAX / 4], 0, 0), "exceeds the file of");
    tensor("large", &line(&[5], 0, 0), "exceeds the file of");
    tensor("outside", &line(&[4], 0, u64::MAX - 31), "exceeds the file of");
    tensor("misaligned", &line(&[2], 0, 8), "not at a multiple of 32");
    tensor("less", &line(&[3], 0, 32), "exceeds the file of");
    tensor("blocks", &line(&[4, 8], 2, 0), "rows of 4 values, must be a multiple of the block length 32");
    tensor("unread", &line(&[256], 23, 0), "is stored as type IQ4_XS, which is not supported");
    tensor("unknown", &line(&[4], 77, 0), "the unknown type 77");
    tensor("name", &[&8u64.to_le_bytes()[..], &[0xff; 8], &[0; 40]].concat(), "not UTF-8");
    let both = |first: &[u8], second: &[u8]| gguf(0, &[], 2, &[first, second].concat());
    let other = |shape: &[u64], offset: u64| [&1u64.to_le_bytes()[..], b"v", &line(shape, 0, offset)[9..]].concat();
    refused("listed twice", &both(&good, &good), "listed twice");
    refused("overlapping", &both(&good, &other(&[4], 0)), "overlaps");
    let mut gap = both(&good, &other(&[4], 64));
    gap.resize(gap.len() + 64, 0);
    refused("gap", &gap, "leaves a gap");
    let mut more = gguf(0, &[], 1, &good);
    more.resize(more.len() + 64, 0);
    refused("more", &more, "bytes at the end belong to no tensor");
    let crowd: Vec<u8> =
        (0..100_000).flat_map(|i| counted(&i.to_string(), &[&1u32.to_le_bytes(), &[0; 8], &[0; 4], &[0; 8]])).collect();
    refused("crowd of tensors", &gguf(0, &[], 100_000, &crowd), "more memory than the whole file");
}

#[test]
fn indexes_of_shards() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    let shard = safetensors(r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, &float());
    std::fs::write(dir.path().join("out.safetensors"), &shard).unwrap();
    std::fs::write(dir.path().join("in/s.safetensors"), &shard).unwrap();
    let path = dir.path().join("in/model.safetensors.index.json");
    let open = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let (opened, peak) = measured(|| Checkpoint::open(&path).map(|_| ()));
        assert!(peak <= text.len() + SPARE, "{peak} bytes for an index of {}", text.len());
        opened.map_err(|e| e.to_string())
    };
    assert_eq!(open(&index("w", "s.safetensors")), Ok(()));
    let absolute = dir.path().join("out.safetensors").display().to_string();
    for outside in [
        "../out.safetensors",
        &absolute,
        "x/../../out.safetensors",
        "..",
        ".",
        "",
        "/",
        "./s.safetensors",
        "s.safetensors/",
        "..\\\\out.safetensors",
    ] {
        let error = open(&index("w", outside)).unwrap_err();
        assert!(
            error.contains("expected the name of a file in its directory") && error.contains("index.json"),
            "{outside}: {error}"
        );
    }
    assert!(open(&index("v", "s.safetensors")).unwrap_err().contains("first `v`"));
    assert!(open(&index("w", "absent")).unwrap_err().contains("is not there: absent"));
    assert!(open("{}").unwrap_err().contains("weight_map"));
    assert!(open(&"[".repeat(500_000)).is_err());
    let lines = |n: usize| (0..n).map(|i| format!(r#""{i}":"""#)).collect::<Vec<_>>().join(",");
    assert!(
        open(&format!(r#"{{"weight_map":{{{}}}}}"#, lines(50_000)))
            .unwrap_err()
            .contains("expected the name of a file in its directory")
    );
    let crowd = format!(r#"{{"weight_map":{{{}}}}}"#, lines(500_000));
    assert!(open(&crowd).unwrap_err().contains("more memory than the whole file"));
    assert!(open(r#"{"weight_map":{},"weight_map":{}}"#).unwrap_err().contains("duplicate field"));
    assert!(open(&format!(r#"{{"weight_map":{}"#, "[".repeat(500_000))).is_err());
    // More tensors than any model in a single file has, with long names.
    let layers = (0..20_000).map(|i| format!(r#""model.layers.{i}.self_attn.q_proj.weight":"s.safetensors""#));
    let many = format!(r#"{{"weight_map":{{{}}}}}"#, layers.collect::<Vec<_>>().join(","));
    assert!(many.len() > 1 << 20 && open(&many).unwrap_err().contains("20000 tensors of the index are in no shard"));
    assert!(open(&" ".repeat(32 << 20)).unwrap_err().contains("must have at most 16777216"));
}

/// Small files that claim 60,000 × 60,000 pixels are rejected before memory is allocated for them.
#[test]
fn images_that_claim_much() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in claims(60_000) {
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let (decoded, peak) = measured(|| decode(&path));
        let error = decoded.expect_err(name);
        assert!(peak <= 256 << 10, "{name}: {peak} bytes");
        assert!(error.to_string().contains(name) && error.hint_text().is_some(), "{error}");
        println!("{name}: {error}; {peak} bytes");
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/pickles").join(name)
}

/// Makes a GGUF file with a pair of each kind, and tensors of five types.
fn small_gguf() -> Vec<u8> {
    let list = |kind: u32, count: u64, bytes: &[u8]| [&kind.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat();
    let pairs = [
        counted("general.architecture", &[&8u32.to_le_bytes(), &counted("llama", &[])]),
        counted("a.b", &[&6u32.to_le_bytes(), &1e4f32.to_le_bytes()]),
        counted("c", &[&7u32.to_le_bytes(), &[1]]),
        counted("d", &[&9u32.to_le_bytes(), &list(8, 2, &[counted("x", &[]), counted("yz", &[])].concat())]),
        counted("e", &[&9u32.to_le_bytes(), &list(5, 3, &[0; 12])]),
    ];
    let kinds: [(u32, u64, usize); 5] = [(0, 4, 16), (1, 4, 8), (2, 32, 18), (8, 32, 34), (12, 256, 144)];
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for (kind, length, bytes) in kinds {
        let shape = [&1u32.to_le_bytes()[..], &length.to_le_bytes()].concat();
        let place = (data.len() as u64).to_le_bytes();
        table.extend(counted(&format!("blk.0.{kind}"), &[&shape, &kind.to_le_bytes(), &place]));
        data.resize((data.len() + bytes).next_multiple_of(32), 0);
    }
    let file = gguf(5, &pairs.concat(), 5, &table);
    [&file[..file.len() - 16], &data].concat()
}

/// 125,000 small files with seeded damage give an error or a valid result, in little memory and without a panic.
#[test]
fn damaged_files() {
    const EACH: usize = 25_000;
    /// Memory that opening these small files takes beyond their size, in bytes; measured at 40 KiB.
    const SMALL: usize = 64 << 10;
    let header = r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"F16","shape":[3],"data_offsets":[16,22]},"c":{"dtype":"BF16","shape":[],"data_offsets":[22,24]},"d":{"dtype":"I64","shape":[1,1],"data_offsets":[24,32]}}"#;
    let seeds = [
        ("safetensors", safetensors(header, &[float(), float()].concat())),
        ("zip", torch(&pickled(b"cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrK\x01sb"))),
        ("zip of PyTorch", std::fs::read(golden("zip.pth")).unwrap()),
        ("legacy", std::fs::read(golden("legacy.pth")).unwrap()),
        ("gguf", small_gguf()),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged");
    // One file is overwritten, because creating 125,000 files takes longer than reading them.
    let mut written = std::fs::File::create(&path).unwrap();
    let start = std::time::Instant::now();
    let mut most = 0;
    for (kind, seed) in &seeds {
        let mut stream = Stream::new(kind);
        let mut opened = 0;
        for round in 0..EACH {
            let bytes = stream.damaged(seed);
            written.rewind().unwrap();
            written.write_all(&bytes).unwrap();
            written.set_len(bytes.len() as u64).unwrap();
            let (result, peak) = measured(|| Checkpoint::open(&path));
            most = most.max(peak.saturating_sub(bytes.len()));
            assert!(peak <= bytes.len() + SMALL, "{kind} {round}: {peak} bytes for a file of {}", bytes.len());
            let Ok(file) = result else { continue };
            opened += 1;
            for key in file.keys() {
                let numbers: usize = file.shape(key).unwrap().iter().product();
                let (_, peak) = measured(|| file.read(key).map(|v| assert_eq!(v.len(), numbers)));
                // Of the types in the seed files, 4-bit blocks expand most: 18 bytes to 32 numbers.
                assert!(peak <= 8 * bytes.len() + 4096, "{kind} {round}, `{key}`: {peak} bytes");
            }
        }
        println!("{kind}: {EACH} files of about {} bytes, {opened} of them still open", seed.len());
    }
    println!("{} s, at most {most} bytes beyond the file", start.elapsed().as_secs_f32());
}
