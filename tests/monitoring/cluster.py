"""A real Prometheus scrapes five stages in five processes, and an audit that goes on, on a real Kafka and a real Cassandra: what fires when the account
that pays for anchors runs dry, when the catalog is away and when a stage stops, and clears after.

    KILLICK=… PROMETHEUS=… KAFKA_BROKERS=… CASSANDRA_NODES=… KILLICK_LOCAL=… python3 tests/monitoring/cluster.py [--render DIR]

Events come all the time, copies and poison among them. The account that pays begins with coins for some minutes, pays until it cannot, and is given
more, by the development network itself. The catalog is Cassandra as deploy/local/up made it in KILLICK_LOCAL, and is paused. `dedup` is killed. At the end each
event is proven once, each receipt is trusted, and neither that audit nor another one and `fsck` find anything. Topics and a keyspace of their own stay behind.

--render draws the dashboards that docs/dashboards.md shows of this run into a folder.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from watch import ROOT, WAIT, Prometheus, free_port, get, quick_rules, say, within

STAGES = ["ingest", "dedup", "batch", "anchor", "prove"]
# Records a second; of these one in 40 is a copy, and one in 100 is no event.
RATE = 20
# What an anchor may cost, with all its gas, and what the account begins with: 40 such. One a second is made, and counts in full, but uses three quarters of it: so
# after 3 s the account does not last 14 times as long, after 40 s not as long as until then, and after a minute it is dry.
COST, BEGINS_WITH = "0.000001", "0.00004"
SHOWN = ["overview", "chain", "catalog"]

CONFIG = """
[deployment]
name = "watched.example"
logs = 2
network = "development"
chains = [0]

[anchor]
interval = "1s"
depth = 3
poll = "200ms"
# The least: an anchor takes 76.
gas_limit = 100
# The least: a command that a node took and could not be paid for in its block is made anew after that.
ttl = "2m"
# The least: so long it takes until coins that came are seen.
balance_poll = "1m"

[prove]
poll = "200ms"

[kafka]
brokers = [{brokers}]
prefix = "{run}.killick."
slot = "0"
ingest_workers = 1
replication = 1
min_in_sync = 1
session_timeout = "6s"

[catalog]
nodes = [{nodes}]
keyspace = "{run}"
replication = {{ datacenter1 = 1 }}

[chainweb]
nodes = ["http://{chain}"]

[keys]
folder = "keys"

[[source]]
topic = "{run}.machines"
decoder = "raw"
tenant = "plant"
unsigned = "accept"
[source.mapping]
source = {{ pointer = "/machine" }}
id = {{ pointer = "/reading" }}
time = {{ pointer = "/at" }}

[tenant.plant]
secret = "no neighbour can guess this"
"""


def killick(*arguments):
    done = subprocess.run([os.environ["KILLICK"], *map(str, arguments)], capture_output=True, text=True, timeout=WAIT)
    if done.returncode != 0:
        raise SystemExit(f"killick {arguments[0]}: {done.returncode}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout


class Process:
    """One that is started again with the same log."""

    def __init__(self, folder, name, environment=()):
        self.name, self.log, self.environment, self.process = name, folder / f"{name}.log", dict(environment), None

    def start(self, *arguments):
        with open(self.log, "ab") as log:
            command = [os.environ["KILLICK"], *map(str, arguments)]
            self.process = subprocess.Popen(command, env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def check(self):
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} has ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Watched(Process):
    """One with a port for those who run it: `command` is what it is told."""

    def __init__(self, folder, name, *command):
        self.address = f"127.0.0.1:{free_port()}"
        self.command = [*command, "-c", folder / "killick.toml"]
        super().__init__(folder, name, {"KILLICK_ADMIN__LISTEN": self.address})

    def start(self):
        super().start(*self.command)

    def wait(self):
        within(WAIT, f"{self.name} is ready", lambda: self.check() or get(f"http://{self.address}/readyz"), lambda: self.log.read_text()[-2000:])


class Events(threading.Thread):
    """Sends readings until it is told to stop, and knows which."""

    def __init__(self, brokers, topic):
        super().__init__(daemon=True)
        self.topic, self.enough, self.sent, self.failed = topic, threading.Event(), [], []
        self.producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 5})

    def run(self):
        number, last = 0, None
        while not self.enough.wait(1 / RATE):
            at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            reading = {"machine": f"lathe/{number % 7}", "reading": f"r{number}", "at": at, "celsius": number % 90}
            if number % 40 == 39:
                reading = last
            elif number % 100 == 50:
                reading = {"machine": "lathe/0", "celsius": "no reading, no time"}
            else:
                self.sent.append(reading["reading"])
                last = reading
            told = lambda error, _: self.failed.append(error) if error else None
            self.producer.produce(self.topic, json.dumps(reading).encode(), key=reading["machine"], on_delivery=told)
            self.producer.poll(0)
            number += 1

    def stop(self):
        self.enough.set()
        self.join()
        left = self.producer.flush(30)
        assert not left and not self.failed, f"{left} records were not delivered: {self.failed[:1]}"


class Site:
    """What an operator makes: topics, tables, keys, a network and the stages."""

    def __init__(self, folder):
        self.folder, self.config = folder, folder / "killick.toml"
        # No name that was there before.
        self.run = f"watched{int(time.time()):x}"
        self.brokers = os.environ["KAFKA_BROKERS"]
        self.chain = f"127.0.0.1:{free_port()}"
        listed = lambda text: ", ".join(f'"{address}"' for address in text.split(","))
        nodes = listed(os.environ["CASSANDRA_NODES"])
        self.config.write_text(CONFIG.format(run=self.run, brokers=listed(self.brokers), nodes=nodes, chain=self.chain))
        self.account = killick("keys", "init", "-c", self.config).split("paid by ")[1].split()[0]
        self.devnet = Process(folder, "devnet")
        self.watched = {name: Watched(folder, name, "run", "--stages", name) for name in STAGES}
        self.watched["audit"] = Watched(folder, "audit", "audit", "--every", "10s", "--since", "1h")
        self.events = Events(self.brokers, f"{self.run}.machines")

    def start_network(self):
        account = ["--account", self.account, "--balance", BEGINS_WITH]
        self.devnet.start("devnet", "--listen", self.chain, "--folder", self.folder / "chain", "--block-interval", "250ms", *account)
        within(WAIT, "the network answers", lambda: self.devnet.check() or get(f"http://{self.chain}/devnet"))

    def give(self, coins):
        """To the account that pays."""
        asked = urllib.request.Request(f"http://{self.chain}/devnet/coins?account={self.account}&amount={coins}", method="POST")
        urllib.request.urlopen(asked, timeout=5).close()

    def start(self):
        topic = NewTopic(f"{self.run}.machines", 3, 1, config={"message.timestamp.type": "LogAppendTime"})
        # Kept until it has answered.
        admin = AdminClient({"bootstrap.servers": self.brokers})
        for made in admin.create_topics([topic]).values():
            made.result(30)
        killick("topics", "apply", "-c", self.config)
        killick("catalog", "migrate", "-c", self.config)
        self.start_network()
        for process in self.watched.values():
            process.start()
        for process in self.watched.values():
            process.wait()

    def kill(self):
        for process in [*self.watched.values(), self.devnet]:
            process.kill()

    def count(self):
        """Every event has one receipt, which is trusted, and nothing is wrong; how many there are."""
        out, trust = self.folder / "receipts", self.folder / "trust.json"
        killick("receipts", "export", "-c", self.config, "--out", out)
        killick("trust", "own", "-c", self.config, "--out", trust)
        listed = killick("receipts", "list", "-c", self.config, "--limit", 2 * len(self.events.sent), "--output", "json")
        ids = [json.loads(line)["id"] for line in listed.splitlines()]
        assert sorted(ids) == sorted(self.events.sent), f"{len(ids)} events are in the catalog, {len(self.events.sent)} were sent"
        levels = [json.loads(line)["level"] for line in killick("verify", out, "--trust", trust, "--output", "json").splitlines()]
        assert levels == ["trusted"] * len(ids), f"{levels.count('trusted')} trusted of {len(ids)}"
        killick("audit", "-c", self.config)
        killick("fsck", "-c", self.config)
        return len(ids)


class Marks(list):
    """When what was wrong."""

    def begin(self, what):
        self.append([time.time(), None, what])

    def end(self):
        self[-1][1] = time.time()


def catalog(what):
    subprocess.run([ROOT / "deploy/local/server", "cassandra", what], check=True, stdout=subprocess.DEVNULL)


def work(site, prometheus, marks):
    """One fault after another; ends when all is proven."""
    held = lambda: float(prometheus.value("killick_anchor_balance_coins")[0]["value"][1])
    site.events.start()
    prometheus.fire("coins that do not last are told", "KillickBalanceLow")
    marks.begin("runs dry")
    assert not prometheus.firing() & {"KillickBalanceEmpty", "KillickProofLate"}, prometheus.firing()
    assert float(COST) < held() <= float(BEGINS_WITH), held()
    say("the account that pays does not last for long: KillickBalanceLow fires")
    prometheus.fire("coins that are as good as used up are told", "KillickBalanceEmpty")
    say("it is as good as dry: KillickBalanceEmpty fires")
    prometheus.fire("that it cannot pay is told", "KillickBalanceEmpty", "KillickBalanceLow", "KillickProofLate", seconds=2 * WAIT)
    within(WAIT, "what is left is seen", lambda: held() < float(COST), held)
    say(f"it is dry, with {held():.8f} left of {BEGINS_WITH}: KillickProofLate fires, too")
    site.give("10")
    marks.end()
    prometheus.clear("coins are seen", "KillickBalanceEmpty", "KillickBalanceLow")
    prometheus.clear("all is proven again", seconds=3 * WAIT)
    assert 9.9 < held() < 10 + float(COST), held()
    within(WAIT, "an audit is done", lambda: prometheus.value("killick_audit_findings"), lambda: site.watched["audit"].log.read_text()[-2000:])
    asked = prometheus.metrics_of_rules()
    say(f"it is given more: no alert fires, {len(asked)} metrics of the rules are in the scrape")

    catalog("pause")
    marks.begin("catalog away")
    try:
        prometheus.fire("a catalog that is away is told", "KillickCatalogAway", "KillickProofLate")
        say("the catalog is paused: KillickCatalogAway and KillickProofLate fire")
    finally:
        catalog("resume")
        marks.end()
    prometheus.clear("the catalog is back")
    say("it goes on: no alert fires")

    # So that each fault is seen by itself.
    time.sleep(5)
    stopped = site.watched["dedup"]
    stopped.kill()
    marks.begin("dedup killed")
    prometheus.fire("a stage that is stopped is told", "KillickStageStopped", "KillickTargetDown")
    told = prometheus.value('ALERTS{alertname="KillickStageStopped",alertstate="firing"}')
    assert [alert["metric"]["stage"] for alert in told] == ["dedup"], told
    say("dedup is killed: KillickStageStopped says dedup, KillickTargetDown fires")
    # So that something waits for it.
    time.sleep(5)
    stopped.start()
    stopped.wait()
    marks.end()
    prometheus.clear("the stage is back")
    say("it is back: no alert fires")

    site.events.stop()
    proven = f'sum(killick_events_total{{outcome="proven"}}) == {len(site.events.sent)}'
    within(WAIT, "all is proven", lambda: prometheus.value(proven), lambda: prometheus.value('killick_events_total'))
    prometheus.clear("nothing fires at the end")
    found = prometheus.value('last_over_time(ALERTS{alertname="KillickAuditFinds"}[1h])')
    assert not found, found
    for process in [*site.watched.values(), site.devnet]:
        process.check()


def draw(prometheus, marks, begin, end, out):
    """The dashboards that were generated beside the rules: what they promise is what the rules do."""
    import render

    time.sleep(max(0, end - time.time()))
    out.mkdir(parents=True, exist_ok=True)
    shown = render.Range(prometheus.at, begin, end, scrape=1)
    for name in SHOWN:
        render.draw(prometheus.rules.parent.parent / f"dashboards/{name}.json", shown, marks, out / f"{name}.png")
    say(f"drawn: {', '.join(SHOWN)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--render", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    for name in ("KILLICK", "PROMETHEUS", "KAFKA_BROKERS", "CASSANDRA_NODES", "KILLICK_LOCAL"):
        if not os.environ.get(name):
            sys.exit(f"tests/monitoring/cluster.py: {name} is not set: deploy/local/up --dir DIR && . DIR/env")
    # What was started or paused is not left so.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        site, prometheus, marks = Site(Path(folder)), None, Marks()
        try:
            targets = {name: process.address for name, process in site.watched.items()}
            prometheus = Prometheus(os.environ["PROMETHEUS"], folder, quick_rules(folder, proof=10), targets)
            site.start()
            within(WAIT, "all are scraped", lambda: len(prometheus.value("up == 1")) == len(targets))
            say("five stages in five processes and an audit are ready and scraped")
            begin = time.time()
            work(site, prometheus, marks)
            # Until what was last is in each panel.
            end = time.time() + 8
            say(f"{site.count()} events: each has one receipt, all are trusted; killick audit and fsck find nothing")
            if arguments.render:
                draw(prometheus, marks, begin, end, arguments.render)
        finally:
            site.kill()
            if prometheus:
                prometheus.stop()


if __name__ == "__main__":
    main()
