//! Series of anchors: the deployment anchors its logs in one place as it goes, and can anchor them again elsewhere, on
//! another network or chain. Each such place is a series with a name of its own.
//!
//! An anchor proves all that its checkpoint contains, so one anchor of a new series serves every earlier batch of the log.

use crate::ports::{AnchorRecord, Catalog, CatalogError};

/// Series beside its own that a log may have: what a receipt carries grows with them.
pub const MAX_SERIES: usize = 16;
/// Bytes in the longest name of a series.
pub const MAX_SERIES_NAME: usize = 32;
/// The name that the deployment's own series has.
pub const OWN: &str = "";

/// Whether a text can name a series beside the own: 1 to [`MAX_SERIES_NAME`] characters of `a-z0-9-`.
pub fn is_series_name(text: &str) -> bool {
    let is_one = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_SERIES_NAME).contains(&text.len()) && text.bytes().all(is_one)
}

/// The series in which the log is anchored, the own first.
///
/// # Errors
/// [`CatalogError`].
pub fn names(catalog: &dyn Catalog, origin: &str) -> Result<Vec<Box<str>>, CatalogError> {
    // Every checkpoint contains the first batch.
    let anchors = catalog.anchors_of(origin, 0)?;
    let mut names: Vec<_> = anchors.into_iter().map(|anchor| anchor.series).collect();
    names.dedup();
    Ok(names)
}

/// The anchors of the smallest checkpoint that is anchored in this series and contains batch `number`, oldest first.
///
/// # Errors
/// [`CatalogError`].
pub fn anchors_in(
    catalog: &dyn Catalog,
    origin: &str,
    series: &str,
    number: u64,
) -> Result<Vec<AnchorRecord>, CatalogError> {
    let mut anchors = catalog.anchors_of(origin, number)?;
    anchors.retain(|anchor| &*anchor.series == series);
    Ok(anchors)
}

/// How many batches of the log, which has `size`, are anchored in this series: the size of its largest checkpoint there.
/// Asks the catalog about the logarithm of `size` times.
///
/// # Errors
/// [`CatalogError`].
pub fn covered(catalog: &dyn Catalog, origin: &str, series: &str, size: u64) -> Result<u64, CatalogError> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        match anchors_in(catalog, origin, series, middle)?.first() {
            Some(anchor) => low = anchor.size.clamp(middle + 1, size),
            None => high = middle,
        }
    }
    Ok(low)
}

/// The newest checkpoint of each log of the catalog that the series does not anchor yet, ascending by origin.
///
/// # Errors
/// [`CatalogError`].
pub fn newest(catalog: &dyn Catalog, series: &str) -> Result<Vec<Box<str>>, CatalogError> {
    let mut notes = Vec::new();
    for origin in catalog.origins()? {
        let Some(last) = catalog.log_size(&origin)?.checked_sub(1) else { continue };
        if anchors_in(catalog, &origin, series, last)?.is_empty() {
            notes.extend(catalog.batch(&origin, last)?.map(|batch| batch.checkpoint));
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_named_by_a_few_plain_letters() {
        for name in ["a", "mainnet01-chain-4", "0", "-", &"z".repeat(32)] {
            assert!(is_series_name(name), "{name}");
        }
        for name in [OWN, "A", "a b", "a_b", "ä", "a\0", "a/b", &"z".repeat(33)] {
            assert!(!is_series_name(name), "{name:?}");
        }
    }
}
