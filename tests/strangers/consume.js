// Subscribes to proofs and receipts as other people's programs do: kafkajs, avsc, the CloudEvents SDK.
//
//     node consume.js EVENTS FOLDER BROKERS RUN
//
// Ends when all events have come, and nothing comes behind them. Writes each message of `proofs` to FOLDER/proofs/N.avro and
// the receipt out of each message of `receipts` to FOLDER/published/N.json.
"use strict";

const assert = require("assert");
const fs = require("fs");
const path = require("path");
const avro = require("avsc");
const { Kafka: Binding } = require("cloudevents");
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require("kafkajs");
const lz4 = require("lz4js");

// kafkajs itself has gzip only.
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});

// How long all may take, and how long it has to be silent behind the last, in ms.
const LONGEST = 120_000;
const SILENCE = 1_500;

function schema(name) {
  const file = path.join(__dirname, "../../schemas/avro", name);
  return avro.Type.forSchema(JSON.parse(fs.readFileSync(file, "utf8")));
}

const TYPES = { proofs: schema("proof-ready.avsc"), receipts: schema("receipt.avsc") };

function text(headers) {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.toString()]));
}

// The datum behind the framing, and the attributes around it.
function read(topic, message) {
  const headers = text(message.headers);
  const event = Binding.toEvent({ key: message.key.toString(), value: message.value, headers });
  assert(event.validate());
  assert.equal(event.datacontenttype, "application/avro");
  assert.match(headers.traceparent, /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01$/);
  assert.equal(event.data[0], 0);
  const datum = TYPES[topic].fromBuffer(event.data.subarray(5));
  assert.equal(Date.parse(event.time), Math.floor(datum.block.time / 1000));
  return { event, datum };
}

function proof(folder, number, message) {
  const { event, datum } = read("proofs", message);
  assert.equal(event.type, "killick.proof.ready.v1");
  assert.equal(event.source, `killick:${datum.origin}`);
  assert.equal(event.id, datum.batch);
  assert.equal(event.partitionkey, datum.batch);
  assert.equal(event.subject, String(datum.number));
  assert.equal(datum.statements.length, datum.leaves);
  fs.writeFileSync(path.join(folder, "proofs", `${number}.avro`), message.value);
  return { id: event.id, events: datum.leaves };
}

function receipt(folder, number, message) {
  const { event, datum } = read("receipts", message);
  assert.equal(event.type, "killick.receipt.ready.v1");
  assert.equal(event.id, `${datum.batch}/${datum.index}`);
  assert.equal(event.subject, event.partitionkey);
  assert.deepEqual(event.partitionkey.split("/").map(decodeURIComponent), [datum.tenant, datum.source, datum.id]);
  fs.writeFileSync(path.join(folder, "published", `${number}.json`), datum.receipt);
  return { id: event.id, events: 1 };
}

const READERS = { proofs: proof, receipts: receipt };

async function main([count, folder, brokers, run]) {
  for (const name of ["proofs", "published"]) fs.mkdirSync(path.join(folder, name), { recursive: true });
  const kafka = new Kafka({ clientId: "strangers", brokers: brokers.split(","), logLevel: logLevel.ERROR });
  const consumer = kafka.consumer({ groupId: `${run}.kafkajs`, maxBytesPerPartition: 4 << 20 });
  const seen = { proofs: 0, receipts: 0 };
  const ids = new Set();
  let failure = null;
  let last = Date.now();
  let number = 0;
  consumer.on(consumer.events.CRASH, ({ payload }) => { failure ??= payload.error; });
  await consumer.connect();
  await consumer.subscribe({ topics: Object.keys(READERS).map((name) => `${run}.killick.${name}`), fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ topic, message }) => {
      if (failure) return;
      try {
        const name = topic.slice(topic.lastIndexOf(".") + 1);
        const { id, events } = READERS[name](folder, (number += 1), message);
        assert(!ids.has(id), `the CloudEvent ${id} came twice`);
        ids.add(id);
        seen[name] += events;
        last = Date.now();
      } catch (error) {
        failure = error;
      }
    },
  });
  const begun = Date.now();
  const isDone = () => Object.values(seen).every((events) => events >= Number(count)) && Date.now() - last > SILENCE;
  while (!failure && !isDone() && Date.now() - begun < LONGEST) {
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
  await consumer.disconnect();
  if (failure) throw failure;
  assert.deepEqual(seen, { proofs: Number(count), receipts: Number(count) }, "events that have come");
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
