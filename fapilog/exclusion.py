"""Which requests leave no access record while all is well with them: health checks, and what else a user names."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

DEFAULT_EXCLUDE: Final = (
    "/health",
    "/health/",
    "/healthz",
    "/ready",
    "/readyz",
    "/live",
    "/livez",
    "/metrics",
    "/favicon.ico",
)

_METHOD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_GLOB: Final = re.compile(r"[*?\[]")


def exclusion(entries: Iterable[str] = DEFAULT_EXCLUDE) -> Callable[[Mapping[str, Any]], bool]:
    """Return what tells of a request's scope whether it is one of those that were named.

    A path is that path alone; one that ends in ``/`` is all that begins with it; one with ``*``, ``?`` or ``[…]`` is a
    glob, whose ``*`` takes in slashes too. A method stands alone (``OPTIONS``) or in front of a path (``GET /polled``).

    Raises:
        ValueError: An entry is neither a method nor a path.
    """
    named: dict[str | None, list[str]] = {None: []}
    methods: set[Any] = set()
    for entry in entries:
        method, path = _parts(entry)
        if path is None:
            methods.add(method)
        else:
            named.setdefault(method, []).append(path)
    exact, prefixes, glob = _sorted(named.pop(None))
    of_method = {method: _sorted(paths) for method, paths in named.items()}
    simple = not methods and glob is None and not of_method

    # A closure, and not an object with `__call__`: it is asked of every request.
    def excluded(scope: Mapping[str, Any]) -> bool:
        try:  # what is missing or of another type is rare, and asking would cost every request
            path = scope["path"]
            if scope["root_path"]:
                path = path.removeprefix(scope["root_path"])
            if path in exact or path.startswith(prefixes):
                return True
        except (AttributeError, KeyError, TypeError):
            path = str(scope.get("path"))
            if path in exact or path.startswith(prefixes):
                return True
        if simple:
            return False
        method = str(scope.get("method"))
        if method in methods or (glob is not None and glob.match(path) is not None):
            return True
        if method not in of_method:
            return False
        paths, beginnings, pattern = of_method[method]
        return path in paths or path.startswith(beginnings) or (pattern is not None and pattern.match(path) is not None)

    return excluded


def _sorted(paths: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...], re.Pattern[str] | None]:
    """Return the paths that stand for themselves, those that stand for a prefix, and one pattern for the globs."""
    globs = [path for path in paths if _GLOB.search(path)]
    others = [path for path in paths if not _GLOB.search(path)]
    prefixes = tuple(path for path in others if path.endswith("/"))
    pattern = re.compile("|".join(map(fnmatch.translate, globs))) if globs else None
    return frozenset(others) - set(prefixes), prefixes, pattern


def _parts(entry: str) -> tuple[str | None, str | None]:
    """Return the method and the path of an entry, either of which may be missing."""
    first, _, rest = entry.strip().partition(" ")
    if first.startswith(("/", "*")) and not rest:
        return None, first
    if _METHOD.fullmatch(first) and (not rest or rest.strip().startswith(("/", "*"))):
        return first.upper(), rest.strip() or None
    raise ValueError(f"{entry!r} is neither a path such as '/health' nor a method such as 'OPTIONS'")
