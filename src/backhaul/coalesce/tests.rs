//! What is put together is what came, and nothing else.

use proptest::prelude::*;

use super::*;
use crate::backhaul::segment::Segments;

fn packet(flow: u8, protocol: u8, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let header = if protocol == TCP { 72 } else { 48 };
    let mut packet = vec![0; header];
    packet.extend_from_slice(payload);
    let inside = packet.len() - 40;
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(inside as u16).to_be_bytes());
    (packet[6], packet[7]) = (protocol, 64);
    packet[8..40].fill(flow);
    packet[40..44].copy_from_slice(&[1, flow, 2, 3]);
    let field = if protocol == TCP {
        packet[44..48].copy_from_slice(&sequence.to_be_bytes());
        (packet[52], packet[53], packet[55]) = (0x80, flags, 9);
        56
    } else {
        packet[44..46].copy_from_slice(&(inside as u16).to_be_bytes());
        46
    };
    let sum = Sum::default().pseudo(&packet[8..40], protocol, inside).add(&packet[40..]).complement();
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The packet after a change, its checksum right again.
fn sealed(packet: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut packet = packet.to_vec();
    change(&mut packet);
    let field = if packet[6] == TCP { 56 } else { 46 };
    packet[field..field + 2].fill(0);
    let sum =
        Sum::default().pseudo(&packet[8..40], packet[6], packet.len() - 40).add(&packet[40..]).complement();
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A checksum of zero, written as 0xffff, which is as right.
fn zero_sum(mut packet: Vec<u8>) -> Vec<u8> {
    packet[72..74].fill(0);
    let mut packet = sealed(&packet, |_| ());
    packet.copy_within(56..58, 72);
    packet = sealed(&packet, |_| ());
    assert_eq!(packet[56..58], [0, 0]);
    packet[56..58].fill(0xff);
    packet
}

/// What goes out for what came in: every group cut again, as the kernel would.
fn through(packets: &[Vec<u8>], groups_out: &mut usize) -> Vec<Vec<u8>> {
    let mut coalescer = Coalescer::new(true, true);
    // What was there before must not be seen: the same batch again gives the same.
    let first = through_again(&mut coalescer, packets, &mut 0);
    assert_eq!(through_again(&mut coalescer, packets, groups_out), first);
    first
}

fn through_again(coalescer: &mut Coalescer, packets: &[Vec<u8>], groups_out: &mut usize) -> Vec<Vec<u8>> {
    let (mut arena, mut ranges) = (Vec::new(), Vec::new());
    for packet in packets {
        ranges.push(arena.len()..arena.len() + packet.len());
        arena.extend_from_slice(packet);
        arena.extend_from_slice(&[0xee; 5]);
    }
    let before = arena.clone();
    coalescer.coalesce(&mut arena, &ranges);
    let mut out = Vec::new();
    for group in coalescer.groups() {
        *groups_out += 1;
        assert!(group.parts.len() <= PACKETS, "as many as the kernel and one write take");
        if let [part] = group.parts {
            assert_eq!((group.offload, &arena[part.clone()]), (Offload::default(), &before[part.clone()]));
        }
        let mut whole: Vec<u8> = group.parts.iter().flat_map(|part| arena[part.clone()].to_vec()).collect();
        assert!(
            group.parts.len() == 1 || whole.len() <= 65_535,
            "no longer than what the kernel makes itself"
        );
        let mut segments = Segments::new(group.offload, &mut whole, 65_535).unwrap();
        while let Some(segment) = segments.next() {
            out.push(segment.to_vec());
        }
    }
    out
}

fn of_flow(packets: &[Vec<u8>], flow: u8) -> Vec<Vec<u8>> {
    packets.iter().filter(|packet| packet.get(41) == Some(&flow)).cloned().collect()
}

#[test]
fn a_stream_becomes_one_packet_and_is_cut_to_the_same_octets() {
    let sent: Vec<Vec<u8>> = (0..40u32)
        .map(|n| {
            packet(
                1,
                TCP,
                n * 1000,
                if n == 39 { ACK | PSH } else { ACK },
                &[n as u8; 1000][..if n == 39 { 77 } else { 1000 }],
            )
        })
        .collect();
    let mut groups = 0;
    assert_eq!(through(&sent, &mut groups), sent);
    assert_eq!(groups, 1);
}

#[test]
fn what_is_not_merged() {
    let data = |n: u32| packet(1, TCP, n * 100, ACK, &[7; 100]);
    let mut wrong = data(1);
    wrong[80] ^= 1;
    let mut ttl = data(1);
    ttl[7] = 63;
    let mut window = data(1);
    window[55] = 10;
    let urgent = sealed(&data(1), |packet| packet[59] = 1);
    let zero = zero_sum(packet(1, TCP, 100, ACK, &[7; 100]));
    for (name, second) in [
        ("a gap", packet(1, TCP, 300, ACK, &[7; 100])),
        ("again", data(0)),
        ("longer", packet(1, TCP, 100, ACK, &[7; 101])),
        ("no data", packet(1, TCP, 100, ACK, &[])),
        ("end", packet(1, TCP, 100, ACK | 1, &[7; 10])),
        ("urgent", packet(1, TCP, 100, ACK | 0x20, &[7; 10])),
        ("congestion", packet(1, TCP, 100, ACK | 0x40, &[7; 10])),
        ("another flow", packet(2, TCP, 100, ACK, &[7; 100])),
        ("another protocol", packet(1, UDP, 0, 0, &[7; 100])),
        ("a wrong checksum", wrong),
        ("another hop limit", ttl),
        ("another window", window),
        ("an urgent pointer without the flag", urgent),
        ("another label", sealed(&data(1), |packet| packet[3] = 1)),
        ("congestion experienced", sealed(&data(1), |packet| packet[1] = 0x30)),
        ("another acknowledgement", sealed(&data(1), |packet| packet[51] = 1)),
        ("a reserved bit", sealed(&data(1), |packet| packet[52] |= 1)),
        ("another option", sealed(&data(1), |packet| packet[71] = 1)),
        ("the other zero as checksum", zero),
    ] {
        let sent = [data(0), second];
        let mut groups = 0;
        assert_eq!(through(&sent, &mut groups), sent, "{name}");
        assert_eq!(groups, 2, "{name}");
    }
}

#[test]
fn datagrams_of_one_length_and_a_shorter_one_go_together() {
    let data = |size: usize| packet(1, UDP, 0, 0, &vec![size as u8; size]);
    for (sizes, expected) in [
        (&[100, 100, 100, 60][..], 1),
        (&[100, 60, 60], 2),
        (&[60, 100, 100], 2),
        (&[100, 100, 0], 2),
        (&[0, 0], 2),
        (&[100; 64], 1),
        (&[100; 65], 2),
        (&[1400; 46], 1),
        (&[1400; 47], 2),
        (&[32_743; 2], 1),
        (&[32_744; 2], 2),
    ] {
        let sent: Vec<Vec<u8>> = sizes.iter().map(|size| data(*size)).collect();
        let mut groups = 0;
        assert_eq!(through(&sent, &mut groups), sent, "{sizes:?}");
        assert_eq!(groups, expected, "{sizes:?}");
    }
    let good = data(100);
    let mut unsummed = good.clone();
    unsummed[46..48].fill(0);
    let mut lying = good.clone();
    lying[45] -= 1;
    for (name, second) in [
        ("no checksum", unsummed),
        ("a length of its own", lying),
        ("another hop limit", sealed(&good, |packet| packet[7] = 1)),
        ("another port", sealed(&good, |packet| packet[43] = 1)),
        ("padding", [&good[..], &[0; 4]].concat()),
        ("cut", good[..120].to_vec()),
        ("a fragment", sealed(&good, |packet| packet[6] = 44)),
    ] {
        for sent in [[good.clone(), second.clone()], [second.clone(), good.clone()]] {
            let mut groups = 0;
            assert_eq!(through(&sent, &mut groups), sent, "{name}");
            assert_eq!(groups, 2, "{name}");
        }
    }
}

#[test]
fn nothing_overtakes_a_packet_whose_flow_cannot_be_told() {
    let data = |n: u32| packet(1, TCP, n * 100, ACK, &[7; 100]);
    let mut fragment = packet(1, UDP, 0, 0, &[7; 100]);
    fragment[6] = 44;
    for between in [fragment, vec![0x60; 7]] {
        let sent = [data(0), between, data(1)];
        let mut groups = 0;
        assert_eq!(through(&sent, &mut groups), sent);
    }
}

#[test]
fn what_the_interface_does_not_take_is_not_made() {
    let sent: Vec<Vec<u8>> =
        (0..8).map(|n| packet(1, if n < 4 { TCP } else { UDP }, n % 4 * 100, ACK, &[7; 100])).collect();
    for (tcp, udp, expected) in [(true, true, 2), (true, false, 5), (false, true, 5), (false, false, 8)] {
        let mut groups = 0;
        assert_eq!(through_again(&mut Coalescer::new(tcp, udp), &sent, &mut groups), sent);
        assert_eq!(groups, expected, "{tcp} {udp}");
    }
}

#[test]
fn many_flows_at_once_are_merged_each() {
    let mixed = |flows: u8| -> Vec<Vec<u8>> {
        let packets = |n: u32| (0..flows).map(move |flow| packet(flow, TCP, n * 100, ACK, &[7; 100]));
        (0..8).flat_map(packets).collect()
    };
    for flows in [1, 8, 9, FLOWS as u8] {
        let mut groups = 0;
        through(&mixed(flows), &mut groups);
        assert_eq!(groups, usize::from(flows), "{flows}");
    }
    let (sent, mut groups) = (mixed(200), 0);
    let got = through(&sent, &mut groups);
    for flow in 0..200 {
        assert_eq!(of_flow(&got, flow), of_flow(&sent, flow), "more than are looked at");
    }
}

proptest! {
    #[test]
    fn flows_keep_their_order_and_their_octets(
        steps in prop::collection::vec((0u8..4, 0u8..12, 1usize..4, any::<u8>()), 0..120),
    ) {
        let mut sequences = [0u32; 4];
        let sent: Vec<Vec<u8>> = steps.iter().map(|(flow, kind, size, fill)| {
            let payload = vec![*fill; [0, 33, 100, 100][*size]];
            if flow % 2 == 1 {
                return packet(*flow, UDP, 0, 0, &payload);
            }
            let sequence = sequences[usize::from(*flow)];
            let flags = match kind { 0 => ACK | 1, 1 => 0x02, 2 => ACK | PSH, 3 => ACK | CWR_BIT, _ => ACK };
            sequences[usize::from(*flow)] = sequence.wrapping_add(payload.len() as u32 + u32::from(*kind == 4));
            packet(*flow, TCP, sequence, flags, &payload)
        }).collect();
        let mut groups = 0;
        let got = through(&sent, &mut groups);
        prop_assert_eq!(got.len(), sent.len());
        for flow in 0..4 {
            prop_assert_eq!(of_flow(&got, flow), of_flow(&sent, flow));
        }
    }

    #[test]
    fn garbage_comes_out_as_it_was(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..120), 0..20)) {
        let mut groups = 0;
        prop_assert_eq!(through(&packets, &mut groups), packets);
    }
}

const CWR_BIT: u8 = 0x80;

#[test]
#[ignore = "prints a speed"]
fn speed() {
    for (name, protocol, flows) in [
        ("TCP", TCP, 1),
        ("TCP", TCP, 8),
        ("TCP", TCP, 32),
        ("UDP", UDP, 1),
        ("UDP", UDP, 128),
        ("ACK", TCP, 0),
    ] {
        let header = if protocol == TCP { 72 } else { 48 };
        let packets: Vec<Vec<u8>> = (0..128u32)
            .map(|n| match flows {
                0 => packet(n as u8, TCP, 0, ACK, &[]),
                _ => packet(
                    (n % flows) as u8,
                    protocol,
                    n / flows * (1420 - header),
                    ACK,
                    &vec![1; 1420 - header as usize],
                ),
            })
            .collect();
        let (mut arena, mut ranges) = (Vec::new(), Vec::new());
        for packet in &packets {
            ranges.push(arena.len()..arena.len() + packet.len());
            arena.extend_from_slice(packet);
        }
        let mut coalescer = Coalescer::new(true, true);
        let (mut spent, mut groups) = (std::time::Duration::ZERO, 0);
        for _ in 0..3_000 {
            // The headers were changed.
            for (range, packet) in ranges.iter().zip(&packets) {
                arena[range.start..][..60.min(packet.len())].copy_from_slice(&packet[..60.min(packet.len())]);
            }
            let start = std::time::Instant::now();
            coalescer.coalesce(std::hint::black_box(&mut arena), &ranges);
            spent += start.elapsed();
            groups = coalescer.groups().count();
        }
        let each = spent.as_nanos() as f64 / (3_000 * 128) as f64;
        println!("{name}, {flows} flows: {each:.0} ns per packet, 128 became {groups}");
    }
}
