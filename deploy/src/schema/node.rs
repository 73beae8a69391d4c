//! A YAML document as a tree in which every key and value knows its place. Scalars keep the text
//! that was written, so that what a value means is decided by the key it stands under and never
//! guessed from its looks (`no` is a name here, and `0123` no octal number).

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, Spanned};

use super::diagnostic::{Findings, Place};
use super::mask::masked_words_of_parser;

/// Nested lists and mappings.
pub(crate) const MAX_DEPTH: usize = 16;
/// Scalars, lists and mappings of one file.
pub(crate) const MAX_NODES: usize = 2_000_000;
/// Parser events that aliases (`*name`) of one file may add by repeating what they name.
pub(crate) const MAX_ALIAS_EVENTS: usize = 100_000;

/// A value with its place.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: NodeValue,
}

/// What a node holds.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum NodeValue {
    /// Nothing, `~` or `null`.
    Nothing,
    /// A scalar's text.
    Scalar(String),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in the order it was written, every key once.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

impl Node {
    /// What the node is, for messages about one that should be something else.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.value {
            NodeValue::Nothing => "nothing",
            NodeValue::Scalar(_) => "a single value",
            NodeValue::Sequence(_) => "a list",
            NodeValue::Mapping(_) => "a mapping",
        }
    }
}

/// Reads the one document in `text`. A syntax error, a second document, or text beyond the bounds
/// above is one finding and no tree; repeated keys are a finding each, and the first one counts.
pub(crate) fn parse(file: u32, text: &str, findings: &mut Findings) -> Option<Node> {
    match serde_yaml::from_str_with_options::<Spanned<Raw>>(text, options()) {
        Ok(root) => Some(Builder { file, text, findings }.node(root)),
        Err(error) => {
            let (place, message) = describe(file, &error);
            findings.error(place, masked_words_of_parser(text, place.line as usize, &message));
            None
        }
    }
}

fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_recorded_anchor_events: MAX_ALIAS_EVENTS,
            // So that the second one is an error at its own place, not a breach of the budget.
            max_documents: 2,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MAX_ALIAS_EVENTS,
            max_replay_stack_depth: MAX_DEPTH,
        },
        duplicate_keys: serde_yaml::options::DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: serde_yaml::options::NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn describe(file: u32, error: &serde_yaml::Error) -> (Place, String) {
    let location = error.location().filter(|location| location.line() > 0);
    let place = location.map_or(Place::start_of(file), |location| place_of(file, location));
    let text = error.to_string();
    let suffix = format!(" at line {}, column {}", place.line, place.column);
    let message = text.strip_suffix(&suffix).unwrap_or(&text);
    if let Some(("", breach)) = message.split_once("budget breached: ") {
        return (place, format!("the file is beyond what a configuration may be: {breach}"));
    }
    if message.starts_with("multiple YAML documents") {
        let message = "a second YAML document begins here; a file holds one";
        return (place, message.to_owned());
    }
    (place, message.to_owned())
}

fn place_of(file: u32, location: Location) -> Place {
    let clamp = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    Place { file, line: clamp(location.line()), column: clamp(location.column()) }
}

/// What serde hands over: the structure, with scalars that YAML would type kept apart, because
/// their text has to be taken from the source.
enum Raw {
    Nothing,
    Text(String),
    Typed(String),
    Sequence(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

struct RawVisitor;

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element()? {
            elements.push(element);
        }
        Ok(Raw::Sequence(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Mapping(entries))
    }
}

struct Builder<'a> {
    file: u32,
    text: &'a str,
    findings: &'a mut Findings,
}

impl Builder<'_> {
    fn node(&mut self, raw: Spanned<Raw>) -> Node {
        let Spanned { value, referenced, defined } = raw;
        let place = place_of(self.file, referenced);
        let value = match value {
            Raw::Nothing => NodeValue::Nothing,
            Raw::Text(text) => NodeValue::Scalar(text),
            Raw::Typed(fallback) => NodeValue::Scalar(self.written(defined).unwrap_or(fallback)),
            Raw::Sequence(elements) => {
                NodeValue::Sequence(elements.into_iter().map(|raw| self.node(raw)).collect())
            }
            Raw::Mapping(entries) => NodeValue::Mapping(self.mapping(entries)),
        };
        Node { place, value }
    }

    fn mapping(&mut self, raw: Vec<(Spanned<Raw>, Spanned<Raw>)>) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(raw.len());
        let mut places = HashMap::with_capacity(raw.len());
        for (key, value) in raw {
            let key = self.node(key);
            let value = self.node(value);
            let NodeValue::Scalar(text) = key.value else {
                self.findings.error(key.place, format!("a key is a word, not {}", key.kind()));
                continue;
            };
            if let Some(&first) = places.get(&text) {
                let message = format!("key `{text}` is given twice");
                self.findings.conflict(key.place, message, first, "given here first");
                continue;
            }
            places.insert(text.clone(), key.place);
            entries.push(Entry { key: text, key_place: key.place, value });
        }
        entries
    }

    /// The text of a scalar as it stands in the file.
    fn written(&self, location: Location) -> Option<String> {
        let start = usize::try_from(location.span().byte_offset()?).ok()?;
        let length = usize::try_from(location.span().byte_len()?).ok()?;
        let text = self.text.get(start..start.checked_add(length)?)?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_text(text: &str) -> (Option<Node>, Vec<(u32, u32, String)>) {
        let mut findings = Findings::default();
        let node = parse(0, text, &mut findings);
        let found = findings
            .into_diagnostics(&[])
            .into_iter()
            .map(|diagnostic| (diagnostic.line, diagnostic.column, diagnostic.message))
            .collect();
        (node, found)
    }

    fn scalar(line: u32, column: u32, text: &str) -> Node {
        let value = NodeValue::Scalar(text.to_owned());
        Node { place: Place { file: 0, line, column }, value }
    }

    #[test]
    fn scalars_keep_the_text_that_was_written() {
        let (node, found) =
            parse_text("[no, 0x10, 0123, 1_000, '7', \"a\\tb\", 1.50, 99999999999999999999, .nan]");
        let texts = ["no", "0x10", "0123", "1_000", "7", "a\tb", "1.50"];
        let NodeValue::Sequence(nodes) = node.unwrap().value else { panic!("not a list") };
        for (node, text) in nodes.iter().zip(texts) {
            assert_eq!(node.value, NodeValue::Scalar(text.to_owned()));
        }
        assert_eq!(nodes.len(), 9);
        assert_eq!(found, []);
    }

    #[test]
    fn keys_and_values_have_places() {
        let (node, _) = parse_text("a: &x 1\nb:\n  - *x\n  - {c: 2}\n");
        let NodeValue::Mapping(entries) = node.unwrap().value else { panic!("not a mapping") };
        assert_eq!(entries[0].value, scalar(1, 7, "1"));
        assert_eq!(entries[1].key_place, Place { file: 0, line: 2, column: 1 });
        let NodeValue::Sequence(nodes) = &entries[1].value.value else { panic!("not a list") };
        assert_eq!(nodes[0], scalar(3, 5, "1"));
        let NodeValue::Mapping(inner) = &nodes[1].value else { panic!("not a mapping") };
        assert_eq!(inner[0].value, scalar(4, 9, "2"));
    }

    #[test]
    fn repeated_and_composite_keys_are_findings_and_reading_goes_on() {
        let (node, found) = parse_text("a: 1\na: 2\n[b]: 3\na: 4\n");
        let NodeValue::Mapping(entries) = node.unwrap().value else { panic!("not a mapping") };
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].value, scalar(1, 4, "1"));
        assert_eq!(
            found,
            [
                (2, 1, "key `a` is given twice".to_owned()),
                (3, 1, "a key is a word, not a list".to_owned()),
                (4, 1, "key `a` is given twice".to_owned()),
            ]
        );
    }

    #[test]
    fn a_syntax_error_has_its_position_and_says_it_once() {
        let (node, found) = parse_text("a: 1\nb: c: d\n");
        assert_eq!(node, None);
        assert_eq!(found, [(2, 5, "mapping values are not allowed in this context".to_owned())]);
        let (_, found) = parse_text("a: 1\n---\nb: 2\n");
        assert_eq!(
            found,
            [(3, 1, "a second YAML document begins here; a file holds one".to_owned())]
        );
    }

    #[test]
    fn an_alias_bomb_is_refused_before_it_grows() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let started = std::time::Instant::now();
        let (node, found) = parse_text(&bomb);
        assert_eq!(node, None);
        assert_eq!(found.len(), 1);
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }

    #[test]
    fn deep_nesting_is_refused() {
        for text in ["[".repeat(10_000), "- ".repeat(10_000), "{a: ".repeat(10_000)] {
            let (node, found) = parse_text(&text);
            assert_eq!((node, found.len()), (None, 1));
        }
    }

    proptest! {
        #[test]
        fn any_text_returns(text in "\\PC*") {
            parse_text(&text);
        }

        #[test]
        fn any_yaml_like_text_returns(text in "[-a-c0-2:{}\\[\\], \n\t&*!'\"<|>?#%@~.]{0,200}") {
            parse_text(&text);
        }
    }
}
