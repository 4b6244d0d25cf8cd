//! A pickle interpreter that executes nothing: the stack machine of Python's `pickle`, in which an instruction that
//! would call a function only records the call.
//!
//! A pickle is a program, and loading one in Python can run any code. Here only the constructors of containers and
//! tensors that `torch.save` writes are interpreted (`torch/_utils.py`, `collections.OrderedDict`); the result of any
//! other call is an empty [`Node::Opaque`]. Values are in one arena and refer to each other by index, so that deep or
//! cyclic structures of a malicious file are harmless; all growth and copies are charged to the file's
//! [`MemoryBudget`].
//! Opcodes: CPython's `Lib/pickletools.py`.

use super::super::budget::MemoryBudget;
use burgess_base::{Error, Result};

/// Index of a value in its [`Heap`].
pub(super) type Id = usize;

/// A value of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// `None`, floats, bytes, and results of calls that are not interpreted.
    Opaque,
    Bool(bool),
    Int(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function, as `module name`.
    Global(String),
    /// A storage, given by the description that `torch.save` writes for it.
    Storage(Id),
    /// A call of `torch._utils._rebuild_tensor_v2` or a similar function, with its arguments.
    Tensor(Vec<Id>),
}

/// All values of one pickle.
#[derive(Debug, Default)]
pub(super) struct Heap {
    nodes: Vec<Node>,
    /// The class of the outermost object that is not interpreted, `module.name`.
    object: Option<String>,
}

impl Heap {
    pub fn get(&self, id: Id) -> &Node {
        self.nodes.get(id).unwrap_or(&Node::Opaque)
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value of a non-negative integer; `None` for other values.
    pub fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Node::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    /// Returns the elements of a tuple or a list; `None` for other values.
    pub fn parts(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Node::Tuple(parts) | Node::List(parts) => Some(parts),
            _ => None,
        }
    }

    /// Returns the class of the outermost object, if the pickle creates objects.
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// Iterates over all values, reachable or not.
    pub fn all(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

fn damaged(why: impl std::fmt::Display) -> Error {
    Error::failed(format!("the pickle is damaged or was not written by torch.save: {why}"))
}

/// Interprets the pickle at the front of `bytes`. Returns its values, the last one, and the pickle's length in bytes.
///
/// # Errors
/// The pickle is truncated, uses an instruction that `torch.save` does not write, is inconsistent, or describes more
/// than the `budget` allows.
pub(super) fn read(bytes: &[u8], budget: &mut MemoryBudget) -> Result<(Heap, Id, usize)> {
    let mut machine =
        Machine { bytes, at: 0, heap: Heap::default(), stack: Vec::new(), marks: Vec::new(), memo: Vec::new(), budget };
    let result = machine.run()?;
    Ok((machine.heap, result, machine.at))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    heap: Heap,
    stack: Vec<Id>,
    /// Stack heights at which marks were set.
    marks: Vec<usize>,
    memo: Vec<Id>,
    budget: &'a mut MemoryBudget,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id> {
        loop {
            let place = self.at;
            let [opcode] = self.take()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode).map_err(|e| e.context(format!("at byte {place} of a pickle")))?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        let node = match opcode {
            // Protocol and framing do not affect values.
            0x80 => return self.take::<1>().map(|_| ()),
            0x95 => return self.take::<8>().map(|_| ()),
            b'(' => {
                self.budget.grow::<usize>(1)?;
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'0' => return self.pop().map(|_| ()),
            b'1' => return self.popped_to_mark().map(|_| ()),
            b'2' => {
                let top = self.top()?;
                return self.push_id(top);
            }
            b'q' => {
                let [index] = self.take()?;
                return self.memoise(usize::from(index));
            }
            b'r' => {
                let index = self.length4()?;
                return self.memoise(index);
            }
            0x94 => return self.memoise(self.memo.len()),
            b'h' => {
                let [index] = self.take()?;
                return self.recall(usize::from(index));
            }
            b'j' => {
                let index = self.length4()?;
                return self.recall(index);
            }
            b'a' => {
                let item = self.pop()?;
                return self.extend(vec![item]);
            }
            b'e' | 0x90 => {
                let items = self.popped_to_mark()?;
                return self.extend(items);
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                return self.insert(vec![(key, value)]);
            }
            b'u' => {
                let pairs = pairs(self.popped_to_mark()?)?;
                return self.insert(pairs);
            }
            // The state of an object is ignored: the `OrderedDict` of `state_dict()` has its `_metadata` there.
            b'b' => return self.pop().map(|_| ()),
            b'N' | b'G' => {
                if opcode == b'G' {
                    self.take::<8>()?;
                }
                Node::Opaque
            }
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'K' => Node::Int(i64::from(self.take::<1>()?[0])),
            b'M' => Node::Int(i64::from(u16::from_le_bytes(self.take()?))),
            b'J' => Node::Int(i64::from(i32::from_le_bytes(self.take()?))),
            0x8a => {
                let [n] = self.take()?;
                self.long(usize::from(n))?
            }
            b'X' | b'T' | b'B' => {
                let n = self.length4()?;
                self.string(n, opcode != b'B')?
            }
            0x8b => {
                let n = self.length4()?;
                self.long(n)?
            }
            0x8d | 0x8e | 0x96 => {
                let n = usize::try_from(u64::from_le_bytes(self.take()?)).map_err(|_| damaged("it is truncated"))?;
                self.string(n, opcode == 0x8d)?
            }
            0x8c | b'U' | b'C' => {
                let [n] = self.take()?;
                self.string(usize::from(n), opcode != b'C')?
            }
            b'}' => Node::Dict(Vec::new()),
            b']' | 0x8f => Node::List(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            0x85..=0x87 => {
                let n = usize::from(opcode - 0x84);
                let from = self.stack.len().checked_sub(n).filter(|from| self.marks.last().is_none_or(|m| m <= from));
                Node::Tuple(self.stack.split_off(from.ok_or_else(|| damaged("its stack is empty"))?))
            }
            b't' => Node::Tuple(self.popped_to_mark()?),
            b'l' | 0x91 => Node::List(self.popped_to_mark()?),
            b'd' => Node::Dict(pairs(self.popped_to_mark()?)?),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                global(module, name, self.budget)?
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.heap.text(module), self.heap.text(name)) {
                    (Some(module), Some(name)) => global(module, name, self.budget)?,
                    _ => return Err(damaged("a class has no name")),
                }
            }
            b'Q' => Node::Storage(self.pop()?),
            // A call with keyword arguments, which tensors do not need.
            0x92 => {
                let (_, arguments, called) = (self.pop()?, self.pop()?, self.pop()?);
                return self.call(called, arguments);
            }
            b'R' | 0x81 => {
                let (arguments, called) = (self.pop()?, self.pop()?);
                return self.call(called, arguments);
            }
            other => return Err(damaged(format!("instruction {other:#04x} is not one that torch.save writes"))),
        };
        self.push(node)
    }

    /// Interprets the few known calls; all others result in [`Node::Opaque`].
    fn call(&mut self, called: Id, arguments: Id) -> Result<()> {
        let (Node::Global(name), Some(arguments)) = (self.heap.get(called), self.heap.parts(arguments)) else {
            return self.push(Node::Opaque);
        };
        // A value can be an argument of any number of calls, so each copy is charged.
        let items = arguments.first().and_then(|first| self.heap.parts(*first)).unwrap_or_default();
        self.budget.grow::<Id>(arguments.len())?;
        self.budget.grow::<(Id, Id)>(items.len())?;
        let mut object = None;
        let node = match name.as_str() {
            "collections OrderedDict" | "collections defaultdict" => match arguments.first().map(|a| self.heap.get(*a))
            {
                // Python 2 writes the pairs as an argument.
                Some(Node::List(items)) => {
                    let pair = |id: &Id| match self.heap.parts(*id) {
                        Some(&[key, value]) => Some((key, value)),
                        _ => None,
                    };
                    Node::Dict(items.iter().filter_map(pair).collect())
                }
                _ => Node::Dict(Vec::new()),
            },
            "torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2" => Node::Tensor(arguments.to_vec()),
            "torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state" => match arguments.first()
            {
                Some(&tensor) => {
                    return self.push_id(tensor);
                }
                None => Node::Opaque,
            },
            // The outermost object is created first.
            class => {
                if self.heap.object.is_none() && !["torch ", "collections "].iter().any(|own| class.starts_with(own)) {
                    self.budget.spend(class.len())?;
                    object = Some(class.replacen(' ', ".", 1));
                }
                Node::Opaque
            }
        };
        if object.is_some() {
            self.heap.object = object;
        }
        self.push(node)
    }

    fn push(&mut self, node: Node) -> Result<()> {
        self.budget.grow::<Node>(1)?;
        let id = self.heap.add(node);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        self.budget.grow::<Id>(1)?;
        self.stack.push(id);
        Ok(())
    }

    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[Id]>::last).copied().ok_or_else(|| damaged("its stack is empty"))
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn popped_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| damaged("a mark is missing"))?;
        let items = self.stack.drain(mark.min(self.stack.len())..);
        self.budget.grow::<Id>(items.len())?;
        Ok(items.collect())
    }

    /// Appends to the list (or set) on top of the stack; other values are not changed.
    fn extend(&mut self, items: Vec<Id>) -> Result<()> {
        self.budget.grow::<Id>(items.len())?;
        let top = self.top()?;
        if let Some(Node::List(list)) = self.heap.nodes.get_mut(top) {
            list.extend(items);
        }
        Ok(())
    }

    fn insert(&mut self, pairs: Vec<(Id, Id)>) -> Result<()> {
        self.budget.grow::<(Id, Id)>(pairs.len())?;
        let top = self.top()?;
        if let Some(Node::Dict(dict)) = self.heap.nodes.get_mut(top) {
            dict.extend(pairs);
        }
        Ok(())
    }

    /// Stores the top of the stack in the memo. Python numbers the memo without gaps.
    fn memoise(&mut self, index: usize) -> Result<()> {
        self.budget.grow::<Id>(1)?;
        let top = self.top()?;
        if let Some(slot) = self.memo.get_mut(index) {
            *slot = top;
        } else if index == self.memo.len() {
            self.memo.push(top);
        } else if index == 1 && self.memo.is_empty() {
            // The pickler of Python 2 counts from one.
            self.memo.extend([top, top]);
        } else {
            return Err(damaged("its memo has gaps"));
        }
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<()> {
        let id = self.memo.get(index).copied().ok_or_else(|| damaged("it reads an undefined entry of its memo"))?;
        self.push_id(id)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).copied();
        self.at += N;
        bytes.ok_or_else(|| damaged("it is truncated"))
    }

    fn slice(&mut self, n: usize) -> Result<&[u8]> {
        let bytes = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        self.at = self.at.saturating_add(n);
        bytes.ok_or_else(|| damaged("it is truncated"))
    }

    fn length4(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.take()?) as usize)
    }

    fn string(&mut self, n: usize, is_text: bool) -> Result<Node> {
        self.budget.spend(n.min(self.bytes.len()))?;
        let bytes = self.slice(n)?;
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) if is_text => Node::Text(text.to_string()),
            _ => Node::Opaque,
        })
    }

    /// Reads an integer of `n` bytes; more than 64 bits are not interpreted.
    fn long(&mut self, n: usize) -> Result<Node> {
        let bytes = self.slice(n)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        if n > 8 {
            return Ok(Node::Opaque);
        }
        let mut full = [if negative { 0xff } else { 0 }; 8];
        full[..n].copy_from_slice(bytes);
        Ok(Node::Int(i64::from_le_bytes(full)))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let n = memchr::memchr(b'\n', rest).ok_or_else(|| damaged("it is truncated"))?;
        self.at += n + 1;
        std::str::from_utf8(&rest[..n]).map_err(|_| damaged("a name is not UTF-8"))
    }
}

/// Builds a class or function. Its names may come from the memo and be copied any number of times, so each copy is
/// charged.
fn global(module: &str, name: &str, budget: &mut MemoryBudget) -> Result<Node> {
    budget.spend(module.len() + name.len() + 1)?;
    Ok(Node::Global([module, " ", name].concat()))
}

fn pairs(items: Vec<Id>) -> Result<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.iter().map(|[k, v]| (*k, *v)).collect()) } else { Err(damaged("a key has no value")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<(Heap, Id, usize)> {
        super::read(bytes, &mut MemoryBudget::of(bytes.len()))
    }

    #[test]
    fn containers_and_numbers_are_read() -> Result<()> {
        // pickle.dumps({"a": (1, -2, 300), "b": [True, None]}, protocol=2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01J\xfe\xff\xff\xffM,\x01\x87q\x02X\x01\x00\x00\x00bq\x03]q\x04(\x88Neu.rest";
        let (heap, top, length) = read(bytes)?;
        assert_eq!(length, bytes.len() - 4);
        let Node::Dict(pairs) = heap.get(top) else { panic!("{heap:?}") };
        assert_eq!(heap.text(pairs[0].0), Some("a"));
        let numbers: Vec<&Node> = heap.parts(pairs[0].1).unwrap_or_default().iter().map(|i| heap.get(*i)).collect();
        assert_eq!(numbers, [&Node::Int(1), &Node::Int(-2), &Node::Int(300)]);
        assert_eq!(heap.parts(pairs[1].1).map(<[Id]>::len), Some(2));
        Ok(())
    }

    #[test]
    fn nothing_is_executed() -> Result<()> {
        // os.system("false"), as pickle would run it.
        let (heap, top, _) = read(b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00false\x85R.")?;
        assert_eq!(heap.get(top), &Node::Opaque);
        Ok(())
    }

    #[test]
    fn depth_and_cycles_are_harmless() -> Result<()> {
        let mut deep = b"\x80\x02)".to_vec();
        deep.extend(std::iter::repeat_n(0x85, 100_000));
        deep.push(b'.');
        assert!(read(&deep).is_ok());
        // A list that holds itself.
        let (heap, top, _) = read(b"]q\x00h\x00a.")?;
        assert_eq!(heap.parts(top), Some(&[top][..]));
        Ok(())
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn random_programs_never_panic(
            bytes in proptest::collection::vec(proptest::sample::select(b"(012qrhjaesubNGKMJXTBUC}])tldcQR.\x81\x85\x86\x87\x88\x8a\x8c\x93\x94\x00\x01\x02\n".to_vec()), 0..200)
        ) {
            let _ = read(&bytes);
        }
    }
}
