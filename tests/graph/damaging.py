"""Model files altered by a number, the same each time, and what asks everything of them that splitting needs.

`python -m tests.graph.damaging all|command FOLDER FIRST LAST` does so with the files of a folder in this process, and
prints each number before its turn: whoever started it knows which one ended it.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import signal
import sys
import tempfile
from pathlib import Path

from edge_sdk import cli
from edge_sdk.errors import EdgeError
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import cut_at, cuts_of, random_cuts
from edge_sdk.graph.cuts_pareto import pareto_cuts
from edge_sdk.graph.splitting import split_model

MEMORY_BYTES = 6 * 2**30
"""Of addresses, which libraries take more of than of memory."""
CASE_TIMEOUT_S = 60
_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF)


def damaged(content: bytes, number: int) -> bytes:
    """The file cut off, or with some bytes flipped, set, taken out, doubled, or moved from elsewhere in it."""
    rng = random.Random(number)
    changed = bytearray(content)
    # What counts of large files are the structures before and behind the weights.
    reach = min(len(changed), 4096)
    if rng.random() < 0.15:
        return bytes(changed[: rng.randrange(len(changed))])
    light = rng.random() < 0.6
    for _ in range(1 if light else rng.choice([1, 2, 4, 16])):
        at = rng.choice([rng.randrange(reach), len(changed) - 1 - rng.randrange(reach), rng.randrange(len(changed))])
        at = min(max(at, 0), len(changed) - 1)
        how = rng.randrange(2 if light else 6)
        if how == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            changed[at] = rng.choice(_INTERESTING)
        elif how == 2:
            changed[at : at + 4] = rng.choice([b"\xff" * 4, b"\x00" * 4, b"\xff\xff\xff\x7f", rng.randbytes(4)])
        elif how == 3:
            del changed[at : at + rng.choice([1, 4])]
        else:
            size, other = rng.choice([1, 4, 16]), rng.randrange(len(changed))
            piece = changed[other : other + size]
            changed[at : at + (len(piece) if how == 4 else 0)] = piece
        if not changed:
            return b""
    return bytes(changed)


def split_all(content: bytes) -> int:
    """Lists cuts of a file, and makes heads and tails of it that are whole files; how many.

    Raises:
        EdgeError: it cannot be done.
    """
    made = 0
    graph = open_graph(content)
    cuts = [*cuts_of(graph, limit=20), *pareto_cuts(graph, limit=20), *random_cuts(graph, 3)]
    for cut in random.Random(len(content)).sample(cuts, min(len(cuts), 3)):
        assert cut.head_macs >= 0 and cut.tail_macs >= 0 and (cut.wire_bytes is None or cut.wire_bytes >= 0)
        for codec in ("none", "fp16", "int8"):
            try:
                # The same tensors may leave open on which side an output is made: any of these cuts will do.
                found = cut_at(graph, cut.tensors)
                ranges = dict.fromkeys(found.tensors, (-1.0, 1.0))
                split = split_model(content, found, codec=codec, ranges=ranges if codec == "int8" else {})
            except EdgeError as error:
                assert one_line(error)
                continue
            for part in (split.head, split.tail):
                with open_model(part) as model:
                    model.check()
            made += 1
    return made


def one_line(error: EdgeError) -> bool:
    """Whether a message is a line of a length that can be read."""
    return 0 < len(str(error)) < 2000 and "\n" not in str(error)


def split_by_command(content: bytes) -> int:
    """Lists with `edge-sdk split`, and makes head and tail of the first cut, which runs them; 1 where that went well.

    Raises:
        EdgeError: the command refused, with this line.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.write_bytes(content)
        listed = json.loads(command("split", str(path), "--json"))["cuts"]
        if listed:
            command("split", str(path), "--at", listed[0]["id"], "-o", folder)
    return len(listed[:1])


def command(*arguments: str) -> str:
    """What it prints.

    Raises:
        EdgeError: it exits with 1; what it says.
    """
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        code = cli.main(list(arguments))
    if code:
        assert code == 1, code
        raise EdgeError(said.getvalue().rstrip("\n"))
    return printed.getvalue()


def main(what: str, folder: Path, first: int, last: int) -> None:
    split = {"all": split_all, "command": split_by_command}[what]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    files = sorted(folder.iterdir())
    counts = {"refused": 0, "split": 0, "whole": 0}
    for number in range(first, last):
        file = files[number % len(files)]
        print(f"{number} {file.name}", flush=True)
        signal.alarm(CASE_TIMEOUT_S)  # ends the process, so that who started it sees the number
        try:
            counts["split" if split(damaged(file.read_bytes(), number)) else "whole"] += 1
        except EdgeError as error:
            assert one_line(error), repr(str(error))
            counts["refused"] += 1
    print(f"done {counts}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
