//! Recognises, by their first bytes, files that are not the text or table they were given for.

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it is, such as "a PDF document".
    pub what: &'static str,
    /// What to do about it, phrased to follow "expected".
    pub then: &'static str,
}

/// One way to recognise a kind of file.
struct Mark {
    /// The position of the magic bytes.
    at: usize,
    magic: &'static [u8],
    /// Whether a text could begin with them: then a control character that no text has is required, too.
    like_text: bool,
    signature: Signature,
}

/// Number of bytes examined at the beginning of a file.
pub const HEAD: usize = 4096;

const fn mark(magic: &'static [u8], what: &'static str, then: &'static str) -> Mark {
    Mark { at: 0, magic, like_text: false, signature: Signature { what, then } }
}

const fn like_text(mark: Mark) -> Mark {
    Mark { like_text: true, ..mark }
}

const fn at(at: usize, mark: Mark) -> Mark {
    Mark { at, ..mark }
}

const LFS: &str = "the file itself: `git lfs pull` fetches it";
const TABLE: &str = "text: write it as CSV with pandas or pyarrow";
const TENSORS: &str = "text: these are the weights of a model";
const IMAGE: &str = "text, not an image";
const PROGRAM: &str = "text, not a program";
const OFFICE: &str = "plain text: save it as text (UTF-8) or CSV from the program that created it";
const SOUND: &str = "text, not audio or video";

/// All kinds. The first match counts.
#[rustfmt::skip]
const MARKS: &[Mark] = &[
    // Stand-ins for the actual file.
    mark(b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file itself", LFS),
    mark(b"version https://hawser.github.com/spec/", "a Git LFS pointer, not the file itself", LFS),
    mark(b"/annex/objects/", "a git-annex pointer, not the file itself", "the file itself: `git annex get FILE` fetches it"),
    // Archives that are not unpacked here.
    mark(b"\xFD7zXZ\0", "an xz archive", "text; unpack it: xz -dk FILE"),
    mark(b"\x5D\0\0\x80\0", "an LZMA archive", "text; unpack it: xz -dk --format=lzma FILE"),
    mark(b"\x5D\0\0\0\x04", "an LZMA archive", "text; unpack it: xz -dk --format=lzma FILE"),
    mark(b"BZh11AY&SY", "a bzip2 archive", "text; unpack it: bunzip2 -k FILE"),
    at(4, mark(b"1AY&SY", "a bzip2 archive", "text; unpack it: bunzip2 -k FILE")),
    mark(b"7z\xBC\xAF\x27\x1C", "a 7-Zip archive", "text; unpack it: 7z x FILE"),
    mark(b"Rar!\x1A\x07", "a RAR archive", "text; unpack it: unrar x FILE"),
    mark(b"\x04\x22\x4D\x18", "an LZ4 archive", "text; unpack it: lz4 -dk FILE"),
    mark(b"\x02\x21\x4C\x18", "an LZ4 archive", "text; unpack it: lz4 -dk FILE"),
    mark(b"\x1F\x9D", "a compress archive (.Z)", "text; unpack it: gzip -dk FILE"),
    mark(b"\x1F\xA0", "a compress archive (.z)", "text; unpack it: gzip -dk FILE"),
    mark(b"LZIP\x01", "an lzip archive", "text; unpack it: lzip -dk FILE"),
    mark(b"\xFF\x06\0\0sNaPpY", "a Snappy archive", "text; unpack it: snzip -dk FILE"),
    mark(b"\x89LZO\0\r\n\x1A\n", "an LZO archive", "text; unpack it: lzop -dk FILE"),
    mark(b"x\x9C", "zlib-compressed data", "text; unpack it: python3 -c 'import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))' < FILE"),
    mark(b"x\xDA", "zlib-compressed data", "text; unpack it: python3 -c 'import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))' < FILE"),
    mark(b"PK\x03\x04", "a zip archive", "text; unpack it: unzip FILE"),
    mark(b"PK\x05\x06", "an empty zip archive", "text"),
    at(257, mark(b"ustar", "a tar archive", "text; unpack it: tar -xf FILE")),
    // Arrays, tensors and models of other programs.
    mark(b"\x93NUMPY", "a NumPy array (.npy)", "text: numpy.savetxt(\"a.txt\", numpy.load(\"FILE\"))"),
    mark(b"\x80\x02", "a Python pickle", "text: load it in Python and write it as text"),
    mark(b"\x80\x03", "a Python pickle", "text: load it in Python and write it as text"),
    mark(b"\x80\x04\x95", "a Python pickle", "text: load it in Python and write it as text"),
    mark(b"\x80\x05\x95", "a Python pickle", "text: load it in Python and write it as text"),
    mark(b"\xBA\x16\x4F\x2F", "a fastText model (.bin)", "the vectors as text (.vec): fasttext print-word-vectors, or gensim's load_facebook_vectors and save_word2vec_format"),
    mark(b"\x89HDF\r\n\x1A\n", "an HDF5 file", "text: load it in Python and write it as text"),
    like_text(mark(b"PAR1", "a Parquet table", TABLE)),
    like_text(mark(b"ARROW1", "an Arrow table", TABLE)),
    like_text(mark(b"FEA1", "a Feather table", TABLE)),
    like_text(mark(b"ORC", "an ORC table", TABLE)),
    mark(b"Obj\x01", "an Avro table", TABLE),
    mark(b"SQLite format 3\0", "an SQLite database", "text: write the table with `sqlite3 -csv FILE 'select * from TABLE'`"),
    like_text(mark(b"GGUF", "a GGUF model", TENSORS)),
    like_text(mark(b"MATLAB 5.0 MAT-file", "a MATLAB file", "text: write it with writematrix")),
    mark(b"RDX3\n", "an R workspace", "text: write it with write.csv"),
    mark(b"mmap lm http://kheafield.com/code", "a KenLM model", "text: this is an n-gram model built from text"),
    mark(b"\\data\\", "an n-gram model in ARPA format", "text: this is a model built from text"),
    at(8, mark(b"{\"__metadata__\"", "a safetensors file", TENSORS)),
    // Documents.
    mark(b"%PDF-", "a PDF document", "plain text: pdftotext FILE"),
    mark(b"%!PS", "a PostScript document", "plain text: ps2ascii FILE"),
    mark(b"{\\rtf", "an RTF document", OFFICE),
    mark(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old Office document (.doc, .xls)", OFFICE),
    at(60, mark(b"BOOKMOBI", "a Mobipocket book", "plain text")),
    // Images, sound and programs.
    mark(b"\x89PNG\r\n\x1A\n", "a PNG image", IMAGE),
    mark(b"\xFF\xD8\xFF", "a JPEG image", IMAGE),
    like_text(mark(b"GIF8", "a GIF image", IMAGE)),
    mark(b"II*\0", "a TIFF image", IMAGE),
    mark(b"MM\0*", "a TIFF image", IMAGE),
    like_text(mark(b"RIFF", "a RIFF file (sound, video or image)", SOUND)),
    like_text(mark(b"OggS", "an Ogg file", SOUND)),
    like_text(mark(b"ID3", "an MP3 file", SOUND)),
    like_text(mark(b"fLaC", "a FLAC file", SOUND)),
    mark(b"\x7FELF", "a program or library (ELF)", PROGRAM),
    mark(b"\xCF\xFA\xED\xFE", "a program or library (Mach-O)", PROGRAM),
    mark(b"\xCA\xFE\xBA\xBE", "a Java class or a program (Mach-O)", PROGRAM),
    like_text(mark(b"MZ", "a Windows program or library", PROGRAM)),
    mark(b"\0asm", "a WebAssembly module", PROGRAM),
];

/// The content of a zip archive, by the names in it.
#[rustfmt::skip]
const IN_ZIP: &[(&[u8], Signature)] = &[
    (b"word/document.xml", Signature { what: "a Word document (.docx)", then: OFFICE }),
    (b"xl/workbook.xml", Signature { what: "an Excel workbook (.xlsx)", then: OFFICE }),
    (b"ppt/presentation.xml", Signature { what: "a PowerPoint presentation (.pptx)", then: OFFICE }),
    (b"application/vnd.oasis.opendocument", Signature { what: "an OpenDocument file (.odt, .ods)", then: OFFICE }),
    (b"application/epub+zip", Signature { what: "an EPUB book", then: "plain text: pandoc -t plain FILE" }),
    (b"/data.pkl", Signature { what: "a PyTorch file (.pt)", then: TENSORS }),
    (b".npy", Signature { what: "an archive of NumPy arrays (.npz)", then: "text: numpy.savetxt writes an array of numpy.load(\"FILE\")" }),
    (b"META-INF/MANIFEST.MF", Signature { what: "a Java archive (.jar)", then: PROGRAM }),
];

/// What the file with these bytes is, if it is not text. More than [`HEAD`] bytes may be given: names in a zip archive are also
/// searched at its end.
pub fn foreign(bytes: &[u8]) -> Option<Signature> {
    let head = &bytes[..bytes.len().min(HEAD)];
    if let Some(signature) = safetensors(bytes) {
        return Some(signature);
    }
    let binary = || head.iter().any(|&byte| byte < 9);
    let fits = |mark: &&Mark| {
        head.get(mark.at..).is_some_and(|rest| rest.starts_with(mark.magic)) && (!mark.like_text || binary())
    };
    let found = MARKS.iter().find(fits)?.signature;
    if head.starts_with(b"PK") {
        let tail = &bytes[bytes.len().saturating_sub(1 << 16)..];
        let holds = |name: &[u8]| [head, tail].iter().any(|part| part.windows(name.len()).any(|at| at == name));
        return Some(IN_ZIP.iter().find(|(name, _)| holds(name)).map_or(found, |&(_, signature)| signature));
    }
    Some(found)
}

/// A safetensors file: a length of eight bytes, and a JSON object of that length.
fn safetensors(bytes: &[u8]) -> Option<Signature> {
    let (length, rest) = bytes.split_first_chunk()?;
    let plausible = (2..100 << 20).contains(&u64::from_le_bytes(*length)) && rest.starts_with(b"{\"");
    plausible.then_some(Signature { what: "a safetensors file", then: TENSORS })
}

/// The path in a file that stands for a symbolic link, as archives and repositories are unpacked on systems without such links.
pub fn link(bytes: &[u8]) -> Option<&str> {
    let target = std::str::from_utf8(bytes.get(..bytes.len().min(HEAD))?).ok()?.trim_end_matches(['\r', '\n']);
    let alone = bytes.len() < HEAD && !target.bytes().any(|byte| byte.is_ascii_whitespace() || byte == 0);
    let path =
        ["/", "../", "./"].iter().any(|start| target.starts_with(start)) && !target.trim_matches(['.', '/']).is_empty();
    (alone && path && target.matches('/').count() >= 1 && target.len() > 3).then_some(target)
}

/// The first line of an HTML or XML page, such as a failed download.
pub fn markup(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let head = bytes[..bytes.len().min(HEAD)].trim_ascii_start();
    let begins = |with: &str| head.get(..with.len()).is_some_and(|b| b.eq_ignore_ascii_case(with.as_bytes()));
    let page = begins("<!doctype") || begins("<html") || begins("<?xml");
    page.then(|| first_line(head))
}

/// The first line of a JSON file of an object or an array of objects.
pub fn json(bytes: &[u8]) -> Option<String> {
    let head = bytes[..bytes.len().min(HEAD)].trim_ascii_start();
    let object = head.strip_prefix(b"[").unwrap_or(head).trim_ascii_start();
    let key = object.strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = key.iter().position(|&byte| matches!(byte, b'"' | b'\n'))?;
    let behind = key.get(end..)?.strip_prefix(b"\"")?;
    let colon = behind.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    (colon == Some(&b':')).then(|| first_line(head))
}

/// The first line, for a message.
fn first_line(head: &[u8]) -> String {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).trim_end().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_is_recognised() {
        for mark in MARKS {
            let mut file = vec![b'a'; mark.at];
            file.extend(mark.magic);
            file.extend(b" \0\x01 more");
            let found = foreign(&file).unwrap_or_else(|| panic!("{}", mark.signature.what));
            assert_eq!(found.what, mark.signature.what);
            if mark.like_text {
                assert_eq!(foreign(&[mark.magic, b" said the cat .\n"].concat()), None);
            }
        }
    }

    #[test]
    fn zip_archives_are_told_by_what_is_in_them() {
        for (name, signature) in IN_ZIP {
            let far = [b"PK\x03\x04", &b"x".repeat(10_000)[..], name, b"rest"].concat();
            assert_eq!(foreign(&far), Some(*signature));
        }
        assert_eq!(foreign(b"PK\x03\x04 a.txt").unwrap().what, "a zip archive");
    }

    #[test]
    fn texts_are_texts() {
        let texts = [
            "",
            "a",
            "the cat\n",
            "PK said",
            "\u{feff}BZh",
            "1AY&SY",
            "\u{1F9D} x",
            "3 2\na 1 2\n",
            "x y",
            "{ a }",
            "%",
        ];
        for text in texts {
            assert_eq!(foreign(text.as_bytes()), None, "{text:?}");
        }
        for (text, path) in [
            ("../data/train.txt\n", true),
            ("/a/b", true),
            ("./x.txt", true),
            ("/\n", false),
            ("...\n", false),
            ("/a b/c\n", false),
            ("and/or\n", false),
            ("/a/b\n/c/d\n", false),
        ] {
            assert_eq!(link(text.as_bytes()).is_some(), path, "{text:?}");
        }
        for (text, page) in [
            ("\n\n \n<!DOCTYPE html>\n<html>", true),
            ("<HTML lang=\"en\">", true),
            ("<?xml version=\"1.0\"?>\n<Error/>", true),
            ("he said <html> is a tag", false),
            ("<unk> said", false),
            ("<htm", false),
            ("<é!!!!!!!", false),
            ("", false),
        ] {
            assert_eq!(markup(text.as_bytes()).is_some(), page, "{text:?}");
        }
        for (text, object) in [
            ("{\"text\": \"a\"}\n", true),
            (" [ {\n \"text\" :", true),
            ("{\"\tO\n", false),
            ("{ \" a \"\n: b", false),
            ("[ \" a ]", false),
            ("{", false),
        ] {
            assert_eq!(json(text.as_bytes()).is_some(), object, "{text:?}");
        }
    }
}
