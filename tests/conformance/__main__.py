"""Run the suite of Starlette or FastAPI with the middleware round every application it makes.

    python -m tests.conformance PATH [--bare] [option of pytest …]

PATH is an unpacked source distribution, and what its tests need is installed. ``--bare`` leaves the middleware out.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def main(arguments: list[str]) -> int:
    if not arguments or not (Path(arguments[0]) / "tests").is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    path, *options = arguments
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
    if "--bare" in options:
        options.remove("--bare")
    else:
        options = ["-p", "wrap_every_app", *options]
    command = [sys.executable, "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=path, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
