#!/usr/bin/env python3
"""What else one would try on a small image set, for the same minutes on the same cores:

five nearest neighbours on pixels, ridge regression on pixels, and a small ResNet in PyTorch.

    python benches/baselines.py set.npz --minutes 5 [--threads 2] [--seed 0] [--no-flip]

set.npz has x_train, y_train, x_test, y_test: images as bytes, [image, row, column(, channel)].
Needs numpy and torch. Prints one JSON object a baseline.
"""

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def nearest(x, y, test, k=5):
    """Classes of the majority of k nearest by Euclidean distance; of equals, the nearest's."""
    answers = []
    squares = (x**2).sum(1)
    for some in np.array_split(test, max(1, len(test) // 200)):
        distance = squares[None] - 2 * some @ x.T
        near = np.argsort(distance, 1, kind="stable")[:, :k]
        for classes in y[near]:
            count = np.bincount(classes)
            answers.append(next(c for c in classes if count[c] == count.max()))
    return np.array(answers)


def ridge(x, y, test, classes, strengths=(1, 10, 100, 1000, 10000)):
    """Least squares on one-hot targets; the strength is chosen on a fifth of the training images."""
    order = np.random.default_rng(0).permutation(len(x))
    fifth = len(x) // 5

    def solve(x, y, strength):
        mean = x.mean(0)
        targets = np.eye(classes)[y]
        own, centre = x - mean, targets.mean(0)
        if len(own) < own.shape[1]:
            gram = own @ own.T + strength * np.eye(len(own))
            weights = own.T @ np.linalg.solve(gram, targets - centre)
        else:
            gram = own.T @ own + strength * np.eye(own.shape[1])
            weights = np.linalg.solve(gram, own.T @ (targets - centre))
        return lambda x: ((x - mean) @ weights + centre).argmax(1)

    held, rest = order[:fifth], order[fifth:]
    right = [(solve(x[rest], y[rest], s)(x[held]) == y[held]).mean() for s in strengths]
    return solve(x, y, strengths[int(np.argmax(right))])(test)


class Block(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.a = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.b = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.na, self.nb = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        changes = before != width or stride != 1
        self.skip = (
            nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            if changes
            else nn.Identity()
        )

    def forward(self, x):
        y = F.relu(self.na(self.a(x)))
        return F.relu(self.nb(self.b(y)) + self.skip(x))


def resnet(channels, classes, side):
    """Two blocks each of 32, 64 and 128 channels; images above 32 pixels are halved first."""
    stride = 2 if side > 32 else 1
    widths = [(32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)]
    layers, before = [nn.Conv2d(channels, 32, 3, stride, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()], 32
    for width, step in widths:
        layers.append(Block(before, width, step))
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def train(x, y, test, classes, minutes, flip, seed):
    """SGD with momentum, a rate that rises and falls over the given time, crops and flips; answers of
    the last weights."""
    torch.manual_seed(seed)
    x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
    test = torch.from_numpy(test).permute(0, 3, 1, 2).contiguous()
    y = torch.from_numpy(y)
    side, batch = x.shape[-1], 64
    model = resnet(x.shape[1], classes, side).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    began, budget, epoch = time.time(), 60 * minutes, 0
    pad = side // 8
    while True:
        order = torch.randperm(len(x))
        for first in range(0, len(x) - batch // 2, batch):
            done = (time.time() - began) / budget
            if done >= 1:
                model.eval()
                with torch.no_grad():
                    answers = torch.cat([model(part).argmax(1) for part in test.split(256)])
                return answers.numpy(), epoch
            rate = 0.1 * min(done / 0.15, 1) * min((1 - done) / 0.85, 1)
            for group in optimizer.param_groups:
                group["lr"] = max(rate, 1e-4)
            own = order[first : first + batch]
            images = F.pad(x[own], [pad] * 4, mode="reflect")
            corners = torch.randint(0, 2 * pad + 1, (len(images), 2)).tolist()
            images = torch.stack(
                [image[:, top : top + side, left : left + side] for image, (top, left) in zip(images, corners)]
            )
            if flip:
                turned = torch.rand(len(images)) < 0.5
                images[turned] = images[turned].flip(-1)
            model.train()
            loss = F.cross_entropy(model(images), y[own], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epoch += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-flip", action="store_true")
    own = parser.parse_args()
    torch.set_num_threads(own.threads)
    data = np.load(own.set)
    x, test = data["x_train"], data["x_test"]
    y, truth = (data[name].astype(np.int64).ravel() for name in ("y_train", "y_test"))
    if x.ndim == 3:
        x, test = x[..., None], test[..., None]
    classes = int(y.max()) + 1
    mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
    x, test = (((a - mean) / deviation).astype(np.float32) for a in (x, test))

    def tell(name, answers, **more):
        share = float((answers == truth).mean())
        error = (share * (1 - share) / len(truth)) ** 0.5
        print(json.dumps({"set": own.set, "baseline": name, "test_top1": round(100 * share, 2),
                          "standard_error": round(100 * error, 2), **more}), flush=True)

    flat, flat_test = x.reshape(len(x), -1), test.reshape(len(test), -1)
    tell("five nearest neighbours", nearest(flat, y, flat_test))
    tell("ridge regression", ridge(flat.astype(np.float64), y, flat_test, classes))
    answers, epochs = train(x, y, test, classes, own.minutes, not own.no_flip, own.seed)
    tell("resnet", answers, epochs=epochs, minutes=own.minutes)


main()
