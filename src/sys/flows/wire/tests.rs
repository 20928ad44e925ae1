//! Requests as the kernel would judge them, and answers whole, cut and senseless.

use proptest::prelude::*;

use super::*;

/// Takes a program as the kernel does: whether it is well-formed, as `inet_diag_bc_audit` says.
fn is_sound(program: &[u8]) -> bool {
    let mut starts = vec![];
    let mut at = 0;
    while at < program.len() {
        starts.push(at);
        at += usize::from(program[at + 1]);
    }
    starts.push(program.len());
    at == program.len()
        && starts.iter().take_while(|start| **start < program.len()).all(|&start| {
            let no = start + usize::from(u16::from_ne_bytes([program[start + 2], program[start + 3]]));
            let least = match program[start] {
                INET_DIAG_BC_JMP => 4,
                _ if program[start + 4] == AF_INET => 16,
                _ => 28,
            };
            usize::from(program[start + 1]) >= least
                && no % 4 == 0
                && (starts.contains(&no) || no == program.len() + 4)
        })
}

/// Whether a program accepts a socket with this local address, as `inet_diag_bc_run` does.
fn accepts(program: &[u8], local: IpAddr) -> bool {
    let mut at = 0;
    while at < program.len() {
        let (yes, no) = (program[at + 1], u16::from_ne_bytes([program[at + 2], program[at + 3]]));
        let holds = program[at] == INET_DIAG_BC_S_COND && {
            let (family, bits) = (program[at + 4], usize::from(program[at + 5]));
            assert_eq!(program[at + 8..at + 12], [0xff; 4], "any port");
            let wanted = &program[at + 12..at + 12 + bits / 8];
            match local {
                IpAddr::V4(local) => family == AF_INET && wanted == local.octets(),
                IpAddr::V6(local) if family == AF_INET6 => wanted == local.octets(),
                IpAddr::V6(local) => local.to_ipv4_mapped().is_some_and(|local| wanted == local.octets()),
            }
        };
        at += if holds { usize::from(yes) } else { usize::from(no) };
    }
    at == program.len()
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    // Few enough to meet again.
    let v4 = (0..40u32).prop_map(|n| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n)));
    let v6 = (0..40u128).prop_map(|n| IpAddr::from(Ipv6Addr::from(0xfd00 << 112 | n)));
    prop::collection::vec(prop_oneof![v4, v6], 0..30)
}

/// Family and program of a dump.
fn taken_apart(request: &[u8]) -> (u8, &[u8]) {
    assert_eq!(request.len(), u32::from_ne_bytes(*request.first_chunk().unwrap()) as usize);
    assert_eq!(request[4..8], [20, 0, 1, 3], "SOCK_DIAG_BY_FAMILY, request and dump");
    assert_eq!(request[17], 6, "TCP");
    // Neither LISTEN (10), CLOSE (7) nor SYN_SENT (2).
    assert_eq!(request[20..24], 0b1011_0111_1010u32.to_ne_bytes());
    assert_eq!(u16::from_ne_bytes([request[72], request[73]]) as usize, request.len() - 72);
    (request[16], &request[76..])
}

/// An answer about one socket, padded to the length that the kernel gives it.
fn told(family: u8, state: u8, id: [u8; 48]) -> Vec<u8> {
    let mut message = vec![88, 0, 0, 0, 20, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, family, state, 0, 0];
    message.extend(id);
    message.resize(88, 0);
    message
}

fn id(local: &[u8], remote: &[u8]) -> [u8; 48] {
    let mut id = [0; 48];
    id[..4].copy_from_slice(&[0x01, 0xbb, 0xc0, 0x01]);
    id[4..4 + local.len()].copy_from_slice(local);
    id[20..20 + remote.len()].copy_from_slice(remote);
    id[40..].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    id
}

fn all(datagram: &[u8]) -> Vec<Result<Message, Option<i32>>> {
    messages(datagram).map(|message| message.map_err(|error| error.raw_os_error())).collect()
}

proptest! {
    #[test]
    fn a_program_accepts_its_addresses_and_no_others(wanted in addresses(), others in addresses()) {
        prop_assume!(!wanted.is_empty());
        let program = program(&wanted);
        prop_assert!(is_sound(&program), "{program:?}");
        for address in wanted.iter().chain(&others) {
            prop_assert_eq!(accepts(&program, *address), wanted.contains(address), "{}", address);
            if let IpAddr::V4(address) = address {
                let mapped = address.to_ipv6_mapped().into();
                prop_assert_eq!(accepts(&program, mapped), wanted.contains(&(*address).into()));
            }
        }
    }

    #[test]
    fn each_family_is_asked_for_each_address_once(wanted in addresses()) {
        let requests = dumps(&wanted);
        let asked = |family: u8, address: IpAddr| {
            let programs = requests.iter().map(|request| taken_apart(request));
            programs.filter(|(of, program)| *of == family && accepts(program, address)).count()
        };
        for address in &wanted {
            match address {
                IpAddr::V4(v4) => {
                    prop_assert_eq!(asked(AF_INET, *address), 1);
                    prop_assert_eq!(asked(AF_INET6, v4.to_ipv6_mapped().into()), 1);
                }
                IpAddr::V6(_) => prop_assert_eq!(asked(AF_INET6, *address), 1),
            }
        }
        prop_assert_eq!(wanted.is_empty(), requests.is_empty(), "a program without addresses accepts everything");
    }

    #[test]
    fn garbage_is_survived(datagram in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(messages(&datagram).count() <= 300);
    }

    #[test]
    fn a_broken_answer_is_survived(at in 0..176usize, octet: u8, length in 0..=176usize) {
        let mut datagram = [told(2, 1, id(&[10, 0, 0, 1], &[10, 0, 0, 2])), told(10, 6, [0; 48])].concat();
        datagram[at] = octet;
        for message in messages(&datagram[..length]).flatten() {
            if let Message::Flow(flow) = message {
                let _ = (flow.local(), flow.remote(), flow.to_string());
            }
        }
    }
}

#[test]
fn more_addresses_than_a_program_holds_are_asked_for_in_several() {
    let v4: Vec<_> = (0..600u32).map(Ipv4Addr::from).collect();
    let wanted: Vec<_> = v4.iter().copied().map(IpAddr::from).collect();
    let requests = dumps(&wanted);
    assert_eq!(requests.len(), 6);
    for request in &requests {
        let (_, program) = taken_apart(request);
        assert!(is_sound(program) && program.len() <= 8192);
    }
    // A mapped address is the same as the plain one.
    let mapped = v4.iter().map(|address| address.to_ipv6_mapped().into()).collect();
    assert_eq!(dumps(&[wanted, mapped].concat()), requests);
}

#[test]
fn a_flow_says_its_ends_and_its_stage() {
    let v6 = "fd00::1".parse::<Ipv6Addr>().unwrap().octets();
    let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
    let rows: [(_, &[u8], &str, Stage); 4] = [
        ((2, 1), &[10, 0, 0, 1], "10.0.0.1:443 from 10.0.0.1:49153", Stage::Open),
        ((2, 3), &[10, 0, 0, 1], "10.0.0.1:443 from 10.0.0.1:49153", Stage::Open),
        ((10, 11), &v6, "[fd00::1]:443 from [fd00::1]:49153", Stage::Open),
        ((10, 6), &mapped, "10.0.0.1:443 from 10.0.0.1:49153", Stage::Ended),
    ];
    for ((family, state), address, words, stage) in rows {
        let answer = told(family, state, id(address, address));
        let [Ok(Message::Flow(flow))] = all(&answer)[..] else { panic!("{:?}", all(&answer)) };
        assert_eq!((flow.to_string().as_str(), flow.stage()), (words, stage));
        let order = destroy(&flow);
        assert_eq!((order[..8].to_vec(), order[16]), (vec![72, 0, 0, 0, 21, 0, 5, 0], family));
        assert_eq!(order[24..], id(address, address), "the kernel's own name for it");
    }
}

#[test]
fn other_messages_are_told_apart() {
    let done = [20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let refused = [20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff];
    let acknowledged = [20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let odd = [16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(all(&[&odd[..], &done].concat()), [Ok(Message::Other), Ok(Message::End)]);
    assert_eq!(all(&refused), [Err(Some(libc::ENOENT))]);
    assert_eq!(all(&acknowledged), [Ok(Message::End)]);
    for cut in [&done[..19], &done[..16], &done[..3], &[15; 16], &[0; 16]] {
        assert_eq!(all(cut), [Err(None)], "{cut:?}");
    }
    // Listening, closed, unknown; another family.
    for (family, state) in [(2, 10), (2, 7), (2, 0), (2, 12), (2, 255), (1, 1)] {
        assert_eq!(all(&told(family, state, [0; 48])), [Ok(Message::Other)], "{family} {state}");
    }
}

/// A flow for tests elsewhere: to 192.0.2.1:80 from this port.
pub(in crate::sys::flows) fn flow(port: u16, stage: Stage) -> Flow {
    let mut id = id(&[192, 0, 2, 1], &[192, 0, 2, 2]);
    id[2..4].copy_from_slice(&port.to_be_bytes());
    Flow { family: AF_INET, stage, id }
}
