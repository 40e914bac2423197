//! The file around an apk's database: a header, blocks of eight-byte alignment, and the whole of
//! it deflated (apk-tools, `src/adb.h`, `src/adb_comp.c`).

use super::package::Folder;
use crate::{Error, Kind, deflate};

/// Format and schema, `pckg` as a little-endian word.
const HEADER: &[u8; 8] = b"ADB.pckg";
/// What follows is a raw deflate stream.
const DEFLATED: &[u8] = b"ADBd";

/// Type of a block, in the two high bits of its word; the others are its size with that word.
const ADB: u32 = 0;
const DATA: u32 = 2;
const SIZE: usize = (1 << 30) - 1;

/// The database, and the content of each file that has any. There is no signature: OpenWrt signs
/// indexes of packages.
pub fn assemble(adb: &[u8], folders: &[Folder<'_>]) -> Result<Vec<u8>, Error> {
    let mut all = HEADER.to_vec();
    block(&mut all, ADB, &[adb])?;
    for (folder, path) in folders.iter().zip(1u32..) {
        for ((_, node), file) in folder.1.iter().zip(1u32..) {
            match &node.kind {
                // Where it belongs: number of the folder, number of the file in it.
                Kind::File(bytes) if !bytes.is_empty() => {
                    block(&mut all, DATA, &[&path.to_le_bytes(), &file.to_le_bytes(), bytes])?;
                }
                _ => {}
            }
        }
    }
    Ok(all)
}

fn block(all: &mut Vec<u8>, kind: u32, parts: &[&[u8]]) -> Result<(), Error> {
    let size = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    if size > SIZE {
        return Err(Error::TooBig { what: "a block of an apk", bytes: size });
    }
    all.extend_from_slice(&(kind << 30 | size as u32).to_le_bytes());
    for part in parts {
        all.extend_from_slice(part);
    }
    all.resize(all.len().next_multiple_of(8), 0);
    Ok(())
}

pub fn deflated(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    Ok([DEFLATED, &deflate::raw(bytes)?].concat())
}

#[cfg(test)]
mod tests {
    use super::{ADB, DATA, block};

    #[test]
    fn blocks_count_their_word_and_end_at_eight() {
        let mut all = b"12345678".to_vec();
        block(&mut all, ADB, &[b"abcd"]).unwrap();
        block(&mut all, DATA, &[b"a", b"b"]).unwrap();
        assert_eq!(&all[8..], b"\x08\0\0\0abcd\x06\0\0\x80ab\0\0");
    }
}
