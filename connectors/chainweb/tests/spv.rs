//! Proofs between all chains of braided networks.

use std::collections::HashMap;

use chainweb::cut::{self, CutError};
use chainweb::merkle::Tag;
use chainweb::payload::PayloadWithOutputs;
use chainweb::spv::{self, Blocks, CreateError, Part, Proof};
use chainweb::version::Era;
use chainweb::{ChainId, Graph, Hash, Header, U256, Version, rules};

/// A network whose chains all have the same height, each block with two transactions.
struct Network {
    version: Version,
    headers: HashMap<Hash, Header>,
    payloads: HashMap<Hash, PayloadWithOutputs>,
    by_place: HashMap<(ChainId, u64), Header>,
}

impl Network {
    fn grown(version: Version, height: u64) -> Self {
        let (headers, payloads, by_place) = Default::default();
        let mut network = Self { version, headers, payloads, by_place };
        for at in 0..=height {
            for chain in network.version.graph_at(at).chains() {
                network.make(chain, at);
            }
        }
        network
    }

    fn make(&mut self, chain: ChainId, height: u64) {
        let part = |kind: &str, index: u32| format!("{kind} {index} of {chain} {height}").into_bytes();
        let transactions = (0..2).map(|index| (part("transaction", index), part("output", index))).collect();
        let payload = PayloadWithOutputs::new(transactions, part("miner", 0), part("coinbase", 0));
        let genesis = Header::genesis(&self.version, chain, payload.payload_hash).expect("a chain");
        let header = if genesis.height == height { genesis } else { self.next(&payload, chain, height) };
        self.payloads.insert(payload.payload_hash, payload);
        self.by_place.insert((chain, height), header.clone());
        self.headers.insert(header.hash, header);
    }

    fn next(&self, payload: &PayloadWithOutputs, chain: ChainId, height: u64) -> Header {
        let block = |chain: ChainId| &self.by_place[&(chain, height - 1)];
        let parent = block(chain);
        let neighbours = self.version.adjacency_graph(chain, height).neighbours(chain);
        let adjacents: Vec<_> = neighbours.iter().map(|next| block(*next)).collect();
        let latest =
            adjacents.iter().map(|adjacent| adjacent.creation_time).fold(parent.creation_time, i64::max);
        let creation_time = latest + 30_000_000;
        let target = rules::next_target(&self.version, parent, &adjacents, creation_time).expect("a target");
        let weight =
            rules::difficulty(target).and_then(|own| parent.weight.checked_add(own)).expect("a weight");
        let mut header = Header {
            parent: parent.hash,
            adjacents: adjacents.iter().map(|adjacent| (adjacent.chain, adjacent.hash)).collect(),
            height,
            creation_time,
            epoch_start: rules::next_epoch_start(&self.version, parent, creation_time),
            target,
            weight,
            payload_hash: payload.payload_hash,
            ..parent.clone()
        };
        header.hash = header.compute_hash();
        assert_eq!(rules::check(&header, &self.version, parent, &adjacents), []);
        header
    }

    fn prove(
        &self,
        source: (ChainId, u64),
        target: (ChainId, u64),
        part: Part,
    ) -> Result<Proof, CreateError> {
        spv::create(self, &self.version, &self.by_place[&target], source.0, source.1, 1, part)
    }
}

impl Blocks for Network {
    fn header(&self, hash: &Hash) -> Option<Header> {
        self.headers.get(hash).cloned()
    }

    fn payload(&self, payload_hash: &Hash) -> Option<PayloadWithOutputs> {
        self.payloads.get(payload_hash).cloned()
    }
}

fn test_network(graph: Graph) -> Version {
    Version::test(format!("test-{graph}"), 0x8000_0001, graph, 30_000_000)
}

#[test]
fn every_chain_proves_to_every_chain_as_soon_as_the_distance_allows() {
    for graph in [Graph::Singleton, Graph::Pair, Graph::Triangle, Graph::Petersen, Graph::Twenty] {
        let network = Network::grown(test_network(graph), 6);
        for (source, target) in graph.chains().flat_map(|a| graph.chains().map(move |b| (a, b))) {
            let first = spv::target_height(&network.version, source, 2, target).expect("chains of the graph");
            assert_eq!(first, 2 + u64::from(graph.distance(source, target).expect("chains of the graph")));
            for height in first..=6 {
                for (part, tag, text) in [
                    (Part::Output, Tag::OUTPUT, "output"),
                    (Part::Transaction, Tag::TRANSACTION, "transaction"),
                ] {
                    let proof = network.prove((source, 2), (target, height), part).expect("a proof");
                    assert_eq!(
                        proof.root(),
                        network.by_place[&(target, height)].hash,
                        "{graph} {source} {target}"
                    );
                    let subject = proof.subject_with_tag(tag).expect("the tag");
                    assert_eq!(subject, format!("{text} 1 of {source} 2").as_bytes());
                    assert_eq!((proof.chain, proof.object.position), (target, 2));
                    assert_eq!(Proof::parse(proof.to_json().as_bytes()).expect("a proof"), proof);
                }
            }
            let early = network.prove((source, 2), (target, first - 1), Part::Output);
            assert_eq!(early, Err(CreateError::Unreachable { source_chain: source, height: 2 }));
        }
    }
}

#[test]
fn proofs_cross_a_change_of_the_graph() {
    let eras = vec![
        Era { from: 0, graph: Graph::Petersen, genesis_target: U256::MAX },
        Era { from: 4, graph: Graph::Twenty, genesis_target: U256::MAX },
    ];
    let version = Version { eras: eras.into(), ..test_network(Graph::Petersen) };
    let network = Network::grown(version, 10);
    for (source, target) in
        Graph::Petersen.chains().flat_map(|a| Graph::Petersen.chains().map(move |b| (a, b)))
    {
        let reached = spv::target_height(&network.version, source, 3, target).expect("chains of both graphs");
        let proof = network.prove((source, 3), (target, reached), Part::Output).expect("a proof");
        assert_eq!(proof.root(), network.by_place[&(target, reached)].hash, "{source} {target}");
    }
    assert_eq!(
        spv::target_height(&network.version, ChainId(0), 3, ChainId(10)),
        None,
        "not a chain at height 3"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let mut network = Network::grown(test_network(Graph::Pair), 3);
    let (zero, one) = (ChainId(0), ChainId(1));
    let target = network.by_place[&(one, 3)].clone();
    let create = |network: &Network, index| {
        spv::create(network, &network.version, &target, zero, 2, index, Part::Output)
    };
    assert_eq!(create(&network, 2), Err(CreateError::NoTransaction { index: 2, count: 2 }));
    assert_eq!(create(&network, usize::MAX), Err(CreateError::NoTransaction { index: usize::MAX, count: 2 }));
    let source = network.by_place[&(zero, 2)].clone();
    network.payloads.remove(&source.payload_hash);
    assert_eq!(create(&network, 0), Err(CreateError::NoPayload(source.payload_hash)));
    network.headers.remove(&source.hash);
    assert_eq!(create(&network, 0), Err(CreateError::NoHeader(source.hash)));
    let unknown = spv::create(&network, &network.version, &target, ChainId(7), 2, 0, Part::Output);
    assert_eq!(unknown, Err(CreateError::Unreachable { source_chain: ChainId(7), height: 2 }));
}

#[test]
fn a_cut_is_braided_when_heights_differ_by_one_and_hashes_fit() {
    let network = Network::grown(test_network(Graph::Petersen), 3);
    let at = |heights: &dyn Fn(u32) -> u64| {
        let headers =
            Graph::Petersen.chains().map(|chain| (chain, &network.by_place[&(chain, heights(chain.0))]));
        cut::verify_braiding(Graph::Petersen, &headers.collect())
    };
    assert_eq!(at(&|_| 3), Ok(()));
    assert_eq!(at(&|chain| if chain == 4 { 3 } else { 2 }), Ok(()));
    assert_eq!(at(&|chain| if chain == 0 { 3 } else { 1 }), Err(CutError::Braid(ChainId(0), ChainId(2))));
}
