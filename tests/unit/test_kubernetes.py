"""The Kubernetes manifests, as kustomize lays them out: valid, and with as few rights as the containers of compose."""

from __future__ import annotations

import copy
import functools
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.common.serving import telemetry
from services.common.serving.settings import ServiceSettings
from services.gateway.settings import Settings as Gateway
from services.retrieval.settings import Settings as Retrieval
from services.segmenter.settings import Settings as Segmenter

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
ROOMS = {"gateway", "worker", "segmenter", "classifier", "retrieval"}
STATELESS = ROOMS - {"retrieval"}
EXTERNAL = ("ScaledObject",)  # KEDA's, not in Kubernetes' own schemas
Document = dict[str, Any]

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@functools.cache
def _built(overlay: str) -> str:
    folder = FOLDER / "overlays" / overlay
    return subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout


def _documents(overlay: str) -> list[Document]:
    return list(yaml.safe_load_all(_built(overlay)))


def _of(documents: list[Document], kind: str) -> dict[str, Document]:
    return {found["metadata"]["name"]: found for found in documents if found["kind"] == kind}


def _pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Every pod's name and spec."""
    for found in documents:
        if found["kind"] in ("Deployment", "StatefulSet"):
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]
        if found["kind"] == "CronJob":
            yield found["metadata"]["name"], found["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def violations(documents: list[Document]) -> list[str]:
    """Every way in which the documents break a rule."""
    found = []
    for name, pod in _pods(documents):
        secure = pod.get("securityContext", {})
        rules = {
            "runs as root": secure.get("runAsNonRoot") is not True or not secure.get("runAsUser"),
            "calls the kernel as it likes": secure.get("seccompProfile") != {"type": "RuntimeDefault"},
            "holds a token of the cluster": pod.get("automountServiceAccountToken") is not False,
            "shares the node": any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
            "mounts the node's files": any("hostPath" in volume for volume in pod.get("volumes", [])),
        }
        found += [f"{name} {rule}" for rule, broken in rules.items() if broken]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            rules = _container_rules(container, serves=name in ROOMS and container in pod["containers"])
            found += [f"{container['name']} {rule}" for rule, broken in rules.items() if broken]
    guarded = set(_of(documents, "PodDisruptionBudget"))
    found += [f"{name} may be evicted whole" for name in ROOMS - guarded]
    closed = _of(documents, "NetworkPolicy").get("nobody", {}).get("spec")
    if closed != {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}:
        found.append("the network is open")
    if _of(documents, "Secret") or re.search(r"(?i)password: \S|csk_|AWS_SECRET", yaml.safe_dump(documents)):
        found.append("a secret is written down")
    if _of(documents, "StatefulSet").get("retrieval", {}).get("spec", {}).get("replicas") != 1:
        found.append("the memory has more than one writer")
    return found


def _container_rules(container: Document, *, serves: bool) -> dict[str, bool]:
    secure, resources = container.get("securityContext", {}), container.get("resources", {})
    probes = ("startupProbe", "readinessProbe", "livenessProbe") if serves else ()
    return {
        "can write to its image": secure.get("readOnlyRootFilesystem") is not True,
        "keeps capabilities": secure.get("capabilities") != {"drop": ["ALL"]},
        "can gain privileges": secure.get("allowPrivilegeEscalation") is not False or bool(secure.get("privileged")),
        "asks for nothing": not {"cpu", "memory"} <= set(resources.get("requests", {})),
        "has no limit": "memory" not in resources.get("limits", {}),
        "is not probed": not all(container.get(probe) for probe in probes),
        "has a moving image": not re.search(r":\d+\.\d+\.\d+(-gpu)?(@sha256:[0-9a-f]{64})?$", container["image"]),
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid_for_kubernetes(overlay: str) -> None:
    documents = _documents(overlay)
    assert {found["metadata"]["name"] for found in documents} >= ROOMS
    for found in documents:
        if found["kind"] not in EXTERNAL:
            kubernetes_validate.validate(found, "1.33", strict=True)


def test_uploads_lie_on_the_nodes_disk_and_several_of_the_largest_fit() -> None:
    pod = dict(_pods(_documents("cpu")))["gateway"]
    (container,) = pod["containers"]
    where = {entry["name"]: entry.get("value") for entry in container["env"]}["TMPDIR"]
    (mount,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == where]
    (disk,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == mount]
    assert "medium" not in disk
    assert int(disk["sizeLimit"].removesuffix("Gi")) * 2**30 >= 4 * Gateway.model_fields["max_claim_bytes"].default


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_has_least_rights(overlay: str) -> None:
    assert violations(_documents(overlay)) == []


def _pod(name: str, change: Callable[[Document], object]) -> Callable[[list[Document]], object]:
    return lambda documents: change(dict(_pods(documents))[name])


def _container(name: str, change: Callable[[Document], object]) -> Callable[[list[Document]], object]:
    return _pod(name, lambda pod: change(pod["containers"][0]))


@pytest.mark.parametrize(
    "spoil",
    [
        _pod("gateway", lambda pod: pod["securityContext"].pop("runAsNonRoot")),
        _pod("worker", lambda pod: pod.pop("securityContext")),
        _pod("retrieval-snapshot", lambda pod: pod.pop("automountServiceAccountToken")),
        _pod("segmenter", lambda pod: pod.update(hostNetwork=True)),
        _pod("segmenter", lambda pod: pod["volumes"].append({"name": "node", "hostPath": {"path": "/"}})),
        _container("classifier", lambda one: one["securityContext"].pop("readOnlyRootFilesystem")),
        _container("classifier", lambda one: one["securityContext"]["capabilities"].update(add=["SYS_ADMIN"])),
        _container("retrieval", lambda one: one.pop("livenessProbe")),
        _container("worker", lambda one: one.pop("readinessProbe")),
        _container("gateway", lambda one: one["resources"].pop("limits")),
        _container("gateway", lambda one: one.update(image="claimsight-gateway:latest")),
        lambda documents: documents.remove(_of(documents, "PodDisruptionBudget")["worker"]),
        lambda documents: documents.remove(_of(documents, "NetworkPolicy")["nobody"]),
        lambda documents: _of(documents, "StatefulSet")["retrieval"]["spec"].update(replicas=2),
        lambda documents: documents.append({"kind": "Secret", "metadata": {"name": "claimsight"}}),
    ],
)
def test_the_rules_notice_what_breaks_them(spoil: Callable[[list[Document]], object]) -> None:
    documents = copy.deepcopy(_documents("cpu"))
    spoil(documents)
    assert violations(documents)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_that_is_named_exists(overlay: str) -> None:
    documents = _documents(overlay)
    services, claims = _of(documents, "Service"), _of(documents, "PersistentVolumeClaim")
    configured = _of(documents, "ConfigMap")
    for name, pod in _pods(documents):
        (container,) = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        owned = {
            each["metadata"]["name"]
            for each in _of(documents, "StatefulSet")["retrieval"]["spec"]["volumeClaimTemplates"]
        }
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes or (name == "retrieval" and mount["name"] in owned), (name, mount)
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {"claimName": ""})["claimName"] in {"", *claims}, name
        for source in container.get("envFrom", []):
            assert source.get("configMapRef", {"name": next(iter(configured))})["name"] in configured
        given = {item["path"] for item in volumes["secrets"]["secret"]["items"]}
        used = set(re.findall(r"/run/secrets/claimsight/([\w-]+)", yaml.safe_dump(container)))
        assert given == used, name
    for name, service in services.items():
        assert service["spec"]["selector"] == {"app.kubernetes.io/name": name}
    for name, budget in _of(documents, "PodDisruptionBudget").items():
        assert budget["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": name}
    (settings,) = configured.values()
    for key, value in settings["data"].items():
        if re.search(r"(SEGMENTER|CLASSIFIER|RETRIEVAL)_URL$", key):
            assert value.removeprefix("http://").removesuffix(":8000") in services


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_is_one_that_its_room_has(overlay: str) -> None:
    """A typing error in a variable's name is otherwise noticed by nobody."""
    classes: tuple[type[ServiceSettings], ...] = (Gateway, Segmenter, Retrieval)
    known = {
        f"{found.model_config.get('env_prefix')}{field}".upper() for found in classes for field in found.model_fields
    }
    known |= {name.replace("SEGMENTER", "CLASSIFIER") for name in known}
    for name in re.findall(r"CLAIMSIGHT_[A-Z_]+", _built(overlay)):
        assert name.removesuffix("_FILE") in known, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_has_no_state_grows_with_the_age_of_the_oldest_claim(overlay: str) -> None:
    documents = _documents(overlay)
    scaled = _of(documents, "ScaledObject")
    assert set(scaled) == STATELESS - {"gateway"}
    for name, found in scaled.items():
        assert found["spec"]["scaleTargetRef"] == {"name": name}
        assert 1 <= found["spec"]["minReplicaCount"] < found["spec"]["maxReplicaCount"]
        assert "replicas" not in _of(documents, "Deployment")[name]["spec"]  # two masters would fight over it
        (trigger,) = found["spec"]["triggers"]
        assert trigger["type"] == "prometheus"
        assert telemetry.QUEUE_OLDEST_SECONDS._name in trigger["metadata"]["query"]


def test_only_the_gateways_own_reach_the_models() -> None:
    policies = _of(_documents("cpu"), "NetworkPolicy")
    (rule,) = policies["models"]["spec"]["ingress"]
    (asking,) = rule["from"]
    assert asking["podSelector"]["matchExpressions"][0]["values"] == ["gateway", "worker"]
    assert "egress" not in policies["models"]["spec"]
    for policy in policies.values():
        assert policy["spec"]["podSelector"] is not None
        for opened in policy["spec"].get("ingress", []):
            assert opened.get("from"), policy["metadata"]["name"]


def test_a_gpu_room_asks_for_its_gpu_and_keeps_its_engines() -> None:
    for name, pod in _pods(_documents("gpu")):
        (container,) = pod["containers"]
        needs = name in ("segmenter", "classifier")
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == needs
        assert container["image"].endswith("-gpu") == needs
        if needs:
            environment = {entry["name"]: entry["value"] for entry in container["env"]}
            assert environment[f"CLAIMSIGHT_{name.upper()}_REQUIRE_GPU"] == "true"
            assert environment[f"CLAIMSIGHT_{name.upper()}_ENGINES"] in [
                m["mountPath"] for m in container["volumeMounts"]
            ]
