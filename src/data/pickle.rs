//! Python pickles, as far as CIFAR's files use them, by an interpreter that can run nothing.
//!
//! A pickle is a program for a small stack machine, and Python's own interpreter lets it call any
//! function there is. This one knows the instructions that CIFAR's files consist of, as Python 2
//! wrote them (protocol 2) and as Python 3 writes them again (protocols 2 to 5); the few functions
//! they call — numpy's to rebuild an array of bytes, `_codecs.encode` to bring text back to bytes —
//! are built in, and every other is refused by name.
//!
//! It is safe on any input: a length is checked against what is left of the file before anything
//! is reserved, values live side by side in one table (so nothing recurses, and a value may contain
//! itself), and that table has a limit. Python's `pickletools` module documents the instructions.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

use crate::error::{Error, Result};

/// Values in one pickle. CIFAR-100's `train` makes 50,000 file names and a few dozen more.
const MOST_VALUES: usize = 1 << 20;

/// A value's place in the table.
type Id = u32;

#[derive(Debug)]
enum Node<'a> {
    None,
    Bool(bool),
    Integer(i64),
    Text(&'a str),
    Bytes(Cow<'a, [u8]>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Function(Function),
    /// A numpy dtype; of all there are, only 8-bit unsigned numbers.
    ByteType,
    /// A numpy array of bytes; empty until `BUILD` fills it.
    Array {
        shape: Vec<usize>,
        bytes: Cow<'a, [u8]>,
    },
}

/// What a pickle may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    /// `numpy.core.multiarray._reconstruct`: makes an empty array, which `BUILD` then fills.
    Reconstruct,
    /// `numpy.core.numeric._frombuffer`: makes an array at once (protocol 5).
    FromBuffer,
    /// `numpy.ndarray`, an argument of `_reconstruct`.
    ArrayType,
    /// `numpy.dtype`.
    DType,
    /// `_codecs.encode`: how protocol 2 of Python 3 writes bytes, as text in Latin-1.
    Encode,
}

/// A pickle's values, borrowed from the file's bytes where possible.
#[derive(Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// The value the pickle stands for.
    pub fn root(&self) -> Value<'_> {
        self.value(self.root)
    }

    fn value(&self, id: Id) -> Value<'_> {
        Value {
            nodes: &self.nodes,
            id,
        }
    }
}

/// One value of a [`Pickle`]. Its `Display` says what kind of value it is.
#[derive(Clone, Copy)]
pub struct Value<'p> {
    nodes: &'p [Node<'p>],
    id: Id,
}

impl<'p> Value<'p> {
    fn node(self) -> &'p Node<'p> {
        &self.nodes[self.id as usize]
    }

    fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }

    /// A dict's value for a key, which may be text or bytes; `None` if there is none or this is no
    /// dict.
    pub fn get(self, key: &str) -> Option<Self> {
        let Node::Dict(entries) = self.node() else {
            return None;
        };
        // As in Python, the last of equal keys counts.
        let mut newest_first = entries.iter().rev();
        let entry = newest_first.find(|entry| self.at(entry.0).bytes() == Some(key.as_bytes()));
        entry.map(|entry| self.at(entry.1))
    }

    /// A list's or tuple's items.
    pub fn items(self) -> Option<impl ExactSizeIterator<Item = Self>> {
        match self.node() {
            Node::List(items) | Node::Tuple(items) => {
                Some(items.iter().map(move |&id| self.at(id)))
            }
            _ => None,
        }
    }

    /// A number.
    pub fn integer(self) -> Option<i64> {
        match self.node() {
            Node::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// Text, or bytes that are text: Python 2 knew no difference.
    pub fn text(self) -> Option<String> {
        let bytes = self.bytes()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Bytes, or text in UTF-8.
    pub fn bytes(self) -> Option<&'p [u8]> {
        match self.node() {
            Node::Text(text) => Some(text.as_bytes()),
            Node::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// An array of bytes: its shape, and its elements row by row.
    pub fn array(self) -> Option<(&'p [usize], &'p [u8])> {
        match self.node() {
            Node::Array { shape, bytes } => Some((shape, bytes)),
            _ => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.node() {
            Node::None => "None",
            Node::Bool(_) => "a truth value",
            Node::Integer(_) => "a number",
            Node::Text(_) => "text",
            Node::Bytes(_) => "bytes",
            Node::List(_) => "a list",
            Node::Tuple(_) => "a tuple",
            Node::Dict(_) => "a dict",
            Node::Function(_) => "a function",
            Node::ByteType => "a dtype",
            Node::Array { shape, .. } => return write!(f, "an array of shape {shape:?}"),
        })
    }
}

/// Reads a pickle. `place` is the file's name, for messages.
///
/// # Errors
/// [`Error::Data`], with the byte at which it happened: for a file that is cut short or no pickle,
/// for any instruction or function that CIFAR's files have no use for, and for arrays of anything
/// but bytes.
pub fn parse<'a>(bytes: &'a [u8], place: &str) -> Result<Pickle<'a>> {
    let mut machine = Machine {
        bytes,
        at: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: Cell::new(0),
    };
    match machine.run() {
        Ok(root) => Ok(Pickle {
            nodes: machine.nodes,
            root,
        }),
        Err(problem) => Err(Error::data(
            format!("{place}, byte {}", machine.at),
            problem,
            "it is damaged, or no file of CIFAR's python layout: fetch the data set again",
        )),
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Bytes copied so far; see [`Machine::spend`].
    copied: Cell<usize>,
}

/// What is wrong, to be placed by [`parse`].
type Step<T> = std::result::Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Id> {
        loop {
            let start = self.at;
            let opcode = self.take(1)?[0];
            match opcode {
                // PROTO, FRAME: what they announce is of no use here.
                0x80 => {
                    let protocol = self.take(1)?[0];
                    if protocol > 5 {
                        return Err(format!("pickle protocol {protocol} is not known"));
                    }
                }
                0x95 => _ = self.take(8)?,

                // NONE, NEWTRUE, NEWFALSE
                b'N' => self.push(Node::None)?,
                0x88 => self.push(Node::Bool(true))?,
                0x89 => self.push(Node::Bool(false))?,
                // BININT1, BININT2, BININT, LONG1
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.push(Node::Integer(i64::from(number)))?;
                }
                0x8a => self.long()?,

                // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
                0x8c => self.text(1)?,
                b'X' => self.text(4)?,
                0x8d => self.text(8)?,
                // SHORT_BINSTRING and SHORT_BINBYTES, BINSTRING and BINBYTES, BINBYTES8, BYTEARRAY8
                b'U' | b'C' => self.string(1)?,
                b'T' | b'B' => self.string(4)?,
                0x8e | 0x96 => self.string(8)?,

                // MARK
                b'(' => self.marks.push(self.stack.len()),
                // EMPTY_LIST, APPEND, APPENDS
                b']' => self.push(Node::List(Vec::new()))?,
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(items)?;
                }
                // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
                b')' => self.push(Node::Tuple(Vec::new()))?,
                0x85..=0x87 => {
                    let items = self.pop_many(usize::from(opcode - 0x84))?;
                    self.push(Node::Tuple(items))?;
                }
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Node::Tuple(items))?;
                }
                // EMPTY_DICT, SETITEM, SETITEMS
                b'}' => self.push(Node::Dict(Vec::new()))?,
                b's' => {
                    let entry = self.pop_many(2)?;
                    self.set_items(&entry)?;
                }
                b'u' => {
                    let entries = self.pop_to_mark()?;
                    self.set_items(&entries)?;
                }

                // BINPUT, LONG_BINPUT, MEMOIZE
                b'q' => self.remember(1)?,
                b'r' => self.remember(4)?,
                0x94 => {
                    let value = self.top()?;
                    self.memo.insert(self.memo.len() as u32, value);
                }
                // BINGET, LONG_BINGET
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,

                // GLOBAL, STACK_GLOBAL
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.global(module, name)?;
                }
                0x93 => {
                    let [module, name] = self.pop_array()?;
                    match (self.node(module), self.node(name)) {
                        (&Node::Text(module), &Node::Text(name)) => self.global(module, name)?,
                        _ => return Err("a function's name is not text".to_owned()),
                    }
                }
                // REDUCE, BUILD
                b'R' => self.call()?,
                b'b' => self.build()?,

                // STOP
                b'.' => return self.pop(),
                _ => {
                    self.at = start;
                    return Err(format!(
                        "this pickle holds the instruction {opcode:#04x}, which CIFAR files never do"
                    ));
                }
            }
        }
    }

    // The file.

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let left = &self.bytes[self.at..];
        let Some(taken) = left.get(..count) else {
            let left = left.len();
            return Err(format!(
                "the file ends too early: {count} more bytes expected, {left} left"
            ));
        };
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// An unsigned number of 1 to 8 bytes, the lowest first.
    fn unsigned(&mut self, bytes: usize) -> Step<u64> {
        let mut array = [0; 8];
        array[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(u64::from_le_bytes(array))
    }

    fn counted(&mut self, length_bytes: usize) -> Step<&'a [u8]> {
        let length = self.unsigned(length_bytes)?;
        // A length beyond the address space is beyond the file, too.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Step<&'a str> {
        let left = &self.bytes[self.at..];
        let end = left.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or("the file ends within a name")?;
        let line = self.take(end + 1)?;
        std::str::from_utf8(&line[..end]).map_err(|_| "a name is not UTF-8".to_owned())
    }

    // Values.

    fn integer(&mut self, bytes: usize) -> Step<()> {
        let number = self.unsigned(bytes)? as i64;
        self.push(Node::Integer(number))
    }

    /// Two's complement, as many bytes as the first byte says.
    fn long(&mut self) -> Step<()> {
        let bytes = self.counted(1)?;
        if bytes.len() > 8 {
            return Err(format!("a number of {} bytes", bytes.len()));
        }
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut array = [if negative { 0xff } else { 0 }; 8];
        array[..bytes.len()].copy_from_slice(bytes);
        self.push(Node::Integer(i64::from_le_bytes(array)))
    }

    fn text(&mut self, length_bytes: usize) -> Step<()> {
        let bytes = self.counted(length_bytes)?;
        let text = std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8")?;
        self.push(Node::Text(text))
    }

    fn string(&mut self, length_bytes: usize) -> Step<()> {
        let bytes = self.counted(length_bytes)?;
        self.push(Node::Bytes(Cow::Borrowed(bytes)))
    }

    fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    fn push(&mut self, node: Node<'a>) -> Step<()> {
        if self.nodes.len() >= MOST_VALUES {
            return Err(format!("more than {MOST_VALUES} values"));
        }
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
        Ok(())
    }

    // The stack. A mark shields what lies below it.

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Step<Id> {
        let above = &self.stack[self.floor()..];
        above.last().copied().ok_or_else(empty)
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Step<Vec<Id>> {
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= self.floor() => Ok(self.stack.split_off(start)),
            _ => Err(empty()),
        }
    }

    fn pop_array<const N: usize>(&mut self) -> Step<[Id; N]> {
        <[Id; N]>::try_from(self.pop_many(N)?).map_err(|_| empty())
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("there is no mark on the stack")?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, more: Vec<Id>) -> Step<()> {
        let list = self.top()?;
        match &mut self.nodes[list as usize] {
            Node::List(items) => items.extend(more),
            _ => return Err("items for what is no list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, entries: &[Id]) -> Step<()> {
        let dict = self.top()?;
        let (pairs, rest) = entries.as_chunks::<2>();
        match &mut self.nodes[dict as usize] {
            Node::Dict(items) if rest.is_empty() => {
                items.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            _ => Err("entries for what is no dict, or a key without a value".to_owned()),
        }
    }

    fn remember(&mut self, bytes: usize) -> Step<()> {
        let number = self.unsigned(bytes)? as u32;
        let value = self.top()?;
        self.memo.insert(number, value);
        Ok(())
    }

    fn recall(&mut self, bytes: usize) -> Step<()> {
        let number = self.unsigned(bytes)? as u32;
        let value = self.memo.get(&number);
        let value = value.ok_or_else(|| format!("value {number} was never stored"))?;
        self.stack.push(*value);
        Ok(())
    }

    // Functions.

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        // numpy 2 moved `numpy.core` to `numpy._core`.
        let function = match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Function::Reconstruct
            }
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Function::FromBuffer,
            ("numpy", "ndarray") => Function::ArrayType,
            ("numpy", "dtype") => Function::DType,
            ("_codecs", "encode") => Function::Encode,
            _ => {
                return Err(format!(
                    "this pickle asks for {}.{}, which CIFAR files never do",
                    module.escape_debug(),
                    name.escape_debug()
                ));
            }
        };
        self.push(Node::Function(function))
    }

    /// `REDUCE`: calls the function below the arguments on top.
    fn call(&mut self) -> Step<()> {
        let [function, arguments] = self.pop_array()?;
        let &Node::Function(function) = self.node(function) else {
            return Err("a call of what is no function".to_owned());
        };
        let Node::Tuple(arguments) = self.node(arguments) else {
            return Err("a call without arguments".to_owned());
        };
        let argument = |at: usize| arguments.get(at).map(|&id| self.node(id));
        let made = match (function, argument(0), argument(1)) {
            (Function::Reconstruct, Some(Node::Function(Function::ArrayType)), _) => Node::Array {
                shape: vec![0],
                bytes: Cow::Borrowed(&[]),
            },
            (Function::FromBuffer, Some(Node::Bytes(bytes)), Some(Node::ByteType)) => {
                let order = argument(3);
                let fortran = matches!(order, Some(Node::Text("F")));
                if !fortran && !matches!(order, Some(Node::Text("C"))) {
                    return Err("an array in an order that is neither C nor F".to_owned());
                }
                let shape = self.shape(argument(2))?;
                self.filled(shape, bytes.clone(), fortran)?
            }
            (Function::DType, Some(Node::Text("u1") | Node::Bytes(Cow::Borrowed(b"u1"))), _) => {
                Node::ByteType
            }
            (Function::DType, Some(Node::Bytes(Cow::Owned(name))), _) if name == b"u1" => {
                Node::ByteType
            }
            (Function::DType, _, _) => {
                return Err("an array of something other than bytes (dtype u1)".to_owned());
            }
            (Function::Encode, Some(&Node::Text(text)), Some(Node::Text("latin1" | "latin-1"))) => {
                let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
                let bytes = bytes.ok_or("bytes written as text, with a character above 255")?;
                self.spend(bytes.len())?;
                Node::Bytes(Cow::Owned(bytes))
            }
            _ => return Err(format!("arguments that {function:?} does not take")),
        };
        self.push(made)
    }

    /// `BUILD`: gives the value below the state on top.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let target = self.top()?;
        match self.node(target) {
            // Byte order and alignment say nothing about single bytes.
            Node::ByteType => Ok(()),
            Node::Array { .. } => {
                let Node::Tuple(state) = self.node(state) else {
                    return Err("an array's state is no tuple".to_owned());
                };
                // (version, shape, dtype, whether in Fortran's order, elements)
                let [_, shape, dtype, fortran, bytes] = state[..] else {
                    return Err("an array's state is not five values".to_owned());
                };
                let (Node::ByteType, Node::Bytes(bytes)) = (self.node(dtype), self.node(bytes))
                else {
                    return Err("an array of something other than bytes".to_owned());
                };
                let fortran = match self.node(fortran) {
                    Node::Bool(fortran) => *fortran,
                    Node::Integer(number) => *number != 0,
                    _ => return Err("an array in no known order".to_owned()),
                };
                let shape = self.shape(Some(self.node(shape)))?;
                let array = self.filled(shape, bytes.clone(), fortran)?;
                self.nodes[target as usize] = array;
                Ok(())
            }
            _ => Err("a state for what has none".to_owned()),
        }
    }

    /// Accounts for bytes that are copied rather than borrowed. An honest file has each of its
    /// bytes copied twice at most; one that names the same bytes again and again could ask for
    /// the square of its own length.
    fn spend(&self, bytes: usize) -> Step<()> {
        self.copied.set(self.copied.get() + bytes);
        if self.copied.get() > 4 * self.bytes.len() {
            return Err("it unfolds to many times its own length".to_owned());
        }
        Ok(())
    }

    fn shape(&self, node: Option<&Node>) -> Step<Vec<usize>> {
        let Some(Node::Tuple(sizes)) = node else {
            return Err("an array without a shape".to_owned());
        };
        let size = |&id: &Id| match self.node(id) {
            Node::Integer(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        let shape: Option<Vec<usize>> = sizes.iter().map(size).collect();
        shape.ok_or_else(|| "an array's shape is not made of sizes".to_owned())
    }

    fn filled(&self, shape: Vec<usize>, bytes: Cow<'a, [u8]>, fortran: bool) -> Step<Node<'a>> {
        let elements = shape
            .iter()
            .try_fold(1usize, |n, &size| n.checked_mul(size));
        if elements != Some(bytes.len()) {
            let got = bytes.len();
            return Err(format!("an array of shape {shape:?} with {got} bytes"));
        }
        if fortran || matches!(bytes, Cow::Owned(_)) {
            self.spend(bytes.len())?;
        }
        let bytes = match shape[..] {
            // Column by column → row by row.
            [rows, columns] if fortran => (0..rows * columns)
                .map(|i| bytes[i % columns * rows + i / columns])
                .collect(),
            _ => bytes,
        };
        Ok(Node::Array { shape, bytes })
    }
}

fn empty() -> String {
    "a value is missing from the stack".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn problem(bytes: &[u8]) -> String {
        parse(bytes, "file").unwrap_err().to_string()
    }

    #[test]
    fn plain_values() {
        // pickletools: {'a': [1, -2, 300, 70000, -1, None, True], b'b': ('c', ())}
        let bytes =
            b"\x80\x02}q\x00(X\x01\x00\x00\x00a](K\x01J\xfe\xff\xff\xffM\x2c\x01J\x70\x11\x01\
                      \x00\x8a\x01\xffN\x88eU\x01bX\x01\x00\x00\x00c)\x86u.";
        let pickle = parse(bytes, "file").unwrap();
        let a: Vec<_> = pickle.root().get("a").unwrap().items().unwrap().collect();
        let numbers: Vec<_> = a.iter().map(|value| value.integer()).collect();
        assert_eq!(
            numbers,
            [
                Some(1),
                Some(-2),
                Some(300),
                Some(70000),
                Some(-1),
                None,
                None
            ]
        );
        let b: Vec<_> = pickle.root().get("b").unwrap().items().unwrap().collect();
        assert_eq!(b[0].text().unwrap(), "c");
        assert_eq!(b[1].items().unwrap().len(), 0);
        assert!(pickle.root().get("c").is_none());
        assert_eq!(pickle.root().to_string(), "a dict");
    }

    #[test]
    fn a_stored_list_is_filled_through_either_name() {
        // l = []; (l, l) with the first filled after it was stored.
        let pickle = parse(b"\x80\x02]q\x00K\x07ah\x00\x86.", "file").unwrap();
        for list in pickle.root().items().unwrap() {
            assert_eq!(list.items().unwrap().next().unwrap().integer(), Some(7));
        }
    }

    #[test]
    fn nothing_else_can_be_called() {
        assert_eq!(
            problem(b"\x80\x02cos\nsystem\n(X\x06\x00\x00\x00echo 1tR."),
            "file, byte 13: this pickle asks for os.system, which CIFAR files never do"
        );
        let stack_global = problem(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.");
        assert!(
            stack_global.contains("asks for builtins.eval"),
            "{stack_global}"
        );
        let lookalike = problem(b"\x80\x02cnumpy\nload\n.");
        assert!(lookalike.contains("asks for numpy.load"), "{lookalike}");
        // INST, OBJ, NEWOBJ, PERSID, EXT1
        for opcode in [b'i', b'o', 0x81, b'P', 0x82] {
            let error = problem(&[0x80, 2, opcode, b'.']);
            assert!(
                error.starts_with("file, byte 2: this pickle holds"),
                "{error}"
            );
        }
    }

    #[test]
    fn lengths_are_checked_before_they_are_believed() {
        let long = problem(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc");
        assert!(long.contains("3 left"), "{long}");
        assert!(problem(b"\x80\x02T\xff\xff\xff\x7fabc").contains("3 left"));
        assert!(problem(b"").contains("ends too early"));
        assert!(problem(b"\x80\x02.").contains("missing from the stack"));
        assert!(problem(b"\x80\x02h\x05.").contains("never stored"));
        assert!(problem(b"\x80\x09.").contains("protocol 9"));
    }

    #[test]
    fn bombs_do_not_go_off() {
        // A million lists, each in the one before: nothing recurses, neither here nor in the drop.
        let deep = |levels| [vec![b']'; levels], vec![b'a'; levels - 1], vec![b'.']].concat();
        assert!(parse(&deep(1_000_000), "file").is_ok());
        assert!(problem(&deep(2_000_000)).contains("more than 1048576 values"));
        // A list that contains itself.
        assert!(parse(b"]q\x00h\x00a.", "file").is_ok());
        // A long text, encoded again and again.
        let mut repeat = b"c_codecs\nencode\nq\x00X\x00\x10\x00\x00".to_vec();
        repeat.extend([b'x'; 4096]);
        repeat.extend(b"q\x01X\x06\x00\x00\x00latin1q\x02");
        for _ in 0..1000 {
            repeat.extend(b"h\x00h\x01h\x02\x86R");
        }
        assert!(problem(&repeat).contains("many times its own length"));
        // An array larger than memory, with three bytes.
        let array = problem(
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R\
              (K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\
              \x89U\x03abctb.",
        );
        assert!(
            array.contains("[2147483647, 2147483647] with 3 bytes"),
            "{array}"
        );
    }

    #[test]
    fn arrays_of_anything_but_bytes_are_refused() {
        let error = problem(b"\x80\x02cnumpy\ndtype\nU\x02i8K\x00K\x01\x87R.");
        assert!(error.contains("other than bytes"), "{error}");
    }

    /// Every way to cut a real file short fails, and no change of bytes does worse than fail.
    #[test]
    fn damage_never_panics() {
        let fixtures: [&[u8]; 3] = [
            include_bytes!("../../tests/fixtures/pickle/cifar-10-batches-py/test_batch"),
            include_bytes!("../../tests/fixtures/pickle/protocol2"),
            include_bytes!("../../tests/fixtures/pickle/protocol5"),
        ];
        for (number, whole) in (0u64..).zip(fixtures) {
            assert!(parse(whole, "file").is_ok());
            for end in 0..whole.len() {
                assert!(parse(&whole[..end], "file").is_err(), "{end}");
            }
            let mut bytes = whole.to_vec();
            for at in 0..whole.len() {
                bytes[at] ^= 1 << (at % 8);
                _ = parse(&bytes, "file");
                bytes[at] = whole[at];
            }
            let mut random = Stream::new(20, Purpose::Show, 0, number);
            for _ in 0..1000 {
                for _ in 0..1 + random.below(8) {
                    // Mostly outside of the pixels, where the instructions are.
                    let from_start = random.below(400);
                    let at = match random.below(2) {
                        0 => from_start,
                        _ => whole.len() - 1 - from_start,
                    };
                    bytes[at] = random.next() as u8;
                }
                if let Ok(pickle) = parse(&bytes, "file") {
                    _ = pickle.root().get("data").map(|value| value.array());
                }
                bytes.copy_from_slice(whole);
            }
        }
    }
}
