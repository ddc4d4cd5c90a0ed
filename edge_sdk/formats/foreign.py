"""Formats that are not run here, how to know them, and the way from each to ONNX or TFLite."""

from __future__ import annotations

__all__ = ["FOLDERS", "FOREIGN", "MAGIC", "SUFFIXES", "ZIP_MEMBERS"]

FOREIGN = {
    "pytorch": (
        "a PyTorch file",
        'export it where the model\'s code is: torch.onnx.export(model, (example_input,), "model.onnx", dynamo=True)',
    ),
    "torch-export": (
        "a PyTorch exported program",
        'convert it with torch.onnx.export(torch.export.load("model.pt2"), dynamo=True).save("model.onnx")',
    ),
    "executorch": (
        "an ExecuTorch program",
        'export its PyTorch source instead: torch.onnx.export(model, (example_input,), "model.onnx", dynamo=True)',
    ),
    "keras": (
        "a Keras model",
        'convert it with tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model("model.keras")).convert()',
    ),
    "saved-model": (
        "a TensorFlow SavedModel",
        'convert it with tf.lite.TFLiteConverter.from_saved_model("FOLDER").convert()'
        " or python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
    ),
    "tensorflow": (
        "a TensorFlow graph",
        "convert it with python -m tf2onnx.convert --graphdef model.pb --inputs NAME:0 --outputs NAME:0"
        " --output model.onnx",
    ),
    "tfjs": (
        "a TensorFlow.js model",
        "convert its TensorFlow source instead: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
    ),
    "mindspore": (
        "a MindSpore model",
        'export its source instead: mindspore.export(net, example_input, file_name="model", file_format="ONNX")',
    ),
    "coreml": (
        "a Core ML model",
        "export its source model to ONNX instead (torch.onnx.export, or python -m tf2onnx.convert)",
    ),
    "tensorrt": (
        "a TensorRT engine, built for one GPU",
        "use the ONNX file it was built from; the tensorrt accelerator builds its own engine from that",
    ),
    "ncnn": ("an ncnn model", "use the ONNX or PyTorch model it was converted from: torch.onnx.export(…, dynamo=True)"),
    "mnn": ("an MNN model", "convert it with MNNConvert -f MNN --modelFile model.mnn --OnnxModel model.onnx"),
    "rknn": ("an RKNN model, built for one NPU", "use the ONNX file it was converted from"),
    "hailo": ("a Hailo executable, built for one NPU", "use the ONNX or TFLite file it was compiled from"),
    "qnn": ("a Qualcomm model container", "use the ONNX or TFLite file it was converted from"),
    "safetensors": (
        "a safetensors file: weights without a graph",
        "export the model with its code: torch.onnx.export, or optimum-cli export onnx --model FOLDER OUT",
    ),
    "gguf": (
        "a GGUF file: weights of a language model without a graph",
        "export the original model with: optimum-cli export onnx --model NAME OUT",
    ),
    "ort": (
        "a model in ONNX Runtime's own .ort format",
        "use the .onnx file it was made from by python -m onnxruntime.tools.convert_onnx_models_to_ort",
    ),
    "openvino": ("an OpenVINO model", "use the ONNX or TFLite file it was converted from by ovc"),
    "paddle": (
        "a PaddlePaddle model",
        "convert it with paddle2onnx --model_dir FOLDER --model_filename model.pdmodel --save_file model.onnx",
    ),
    "caffe": (
        "a Caffe model",
        "convert it with python -m caffe2onnx.convert --prototxt P --caffemodel M --onnx model.onnx",
    ),
    "darknet": ("Darknet weights", "convert them with the exporter of a PyTorch port, which ends in torch.onnx.export"),
    "sklearn": (
        "a pickled Python object",
        "convert a scikit-learn model with skl2onnx.to_onnx(model, X[:1]).SerializeToString(); a PyTorch one with"
        ' torch.onnx.export(model, (example_input,), "model.onnx", dynamo=True)',
    ),
    "onnx-text": (
        "ONNX in a text form",
        'write it in binary: onnx.save(onnx.load("model.onnxtxt"), "model.onnx")',
    ),
    "bundle": (
        "an edge-sdk bundle",
        "open it with edge_sdk.load, which picks a model of it, or name one model file inside",
    ),
    "task": ("a MediaPipe task bundle", "unzip it and name one of the .tflite files inside"),
    "zip": ("a zip archive", "unpack it and name the .onnx or .tflite file inside"),
    "gzip": ("a gzip-compressed file", "decompress it first: gunzip FILE (then tar xf FILE for a .tar)"),
    "tar": ("a tar archive", "unpack it (tar xf FILE) and name the .onnx or .tflite file inside"),
    "numpy": ("a NumPy array file", "it holds data and no model: pass it as an input"),
    "picture": ("a picture", "it is no model: pass it as an input"),
    "library": ("an executable or a shared library", "name a model; libraries of custom ops are passed as custom_ops"),
}
"""What a format is, and the way from there, by key."""

MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", "keras"),
    (0, b"GGUF", "gguf"),
    (0, b"7767517", "ncnn"),
    (0, b"ptrt", "tensorrt"),
    (0, b"ftrt", "tensorrt"),
    (0, b"RKNN", "rknn"),
    (0, b"\x01HEF", "hailo"),
    (0, b"\x93NUMPY", "numpy"),
    (0, b"\x89PNG\r\n", "picture"),
    (0, b"\xff\xd8\xff", "picture"),
    (0, b"\x7fELF", "library"),
    (0, b"\x1f\x8b", "gzip"),
    (257, b"ustar", "tar"),
    (4, b"ORTM", "ort"),
    (4, b"ET12", "executorch"),
    (4, b"MSL", "mindspore"),
)
"""(offset, bytes, key of FOREIGN)."""

SUFFIXES = {
    ".pt": "pytorch", ".pth": "pytorch", ".ckpt": "pytorch", ".pt2": "torch-export", ".pte": "executorch",
    ".h5": "keras", ".hdf5": "keras", ".keras": "keras", ".pb": "tensorflow", ".pbtxt": "tensorflow",
    ".ms": "mindspore", ".mindir": "mindspore", ".mlmodel": "coreml", ".mlpackage": "coreml", ".mlmodelc": "coreml",
    ".engine": "tensorrt", ".plan": "tensorrt", ".trt": "tensorrt", ".param": "ncnn", ".mnn": "mnn", ".rknn": "rknn",
    ".hef": "hailo", ".dlc": "qnn", ".safetensors": "safetensors", ".gguf": "gguf", ".ggml": "gguf", ".ort": "ort",
    ".xml": "openvino", ".pdmodel": "paddle", ".pdiparams": "paddle", ".caffemodel": "caffe", ".prototxt": "caffe",
    ".weights": "darknet", ".cfg": "darknet", ".pkl": "sklearn", ".pickle": "sklearn", ".joblib": "sklearn",
    ".onnxtxt": "onnx-text", ".textproto": "onnx-text", ".edge": "bundle", ".task": "task", ".zip": "zip",
    ".gz": "gzip", ".tgz": "gzip", ".npy": "numpy", ".npz": "numpy", ".so": "library", ".tar": "tar",
}  # fmt: skip
"""Key of FOREIGN by suffix, for files whose content does not tell."""

ZIP_MEMBERS: tuple[tuple[str, str], ...] = (
    ("data.pkl", "pytorch"),
    ("serialized_exported_program.json", "torch-export"),
    ("archive_format", "torch-export"),
    ("model.weights.h5", "keras"),
    ("saved_model.pb", "saved-model"),
    ("Manifest.json", "coreml"),
    ("manifest.json", "bundle"),
    ("model.dlc.metadata", "qnn"),
)
"""(file name, key of FOREIGN): the first that a zip archive holds in any folder names it."""

FOLDERS: tuple[tuple[str, str], ...] = (
    ("saved_model.pb", "saved-model"),
    ("manifest.json", "bundle"),
    ("Manifest.json", "coreml"),
    ("model.safetensors", "safetensors"),
    ("inference.pdmodel", "paddle"),
)
"""(file inside, key of FOREIGN): the first that a folder holds names it."""
