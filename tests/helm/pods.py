"""Pods of rendered manifests as processes of this machine, started, asked and stopped as a kubelet does."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEPLOY = HERE.parents[1] / "deploy"
# The last stage of the file is the image.
IMAGE = (DEPLOY / "Containerfile").read_text().rsplit("\nFROM ", 1)[1]
IMAGE_ENV = dict(pair.split("=", 1) for line in re.findall(r"^ENV (.*)$", IMAGE, flags=re.M) for pair in line.split())
IMAGE_USER = tuple(map(int, re.search(r"^USER (\d+):(\d+)$", IMAGE, flags=re.M).groups()))
IMAGES = tempfile.TemporaryDirectory(prefix="killick-images-")
# Before a container is started again. A kubelet waits for 10 s at first.
BACK_OFF = 2


class Broken(Exception):
    """What would leave a pod waiting or restarting."""


class Cluster:
    """Where pods run: objects that were applied, secrets that are there, programs by image."""

    def __init__(self, folder, programs):
        self.folder, self.programs = Path(folder), programs
        self.secrets, self.config_maps, self.addresses = {}, {}, 0

    def apply(self, documents):
        for document in documents:
            if document["kind"] == "ConfigMap":
                self.config_maps[document["metadata"]["name"]] = document["data"]

    def program(self, image):
        """The program in an image: the one that is named for it, or for all others."""
        return self.programs.get(image) or self.programs[""]

    def address(self):
        """An address for a pod: loopback has many."""
        self.addresses += 1
        return f"127.88.{self.addresses // 250}.{self.addresses % 250 + 1}"


@functools.cache
def image_of(program):
    """The files of the image with this program: where they are, and where in the image."""
    root = Path(IMAGES.name, str(len(os.listdir(IMAGES.name))))
    subprocess.run([DEPLOY / "image-root", program, root], check=True, capture_output=True)
    return [[str(path), f"/{path.relative_to(root)}"] for path in sorted(root.rglob("*")) if path.is_file()]


class Pod:
    """One pod: a name, a template, and its processes."""

    def __init__(self, cluster, name, template, namespace="test"):
        self.cluster, self.name, self.namespace = cluster, name, namespace
        self.template, self.spec = template, template["spec"]
        self.folder = cluster.folder / name
        self.address = cluster.address()
        self.process, self.restarts, self.is_started, self.not_live = None, 0, False, 0
        shutil.rmtree(self.folder / "volumes", ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.volumes = {volume["name"]: self.make(volume) for volume in self.spec["volumes"]}

    # Volumes.

    def make(self, volume):
        folder = self.folder / "volumes" / volume["name"]
        if "configMap" in volume:
            for name, text in self.cluster.config_maps[volume["configMap"]["name"]].items():
                self.put(folder / name, text.encode(), 0o644)
        elif "projected" in volume:
            for source in volume["projected"]["sources"]:
                secret = source["secret"]
                found = self.cluster.secrets.get(secret["name"])
                if found is None:
                    raise Broken(f"{self.name}: there is no Secret {secret['name']}")
                for item in secret["items"]:
                    if item["key"] not in found:
                        raise Broken(f"{self.name}: Secret {secret['name']} has no key {item['key']}")
                    self.put(folder / item["path"], found[item["key"]], volume["projected"]["defaultMode"])
        elif "emptyDir" in volume:
            folder.mkdir(parents=True)
            if os.geteuid() == 0:
                os.chown(folder, 0, self.spec["securityContext"]["fsGroup"])
                folder.chmod(0o2770)
        else:
            raise Broken(f"{self.name}: a volume of another kind: {volume}")
        return folder

    def put(self, path, content, mode):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if os.geteuid() == 0:
            os.chown(path, 0, self.spec["securityContext"]["fsGroup"])
        path.chmod(mode)

    # Containers.

    def environment(self, container):
        found, named = {**IMAGE_ENV, "HOSTNAME": self.name}, set()
        fields = {"metadata.name": self.name, "metadata.namespace": self.namespace}
        for variable in container["env"]:
            if variable["name"] in named:
                raise Broken(f"{self.name}: {variable['name']} twice")
            named.add(variable["name"])
            if "valueFrom" in variable:
                value = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                value = re.sub(r"\$\((\w+)\)", lambda match: found.get(match[1], match[0]), variable["value"])
            found[variable["name"]] = value
        # Instead of an address of its own: the port is the chart's.
        for port in container.get("ports", []):
            if port["name"] == "admin":
                found["KILLICK_ADMIN__LISTEN"] = f"{self.address}:{port['containerPort']}"
        return found

    def cell(self, container, argv):
        """The command that becomes this container's process."""
        of_pod, of_container = self.spec["securityContext"], container["securityContext"]
        environment = self.environment(container)
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        spec = {
            "root": str(root),
            # The names of hosts are the kubelet's.
            "image": image_of(self.cluster.program(container["image"])) + [["/etc/hosts", "/etc/hosts"]],
            "mounts": [
                {"from": str(self.volumes[mount["name"]]), "to": mount["mountPath"], "readOnly": mount.get("readOnly", False)}
                for mount in container["volumeMounts"]
            ],
            "readOnlyRoot": of_container["readOnlyRootFilesystem"],
            "noNewPrivileges": not of_container["allowPrivilegeEscalation"],
            "dropAll": "ALL" in of_container["capabilities"]["drop"],
            "uid": of_pod["runAsUser"],
            "gid": of_pod["runAsGroup"],
            "groups": [of_pod["fsGroup"]],
            "program": f"{environment['PATH']}/{argv[0]}",
            "argv": argv,
            "env": environment,
        }
        path = self.folder / f"{container['name']}.json"
        path.write_text(json.dumps(spec))
        return [sys.executable, str(HERE / "cell.py"), str(path)]

    def execute(self, container, argv, **options):
        """Runs a command in a container to its end, as `kubectl exec` does."""
        return subprocess.run(self.cell(container, argv), stdin=subprocess.DEVNULL, **options)

    def run(self):
        """Runs a Job's pod to its end: init containers in their order, then the others."""
        for container in self.spec.get("initContainers", []) + self.spec["containers"]:
            with open(self.folder / f"{container['name']}.log", "ab") as log:
                done = self.execute(container, container["command"] + container["args"], stdout=log, stderr=log)
            if done.returncode != 0:
                raise Broken(f"{self.name}: {container['name']} ended with {done.returncode}; see {log.name}")

    @property
    def container(self):
        (container,) = self.spec["containers"]
        return container

    def start(self):
        command = self.cell(self.container, self.container["command"] + self.container["args"])
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.is_started, self.not_live = False, 0

    def get(self, path, timeout=5):
        """What the admin port answers; nothing where it is no success."""
        (port,) = (port["containerPort"] for port in self.container["ports"] if port["name"] == "admin")
        try:
            with urllib.request.urlopen(f"http://{self.address}:{port}{path}", timeout=timeout) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def ask(self, name):
        """Whether a probe is content."""
        probe = self.container[name]
        return self.get(probe["httpGet"]["path"], probe["timeoutSeconds"]) is not None

    def is_ready(self):
        """Looks at the pod once, as a kubelet does: starts it again where it has ended, and asks its probes."""
        if self.process.poll() is not None:
            self.restarts += 1
            time.sleep(BACK_OFF)
            self.start()
            return False
        self.is_started = self.is_started or self.ask("startupProbe")
        if not self.is_started:
            return False
        self.not_live = 0 if self.ask("livenessProbe") else self.not_live + 1
        if self.not_live >= self.container["livenessProbe"]["failureThreshold"]:
            raise Broken(f"{self.name} is not live")
        return self.ask("readinessProbe")

    def stop(self):
        """SIGTERM and the grace period; whoever needs SIGKILL is broken."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(self.spec["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            self.kill()
            raise Broken(f"{self.name} did not end in its grace period") from None
        if status != 0:
            raise Broken(f"{self.name} ended with {status}; see {self.folder}/log")
        return time.monotonic() - begun

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def confinement(self):
        """What the kernel says of the process: what of the security context does not hold."""
        base = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":\t", 1) for line in (base / "status").read_text().splitlines() if ":\t" in line)
        roots = [line.split() for line in (base / "mountinfo").read_text().splitlines()]
        user = self.spec["securityContext"]["runAsUser"] if os.geteuid() == 0 else os.geteuid()
        holds = {
            "user": set(map(int, status["Uid"].split())) == {user},
            "capabilities": all(int(status[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")),
            "no new privileges": status["NoNewPrivs"] == "1",
            "read-only root": any(line[4] == "/" and "ro" in line[5].split(",") for line in roots),
            "no shell": not (base / "root/bin/sh").exists(),
        }
        return [name for name, held in holds.items() if not held]


class Set:
    """A StatefulSet: pods with ordinals, replaced from the last to the first. Or a Deployment that recreates: its one pod ends before the
    next one begins, which has another name."""

    def __init__(self, cluster, document):
        self.cluster, self.name, self.pods = cluster, document["metadata"]["name"], []
        self.is_stateful, self.made = document["kind"] == "StatefulSet", 0
        self.apply(document)

    def make(self, ordinal):
        self.made += 1
        return Pod(self.cluster, f"{self.name}-{ordinal if self.is_stateful else f'x{self.made}'}", self.template)

    def apply(self, document):
        """Takes a new manifest; says whether pods have to be replaced."""
        template = document["spec"]["template"]
        is_changed = getattr(self, "template", None) not in (None, template)
        self.template, self.replicas = template, document["spec"].get("replicas", 1)
        return is_changed

    def scale(self):
        """Starts and stops pods until there are as many as wanted: all at once, as `Parallel` says."""
        while len(self.pods) > self.replicas:
            self.pods.pop().stop()
        while len(self.pods) < self.replicas:
            pod = self.make(len(self.pods))
            self.pods.append(pod)
            pod.start()

    def roll(self, wait):
        """Replaces each pod, the last first, the next when the one before is ready."""
        for ordinal in reversed(range(len(self.pods))):
            self.pods[ordinal].stop()
            self.pods[ordinal] = self.make(ordinal)
            self.pods[ordinal].start()
            wait([self.pods[ordinal]])
