"""The value objects of a bundle's manifest; `docs/bundle.md` writes their JSON form out.

`extra` of each object holds its `x-…` keys, which are free and kept through reading and writing. In `manifest.json`
they stand among the other keys.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edge_sdk.signature import Mapping, Signature

__all__ = [
    "FORMAT_MAJOR",
    "FORMAT_MINOR",
    "KNOWN_FEATURES",
    "Accuracy",
    "BundleFile",
    "Cascade",
    "Cut",
    "CutCodec",
    "Format",
    "GoldenFiles",
    "GoldenOutputs",
    "Latency",
    "Manifest",
    "Variant",
]

FORMAT_MAJOR, FORMAT_MINOR = 1, 2
KNOWN_FEATURES: frozenset[str] = frozenset()
"""What `Manifest.requires` may list here."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all objects of the manifest have in common."""

    extra: dict[str, Any] = {}


class Format(_Part, frozen=True, kw_only=True):
    """Version of the manifest's form. A newer major is refused; unknown keys of a newer minor are ignored."""

    major: int
    minor: int


class BundleFile(_Part, frozen=True, kw_only=True):
    """One file of the bundle.

    Attributes:
        path: below the bundle's root, with "/" between its parts.
        sha256: hash of its content, 64 hexadecimal digits in lower case.
        size_bytes: size of its content.
    """

    path: str
    sha256: str
    size_bytes: int


class Accuracy(_Part, frozen=True, kw_only=True):
    """One figure for how right a variant is, with what it was measured on.

    Attributes:
        metric: "top-1", "agreement" (top-1 against the source model), "mean_error", "map", "iou", or a function's name.
        value: the figure; from 0 to 1 for all but errors.
        data: name of the data set.
        samples: how many of its samples were used.
        engine: name and version of the engine.
        isa: what the kernels were chosen for ("x86_64 avx512 vnni"): int8 results differ between instruction sets.
        drop: how much less than the source model's; None where there is nothing to compare with.
    """

    metric: str
    value: float
    data: str
    samples: int
    engine: str = ""
    isa: str = ""
    drop: float | None = None


class Latency(_Part, frozen=True, kw_only=True):
    """How long one request took on one device.

    Attributes:
        device: the device's name.
        engine: name and version.
        latency_ms: median.
        p90_ms: 90th percentile.
        threads: None for the engine's default.
        accelerator: "cpu", or the accelerator's name.
        runs: how many requests were measured.
        fingerprint: of the device; "" where not kept.
    """

    device: str
    engine: str
    latency_ms: float
    p90_ms: float | None = None
    threads: int | None = None
    accelerator: str = "cpu"
    runs: int = 0
    fingerprint: str = ""


class Variant(_Part, frozen=True, kw_only=True):
    """One model file of the bundle, with its figures.

    `create` and `update` fill in `format`, `file`, `sha256`, `size_bytes`, `external_files` and, where it is "",
    `precision` from the model file itself.

    Attributes:
        name: unique in the bundle ("fp32", "int8-static", …).
        format: "onnx" or "tflite".
        precision: what it stores and computes in ("float32", "int8", "int8 (dynamic)", …).
        file: path of the model file in the bundle.
        sha256, size_bytes: of the model file.
        external_files: files beside it that hold its weights; the model file refers to them by their path from its
            folder.
        mapping: how its tensors map to the signature.
        macs: multiply-accumulates of one request.
        parameters: number of weights.
        peak_activation_bytes: the most that activations take at one moment.
        accuracy: figures, the one that counts first.
        latency: figures by device and engine.
        kept: why it is here although it did not pass ("beyond max-drop"); "" where it passed. A plan leaves such a
            variant out unless it is asked for by name.
        recipe: how it was made from the source.
        notes: lines for people ("calibrated on 200 pictures", "3 layers stay in float").
    """

    name: str
    format: str = ""
    precision: str = ""
    file: str = ""
    sha256: str = ""
    size_bytes: int = 0
    external_files: tuple[BundleFile, ...] = ()
    mapping: Mapping = Mapping()
    macs: int | None = None
    parameters: int | None = None
    peak_activation_bytes: int | None = None
    accuracy: tuple[Accuracy, ...] = ()
    latency: tuple[Latency, ...] = ()
    kept: str = ""
    recipe: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[BundleFile, ...]:
        """All files that belong to it, the model file first."""
        return (BundleFile(path=self.file, sha256=self.sha256, size_bytes=self.size_bytes), *self.external_files)

    @property
    def total_bytes(self) -> int:
        """Size of all its files."""
        return sum(file.size_bytes for file in self.files)


class CutCodec(_Part, frozen=True, kw_only=True):
    """What one way for a cut's tensors to travel costs and does, measured on data.

    Attributes:
        codec: in the graph: "none", "fp16", "int8", …
        coding: of the bytes: "none", "deflate", "zstd"; of inputs that travel whole "jpeg@75", "webp@75", "flac".
        wire_bytes: what travels for one request, mean over the samples.
        encode_share, decode_share: time that coding and decoding takes, in requests to the whole variant on one core of
            the same machine; None where not timed.
        metric: what `accuracy` and `drop` are of: that of the variant's own figures, or "agreement" with the variant.
        accuracy: with head, codec, coding and tail; None where not judged.
        drop: how much less than the variant without codec and coding.
        data, samples: what these were measured on.
    """

    codec: str
    coding: str = "none"
    wire_bytes: float
    encode_share: float | None = None
    decode_share: float | None = None
    metric: str = ""
    accuracy: float | None = None
    drop: float | None = None
    data: str = ""
    samples: int = 0


class Cut(_Part, frozen=True, kw_only=True):
    """Where a variant may be divided into head and tail; both are made and cached on demand.

    Attributes:
        id: unique among the cuts of the variant.
        variant: which variant it divides.
        tensors: the variant's tensors that travel.
        codec: how they travel; "" for as they are.
        wire_bytes: what travels for one request, before entropy coding.
        head_outputs, tail_outputs: the variant's outputs that each side gives.
        head_ops, tail_ops: how many ops run on each side; None where not counted.
        head_macs, tail_macs: multiply-accumulates of each side; None where not counted.
        codecs: ways to travel that were measured; empty where none was.
        leakage: share of the input's variance, 0 to 1, that a linear decoder rebuilds from `tensors`; None where not
            measured. A better decoder may rebuild more.
        leakage_psnr_db: how close what it rebuilds comes to the input.
        leakage_samples: how many samples this was judged on.
    """

    id: str
    variant: str
    tensors: tuple[str, ...]
    codec: str = ""
    wire_bytes: int | None = None
    head_outputs: tuple[str, ...] = ()
    tail_outputs: tuple[str, ...] = ()
    head_ops: int | None = None
    tail_ops: int | None = None
    head_macs: int | None = None
    tail_macs: int | None = None
    codecs: tuple[CutCodec, ...] = ()
    leakage: float | None = None
    leakage_psnr_db: float | None = None
    leakage_samples: int = 0


class Cascade(_Part, frozen=True, kw_only=True):
    """Two variants of which the small one answers where it is sure, and the big one otherwise.

    Attributes:
        small, big: names of variants; both the same where an early exit of it is the small one.
        output: logical output that holds the class scores which are looked at.
        exit: the early exit of the variant that stands for `output`; "" where there is none.
        score, form, threshold: see `edge_sdk.offload.Gate`: an answer of score `threshold` or more stands.
        metric: what the accuracies are of; "agreement" where there were no labels.
        max_drop: the bound on `big_accuracy - accuracy` that the threshold was chosen for.
        risk: probability that the true drop is larger, had the threshold alone to do with it.
        accuracy, small_accuracy, big_accuracy: of the cascade and of its parts, on samples held out from the choice.
        escalated_share: of the held-out samples that went to the big one.
        samples, held_out: how many the threshold was chosen on, and how many it was checked on.
        data: name of the data set.
        latency_ratio: predicted mean latency relative to the big variant's alone, both on the device that built this.
    """

    small: str
    big: str
    output: str
    exit: str = ""
    score: str
    form: str
    threshold: float
    metric: str
    max_drop: float
    risk: float
    accuracy: float
    small_accuracy: float
    big_accuracy: float
    escalated_share: float
    samples: int
    held_out: int
    data: str = ""
    latency_ratio: float | None = None


class GoldenOutputs(_Part, frozen=True, kw_only=True):
    """What one variant answered to a golden request where the bundle was made.

    Attributes:
        variant: its name.
        file: an .npz with one array per logical output.
        tolerance: largest difference allowed on another device, relative to the spread of the expected output.
        engine, isa: what computed it.
    """

    variant: str
    file: BundleFile
    tolerance: float
    engine: str = ""
    isa: str = ""


class GoldenFiles(_Part, frozen=True, kw_only=True):
    """One golden request: its inputs, an .npz with one array per logical input, and the answers by variant."""

    inputs: BundleFile
    outputs: tuple[GoldenOutputs, ...] = ()


class Manifest(_Part, frozen=True, kw_only=True):
    """All that a bundle says about itself.

    Attributes:
        format: version of this form.
        digest: hash over the whole bundle: of `manifest.json`, which holds the hash of every other file, with 64 zeros
            in the place of the digest itself.
        requires: features that a reader must know to use the bundle at all.
        name: what people call the model.
        release: rises with every change.
        parent_digest: digest of the release before.
        signature: what the model takes and gives.
        variants: at least one.
        cuts: where variants may be divided: of each variant those that some device, link and endpoint may want.
        cascades: pairs of variants that hold a stated accuracy together, best first.
        golden: requests with known answers, to run on a device before a plan is kept there.
        recipe: how the bundle was built.
        update_plan: reserved for how devices move to this release.
    """

    format: Format
    digest: str
    requires: tuple[str, ...] = ()
    name: str
    release: int
    parent_digest: str | None = None
    signature: Signature
    variants: tuple[Variant, ...]
    cuts: tuple[Cut, ...] = ()
    cascades: tuple[Cascade, ...] = ()
    golden: tuple[GoldenFiles, ...] = ()
    recipe: dict[str, str] = {}
    update_plan: dict[str, Any] = {}

    @property
    def files(self) -> tuple[BundleFile, ...]:
        """Every file of the bundle but the manifest itself; one that several parts share is listed once."""
        found: dict[str, BundleFile] = {}
        for variant in self.variants:
            found |= {file.path: file for file in variant.files}
        for sample in self.golden:
            found |= {file.path: file for file in (sample.inputs, *(o.file for o in sample.outputs))}
        return tuple(found.values())
