//! As much of Kafka's protocol as it takes to find one request among others ("Kafka protocol guide": a request is four
//! bytes of length, then API key, API version, correlation id and the client's id).

use bytes::{Bytes, BytesMut};

/// The API key of `AddPartitionsToTxn`: with it a transaction begins to write.
pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
/// The API key of `AddOffsetsToTxn`: a transaction that only moves offsets begins with it.
pub const ADD_OFFSETS_TO_TXN: i16 = 25;
/// The API key of `EndTxn`.
pub const END_TXN: i16 = 26;

/// Bytes in the largest request that is waited for; brokers take no larger one (`socket.request.max.bytes`).
const MAX_REQUEST: usize = 100 << 20;

/// A request in the form in which it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// All its bytes, with the length in front.
    pub bytes: Bytes,
}

impl Request {
    /// Takes the first request off a buffer; `None` while it is not whole.
    ///
    /// What cannot be the beginning of a request is taken as it is: the broker will know what to do with it.
    pub fn take(buffer: &mut BytesMut) -> Option<Self> {
        let length = i32::from_be_bytes(*buffer.first_chunk()?);
        let whole = match usize::try_from(length) {
            Ok(length) if length <= MAX_REQUEST => length + 4,
            _ => buffer.len(),
        };
        (buffer.len() >= whole).then(|| Self { bytes: buffer.split_to(whole).freeze() })
    }

    /// What is asked for.
    pub fn api_key(&self) -> Option<i16> {
        self.bytes.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(i16::from_be_bytes)
    }

    /// The number that the answer will bear.
    pub fn correlation(&self) -> Option<[u8; 4]> {
        self.bytes.get(8..12).and_then(|bytes| bytes.try_into().ok())
    }

    /// Who asks, as it says itself.
    pub fn client(&self) -> Option<&str> {
        let length =
            self.bytes.get(12..14).and_then(|bytes| bytes.try_into().ok()).map(i16::from_be_bytes)?;
        let text = self.bytes.get(14..14 + usize::try_from(length).ok()?)?;
        std::str::from_utf8(text).ok()
    }
}

/// The error code in the answer to an `EndTxn` (versions 0 and 1: length, correlation id, throttle time, error code).
pub fn end_txn_error(answer: &[u8]) -> Option<i16> {
    answer.get(12..14).and_then(|bytes| bytes.try_into().ok()).map(i16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(api_key: i16, client: &str, body: &[u8]) -> Vec<u8> {
        let mut rest = Vec::new();
        rest.extend(api_key.to_be_bytes());
        rest.extend(1_i16.to_be_bytes());
        rest.extend(77_i32.to_be_bytes());
        rest.extend(i16::try_from(client.len()).unwrap().to_be_bytes());
        rest.extend(client.as_bytes());
        rest.extend(body);
        [&i32::try_from(rest.len()).unwrap().to_be_bytes()[..], &rest].concat()
    }

    #[test]
    fn requests_are_found_wherever_the_stream_is_cut() {
        let stream =
            [request(END_TXN, "dedup-a", b"body"), request(3, "", b""), request(0, "x", &[7; 300])].concat();
        for cut in 0..stream.len() {
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(request) = Request::take(&mut buffer) {
                    found.push(request);
                }
            }
            let keys: Vec<_> = found.iter().map(|request| request.api_key().unwrap()).collect();
            assert_eq!(keys, [END_TXN, 3, 0], "cut at {cut}");
            assert_eq!(found[0].client(), Some("dedup-a"));
            assert_eq!(found[0].correlation(), Some(77_i32.to_be_bytes()));
            assert_eq!(found.iter().map(|request| request.bytes.len()).sum::<usize>(), stream.len());
        }
    }

    #[test]
    fn what_is_no_request_passes_as_it_is() {
        for stream in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 9], &[0, 0, 0, 0], &[0, 0, 0, 3, 1, 2, 3]] {
            let mut buffer = BytesMut::from(stream);
            let request = Request::take(&mut buffer).unwrap();
            assert_eq!(request.bytes, stream);
            assert_eq!(
                (request.client(), request.correlation()),
                (None, stream.get(8..12).map(|four| four.try_into().unwrap()))
            );
        }
    }
}
