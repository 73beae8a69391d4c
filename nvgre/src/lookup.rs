//! The lookup records of one routing domain (RFC 7637 section 4.5): which endpoint has a customer
//! address or a MAC, and which hosts may speak for it.
//!
//! A table is built once from proven records and never changes; it knows nothing of other
//! domains. Its hashing is seeded by argument, so that no tenant can choose addresses that collide.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use nvgate_model::{CustomerAddress, MacAddress, Vsid};
use nvgate_packet::flow_key::hash_words;

/// The most provider addresses that may speak for one endpoint.
pub const MAX_HOSTS: usize = 8;
/// The most endpoints of one routing domain.
pub const MAX_ENDPOINTS: usize = 1 << 20;

/// A provider address, by its place in the caller's list of all hosts' addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct HostIndex(pub u16);

/// An endpoint, by its place in the [`LookupTable`] of its routing domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointIndex(pub u32);

/// A VM's network interface: its MAC, its virtual subnet, and the provider addresses of the host
/// it runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    mac: MacAddress,
    vsid: Vsid,
    host_count: u8,
    hosts: [HostIndex; MAX_HOSTS],
}

/// What cannot be an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The MAC is a group address or zero.
    #[error("{0} is not a station's MAC address")]
    NotStation(MacAddress),
    /// The number of provider addresses is 0 or too large.
    #[error("endpoint {mac} has {count} provider addresses, not 1 to {MAX_HOSTS}")]
    Hosts {
        /// The endpoint's MAC.
        mac: MacAddress,
        /// How many provider addresses there are.
        count: usize,
    },
}

impl Endpoint {
    /// The endpoint that frames are sent to at the first of `hosts` and accepted from at all.
    ///
    /// # Errors
    ///
    /// The MAC is no station's, or there are not 1 to [`MAX_HOSTS`] hosts.
    pub fn new(mac: MacAddress, vsid: Vsid, hosts: &[HostIndex]) -> Result<Self, InvalidEndpoint> {
        if !mac.is_station() {
            return Err(InvalidEndpoint::NotStation(mac));
        }
        let mut own = [HostIndex::default(); MAX_HOSTS];
        match own.get_mut(..hosts.len()) {
            Some(own) if !hosts.is_empty() => own.copy_from_slice(hosts),
            Some(_) | None => return Err(InvalidEndpoint::Hosts { mac, count: hosts.len() }),
        }
        Ok(Self { mac, vsid, host_count: hosts.len() as u8, hosts: own })
    }

    /// The MAC.
    #[inline]
    #[must_use]
    pub const fn mac(&self) -> MacAddress {
        self.mac
    }

    /// The virtual subnet.
    #[inline]
    #[must_use]
    pub const fn vsid(&self) -> Vsid {
        self.vsid
    }

    /// The provider address that frames for this endpoint are sent to.
    #[inline]
    #[must_use]
    pub const fn host(&self) -> HostIndex {
        self.hosts[0]
    }

    /// All provider addresses that may speak for this endpoint, 1 to [`MAX_HOSTS`].
    #[inline]
    #[must_use]
    pub fn hosts(&self) -> &[HostIndex] {
        &self.hosts[..usize::from(self.host_count)]
    }

    /// Whether `host` may speak for this endpoint.
    #[inline]
    #[must_use]
    pub fn hosted_by(&self, host: HostIndex) -> bool {
        self.hosts().contains(&host)
    }
}

/// Records that contradict each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LookupError {
    /// Two endpoints of the domain have the same customer address.
    #[error("customer address {customer} belongs to endpoint {first} and to endpoint {second}")]
    CustomerTwice {
        /// The address.
        customer: CustomerAddress,
        /// The MAC of the endpoint that has it.
        first: MacAddress,
        /// The MAC of the endpoint that was to have it too.
        second: MacAddress,
    },
    /// Two endpoints of a virtual subnet have the same MAC.
    #[error("endpoints {} and {} of VSID {vsid} have the same MAC {mac}", first.0, second.0)]
    MacTwice {
        /// The virtual subnet.
        vsid: Vsid,
        /// The MAC.
        mac: MacAddress,
        /// The endpoint that has it.
        first: EndpointIndex,
        /// The endpoint that was to have it too.
        second: EndpointIndex,
    },
    /// The domain has too many endpoints.
    #[error("a routing domain has at most {MAX_ENDPOINTS} endpoints")]
    TooMany,
}

/// Collects the records of one routing domain; see [`LookupTable::builder`].
#[derive(Clone, Debug)]
pub struct LookupBuilder {
    seed: u64,
    endpoints: Vec<Endpoint>,
    customers: BTreeMap<CustomerAddress, EndpointIndex>,
    macs: BTreeMap<(Vsid, MacAddress), EndpointIndex>,
}

impl LookupBuilder {
    /// Adds an endpoint with its customer addresses (none is allowed: then only its MAC is found).
    /// An address named twice for the same endpoint counts once.
    ///
    /// # Errors
    ///
    /// A customer address or (VSID, MAC) that another endpoint has, or one endpoint too many;
    /// nothing is added then.
    pub fn add(
        &mut self,
        endpoint: Endpoint,
        customers: &[CustomerAddress],
    ) -> Result<EndpointIndex, LookupError> {
        if self.endpoints.len() == MAX_ENDPOINTS {
            return Err(LookupError::TooMany);
        }
        let second = EndpointIndex(self.endpoints.len() as u32);
        let Endpoint { mac, vsid, .. } = endpoint;
        if let Some(&first) = self.macs.get(&(vsid, mac)) {
            return Err(LookupError::MacTwice { vsid, mac, first, second });
        }
        for &customer in customers {
            if let Some(first) = self.customers.get(&customer) {
                let first = self.endpoints[first.0 as usize].mac;
                return Err(LookupError::CustomerTwice { customer, first, second: mac });
            }
        }
        self.endpoints.push(endpoint);
        self.macs.insert((vsid, mac), second);
        self.customers.extend(customers.iter().map(|&customer| (customer, second)));
        Ok(second)
    }

    /// The table of all that was added.
    #[must_use]
    pub fn build(self) -> LookupTable {
        let seed = self.seed;
        let v4 = self.customers.iter().filter_map(|(customer, &index)| match customer.ip() {
            IpAddr::V4(v4) => Some((v4.to_bits(), index)),
            IpAddr::V6(_) => None,
        });
        let v6 = self.customers.iter().filter_map(|(customer, &index)| match customer.ip() {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some((v6.to_bits(), index)),
        });
        let macs = self.macs.iter().map(|(&(vsid, mac), &index)| (mac_key(vsid, mac), index));
        LookupTable {
            v4: Table::new(v4, seed),
            v6: Table::new(v6, seed),
            macs: Table::new(macs, seed),
            endpoints: self.endpoints.into_boxed_slice(),
        }
    }
}

/// The lookup records of one routing domain.
#[derive(Clone, Debug)]
pub struct LookupTable {
    endpoints: Box<[Endpoint]>,
    v4: Table<u32>,
    v6: Table<u128>,
    macs: Table<u128>,
}

impl LookupTable {
    /// A builder of a table whose hashing nobody steers who does not know `seed`.
    #[must_use]
    pub const fn builder(seed: u64) -> LookupBuilder {
        LookupBuilder {
            seed,
            endpoints: Vec::new(),
            customers: BTreeMap::new(),
            macs: BTreeMap::new(),
        }
    }

    /// The endpoint with this customer address.
    #[inline]
    #[must_use]
    pub fn by_customer(&self, customer: CustomerAddress) -> Option<EndpointIndex> {
        match customer.ip() {
            IpAddr::V4(v4) => self.by_customer_v4(v4),
            IpAddr::V6(v6) => self.v6.lookup(v6.to_bits()),
        }
    }

    /// The endpoint with this IPv4 customer address.
    #[inline]
    #[must_use]
    pub fn by_customer_v4(&self, customer: Ipv4Addr) -> Option<EndpointIndex> {
        self.v4.lookup(customer.to_bits())
    }

    /// The endpoint with this MAC in this virtual subnet.
    #[inline]
    #[must_use]
    pub fn by_mac(&self, vsid: Vsid, mac: MacAddress) -> Option<EndpointIndex> {
        self.macs.lookup(mac_key(vsid, mac))
    }

    /// The endpoint with this index; `None` when it came from another table and is past the end
    /// of this one.
    #[inline]
    #[must_use]
    pub fn endpoint(&self, index: EndpointIndex) -> Option<&Endpoint> {
        self.endpoints.get(index.0 as usize)
    }

    /// All endpoints, in the order they were added; an [`EndpointIndex`] counts in it.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
}

fn mac_key(vsid: Vsid, mac: MacAddress) -> u128 {
    let [a, b, c, d, e, f] = mac.0;
    let station = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    u128::from(vsid.number()) << 64 | u128::from(station)
}

/// An open-addressing table that is never more than half full and never changes.
#[derive(Clone, Debug)]
struct Table<K> {
    slots: Box<[Slot<K>]>,
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot<K> {
    key: K,
    /// [`EMPTY`], or an endpoint's index.
    index: u32,
}

const EMPTY: u32 = u32::MAX;

impl<K: Copy + Eq + Default + Into<u128>> Table<K> {
    /// The table of these entries, whose keys are distinct.
    fn new(entries: impl Iterator<Item = (K, EndpointIndex)> + Clone, seed: u64) -> Self {
        let capacity = (entries.clone().count() * 2).next_power_of_two().max(2);
        let empty = Slot { key: K::default(), index: EMPTY };
        let mut table = Self { slots: vec![empty; capacity].into(), seed };
        for (key, EndpointIndex(index)) in entries {
            let mut at = table.home(key);
            while table.slots[at].index != EMPTY {
                at = (at + 1) & (capacity - 1);
            }
            table.slots[at] = Slot { key, index };
        }
        table
    }

    #[inline]
    fn home(&self, key: K) -> usize {
        let key: u128 = key.into();
        let hash = hash_words(key as u64, (key >> 64) as u64, self.seed);
        hash as usize & (self.slots.len() - 1)
    }

    #[inline]
    fn lookup(&self, key: K) -> Option<EndpointIndex> {
        let mut at = self.home(key);
        loop {
            let slot = self.slots[at];
            if slot.index == EMPTY {
                return None;
            }
            if slot.key == key {
                return Some(EndpointIndex(slot.index));
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mac(last: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, last])
    }

    fn vsid(number: u32) -> Vsid {
        Vsid::new(number).unwrap()
    }

    fn customer(text: &str) -> CustomerAddress {
        CustomerAddress(text.parse().unwrap())
    }

    fn endpoint(last: u8, number: u32) -> Endpoint {
        Endpoint::new(mac(last), vsid(number), &[HostIndex(3), HostIndex(5)]).unwrap()
    }

    #[test]
    fn an_endpoint_is_found_by_each_of_its_addresses_and_by_its_mac() {
        let mut builder = LookupTable::builder(1);
        let customers = [customer("10.0.0.4"), customer("10.0.0.5"), customer("fd00::4")];
        let first = builder.add(endpoint(1, 5001), &customers).unwrap();
        let second = builder.add(endpoint(1, 5002), &[customer("10.0.1.4")]).unwrap();
        let table = builder.build();
        for customer in customers {
            assert_eq!(table.by_customer(customer), Some(first));
        }
        assert_eq!(table.by_customer_v4(Ipv4Addr::new(10, 0, 1, 4)), Some(second));
        assert_eq!(table.by_mac(vsid(5001), mac(1)), Some(first));
        assert_eq!(table.by_mac(vsid(5002), mac(1)), Some(second));
        assert_eq!(table.by_mac(vsid(5003), mac(1)), None);
        assert_eq!(table.by_customer(customer("10.0.0.6")), None);
        assert_eq!(table.by_customer(customer("::a00:4")), None, "families are apart");
        assert_eq!(table.endpoint(second).map(Endpoint::vsid), Some(vsid(5002)));
        assert_eq!(table.endpoints().len(), 2);
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let table = LookupTable::builder(1).build();
        assert_eq!(table.by_customer_v4(Ipv4Addr::UNSPECIFIED), None);
        assert_eq!(table.by_customer(customer("::")), None);
        assert_eq!(table.by_mac(vsid(5001), MacAddress::default()), None);
    }

    #[test]
    fn duplicates_are_refused_naming_both_and_add_nothing() {
        let mut builder = LookupTable::builder(1);
        builder.add(endpoint(1, 5001), &[customer("10.0.0.4")]).unwrap();
        let error = builder
            .add(endpoint(2, 5001), &[customer("10.0.0.5"), customer("10.0.0.4")])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "customer address 10.0.0.4 belongs to endpoint 02:00:00:00:00:01 and to endpoint 02:00:00:00:00:02"
        );
        let error = builder.add(endpoint(1, 5001), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "endpoints 0 and 1 of VSID 5001 have the same MAC 02:00:00:00:00:01"
        );
        let table = builder.build();
        assert_eq!(table.endpoints().len(), 1);
        assert_eq!(table.by_customer(customer("10.0.0.5")), None);
        assert_eq!(table.by_mac(vsid(5001), mac(2)), None);
    }

    #[test]
    fn only_the_hosts_of_an_endpoint_speak_for_it() {
        let endpoint = endpoint(1, 5001);
        assert_eq!((endpoint.host(), endpoint.hosts().len()), (HostIndex(3), 2));
        assert!(endpoint.hosted_by(HostIndex(3)) && endpoint.hosted_by(HostIndex(5)));
        // The unused places of the list hold host 0, which must not speak.
        assert!(!endpoint.hosted_by(HostIndex(0)) && !endpoint.hosted_by(HostIndex(4)));
        assert!(size_of::<Endpoint>() <= 64);
    }

    #[test]
    fn an_endpoint_has_a_station_mac_and_one_to_eight_hosts() {
        let new = |mac, count| Endpoint::new(mac, vsid(5001), &vec![HostIndex(1); count]);
        assert!(new(mac(1), 1).is_ok() && new(mac(1), MAX_HOSTS).is_ok());
        for count in [0, MAX_HOSTS + 1] {
            assert_eq!(new(mac(1), count), Err(InvalidEndpoint::Hosts { mac: mac(1), count }));
        }
        let group = MacAddress([1, 0, 0x5e, 0, 0, 1]);
        assert_eq!(new(group, 1), Err(InvalidEndpoint::NotStation(group)));
    }

    proptest! {
        #[test]
        fn the_table_answers_as_a_map_does(
            addresses in proptest::collection::btree_set(0_u32..2000, 0..500), seed in any::<u64>(), v6 in any::<bool>(),
        ) {
            let of = |number: u32| CustomerAddress(if v6 {
                IpAddr::V6(u128::from(number).into())
            } else {
                IpAddr::V4(number.into())
            });
            let mut builder = LookupTable::builder(seed);
            let mut map = BTreeMap::new();
            for &number in &addresses {
                let [_, _, high, low] = number.to_be_bytes();
                let mac = MacAddress([2, 0, 0, 0, high, low]);
                let endpoint = Endpoint::new(mac, vsid(5001), &[HostIndex(1)]).unwrap();
                map.insert(number, (builder.add(endpoint, &[of(number)]).unwrap(), mac));
            }
            let table = builder.build();
            for number in 0..2000 {
                prop_assert_eq!(table.by_customer(of(number)), map.get(&number).map(|entry| entry.0));
            }
            for &(index, mac) in map.values() {
                prop_assert_eq!(table.by_mac(vsid(5001), mac), Some(index));
                prop_assert_eq!(table.endpoint(index).map(Endpoint::mac), Some(mac));
            }
        }
    }
}
