//! The floor: the least that an event's way must do, by hand, with the same libraries and nothing around it.
//!
//! For each event: decode its Avro datum, hash its payload, check its signature if it has one, look it up among the keys seen
//! before, hash its leaf; for each thousand the tree over them, and its audit path copied out for each.

use std::collections::HashSet;
use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use killick_stages::record::Record;
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

/// Events of a tree.
pub const TREE: usize = 1_000;

type Node = [u8; 32];

/// What is kept between two events.
#[derive(Default)]
pub struct Floor {
    seen: HashSet<u128, xxhash_rust::xxh3::Xxh3DefaultBuilder>,
    keys: Vec<([u8; 32], VerifyingKey)>,
    leaves: Vec<Node>,
    /// The tree, level by level.
    nodes: Vec<Node>,
    path: Vec<u8>,
    message: Vec<u8>,
}

impl Floor {
    /// Takes events in, in trees of [`TREE`] each; gives the roots.
    pub fn take(&mut self, events: &[Record]) -> Vec<Node> {
        let mut roots = Vec::with_capacity(events.len().div_ceil(TREE));
        for events in events.chunks(TREE) {
            self.leaves.clear();
            for event in events {
                self.event(&event.value);
            }
            self.build();
            for index in 0..self.leaves.len() {
                self.copy_path(index);
                black_box(&self.path);
            }
            roots.push(self.nodes.last().copied().unwrap_or_default());
        }
        roots
    }

    /// The same, made durable: each tree's events appended to a file and synchronised, and its root signed.
    pub fn take_durably(&mut self, events: &[Record], file: &mut File, key: &SigningKey) -> Result<()> {
        for events in events.chunks(TREE) {
            let mut bytes: Vec<u8> = events.iter().flat_map(|event| event.value.iter().copied()).collect();
            for root in self.take(events) {
                bytes.extend(key.sign(&root).to_bytes());
            }
            file.write_all(&bytes).and_then(|()| file.sync_data()).context("the floor's file")?;
        }
        Ok(())
    }

    fn event(&mut self, mut datum: &[u8]) {
        let from = &mut datum;
        let names = [bytes(from), bytes(from), bytes(from)];
        let time = long(from);
        let (kind, payload) = (bytes(from), bytes(from));
        let digest = Sha256::digest(payload);
        self.message.clear();
        for part in names.into_iter().chain([&time.to_be_bytes()[..], kind, &digest]) {
            self.message.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            self.message.extend_from_slice(part);
        }
        // Two unions: nothing, or the device's key and what it signed.
        if long(from) == 1 {
            let (key, rest) = from.split_at(32);
            let signature = Signature::from_slice(&rest[1..65]).expect("64 bytes");
            let key = self.key(key);
            // The message has another form than what was signed: what a check costs does not depend on how it ends.
            black_box(key.verify(&self.message, &signature)).ok();
        }
        self.seen.insert(black_box(xxh3_128(&self.message[..names.iter().map(|name| name.len() + 1).sum()])));
        let mut leaf = Sha256::new();
        leaf.update([0]);
        leaf.update(&self.message);
        self.leaves.push(leaf.finalize().into());
    }

    /// The key of a device, decoded once.
    fn key(&mut self, bytes: &[u8]) -> VerifyingKey {
        let bytes: [u8; 32] = bytes.try_into().expect("32 bytes");
        if let Some((_, key)) = self.keys.iter().find(|(known, _)| *known == bytes) {
            return *key;
        }
        let key = VerifyingKey::from_bytes(&bytes).expect("the key of a device");
        self.keys.push((bytes, key));
        key
    }

    fn build(&mut self) {
        self.nodes.clear();
        self.nodes.extend_from_slice(&self.leaves);
        let (mut start, mut len) = (0, self.leaves.len());
        while len > 1 {
            for at in (start..start + len).step_by(2) {
                let node = if at + 1 < start + len {
                    let mut pair = [1; 65];
                    pair[1..33].copy_from_slice(&self.nodes[at]);
                    pair[33..].copy_from_slice(&self.nodes[at + 1]);
                    Sha256::digest(pair).into()
                } else {
                    self.nodes[at]
                };
                self.nodes.push(node);
            }
            (start, len) = (start + len, len.div_ceil(2));
        }
    }

    fn copy_path(&mut self, mut index: usize) {
        self.path.clear();
        let (mut start, mut len) = (0, self.leaves.len());
        while len > 1 {
            if index ^ 1 < len {
                self.path.extend_from_slice(&self.nodes[start + (index ^ 1)]);
            }
            (start, len, index) = (start + len, len.div_ceil(2), index / 2);
        }
    }
}

/// A zigzag number of Avro.
fn long(from: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = from[0];
        *from = &from[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
        }
        shift += 7;
    }
}

fn bytes<'d>(from: &mut &'d [u8]) -> &'d [u8] {
    let len = usize::try_from(long(from)).expect("a length");
    let (bytes, rest) = from.split_at(len);
    *from = rest;
    bytes
}
