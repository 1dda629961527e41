//! One item of any kind: well-formedness (RFC 8949 section 5.3.1) and determinism (section 4.2.1).

use std::cmp::Ordering;

use super::{CborError, CborFault, Head};

/// A well-formed item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it ends.
    pub end: usize,
    /// The first breach of the deterministic encoding rules; `None` for an item that keeps them.
    /// Whether texts are UTF-8 is not looked at.
    pub breach: Option<CborError>,
}

/// Walks the item that begins at byte `start` of `input`, at most `max_depth` containers and tags deep.
///
/// Keeps one small frame for each level that is open: no recursion, and memory bounded by `max_depth`.
///
/// # Errors
/// [`CborError`] for an item that is not well formed or nested deeper.
pub fn scan(input: &[u8], start: usize, max_depth: usize) -> Result<Item, CborError> {
    let mut walk = Walk { input, at: start, open: Vec::new(), breach: None };
    loop {
        let item = walk.at;
        let ended = match walk.step(max_depth)? {
            Step::Opened => None,
            Step::Ended(start) => Some(start.unwrap_or(item)),
        };
        if let Some(start) = ended
            && walk.close(start)
        {
            return Ok(Item { end: walk.at, breach: walk.breach });
        }
    }
}

enum Step {
    /// A container that waits for its content.
    Opened,
    /// An item has ended; it began at the byte given, or (`None`) with this step.
    Ended(Option<usize>),
}

/// An item that still waits for items inside it.
struct Open {
    start: usize,
    holds: Holds,
    /// Items that still have to come; `None`: until a break.
    left: Option<u64>,
    /// Whether the next item of a map is a key.
    is_key_next: bool,
    /// Where the last key of a map began and ended.
    last_key: Option<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Items,
    Pairs,
    /// Definite strings of this major type.
    Chunks(u8),
}

struct Walk<'a> {
    input: &'a [u8],
    at: usize,
    open: Vec<Open>,
    breach: Option<CborError>,
}

impl Walk<'_> {
    /// Reads one head, and the string behind it.
    fn step(&mut self, max_depth: usize) -> Result<Step, CborError> {
        let at = self.at;
        let head = Head::read(self.input, at)?;
        let major = head.first >> 5;
        if let Some(Open { holds: Holds::Chunks(chunk), .. }) = self.open.last()
            && head.first != BREAK
            && (major != *chunk || head.number.is_none())
        {
            return Err(CborFault::Broken.at(at));
        }
        self.at = head.end;
        if major == 7 {
            return self.simple_or_float(at, &head);
        }
        if !head.is_shortest {
            self.breached(CborFault::NotShortest, at);
        }
        if head.number.is_none() {
            self.breached(CborFault::Indefinite, at);
        }
        let (holds, left) = match (major, head.number) {
            (0 | 1, _) => return Ok(Step::Ended(None)),
            (2 | 3, Some(length)) => {
                self.pass(length, at)?;
                return Ok(Step::Ended(None));
            }
            (4 | 5, Some(0)) => return Ok(Step::Ended(None)),
            (2 | 3, None) => (Holds::Chunks(major), None),
            (4, left) => (Holds::Items, left),
            (5, Some(pairs)) => (Holds::Pairs, Some(pairs.checked_mul(2).ok_or(CborFault::End.at(at))?)),
            (5, None) => (Holds::Pairs, None),
            (_, _) => (Holds::Items, Some(1)), // a tag
        };
        if self.open.len() == max_depth {
            return Err(CborFault::TooDeep.at(at));
        }
        // Each item takes a byte or more: a length beyond the input is known to be wrong before its content is read.
        if left.is_some_and(|left| left > (self.input.len() - self.at) as u64) {
            return Err(CborFault::End.at(at));
        }
        self.open.push(Open { start: at, holds, left, is_key_next: holds == Holds::Pairs, last_key: None });
        Ok(Step::Opened)
    }

    fn simple_or_float(&mut self, at: usize, head: &Head) -> Result<Step, CborError> {
        let number = head.number.unwrap_or_default();
        match head.first {
            BREAK => {
                let is_due =
                    |open: &Open| open.left.is_none() && (open.holds != Holds::Pairs || open.is_key_next);
                let ended = self.open.pop_if(|open| is_due(open)).ok_or(CborFault::Broken.at(at))?;
                return Ok(Step::Ended(Some(ended.start)));
            }
            0xf8 if number < 32 => return Err(CborFault::Reserved.at(at)),
            0xfa if is_half(number) => self.breached(CborFault::NotShortest, at),
            0xfb if is_single(number) => self.breached(CborFault::NotShortest, at),
            _ => {}
        }
        Ok(Step::Ended(None))
    }

    /// Counts an ended item in what holds it, and what ends with it in turn. Says whether the outermost has ended.
    fn close(&mut self, mut start: usize) -> bool {
        loop {
            let end = self.at;
            let Some(open) = self.open.last_mut() else { return true };
            let mut breach = None;
            if open.holds == Holds::Pairs {
                if open.is_key_next {
                    if let Some((last_start, last_end)) = open.last_key {
                        breach = match self.input[last_start..last_end].cmp(&self.input[start..end]) {
                            Ordering::Less => None,
                            Ordering::Equal => Some(CborFault::DuplicateKey),
                            Ordering::Greater => Some(CborFault::KeyOrder),
                        };
                    }
                    open.last_key = Some((start, end));
                }
                open.is_key_next = !open.is_key_next;
            }
            let left = open.left.map(|left| left - 1);
            open.left = left;
            let holder_start = open.start;
            if let Some(breach) = breach {
                self.breached(breach, start);
            }
            if left != Some(0) {
                return false;
            }
            self.open.pop();
            start = holder_start;
        }
    }

    fn pass(&mut self, length: u64, at: usize) -> Result<(), CborError> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        self.at = end.filter(|&end| end <= self.input.len()).ok_or(CborFault::End.at(at))?;
        Ok(())
    }

    fn breached(&mut self, fault: CborFault, at: usize) {
        self.breach.get_or_insert(fault.at(at));
    }
}

const BREAK: u8 = 0xff;

/// Whether a double, by its bits, is also a single: the same value, or a NaN with the same payload.
fn is_single(bits: u64) -> bool {
    let value = f64::from_bits(bits);
    #[expect(clippy::cast_possible_truncation, reason = "whether it loses something is the question")]
    let narrowed = f64::from(value as f32);
    if value.is_nan() { bits.trailing_zeros() >= 29 } else { narrowed.to_bits() == bits }
}

/// Whether a single, by its 32 bits, is also a half.
fn is_half(bits: u64) -> bool {
    let fraction = bits & 0x7f_ffff;
    let exponent = (bits >> 23) & 0xff;
    match exponent {
        0 => fraction == 0,
        // Below the normal halves: a multiple of 2^-24, so the full fraction ends in that many zeros.
        103..=112 => u64::from((fraction | 0x80_0000).trailing_zeros()) >= 126 - exponent,
        113..=142 | 255 => fraction.trailing_zeros() >= 13,
        _ => false,
    }
}
