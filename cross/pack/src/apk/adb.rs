//! apk's database of values (apk-tools, `src/adb.h`, `src/adb.c`). A value is a little-endian word:
//! a type in the high four bits, and in the others either a small number or the offset of what
//! lies before it in the database. Numbers and words of the same bytes are written once.

use std::collections::HashMap;

use crate::Error;

const INT: u32 = 1 << 28;
const INT_32: u32 = 2 << 28;
const INT_64: u32 = 3 << 28;
const BLOB_8: u32 = 8 << 28;
const BLOB_16: u32 = 9 << 28;
const BLOB_32: u32 = 10 << 28;
/// Arrays have a type of their own (13), but apk's own tools give them this one, and read both.
const OBJECT: u32 = 14 << 28;
const OFFSET: u32 = INT - 1;

/// Version of the format, twice (u8), two bytes reserved, the root's value.
const HEADER: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(u32);

impl Value {
    pub const NULL: Self = Self(0);
}

pub struct Writer {
    bytes: Vec<u8>,
    written: HashMap<Vec<u8>, usize>,
}

impl Writer {
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADER], written: HashMap::new() }
    }

    pub fn int(&mut self, number: u64) -> Value {
        match u32::try_from(number) {
            Ok(small) if small < INT => Value(INT | small),
            Ok(number) => self.shared(INT_32, &number.to_le_bytes(), 4),
            Err(_) => self.shared(INT_64, &number.to_le_bytes(), 4),
        }
    }

    pub fn blob(&mut self, bytes: &[u8]) -> Value {
        if bytes.is_empty() {
            return Value::NULL;
        }
        let (kind, bytes, alignment) = with_length(bytes);
        self.shared(kind, &bytes, alignment)
    }

    pub fn text(&mut self, text: &str) -> Value {
        self.blob(text.as_bytes())
    }

    /// Room for `length` bytes (fewer than 256) that [`Writer::finish`]'s caller fills in; shared
    /// with nothing.
    pub fn room(&mut self, length: u8) -> (Value, usize) {
        let (kind, bytes, alignment) = with_length(&vec![0; length.into()]);
        let offset = self.raw(&bytes, alignment);
        (Value(kind | value(offset)), offset + 1)
    }

    /// An object, whose field 1 is `values[0]`, or an array; of nothing it is none.
    pub fn object(&mut self, values: &[Value]) -> Value {
        let used = values.iter().rposition(|value| *value != Value::NULL).map_or(0, |last| last + 1);
        if used == 0 {
            return Value::NULL;
        }
        // The first slot counts all, itself included.
        let mut bytes = value(used + 1).to_le_bytes().to_vec();
        for value in &values[..used] {
            bytes.extend_from_slice(&value.0.to_le_bytes());
        }
        self.shared(OBJECT, &bytes, 4)
    }

    /// # Errors
    /// If the offsets outgrew their 28 bits.
    pub fn finish(mut self, root: Value) -> Result<Vec<u8>, Error> {
        if self.bytes.len() > OFFSET as usize {
            return Err(Error::TooBig { what: "the database of an apk", bytes: self.bytes.len() });
        }
        self.bytes[4..HEADER].copy_from_slice(&root.0.to_le_bytes());
        Ok(self.bytes)
    }

    /// Written once, unless what is there lies at an odd place for it.
    fn shared(&mut self, kind: u32, bytes: &[u8], alignment: usize) -> Value {
        let offset = match self.written.get(bytes) {
            Some(offset) if offset % alignment == 0 => *offset,
            _ => {
                let offset = self.raw(bytes, alignment);
                self.written.insert(bytes.to_vec(), offset);
                offset
            }
        };
        Value(kind | value(offset))
    }

    fn raw(&mut self, bytes: &[u8], alignment: usize) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        offset
    }
}

/// `finish` refuses a database in which this cut anything off.
fn value(offset: usize) -> u32 {
    offset as u32 & OFFSET
}

/// A blob's type, its bytes with the length before them, and their alignment, the length's own.
fn with_length(blob: &[u8]) -> (u32, Vec<u8>, usize) {
    let (kind, mut bytes) = match (u8::try_from(blob.len()), u16::try_from(blob.len())) {
        (Ok(length), _) => (BLOB_8, vec![length]),
        (_, Ok(length)) => (BLOB_16, length.to_le_bytes().to_vec()),
        // Longer than the type can say it is longer than the whole may be, which `finish` refuses.
        _ => (BLOB_32, (blob.len() as u32).to_le_bytes().to_vec()),
    };
    let alignment = bytes.len();
    bytes.extend_from_slice(blob);
    (kind, bytes, alignment)
}

#[cfg(test)]
mod tests {
    use super::{Value, Writer};

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn numbers_take_the_smallest_form() {
        let mut writer = Writer::new();
        assert_eq!(writer.int(0), Value(0x1000_0000));
        assert_eq!(writer.int(0x0fff_ffff), Value(0x1fff_ffff));
        assert_eq!(writer.int(0x1000_0000), Value(0x2000_0008));
        assert_eq!(writer.int(0x1_0000_0000), Value(0x3000_000c));
        assert_eq!(writer.int(0x1000_0000), Value(0x2000_0008), "once");
        let root = writer.object(&[]);
        assert_eq!(words(&writer.finish(root).unwrap()), [0, 0, 0x1000_0000, 0, 1]);
    }

    #[test]
    fn blobs_are_aligned_to_their_length_and_written_once() {
        let mut writer = Writer::new();
        assert_eq!(writer.blob(b""), Value::NULL);
        assert_eq!(writer.text("ab"), Value(0x8000_0008));
        assert_eq!(writer.text("cd"), Value(0x8000_000b));
        assert_eq!(writer.blob(&[7; 255]), Value(0x8000_000e));
        assert_eq!(writer.blob(&[7; 256]), Value(0x9000_010e));
        assert_eq!(writer.blob(&[7; 65535]), Value(0x9000_0210));
        assert_eq!(writer.blob(&[7; 65536]), Value(0xa001_0214));
        assert_eq!(writer.text("ab"), Value(0x8000_0008), "once");
        let bytes = writer.finish(Value::NULL).unwrap();
        assert_eq!(&bytes[8..14], b"\x02ab\x02cd");
        assert_eq!((&bytes[0x10e..0x110], &bytes[0x1_0214..0x1_0218]), (&[0, 1][..], &[0, 0, 1, 0][..]));
    }

    #[test]
    fn what_lies_at_an_odd_place_is_written_again() {
        let mut writer = Writer::new();
        writer.text("x");
        // An object of one value has the bytes of a blob that ends at no multiple of four.
        let item = writer.int(5);
        let as_object = [2, 0, 0, 0, 5, 0, 0, 0x10];
        assert_eq!(writer.raw(&as_object, 1), 10);
        writer.written.insert(as_object.to_vec(), 10);
        assert_eq!(writer.object(&[item]), Value(0xe000_0014));
        assert_eq!(writer.object(&[item]), Value(0xe000_0014), "and found there from now on");
    }

    #[test]
    fn objects_end_with_their_last_field() {
        let mut writer = Writer::new();
        let five = writer.int(5);
        let object = writer.object(&[Value::NULL, five, Value::NULL]);
        assert_eq!(object, Value(0xe000_0008));
        assert_eq!(writer.object(&[Value::NULL; 3]), Value::NULL);
        assert_eq!(writer.object(&[]), Value::NULL);
        let bytes = writer.finish(object).unwrap();
        assert_eq!(words(&bytes), [0, 0xe000_0008, 3, 0, 0x1000_0005]);
    }

    #[test]
    fn room_is_not_shared() {
        let mut writer = Writer::new();
        assert_eq!(writer.room(2), (Value(0x8000_0008), 9));
        assert_eq!(writer.blob(&[0, 0]), Value(0x8000_000b));
    }

    #[test]
    fn a_database_beyond_its_offsets_is_refused() {
        let mut writer = Writer::new();
        writer.raw(&vec![0; 1 << 28], 1);
        let error = writer.finish(Value::NULL).unwrap_err().to_string();
        assert_eq!(error, "the database of an apk: 268435464 bytes are more than its format can hold");
    }
}
