"""Holds dashboards, rules and runbooks against each other, against docs/metrics.md, and by promtool against alerts.yaml.

    PROMTOOL=… python3 tests/monitoring/check.py [-v]
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MONITORING = ROOT / "deploy/monitoring"
RULES = MONITORING / "rules/killick.yaml"
RUNBOOKS = ROOT / "docs/runbooks"
# Labels that targets have, and what Prometheus makes itself.
OF_TARGETS = {"namespace", "job", "instance"}
OF_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate"}}
# What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$__range": "3h", "$namespace": ".*"}


def documented():
    """The labels of each series, by the table of docs/metrics.md."""
    known = dict(OF_PROMETHEUS)
    for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", (ROOT / "docs/metrics.md").read_text(), re.M):
        of = {label for label in labels.strip().split(", ") if label}
        if kind == "histogram":
            known |= {f"{name}_bucket": of | {"le"}, f"{name}_count": of, f"{name}_sum": of}
        else:
            known[name] = of
    return known


def all_rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in all_rules() if "alert" in rule}


def dashboards():
    return {path.name: json.loads(path.read_text()) for path in sorted((MONITORING / "dashboards").glob("*.json"))}


def panels():
    return [(name, panel) for name, dashboard in dashboards().items() for panel in dashboard["panels"]]


def exprs():
    """Where an expression stands, and the expression."""
    for rule in all_rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for name, panel in panels():
        for target in panel.get("targets", []):
            expr = target["expr"]
            for variable, value in VARIABLES.items():
                expr = expr.replace(variable, value)
            yield f"{name}: {panel['title']}", expr


def selectors(expr):
    """Each metric in `expr`, with the labels that are asked of it."""
    bare = re.sub(r"\b(by|on|group_left|without|ignoring)\s*\([^)]*\)", "", expr)
    for name, labels in re.findall(r"\b((?:killick|process)[\w:]+|ALERTS|up)\b(\{[^}]*\})?", bare):
        yield name, set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", labels))


def promtool(*args):
    told = subprocess.run([os.environ["PROMTOOL"], *map(str, args)], capture_output=True, text=True, timeout=120)
    return told.returncode, told.stdout + told.stderr


def series_of(test, healthy):
    """A healthy installation, but for what the test says."""
    made = []
    for name, values in {**healthy, **test["but"]}.items():
        metric, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})?", name).groups()
        of_target = 'namespace="here",job="killick",instance="killick-0:9464"'
        made.append({"series": f"{metric}{{{of_target}{',' + labels if labels else ''}}}", "values": values})
    return made


def for_promtool(test, healthy, runbooks):
    """One test as promtool wants it."""
    known = alerts()
    firing = 'count by (alertname, severity) (ALERTS{alertstate="firing"})'
    of = lambda name: f'{{alertname="{name}", severity="{known[name]["labels"]["severity"]}"}}'
    expected = [{"labels": of(name), "value": 1} for name in [test["alert"], *test.get("also", [])]]
    made = {
        "name": test["alert"],
        "interval": "1m",
        "external_labels": {"runbooks": runbooks} if runbooks else {},
        "input_series": series_of(test, healthy),
        "promql_expr_test": [
            {"expr": firing, "eval_time": "4m", "exp_samples": []},
            {"expr": firing, "eval_time": f"{test['quiet']}m", "exp_samples": []},
            {"expr": firing, "eval_time": f"{test['fires']}m", "exp_samples": expected},
            {"expr": firing, "eval_time": f"{test['clear']}m", "exp_samples": []},
        ],
    }
    if "says" in test:
        rule = known[test["alert"]]
        page = rule["annotations"]["runbook_url"].rsplit("/", 1)[1]
        told = {"summary": test["says"], "runbook_url": f"{runbooks or 'docs/runbooks'}/{page}"}
        labels = {**rule["labels"], **test["labels"]}
        alert = {"eval_time": f"{test['fires']}m", "alertname": test["alert"], "exp_alerts": [{"exp_labels": labels, "exp_annotations": told}]}
        made["alert_rule_test"] = [alert]
    return made


class Monitoring(unittest.TestCase):
    def test_what_is_generated_is_up_to_date(self):
        told = subprocess.run([sys.executable, MONITORING / "generate", "--check"], capture_output=True, text=True)
        self.assertEqual((told.returncode, told.stderr), (0, ""))

    def test_what_is_not_up_to_date_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            generate = [sys.executable, MONITORING / "generate", "--out", folder]
            subprocess.run(generate, check=True)
            rules, forgotten = Path(folder, "rules/killick.yaml"), Path(folder, "dashboards/forgotten.json")
            rules.write_text(rules.read_text().replace("14.4", "14"))
            forgotten.write_text("{}")
            told = subprocess.run([*generate, "--check"], capture_output=True, text=True)
            self.assertEqual(told.returncode, 1)
            self.assertEqual(told.stderr.count("is not up to date"), 2, told.stderr)
            for path in (rules, forgotten):
                self.assertIn(str(path), told.stderr)

    def test_promtool_finds_nothing_wrong_with_the_rules(self):
        self.assertEqual(promtool("check", "rules", RULES)[0], 0, promtool("check", "rules", RULES)[1])

    def test_every_expression_parses(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            group = [{"record": f"x{at}", "labels": {"of": where}, "expr": expr} for at, (where, expr) in enumerate(exprs())]
            self.assertGreater(len(group), 100)
            yaml.safe_dump({"groups": [{"name": "all", "rules": group}]}, file)
            file.flush()
            status, text = promtool("check", "rules", file.name)
            self.assertEqual(status, 0, text)

    def test_every_metric_and_label_is_documented(self):
        known = documented()
        self.assertGreater(len(known), 25)
        recorded = {rule["record"] for rule in all_rules() if "record" in rule}
        for where, expr in exprs():
            found = list(selectors(expr))
            for name, labels in found:
                with self.subTest(where, metric=name):
                    if name in recorded:
                        continue
                    self.assertIn(name, known)
                    self.assertLessEqual(labels, known[name] | OF_TARGETS)
            if not re.fullmatch(r"vector\(\d+\)", expr):
                self.assertTrue(found, f"{where}: {expr}")

    def test_every_documented_metric_is_in_a_dashboard(self):
        drawn = {name for _, panel in panels() for target in panel.get("targets", []) for name, _ in selectors(target["expr"])}
        families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in drawn}
        wanted = {re.sub(r"_(bucket|count|sum)$", "", name) for name in documented()} - {"up"}
        self.assertEqual(wanted - families, set())

    def test_a_proof_is_in_time_up_to_a_bound_of_the_histogram(self):
        source = (ROOT / "pipeline/killick/src/telemetry/metrics.rs").read_text()
        bounds = re.search(r"EVENT_BOUNDS[^=]*= \[(.*?)\]", source, re.S)[1]
        objective = yaml.safe_load((MONITORING / "source.yaml").read_text())["objectives"]["proof"]
        self.assertIn(float(objective), [float(bound.replace("_", "")) for bound in bounds.split(",") if bound.strip()])

    def test_every_alert_has_its_parts(self):
        for name, rule in alerts().items():
            with self.subTest(name):
                self.assertIn(rule["labels"]["severity"], {"page", "ticket"})
                self.assertTrue(rule["annotations"]["summary"])

    def test_every_alert_has_its_page_and_every_page_its_alert(self):
        pages = {}
        for name, rule in alerts().items():
            pages.setdefault(rule["annotations"]["runbook_url"].rsplit("/", 1)[1], []).append(name)
        self.assertEqual(set(pages) | {"README.md"}, {path.name for path in RUNBOOKS.iterdir()})
        for page, names in pages.items():
            with self.subTest(page):
                lines = (RUNBOOKS / page).read_text().splitlines()
                self.assertEqual(lines[0], "# " + ", ".join(names))
                parts = [line for line in lines if line.startswith("## ")]
                self.assertEqual(parts, ["## What it means", "## How to look", "## What to do"])

    def test_every_link_of_a_runbook_leads_somewhere(self):
        for path in RUNBOOKS.iterdir():
            for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
                with self.subTest(path.name, link=link):
                    self.assertTrue((RUNBOOKS / link).is_file())

    @unittest.skipUnless(os.environ.get("KILLICK"), "KILLICK names no program")
    def test_every_command_of_a_runbook_is_one(self):
        texts = [re.sub(r"\s+", " ", path.read_text()) for path in RUNBOOKS.iterdir()]
        found = {match for text in texts for match in re.findall(r"[`$] ?killick ([a-z]+(?: [a-z]+\b)?)", text)}
        self.assertGreater(len(found), 8)
        for command in found:
            with self.subTest(command):
                words = command.split()
                told = subprocess.run([os.environ["KILLICK"], *words, "--help"], capture_output=True, text=True)
                self.assertEqual(told.returncode, 0, told.stderr)

    def test_every_alert_fires_and_clears(self):
        told = yaml.safe_load((HERE / "alerts.yaml").read_text())
        self.assertEqual({test["alert"] for test in told["tests"]}, set(alerts()), "a test for each alert")
        for runbooks in ("", "https://wiki.example/killick/runbooks"):
            made = [for_promtool(test, told["healthy"], runbooks) for test in told["tests"]]
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": made}, file)
                file.flush()
                status, text = promtool("test", "rules", file.name)
                self.assertEqual(status, 0, text)

    def test_a_test_that_is_wrong_is_found(self):
        told = yaml.safe_load((HERE / "alerts.yaml").read_text())
        wrong = {**told["tests"][0], "fires": told["tests"][0]["clear"]}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            tests = [for_promtool(wrong, told["healthy"], "")]
            yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}, file)
            file.flush()
            self.assertNotEqual(promtool("test", "rules", file.name)[0], 0)

    def test_dashboards_can_be_loaded_side_by_side(self):
        found = dashboards()
        wanted = {"overview", "ingest", "dedup", "batch", "anchor", "prove", "chain", "catalog"}
        self.assertEqual(set(found), {f"{name}.json" for name in wanted})
        for name, dashboard in found.items():
            with self.subTest(name):
                # Grafana gives a number to what it stores; one that comes along hits another dashboard.
                self.assertNotIn("id", dashboard)
                self.assertEqual(dashboard["uid"], f"killick-{name.removesuffix('.json')}")
                self.assertLess(len(dashboard["uid"]), 41)
                self.assertEqual([variable["name"] for variable in dashboard["templating"]["list"]], ["datasource", "namespace"])
        titles = [dashboard["title"] for dashboard in found.values()]
        self.assertEqual(len(titles), len(set(titles)))

    def test_the_page_of_dashboards_says_what_is_drawn(self):
        page = (ROOT / "docs/dashboards.md").read_text()
        drawn = re.findall(r"!\[.+\]\(images/(\w+)\.png\)", page)
        self.assertEqual(set(drawn), {path.stem for path in (ROOT / "docs/images").iterdir()})
        self.assertLessEqual(set(drawn), {name.removesuffix(".json") for name in dashboards()})
        for name in dashboards():
            self.assertIn(name.removesuffix(".json"), page.lower())
        for panel in dashboards()["overview.json"]["panels"]:
            if panel["type"] != "row":
                self.assertRegex(page, rf"\n\|[^|]*\b{re.escape(panel['title'])}\b[^|]*\|")
        for link in re.findall(r"\]\(([^)#]+)\)", page):
            self.assertTrue((ROOT / "docs" / link).is_file(), link)

    def test_panels_are_told_apart_and_do_not_overlap(self):
        for name, dashboard in dashboards().items():
            ids = [panel["id"] for panel in dashboard["panels"]]
            self.assertEqual(len(ids), len(set(ids)), name)
            taken = set()
            for panel in dashboard["panels"]:
                at = panel["gridPos"]
                cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
                self.assertFalse(cells & taken, f"{name}: {panel['title']}")
                self.assertLessEqual(at["x"] + at["w"], 24)
                taken |= cells

    def test_every_panel_asks_the_source_that_was_chosen(self):
        for name, panel in panels():
            for asked in [panel, *panel.get("targets", [])]:
                if panel["type"] != "row":
                    with self.subTest(name, panel=panel["title"]):
                        self.assertEqual(asked["datasource"], {"type": "prometheus", "uid": "${datasource}"})
            refs = [target["refId"] for target in panel.get("targets", [])]
            self.assertEqual(len(refs), len(set(refs)))


if __name__ == "__main__":
    unittest.main()
