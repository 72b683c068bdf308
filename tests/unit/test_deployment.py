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
from compose_spec import PyCompose

from services import VERSION
from services.gateway import apikeys
from services.gateway.settings import Settings

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("env_example", ROOT / "deploy" / "env_example.py")
assert _spec is not None and _spec.loader is not None
env_example = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(env_example)
ROOMS = ("gateway", "segmenter", "classifier", "retrieval", "generator")
PUBLISHED = {"gateway": "127.0.0.1:${PORT:-8080}:8000", "grafana": "127.0.0.1:${GRAFANA_PORT:-3000}:3000"}
SENDS = {"gateway-worker": {"egress"}}  # webhooks
KEEPS = {"gateway", "gateway-worker", "retrieval"}  # in PostgreSQL or Redis
ONCE = ("init", "segmenter-init", "classifier-init")  # run, and end
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
            "may open few files": service.get("ulimits", {}).get("nofile", 0) < 65536,
            "logs without end": not service.get("logging", {}).get("options", {}).get("max-size"),
            "has no health check": name not in ONCE and not service.get("healthcheck", {}).get("test"),
            "needs curl": "curl" in str(service.get("healthcheck")),
            "does not come back": name not in ONCE and service.get("restart") != "unless-stopped",
            "publishes a port": name not in PUBLISHED and "ports" in service,
            "is on an open network": name not in PUBLISHED
            and not {*service.get("networks", [])} <= {"inner", "stores", *SENDS.get(name, ())},
            "reaches the stores": name not in KEEPS | {"redis", "postgres"} and "stores" in service.get("networks", []),
            "is reached by all": name in ("redis", "postgres") and service.get("networks") != ["stores"],
            "has a moving image": not _pinned(service),
        }
        found += [f"{name} {rule}" for rule, broken in rules.items() if broken]
    for name, port in PUBLISHED.items():
        if compose["services"][name]["ports"] != [port]:
            found.append(f"{name} is published beyond this machine")
    for network in ("inner", "stores"):
        if compose["networks"][network] != {"internal": True}:
            found.append(f"{network} reaches the outside")
    if re.search(r"(?i)password:\s*\S|requirepass (?!\$\$\(cat)", yaml.safe_dump(compose)):
        found.append("a password is written down")
    return found


def _pinned(service: Compose) -> bool:
    """Ours carry the project's version; a tag of others that names a release without its patch moves."""
    name, _, tag = service.get("image", "").partition(":")
    if service.get("build"):
        return bool(re.fullmatch(r"claimsight-\w+", name)) and tag in (VERSION, f"{VERSION}-gpu")
    digits = 2 if name == "postgres" else 3  # PostgreSQL's versions have two numbers
    return re.fullmatch(rf"v?\d+(\.\d+){{{digits - 1}}}(-\w+)?(@sha256:[0-9a-f]{{64}})?", tag) is not None


def test_every_container_has_least_rights() -> None:
    compose = _compose()
    assert set(compose["services"]) == {*ROOMS, *ONCE, "gateway-worker", "redis", "postgres", "prometheus", "grafana"}
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
        _remove("gateway", "ulimits"),
        _put("postgres", "ports", ["5432:5432"]),
        _put("postgres", "environment", {"POSTGRES_PASSWORD": "claimsight"}),
        _put("gateway", "ports", ["8080:8000"]),
        _put("grafana", "ports", ["3000:3000"]),
        _put("gateway-worker", "networks", ["edge", "inner", "stores"]),
        _put("segmenter", "networks", ["inner", "stores"]),
        _put("postgres", "networks", ["inner", "stores"]),
        _put("retrieval", "user", "0:0"),
        _put("retrieval", "cap_add", ["SYS_ADMIN"]),
        _put("redis", "image", "redis:latest"),
        _put("redis", "image", "redis:8.2-bookworm"),
        _put("postgres", "image", "postgres"),
        _put("segmenter", "image", "claimsight-segmenter"),
        _remove("segmenter-init", "read_only"),
        lambda compose: compose["networks"].update(inner={}),
        lambda compose: compose["networks"].update(stores={}),
    ],
)
def test_the_rules_notice_what_breaks_them(spoil: Callable[[Compose], object]) -> None:
    compose = copy.deepcopy(_compose())
    spoil(compose)
    assert violations(compose)


def _interpolated(name: str) -> Compose:
    """A compose file with the defaults of its variables put in, as a schema wants to read it."""
    text = re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", (ROOT / name).read_text(encoding="utf-8"))
    compose: Compose = yaml.safe_load(text)
    for service in compose["services"].values():
        service["cpus"] = float(service.get("cpus", 1))  # this reader wants 2.0 where Compose takes 2 as well
    return compose


@pytest.mark.parametrize("name", ["docker-compose.yml", "compose.gpu.yml"])
def test_the_compose_files_are_valid_for_compose(name: str) -> None:
    PyCompose.from_yaml(yaml.safe_dump(_interpolated(name)))


@pytest.mark.parametrize(
    ("key", "value"), [("mem_limitt", "1g"), ("restart", "sometimes"), ("cpus", "many"), ("tmpfs", {"/tmp": "64m"})]
)
def test_the_schema_notices_what_compose_would_not_understand(key: str, value: object) -> None:
    compose = _interpolated("docker-compose.yml")
    compose["services"]["redis"][key] = value
    with pytest.raises(ValueError, match=key):
        PyCompose.from_yaml(yaml.safe_dump(compose))


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


def test_grafana_reports_and_fetches_nothing() -> None:
    """It is the one container of others' that has a way out: its port is published."""
    environment = _compose()["services"]["grafana"]["environment"]
    for name in ("ANALYTICS_REPORTING_ENABLED", "ANALYTICS_CHECK_FOR_UPDATES", "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES"):
        assert environment[f"GF_{name}"] == "false"
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_the_queue_forgets_nothing() -> None:
    command = "\n".join(_compose()["services"]["redis"]["entrypoint"])
    assert "appendonly yes" in command
    assert "maxmemory-policy noeviction" in command


def test_a_service_with_a_gpu_refuses_to_run_without_it() -> None:
    gpu = _compose("compose.gpu.yml")["services"]
    assert set(gpu) == {"segmenter", "segmenter-init", "classifier", "classifier-init"}
    for name, service in gpu.items():
        room = name.removesuffix("-init")
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert service["environment"][f"CLAIMSIGHT_{room.upper()}_REQUIRE_GPU"] == "true"
        assert service["build"]["args"] == {"LOCK": f"{room}-gpu"}
        assert _pinned(service)
        assert service["volumes"] == [f"{room}-engines:/engines"]  # the one builds what the other loads


@pytest.mark.parametrize("room", ["segmenter", "classifier"])
def test_a_model_is_proven_before_it_serves(room: str) -> None:
    services = _compose()["services"]
    assert services[room]["depends_on"][f"{room}-init"] == {"condition": "service_completed_successfully"}
    assert services[f"{room}-init"]["command"] == ["prepare"]
    assert services[f"{room}-init"]["image"] == services[room]["image"]
    assert services[f"{room}-init"]["network_mode"] == "none"


def test_the_example_file_shows_every_setting_as_it_is() -> None:
    """Fails after a setting came, changed or went: `python -m deploy.env_example`."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example.example()


def test_what_the_example_file_shows_reaches_its_service() -> None:
    services = _compose()["services"]
    shown = re.findall(r"^#(CLAIMSIGHT_(\w+?)_\w+)=", env_example.example(), re.M)
    assert len(shown) > 50
    for variable, room in shown:
        service = services[room.lower()]
        assert {"path": ".env", "required": False} in service["env_file"]
        assert variable not in service["environment"]  # what stands there would win


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


def test_several_of_the_largest_uploads_fit_into_the_gateways_tmp_at_once() -> None:
    gateway = _compose()["services"]["gateway"]
    (size,) = re.findall(r"^/tmp:size=(\d+)m,", "\n".join(gateway["tmpfs"]), re.MULTILINE)
    assert int(size) >= 4 * Settings.model_fields["max_claim_bytes"].default / 2**20
    assert int(gateway["mem_limit"].removesuffix("m")) >= int(size) + 1024  # what lies there is memory


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
    for name in ("password", "url"):  # as docs/operations.md changes a secret
        (tmp_path / "redis" / name).unlink()
    subprocess.run(command, check=True, capture_output=True)
    changed = {path.relative_to(tmp_path) for path in tmp_path.glob("*/*") if path.read_text() not in first.values()}
    assert changed == {Path("redis/password"), Path("redis/url")}
