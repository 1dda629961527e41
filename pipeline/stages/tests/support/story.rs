//! One log that prove works on, answer by answer.

use std::collections::VecDeque;

use killick_stages::derive::{first_covered, log_path};
use killick_stages::ports::Catalog;
use killick_stages::prove::{Config, Prove};
use killick_stages::ready::{ProofReady, ReceiptReady};
use killick_stages::record::{Output, Partition, Record};
use killick_stages::stage::{Answer, Part, Request, Stage, StoredBatch};

use super::catalog::SimCatalog;
use super::world::{Faults, Sim, deployment, signers};

/// A log with several batches and anchors, and a stage that has seen nothing of it.
pub struct Story {
    pub sim: Sim,
    pub log: u32,
    pub prove: Prove,
    pub catalog: SimCatalog,
    pub told: Vec<ProofReady>,
    pub asked: VecDeque<(Partition, Request)>,
    pub receipts: Vec<ReceiptReady>,
    /// Bytes of messages in the largest transaction.
    pub largest: usize,
    pub config: Config,
    state: Vec<Output>,
    pub through: [u64; 2],
}

impl Story {
    pub fn new() -> Self {
        let mut sim = Sim::new(3, Faults::default());
        sim.run(150).unwrap();
        let story = Self::of(sim, Config::default());
        assert!(story.records("anchors").len() >= 2);
        story
    }

    /// The log with the most anchors of a simulation that has run.
    pub fn of(sim: Sim, config: Config) -> Self {
        let size = |log: &u32| sim.world.log.records("anchors", *log).len();
        let log = (0..sim.deployment.logs()).max_by_key(size).unwrap();
        let mut story = Self {
            sim,
            log,
            prove: prove(&config),
            catalog: SimCatalog::default(),
            told: Vec::new(),
            receipts: Vec::new(),
            largest: 0,
            config,
            asked: VecDeque::new(),
            state: Vec::new(),
            through: [0, 0],
        };
        story.assign();
        story
    }

    pub fn partition(&self, topic: &str) -> Partition {
        Partition::new(topic, self.log)
    }

    pub fn assign(&mut self) {
        for (at, topic) in ["batches", "anchors"].into_iter().enumerate() {
            self.prove.assign(&self.partition(topic), self.through[at]);
            for state in &self.state {
                let record = Record {
                    partition: state.partition.clone(),
                    offset: 0,
                    append_time: 0,
                    key: state.key.clone(),
                    value: state.value.clone(),
                    headers: Vec::new(),
                };
                self.prove.restore(&record).unwrap();
            }
        }
    }

    pub fn records(&self, topic: &str) -> Vec<Record> {
        self.sim.world.log.records(topic, self.log).to_vec()
    }

    pub fn step(&mut self, topic: &str) -> Result<(), String> {
        for record in self.records(topic) {
            let mut part = Part::default();
            self.prove.step(&record, &mut part).map_err(|halt| halt.to_string())?;
            self.take(&record.partition, part)?;
        }
        Ok(())
    }

    pub fn take(&mut self, partition: &Partition, mut part: Part) -> Result<(), String> {
        self.prove.seal(partition, &mut part).map_err(|halt| halt.to_string())?;
        if let Some(through) = part.through {
            self.through[usize::from(partition.topic.as_str() == "anchors")] = through;
        }
        let messages = part.outputs.iter().filter(|output| output.partition.topic.as_str() != "prove-log");
        self.largest = self.largest.max(messages.map(|output| output.value.len()).sum());
        for output in part.outputs {
            match output.partition.topic.as_str() {
                "proofs" => self.told.push(ProofReady::decode(&output.value).unwrap()),
                "receipts" => self.receipts.push(ReceiptReady::decode(&output.value).unwrap()),
                "prove-log" => self.state.push(output),
                other => panic!("{other}"),
            }
        }
        self.asked.extend(self.prove.requests());
        Ok(())
    }

    /// Answers the first request, as `change` would have it. Whether there was one.
    pub fn answer(&mut self, change: impl FnOnce(Answer) -> Answer) -> Result<bool, String> {
        let Some((partition, request)) = self.asked.pop_front() else { return Ok(false) };
        let answer = self.perform(request);
        let mut part = Part::default();
        self.prove.answer(&partition, change(answer), &mut part).map_err(|halt| halt.to_string())?;
        self.take(&partition, part)?;
        Ok(true)
    }

    /// Answers the first request too, but what came of it is never committed.
    pub fn answer_in_vain(&mut self) -> bool {
        let Some((partition, request)) = self.asked.pop_front() else { return false };
        let answer = self.perform(request);
        let mut part = Part::default();
        self.prove.answer(&partition, answer, &mut part).unwrap();
        true
    }

    fn perform(&mut self, request: Request) -> Answer {
        let chains = &self.sim.world.chains;
        match request {
            Request::PutBatch(batch) => {
                self.catalog.put_batch(&batch).unwrap();
                let header = killick_proof::batch::BatchHeader::decode(&batch.header).unwrap();
                Answer::BatchPut(header.number)
            }
            Request::PutAnchor(anchor) => {
                self.catalog.put_anchor(&anchor).unwrap();
                Answer::AnchorPut
            }
            Request::ReadBatch { origin, number, size } => {
                let batch = self.catalog.batch(&origin, number).unwrap();
                let path = |_: &_| log_path(&self.catalog, &origin, number, size).unwrap();
                Answer::BatchRead(batch.map(|batch| Box::new(StoredBatch { path: path(&batch), batch })))
            }
            Request::Spv { chain, key } => {
                let spv = chains[&chain].spv(&key);
                Answer::Spv(key, spv.map(Box::new))
            }
            Request::Look { chain, keys, depth, .. } => {
                let look = chains[&chain].look(&keys, depth);
                Answer::Seen(keys, look)
            }
            Request::FirstCovered { origin, size } => {
                Answer::FirstCovered(first_covered(&self.catalog, &origin, size).unwrap())
            }
            Request::Again => Answer::Again,
            other => panic!("prove asks no such thing: {other:?}"),
        }
    }

    pub fn finish(&mut self) -> Result<(), String> {
        while self.answer(|answer| answer)? {}
        Ok(())
    }

    /// Dies, and begins again with what is committed.
    pub fn crash(&mut self) {
        self.prove = prove(&self.config);
        self.asked.clear();
        self.assign();
        for (at, topic) in ["batches", "anchors"].into_iter().enumerate() {
            let left = self.records(topic).into_iter().filter(|record| record.offset >= self.through[at]);
            for record in left.collect::<Vec<_>>() {
                let mut part = Part::default();
                self.prove.step(&record, &mut part).unwrap();
                self.take(&record.partition, part).unwrap();
            }
        }
    }

    /// Whether each batch was told of, once and in order.
    pub fn is_complete(&self) -> bool {
        let all = self.records("batches").len() as u64;
        self.told.iter().map(|ready| ready.number).eq(0..all)
    }
}

pub fn prove(config: &Config) -> Prove {
    let keys = signers(&deployment()).iter().map(|signer| signer.verifier()).collect();
    Prove::new(&deployment(), config, keys).unwrap()
}
