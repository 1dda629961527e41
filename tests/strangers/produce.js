// Produces events as other people's programs do: kafkajs, the CloudEvents SDK, avsc.
//
//     node produce.js EVENTS FOLDER BROKERS RUN
//
// All that is sent stands in FOLDER/ledger-node.ndjson, as ledger.py says.
"use strict";

const fs = require("fs");
const path = require("path");
const avro = require("avsc");
const { CloudEvent, Kafka: Binding } = require("cloudevents");
const { Kafka, logLevel, Partitioners } = require("kafkajs");

// The id of a schema in a registry that nobody here knows.
const SCHEMA_ID = 78;
// Messages that are sent together.
const TOGETHER = 500;

function cloudEvent(id, number) {
  const data = number % 3 === 0 ? Buffer.from([number % 256, 0, 255]) : { number, text: "grüße 🦀", deep: [[{}], 1.5e300] };
  const isBinary = Buffer.isBuffer(data);
  const event = new CloudEvent({
    id,
    source: `urn:example:hall:${number % 4}`,
    type: "example.measured.v1",
    datacontenttype: isBinary ? "application/octet-stream" : "application/json",
    partitionkey: `hall ${number % 4}`,
    data,
  });
  return { event, payload: isBinary ? data : Buffer.from(JSON.stringify(data)) };
}

// The SDK names attributes that are not there too, and kafkajs takes no header without a value.
function message({ key, value, headers }) {
  const given = Object.entries(headers).filter(([, content]) => content !== undefined);
  return { key, value, headers: Object.fromEntries(given) };
}

// The SDK leaves it to its users to write a binary event's data.
function binary(event, payload) {
  return message({ ...Binding.binary(event), value: payload });
}

function structured(event) {
  return message(Binding.structured(event));
}

function main([count, folder, brokers, run]) {
  const events = Number(count);
  const ledger = [];
  const entry = (source, id, payload) =>
    ledger.push({ event: ["plant", source, id], payload: payload.toString("base64"), signed: false });

  const cloud = [];
  for (let number = 0; number < events; number += 1) {
    for (const mode of ["binary", "structured"]) {
      const { event, payload } = cloudEvent(`node ${mode} ${number}`, number);
      const modes = [binary(event, payload), structured(event)];
      const sent = modes[mode === "binary" ? 0 : 1];
      cloud.push(sent);
      entry(event.source, event.id, payload);
      if (number % 10 === 0) {
        // In the other mode it is a copy.
        cloud.push(...modes.filter((other) => other !== sent));
        ledger.push({ copy: true });
      }
    }
  }

  const reading = avro.Type.forSchema(JSON.parse(fs.readFileSync(path.join(__dirname, "reading.avsc"), "utf8")));
  const machines = [];
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(SCHEMA_ID, 1);
  for (let number = 0; number < events; number += 1) {
    const name = `planer/${number % 4}`;
    const datum = { machine: { name, hall: "NORTH" }, number, at: Date.now(), celsius: null, tags: {}, raw: [-number] };
    const value = Buffer.concat([prefix, reading.toBuffer(datum)]);
    machines.push({ key: name, value });
    entry(name, String(number), value);
  }
  return send({ cloud, machines }, brokers, run).then(() =>
    fs.writeFileSync(path.join(folder, "ledger-node.ndjson"), ledger.map((line) => `${JSON.stringify(line)}\n`).join("")),
  );
}

async function send(topics, brokers, run) {
  const kafka = new Kafka({ clientId: "strangers", brokers: brokers.split(","), logLevel: logLevel.ERROR });
  const producer = kafka.producer({ idempotent: true, createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  try {
    for (const [topic, messages] of Object.entries(topics)) {
      for (let at = 0; at < messages.length; at += TOGETHER) {
        await producer.send({ topic: `${run}.${topic}`, messages: messages.slice(at, at + TOGETHER) });
      }
    }
  } finally {
    await producer.disconnect();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
