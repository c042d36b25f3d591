"""The machine of the measurement, in words."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from app.utils.system import cpu_count, memory_limit

FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_tile")


def describe() -> dict[str, str]:
    """Return what matters for speed: processor, cores, memory, system, and the versions of the compared programs."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", cpu, re.MULTILINE)
    has = set((re.search(r"^flags\s*:\s*(.+)$", cpu, re.MULTILINE) or ["", ""])[1].split())
    return {
        "processor": model[1] if model else platform.processor(),
        "instructions": ", ".join(flag for flag in FLAGS if flag in has) or "none of " + ", ".join(FLAGS),
        "cores": str(cpu_count()),
        "memory": f"{memory_limit() / 2**30:.0f} GiB",
        "system": f"{_system()}, Linux {platform.release()}",
        "Multi Model Server": "1.1.11, MXNet 1.9.1, " + _java(),
        "Dimple": ", ".join(
            [
                f"Python {sys.version.split()[0]}",
                *(f"{name} {version(name)}" for name in ("openvino", "gunicorn", "Flask")),
            ]
        ),
        "client": "ab -k on the same machine",
    }


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _java() -> str:
    version_output = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr
    found = re.search(r'version "([^"]+)"', version_output)
    return f"Java {found[1]}" if found else "Java"
