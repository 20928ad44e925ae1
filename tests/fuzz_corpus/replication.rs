//! The inputs of the fuzz targets of replication, by name: what is `refused-…`, is; everything else is read.

use std::sync::Arc;
use std::time::Duration;

use edgeproxy::replication::digest::Sum;
use edgeproxy::replication::frame::{Answer, Request, pack, put_known};
use edgeproxy::replication::head::{Head, SIGNATURE, Signed};
use edgeproxy::replication::merge::Offer;
use edgeproxy::replication::octets::{put_number, put_octets};
use edgeproxy::replication::record::{Key, Row, Table, Value};
use edgeproxy::replication::sync::BUCKETS;
use edgeproxy::replication::version::{Known, Origin, Point};

/// A name and the octets.
pub type Input = (&'static str, Vec<u8>);

const LONGEST_NAME: &str = "abcdefghijklmnopqrstuvwxyz-12345";

/// All of them, by target.
pub fn inputs() -> [(&'static str, Vec<Input>); 5] {
    [
        ("replication_answer", answers()),
        ("replication_block", blocks()),
        ("replication_head", heads()),
        ("replication_known", knowns()),
        ("replication_request", requests()),
    ]
}

fn row(version: u64, key: &[u8], body: Option<&[u8]>) -> Arc<Row> {
    let key = Key::new(Table(version as u16 % 3), key).unwrap();
    Arc::new(Row { key, version, value: body.map(|body| Value::new(1, 2, body).unwrap()) })
}

fn head() -> Head {
    Head {
        origin: Origin::new("gru1").unwrap(),
        point: Point::new(3 << 20, 9),
        floor: 2,
        born: 3 << 20,
        instance: 77,
        lineage: Vec::new(),
        rows: 0,
        weight: 0,
        digest: Sum::default().digest(),
    }
}

fn largest() -> Head {
    let (most, point) = (u64::MAX, Point::new(u64::MAX, u64::MAX));
    let numbers = Head { point, floor: most, born: most, instance: most, ..head() };
    Head { rows: most, weight: most, digest: [0xff; 32], ..numbers }
}

fn with_lineage(ends: u64) -> Head {
    Head { lineage: (0..ends).map(|end| Point::new(end << 20, end / 4)).collect(), ..head() }
}

fn named(name: &str) -> Head {
    Head { origin: Origin::new(name).unwrap(), ..head() }
}

fn signed_with(head: Head, certificate: usize) -> Signed {
    Signed { head, certificate: vec![0x30; certificate].into(), signature: [5; SIGNATURE] }
}

fn signed(head: Head) -> Signed {
    signed_with(head, 20)
}

fn octets(signed: &Signed) -> Vec<u8> {
    let mut octets = Vec::new();
    signed.put(&mut octets);
    octets
}

/// With the first of these octets replaced by others.
fn altered(octets: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = octets.windows(from.len()).position(|window| window == from).expect("it is there");
    [&octets[..at], to, &octets[at + from.len()..]].concat()
}

fn without_last(octets: &[u8], count: usize) -> Vec<u8> {
    octets[..octets.len() - count].to_vec()
}

/// Ten octets are the most that a number has; this one has 65 bits.
const BITS_65: [u8; 10] = [255, 255, 255, 255, 255, 255, 255, 255, 255, 3];

fn heads() -> Vec<Input> {
    let plain = octets(&signed(head()));
    // The point's version follows its incarnation, which is 3 << 20.
    let (at, version) = ([0x80, 0x80, 0xc0, 1], |octets: &[u8]| [&[0x80, 0x80, 0xc0, 1], octets].concat());
    let nine = version(&[9]);
    vec![
        ("plain", plain.clone()),
        ("no-rows-at-all", octets(&signed(Head { point: Point::default(), floor: 0, ..head() }))),
        ("lineage-1", octets(&signed(with_lineage(1)))),
        ("lineage-32", octets(&signed(with_lineage(32)))),
        ("lineage-in-no-order", {
            let lineage = vec![Point::new(5, 9), Point::new(2, 90), Point::new(5, 9)];
            octets(&signed(Head { lineage, ..head() }))
        }),
        ("name-longest", octets(&signed(named(LONGEST_NAME)))),
        ("name-shortest", octets(&signed(named("a")))),
        ("numbers-largest", octets(&signed(largest()))),
        ("certificate-empty", octets(&signed_with(head(), 0))),
        ("certificate-usual", octets(&signed_with(head(), 420))),
        ("certificate-longest", octets(&signed_with(head(), 2_048))),
        ("followed-by-more", [&plain[..], b"and more"].concat()),
        ("refused-empty", Vec::new()),
        ("refused-cut-in-the-name", plain[..3].to_vec()),
        ("refused-cut-in-the-digest", plain[..30].to_vec()),
        ("refused-cut-in-the-signature", without_last(&plain, 1)),
        ("refused-certificate-2049", octets(&signed_with(head(), 2_049))),
        ("refused-lineage-33", octets(&signed(with_lineage(33)))),
        ("refused-name-capital", altered(&plain, b"gru1", b"Gru1")),
        ("refused-name-no-text", altered(&plain, b"gru1", &[0xff; 4])),
        ("refused-name-empty", altered(&plain, b"\x04gru1", &[0])),
        ("refused-name-33", altered(&plain, b"\x04gru1", &[&[33][..], &[b'a'; 33]].concat())),
        ("refused-number-of-65-bits", altered(&plain, &nine, &[&at[..], &BITS_65].concat())),
        ("refused-number-in-a-longer-form", altered(&plain, &nine, &version(&[0x89, 0]))),
    ]
}

fn rows_of(head: Head, after: Option<u64>) -> Vec<u8> {
    Answer::Rows { head: Box::new(signed(head)), after }.octets()
}

fn answers() -> Vec<Input> {
    let busy = |milliseconds| Answer::Busy(Duration::from_millis(milliseconds)).octets();
    let rows = rows_of(head(), Some(7));
    vec![
        ("busy-0", busy(0)),
        ("busy-250", busy(250)),
        ("busy-longest", busy(600_000)),
        ("nothing", Answer::Nothing.octets()),
        ("rows-all", rows_of(head(), None)),
        ("rows-after", rows.clone()),
        ("rows-after-the-beginning", rows_of(head(), Some(0))),
        ("rows-after-the-largest", rows_of(head(), Some(u64::MAX))),
        ("rows-lineage-32", rows_of(with_lineage(32), None)),
        ("rows-name-longest", rows_of(named(LONGEST_NAME), None)),
        ("rows-numbers-largest", rows_of(largest(), None)),
        ("refused-empty", Vec::new()),
        ("refused-kind-3", altered(&rows, &[2, 1, 7], &[3, 1, 7])),
        ("refused-busy-longer", busy(600_001)),
        ("refused-busy-without-a-time", vec![0]),
        ("refused-busy-in-a-longer-form", vec![0, 0x80, 0]),
        ("refused-nothing-and-more", vec![1, 0]),
        ("refused-rows-and-more", [&rows[..], &[0]].concat()),
        ("refused-rows-without-a-head", vec![2, 0]),
        ("refused-rows-option-2", altered(&rows, &[2, 1, 7], &[2, 2, 7])),
        ("refused-rows-lineage-33", rows_of(with_lineage(33), None)),
        ("refused-rows-signature-cut", without_last(&rows, 9)),
    ]
}

fn knowns() -> Vec<Input> {
    let known = |version| Known { point: Point::new(1 << 20, version), floor: version / 2, digest: [7; 16] };
    let of = |names: &[&str]| -> Vec<u8> {
        let all: Vec<_> = names.iter().map(|name| (Origin::new(name).unwrap(), known(9))).collect();
        put_known(&all)
    };
    let one = of(&["gru1"]);
    let most = Known { point: Point::new(u64::MAX, u64::MAX), floor: u64::MAX, digest: [0xff; 16] };
    let many: Vec<_> = (0..20).map(|n| (Origin::new(&format!("pop{n}")).unwrap(), known(n))).collect();
    let nines: &[u8] = &[0x80, 0x80, 0x40, 9];
    vec![
        ("nobody", of(&[])),
        ("one", one.clone()),
        ("three", of(&["fra1", "gru1", "sin1"])),
        ("in-no-order", of(&["sin1", "fra1", "gru1"])),
        ("the-same-twice", of(&["gru1", "gru1"])),
        ("twenty", put_known(&many)),
        ("name-longest", of(&[LONGEST_NAME])),
        ("name-shortest", of(&["a"])),
        ("name-with-hyphens", of(&["new-york--2-"])),
        ("numbers-largest", put_known(&[(Origin::new("gru1").unwrap(), most)])),
        ("numbers-smallest", put_known(&[(Origin::new("gru1").unwrap(), Known::default())])),
        ("refused-empty", Vec::new()),
        ("refused-more-than-there-are", altered(&one, &[1, 4], &[2, 4])),
        ("refused-4097", altered(&one, &[1, 4], &[0x81, 0x20, 4])),
        ("refused-fewer-than-there-are", altered(&one, &[1, 4], &[0, 4])),
        ("refused-name-capital", altered(&one, b"gru1", b"GRU1")),
        ("refused-name-digit-first", altered(&one, b"gru1", b"1gru")),
        ("refused-name-empty", altered(&one, b"\x04gru1", &[0])),
        ("refused-name-33", altered(&one, b"\x04gru1", &[&[33][..], &[b'a'; 33]].concat())),
        ("refused-number-in-a-longer-form", altered(&one, nines, &[0x80, 0x80, 0xc0, 0, 9])),
        ("refused-number-of-65-bits", altered(&one, nines, &[&BITS_65[..], &[9]].concat())),
        ("refused-cut-in-the-digest", without_last(&one, 1)),
    ]
}

/// What a block says of its rows, in all honesty or not.
fn block(length: u64, hashed: &[u8], packed: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    put_number(&mut block, length);
    block.extend_from_slice(&blake3::hash(hashed).as_bytes()[..16]);
    block.extend_from_slice(packed);
    block
}

fn honest(plain: &[u8]) -> Vec<u8> {
    block(plain.len() as u64, plain, &lz4_flex::block::compress(plain))
}

fn blocks() -> Vec<Input> {
    let of = |rows: &[Arc<Row>]| pack(&mut rows.iter().peekable()).expect("there are rows");
    let mut plain = Vec::new();
    row(7, b"web-1", Some(b"10.0.0.5:8080")).put(&mut plain);
    let (length, packed) = (plain.len() as u64, lz4_flex::block::compress(&plain));
    let digest = |number: u64| *blake3::hash(&number.to_be_bytes()).as_bytes();
    let mut long = vec![0, 1, 0, 1, 1, 0, 0, 0, 0];
    put_octets(&mut long, &[0; 16 * 1_024 + 1]);
    let mut wide = vec![0, 1];
    put_octets(&mut wide, &[0; 256]);
    wide.extend_from_slice(&[1, 0]);
    vec![
        ("without-rows", honest(&[])),
        ("one-row", honest(&plain)),
        ("tombstone", of(&[row(8, b"web-1", None)])),
        ("empty-key-and-body", of(&[row(1, b"", Some(b""))])),
        ("alike", of(&(1..30).map(|n| row(n, &[n as u8], Some(&[7; 40]))).collect::<Vec<_>>())),
        ("unlike", of(&(1..9).map(|n| row(n, &digest(n), Some(&digest(n + 9)))).collect::<Vec<_>>())),
        ("same-key-twice", of(&[row(3, b"a", Some(b"b")), row(6, b"a", Some(b"c"))])),
        ("in-no-order", of(&[row(6, b"a", Some(b"b")), row(3, b"a", None)])),
        ("key-longest", of(&[row(1, &[9; 255], Some(b""))])),
        ("body-longest", of(&[row(1, b"k", Some(&[9; 16 * 1_024]))])),
        ("version-largest", of(&[row(u64::MAX, b"k", Some(b"v"))])),
        ("refused-empty", Vec::new()),
        ("refused-larger-than-a-block", block(1 << 17 | 1, &plain, &packed)),
        ("refused-4-gib", block(1 << 32, &plain, &packed)),
        ("refused-hash-of-something-else", block(length, b"something else", &packed)),
        ("refused-shorter-than-it-says", block(length + 1, &plain, &packed)),
        ("refused-longer-than-it-says", block(length - 1, &plain, &packed)),
        ("refused-nothing-packed", block(length, &plain, &[])),
        ("refused-copies-from-before-its-beginning", block(length, &plain, &[0x1f, b'a', 9, 0, 200])),
        ("refused-row-cut", honest(&without_last(&plain, 1))),
        ("refused-row-and-more", honest(&[&plain[..], &[0]].concat())),
        ("refused-tombstone-2", honest(&[0, 1, 0, 1, 2])),
        ("refused-body-longer", honest(&long)),
        ("refused-key-256", honest(&wide)),
    ]
}

/// A push of these rows under a head that they add up to.
fn push_of(spread: bool, after: Option<u64>, rows: Vec<Arc<Row>>) -> Request {
    let (mut sum, mut weight) = (Sum::default(), 0);
    for row in &rows {
        sum.add(&head().origin, row);
        weight += row.weight() as u64;
    }
    let head = Head { rows: rows.len() as u64, weight, digest: sum.digest(), ..head() };
    Request::Push { spread, offer: Offer { head: signed(head), after, rows } }
}

fn requests() -> Vec<Input> {
    let push = |after, rows| push_of(false, after, rows).octets();
    let rows = || vec![row(3, b"a", Some(b"one")), row(4, b"b", None), row(9, b"c", Some(b"three"))];
    let one = push(Some(0), vec![row(7, b"web-1", Some(b"10.0.0.5:8080"))]);
    let unproven = Request::Push {
        spread: false,
        offer: Offer { head: signed(head()), after: Some(8), rows: vec![row(9, b"a", Some(b"b"))] },
    };
    let compare =
        |bucket, yours| Request::Compare { buckets: Box::new([[bucket; 8]; BUCKETS]), yours }.octets();
    let known = Known { point: Point::new(2 << 20, 7), floor: 3, digest: [8; 16] };
    let fetch = |name, have| Request::Fetch { origin: Origin::new(name).unwrap(), have }.octets();
    let permit = Request::Permit(b"may I drain 198.51.100.0/24?".to_vec()).octets();
    vec![
        ("push-without-rows", push(Some(0), vec![])),
        ("push-one-row", one.clone()),
        ("push-and-spread", push_of(true, Some(2), rows()).octets()),
        ("push-from-the-beginning", push(Some(0), rows())),
        ("push-all-there-is", push(None, rows())),
        ("push-in-no-order", push(None, rows().into_iter().rev().collect())),
        ("push-same-key-twice", push(None, vec![row(3, b"a", Some(b"b")), row(6, b"a", Some(b"c"))])),
        ("push-tombstone-under-the-floor", push(None, vec![row(1, b"a", None)])),
        ("push-unproven", unproven.octets()),
        ("push-key-longest", push(None, vec![row(3, &[9; 255], Some(b""))])),
        ("compare-nothing-known", compare(0, None)),
        ("compare-everything", compare(0xff, Some(known))),
        ("fetch-all", fetch("gru1", None)),
        ("fetch-after", fetch(LONGEST_NAME, Some(Point::new(u64::MAX, u64::MAX)))),
        ("permit-without-words", Request::Permit(Vec::new()).octets()),
        ("permit", permit.clone()),
        ("refused-empty", Vec::new()),
        ("refused-kind-0", altered(&permit, &[4, 28], &[0, 28])),
        ("refused-kind-5", altered(&permit, &[4, 28], &[5, 28])),
        ("refused-spread-2", altered(&one, b"\x01\x00\x04gru1", b"\x01\x02\x04gru1")),
        ("refused-513-rows", altered(&one, &[1, 0, 1, 0, 1, 5], &[1, 0, 0x81, 4, 0, 1, 5])),
        ("refused-fewer-rows-than-it-says", altered(&one, &[1, 0, 1, 0, 1, 5], &[1, 0, 2, 0, 1, 5])),
        ("refused-more-rows-than-it-says", altered(&one, &[1, 0, 1, 0, 1, 5], &[1, 0, 0, 0, 1, 5])),
        ("refused-compare-63-groups", without_last(&compare(0, None), 9)),
        ("refused-compare-without-an-option", without_last(&compare(0, None), 1)),
        ("refused-fetch-nobody", vec![3, 0, 0]),
        ("refused-fetch-and-more", [&fetch("gru1", None)[..], &[0]].concat()),
        ("refused-permit-longer-than-it-is", altered(&permit, &[4, 28], &[4, 29])),
        ("refused-permit-shorter-than-it-is", altered(&permit, &[4, 28], &[4, 27])),
        ("refused-permit-longer-than-a-message", vec![4, 0x81, 0x80, 0x10, 0]),
    ]
}
