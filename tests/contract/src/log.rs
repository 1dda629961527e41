//! The contract of [`Log`] and [`Producer`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use killick_stages::ports::{Log, LogError, Polled, Producer};
use killick_stages::record::{Header, Output, Partition, Record};
use killick_stages::stage::Part;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// What is tested.
pub trait Subject {
    /// A worker's hold.
    type Log: Log;

    /// A worker of `group` for these partitions, which take over from earlier workers of the group.
    fn worker(&self, group: &str, inputs: &[Partition]) -> Self::Log;

    /// A producer.
    fn producer(&self) -> Arc<dyn Producer>;

    /// Everything in memory is gone, as after a crash; only what is durable is there when this returns.
    fn crash(&mut self);

    /// A topic of its own for each test: `name` with two partitions, kept whole or compacted.
    fn topic(&mut self, name: &str, compacted: bool) -> String;

    /// How long anything may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// A record larger than the log takes.
    fn too_large(&self) -> usize;
}

/// Runs the whole suite on fresh subjects.
pub fn suite<S: Subject>(mut fresh: impl FnMut() -> S) {
    records_come_in_order_each_once_with_every_byte(&mut fresh());
    a_group_goes_on_where_it_committed_also_after_a_crash(&mut fresh());
    outputs_and_offsets_are_one(&mut fresh());
    a_reader_sees_a_transaction_wholly_or_not_at_all(&mut fresh());
    a_worker_that_lost_a_partition_writes_nothing_for_it(&mut fresh());
    who_lost_one_partition_goes_on_with_the_others(&mut fresh());
    a_tick_is_a_record_that_carries_only_time(&mut fresh());
    replay_gives_what_is_kept(&mut fresh());
    a_compacted_topic_keeps_the_newest_of_each_key(&mut fresh());
    a_paused_worker_gets_nothing_until_it_goes_on(&mut fresh());
    what_is_too_large_is_refused_and_leaves_nothing(&mut fresh());
    a_partition_that_is_not_there_is_named_and_nothing_is_written(&mut fresh());
    many_producers_at_once_keep_each_ones_order(&mut fresh());
}

fn records_come_in_order_each_once_with_every_byte<S: Subject>(subject: &mut S) {
    let topic = subject.topic("order", false);
    let any: Vec<u8> = (0..=255).collect();
    let headers = [("a", &b"1"[..]), ("a", b"2"), ("", b""), ("traceparent", &any)];
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| Header { name: (*name).into(), value: Bytes::copy_from_slice(value) })
        .collect();
    let mut sent = Vec::new();
    for number in 0..40_u8 {
        let mut output = Output::new(
            Partition::new(&*topic, u32::from(number % 2)),
            vec![number; 3],
            any[..=usize::from(number)].to_vec(),
        );
        output.headers.clone_from(&headers);
        sent.push(output);
    }
    sent.push(Output::new(Partition::new(&*topic, 0), "", ""));
    for some in sent.chunks(7) {
        subject.producer().produce(some).expect("records are taken");
    }
    let inputs = [Partition::new(&*topic, 0), Partition::new(&*topic, 1)];
    let mut worker = subject.worker("order", &inputs);
    let records = take(&mut worker, sent.len(), subject.patience());
    for partition in &inputs {
        let got: Vec<_> = records.iter().filter(|record| record.partition == *partition).collect();
        let wanted: Vec<_> = sent.iter().filter(|output| output.partition == *partition).collect();
        assert!(got.is_sorted_by(|a, b| a.offset < b.offset), "offsets ascend: {got:?}");
        assert_eq!(got.len(), wanted.len());
        for (got, wanted) in got.iter().zip(wanted) {
            assert_eq!((&got.key, &got.value, &got.headers), (&wanted.key, &wanted.value, &wanted.headers));
        }
    }
    assert_eq!(nothing_more(&mut worker), []);
}

fn a_group_goes_on_where_it_committed_also_after_a_crash<S: Subject>(subject: &mut S) {
    let topic = subject.topic("resume", false);
    let input = Partition::new(&*topic, 0);
    let inputs = std::slice::from_ref(&input);
    subject.producer().produce(&numbered(&input, 0..10)).expect("records are taken");
    let mut worker = subject.worker("resume", inputs);
    let records = take(&mut worker, 10, subject.patience());
    let through = records[5].offset + 1;
    commit(&mut worker, &input, Vec::new(), Some(through));
    drop(worker);
    // Another group has its own place.
    assert_eq!(take(&mut subject.worker("another", inputs), 10, subject.patience()).len(), 10);
    assert_eq!(values(&take(&mut subject.worker("resume", inputs), 4, subject.patience())), [6, 7, 8, 9]);
    subject.crash();
    let mut worker = subject.worker("resume", inputs);
    assert_eq!(values(&take(&mut worker, 4, subject.patience())), [6, 7, 8, 9]);
    only_a_last_one(subject, &mut worker, &input);
    drop(worker);
    // It goes on exactly where it said.
    assert_eq!(assigned(&mut subject.worker("resume", inputs), inputs, subject.patience()), [through]);
}

fn outputs_and_offsets_are_one<S: Subject>(subject: &mut S) {
    let (from, to) = (subject.topic("from", false), subject.topic("to", false));
    let (input, other) = (Partition::new(&*from, 0), Partition::new(&*from, 1));
    let outputs = [Partition::new(&*to, 0), Partition::new(&*to, 1)];
    let producer = subject.producer();
    producer.produce(&numbered(&input, 0..4)).expect("records are taken");
    producer.produce(&numbered(&other, 0..4)).expect("records are taken");
    let mut worker = subject.worker("move", &[input.clone(), other.clone()]);
    let records = take(&mut worker, 8, subject.patience());
    let part = |partition: &Partition, range: std::ops::Range<u64>| {
        let outputs = outputs.iter().flat_map(|to| numbered(to, range.clone())).collect();
        let last =
            records.iter().filter(|record| record.partition == *partition).map(|record| record.offset).max();
        (partition.clone(), Part { outputs, through: last.map(|last| last + 1) })
    };
    worker.commit(&[part(&input, 0..3), part(&other, 3..6)]).expect("a transaction is committed");
    subject.crash();
    let mut reader = subject.worker("reader", &outputs);
    let moved = take(&mut reader, 12, subject.patience());
    for to in &outputs {
        let moved: Vec<_> = moved.iter().filter(|record| record.partition == *to).cloned().collect();
        assert_eq!(values(&moved), [0, 1, 2, 3, 4, 5]);
    }
    let mut worker = subject.worker("move", &[input.clone(), other.clone()]);
    for input in [&input, &other] {
        only_a_last_one(subject, &mut worker, input);
    }
}

fn a_reader_sees_a_transaction_wholly_or_not_at_all<S: Subject>(subject: &mut S) {
    const ROUNDS: u64 = 30;
    let (from, to) = (subject.topic("wholly-from", false), subject.topic("wholly-to", false));
    let input = Partition::new(&*from, 0);
    let outputs = [Partition::new(&*to, 0), Partition::new(&*to, 1)];
    let inputs = std::slice::from_ref(&input);
    let mut worker = subject.worker("wholly", inputs);
    assigned(&mut worker, inputs, subject.patience());
    let mut reader = subject.worker("reader", &outputs);
    let patience = subject.patience();
    std::thread::scope(|scope| {
        // Each transaction has its number ten times for one output, and once for the other.
        scope.spawn(move || {
            for round in 0..ROUNDS {
                let mut written = vec![numbered(&outputs[1], round..round + 1)];
                written.extend((0..10).map(|_| numbered(&outputs[0], round..round + 1)));
                commit(&mut worker, &input, written.concat(), None);
            }
        });
        let deadline = Instant::now() + patience;
        let mut seen = [Vec::new(), Vec::new()];
        while seen[0].len() as u64 != 10 * ROUNDS || seen[1].len() as u64 != ROUNDS {
            assert!(Instant::now() < deadline, "a part is missing: {seen:?}");
            for event in reader.poll(Duration::from_millis(20)).expect("a worker may poll") {
                let Polled::Record(record) = event else { continue };
                seen[record.partition.number as usize].push(values(&[record])[0]);
            }
        }
        assert!(seen.iter().all(|values| values.is_sorted()), "{seen:?}");
    });
}

fn a_worker_that_lost_a_partition_writes_nothing_for_it<S: Subject>(subject: &mut S) {
    let (from, to) = (subject.topic("lost", false), subject.topic("unwritten", false));
    let (input, output) = (Partition::new(&*from, 0), Partition::new(&*to, 0));
    let inputs = std::slice::from_ref(&input);
    subject.producer().produce(&numbered(&input, 0..2)).expect("records are taken");
    let mut old = subject.worker("fenced", inputs);
    let records = take(&mut old, 2, subject.patience());
    let mut new = subject.worker("fenced", inputs);
    assert_eq!(take(&mut new, 2, subject.patience()).len(), 2, "nothing was committed yet");
    let part = Part { outputs: numbered(&output, 0..1), through: Some(records[1].offset + 1) };
    let refused = old.commit(&[(input.clone(), part.clone())]);
    assert!(matches!(&refused, Err(LogError::Lost(lost)) if *lost == input), "{refused:?}");
    let deadline = Instant::now() + subject.patience();
    loop {
        let polled = old.poll(Duration::from_millis(50)).expect("a worker may poll");
        assert!(
            !polled.iter().any(|event| matches!(event, Polled::Record(_))),
            "records of another: {polled:?}"
        );
        if polled.contains(&Polled::Revoked(input.clone())) {
            break;
        }
        assert!(Instant::now() < deadline, "the old worker is told that it lost the partition");
    }
    let ticked = old.tick(&input);
    assert!(matches!(&ticked, Err(LogError::Lost(lost)) if *lost == input), "{ticked:?}");
    new.commit(&[(input.clone(), part)]).expect("the new worker commits");
    let mut reader = subject.worker("reader", std::slice::from_ref(&output));
    assert_eq!(values(&take(&mut reader, 1, subject.patience())), [0]);
    only_a_last_one(subject, &mut reader, &output);
    only_a_last_one(subject, &mut new, &input);
}

fn who_lost_one_partition_goes_on_with_the_others<S: Subject>(subject: &mut S) {
    let (from, to) = (subject.topic("one-lost", false), subject.topic("one-written", false));
    let inputs = [Partition::new(&*from, 0), Partition::new(&*from, 1)];
    let output = Partition::new(&*to, 0);
    for input in &inputs {
        subject.producer().produce(&numbered(input, 0..1)).expect("records are taken");
    }
    let mut old = subject.worker("half", &inputs);
    let records = take(&mut old, 2, subject.patience());
    let through = |input: &Partition| {
        let record = records.iter().find(|record| record.partition == *input).expect("it came");
        Some(record.offset + 1)
    };
    let mut new = subject.worker("half", &inputs[..1]);
    take(&mut new, 1, subject.patience());
    let lost = (inputs[0].clone(), Part { outputs: numbered(&output, 0..1), through: through(&inputs[0]) });
    let ours = (inputs[1].clone(), Part { outputs: numbered(&output, 1..2), through: through(&inputs[1]) });
    let refused = old.commit(&[ours.clone(), lost.clone()]);
    assert!(matches!(&refused, Err(LogError::Lost(lost)) if *lost == inputs[0]), "{refused:?}");
    old.commit(&[ours]).expect("the rest is committed again");
    new.commit(&[lost]).expect("the new worker commits");
    let mut reader = subject.worker("reader", std::slice::from_ref(&output));
    assert_eq!(values(&take(&mut reader, 2, subject.patience())), [1, 0]);
    only_a_last_one(subject, &mut reader, &output);
}

fn a_tick_is_a_record_that_carries_only_time<S: Subject>(subject: &mut S) {
    let topic = subject.topic("ticks", false);
    let input = Partition::new(&*topic, 1);
    let inputs = std::slice::from_ref(&input);
    let mut worker = subject.worker("ticks", inputs);
    assigned(&mut worker, inputs, subject.patience());
    let before = worker.now();
    worker.tick(&input).expect("a tick is written");
    subject.producer().produce(&numbered(&input, 5..6)).expect("records are taken");
    let records = take(&mut worker, 2, subject.patience());
    assert!(records[0].is_tick() && !records[1].is_tick(), "{records:?}");
    // Clocks may differ: a minute is enough to tell time from none.
    assert!(
        (records[0].append_time - before).abs() < 60_000_000,
        "{} after {before}",
        records[0].append_time
    );
}

fn replay_gives_what_is_kept<S: Subject>(subject: &mut S) {
    let topic = subject.topic("replay", false);
    let (input, state) = (Partition::new(&*topic, 0), Partition::new(&*topic, 1));
    let producer = subject.producer();
    producer.produce(&numbered(&state, 0..300)).expect("records are taken");
    let inputs = std::slice::from_ref(&input);
    let mut worker = subject.worker("replay", inputs);
    assigned(&mut worker, inputs, subject.patience());
    assert_eq!(values(&replay(&mut worker, &state, None)), (0..300).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_millis(20));
    let since = worker.now();
    std::thread::sleep(Duration::from_millis(20));
    producer.produce(&numbered(&state, 300..310)).expect("records are taken");
    assert_eq!(values(&replay(&mut worker, &state, Some(since))), (300..310).collect::<Vec<_>>());
    assert_eq!(replay(&mut worker, &state, Some(since + DAY)), []);
}

fn a_compacted_topic_keeps_the_newest_of_each_key<S: Subject>(subject: &mut S) {
    let topic = subject.topic("compacted", true);
    let (input, state) = (Partition::new(&*topic, 0), Partition::new(&*topic, 1));
    let producer = subject.producer();
    for round in 0..50_u64 {
        for key in ["a", "b", "c"] {
            producer
                .produce(&[Output::new(state.clone(), key, round.to_string())])
                .expect("records are taken");
        }
    }
    producer.produce(&[Output::new(state.clone(), "b", "")]).expect("records are taken");
    drop(producer);
    let mut before = None;
    for crashed in [false, true] {
        if crashed {
            subject.crash();
        }
        let inputs = std::slice::from_ref(&input);
        let mut worker = subject.worker("compacted", inputs);
        assigned(&mut worker, inputs, subject.patience());
        // More may still stand than has to: what counts is the last of each key.
        let mut last = BTreeMap::new();
        let records = replay(&mut worker, &state, None);
        assert!(records.is_sorted_by(|a, b| a.offset < b.offset), "offsets ascend: {records:?}");
        for record in records {
            last.insert(record.key.clone(), record);
        }
        last.retain(|_, record| !record.value.is_empty());
        let found: Vec<_> = last.values().map(|record| (&record.key[..], &record.value[..])).collect();
        assert_eq!(found, [(&b"a"[..], &b"49"[..]), (b"c", b"49")], "after a crash: {crashed}");
        let offsets: Vec<_> = last.values().map(|record| (record.offset, record.append_time)).collect();
        assert_eq!(*before.get_or_insert(offsets.clone()), offsets, "a record stays what it was");
    }
}

fn a_paused_worker_gets_nothing_until_it_goes_on<S: Subject>(subject: &mut S) {
    let topic = subject.topic("paused", false);
    let input = Partition::new(&*topic, 0);
    let inputs = std::slice::from_ref(&input);
    let mut worker = subject.worker("paused", inputs);
    assigned(&mut worker, inputs, subject.patience());
    worker.pause(true);
    subject.producer().produce(&numbered(&input, 0..3)).expect("records are taken");
    assert_eq!(nothing_more(&mut worker), []);
    worker.pause(false);
    assert_eq!(values(&take(&mut worker, 3, subject.patience())), [0, 1, 2]);
}

fn what_is_too_large_is_refused_and_leaves_nothing<S: Subject>(subject: &mut S) {
    let topic = subject.topic("large", false);
    let (input, output) = (Partition::new(&*topic, 0), Partition::new(&*topic, 1));
    let inputs = std::slice::from_ref(&input);
    let mut worker = subject.worker("large", inputs);
    assigned(&mut worker, inputs, subject.patience());
    let mut outputs = numbered(&output, 0..1);
    outputs.push(Output::new(output.clone(), "", vec![1; subject.too_large()]));
    subject.producer().produce(&numbered(&input, 0..1)).expect("records are taken");
    let read = take(&mut worker, 1, subject.patience());
    let part = Part { outputs, through: Some(read[0].offset + 1) };
    let refused = worker.commit(&[(input.clone(), part)]);
    assert!(
        matches!(&refused, Err(LogError::TooLarge { partition, .. }) if *partition == output),
        "{refused:?}"
    );
    let mut reader = subject.worker("reader", std::slice::from_ref(&output));
    only_a_last_one(subject, &mut reader, &output);
    // The worker goes on, and what was refused moved nothing.
    commit(&mut worker, &input, numbered(&output, 7..8), None);
    assert_eq!(values(&take(&mut reader, 1, subject.patience())), [7]);
    drop(worker);
    assert_eq!(values(&take(&mut subject.worker("large", inputs), 1, subject.patience())), [0]);
}

fn a_partition_that_is_not_there_is_named_and_nothing_is_written<S: Subject>(subject: &mut S) {
    let topic = subject.topic("unknown", false);
    let (input, output, wrong) =
        (Partition::new(&*topic, 0), Partition::new(&*topic, 1), Partition::new(&*topic, 1_000));
    let inputs = std::slice::from_ref(&input);
    let mut worker = subject.worker("unknown", inputs);
    assigned(&mut worker, inputs, subject.patience());
    let outputs = [numbered(&output, 0..1), numbered(&wrong, 0..1)].concat();
    let refused = worker.commit(&[(input.clone(), Part { outputs, through: None })]);
    assert!(matches!(&refused, Err(LogError::Unknown(partition)) if *partition == wrong), "{refused:?}");
    let mut reader = subject.worker("reader", std::slice::from_ref(&output));
    only_a_last_one(subject, &mut reader, &output);
}

fn many_producers_at_once_keep_each_ones_order<S: Subject>(subject: &mut S) {
    let topic = subject.topic("many", false);
    let input = Partition::new(&*topic, 0);
    let producer = subject.producer();
    std::thread::scope(|scope| {
        for own in 0..4_u64 {
            let (producer, input) = (&producer, &input);
            scope.spawn(move || {
                for number in 0..50 {
                    producer
                        .produce(&numbered(input, own * 1_000 + number..own * 1_000 + number + 1))
                        .expect("taken");
                }
            });
        }
    });
    let mut worker = subject.worker("many", std::slice::from_ref(&input));
    let all = values(&take(&mut worker, 200, subject.patience()));
    for own in 0..4 {
        let ours: Vec<_> =
            all.iter().filter(|value| **value / 1_000 == own).map(|value| value % 1_000).collect();
        assert_eq!(ours, (0..50).collect::<Vec<_>>());
    }
}

/// Outputs to a partition that carry these numbers.
fn numbered(partition: &Partition, numbers: std::ops::Range<u64>) -> Vec<Output> {
    numbers.map(|number| Output::new(partition.clone(), "", number.to_string())).collect()
}

fn values(records: &[Record]) -> Vec<u64> {
    let number = |record: &Record| std::str::from_utf8(&record.value).ok()?.parse().ok();
    records.iter().map(|record| number(record).unwrap_or_else(|| panic!("no number: {record:?}"))).collect()
}

/// Polls until there are so many records; checks that a partition is assigned before its records come.
fn take(worker: &mut impl Log, count: usize, patience: Duration) -> Vec<Record> {
    let deadline = Instant::now() + patience;
    let mut records: Vec<Record> = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < deadline, "{count} records awaited, got {records:?}");
        for event in worker.poll(Duration::from_millis(50)).expect("a worker may poll") {
            match event {
                Polled::Record(record) => records.push(record),
                Polled::Assigned(partition, next) => {
                    let early = records.iter().find(|record| record.partition == partition);
                    assert!(early.is_none(), "a record of {partition} came before its assignment at {next}");
                }
                Polled::Revoked(partition) => panic!("{partition} was revoked"),
            }
        }
    }
    records
}

/// Polls until these partitions are assigned and returns where each goes on. Nothing but assignments may come before.
fn assigned(worker: &mut impl Log, inputs: &[Partition], patience: Duration) -> Vec<u64> {
    let deadline = Instant::now() + patience;
    let mut found = BTreeMap::new();
    // Paused, so that an assignment and the first records do not come together.
    worker.pause(true);
    while found.len() < inputs.len() {
        assert!(Instant::now() < deadline, "{inputs:?} awaited, got {found:?}");
        for event in worker.poll(Duration::from_millis(50)).expect("a worker may poll") {
            let Polled::Assigned(partition, next) = event else { panic!("a paused worker got {event:?}") };
            assert_eq!(found.insert(partition, next), None, "assigned twice");
        }
    }
    worker.pause(false);
    inputs.iter().map(|input| found[input]).collect()
}

/// Appends a last record to a partition and wants it to be what the worker gets next: nothing else was to come.
fn only_a_last_one(subject: &impl Subject, worker: &mut impl Log, partition: &Partition) {
    const LAST: u64 = 999_999_999;
    subject.producer().produce(&numbered(partition, LAST..LAST + 1)).expect("records are taken");
    assert_eq!(values(&take(worker, 1, subject.patience())), [LAST], "nothing was to come of {partition}");
}

/// What comes in a while in which nothing should: for a worker that has its partitions.
fn nothing_more(worker: &mut impl Log) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..10 {
        for event in worker.poll(Duration::from_millis(20)).expect("a worker may poll") {
            if let Polled::Record(record) = event {
                records.push(record);
            }
        }
    }
    records
}

fn replay(worker: &mut impl Log, partition: &Partition, since: Option<i64>) -> Vec<Record> {
    let mut records = Vec::new();
    worker.replay(partition, since, &mut |record| records.push(record)).expect("state is read back");
    records
}

fn commit(worker: &mut impl Log, input: &Partition, outputs: Vec<Output>, through: Option<u64>) {
    worker.commit(&[(input.clone(), Part { outputs, through })]).expect("a transaction is committed");
}
