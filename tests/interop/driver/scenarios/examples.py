"""The programs in examples/, so that they cannot rot."""

import subprocess

from balancer import SERVICE, Service
from expect import Broken

_SECONDS = 3
# With what it downloads and compiles on its first run.
_TIMEOUT = 600


def example_runs_as_its_readme_says(stage):
    """It ends well by itself, and names both backends."""
    backends = stage.backends(2)
    weights = dict(zip((b.address for b in backends), (3, 1)))
    balancer = stage.balancer(Service(weights))
    command, folder = stage.language.example(SERVICE, balancer, _SECONDS)
    ran = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    (stage.folder / "example.log").write_text(ran.stdout + ran.stderr)
    if ran.returncode:
        raise Broken(f"exit code {ran.returncode}: {ran.stderr.strip()[-500:]}")
    unseen = [address for address in weights if address not in ran.stdout]
    if unseen:
        raise Broken(f"{unseen} not in what it printed: {ran.stdout.strip()[-500:]}")
    # Maven ends with a line of its own.
    return [line for line in ran.stdout.splitlines() if "×" in line][-1]


# The Rust examples run among the tests.
example_runs_as_its_readme_says.languages = ("python", "go", "java")
