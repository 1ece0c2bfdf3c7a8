"""The light server of tests/images/echo as a pool: it starts in a tenth of a second and needs a few MB."""

import functools
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGE = "tmpnb-test/echo:dev"


def light_pool(pool_size: int, ready: int, **fields: object) -> str:
    """A pool file with one pool ``default`` of light servers; ``fields`` are written as they are in TOML."""
    more = "\n".join(f"{name} = {value}" for name, value in fields.items())
    return f"""
[pools.default]
image = "{IMAGE}"
command = "exec echo-server --ip 0.0.0.0 --port {{port}} --base-path {{base_path}} --token {{token}}"
redirect_uri = "/"
mem_limit = "64m"
pids_limit = 32
busy_check = "cpu"
pool_size = {pool_size}
ready = {ready}
{more}
"""


@functools.cache
def build_light_image() -> None:
    base = os.environ.get("PYTHON_IMAGE", "tmpnb-local/base:trixie")
    build = ["docker", "build", "--quiet", "--build-arg", f"BASE_IMAGE={base}", "--tag", IMAGE, "tests/images/echo"]
    subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
