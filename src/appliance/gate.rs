//! The one gate that every new configuration passes, whichever way it comes: pure.

use crate::config::Config;
use crate::config::load::Source;
use crate::config::signature::SignatureError;

/// What is in force and what was before it.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    pub config: &'a Config,
    pub text: &'a str,
    /// The highest generation that was ever confirmed.
    pub highest: u64,
    /// The generation that waits for its confirmation.
    pub pending: Option<u64>,
}

/// What shall come into force; it is valid.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    pub source: &'a Source,
    pub generation: u64,
    /// Prefixes that would go dark.
    pub darkened: &'a [String],
    /// The operator said that this is meant.
    pub allow_withdraw: bool,
}

/// How it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It is the very text that is in force. Only files that it names may have changed.
    Same,
    New,
}

/// Why it does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "generation {0} is in force and waits for its confirmation\n  hint: `edgeproxy confirm` or `edgeproxy rollback` first"
    )]
    Pending(u64),
    #[error(transparent)]
    Unsigned(#[from] SignatureError),
    #[error("generation {generation} {why}\n  hint: generations only grow; raise it to {} if this file is meant", highest + 1)]
    Generation { generation: u64, why: String, highest: u64 },
    #[error(
        "{} of the announced prefixes would go dark ({}), and admin.max_darkened allows {most}\n  \
         hint: `edgeproxy plan FILE` says why; `edgeproxy apply FILE --allow-withdraw` if it is meant",
        prefixes.len(),
        shortened(prefixes)
    )]
    Dark { prefixes: Vec<String>, most: u32 },
}

/// Judges an offer. The key and the limits are those of the configuration in force: a new one must not
/// let itself in.
///
/// # Errors
/// The first reason against it.
pub fn judge(standing: &Standing<'_>, offer: &Offer<'_>) -> Result<Pass, Refusal> {
    if let Some(pending) = standing.pending {
        return Err(Refusal::Pending(pending));
    }
    let same = offer.source.text == standing.text;
    if !same {
        if let Some(key) = &standing.config.admin.operator_key {
            key.verify(&offer.source.text, offer.source.signature.as_ref())?;
        }
        let (running, highest) =
            (standing.config.generation, standing.highest.max(standing.config.generation));
        let generation = offer.generation;
        if generation <= highest {
            let why = match generation {
                _ if generation == running => "is in force already, with other content".to_owned(),
                _ if generation < running => format!("is older than the running generation {running}"),
                _ => {
                    format!("is not greater than {highest}, which was in force before the running {running}")
                }
            };
            return Err(Refusal::Generation { generation, why, highest });
        }
    }
    light(standing.config, offer.darkened, offer.allow_withdraw)?;
    Ok(if same { Pass::Same } else { Pass::New })
}

/// Whether so many prefixes may go dark.
///
/// # Errors
/// That they may not.
pub fn light(running: &Config, darkened: &[String], allow_withdraw: bool) -> Result<(), Refusal> {
    let most = running.admin.max_darkened;
    if allow_withdraw || darkened.len() <= most as usize {
        return Ok(());
    }
    Err(Refusal::Dark { prefixes: darkened.to_vec(), most })
}

/// Some prefixes, as many as are read at a glance.
fn shortened(prefixes: &[String]) -> String {
    const MOST: usize = 8;
    let more = prefixes.len().saturating_sub(MOST);
    let shown = prefixes.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load::parse;
    use crate::config::signature::Signature;

    const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    /// The highest generation, and the pending one.
    type Before = (u64, Option<u64>);
    /// How many prefixes go dark, and whether that is meant.
    type Dark = (usize, bool);

    fn text(generation: u64, admin: &str) -> String {
        let minimal = include_str!("../../config/minimal.yaml");
        minimal.replace("generation: 1\n", &format!("generation: {generation}\n"))
            + &format!("admin: {{ {admin} }}\n")
    }

    /// The gate's word for an offer of `new` while `old` is in force.
    fn word(old: &str, new: &str, (highest, pending): Before, (darkened, allow_withdraw): Dark) -> String {
        let config = parse(old, Path::new("")).unwrap();
        let standing = Standing { config: &config, text: old, highest, pending };
        let source =
            Source { text: new.to_owned(), base: "/".into(), signature: Some(Signature::read(&[1; 64])) };
        let darkened: Vec<_> = (0..darkened).map(|n| format!("192.0.2.{n}/32")).collect();
        let generation = parse(new, Path::new("")).unwrap().generation;
        let offer = Offer { source: &source, generation, darkened: &darkened, allow_withdraw };
        match judge(&standing, &offer) {
            Ok(pass) => format!("{pass:?}").to_lowercase(),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn who_may_pass() {
        let (plain, keyed) = (|generation| text(generation, ""), format!("operator_key: {KEY}"));
        let (light, still) = ((0, false), (7, None));
        #[rustfmt::skip]
        let table: Vec<(String, String, Before, Dark, &str)> = vec![
            (plain(7), plain(8), still, light, "new"),
            (plain(7), plain(7), still, light, "same"),
            (plain(7), plain(7) + "# other\n", still, light, "generation 7 is in force already, with other content\n  hint: generations only grow; raise it to 8"),
            (plain(7), plain(6), still, light, "older than the running generation 7"),
            // Rolled back from 9 to 7.
            (plain(7), plain(8), (9, None), light, "is not greater than 9, which was in force before the running 7\n  hint: generations only grow; raise it to 10"),
            (plain(7), plain(9), (9, None), light, "is not greater than 9"),
            (plain(7), plain(10), (9, None), light, "new"),
            // The store could not remember what runs.
            (plain(7), plain(7) + "#\n", (0, None), light, "in force already"),
            (plain(8), plain(9), (7, Some(8)), light, "generation 8 is in force and waits for its confirmation"),
            (plain(8), plain(8), (7, Some(8)), light, "waits for its confirmation"),
            (text(7, &keyed), plain(8), still, light, "the signature does not fit"),
            (text(7, &keyed), text(8, &keyed), still, light, "the signature does not fit"),
            (text(7, &keyed), text(7, &keyed), still, light, "same"),
            // The key of the new one is not asked.
            (plain(7), text(8, &keyed), still, light, "new"),
            (plain(7), plain(8), still, (1, false), "1 of the announced prefixes would go dark (192.0.2.0/32), and admin.max_darkened allows 0"),
            (plain(7), plain(8), still, (1, true), "new"),
            (plain(7), plain(7), still, (1, false), "would go dark"),
            (text(7, "max_darkened: 2"), plain(8), still, (2, false), "new"),
            (text(7, "max_darkened: 2"), plain(8), still, (12, false), "192.0.2.7/32 and 4 more), and admin.max_darkened allows 2"),
            // The limit of the new one is not asked either.
            (plain(7), text(8, "max_darkened: 2"), still, (1, false), "would go dark"),
        ];
        for (old, new, before, dark, expected) in table {
            let word = word(&old, &new, before, dark);
            assert!(word.contains(expected), "{before:?} {dark:?}: {word}, not {expected}");
        }
    }
}
