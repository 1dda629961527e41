//! Lines of any input, each with its own end, none longer than a bound.

use std::io::{self, BufRead, BufReader, Read};

/// Bytes in the longest line or row that is read.
pub const MAX_LINE: usize = 1 << 20;

/// Bytes of a longer line that are kept to show what it was.
const KEPT: usize = 4 << 10;

/// One line, with its end if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line within the bound.
    Whole(Vec<u8>),
    /// A longer one, that was passed over: its beginning, and its length in bytes.
    TooLong(Vec<u8>, u64),
}

/// Reads lines one by one; holds one of them.
pub struct Lines<R> {
    inner: BufReader<R>,
    first: bool,
    /// Bytes of the last line, within the bound: the next is likely to be as long.
    last: usize,
}

impl<R: Read> Lines<R> {
    /// The lines of `inner`. A byte order mark at its beginning belongs to none.
    pub fn new(inner: R) -> Self {
        Self { inner: BufReader::with_capacity(256 << 10, inner), first: true, last: 0 }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// The input cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::with_capacity(self.last);
        let bound = MAX_LINE as u64 + 1;
        (&mut self.inner).take(bound).read_until(b'\n', &mut line)?;
        if std::mem::take(&mut self.first) && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(..3);
        }
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() <= MAX_LINE || line.ends_with(b"\n") {
            self.last = line.len();
            return Ok(Some(Line::Whole(line)));
        }
        let mut length = line.len() as u64;
        line.truncate(KEPT);
        line.shrink_to_fit();
        loop {
            let buffer = self.inner.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let passed = end.map_or(buffer.len(), |end| end + 1);
            let done = end.is_some() || buffer.is_empty();
            self.inner.consume(passed);
            length += passed as u64;
            if done {
                return Ok(Some(Line::TooLong(line, length)));
            }
        }
    }
}

/// A line without its end: `\n` or `\r\n`.
pub fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<Line> {
        let mut lines = Lines::new(input);
        std::iter::from_fn(|| lines.next_line().unwrap()).collect()
    }

    #[test]
    fn lines_keep_their_ends_and_the_last_needs_none() {
        let lines = all(b"\xef\xbb\xbfa\r\n\nb");
        assert_eq!(lines, [&b"a\r\n"[..], b"\n", b"b"].map(|line| Line::Whole(line.to_vec())));
        assert_eq!(without_end(b"a\r\n"), b"a");
        assert_eq!(without_end(b"a\n"), b"a");
        assert_eq!(without_end(b"a"), b"a");
    }

    #[test]
    fn a_line_beyond_the_bound_is_passed_over_and_the_next_is_read() {
        for beyond in [1, 10, 1 << 20] {
            let mut input = vec![b'x'; MAX_LINE + beyond];
            input.extend_from_slice(b"\nnext\n");
            let lines = all(&input);
            assert_eq!(lines[0], Line::TooLong(vec![b'x'; KEPT], (MAX_LINE + beyond + 1) as u64));
            assert_eq!(lines[1], Line::Whole(b"next\n".to_vec()));
        }
    }

    #[test]
    fn a_line_of_just_the_bound_is_whole() {
        let input = [vec![b'x'; MAX_LINE], b"\n".to_vec()].concat();
        assert_eq!(all(&input), [Line::Whole(input.clone())]);
        assert_eq!(all(&input[..MAX_LINE]), [Line::Whole(input[..MAX_LINE].to_vec())]);
    }
}
