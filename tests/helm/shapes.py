"""Checks what the chart renders: shapes.py HELM KILLICK CUSTOM FOLDER

For each file in helm/killick/ci: lint, render, Kubernetes' schemas of three minor versions and those of custom resources (CUSTOM is
the command that checks those of npm), Pod Security Standard "restricted", what each stage may see, and `killick config check` in each
container as it would be there. And wrong values are refused with the name of their key.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

from pods import IMAGE_USER, Broken, Cluster, Pod

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/killick"
# The oldest that Chart.yaml allows, the newest, and one between.
VERSIONS = ["1.30", "1.34", "1.37"]
PODS = {"StatefulSet", "Deployment", "Job"}

# Rates, and what else `killick plan` is asked.
PLANS = [("1000",), ("100000", "--signed", "--chains", "2", "--retention", "7y"), ("1000000",)]
# Values that have to be refused, on top of ci/smallest-values.yaml, and the key that the message has to name.
REFUSED = [
    ("config.kafka.broker=kafka:9092", "config/kafka"),
    ("config.deployment.logs=four", "config/deployment/logs"),
    ("config.tenant.plant.secret=hunter2", "tenant"),
    ("config.kafka.security.password_file=/x", "config/kafka/security"),
    ("config.admin.listen=0.0.0.0:1", "admin"),
    ("config.kafka.brokers=null", "config.kafka.brokers"),
    ("config.catalog.nodes=null", "config.catalog.nodes"),
    ("config.chainweb.nodes=null", "config.chainweb.nodes"),
    ("config.source=null", "config"),
    ("stage.ingest.replicas=2", "stage"),
    ("stages.ingest.replica=2", "stages/ingest"),
    ("stages.ingest.replicas=5", "stages.ingest.replicas"),
    ("stages.dedup.replicas=5", "stages.dedup.replicas"),
    ("stages.anchor.replicas=3", "stages.anchor.replicas"),
    ("stages.anchor.autoscaling.kind=keda", "stages/anchor"),
    ("stages.batch.autoscaling.kind=both", "stages/batch/autoscaling/kind"),
    ("stages.batch.autoscaling.kind=keda,stages.batch.autoscaling.max=5", "stages.batch.autoscaling.max"),
    ("stages.prove.autoscaling.kind=hpa,stages.prove.autoscaling.max=5", "stages.prove.autoscaling.max"),
    ("stages.prove.autoscaling.kind=hpa,stages.prove.autoscaling.min=3,stages.prove.autoscaling.max=2", "stages.prove.autoscaling.min"),
    ("inputPartitions.events=2,stages.ingest.replicas=3", "stages.ingest.replicas"),
    ("secrets.kafka.ca.existingSecret=ca", "secrets.kafka.ca.existingSecret"),
    ("secrets.catalog.certificate.existingSecret=c", "secrets.catalog.certificate.existingSecret"),
    ("secrets.kafka.password.existingSecret=p", "secrets.kafka.password.existingSecret"),
    ("secrets.kafka.password.value=hunter2", "secrets/kafka/password"),
    ("config.kafka.security.username=killick", "config.kafka.security.username"),
    ("config.catalog.security.tls=true", "config.catalog.security.tls"),
    ("secrets.registry.ca.existingSecret=ca", "secrets.registry"),
    ("secrets.keys.logs.existingSecret=", "secrets.keys.logs.existingSecret"),
    ("secrets.keys.anchor.existingSecret=", "secrets.keys.anchor.existingSecret"),
    ("secrets.keys.anchor.count=17", "secrets/keys/anchor/count"),
    ("config.source[0].unsigned=accept,config.source[0].tenant=plant", "secrets.tenants.plant"),
    ("secrets.tenants.Plant.existingSecret=x,secrets.tenants.Plant.key=y", "secrets/tenants"),
    ("secrets.reanchor.abroad.key.existingSecret=x,secrets.reanchor.abroad.key.key=y", "secrets.reanchor.abroad"),
    ("audit.evry=1h", "audit"),
    ("audit.enabled=sometimes", "audit/enabled"),
    ("audit.every=hourly", "audit/every"),
    ("audit.every=9s", "audit.every"),
    ("audit.every=4h", "audit.since"),
    ("audit.since=59m", "audit.since"),
    ("audit.objective=0m", "audit/objective"),
    ("audit.scratch=much", "audit/scratch"),
    ("audit.replicas=2", "audit"),
    ("audit.secrets.kafka.password.value=hunter2", "audit/secrets/kafka/password"),
    ("audit.extraEnv.KILLICK_OBJECTIVE=1h", "extraEnv.KILLICK_OBJECTIVE"),
    ("extraEnv.KILLICK_KAFKA__SLOT=0", "extraEnv.KILLICK_KAFKA__SLOT"),
    ("stages.prove.extraEnv.KILLICK_STAGES=all", "extraEnv.KILLICK_STAGES"),
    ("files.killick\\.toml=x", "files"),
    ("terminationGracePeriodSeconds=45", "terminationGracePeriodSeconds"),
    ("image.digest=sha256:short", "image/digest"),
    ("admin.port=80", "admin/port"),
    ("monitoring.scrape=both", "monitoring/scrape"),
    ("strimzi.topics.enabled=true", "strimzi.cluster"),
    ("fullnameOverride=a-name-that-is-too-long-for-what-comes-behind-it", "fullnameOverride"),
]

# Which Secrets a container may see, of those that ci/external-secrets-values.yaml names; and the chain's authorities, all of them.
SEES = {
    "ingest": {"store-kafka", "store-registry", "store-tenants"},
    "dedup": {"store-kafka"},
    "batch": {"store-kafka", "store-logs"},
    "anchor": {"store-kafka", "store-anchor"},
    "prove": {"store-kafka", "store-catalog", "store-public"},
    "reanchor": {"store-kafka", "store-catalog", "store-public", "store-anchor", "store-abroad"},
    "audit": {"store-kafka"},
    "topics": {"store-kafka", "store-registry"},
    "catalog": {"store-catalog"},
}

findings = []


def find(shape, what):
    findings.append(f"{shape}: {what}")


def helm(*arguments):
    return subprocess.run([sys.argv[1], *arguments], capture_output=True, text=True, check=False)


def render(shape, values, *more):
    done = helm("template", "killick", str(CHART), "--namespace", "test", "--values", str(values), *more)
    if done.returncode != 0:
        find(shape, f"does not render: {done.stderr.strip()}")
        return "", []
    return done.stdout, [document for document in yaml.safe_load_all(done.stdout) if document]


def check_schemas(shape, documents):
    strimzi = json.loads((ROOT / "tests/helm/strimzi.json").read_text())
    custom = []
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        group = document["apiVersion"].split("/")[0]
        try:
            if group in ("keda.sh", "monitoring.coreos.com"):
                custom.append(document)
            elif group == "kafka.strimzi.io":
                jsonschema.Draft202012Validator({**strimzi, "$ref": f"#/$defs/{document['kind']}"}).validate(document)
            else:
                for version in VERSIONS:
                    kubernetes_validate.validate(document, version, strict=True)
        except jsonschema.ValidationError as error:
            find(shape, f"{name}: {error.message} at {'/'.join(map(str, error.absolute_path))}")
    done = subprocess.run(json.loads(sys.argv[3]), input=json.dumps(custom), text=True, capture_output=True, check=False)
    if done.returncode != 0:
        find(shape, done.stdout + done.stderr)


def containers(documents):
    """(document, pod's specification, container, name of the volume's sources) of each container."""
    for document in documents:
        if document["kind"] in PODS:
            spec = document["spec"]["template"]["spec"]
            for container in spec.get("initContainers", []) + spec["containers"]:
                yield document, spec, container


def check_restricted(shape, documents):
    """The controls of Pod Security Standard "restricted", and of it "baseline", as Kubernetes documents them."""
    for document, spec, container in containers(documents):
        where = f"{document['metadata']['name']}/{container['name']}"
        of_pod, own = spec["securityContext"], container["securityContext"]
        controls = {
            "host namespaces": not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
            "privileged": not own.get("privileged"),
            "capabilities": own["capabilities"] == {"drop": ["ALL"]},
            "volume types": all(set(v) - {"name"} <= {"configMap", "projected", "emptyDir", "secret"} for v in spec["volumes"]),
            "host ports": not any("hostPort" in port for port in container.get("ports", [])),
            "privilege escalation": own.get("allowPrivilegeEscalation") is False,
            "the image's user": (of_pod["runAsUser"], of_pod["runAsGroup"]) == IMAGE_USER,
            "running as non-root": of_pod.get("runAsNonRoot") is True and own.get("runAsNonRoot") is not False,
            "non-root user": of_pod.get("runAsUser", 0) != 0 and own.get("runAsUser", 1) != 0,
            "seccomp": of_pod["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost"),
            "probes and hooks elsewhere": "host:" not in yaml.safe_dump(container),
            "sysctls, SELinux, AppArmor": not {"sysctls", "seLinuxOptions", "appArmorProfile"} & (set(of_pod) | set(own)),
            "read-only root file system": own.get("readOnlyRootFilesystem") is True,
            "service account token": spec["automountServiceAccountToken"] is False,
            "limits": "cpu" not in container["resources"]["limits"] and "memory" in container["resources"]["limits"],
        }
        for control in (name for name, holds in controls.items() if not holds):
            find(shape, f"{where}: {control}")


def check_workloads(shape, documents):
    """What each workload has to have, whatever the shape: those of stages, and the audit."""
    stop = re.search(r"const STOP: Duration = Duration::from_secs\((\d+)\)", (ROOT / "pipeline/killick/src/run.rs").read_text())
    budgets = {d["metadata"]["name"] for d in documents if d["kind"] == "PodDisruptionBudget"}
    services = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Service"}
    scaled = [d["spec"]["scaleTargetRef"]["name"] for d in documents if d["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]
    for document, spec, container in containers(documents):
        if document["kind"] == "Job":
            continue
        name, template = document["metadata"]["name"], document["spec"]["template"]
        names = [variable["name"] for variable in container["env"]]
        service = services.get(name, {"selector": {}, "ports": []})
        facts = {
            "grace period above the program's stop": spec["terminationGracePeriodSeconds"] >= int(stop[1]) + 5,
            "three probes": {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container),
            "each variable once": len(names) == len(set(names)),
            "a service at the admin port": service["selector"].items() <= template["metadata"]["labels"].items()
            and [port["targetPort"] for port in service["ports"]] == [port["name"] for port in container["ports"]] == ["admin"],
            "room for the controller's label": len(name) <= 52,
            "checksum": "checksum/config" in template["metadata"]["annotations"],
        }
        if document["kind"] == "StatefulSet":
            slot = [v for v in container["env"] if v["name"] == "KILLICK_KAFKA__SLOT"]
            facts |= {
                "the slot is the pod's name": slot and slot[0]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name",
                "spread": {c["topologyKey"] for c in spec["topologySpreadConstraints"]} >= {"topology.kubernetes.io/zone"},
                "budget": name in budgets,
                "scaled by one, or by number": scaled.count(name) + ("replicas" in document["spec"]) == 1,
            }
        else:
            own = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            facts |= {
                "it is the audit": name == "killick-audit" and container["args"][0] == "audit" and "--every" in container["args"],
                "one at a time": (document["spec"]["replicas"], document["spec"]["strategy"]) == (1, {"type": "Recreate"}),
                "a folder to write to, and no other": own == {"/tmp"},
            }
        for fact in (fact for fact, holds in facts.items() if not holds):
            find(shape, f"{name}: {fact}")
    if sum(document["kind"] == "Deployment" for document in documents) != 1:
        find(shape, "there is not one audit")


def secrets_of(spec, container):
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    volumes = [volume for volume in spec["volumes"] if volume["name"] in mounted and "projected" in volume]
    return [source["secret"] for volume in volumes for source in volume["projected"]["sources"]]


def check_sight(documents):
    """Each container sees the Secrets that it needs and no other; of keys the part that it needs."""
    for _, spec, container in containers(documents):
        name, secrets = container["name"], secrets_of(spec, container)
        seen = {secret["name"] for secret in secrets}
        public = {"chainweb/ca.pem", "reanchor/abroad.pem"}
        private = {s["name"] for s in secrets if not {item["path"] for item in s["items"]} <= public}
        if private != SEES[name] or not seen >= {"store-chain", "store-abroad"} and name != "catalog":
            find("external-secrets", f"{name} sees {sorted(seen)}")
    if any(variable.get("valueFrom", {}).get("secretKeyRef") for _, _, c in containers(documents) for variable in c["env"]):
        find("external-secrets", "a secret in the environment")


def authority(folder):
    """Some certificate, for whatever wants authorities."""
    path = folder / "authority.pem"
    if not path.exists():
        request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test"]
        subprocess.run([*request, "-keyout", str(folder / "authority.key"), "-out", str(path)], check=True, capture_output=True)
    return path.read_bytes()


def check_config(shape, documents, folder):
    """`killick config check` in each container, with its mounts, as the user that it is."""
    cluster = Cluster(folder / shape, {"": sys.argv[2]})
    cluster.apply(documents)
    for _, spec, container in containers(documents):
        for secret in secrets_of(spec, container):
            for item in secret["items"]:
                content = authority(folder) if item["path"].endswith("ca.pem") or item["path"].endswith("abroad.pem") else b"0" * 32
                cluster.secrets.setdefault(secret["name"], {})[item["key"]] = content
    for document, _, container in containers(documents):
        pod = Pod(cluster, f"{document['metadata']['name']}-0", document["spec"]["template"])
        path = container["args"][container["args"].index("--config") + 1]
        done = pod.execute(container, ["killick", "config", "check", "--config", path], capture_output=True, text=True)
        if done.returncode != 0:
            find(shape, f"{pod.name}: config check: {done.stderr.strip()}")


def check_refusals():
    smallest = CHART / "ci/smallest-values.yaml"
    for setting, key in REFUSED:
        done = helm("template", "killick", str(CHART), "--values", str(smallest), "--set", setting)
        if done.returncode == 0:
            find("refusals", f"{setting} is taken")
        elif key not in done.stderr:
            find("refusals", f"{setting}: {key} is not named: {done.stderr.strip()}")


def check_networks():
    """Who may reach what, where networks are closed."""
    _, documents = render("production", CHART / "ci/production-values.yaml")
    policies = {d["metadata"]["name"]: d["spec"]["podSelector"] for d in documents if d["kind"] == "NetworkPolicy"}
    everyone = {"killick", "killick-to-kafka", "killick-to-otlp"}
    more = {"anchor": {"chainweb"}, "prove": {"catalog", "chainweb"}, "reanchor": {"catalog", "chainweb"}, "setup": {"catalog"}}
    for document, _, _ in containers(documents):
        labels = document["spec"]["template"]["metadata"]["labels"]
        component = labels["app.kubernetes.io/component"]

        def selects(selector):
            named = all(labels[rule["key"]] in rule["values"] for rule in selector.get("matchExpressions", []))
            return selector["matchLabels"].items() <= labels.items() and named

        reached = {name for name, selector in policies.items() if selects(selector)}
        if reached != everyone | {f"killick-to-{target}" for target in more.get(component, ())}:
            find("production", f"{component} has the policies {sorted(reached)}")


def check_audit():
    """It may be off; it is scraped where it is on; and the user that Strimzi makes for it may read what it looks at, and no more."""
    values = CHART / "ci/strimzi-values.yaml"
    series = ["--set", "config.reanchor.abroad.network=testnet04"]
    for monitor in ("ServiceMonitor", "PodMonitor"):
        for enabled in (True, False):
            setting = f"audit.enabled={json.dumps(enabled)},monitoring.scrape={monitor}"
            _, documents = render("strimzi", values, *series, "--set", setting)
            found = [d["kind"] for d in documents if d["metadata"]["name"] == "killick-audit"]
            if sorted(found) != (["Deployment", "KafkaUser", "Service"] if enabled else []):
                find("strimzi", f"{setting}: {found}")
            (scraped,) = [d["spec"]["selector"]["matchExpressions"][0]["values"] for d in documents if d["kind"] == monitor]
            if ("audit" in scraped) != enabled:
                find("strimzi", f"{setting}: {scraped} are scraped")
    _, documents = render("strimzi", values, *series)
    (user,) = [d for d in documents if d["kind"] == "KafkaUser" and d["metadata"]["name"] == "killick-audit"]
    rights = {(acl["resource"]["type"], acl["resource"]["name"], *acl["operations"]) for acl in user["spec"]["authorization"]["acls"]}
    read = set().union(*(topics for stage, topics in route().items() if stage != "ingest"))
    topics = {"events", "machines", *(f"plant_{topic}" for topic in read | {"proofs", "rejected", "audit"})}
    groups = {f"plant_{stage}{'-abroad' * (stage in ('reanchor', 'lend'))}" for stage in route()} | {"plant_reader"}
    if rights != {("topic", name, "Read", "Describe") for name in topics} | {("group", name, "Describe") for name in groups}:
        find("strimzi", f"the rights of killick-audit: {sorted(rights)}")
    if any(acl["resource"]["patternType"] != "literal" for acl in user["spec"]["authorization"]["acls"]):
        find("strimzi", "the rights of killick-audit are for more than they name")
    (pod,) = [(spec, container) for d, spec, container in containers(documents) if d["kind"] == "Deployment"]
    if {secret["name"] for secret in secrets_of(*pod)} != {"plant-cluster-ca-cert", "killick-audit"}:
        find("strimzi", "the audit does not come as its own user")


def check_upgrade():
    """A stage's own image changes nothing but that stage's pods."""
    values = CHART / "ci/single-stage-upgrade-values.yaml"
    _, ahead = render("single-stage-upgrade", values)
    _, others = render("single-stage-upgrade", values, "--set", "stages.batch.image.tag=0.1.0")
    changed = [d["metadata"]["name"] for d, o in zip(ahead, others) if d != o]
    if changed != ["killick-batch"]:
        find("single-stage-upgrade", f"it changes {changed}")


def check_monitoring():
    """The rules and dashboards are those of deploy/monitoring, and no ConfigMap is larger than may be."""
    _, documents = render("production", CHART / "ci/production-values.yaml")
    monitoring = ROOT / "deploy/monitoring"
    rules = [d["spec"]["groups"] for d in documents if d["kind"] == "PrometheusRule"]
    if rules != [yaml.safe_load((monitoring / "rules/killick.yaml").read_text())["groups"]]:
        find("production", "the PrometheusRule is not deploy/monitoring/rules")
    label = "grafana_dashboard"
    made = {k: v for d in documents if label in d["metadata"].get("labels", {}) for k, v in d["data"].items()}
    if made != {path.name: path.read_text() for path in (monitoring / "dashboards").iterdir()}:
        find("production", f"the dashboards are {sorted(made)}")
    if large := [name for name, text in made.items() if len(text.encode()) > 1_000_000]:
        find("production", f"larger than a ConfigMap may be: {large}")


def check_plans(folder):
    """What `killick plan` writes is taken, and is a configuration that can work."""
    for rate, *more in PLANS:
        plan = ["plan", "--events-per-second", rate, "--event-bytes", "500", *more]
        done = subprocess.run([sys.argv[2], *plan, "--output", "helm"], capture_output=True, text=True, check=True)
        values = folder / f"plan-{rate}/values.yaml"
        values.parent.mkdir()
        values.write_text(done.stdout)
        shape = " ".join(plan)
        _, documents = render(shape, CHART / "ci/smallest-values.yaml", "--values", str(values))
        check_schemas(shape, documents)
        check_config(f"plan-{rate}", documents, folder)


def route():
    """What each stage reads, by README's table, which a test of the program holds against the code."""
    rows = re.findall(r"^\| (\w+) \| (`[^|]*`) \|", (ROOT / "README.md").read_text(), flags=re.M)
    return {stage: set(re.findall(r"`([\w-]+)`", topics)) for stage, topics in rows}


def check_route():
    """What the chart says of the route is what README's table says."""
    reads = route()
    _, documents = render("keda", CHART / "ci/keda-values.yaml", "--set", "stages.batch.autoscaling.kind=keda")
    for document in (document for document in documents if document["kind"] == "ScaledObject"):
        stage = document["metadata"]["name"].removeprefix("killick-")
        triggers = [trigger["metadata"] for trigger in document["spec"]["triggers"]]
        topics = {"events", "cloud"} if stage == "ingest" else {f"plant.{topic}" for topic in reads[stage]}
        if {t["topic"] for t in triggers} != topics or {t["consumerGroup"] for t in triggers} != {f"plant.{stage}"}:
            find("keda", f"{stage} is scaled by {triggers}")
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), flags=re.M)[1]
    if yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] != version:
        find("Chart.yaml", f"appVersion is not {version}")


def main():
    folder = Path(sys.argv[4])
    shapes = sorted((CHART / "ci").glob("*-values.yaml"))
    for values in shapes:
        shape = values.name.removesuffix("-values.yaml")
        done = helm("lint", "--strict", str(CHART), "--values", str(values))
        if done.returncode != 0:
            find(shape, f"lint: {done.stdout}{done.stderr}")
        text, documents = render(shape, values)
        (folder / f"{shape}.yaml").write_text(text)
        check_schemas(shape, documents)
        check_restricted(shape, documents)
        check_workloads(shape, documents)
        if shape == "external-secrets":
            check_sight(documents)
        try:
            check_config(shape, documents, folder)
        except Broken as error:
            find(shape, str(error))
        print(f"    {shape}: {len(documents)} objects, {sum(1 for _ in containers(documents))} containers")
    check_networks()
    check_audit()
    check_upgrade()
    check_monitoring()
    check_plans(folder)
    check_route()
    check_refusals()
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"    {len(shapes)} shapes, Kubernetes {', '.join(VERSIONS)}, {len(REFUSED)} wrong values refused, {len(findings)} findings")
    sys.exit(bool(findings))


main()
