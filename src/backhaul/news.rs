//! What one POP tells another through the tunnel: how its backends are, and whom it reaches. In pages of one datagram.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::probe::MOST_BODY;
use crate::config::sixpn::Place;

/// Pages of one edition. With them goes what one POP may tell: some 1,500 backends.
const MOST_PAGES: usize = 64;
const HEAD: usize = 10;

/// Everything that is told at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// By service and id.
    pub backends: BTreeMap<(Arc<str>, Arc<str>), State>,
    /// POPs that are reached directly, with the round trip.
    pub reached: BTreeMap<Place, Duration>,
}

/// How a backend is, by the word of the POP that owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Unproven,
    Up,
    Down,
    /// Up, but it gets nothing new.
    Draining,
}

/// An edition on its way: the number of a start of the process, and that of the edition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition {
    pub start: u32,
    pub number: u32,
}

impl News {
    /// The bodies of its datagrams. What does not fit is left out, the last services first.
    #[must_use]
    pub fn pages(&self, edition: Edition) -> Vec<Vec<u8>> {
        let mut pages = vec![Vec::new()];
        let mut put = |record: &[u8]| {
            if pages.last().is_some_and(|page: &Vec<u8>| HEAD + page.len() + record.len() > MOST_BODY) {
                pages.push(Vec::new());
            }
            if let Some(page) = pages.last_mut() {
                page.extend_from_slice(record);
            }
        };
        for (place, rtt) in &self.reached {
            let rtt = rtt.as_micros().min(u128::from(u32::MAX)) as u32;
            put(&[&[2][..], &place.number().to_be_bytes(), &rtt.to_be_bytes()].concat());
        }
        for ((service, backend), state) in &self.backends {
            // Names are at most 63 octets in the configuration.
            let (service, backend) = (service.as_bytes(), backend.as_bytes());
            let lengths = [service.len() as u8, backend.len() as u8];
            put(&[&[1, *state as u8][..], &lengths, service, backend].concat());
        }
        pages.truncate(MOST_PAGES);
        let count = pages.len() as u8;
        let headed = pages.into_iter().enumerate().map(|(page, records)| {
            let mut body = Vec::with_capacity(HEAD + records.len());
            body.extend_from_slice(&edition.start.to_be_bytes());
            body.extend_from_slice(&edition.number.to_be_bytes());
            body.extend_from_slice(&[page as u8, count]);
            body.extend_from_slice(&records);
            body
        });
        headed.collect()
    }

    /// Adds the records of a page. None: it is not whole.
    fn add(&mut self, mut records: &[u8]) -> Option<()> {
        while let Some((kind, rest)) = records.split_first() {
            match kind {
                1 => {
                    let (head, rest) = rest.split_first_chunk::<3>()?;
                    let state = State::ALL.into_iter().find(|state| *state as u8 == head[0])?;
                    let (service, rest) = rest.split_at_checked(usize::from(head[1]))?;
                    let (backend, rest) = rest.split_at_checked(usize::from(head[2]))?;
                    let text = |octets| std::str::from_utf8(octets).ok().map(Arc::from);
                    self.backends.insert((text(service)?, text(backend)?), state);
                    records = rest;
                }
                2 => {
                    let (place, rest) = rest.split_first_chunk::<2>()?;
                    let (rtt, rest) = rest.split_first_chunk::<4>()?;
                    let place = Place::from_number(u16::from_be_bytes(*place))?;
                    self.reached.insert(place, Duration::from_micros(u64::from(u32::from_be_bytes(*rtt))));
                    records = rest;
                }
                _ => return None,
            }
        }
        Some(())
    }
}

impl State {
    const ALL: [Self; 4] = [Self::Unproven, Self::Up, Self::Down, Self::Draining];
}

/// Puts the pages of one peer together.
#[derive(Debug, Default)]
pub struct Reader {
    edition: Option<Edition>,
    pages: BTreeMap<u8, Vec<u8>>,
    whole: Option<Edition>,
}

impl Reader {
    /// Takes the body of a datagram. Some: with this page an edition is complete, perhaps one that was told before.
    pub fn handle_page(&mut self, body: &[u8]) -> Option<News> {
        let (head, records) = body.split_first_chunk::<HEAD>()?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let edition = Edition { start: word(0), number: word(4) };
        let (page, count) = (head[8], head[9]);
        if page >= count || usize::from(count) > MOST_PAGES {
            return None;
        }
        // Overtaken on its way by a later one.
        let older = |known: Edition| known.start == edition.start && edition.number < known.number;
        if self.whole.is_some_and(older) || self.edition.is_some_and(older) {
            return None;
        }
        if self.edition != Some(edition) {
            self.edition = Some(edition);
            self.pages.clear();
        }
        self.pages.insert(page, records.to_vec());
        if self.pages.len() < usize::from(count) {
            return None;
        }
        let mut news = News::default();
        let read = self.pages.values().try_for_each(|records| news.add(records).ok_or(()));
        self.pages.clear();
        read.ok()?;
        self.whole = Some(edition);
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::sixpn::RegionCode;

    fn news(backends: usize) -> News {
        let mut news = News::default();
        for number in 0..backends {
            let state = State::ALL[number % 4];
            news.backends
                .insert((format!("service-{}", number % 7).into(), format!("b{number}").into()), state);
        }
        let place = Place { region: RegionCode::new(1).unwrap(), pop: 9 };
        news.reached.insert(place, Duration::from_micros(1_234));
        news
    }

    #[test]
    fn an_edition_arrives_in_any_order_and_an_older_one_is_ignored() {
        for backends in [0, 1, 40, 1_000] {
            let news = news(backends);
            let pages = news.pages(Edition { start: 5, number: 2 });
            assert!(pages.iter().all(|page| page.len() <= MOST_BODY));
            let mut reader = Reader::default();
            let mut got = None;
            for page in pages.iter().rev() {
                got = reader.handle_page(page).or(got);
            }
            assert_eq!(got, Some(news.clone()));
            let old = News::default().pages(Edition { start: 5, number: 1 });
            assert_eq!(reader.handle_page(&old[0]), None);
            let restarted = News::default().pages(Edition { start: 6, number: 1 });
            assert_eq!(reader.handle_page(&restarted[0]), Some(News::default()));
        }
    }

    #[test]
    fn too_much_is_cut_and_not_lost_whole() {
        let pages = news(5_000).pages(Edition { start: 1, number: 1 });
        let mut reader = Reader::default();
        let got = pages.iter().filter_map(|page| reader.handle_page(page)).next().unwrap();
        assert!(got.backends.len() > 1_500 && pages.len() == MOST_PAGES, "{}", got.backends.len());
    }

    proptest! {
        #[test]
        fn garbage_is_nothing_and_bounded(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..50)) {
            let mut reader = Reader::default();
            for body in bodies {
                reader.handle_page(&body);
                prop_assert!(reader.pages.len() <= MOST_PAGES);
            }
        }
    }
}
