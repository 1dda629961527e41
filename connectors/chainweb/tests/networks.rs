//! Graphs and the networks that use them.

use chainweb::{ChainId, Graph, Hash, Header, U256, Version, rules};

#[test]
fn graphs_are_regular_symmetric_and_as_wide_as_the_table_says() {
    let table = [
        (Graph::Singleton, 1, 0, 0),
        (Graph::Pair, 2, 1, 1),
        (Graph::Triangle, 3, 2, 1),
        (Graph::Petersen, 10, 3, 2),
        (Graph::Twenty, 20, 3, 3),
        (Graph::Hoffman, 50, 7, 2),
    ];
    for (graph, order, degree, diameter) in table {
        assert_eq!((graph.order(), graph.degree(), graph.diameter()), (order, degree, diameter), "{graph}");
        assert_eq!(Graph::by_name(graph.name()), Some(graph));
        for chain in graph.chains() {
            let neighbours = graph.neighbours(chain);
            assert_eq!(neighbours.len() as u32, degree, "{graph} {chain}");
            assert!(neighbours.is_sorted_by(|a, b| a < b), "{graph} {chain} is not ascending");
            assert!(!neighbours.contains(&chain));
            assert!(
                neighbours.iter().all(|next| graph.neighbours(*next).contains(&chain)),
                "{graph} {chain}"
            );
        }
        let distances = graph.chains().flat_map(|a| graph.chains().map(move |b| graph.distance(a, b)));
        assert_eq!(distances.max(), Some(Some(diameter)), "{graph}");
    }
}

#[test]
fn hoffman_has_no_circle_of_fewer_than_five_chains() {
    let graph = Graph::Hoffman;
    for a in graph.chains() {
        for b in graph.chains().filter(|b| *b != a) {
            let common = graph.neighbours(a).iter().filter(|next| graph.neighbours(b).contains(next)).count();
            let are_linked = graph.neighbours(a).contains(&b);
            assert_eq!(common, usize::from(!are_linked), "{a} {b}");
        }
    }
}

#[test]
fn a_shortest_path_is_linked_and_as_long_as_the_distance() {
    for graph in Graph::ALL {
        for from in graph.chains() {
            for to in graph.chains() {
                let path = graph.shortest_path(from, to).expect("chains of the graph");
                assert_eq!((path.first(), path.last()), (Some(&from), Some(&to)));
                assert_eq!(Some(path.len() as u32 - 1), graph.distance(from, to));
                assert!(path.windows(2).all(|link| graph.neighbours(link[0]).contains(&link[1])));
            }
        }
    }
    let chains = |numbers: [u32; 4]| Some(numbers.map(ChainId).to_vec());
    assert_eq!(
        Graph::Twenty.shortest_path(ChainId(1), ChainId(0)),
        chains([1, 11, 10, 0]),
        "as a node chose"
    );
}

#[test]
fn chains_that_a_graph_has_not_are_nowhere() {
    let (inside, outside) = (ChainId(0), ChainId(20));
    assert_eq!(Graph::Twenty.neighbours(outside), []);
    assert_eq!(Graph::Twenty.neighbours(ChainId(u32::MAX)), []);
    assert_eq!(Graph::Twenty.distance(inside, outside), None);
    assert_eq!(Graph::Twenty.distance(outside, inside), None);
    assert_eq!(Graph::Twenty.shortest_path(inside, outside), None);
    assert_eq!(Graph::Twenty.shortest_path(outside, outside), None);
}

#[test]
fn networks_are_found_by_name_and_code() {
    for (name, code, chains_at_genesis, has_pow) in [
        ("mainnet01", 5, 10, true),
        ("testnet04", 7, 10, true),
        ("testnet06", 8, 20, true),
        ("development", 2, 20, false),
        ("recap-development", 1, 10, true),
    ] {
        let version = Version::by_name(name).expect("a known network");
        assert_eq!(Version::by_code(code), Some(version));
        assert_eq!((version.graph_at(0).order(), version.has_pow), (chains_at_genesis, has_pow), "{name}");
        assert_eq!(version.latest_graph(), Graph::Twenty);
    }
    assert_eq!(Version::by_name("test-singleton"), None);
    assert_eq!(Version::by_code(0x8000_0000), None);
}

#[test]
fn adjacent_parents_follow_the_graph_of_the_parent_and_at_genesis_their_own() {
    let mainnet = Version::by_name("mainnet01").expect("known");
    assert_eq!(mainnet.adjacency_graph(ChainId(0), 852_054), Graph::Petersen);
    assert_eq!(mainnet.adjacency_graph(ChainId(0), 852_055), Graph::Twenty);
    assert_eq!(mainnet.adjacency_graph(ChainId(10), 852_054), Graph::Twenty);
    assert_eq!(mainnet.adjacency_graph(ChainId(0), 0), Graph::Petersen);
    assert_eq!(mainnet.genesis_height(ChainId(10)), Some(852_054));
    assert_eq!(mainnet.genesis_height(ChainId(20)), None);
}

#[test]
fn genesis_targets_are_those_of_the_registry() {
    let hex = |name, chain| {
        let version = Version::by_name(name).expect("known");
        format!("{:x}", version.genesis_era(ChainId(chain)).expect("a chain").genesis_target)
    };
    let max = "f".repeat(64);
    assert_eq!(hex("mainnet01", 9), max);
    assert_eq!(hex("mainnet01", 10), "000000000000cb73de4be95ba21db5b9178dd85974c194e3ee05717dd8afa830");
    assert_eq!(hex("testnet04", 0), max);
    assert_eq!(hex("testnet04", 19), "000000001b9bf15be43824bae4c4f17722572883f7b53ed2e8c6ba9596249235");
    assert_eq!(
        hex("recap-development", 10),
        "0000088f99632cadf39b0db7655be62cb7dbc84ebbd9a90e5b5756d3e7d9196c"
    );
    let hundred_thousandth = U256::MAX.checked_div(U256::from(100_000)).expect("not zero");
    for (name, chain) in [("recap-development", 0), ("development", 0), ("testnet06", 19)] {
        assert_eq!(hex(name, chain), format!("{hundred_thousandth:x}"), "{name}");
    }
}

#[test]
fn a_test_network_of_any_graph_begins_with_valid_genesis_blocks() {
    for graph in Graph::ALL {
        let version = Version::test(format!("test-{graph}"), 0x8000_0001, graph, 100_000);
        for chain in graph.chains() {
            let header = Header::genesis(&version, chain, Hash::default()).expect("a chain");
            assert_eq!(rules::check_alone(&header, &version), [], "{graph} {chain}");
            assert_eq!(header.encode().len() as u32, 210 + 36 * graph.degree());
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
        assert_eq!(Header::genesis(&version, ChainId(graph.order()), Hash::default()), None);
    }
}
