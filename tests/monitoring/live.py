"""A real Prometheus scrapes a real `killick run`: what fires when copies come, when it is stopped and when its chain stalls, and clears after.

    KILLICK=… PROMETHEUS=… PROMTOOL=… python3 tests/monitoring/live.py

The rules are those of deploy/monitoring, generated with objectives and times of seconds in place of minutes. The pipeline is the embedded side, whose
chain makes a block each 250 ms, then one an hour, then again one each 250 ms. Every metric that a rule asks for has to be in the scrape, and at the end
`killick audit` finds nothing wrong.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
MONITORING = ROOT / "deploy/monitoring"
WAIT = 90


def free_port():
    with socket.socket() as socket_:
        socket_.bind(("127.0.0.1", 0))
        return socket_.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def within(seconds, what, look, instead=str):
    """What `look` says once it is true; an answer that does not come yet is one that is not true. Else ends, with what there is `instead`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := look():
                return found
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.25)
    raise SystemExit(f"tests/monitoring/live.py: not within {seconds} s: {what} {instead()}")


def quick_rules(folder):
    """The rules, with a proof promised within 5 s, each `for` shortened to at most 2 s, and what is counted to the last 15 s."""
    source = yaml.safe_load((MONITORING / "source.yaml").read_text())
    source["objectives"] |= {"proof": 5, "checkpoint": 5}
    for alert in source["alerts"]:
        alert["for"] = "0s" if alert["for"] == "0m" else "2s"
        alert["expr"] = re.sub(r"\[(5m|10m|15m|1h)\]", "[15s]", alert["expr"])
    Path(folder, "source.yaml").write_text(yaml.safe_dump(source, sort_keys=False))
    generate = [sys.executable, MONITORING / "generate", "--source", f"{folder}/source.yaml", "--out", f"{folder}/made"]
    subprocess.run(generate, check=True)
    return f"{folder}/made/rules/killick.yaml"


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


def main():
    with tempfile.TemporaryDirectory() as folder:
        port, port_of_prometheus = free_port(), free_port()
        at = f"http://127.0.0.1:{port_of_prometheus}"
        rules = quick_rules(folder)
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{"job_name": "killick", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
        }
        Path(folder, "prometheus.yaml").write_text(yaml.safe_dump(config))
        arguments = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={at[7:]}"]
        pipeline = Pipeline(folder, port)
        pipeline.start("250ms")
        with open(Path(folder, "prometheus.log"), "wb") as log:
            prometheus = subprocess.Popen([os.environ["PROMETHEUS"], *arguments], stdout=log, stderr=log)

        def firing():
            alerts = json.loads(get(f"{at}/api/v1/alerts"))["data"]["alerts"]
            return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

        def value(expr):
            answer = json.loads(get(f"{at}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"))
            return answer["data"]["result"]

        def say(text):
            print(f"  {time.monotonic() - begun:.0f}s  {text}", flush=True)

        begun = time.monotonic()
        try:
            pipeline.send(200)
            within(WAIT, "all is proven", lambda: pipeline.metric('killick_events_total{outcome="proven"}') == 200)
            within(WAIT, "Prometheus has it", lambda: value('killick_events_total{outcome="proven"} == 200'))
            within(WAIT, "nothing fires", lambda: not firing(), firing)
            asked = {name for name in re.findall(r"\bkillick_\w+|\bprocess_\w+", Path(rules).read_text())}
            # Those of the audit are of a process of its own, on servers.
            missing = sorted(name for name in asked if not name.startswith("killick_audit_") and not value(f"{name}"))
            assert asked and not missing, f"not in the scrape: {missing}"
            say(f"200 events are proven, no alert fires, {len(asked)} metrics of the rules are in the scrape")

            for _ in range(3):
                pipeline.write(pipeline.sent)
            within(WAIT, "copies are told", lambda: "KillickDuplicateFlood" in firing(), firing)
            pipeline.write([pipeline.sent[0].replace(b'"value": 0', b'"value": 1')])
            within(WAIT, "a conflict is told", lambda: "KillickConflicts" in firing(), firing)
            say("600 copies and a conflict: KillickDuplicateFlood and KillickConflicts fire")
            within(WAIT, "copies and conflicts clear", lambda: not firing(), firing)
            say("no alert fires")

            pipeline.kill()
            within(WAIT, "what is stopped is told", lambda: {"KillickTargetDown", "KillickStageStopped"} <= firing(), firing)
            say("stopped: KillickTargetDown and KillickStageStopped fire")

            pipeline.start("1h")
            within(WAIT, "it is back", lambda: not firing() & {"KillickTargetDown", "KillickStageStopped"}, firing)
            pipeline.send(200)
            within(WAIT, "a chain that stalls is told", lambda: "KillickProofLate" in firing(), firing)
            say("back, and its chain stalls: KillickProofLate fires")

            def more_wait():
                # Each time for an interval of its own, however slow this machine is.
                pipeline.send(20)
                time.sleep(1.1)
                return {"KillickProofLate", "KillickAnchorsWait"} <= firing()

            within(WAIT, "what waits is told", more_wait, firing)
            say("more intervals wait: KillickAnchorsWait fires")

            pipeline.kill()
            pipeline.start("250ms")
            within(WAIT, "all clears", lambda: not firing() and value('max(killick_event_oldest_age_seconds{without="proof"}) == 0'), firing)
            say("the chain goes on: all is proven, no alert fires")

            pipeline.kill()
            audit = [os.environ["KILLICK"], "audit", "--embedded", pipeline.folder / "site"]
            told = subprocess.run(audit, capture_output=True, text=True, timeout=WAIT)
            assert told.returncode == 0, told.stdout + told.stderr
            say("killick audit: nothing was lost, nothing done twice")
        finally:
            pipeline.kill()
            prometheus.send_signal(signal.SIGTERM)
            prometheus.wait()


if __name__ == "__main__":
    main()
