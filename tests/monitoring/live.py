"""A real Prometheus scrapes a real `killick run`: what fires when copies come, when it is stopped and when its chain stalls, and clears after.

    KILLICK=… PROMETHEUS=… python3 tests/monitoring/live.py

The rules are those of deploy/monitoring, generated with objectives and times of seconds in place of minutes. The pipeline is the embedded side, whose
chain makes a block each 250 ms, then one an hour, then again one each 250 ms. Every metric that a rule asks for has to be in the scrape, and at the end
`killick audit` finds nothing wrong.
"""

import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from watch import WAIT, Prometheus, free_port, get, quick_rules, say, within


class Pipeline:
    """`killick run` in a folder; stopped and started again with another pace of its chain."""

    def __init__(self, folder, port):
        self.folder, self.port, self.sent, self.process = Path(folder), port, [], None

    def start(self, block_interval):
        config = self.folder / "killick.toml"
        config.write_text(
            f'[anchor]\ninterval = "1s"\ndepth = 2\npoll = "100ms"\n[prove]\npoll = "100ms"\n'
            f'[devnet]\nblock_interval = "{block_interval}"\n[admin]\nlisten = "127.0.0.1:{self.port}"\n'
        )
        run = [os.environ["KILLICK"], "run", "--embedded", self.folder / "site", "-c", config]
        run += ["--input", "-", "--format", "ndjson", "--id-column", "id", "--time-column", "at"]
        log = open(self.folder / "killick.log", "ab")
        self.process = subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
        within(WAIT, "the pipeline is ready", lambda: get(f"http://127.0.0.1:{self.port}/readyz"))

    def send(self, count):
        """Sends events that were not sent before."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        known = len(self.sent)
        lines = [json.dumps({"id": known + at, "at": now, "value": at % 7}).encode() + b"\n" for at in range(count)]
        self.sent += lines
        self.write(lines)

    def write(self, lines):
        self.process.stdin.writelines(lines)
        self.process.stdin.flush()

    def metric(self, series):
        text = get(f"http://127.0.0.1:{self.port}/metrics")
        return float(re.search(rf"^{re.escape(series)} (\S+)$", text, re.M)[1])

    def kill(self):
        """As a machine that fails; what was accepted stays."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def work(pipeline, prometheus):
    pipeline.send(200)
    within(WAIT, "all is proven", lambda: pipeline.metric('killick_events_total{outcome="proven"}') == 200)
    within(WAIT, "Prometheus has it", lambda: prometheus.value('killick_events_total{outcome="proven"} == 200'))
    prometheus.clear("nothing fires")
    # Those of the audit are of a process of its own, on servers.
    asked = prometheus.metrics_of_rules(but="killick_audit_")
    say(f"200 events are proven, no alert fires, {len(asked)} metrics of the rules are in the scrape")

    for _ in range(3):
        pipeline.write(pipeline.sent)
    prometheus.fire("copies are told", "KillickDuplicateFlood")
    pipeline.write([pipeline.sent[0].replace(b'"value": 0', b'"value": 1')])
    prometheus.fire("a conflict is told", "KillickConflicts")
    say("600 copies and a conflict: KillickDuplicateFlood and KillickConflicts fire")
    prometheus.clear("copies and conflicts clear")
    say("no alert fires")

    pipeline.kill()
    prometheus.fire("what is stopped is told", "KillickTargetDown", "KillickStageStopped")
    say("stopped: KillickTargetDown and KillickStageStopped fire")

    pipeline.start("1h")
    prometheus.clear("it is back", "KillickTargetDown", "KillickStageStopped")
    pipeline.send(200)
    prometheus.fire("a chain that stalls is told", "KillickProofLate")
    say("back, and its chain stalls: KillickProofLate fires")

    def more_wait():
        # Each time for an interval of its own, however slow this machine is.
        pipeline.send(20)
        time.sleep(1.1)
        return {"KillickProofLate", "KillickAnchorsWait"} <= prometheus.firing()

    within(WAIT, "what waits is told", more_wait, prometheus.firing)
    say("more intervals wait: KillickAnchorsWait fires")

    pipeline.kill()
    pipeline.start("250ms")
    nothing_waits = 'max(killick_event_oldest_age_seconds{without="proof"}) == 0'
    within(WAIT, "all clears", lambda: not prometheus.firing() and prometheus.value(nothing_waits), prometheus.firing)
    say("the chain goes on: all is proven, no alert fires")

    pipeline.kill()
    audit = [os.environ["KILLICK"], "audit", "--embedded", pipeline.folder / "site"]
    told = subprocess.run(audit, capture_output=True, text=True, timeout=WAIT)
    assert told.returncode == 0, told.stdout + told.stderr
    say("killick audit: nothing was lost, nothing done twice")


def main():
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(folder, free_port())
        prometheus = None
        try:
            pipeline.start("250ms")
            targets = {"embedded": f"127.0.0.1:{pipeline.port}"}
            prometheus = Prometheus(os.environ["PROMETHEUS"], folder, quick_rules(folder, proof=5), targets)
            work(pipeline, prometheus)
        finally:
            pipeline.kill()
            if prometheus:
                prometheus.stop()


if __name__ == "__main__":
    main()
