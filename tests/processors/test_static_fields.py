import os
import platform
import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from fapilog import LoggingSettings, log
from fapilog.processors import static_fields as module
from fapilog.processors.static_fields import container_of, static_fields
from fapilog.testing import capture

DOCKER = "4f1c" * 16
OTHER = "0b" * 32
POD = "6f9f4b43-6d2b-4a3f-9f4e-1c2d3e4f5a6b"


@pytest.fixture(autouse=True)
def _nobody_has_told_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        told_a_pod = name.endswith(tuple(variable for variable, _ in module._KUBERNETES.values()))
        if told_a_pod or name.startswith(("OTEL_", "DD_", "KUBERNETES_")):
            monkeypatch.delenv(name)


def found(name: str, **settings: Any) -> dict[str, Any]:
    return static_fields([name], LoggingSettings(**settings))


@pytest.mark.parametrize(
    ("name", "variables", "value"),
    [
        ("service", {"OTEL_SERVICE_NAME": "one", "DD_SERVICE": "two"}, "one"),
        ("service", {"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name = tea%20shop ,c"}, "tea shop"),
        ("service", {"DD_SERVICE": "two"}, "two"),
        ("env", {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod", "DD_ENV": "two"}, "prod"),
        ("env", {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=prod"}, "prod"),
        ("env", {"DD_ENV": "two"}, "two"),
        ("version", {"OTEL_RESOURCE_ATTRIBUTES": "service.version=3"}, "3"),
        ("version", {"DD_VERSION": "4"}, "4"),
    ],
)
def test_a_setting_that_is_missing_is_what_others_are_told(
    name: str, variables: dict[str, str], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(name) == {}
    for variable, said in variables.items():
        monkeypatch.setenv(variable, said)
    assert found(name) == {name: value}
    assert found(name, **{name: "mine"}) == {name: "mine"}


def test_the_version_is_that_of_the_package_named_like_the_service() -> None:
    assert found("version", service="orjson") == {"version": metadata.version("orjson")}
    assert found("version", service="orjson", version="mine") == {"version": "mine"}
    assert found("version", service="no-such-package") == {}
    assert found("version", service="../..") == {}


def test_the_host_is_the_machine() -> None:
    assert found("host") == {"host": socket.gethostname()}


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("/usr/local/bin/uvicorn", "uvicorn"),
        ("shop.py", "shop.py"),
        ("/app/shop/__main__.py", "shop"),
        ("-c", Path(sys.executable).name),
        ("", Path(sys.executable).name),
    ],
)
def test_the_process_is_named_after_its_program(argument: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [argument])
    assert found("process") == {"process_name": name}


def test_python_and_the_system_are_named() -> None:
    assert found("python") == {
        "python_version": platform.python_version(),
        "python_implementation": platform.python_implementation(),
    }
    assert found("platform") == {
        "os_version": f"{platform.system()} {platform.release()}",
        "os_arch": platform.machine(),
    }


def test_outside_of_kubernetes_there_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER_NAME", "somebody's")
    monkeypatch.setenv("CONTAINER_NAME", "somebody's")
    assert found("kubernetes") == {}


def test_what_the_downward_api_hands_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"POD_NAME": "p", "POD_NAMESPACE": "n", "NODE_NAME": "w", "POD_IP": "10.0.0.1", "POD_UID": "u"}
    for name, value in {**given, "CONTAINER_NAME": "app", "CLUSTER_NAME": "west"}.items():
        monkeypatch.setenv(name, value)
    assert found("kubernetes") == {
        "k8s_pod": "p",
        "k8s_namespace": "n",
        "k8s_node": "w",
        "k8s_pod_ip": "10.0.0.1",
        "k8s_pod_uid": "u",
        "k8s_container": "app",
        "k8s_cluster": "west",
    }


@pytest.mark.parametrize("variable", ["K8S_POD_NAME", "KUBERNETES_POD_NAME", "MY_POD_NAME", "KUBE_POD_NAME"])
def test_so_is_what_goes_by_another_usual_name(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "p")
    assert found("kubernetes") == {"k8s_pod": "p"}


def test_so_is_what_opentelemetry_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=p,k8s.node.name=w")
    assert found("kubernetes") == {"k8s_pod": "p", "k8s_node": "w"}


def test_a_pod_that_is_told_nothing_knows_its_name_and_namespace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    (tmp_path / "namespace").write_text("shop\n")
    monkeypatch.setattr(module, "SERVICE_ACCOUNT", tmp_path / "namespace")
    assert found("kubernetes") == {"k8s_pod": socket.gethostname(), "k8s_namespace": "shop"}
    monkeypatch.setattr(module, "SERVICE_ACCOUNT", tmp_path / "missing")
    assert found("kubernetes") == {"k8s_pod": socket.gethostname()}


MOUNTS = f"""\
600 480 0:52 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/AB
601 600 0:55 / /proc rw,nosuid - proc proc rw
620 600 254:1 /var/lib/docker/containers/{DOCKER}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda1 rw
621 600 254:1 /var/lib/docker/containers/{DOCKER}/hostname /etc/hostname rw - ext4 /dev/vda1 rw
"""
PODMAN = f"""\
621 600 0:25 /containers/storage/overlay-containers/{DOCKER}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw
"""
PODMAN_V2 = f"""\
495 499 0:54 /containers/vfs-containers/{DOCKER}/userdata/.containerenv /run/.containerenv rw - tmpfs tmpfs rw
496 499 0:54 /containers/vfs-containers/{DOCKER}/userdata/run/secrets /run/secrets rw - tmpfs tmpfs rw
"""
SANDBOX = f"""\
621 600 254:1 /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{OTHER}/hostname /etc/hostname rw - ext4 sda rw
"""
ON_THE_HOST = f"""\
700 30 0:60 / /var/lib/docker/containers/{OTHER}/mounts/shm rw - tmpfs shm rw
"""


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "container"),
    [
        (f"12:memory:/docker/{DOCKER}\n1:name=systemd:/docker/{DOCKER}\n", "", DOCKER),
        (f"11:cpu:/kubepods/besteffort/pod{POD}/{DOCKER}\n", "", DOCKER),
        (f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/cri-containerd-{DOCKER}.scope\n", "", DOCKER),
        (f"0::/kubepods.slice/kubepods-burstable.slice/crio-{DOCKER}.scope\n", "", DOCKER),
        (f"0::/system.slice/docker-{DOCKER}.scope\n", "", DOCKER),
        (f"1:name=systemd:/ecs/{'a' * 32}/{'b' * 32}-1234567890\n", "", f"{'b' * 32}-1234567890"),
        (f"1:cpu:/kubepods/besteffort/pod{POD}\n", "", None),
        ("0::/\n", MOUNTS, DOCKER),
        ("0::/\n", PODMAN, DOCKER),
        ("0::/\n", PODMAN_V2, DOCKER),
        (f"0::/machine.slice/libpod-{DOCKER}.scope/container\n", "", DOCKER),
        (f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{DOCKER}.scope/container\n", "", DOCKER),
        (f"0::/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{DOCKER}.scope\n", "", DOCKER),
        (f"0::/machine.slice/libpod-{DOCKER}.scope/init.scope\n", "", DOCKER),
        (f"0::/docker/{OTHER}/docker/{DOCKER}\n", "", DOCKER),
        ("0::/\n", SANDBOX, None),
        ("0::/init.scope\n", ON_THE_HOST, None),
        ("0::/user.slice/user-1000.slice/session-1.scope\n", "", None),
        ("", "", None),
        ("garbage\n:::\n", "1 2\ngarbage\n", None),
    ],
)
def test_the_container_is_found_in_the_cgroup_or_among_the_mounts(
    cgroup: str, mountinfo: str, container: str | None
) -> None:
    assert container_of(cgroup, mountinfo) == container


def test_the_container_of_this_process_is_read_from_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(module, "PROC", tmp_path)
    assert found("container") == {"container_id": DOCKER}
    monkeypatch.setattr(module, "PROC", tmp_path / "missing")
    assert found("container") == {}


def test_one_that_fails_is_said_and_costs_its_own_fields(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> str:
        raise OSError("no name")

    monkeypatch.setattr(socket, "gethostname", refuse)
    with capture(service="shop") as captured:
        log.info("placed")
        (record,) = captured.records
    assert record["service"] == "shop"
    assert "host" not in record
    assert "the enricher 'host' found nothing: OSError('no name')" in capfd.readouterr().err


def test_static_fields_are_on_every_line_and_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "p")
    with capture(enrich=["kubernetes", "python"], redact_fields=["python_version"]) as captured:
        log.info("flat", n=1)
        log.info("nested", n={"a": [1]})
        records = captured.records
    assert [(record["k8s_pod"], record["python_version"]) for record in records] == [("p", "REDACTED")] * 2
