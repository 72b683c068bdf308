"""The containers keep the house's rules: least rights, no open ports but one, no secrets that anybody could know."""

from __future__ import annotations

import copy
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.gateway import apikeys

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("requirements", ROOT / "deploy" / "requirements.py")
assert _spec is not None and _spec.loader is not None
requirements = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(requirements)
ROOMS = ("gateway", "segmenter", "classifier", "retrieval", "generator")
PUBLISHED = {"gateway": "127.0.0.1:${PORT:-8080}:8000", "grafana": "127.0.0.1:${GRAFANA_PORT:-3000}:3000"}
SENDS = {"gateway-worker": ["egress", "inner"]}  # webhooks
Compose = dict[str, Any]


def _compose(name: str = "docker-compose.yml") -> Compose:
    loaded: Compose = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return loaded


def violations(compose: Compose) -> list[str]:
    """Every way in which a service of `compose` breaks a rule."""
    found = []
    for name, service in compose["services"].items():
        rules = {
            "runs as root": str(service.get("user", "root")).split(":")[0] in ("root", "0"),
            "can write to its image": service.get("read_only") is not True,
            "keeps capabilities": service.get("cap_drop") != ["ALL"] or "cap_add" in service,
            "can gain privileges": "no-new-privileges:true" not in service.get("security_opt", []),
            "is privileged": bool(service.get("privileged")),
            "has a /tmp that can grow or run programs": not any(
                mount.startswith("/tmp:") and "size=" in mount and "noexec" in mount
                for mount in service.get("tmpfs", [])
            ),
            "has no limits": not all(service.get(limit) for limit in ("mem_limit", "cpus", "pids_limit")),
            "logs without end": not service.get("logging", {}).get("options", {}).get("max-size"),
            "has no health check": name != "init" and not service.get("healthcheck", {}).get("test"),
            "needs curl": "curl" in str(service.get("healthcheck")),
            "does not come back": name != "init" and service.get("restart") != "unless-stopped",
            "publishes a port": name not in PUBLISHED and "ports" in service,
            "is on an open network": name not in PUBLISHED
            and service.get("networks", []) not in ([], ["inner"], SENDS.get(name)),
            "has a moving image": ":latest" in service.get("image", "")
            or not (service.get("build") or _pinned(service)),
        }
        found += [f"{name} {rule}" for rule, broken in rules.items() if broken]
    for name, port in PUBLISHED.items():
        if compose["services"][name]["ports"] != [port]:
            found.append(f"{name} is published beyond this machine")
    if compose["networks"]["inner"] != {"internal": True}:
        found.append("inner reaches the outside")
    if re.search(r"(?i)password:\s*\S|requirepass (?!\$\$\(cat)", yaml.safe_dump(compose)):
        found.append("a password is written down")
    return found


def _pinned(service: Compose) -> bool:
    return re.fullmatch(r"[\w/.-]+:v?\d+[\w.-]*(@sha256:[0-9a-f]{64})?", service.get("image", "")) is not None


def test_every_container_has_least_rights() -> None:
    compose = _compose()
    assert set(ROOMS) | {"gateway-worker", "redis", "postgres", "init", "prometheus", "grafana"} == set(
        compose["services"]
    )
    assert violations(compose) == []


def _remove(service: str, key: str) -> Callable[[Compose], object]:
    return lambda compose: compose["services"][service].pop(key)


def _put(service: str, key: str, value: object) -> Callable[[Compose], object]:
    return lambda compose: compose["services"][service].update({key: value})


@pytest.mark.parametrize(
    "spoil",
    [
        *(_remove("segmenter", key) for key in ("user", "read_only", "cap_drop", "security_opt", "tmpfs", "mem_limit")),
        *(_remove("redis", key) for key in ("cpus", "pids_limit", "logging", "healthcheck", "restart")),
        _put("postgres", "ports", ["5432:5432"]),
        _put("postgres", "environment", {"POSTGRES_PASSWORD": "claimsight"}),
        _put("gateway", "ports", ["8080:8000"]),
        _put("grafana", "ports", ["3000:3000"]),
        _put("gateway-worker", "networks", ["edge", "inner"]),
        _put("retrieval", "user", "0:0"),
        _put("retrieval", "cap_add", ["SYS_ADMIN"]),
        _put("redis", "image", "redis:latest"),
        lambda compose: compose["networks"].update(inner={}),
    ],
)
def test_the_rules_notice_what_breaks_them(spoil: Callable[[Compose], object]) -> None:
    compose = copy.deepcopy(_compose())
    spoil(compose)
    assert violations(compose)


def test_every_volume_network_and_dependency_exists() -> None:
    compose = _compose()
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"], f"{name}: {volume}"
        assert set(service.get("networks", [])) <= set(compose["networks"]), name
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name


def test_every_secret_that_init_writes_lies_where_it_may_write() -> None:
    """A named volume takes its owner from the image's folder; without one it is root's, and init is not root."""
    image = (ROOT / "services" / "gateway" / "Dockerfile").read_text(encoding="utf-8")
    for volume in _compose()["services"]["init"]["volumes"]:
        assert volume.split(":")[1] in image, volume


def test_every_room_tells_prometheus_where_it_is_asked() -> None:
    services = _compose()["services"]
    (job,) = _compose("deploy/prometheus/prometheus.yml")["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert set(found["names"]) == {*ROOMS, "gateway-worker"} - {"generator"}
    for name in found["names"]:
        (port,) = (v for k, v in services[name]["environment"].items() if k.endswith("_METRICS_PORT"))
        assert port == str(found["port"])


@pytest.mark.parametrize("room", list(requirements.WITHOUT))
def test_an_image_installs_everything_that_its_room_imports(room: str) -> None:
    """The room's modules are imported where what its image leaves out cannot be found."""
    modules = {"pi-heif": "pi_heif", "python-multipart": "python_multipart"}
    left_out = [modules.get(name, name.replace("-", "_")) for name in requirements.WITHOUT[room]]
    text = (ROOT / "services" / room / "Dockerfile").read_text(encoding="utf-8")
    assert f"deploy/requirements.py {room} > requirements.txt" in text
    script = (
        "import importlib.abc, pkgutil, sys\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name.split('.')[0] in {left_out}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"import services.{room} as package\n"
        "for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    if '.migrations.' not in found.name: __import__(found.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]


def test_what_an_image_leaves_out_is_what_the_project_has() -> None:
    listed = {requirements.name_of(requirement) for requirement in requirements._project()["dependencies"]}
    for room, names in requirements.WITHOUT.items():
        assert set(names) <= listed, room


def test_the_queue_forgets_nothing() -> None:
    command = "\n".join(_compose()["services"]["redis"]["entrypoint"])
    assert "appendonly yes" in command
    assert "maxmemory-policy noeviction" in command


def test_a_service_with_a_gpu_refuses_to_run_without_it() -> None:
    gpu = _compose("compose.gpu.yml")["services"]
    assert set(gpu) == {"segmenter", "classifier"}
    for name, service in gpu.items():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert service["environment"][f"CLAIMSIGHT_{name.upper()}_REQUIRE_GPU"] == "true"
        assert "ARG GPU" in (ROOT / "services" / name / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("room", ROOMS)
def test_every_image_holds_one_room_runs_without_root_and_knows_its_health(room: str) -> None:
    text = (ROOT / "services" / room / "Dockerfile").read_text(encoding="utf-8")
    final = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.M)
    assert "HEALTHCHECK" in final
    assert "/health/ready" in final
    assert "curl" not in text
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["python:3.11-slim-bookworm"] * 2
    copied = set(re.findall(r"^COPY services/(\w+) ", text, re.M))
    assert copied == {"common", room}
    assert _compose()["services"][room]["build"]["dockerfile"] == f"services/{room}/Dockerfile"


def test_variables_of_the_example_file_are_those_of_the_compose_files() -> None:
    used = set()
    for name in ("docker-compose.yml", "compose.gpu.yml"):
        used |= set(re.findall(r"(?<!\$)\$\{(\w+):-([^}]*)\}", (ROOT / name).read_text(encoding="utf-8")))
    documented = re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.M)
    assert set(documented) == used


def test_the_names_of_a_proxy_reach_the_gateway() -> None:
    assert _compose()["services"]["gateway"]["environment"]["CLAIMSIGHT_GATEWAY_HOSTS"] == "${HOSTS:-}"


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "gateway"])
def test_every_model_service_asks_for_the_houses_secret(room: str) -> None:
    service = _compose()["services"][room]
    assert service["environment"][f"CLAIMSIGHT_{room.upper()}_INTERNAL_KEY_FILE"] == "/run/secrets/internal/password"
    assert "internal-secret:/run/secrets/internal:ro" in service["volumes"]


def test_the_gateway_starts_with_a_key_of_its_own() -> None:
    gateway = _compose()["services"]["gateway"]
    assert gateway["environment"]["CLAIMSIGHT_GATEWAY_ADMIN_KEY_FILE"] == "/run/secrets/admin/password"
    assert "admin-secret:/run/secrets/admin:ro" in gateway["volumes"]
    assert "admin-secret" not in str(_compose()["services"]["gateway-worker"])


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    names = ("redis", "database", "internal", "admin", "grafana")
    for name in names:
        (tmp_path / name).mkdir()
    command = [sys.executable, str(ROOT / "deploy" / "make_secrets.py"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    first = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.glob("*/*")}
    said = subprocess.run(command, check=True, capture_output=True).stdout
    assert said == b""
    assert first == {path.relative_to(tmp_path): path.read_text() for path in tmp_path.glob("*/*")}
    passwords = {first[Path(name) / "password"] for name in names}
    assert len(passwords) == len(names)
    assert all(len(password) >= 40 for password in passwords)
    assert first[Path("redis/password")] in first[Path("redis/url")]
    assert apikeys.parse(first[Path("admin/password")])
