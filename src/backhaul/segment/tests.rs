//! What is cut into packets is whole again at the other end.

use proptest::prelude::*;

use super::*;

/// A packet as the kernel gives it: the checksum field holds the sum of the pseudo-header. `extension` is put between IP
/// and TCP or UDP.
fn whole(
    protocol: u8,
    extension: &[u8],
    options: &[u8],
    flags: u8,
    payload: &[u8],
    size: u16,
) -> (Offload, Vec<u8>) {
    let layer = 40 + extension.len();
    let own = if protocol == TCP { 20 + options.len() } else { 8 };
    let carried = own + payload.len();
    let mut packet = vec![0x60, 0x12, 0x34, 0x56, 0, 0, protocol, 61];
    packet[4..6].copy_from_slice(&((extension.len() + carried) as u16).to_be_bytes());
    packet.extend((0..32).map(|n| n * 7));
    packet.extend_from_slice(extension);
    packet.extend_from_slice(&[1, 2, 3, 4]);
    if !extension.is_empty() {
        (packet[6], packet[40]) = (43, protocol);
    }
    if protocol == TCP {
        packet.extend_from_slice(&0xffff_fc00u32.to_be_bytes());
        packet.extend_from_slice(&[9, 8, 7, 6, (own as u8 / 4) << 4, flags, 1, 2, 0, 0, 0, 0]);
        packet.extend_from_slice(options);
    } else {
        packet.extend_from_slice(&(carried as u16).to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
    }
    packet.extend_from_slice(payload);
    let offset = if protocol == TCP { 16 } else { 6 };
    let sum = Sum::default().pseudo(&target(&packet, layer), protocol, carried).folded();
    packet[layer + offset..layer + offset + 2].copy_from_slice(&sum.to_be_bytes());
    let kind = if protocol == TCP { Gso::Tcp6 } else { Gso::Udp };
    let (checksum_start, checksum_offset, header) = (layer as u16, offset as u16, (layer + own) as u16);
    (Offload { needs_checksum: true, kind, header, size, checksum_start, checksum_offset }, packet)
}

/// Both addresses of the pseudo-header: with a routing header the target is the last of its list (RFC 8200 §8.1).
fn target(packet: &[u8], layer: usize) -> Vec<u8> {
    let mut addresses = packet[8..40].to_vec();
    if layer > 40 {
        addresses[16..].copy_from_slice(&packet[layer - 16..layer]);
    }
    addresses
}

/// The slow way: every packet is made anew, its checksum taken word by word.
fn reference(offload: Offload, packet: &[u8], most: usize) -> Vec<Vec<u8>> {
    let layer = usize::from(offload.checksum_start);
    let tcp = offload.kind == Gso::Tcp6;
    let head = layer + if tcp { usize::from(packet[layer + 12] >> 4) * 4 } else { 8 };
    let size = if tcp { usize::from(offload.size).min(most - head) } else { usize::from(offload.size) };
    let payloads: Vec<&[u8]> = packet[head..].chunks(size).collect();
    let mut out = Vec::new();
    for (n, payload) in payloads.iter().enumerate() {
        let mut segment = [&packet[..head], payload].concat();
        let inside = segment.len() as u16 - 40;
        segment[4..6].copy_from_slice(&inside.to_be_bytes());
        let carried = segment.len() - layer;
        let field = if tcp {
            let sequence = u32::from_be_bytes(*packet[layer + 4..].first_chunk().unwrap());
            let sequence = sequence.wrapping_add((n * size) as u32);
            segment[layer + 4..layer + 8].copy_from_slice(&sequence.to_be_bytes());
            if n + 1 < payloads.len() {
                segment[layer + 13] &= !0x09;
            }
            if n > 0 {
                segment[layer + 13] &= !0x80;
            }
            layer + 16
        } else {
            segment[layer + 4..layer + 6].copy_from_slice(&(carried as u16).to_be_bytes());
            layer + 6
        };
        segment[field..field + 2].fill(0);
        let mut covered = target(packet, layer);
        covered.extend_from_slice(&(carried as u32).to_be_bytes());
        covered.extend_from_slice(&[0, 0, 0, if tcp { TCP } else { UDP }]);
        covered.extend_from_slice(&segment[layer..]);
        let mut sum = 0u32;
        for pair in covered.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let sum = match !(sum as u16) {
            0 if !tcp => 0xffff,
            sum => sum,
        };
        segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        out.push(segment);
    }
    out
}

fn cut(offload: Offload, packet: &[u8], most: usize) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut packet = packet.to_vec();
    let mut segments = Segments::new(offload, &mut packet, most)?;
    let longest = segments.longest();
    let mut out = Vec::new();
    while let Some(segment) = segments.next() {
        out.push(segment.to_vec());
    }
    assert!(segments.next().is_none(), "ended is ended");
    assert_eq!(out.iter().map(Vec::len).max(), Some(longest), "longest() says what comes");
    Ok(out)
}

const TIMESTAMP: [u8; 12] = [1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7];
/// A routing header of type 2 (RFC 6275 §6.4): the last sixteen octets are the true target.
const ROUTING: [u8; 24] = [0, 2, 2, 1, 0, 0, 0, 0, 0xfd, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1];

#[test]
fn flags_and_sequence_go_where_they_belong() {
    let all = 0x80 | 0x40 | 0x10 | 0x08 | 0x01;
    let (offload, packet) = whole(TCP, &[], &TIMESTAMP, all, &[5; 2500], 1000);
    let cut = cut(offload, &packet, 1420).unwrap();
    let shape: Vec<_> = cut
        .iter()
        .map(|segment| {
            (segment.len(), u32::from_be_bytes(*segment[44..].first_chunk().unwrap()), segment[53])
        })
        .collect();
    // The sequence number wraps (RFC 9293 §3.4).
    assert_eq!(
        shape,
        [(1072, 0xffff_fc00, 0xd0), (1072, 0xffff_ffe8, 0x50), (572, 0x3d0, 0x59)],
        "length, sequence, flags"
    );
}

#[test]
fn tcp_is_cut_to_the_path_and_udp_is_not() {
    let (offload, packet) = whole(TCP, &[], &[], 0x10, &[5; 3000], 1400);
    assert_eq!(cut(offload, &packet, 1280).unwrap(), reference(offload, &packet, 1280));
    assert_eq!(cut(offload, &packet, 1280).unwrap()[0].len(), 1280);
    let (offload, mut copy) = whole(UDP, &[], &[], 0, &[5; 3000], 1400);
    assert_eq!(Segments::new(offload, &mut copy, 1280).unwrap().longest(), 1448, "the caller refuses it");
}

#[test]
fn one_octet_more_or_less() {
    for protocol in [TCP, UDP] {
        for length in [1, 2, 999, 1000, 1001, 1999, 2000, 2001, 65_000] {
            let payload: Vec<u8> = (0..length).map(|n| (n / 3) as u8).collect();
            let (offload, packet) = whole(protocol, &[], &[], 0x18, &payload, 1000);
            assert_eq!(
                cut(offload, &packet, 1420).unwrap(),
                reference(offload, &packet, 1420),
                "{protocol} {length}"
            );
        }
    }
}

#[test]
fn the_true_target_of_a_routing_header_is_in_the_checksum() {
    for protocol in [TCP, UDP] {
        let (offload, packet) = whole(protocol, &ROUTING, &[], 0x10, &[5; 2500], 1000);
        assert_eq!(cut(offload, &packet, 1420).unwrap(), reference(offload, &packet, 1420), "{protocol}");
    }
}

#[test]
fn a_packet_whose_checksum_is_known_to_be_right_is_cut_as_well() {
    for protocol in [TCP, UDP] {
        let (offload, mut packet) = whole(protocol, &[], &[], 0x10, &[5; 2500], 1000);
        let expected = reference(offload, &packet, 1420);
        // Without a checksum to complete, the kernel says neither where it starts nor leaves a sum there.
        packet[40 + usize::from(offload.checksum_offset)] ^= 0x55;
        let known = Offload { needs_checksum: false, checksum_start: 0, checksum_offset: 0, ..offload };
        assert_eq!(cut(known, &packet, 1420).unwrap(), expected, "{protocol}");
    }
}

#[test]
fn a_checksum_of_zero_is_never_written_for_udp() {
    // The last word makes the sum 0xffff.
    let (offload, mut packet) = whole(UDP, &[], &[], 0, &[0; 2], 0);
    let offload = Offload { kind: Gso::None, ..offload };
    let sum = Sum::default().add(&packet[40..]).complement();
    packet[48..].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(cut(offload, &packet, 1420).unwrap()[0][46..48], [0xff, 0xff]);
    let (gso, mut packet) = whole(UDP, &[], &[], 0, &[0; 4], 2);
    packet[48..50].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(cut(gso, &packet, 1420).unwrap()[0][46..48], [0xff, 0xff]);
    assert_eq!(cut(gso, &packet, 1420).unwrap(), reference(gso, &packet, 1420));
}

#[test]
fn without_offload_a_packet_comes_out_once_as_it_is() {
    let packet = [0x60, 1, 2, 3];
    assert_eq!(cut(Offload::default(), &packet, 1280), Ok(vec![packet.to_vec()]));
    let (offload, packet) = whole(TCP, &[], &[], 0x18, &[5; 3000], 0);
    let alone = cut(Offload { kind: Gso::None, ..offload }, &packet, 1280).unwrap();
    assert_eq!(alone, reference(Offload { size: 3000, ..offload }, &packet, 9000), "too long, and right");
}

#[test]
fn what_does_not_fit_is_refused() {
    let (good, packet) = whole(TCP, &[], &TIMESTAMP, 0x10, &[5; 2500], 1000);
    assert!(cut(good, &packet, 1420).is_ok());
    let (udp, datagrams) = whole(UDP, &[], &[], 0, &[5; 2500], 1000);
    assert!(cut(udp, &datagrams, 1420).is_ok());
    for (name, offload, packet, most) in [
        ("IPv4", Offload { kind: Gso::Tcp4, ..good }, &packet[..], 1420),
        ("size 0", Offload { size: 0, ..good }, &packet, 1420),
        ("no room for payload", good, &packet, 72),
        ("no payload", good, &packet[..72], 1420),
        ("cut in TCP", good, &packet[..50], 1420),
        ("cut in IP", good, &packet[..20], 1420),
        ("nothing", good, &[], 1420),
        ("no datagram", udp, &[], 1420),
        ("no payload of UDP", udp, &datagrams[..48], 1420),
        ("TCP inside IP", Offload { checksum_start: 8, ..good }, &packet, 1420),
        ("TCP far away", Offload { checksum_start: 65_535, ..good }, &packet, 1420),
        ("another field", Offload { checksum_offset: 6, ..good }, &packet, 1420),
        ("UDP, another field", Offload { checksum_offset: 16, ..udp }, &datagrams, 1420),
        ("the field is outside", Offload { kind: Gso::None, checksum_start: 2570, ..good }, &packet, 1420),
        ("longer than IPv6 can say", good, &[&packet[..], &[0; 65_000]].concat(), 1420),
    ] {
        assert_eq!(cut(offload, packet, most), Err(Malformed), "{name}");
    }
}

fn octets(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

proptest! {
    #[test]
    fn it_agrees_with_the_reference(
        tcp in any::<bool>(), routed in any::<bool>(), options in 0usize..=10, flags in any::<u8>(),
        payload in prop::collection::vec(any::<u8>(), 1..4000), size in 1u16..1500, most in 200usize..1500,
    ) {
        let protocol = if tcp { TCP } else { UDP };
        let extension: &[u8] = if routed { &ROUTING } else { &[] };
        let (offload, packet) = whole(protocol, extension, &vec![1; options * 4], flags, &payload, size);
        prop_assert_eq!(cut(offload, &packet, most).unwrap(), reference(offload, &packet, most));
    }

    #[test]
    fn garbage_is_refused_or_cut_into_what_it_had(
        head in prop::array::uniform10(any::<u8>()), kind in prop::sample::select(vec![0u8, 1, 4, 5]),
        start in 0u16..100, mut packet in octets(400), version in any::<bool>(), most in 0usize..500,
    ) {
        let mut head = head;
        head[1] = kind;
        head[6..8].copy_from_slice(&start.to_ne_bytes());
        if let (true, Some(first)) = (version, packet.first_mut()) {
            *first = 0x60;
        }
        let offload = Offload::decode(&head).unwrap();
        if let Ok(segments) = cut(offload, &packet, most) {
            prop_assert!(segments.len() <= packet.len().max(1));
            prop_assert!(segments.iter().map(Vec::len).sum::<usize>() >= packet.len());
        }
    }
}

#[test]
#[ignore = "prints a speed"]
fn speed() {
    for (name, protocol, options, count) in [("TCP", TCP, &TIMESTAMP[..], 46), ("UDP", UDP, &[][..], 46)] {
        let size = 1420 - if protocol == TCP { 72 } else { 48 };
        let (offload, packet) = whole(protocol, &[], options, 0x10, &vec![0x5a; size * count], size as u16);
        let mut copy = packet.clone();
        let (mut spent, mut all) = (std::time::Duration::ZERO, 0);
        for _ in 0..10_000 {
            copy.copy_from_slice(&packet);
            let start = std::time::Instant::now();
            let mut segments = Segments::new(offload, std::hint::black_box(&mut copy), 1420).unwrap();
            while let Some(segment) = segments.next() {
                all += usize::from(std::hint::black_box(segment)[60]);
            }
            spent += start.elapsed();
        }
        println!(
            "{name}: {:.0} ns per packet of 1,420 ({all})",
            spent.as_nanos() as f64 / (10_000 * count) as f64
        );
    }
    let mut packet = [0x60; 100];
    let start = std::time::Instant::now();
    for _ in 0..1_000_000 {
        let packet = std::hint::black_box(&mut packet[..]);
        std::hint::black_box(Segments::new(Offload::default(), packet, 1420).unwrap().next());
    }
    println!("alone: {:.0} ns", start.elapsed().as_nanos() as f64 / 1e6);
}
