"""How many wrong changes would the tests see? `make mutants`, or `python tests/mutants.py --rooms nn --number 40`.

A mutant is one file of the library with one thing wrong: a sign, a comparison, a number, a term or a condition. For
each file, the tests that mirror it run once, and it is noted which lines each test reaches. Then mutants drawn by a
seed are put in the place of their file, in a forked process each, and the tests that reach the changed line run, the
quick ones first. A mutant that no test fails for has survived; one whose tests do not end is undecided, which counts as
not killed. docs/mutation.md names the mutants that are no mistakes, which count for nothing, and gives the scores.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib
import importlib.abc
import importlib.machinery
import io
import json
import os
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
FILES = {
    "nn": ("attention", "blocks", "conv", "embeddings", "norm"),
    "schedulers": ("flow_match", "grids", "path", "solvers", "time_sampling"),
    "conditioning": ("camera", "collate", "dropout", "projection", "timestamp"),
    "losses": ("adversarial", "flow_matching", "perceptual", "reconstruction"),
    "pipelines": ("denoise", "guidance", "guided_velocity", "labels", "sampling"),
    "training": ("learning_rate", "muon", "sampling", "tasks", "world_model_step"),
}
"""The files whose mutants are drawn, by room: where the mathematics is."""

LONGEST_TEST = 8.0  # seconds of the processor; slower tests are left out
MOST_MEMORY = 8 << 30  # bytes that the tests of a mutant may take
PAGE = ROOT / "docs" / "mutation.md"
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass
class Mutant:
    """One wrong change, the `number`-th of its file, and what the tests said to it."""

    file: str
    number: int
    line: int
    was: str
    becomes: str
    verdict: str = "survived"  # or killed, undecided, equivalent
    why: str = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.file}:{self.line}: {self.was}  ->  {self.becomes}  ({self.why})"


def wrong_versions(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in place of a node in its mutants."""
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS and not is_text(node):
        yield changed(node, op=SWAPS[type(node.op)]())
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult) and not is_text(node):
        yield node.left
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
        yield changed(node, ops=[SWAPS[type(node.ops[0])]()])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield changed(node, value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield changed(node, value=node.value + 1 if isinstance(node.value, int) else 1.5 * node.value + 0.1)
    if isinstance(node, ast.IfExp):
        yield changed(node, body=node.orelse, orelse=node.body)
    if isinstance(node, ast.If):
        yield changed(node, test=ast.Constant(False))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()


def is_text(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in ast.walk(node)
    )


def changed(node: ast.AST, **fields: Any) -> ast.AST:
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


NOT_RUN = ("annotation", "returns", "decorator_list", "bases")


def places(tree: ast.AST) -> list[tuple[ast.AST, str, int | None]]:
    """Parent, field and index of the nodes that may be changed: those that are executed and say no message."""
    found: list[tuple[ast.AST, str, int | None]] = []

    def visit(node: ast.AST) -> None:
        fields = {} if isinstance(node, ast.Raise) else dict(ast.iter_fields(node))
        for name in (field for field in fields if field not in NOT_RUN):
            value = fields[name]
            for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.AST) and not is_for_type_checkers(child) and not is_strict(child):
                    found.append((node, name, index))
                    visit(child)

    visit(tree)
    return found


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def is_strict(node: ast.AST) -> bool:
    """Whether it is zip's `strict=True`, which asserts what its other lines see to."""
    strict = isinstance(node, ast.keyword) and node.arg == "strict"
    return strict and isinstance(node.value, ast.Constant) and node.value.value is True


def mutants(path: Path, compiled: Collection[int] | None = None) -> list[tuple[Mutant, CodeType | None]]:
    """All mutants of a file, those with the numbers `compiled` (all by default) with their code."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    made: list[tuple[Mutant, CodeType | None]] = []
    for parent, name, index in places(tree):
        value = getattr(parent, name)
        node = value if index is None else value[index]
        for version in wrong_versions(node):
            wrong = ast.fix_missing_locations(ast.copy_location(copy.copy(version), node))
            was, becomes = (ast.unparse(one).splitlines()[0] for one in (node, wrong))
            code = None
            if compiled is None or len(made) in compiled:
                put(parent, name, index, wrong)
                code = compile(tree, str(path), "exec")
                put(parent, name, index, node)
            line = getattr(node, "lineno", 0)
            made.append((Mutant(str(path.relative_to(ROOT)), len(made), line, was, becomes), code))
    return made


def put(parent: ast.AST, name: str, index: int | None, what: ast.AST) -> None:
    if index is None:
        setattr(parent, name, what)
    else:
        getattr(parent, name)[index] = what


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module of the library with other code."""

    def __init__(self, path: Path, code: CodeType) -> None:
        self.path, self.code = path, code
        self.name = ".".join(path.relative_to(ROOT).with_suffix("").parts)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(self.path))

    def exec_module(self, module: Any) -> None:
        module.__file__ = str(self.path)
        exec(self.code, module.__dict__)


class Reached:
    """A plugin of pytest that notes how long each test takes and which lines of one file it reaches."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.tests: dict[str, tuple[float, list[int]]] = {}
        self.on_import: set[int] = set()
        self.failed: list[str] = []

    @contextlib.contextmanager
    def noting(self, lines: set[int]) -> Iterator[None]:
        def local(frame: FrameType, event: str, _: Any) -> Callable:
            lines.add(frame.f_lineno)
            return local

        def on_call(frame: FrameType, event: str, _: Any) -> Callable | None:
            if frame.f_code.co_filename != self.path:
                return None
            lines.add(frame.f_lineno)
            return local

        sys.settrace(on_call)
        try:
            yield
        finally:
            sys.settrace(None)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_collection(self) -> Iterator[None]:
        with self.noting(self.on_import):
            yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        lines: set[int] = set()
        began = time.process_time()
        with self.noting(lines):
            yield
        self.tests[item.nodeid] = (time.process_time() - began, sorted(lines))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(f"{report.nodeid} cannot be imported")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def in_a_fork(work: Callable[[], Any], seconds: int) -> tuple[Any, int]:
    """What `work` gives in a process of its own, and the signal that ended this process; 0 if none did.

    A process that takes more processor time than `seconds` is ended by SIGXCPU, one that waits for ever by SIGALRM.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        answer: Any = None
        try:
            limit = int(time.process_time()) + seconds
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 10))
            most = MOST_MEMORY + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
            gc.freeze()  # what the parent made stays as it is: its threads are not here to help to tear it down
            signal.alarm(20 * seconds)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                answer = work()
        finally:
            with os.fdopen(write, "w") as file:
                json.dump(answer, file)
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else None, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def run_pytest(arguments: list[str], plugin: Any) -> int:
    quiet = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow and not gpu", "--no-header"]
    return int(pytest.main([*quiet, *arguments], plugins=[plugin]))


def not_ours() -> list[str]:
    """Modules of other packages that have been imported."""
    own = tuple(str(ROOT / name) for name in ("gaia2", "tests", "recipes", "benchmarks"))
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return [name for name, file in files.items() if name != "__main__" and file and not file.startswith(own)]


def baseline(path: Path, tests: list[str]) -> Reached:
    """Which tests reach which lines of the file as it is."""
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec")

    def work() -> Any:
        plugin = Reached(path)
        sys.meta_path.insert(0, Replaced(path, code))
        status = run_pytest(tests, plugin)
        return [status, plugin.failed, plugin.tests, sorted(plugin.on_import), not_ours()]

    answer, _ = in_a_fork(work, seconds=600)
    if answer is None or answer[0] != 0:
        raise SystemExit(f"{path}: its tests do not pass as it is: {answer and answer[1]}")
    for name in answer[4]:  # once here, and not in the process of each mutant
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    plugin = Reached(path)
    plugin.tests, plugin.on_import = answer[2], set(answer[3])
    return plugin


def try_out(mutant: Mutant, code: CodeType, reached: Reached) -> None:
    """Run the tests that reach the mutant's line, and note which of them failed."""
    path = ROOT / mutant.file
    in_time = {name: seconds for name, (seconds, _) in reached.tests.items() if seconds <= LONGEST_TEST}
    chosen = [n for n in in_time if mutant.line in reached.on_import or mutant.line in reached.tests[n][1]]
    chosen.sort(key=lambda name: in_time[name])
    if not chosen:
        mutant.why = "no test reaches it"
        return

    def work() -> Any:
        plugin = Reached(path)
        sys.meta_path.insert(0, Replaced(path, code))
        plugin.noting = lambda lines: contextlib.nullcontext()  # type: ignore[method-assign]
        return [run_pytest(chosen, plugin), plugin.failed]

    answer, ended_by = in_a_fork(work, seconds=round(30 + 10 * sum(in_time[name] for name in chosen)))
    mutant.verdict, mutant.why = judge(answer, ended_by)


def judge(answer: list | None, ended_by: int) -> tuple[str, str]:
    """Verdict and reason from pytest's exit status and the tests that failed, and the signal that ended the process."""
    if ended_by in (signal.SIGXCPU, signal.SIGALRM):
        return "undecided", "its tests do not end in ten times their time"
    if ended_by:
        return "killed", f"the process of its tests ends by signal {ended_by}"
    if answer is None:
        return "undecided", "the process of its tests says nothing"
    status, failed = answer
    if failed:
        return "killed", failed[0]
    return ("survived", "all tests pass") if status == 0 else ("undecided", f"pytest ends with status {status}")


def mirrored(room: str) -> dict[Path, list[str]]:
    """The files of a room, and the tests that mirror each."""
    tests = {"guided_velocity": "guidance"}  # the two halves of one thing
    found = {}
    for name in FILES[room]:
        stem = f"tests/{room}/test_{tests.get(name, name)}"
        more = [f"{stem}_refusals.py"] if (ROOT / f"{stem}_refusals.py").exists() else []
        found[ROOT / "gaia2" / room / f"{name}.py"] = [f"{stem}.py", *more]
    return found


def draw(room: str, number: int, seed: int) -> dict[Path, set[int]]:
    """Numbers of mutants of a room by file: as many of each file as it has of all."""
    every = [(path, i) for path in mirrored(room) for i in range(len(mutants(path, compiled=())))]
    chosen: dict[Path, set[int]] = {}
    for path, i in random.Random(f"{seed} {room}").sample(every, min(number, len(every))):
        chosen.setdefault(path, set()).add(i)
    return dict(sorted(chosen.items()))


def left_over(room: str, results: Path) -> dict[Path, set[int]]:
    """As `draw`, the mutants of a former run that were not killed."""
    chosen: dict[Path, set[int]] = {}
    for mutant in (Mutant(**one) for one in json.loads(results.read_text())):
        if mutant.file.startswith(f"gaia2/{room}/") and mutant.verdict != "killed":
            chosen.setdefault(ROOT / mutant.file, set()).add(mutant.number)
    return chosen


def no_mistakes() -> set[tuple[str, str, str, str]]:
    """File, line of code, what was and what becomes, of the mutants that `PAGE` says are equivalent."""
    entry = r"- `(gaia2/[\w/]+\.py)`, in\s+`([^`]+)`:\s+`([^`]+)`\s+becomes\s+`([^`]+)`"
    found = re.findall(entry, PAGE.read_text(encoding="utf-8"))
    return {(file, *(" ".join(part.split()) for part in rest)) for file, *rest in found}


def is_no_mistake(mutant: Mutant) -> bool:
    line = (ROOT / mutant.file).read_text(encoding="utf-8").splitlines()[mutant.line - 1]
    return (mutant.file, " ".join(line.split()), mutant.was, mutant.becomes) in no_mistakes()


def try_room(room: str, numbers: dict[Path, set[int]]) -> Iterator[Mutant]:
    """The mutants with the given numbers, each when its tests have run."""
    with tqdm(total=sum(map(len, numbers.values())), desc=room, unit="mutant") as bar:
        for path, some in numbers.items():
            reached = baseline(path, mirrored(room)[path])
            for mutant, code in mutants(path, some):
                if code is None:
                    continue
                try_out(mutant, code, reached)
                if mutant.verdict != "killed" and is_no_mistake(mutant):
                    mutant.verdict = "equivalent"
                bar.update()
                if mutant.verdict != "killed":
                    bar.write(f"  {mutant}")
                yield mutant


def table(tried: Sequence[Mutant]) -> str:
    """The scores by room, in Markdown: killed, of those that are mistakes."""
    verdicts = ("killed", "survived", "undecided", "equivalent")
    lines = ["| room | mutants | " + " | ".join(verdicts) + " | score |", "|---" * 7 + "|"]
    for room in FILES:
        own = [mutant for mutant in tried if mutant.file.startswith(f"gaia2/{room}/")]
        if own:
            counts = [sum(mutant.verdict == verdict for mutant in own) for verdict in verdicts]
            score = 100 * counts[0] / max(1, len(own) - counts[-1])
            lines.append(f"| {room} | {len(own)} | " + " | ".join(map(str, counts)) + f" | {score:.0f}% |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rooms", nargs="+", default=list(FILES), choices=list(FILES), help="packages under gaia2")
    parser.add_argument("--number", type=int, default=25, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", type=Path, help="a former run's JSON file: try those that were not killed")
    parser.add_argument("--out", type=Path, help="JSON file for the mutants and what was found of each")
    options = parser.parse_args()
    os.chdir(ROOT)
    import diffusers.hooks  # noqa: F401  the slow imports, once for all
    import hypothesis  # noqa: F401
    import transformers  # noqa: F401

    tried: list[Mutant] = []
    for room in options.rooms:
        again = options.again is not None
        numbers = left_over(room, options.again) if again else draw(room, options.number, options.seed)
        for mutant in try_room(room, numbers):
            tried.append(mutant)
            if options.out is not None:
                options.out.write_text(json.dumps([asdict(one) for one in tried], indent=1))
    print(table(tried))


if __name__ == "__main__":
    main()
