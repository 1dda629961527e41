//! The contract of [`Catalog`].

use std::sync::Arc;

use bytes::Bytes;
use killick_proof::batch::BatchHeader;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::log::{Log, NodeId};
use killick_proof::note::{SignerKey, VerifierKey};
use killick_proof::origin::Origin;
use killick_proof::signature::SecretKey;
use killick_proof::statement::{Attestation, Event, Statement};
use killick_proof::tree::Tree;
use killick_proof::{Algorithm, Hash};
use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError, Place};
use killick_stages::series::{MAX_SERIES, OWN};

/// What is tested.
pub trait Subject {
    /// The catalog, opened anew after whatever happened to the one before.
    fn open(&mut self) -> Arc<dyn Catalog>;
}

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
const A: &str = "contract.example/1/sha256/0";
const B: &str = "contract.example/1/sha256/1";

/// Runs the whole suite on fresh subjects.
pub fn suite<S: Subject>(mut fresh: impl FnMut() -> S) {
    what_was_put_is_found_also_after_opening_anew(&mut fresh());
    putting_again_changes_nothing_and_another_value_is_refused(&mut fresh());
    the_hashes_of_a_log_are_those_of_its_tree(&mut fresh());
    an_anchor_serves_the_batches_below_its_size(&mut fresh());
    each_series_of_anchors_serves_the_batches_below_its_sizes(&mut fresh());
    a_log_has_few_series_and_each_has_a_name(&mut fresh());
    a_day_is_listed_in_pages(&mut fresh());
    many_may_put_and_read_at_once(&mut fresh());
    many_may_put_the_same_at_once(&mut fresh());
}

fn what_was_put_is_found_also_after_opening_anew<S: Subject>(subject: &mut S) {
    let catalog = subject.open();
    assert_eq!(catalog.log_size(A).expect("a size"), 0);
    assert_eq!(catalog.batch(A, 0).expect("a look"), None);
    let mut made = Maker::new(A);
    let batches: Vec<_> = (0..3).map(|number| made.batch(number * DAY, &["t", "u"], 4)).collect();
    for batch in &batches {
        catalog.put_batch(batch).expect("a batch is put");
    }
    drop(catalog);
    let catalog = subject.open();
    assert_eq!((catalog.log_size(A).expect("a size"), catalog.log_size(B).expect("a size")), (3, 0));
    for (number, batch) in (0..).zip(&batches) {
        assert_eq!(catalog.batch(A, number).expect("a look").as_ref(), Some(batch));
        for (index, statement) in (0..).zip(&batch.statements) {
            let event = Statement::decode(statement).expect("a statement").event;
            let found = catalog.find(event.tenant, event.source, event.id).expect("a look");
            assert_eq!(found, [Place { origin: A.into(), number, index }]);
        }
    }
    for (tenant, source, id) in
        [("t", "s", ""), ("t", "", "s"), ("v", "s", "0-0"), ("t", "s", "0-0-"), ("", "", "")]
    {
        assert_eq!(catalog.find(tenant, source, id).expect("a look"), [], "{tenant} {source} {id}");
    }
}

fn putting_again_changes_nothing_and_another_value_is_refused<S: Subject>(subject: &mut S) {
    let catalog = subject.open();
    let mut made = Maker::new(A);
    let first = made.batch(0, &["t"], 3);
    let second = made.batch(0, &["t"], 2);
    let gap = catalog.put_batch(&second);
    assert!(matches!(gap, Err(CatalogError::Conflict(_))), "a batch before those before it: {gap:?}");
    for _ in 0..2 {
        catalog.put_batch(&first).expect("a batch is put");
    }
    let mut other = Maker::new(A);
    let refused = catalog.put_batch(&other.batch(1, &["t"], 3));
    assert!(matches!(refused, Err(CatalogError::Conflict(_))), "another batch of that number: {refused:?}");
    catalog.put_batch(&second).expect("a batch is put");
    catalog.put_batch(&first).expect("an old batch is put again");
    assert_eq!(catalog.log_size(A).expect("a size"), 2);
    assert_eq!(catalog.batch(A, 0).expect("a look"), Some(first));
}

fn the_hashes_of_a_log_are_those_of_its_tree<S: Subject>(subject: &mut S) {
    let catalog = subject.open();
    let mut made = Maker::new(A);
    let mut wanted: Vec<(NodeId, Hash)> = Vec::new();
    let mut log = Log::new(Algorithm::Sha256);
    for _ in 0..11 {
        let batch = made.batch(0, &["t"], 1);
        log.append(Algorithm::Sha256.leaf(&batch.header), |id, hash| wanted.push((id, hash)))
            .expect("a small log");
        catalog.put_batch(&batch).expect("a batch is put");
    }
    for (id, hash) in wanted {
        let level = u8::try_from(id.level).expect("a level is small");
        assert_eq!(catalog.log_hash(A, level, id.index).expect("a look"), Some(*hash.as_bytes()), "{id:?}");
    }
    for (level, index) in [(0, 11), (1, 5), (3, 1), (4, 0)] {
        assert_eq!(catalog.log_hash(A, level, index).expect("a look"), None, "no such complete subtree");
    }
}

fn an_anchor_serves_the_batches_below_its_size<S: Subject>(subject: &mut S) {
    let catalog = subject.open();
    let mut made = Maker::new(A);
    let batches: Vec<_> = (0..6).map(|_| made.batch(0, &["t"], 1)).collect();
    for batch in &batches {
        catalog.put_batch(batch).expect("a batch is put");
    }
    let anchor =
        |size: usize, text: &str| made.anchor(&batches[size - 1], &format!("{{\"type\":\"{text}\"}}"));
    let (five, two, two_more) = (anchor(5, "five"), anchor(2, "two"), anchor(2, "another"));
    for anchor in [&five, &two, &two_more, &two, &five] {
        catalog.put_anchor(anchor).expect("an anchor is put");
    }
    drop(catalog);
    let catalog = subject.open();
    let of = |number| catalog.anchors_of(A, number).expect("a look");
    for number in [0, 1] {
        assert_eq!(of(number), [two.clone(), two_more.clone()], "batch {number}");
    }
    for number in [2, 3, 4] {
        assert_eq!(of(number), std::slice::from_ref(&five), "batch {number}");
    }
    assert_eq!(of(5), [], "no anchor covers the last batch");
    assert_eq!(catalog.anchors_of(B, 0).expect("a look"), []);
}

fn each_series_of_anchors_serves_the_batches_below_its_sizes<S: Subject>(subject: &mut S) {
    let catalog = subject.open();
    let mut made = Maker::new(A);
    let batches: Vec<_> = (0..8).map(|_| made.batch(0, &["t"], 1)).collect();
    for batch in &batches {
        catalog.put_batch(batch).expect("a batch is put");
    }
    let anchor = |series: &str, size: usize, text: &str| {
        let anchor = made.anchor(&batches[size - 1], &format!("{{\"type\":\"{text}\"}}"));
        AnchorRecord { series: series.into(), ..anchor }
    };
    let own = [anchor(OWN, 2, "own"), anchor(OWN, 5, "own")];
    // A name that begins as another does, and one that sorts before every digit of a size.
    let (early, late) = (anchor("b", 3, "b"), anchor("b", 8, "b"));
    let (twice, again) = (anchor("b-2", 7, "z first"), anchor("b-2", 7, "a second"));
    let dash = anchor("-", 4, "dash");
    catalog.put_anchor(&late).expect("an anchor is put");
    assert_eq!(catalog.anchors_of(A, 0).expect("a look"), std::slice::from_ref(&late), "without an own one");
    for anchor in [&twice, &own[1], &early, &again, &dash, &late, &own[0], &early] {
        catalog.put_anchor(anchor).expect("an anchor is put");
    }
    // The same anchor may stand in two series.
    let shared = AnchorRecord { series: "zz".into(), ..early.clone() };
    catalog.put_anchor(&shared).expect("an anchor is put");
    drop(catalog);
    let catalog = subject.open();
    let of = |number| catalog.anchors_of(A, number).expect("a look");
    let all = |wanted: &[&AnchorRecord]| wanted.iter().copied().cloned().collect::<Vec<_>>();
    for number in [0, 1] {
        assert_eq!(of(number), all(&[&own[0], &dash, &early, &twice, &again, &shared]), "batch {number}");
    }
    assert_eq!(of(2), all(&[&own[1], &dash, &early, &twice, &again, &shared]));
    assert_eq!(of(3), all(&[&own[1], &dash, &late, &twice, &again]));
    assert_eq!(of(4), all(&[&own[1], &late, &twice, &again]));
    for number in [5, 6] {
        assert_eq!(of(number), all(&[&late, &twice, &again]), "batch {number}: not in the own series yet");
    }
    assert_eq!(of(7), all(&[&late]));
    assert_eq!(of(8), []);
    assert_eq!(catalog.anchors_of(B, 0).expect("a look"), [], "the series of one log are not another's");
}

fn a_log_has_few_series_and_each_has_a_name<S: Subject>(subject: &mut S) {
    let catalog = subject.open();
    let mut made = Maker::new(A);
    let batch = made.batch(0, &["t"], 1);
    catalog.put_batch(&batch).expect("a batch is put");
    let anchor = |series: &str| AnchorRecord { series: series.into(), ..made.anchor(&batch, "{}") };
    for wrong in ["A", "a b", "a\0b", "ä", &"x".repeat(33)] {
        let refused = catalog.put_anchor(&anchor(wrong));
        assert!(matches!(refused, Err(CatalogError::Damaged(_))), "{wrong:?}: {refused:?}");
    }
    let names: Vec<_> = (10..10 + MAX_SERIES).map(|number| format!("series-{number}")).collect();
    for name in &names {
        catalog.put_anchor(&anchor(name)).expect("an anchor is put");
    }
    let refused = catalog.put_anchor(&anchor("one-more")).expect_err("there are enough");
    assert!(matches!(&refused, CatalogError::Damaged(why) if why.contains("16 series")), "{refused}");
    for name in names.iter().map(String::as_str).chain([OWN]) {
        catalog.put_anchor(&anchor(name)).expect("an anchor is put into a series that there is");
    }
    let found: Vec<_> =
        catalog.anchors_of(A, 0).expect("a look").into_iter().map(|anchor| anchor.series).collect();
    assert_eq!(found.first().map(|name| &**name), Some(OWN));
    assert!(found[1..].iter().map(|name| &**name).eq(names.iter().map(String::as_str)), "{found:?}");
}

fn a_day_is_listed_in_pages<S: Subject>(subject: &mut S) {
    let catalog = subject.open();
    let (mut a, mut b) = (Maker::new(A), Maker::new(B));
    for number in 0..5 {
        let tenants: &[&str] = if number == 3 { &["u"] } else { &["t", "u"] };
        catalog.put_batch(&a.batch(3 * DAY + number, tenants, 3)).expect("a batch is put");
    }
    catalog.put_batch(&a.batch(4 * DAY, &["t"], 1)).expect("a batch is put");
    catalog.put_batch(&b.batch(4 * DAY - 1, &["t"], 1)).expect("a batch is put");
    catalog.put_batch(&b.batch(-1, &["t"], 1)).expect("a batch is put");
    let wanted: Vec<(Box<str>, u64)> =
        vec![(A.into(), 0), (A.into(), 1), (A.into(), 2), (A.into(), 4), (B.into(), 0)];
    for limit in [1, 2, 3, 100] {
        let mut listed: Vec<(Box<str>, u64)> = Vec::new();
        loop {
            let page = catalog.list("t", 3, listed.last(), limit).expect("a page");
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            listed.extend(page);
            assert!(listed.len() <= wanted.len(), "a page begins after the one before: {listed:?}");
        }
        assert_eq!(listed, wanted, "pages of {limit}");
    }
    assert_eq!(catalog.list("t", 4, None, 9).expect("a page"), [(A.into(), 5)]);
    assert_eq!(catalog.list("t", -1, None, 9).expect("a page"), [(B.into(), 1)], "before 1970");
    assert_eq!(catalog.list("t", 0, None, 9).expect("a page"), []);
    assert_eq!(catalog.list("nobody", 3, None, 9).expect("a page"), []);
}

fn many_may_put_and_read_at_once<S: Subject>(subject: &mut S) {
    let catalog = subject.open();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let catalog = &catalog;
            scope.spawn(move || {
                let origin = format!("contract.example/1/sha256/{number}");
                let mut made = Maker::new(&origin);
                for size in 1..=20 {
                    let batch = made.batch(0, &["t"], 2);
                    catalog.put_batch(&batch).expect("a batch is put");
                    assert_eq!(catalog.log_size(&origin).expect("a size"), size, "what was put is seen");
                    assert_eq!(catalog.batch(&origin, size - 1).expect("a look"), Some(batch));
                }
            });
        }
    });
}

fn many_may_put_the_same_at_once<S: Subject>(subject: &mut S) {
    let catalog = subject.open();
    let mut made = Maker::new(A);
    for number in 0..10 {
        let batch = made.batch(0, &["t"], 3);
        let anchor = made.anchor(&batch, "{}");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    catalog.put_batch(&batch).expect("a batch is put, whoever was first");
                    catalog.put_anchor(&anchor).expect("an anchor is put, whoever was first");
                });
            }
        });
        assert_eq!(catalog.log_size(A).expect("a size"), number + 1);
        assert_eq!(catalog.anchors_of(A, number).expect("a look"), [anchor]);
        for (index, (tenant, source, id)) in (0..).zip(names(&batch)) {
            let place = Place { origin: A.into(), number, index };
            assert_eq!(catalog.find(&tenant, &source, &id).expect("a look"), [place]);
        }
    }
}

/// Makes the batches of a log one after the other; the same calls make the same batches.
pub struct Maker {
    origin: String,
    log: Log,
    signer: SignerKey,
    next_offset: u64,
}

impl Maker {
    /// A maker at the beginning of the log.
    ///
    /// # Panics
    /// The text is no origin.
    pub fn new(origin: &str) -> Self {
        let signer = SignerKey::new(origin, SecretKey::from_seed(&[9; 32])).expect("an origin is a name");
        Self { origin: origin.to_owned(), log: Log::new(Algorithm::Sha256), signer, next_offset: 0 }
    }

    /// The public key of the log's checkpoints.
    pub fn verifier(&self) -> VerifierKey {
        self.signer.verifier()
    }

    /// The next batch: `leaves` events of this time, of these tenants in turn.
    ///
    /// # Panics
    /// There is no tenant or no event.
    pub fn batch(&mut self, time: i64, tenants: &[&str], leaves: u64) -> BatchRecord {
        let number = self.log.size();
        let statement = |index: u64| {
            let id = format!("{number}-{index}");
            let tenant = tenants[usize::try_from(index).unwrap_or(0) % tenants.len()];
            let source = format!("s{}", self.origin);
            let digest = Algorithm::Sha256.digest(id.as_bytes());
            let event = Event { tenant, source: &source, id: &id, time, kind: "", digest };
            let statement = Statement { event, attestation: Attestation::Unsigned { salt: &[7; 16] } };
            Bytes::from(statement.encode().expect("a statement within its bounds"))
        };
        let statements: Vec<_> = (0..leaves).map(statement).collect();
        let hashes = statements.iter().map(|statement| Algorithm::Sha256.leaf(statement)).collect();
        let tree = Tree::new(Algorithm::Sha256, hashes);
        let header = BatchHeader {
            origin: Origin::parse(&self.origin).expect("an origin"),
            number,
            first_offset: self.next_offset,
            last_offset: self.next_offset + leaves - 1,
            first_time: time,
            last_time: time,
            leaf_count: leaves,
            root: tree.root(),
            duplicates: 0,
            conflicts: 0,
        };
        let header = header.encode().expect("a header within its bounds");
        self.next_offset += leaves;
        self.log.append(Algorithm::Sha256.leaf(&header), |_, _| {}).expect("a small log");
        let checkpoint =
            Checkpoint { origin: &self.origin, size: self.log.size(), root: self.log.root(), extensions: "" };
        BatchRecord {
            header: header.into(),
            statements,
            edge: self.log.encode().into(),
            checkpoint: checkpoint.sign(&self.signer).expect("a checkpoint").into(),
        }
    }

    /// An anchor of the log as it was after a batch.
    pub fn anchor(&self, batch: &BatchRecord, anchor: &str) -> AnchorRecord {
        let header = BatchHeader::decode(&batch.header).expect("a header of ours");
        AnchorRecord {
            origin: self.origin.as_str().into(),
            series: OWN.into(),
            size: header.number + 1,
            checkpoint: batch.checkpoint.clone(),
            anchor: Bytes::copy_from_slice(anchor.as_bytes()),
        }
    }
}

/// Tenant, source and id of each event of a batch.
pub fn names(batch: &BatchRecord) -> Vec<(String, String, String)> {
    let name = |statement: &Bytes| {
        let event = Statement::decode(statement).expect("a statement of ours").event;
        (event.tenant.to_owned(), event.source.to_owned(), event.id.to_owned())
    };
    batch.statements.iter().map(name).collect()
}
