"""fapilog with nothing but its core dependencies installed.

A second environment would say the same and take a minute: here every distribution that the core does not require,
directly or through another, is hidden from the import system of a process.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent

HIDE_EXTRAS = """
    import importlib.metadata
    import sys
    import tomllib
    from pathlib import Path

    from packaging.requirements import Requirement

    project = tomllib.loads(Path(PYPROJECT).read_text())["project"]
    needed, waiting = set(), [Requirement(line).name for line in project["dependencies"]]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    needed = {name.lower().replace("_", "-").replace(".", "-") for name in needed}

    owners = importlib.metadata.packages_distributions()
    hidden = {
        module
        for module, distributions in owners.items()
        if not needed & {name.lower().replace("_", "-").replace(".", "-") for name in distributions}
    }

    class Without:
        def __init__(self, finder):
            self.finder = finder

        def __getattr__(self, name):
            return getattr(self.finder, name)

        def find_spec(self, fullname, path=None, target=None):
            return None if fullname.partition(".")[0] in hidden else self.finder.find_spec(fullname, path, target)

    for module in [name for name in sys.modules if name.partition(".")[0] in hidden]:
        del sys.modules[module]
    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
    assert {"fastapi", "pytest", "numpy", "uvicorn"} <= hidden, hidden
    assert not {"duckdb", "starlette", "structlog", "pydantic"} & hidden, hidden
"""


def run(script: str, directory: Path) -> str:
    pyproject = f"PYPROJECT = {str(ROOT / 'pyproject.toml')!r}"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([pyproject, textwrap.dedent(HIDE_EXTRAS), textwrap.dedent(script)])],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_starlette_application_is_logged_and_its_store_queried(tmp_path: Path) -> None:
    printed = run(
        """
        import asyncio

        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        from fapilog import configure_logging, log
        from fapilog.store import LogStore

        async def hello(request):
            log.info("greeted")
            return PlainTextResponse("hello")

        app = Starlette(routes=[Route("/hello", hello)])
        handle = configure_logging(app, sinks=["duckdb"])

        async def request():
            import httpx

            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                return (await client.get("/hello")).headers["x-request-id"]

        request_id = asyncio.run(request())
        assert handle.flush().ok
        with LogStore("logs") as store:
            rows = list(store.rows("select event, request_id from logs order by timestamp"))
        assert rows == [("greeted", request_id), ("request completed", request_id)], rows
        print("fine")
        """,
        tmp_path,
    )
    assert printed == "fine\n"


def test_exceptions_are_shown_without_rich(tmp_path: Path) -> None:
    printed = run(
        """
        from fapilog import configure_logging, log

        with configure_logging(sinks=[{"type": "stdout", "format": "pretty", "width": 100}]):
            try:
                1 / 0
            except ZeroDivisionError:
                log.exception("failed")
        """,
        tmp_path,
    )
    assert "    Traceback (most recent call last):\n" in printed
    assert printed.endswith("    ZeroDivisionError: division by zero\n")


def test_the_command_asks_the_store(tmp_path: Path) -> None:
    printed = run(
        """
        from fapilog import configure_logging, log
        from fapilog.cli import main

        with configure_logging(sinks=["duckdb"]):
            log.error("it failed")
        assert main(["search", "level:error"]) == 0
        assert main(["stats"]) == 0
        assert main(["export", "out.csv"]) == 0
        assert main(["verify"]) == 0
        """,
        tmp_path,
    )
    assert "error    it failed" in printed
    assert ": sound" in printed


def test_the_demo_says_what_to_install(tmp_path: Path) -> None:
    printed = run(
        """
        import contextlib, io

        from fapilog.demo.show import run

        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            assert run(1) == 1
        print(said.getvalue())
        """,
        tmp_path,
    )
    assert "pip install 'fapilog[fastapi]' uvicorn" in printed
