//! The scalars of the two file kinds: how each is written, what bounds it, and its JSON Schema.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use nvgate_model::{
    CustomerAddress, FrontEndAddress, MacAddress, Prefix, ProviderAddress, RoutingDomainId,
    TenantName, Vsid,
};
use serde_json::{Value, json};

use super::decode::{Decode, Decoder, List, Scalar, hint, quoted};
use super::node::{Node, NodeValue};

/// A whole number from `MIN` to `MAX`, decimal or `0x` hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Number<const MIN: u32, const MAX: u32>(pub(crate) u32);

impl<const MIN: u32, const MAX: u32> Scalar for Number<MIN, MAX> {
    const EXPECTED: &'static str = "a whole number";

    fn read(text: &str) -> Result<Self, String> {
        match whole_number(text) {
            Some(number) if (u64::from(MIN)..=u64::from(MAX)).contains(&number) => {
                Ok(Self(u32::try_from(number).unwrap_or(MAX)))
            }
            Some(_) => Err(format!("{text} is not between {MIN} and {MAX}")),
            None => Err(format!("`{text}` is not a whole number between {MIN} and {MAX}")),
        }
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A whole number that fits 64 bits; larger ones saturate, for they are beyond every bound.
pub(super) fn whole_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => (hexadecimal, 16),
        None => (text, 10),
    };
    let legal = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    legal.then(|| u64::from_str_radix(digits, radix).unwrap_or(u64::MAX))
}

/// A scalar that its type parses: the type, what is expected, and its JSON Schema.
macro_rules! parsed_scalar {
    ($type:ty, $expected:literal, $schema:tt) => {
        impl Scalar for $type {
            const EXPECTED: &'static str = $expected;

            fn read(text: &str) -> Result<Self, String> {
                text.parse::<Self>().map_err(|error| error.to_string())
            }

            fn schema() -> Value {
                json!($schema)
            }
        }
    };
}
pub(super) use parsed_scalar;

parsed_scalar!(TenantName, "a tenant name", {
    "type": "string",
    "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
});
parsed_scalar!(RoutingDomainId, "a GUID", {
    "type": "string",
    "pattern": "^(\\{[0-9A-Fa-f-]{36}\\}|[0-9A-Fa-f-]{36})$"
});
parsed_scalar!(MacAddress, "a MAC address", {
    "type": "string",
    "pattern": "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"
});

macro_rules! address_scalar {
    ($type:ident, $expected:literal) => {
        impl Scalar for $type {
            const EXPECTED: &'static str = $expected;

            fn read(text: &str) -> Result<Self, String> {
                text.parse::<IpAddr>()
                    .map(Self)
                    .map_err(|_| format!(concat!("`{}` is not ", $expected), text))
            }

            fn schema() -> Value {
                json!({ "type": "string", "pattern": "^[0-9A-Fa-f.:]+$" })
            }
        }
    };
}

address_scalar!(ProviderAddress, "an IP address");
address_scalar!(CustomerAddress, "an IP address");
address_scalar!(FrontEndAddress, "an IP address");
address_scalar!(HostAddress, "an IP address");

/// An address that the host's kernel connects to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HostAddress(pub(crate) IpAddr);

impl Scalar for Prefix {
    const EXPECTED: &'static str = "a prefix such as 10.1.0.0/24";

    fn read(text: &str) -> Result<Self, String> {
        let no_prefix = || format!("`{text}` is not a prefix: an IP address, `/` and a length");
        if !text.contains('/') {
            return Err(no_prefix());
        }
        let network: IpNetwork = text.parse().map_err(|_| no_prefix())?;
        Self::new(network.ip(), network.prefix()).map_err(|error| error.to_string())
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9A-Fa-f.:]+/[0-9.]+$" })
    }
}

/// A prefix, or an address that stands for the prefix holding only it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PrefixOrAddress(pub(crate) Prefix);

impl Scalar for PrefixOrAddress {
    const EXPECTED: &'static str = "an IP address or a prefix";

    fn read(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Prefix::read(text).map(Self);
        }
        FrontEndAddress::read(text).map(|address| Self(Prefix::host(address.ip())))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9A-Fa-f.:]+(/[0-9.]+)?$" })
    }
}

impl Scalar for Vsid {
    const EXPECTED: &'static str = "a VSID, a whole number";

    fn read(text: &str) -> Result<Self, String> {
        let number = whole_number(text).ok_or_else(|| {
            format!(
                "`{text}` is not a VSID, a whole number between {} and {}",
                Self::MIN,
                Self::MAX
            )
        })?;
        Self::new(u32::try_from(number).unwrap_or(u32::MAX)).map_err(|error| error.to_string())
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": Self::MIN, "maximum": Self::MAX })
    }
}

impl Scalar for SocketAddr {
    const EXPECTED: &'static str = "an address and port such as 127.0.0.1:9470";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is not {}", Self::EXPECTED))
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": ":[0-9]{1,5}$" })
    }
}

/// An absolute path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AbsolutePath(pub(crate) PathBuf);

impl Scalar for AbsolutePath {
    const EXPECTED: &'static str = "an absolute path";

    fn read(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        if path.is_absolute() && !text.contains('\0') {
            Ok(Self(path))
        } else {
            Err(format!("`{}` is not an absolute path", text.escape_debug()))
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^/" })
    }
}

/// The name of a link as the Linux kernel allows it: 1 to 15 bytes, no `/`, no white space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LinkName(pub(crate) String);

impl Scalar for LinkName {
    const EXPECTED: &'static str = "the name of a link";

    fn read(text: &str) -> Result<Self, String> {
        const LONGEST: usize = 15;
        let legal = (1..=LONGEST).contains(&text.len())
            && text.chars().all(|one| one.is_ascii_graphic() && !matches!(one, '/' | ':'))
            && !matches!(text, "." | "..");
        if legal {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "`{}` is no link's name: 1 to {LONGEST} characters without white space, `/` and `:`",
                text.escape_debug()
            ))
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[^\\s/:]{1,15}$" })
    }
}

/// The name of a pool, subnet, site, tunnel or listener: 1 to 63 of letters, digits, `-`, `_` and `.`, beginning with a
/// letter (so that it is never mistaken for a VSID).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Name(pub(crate) String);

impl Scalar for Name {
    const EXPECTED: &'static str = "a name";

    fn read(text: &str) -> Result<Self, String> {
        const LONGEST: usize = 63;
        let legal = (1..=LONGEST).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if legal {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "`{}` is not a name: a letter, then up to {} of letters, digits, `-`, `_` and `.`",
                text.escape_debug(),
                LONGEST - 1
            ))
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z][-A-Za-z0-9_.]{0,62}$" })
    }
}

/// A subnet by its name or by its VSID.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SubnetReference {
    Name(String),
    Vsid(Vsid),
}

impl Scalar for SubnetReference {
    const EXPECTED: &'static str = "the name or VSID of a subnet";

    fn read(text: &str) -> Result<Self, String> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            Vsid::read(text).map(Self::Vsid)
        } else {
            Name::read(text).map(|name| Self::Name(name.0))
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [<Name as Scalar>::schema(), <Vsid as Scalar>::schema()] })
    }
}

/// What a route leads to: an endpoint by a customer address, or a site by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RouteVia {
    Customer(CustomerAddress),
    Site(String),
}

impl Scalar for RouteVia {
    const EXPECTED: &'static str = "an IP address or the name of a site";

    fn read(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Customer(CustomerAddress(address)));
        }
        let name = Name::read(text);
        name.map(|name| Self::Site(name.0)).map_err(|_| {
            format!("`{}` is neither an IP address nor a site's name", text.escape_debug())
        })
    }

    fn schema() -> Value {
        json!({ "anyOf": [<CustomerAddress as Scalar>::schema(), <Name as Scalar>::schema()] })
    }
}

/// One port or a range of ports, `8000-8099`, from 1 to 65535.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl PortRange {
    /// How many ports: at least 1, and at most 65535 because port 0 is never among them.
    pub(crate) const fn count(self) -> u16 {
        self.last - self.first + 1
    }
}

impl Scalar for PortRange {
    const EXPECTED: &'static str = "a port or a range of ports such as 8000-8099";

    fn read(text: &str) -> Result<Self, String> {
        let port = |text: &str| {
            let number = whole_number(text)
                .ok_or_else(|| format!("`{text}` is not a port or a range such as 8000-8099"))?;
            match u16::try_from(number) {
                Ok(port) if port > 0 => Ok(port),
                Ok(_) | Err(_) => Err(format!("port {text} is not between 1 and 65535")),
            }
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first.trim())?, port(last.trim())?),
            None => (port(text)?, port(text)?),
        };
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(format!("the range {text} ends before it begins"))
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": u16::MAX },
            { "type": "string", "pattern": "^[0-9]{1,5}( *- *[0-9]{1,5})?$" },
        ] })
    }
}

/// How many packet workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workers {
    /// One fewer than there are cores, at least one.
    Auto,
    /// So many.
    Count(u32),
}

impl Workers {
    /// The most workers: a NAT port space has 252 blocks to share among them.
    pub(crate) const MAX: u32 = 64;
}

impl Scalar for Workers {
    const EXPECTED: &'static str = "`auto` or a number of workers";

    fn read(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match Number::<1, { Self::MAX }>::read(text) {
            Ok(Number(count)) => Ok(Self::Count(count)),
            Err(_) => {
                Err(format!("`{text}` is neither `auto` nor a number between 1 and {}", Self::MAX))
            }
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": "auto" }, <Number<1, { Self::MAX }> as Scalar>::schema()] })
    }
}

macro_rules! words {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $help:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $name { $($(#[doc = $help])+ $variant,)+ }

        impl Scalar for $name {
            const EXPECTED: &'static str = concat!("one word of" $(, " `", $word, "`")+);

            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => {
                        let words = [$($word),+];
                        let hint = hint(other, words);
                        Err(format!(
                            "`{}` is not one of {}{hint}",
                            other.escape_debug(),
                            quoted(&words)
                        ))
                    }
                }
            }

            fn schema() -> Value {
                json!({ "enum": [$($word),+] })
            }
        }
    };
}

pub(super) use words;

words! {
    /// How DSCP crosses the tunnel's ends.
    Dscp {
        /// One DSCP inside and outside.
        Uniform = "uniform",
        /// The outer DSCP is 0.
        Pipe = "pipe",
    }
}

words! {
    /// The protocols of an inbound rule.
    RuleProtocol {
        /// TCP alone.
        Tcp = "tcp",
        /// UDP alone.
        Udp = "udp",
        /// Both.
        Both = "both",
    }
}

/// `true` or `false`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Scalar for Switch {
    const EXPECTED: &'static str = "`true` or `false`";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Self::On),
            "false" => Ok(Self::Off),
            other => Err(format!("`{}` is neither `true` nor `false`", other.escape_debug())),
        }
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

/// The most front-end addresses of one tenant.
pub(crate) const MAX_NAT_ADDRESSES: usize = 256;

/// Which front-end addresses a tenant has.
#[derive(Clone, Debug)]
pub(crate) enum NatAddresses {
    /// So many, leased from a pool.
    Leased(u32),
    /// Exactly these.
    Explicit(List<FrontEndAddress, 1, MAX_NAT_ADDRESSES>),
}

type NatAddressCount = Number<1, 256>;

impl Decode for NatAddresses {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            NodeValue::Scalar(text) if text.parse::<IpAddr>().is_err() => {
                NatAddressCount::decode(node, decoder).map(|count| Self::Leased(count.0))
            }
            NodeValue::Nothing
            | NodeValue::Scalar(_)
            | NodeValue::Sequence(_)
            | NodeValue::Mapping(_) => List::decode(node, decoder).map(Self::Explicit),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            <NatAddressCount as Scalar>::schema(),
            List::<FrontEndAddress, 1, MAX_NAT_ADDRESSES>::schema(),
        ] })
    }
}

/// A front-end address of the tenant, by its value or by its position among them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum PublicAddress {
    /// The first address is 1.
    Ordinal(u32),
    /// This address.
    Explicit(FrontEndAddress),
}

impl Scalar for PublicAddress {
    const EXPECTED: &'static str = "an IP address, or which of the tenant's (1 is the first)";

    fn read(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return NatAddressCount::read(text).map(|ordinal| Self::Ordinal(ordinal.0));
        }
        FrontEndAddress::read(text).map(Self::Explicit)
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            <NatAddressCount as Scalar>::schema(),
            <FrontEndAddress as Scalar>::schema(),
        ] })
    }
}
