package killick.peers;

import java.time.Duration;
import java.util.Set;

import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Lets the first event of a name through, and drops the rest for at least {@link #KEPT}.
 *
 * <p>Time is cut into spans of that length; a name stands in the span of its first event. So two reads of a single key
 * find it, where a read of a range would have to open an iterator in each segment.
 */
final class Dedup extends ContextualProcessor<Bytes, byte[], Bytes, byte[]> {
    /** How long a name is known. */
    private static final Duration KEPT = Duration.ofHours(25);
    private static final String STORE = "seen";
    private static final byte[] SEEN = {1};

    private final Counts counts;
    private WindowStore<Bytes, byte[]> seen;

    private Dedup(Counts counts) {
        this.counts = counts;
    }

    static ProcessorSupplier<Bytes, byte[], Bytes, byte[]> supplier(Counts counts) {
        return new ProcessorSupplier<>() {
            @Override
            public Processor<Bytes, byte[], Bytes, byte[]> get() {
                return new Dedup(counts);
            }

            @Override
            public Set<StoreBuilder<?>> stores() {
                var store = Stores.persistentWindowStore(STORE, KEPT.multipliedBy(2), KEPT, false);
                // No cache: no key is written twice.
                return Set.of(Stores.windowStoreBuilder(store, Serdes.Bytes(), Serdes.ByteArray())
                        .withCachingDisabled());
            }
        };
    }

    @Override
    public void init(ProcessorContext<Bytes, byte[]> context) {
        super.init(context);
        seen = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<Bytes, byte[]> record) {
        long span = record.timestamp() - record.timestamp() % KEPT.toMillis();
        Bytes name = record.key();
        if (seen.fetch(name, span) != null || seen.fetch(name, span - KEPT.toMillis()) != null) {
            counts.duplicates.increment();
            return;
        }
        seen.put(name, SEEN, span);
        counts.unique.increment();
        context().forward(record);
    }
}
