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

/// What goes out for what came in: every group cut again, as the kernel would.
fn through(packets: &[Vec<u8>], groups_out: &mut usize) -> Vec<Vec<u8>> {
    let (mut arena, mut ranges) = (Vec::new(), Vec::new());
    for packet in packets {
        ranges.push(arena.len()..arena.len() + packet.len());
        arena.extend_from_slice(packet);
        arena.extend_from_slice(&[0xee; 5]);
    }
    let mut coalescer = Coalescer::new(true, true);
    coalescer.coalesce(&mut arena, &ranges);
    let mut out = Vec::new();
    for group in coalescer.groups() {
        *groups_out += 1;
        let mut whole: Vec<u8> = group.parts.iter().flat_map(|part| arena[part.clone()].to_vec()).collect();
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
    // The checksum is of no use to these: they are not merged either way.
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
    ] {
        let sent = [data(0), second];
        let mut groups = 0;
        assert_eq!(through(&sent, &mut groups), sent, "{name}");
        assert_eq!(groups, 2, "{name}");
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
