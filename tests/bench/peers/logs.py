"""Measures two logs in folders on the same lines: the embedded line of Killick, and Tessera with its antispam.

tests/bench/peers/run calls it. It prints one JSON object, and what it does on standard error.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

KILLS = 3
LINE_BYTES = 300
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Between two looks at what a program says.
LOOK = 0.005
# How long all that is accepted may take to be in signed checkpoints: a window is 100 ms.
SETTLED = 1.0
# The names of the members of a line.
FORM = ["--format", "ndjson", "--id-column", "id", "--source-column", "source", "--type-column", "type"]


def say(what):
    print(f"  {what}", file=sys.stderr, flush=True)


def write_events(path, count):
    """Writes lines of LINE_BYTES, each an event with an id of its own."""
    letters = random.Random(7)
    with open(path, "w", encoding="ascii") as file:
        for number in range(count):
            event = {"id": f"reading-{number}", "source": f"press/{number % 64}", "type": "reading", "payload": ""}
            size = LINE_BYTES - len(json.dumps(event, separators=(",", ":")))
            event["payload"] = "".join(letters.choices(LETTERS, k=size))
            file.write(json.dumps(event, separators=(",", ":")) + "\n")


class Program:
    """A program that runs; what it says goes to files."""

    def __init__(self, folder, name, command):
        self.name, self.out = name, folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        self.begun = time.monotonic()
        with open(self.out, "wb") as out, open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log)

    def has_ended(self):
        # It stays to be waited for, so that what it used can be read.
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, is_killed=False):
        """Waits for its end; returns wall time and CPU time."""
        _, status, used = os.wait4(self.process.pid, 0)
        seconds = time.monotonic() - self.begun
        self.process.returncode = os.waitstatus_to_exitcode(status)
        wanted = -signal.SIGKILL if is_killed else 0
        if self.process.returncode != wanted:
            sys.exit(f"{self.name} ended with {self.process.returncode}; its log is {self.log}")
        return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime}

    def kill(self):
        self.process.kill()
        return self.wait(is_killed=True)

    def last(self):
        return json.loads(self.out.read_text().splitlines()[-1])


class Ours:
    """killick run --embedded: the whole line, up to receipts under a chain of its own."""

    name = "ours"

    def __init__(self, arguments, folder):
        self.killick, self.folder, self.input = arguments.killick, folder, arguments.input
        self.site = folder / "site"

    def start(self, *more, name="killick"):
        command = [self.killick, "run", "--embedded", self.site, "--output", "json", "--log", "error", *more]
        return Program(self.folder, name, command)

    def add(self, resume=False):
        # Also to go on it is given the whole file: what it has already are copies.
        return self.start("--input", self.input, *FORM)

    def done(self, program):
        """Lines that it has said are accepted."""
        text = program.out.read_bytes()
        whole = text[: text.rfind(b"\n") + 1].splitlines()
        return json.loads(whole[-1]).get("accepted", 0) if whole else 0

    def add_to_checkpoint(self, count):
        """Only the stages up to a signed checkpoint; what they used, when nothing is left for them."""
        program = self.start("--stages", "ingest,dedup,batch", "--input", self.input, *FORM)
        while self.done(program) < count:
            if program.has_ended():
                program.wait()
                sys.exit(f"killick ended by itself; its log is {program.log}")
            time.sleep(LOOK)
        seconds = time.monotonic() - program.begun
        time.sleep(SETTLED)
        # These stages alone never end by themselves.
        used = program.kill() | {"seconds": seconds}
        # Without an input it would never end.
        rest = self.start("--input", "/dev/null", *FORM, name="rest")
        rest.wait()
        if rest.last()["batches"] != 0 or rest.last()["proven"] != count:
            sys.exit(f"not every event was in a checkpoint after {SETTLED} s: {rest.last()}")
        return used

    def check(self, count):
        command = [self.killick, "receipts", "list", "--embedded", self.site, "--limit", str(10 * count), "--output", "json"]
        listed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
        rows = [row for row in map(json.loads, listed) if "id" in row]
        names = {}
        for row in rows:
            name = (row["tenant"], row["source"], row["id"])
            names[name] = names.get(name, 0) + 1
        command = [self.killick, "audit", "--embedded", self.site, "--output", "json"]
        # It ends with 1 when it finds something: its figures are wanted all the same.
        audit = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True).stdout.splitlines()
        report = json.loads(audit[-1])
        twice = sum(times > 1 for times in names.values())
        return {"size": len(rows), "unique": len(names), "logged_twice": twice, "missing": count - len(names),
                "audit": {"clean": report["clean"], "twice": report["findings"]["twice"], "lost": report["findings"]["lost"]}}


class Tessera:
    """tessera add: up to the published checkpoint."""

    def __init__(self, arguments, folder, name="tessera", going_on=()):
        self.program, self.folder, self.input = arguments.tessera, folder, arguments.input
        self.site = folder / "tessera"
        self.name, self.going_on = name, going_on

    def add(self, resume=False):
        command = [self.program, "add", "--log", self.site, "--input", self.input]
        return Program(self.folder, "tessera", command + (["--resume", *self.going_on] if resume else []))

    def done(self, program):
        acks = self.site / "acks"
        text = acks.read_bytes() if acks.exists() else b""
        whole = text[: text.rfind(b"\n") + 1].splitlines()
        return int(whole[-1]) if whole else 0

    def check(self, count):
        command = [self.program, "check", "--log", self.site, "--input", self.input]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def measured(arguments, number):
    """Each once, in folders of their own."""
    folder = arguments.folder / f"logs{number}"
    folder.mkdir()
    each = lambda used: used | {"cpu_micros": used["cpu_seconds"] * 1e6 / arguments.events}
    result = {}
    for log in [Tessera(arguments, folder), Ours(arguments, folder)]:
        program = log.add()
        result[log.name] = each(program.wait())
        if log.name == "ours" and program.last()["proven"] != arguments.events:
            sys.exit(f"not every event is proven: {program.last()}")
        found = log.check(arguments.events)
        if found["missing"] or found["logged_twice"]:
            sys.exit(f"{log.name}: {found}")
        remove(log.site)
    ours = Ours(arguments, folder)
    result["ours_to_checkpoint"] = each(ours.add_to_checkpoint(arguments.events))
    remove(ours.site)
    say(f"round {number}: " + ", ".join(f"{name} {used['cpu_micros']:.2f} µs an event" for name, used in result.items()))
    return result


def stopped(arguments, log):
    """Kills it at random moments, lets it go on, and looks at what is in the log."""
    chance = random.SystemRandom()
    # Who keeps what was acknowledged begins where it was: so the moments ascend.
    moments = sorted(int(chance.uniform(0.05, 0.9) * arguments.events) for _ in range(KILLS))
    for number, moment in enumerate(moments):
        program = log.add(resume=number > 0)
        while log.done(program) < moment and not program.has_ended():
            time.sleep(LOOK)
        time.sleep(chance.uniform(0, 0.1))
        if program.has_ended():
            sys.exit(f"{log.name} was through before it was killed: give more --events")
        program.kill()
    log.add(resume=True).wait()
    found = log.check(arguments.events) | {"killed_after": moments}
    remove(log.site)
    say(f"{log.name}, killed after {moments} events: {found['logged_twice']} logged twice, {found['missing']} missing")
    return found


def remove(folder):
    subprocess.run(["rm", "-rf", "--", folder], check=True)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--events", type=int, required=True)
    options.add_argument("--rounds", type=int, default=0)
    options.add_argument("--stop", action="store_true")
    options.add_argument("--killick", type=Path, required=True)
    options.add_argument("--tessera", type=Path, required=True)
    options.add_argument("--folder", type=Path, required=True)
    arguments = options.parse_args()
    arguments.input = arguments.folder / "events.ndjson"
    write_events(arguments.input, arguments.events)
    result = {"events": arguments.events, "line_bytes": LINE_BYTES, "load_before": os.getloadavg()[0]}
    result["rounds"] = [measured(arguments, number) for number in range(1, arguments.rounds + 1)]
    if arguments.stop:
        folder = arguments.folder / "stop"
        folder.mkdir()
        logs = [
            Ours(arguments, folder),
            # It adds what was not acknowledged; the same, with the patience of one who knows how the antispam works; and
            # all lines, as ours.
            Tessera(arguments, folder),
            Tessera(arguments, folder, "tessera_waiting", ["--wait"]),
            Tessera(arguments, folder, "tessera_all_again", ["--all"]),
        ]
        result["stop"] = {log.name: stopped(arguments, log) for log in logs}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
