//! Certificates, keys and what stands beside them: what is taken, what is refused, and that a key is never shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use edgeproxy::config::Config;
use edgeproxy::config::diff::{Change, diff};
use edgeproxy::config::listen::{ClientCertificates, Identity, PrivateKey, Security, Tls};
use edgeproxy::config::load::{LoadError, load};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

const MINIMAL: &str = include_str!("../../config/minimal.yaml");
const PAIR: &str = "certificate: web.pem, key: web.key";

/// A directory with a configuration and the files that it names.
struct Place(TempDir);

impl Place {
    /// With a certificate for these names in `web.pem`, and its key in `web.key`.
    fn with(names: &[&str]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let (certificate, key) = certificate(names);
        place.write("web.pem", certificate, 0o644);
        place.write("web.key", key, 0o600);
        place
    }

    fn write(&self, name: &str, octets: impl AsRef<[u8]>, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, octets).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Loads the minimal configuration with a listener whose TLS says this.
    fn load(&self, tls: &str) -> Result<Config, LoadError> {
        let text = format!("{MINIMAL}    listen: [{{ address: 198.51.100.1, tls: {{ {tls} }} }}]\n");
        self.write("pop.yaml", text, 0o644);
        load(&self.0.path().join("pop.yaml"))
    }

    fn tls(&self, tls: &str) -> Tls {
        let config = self.load(tls).unwrap();
        let Security::Terminate(tls) = &config.services["web"].listen[0].security else { panic!("TLS") };
        (**tls).clone()
    }

    /// The one problem, as the last word of its path, its message and its hint.
    fn refusal(&self, tls: &str) -> String {
        let Err(LoadError::Invalid(problems)) = self.load(tls) else { panic!("{tls} is taken") };
        let [problem] = problems.list() else { panic!("{problems}") };
        let word = problem.path.strip_prefix("services[0].listen[0].tls.").expect("a word of TLS");
        assert!(!problem.hint.is_empty() && problem.column > 1, "{problem}");
        format!("{word}: {}\n{}", problem.message, problem.hint)
    }
}

fn certificate(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn names(tls: &Tls) -> Vec<&str> {
    tls.names.iter().map(|name| name.0.as_str()).collect()
}

#[test]
fn names_are_those_of_the_certificate_unless_they_are_written() {
    let place = Place::with(&["WWW.Example.net", "*.example.net", "www.example.net", "192.0.2.1"]);
    assert_eq!(names(&place.tls(PAIR)), ["www.example.net", "*.example.net"]);
    assert_eq!(names(&place.tls(&format!("{PAIR}, names: [a.example.net]"))), ["a.example.net"]);
    // Whatever nobody else claims.
    assert!(names(&place.tls(&format!("{PAIR}, names: []"))).is_empty());
    assert!(names(&place.tls("self_signed: true")).is_empty());
}

#[test]
fn a_chain_is_read_whole_and_a_key_in_each_form() {
    let place = Place::with(&["a.example.net"]);
    let (second, _) = certificate(&["b.example.net"]);
    let (first, key) = certificate(&["a.example.net"]);
    // What else stands in the file, such as openssl's words, means nothing.
    place.write("web.pem", format!("subject=a\n{first}\nsubject=b\n{second}"), 0o644);
    place.write("web.key", format!("{key}\n"), 0o640);
    let Identity::Files { chain, key, ocsp } = place.tls(PAIR).identity else { panic!("from files") };
    assert_eq!((chain.len(), ocsp), (2, None));
    let PrivateKey::Pkcs8(key) = key else { panic!("PKCS #8") };
    assert_eq!(chain[0][0], 0x30);
    assert_eq!(key[0], 0x30);
    // One file may hold both.
    let both = fs::read(place.0.path().join("web.key")).unwrap();
    place.write("both.pem", [first.as_bytes(), &both].concat(), 0o600);
    place.tls("certificate: both.pem, key: both.pem");
}

#[test]
fn what_cannot_be_used_is_refused() {
    let (other, other_key) = certificate(&["b.example.net"]);
    let (first, key) = certificate(&["a.example.net"]);
    let der = KeyPair::generate().unwrap().serialize_der();
    let torn = first.replace("-----END CERTIFICATE-----", "");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_base64 = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old_sealed =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let two_keys = format!("{key}{other_key}");
    let long = first.repeat(17);
    let table: [(&str, &[u8], &str, u32, &str); 19] = [
        (PAIR, b"", "web.pem", 0o644, "certificate: no certificate in "),
        (PAIR, b"", "web.pem", 0o644, "the file is empty"),
        (PAIR, key.as_bytes(), "web.pem", 0o644, "`-----BEGIN CERTIFICATE-----`"),
        (PAIR, &der, "web.pem", 0o644, "it looks like DER"),
        (PAIR, torn.as_bytes(), "web.pem", 0o644, "its last part has no END line"),
        (PAIR, garbage.as_bytes(), "web.pem", 0o644, "certificate: the first certificate in "),
        (PAIR, no_base64.as_bytes(), "web.pem", 0o644, "is no base64"),
        (PAIR, long.as_bytes(), "web.pem", 0o644, "at most 16 are taken"),
        (PAIR, &[b'x'; (1 << 20) + 1], "web.pem", 0o644, "is larger than 1 MiB"),
        (PAIR, other.as_bytes(), "web.pem", 0o644, "key: the key does not belong to the certificate"),
        (PAIR, other_key.as_bytes(), "web.key", 0o600, "key: the key does not belong to the certificate"),
        (PAIR, key.as_bytes(), "web.key", 0o644, "key: "),
        (PAIR, key.as_bytes(), "web.key", 0o604, "is open to everybody (mode 604)"),
        (PAIR, sealed.as_bytes(), "web.key", 0o600, "is encrypted"),
        (PAIR, old_sealed.as_bytes(), "web.key", 0o600, "`openssl pkey -in "),
        (PAIR, no_key.as_bytes(), "web.key", 0o600, "key: the key is of no kind that is taken here"),
        (PAIR, first.as_bytes(), "web.key", 0o600, "key: no private key in "),
        (PAIR, &der, "web.key", 0o600, "it looks like DER"),
        (PAIR, two_keys.as_bytes(), "web.key", 0o600, "2 private keys in "),
    ];
    for (tls, octets, file, mode, words) in table {
        let place = Place::with(&["a.example.net"]);
        place.write("web.pem", &first, 0o644);
        place.write("web.key", &key, 0o600);
        place.tls(tls);
        place.write(file, octets, mode);
        let refusal = place.refusal(tls);
        assert!(refusal.contains(words), "{refusal}\nlacks {words}");
        for secret in [key.lines().nth(1).unwrap(), other_key.lines().nth(1).unwrap()] {
            assert!(!refusal.contains(secret), "{refusal}");
        }
    }
    let place = Place::with(&["a.example.net"]);
    assert!(place.refusal("certificate: nobody.pem, key: web.key").contains("certificate: cannot read "));
}

#[test]
fn an_ocsp_response_is_der_and_an_answer() {
    let place = Place::with(&["a.example.net"]);
    let with = format!("{PAIR}, ocsp: web.ocsp");
    // RFC 6960 §4.2.1: successful, with some octets where the answer is.
    place.write("web.ocsp", [0x30, 6, 0x0a, 1, 0, 0xa0, 1, 0], 0o644);
    let Identity::Files { ocsp, .. } = place.tls(&with).identity else { panic!("from files") };
    assert_eq!(ocsp.map(|der| der.len()), Some(8));
    for (octets, words) in [
        (&[0x30, 3, 0x0a, 1, 3][..], "carries the error 3"),
        (&[0x30, 4, 0x0a, 1, 0], "no OCSP response"),
        (b"", "no OCSP response"),
        (b"-----BEGIN OCSP RESPONSE-----\n", "is PEM"),
    ] {
        place.write("web.ocsp", octets, 0o644);
        assert!(place.refusal(&with).contains(words), "{words}");
    }
}

#[test]
fn clients_may_or_must_show_certificates() {
    let place = Place::with(&["a.example.net"]);
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = authority.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    place.write("clients.pem", authority.repeat(2), 0o644);
    let clients = |more: &str| place.tls(&format!("{PAIR}{more}")).clients;
    assert_eq!(clients(""), ClientCertificates::Off);
    assert!(
        matches!(clients(", client_ca: clients.pem"), ClientCertificates::Required(list) if list.len() == 2)
    );
    let optional = clients(", client_ca: clients.pem, client_auth: optional");
    assert!(matches!(optional, ClientCertificates::Optional(list) if list.len() == 2));
    place.write("clients.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644);
    let refusal = place.refusal(&format!("{PAIR}, client_ca: clients.pem"));
    assert!(refusal.contains("client_ca: certificate 1 in "), "{refusal}");
}

#[test]
fn two_services_are_told_apart_by_the_names_of_their_certificates() {
    let place = Place::with(&["a.example.net"]);
    let second = |names: &[&str]| {
        let (certificate, key) = certificate(names);
        place.write("two.pem", certificate, 0o644);
        place.write("two.key", key, 0o600);
        let other = "  - name: two\n    backends: [{ id: a, address: 10.0.0.9, port: 80 }]\n    listen: \
                     [{ address: 198.51.100.1, tls: { certificate: two.pem, key: two.key } }]\n";
        let text = format!("{MINIMAL}    listen: [{{ address: 198.51.100.1, tls: {{ {PAIR} }} }}]\n{other}");
        place.write("pop.yaml", text, 0o644);
        load(&place.0.path().join("pop.yaml"))
    };
    second(&["b.example.net", "*.example.net"]).unwrap();
    let refused = second(&["b.example.net", "A.example.net"]).unwrap_err().to_string();
    assert!(refused.contains("`a.example.net` at 198.51.100.1:8443 leads elsewhere already"), "{refused}");
}

#[test]
fn another_certificate_is_another_configuration_and_no_key_is_shown() {
    let place = Place::with(&["a.example.net"]);
    let before = place.load(PAIR).unwrap();
    assert!(diff(&before, &place.load(PAIR).unwrap()).is_empty());
    let (certificate, key) = certificate(&["a.example.net"]);
    place.write("web.pem", certificate, 0o644);
    place.write("web.key", &key, 0o600);
    let after = place.load(PAIR).unwrap();
    assert_ne!(before, after);
    let diff = diff(&before, &after);
    let Change::Changed(words) = &diff.services["web"] else { panic!("{diff}") };
    let words: Vec<_> = words.iter().map(ToString::to_string).collect();
    let word = "listen.198.51.100.1:8443.tls.";
    assert_eq!(words, [format!("{word}certificate set → another"), format!("{word}key set → another")]);
    let shown = format!("{after:?}");
    assert!(shown.contains("Files(1 certificates)") && !shown.contains("Pkcs8"), "{shown}");
}

#[test]
fn paths_begin_beside_the_file_or_at_the_root() {
    let place = Place::with(&["a.example.net"]);
    let root = place.0.path().display();
    place.tls(&format!("certificate: {root}/web.pem, key: {root}/web.key"));
    fs::create_dir(place.0.path().join("tls")).unwrap();
    fs::rename(place.0.path().join("web.pem"), place.0.path().join("tls/web.pem")).unwrap();
    place.tls("certificate: tls/web.pem, key: web.key");
}
