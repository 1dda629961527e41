//! A log that is larger than what anyone keeps in memory: its tiles have three levels.

use std::sync::Mutex;

use super::*;

/// A catalog whose batches are made when they are read, in order, and forgotten.
struct Flowing {
    maker: Mutex<(Maker, u64)>,
    size: u64,
}

impl Catalog for Flowing {
    fn put_batch(&self, _: &BatchRecord) -> Result<(), CatalogError> {
        Err(CatalogError::Conflict("batch: it flows".to_owned()))
    }
    fn put_anchor(&self, _: &AnchorRecord) -> Result<(), CatalogError> {
        Err(CatalogError::Conflict("anchor: it flows".to_owned()))
    }
    fn origins(&self) -> Result<Vec<Box<str>>, CatalogError> {
        Ok(vec![ORIGIN.into()])
    }
    fn log_size(&self, _: &str) -> Result<u64, CatalogError> {
        Ok(self.size)
    }
    fn batch(&self, _: &str, number: u64) -> Result<Option<BatchRecord>, CatalogError> {
        let (maker, next) = &mut *self.maker.lock().unwrap();
        // As where retention took what was published before.
        if number != *next {
            return Ok(None);
        }
        *next += 1;
        Ok(Some(maker.batch(0, &["t"], 1)))
    }
    fn log_hash(&self, _: &str, _: u8, _: u64) -> Result<Option<[u8; 32]>, CatalogError> {
        Ok(None)
    }
    fn anchors_of(&self, _: &str, _: u64) -> Result<Vec<AnchorRecord>, CatalogError> {
        Ok(Vec::new())
    }
    fn find(&self, _: &str, _: &str, _: &str) -> Result<Vec<EventPlace>, CatalogError> {
        Ok(Vec::new())
    }
    fn list(
        &self,
        _: &str,
        _: i32,
        _: Option<&(Box<str>, u64)>,
        _: usize,
    ) -> Result<Vec<(Box<str>, u64)>, CatalogError> {
        Ok(Vec::new())
    }
}

#[test]
fn a_log_of_three_levels_goes_on_from_what_is_published_without_the_batches_before() {
    let public = Public::new();
    let shelf = Folder::open(public.log()).unwrap();
    let mut catalog = Flowing { maker: Mutex::new((Maker::new(ORIGIN), 0)), size: 0 };
    let mut memory = Memory::open(None, ORIGIN, &keys()).unwrap();
    let mut before = 0;
    for size in [65_530, 65_536, 65_537, 66_100] {
        catalog.size = size;
        let published = publish(&catalog, ORIGIN, &keys(), &shelf, &mut |_| true).unwrap();
        assert_eq!((published.before, published.size), (before, size));
        let seen = look_again(&public.place(), None, &mut memory).unwrap();
        assert_eq!((seen.size, seen.entries), (size, size - before));
        before = size;
    }
    assert_eq!(look(&public.place()).unwrap().entries, before);
    assert!(public.log().join("tile/2/000.p/1").is_file());
    // What is gone cannot be made again.
    fs::remove_file(public.log().join("tile/2/000.p/1")).unwrap();
    let refused = publish(&catalog, ORIGIN, &keys(), &shelf, &mut |_| true).unwrap_err();
    assert!(matches!(&refused, PublishError::Wrong(why) if why.contains("batch 0 of")), "{refused}");
}
