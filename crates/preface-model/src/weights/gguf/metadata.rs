//! The key-value part of a GGUF file: model config, tokenizer and free text.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::header::HeaderReader;
use crate::weights::WeightsError;

/// Arrays may hold arrays; no known file nests them more than once.
const NESTING_CAP: usize = 4;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the format's types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array: all elements have one type.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the format's types")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// All metadata of one file.
#[derive(Debug)]
pub struct Metadata {
    path: PathBuf,
    values: HashMap<String, Value>,
    /// Keys in the file's order.
    keys: Vec<String>,
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read(reader: &mut HeaderReader<'_>, count: usize) -> Result<Self, WeightsError> {
        let mut metadata = Self { path: reader.path(), values: HashMap::new(), keys: vec![] };
        for _ in 0..count {
            let key = reader.string("a metadata key")?;
            let value_type = reader.u32("a metadata value's type")?;
            let value = read_value(reader, &key, value_type)?;
            if metadata.values.insert(key.clone(), value).is_some() {
                return Err(WeightsError::DuplicateKey { path: metadata.path, key });
            }
            metadata.keys.push(key);
        }
        Ok(metadata)
    }

    /// The file that the metadata came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All keys with their values, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.keys.iter().map(|key| (key.as_str(), &self.values[key]))
    }

    /// The value of `key` as a `T`, `None` if the key is absent. See [`FromValue`] for what a `T` may be.
    ///
    /// # Errors
    /// [`WeightsError::KeyType`] if the value is something else or out of range.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, WeightsError> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        T::from_value(value).map(Some).ok_or_else(|| WeightsError::KeyType {
            path: self.path.clone(),
            key: key.into(),
            got: value.describe(),
            want: T::WANT,
        })
    }

    /// The value of `key` as a `T`.
    ///
    /// # Errors
    /// As [`Metadata::get`], and [`WeightsError::MissingKey`] if the key is absent.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, WeightsError> {
        self.get(key)?.ok_or_else(|| WeightsError::MissingKey { path: self.path.clone(), key: key.into() })
    }
}

/// What a metadata value can be read as.
///
/// Writers disagree on the width of integers, so every unsigned request takes every integer type whose value fits, and
/// a float request takes both widths.
pub trait FromValue<'a>: Sized {
    /// What the value must be, for the message.
    const WANT: &'static str;
    /// The conversion, `None` if the value is something else.
    fn from_value(value: &'a Value) -> Option<Self>;
}

impl FromValue<'_> for u64 {
    const WANT: &'static str = "a non-negative integer";
    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => Some(n),
            Value::I8(n) => n.try_into().ok(),
            Value::I16(n) => n.try_into().ok(),
            Value::I32(n) => n.try_into().ok(),
            Value::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }
}

impl FromValue<'_> for usize {
    const WANT: &'static str = u64::WANT;
    fn from_value(value: &Value) -> Option<Self> {
        u64::from_value(value)?.try_into().ok()
    }
}

impl FromValue<'_> for u32 {
    const WANT: &'static str = "an integer from 0 to 4294967295";
    fn from_value(value: &Value) -> Option<Self> {
        u64::from_value(value)?.try_into().ok()
    }
}

impl FromValue<'_> for f32 {
    const WANT: &'static str = "a float";
    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const WANT: &'static str = "a boolean";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bool(flag) = *value { Some(flag) } else { None }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const WANT: &'static str = "a string";
    fn from_value(value: &'a Value) -> Option<Self> {
        if let Value::String(text) = value { Some(text) } else { None }
    }
}

impl<'a> FromValue<'a> for &'a [String] {
    const WANT: &'static str = "an array of strings";
    fn from_value(value: &'a Value) -> Option<Self> {
        if let Value::Array(Array::String(texts)) = value { Some(texts) } else { None }
    }
}

impl<'a> FromValue<'a> for &'a [f32] {
    const WANT: &'static str = "an array of 32-bit floats";
    fn from_value(value: &'a Value) -> Option<Self> {
        if let Value::Array(Array::F32(numbers)) = value { Some(numbers) } else { None }
    }
}

/// For per-layer settings and token types: any array of integers, none negative.
impl FromValue<'_> for Vec<u64> {
    const WANT: &'static str = "an array of non-negative integers";
    fn from_value(value: &Value) -> Option<Self> {
        fn convert<T: Copy + TryInto<u64>>(numbers: &[T]) -> Option<Vec<u64>> {
            numbers.iter().map(|&n| n.try_into().ok()).collect()
        }
        let Value::Array(array) = value else { return None };
        match array {
            Array::U8(n) => convert(n),
            Array::I8(n) => convert(n),
            Array::U16(n) => convert(n),
            Array::I16(n) => convert(n),
            Array::U32(n) => convert(n),
            Array::I32(n) => convert(n),
            Array::U64(n) => convert(n),
            Array::I64(n) => convert(n),
            _ => None,
        }
    }
}

impl Value {
    /// Type and, where short, value: for messages.
    fn describe(&self) -> String {
        match self {
            Value::String(text) if text.len() > 40 => "a long string".into(),
            Value::Array(array) => format!("an array of type {}", array.type_name()),
            other => format!("{other:?}"),
        }
    }
}

impl Array {
    /// Name of the elements' type, for messages.
    fn type_name(&self) -> &'static str {
        match self {
            Array::U8(_) => "U8",
            Array::I8(_) => "I8",
            Array::U16(_) => "U16",
            Array::I16(_) => "I16",
            Array::U32(_) => "U32",
            Array::I32(_) => "I32",
            Array::F32(_) => "F32",
            Array::Bool(_) => "Bool",
            Array::String(_) => "String",
            Array::Array(_) => "Array",
            Array::U64(_) => "U64",
            Array::I64(_) => "I64",
            Array::F64(_) => "F64",
        }
    }
}

/// Reads a value whose type's number has been read.
fn read_value(reader: &mut HeaderReader<'_>, key: &str, value_type: u32) -> Result<Value, WeightsError> {
    const WHAT: &str = "a metadata value";
    Ok(match value_type {
        0 => Value::U8(u8::from_le_bytes(reader.array(WHAT)?)),
        1 => Value::I8(i8::from_le_bytes(reader.array(WHAT)?)),
        2 => Value::U16(u16::from_le_bytes(reader.array(WHAT)?)),
        3 => Value::I16(i16::from_le_bytes(reader.array(WHAT)?)),
        4 => Value::U32(u32::from_le_bytes(reader.array(WHAT)?)),
        5 => Value::I32(i32::from_le_bytes(reader.array(WHAT)?)),
        6 => Value::F32(f32::from_le_bytes(reader.array(WHAT)?)),
        7 => Value::Bool(reader.array::<1>(WHAT)? != [0]),
        8 => Value::String(reader.string("a metadata string")?),
        9 => Value::Array(read_array(reader, key, 1)?),
        10 => Value::U64(u64::from_le_bytes(reader.array(WHAT)?)),
        11 => Value::I64(i64::from_le_bytes(reader.array(WHAT)?)),
        12 => Value::F64(f64::from_le_bytes(reader.array(WHAT)?)),
        unknown => return Err(unknown_type(reader, key, unknown)),
    })
}

/// Reads an array: type of the elements, count, elements.
fn read_array(reader: &mut HeaderReader<'_>, key: &str, depth: usize) -> Result<Array, WeightsError> {
    const WHAT: &str = "array elements";
    if depth > NESTING_CAP {
        return Err(WeightsError::NestedTooDeep { path: reader.path(), key: key.into(), cap: NESTING_CAP });
    }
    let element_type = reader.u32("an array's element type")?;
    Ok(match element_type {
        0 => Array::U8(numbers(reader, u8::from_le_bytes)?),
        1 => Array::I8(numbers(reader, i8::from_le_bytes)?),
        2 => Array::U16(numbers(reader, u16::from_le_bytes)?),
        3 => Array::I16(numbers(reader, i16::from_le_bytes)?),
        4 => Array::U32(numbers(reader, u32::from_le_bytes)?),
        5 => Array::I32(numbers(reader, i32::from_le_bytes)?),
        6 => Array::F32(numbers(reader, f32::from_le_bytes)?),
        7 => Array::Bool(numbers(reader, |byte: [u8; 1]| byte != [0])?),
        8 => {
            let count = reader.count(WHAT, 8)?;
            Array::String(
                (0..count).map(|_| reader.string("a string in an array")).collect::<Result<_, _>>()?,
            )
        }
        9 => {
            let count = reader.count(WHAT, 12)?;
            Array::Array((0..count).map(|_| read_array(reader, key, depth + 1)).collect::<Result<_, _>>()?)
        }
        10 => Array::U64(numbers(reader, u64::from_le_bytes)?),
        11 => Array::I64(numbers(reader, i64::from_le_bytes)?),
        12 => Array::F64(numbers(reader, f64::from_le_bytes)?),
        unknown => return Err(unknown_type(reader, key, unknown)),
    })
}

/// Reads a count and that many numbers of `N` bytes.
fn numbers<const N: usize, T>(
    reader: &mut HeaderReader<'_>,
    convert: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, WeightsError> {
    let count = reader.count("array elements", N as u64)?;
    let bytes = reader.take("array elements", (count * N) as u64)?;
    Ok(bytes.as_chunks::<N>().0.iter().map(|bytes| convert(*bytes)).collect())
}

fn unknown_type(reader: &HeaderReader<'_>, key: &str, value_type: u32) -> WeightsError {
    WeightsError::UnknownValueType { path: reader.path(), key: key.into(), value_type }
}
