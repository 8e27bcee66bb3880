"""One training step (or inference) of a model that `smallvit bench` times, in PyTorch.

`--config` is the model as `smallvit bench --json` names it in `config`. Attention goes through
`scaled_dot_product_attention`, the fastest way PyTorch has on a CPU; with the mask as a float bias
and without dropout on the probabilities, because with it PyTorch falls back to a path twice as
slow. All other dropouts are on. Images come ready, in the model's size: no augmentation runs.
"""

import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
from torch import nn

import zoo

CLASSES = 100


class Tokens(nn.Module):
    """Patches, shifted or plain, → tokens; the class token and positions."""

    def __init__(self, c):
        super().__init__()
        self.patch, self.grid = c["patch_size"], c["image_size"] // c["patch_size"]
        self.shifted, dim, eps = c["spt"], c["dim"], c["layer_norm_epsilon"]
        width = self.patch**2 * 3 * (5 if self.shifted else 1)
        self.norm = nn.LayerNorm(width, eps=eps) if self.shifted else nn.Identity()
        self.project = nn.Linear(width, dim)
        start = lambda tokens: nn.Parameter(torch.empty(tokens, dim).uniform_(-0.05, 0.05))
        self.cls = start(1) if c["pool"] == "class" else None
        self.position = start(self.grid**2 + (self.cls is not None))

    def forward(self, x):
        by, n, g, p = self.patch // 2, x.shape[0], self.grid, self.patch
        if self.shifted:
            sides = [(-by, by), (by, -by)]
            x = torch.cat([x] + [F.pad(x, left + top) for top in sides for left in sides], 1)
        x = x.reshape(n, x.shape[1], g, p, g, p).permute(0, 2, 4, 3, 5, 1).reshape(n, g * g, -1)
        x = self.project(self.norm(x))
        if self.cls is not None:
            x = torch.cat([self.cls.expand(n, 1, -1), x], 1)
        return x + self.position


class Block(nn.Module):
    def __init__(self, c, tokens):
        super().__init__()
        dim, eps = c["dim"], c["layer_norm_epsilon"]
        self.heads, self.key, inner = c["heads"], c["key_dim"], c["heads"] * c["key_dim"]
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.qkv = nn.Linear(dim, 3 * inner, bias=c["qkv_bias"])
        self.out = nn.Linear(inner, dim)
        self.mlp1, self.mlp2 = nn.Linear(dim, c["mlp_width"]), nn.Linear(c["mlp_width"], dim)
        self.second, self.rate = c["mlp_second_gelu"], c["dropout"]
        by_head = c["temperature"] == "head"
        start = torch.full((self.heads, 1, 1) if by_head else (), self.key**-0.5)
        self.temperature = nn.Parameter(start) if c["lsa"] else None
        mask = torch.full((tokens,), float("-inf")).diag_embed().nan_to_num(0.0, neginf=-1e9)
        self.register_buffer("mask", mask if c["lsa"] else None)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, self.key).permute(2, 0, 3, 1, 4)
        if self.temperature is None:
            a = F.scaled_dot_product_attention(q, k, v)
        else:
            q = q * self.temperature.to(q.dtype)
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask.to(q.dtype), scale=1.0)
        x = x + self.out(a.transpose(1, 2).reshape(n, t, -1))
        y = F.dropout(F.gelu(self.mlp1(self.norm2(x))), self.rate, self.training)
        y = self.mlp2(y)
        return x + F.dropout(F.gelu(y) if self.second else y, self.rate, self.training)


class Vit(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.tokens = Tokens(c)
        tokens = len(self.tokens.position)
        self.blocks = nn.Sequential(*[Block(c, tokens) for _ in range(c["depth"])])
        self.norm = nn.LayerNorm(c["dim"], eps=c["layer_norm_epsilon"])
        self.pool = c["pool"]
        sizes = [c["dim"] * (tokens if self.pool == "flatten" else 1), *c["head"]]
        layers = [nn.Dropout(c["head_dropout"])]
        for i, o in zip(sizes, sizes[1:]):
            layers += [nn.Linear(i, o), nn.GELU(), nn.Dropout(c["head_dropout"])]
        self.head = nn.Sequential(*layers, nn.Linear(sizes[-1], CLASSES))

    def forward(self, x):
        x = self.norm(self.blocks(self.tokens(x)))
        x = {"flatten": lambda: x.flatten(1), "class": lambda: x[:, 0], "mean": lambda: x.mean(1)}[self.pool]()
        return self.head(x)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True, type=json.loads)
    parser.add_argument("--model", default="")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inference", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    family = options.config["family"]
    model = Vit(options.config) if family == "vit" else zoo.FAMILIES[family](options.config, CLASSES)
    model = model.to(options.device)
    forward = torch.compile(model) if options.compile else model
    size = options.config["image_size"]
    images = torch.randn(options.batch, 3, size, size, device=options.device)
    labels = torch.randint(CLASSES, (options.batch,), device=options.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)

    def run():
        with torch.autocast(options.device, torch.bfloat16, enabled=options.bf16):
            return forward(images)

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(run().float(), labels).backward()
        optimizer.step()

    if options.inference:
        model.eval()
        step = torch.inference_mode()(run)
    times = []
    # The first steps compile and take memory.
    for _ in range(options.steps + 2):
        began = time.perf_counter()
        step()
        if options.device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    times = sorted(times[2:])
    print(json.dumps({
        "program": f"PyTorch {torch.__version__}", "model": options.model, "batch": options.batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds_per_step": times[len(times) // 2], "min": times[0], "max": times[-1],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


main()
