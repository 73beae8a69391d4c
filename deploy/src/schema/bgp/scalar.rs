//! The scalars of BGP: how each is written, what bounds it, and its JSON Schema.

use std::net::{IpAddr, Ipv4Addr};

use nvgate_bgp::config::ShutdownText;
use nvgate_bgp::policy::{AnyCommunity, CommunityPattern, Comparison, MedChange};
use nvgate_bgp::{Origin, Role};
use nvgate_model::{Asn, Prefix};
use serde_json::{Value, json};

use crate::schema::decode::{Decode, Decoder, Scalar};
use crate::schema::node::{Node, NodeValue};
use crate::schema::scalar::{Name, Number, parsed_scalar, whole_number};

/// A value written as one scalar, or as a record that says more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Either<S, R> {
    Short(S),
    Record(R),
}

impl<S: Scalar, R: Decode> Decode for Either<S, R> {
    const SCALAR: bool = true;

    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            NodeValue::Scalar(_) => S::decode(node, decoder).map(Self::Short),
            NodeValue::Nothing | NodeValue::Sequence(_) | NodeValue::Mapping(_) => {
                R::decode(node, decoder).map(Self::Record)
            }
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [<S as Scalar>::schema(), R::schema()] })
    }
}

parsed_scalar!(Role, "a role", {
    "enum": ["provider", "customer", "peer", "route-server", "route-server-client"]
});
parsed_scalar!(Origin, "an origin", { "enum": ["igp", "egp", "incomplete"] });
parsed_scalar!(CommunityPattern, "a community", { "type": "string" });

impl Scalar for IpAddr {
    const EXPECTED: &'static str = "an IP address";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{}` is not {}", text.escape_debug(), Self::EXPECTED))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9A-Fa-f.:]+$" })
    }
}

impl Scalar for Ipv4Addr {
    const EXPECTED: &'static str = "an identifier written as an IPv4 address";

    fn read(text: &str) -> Result<Self, String> {
        let address: Self = text
            .parse()
            .map_err(|_| format!("`{}` is not {}", text.escape_debug(), Self::EXPECTED))?;
        if address.is_unspecified() {
            return Err("0.0.0.0 is nobody's identifier (RFC 6286); name another".to_owned());
        }
        Ok(address)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$" })
    }
}

/// One's own AS, or one to put in front of a path: none that is reserved.
impl Scalar for Asn {
    const EXPECTED: &'static str = "an AS number";

    fn read(text: &str) -> Result<Self, String> {
        let asn: Self = text.parse().map_err(|error| format!("{error}"))?;
        match reserved(asn) {
            Some(why) => Err(format!("AS {asn} is reserved: {why}")),
            None => Ok(asn),
        }
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX - 1 })
    }
}

/// Why nobody's AS has this number.
fn reserved(asn: Asn) -> Option<&'static str> {
    asn.is_reserved().then_some(match asn {
        Asn::ZERO => "it must not stand in a route (RFC 7607)",
        Asn::TRANS => "it stands for numbers that need four bytes (RFC 6793)",
        _ => "the last number of each width is nobody's (RFC 7300)",
    })
}

/// AS numbers from a first to a last, as `64512-65534`, or one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AsSpan {
    pub(crate) first: Asn,
    pub(crate) last: Asn,
}

impl AsSpan {
    /// Why one of its ends is nobody's AS.
    pub(crate) fn reserved_end(self) -> Option<(Asn, &'static str)> {
        [self.first, self.last].into_iter().find_map(|asn| Some((asn, reserved(asn)?)))
    }

    pub(crate) fn is_single(self) -> bool {
        self.first == self.last
    }
}

impl Scalar for AsSpan {
    const EXPECTED: &'static str = "an AS number or a range such as 64512-65534";

    fn read(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim().parse::<Asn>().map_err(|_| {
                format!("`{}` is not {}, 0 to 4294967295", text.escape_debug(), Self::EXPECTED)
            })
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        if first > last {
            return Err(format!("the range {} ends before it begins", text.escape_debug()));
        }
        Ok(Self { first, last })
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": u32::MAX },
            { "type": "string", "pattern": "^[0-9]{1,10}( *- *[0-9]{1,10})?$" },
        ] })
    }
}

/// AS numbers, or the name of a list of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AsEntry {
    Span(AsSpan),
    List(String),
}

impl Scalar for AsEntry {
    const EXPECTED: &'static str =
        "an AS number, a range such as 64512-65534, or an AS list's name";

    fn read(text: &str) -> Result<Self, String> {
        if text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Name::read(text).map(|name| Self::List(name.0));
        }
        AsSpan::read(text).map(Self::Span)
    }

    fn schema() -> Value {
        json!({ "anyOf": [<AsSpan as Scalar>::schema(), <Name as Scalar>::schema()] })
    }
}

/// A prefix, or the name of a list of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PrefixReference {
    Prefix(Prefix),
    List(String),
}

impl Scalar for PrefixReference {
    const EXPECTED: &'static str = "a prefix or a prefix list's name";

    fn read(text: &str) -> Result<Self, String> {
        if text.contains('/') || text.contains(':') {
            return Prefix::read(text).map(Self::Prefix);
        }
        Name::read(text).map(|name| Self::List(name.0)).map_err(|_| {
            format!("`{}` is neither a prefix nor a prefix list's name", text.escape_debug())
        })
    }

    fn schema() -> Value {
        json!({ "anyOf": [<Prefix as Scalar>::schema(), <Name as Scalar>::schema()] })
    }
}

/// Communities, or the name of a list of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CommunityEntry {
    Pattern(CommunityPattern),
    List(String),
}

impl Scalar for CommunityEntry {
    const EXPECTED: &'static str = "a community, or a community list's name";

    fn read(text: &str) -> Result<Self, String> {
        let pattern = text.parse::<CommunityPattern>();
        match (pattern, Name::read(text)) {
            (Ok(pattern), _) => Ok(Self::Pattern(pattern)),
            (Err(_), Ok(name)) => Ok(Self::List(name.0)),
            (Err(error), Err(_)) => Err(error.to_string()),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// A community that is put on routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OwnCommunity(pub(crate) AnyCommunity);

impl Scalar for OwnCommunity {
    const EXPECTED: &'static str = "a community";

    fn read(text: &str) -> Result<Self, String> {
        if text.contains('*') {
            let text = text.escape_debug();
            return Err(format!("`{text}` has a `*`; what is put on routes has every part"));
        }
        text.parse().map(Self).map_err(|error| format!("{error}"))
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// A whole number of 32 bits.
pub(crate) type Number32 = Number<0, { u32::MAX }>;

/// How a number compares with a bound: `100`, `<100`, `<=100`, `>=100` or `>100`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NumberTest(pub(crate) Comparison);

impl Scalar for NumberTest {
    const EXPECTED: &'static str = "a number, or one behind `<`, `<=`, `>=` or `>`";

    fn read(text: &str) -> Result<Self, String> {
        let signs = ["<=", ">=", "<", ">"];
        let sign = signs.into_iter().find(|sign| text.starts_with(sign)).unwrap_or("");
        let number = Number32::read(text[sign.len()..].trim())?.0;
        match (sign, number) {
            ("<", 0) | (">", u32::MAX) => Err(format!("no number is `{text}`")),
            ("<", _) => Ok(Self(Comparison::Below(number))),
            (">", _) => Ok(Self(Comparison::Above(number))),
            ("<=", _) => Ok(Self(Comparison::AtMost(number))),
            (">=", _) => Ok(Self(Comparison::AtLeast(number))),
            (_, _) => Ok(Self(Comparison::Exactly(number))),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            <Number32 as Scalar>::schema(),
            { "type": "string", "pattern": "^[<>]=? *[0-9]{1,10}$" },
        ] })
    }
}

/// What MED becomes: `50`, `+10`, `-10` or `none`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MedSetting(pub(crate) MedChange);

impl Scalar for MedSetting {
    const EXPECTED: &'static str = "a number, `+` or `-` and a number, or `none`";

    fn read(text: &str) -> Result<Self, String> {
        let (number, of): (&str, fn(u32) -> MedChange) = match text.split_at_checked(1) {
            _ if text == "none" => return Ok(Self(MedChange::Remove)),
            Some(("+", number)) => (number, MedChange::Add),
            Some(("-", number)) => (number, MedChange::Subtract),
            Some(_) | None => (text, MedChange::Set),
        };
        match Number32::read(number) {
            Ok(Number(value)) => Ok(Self(of(value))),
            Err(_) => Err(format!(
                "`{}` is not {}, up to {}",
                text.escape_debug(),
                Self::EXPECTED,
                u32::MAX
            )),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer" },
            { "type": "string", "pattern": "^(none|[+-]?[0-9]{1,10})$" },
        ] })
    }
}

/// What the next hop becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NextHopSetting {
    Own,
    Address(IpAddr),
}

impl Scalar for NextHopSetting {
    const EXPECTED: &'static str = "an IP address or `self`";

    fn read(text: &str) -> Result<Self, String> {
        if text == "self" {
            return Ok(Self::Own);
        }
        let refuse = |_| format!("`{}` is not {}", text.escape_debug(), Self::EXPECTED);
        text.parse().map(Self::Address).map_err(refuse)
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": "self" }, <IpAddr as Scalar>::schema()] })
    }
}

/// Lengths of AS paths from one to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lengths {
    pub(crate) least: u16,
    pub(crate) greatest: u16,
}

impl Scalar for Lengths {
    const EXPECTED: &'static str = "a length of 0 to 65535, or a range such as 1-3";

    fn read(text: &str) -> Result<Self, String> {
        let length = |text: &str| {
            let number = whole_number(text.trim()).and_then(|number| u16::try_from(number).ok());
            number.ok_or_else(|| format!("`{}` is not {}", text.escape_debug(), Self::EXPECTED))
        };
        let (least, greatest) = match text.split_once('-') {
            Some((least, greatest)) => (length(least)?, length(greatest)?),
            None => (length(text)?, length(text)?),
        };
        if least > greatest {
            return Err(format!("the range {} ends before it begins", text.escape_debug()));
        }
        Ok(Self { least, greatest })
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": u16::MAX },
            { "type": "string", "pattern": "^[0-9]{1,5}( *- *[0-9]{1,5})?$" },
        ] })
    }
}

/// Which paths of a prefix are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PathsSent {
    Off,
    All,
    Best(u8),
}

impl PathsSent {
    /// The most paths of one prefix.
    const MAX: u32 = 32;
}

impl Scalar for PathsSent {
    const EXPECTED: &'static str = "`off`, `all` or a number of paths";

    fn read(text: &str) -> Result<Self, String> {
        match (text, Number::<1, { Self::MAX }>::read(text)) {
            ("off", _) => Ok(Self::Off),
            ("all", _) => Ok(Self::All),
            (_, Ok(Number(count))) => Ok(Self::Best(u8::try_from(count).unwrap_or(u8::MAX))),
            (_, Err(_)) => Err(format!(
                "`{}` is neither `off` nor `all` nor a number between 1 and {}",
                text.escape_debug(),
                Self::MAX
            )),
        }
    }

    fn schema() -> Value {
        let number = <Number<1, { Self::MAX }> as Scalar>::schema();
        json!({ "anyOf": [{ "enum": ["off", "all"] }, number] })
    }
}

/// Whether a peer is down, and what it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Shutdown {
    Up,
    Down(ShutdownText),
}

impl Scalar for Shutdown {
    const EXPECTED: &'static str = "`true`, `false` or a text";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "false" => Ok(Self::Up),
            "true" => Ok(Self::Down(ShutdownText::default())),
            text => {
                let refuse = |_| {
                    let (bytes, most) = (text.len(), Text::BYTES_MAX);
                    format!("a text of {bytes} bytes is longer than {most} (RFC 9003)")
                };
                ShutdownText::new(text).map(Self::Down).map_err(refuse)
            }
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "boolean" }, { "type": "string" }] })
    }
}

/// A text for humans, on one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Text(pub(crate) String);

impl Text {
    const BYTES_MAX: usize = 255;
}

impl Scalar for Text {
    const EXPECTED: &'static str = "a text";

    fn read(text: &str) -> Result<Self, String> {
        if text.len() > Self::BYTES_MAX {
            return Err(format!("{} bytes of text are more than {}", text.len(), Self::BYTES_MAX));
        }
        if text.chars().any(char::is_control) {
            return Err(format!("`{}` holds control characters", text.escape_debug()));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// A policy's name, or that there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PolicyName {
    Nothing,
    Named(String),
}

impl PolicyName {
    /// The name that no policy can have.
    pub(crate) const NONE: &'static str = "none";
}

impl Scalar for PolicyName {
    const EXPECTED: &'static str = "a policy's name or `none`";

    fn read(text: &str) -> Result<Self, String> {
        if text == Self::NONE {
            return Ok(Self::Nothing);
        }
        Name::read(text).map(|name| Self::Named(name.0))
    }

    fn schema() -> Value {
        <Name as Scalar>::schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_and_changes_of_numbers_are_read() {
        for (text, test) in [
            ("100", Comparison::Exactly(100)),
            ("<100", Comparison::Below(100)),
            ("<= 100", Comparison::AtMost(100)),
            (">=0", Comparison::AtLeast(0)),
            (">100", Comparison::Above(100)),
        ] {
            assert_eq!(NumberTest::read(text), Ok(NumberTest(test)), "{text}");
        }
        for text in ["", "<", "=5", "<0", ">4294967295", "4294967296", "é"] {
            assert!(NumberTest::read(text).is_err(), "{text}");
        }
        for (text, change) in [
            ("50", MedChange::Set(50)),
            ("+10", MedChange::Add(10)),
            ("-10", MedChange::Subtract(10)),
            ("none", MedChange::Remove),
        ] {
            assert_eq!(MedSetting::read(text), Ok(MedSetting(change)), "{text}");
        }
        for text in ["", "+", "--1", "é1", "4294967296"] {
            assert!(MedSetting::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_and_what_it_stands_for_are_told_apart() {
        let prefix = |text: &str| PrefixReference::read(text).unwrap();
        assert_eq!(prefix("fd00::/8"), PrefixReference::Prefix("fd00::/8".parse().unwrap()));
        assert_eq!(prefix("own"), PrefixReference::List("own".to_owned()));
        assert!(PrefixReference::read("10.0.0.0").is_err());
        let community = |text: &str| CommunityEntry::read(text).unwrap();
        let pattern = |text: &str| CommunityEntry::Pattern(text.parse().unwrap());
        assert_eq!(community("no-export"), pattern("no-export"));
        assert_eq!(community("64496:*"), pattern("64496:*"));
        assert_eq!(community("customers"), CommunityEntry::List("customers".to_owned()));
        assert!(CommunityEntry::read("64496:").is_err());
        let spans = AsEntry::read("64512 - 65534").unwrap();
        assert_eq!(spans, AsEntry::Span(AsSpan { first: Asn(64_512), last: Asn(65_534) }));
        assert_eq!(AsEntry::read("transit"), Ok(AsEntry::List("transit".to_owned())));
        assert!(AsEntry::read("5-4").is_err() && AsEntry::read("-").is_err());
    }
}
