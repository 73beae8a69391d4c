//! From a positioned tree to typed records: one mechanism for every key of both file kinds. A
//! record is declared once with [`record!`], and from that declaration come the type, the decoder
//! (unknown keys, missing keys, wrong values: all of them, each at its place) and the JSON Schema.

use serde_json::{Value, json};

use super::diagnostic::{Findings, Place};
use super::node::{Entry, Node, NodeValue};
use super::secret::SecretFiles;

/// A value together with the place it was written at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// Where decoding stands: the key whose value is being read, for messages, and where the files
/// are that the configuration names.
pub(crate) struct Decoder<'a> {
    pub(crate) findings: &'a mut Findings,
    pub(crate) secret_files: &'a SecretFiles,
    key: &'static str,
}

impl<'a> Decoder<'a> {
    /// A decoder at the top of the file that `name` names in messages.
    pub(crate) fn new(
        findings: &'a mut Findings,
        secret_files: &'a SecretFiles,
        name: &'static str,
    ) -> Self {
        Self { findings, secret_files, key: name }
    }

    /// Reports what is wrong with the value of the current key.
    pub(crate) fn refuse(&mut self, place: Place, message: impl std::fmt::Display) {
        self.findings.error(place, format!("`{}`: {message}", self.key));
    }

    fn refuse_kind(&mut self, node: &Node, expected: &str) {
        self.refuse(node.place, format!("expected {expected}, found {}", node.kind()));
    }
}

/// What a node can be decoded to.
pub(crate) trait Decode: Sized {
    /// Whether it is written as a single scalar, so that a list of one needs no brackets.
    const SCALAR: bool = false;

    /// The value, as far as it can be read; `None` after a finding.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self>;

    /// Its JSON Schema.
    fn schema() -> Value;
}

/// What one scalar can be decoded to.
pub(crate) trait Scalar: Sized {
    /// What is expected, in words that follow "expected" or "is not".
    const EXPECTED: &'static str;

    /// Reads the text; the error says what is wrong with it.
    fn read(text: &str) -> Result<Self, String>;

    /// Its JSON Schema.
    fn schema() -> Value;
}

impl<T: Scalar> Decode for T {
    const SCALAR: bool = true;

    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let NodeValue::Scalar(text) = &node.value else {
            decoder.refuse_kind(node, T::EXPECTED);
            return None;
        };
        T::read(text).map_err(|message| decoder.refuse(node.place, message)).ok()
    }

    fn schema() -> Value {
        <T as Scalar>::schema()
    }
}

/// A list of `MIN` to `MAX` values. A list of one scalar may be written as the scalar.
#[derive(Clone, Debug)]
pub(crate) struct List<T, const MIN: usize, const MAX: usize>(pub(crate) Vec<At<T>>);

impl<T: Decode, const MIN: usize, const MAX: usize> Decode for List<T, MIN, MAX> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let nodes = match &node.value {
            NodeValue::Sequence(nodes) => nodes.as_slice(),
            NodeValue::Scalar(_) if T::SCALAR => std::slice::from_ref(node),
            NodeValue::Nothing | NodeValue::Scalar(_) | NodeValue::Mapping(_) => {
                decoder.refuse_kind(node, "a list");
                return None;
            }
        };
        if nodes.len() < MIN {
            decoder.refuse(node.place, format!("{} entries are fewer than {MIN}", nodes.len()));
        }
        if let Some(first_beyond) = nodes.get(MAX) {
            let message = format!("{} entries are more than {MAX}", nodes.len());
            decoder.refuse(first_beyond.place, message);
        }
        let decode =
            |node: &Node| T::decode(node, decoder).map(|value| At { value, place: node.place });
        Some(Self(nodes.iter().take(MAX).filter_map(decode).collect()))
    }

    fn schema() -> Value {
        let list =
            json!({ "type": "array", "items": T::schema(), "minItems": MIN, "maxItems": MAX });
        if T::SCALAR { json!({ "anyOf": [T::schema(), list] }) } else { list }
    }
}

/// The entries of a list that may be absent.
pub(crate) fn entries<T, const MIN: usize, const MAX: usize>(
    list: &Option<At<List<T, MIN, MAX>>>,
) -> &[At<T>] {
    list.as_ref().map_or(&[], |list| list.value.0.as_slice())
}

/// What is known of one key of a record.
pub(crate) struct KeySchema {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) help: &'static str,
    pub(crate) schema: Value,
}

/// The JSON Schema of a record.
pub(crate) fn record_schema(help: &str, keys: Vec<KeySchema>) -> Value {
    let required: Vec<_> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let properties: serde_json::Map<String, Value> = keys
        .into_iter()
        .map(|KeySchema { name, help, mut schema, .. }| {
            if let Some(object) = schema.as_object_mut() {
                object.insert("description".to_owned(), json!(help.trim()));
            }
            (name.to_owned(), schema)
        })
        .collect();
    json!({
        "type": "object",
        "description": help.trim(),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// A mapping that is being read as a record.
pub(crate) struct Record<'n> {
    place: Place,
    entries: &'n [Entry],
    noun: &'static str,
    /// Known keys that unknown ones were taken for; they are not missing.
    meant: Vec<&'static str>,
}

impl<'n> Record<'n> {
    /// Begins to read `node`, reporting its unknown keys.
    pub(crate) fn open(
        node: &'n Node,
        noun: &'static str,
        keys: &[&'static str],
        decoder: &mut Decoder<'_>,
    ) -> Option<Self> {
        let NodeValue::Mapping(entries) = &node.value else {
            decoder.refuse_kind(node, &format!("{noun}, a mapping of {}", quoted(keys)));
            return None;
        };
        let mut meant = Vec::new();
        for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
            let close = closest(&entry.key, keys.iter().copied());
            let hint = match close {
                Some(key) => format!("did you mean `{key}`?"),
                None => format!("the keys are {}", quoted(keys)),
            };
            let key = entry.key.escape_debug();
            let message = format!("unknown key `{key}` in {noun}; {hint}");
            decoder.findings.error(entry.key_place, message);
            meant.extend(close);
        }
        Some(Self { place: node.place, entries, noun, meant })
    }

    /// The value of one key; reports a missing one at the record's place.
    pub(crate) fn field<T: Decode>(
        &self,
        key: &'static str,
        required: bool,
        decoder: &mut Decoder<'_>,
    ) -> Option<At<T>> {
        let Some(entry) = self.entries.iter().find(|entry| entry.key == key) else {
            if required && !self.meant.contains(&key) {
                let message = format!("missing key `{key}` in {}", self.noun);
                decoder.findings.error(self.place, message);
            }
            return None;
        };
        let secret_files = decoder.secret_files;
        let mut decoder = Decoder { findings: decoder.findings, secret_files, key };
        let value = T::decode(&entry.value, &mut decoder)?;
        Some(At { value, place: entry.value.place })
    }
}

/// `` `a`, `b`, `c` ``.
pub(crate) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// "; did you mean ...", if one of the names is close to what was written; else nothing.
pub(crate) fn hint<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    closest(written, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The name that what was written is closest to, if it can be taken for it.
fn closest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if written.len() > LONGEST {
        return None;
    }
    let tolerated = (written.len() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|&(distance, _)| distance <= tolerated)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// The key of a field, whose name may have to be told apart from a word of Rust.
pub(crate) fn key_name(field: &'static str) -> &'static str {
    field.trim_start_matches("r#")
}

/// Declares a record: its name, what messages call it, and its keys with help, need and type.
/// Every field is an `Option`: a record survives whatever is wrong with some of its keys, so that
/// the rest of it can still be checked, and a required key is absent only after a finding.
macro_rules! record {
    (
        $(#[doc = $doc:literal])+
        $name:ident, $noun:literal {
            $( $(#[doc = $help:literal])+ $need:ident $key:ident: $type:ty, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $( $(#[doc = $help])+ pub(crate) $key: Option<$crate::schema::decode::At<$type>>, )+
        }

        impl $crate::schema::decode::Decode for $name {
            fn decode(
                node: &$crate::schema::node::Node,
                decoder: &mut $crate::schema::decode::Decoder<'_>,
            ) -> Option<Self> {
                use $crate::schema::decode::{Record, is_required, key_name};
                let keys = [$(key_name(stringify!($key))),+];
                let record = Record::open(node, $noun, &keys, decoder)?;
                Some(Self {
                    $($key: record.field(
                        key_name(stringify!($key)),
                        is_required!($need),
                        decoder,
                    ),)+
                })
            }

            fn schema() -> serde_json::Value {
                $crate::schema::decode::record_schema(
                    concat!($($doc),+),
                    vec![$( $crate::schema::decode::KeySchema {
                        name: $crate::schema::decode::key_name(stringify!($key)),
                        required: $crate::schema::decode::is_required!($need),
                        help: concat!($($help),+),
                        schema: <$type as $crate::schema::decode::Decode>::schema(),
                    }, )+],
                )
            }
        }
    };
}

macro_rules! is_required {
    (required) => {
        true
    };
    (optional) => {
        false
    };
}

pub(crate) use {is_required, record};
