"""The package itself: what `import sta` gives, and what it says of itself."""

import importlib.metadata
import subprocess
import sys

import sta


def test_dir_has_what_the_package_gives_and_nothing_else() -> None:
    # In a process of its own: nothing has been used before, so that nothing is there already.
    code = "import sta; print(*dir(sta))"
    names = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True).stdout.split()
    assert names == ["Program", "Result", "__version__", "check", "compile", "load", "load_ipython_extension"]
    for name in sta.__all__:
        assert getattr(sta, name) is not None


def test_the_version_is_that_of_the_distribution() -> None:
    assert sta.__version__ == importlib.metadata.version("sta-toolchain")
