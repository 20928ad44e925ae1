//! Which columns of a bench are run.

/// The columns whose words begin as one of these do; all if there are none.
///
/// # Errors
/// With the words there are, when one fits nothing.
pub fn chosen<C: Copy>(
    all: &[C],
    word_of: impl Fn(C) -> &'static str,
    words: &[String],
) -> Result<Vec<C>, String> {
    let fits = |column: C, word: &String| !word.is_empty() && word_of(column).starts_with(word.as_str());
    if let Some(word) = words.iter().find(|word| !all.iter().any(|column| fits(*column, word))) {
        let known: Vec<_> = all.iter().map(|column| word_of(*column)).collect();
        return Err(format!("there is no column {word:?}; there are {}", known.join(", ")));
    }
    let wanted = |column: &C| words.is_empty() || words.iter().any(|word| fits(*column, word));
    Ok(all.iter().copied().filter(wanted).collect())
}
