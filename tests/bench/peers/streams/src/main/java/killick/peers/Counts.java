package killick.peers;

import java.util.concurrent.atomic.LongAdder;

/** What the threads did. A task that is done again counts again. */
final class Counts {
    final LongAdder malformed = new LongAdder();
    final LongAdder duplicates = new LongAdder();
    final LongAdder unique = new LongAdder();
    final LongAdder batched = new LongAdder();
    final LongAdder batches = new LongAdder();

    /** Events that need nothing more. */
    long through() {
        return malformed.sum() + duplicates.sum() + batched.sum();
    }

    @Override
    public String toString() {
        return String.format("\"unique\":%d,\"duplicates\":%d,\"malformed\":%d,\"batches\":%d", unique.sum(),
                duplicates.sum(), malformed.sum(), batches.sum());
    }
}
