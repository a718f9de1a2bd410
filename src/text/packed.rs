//! Compressed files, unpacked while they are read: gzip and Zstandard.

use flate2::bufread::GzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{BufRead, Error, ErrorKind, Read, Result};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip, with one member or several.
    Gzip,
    /// Zstandard, with one frame or several.
    Zstd,
}

const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// The largest accepted window of a Zstandard archive: that of `zstd --long=31`.
const WIDEST_WINDOW: u64 = 1 << 31;

/// Whether a Zstandard frame with this magic number holds no data.
fn is_skipped(magic: [u8; 4]) -> bool {
    magic[0] & 0xF0 == 0x50 && magic[1..] == [0x2A, 0x4D, 0x18]
}

impl Packing {
    /// The compression of a file that begins with `head`.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head.first_chunk()? {
            [0x1F, 0x8B, 8, _] => Some(Packing::Gzip),
            magic if *magic == ZSTD || is_skipped(*magic) => Some(Packing::Zstd),
            _ => None,
        }
    }

    /// What such a file is called, and the command that tests it.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Packing::Gzip => ("gzip archive", "gzip -t"),
            Packing::Zstd => ("Zstandard archive", "zstd -t"),
        }
    }

    /// The content of `source`. `garbage` is called if other data follow the archive; they are ignored, as by gzip.
    pub fn unpack<'a>(
        self,
        source: impl BufRead + Send + 'a,
        garbage: impl FnMut() + Send + 'a,
    ) -> Box<dyn Read + Send + 'a> {
        match self {
            Packing::Gzip => Box::new(Gzip { member: Some(GzDecoder::new(source)), garbage }),
            Packing::Zstd => {
                let mut frames = FrameDecoder::new();
                frames.set_max_window_size(WIDEST_WINDOW);
                Box::new(Zstd { frames, source, within: false })
            }
        }
    }

    /// The number of bytes of `packed` after unpacking, as far as known in advance.
    pub fn size_hint(self, packed: &[u8]) -> usize {
        match (self, packed.last_chunk()) {
            // The length of the last member; gzip compresses by a factor of at most 1032.
            (Packing::Gzip, Some(&length)) => {
                (u32::from_le_bytes(length) as usize).min(packed.len().saturating_mul(1032))
            }
            _ => packed.len(),
        }
    }
}

/// Reads one member after another.
struct Gzip<R, G> {
    /// None after the last one.
    member: Option<GzDecoder<R>>,
    /// Called if other data follow.
    garbage: G,
}

impl<R: BufRead, G: FnMut()> Read for Gzip<R, G> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let mut source = self.member.take().expect("it was there").into_inner();
            // Some programs pad blocks with zeros.
            while source.fill_buf()?.first() == Some(&0) {
                let zeros = source.fill_buf()?.iter().take_while(|&&byte| byte == 0).count();
                source.consume(zeros);
            }
            match source.fill_buf()? {
                [] => {}
                [0x1F] | [0x1F, 0x8B, ..] => self.member = Some(GzDecoder::new(source)),
                _ => (self.garbage)(),
            }
        }
        Ok(0)
    }
}

/// Reads one frame after another.
struct Zstd<R> {
    frames: FrameDecoder,
    source: R,
    /// Whether a frame has begun that has not been read to its end.
    within: bool,
}

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame with data; false if there is none.
    fn next_frame(&mut self) -> Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            let mut magic = [0; 4];
            self.source.read_exact(&mut magic)?;
            if !is_skipped(magic) {
                self.frames.init(magic.chain(&mut self.source)).map_err(damaged)?;
                return Ok(true);
            }
            let mut length = [0; 4];
            self.source.read_exact(&mut length)?;
            let length = u64::from(u32::from_le_bytes(length));
            if std::io::copy(&mut self.source.by_ref().take(length), &mut std::io::sink())? < length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.within || self.next_frame()? {
            self.within = true;
            while self.frames.can_collect() == 0 && !self.frames.is_finished() {
                let blocks = BlockDecodingStrategy::UptoBytes(1 << 17);
                self.frames.decode_blocks(&mut self.source, blocks).map_err(damaged)?;
            }
            let read = self.frames.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let sums = (self.frames.get_checksum_from_data(), self.frames.get_calculated_checksum());
            if let (Some(written), Some(found)) = sums
                && written != found
            {
                return Err(Error::new(ErrorKind::InvalidData, "its checksum differs"));
            }
            self.within = false;
        }
        Ok(0)
    }
}

fn damaged(error: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn unpacked(packed: &[u8]) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let garbage = || panic!("there is something behind the archive");
        Packing::of(packed).expect("packed").unpack(packed, garbage).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn parts_follow_each_other() {
        let (one, two) = ("one two\n".repeat(5000), "three\n");
        let whole = [one.as_bytes(), two.as_bytes()].concat();
        for pack in [gzip, zstd] {
            assert_eq!(unpacked(&pack(&whole)).unwrap(), whole);
            assert_eq!(unpacked(&[pack(one.as_bytes()), pack(two.as_bytes())].concat()).unwrap(), whole);
            assert_eq!(unpacked(&pack(b"")).unwrap(), b"");
        }
        assert_eq!(unpacked(&[gzip(two.as_bytes()), vec![0; 100]].concat()).unwrap(), two.as_bytes());
        let skipped = b"\x5A\x2A\x4D\x18\x03\0\0\0abc";
        assert_eq!(unpacked(&[skipped, &zstd(two.as_bytes())[..], skipped].concat()).unwrap(), two.as_bytes());
        assert_eq!(Packing::of(b"\x1F\x8B"), None);
        assert_eq!(Packing::of(b"text"), None);
    }

    #[test]
    fn damage_is_found() {
        let text: Vec<u8> =
            (0..20_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_string().into_bytes()).collect();
        for pack in [gzip, zstd] {
            let packed = pack(&text);
            for length in [4, 5, 12, packed.len() / 2, packed.len() - 1] {
                assert!(unpacked(&packed[..length]).is_err(), "{length}");
            }
            let mut changed = packed.clone();
            let middle = changed.len() / 2;
            changed[middle] ^= 0xFF;
            assert!(unpacked(&changed).is_err());
        }
        assert!(unpacked(&[&zstd(&text), &b"more"[..]].concat()).is_err());
    }

    #[test]
    fn garbage_behind_an_archive_is_left_out() {
        for more in [&b"more"[..], b"\0\0more", b"\x1F more", b"."] {
            let packed = [&gzip(b"one"), more].concat();
            let (mut all, mut found) = (String::new(), 0);
            Packing::Gzip.unpack(&packed[..], || found += 1).read_to_string(&mut all).unwrap();
            assert_eq!((all.as_str(), found), ("one", 1), "{more:?}");
        }
        // Another member that is truncated is not ignored.
        assert!(unpacked(&[gzip(b"one"), gzip(b"two")[..9].to_vec()].concat()).is_err());
    }
}
