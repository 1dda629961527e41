// Checks custom resources of KEDA and prometheus-operator, JSON on standard input, by the models that npm has of them.
// It runs in the folder in which they are installed.
import { readFileSync } from "node:fs";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
import * as prometheus from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

let failed = false;
for (const document of JSON.parse(readFileSync(0, "utf8"))) {
  const Model = { ...keda, ...prometheus }[document.kind];
  try {
    new Model(document).validate();
  } catch (error) {
    console.log(`${document.kind} ${document.metadata.name}: ${error.message}`);
    failed = true;
  }
}
process.exit(failed ? 1 : 0);
