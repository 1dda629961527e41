"""Puts together what was measured: report.py --output table|json FILE..., of which some may be missing."""

import argparse
import json
import sys
from pathlib import Path
from statistics import median

GOALS = {"cpu_ratio_streams": 3, "cpu_ratio_tessera": 12, "events_logged_twice_ours": 0}


def medians(rounds, name):
    """The median of each figure of one who was measured in every round."""
    each = [measured[name] for measured in rounds if measured.get(name)]
    figures = each[0] if each else {}
    numbers = [key for key, value in figures.items() if isinstance(value, (int, float))]
    return {key: median(one[key] for one in each) for key in numbers}


def report(files):
    result = {"goals": GOALS}
    kafka, logs = files.get("kafka"), files.get("logs")
    if kafka:
        rounds = kafka["rounds"]
        result |= {"machine_cores": kafka["cores"], "kafka": kafka, "medians": {}}
        for name in ["ours", "streams", "streams_keyed"]:
            if found := medians(rounds, name):
                result["medians"][f"kafka_{name}"] = found
        for tool in ["producer", "consumer"]:
            if found := medians([each["tools"] or {} for each in rounds], tool):
                result["medians"][f"tools_{tool}"] = found
        if ours := result["medians"].get("kafka_ours"):
            streams, keyed = (result["medians"][f"kafka_{name}"] for name in ["streams", "streams_keyed"])
            result["cpu_ratio_streams"] = streams["warm_cpu_micros"] / ours["cpu_micros"]
            result["cpu_ratio_streams_from_start"] = streams["cpu_micros"] / ours["cpu_micros"]
            result["cpu_ratio_streams_keyed"] = keyed["warm_cpu_micros"] / ours["cpu_micros"]
    if logs:
        found = result.setdefault("medians", {})
        result["logs"] = logs
        for name in ["ours", "ours_to_checkpoint", "tessera"]:
            if figures := medians(logs["rounds"], name):
                found[f"log_{name}"] = figures
        if theirs := found.get("log_tessera"):
            # Both to a durable signed checkpoint; and as far as ours go, to receipts.
            result["cpu_ratio_tessera"] = theirs["cpu_micros"] / found["log_ours_to_checkpoint"]["cpu_micros"]
            result["cpu_ratio_tessera_whole_line"] = theirs["cpu_micros"] / found["log_ours"]["cpu_micros"]
        for name, stop in logs.get("stop", {}).items():
            result[f"events_logged_twice_{name}"] = stop["logged_twice"]
            result[f"events_lost_{name}"] = stop["missing"]
    return result


def table(result):
    lines = []
    names = {
        "kafka_ours": "ingest, dedup, batch: ours",
        "kafka_streams": "the same in Kafka Streams",
        "kafka_streams_keyed": "the same, keyed input",
        "log_ours": "a line in a folder: ours, to receipts",
        "log_ours_to_checkpoint": "ours, to checkpoints",
        "log_tessera": "Tessera, to checkpoints",
        "tools_producer": "kafka-producer-perf-test",
        "tools_consumer": "kafka-consumer-perf-test",
    }
    lines.append(f"{'medians':<40}{'CPU µs':>9}{'warm':>9}{'broker':>9}{'events/s':>11}{'MB':>7}")
    for key, name in names.items():
        if not (found := result.get("medians", {}).get(key)):
            continue
        rate = found.get("events_per_second", found.get("records_per_second"))
        if rate is None:
            rate = result["logs"]["events"] / found["seconds"]
        cell = lambda value, form: "" if value is None else format(value, form)
        memory = found.get("peak_memory")
        lines.append(
            f"{name:<40}{found['cpu_micros']:>9.2f}{cell(found.get('warm_cpu_micros'), '.2f'):>9}"
            f"{cell(found.get('broker_cpu_micros'), '.2f'):>9}{rate:>11,.0f}{cell(memory and memory / 2**20, '.0f'):>7}"
        )
    lines.append("")
    for key, value in result.items():
        if isinstance(value, (int, float)) and key != "machine_cores":
            goal = GOALS.get(key)
            wanted = "" if goal is None else f"   goal {'>= ' if goal else ''}{goal}"
            lines.append(f"{key:<40}{value:>9.2f}{wanted}" if isinstance(value, float) else f"{key:<40}{value:>9}{wanted}")
    return "\n".join(lines)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--output", choices=["table", "json"], default="table")
    options.add_argument("files", type=Path, nargs="+")
    arguments = options.parse_args()
    files = {path.stem: json.loads(path.read_text()) for path in arguments.files if path.exists()}
    result = report(files)
    print(json.dumps(result) if arguments.output == "json" else table(result))
    lost = [name for name in result if name.startswith("events_lost_") and result[name]]
    if lost or result.get("events_logged_twice_ours"):
        sys.exit(f"events were lost, or ours were logged twice: {lost}")


if __name__ == "__main__":
    main()
