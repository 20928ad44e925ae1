//! Processes of hosts: killed, stopped, started again, told to end.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::Runner;
use crate::moment::Moment;

impl Runner<'_> {
    pub(super) fn signal(&mut self, target: &str, signal: Signal) -> io::Result<Moment> {
        let (host, service) = split(target);
        let node = self.lab.node_mut(host)?;
        if let Some(service) = service {
            let service = node
                .services
                .get_mut(service)
                .ok_or_else(|| io::Error::other(format!("there is no service {target}")))?;
            return match signal {
                Signal::Kill => service.kill(),
                Signal::Stop => service.stop(),
                Signal::Cont => service.cont(),
            };
        }
        if let Some(edgeproxy) = &mut node.edgeproxy {
            return match signal {
                Signal::Kill => edgeproxy.kill(),
                Signal::Stop => edgeproxy.stop(),
                Signal::Cont => edgeproxy.cont(),
            };
        }
        let process = match (&mut node.tunnel, &mut node.router) {
            (Some(tunnel), _) => tunnel.process_mut()?,
            (None, Some(router)) => router.process_mut()?,
            (None, None) => return Err(io::Error::other(format!("{host} runs nothing"))),
        };
        match signal {
            Signal::Kill => process.kill(),
            Signal::Stop => process.signal(libc::SIGSTOP),
            Signal::Cont => process.signal(libc::SIGCONT),
        }
    }

    pub(super) fn kill_all(&mut self, host: &str) -> io::Result<Moment> {
        let at = Moment::now();
        let node = self.lab.node_mut(host)?;
        if let Some(edgeproxy) = &mut node.edgeproxy {
            edgeproxy.kill()?;
        }
        for service in node.services.values_mut() {
            service.kill()?;
        }
        if let Some(router) = &mut node.router {
            router.process_mut()?.kill()?;
        }
        if let Some(tunnel) = &mut node.tunnel {
            tunnel.process_mut()?.kill()?;
        }
        Ok(at)
    }

    pub(super) fn start(&mut self, target: &str) -> io::Result<()> {
        let (host, service) = split(target);
        let node = self.lab.node_mut(host)?;
        if let Some(service) = service {
            let service = node
                .services
                .get_mut(service)
                .ok_or_else(|| io::Error::other(format!("there is no service {target}")))?;
            return service.restart().map(drop);
        }
        if let Some(edgeproxy) = &mut node.edgeproxy {
            return edgeproxy.start().map(drop);
        }
        if let Some(tunnel) = &mut node.tunnel {
            return tunnel.start().map(drop);
        }
        match &mut node.router {
            Some(router) => router.start(),
            None => Err(io::Error::other(format!("{host} runs nothing"))),
        }
    }

    pub(super) fn restart(
        &mut self,
        at: &str,
        environment: &BTreeMap<String, String>,
        descriptors: Option<u64>,
    ) -> io::Result<Moment> {
        let node = self.lab.node_mut(at)?;
        let edgeproxy =
            node.edgeproxy.as_mut().ok_or_else(|| io::Error::other(format!("{at} runs no edgeproxy")))?;
        if edgeproxy.pid().is_some() {
            edgeproxy.kill()?;
        }
        edgeproxy.set_environment(environment.clone());
        edgeproxy.set_descriptors(descriptors);
        edgeproxy.start()
    }

    pub(super) fn terminate(&mut self, at: &str, code: Option<i32>) -> Result<Moment, String> {
        let node = self.lab.node_mut(at).map_err(|error| error.to_string())?;
        let edgeproxy = node.edgeproxy.as_mut().ok_or_else(|| format!("{at} runs no edgeproxy"))?;
        let moment = edgeproxy.terminate().map_err(|error| error.to_string())?;
        if code.is_none() {
            return Ok(moment);
        }
        let ended = edgeproxy.wait_exit(Duration::from_secs(15)).map_err(|error| error.to_string())?;
        if ended == code {
            return Ok(moment);
        }
        Err(format!("{at}: edgeproxy ended with {ended:?}, not {code:?}"))
    }
}

#[derive(Clone, Copy)]
pub(super) enum Signal {
    Kill,
    Stop,
    Cont,
}

/// `HOST` or `HOST/SERVICE`.
pub(super) fn split(target: &str) -> (&str, Option<&str>) {
    match target.split_once('/') {
        Some((host, service)) => (host, Some(service)),
        None => (target, None),
    }
}
