//! The real kernel, on loopback.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr as Address, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::*;

/// An address of this test process alone.
fn local(number: u8) -> Ipv4Addr {
    let [_, _, a, b] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100 + number, a, b)
}

/// Listens at any port, and opens this many flows to it: the server's ends, then the clients'.
fn flows(listener: &TcpListener, to: IpAddr, count: usize) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let to = Address::new(to, listener.local_addr().unwrap().port());
    let open = |_| {
        let client = TcpStream::connect(to).unwrap();
        let (server, _) = listener.accept().unwrap();
        for end in [&server, &client] {
            end.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        (server, client)
    };
    (0..count).map(open).unzip()
}

/// Looks until it sees so many open and ended; what the kernel has yet to do takes it a moment.
async fn expect(addresses: &[IpAddr], open: usize, ended: usize) -> Look {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let look = look(addresses).await.unwrap();
        if (look.open, look.ended) == (open, ended) {
            assert_eq!(look.flows.len(), open + ended);
            return look;
        }
        assert!(Instant::now() < end, "{look:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn remotes(clients: &[TcpStream]) -> Vec<Address> {
    let mut all: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn flows_are_seen_while_they_live_and_a_while_after() {
    let address = local(0).into();
    let listener = TcpListener::bind((address, 0)).unwrap();
    expect(&[address], 0, 0).await;
    let (mut servers, mut clients) = flows(&listener, address, 50);
    let look = expect(&[address], 50, 0).await;
    let mut seen: Vec<_> = look.flows.iter().map(Flow::remote).collect();
    seen.sort();
    assert_eq!(seen, remotes(&clients));
    assert!(look.flows.iter().all(|flow| flow.local() == listener.local_addr().unwrap()));

    // Whoever closes first waits.
    drop(servers.split_off(25));
    drop(clients.split_off(25));
    let look = expect(&[address], 25, 25).await;
    let open = look.flows.iter().filter(|flow| flow.stage() == Stage::Open);
    let mut open: Vec<_> = open.map(Flow::remote).collect();
    open.sort();
    assert_eq!(open, remotes(&clients));

    let mut census = Census::default();
    let now = Instant::now();
    census.handle_look(&look, now);
    let _more = flows(&listener, address, 10);
    let look = expect(&[address], 35, 25).await;
    let traffic = census.handle_look(&look, now + Duration::from_secs(2));
    assert_eq!(traffic, Traffic { open: 35, new_per_second: Some(5.0) });
}

#[tokio::test]
async fn only_the_given_addresses_are_seen_however_many_they_are() {
    let (ours, other) = (local(1), local(2));
    let listener = TcpListener::bind((ours, 0)).unwrap();
    let _ours = flows(&listener, ours.into(), 3);
    let elsewhere = TcpListener::bind((other, 0)).unwrap();
    let _other = flows(&elsewhere, other.into(), 3);
    assert_eq!(look(&[]).await.unwrap().flows, []);
    // Three programs; documentation addresses of both families besides.
    let v4 = (0..400u32).map(|n| IpAddr::from(Ipv4Addr::from(0xc612_0000 + n)));
    let v6 = (0..200u128).map(|n| IpAddr::from(Ipv6Addr::from(0x2001_0db8 << 96 | n)));
    let many: Vec<_> = v4.chain([ours.into(), ours.to_ipv6_mapped().into()]).chain(v6).collect();
    let look = expect(&many, 3, 0).await;
    assert!(look.flows.iter().all(|flow| flow.local() == listener.local_addr().unwrap()));
}

#[tokio::test]
async fn sockets_of_ipv6_count_with_either_address() {
    let address = local(3);
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&Address::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
    socket.listen(16).unwrap();
    let listener = TcpListener::from(socket);
    let (_servers, clients) = flows(&listener, address.into(), 4);
    let seen = expect(&[address.into()], 4, 0).await;
    assert_eq!(seen.flows.iter().filter(|flow| flow.remote() == remotes(&clients)[0]).count(), 1);

    // This address is everybody's: only the listener's flows are ours.
    let (_servers, clients) = flows(&listener, Ipv6Addr::LOCALHOST.into(), 4);
    let seen = look(&[Ipv6Addr::LOCALHOST.into()]).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut ours: Vec<_> =
        seen.flows.iter().filter(|flow| flow.local().port() == port).map(Flow::remote).collect();
    ours.sort();
    assert_eq!(ours, remotes(&clients));
}

#[tokio::test]
async fn a_destroyed_flow_ends_at_both_sides() {
    let address = local(4).into();
    let listener = TcpListener::bind((address, 0)).unwrap();
    let (mut servers, mut clients) = flows(&listener, address, 3);
    let look = expect(&[address], 3, 0).await;
    let mine = look.flows.iter().find(|flow| flow.remote() == clients[0].local_addr().unwrap()).unwrap();
    if !nix::unistd::geteuid().is_root() {
        let refused = destroy(mine).await.unwrap_err();
        assert!(refused.to_string().contains("CAP_NET_ADMIN"), "{refused}");
        println!("SKIPPED a_destroyed_flow_ends_at_both_sides: it needs root to end flows");
        return;
    }
    destroy(mine).await.unwrap();
    assert_eq!(servers[0].read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(clients[0].read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    destroy(mine).await.expect("it has ended already");
    expect(&[address], 2, 0).await;

    // One that is only remembered can be forgotten.
    drop((servers.pop(), clients.pop()));
    let look = expect(&[address], 1, 1).await;
    destroy(look.flows.iter().find(|flow| flow.stage() == Stage::Ended).unwrap()).await.unwrap();
    expect(&[address], 1, 0).await;
}
