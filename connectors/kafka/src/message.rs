//! Records as librdkafka has them.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::Arc;

use bytes::Bytes;
use killick_stages::record::{Header, Output, Partition, Record};
use rdkafka::bindings;
use rdkafka::message::{BorrowedMessage, Header as KafkaHeader, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::util::IntoOpaque;

use crate::client::number;
use crate::leftover::{MARK, Mark};

/// A record that was read, without the mark of its transaction.
pub fn record(message: &BorrowedMessage<'_>, partition: Partition) -> Record {
    let bytes = |bytes: Option<&[u8]>| bytes.map_or_else(Bytes::new, Bytes::copy_from_slice);
    Record {
        partition,
        // Offsets of records begin at 0.
        offset: u64::try_from(message.offset()).unwrap_or_default(),
        append_time: message.timestamp().to_millis().unwrap_or_default().saturating_mul(1_000),
        key: bytes(message.key()),
        value: bytes(message.payload()),
        headers: headers(message).filter(|header| &*header.name != MARK).collect(),
    }
}

/// The mark of its transaction, if it has one.
pub fn mark(message: &BorrowedMessage<'_>) -> Option<Mark> {
    headers(message)
        .filter(|header| &*header.name == MARK)
        .last()
        .and_then(|header| Mark::parse(&header.value))
}

/// The headers of a message. Names that are not UTF-8 get U+FFFD for what cannot be read: the safe way to them panics on
/// such a name, and anyone who may write to an input topic can send one.
#[allow(unsafe_code, reason = "rdkafka's own reading of headers panics on names that are not UTF-8")]
fn headers(message: &BorrowedMessage<'_>) -> impl Iterator<Item = Header> {
    let mut list = ptr::null_mut();
    let mut found = Vec::new();
    // SAFETY: the message lives as long as its borrow, and its headers, names and values as long as the message; all of
    // them are copied before this returns. Names end in a zero byte, as librdkafka promises.
    unsafe {
        if bindings::rd_kafka_message_headers(message.ptr(), &mut list)
            != bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return found.into_iter();
        }
        for index in 0..bindings::rd_kafka_header_cnt(list) {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null::<c_void>(), 0_usize);
            let error = bindings::rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut size);
            if error != bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                break;
            }
            let name: Arc<str> = CStr::from_ptr(name).to_string_lossy().into();
            let value = if value.is_null() || size == 0 {
                Bytes::new()
            } else {
                Bytes::copy_from_slice(std::slice::from_raw_parts(value.cast::<u8>(), size))
            };
            found.push(Header { name, value });
        }
    }
    found.into_iter()
}

/// A record to be written; an empty key or value is none. `mark` is that of its transaction.
pub fn to_send<'a, D: IntoOpaque>(
    output: &'a Output,
    mark: Option<&str>,
    topic: &'a str,
    opaque: D,
) -> BaseRecord<'a, [u8], [u8], D> {
    let mut record: BaseRecord<'a, [u8], [u8], D> =
        BaseRecord::with_opaque_to(topic, opaque).partition(number(&output.partition));
    if !output.key.is_empty() {
        record = record.key(&output.key[..]);
    }
    if !output.value.is_empty() {
        record = record.payload(&output.value[..]);
    }
    if !output.headers.is_empty() || mark.is_some() {
        let mut headers = OwnedHeaders::new_with_capacity(output.headers.len() + 1);
        for header in &output.headers {
            headers = headers.insert(KafkaHeader { key: &header.name, value: Some(&*header.value) });
        }
        if let Some(mark) = mark {
            headers = headers.insert(KafkaHeader { key: MARK, value: Some(mark) });
        }
        record = record.headers(headers);
    }
    record
}

/// Bytes of a record as limits count them.
pub fn size(output: &Output) -> usize {
    let headers: usize =
        output.headers.iter().map(|header| header.name.len() + header.value.len() + 10).sum();
    output.key.len() + output.value.len() + headers + 64
}
