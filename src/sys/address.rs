//! Anycast addresses on an interface, over netlink: ours are marked, the operator's are left alone.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};

/// Our mark on addresses (IFA_PROTO, Linux 5.18): after a crash the next start knows them as ours.
const OURS: AddressProtocol = AddressProtocol::Other(0xED);

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// We put it there and take it away.
    Ours,
    /// It was there before us and stays.
    Operator,
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

    /// Binds an address to a device unless it is there already.
    ///
    /// # Errors
    /// The device does not exist, or the kernel refuses; the words say what to do.
    pub async fn bind(&mut self, address: IpAddr, device: &str) -> io::Result<Owner> {
        let index = self.index(device).await?;
        let owner = match self.find(address, index).await? {
            Some(message) if is_ours(&message) => Owner::Ours,
            Some(_) => Owner::Operator,
            None => {
                self.add(address, index, device).await?;
                Owner::Ours
            }
        };
        self.held.insert((address, device.to_owned()), owner);
        Ok(owner)
    }

    /// Whether an address is on the device at this moment, and whose it is.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn check(&self, address: IpAddr, device: &str) -> io::Result<Option<Owner>> {
        let index = self.index(device).await?;
        let found = self.find(address, index).await?;
        Ok(found.map(|message| if is_ours(&message) { Owner::Ours } else { Owner::Operator }))
    }

    /// Takes an address away if it is ours.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn release(&mut self, address: IpAddr, device: &str) -> io::Result<()> {
        if self.held.remove(&(address, device.to_owned())) != Some(Owner::Ours) {
            return Ok(());
        }
        let index = self.index(device).await?;
        // An operator may have taken it, or put their own in its place, meanwhile.
        let Some(message) = self.find(address, index).await?.filter(is_ours) else { return Ok(()) };
        self.handle.address().del(message).execute().await.map_err(io::Error::other)
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

    async fn index(&self, device: &str) -> io::Result<u32> {
        let mut links = self.handle.link().get().match_name(device.to_owned()).execute();
        match links.try_next().await {
            Ok(Some(link)) => Ok(link.header.index),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("there is no interface {device}: create it, or correct anycast[].device"),
            )),
        }
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

fn is_ours(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|a| matches!(a, AddressAttribute::Protocol(p) if *p == OURS))
}
