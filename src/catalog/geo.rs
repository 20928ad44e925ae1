//! Where clients are: countries from an mmdb file, and the region of a country.
//!
//! The file is the operator's (MaxMind, DB-IP, IPinfo and IPtoASN write it in three layouts); nothing is looked up
//! anywhere else. Whoever reads it hands its octets to [`Geo::new`].
//!
//! Clients inside the fleet have addresses of the fleet's own prefix (6PN), whose region is a part of the address.
//! Once there is a backhaul, [`Geo::locate`] is where that region is taken, before any file is asked.

use std::net::IpAddr;
use std::sync::Arc;

use maxminddb::{PathElement, Reader};

/// A loaded database.
#[derive(Debug)]
pub struct Geo {
    reader: Reader<Vec<u8>>,
    /// [`REGIONS`], shared by all clients.
    regions: [Arc<str>; 4],
}

/// Why a file is no database.
#[derive(Debug, thiserror::Error)]
pub enum BadDatabase {
    #[error("{0} octets: at most {most} are read", most = Geo::MOST_OCTETS)]
    TooLarge(usize),
    #[error("not a database of countries: {0}")]
    Malformed(#[from] maxminddb::MaxMindDbError),
}

/// Where a client is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Location {
    /// Two lower-case letters.
    pub country: Option<[u8; 2]>,
    pub region: Option<Arc<str>>,
}

/// Where the code of a country may be in a record.
const LAYOUTS: [&[PathElement<'static>]; 3] = [
    &[PathElement::Key("country"), PathElement::Key("iso_code")],
    &[PathElement::Key("country_code")],
    &[PathElement::Key("country")],
];

impl Geo {
    /// The most that a file may hold: 256 MiB.
    pub const MOST_OCTETS: usize = 256 << 20;

    /// Takes the octets of an mmdb file. They stay in memory for as long as this lives.
    ///
    /// # Errors
    /// [`BadDatabase`].
    pub fn new(octets: Vec<u8>) -> Result<Self, BadDatabase> {
        if octets.len() > Self::MOST_OCTETS {
            return Err(BadDatabase::TooLarge(octets.len()));
        }
        let reader = Reader::from_source(octets)?;
        Ok(Self { reader, regions: REGIONS.map(|(name, _)| name.into()) })
    }

    /// What the database is called, and when it was built, in seconds since 1970.
    #[must_use]
    pub fn about(&self) -> (&str, u64) {
        let metadata = self.reader.metadata();
        (&metadata.database_type, metadata.build_epoch)
    }

    /// Where an address is.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Location {
        let country = self.country(address);
        let region = country.and_then(place_of).map(|place| Arc::clone(&self.regions[place]));
        Location { country, region }
    }

    /// The country of an address. None: not in the file, or damaged there.
    #[must_use]
    pub fn country(&self, address: IpAddr) -> Option<[u8; 2]> {
        let found = self.reader.lookup(address.to_canonical()).ok().filter(|found| found.has_data())?;
        let code = LAYOUTS.iter().find_map(|path| found.decode_path::<&str>(path).ok().flatten())?;
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_alphabetic).then(|| code.map(|letter| letter.to_ascii_lowercase()))
    }
}

/// The region of a country; None for what is no country. `country`: two lower-case letters.
#[must_use]
pub fn region_of(country: [u8; 2]) -> Option<&'static str> {
    place_of(country).map(|place| REGIONS[place].0)
}

/// An index in [`REGIONS`].
fn place_of([first, second]: [u8; 2]) -> Option<usize> {
    let is_code = first.is_ascii_lowercase() && second.is_ascii_lowercase();
    let place = is_code.then(|| BY_COUNTRY[usize::from(first - b'a')][usize::from(second - b'a')])?;
    (place != NOWHERE).then_some(place.into())
}

/// The built-in regions with their countries (ISO 3166-1, and `xk` as most databases have it): continents, but by
/// where the cables lead where the two differ.
const REGIONS: [(&str, &str); 4] = [
    // South America, and Central America without Mexico.
    ("sa", "ar bo br bz cl co cr ec fk gf gs gt gy hn ni pa pe py sr sv uy ve"),
    // North America, and the Caribbean, whose cables land in Florida.
    (
        "us",
        "ag ai aw bb bl bm bq bs ca cu cw dm do gd gp ht jm kn ky lc mf mq ms mx pm pr sx tc tt us vc vg vi",
    ),
    // Europe with all of Russia, Africa with its islands, the Middle East; Greenland and Central Asia, whose ways
    // out are Iceland and Russia.
    (
        "eu",
        "ad ae al am ao at ax az ba be bf bg bh bi bj bv bw by cd cf cg ch ci cm cv cy cz de dj dk dz ee eg eh er es \
         et fi fo fr ga gb ge gg gh gi gl gm gn gq gr gw hr hu ie il im iq ir is it je jo ke kg km kw kz lb li lr ls \
         lt lu lv ly ma mc md me mg mk ml mr mt mu mw mz na ne ng nl no om pl ps pt qa re ro rs ru rw sa sc sd se sh \
         si sj sk sl sm sn so ss st sy sz td tf tg tj tm tn tr tz ua ug uz va xk ye yt za zm zw",
    ),
    // The rest of Asia, Oceania, and the Antarctic by way of New Zealand.
    (
        "ap",
        "af aq as au bd bn bt cc ck cn cx fj fm gu hk hm id in io jp kh ki kp kr la lk mh mm mn mo mp mv my nc nf np \
         nr nu nz pf pg ph pk pn pw sb sg th tk tl to tv tw um vn vu wf ws",
    ),
];

const NOWHERE: u8 = u8::MAX;

/// [`REGIONS`] by the letters of the country.
const BY_COUNTRY: [[u8; 26]; 26] = {
    let mut table = [[NOWHERE; 26]; 26];
    let mut place = 0;
    while place < REGIONS.len() {
        let codes = REGIONS[place].1.as_bytes();
        let mut at = 0;
        while at < codes.len() {
            let cell = &mut table[(codes[at] - b'a') as usize][(codes[at + 1] - b'a') as usize];
            assert!(*cell == NOWHERE, "a country is in one region");
            *cell = place as u8;
            at += 3;
        }
        place += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use maxminddb_writer::Database;
    use maxminddb_writer::metadata::IpVersion;
    use maxminddb_writer::paths::IpAddrWithMask;
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    /// ISO 3166-1, all 249.
    const ISO: &str = "ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs \
        bt bv bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et \
        fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io \
        iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mf mg mh \
        mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm \
        pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st sv sx sy sz tc td tf tg \
        th tj tk tl tm tn to tr tt tv tw tz ua ug um us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw";

    fn code(code: &str) -> [u8; 2] {
        code.as_bytes().try_into().unwrap()
    }

    #[test]
    fn every_country_has_a_region() {
        assert_eq!(ISO.split_whitespace().count(), 249);
        let without: Vec<_> = ISO.split_whitespace().filter(|it| region_of(code(it)).is_none()).collect();
        assert!(without.is_empty(), "{without:?}");
        let all = REGIONS.iter().map(|(_, codes)| codes.split(' ').count()).sum::<usize>();
        assert_eq!(all, 250, "those of ISO, and Kosovo");
        for nowhere in ["zz", "aa", "US", "u1", "  "] {
            assert_eq!(region_of(code(nowhere)), None, "{nowhere:?}");
        }
    }

    #[test]
    fn regions_of_countries() {
        let table = [
            ("sa", "br ar cl pe co uy py bo ec pa gt"),
            ("us", "us ca mx pr cu jm"),
            ("eu", "pt es fr de nl it gb ie be ch at pl cz se no dk fi tr ru za ng eg ae sa il xk"),
            ("ap", "jp kr tw hk sg my th vn id ph au nz in cn pk fj"),
        ];
        for (region, countries) in table {
            for country in countries.split(' ') {
                assert_eq!(region_of(code(country)), Some(region), "{country}");
            }
        }
    }

    fn database<T: Serialize>(version: IpVersion, records: &[(&str, T)]) -> Vec<u8> {
        let mut database = Database::default();
        database.metadata.ip_version = version;
        database.metadata.database_type = "test".into();
        database.metadata.binary_format_major_version = 2;
        for (network, record) in records {
            let record = database.insert_value(record).unwrap();
            database.insert_node(network.parse::<IpAddrWithMask>().unwrap(), record);
        }
        database.write_to(Vec::new()).unwrap()
    }

    type Nested = BTreeMap<&'static str, BTreeMap<&'static str, &'static str>>;

    fn nested(code: &'static str) -> Nested {
        [("country", [("iso_code", code)].into()), ("continent", [("code", "XX")].into())].into()
    }

    #[test]
    fn three_layouts_are_understood() {
        let flat = |key: &'static str, code: &'static str| BTreeMap::from([(key, code), ("name", "x")]);
        let files = [
            database(IpVersion::V4, &[("192.0.2.0/24", nested("BR"))]),
            database(IpVersion::V4, &[("192.0.2.0/24", flat("country_code", "BR"))]),
            database(IpVersion::V4, &[("192.0.2.0/24", flat("country", "BR"))]),
        ];
        for file in files {
            let geo = Geo::new(file).unwrap();
            let place = Location { country: Some(*b"br"), region: Some("sa".into()) };
            assert_eq!(geo.locate("192.0.2.9".parse().unwrap()), place);
            assert_eq!(geo.locate("::ffff:192.0.2.9".parse().unwrap()), place);
            for elsewhere in ["192.0.3.1", "2001:db8::1"] {
                assert_eq!(geo.locate(elsewhere.parse().unwrap()), Location::default(), "{elsewhere}");
            }
            assert_eq!(geo.about().0, "test");
        }
    }

    #[test]
    fn both_families() {
        let file =
            database(IpVersion::V6, &[("2001:db8::/32", nested("jp")), ("::c000:200/120", nested("ZZ"))]);
        let geo = Geo::new(file).unwrap();
        let place = Location { country: Some(*b"jp"), region: Some("ap".into()) };
        assert_eq!(geo.locate("2001:db8:1::1".parse().unwrap()), place);
        let unknown = Location { country: Some(*b"zz"), region: None };
        assert_eq!(geo.locate("192.0.2.7".parse().unwrap()), unknown);
    }

    #[test]
    fn what_is_no_code_is_no_country() {
        for wrong in ["", "B", "BRA", "B1", "é"] {
            let geo = Geo::new(database(IpVersion::V4, &[("192.0.2.0/24", nested(wrong))])).unwrap();
            assert_eq!(geo.country("192.0.2.1".parse().unwrap()), None, "{wrong}");
        }
        let geo = Geo::new(database(IpVersion::V4, &[("192.0.2.0/24", 42u32)])).unwrap();
        assert_eq!(geo.country("192.0.2.1".parse().unwrap()), None);
        assert!(Geo::new(b"no database".to_vec()).is_err());
    }

    proptest! {
        /// A damaged file gives an error or wrong countries, and nothing worse.
        #[test]
        fn damage_is_survived(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in 0..40usize, last: u8,
        ) {
            let records = [("192.0.2.0/25", nested("BR")), ("192.0.2.128/25", nested("JP"))];
            let mut file = database(IpVersion::V4, &records);
            file.truncate(file.len() - cut.saturating_sub(20));
            for (at, octet) in damage {
                let at = at.index(file.len());
                file[at] = octet;
            }
            if let Ok(geo) = Geo::new(file) {
                let _ = geo.locate([192, 0, 2, last].into());
            }
        }
    }
}
