//! Deflate by libdeflate's most patient level: 4 % smaller than zlib's best, which in a router's
//! flash and on its uplink counts more than a second here.

use libdeflater::{CompressionLvl, Compressor, Crc};

use crate::Error;

/// ID, deflate, no fields; no time, as `gzip -n`; 2: the most patient; 3: Unix (RFC 1952, 2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3];

/// A gzip member (RFC 1952).
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut all = GZIP_HEADER.to_vec();
    all.extend(raw(bytes)?);
    let mut sum = Crc::new();
    sum.update(bytes);
    all.extend(sum.sum().to_le_bytes());
    // Modulo 2^32, as the format has it.
    all.extend((bytes.len() as u32).to_le_bytes());
    Ok(all)
}

/// A raw deflate stream (RFC 1951).
pub fn raw(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut compressor = Compressor::new(CompressionLvl::best());
    let mut all = vec![0; compressor.deflate_compress_bound(bytes.len())];
    let length = compressor.deflate_compress(bytes, &mut all)?;
    all.truncate(length);
    Ok(all)
}
