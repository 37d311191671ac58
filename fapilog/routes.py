"""The template of the route a request took: ``/orders/{id}``, not ``/orders/7``, so that records can be grouped by it.

Read from what Starlette and FastAPI leave in the scope, without importing either.
"""

from collections.abc import Iterable, Mapping
from typing import Any


def route_template(scope: Mapping[str, Any]) -> str | None:
    """Return the path of the route that was taken, as it was declared, or None if there was none.

    Starlette leaves the innermost route in the scope, FastAPI the one declared in an included router with the whole
    path beside it. Mounts leave only what they cut off the path, so theirs is looked up again.
    """
    route = scope.get("route")
    path: str | None = None
    included = scope.get("fastapi")
    if included:
        context = included.get("effective_route_context")
        if context is not None and (route is None or context.original_route is route):
            path = getattr(context.starlette_route, "path_format", None) or context.path_format
    if path is None:
        path = getattr(route, "path_format", None)
    mounts = scope.get("app_root_path")
    if mounts is None:
        return _declared_path(scope) if path is None else path
    cut_off = scope["root_path"][len(mounts) :]
    prefix = _mount_template(getattr(scope.get("router"), "routes", ()), cut_off)
    if prefix is None:
        return None
    return prefix + ("/{path}" if path is None or hasattr(route, "routes") else path)


def _declared_path(scope: Mapping[str, Any]) -> str | None:
    """Return the path of the outermost route that has the endpoint which was called."""
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    root, path = scope.get("root_path", ""), scope["path"]
    path = path.removeprefix(root)
    for route in getattr(scope.get("router"), "routes", ()):
        if getattr(route, "endpoint", None) is endpoint and route.path_regex.match(path):
            declared: str = route.path_format
            return declared
    return None


def _mount_template(routes: Iterable[Any], cut_off: str) -> str | None:
    """Return the declared paths of the mounts that took *cut_off* from the front of the path."""
    for route in routes:
        if hasattr(route, "effective_candidates"):  # a router included in a FastAPI app
            candidates = [
                getattr(candidate, "starlette_route", candidate) for candidate in route.effective_candidates()
            ]
            template = _mount_template(candidates, cut_off)
            if template is not None:
                return template
        elif hasattr(route, "path_format") and hasattr(route, "routes"):
            match = route.path_regex.match(cut_off + "/")
            if match is None:
                continue
            prefix: str = route.path_format.removesuffix("/{path}")
            rest = match["path"]
            if not rest:
                return prefix
            inner = _mount_template(route.routes, "/" + rest.removesuffix("/"))
            if inner is not None:
                return prefix + inner
    return None
