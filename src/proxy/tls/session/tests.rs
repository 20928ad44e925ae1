//! Sessions with rustls's client at their other end.

use std::io::Write;

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::client::ClientConfig;
use rustls::{AlertDescription, Error};

use super::client::{
    AUTHORITY, Failed, HOUR, Kind, NAME, Pair, Server, V12, V13, client, hear, leaf, section, shake,
};
use super::*;
use crate::config::listen::{ClientCertificates, TlsVersion};
use crate::config::x509::fingerprint;
use crate::proxy::tls::provider::Preference;
use crate::proxy::tls::record::MOST_PLAIN;

fn plain_client(version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
    Arc::new(client(version, Preference::Aes, None))
}

fn pair(version: &'static rustls::SupportedProtocolVersion) -> Pair {
    shake(&Server::new(&section(Kind::Ecdsa)), &plain_client(version), usize::MAX)
        .unwrap_or_else(|it| panic!("{it:?}"))
}

/// Octets that are not the same anywhere.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_version_cipher_and_key_in_parts_of_any_size() {
    for kind in [Kind::Ecdsa, Kind::Rsa] {
        let server = Server::new(&section(kind));
        for version in [V12, V13] {
            for (preference, cipher) in [(Preference::Aes, "AES_128_GCM"), (Preference::Chacha, "CHACHA20")] {
                for part in [1, 7, 100, usize::MAX] {
                    let mut config = client(version, preference, None);
                    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
                    let mut pair =
                        shake(&server, &Arc::new(config), part).unwrap_or_else(|it| panic!("{it:?}"));
                    let agreed = &pair.agreed;
                    assert_eq!(agreed.alpn.as_deref(), Some(&b"h2"[..]), "ours is preferred");
                    assert!(agreed.cipher.contains(cipher), "{agreed:?}");
                    let group = if agreed.is_v13 { "X25519MLKEM768" } else { "X25519" };
                    assert_eq!(agreed.group, group);
                    assert_eq!(agreed.is_v13, std::ptr::eq(version, V13));
                    assert!(!agreed.is_resumed && agreed.client.is_none());
                    let words = noise(70_000);
                    assert!(pair.send_up(&words, part) == words);
                    assert!(pair.send_down(&words, 9_999) == words);
                }
            }
        }
    }
}

#[test]
fn a_client_too_old_is_told() {
    let mut tls = section(Kind::Ecdsa);
    tls.minimum = TlsVersion::V1_3;
    let Err(failed) = shake(&Server::new(&tls), &plain_client(V12), usize::MAX) else { panic!("too old") };
    assert!(
        matches!(failed.client, Some(Error::AlertReceived(AlertDescription::ProtocolVersion))),
        "{failed:?}"
    );
}

#[test]
fn no_common_protocol_is_told() {
    for version in [V12, V13] {
        let mut config = client(version, Preference::Aes, None);
        config.alpn_protocols = vec![b"imap".to_vec()];
        let Err(failed) = shake(&Server::new(&section(Kind::Ecdsa)), &Arc::new(config), usize::MAX) else {
            panic!("nothing in common")
        };
        let Failed { server: Some(TlsError::Handshake(Error::NoApplicationProtocol)), client: Some(told) } =
            failed
        else {
            panic!("{failed:?}")
        };
        assert_eq!(told, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    }
}

#[test]
fn a_ticket_is_good_for_two_turns_of_the_ring() {
    for version in [V12, V13] {
        for turns in 0..=3 {
            let server = Server::new(&section(Kind::Ecdsa));
            let config = plain_client(version);
            let mut first = shake(&server, &config, usize::MAX).unwrap_or_else(|it| panic!("{it:?}"));
            assert!(!first.agreed.is_resumed);
            assert_eq!(first.send_up(b"x", 1), b"x");
            for turn in 1..=turns {
                server.tickets.handle_time(server.began + HOUR * turn);
            }
            let mut second = shake(&server, &config, 5).unwrap_or_else(|it| panic!("{it:?}"));
            assert_eq!(second.agreed.is_resumed, turns <= 2, "{turns} turns");
            let words = noise(1_000);
            assert_eq!(second.send_up(&words, 3), words);
            assert_eq!(second.send_down(&words, 3), words);
        }
    }
}

#[test]
fn clients_show_certificates_where_they_must() {
    let required = ClientCertificates::Required(vec![AUTHORITY.der.clone()]);
    let optional = ClientCertificates::Optional(vec![AUTHORITY.der.clone()]);
    let known = leaf("client-7", Kind::Ecdsa);
    let identity =
        ClientIdentity { fingerprint: fingerprint(&known.0), common_name: Some("client-7".to_owned()) };
    for version in [V12, V13] {
        let mut tls = section(Kind::Ecdsa);
        tls.clients = required.clone();
        let server = Server::new(&tls);
        let with = Arc::new(client(version, Preference::Aes, Some(known.clone())));
        for is_resumed in [false, true] {
            let mut pair = shake(&server, &with, 50).unwrap_or_else(|it| panic!("{it:?}"));
            assert_eq!((pair.agreed.is_resumed, &pair.agreed.client), (is_resumed, &Some(identity.clone())));
            assert_eq!(pair.send_down(b"x", 1), b"x");
        }
        let Err(failed) = shake(&server, &plain_client(version), usize::MAX) else {
            panic!("nobody's client")
        };
        assert!(failed.server.is_some(), "{failed:?}");
        let mut stranger = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
        stranger.is_ca = rcgen::IsCa::NoCa;
        let key = rcgen::KeyPair::generate().unwrap();
        let stranger = (stranger.self_signed(&key).unwrap().der().to_vec(), key.serialize_der());
        let stranger = Arc::new(client(version, Preference::Aes, Some(stranger)));
        assert!(shake(&server, &stranger, usize::MAX).is_err());

        tls.clients = optional.clone();
        let server = Server::with(&tls, Arc::clone(&server.tickets), server.began);
        let without = plain_client(version);
        let pair = shake(&server, &without, usize::MAX).unwrap_or_else(|it| panic!("{it:?}"));
        assert_eq!(pair.agreed.client, None);
        let mut pair = shake(&server, &with, usize::MAX).unwrap_or_else(|it| panic!("{it:?}"));
        assert_eq!((pair.agreed.is_resumed, &pair.agreed.client), (false, &Some(identity.clone())));
        assert_eq!(pair.send_down(b"x", 1), b"x");
    }
}

#[test]
fn a_session_without_a_certificate_is_not_resumed_where_one_is_required() {
    for version in [V12, V13] {
        let mut tls = section(Kind::Ecdsa);
        let open = Server::new(&tls);
        let config = plain_client(version);
        let mut pair = shake(&open, &config, usize::MAX).unwrap_or_else(|it| panic!("{it:?}"));
        assert_eq!(pair.send_down(b"x", 1), b"x");
        tls.clients = ClientCertificates::Required(vec![AUTHORITY.der.clone()]);
        let closed = Server::with(&tls, Arc::clone(&open.tickets), open.began);
        assert!(shake(&closed, &config, usize::MAX).is_err());
    }
}

#[test]
fn fifty_megabytes_each_way_in_odd_parts() {
    let words = noise(1 << 20);
    for version in [V12, V13] {
        let mut pair = pair(version);
        for round in 0..50_usize {
            assert!(pair.send_up(&words, 1_447 + round * 331) == words, "round {round}");
            assert!(pair.send_down(&words, MOST_PLAIN - round * 77) == words, "round {round}");
        }
    }
}

#[test]
fn each_direction_closes_by_itself() {
    for version in [V12, V13] {
        let mut pair = pair(version);
        pair.client.writer().write_all(b"last words").unwrap();
        pair.client.send_close_notify();
        assert_eq!(pair.up(1).unwrap(), b"last words");
        assert!(pair.session.is_closed());
        // Ours goes on.
        assert_eq!(pair.send_down(b"answer", 6), b"answer");
        let mut out = Vec::new();
        pair.session.close(&mut out);
        hear(&mut pair.client, &out).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        // Nothing behind it is looked at (RFC 8446 §6.1).
        let mut garbage = vec![7; 40];
        assert_eq!(pair.session.open(&mut garbage, &mut Vec::new(), &mut Vec::new()).unwrap(), 40);
    }
}

#[test]
fn keys_are_changed_when_either_side_wants() {
    let mut pair = pair(V13);
    let words = noise(50_000);
    for round in 0..20 {
        pair.client.refresh_traffic_keys().unwrap();
        assert!(pair.send_up(&words, 1_000 + round) == words);
        assert!(pair.send_down(&words, 5_000) == words);
        pair.session.sealer.wear_out();
        let mut out = Vec::new();
        pair.session.renew(&mut out).unwrap();
        assert!(!out.is_empty() && !pair.session.sealer.is_worn());
        hear(&mut pair.client, &out).unwrap();
        assert!(pair.send_down(&words, 5_000) == words);
    }
}

#[test]
fn a_worn_key_of_tls_1_2_ends_the_session() {
    let mut pair = pair(V12);
    let mut out = Vec::new();
    pair.session.renew(&mut out).unwrap();
    pair.session.sealer.wear_out();
    assert!(matches!(pair.session.renew(&mut out), Err(TlsError::Cipher)));
    assert!(pair.client.refresh_traffic_keys().is_err());
}

#[test]
fn who_changes_keys_without_end_is_stopped() {
    let mut pair = pair(V13);
    for _ in 0..MOST_SMALL {
        pair.client.refresh_traffic_keys().unwrap();
        pair.up(usize::MAX).unwrap();
    }
    // All those wishes are one.
    let mut out = Vec::new();
    pair.session.renew(&mut out).unwrap();
    hear(&mut pair.client, &out).unwrap();
    assert_eq!(out.len(), 5 + 5 + 1 + 16);
    pair.client.refresh_traffic_keys().unwrap();
    assert!(matches!(pair.up(usize::MAX), Err(TlsError::Busy)));
}

#[test]
fn a_client_that_changes_keys_now_and_then_lives_on() {
    let mut pair = pair(V13);
    for _ in 0..1_000 {
        pair.client.refresh_traffic_keys().unwrap();
        assert_eq!(pair.send_up(b"and something to say", usize::MAX), b"and something to say");
        assert_eq!(pair.send_down(b"yes", 3), b"yes");
    }
}

#[test]
fn octets_behind_the_last_of_the_handshake_are_not_lost() {
    // The client says something before it has seen that we are done, all in one read.
    for version in [V12, V13] {
        let server = Server::new(&section(Kind::Ecdsa));
        let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
        let mut client = rustls::ClientConnection::new(plain_client(version), name).unwrap();
        let words = noise(30_000);
        client.writer().write_all(&words).unwrap();
        let mut hand = Box::new(server.handshake());
        let (mut said, mut plain) = (Vec::new(), Vec::new());
        let (mut session, _) = loop {
            while client.wants_write() {
                client.write_tls(&mut said).unwrap();
            }
            // A last record is not whole.
            let held = said.split_off(said.len().saturating_sub(9).max(said.len().min(2_000)));
            let mut out = Vec::new();
            let step = hand.advance(&mut said, &mut out, &mut plain).unwrap();
            said.extend(held);
            hear(&mut client, &out).unwrap();
            match step {
                Step::More(more) => hand = more,
                Step::Done(session, agreed) => break (session, agreed),
            }
        };
        while client.wants_write() {
            client.write_tls(&mut said).unwrap();
        }
        let mut places = Vec::new();
        session.open(&mut said, &mut places, &mut Vec::new()).unwrap();
        plain.extend(places.into_iter().flat_map(|place| said[place].to_vec()));
        assert!(plain == words, "{} of {}", plain.len(), words.len());
    }
}

#[test]
fn a_handshake_without_end_is_ended() {
    let server = Server::new(&section(Kind::Ecdsa));
    let mut hand = Box::new(server.handshake());
    let (mut incoming, mut out) = (Vec::new(), Vec::new());
    let record = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &vec![0; (1 << 14) - 4]].concat();
    for _ in 0..8 {
        incoming.extend_from_slice(&record);
        match hand.advance(&mut incoming, &mut out, &mut Vec::new()) {
            Ok(Step::More(more)) => hand = more,
            Ok(Step::Done(..)) => panic!("of nothing"),
            Err(_) => return,
        }
    }
    panic!("{} octets are waiting", incoming.len());
}

#[test]
fn a_session_is_small() {
    let session = size_of::<Session>();
    println!("a session has {session} octets, a handshake {}", size_of::<Handshake>());
    assert!(session <= 2_048, "{session}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_was_changed_on_its_way_is_never_believed(
        is_v13: bool,
        length in 1_usize..3_000,
        at in any::<prop::sample::Index>(),
        by in 1_u8..,
        behind in vec(any::<u8>(), 0..40),
    ) {
        let mut pair = pair(if is_v13 { V13 } else { V12 });
        let words = noise(length);
        pair.client.writer().write_all(&words).unwrap();
        let mut sealed = Vec::new();
        pair.client.write_tls(&mut sealed).unwrap();
        let at = at.index(sealed.len());
        sealed[at] ^= by;
        // More may seem to follow when the length was changed.
        sealed.extend(behind);
        let (mut places, mut out) = (Vec::new(), Vec::new());
        let opened = pair.session.open(&mut sealed, &mut places, &mut out);
        let plain: Vec<u8> = places.into_iter().flat_map(|place| sealed[place].to_vec()).collect();
        match at {
            // RFC 8446 §5.1: the version of a record is ignored.
            1 | 2 => prop_assert!(opened.is_err() || plain == words),
            // Its length: either it is not whole, or it is wrong.
            3 | 4 => prop_assert!(plain.is_empty()),
            _ => {
                prop_assert!(opened.is_err(), "octet {}", at);
                prop_assert!(plain.is_empty() && !out.is_empty());
                // The client is told why.
                let told = hear(&mut pair.client, &out);
                prop_assert!(matches!(told, Err(Error::AlertReceived(_))), "{:?}", told);
            }
        }
    }

    #[test]
    fn garbage_ends_handshakes_and_sessions(garbage in vec(any::<u8>(), 1..400), is_v13: bool, whole: bool) {
        let mut garbage = if whole {
            [&[22, 3, 1][..], &(garbage.len() as u16).to_be_bytes(), &garbage].concat()
        } else {
            garbage
        };
        let hand = Box::new(Server::new(&section(Kind::Ecdsa)).handshake());
        let step = hand.advance(&mut garbage.clone(), &mut Vec::new(), &mut Vec::new());
        prop_assert!(!matches!(step, Ok(Step::Done(..))));
        let mut pair = pair(if is_v13 { V13 } else { V12 });
        let mut places = Vec::new();
        let _ = pair.session.open(&mut garbage, &mut places, &mut Vec::new());
        prop_assert!(places.is_empty());
    }
}
