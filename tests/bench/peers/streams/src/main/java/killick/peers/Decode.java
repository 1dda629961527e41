package killick.peers;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;

import killick.v1.Event;
import org.apache.avro.AvroRuntimeException;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.specific.SpecificDatumReader;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;

/**
 * Decodes an event. The key becomes its name (tenant, source and id, each behind its length), the value what else of it is
 * put into a batch: time, SHA-256 of the payload, type.
 */
final class Decode extends ContextualProcessor<byte[], byte[], Bytes, byte[]> {
    private final Counts counts;
    private final SpecificDatumReader<Event> reader = new SpecificDatumReader<>(Event.class);
    private final MessageDigest sha256 = sha256();
    private BinaryDecoder decoder;
    private Event event;

    Decode(Counts counts) {
        this.counts = counts;
        // Readers that are built once for a schema.
        reader.getData().setFastReaderEnabled(true);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        try {
            decoder = DecoderFactory.get().binaryDecoder(record.value(), decoder);
            event = reader.read(event, decoder);
            if (!decoder.isEnd()) {
                throw new IOException("bytes behind the event");
            }
        } catch (IOException | AvroRuntimeException | IndexOutOfBoundsException wrong) {
            counts.malformed.increment();
            return;
        }
        context().forward(record.withKey(name()).withValue(value()));
    }

    private Bytes name() {
        byte[] bytes = new byte[6 + length(event.getTenant()) + length(event.getSource()) + length(event.getId())];
        var name = ByteBuffer.wrap(bytes);
        put(name, event.getTenant());
        put(name, event.getSource());
        put(name, event.getId());
        return Bytes.wrap(bytes);
    }

    private byte[] value() {
        sha256.update(event.getPayload());
        Instant time = event.getTime();
        byte[] bytes = new byte[8 + 32 + 2 + length(event.getType())];
        var value = ByteBuffer.wrap(bytes);
        value.putLong(time.getEpochSecond() * 1_000_000 + time.getNano() / 1_000);
        value.put(sha256.digest());
        put(value, event.getType());
        return bytes;
    }

    private static int length(CharSequence text) {
        return ((Utf8) text).getByteLength();
    }

    private static void put(ByteBuffer to, CharSequence text) {
        var bytes = (Utf8) text;
        to.putShort((short) bytes.getByteLength()).put(bytes.getBytes(), 0, bytes.getByteLength());
    }

    static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException never) {
            throw new IllegalStateException(never);
        }
    }
}
