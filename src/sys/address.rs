//! Anycast addresses on an interface, over netlink: ours are marked, the operator's are left alone.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::LinkAttribute;

/// Our mark on addresses (IFA_PROTO, Linux 5.18): after a crash the next start knows them as ours.
const OURS: AddressProtocol = AddressProtocol::Other(0xED);
/// The mark that older kernels keep too (IFA_RT_PRIORITY, Linux 4.18): the metric of the route to the
/// address's network. A host address has none in IPv4, and in IPv6 one that the local table hides.
const OUR_METRIC: u32 = 0xEDED;

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// We put it there and take it away.
    Ours,
    /// It was there before us and stays.
    Operator,
}

/// What was on the devices at one look.
#[derive(Debug, Default)]
pub struct Found {
    devices: BTreeMap<String, u32>,
    addresses: BTreeMap<(IpAddr, u32), Owner>,
}

/// The anycast addresses of this process. Dropping it leaves them bound: taking them away is an
/// act ([`Addresses::release`]) that must come after the withdrawal.
#[derive(Debug)]
pub struct Addresses {
    handle: rtnetlink::Handle,
    held: BTreeMap<(IpAddr, String), Owner>,
}

impl Addresses {
    /// Opens a netlink socket. The future beside it moves its messages and must be run.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<(Self, BoxFuture<'static, ()>)> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok((Self { handle, held: BTreeMap::new() }, Box::pin(connection)))
    }

    /// Reads which addresses are on which devices: one dump of each, however many there are.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn look(&self) -> io::Result<Found> {
        let mut found = Found::default();
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(io::Error::other)? {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            found.devices.extend(name.map(|name| (name, link.header.index)));
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(io::Error::other)? {
            let owner = if is_ours(&message) { Owner::Ours } else { Owner::Operator };
            let index = message.header.index;
            let of = |attribute: &AddressAttribute| match attribute {
                AddressAttribute::Address(address) | AddressAttribute::Local(address) => Some(*address),
                _ => None,
            };
            let addresses = message.attributes.iter().filter_map(of);
            found.addresses.extend(addresses.map(|address| ((address, index), owner)));
        }
        Ok(found)
    }

    /// Binds an address to a device unless it is there already, by what was found at the last look.
    ///
    /// # Errors
    /// The device does not exist, or the kernel refuses; the words say what to do.
    pub async fn bind(&mut self, address: IpAddr, device: &str, found: &Found) -> io::Result<Owner> {
        let index = *found.devices.get(device).ok_or_else(|| no_such_device(device))?;
        let key = (address, device.to_owned());
        let owner = match found.addresses.get(&(address, index)) {
            // Kernels before 4.18 keep no mark: what we put there ourselves stays ours.
            Some(_) if self.held.get(&key) == Some(&Owner::Ours) => Owner::Ours,
            Some(owner) => *owner,
            None => {
                // Before the attempt: should it be given up half way, the address may be there.
                self.held.insert(key.clone(), Owner::Ours);
                if let Err(error) = self.add(address, index, device).await {
                    self.held.remove(&key);
                    return Err(error);
                }
                Owner::Ours
            }
        };
        self.held.insert(key, owner);
        Ok(owner)
    }

    /// Takes an address away if it is ours.
    ///
    /// # Errors
    /// The kernel's; the address stays ours and can be tried again.
    pub async fn release(&mut self, address: IpAddr, device: &str) -> io::Result<()> {
        let key = (address, device.to_owned());
        if self.held.get(&key) == Some(&Owner::Ours) {
            let mut links = self.handle.link().get().match_name(device.to_owned()).execute();
            // With the device its addresses are gone too.
            if let Ok(Some(link)) = links.try_next().await
                // An operator may have taken it, or put their own in its place, meanwhile.
                && let Some(message) = self.find(address, link.header.index).await?.filter(is_ours)
            {
                self.handle.address().del(message).execute().await.map_err(io::Error::other)?;
            }
        }
        self.held.remove(&key);
        Ok(())
    }

    /// Takes all addresses away that are ours.
    ///
    /// # Errors
    /// The first of the kernel's; the others are tried nevertheless.
    pub async fn release_all(&mut self) -> io::Result<()> {
        let mut first = Ok(());
        for (address, device) in self.held.keys().cloned().collect::<Vec<_>>() {
            let released = self.release(address, &device).await;
            if first.is_ok() {
                first = released;
            }
        }
        first
    }

    async fn find(&self, address: IpAddr, index: u32) -> io::Result<Option<AddressMessage>> {
        let mut found =
            self.handle.address().get().set_link_index_filter(index).set_address_filter(address).execute();
        found.try_next().await.map_err(io::Error::other)
    }

    async fn add(&self, address: IpAddr, index: u32, device: &str) -> io::Result<()> {
        let host_route = if address.is_ipv4() { 32 } else { 128 };
        let mut request = self.handle.address().add(index, address, host_route);
        let message = request.message_mut();
        message.attributes.push(AddressAttribute::Protocol(OURS));
        message.attributes.push(AddressAttribute::RoutePriority(OUR_METRIC));
        // An anycast address must never become the source of what this machine itself sends: its
        // answers would arrive at another POP. IPv4 has scope host for that, IPv6 a preferred
        // lifetime of 0 (RFC 6724 rule 3).
        match address {
            IpAddr::V4(_) => message.header.scope = AddressScope::Host,
            IpAddr::V6(_) => {
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
                let mut lifetimes = CacheInfo::default();
                lifetimes.ifa_preferred = 0;
                lifetimes.ifa_valid = u32::MAX;
                message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
            }
        }
        request.execute().await.map_err(|error| {
            let hint = match &error {
                rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::EPERM => {
                    ": edgeproxy needs CAP_NET_ADMIN to bind anycast addresses"
                }
                _ => "",
            };
            io::Error::other(format!("cannot bind {address} to {device}: {error}{hint}"))
        })
    }
}

fn no_such_device(device: &str) -> io::Error {
    let words = format!("there is no interface {device}: create it, or correct anycast[].device");
    io::Error::new(io::ErrorKind::NotFound, words)
}

fn is_ours(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Protocol(protocol) => *protocol == OURS,
        AddressAttribute::RoutePriority(metric) => *metric == OUR_METRIC,
        _ => false,
    })
}
