#!/usr/bin/env python3
"""Makes a model package of a PyTorch module, for encoders that Semblance does not have built in.

The module is traced and frozen into one TorchScript file, tried, and written into a folder with its model.toml; install
it with `semblance models install FOLDER`. Needs a Python with torch 2.13 (the version that the server links); the server
itself never runs Python.

    tools/torchscript_package.py my_repo.models:build --argument classes=0 \\
        --checkpoint weights.pth --entry state_dict --strip-prefix module. \\
        --out person-mine --modality person --input-shape 3x256x128 \\
        --scale unit --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 \\
        --licence "MIT" --provenance "Trained by us on ..." --source https://example.org \\
        --intended-use "..." --not-for "..."

What the module must do: take a batch [N, ...input shape] of f32 and answer [N, dimension]; with --parts K, answer a
tuple of [N, dimension], part after part, and of how visible each part is, [N, K], from 0 to 1 (from 0.5 on it counts).
With --keypoint-channels, the channels behind the picture's are heat maps of keypoints, zero where a sample has none.
Each row may depend on its own input alone, and the same input must always be answered the same.
"""

import argparse
import hashlib
import importlib
import json
import os
import re
import shutil
import sys
import tempfile

import torch

WEIGHTS = "weights.pt"
# How much two answers that should be one may differ, as a part of their length.
DIFFERENCE_MAX = 1e-4
# Five points (left eye, right eye, nose, corners of the mouth) of the templates that most face models were trained with.
TEMPLATES = {
    "arcface": [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    "sphereface": [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]],
}


def main():
    flags = parse()
    module = load(flags)
    example = torch.randn(2, *flags.input_shape)
    with torch.no_grad():
        program = freeze(module, example)
        dimension = try_out(program, module, flags)
        write(program, dimension, flags)
    print(f"{flags.out}: {dimension} numbers of {'x'.join(map(str, flags.input_shape))}")
    print(f"install it with: semblance models install {flags.out}")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("module", help="a callable that makes the module, as package.module:callable, or a TorchScript file")
    parser.add_argument("--argument", action="append", default=[], metavar="NAME=JSON", help="passed to the callable")
    parser.add_argument("--checkpoint", help="a state dict to load into the module")
    parser.add_argument("--entry", help="the key under which the checkpoint keeps its state dict")
    parser.add_argument("--strip-prefix", default="", help="taken off the names in the checkpoint")
    parser.add_argument("--ignore-prefix", action="append", default=[], help="tensors that serve training alone")
    parser.add_argument("--out", required=True, help="the folder to make; its name is the package's id")
    parser.add_argument("--version", default="1")
    parser.add_argument("--modality", required=True, choices=["face", "person", "gait"])
    parser.add_argument("--input-shape", required=True, type=shape, metavar="3x256x128")
    parser.add_argument("--parts", type=int, help="in how many parts it answers")
    parser.add_argument("--keypoint-channels", type=int, default=0, choices=[0, 1, 17])
    pictures = parser.add_argument_group("pictures (face, person)")
    pictures.add_argument("--colour", default="rgb", choices=["rgb", "bgr"])
    pictures.add_argument("--scale", default="unit", choices=["unit", "bytes"], help="0 to 1, or 0 to 255, before mean and std")
    pictures.add_argument("--mean", type=triple, default=[0.0, 0.0, 0.0])
    pictures.add_argument("--std", type=triple, default=[1.0, 1.0, 1.0])
    pictures.add_argument("--template", choices=sorted(TEMPLATES), help="where an aligned face has its five points")
    pictures.add_argument("--mirror", action="store_true", help="encode the mirror image too, and add both")
    walks = parser.add_argument_group("walks (gait)")
    walks.add_argument("--body-height-px", type=float, default=110.0)
    for words in ["licence", "provenance", "source", "intended-use", "not-for"]:
        parser.add_argument(f"--{words}", required=True, type=sentence)
    parser.add_argument("--trial", help="also write an input and its answer here, as JSON")
    return parser.parse_args()


def shape(text):
    sides = [int(side) for side in text.split("x")]
    if len(sides) != 3 or min(sides) < 1:
        raise argparse.ArgumentTypeError("three numbers with x between them")
    return sides


def triple(text):
    numbers = [float(number) for number in text.split(",")]
    if len(numbers) != 3:
        raise argparse.ArgumentTypeError("three numbers with commas between them")
    return numbers


def sentence(text):
    if not text.strip():
        raise argparse.ArgumentTypeError("must say something")
    return text


def load(flags):
    """The module in evaluation mode, with the weights of its checkpoint."""
    if os.path.isfile(flags.module):
        return torch.jit.load(flags.module, map_location="cpu").eval()
    path, _, name = flags.module.partition(":")
    if not name:
        sys.exit(f"{flags.module} is neither a file nor package.module:callable")
    sys.path.insert(0, os.getcwd())
    arguments = dict(argument.split("=", 1) for argument in flags.argument)
    build = getattr(importlib.import_module(path), name)
    module = build(**{name: json.loads(value) for name, value in arguments.items()})
    if flags.checkpoint:
        state = torch.load(flags.checkpoint, map_location="cpu", weights_only=True)
        state = state[flags.entry] if flags.entry else state
        state = {key.removeprefix(flags.strip_prefix): tensor for key, tensor in state.items()}
        ignored = tuple(flags.ignore_prefix)
        state = {key: tensor for key, tensor in state.items() if not (ignored and key.startswith(ignored))}
        try:
            module.load_state_dict(state, strict=True)
        except RuntimeError as error:
            sys.exit(f"{flags.checkpoint} is not of this module: {error}")
    return module.float().eval()


def freeze(module, example):
    """One program: weights are constants in it, and batch normalisation is folded where it can be."""
    if isinstance(module, torch.jit.ScriptModule):
        # A program that is frozen already has no mode any more.
        return torch.jit.freeze(module) if hasattr(module, "training") else module
    return torch.jit.freeze(torch.jit.trace(module, example, check_trace=False).eval())


def try_out(program, module, flags):
    """How many numbers the program answers. Ends with a sentence when it does not do what the server asks of it."""
    batch = torch.randn(3, *flags.input_shape)
    together = answers(program(batch), flags)
    if not all(torch.isfinite(answer).all() for answer in together):
        sys.exit("the answer holds numbers that are not finite")
    same(together, answers(program(batch), flags), "the same input is answered differently each time: is dropout on?")
    same(together, answers(module(batch), flags), "the program answers otherwise than the module: tracing follows one "
         "path through it, so make the path not depend on the input, or pass a file made by torch.jit.script")
    for row in range(3):
        alone = answers(program(batch[row : row + 1]), flags)
        among = [answer[row : row + 1] for answer in together]
        same(among, alone, "an input is answered otherwise alone than among others: is the module in evaluation mode?")
    if torch.allclose(together[0][0], together[0][1]):
        sys.exit("different inputs are answered the same")
    return together[0].shape[1]


def answers(answer, flags):
    """The answer as a list: of the embedding, or of embedding and visibility."""
    if flags.parts is None:
        if not isinstance(answer, torch.Tensor):
            sys.exit(f"the module answers a {type(answer).__name__}, and should answer one tensor (or say --parts)")
        answer = (answer,)
    elif not (isinstance(answer, tuple) and len(answer) == 2):
        sys.exit("with --parts the module should answer a tuple of two tensors: the parts, and how visible they are")
    embedding = answer[0]
    if embedding.dim() != 2:
        sys.exit(f"the answer has the shape {list(embedding.shape)}, and should have [N, dimension]")
    if flags.parts is not None:
        if embedding.shape[1] % flags.parts or list(answer[1].shape) != [len(embedding), flags.parts]:
            sys.exit(f"the shapes {list(embedding.shape)} and {list(answer[1].shape)} are not of {flags.parts} parts")
        if not ((answer[1] >= 0) & (answer[1] <= 1)).all():
            sys.exit("how visible a part is must be from 0 to 1")
    return [part.float() for part in answer]


def same(ones, others, complaint):
    for one, other in zip(ones, others, strict=True):
        difference = (one - other).norm() / one.norm().clamp_min(1e-12)
        if not difference <= DIFFERENCE_MAX:
            sys.exit(f"{complaint} (they differ by {difference:.1e} of the answer)")


def write(program, dimension, flags):
    """Makes the folder, or nothing."""
    out = os.path.normpath(flags.out)
    name = os.path.basename(out)
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        sys.exit(f"{name!r} is no id for a package: letters, digits, dots, dashes and underlines")
    if os.path.exists(out):
        sys.exit(f"{out} exists already; remove it, or name another folder")
    folder = tempfile.mkdtemp(prefix=f".{name}-", dir=os.path.dirname(out) or ".")
    try:
        path = os.path.join(folder, WEIGHTS)
        torch.jit.save(program, path)
        with open(path, "rb") as file:
            sha256 = hashlib.sha256(file.read()).hexdigest()
        with open(os.path.join(folder, "model.toml"), "w", encoding="utf-8") as file:
            file.write(manifest(name, sha256, dimension, flags))
        if flags.trial:
            trial(program, flags)
        os.chmod(folder, 0o755)
        os.rename(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def manifest(name, sha256, dimension, flags):
    words = {
        "id": name,
        "version": flags.version,
        "modality": flags.modality,
        "task": "encoder",
        "architecture": "torchscript",
        "input_shape": flags.input_shape,
        "dimension": dimension,
        "parts": flags.parts,
        "keypoint_channels": flags.keypoint_channels or None,
        "metric": "cosine",
        "licence": flags.licence,
        "provenance": flags.provenance,
        "source": flags.source,
        "intended_use": flags.intended_use,
        "not_for": flags.not_for,
    }
    weights = {"file": WEIGHTS, "sha256": sha256}
    return f"{table(words)}\n[[weights]]\n{table(weights)}\n[preprocessing]\n{table(preprocessing(flags))}"


def preprocessing(flags):
    if flags.modality == "gait":
        frames, joints, numbers = flags.input_shape
        if (joints, numbers) != (17, 3):
            sys.exit("a walk has the shape FRAMESx17x3: COCO-17 joints, each x, y and score")
        return {"kind": "skeleton", "frames": frames, "body_height_px": flags.body_height_px, "centre": "hips"}
    channels, height, width = flags.input_shape
    if channels != 3 + flags.keypoint_channels:
        sys.exit(f"a picture has 3 channels and {flags.keypoint_channels} of keypoints, the input shape has {channels}")
    return {
        "kind": "image",
        "width": width,
        "height": height,
        "colour": flags.colour,
        "scale": flags.scale,
        "mean": flags.mean,
        "std": flags.std,
        "resize": "bilinear",
        "template": TEMPLATES.get(flags.template),
        "mirror": flags.mirror,
    }


def table(values):
    # JSON's texts, numbers, truths and lists are TOML's too; TOML has no null, and surrogate pairs stay letters.
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items() if value is not None)
    return "".join(lines)


def trial(program, flags):
    """What another reader of the package can be held to."""
    batch = torch.randn(2, *flags.input_shape).mul(100).round().div(100)
    names = ["embeddings", "visibility"]
    said = {name: answer.flatten().tolist() for name, answer in zip(names, answers(program(batch), flags))}
    with open(flags.trial, "w", encoding="utf-8") as file:
        json.dump({"inputs": [round(number, 2) for number in batch.flatten().tolist()], **said}, file)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
