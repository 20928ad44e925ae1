//! The process behind a service: `netlab internal-service KIND --name NAME --listen ADDRESS…`, obeying its standard input.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::order::Order;
use super::server::{MAX_CONNECTIONS, Server};
use super::{Kind, ServiceConfig};
use crate::sys::descriptors;
use crate::traffic::EchoServer;

/// Serves until its standard input, a Unix socket of netlab's, ends.
///
/// # Errors
/// Wrong arguments, a taken address, or a standard input that is no socket.
pub fn run(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let config = parse(arguments).map_err(|words| io::Error::new(io::ErrorKind::InvalidInput, words))?;
    // With fewer it takes fewer.
    let _ = descriptors::allow(MAX_CONNECTIONS);
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut served = match Served::new(&config) {
        Ok(served) => served,
        Err(error) => {
            reply(&control, "0", Err(&error))?;
            return Err(error);
        }
    };
    reply(&control, "0", Ok(()))?;
    let mut orders = BufReader::new(&control);
    loop {
        // Orders given to a stopped service are read together, and wake nobody twice.
        if orders.buffer().is_empty() {
            served.serve_until(&control)?;
        }
        let mut line = String::new();
        if orders.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (number, order) = line.trim().split_once(' ').unwrap_or_default();
        let done = order.parse().map_err(io::Error::other).and_then(|order| served.obey(order));
        reply(&control, number, done.as_ref().copied())?;
    }
}

fn reply(mut control: &UnixStream, number: &str, done: Result<(), &io::Error>) -> io::Result<()> {
    let line = match done {
        Ok(()) => format!("{number} ok\n"),
        Err(error) => format!("{number} failed: {}\n", error.to_string().replace('\n', " ")),
    };
    control.write_all(line.as_bytes())
}

fn parse_address(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| format!("{value} is no address:port"))
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<ServiceConfig, String> {
    let kind = arguments.next().unwrap_or_default();
    let kind = Kind::from_word(&kind).ok_or_else(|| format!("there is no service {kind:?}"))?;
    let mut config = ServiceConfig { kind, name: String::new(), listen: Vec::new() };
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--name" => config.name = value,
            "--listen" => config.listen.push(parse_address(&value)?),
            _ => return Err(format!("there is no option {option}")),
        }
    }
    if config.name.is_empty() || config.listen.is_empty() {
        return Err("--name and at least one --listen are needed".to_owned());
    }
    Ok(config)
}

/// What runs behind the control socket.
enum Served {
    Stream(Server),
    Datagram { name: String, addresses: Vec<SocketAddr>, state: Echo },
}

#[expect(dead_code, reason = "held for what dropping them does")]
enum Echo {
    Answering(EchoServer),
    /// Bound, but nobody reads.
    Silent(Vec<UdpSocket>),
    Closed,
}

impl Served {
    fn new(config: &ServiceConfig) -> io::Result<Self> {
        let http = match config.kind {
            Kind::Http => true,
            Kind::Tcp => false,
            Kind::UdpEcho => {
                let state = Echo::answering(&config.name, &config.listen)?;
                return Ok(Self::Datagram {
                    name: config.name.clone(),
                    addresses: config.listen.clone(),
                    state,
                });
            }
        };
        Server::new(&config.name, http, &config.listen).map(Self::Stream)
    }

    fn serve_until(&mut self, control: &UnixStream) -> io::Result<()> {
        match self {
            Self::Stream(server) => server.serve_until(control),
            // Its threads serve; the order is read by the caller.
            Self::Datagram { .. } => Ok(()),
        }
    }

    fn obey(&mut self, order: Order) -> io::Result<()> {
        let (name, addresses, state) = match self {
            Self::Stream(server) => return server.obey(order),
            Self::Datagram { name, addresses, state } => (name, addresses, state),
        };
        match order {
            Order::Refuse(true) => *state = Echo::Closed,
            Order::Hang(true) => {
                *state = Echo::Closed;
                *state = Echo::silent(addresses)?;
            }
            Order::Refuse(false) | Order::Hang(false) => {
                if !matches!(state, Echo::Answering(_)) {
                    *state = Echo::Closed;
                    *state = Echo::answering(name, addresses)?;
                }
            }
            Order::Status(_) | Order::Delay(_) | Order::Cut(_) => {
                return Err(io::Error::other(
                    "a udp-echo service has no status, no delay and no connections",
                ));
            }
        }
        Ok(())
    }
}

impl Echo {
    fn answering(name: &str, addresses: &[SocketAddr]) -> io::Result<Self> {
        EchoServer::start(name, addresses).map(Self::Answering).map_err(io::Error::other)
    }

    fn silent(addresses: &[SocketAddr]) -> io::Result<Self> {
        use socket2::{Domain, Protocol, Socket, Type};
        let bind = |&address: &SocketAddr| {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            match address {
                SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
                SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
            socket.bind(&address.into())?;
            Ok(socket.into())
        };
        addresses.iter().map(bind).collect::<io::Result<_>>().map(Self::Silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<ServiceConfig, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_read_whole_or_refused() {
        let config = told("http --name web --listen 10.0.0.1:80 --listen [fd00::1]:80").unwrap();
        assert_eq!((config.kind, config.name.as_str(), config.listen.len()), (Kind::Http, "web", 2));
        for line in
            ["", "ftp --name a --listen 1.2.3.4:5", "http --name a", "http --listen 1.2.3.4:5", "tcp --name"]
        {
            assert!(told(line).is_err(), "{line}");
        }
    }
}
