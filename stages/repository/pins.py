"""What constraints.txt pins, against what is installed."""

import importlib.metadata

from packaging.requirements import Requirement
from packaging.version import Version

from pipeline.errors import some

Pins = dict[str, tuple[str, str | None]]
# Set to 1, stages run with libraries that are off their pins.
ALLOWED = "ATTENTION_TOPOLOGY_OFF_PINS"


def off(constraints: str) -> Pins:
    """The packages that are not installed as a constraints file pins them: pinned, installed."""
    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    wanted = (Requirement(line) for line in lines if "==" in line)
    found = {}
    for one in wanted:
        installed = _installed(one.name)
        here = one.marker is None or one.marker.evaluate()
        if here and not (installed and _fits(one, installed)):
            found[one.name] = (str(one.specifier).removeprefix("=="), installed)
    return found


def _fits(wanted: Requirement, installed: str) -> bool:
    # 2.13.0+cpu is a build of 2.13.0.
    return wanted.specifier.contains(Version(installed).public, prereleases=True)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def listed(pins: Pins) -> str:
    """Packages off their pins, in words; of many the first five."""
    each = [f"{name} {here or 'missing'} (pinned {pin})" for name, (pin, here) in pins.items()]
    return some(each, 5)
