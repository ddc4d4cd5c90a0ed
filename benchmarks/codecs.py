"""What each codec sends at each cut, what it costs, and what becomes of the answers: on crops of real photographs.

    python benchmarks/codecs.py [--quick] [--json] [--only NAME…]

Models: the shared MobileNetV2, whose tensors are bytes; the same network with its weights as floats; and the face
detector. fp16 is two bytes a value, also beside the network of bytes, which itself has no use for it: there
`ratio_vs_uncoded` tells what is saved against the bytes that are there. Ranges come from crops of other photographs
than those that are counted. Accuracy is the share of crops of labelled photographs that get their label; for the
detector it is the F1 of its boxes (overlap of a half and more) against those that the whole is sure of (score 0.9 and
more), where boxes of which the whole itself is unsure count neither way. Agreement also counts what nobody could tell:
the share of crops with the first label of the whole; F1 against all its boxes. Bytes are medians of the tensors alone.

A row may be chosen (*) where accuracy is at most a point below that of the whole, and the tail has a tenth of the work
at least, the head of a cut a hundredth. `best_ratio_vs_fp16` is of the cut where a codec with its coding saves most
against fp16 there; `fewest` is the row with the fewest bytes of all. An entropy coding pays on links slower than the
Mbit/s at which what it saves takes as long as packing and unpacking; `entropy_pays` is whether that is above 10 for the
best row. With `input` in the place of a cut the whole model is the tail.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_sdk.engines.base import LoadOptions, Runner
from edge_sdk.engines.registry import engines_for
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph import Graph, open_graph
from edge_sdk.graph.codec import CODECS, Cut, scaled_as
from edge_sdk.graph.codec_ranges import RangeWatch
from edge_sdk.graph.cuts import input_cut
from edge_sdk.graph.cuts_pareto import pareto_cuts
from edge_sdk.graph.splitting import Split, split_model
from edge_sdk.offload.input_coding import decode, encode, may_travel_as
from edge_sdk.vision.detections import intersection_over_union, nms
from edge_sdk.vision.detectors import Detector, recognise
from edge_sdk.vision.opencv import load_cv2
from edge_sdk.wire.content_coding import coded, decoded, known_codings
from edge_sdk.wire.limits import Limits

ASSETS = Path(__file__).resolve().parents[1].parent / "shared" / "assets"
LABELLED = {"cat.bmp": 286, "grace_hopper.bmp": 653, "hot_dog.jpg": 935}
FACES = ("faces_2.jpg", "grace_hopper.bmp")
PICTURES = ("jpeg@75", "jpeg@90", "webp@75", "webp@90")
WANTED_DROP = 0.01
WANTED_RATIO = 4.0
USUAL_MBPS = 10.0
LEAST_SHARE, LEAST_SHARE_OF_HEAD = 0.1, 0.01
CONFIDENCE, SURE, UNSURE = 0.7, 0.9, 0.5
SAME_BOX = 0.5
TIMES = 15
SLACK = 1.6
Array = np.ndarray[Any, np.dtype[Any]]
Boxes = tuple[Array, Array]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Row:
    """One cut × codec × coding.

    Attributes:
        raw_bytes: of the tensors as they leave the head; a picture file's for input codings.
        packed_bytes: by entropy coding.
        fp16_bytes, uncoded_bytes: that codecs fp16 and none send at this cut, without entropy coding.
        encode_ms: what the codec adds to the head, or an input coding takes.
        pack_ms: by entropy coding, packing and unpacking.
        accuracy, drop: 0 to 1, and how much less than that of the whole.
        agreement: with the whole, 0 to 1.
    """

    cut: str
    tail_share: float
    codec: str
    raw_bytes: int
    packed_bytes: dict[str, int]
    fp16_bytes: int
    uncoded_bytes: int
    encode_ms: float
    pack_ms: dict[str, float]
    accuracy: float
    drop: float
    agreement: float

    @property
    def least_bytes(self) -> int:
        """With the best coding."""
        return min(self.raw_bytes, *self.packed_bytes.values())

    @property
    def ratio(self) -> float:
        """Times fewer bytes than fp16 sends here."""
        return self.fp16_bytes / self.least_bytes

    @property
    def able(self) -> bool:
        """Whether it may be chosen."""
        return self.drop <= WANTED_DROP + 1e-9 and self.tail_share >= LEAST_SHARE

    def pays_below_mbps(self, coding: str) -> float:
        """The bandwidth at which an entropy coding saves as much time as it takes; 0 where it saves nothing."""
        saved_bits = 8 * (self.raw_bytes - self.packed_bytes[coding])
        return max(saved_bits, 0) / (self.pack_ms[coding] * 1e3)


@dataclass(frozen=True)
class Model:
    """A model and the pictures that its answers are judged on.

    Attributes:
        detects: whether it gives boxes.
        calibrating, counted: names of photographs.
        least_share: of the photograph that a crop shows.
    """

    name: str
    content: bytes
    detects: bool
    calibrating: tuple[str, ...]
    counted: tuple[str, ...]
    least_share: float


@dataclass(frozen=True)
class Judge:
    """Answers of the whole model, and what is right.

    Attributes:
        whole: by request: its boxes, or its first label.
        labels: by request; empty where the boxes of the whole are right.
    """

    whole: tuple[Any, ...]
    labels: tuple[int, ...]
    detector: Detector | None

    def figures(self, answers: Sequence[Mapping[str, Array]]) -> tuple[float, float, float]:
        """Accuracy, how much less that is than the whole's, and agreement."""
        if self.detector is not None:
            found_boxes = [boxes_of(self.detector, answer) for answer in answers]
            score = f1(self.whole, found_boxes, SURE)
            return score, 1 - score, f1(self.whole, found_boxes, self.detector.confidence)
        found = [label_of(answer) for answer in answers]
        right, whole_right = (share_equal(labels, self.labels) for labels in (found, self.whole))
        return right, whole_right - right, share_equal(found, self.whole)


# --- models ---


def models(only: Sequence[str]) -> Iterator[Model]:
    folder = ASSETS / "models"
    mobilenet = (folder / "mobilenet_v2_224_int8.tflite").read_bytes()
    faces = (folder / "ultraface_rfb320.onnx").read_bytes()
    labelled = tuple(LABELLED)
    every: dict[str, Callable[[], Model]] = {
        "mobilenet_v2": lambda: Model("mobilenet_v2", mobilenet, False, ("faces_1.jpg", "faces_2.jpg"), labelled, 0.75),
        "mobilenet_v2_float": lambda: Model(
            "mobilenet_v2_float", floating(mobilenet), False, ("faces_1.jpg", "faces_2.jpg"), labelled, 0.75
        ),
        "face_detector": lambda: Model("face_detector", faces, True, ("faces_1.jpg", "cat.bmp"), FACES, 0.5),
    }
    for name, make in every.items():
        if not only or name in only:
            yield make()


def floating(content: bytes) -> bytes:
    """A quantised TFLite file as a float one: its weights as the real numbers that they stand for."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    real = schema.TensorType.FLOAT32
    numbers = {schema.TensorType.UINT8: np.uint8, schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}
    for tensor in graph.tensors:
        scaling, tensor.quantization = tensor.quantization, None
        if scaling is None or scaling.scale is None or tensor.type not in numbers:
            tensor.quantization = scaling
            continue
        held = model.buffers[tensor.buffer].data
        if held is not None and len(held):
            values = np.frombuffer(bytes(held), numbers[tensor.type]).reshape(tensor.shape).astype(np.float32)
            along = [1] * values.ndim
            if len(scaling.scale) > 1:
                along[scaling.quantizedDimension] = -1
            scale, zero = (np.asarray(part, np.float32).reshape(along) for part in (scaling.scale, scaling.zeroPoint))
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(((values - zero) * scale).tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
        tensor.type = real
    _without_quantize(schema, model, graph)
    builder = flatbuffers.Builder(len(content) * 4)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _without_quantize(schema: Any, model: Any, graph: Any) -> None:
    """QUANTIZE from one byte form to another becomes the addition of 0."""
    quantizes = [n for n, code in enumerate(model.operatorCodes) if code.builtinCode == schema.BuiltinOperator.QUANTIZE]
    entry, zero, buffer = schema.OperatorCodeT(), schema.TensorT(), schema.BufferT()
    entry.builtinCode = entry.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    entry.version = 1
    buffer.data = np.zeros(4, np.uint8)
    zero.name, zero.shape, zero.type, zero.buffer = b"zero", [1], schema.TensorType.FLOAT32, len(model.buffers)
    model.operatorCodes.append(entry)
    model.buffers.append(buffer)
    graph.tensors.append(zero)
    for op in graph.operators:
        if op.opcodeIndex in quantizes:
            op.opcodeIndex, op.inputs = len(model.operatorCodes) - 1, [op.inputs[0], len(graph.tensors) - 1]
            op.builtinOptions, op.builtinOptionsType = schema.AddOptionsT(), schema.BuiltinOptions.AddOptions


def label_of(outputs: Mapping[str, Array]) -> int:
    (scores,) = outputs.values()
    return int(np.argmax(scores))


def share_equal(one: Sequence[int], other: Sequence[int]) -> float:
    return statistics.fmean(a == b for a, b in zip(one, other, strict=True))


def boxes_of(detector: Detector, outputs: Mapping[str, Array]) -> Boxes:
    """Boxes as corners with their scores, the surest first, down to those that nobody would take."""
    boxes, scores, _ = detector.decode(list(outputs.values()), detector.height, detector.width, UNSURE)
    able = scores >= UNSURE
    kept = nms(boxes[able], scores[able], iou=detector.iou or 1.0)
    return boxes[able][kept], scores[able][kept]


def f1(whole: Sequence[Boxes], answers: Sequence[Boxes], least: float) -> float:
    """Of all boxes of at least the detector's own confidence, where right are those of the whole of `least` and more.

    What is found at another box of the whole is neither right nor wrong.
    """
    right = same = wrong = 0
    for (boxes, scores), (found, found_scores) in zip(whole, answers, strict=True):
        left = list(range(len(boxes)))
        right += int((scores >= least).sum())
        for box in found[found_scores >= CONFIDENCE]:
            overlaps = intersection_over_union(box, boxes[left]) if left else np.zeros(0)
            if not len(overlaps) or overlaps.max() < SAME_BOX:
                wrong += 1
                continue
            same += bool(scores[left.pop(int(overlaps.argmax()))] >= least)
    return 2 * same / max(right + same + wrong, 1)


# --- pictures ---


def crops(names: Sequence[str], count: int, least_share: float, model: ModelFile, seed: int) -> list[dict[str, Array]]:
    """Feeds from parts of photographs in turn, some of them mirrored or of another brightness."""
    cv2 = load_cv2()
    (spec,) = (s for s in model.describe().inputs if s.name not in model.describe().initializer_inputs)
    assert spec.shape is not None
    sizes = [size if isinstance(size, int) else 1 for size in spec.shape]
    first = sizes[1] == 3
    high, wide = sizes[2:] if first else sizes[1:3]
    photos = [cv2.imread(str(ASSETS / "photos" / name))[..., ::-1] for name in names]
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        photo = photos[number % len(photos)]
        share = generator.uniform(least_share, 1.0) * min(photo.shape[0] / high, photo.shape[1] / wide)
        rows, columns = int(high * share), int(wide * share)
        top, left = (int(generator.integers(0, n + 1)) for n in (photo.shape[0] - rows, photo.shape[1] - columns))
        part = photo[top : top + rows, left : left + columns][:, :: generator.choice([1, -1])]
        pixels = cv2.resize(np.ascontiguousarray(part), (wide, high), interpolation=cv2.INTER_AREA)
        pixels = np.clip(pixels * generator.uniform(0.85, 1.15), 0, 255).astype(np.uint8)
        array = pixels.transpose(2, 0, 1)[None] if first else pixels[None]
        if spec.dtype == "float32":
            array = (array.astype(np.float32) - 127) / 128
        found.append({spec.name: np.ascontiguousarray(array)})
    return found


# --- measuring ---


def loaded(content: bytes) -> Runner:
    model = open_model(content)
    model.check()
    return engines_for(model.format)[0].load(model, LoadOptions(threads=1, spin=False, cache=False))


def run(runner: Runner, feeds: Feeds) -> dict[str, Array]:
    names = {spec.name for spec in runner.inputs}
    given = runner.run({name: array for name, array in feeds.items() if name in names})
    return {name: np.array(array) for name, array in dict(given).items()}


def measure(model: Model, quick: bool) -> list[Row]:
    """All rows of a model."""
    with open_model(model.content, name=model.name) as file, closing(loaded(model.content)) as whole:
        graph = open_graph(file)
        calibrating = crops(model.calibrating, 12 if quick else 48, model.least_share, file, 0)
        counted = crops(model.counted, 30 if quick else 120, model.least_share, file, 1)
        judge = judged(model, whole, counted)
        rows = []
        for cut in chosen(graph, quick):
            rows += of_cut(file, graph, cut, calibrating, counted, judge)
        return rows


def judged(model: Model, whole: Runner, counted: Sequence[Feeds]) -> Judge:
    """What the whole answers."""
    answers = [run(whole, feeds) for feeds in counted]
    if not model.detects:
        names = [model.counted[place % len(model.counted)] for place in range(len(counted))]
        return Judge(tuple(map(label_of, answers)), tuple(LABELLED[name] for name in names), None)
    (array,) = counted[0].values()
    detector = recognise(whole.outputs, *array.shape[2:])
    assert detector is not None
    return Judge(tuple(boxes_of(detector, answer) for answer in answers), (), detector)


def chosen(graph: Graph, quick: bool) -> list[Cut]:
    """The cut at the inputs, and those of one tensor where hardly more bytes travel than at any before."""
    single = [cut for cut in pareto_cuts(graph) if cut.divides and len(cut.tensors) == 1]
    cuts, least = [], float("inf")
    for cut in sorted(single, key=lambda cut: cut.head_ops):
        if (cut.wire_bytes or 0) <= SLACK * least and cut.tail_macs > 0:
            least = min(cut.wire_bytes or 0, least)
            cuts.append(cut)
    return [input_cut(graph), *(cuts[len(cuts) // 3 :: len(cuts) // 3 + 1] if quick else cuts)]


def of_cut(
    file: ModelFile,
    graph: Graph,
    cut: Cut,
    calibrating: Sequence[Feeds],
    counted: Sequence[Feeds],
    judge: Judge,
) -> Iterator[Row]:
    """Rows of one cut."""
    share = cut.tail_macs / max(cut.tail_macs + cut.head_macs, 1)
    where = "input" if cut.is_at_inputs else cut.tensors[0]
    plain = split_model(file, cut, graph=graph)
    tensors = graph.tensors[cut.tensors[0]]
    fp16_bytes = 2 * int(np.prod(tensors.shape or ()))
    uncoded_bytes = tensors.bytes or 0
    seen = heads(plain, calibrating)
    for codec in CODECS:
        scaled = scaled_as(graph, cut, codec)
        if codec == "int16" or (codec != "none" and not scaled and tensors.dtype != "float32"):
            continue
        watches = {name: RangeWatch(*way) for name, way in scaled.items()}
        for given in seen:
            for one, name in zip(plain.coded, plain.sent, strict=True):
                if one.name in watches:
                    watches[one.name].add(given[name])
        ranges = {name: watch.range() or (0.0, 0.0) for name, watch in watches.items()}
        split = split_model(file, cut, codec=codec, ranges=ranges, graph=graph)
        sent = heads(split, counted)
        taken_ms = encode_ms(plain, split, counted[0])
        with closing(loaded(split.tail)) as tail:
            answers = [run(tail, given) for given in sent]
            contents = [joined(given) for given in sent]
            yield packed(where, share, codec, contents, (fp16_bytes, uncoded_bytes), taken_ms, judge.figures(answers))
            if cut.is_at_inputs:
                yield from as_pictures(tail, codec, sent, (fp16_bytes, uncoded_bytes), taken_ms, judge)


def as_pictures(
    tail: Runner,
    codec: str,
    sent: Sequence[Feeds],
    others_bytes: tuple[int, int],
    codec_ms: float,
    judge: Judge,
) -> Iterator[Row]:
    """Rows of inputs that travel as picture files."""
    ((name, first),) = sent[0].items()
    for coding in PICTURES:
        if not may_travel_as(coding, first.dtype.name, first.shape):
            continue
        files = [encode(given[name], coding) for given in sent]
        taken_ms = median_ms(lambda coding=coding: encode(first, coding))  # type: ignore[misc]
        answers = [run(tail, {name: decode(file, name, Limits())}) for file in files]
        contents = [file.content for file in files]
        label = coding if codec == "none" else f"{codec}, {coding}"
        yield packed("input", 1.0, label, contents, others_bytes, codec_ms + taken_ms, judge.figures(answers))


def heads(split: Split, requests: Sequence[Feeds]) -> list[dict[str, Array]]:
    """What travels for each request."""
    if not split.head:
        return [dict(request) for request in requests]
    with closing(loaded(split.head)) as head:
        return [{name: given[name] for name in split.sent} for given in (run(head, feeds) for feeds in requests)]


def encode_ms(plain: Split, split: Split, feeds: Feeds) -> float:
    """What the codec adds to the head, run in turn with the one without."""
    if split.codec == "none" or not split.head:
        return 0.0
    with closing(loaded(split.head)) as one:
        if not plain.head:
            return median_ms(lambda: run(one, feeds))
        with closing(loaded(plain.head)) as other:
            pairs = [(timed_ms(lambda: run(one, feeds)), timed_ms(lambda: run(other, feeds))) for _ in range(TIMES)]
    return max(statistics.median(coded_ms - plain_ms for coded_ms, plain_ms in pairs), 0.0)


def timed_ms(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1e3


def median_ms(work: Callable[[], object]) -> float:
    return statistics.median(timed_ms(work) for _ in range(TIMES))


def joined(given: Feeds) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for array in given.values())


def packed(
    where: str,
    share: float,
    codec: str,
    contents: Sequence[bytes],
    others_bytes: tuple[int, int],
    taken_ms: float,
    figures: tuple[float, float, float],
) -> Row:
    """A row, with what entropy coding makes of what travels."""
    sizes, times = {}, {}
    for coding in [coding for coding in known_codings() if coding != "gzip"]:
        sizes[coding] = round(statistics.median(len(coded([content], coding)) for content in contents))
        small = coded([contents[0]], coding)
        times[coding] = median_ms(lambda coding=coding: coded([contents[0]], coding)) + median_ms(  # type: ignore[misc]
            lambda small=small, coding=coding: decoded(memoryview(small), coding, 2**30, "")  # type: ignore[misc]
        )
    raw = round(statistics.median(map(len, contents)))
    return Row(where, share, codec, raw, sizes, *others_bytes, taken_ms, times, *figures)


# --- telling ---


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures that the check reads."""
    able = [row for row in rows if row.able and 1 - row.tail_share >= LEAST_SHARE_OF_HEAD]
    inputs = [row for row in rows if row.able and row.cut == "input"]
    if not able:
        return {
            "best_ratio_vs_fp16": 0.0,
            "accuracy_drop": 1.0,
            "entropy_pays": False,
            "rows": [asdict(r) for r in rows],
        }
    best = max(able, key=lambda row: row.ratio)
    fewest = min(able, key=lambda row: row.least_bytes)
    pays = {coding: best.pays_below_mbps(coding) for coding in best.packed_bytes}
    return {
        "best_ratio_vs_fp16": round(best.ratio, 2),
        "accuracy_drop": round(best.drop, 4),
        "entropy_pays": max(pays.values()) > USUAL_MBPS,
        "entropy_pays_below_mbps": {coding: round(mbps, 1) for coding, mbps in pays.items()},
        "best": told(best),
        "fewest": told(fewest),
        "fewest_at_input": told(min(inputs, key=lambda row: row.least_bytes)) if inputs else None,
        "rows": [asdict(row) for row in rows],
    }


def told(row: Row) -> dict[str, Any]:
    return {"cut": row.cut, "codec": row.codec, "bytes": row.least_bytes, "fp16_bytes": row.fp16_bytes,
            "ratio": round(row.ratio, 2), "ratio_vs_uncoded": round(row.uncoded_bytes / row.least_bytes, 2),
            "agreement": round(row.agreement, 4), "accuracy": round(row.accuracy, 4),
            "drop": round(row.drop, 4)}  # fmt: skip


def show(name: str, rows: Sequence[Row], figures: Mapping[str, Any]) -> None:
    print(f"\n{name}")
    print(f"{'cut':26} {'tail':>5} {'codec':14} {'raw':>9} {'deflate':>9} {'zstd':>9} {'fp16 is':>8}"
          f" {'encode':>9} {'deflate':>8} {'zstd':>8} {'accuracy':>8} {'agrees':>7}")  # fmt: skip
    for row in rows:
        sizes = [f"{row.packed_bytes[c]:,}" if c in row.packed_bytes else "" for c in ("deflate", "zstd")]
        times = [f"{row.pack_ms[c]:.2f} ms" if c in row.pack_ms else "" for c in ("deflate", "zstd")]
        print(f"{row.cut[-26:]:26} {row.tail_share:5.0%} {row.codec:14} {row.raw_bytes:9,} {sizes[0]:>9} {sizes[1]:>9}"
              f" {row.ratio:7.1f}x {row.encode_ms:6.2f} ms {times[0]:>8} {times[1]:>8} {row.accuracy:8.1%}"
              f" {row.agreement:7.1%} {'*' if row.able else ''}")  # fmt: skip
    if "best" in figures:
        best = figures["best"]
        print(
            f"best against fp16: {best['ratio']} times fewer bytes at {best['cut'][-26:]!r} with {best['codec']},"
            f" accuracy {best['accuracy']:.1%}; entropy coding pays below {figures['entropy_pays_below_mbps']} Mbit/s"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few crops and cuts: under a minute")
    parser.add_argument("--json", action="store_true", help="figures by model")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these models")
    arguments = parser.parse_args()
    if not ASSETS.is_dir():
        print("the shared models and photographs are not here", file=sys.stderr)
        return 1
    found = {}
    for model in models(arguments.only):
        rows = measure(model, arguments.quick)
        found[model.name] = summary(rows)
        if not arguments.json:
            show(model.name, rows, found[model.name])
    if arguments.json:
        print(json.dumps(found, indent=1))
    reached = all(f["best_ratio_vs_fp16"] >= WANTED_RATIO and f["accuracy_drop"] <= WANTED_DROP for f in found.values())
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
