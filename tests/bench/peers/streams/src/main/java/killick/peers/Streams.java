package killick.peers;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.function.Predicate;
import java.util.stream.Collectors;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;

/**
 * What ingest, dedup and batch do, as a Kafka Streams program: events are decoded, shared out by their names, let through
 * once, and put into batches, exactly once. It works off what the input has at its start, and ends.
 */
public final class Streams {
    private static final String HELP = """
            usage: Streams --brokers LIST --input TOPIC --output TOPIC --id ID --state DIR [--threads N] [--keyed]

              --brokers LIST   host:port, with commas between them
              --input TOPIC    events: Avro data of schemas/avro/event.avsc
              --output TOPIC   for the batches; it exists
              --id ID          application.id: the group, and the beginning of the names of its inner topics
              --state DIR      for RocksDB
              --threads N      stream threads (default 2)
              --keyed          the input is partitioned by the events' names already: no topic between decode and dedup

            Says "ready" on standard output when its threads have their partitions, "half" when half of the input is through,
            and "done", with what it counted as JSON, when all of it is committed.
            """;
    /** Between two looks at what is committed. */
    private static final long LOOK_MILLIS = 20;
    /** Between two commits. */
    private static final int COMMIT_MILLIS = 100;

    private Streams() {}

    public static void main(String[] arguments) throws Exception {
        if (List.of(arguments).contains("--help")) {
            System.out.print(HELP);
            return;
        }
        try {
            run(Options.parse(arguments));
        } catch (IllegalArgumentException wrong) {
            System.err.println("Streams: " + wrong.getMessage() + "; see --help");
            System.exit(2);
        }
        // Clients that are slow to close hold nobody up: all is committed.
        System.exit(0);
    }

    private static void run(Options options) throws Exception {
        var common = Map.<String, Object>of("bootstrap.servers", options.brokers());
        try (var admin = Admin.create(common)) {
            Map<TopicPartition, Long> ends = ends(admin, Set.of(options.input()));
            long wanted = ends.values().stream().mapToLong(Long::longValue).sum()
                    - offsets(admin, Set.of(options.input()), OffsetSpec.earliest()).values().stream()
                            .mapToLong(Long::longValue).sum();
            var counts = new Counts();
            var ready = new CountDownLatch(1);
            try (var streams = new KafkaStreams(topology(options, ends.size(), counts).build(), settings(options))) {
                streams.setUncaughtExceptionHandler(failure -> {
                    System.err.println("Streams: " + failure);
                    Runtime.getRuntime().halt(1);
                    return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
                });
                streams.setStateListener((now, before) -> {
                    if (now == KafkaStreams.State.RUNNING) {
                        ready.countDown();
                    }
                });
                streams.start();
                ready.await();
                say("ready");
                long since = System.nanoTime();
                await(() -> counts.through() >= wanted / 2);
                say("half");
                await(() -> counts.through() >= wanted);
                // What is counted may not be committed yet.
                await(() -> isCommitted(admin, options.id(), ends));
                String inner = options.id() + "-accepted-repartition";
                if (!options.keyed()) {
                    Map<TopicPartition, Long> innerEnds = ends(admin, Set.of(inner));
                    await(() -> isCommitted(admin, options.id(), innerEnds));
                }
                long end = System.nanoTime();
                // A batch that was cut by the clock, after the last event, goes with the next commit.
                Thread.sleep(2 * COMMIT_MILLIS);
                say(String.format("done {%s,\"seconds\":%.3f}", counts, (end - since) / 1e9));
                streams.close(Duration.ofSeconds(30));
            }
        }
    }

    /** The topology. */
    private static StreamsBuilder topology(Options options, int partitions, Counts counts) {
        var builder = new StreamsBuilder();
        KStream<Bytes, byte[]> accepted = builder
                .stream(options.input(), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
                .process(() -> new Decode(counts));
        if (!options.keyed()) {
            accepted = accepted.repartition(Repartitioned.with(Serdes.Bytes(), Serdes.ByteArray())
                    .withName("accepted").withNumberOfPartitions(partitions));
        }
        accepted.process(Dedup.supplier(counts))
                .process(Batch.supplier(counts))
                .to(options.output(), Produced.with(Serdes.Bytes(), Serdes.ByteArray()));
        return builder;
    }

    /** The settings: what is not here is at its default. */
    private static Properties settings(Options options) {
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, options.id());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.brokers());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, options.state().toString());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, options.threads());
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, COMMIT_MILLIS);
        settings.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 100);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 512 << 10);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64L << 20);
        return settings;
    }

    private static boolean isCommitted(Admin admin, String group, Map<TopicPartition, Long> ends)
            throws ExecutionException, InterruptedException {
        var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        Predicate<Map.Entry<TopicPartition, Long>> isThrough = end -> end.getValue() == 0
                || committed.get(end.getKey()) != null && committed.get(end.getKey()).offset() >= end.getValue();
        return ends.entrySet().stream().allMatch(isThrough);
    }

    private static Map<TopicPartition, Long> ends(Admin admin, Set<String> topics)
            throws ExecutionException, InterruptedException {
        return offsets(admin, topics, OffsetSpec.latest());
    }

    private static Map<TopicPartition, Long> offsets(Admin admin, Set<String> topics, OffsetSpec which)
            throws ExecutionException, InterruptedException {
        var wanted = new HashMap<TopicPartition, OffsetSpec>();
        for (TopicDescription topic : admin.describeTopics(topics).allTopicNames().get().values()) {
            topic.partitions().forEach(part -> wanted.put(new TopicPartition(topic.name(), part.partition()), which));
        }
        Map<TopicPartition, ListOffsetsResultInfo> found = admin.listOffsets(wanted).all().get();
        return found.entrySet().stream()
                .collect(Collectors.toMap(Map.Entry::getKey, entry -> entry.getValue().offset()));
    }

    private interface Condition {
        boolean holds() throws ExecutionException, InterruptedException;
    }

    private static void await(Condition condition) throws ExecutionException, InterruptedException {
        while (!condition.holds()) {
            Thread.sleep(LOOK_MILLIS);
        }
    }

    private static void say(String what) {
        System.out.println(what);
        System.out.flush();
    }

    /** What it is told to do. */
    private record Options(String brokers, String input, String output, String id, Path state, int threads,
            boolean keyed) {

        static Options parse(String[] arguments) throws IOException {
            var given = new HashMap<String, String>();
            boolean keyed = false;
            for (int at = 0; at < arguments.length; at++) {
                String name = arguments[at];
                if (name.equals("--keyed")) {
                    keyed = true;
                } else if (Set.of("--brokers", "--input", "--output", "--id", "--state", "--threads").contains(name)
                        && at + 1 < arguments.length) {
                    given.put(name, arguments[++at]);
                } else {
                    throw new IllegalArgumentException("what is '" + name + "'?");
                }
            }
            int threads = Integer.parseInt(given.getOrDefault("--threads", "2"));
            if (threads < 1 || threads > 64) {
                throw new IllegalArgumentException("--threads is 1 to 64");
            }
            Path state = Files.createDirectories(Path.of(needed(given, "--state")));
            return new Options(needed(given, "--brokers"), needed(given, "--input"), needed(given, "--output"),
                    needed(given, "--id"), state, threads, keyed);
        }

        private static String needed(Map<String, String> given, String name) {
            String value = given.get(name);
            if (value == null || value.isEmpty()) {
                throw new IllegalArgumentException(name + " is missing");
            }
            return value;
        }
    }
}
