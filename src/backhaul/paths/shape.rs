//! The interface as it should be: its addresses and routes, and how long packets may be.

use std::collections::BTreeMap;

use ipnetwork::Ipv6Network;

use super::BackhaulError;
use crate::backhaul::fabric::Fabric;
use crate::backhaul::link::Way;
use crate::config::backhaul::Backhaul;
use crate::config::sixpn::Fleet;
use crate::supervise::task::Task;
use crate::sys::interface::Interface;
use crate::sys::path_mtu;

/// Headers around a packet outside: UDP, and WireGuard's (whitepaper §5.4.6).
const AROUND: u32 = 8 + 32;

pub(super) struct Shape {
    interface: Interface,
    /// Moves netlink's messages.
    _moves: Task<()>,
    fleet: Fleet,
    node: std::net::Ipv6Addr,
    mtu: u16,
    /// Peers whose path takes less than the interface.
    routes: BTreeMap<Ipv6Network, u16>,
    pub(super) dirty: bool,
}

impl Shape {
    pub(super) async fn begin(config: &Backhaul) -> Result<Self, BackhaulError> {
        let (interface, moves) = Interface::find(&config.interface).map_err(BackhaulError::Plane)?;
        let moves = Task::spawn("backhaul-netlink", moves);
        let shape = Self {
            interface,
            _moves: moves,
            fleet: config.fleet,
            node: config.node(),
            mtu: config.mtu.unwrap_or(1420),
            routes: BTreeMap::new(),
            dirty: true,
        };
        let interface = &shape.interface;
        interface.set_mtu(shape.mtu).await.map_err(BackhaulError::Plane)?;
        interface.up().await.map_err(BackhaulError::Plane)?;
        for address in [config.node(), config.fleet.resolver(config.place)] {
            interface.add_address(address).await.map_err(BackhaulError::Plane)?;
        }
        interface.set_route(config.fleet.prefix(), shape.node, None).await.map_err(BackhaulError::Plane)?;
        Ok(shape)
    }

    /// Asks the kernel how long datagrams to each peer may be.
    pub(super) fn measure(&mut self, fabric: &mut Fabric) {
        let targets = fabric.names().filter_map(|name| match fabric.way(name) {
            Some(Way::Direct(Some(at))) => Some((name.clone(), at.ip())),
            _ => None,
        });
        for (name, at) in targets.collect::<Vec<_>>() {
            let Ok((mtu, _)) = path_mtu::path_to(at) else { continue };
            let header = if at.to_canonical().is_ipv4() { 20 } else { 40 };
            let inside = mtu.saturating_sub(header + AROUND).min(65_535) as u16;
            // In whole blocks, so that padding never makes the longest packet longer (whitepaper §5.4.6).
            fabric.set_mtu(&name, inside.clamp(1280, 9000));
        }
    }

    pub(super) fn touched(&mut self) {
        self.dirty = true;
    }

    /// Brings the interface into its shape.
    ///
    /// # Errors
    /// It is gone.
    pub(super) async fn keep(&mut self, fabric: &Fabric) -> Result<(), BackhaulError> {
        self.dirty = false;
        if !self.interface.is_there().await {
            let gone = std::io::Error::new(std::io::ErrorKind::NotFound, "somebody removed it");
            return Err(BackhaulError::Interface(gone));
        }
        let mtu = fabric.mtu();
        if mtu != self.mtu {
            self.interface.set_mtu(mtu).await.map_err(BackhaulError::Interface)?;
            self.mtu = mtu;
        }
        let short: BTreeMap<Ipv6Network, u16> = fabric
            .mtus()
            .filter(|(_, path)| *path < mtu)
            .map(|(place, path)| (self.fleet.subnet(place), path))
            .collect();
        for (to, path) in &short {
            if self.routes.get(to) != Some(path) {
                self.interface
                    .set_route(*to, self.node, Some(*path))
                    .await
                    .map_err(BackhaulError::Interface)?;
            }
        }
        for to in self.routes.keys().filter(|to| !short.contains_key(*to)) {
            self.interface.remove_route(*to).await.map_err(BackhaulError::Interface)?;
        }
        self.routes = short;
        Ok(())
    }
}
