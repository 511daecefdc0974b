"""Threads of the native engine on a system that behaves unusually."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sta.runtime._native", reason="the native engine is not built")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and forks as Linux has them")

ROOT = Path(__file__).parents[2]
SETUP = """
import gc, os, resource
from sta.runtime.engines import Engines, check_same
from sta.runtime.native_engine import NativeEngine, NativeProgram
from sta.runtime.reference import ReferenceEngine
from sta.runtime.validate import validate
from tests.support.random_programs import RandomProgram

random = RandomProgram({seed})
program, inputs = validate(random.container()), random.inputs()
reference = ReferenceEngine(program)
reference.run(inputs, 0)

def check(engine):
    engine.run(inputs, 0)
    check_same(reference, engine, ("the reference engine", "the native one"))
"""
SEED = 3
"""Of a random program that ends."""


def run(code: str) -> None:
    """Runs code in a process of its own, which must end well and in time."""
    command = [sys.executable, "-c", SETUP.format(seed=SEED) + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_where_the_system_gives_fewer_threads_the_others_do_their_work() -> None:
    run("""
native = NativeProgram(program)
pages = int(open("/proc/self/statm").read().split()[0])
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
# Room for the stacks of a few threads, not of 255.
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (96 << 20), hard))
engine = NativeEngine(native, 256)
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
assert len(os.listdir("/proc/self/task")) < 200
check(engine)
check(engine)
""")


def test_a_forked_process_ends_without_the_threads_of_its_parent() -> None:
    run("""
engine = NativeEngine(NativeProgram(program), 16)
check(engine)
child = os.fork()
if not child:
    del engine
    gc.collect()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
check(engine)
""")


def test_a_forked_process_takes_engines_with_threads_of_its_own() -> None:
    run("""
engines = Engines(program)
engine = engines.take("native", 3)
check(engine)
engines.give_back("native", 3, engine)
assert engines.take("native", 3) is engine
engines.give_back("native", 3, engine)
child = os.fork()
if not child:
    other = engines.take("native", 3)
    check(other)
    os._exit(7 if other is not engine else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
""")
