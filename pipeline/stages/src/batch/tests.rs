use killick_proof::note::{Note, Verdict};
use killick_proof::signature::SecretKey;
use proptest::prelude::*;

use super::*;
use crate::ports::BatchRecord;
use crate::testing::{NOW, record, run, statement, tick, to};

const MS: Micros = 1_000;

fn deployment() -> Deployment {
    Deployment::new(&crate::deployment::Config { chains: vec![7, 3], ..Default::default() }).unwrap()
}

fn signers(deployment: &Deployment) -> Vec<SignerKey> {
    let key = |(origin, seed): (&str, u8)| SignerKey::new(origin, SecretKey::from_seed(&[seed; 32])).unwrap();
    deployment.origins().iter().map(AsRef::as_ref).zip(1..).map(key).collect()
}

fn batch(config: &Config) -> Batch {
    let deployment = deployment();
    let mut batch = Batch::new(&deployment, config, signers(&deployment)).unwrap();
    batch.assign(&Partition::new(UNIQUE, 1), 0);
    batch
}

fn small() -> Config {
    Config { max_leaves: 4, max_bytes: 64 << 10, width: Span::millis(100) }
}

fn frame(offset: u64, time: Micros, ids: std::ops::Range<u32>) -> Record {
    let statements = ids.map(|id| statement(&id.to_string(), b"")).collect();
    record(UNIQUE, 1, offset, time, UniqueFrame { statements, ..UniqueFrame::default() }.encode())
}

fn copies(offset: u64, time: Micros, count: usize) -> Record {
    let copy = crate::frame::Copy {
        tenant: "acme".into(),
        source: "s".into(),
        id: "i".into(),
        topic: "t".into(),
        partition: 0,
        offset: 0,
    };
    let frame = UniqueFrame::<Bytes> {
        duplicates: vec![copy.clone(); count],
        conflicts: vec![copy],
        ..Default::default()
    };
    record(UNIQUE, 1, offset, time, frame.encode())
}

fn batches(part: &Part) -> Vec<BatchRecord> {
    to(part, BATCHES).into_iter().map(|output| BatchRecord::decode(&output.value).unwrap()).collect()
}

/// Offsets, leaves, times and counts of each batch.
fn cuts(part: &Part) -> Vec<(u64, u64, u64)> {
    let cut = |batch: &BatchRecord| {
        let header = BatchHeader::decode(&batch.header).unwrap();
        assert_eq!(header.leaf_count, batch.statements.len() as u64);
        (header.first_offset, header.last_offset, header.leaf_count)
    };
    batches(part).iter().map(cut).collect()
}

/// The stage after a crash: with what it had committed.
fn restarted(config: &Config, committed: &[Part]) -> Batch {
    let mut batch = batch(config);
    let next = committed.iter().filter_map(|part| part.through).next_back().unwrap_or(0);
    batch.assign(&Partition::new(UNIQUE, 1), next);
    for output in committed.iter().flat_map(|part| to(part, BATCH_LOG)) {
        batch.restore(&record(BATCH_LOG, 1, 0, NOW, output.value.clone())).unwrap();
    }
    batch
}

#[test]
fn a_batch_is_a_leaf_of_its_log_and_its_checkpoint_commits_to_all_before() {
    let mut stage = batch(&small());
    let part =
        run(&mut stage, &[frame(0, NOW, 0..4), frame(1, NOW + 1, 4..8), frame(2, NOW + 2, 8..12)]).unwrap();
    let deployment = deployment();
    let mut log = Log::new(Algorithm::Sha256);
    for (number, batch) in (0..).zip(batches(&part)) {
        let header = BatchHeader::decode(&batch.header).unwrap();
        assert_eq!((header.origin.as_str(), header.number), (deployment.origin(1).unwrap(), number));
        assert_eq!((header.first_time, header.last_time), (NOW + number as i64, NOW + number as i64));
        log.append(Algorithm::Sha256.leaf(&batch.header), |_, _| {}).unwrap();
        assert_eq!(batch.edge, log.encode());
        let note = Note::parse(&batch.checkpoint).unwrap();
        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        assert_eq!((checkpoint.size, checkpoint.root), (number + 1, log.root()));
        assert_eq!(note.verdict(&signers(&deployment)[1].verifier()), Verdict::Valid);
    }
    assert_eq!(log.size(), 3);
    let (_, index) = deployment.chain_of(1).unwrap();
    let checkpoints = to(&part, CHECKPOINTS);
    assert!(checkpoints.iter().all(|output| output.partition.number == index));
    assert!(
        checkpoints
            .iter()
            .map(|output| &output.value)
            .eq(batches(&part).iter().map(|batch| batch.checkpoint.as_bytes()))
    );
    assert_eq!(part.through, Some(3));
}

#[test]
fn a_tick_closes_a_batch_that_no_event_would_close() {
    let mut stage = batch(&small());
    let partition = Partition::new(UNIQUE, 1);
    assert_eq!(stage.tick_due(&partition), None);
    assert!(run(&mut stage, &[frame(0, NOW, 0..2)]).unwrap().is_empty());
    assert_eq!(stage.tick_due(&partition), Some(NOW + 100 * MS));
    assert!(run(&mut stage, &[tick(UNIQUE, 1, 1, NOW + 100 * MS - 1)]).unwrap().is_empty());
    let part = run(&mut stage, &[tick(UNIQUE, 1, 2, NOW + 100 * MS)]).unwrap();
    assert_eq!(cuts(&part), [(0, 2, 2)]);
    assert_eq!((part.through, stage.tick_due(&partition)), (Some(3), None));
}

#[test]
fn a_second_tick_cuts_nothing_and_goes_with_the_next_batch() {
    let mut stage = batch(&small());
    let late = NOW + 100 * MS;
    let part =
        run(&mut stage, &[frame(0, NOW, 0..1), tick(UNIQUE, 1, 1, late), tick(UNIQUE, 1, 2, late)]).unwrap();
    assert_eq!((cuts(&part), part.through), (vec![(0, 1, 1)], Some(3)));
    let part = run(&mut stage, &[frame(3, late, 0..4)]).unwrap();
    assert_eq!(cuts(&part), [(2, 3, 4)]);
}

#[test]
fn the_width_the_count_and_the_bytes_each_close_a_batch() {
    let mut stage = batch(&small());
    let late = frame(1, NOW + 100 * MS, 1..2);
    let part = run(&mut stage, &[frame(0, NOW, 0..1), late]).unwrap();
    assert_eq!((cuts(&part), part.through), (vec![(0, 0, 1)], Some(1)), "the late one opens the next");
    let part = run(&mut stage, &[frame(2, NOW + 100 * MS, 2..5)]).unwrap();
    assert_eq!((cuts(&part), part.through), (vec![(1, 2, 4)], Some(3)));
    let part = run(&mut stage, &[frame(3, NOW, 0..3), frame(4, NOW, 3..6)]).unwrap();
    assert_eq!(cuts(&part), [(3, 3, 3)], "frames stay whole");
    let mut stage = batch(&Config { max_leaves: 8_192, max_bytes: 1_024, ..small() });
    let part = run(&mut stage, &[frame(0, NOW, 0..2), frame(1, NOW, 2..40), frame(2, NOW, 40..42)]).unwrap();
    assert_eq!(cuts(&part), [(0, 0, 2), (1, 1, 38)]);
}

#[test]
fn time_that_steps_back_does_not_open_the_window_again() {
    let mut stage = batch(&small());
    let records = [frame(0, NOW, 0..1), frame(1, NOW + 99 * MS, 1..2), frame(2, NOW - 99 * MS, 2..3)];
    assert!(run(&mut stage, &records).unwrap().is_empty());
    let part = run(&mut stage, &[frame(3, NOW + 100 * MS, 3..4)]).unwrap();
    let header = batches(&part)[0].header.clone();
    let header = BatchHeader::decode(&header).unwrap();
    assert_eq!((header.first_time, header.last_time), (NOW, NOW + 99 * MS));
}

#[test]
fn copies_are_counted_and_make_no_batch_of_their_own() {
    let mut stage = batch(&small());
    let part = run(&mut stage, &[copies(0, NOW, 3), tick(UNIQUE, 1, 1, NOW + 3_600_000 * MS)]).unwrap();
    assert!(part.is_empty());
    assert_eq!(stage.tick_due(&Partition::new(UNIQUE, 1)), None);
    let part = run(&mut stage, &[frame(2, NOW, 0..4)]).unwrap();
    let records = batches(&part);
    let header = BatchHeader::decode(&records[0].header).unwrap();
    assert_eq!((header.duplicates, header.conflicts, header.first_offset, header.last_offset), (3, 1, 0, 2));
}

#[test]
fn a_log_whose_state_does_not_fit_its_input_is_never_forked() {
    let mut stage = batch(&small());
    let part = run(&mut stage, &[frame(0, NOW, 0..4)]).unwrap();
    for next in [0, 2] {
        let mut other = restarted(&small(), &[Part { through: Some(next), ..part.clone() }]);
        assert!(run(&mut other, &[frame(next, NOW, 0..1)]).is_err(), "{next}");
    }
    let mut lost = batch(&small());
    lost.assign(&Partition::new(UNIQUE, 1), 1);
    assert!(run(&mut lost, &[frame(1, NOW, 0..1)]).is_err());
    assert!(lost.restore(&record(BATCH_LOG, 1, 0, NOW, "x")).is_err());
}

#[test]
fn a_flipped_bit_is_found_before_anything_is_signed() {
    let statements = [statement("a", b""), statement("b", b"")];
    let leaves = statements.iter().map(|statement| Algorithm::Sha256.leaf(statement)).collect();
    let header = BatchHeader {
        origin: Origin::parse("killick.local/1/sha256/1").unwrap(),
        number: 0,
        first_offset: 0,
        last_offset: 0,
        first_time: 0,
        last_time: 0,
        leaf_count: 2,
        root: Tree::new(Algorithm::Sha256, leaves).root(),
        duplicates: 0,
        conflicts: 0,
    };
    let body = write_batch_body(&header.encode().unwrap(), &statements);
    assert_eq!(check_body(body.as_slice(), Algorithm::Sha256, &header), Ok(()));
    for place in 0..body.as_slice().len() {
        let mut flipped = body.as_slice().to_vec();
        flipped[place] ^= 0x10;
        assert!(check_body(&flipped, Algorithm::Sha256, &header).is_err(), "{place}");
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let deployment = deployment();
    let new = |config: Config, keys| Batch::new(&deployment, &config, keys).unwrap_err();
    let all = signers(&deployment);
    assert_eq!(new(Config { max_leaves: 0, ..small() }, all.clone()), ConfigError::MaxLeaves(0));
    assert_eq!(new(Config { max_bytes: 1 << 20, ..small() }, all.clone()), ConfigError::MaxBytes(1 << 20));
    assert!(matches!(
        new(Config { width: Span::secs(3_601), ..small() }, all.clone()),
        ConfigError::Width(_)
    ));
    let missing = all.into_iter().take(3).collect();
    assert_eq!(new(small(), missing), ConfigError::NoKey("killick.local/1/sha256/3".into()));
}

proptest! {
    /// Whatever is stepped before a crash, what comes out is the same, byte for byte.
    #[test]
    fn a_replay_cuts_hashes_and_signs_the_same(
        events in prop::collection::vec((0..7_u32, -20..60_i64, any::<bool>()), 1..60),
    ) {
        let mut records = Vec::new();
        let (mut time, mut id) = (NOW, 0);
        for (offset, (leaves, pause, _)) in (0..).zip(&events) {
            time += pause * MS;
            records.push(match leaves {
                5 => tick(UNIQUE, 1, offset, time),
                6 => copies(offset, time, 2),
                count => frame(offset, time, id..id + count),
            });
            id += leaves;
        }
        let whole = run(&mut batch(&small()), &records).unwrap();

        let mut committed: Vec<Part> = Vec::new();
        let mut stage = batch(&small());
        let mut at = 0;
        let mut crashes = events.iter().map(|(_, _, crash)| *crash);
        while at < records.len() {
            let part = run(&mut stage, &records[at..=at]).unwrap();
            at += 1;
            if !part.is_empty() {
                committed.push(part);
            }
            if crashes.next().unwrap_or(false) {
                stage = restarted(&small(), &committed);
                at = committed.iter().filter_map(|part| part.through).next_back().unwrap_or(0) as usize;
            }
        }
        let outputs: Vec<Output> = committed.iter().flat_map(|part| part.outputs.clone()).collect();
        prop_assert_eq!(outputs, whole.outputs.clone());

        let mut next = 0;
        for (first, last, leaves) in cuts(&whole) {
            prop_assert_eq!(first, next);
            prop_assert!(last >= first && leaves > 0);
            next = last + 1;
        }
    }
}

#[test]
fn a_batch_carries_some_of_its_events_traces_and_its_checkpoint_carries_its_own() {
    let mut batch = batch(&Config { max_leaves: 1_000, ..small() });
    let parent = |span: u8| TraceParent { trace: [1; 16], span: [span; 8], is_sampled: true };
    let mut first = frame(0, NOW, 0..3);
    first.headers.extend((1..=100).map(|span| parent(span).header()));
    let mut second = frame(1, NOW + MS, 3..5);
    second.headers.extend((101..=200).map(|span| parent(span).header()));
    let part = run(&mut batch, &[first, second, tick(UNIQUE, 1, 2, NOW + 200 * MS)]).unwrap();
    let [cut] = to(&part, BATCHES)[..] else { panic!("not one batch") };
    assert!(carried(&cut.headers).eq((1..=128).map(parent)));
    let header = BatchRecord::decode(&cut.value).unwrap().header;
    let own = TraceParent::of_batch(&Algorithm::Sha256.leaf(&header));
    assert!(carried(&to(&part, CHECKPOINTS)[0].headers).eq([own]));
    // The next one has nothing of it.
    let part =
        run(&mut batch, &[frame(3, NOW + 300 * MS, 5..6), tick(UNIQUE, 1, 4, NOW + 500 * MS)]).unwrap();
    assert!(to(&part, BATCHES)[0].headers.is_empty());
}
