"""Runs a rendered shape: live.py HELM KILLICK FOLDER EVENTS

Takes every container of ci/production-values.yaml (with local-values.yaml above it), starts it as a kubelet does, sends events, scales
and upgrades while they flow, and counts from outside. Kafka and Cassandra are those of deploy/local/up --acl and --secure in
KILLICK_LOCAL; topics, users and rights are those that the chart asks of Strimzi. KILLICK_NEXT is the program of the newer image.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import (AclBinding, AclOperation, AclPermissionType, AdminClient, NewTopic, ResourcePatternType, ResourceType,
                                   ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion)

from pods import Broken, Cluster, Pod, Set

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/killick"
CONFIG = "/etc/killick/killick.toml"
# So many events a second are sent while pods come and go; the rest at the end as fast as they are taken.
RATE = 60
COPIES = 40
PATIENCE = 300
# Kinds of findings that an audit tells of.
KINDS = 10
begun = time.monotonic()


def say(what):
    print(f"    {time.monotonic() - begun:5.0f}s  {what}", flush=True)


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def merged(below, above):
    """Values above others; what is null above is not there."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    keys = [key for key in {**below, **above} if above.get(key, key) is not None]
    return {key: merged(below.get(key), above[key]) if key in above else below[key] for key in keys}


class Shape:
    """What the chart renders, with what was set since."""

    def __init__(self, helm, folder, values):
        self.helm, self.folder, self.settings = helm, folder, []
        whole = {}
        for path in (CHART / "ci/production-values.yaml", ROOT / "tests/helm/local-values.yaml"):
            whole = merged(whole, yaml.safe_load(path.read_text()))
        self.values = folder / "values.yaml"
        self.values.write_text(yaml.safe_dump(merged(whole, values)))

    def arguments(self):
        return ["--values", str(self.values), *(part for setting in self.settings for part in ("--set", setting))]

    def render(self):
        text = output(self.helm, "template", "killick", str(CHART), "--namespace", "test", *self.arguments())
        (self.folder / "rendered.yaml").write_text(text)
        return [document for document in yaml.safe_load_all(text) if document]

    def notes(self):
        dry = output(self.helm, "install", "killick", str(CHART), "--namespace", "test", "--dry-run=client", *self.arguments())
        return dry.split("\nNOTES:\n")[1]


def is_test(document):
    return document["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"


class Deployment:
    """All that a cluster would have of a release."""

    def __init__(self, shape, cluster):
        self.shape, self.cluster, self.sets, self.documents, self.jobs = shape, cluster, {}, [], 0

    def of(self, kind):
        return [document for document in self.documents if document["kind"] == kind]

    def apply(self, *settings):
        """Renders with more settings, as `helm upgrade --set`; gives the sets whose pods have to be replaced."""
        self.shape.settings += settings
        before = {document["metadata"]["name"] for document in self.of("Job")}
        self.documents = self.shape.render()
        self.cluster.apply(self.documents)
        changed = []
        for document in self.of("StatefulSet") + self.of("Deployment"):
            name = document["metadata"]["name"].removeprefix("killick-")
            if name not in self.sets:
                self.sets[name] = Set(self.cluster, document)
            elif self.sets[name].apply(document):
                changed.append(name)
        jobs = [document for document in self.of("Job") if not is_test(document)]
        self.setup = [document for document in jobs if document["metadata"]["name"] not in before]
        return changed

    def run_setup(self):
        for document in self.setup:
            pod = Pod(self.cluster, document["metadata"]["name"], document["spec"]["template"])
            pod.run()
            self.jobs += 1
            # Strimzi would undo what is changed in its topics; where groups begin is not its business.
            done = (pod.folder / "topics.log").read_text().splitlines()
            if left := [line for line in done if not line.startswith(("{", "group ", "the topics are what"))]:
                raise Broken(f"KafkaTopics are not what the program wants: {left}")

    def test(self):
        """`helm test`."""
        for document in self.of("Job"):
            if is_test(document):
                Pod(self.cluster, document["metadata"]["name"], document["spec"]["template"]).run()

    def pods(self):
        return [pod for of in self.sets.values() for pod in of.pods]

    def wait(self, pods=None):
        """Until all probes are content."""
        since, waiting = time.monotonic(), list(self.pods() if pods is None else pods)
        while waiting:
            waiting = [pod for pod in waiting if not pod.is_ready()]
            if time.monotonic() - since > PATIENCE:
                raise Broken(f"not ready after {PATIENCE} s: {', '.join(pod.name for pod in waiting)}")
            time.sleep(0.5)
        return time.monotonic() - since

    def check(self):
        """What the security context asks holds for every process; and none has ended that nobody stopped."""
        for pod in self.pods():
            if pod.process.poll() is not None:
                raise Broken(f"{pod.name} has ended; see {pod.folder}/log")
            if missing := pod.confinement():
                raise Broken(f"{pod.name}: {', '.join(missing)} does not hold")
            if "# TYPE" not in (pod.get("/metrics") or ""):
                raise Broken(f"{pod.name} has no metrics")

    def kill(self):
        for pod in self.pods():
            pod.kill()


class Events(threading.Thread):
    """Sends events at their pace until told to hurry, and knows which."""

    def __init__(self, folder, brokers, killick, count):
        super().__init__(daemon=True)
        self.hurry, self.sent, self.failed = threading.Event(), set(), []
        self.producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 20})
        self.records = list(self.unsigned(count - count // 2)) + list(self.signed(folder, killick, count // 2))
        self.records[:] = self.records[::2] + self.records[1::2]
        self.copies = self.records[::COPIES]

    @staticmethod
    def reading(number, machine):
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        return json.dumps({"machine": machine, "reading": f"r{number}", "at": at, "celsius": number % 90})

    def unsigned(self, count):
        for number in range(count):
            machine = f"lathe/{number % 7}"
            name = ("plant", machine, f"r{number}")
            yield name, "machines", self.reading(number, machine).encode(), [("machine", machine.encode())]

    def signed(self, folder, killick, count):
        lines = folder / "signed.ndjson"
        lines.write_text("".join(f"{self.reading(number, 'press/1')}\n" for number in range(count)))
        events = output(killick, "produce", "--key", str(folder / "press.key"), "--input", str(lines), "--id-column", "reading",
                        "--time-column", "at", "--output", "-")
        for line in events.splitlines():
            event = json.loads(line)
            headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
            yield ("plant", event["source"], event["id"]), "cloud", line.encode(), headers

    def run(self):
        for name, topic, value, headers in self.records + self.copies:
            self.producer.produce(topic, value, key=name[1], headers=headers, on_delivery=self.delivered)
            self.sent.add(name)
            self.producer.poll(0)
            if not self.hurry.is_set():
                time.sleep(1 / RATE)
        self.producer.flush(60)

    def delivered(self, error, _):
        if error is not None:
            self.failed.append(error)


def values_of(folder, killick, brokers, nodes, chain):
    """What the shape is told of this machine; and the keys, as a user makes them."""
    shown = output(killick, "keys", "new", "device", "--tenant", "plant", "--source", "press/1", "--out", str(folder / "press.key"))
    device = dict(re.findall(r'^(\w+) = "(.*)"$', shown.split("[[device]]")[1], flags=re.M))
    return {"config": {"kafka": {"brokers": [brokers]}, "catalog": {"nodes": [nodes]}, "chainweb": {"nodes": [chain]}, "device": [device]}}


def make_keys(folder, killick, name, count):
    """The folder of keys, and who pays."""
    config = folder / f"{name}.toml"
    config.write_text(f'[deployment]\nname = "helm.example"\n[keys]\nfolder = "{name}"\n')
    told = output(killick, "keys", "init", "-c", str(config), "--anchor-keys", str(count))
    return folder / name, re.findall(r"paid by (\S+)", told)


def secrets_of(keys, abroad, servers):
    """The Secrets that ci/production-values.yaml names, as somebody would have made them."""
    def read(folder, pattern):
        return {path.name: path.read_bytes() for path in folder.glob(pattern)}

    return {
        "kafka-ca": {"ca.crt": (servers / "kafka/ca.pem").read_bytes()},
        "kafka-killick": {"password": (servers / "kafka/killick.password").read_bytes()},
        # As Strimzi names it.
        "killick-audit": {"password": secrets.token_hex(16).encode()},
        "scylla-ca": {"ca.crt": (servers / "cassandra/ca.pem").read_bytes()},
        "scylla-killick": {"password": b"cassandra"},
        "killick-logs": read(keys, "log-*"),
        "killick-public": read(keys, "log-*.pub"),
        "killick-anchor": read(keys, "anchor*.key"),
        "killick-tenants": {"plant": b"no neighbour can guess this"},
        "killick-abroad": {"seed": (abroad / "anchor.key").read_bytes()},
    }


def make_topics(admin, documents, others):
    """What Strimzi makes of KafkaTopics; and the topics that their producers have had for long."""
    topics = [NewTopic(name, count, 1, config={"message.timestamp.type": "LogAppendTime"}) for name, count in others.items()]
    for document in documents:
        spec = document["spec"]
        config = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in spec["config"].items()}
        topics.append(NewTopic(spec["topicName"], spec["partitions"], spec["replicas"], config=config))
    for made in admin.create_topics(topics).values():
        made.result(30)


def make_user(admin, name, password):
    """What Strimzi makes of a KafkaUser that has no password yet."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    for made in admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, info, password)]).values():
        made.result(30)


def grant(admin, documents):
    """What Strimzi makes of a KafkaUser's rights."""
    kinds = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactionalId": ResourceType.TRANSACTIONAL_ID}
    patterns = {"prefix": ResourcePatternType.PREFIXED, "literal": ResourcePatternType.LITERAL}
    rights = []
    for document in documents:
        for acl in document["spec"]["authorization"]["acls"]:
            resource = acl["resource"]
            kind = kinds.get(resource["type"], ResourceType.BROKER)
            name, pattern = resource.get("name", "kafka-cluster"), patterns[resource.get("patternType", "literal")]
            for operation in acl["operations"]:
                of = getattr(AclOperation, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper())
                rights.append(AclBinding(kind, name, pattern, f"User:{document['metadata']['name']}", "*", of, AclPermissionType.ALLOW))
    for made in admin.create_acls(rights).values():
        made.result(30)
    return len(rights)


def execute(pod, *argv):
    """What `kubectl exec` prints."""
    done = pod.execute(pod.container, list(argv), capture_output=True, text=True)
    if done.returncode != 0:
        raise Broken(f"{pod.name}: {' '.join(argv)}: {done.returncode}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout


def receipts(pod):
    """(name, whether it is proven) of each event that the catalog has, page by page."""
    after = []
    while True:
        page = execute(pod, "killick", "receipts", "list", "--config", CONFIG, "--output", "json", *after)
        cursor = None
        for line in map(json.loads, page.splitlines()):
            if "id" in line:
                yield (line["tenant"], line["source"], line["id"]), line
            else:
                cursor = line
        if not cursor:
            return
        after = ["--after", next(iter(cursor.values()))]


def count(deployment, events, killick, folder):
    """Every event has one receipt, which is trusted; no other has one."""
    pod = deployment.sets["prove"].pods[0]
    since = time.monotonic()
    while True:
        names = [name for name, _ in receipts(pod)]
        if set(names) >= events.sent or time.monotonic() - since > PATIENCE:
            break
        time.sleep(2)
    say(f"the catalog has {len(names)} events")
    lost, other = events.sent - set(names), set(names) - events.sent
    if lost or other or len(names) != len(set(names)):
        raise Broken(f"lost {len(lost)} {sorted(lost)[:3]}, unknown {sorted(other)[:3]}, twice {len(names) - len(set(names))}")
    # Proven a little later.
    while True:
        execute(pod, "killick", "receipts", "export", "--config", CONFIG, "--out", "/out/receipts")
        files = list((pod.volumes["out"] / "receipts").iterdir())
        if len(files) >= len(events.sent) or time.monotonic() - since > PATIENCE:
            break
        time.sleep(3)
    execute(pod, "killick", "trust", "own", "--config", CONFIG, "--out", "/out/trust.json")
    out = pod.volumes["out"]
    verified = output(killick, "verify", str(out / "receipts"), "--trust", str(out / "trust.json"), "--output", "json")
    levels = [json.loads(line)["level"] for line in verified.splitlines()]
    if len(files) != len(events.sent) or levels != ["trusted"] * len(events.sent):
        raise Broken(f"{len(files)} receipts of {len(events.sent)} events, {levels.count('trusted')} trusted")
    for command in ("audit", "fsck"):
        (folder / f"{command}.log").write_text(execute(pod, "killick", command, "--config", CONFIG))
    return len(levels)


def audited(deployment, since):
    """What the pod of the audit says in its metrics, once an audit that began after a time has found nothing."""
    (pod,) = deployment.sets["audit"].pods
    begun = time.monotonic()
    while True:
        text = pod.get("/metrics") or ""
        figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("killick_audit_"))
        findings = {kind: float(value) for kind, value in figures.items() if kind.startswith("killick_audit_findings{")}
        if findings and float(figures["killick_audit_time_seconds"]) > since:
            break
        if time.monotonic() - begun > PATIENCE:
            raise Broken(f"no audit has ended: {figures}; see {pod.folder}/log")
        time.sleep(1)
    if len(findings) != KINDS or any(findings.values()) or float(figures["killick_audit_failures_total"]) != 0:
        raise Broken(f"the audit: {figures}; see {pod.folder}/log")
    memory = re.search(r"^process_resident_memory_bytes (\S+)$", text, flags=re.M)[1]
    return f"0 of {len(findings)} kinds of findings, after {time.monotonic() - begun:.0f} s; {float(memory) / (1 << 20):.0f} MiB"


def follow_notes(deployment, events, killick, folder):
    """What NOTES.txt says, word for word, with the names of an event put in."""
    pod = deployment.sets["prove"].pods[0]
    tenant, source, id = min(events.sent)
    commands = re.findall(r"exec statefulset/killick-prove -- (.*)", deployment.shape.notes())
    for command in commands:
        command, _, file = command.partition(" > ")
        answer = execute(pod, *command.replace("TENANT SOURCE ID", f"{tenant} {source} {id}").split())
        if file:
            (folder / file).write_text(answer)
    (last,) = re.findall(r"^  killick (verify .*)$", deployment.shape.notes(), flags=re.M)
    done = subprocess.run([killick, *last.split()], cwd=folder, capture_output=True, text=True, check=False)
    if len(commands) != 3 or done.returncode != 0:
        raise Broken(f"the notes: {done.stdout}{done.stderr}")


def acting(admin):
    """The pod of anchor that has the partition of `checkpoints`, as the brokers see it."""
    group = admin.describe_consumer_groups(["killick.anchor"])["killick.anchor"].result(30)
    return {m.group_instance_id.removeprefix("killick.anchor-") for m in group.members if m.assignment.topic_partitions}


def take_over(deployment, admin):
    """Kills the pod of anchor that acts, and waits for the one that stands by; then the killed one stands by."""
    pods = {pod.name: pod for pod in deployment.sets["anchor"].pods}
    begun, killed = time.monotonic(), None
    while killed is None or not acting(admin) & set(pods):
        if time.monotonic() - begun > 60:
            raise Broken(f"nobody acts in place of {killed}")
        if killed is None and len(now := acting(admin)) == 1:
            killed, begun = now.pop(), time.monotonic()
            pods.pop(killed).kill()
        time.sleep(0.5)
    took = time.monotonic() - begun
    deployment.wait()
    return took


def work(deployment, events, admin, folder, killick):
    deployment.apply()
    strimzi = deployment.of("KafkaTopic")
    make_topics(admin, strimzi, {"machines": 2, "cloud": 2})
    users = deployment.of("KafkaUser")
    make_user(admin, "killick-audit", deployment.cluster.secrets["killick-audit"]["password"])
    say(f"{len(strimzi)} KafkaTopics made, {grant(admin, users)} rights of {len(users)} KafkaUsers")
    # As after `helm install`: all at the same time.
    for of in deployment.sets.values():
        of.scale()
    deployment.run_setup()
    deployment.wait()
    early = sum(pod.restarts for pod in deployment.pods())
    deployment.check()
    say(f"{len(deployment.pods())} pods ready, setup done, {early} restarts before it was")
    events.start()
    time.sleep(10)
    deployment.apply("stages.dedup.replicas=2", "stages.prove.replicas=2")
    for of in deployment.sets.values():
        of.scale()
    say(f"dedup and prove scaled up to 2, ready after {deployment.wait():.0f} s")
    deployment.check()
    time.sleep(10)
    deployment.apply("stages.ingest.replicas=1")
    deployment.sets["ingest"].scale()
    deployment.wait()
    say("ingest scaled down to 1")
    say(f"the anchor that acted was killed, the other acts after {take_over(deployment, admin):.1f} s")
    for stage in list(deployment.sets):
        changed = deployment.apply(f"{'audit' if stage == 'audit' else f'stages.{stage}'}.image.tag=next")
        if changed != [stage]:
            raise Broken(f"an upgrade of {stage} alone replaces pods of {changed}")
        deployment.sets[stage].roll(deployment.wait)
        say(f"{stage} upgraded")
    # And the rest: nothing to replace, setup once more.
    if changed := deployment.apply("image.tag=next"):
        raise Broken(f"nothing was left to upgrade, and yet {changed}")
    deployment.run_setup()
    deployment.wait()
    deployment.check()
    events.hurry.set()
    events.join()
    if events.failed:
        raise Broken(f"not delivered: {events.failed[0]}")
    say(f"{len(events.sent)} events and {len(events.copies)} copies sent")
    trusted = count(deployment, events, killick, folder)
    say(f"the audit that goes on: {audited(deployment, time.time())}")
    follow_notes(deployment, events, killick, folder)
    deployment.test()
    if sum(pod.restarts for pod in deployment.pods()) != 0:
        raise Broken("a pod was started again after the upgrade")
    # As root a pod's secrets are root's, and its group's to read: nothing to warn of.
    logs = [(pod.folder / "log").read_text() for pod in deployment.pods()]
    if os.geteuid() == 0 and any("can read this secret" in log for log in logs):
        raise Broken("a pod warns of how its secrets are mounted")
    ends = [pod.stop() for pod in deployment.pods()]
    say(f"{len(ends)} pods ended, the slowest in {max(ends):.1f} s")
    return trusted


def main():
    helm, killick, folder, events = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    servers = Path(os.environ["KILLICK_LOCAL"])
    keys, paid = make_keys(folder, killick, "keys", 2)
    abroad, paid_abroad = make_keys(folder, killick, "abroad", 1)
    accounts = [option for account in paid + paid_abroad for option in ("--account", account)]
    log = open(folder / "devnet.log", "w+", encoding="utf-8")
    devnet = subprocess.Popen([killick, "devnet", "--listen", "127.0.0.1:0", "--block-interval", "250ms", *accounts],
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deployment = None
    try:
        while not (chain := re.search(r"http://[0-9.:]+", (folder / "devnet.log").read_text())):
            if devnet.poll() is not None:
                sys.exit(f"the development network has ended; see {folder}/devnet.log")
            time.sleep(0.1)
        values = values_of(folder, killick, os.environ["KAFKA_SASL_BROKERS"], os.environ["CASSANDRA_NODES"], chain[0])
        programs = {"": killick, "images.example/killick:next": os.environ.get("KILLICK_NEXT", killick)}
        cluster = Cluster(folder / "pods", programs)
        cluster.secrets = secrets_of(keys, abroad, servers)
        deployment = Deployment(Shape(helm, folder, values), cluster)
        admin = AdminClient({"bootstrap.servers": os.environ["KAFKA_BROKERS"]})
        trusted = work(deployment, Events(folder, os.environ["KAFKA_BROKERS"], killick, events), admin, folder, killick)
    except Broken as error:
        sys.exit(f"tests/helm: {error}; what there is to look at is in {folder}")
    finally:
        if deployment:
            deployment.kill()
        devnet.terminate()
        devnet.wait()
    print(f"    lost=0 duplicated=0 unknown=0 trusted={trusted} setups={deployment.jobs} audit=clean fsck=clean")


main()
