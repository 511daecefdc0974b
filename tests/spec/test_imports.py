"""The specification needs NumPy and nothing else."""

import subprocess
import sys
from pathlib import Path

import sta.spec

PROGRAM = """
import importlib, sys
before = {name.partition(".")[0] for name in sys.modules}
for name in sys.argv[1:]:
    importlib.import_module(f"sta.spec.{name}")
added = {name.partition(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names) - {"sta", "numpy"}
ours = {name.split(".")[1] for name in sys.modules if name.startswith("sta.")} - {"spec"}
print(sorted(added), sorted(ours))
"""


def test_only_numpy_is_imported() -> None:
    names = [path.stem for path in Path(str(sta.spec.__file__)).parent.glob("*.py") if path.stem != "__init__"]
    assert len(names) > 5
    run = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] []"
