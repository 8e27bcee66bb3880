"""One training step (or inference) of the Keras example's model in PyTorch, timed on the CPU.

The model is the one `smallvit bench` times (recipe keras-2022): 72-pixel images, patches of 6,
144 tokens of width 64, 8 blocks of 4 heads of 64, MLP 128-64 with two GELUs, head 9216-2048-1024-100.
Attention goes through `scaled_dot_product_attention`, the fastest way PyTorch has on a CPU; with
the mask as a float bias and without dropout on the probabilities, because with it PyTorch falls
back to a path twice as slow. All other dropouts are on. Images come ready: no augmentation runs.
"""

import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
from torch import nn

DIM, HEADS, KEY, HIDDEN, DEPTH, PATCH, SIZE = 64, 4, 64, 128, 8, 6, 72
TOKENS = (SIZE // PATCH) ** 2


class Tokens(nn.Module):
    def __init__(self, shifted):
        super().__init__()
        width = PATCH * PATCH * 3 * (5 if shifted else 1)
        self.shifted = shifted
        self.norm = nn.LayerNorm(width, eps=1e-6) if shifted else nn.Identity()
        self.project = nn.Linear(width, DIM)
        self.position = nn.Parameter(torch.empty(TOKENS, DIM).uniform_(-0.05, 0.05))

    def forward(self, x):
        if self.shifted:
            by = PATCH // 2
            sides = [(-by, by), (by, -by)]
            x = torch.cat([x] + [F.pad(x, l + t) for t in sides for l in sides], 1)
        n, c = x.shape[:2]
        grid = SIZE // PATCH
        x = x.reshape(n, c, grid, PATCH, grid, PATCH).permute(0, 2, 4, 3, 5, 1)
        return self.project(self.norm(x.reshape(n, TOKENS, -1))) + self.position


class Block(nn.Module):
    def __init__(self, local):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM, eps=1e-6), nn.LayerNorm(DIM, eps=1e-6)
        self.qkv = nn.Linear(DIM, 3 * HEADS * KEY)
        self.out = nn.Linear(HEADS * KEY, DIM)
        self.mlp1, self.mlp2 = nn.Linear(DIM, HIDDEN), nn.Linear(HIDDEN, DIM)
        self.tau = nn.Parameter(torch.tensor(KEY**0.5)) if local else None
        mask = torch.full((TOKENS,), float("-inf")).diag_embed().nan_to_num(0.0, neginf=-1e9)
        self.register_buffer("mask", mask if local else None)

    def forward(self, x):
        n = x.shape[0]
        q, k, v = self.qkv(self.norm1(x)).reshape(n, TOKENS, 3, HEADS, KEY).permute(2, 0, 3, 1, 4)
        if self.tau is not None:
            a = F.scaled_dot_product_attention(q / self.tau, k, v, attn_mask=self.mask, scale=1.0)
        else:
            a = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(a.transpose(1, 2).reshape(n, TOKENS, HEADS * KEY))
        y = F.dropout(F.gelu(self.mlp1(self.norm2(x))), 0.1, self.training)
        return x + F.dropout(F.gelu(self.mlp2(y)), 0.1, self.training)


class Vit(nn.Module):
    def __init__(self, name):
        super().__init__()
        shifted, local = name in ("spt-vit", "sl-vit"), name in ("lsa-vit", "sl-vit")
        self.tokens = Tokens(shifted)
        self.blocks = nn.Sequential(*[Block(local) for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(DIM, eps=1e-6)
        sizes = [TOKENS * DIM, 2048, 1024]
        layers = [nn.Dropout(0.5)]
        for i, o in zip(sizes, sizes[1:]):
            layers += [nn.Linear(i, o), nn.GELU(), nn.Dropout(0.5)]
        self.head = nn.Sequential(*layers, nn.Linear(sizes[-1], 100))

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.tokens(x))).flatten(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="sl-vit")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inference", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = Vit(options.model)
    forward = torch.compile(model) if options.compile else model
    images = torch.randn(options.batch, 3, SIZE, SIZE)
    labels = torch.randint(100, (options.batch,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            return forward(images)

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(run().float(), labels).backward()
        optimizer.step()

    if options.inference:
        model.eval()
        step = torch.inference_mode()(run)
    times = []
    for _ in range(options.steps + 1):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    times = sorted(times[1:])
    print(json.dumps({
        "program": f"PyTorch {torch.__version__}", "model": options.model, "batch": options.batch,
        "seconds_per_step": times[len(times) // 2], "min": times[0], "max": times[-1],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


main()
