//! An interface of ours, over netlink: up, with its MTU, addresses and routes.

use std::io;
use std::net::Ipv6Addr;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use ipnetwork::Ipv6Network;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMetric};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

/// Routes of ours, for those who look at the routing table (RTPROT, as in /etc/iproute2/rt_protos: free).
const PROTOCOL: u8 = 0xED;

/// One interface by its number, which a name may lose.
#[derive(Debug)]
pub struct Interface {
    handle: rtnetlink::Handle,
    index: u32,
    name: String,
}

impl Interface {
    /// Finds an interface. The future beside it moves netlink's messages and must be run meanwhile.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn find(name: &str) -> io::Result<(Self, BoxFuture<'static, ()>)> {
        let index = nix::net::if_::if_nametoindex(name).map_err(io::Error::from)?;
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok((Self { handle, index, name: name.to_owned() }, Box::pin(connection)))
    }

    /// Puts it up.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn up(&self) -> io::Result<()> {
        let link = LinkUnspec::new_with_index(self.index).up().build();
        self.handle.link().set(link).execute().await.map_err(|error| self.words("cannot put up", &error))
    }

    /// Sets the longest packet that it takes, in octets.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        let link = LinkUnspec::new_with_index(self.index).mtu(u32::from(mtu)).build();
        self.handle
            .link()
            .set(link)
            .execute()
            .await
            .map_err(|error| self.words("cannot set the MTU of", &error))
    }

    /// Adds an address without a network around it.
    ///
    /// # Errors
    /// The kernel's; one that is there already is none.
    pub async fn add_address(&self, address: Ipv6Addr) -> io::Result<()> {
        let mut request = self.handle.address().add(self.index, address.into(), 128).replace();
        // Nobody else could have it, and nobody could answer.
        request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        request.execute().await.map_err(|error| self.words("cannot add an address to", &error))
    }

    /// Routes a network to it, with `source` as the address of what this machine sends there. `mtu`: the longest packet
    /// that the path takes, if less than the interface.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn set_route(&self, to: Ipv6Network, source: Ipv6Addr, mtu: Option<u16>) -> io::Result<()> {
        let mut route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(to.network(), to.prefix())
            .output_interface(self.index)
            .pref_source(source)
            .protocol(PROTOCOL.into())
            .build();
        if let Some(mtu) = mtu {
            route.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(u32::from(mtu))]));
        }
        self.handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(|error| self.words(&format!("cannot route {to} to"), &error))
    }

    /// Takes a route away, if it is there.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn remove_route(&self, to: Ipv6Network) -> io::Result<()> {
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(to.network(), to.prefix())
            .output_interface(self.index)
            .protocol(PROTOCOL.into())
            .build();
        match self.handle.route().del(route).execute().await {
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::ESRCH => Ok(()),
            done => done.map_err(|error| self.words(&format!("cannot take the route {to} from"), &error)),
        }
    }

    /// Whether it is there still.
    pub async fn is_there(&self) -> bool {
        let mut links = self.handle.link().get().match_index(self.index).execute();
        matches!(links.try_next().await, Ok(Some(_)))
    }

    fn words(&self, what: &str, error: &rtnetlink::Error) -> io::Error {
        let hint = match error {
            rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::EPERM => {
                ": edgeproxy needs CAP_NET_ADMIN for the backhaul"
            }
            rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::EACCES => {
                ": IPv6 is switched off here; sysctl net.ipv6.conf.all.disable_ipv6 must be 0"
            }
            _ => "",
        };
        io::Error::other(format!("{what} {}: {error}{hint}", self.name))
    }
}
