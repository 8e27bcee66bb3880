#!/usr/bin/env python3
"""Makes the inputs that fuzzing starts from: small whole files of each kind.

What fuzzing has found lies beside them, in files called find-….

Needs numpy, scipy and Pillow; run it in this folder. Nothing here is random.
"""

import gzip
import io
import json
import pathlib
import pickle
import struct
import tarfile

import numpy as np
import scipy.io
from PIL import Image

HERE = pathlib.Path(__file__).parent
REPO = HERE.parent.parent
MARK = b"--8<--\n"


def write(target, name, content):
    path = HERE / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def ramp(*shape):
    return (np.arange(np.prod(shape)) * 37 % 251).astype(np.uint8).reshape(shape)


def pictures():
    rgb = Image.fromarray(ramp(6, 9, 3))
    modes = {
        "rgb": rgb,
        "grey": rgb.convert("L"),
        "rgba": Image.fromarray(ramp(6, 9, 4)),
        "palette": rgb.quantize(8),
        "bits": rgb.convert("1"),
        "deep": Image.fromarray(ramp(6, 9).astype(np.uint16) * 200),
    }
    for name, image in modes.items():
        kinds = {"PNG": modes, "BMP": ["rgb", "grey", "palette", "bits"], "GIF": ["rgb", "palette"]}
        kinds |= {"JPEG": ["rgb", "grey"], "WEBP": ["rgb", "rgba"]}
        for kind, which in kinds.items():
            if name in which:
                out = io.BytesIO()
                image.save(out, kind)
                write("picture", f"{name}.{kind.lower()}", out.getvalue())
    for name, options in {
        "progressive.jpeg": dict(format="JPEG", progressive=True),
        "turned.jpeg": dict(format="JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"),
        "lossless.webp": dict(format="WEBP", lossless=True),
        "moving.gif": dict(format="GIF", save_all=True, append_images=[rgb.rotate(180)]),
        "moving.webp": dict(format="WEBP", save_all=True, append_images=[rgb.rotate(180)]),
    }.items():
        out = io.BytesIO()
        rgb.save(out, **options)
        write("picture", name, out.getvalue())


def cifar():
    def record(number):
        return bytes([number % 20, number % 100]) + ramp(3072).tobytes()

    write("cifar", "two", record(3) + record(4) + MARK + record(5))
    write("cifar", "short", record(3)[:-1] + MARK + record(5))
    for protocol in range(6):
        data = {
            b"data": ramp(2, 3072),
            b"fine_labels": [1, 2],
            b"coarse_labels": [0, 1],
            b"filenames": [b"a.png", b"b.png"],
        }
        write("pickle", f"protocol{protocol}", pickle.dumps(data, protocol=protocol))
    fixture = REPO / "tests/fixtures/pickle/cifar-100-python"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ["meta", "test", "train"]:
            archive.add(fixture / name, f"cifar-100-python/{name}")
    write("archive", "whole", out.getvalue())
    write("archive", "half", out.getvalue()[: len(out.getvalue()) // 2])


def idx():
    def array(values):
        return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()

    images, labels = array(ramp(2, 4, 4)), array(np.array([3, 4], np.uint8))
    write("idx", "plain", MARK.join([images, labels, images, labels]))
    write("idx", "gzipped", MARK.join([gzip.compress(images, mtime=0), labels, images, labels]))


def numpy_files():
    images, labels = ramp(4, 5, 5, 3), np.array([0, 1, 1, 0])
    layouts = {
        "keras": dict(x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2]),
        "plain": dict(images=images, labels=labels),
        "medmnist": dict(
            train_images=images[..., 0],
            train_labels=labels[:, None].astype(np.uint8),
            val_images=images[..., 0],
            val_labels=labels[:, None].astype(np.uint8),
            test_images=images[..., 0],
            test_labels=labels[:, None].astype(np.uint8),
        ),
        "fortran": dict(images=np.asfortranarray(images), labels=labels.astype(">i4")),
        "named": dict(images=images, labels=labels, classes=np.array(["cat", "dog"])),
    }
    for name, arrays in layouts.items():
        for save in [np.savez, np.savez_compressed]:
            out = io.BytesIO()
            save(out, **arrays)
            write("npz", f"{name}-{save.__name__}", out.getvalue())


def matlab():
    for compressed in [False, True]:
        out = io.BytesIO()
        arrays = dict(X=ramp(32, 32, 3, 2), y=np.array([[1], [10]], np.uint8))
        scipy.io.savemat(out, arrays, do_compression=compressed)
        write("svhn", "compressed" if compressed else "plain", out.getvalue())


def texts():
    write("csv", "headed", b"path,label,split\na.png,cat,train\nb.png,dog,train\na.png,dog,test\n")
    write("csv", "plain", b"a.png,0\nb.png,1\n")
    write("csv", "quoted", b'image;class\n"a.png";"a ""b"""\r\nb.png;c\n')
    parts = [
        b"n01443537\nn01629819\n",
        b"n01443537\tgoldfish, Carassius auratus\nn01629819\tEuropean fire salamander\n",
        b"a.png\tn01443537\t0\t0\t62\t62\nb.png\tn01629819\t1\t2\t3\t4\n",
    ]
    write("tiny_imagenet", "whole", MARK.join(parts))
    for recipe in (REPO / "recipes").glob("*.toml"):
        write("recipe", recipe.stem, recipe.read_bytes())
    write("recipe", "of-schema-1", (REPO / "tests/fixtures/schema1/run/recipe.toml").read_bytes())
    write("settings", "a", b"train.epochs=1e3\ntrain.groups[0].pattern=*.bias\nmodel.head=[128, 64]\n")
    write("settings", "b", b"augment.mix={}\ntrain.average=off\ndata.set=folder:a b\nmodel.spt=false\n")


def models():
    def header(path):
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        return content[8 : 8 + length]

    fixtures = REPO / "tests/fixtures"
    write("model", "of-schema-1", header(fixtures / "schema1/run/checkpoints/best.safetensors"))
    write("model", "checkpoint", header(fixtures / "schema1/run/checkpoints/last.safetensors"))
    write("model", "present", (HERE / "present.json").read_bytes().strip())
    for name in ["vit", "sl_vit"]:
        write("keras", name, header(fixtures / f"{name}.safetensors"))
        name = name.replace("_", "-")
        write("pytorch", name, header(fixtures / f"paper-{name}.safetensors"))


for make in [pictures, cifar, idx, numpy_files, matlab, texts, models]:
    make()
