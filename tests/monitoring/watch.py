"""What live.py and cluster.py share: rules that hurry, a real Prometheus, and waiting for what it says."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
MONITORING = ROOT / "deploy/monitoring"
WAIT = 90
begun = time.monotonic()


def say(text):
    print(f"  {time.monotonic() - begun:.0f}s  {text}", flush=True)


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
    raise SystemExit(f"tests/monitoring/{Path(sys.argv[0]).name}: not within {seconds} s: {what} {instead()}")


def quick_rules(folder, proof):
    """The rules, with a proof promised within `proof` seconds and a checkpoint within 5 s, each `for` shortened to at most 2 s, what is
    counted to the last 15 s, and 5 s behind being too far."""
    source = yaml.safe_load((MONITORING / "source.yaml").read_text())
    source["objectives"] |= {"proof": proof, "checkpoint": 5}
    for record in source["records"]:
        record["expr"] = record["expr"].replace("[<window>]", "[15s]")
    for alert in source["alerts"]:
        alert["for"] = "0s" if alert["for"] == "0m" else "2s"
        alert["expr"] = re.sub(r"\[(5m|10m|15m|1h)\]", "[15s]", alert["expr"])
        alert["expr"] = re.sub(r"(killick_consumer_lag_seconds\{[^}]*\}\)) > \d+", r"\1 > 5", alert["expr"])
    Path(folder, "source.yaml").write_text(yaml.safe_dump(source, sort_keys=False))
    generate = [sys.executable, MONITORING / "generate", "--source", f"{folder}/source.yaml", "--out", f"{folder}/made"]
    subprocess.run(generate, check=True)
    return Path(folder, "made/rules/killick.yaml")


class Prometheus:
    """A real one in a folder, which looks at `targets` each second: addresses with the names of their instances."""

    def __init__(self, program, folder, rules, targets):
        self.folder, self.rules, self.process = Path(folder), rules, None
        self.at = f"http://127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {
                    "job_name": "killick",
                    "static_configs": [
                        {"targets": [address], "labels": {"namespace": "plant", "instance": name}} for name, address in targets.items()
                    ],
                }
            ],
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        arguments = [f"--config.file={self.folder}/prometheus.yaml", f"--storage.tsdb.path={self.folder}/tsdb"]
        with open(self.folder / "prometheus.log", "wb") as log:
            command = [program, *arguments, f"--web.listen-address={self.at[7:]}"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def ask(self, path, **query):
        return json.loads(get(f"{self.at}/api/v1/{path}?{urllib.parse.urlencode(query)}"))["data"]

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}

    def value(self, expr):
        return self.ask("query", query=expr)["result"]

    def fire(self, what, *alerts, seconds=WAIT):
        within(seconds, what, lambda: set(alerts) <= self.firing(), self.firing)

    def clear(self, what, *alerts, seconds=WAIT):
        """Until these alerts fire no more; without any, until none does."""
        within(seconds, what, lambda: not (self.firing() & set(alerts) if alerts else self.firing()), self.firing)

    def metrics_of_rules(self, but=None):
        """The names of all metrics that the rules ask for, `but` those that begin so; each has to be in the scrape."""
        asked = set(re.findall(r"\bkillick_\w+|\bprocess_\w+", self.rules.read_text()))
        asked = {name for name in asked if not but or not name.startswith(but)}
        missing = sorted(name for name in asked if not self.value(name))
        assert asked and not missing, f"not in the scrape: {missing}"
        return asked
