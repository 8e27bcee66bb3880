"""One training step (or inference) of the Keras example's model in Keras, timed on the CPU.

On TensorFlow, or on what KERAS_BACKEND names. The model is that of the Keras example, layer by layer;
images come ready, so no augmentation runs.
"""

import argparse
import importlib
import json
import math
import os
import resource
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops

DIM, HEADS, KEY, DEPTH, PATCH, SIZE = 64, 4, 64, 8, 6, 72
TOKENS = (SIZE // PATCH) ** 2


class Attention(layers.MultiHeadAttention):
    """With a learned temperature."""

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        start = keras.initializers.Constant(math.sqrt(KEY))
        self.tau = self.add_weight(shape=(), initializer=start)

    def _compute_attention(self, query, key, value, attention_mask=None, training=None, *_, **__):
        query = ops.multiply(query, 1.0 / self.tau)
        scores = ops.einsum(self._dot_product_equation, key, query)
        scores = self._masked_softmax(scores, attention_mask)
        dropped = self._dropout_layer(scores, training=training)
        return ops.einsum(self._combine_equation, dropped, value), scores


class Position(layers.Layer):
    def build(self, shape):
        start = keras.initializers.RandomUniform(-0.05, 0.05)
        self.embedding = self.add_weight(shape=shape[1:], initializer=start)

    def call(self, x):
        return x + self.embedding


def mlp(x, widths, rate):
    for width in widths:
        x = layers.Dropout(rate)(layers.Dense(width, activation="gelu")(x))
    return x


def shifted(images):
    by = PATCH // 2
    sides = [((0, by), by, None), ((by, 0), None, -by)]
    parts = [images]
    for rows, top, bottom in sides:
        for columns, left, right in sides:
            part = images[:, top:bottom, left:right]
            parts.append(ops.pad(part, [(0, 0), rows, columns, (0, 0)]))
    return ops.concatenate(parts, -1)


def vit(name):
    spt, local = name in ("spt-vit", "sl-vit"), name in ("lsa-vit", "sl-vit")
    images = layers.Input((SIZE, SIZE, 3))
    x = layers.Lambda(shifted)(images) if spt else images
    x = layers.Lambda(lambda x: ops.image.extract_patches(x, (PATCH, PATCH)))(x)
    x = layers.Reshape((TOKENS, -1))(x)
    if spt:
        x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = Position()(layers.Dense(DIM)(x))
    mask = (1 - np.eye(TOKENS, dtype="int8"))[None]
    for _ in range(DEPTH):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        if local:
            y = Attention(HEADS, KEY, dropout=0.1)(y, y, attention_mask=mask)
        else:
            y = layers.MultiHeadAttention(HEADS, KEY, dropout=0.1)(y, y)
        x = layers.Add()([x, y])
        y = mlp(layers.LayerNormalization(epsilon=1e-6)(x), [2 * DIM, DIM], 0.1)
        x = layers.Add()([x, y])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    x = mlp(layers.Dropout(0.5)(x), [2048, 1024], 0.5)
    return keras.Model(images, layers.Dense(100)(x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="sl-vit")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inference", action="store_true")
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    backend = importlib.import_module(keras.backend.backend())
    if keras.backend.backend() == "tensorflow":
        backend.config.threading.set_intra_op_parallelism_threads(options.threads)
    if options.bf16:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = vit(options.model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=1e-4)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=options.xla)
    images = np.random.randn(options.batch, SIZE, SIZE, 3).astype("float32")
    labels = np.random.randint(100, size=options.batch)
    times = []
    for _ in range(options.steps + 2):
        began = time.perf_counter()
        if options.inference:
            model.predict_on_batch(images)
        else:
            model.train_on_batch(images, labels)
        times.append(time.perf_counter() - began)
    times = sorted(times[2:])  # the first steps trace and compile
    print(json.dumps({
        "program": f"Keras {keras.__version__} on {backend.__name__} {backend.__version__}",
        "model": options.model, "batch": options.batch,
        "seconds_per_step": times[len(times) // 2], "min": times[0], "max": times[-1],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


main()
