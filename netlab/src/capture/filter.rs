//! Which packets a capture notes, as one rule with two forms: a kernel program and a function.

use std::net::IpAddr;

use socket2::SockFilter;

use crate::bgp_stream::BGP_PORT;
use crate::bgp_stream::segment::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet, Segment};

/// Addresses and ports that fit a kernel program of at most 4096 instructions.
const MAX_TERMS: usize = 64;

/// BGP always passes; what is named here passes too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// TCP from or to these ports (probe ports, say).
    pub tcp_ports: Vec<u16>,
    /// Any packet from or to these addresses.
    pub addresses: Vec<IpAddr>,
    /// Arrivals for these addresses are only counted, with their times: for thousands of packets a second.
    pub tally: Vec<IpAddr>,
    /// ARP requests and answers.
    pub arp: bool,
}

impl Filter {
    pub fn is_bgp(segment: &Segment<'_>) -> bool {
        segment.from.port() == BGP_PORT || segment.to.port() == BGP_PORT
    }

    /// The rule itself.
    pub fn matches(&self, packet: &Packet<'_>) -> bool {
        let (source, target) = (packet.source(), packet.target());
        let named = |address: IpAddr| self.addresses.contains(&address);
        let addressed = named(source) || named(target) || self.tally.contains(&target);
        match packet {
            Packet::Arp { .. } => self.arp,
            Packet::Tcp(segment) => {
                let port = |port: u16| self.tcp_ports.contains(&port);
                Filter::is_bgp(segment) || port(segment.from.port()) || port(segment.to.port()) || addressed
            }
            Packet::Udp { .. } | Packet::Other { .. } => addressed,
        }
    }

    /// A kernel program that passes everything the rule wants, and little else: extension headers and
    /// fragments, and everything at all if the rule names too much for a program.
    pub fn program(&self) -> Vec<SockFilter> {
        if self.tcp_ports.len() + self.addresses.len() + self.tally.len() > MAX_TERMS {
            return vec![SockFilter::new(RETURN, 0, 0, PASS)];
        }
        let mut code: Vec<Step> = Vec::new();
        let ports: Vec<u16> = [BGP_PORT].iter().chain(&self.tcp_ports).copied().collect();
        if self.arp {
            code.extend(if_protocol(ETHERTYPE_ARP, &[pass()]));
        }
        let v4 = self.ipv4(&ports);
        code.extend(if_protocol(ETHERTYPE_IPV4, &v4));
        let v6 = self.ipv6(&ports);
        code.extend(if_protocol(ETHERTYPE_IPV6, &v6));
        code.push(reject());
        code.iter().map(|step| SockFilter::new(step.0, step.1, step.2, step.3)).collect()
    }

    fn ipv4(&self, ports: &[u16]) -> Vec<Step> {
        let mut code = Vec::new();
        for (address, source_too) in self.wanted() {
            let IpAddr::V4(address) = address else { continue };
            let bits = u32::from(address);
            if source_too {
                code.extend([load(LOAD_WORD, 12), skip_unless(bits, 1), pass()]);
            }
            code.extend([load(LOAD_WORD, 16), skip_unless(bits, 1), pass()]);
        }
        // TCP only; X = header length; then both ports.
        code.extend([load(LOAD_BYTE, 9), skip_if(6, 1), reject()]);
        code.push((LOAD_X_HEADER_LENGTH, 0, 0, network(0)));
        for offset in [0, 2] {
            code.push((LOAD_HALF_X, 0, 0, network(offset)));
            for port in ports {
                code.extend([skip_unless((*port).into(), 1), pass()]);
            }
        }
        code.push(reject());
        code
    }

    fn ipv6(&self, ports: &[u16]) -> Vec<Step> {
        let mut code = Vec::new();
        for (address, source_too) in self.wanted() {
            let IpAddr::V6(address) = address else { continue };
            let octets = address.octets();
            for (start, wanted) in [(8, source_too), (24, true)] {
                if !wanted {
                    continue;
                }
                for (word, bytes) in octets.chunks_exact(4).enumerate() {
                    let bits = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    code.push(load(LOAD_WORD, start + 4 * word as u32));
                    // A word that differs skips what is left of this address.
                    code.push(skip_unless(bits, (3 - word as u8) * 2 + 1));
                }
                code.push(pass());
            }
        }
        // Extension headers are rare here: let them through, the function decides.
        for extension in [0, 43, 44, 60] {
            code.extend([load(LOAD_BYTE, 6), skip_unless(extension, 1), pass()]);
        }
        code.extend([load(LOAD_BYTE, 6), skip_if(6, 1), reject()]);
        for offset in [40, 42] {
            code.push(load(LOAD_HALF, offset));
            for port in ports {
                code.extend([skip_unless((*port).into(), 1), pass()]);
            }
        }
        code.push(reject());
        code
    }

    /// Addresses to pass, and whether also as a source.
    fn wanted(&self) -> impl Iterator<Item = (IpAddr, bool)> {
        self.addresses.iter().map(|a| (*a, true)).chain(self.tally.iter().map(|a| (*a, false)))
    }
}

/// Code, jump if true, jump if false, operand: an instruction of the classic packet filter.
type Step = (u16, u8, u8, u32);

// linux/bpf_common.h: class | size | mode.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_X: u16 = 0x48;
const LOAD_X_HEADER_LENGTH: u16 = 0xb1;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Bytes to copy of a packet that passes: all.
const PASS: u32 = 0x4_0000;

/// Offsets from the network header, whatever the socket's type and the packet's direction.
fn network(offset: u32) -> u32 {
    (libc::SKF_NET_OFF as u32).wrapping_add(offset)
}

fn load(size: u16, offset: u32) -> Step {
    (size, 0, 0, network(offset))
}

fn pass() -> Step {
    (RETURN, 0, 0, PASS)
}

fn reject() -> Step {
    (RETURN, 0, 0, 0)
}

fn skip_unless(value: u32, count: u8) -> Step {
    (JUMP_IF_EQUAL, 0, count, value)
}

fn skip_if(value: u32, count: u8) -> Step {
    (JUMP_IF_EQUAL, count, 0, value)
}

fn if_protocol(ethertype: u16, body: &[Step]) -> Vec<Step> {
    let protocol = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;
    let mut code =
        vec![(LOAD_HALF, 0, 0, protocol), skip_if(ethertype.into(), 1), (JUMP, 0, 0, body.len() as u32)];
    code.extend(body);
    code
}
