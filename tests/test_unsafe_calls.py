"""Nothing here makes code of data: no pickle, no eval, no shell, no YAML that builds objects."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for folder in ("edge_sdk", "cloud_offload", "device_profiles") for path in (ROOT / folder).rglob("*.py")]
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "tempfile.mktemp"}
# The task that the benching process hands to a child of its own over a pipe; what the child answers is JSON.
OWN_PIPE = {"edge_sdk/bench/messages.py", "edge_sdk/bench/worker.py"}
# They stand on files that came from elsewhere, and unpickle unless told otherwise.
FLAGS = {"allow_pickle": True, "shell": True, "weights_only": False}


def found(source: str) -> Iterator[str]:
    """What of the above a source holds, with its line."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in MODULES:
                yield f"line {node.lineno}: import of {name}"  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in CALLS:
                yield f"line {node.lineno}: {ast.unparse(node.func)}()"
            for keyword in node.keywords:
                wrong = FLAGS.get(keyword.arg or "")
                if wrong is not None and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is not wrong
                ):
                    yield f"line {node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}"


def test_no_module_makes_code_of_data() -> None:
    assert len(FILES) > 100
    wrong = {str(path.relative_to(ROOT)): lines for path in FILES if (lines := list(found(path.read_text())))}
    assert wrong.keys() == OWN_PIPE, wrong
    assert all(line.endswith("import of pickle") for lines in wrong.values() for line in lines)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "exec(text)",
        "import os; os.system(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "subprocess.run(text, shell=True)",
        "yaml.load(text)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_what_is_looked_for_is_found(source: str) -> None:
    assert len(list(found(source))) == 1


def test_what_is_harmless_is_not() -> None:
    assert not list(found("np.load(path, allow_pickle=False); re.compile(text); session.eval(x); yaml.safe_load(text)"))
