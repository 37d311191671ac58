"""What is the same for all records of a process: who it is, where it runs, and which code.

Each function looks once and returns no field for what it cannot find. What one raises is said, and no more.
"""

import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from fapilog.diagnostics import report
from fapilog.processors.commit import find_commit
from fapilog.settings import LoggingSettings

Static: TypeAlias = Callable[[LoggingSettings], Mapping[str, Any]]

PROC: Final = Path("/proc/self")
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_KUBERNETES: Final = {
    "k8s_pod": ("POD_NAME", "k8s.pod.name"),
    "k8s_namespace": ("POD_NAMESPACE", "k8s.namespace.name"),
    "k8s_node": ("NODE_NAME", "k8s.node.name"),
    "k8s_pod_ip": ("POD_IP", "k8s.pod.ip"),
    "k8s_pod_uid": ("POD_UID", "k8s.pod.uid"),
    "k8s_container": ("CONTAINER_NAME", "k8s.container.name"),
    "k8s_cluster": ("CLUSTER_NAME", "k8s.cluster.name"),
}
"""By field: the variable that a pod's manifest sets from the downward API, and the attribute of OpenTelemetry."""

_PREFIXES: Final = ("", "K8S_", "KUBERNETES_", "KUBE_", "MY_")
_MAX_BYTES: Final = 256 * 1024

_ID: Final = "[0-9a-f]{64}"
_IN_CGROUP: Final = re.compile(
    rf"(?:^|[/:-])(?:({_ID})(?:\.scope)?(?=/|$)"  # crun and systemd put groups of their own below it
    r"|([0-9a-f]{32}-[0-9]{1,20}|[0-9a-f]{8}(?:-[0-9a-f]{4}){4,7})(?:\.scope)?$)"
)
_IN_ROOT: Final = re.compile(rf"/(?:[a-z0-9]{{1,16}}-)?containers/({_ID})/")
_MOUNTED: Final = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"})
"""Files of its own that a runtime mounts into every container, from a directory named after it."""


def service(settings: LoggingSettings) -> Mapping[str, Any]:
    """Name the service: the setting, else what OpenTelemetry or Datadog are told."""
    return _found("service", [settings.service, *_told("OTEL_SERVICE_NAME", "service.name", "DD_SERVICE")])


def env(settings: LoggingSettings) -> Mapping[str, Any]:
    """Name the environment: the setting, else what OpenTelemetry or Datadog are told."""
    names = ("deployment.environment.name", "deployment.environment", "DD_ENV")
    return _found("env", [settings.env, *_told(*names)])


def version(settings: LoggingSettings) -> Mapping[str, Any]:
    """Give the version: the setting, else what others are told, else that of the package named like the service."""
    return _found("version", [settings.version, *_told("service.version", "DD_VERSION"), _package_version(settings)])


def git(_settings: LoggingSettings) -> Mapping[str, Any]:
    """Give the commit that is checked out."""
    return _found("git_commit", [find_commit()])


def host(_settings: LoggingSettings) -> Mapping[str, Any]:
    """Name the machine, which in Kubernetes is the pod."""
    return _found("host", [socket.gethostname()])


def process(_settings: LoggingSettings) -> Mapping[str, Any]:
    """Name the process: the program it runs, or what `multiprocessing` calls it."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None:
        name = multiprocessing.current_process().name
        if name != "MainProcess":
            return {"process_name": name}
    program = Path(sys.argv[0] if sys.argv and sys.argv[0] not in ("", "-c", "-m", "-") else sys.executable or "python")
    return {"process_name": program.parent.name if program.name == "__main__.py" else program.name}


def python(_settings: LoggingSettings) -> Mapping[str, Any]:
    """Say which Python this is."""
    return {"python_version": platform.python_version(), "python_implementation": platform.python_implementation()}


def system(_settings: LoggingSettings) -> Mapping[str, Any]:
    """Say which system this is, and for which processor."""
    said = f"{platform.system()} {platform.release()}".strip()
    return {**_found("os_version", [said]), **_found("os_arch", [platform.machine()])}


def kubernetes(_settings: LoggingSettings) -> Mapping[str, Any]:
    """Say where in Kubernetes this is: from the downward API, as far as the pod's manifest hands it on."""
    found = {}
    told = _resource_attributes()
    for field, (variable, attribute) in _KUBERNETES.items():
        said = [os.environ.get(prefix + variable) for prefix in _PREFIXES]
        found.update(_found(field, [*said, told.get(attribute)]))
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        found = {**_found("k8s_pod", [socket.gethostname()]), **found}
        found = {**_found("k8s_namespace", [_read(SERVICE_ACCOUNT).strip()]), **found}
    elif found.keys() <= {"k8s_container", "k8s_cluster"}:  # variables that others have, too
        return {}
    return found


def container(_settings: LoggingSettings) -> Mapping[str, Any]:
    """Give the id of the container: from the cgroup, else from what its runtime has mounted."""
    return _found("container_id", [container_of(_read(PROC / "cgroup"), _read(PROC / "mountinfo"))])


def container_of(cgroup: str, mountinfo: str) -> str | None:
    """Find the id of a container in ``/proc/self/cgroup`` and ``/proc/self/mountinfo``; None if there is none.

    Version 1 of cgroups has it in each line, version 2 only outside of a namespace of its own.
    https://man7.org/linux/man-pages/man7/cgroups.7.html, https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        found = [match[1] or match[2] for match in _IN_CGROUP.finditer(path)]
        if found and "/pod" + found[-1] not in path:  # the innermost, where one container runs in another
            return found[-1]
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and fields[4] in _MOUNTED:
            match = _IN_ROOT.search(fields[3])
            if match is not None:
                return match[1]
    return None


STATIC: Final[Mapping[str, Static]] = {
    "service": service,
    "env": env,
    "version": version,
    "host": host,
    "process": process,
    "python": python,
    "platform": system,
    "git": git,
    "kubernetes": kubernetes,
    "container": container,
}


def static_fields(names: Iterable[str], settings: LoggingSettings) -> dict[str, Any]:
    """Return the fields of those of `STATIC` that are in *names*. The commit is the version if there is no other."""
    wanted = set(names)
    fields: dict[str, Any] = {}
    for name, look in STATIC.items():
        if name in wanted:
            try:
                fields.update(look(settings))
            except Exception as error:  # noqa: BLE001 - what cannot be found must not keep logging from starting
                report(f"the enricher {name!r} found nothing: {error!r}")
    if "version" in wanted and "git_commit" in fields:
        fields.setdefault("version", fields["git_commit"])
    return fields


def _found(field: str, values: Iterable[str | None]) -> dict[str, Any]:
    return next(({field: value} for value in values if value), {})


def _told(*names: str) -> list[str | None]:
    """Look names up, those with a dot in OpenTelemetry's resource attributes, all others in the environment."""
    attributes = _resource_attributes()
    return [attributes.get(name) if "." in name else os.environ.get(name) for name in names]


def _resource_attributes() -> dict[str, str]:
    """Read ``OTEL_RESOURCE_ATTRIBUTES``: comma-separated, values percent-encoded."""
    pairs = (part.partition("=") for part in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return {name.strip(): unquote(value.strip()) for name, equals, value in pairs if equals}


def _package_version(settings: LoggingSettings) -> str | None:
    name = service(settings).get("service")
    try:
        return metadata.version(name) if name else None
    except (metadata.PackageNotFoundError, OSError, ValueError):
        return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
