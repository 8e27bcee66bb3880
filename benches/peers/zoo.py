"""T2T-ViT, CaiT, PiT and Swin in PyTorch, each with Shifted Patch Tokenization and Locality Self-Attention if the
model has them: the same as smallvit's, whose configuration (`smallvit bench --json`, `config`) they take.

As fast as PyTorch has it on a CPU: attention by `scaled_dot_product_attention` where heads do not talk, one
product for queries, keys and values, patches by reshaping where they do not overlap. Stochastic depth leaves out
nothing (it scales each image's branch), as in the paper's code.
"""

import torch
import torch.nn.functional as F
from torch import nn


def shifts(x, patch):
    """An image or a grid beside its four diagonal shifts by half a patch: `[n, c, h, w]` → `[n, 5c, h, w]`."""
    by = patch // 2
    sides = [(-by, by), (by, -by)]
    return torch.cat([x] + [F.pad(x, left + top) for top in sides for left in sides], 1)


def cells(x, patch):
    """Patches that do not overlap, row by row: `[n, c, h, w]` → `[n, patches, patch · patch · c]`."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(n, (h // patch) * (w // patch), -1)


def grid(x, side):
    """`[n, side · side, c]` → `[n, c, side, side]`."""
    return x.transpose(1, 2).reshape(x.shape[0], -1, side, side)


class Patches(nn.Module):
    """Patches of an image or a grid, shifted or plain, projected."""

    def __init__(self, channels, dim, patch, shifted, eps, norm=None, bias=True):
        super().__init__()
        width = patch * patch * channels * (5 if shifted else 1)
        self.patch, self.shifted = patch, shifted
        norm = shifted if norm is None else norm
        self.norm = nn.LayerNorm(width, eps=eps) if norm else nn.Identity()
        self.project = nn.Linear(width, dim, bias=bias)

    def forward(self, x):
        return self.project(self.norm(cells(shifts(x, self.patch) if self.shifted else x, self.patch)))


class Depth(nn.Module):
    """Stochastic depth: a draw an image."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand(x.shape[0], 1, 1, dtype=x.dtype) >= self.rate
        return x * (keep.to(x.dtype) / (1 - self.rate))


def no_self(tokens):
    """Added to scores, it leaves nothing of the diagonal."""
    return torch.full((tokens,), -1e9).diag_embed()


class Attention(nn.Module):
    """Attention of all tokens to all; `bias` has it for queries, keys and values."""

    def __init__(self, c, dim, out, heads, key, tokens, bias=False, start=None):
        super().__init__()
        self.heads, self.key, self.scale = heads, key, start or key**-0.5
        self.qkv, self.out = nn.Linear(dim, 3 * heads * key, bias=bias), nn.Linear(heads * key, out)
        lsa = c["lsa"]
        self.tau = nn.Parameter(torch.full((heads, 1, 1), self.scale)) if lsa else None
        self.register_buffer("mask", no_self(tokens) if lsa else None)

    def parts(self, x):
        n, t, _ = x.shape
        return self.qkv(x).reshape(n, t, 3, self.heads, self.key).permute(2, 0, 3, 1, 4)

    def attend(self, q, k, v):
        if self.tau is None:
            return F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        q, mask = q * self.tau.to(q.dtype), self.mask.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)

    def forward(self, x):
        n, t, _ = x.shape
        return self.out(self.attend(*self.parts(x)).transpose(1, 2).reshape(n, t, -1))


def mlp(dim, hidden):
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x); T2T's adds LN x once more."""

    def __init__(self, dim, attention, hidden, rate, eps, second=False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attention, self.mlp = attention, mlp(dim, hidden)
        self.depth, self.second = Depth(rate), second

    def forward(self, x):
        n = self.norm1(x)
        y = self.attention(n)
        x = x + self.depth(n + y if self.second else y)
        return x + self.depth(self.mlp(self.norm2(x)))


class TokenTransformer(nn.Module):
    """T2T's among overlapping patches: one head as wide as what goes out, a shortcut around the values."""

    def __init__(self, c, dim, width, tokens, eps):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attention = Attention(c, dim, width, 1, width, tokens, start=dim**-0.5)
        self.mlp = mlp(width, width)

    def forward(self, x):
        q, k, v = self.attention.parts(self.norm1(x))
        y = v.squeeze(1) + self.attention.out(self.attention.attend(q, k, v).squeeze(1))
        return y + self.mlp(self.norm2(y))


def normal(*shape):
    return nn.Parameter(0.02 * torch.randn(*shape))


class T2t(nn.Module):
    def __init__(self, c, classes):
        super().__init__()
        dim, eps, splits = c["dim"], c["layer_norm_epsilon"], c["soft_splits"]
        self.shifted = c["spt"]
        side, channels, between = c["image_size"], 15 if self.shifted else 3, []
        self.sides = []
        for _ in range(splits - 1):
            side = -(-side // 2)
            self.sides.append(side)
            between.append(TokenTransformer(c, 9 * channels, c["token_dim"], side * side, eps))
            channels = c["token_dim"]
        self.between, tokens = nn.ModuleList(between), 1 + (-(-side // 2)) ** 2
        self.project, self.cls = nn.Linear(9 * channels, dim), normal(1, dim)
        place = torch.arange(tokens).unsqueeze(1) / 10000 ** (torch.arange(dim) // 2 * 2 / dim)
        even = torch.arange(dim) % 2 == 0
        self.register_buffer("places", torch.where(even, place.sin(), place.cos()))
        depth, heads = c["depth"], c["heads"]
        rate = lambda i: c["stochastic_depth"] * i / max(depth - 1, 1)
        attention = lambda: Attention(c, dim, dim, heads, dim // heads, tokens)
        block = lambda i: Block(dim, attention(), c["mlp_ratio"] * dim, rate(i), eps, c["second_shortcut"])
        self.blocks = nn.Sequential(*map(block, range(depth)))
        self.norm, self.head = nn.LayerNorm(dim, eps=eps), nn.Linear(dim, classes)

    def forward(self, x):
        x = shifts(x, 2) if self.shifted else x
        unfold = lambda x: F.unfold(x, 3, stride=2, padding=1).transpose(1, 2)
        for layer, side in zip(self.between, self.sides):
            x = grid(layer(unfold(x)), side)
        x = self.project(unfold(x))
        x = torch.cat([self.cls.expand(x.shape[0], 1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x)[:, 0]))


class Talking(nn.Module):
    """CaiT's attention: heads are mixed before and after the softmax."""

    def __init__(self, c, dim, heads, key, masked):
        super().__init__()
        self.heads, self.key, inner = heads, key, heads * key
        self.q, self.kv = nn.Linear(dim, inner, bias=False), nn.Linear(dim, 2 * inner, bias=False)
        self.before, self.after = (nn.Parameter(torch.randn(heads, heads)) for _ in range(2))
        self.out = nn.Linear(inner, dim)
        self.tau = nn.Parameter(torch.full((heads, 1, 1), key**-0.5)) if c["lsa"] else None
        self.masked, self.zero = c["lsa"] and masked, c["self_scores"] == "zero"

    def mix(self, weights, x):
        n, h, t, s = x.shape
        return torch.matmul(weights.T.to(x.dtype), x.reshape(n, h, t * s)).reshape(n, h, t, s)

    def forward(self, x, context=None):
        n, t, _ = x.shape
        context = x if context is None else context
        q = self.q(x).reshape(n, t, self.heads, self.key).transpose(1, 2)
        k, v = self.kv(context).reshape(n, -1, 2, self.heads, self.key).permute(2, 0, 3, 1, 4)
        scores = (q * (self.key**-0.5 if self.tau is None else self.tau)) @ k.transpose(2, 3)
        diagonal = torch.eye(t, dtype=torch.bool) if self.masked else None
        if self.masked and self.zero:
            scores = scores.masked_fill(diagonal, -1e-9)
        scores = self.mix(self.before, scores)
        if self.masked and not self.zero:
            scores = scores.masked_fill(diagonal, float("-inf"))
        scores = self.mix(self.after, scores.softmax(-1))
        return self.out((scores @ v).transpose(1, 2).reshape(n, t, -1))


class Scaled(nn.Module):
    """CaiT's block."""

    def __init__(self, c, number, masked):
        super().__init__()
        dim, eps = c["dim"], c["layer_norm_epsilon"]
        start = 0.1 if number < 18 else 1e-5 if number < 24 else 1e-6
        self.gamma1, self.gamma2 = (nn.Parameter(torch.full((dim,), start)) for _ in range(2))
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attention = Talking(c, dim, c["heads"], c["key_dim"], masked)
        self.mlp, self.depth = mlp(dim, c["mlp_width"]), Depth(c["stochastic_depth"])

    def forward(self, x, context=None):
        x = x + self.depth(self.gamma1 * self.attention(self.norm1(x), context))
        return x + self.depth(self.gamma2 * self.mlp(self.norm2(x)))


class Cait(nn.Module):
    def __init__(self, c, classes):
        super().__init__()
        dim, eps = c["dim"], c["layer_norm_epsilon"]
        self.patches = Patches(3, dim, c["patch_size"], c["spt"], eps)
        self.places, self.cls = normal((c["image_size"] // c["patch_size"]) ** 2, dim), normal(1, dim)
        self.blocks = nn.Sequential(*[Scaled(c, i, True) for i in range(c["depth"])])
        self.last = nn.ModuleList([Scaled(c, i, False) for i in range(c["class_depth"])])
        self.norm, self.head = nn.LayerNorm(dim, eps=eps), nn.Linear(dim, classes)

    def forward(self, x):
        x = self.blocks(self.patches(x) + self.places)
        y = self.cls.expand(x.shape[0], 1, -1)
        for block in self.last:
            y = block(y, x)
        return self.head(self.norm(y[:, 0]))


class Pooling(nn.Module):
    """PiT's way from one stage to the next, the class token apart."""

    def __init__(self, dim, out, side, shifted, eps):
        super().__init__()
        self.side, self.cls, self.shifted = side, nn.Linear(dim, out), shifted
        self.merge = Patches(dim, out, 2, True, eps) if shifted else nn.Sequential(
            nn.Conv2d(dim, out, 3, stride=2, padding=1, groups=dim), nn.Conv2d(out, out, 1))

    def forward(self, x):
        y = self.merge(grid(x[:, 1:], self.side))
        y = y if self.shifted else y.flatten(2).transpose(1, 2)
        return torch.cat([self.cls(x[:, :1]), y], 1)


class Pit(nn.Module):
    def __init__(self, c, classes):
        super().__init__()
        eps, dims, heads, key = c["layer_norm_epsilon"], c["dims"], c["heads"], c["head_dim"]
        side = c["image_size"] // c["patch_size"]
        self.patches = Patches(3, dims[0], c["patch_size"], c["spt"], eps)
        self.cls, self.places = normal(1, dims[0]), normal(1 + side * side, dims[0])
        layers = []
        for stage, (dim, depth, h) in enumerate(zip(dims, c["depths"], heads)):
            if stage > 0:
                layers.append(Pooling(dims[stage - 1], dim, side, c["spt"], eps))
                side //= 2
            for _ in range(depth):
                attention = Attention(c, dim, dim, h, key, 1 + side * side)
                layers.append(Block(dim, attention, c["mlp_ratio"] * dim, c["stochastic_depth"], eps))
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(dims[-1], eps=eps), nn.Linear(dims[-1], classes)

    def forward(self, x):
        x = self.patches(x)
        x = self.layers(torch.cat([self.cls.expand(x.shape[0], 1, -1), x], 1) + self.places)
        return self.head(self.norm(x[:, 0]))


class WindowAttention(Attention):
    """Among the tokens of a window, with a bias by relative position; every second block's windows are shifted."""

    def __init__(self, c, dim, heads, side, window, shift):
        super().__init__(c, dim, dim, heads, dim // heads, window * window, bias=True)
        self.side, self.window, self.shift = side, window, shift
        self.table = normal((2 * window - 1) ** 2, heads)
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij"), -1).reshape(-1, 2)
        apart = at.unsqueeze(1) - at.unsqueeze(0) + window - 1
        self.register_buffer("places", apart[..., 0] * (2 * window - 1) + apart[..., 1])
        fixed = torch.zeros((side // window) ** 2, 1, window**2, window**2)
        if shift:
            cut = torch.bucketize(torch.arange(side), torch.tensor([side - window, side - shift]), right=True)
            region = self.windows((3 * cut.unsqueeze(1) + cut).reshape(1, side * side, 1).float()).reshape(-1, window**2)
            fixed = (region.unsqueeze(1) != region.unsqueeze(2)).float().mul(-100).unsqueeze(1)
        if c["lsa"]:
            fixed = fixed + no_self(window**2)
        self.register_buffer("fixed", fixed if shift or c["lsa"] else None)

    def windows(self, x):
        """`[n, side · side, c]` → `[n · windows, window · window, c]`."""
        n, w, g = x.shape[0], self.window, self.side // self.window
        return x.reshape(n, g, w, g, w, -1).transpose(2, 3).reshape(n * g * g, w * w, -1)

    def forward(self, x):
        n, t, dim = x.shape
        side, w, g = self.side, self.window, self.side // self.window
        if self.shift:
            x = x.reshape(n, side, side, dim).roll((-self.shift, -self.shift), (1, 2)).reshape(n, t, dim)
        q, k, v = self.parts(self.windows(x))
        bias = self.table[self.places.flatten()].reshape(w * w, w * w, -1).permute(2, 0, 1).unsqueeze(0)
        if self.fixed is not None:
            bias = bias + self.fixed
        # Heads of all windows of an image side by side, so that one bias serves all images.
        apart = lambda x: x.reshape(n, g * g * self.heads, w * w, self.key)
        bias = bias.expand(g * g, -1, -1, -1).reshape(1, g * g * self.heads, w * w, w * w)
        if self.tau is not None:
            q = q * self.tau.to(q.dtype)
        scale = self.scale if self.tau is None else 1.0
        y = F.scaled_dot_product_attention(*map(apart, (q, k, v)), attn_mask=bias.to(q.dtype), scale=scale)
        y = self.out(y.reshape(n * g * g, self.heads, w * w, self.key).transpose(1, 2).reshape(n * g * g, w * w, dim))
        y = y.reshape(n, g, g, w, w, dim).transpose(2, 3).reshape(n, side, side, dim)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        return y.reshape(n, t, dim)


class Merge(nn.Module):
    def __init__(self, dim, out, side, shifted, eps):
        super().__init__()
        self.side, self.merge = side, Patches(dim, out, 2, shifted, eps, norm=True, bias=shifted)

    def forward(self, x):
        return self.merge(grid(x, self.side))


class Swin(nn.Module):
    def __init__(self, c, classes):
        super().__init__()
        eps, dims, depths = c["layer_norm_epsilon"], c["dims"], c["depths"]
        side = c["image_size"] // c["patch_size"]
        self.patches = Patches(3, dims[0], c["patch_size"], c["spt"], eps)
        self.norm0 = nn.Identity() if c["spt"] else nn.LayerNorm(dims[0], eps=eps)
        self.places, layers, total, done = normal(side * side, dims[0]), [], sum(depths), 0
        for stage, (dim, depth, heads) in enumerate(zip(dims, depths, c["heads"])):
            if stage > 0:
                layers.append(Merge(dims[stage - 1], dim, side, c["spt"], eps))
                side //= 2
            window = min(c["window"], side)
            for block in range(depth):
                shift = window // 2 if block % 2 and window < side else 0
                rate = c["stochastic_depth"] * done / max(total - 1, 1)
                attention = WindowAttention(c, dim, heads, side, window, shift)
                layers.append(Block(dim, attention, c["mlp_ratio"] * dim, rate, eps))
                done += 1
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(dims[-1], eps=eps), nn.Linear(dims[-1], classes)

    def forward(self, x):
        x = self.layers(self.norm0(self.patches(x)) + self.places)
        return self.head(self.norm(x).mean(1))


FAMILIES = {"t2t": T2t, "cait": Cait, "pit": Pit, "swin": Swin}
