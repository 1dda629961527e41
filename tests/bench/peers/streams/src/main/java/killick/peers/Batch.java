package killick.peers;

import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Puts events into batches, by count and by log time: one record each, with the number of the batch, how many events, the
 * SHA-256 over them, and the events.
 *
 * <p>Commits come while a batch is open, so its events are state: each in a place of its own, which the next batch writes
 * over, so that nothing need be deleted. The number of the batch stands in front of each: what has another is old.
 */
final class Batch extends ContextualProcessor<Bytes, byte[], Bytes, byte[]> {
    /** Events in a batch, at most. */
    private static final int MOST = 1_024;
    /** How long a batch stays open. */
    private static final Duration WIDTH = Duration.ofMillis(100);
    private static final String STORE = "open";
    /** The place of the number of the open batch. */
    private static final int NUMBER = -1;

    private final Counts counts;
    private final MessageDigest sha256 = Decode.sha256();
    private KeyValueStore<Integer, byte[]> store;
    private final List<byte[]> open = new ArrayList<>(MOST);
    private int bytes;
    private long number;
    private long begunInLog;
    private long begun;

    private Batch(Counts counts) {
        this.counts = counts;
    }

    static ProcessorSupplier<Bytes, byte[], Bytes, byte[]> supplier(Counts counts) {
        return new ProcessorSupplier<>() {
            @Override
            public Processor<Bytes, byte[], Bytes, byte[]> get() {
                return new Batch(counts);
            }

            @Override
            public Set<StoreBuilder<?>> stores() {
                // At most a batch of each partition: it need not be on disk, and its changelog brings it back.
                return Set.of(Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(STORE), Serdes.Integer(),
                        Serdes.ByteArray()));
            }
        };
    }

    @Override
    public void init(ProcessorContext<Bytes, byte[]> context) {
        super.init(context);
        store = context.getStateStore(STORE);
        byte[] last = store.get(NUMBER);
        number = last == null ? 0 : ByteBuffer.wrap(last).getLong();
        for (int place = 0; place < MOST; place++) {
            byte[] entry = store.get(place);
            if (entry == null || ByteBuffer.wrap(entry).getLong() != number) {
                break;
            }
            hold(entry);
        }
        begun = context.currentSystemTimeMs();
        begunInLog = context.currentStreamTimeMs();
        context.schedule(WIDTH.dividedBy(2), PunctuationType.WALL_CLOCK_TIME, now -> {
            if (!open.isEmpty() && now - begun >= WIDTH.toMillis()) {
                close(now);
            }
        });
    }

    @Override
    public void process(Record<Bytes, byte[]> record) {
        if (!open.isEmpty() && record.timestamp() - begunInLog >= WIDTH.toMillis()) {
            close(record.timestamp());
        }
        if (open.isEmpty()) {
            begun = context().currentSystemTimeMs();
            begunInLog = record.timestamp();
        }
        byte[] name = record.key().get();
        byte[] entry = ByteBuffer.allocate(8 + name.length + record.value().length)
                .putLong(number).put(name).put(record.value()).array();
        store.put(open.size(), entry);
        hold(entry);
        if (open.size() == MOST) {
            close(record.timestamp());
        }
    }

    private void hold(byte[] entry) {
        open.add(entry);
        bytes += entry.length - 8;
    }

    private void close(long time) {
        byte[] batch = new byte[8 + 4 + 32 + bytes];
        int at = 44;
        for (byte[] entry : open) {
            System.arraycopy(entry, 8, batch, at, entry.length - 8);
            at += entry.length - 8;
        }
        sha256.update(batch, 44, bytes);
        ByteBuffer.wrap(batch).putLong(number).putInt(open.size()).put(sha256.digest());
        context().forward(new Record<>(null, batch, time));
        counts.batched.add(open.size());
        counts.batches.increment();
        number++;
        store.put(NUMBER, ByteBuffer.allocate(8).putLong(number).array());
        open.clear();
        bytes = 0;
    }
}
