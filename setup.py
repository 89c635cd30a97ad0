"""Builds the package: plain Python, or, with COATI_COMPILE=1, the hot rooms compiled by mypyc as one group.

Calls between modules of one group are direct C calls, so all of them are handed to mypyc together.
"""

import os
from pathlib import Path

from setuptools import setup

COMPILED_ROOMS = ("wire", "core", "zab")
COMPILED_MODULES = (
    "client/session.py",
    "client/watchtable.py",
    "storage/format.py",
    "server/errands.py",
    "server/handshake.py",
    "server/login.py",
    "server/outlet.py",
    "server/pipeline.py",
    "server/replica.py",
)


def compiled_files(root: Path) -> list[str]:
    """The files of the group, in a fixed order, relative to `root`. A room's `__init__.py` holds no code and stays."""
    package = root / "src" / "coati"
    files = [path for room in COMPILED_ROOMS for path in sorted((package / room).glob("*.py"))]
    files += [package / module for module in COMPILED_MODULES if (package / module).exists()]
    return [path.relative_to(root).as_posix() for path in files if path.name != "__init__.py"]


if __name__ == "__main__":
    if os.environ.get("COATI_COMPILE") == "1":
        from mypyc.build import mypycify

        # Asserts stay on: mypyc keeps them unless told otherwise, and a broken invariant has to stop the server.
        setup(ext_modules=mypycify(compiled_files(Path()), opt_level="3", debug_level="0", group_name="coati"))
    else:
        setup()
