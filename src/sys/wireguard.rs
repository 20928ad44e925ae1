//! The kernel's WireGuard, over generic netlink (linux/wireguard.h).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join};
use ipnetwork::Ipv6Network;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};
use rtnetlink::LinkWireguard;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};

/// One interface of the kernel's WireGuard. It outlives this value: removing it is an act.
pub struct Device {
    wireguard: genetlink::GenetlinkHandle,
    links: rtnetlink::Handle,
    name: String,
}

/// What to do about one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChange {
    pub public_key: [u8; 32],
    pub remove: bool,
    pub preshared: Option<[u8; 32]>,
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0: none.
    pub keepalive: u16,
    /// The prefixes that it owns from now on, in place of those that it had.
    pub allowed: Vec<Ipv6Network>,
}

/// What the kernel says of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerState {
    pub public_key: [u8; 32],
    pub endpoint: Option<SocketAddr>,
    /// How long ago, by the wall clock, which may have moved since.
    pub last_handshake: Option<Duration>,
    pub rx_octets: u64,
    pub tx_octets: u64,
}

impl Device {
    /// Makes the interface, in place of one of the same kind that an earlier process left. The future beside it moves
    /// netlink's messages and must be run.
    ///
    /// # Errors
    /// `Unsupported` if this kernel has no WireGuard; otherwise the kernel's words.
    pub fn connect(name: &str) -> io::Result<(Self, BoxFuture<'static, ()>)> {
        let (general, wireguard, _) = genetlink::new_connection()?;
        let (moves, links, _) = rtnetlink::new_connection()?;
        let both = async move {
            join(general, moves).await;
        };
        Ok((Self { wireguard, links, name: name.to_owned() }, Box::pin(both)))
    }

    /// Makes the interface.
    ///
    /// # Errors
    /// `Unsupported` if this kernel has no WireGuard; otherwise the kernel's words.
    pub async fn create(&self) -> io::Result<()> {
        let add = || self.links.link().add(LinkWireguard::new(&self.name).build()).execute();
        let made = match add().await {
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::EEXIST => {
                // Ours, if it answers as a WireGuard; anything else belongs to somebody.
                self.peers().await.map_err(|_| {
                    let words = format!(
                        "{} exists and is no WireGuard: choose another backhaul.interface",
                        self.name
                    );
                    io::Error::new(io::ErrorKind::AlreadyExists, words)
                })?;
                self.remove().await?;
                add().await
            }
            made => made,
        };
        made.map_err(|error| match &error {
            rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::EOPNOTSUPP => {
                io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this kernel has no WireGuard: load the module wireguard",
                )
            }
            rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::EPERM => io::Error::new(
                io::ErrorKind::PermissionDenied,
                "edgeproxy needs CAP_NET_ADMIN for the backhaul",
            ),
            _ => io::Error::other(format!("cannot make the interface {}: {error}", self.name)),
        })
    }

    /// Takes the interface away, with its addresses and routes.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn remove(&self) -> io::Result<()> {
        let index = nix::net::if_::if_nametoindex(self.name.as_str()).map_err(io::Error::from)?;
        self.links.link().del(index).execute().await.map_err(io::Error::other)
    }

    /// Sets the key and the port.
    ///
    /// # Errors
    /// The kernel's: somebody has the port.
    pub async fn set(&mut self, private_key: [u8; 32], port: u16) -> io::Result<()> {
        let attributes =
            vec![WireguardAttribute::PrivateKey(private_key), WireguardAttribute::ListenPort(port)];
        self.change(attributes).await.map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::AddrInUse {
                "; choose another backhaul.listen"
            } else {
                ""
            };
            io::Error::new(
                error.kind(),
                format!("cannot open UDP port {port} for the backhaul: {error}{hint}"),
            )
        })
    }

    /// Changes peers; those that are not named stay as they are.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn set_peers(&mut self, changes: &[PeerChange]) -> io::Result<()> {
        // A message of netlink has a bound, and a peer needs some 200 octets of it.
        for some in changes.chunks(32) {
            let peers = some.iter().map(attributes).collect();
            self.change(vec![WireguardAttribute::Peers(peers)]).await?;
        }
        Ok(())
    }

    async fn change(&mut self, mut attributes: Vec<WireguardAttribute>) -> io::Result<()> {
        attributes.insert(0, WireguardAttribute::IfName(self.name.clone()));
        let message = WireguardMessage { cmd: WireguardCmd::SetDevice, attributes };
        self.ask(message, NLM_F_REQUEST | NLM_F_ACK, |_| {}).await
    }

    /// All peers.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn peers(&self) -> io::Result<Vec<PeerState>> {
        let message = WireguardMessage {
            cmd: WireguardCmd::GetDevice,
            attributes: vec![WireguardAttribute::IfName(self.name.clone())],
        };
        let mut peers: Vec<PeerState> = Vec::new();
        let mut asked =
            Self { wireguard: self.wireguard.clone(), links: self.links.clone(), name: self.name.clone() };
        asked
            .ask(message, NLM_F_REQUEST | NLM_F_DUMP, |message| {
                for attribute in &message.attributes {
                    let WireguardAttribute::Peers(list) = attribute else { continue };
                    for peer in list.iter().map(state) {
                        // A peer that did not fit into one message goes on in the next.
                        if peers.last().is_none_or(|last| last.public_key != peer.public_key) {
                            peers.push(peer);
                        }
                    }
                }
            })
            .await?;
        Ok(peers)
    }

    async fn ask(
        &mut self,
        message: WireguardMessage,
        flags: u16,
        mut each: impl FnMut(&WireguardMessage),
    ) -> io::Result<()> {
        let mut message = NetlinkMessage::from(netlink_packet_generic::GenlMessage::from_payload(message));
        message.header.flags = flags;
        let mut answers = self.wireguard.request(message).await.map_err(|error| {
            // The family is not there until the module is.
            io::Error::new(io::ErrorKind::Unsupported, format!("this kernel has no WireGuard: {error}"))
        })?;
        while let Some(answer) = answers.next().await {
            match answer.map_err(io::Error::other)?.payload {
                NetlinkPayload::InnerMessage(message) => each(&message.payload),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn attributes(change: &PeerChange) -> WireguardPeer {
    let mut attributes = vec![WireguardPeerAttribute::PublicKey(change.public_key)];
    if change.remove {
        attributes.push(WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe));
        return WireguardPeer(attributes);
    }
    attributes.push(WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps));
    // Zeroes take a preshared key away.
    attributes.push(WireguardPeerAttribute::PresharedKey(change.preshared.unwrap_or([0; 32])));
    attributes.push(WireguardPeerAttribute::PersistentKeepalive(change.keepalive));
    attributes.extend(change.endpoint.map(WireguardPeerAttribute::Endpoint));
    let allowed = change.allowed.iter().map(|net| {
        WireguardAllowedIp(vec![
            WireguardAllowedIpAttr::Family(WireguardAddressFamily::Ipv6),
            WireguardAllowedIpAttr::IpAddr(IpAddr::V6(net.network())),
            WireguardAllowedIpAttr::Cidr(net.prefix()),
        ])
    });
    attributes.push(WireguardPeerAttribute::AllowedIps(allowed.collect()));
    WireguardPeer(attributes)
}

#[expect(clippy::disallowed_methods, reason = "the kernel tells the time of a handshake by the wall clock")]
fn state(peer: &WireguardPeer) -> PeerState {
    let mut state = PeerState::default();
    for attribute in &peer.0 {
        match attribute {
            WireguardPeerAttribute::PublicKey(key) => state.public_key = *key,
            WireguardPeerAttribute::Endpoint(at) => state.endpoint = Some(*at),
            WireguardPeerAttribute::RxBytes(octets) => state.rx_octets = *octets,
            WireguardPeerAttribute::TxBytes(octets) => state.tx_octets = *octets,
            WireguardPeerAttribute::LastHandshake(at) if at.seconds > 0 => {
                let then = UNIX_EPOCH
                    + Duration::new(at.seconds as u64, at.nano_seconds.clamp(0, 999_999_999) as u32);
                state.last_handshake = Some(SystemTime::now().duration_since(then).unwrap_or_default());
            }
            _ => {}
        }
    }
    state
}
