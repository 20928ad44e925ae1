//! Good certificates and every kind of bad one.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::super::head::tests::head;
use super::*;

const NOW: i64 = 1_800_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn at(days: i64) -> Option<UnixTime> {
    Some(UnixTime::since_unix_epoch(Duration::from_secs((NOW + days * 86_400) as u64)))
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn key(pem: &str) -> Vec<u8> {
    PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap().secret_pkcs8_der().to_vec()
}

fn believing(authorities: &[&Authority]) -> Arc<Authorities> {
    let ders: Vec<_> = authorities.iter().map(|authority| der(authority.certificate())).collect();
    Arc::new(Authorities::new("example", &ders).unwrap())
}

fn identity(authority: &Authority, pop: &str) -> Arc<Identity> {
    let invitation = authority.invite(pop, 30, now()).unwrap();
    let (certificate, key) = (der(&invitation.certificate), key(&invitation.key.unwrap()));
    Arc::new(Identity::new(believing(&[authority]), &certificate, &key).unwrap())
}

fn signed_by(authority: &Authority, params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
    let issuer_key = KeyPair::from_pem(&authority.key()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(authority.certificate(), &issuer_key).unwrap();
    params.signed_by(key, &issuer).unwrap().der().to_vec()
}

fn named(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let uri = |name: &&str| SanType::URI((*name).try_into().unwrap());
    params.subject_alt_names = names.iter().map(uri).collect();
    params.not_before = now() - time::Duration::hours(1);
    params.not_after = now() + time::Duration::days(30);
    params
}

#[test]
fn a_certificate_serves_its_pop_in_its_time() {
    let authority = Authority::new("example", now()).unwrap();
    let certificate = der(&authority.invite("gru1", 30, now()).unwrap().certificate);
    let authorities = believing(&[&authority]);
    let gru1 = "gru1".to_owned();
    for (at, result) in [
        (at(0), Ok(gru1.clone())),
        (at(29), Ok(gru1.clone())),
        (at(36), Ok(gru1.clone())),
        (at(38), Err(Untrusted::Expired(gru1.clone()))),
        (at(-1), Err(Untrusted::Early(gru1.clone()))),
        // What was written stays written.
        (None, Ok(gru1)),
    ] {
        assert_eq!(authorities.pop_of(&certificate, at), result);
    }
}

#[test]
fn every_other_certificate_is_refused_in_words() {
    let authority = Authority::new("example", now()).unwrap();
    let other = Authority::new("example", now()).unwrap();
    let authorities = believing(&[&authority]);
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let good = "spiffe://example/pop/gru1";
    let stranger = der(&other.invite("gru1", 30, now()).unwrap().certificate);
    let own = named(&[good]).self_signed(&key).unwrap().der().to_vec();
    for (certificate, words) in [
        (stranger, "no authority of this fleet"),
        (own, "no authority of this fleet"),
        (der(authority.certificate()), "no authority of this fleet"),
        (signed_by(&authority, &named(&["spiffe://elsewhere/pop/gru1"]), &key), "no POP of this fleet"),
        (signed_by(&authority, &named(&["spiffe://example/service/web"]), &key), "no POP of this fleet"),
        (signed_by(&authority, &named(&["spiffe://example/pop/GRU1"]), &key), "no POP of this fleet"),
        (signed_by(&authority, &named(&["spiffe://example/pop/"]), &key), "no POP of this fleet"),
        (signed_by(&authority, &named(&[]), &key), "names no POP"),
        (signed_by(&authority, &named(&[good, "spiffe://example/pop/fra1"]), &key), "names no POP, or more"),
        (b"garbage".to_vec(), "no certificate"),
    ] {
        let refused = authorities.pop_of(&certificate, at(0)).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}: not {words}");
    }
}

#[test]
fn key_and_certificate_belong_together() {
    let authority = Authority::new("example", now()).unwrap();
    let [one, two] = ["gru1", "gru1"].map(|pop| authority.invite(pop, 30, now()).unwrap());
    let mixed =
        Identity::new(believing(&[&authority]), &der(&one.certificate), &key(&two.key.unwrap())).map(drop);
    assert_eq!(mixed, Err(IdentityError::Mismatch));
    let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = signed_by(&authority, &named(&["spiffe://example/pop/gru1"]), &ecdsa);
    let other = Identity::new(believing(&[&authority]), &certificate, &ecdsa.serialize_der()).map(drop);
    assert!(matches!(other, Err(IdentityError::Key(_))), "{other:?}");
}

#[test]
fn a_key_that_was_made_at_the_pop_is_signed_for_it_alone() {
    let authority = Authority::new("example", now()).unwrap();
    let (secret, request) = request("example", "gru1").unwrap();
    assert!(matches!(authority.sign("fra1", &request, 30, now()), Err(IssueError::Another { .. })));
    let invitation = authority.sign("gru1", &request, 30, now()).unwrap();
    assert_eq!(invitation.key, None);
    let authorities = believing(&[&authority]);
    let identity = Identity::new(authorities, &der(&invitation.certificate), &key(&secret)).unwrap();
    assert_eq!(identity.origin().as_str(), "gru1");
}

#[test]
fn one_authority_takes_the_place_of_another() {
    let [old, new] = [(); 2].map(|()| Authority::new("example", now()).unwrap());
    let [before, after] =
        [&old, &new].map(|authority| der(&authority.invite("gru1", 30, now()).unwrap().certificate));
    let both = believing(&[&old, &new]);
    assert!(both.pop_of(&before, at(0)).is_ok() && both.pop_of(&after, at(0)).is_ok());
    assert!(believing(&[&new]).pop_of(&before, at(0)).is_err());
    let again = Authority::load("example", &old.key(), old.certificate()).unwrap();
    let later = der(&again.invite("fra1", 30, now()).unwrap().certificate);
    assert!(both.pop_of(&later, at(0)).is_ok());
}

#[test]
fn a_head_is_believed_of_its_origin_alone() {
    let authority = Authority::new("example", now()).unwrap();
    let [gru1, fra1] = ["gru1", "fra1"].map(|pop| Notary::new(identity(&authority, pop)));
    let mut judge = Notary::new(identity(&authority, "sin1"));
    let signed = gru1.sign(head(1, 5));
    assert_eq!(judge.judge(&signed), Ok(()));
    let forged = fra1.sign(head(1, 5));
    assert!(matches!(judge.judge(&forged), Err(Untrusted::Another { .. })));
    let mut changed = signed.clone();
    changed.head.rows += 1;
    assert!(matches!(judge.judge(&changed), Err(Untrusted::Signature(_))));
    let mut moved = signed;
    moved.certificate = forged.certificate;
    assert!(judge.judge(&moved).is_err());
}
