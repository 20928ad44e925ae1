//! The relay's sockets: our own sealed datagrams through a third POP, and those of two others through us.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::Instant;

use tokio::net::UdpSocket;

use super::BackhaulError;
use crate::backhaul::fabric::Fabric;
use crate::backhaul::link::Way;
use crate::backhaul::plane::Name;
use crate::backhaul::relay::{Act, Carrier, Frame, HEAD, read};
use crate::config::backhaul::{Backhaul, RELAY_PORT};
use crate::config::sixpn::Fleet;

/// Datagrams of one socket before the others have their turn.
const TURN: usize = 64;

pub(super) struct Carry {
    /// At our own address inside: frames to and from other POPs.
    frames: UdpSocket,
    fleet: Fleet,
    /// The plane's port.
    listen: u16,
    own: BTreeMap<Name, Own>,
    carrier: Carrier,
    buffer: Vec<u8>,
}

/// The socket that stands for one peer towards our own plane.
struct Own {
    socket: UdpSocket,
    address: SocketAddr,
    /// Who brought its last datagram.
    via: Option<Name>,
}

impl Carry {
    pub(super) fn open(config: &Backhaul, now: Instant) -> Result<Self, BackhaulError> {
        let at = SocketAddr::new(config.node().into(), RELAY_PORT);
        let frames = open(at).map_err(|error| {
            let words = format!("cannot open UDP port {RELAY_PORT} for the backhaul's relay: {error}");
            BackhaulError::Plane(io::Error::new(error.kind(), words))
        })?;
        Ok(Self {
            frames,
            fleet: config.fleet,
            listen: config.listen,
            own: BTreeMap::new(),
            carrier: Carrier::new(config.relay, now),
            buffer: vec![0; HEAD + 65_535],
        })
    }

    pub(super) fn configure(&mut self, config: &Backhaul) {
        self.carrier.set_allowed(config.relay);
        self.own.retain(|name, _| config.peer(name).is_some());
    }

    /// Opens the sockets that relayed peers need. One that cannot be had leaves its peer where it was.
    pub(super) fn prepare(&mut self, fabric: &Fabric) {
        let relayed = |name: &&Name| matches!(fabric.way(name), Some(Way::Relay(_)));
        let names: Vec<Name> = fabric.names().filter(relayed).cloned().collect();
        for name in names {
            let _ = self.own(&name);
        }
    }

    /// Where the plane must send for a peer, so that it comes to us.
    pub(super) fn address(&self, name: &Name) -> Option<SocketAddr> {
        self.own.get(name).map(|own| own.address)
    }

    /// Through whom datagrams go that the plane sends to this address.
    pub(super) fn via(&self, address: SocketAddr) -> Option<Name> {
        self.own.values().find(|own| own.address == address)?.via.clone()
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.carrier.carried, self.carrier.dropped)
    }

    /// Waits for datagrams and carries some.
    pub(super) async fn turn(&mut self, fabric: &Fabric) {
        let ready = poll_fn(|context| {
            if self.frames.poll_recv_ready(context).is_ready() {
                return Poll::Ready(None);
            }
            let own = self.own.iter().find(|(_, own)| own.socket.poll_recv_ready(context).is_ready());
            own.map_or(Poll::Pending, |(name, _)| Poll::Ready(Some(name.clone())))
        });
        match ready.await {
            None => self.take_from_others(fabric),
            Some(name) => self.take_from_ourselves(&name, fabric),
        }
    }

    /// Frames that other POPs sent us.
    fn take_from_others(&mut self, fabric: &Fabric) {
        for _ in 0..TURN {
            let Ok((length, from)) = self.frames.try_recv_from(&mut self.buffer) else { return };
            let SocketAddr::V6(from) = from else { continue };
            let source = self.fleet.explain(*from.ip()).ok().map(|spot| spot.place);
            // The plane let in only what is of its peer.
            let Some(source) = source.filter(|place| self.fleet.node(*place) == *from.ip()) else { continue };
            let buffer = std::mem::take(&mut self.buffer);
            let is_peer = |place| fabric.at(place).is_some();
            let act = read(&buffer[..length])
                .and_then(|frame| self.carrier.judge(frame, source, is_peer, Instant::now()));
            match act {
                Some(Act::Carry(place, datagram)) => {
                    let mut onward = Vec::with_capacity(length);
                    onward.extend_from_slice(&Frame::From(source, datagram).head());
                    onward.extend_from_slice(datagram);
                    let to = SocketAddr::new(self.fleet.node(place).into(), RELAY_PORT);
                    let _ = self.frames.try_send_to(&onward, to);
                }
                Some(Act::Take(place, datagram)) => {
                    if let (Some(name), Some(relay)) = (fabric.at(place).cloned(), fabric.at(source).cloned())
                        && let Ok(own) = self.own(&name)
                    {
                        own.via = Some(relay);
                        let _ = own.socket.try_send(datagram);
                    }
                }
                None => {}
            }
            self.buffer = buffer;
        }
    }

    /// Datagrams of our own plane, for a peer that is reached through a third.
    fn take_from_ourselves(&mut self, name: &Name, fabric: &Fabric) {
        for _ in 0..TURN {
            let Some(own) = self.own.get_mut(name) else { return };
            let Ok(length) = own.socket.try_recv(&mut self.buffer[HEAD..]) else { return };
            if let Some(Way::Relay(relay)) = fabric.way(name) {
                own.via = Some(relay.clone());
            }
            let relay = own.via.as_ref().and_then(|relay| fabric.place(relay));
            let (Some(relay), Some(target)) = (relay, fabric.place(name)) else { continue };
            self.buffer[..HEAD].copy_from_slice(&Frame::To(target, &[]).head());
            let to = SocketAddr::new(self.fleet.node(relay).into(), RELAY_PORT);
            let _ = self.frames.try_send_to(&self.buffer[..HEAD + length], to);
        }
    }

    fn own(&mut self, name: &Name) -> io::Result<&mut Own> {
        if !self.own.contains_key(name) {
            let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect((Ipv4Addr::LOCALHOST, self.listen))?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            let own = Own { socket: UdpSocket::from_std(socket)?, address, via: None };
            self.own.insert(name.clone(), own);
        }
        self.own.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn open(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
