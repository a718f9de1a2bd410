//! Tensors in files of the safetensors format, streamed: a file is never held in memory in addition to the weights.
//!
//! The file is an 8-byte little-endian length, that many bytes of JSON (name → dtype, shape, offsets), and the
//! values, little-endian, row-major, without gaps.

use crate::error::{Error, Result};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes converted at a time.
const CHUNK: usize = 1 << 16;
/// The format's own limit on the length of the JSON.
const MAX_HEADER: u64 = 100_000_000;

/// The values of a tensor to be written.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

/// The destination of the values of a tensor.
#[derive(Debug)]
pub enum DataMut<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// Double precision.
    F64(&'a mut [f64]),
}

macro_rules! from_slices {
    ($($float:ty, $variant:ident;)*) => {$(
        impl<'a> From<&'a [$float]> for Data<'a> {
            fn from(values: &'a [$float]) -> Self {
                Data::$variant(values)
            }
        }
        impl<'a> From<&'a mut [$float]> for DataMut<'a> {
            fn from(values: &'a mut [$float]) -> Self {
                DataMut::$variant(values)
            }
        }
    )*};
}
from_slices! { f32, F32; f64, F64; }

impl Data<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Data::F32(_) => Dtype::F32,
            Data::F64(_) => Dtype::F64,
        }
    }

    fn len(&self) -> usize {
        match self {
            Data::F32(values) => values.len(),
            Data::F64(values) => values.len(),
        }
    }

    fn bytes(&self) -> usize {
        self.len() * self.dtype().bitsize() / 8
    }
}

impl DataMut<'_> {
    fn view(&self) -> Data<'_> {
        match self {
            DataMut::F32(values) => Data::F32(values),
            DataMut::F64(values) => Data::F64(values),
        }
    }
}

/// A named tensor to be written: `shape` in elements, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Its name, unique in its file.
    pub name: &'a str,
    /// Its shape; the product is the number of values.
    pub shape: &'a [usize],
    /// Its values.
    pub data: Data<'a>,
}

/// A named tensor to be read, with the shape that the file must have.
#[derive(Debug)]
pub struct TensorMut<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// The expected shape.
    pub shape: &'a [usize],
    /// The destination of the values.
    pub data: DataMut<'a>,
}

/// An upper bound on the bytes of a file of `tensors`.
pub fn file_bytes(tensors: &[Tensor<'_>]) -> u64 {
    let header = |t: &Tensor<'_>| 128 + t.name.len() + 24 * t.shape.len();
    tensors.iter().map(|t| (t.data.bytes() + header(t)) as u64).sum::<u64>() + 1024
}

/// The description of a tensor, without its values.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    name: &'a str,
    shape: &'a [usize],
    dtype: Dtype,
}

impl<'a> Spec<'a> {
    /// A tensor of single precision.
    pub fn f32(name: &'a str, shape: &'a [usize]) -> Self {
        Spec { name, shape, dtype: Dtype::F32 }
    }
}

/// Everything before the values, which follow in the order of `tensors`.
///
/// # Panics
/// If two tensors share a name.
pub fn preamble(notes: &[(&str, String)], tensors: &[Spec<'_>]) -> Vec<u8> {
    let notes = notes.iter().map(|(key, text)| ((*key).to_owned(), text.clone().into()));
    let mut header = Map::from_iter([("__metadata__".to_owned(), Value::Object(notes.collect()))]);
    let mut at = 0;
    for &Spec { name, shape, dtype } in tensors {
        let data_offsets = (at, at + shape.iter().product::<usize>() * dtype.bitsize() / 8);
        at = data_offsets.1;
        let info = TensorInfo { dtype, shape: shape.to_vec(), data_offsets };
        let info = serde_json::to_value(info).expect("names and numbers are JSON");
        assert!(header.insert(name.to_owned(), info).is_none(), "two tensors are named {name}");
    }
    let mut json = serde_json::to_vec(&header).expect("names and numbers are JSON");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    bytes
}

/// Writes `tensors` and the text entries `notes` to `out`. The bytes depend on nothing but the arguments.
///
/// # Panics
/// If two tensors share a name, or a shape does not fit its data.
pub fn write(out: &mut impl Write, notes: &[(&str, String)], tensors: &[Tensor<'_>]) -> io::Result<()> {
    // Wide values first, so that every tensor is aligned.
    let mut order: Vec<&Tensor<'_>> = tensors.iter().collect();
    order.sort_by_key(|t| std::cmp::Reverse(t.data.dtype().bitsize()));
    for Tensor { name, shape, data } in &order {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{name}: shape {shape:?}");
    }
    let specs = order.iter().map(|t| Spec { name: t.name, shape: t.shape, dtype: t.data.dtype() });
    out.write_all(&preamble(notes, &specs.collect::<Vec<_>>()))?;
    for tensor in order {
        match tensor.data {
            Data::F32(values) => write_f32(out, values)?,
            Data::F64(values) => write_values(out, values, f64::to_le_bytes)?,
        }
    }
    Ok(())
}

/// Writes values in the format of the file.
pub fn write_f32(out: &mut impl Write, values: &[f32]) -> io::Result<()> {
    write_values(out, values, f32::to_le_bytes)
}

fn write_values<T: Copy, const N: usize>(
    out: &mut impl Write,
    values: &[T],
    to_bytes: fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = [0; CHUNK];
    for chunk in values.chunks(CHUNK / N) {
        for (bytes, &value) in buffer.chunks_exact_mut(N).zip(chunk) {
            bytes.copy_from_slice(&to_bytes(value));
        }
        out.write_all(&buffer[..chunk.len() * N])?;
    }
    Ok(())
}

fn read_values<T: Copy, const N: usize>(
    file: &mut impl Read,
    values: &mut [T],
    from_bytes: fn([u8; N]) -> T,
) -> io::Result<()> {
    let mut buffer = [0; CHUNK];
    for chunk in values.chunks_mut(CHUNK / N) {
        let bytes = &mut buffer[..chunk.len() * N];
        file.read_exact(bytes)?;
        for (value, bytes) in chunk.iter_mut().zip(bytes.as_chunks::<N>().0) {
            *value = from_bytes(*bytes);
        }
    }
    Ok(())
}

/// The header of a file of tensors, checked against the length of the file.
#[derive(Debug)]
pub struct Header {
    start: u64,
    tensors: Metadata,
}

impl Header {
    /// Reads the header of `file` at `path`. Nothing larger than the file is allocated.
    pub fn read(file: &mut File, path: &Path) -> Result<Self> {
        let io_error = |e| Error::io(path, "reading", e);
        let len = file.metadata().map_err(io_error)?.len();
        file.seek(SeekFrom::Start(0)).map_err(io_error)?;
        let truncated = |needed: u64| Error::model(path, format!("is truncated: found {len} bytes, expected {needed}"));
        if len < 8 {
            return Err(truncated(8));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io_error)?;
        let json_len = u64::from_le_bytes(length);
        if json_len > MAX_HEADER {
            let what = format!(
                "is not a safetensors file: found a header length of {json_len}, expected at most {MAX_HEADER}"
            );
            return Err(Error::model(path, what));
        }
        let start = 8 + json_len;
        if start > len {
            return Err(truncated(start));
        }
        let mut json = vec![0; json_len as usize];
        file.read_exact(&mut json).map_err(io_error)?;
        let tensors: Metadata = serde_json::from_slice(&json)
            .map_err(|e| Error::model(path, format!("is not a safetensors file: invalid header: {e}")))?;
        match start.checked_add(tensors.data_len() as u64) {
            Some(needed) if needed == len => Ok(Header { start, tensors }),
            Some(needed) if needed < len => {
                let what = format!("has trailing bytes: found {len}, expected {needed}");
                Err(Error::model(path, what))
            }
            Some(needed) => Err(truncated(needed)),
            None => Err(truncated(u64::MAX)),
        }
    }

    /// The text entry `key`.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.tensors.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Names and shapes of the tensors, in the order of the file.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shape = |name: &str| self.tensors.info(name).map(|info| info.shape.clone()).unwrap_or_default();
        self.tensors.offset_keys().into_iter().map(|name| (name.clone(), shape(&name))).collect()
    }

    /// Reads the tensor `name` of `file` at `path` into `values`, from any type of floating-point numbers.
    ///
    /// # Errors
    /// There is no such tensor, or it does not consist of this many floating-point numbers.
    pub fn read_as_f32(&self, file: &mut File, path: &Path, name: &str, values: &mut [f32]) -> Result<()> {
        let Some(info) = self.tensors.info(name) else {
            return Err(Error::model(path, format!("the tensor {name} is missing")));
        };
        let found = describe(info.dtype, &info.shape);
        if info.shape.iter().product::<usize>() != values.len() {
            return Err(Error::model(path, format!("tensor {name}: found {found}, expected {} numbers", values.len())));
        }
        file.seek(SeekFrom::Start(self.start + info.data_offsets.0 as u64))
            .map_err(|e| Error::io(path, "reading", e))?;
        let read = match info.dtype {
            Dtype::F32 => read_values(file, values, f32::from_le_bytes),
            Dtype::F64 => read_values(file, values, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::BF16 => {
                read_values(file, values, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
            }
            Dtype::F16 => read_values(file, values, |bytes| widen(u16::from_le_bytes(bytes))),
            _ => {
                return Err(Error::model(
                    path,
                    format!("tensor {name}: found {found}, expected F32, F64, F16 or BF16"),
                ));
            }
        };
        read.map_err(|e| Error::io(path, "reading", e))
    }

    /// Reads the values of all tensors of `file` at `path` into `targets`, in place. The file must contain exactly the targets' names,
    /// with their types and shapes; otherwise nothing is read and the first difference is reported.
    ///
    /// # Panics
    /// If a target's shape does not fit its data.
    pub fn read_tensors(&self, file: &mut File, path: &Path, targets: &mut [TensorMut<'_>]) -> Result<()> {
        for target in targets.iter() {
            let (name, wanted) = (target.name, target.data.view());
            assert_eq!(target.shape.iter().product::<usize>(), wanted.len(), "{name}: shape {:?}", target.shape);
            let Some(info) = self.tensors.info(name) else {
                return Err(Error::model(path, format!("the tensor {name} is missing")));
            };
            if (info.dtype, &info.shape[..]) != (wanted.dtype(), target.shape) {
                let (found, expected) = (describe(info.dtype, &info.shape), describe(wanted.dtype(), target.shape));
                return Err(Error::model(path, format!("tensor {name}: found {found}, expected {expected}")));
            }
        }
        if let Some(name) =
            self.tensors.offset_keys().iter().find(|name| targets.iter().all(|target| target.name != **name))
        {
            return Err(Error::model(path, format!("contains the tensor {name}, which this model does not have")));
        }
        for target in targets {
            let at = self.tensors.info(target.name).map_or(0, |info| info.data_offsets.0);
            file.seek(SeekFrom::Start(self.start + at as u64))
                .and_then(|_| match &mut target.data {
                    DataMut::F32(values) => read_values(file, values, f32::from_le_bytes),
                    DataMut::F64(values) => read_values(file, values, f64::from_le_bytes),
                })
                .map_err(|e| Error::io(path, "reading", e))?;
        }
        Ok(())
    }
}

/// The value of a number in IEEE half precision.
fn widen(half: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(half >> 15), half >> 10 & 0x1F, half & 0x3FF);
    let magnitude = match exponent {
        0 => f32::from(fraction) / (1 << 24) as f32,
        // Infinities and NaN keep their fraction.
        0x1F => f32::from_bits(0x7F80_0000 | u32::from(fraction) << 13),
        _ => f32::from_bits((u32::from(exponent) + 112) << 23 | u32::from(fraction) << 13),
    };
    f32::from_bits(magnitude.to_bits() | sign << 31)
}

fn describe(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype} {shape:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_are_widened_exactly() {
        for half in 0..=u16::MAX {
            let (negative, exponent, fraction) =
                (half >> 15 == 1, i32::from(half >> 10 & 0x1F), f64::from(half & 0x3FF));
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-24),
                0x1F if fraction == 0.0 => f64::INFINITY,
                0x1F => f64::NAN,
                _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
            };
            let (found, expected) = (f64::from(widen(half)), if negative { -magnitude } else { magnitude });
            assert!(found == expected || found.is_nan() && expected.is_nan(), "{half:#06x}: {found}, not {expected}");
            assert!(found.is_nan() || found.is_sign_negative() == negative, "{half:#06x}");
        }
    }

    fn tensors() -> impl Strategy<Value = Vec<(String, Vec<usize>, bool, u64)>> {
        let shape = prop::collection::vec(0usize..6, 0..4);
        let tensor = ("[a-z\"\\\\ü./]{0,12}", shape, any::<bool>(), any::<u64>());
        prop::collection::vec(tensor, 0..6).prop_map(|mut all| {
            all.sort();
            all.dedup_by(|a, b| a.0 == b.0);
            all.retain(|(name, ..)| name != "__metadata__");
            all
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What is written is read back, here and by another reader of the format.
        #[test]
        fn any_tensors_are_read_as_they_were_written(tensors in tensors(), note in ".{0,20}") {
            let value = |seed: u64, i: usize| (seed.wrapping_mul(i as u64 + 1) % 2001) as f64 / 8.0 - 100.0;
            let values = |shape: &[usize], seed: u64| (0..shape.iter().product()).map(move |i| value(seed, i));
            let narrow: Vec<Vec<f32>> = tensors.iter().map(|t| values(&t.1, t.3).map(|x| x as f32).collect()).collect();
            let wide: Vec<Vec<f64>> = tensors.iter().map(|t| values(&t.1, t.3).collect()).collect();
            let all: Vec<Tensor> = tensors.iter().zip(narrow.iter().zip(&wide)).map(|(t, (narrow, wide))| {
                let data = if t.2 { wide[..].into() } else { narrow[..].into() };
                Tensor { name: &t.0, shape: &t.1, data }
            }).collect();
            let mut bytes = Vec::new();
            write(&mut bytes, &[("note", note.clone())], &all).expect("memory takes all");
            prop_assert!(bytes.len() as u64 <= file_bytes(&all));

            let other = safetensors::SafeTensors::deserialize(&bytes).expect("another reader reads it");
            prop_assert_eq!(other.names().len(), all.len());
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&bytes).expect("a disk");
            let path = Path::new("tensors");
            let header = Header::read(&mut file, path).expect("it is read");
            prop_assert_eq!(header.note("note"), Some(note.as_str()));
            let mut narrow_again: Vec<Vec<f32>> = narrow.iter().map(|x| vec![0.0; x.len()]).collect();
            let mut wide_again: Vec<Vec<f64>> = wide.iter().map(|x| vec![0.0; x.len()]).collect();
            let again = narrow_again.iter_mut().zip(&mut wide_again);
            let mut targets: Vec<TensorMut> = tensors.iter().zip(again).map(|(t, (narrow, wide))| {
                let data = if t.2 { (&mut wide[..]).into() } else { (&mut narrow[..]).into() };
                TensorMut { name: &t.0, shape: &t.1, data }
            }).collect();
            header.read_tensors(&mut file, path, &mut targets).expect("what was written is there");
            for (i, tensor) in tensors.iter().enumerate() {
                let view = other.tensor(&tensor.0).expect("it is there");
                prop_assert_eq!(view.shape(), &tensor.1[..]);
                let same = if tensor.2 { wide_again[i] == wide[i] } else { narrow_again[i] == narrow[i] };
                prop_assert!(same);
            }
        }
    }
}
