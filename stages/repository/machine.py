"""What of the machine may move a last bit: for the run log, and for no table."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

# The instructions that matrix products, NumPy, libm and the kernels choose their path by.
FEATURES = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile"),
    *("asimd", "sve", "sve2", "bf16", "i8mm"),
)
CHOSEN = (
    *("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA"),
    *("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE"),
    *("GLIBC_TUNABLES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
    "OPENBLAS_NUM_THREADS",
)


def describe() -> dict[str, Any]:
    """The processor, its instructions, and what libraries made of it, as far as imported."""
    name, flags = _processor()
    return {
        "cpu": name,
        "features": [feature for feature in FEATURES if feature in flags],
        "threads": _threads(),
        "torch_capability": _torch_capability(),
        "chosen": {name: os.environ[name] for name in CHOSEN if name in os.environ},
    }


def _processor() -> tuple[str, set[str]]:
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return platform.processor() or platform.machine(), set()
    lines = information.read_text("utf-8").splitlines()
    # Of the first core: "model name" and "flags", on ARM "CPU part" and "Features".
    found = {
        key.strip(): value for key, _, value in (line.partition(": ") for line in reversed(lines))
    }
    flags = found.get("flags", found.get("Features", ""))
    return found.get("model name", platform.machine()), set(flags.split())


def _threads() -> dict[str, int]:
    asked = {"torch": "get_num_threads", "numba": "get_num_threads"}
    # Importing either takes seconds; what a stage did not need did not decide its bytes.
    return {
        name: int(getattr(sys.modules[name], call)())
        for name, call in asked.items()
        if name in sys.modules
    }


def _torch_capability() -> str | None:
    torch = sys.modules.get("torch")
    return str(torch.backends.cpu.get_cpu_capability()) if torch else None


def shown(described: dict[str, Any]) -> str:
    """A description, of now or of a line of the run log, in words."""
    chosen = " ".join(f"{name}={value}" for name, value in described.get("chosen", {}).items())
    return (
        f"{described['cpu']}, {' '.join(described['features'])}{f' ({chosen})' if chosen else ''}"
    )
