"""The four models that `benchmarks/split.py` judges with, and real pictures and speech to ask them.

| name | what | input |
|---|---|---|
| classifier | MobileNetV2, trained, int8 TFLite | uint8 [1, 224, 224, 3], photographs |
| segmenter | after DeepLab on MobileNetV2 (Sandler et al. 2018), ONNX | uint8 [1, 513, 513, 3], photographs |
| sound | M11 on raw waveforms (Dai et al. 2017), ONNX | int16 [1, 64000], 4 s of speech at 16 kHz |
| detector | the faces' Ultra-Light detector, trained, ONNX | float32 [1, 3, 240, 320], photographs |

Weights of segmenter and sound are drawn (He et al. 2015), normalisations are those of real data, and the last layer is
fitted by ridge regression to something that is really in the data (colours of places, loudness), so that answers mean
something and do not change with the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.architectures.mobile import inverted_residual, rounded
from benchmarks.architectures.writer import Writer

ASSETS = Path(__file__).resolve().parents[1].parent / "shared" / "assets"
CALIBRATION, REQUESTS = 16, 8
SOUND_SAMPLES = 64_000
PICTURE, COLOURS, LOUDNESSES = 513, 6, 4
Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Model:
    """One of them.

    Attributes:
        path: of the file, or of the bundle that `bundled` made of it; the name of its folder is the model's.
        data: requests to calibrate and to compare codecs on.
        requests: others, to ask.
        pictures: whether its input is one, that JPEG may carry.
    """

    path: Path
    data: tuple[Feeds, ...]
    requests: tuple[Feeds, ...]
    pictures: bool

    def save(self, folder: Path) -> None:
        """Data and requests as files that `load_feeds` reads."""
        for name, each in (("data", self.data), ("requests", self.requests)):
            arrays = {f"{number}/{key}": value for number, feeds in enumerate(each) for key, value in feeds.items()}
            np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def bundled(model: Model, seconds: float) -> Model:
    """The same as a bundle whose cuts were measured by every codec, as `edge-sdk build --cuts` makes it.

    Args:
        model: a plain file, and requests to judge codecs on.
        seconds: how long that may take, unless it was done before.
    """
    from edge_sdk.building import build
    from edge_sdk.compress.data import Data

    path = model.path.with_name("model.edge")
    if not path.exists():
        samples = Data(model.path.parent.name, [dict(feeds) for feeds in model.data])
        build(model.path, path, calibration=samples, variants=["fp32"], measure_s=0.0, cuts_s=seconds, as_zip=True)
    return replace(model, path=path)


def load_feeds(path: Path) -> tuple[Feeds, ...]:
    """What `Model.save` wrote."""
    found: dict[int, Feeds] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            found.setdefault(int(number), {})[name] = arrays[key]
    return tuple(found[number] for number in sorted(found))


def pictures(count: int, height: int, width: int, seed: int) -> list[Array]:
    """Crops of the shared photographs, brought to a size: uint8 [height, width, 3], RGB."""
    from edge_sdk.vision import load_cv2, read_image

    cv2 = load_cv2()
    photos = [read_image(path) for path in sorted((ASSETS / "photos").iterdir())]
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        photo = photos[number % len(photos)]
        share = random.uniform(0.6, 1.0)
        high = int(min(photo.shape[0], photo.shape[1] * height / width) * share)
        wide = int(high * width / height)
        top, left = random.integers(0, photo.shape[0] - high + 1), random.integers(0, photo.shape[1] - wide + 1)
        crop = photo[top : top + high, left : left + wide]
        found.append(cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA))
    return found


def speech(count: int, seed: int) -> list[Array]:
    """Pieces of the shared minute of speech: int16 [1, 64000]."""
    from edge_sdk.audio.sound import read_wav

    samples, rate_hz = read_wav(ASSETS / "audio" / "speech_60s.wav")
    assert rate_hz == 16_000
    starts = np.random.default_rng(seed).integers(0, len(samples) - SOUND_SAMPLES, count)
    return [
        np.round(samples[None, start : start + SOUND_SAMPLES] * 32767).clip(-32768, 32767).astype(np.int16)
        for start in starts
    ]


def classifier(folder: Path) -> Model:
    """See above."""
    path = _copied("mobilenet_v2_224_int8.tflite", folder, "model.tflite")
    data, requests = ([picture[None] for picture in each] for each in _sets(224, 224))
    return _model(path, _input_of(path), data, requests, True)


def detector(folder: Path) -> Model:
    """See above."""
    path = _copied("ultraface_rfb320.onnx", folder, "model.onnx")

    def prepared(picture: Array) -> Array:
        return ((picture.transpose(2, 0, 1)[None].astype(np.float32) - 127) / 128).astype(np.float32)

    data, requests = ([prepared(picture) for picture in each] for each in _sets(240, 320))
    return _model(path, "input", data, requests, True)


def segmenter(folder: Path) -> Model:
    """See above."""
    from onnx import TensorProto

    net = Writer("segmenter", seed=3, folded=True)
    x = net.input("image", [PICTURE, PICTURE, 3], TensorProto.UINT8)
    x = net.op("Cast", x, to=TensorProto.FLOAT)
    x = net.op("Sub", net.op("Mul", net.transpose(x, 0, 3, 1, 2), net.scalar(1 / 127.5)), net.scalar(1.0))
    x = net.conv(x, rounded(32 * 0.5), 3, 2, activation="relu6")
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2), (6, 64, 2, 2), (6, 96, 2, 1), (6, 160, 1, 1)]
    for widened, channels, times, stride in plan:
        for time in range(times):
            width = net.shapes[x][1] * widened
            x = inverted_residual(net, x, width, rounded(channels * 0.5), 3, stride if time == 0 else 1)
    x = features = net.conv(x, 128, 1)
    x = net.conv(x, COLOURS, 1, norm=False, activation=None)
    x = net.op("ArgMax", x, axis=1, keepdims=0)
    net.output(net.op("Cast", x, to=TensorProto.UINT8), "classes")
    data, requests = ([picture[None] for picture in each] for each in _sets(PICTURE, PICTURE))
    path = _fitted(net, folder, "image", data, features, colours)
    return _model(path, "image", data, requests, True)


def colours(picture: Array) -> Array:
    """Which of six colours each place of a picture has: three of lightness, warm or cold; int [33 * 33]."""
    from edge_sdk.vision import load_cv2

    small = load_cv2().resize(picture[0], (33, 33), interpolation=load_cv2().INTER_AREA).astype(np.float32)
    lightness = np.digitize(small.mean(2), [70, 140])
    warm = small[..., 0] > small[..., 2] + 10
    found: Array = (lightness * 2 + warm).reshape(-1)
    return found


def sound(folder: Path) -> Model:
    """See above."""
    from onnx import TensorProto

    net = Writer("sound", seed=4, folded=True)
    x = net.op("Cast", net.input("sound", [SOUND_SAMPLES], TensorProto.INT16), to=TensorProto.FLOAT)
    x = net.op("Unsqueeze", net.op("Mul", x, net.scalar(1 / 32768)), net.integers(1))
    x = net.conv(x, 64, 80, 4, pad=38)
    for channels, times in ((64, 2), (128, 2), (256, 3), (512, 2)):
        x = net.op("MaxPool", x, kernel_shape=[4], strides=[4])
        for _ in range(times):
            x = net.conv(x, channels, 3)
    features = x
    x = net.conv(x, LOUDNESSES, 1, norm=False, activation=None)
    net.output(net.op("Softmax", x, axis=1), "loudness")
    data, requests = speech(CALIBRATION, 5), speech(REQUESTS, 6)
    path = _fitted(net, folder, "sound", data, features, loudnesses)
    return _model(path, "sound", data, requests, False)


def loudnesses(samples: Array) -> Array:
    """How loud each sixteenth of a second is, in four steps; int [62]."""
    pieces = samples[0, : 62 * 1024].reshape(62, 1024).astype(np.float32) / 32768
    found: Array = np.digitize(np.log10(pieces.std(1) + 1e-5), [-3.0, -2.0, -1.3])
    return found


MODELS: dict[str, Callable[[Path], Model]] = {
    "classifier": classifier,
    "segmenter": segmenter,
    "sound": sound,
    "detector": detector,
}


def _sets(height: int, width: int) -> tuple[list[Array], list[Array]]:
    return pictures(CALIBRATION, height, width, 5), pictures(REQUESTS, height, width, 6)


def _copied(name: str, folder: Path, to: str) -> Path:
    path = folder / to
    path.write_bytes((ASSETS / "models" / name).read_bytes())
    return path


def _input_of(path: Path) -> str:
    from edge_sdk.formats import open_model

    with open_model(path) as model:
        return model.describe().inputs[0].name


def _model(path: Path, name: str, data: list[Array], requests: list[Array], pictures: bool) -> Model:
    return Model(path, tuple({name: one} for one in data), tuple({name: one} for one in requests), pictures)


def _fitted(
    net: Writer, folder: Path, name: str, data: list[Array], features: str, wanted: Callable[[Array], Array]
) -> Path:
    """The file, with the weights of its last convolution fitted to what each place of the data should be called."""
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    model = net.model({name: np.concatenate(data[:4])})
    last = next(node for node in model.graph.node if node.op_type == "Conv" and node.input[0] == features)
    tapped = onnx.ModelProto.FromString(model.SerializeToString())
    tapped.graph.output.append(onnx.ValueInfoProto(name=features))
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    found = [session.run([features], {name: one})[0][0] for one in data]
    x = np.concatenate([one.reshape(len(one), -1).T for one in found]).astype(np.float64)
    labels = np.concatenate([wanted(one) for one in data])
    x = np.hstack([x, np.ones((len(x), 1))])
    weights = _weights_of(model, last)
    y = np.eye(len(weights[1]))[labels] * 8 - 4
    solved = np.linalg.solve(x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1]), x.T @ y).T
    for tensor in model.graph.initializer:
        if tensor.name == last.input[1]:
            tensor.CopyFrom(
                numpy_helper.from_array(solved[:, :-1].reshape(weights[0].shape).astype(np.float32), tensor.name)
            )
        elif tensor.name == last.input[2]:
            tensor.CopyFrom(numpy_helper.from_array(solved[:, -1].astype(np.float32), tensor.name))
    right = float(np.mean((x @ solved.T).argmax(1) == labels))
    model.doc_string = f"last layer fitted; {right:.0%} right on its own data"
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def _weights_of(model: Any, node: Any) -> tuple[Array, Array]:
    from onnx import numpy_helper

    known = {tensor.name: tensor for tensor in model.graph.initializer}
    return numpy_helper.to_array(known[node.input[1]]), numpy_helper.to_array(known[node.input[2]])
