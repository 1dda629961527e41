//! The graphs that braid chains together: undirected, regular, of small diameter.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of a chain within a network, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub u32);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One of the graphs that networks use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Graph {
    /// One chain.
    Singleton,
    /// Two chains, linked.
    Pair,
    /// Three chains, each linked with each.
    Triangle,
    /// Ten chains, degree 3, diameter 2.
    Petersen,
    /// Twenty chains, degree 3, diameter 3.
    Twenty,
    /// Fifty chains, degree 7, diameter 2.
    Hoffman,
}

impl Graph {
    /// All graphs, by ascending order.
    pub const ALL: [Self; 6] =
        [Self::Singleton, Self::Pair, Self::Triangle, Self::Petersen, Self::Twenty, Self::Hoffman];

    /// The text name, such as `twenty`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Singleton => "singleton",
            Self::Pair => "pair",
            Self::Triangle => "triangle",
            Self::Petersen => "petersen",
            Self::Twenty => "twenty",
            Self::Hoffman => "hoffman",
        }
    }

    /// The graph with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|graph| graph.name() == name)
    }

    /// The number of chains.
    pub const fn order(self) -> u32 {
        match self {
            Self::Singleton => 1,
            Self::Pair => 2,
            Self::Triangle => 3,
            Self::Petersen => 10,
            Self::Twenty => 20,
            Self::Hoffman => 50,
        }
    }

    /// The number of neighbours of every chain.
    pub const fn degree(self) -> u32 {
        match self {
            Self::Singleton => 0,
            Self::Pair => 1,
            Self::Triangle => 2,
            Self::Petersen | Self::Twenty => 3,
            Self::Hoffman => 7,
        }
    }

    /// The longest distance between two chains.
    pub const fn diameter(self) -> u32 {
        match self {
            Self::Singleton => 0,
            Self::Pair | Self::Triangle => 1,
            Self::Petersen | Self::Hoffman => 2,
            Self::Twenty => 3,
        }
    }

    /// Whether the graph has this chain.
    pub const fn contains(self, chain: ChainId) -> bool {
        chain.0 < self.order()
    }

    /// All chains, ascending.
    pub fn chains(self) -> impl DoubleEndedIterator<Item = ChainId> + ExactSizeIterator + Clone {
        (0..self.order()).map(ChainId)
    }

    /// The neighbours of a chain, ascending; none for a chain that the graph has not.
    pub fn neighbours(self, chain: ChainId) -> &'static [ChainId] {
        const fn row<const N: usize, const D: usize>(
            rows: &'static [[ChainId; D]; N],
            chain: ChainId,
        ) -> &'static [ChainId] {
            if (chain.0 as usize) < N { &rows[chain.0 as usize] } else { &[] }
        }
        match self {
            Self::Singleton => &[],
            Self::Pair => row(&PAIR, chain),
            Self::Triangle => row(&TRIANGLE, chain),
            Self::Petersen => row(&PETERSEN, chain),
            Self::Twenty => row(&TWENTY, chain),
            Self::Hoffman => row(&HOFFMAN, chain),
        }
    }

    /// The number of links on a shortest path; `None` for a chain that the graph has not.
    pub fn distance(self, from: ChainId, to: ChainId) -> Option<u32> {
        self.contains(from).then(|| self.distances(to))?.get(from.0 as usize).copied()
    }

    /// A shortest path with both ends; `None` for a chain that the graph has not.
    ///
    /// Of several it is the one that takes the lowest chain at each step.
    pub fn shortest_path(self, from: ChainId, to: ChainId) -> Option<Vec<ChainId>> {
        if !self.contains(from) || !self.contains(to) {
            return None;
        }
        let distances = self.distances(to);
        let mut path = vec![from];
        let mut at = from;
        while at != to {
            let closer = |next: &&ChainId| distances[next.0 as usize] + 1 == distances[at.0 as usize];
            at = *self.neighbours(at).iter().find(closer)?;
            path.push(at);
        }
        Some(path)
    }

    /// The distance of every chain to `to`, by breadth first search; empty for an unknown chain.
    fn distances(self, to: ChainId) -> Vec<u32> {
        if !self.contains(to) {
            return Vec::new();
        }
        let mut distances = vec![u32::MAX; self.order() as usize];
        distances[to.0 as usize] = 0;
        let mut queue = VecDeque::from([to]);
        while let Some(chain) = queue.pop_front() {
            for next in self.neighbours(chain) {
                if distances[next.0 as usize] == u32::MAX {
                    distances[next.0 as usize] = distances[chain.0 as usize] + 1;
                    queue.push_back(*next);
                }
            }
        }
        distances
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const fn rows<const N: usize, const D: usize>(numbers: [[u32; D]; N]) -> [[ChainId; D]; N] {
    let mut rows = [[ChainId(0); D]; N];
    let mut i = 0;
    while i < N {
        let mut j = 0;
        while j < D {
            rows[i][j] = ChainId(numbers[i][j]);
            j += 1;
        }
        i += 1;
    }
    rows
}

static PAIR: [[ChainId; 1]; 2] = rows([[1], [0]]);
static TRIANGLE: [[ChainId; 2]; 3] = rows([[1, 2], [0, 2], [0, 1]]);

#[rustfmt::skip]
static PETERSEN: [[ChainId; 3]; 10] = rows([
    [2, 3, 5], [3, 4, 6], [0, 4, 7], [0, 1, 8], [1, 2, 9],
    [0, 6, 9], [1, 5, 7], [2, 6, 8], [3, 7, 9], [4, 5, 8],
]);

#[rustfmt::skip]
static TWENTY: [[ChainId; 3]; 20] = rows([
    [5, 10, 15], [6, 11, 16], [7, 12, 17], [8, 13, 18], [9, 14, 19],
    [0, 7, 8], [1, 8, 9], [2, 5, 9], [3, 5, 6], [4, 6, 7],
    [0, 11, 19], [1, 10, 12], [2, 11, 13], [3, 12, 14], [4, 13, 15],
    [0, 14, 16], [1, 15, 17], [2, 16, 18], [3, 17, 19], [4, 10, 18],
]);

static HOFFMAN: [[ChainId; 7]; 50] = hoffman();

/// The Hoffman-Singleton graph by Robertson's rule: five pentagrams on 0 to 24, five pentagons on 25 to 49, and
/// place `j` of pentagon `h` linked with place `h·i + j mod 5` of every pentagram `i`.
const fn hoffman() -> [[ChainId; 7]; 50] {
    let mut is_linked = [[false; 50]; 50];
    let mut h = 0;
    while h < 5 {
        let mut j = 0;
        while j < 5 {
            let (pentagram, pentagon) = (5 * h + j, 25 + 5 * h + j);
            let (skip_one, next) = (5 * h + (j + 2) % 5, 25 + 5 * h + (j + 1) % 5);
            (is_linked[pentagram][skip_one], is_linked[skip_one][pentagram]) = (true, true);
            (is_linked[pentagon][next], is_linked[next][pentagon]) = (true, true);
            let mut i = 0;
            while i < 5 {
                let across = 5 * i + (h * i + j) % 5;
                (is_linked[pentagon][across], is_linked[across][pentagon]) = (true, true);
                i += 1;
            }
            j += 1;
        }
        h += 1;
    }
    let mut rows = [[ChainId(0); 7]; 50];
    let mut from = 0;
    while from < 50 {
        let (mut to, mut count) = (0, 0);
        while to < 50 {
            if is_linked[from][to] {
                rows[from][count] = ChainId(to as u32);
                count += 1;
            }
            to += 1;
        }
        from += 1;
    }
    rows
}
