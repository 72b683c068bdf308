"""ALBERT: one encoder, dense queries, dynamic filters; damages, fake damages and parts each with a mask.

Equation numbers are those of the paper (arXiv 2506.10524). Shapes: B photos, S input side, T = (S/16)^2 tokens,
d width, m mask channels, h = S/4, N kept queries, D/F/P vocabulary sizes.

paper: heads and queries are named but not described; here: every encoder token is a query (CondInst style), because on
little data dense queries reached about twice the AP50 of matched learned ones, and eq. 10's NMS needs them.
paper: F_i is K x K; here: a 1 x 1 filter over m projected channels plus three position channels, because a K x K kernel
alone cannot contract d channels, and position is what tells two dents on one door apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.albert.blocks import EncoderBlock
from export.albert.patches import PatchStem
from export.efficientnet_lite import MEAN, SCALE, EfficientNetLite


@dataclass(frozen=True)
class Preset:
    """Sizes of one ALBERT. `stem` is the convolutional stem whose stages feed tokens and mask features."""

    name: str = "tiny"
    size: int = 384  # S, pixels
    stem: str = "lite2"  # or "lite0"; "patch" is ViT's linear patches
    block: str = "standard"  # or "paper": eq. 2 as printed
    query: str = "dense"  # or "learned": N learned queries, matched one to one, for sets of many thousand photos
    width: int = 192  # d
    depth: int = 4  # encoder blocks
    part_depth: int = 2  # the last blocks see the part queries too
    focus: int = 0  # tokens that the last block updates (SLICK, eq. 22), those most likely damaged; 0: all
    heads: int = 3  # 64 channels each: half the softmax of six, which is what attention costs on a CPU
    mask_channels: int = 32  # m, damage masks
    part_channels: int = 64  # m, part masks
    pyramid: int = 64  # channels of the stride-4 map
    queries: int = 100  # N: kept by objectness, or learned
    damages: int = 26
    fakes: int = 7
    parts: int = 61
    drop_path: float = 0.1


class ConvNorm(nn.Sequential):
    """3 x 3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))


@dataclass
class Encoded:
    """What the encoder leaves: tokens, part queries and the stride-4 map."""

    tokens: Tensor  # [B, T, d]
    candidates: Tensor  # [B, C, d]: what queries are chosen from: the tokens, or the learned queries
    part_queries: Tensor  # [B, 1 + P, d]
    coarse: Tensor  # [B, c, h/2, h/2]: stride 8, for parts
    pyramid: Tensor  # [B, c, h, h]: stride 4, for damages
    focus: Tensor | None = None  # [B, T] logits: where the last block was to look


@dataclass
class Queries:
    """Per query: what and how good. All logits."""

    objectness: Tensor  # [B, N]
    damage: Tensor  # [B, N, D]
    fake: Tensor  # [B, N, F]
    filters: Tensor  # [B, N, m + 1]: 1 x 1 filter and bias
    prior: Tensor  # [B, N, 4]: centre x, y in [0, 1] and log sigma x, y of the Gaussian prior (eq. 14)


class Albert(nn.Module):
    """`forward` takes uint8 photos [B, S, S, 3] and gives the seven outputs that a segment pack promises."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        p = self.preset = preset
        d, side = p.width, p.size // 16
        for key, known in (("block", ("standard", "paper")), ("query", ("dense", "learned"))):
            if getattr(p, key) not in known:
                raise ValueError(f"preset {p.name}: {key} is {getattr(p, key)!r}; choose one of {known}")
        self.stem = PatchStem(d) if p.stem == "patch" else EfficientNetLite(p.stem)
        c4, c8, c16, *c32 = self.stem.channels[1:]
        self.embed16 = nn.Identity() if p.stem == "patch" else nn.Conv2d(c16, d, 1)
        self.embed32 = nn.Conv2d(c32[0], d, 1) if c32 else None
        self.position = nn.Parameter(torch.zeros(1, side * side, d))  # Epos (eq. 1, 11)
        self.part_tokens = nn.Parameter(torch.randn(1, 1 + p.parts, d) * 0.02)
        drops = torch.linspace(0, p.drop_path, p.depth).tolist()
        self.learned = nn.Parameter(torch.randn(1, p.queries, d) * 0.02) if p.query == "learned" else None
        parallel = p.block == "paper"
        self.blocks = nn.ModuleList(EncoderBlock(d, p.heads, drop, parallel=parallel) for drop in drops)
        self.norm = nn.LayerNorm(d)
        self.focus = nn.Linear(d, 1) if p.focus else None  # eq. 22: P(damaged | prior) of a token
        c = p.pyramid
        self.lateral4, self.lateral8, self.lateral16 = nn.Conv2d(c4, c, 1), nn.Conv2d(c8, c, 1), nn.Conv2d(d, c, 1)
        self.smooth8, self.smooth4 = ConvNorm(c, c), ConvNorm(c, c)
        self.mask_features = nn.Conv2d(c, p.mask_channels, 1)
        self.part_features = nn.Conv2d(c, p.part_channels, 1)
        self.damaged = nn.Conv2d(c, 1, 1)  # eq. 13: "damaged anywhere"
        self.quality = _mlp(d, 1)  # objectness
        self.rescore = nn.Sequential(nn.Linear(d + c + 2, d), nn.GELU(), nn.Linear(d, 1))  # predicted mask IoU
        self.classify = _mlp(d, p.damages + p.fakes)  # eq. 6
        self.filters = _mlp(d, p.mask_channels + 1 + 4)  # phi (eq. 3) and the prior's centre and log sigma
        self.part_filters = _mlp(d, p.part_channels + 1)
        nn.init.trunc_normal_(self.position, std=0.02)
        last = self.quality[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, -4.0)  # few tokens are a damage: start there

    def encode(self, photo: Tensor) -> Encoded:
        """Shared by all three domains (eq. 9). `photo`: uint8 [B, S, S, 3]."""
        x = (photo.permute(0, 3, 1, 2).to(self.position.dtype) - MEAN) / SCALE
        f4, f8, f16, *f32 = self.stem.features(x)
        g = self.embed16(f16)  # [B, d, S/16, S/16]
        if self.embed32 is not None:
            g = g + F.interpolate(self.embed32(f32[0]), scale_factor=2.0, mode="nearest")
        side = g.shape[-1]
        z = g.flatten(2).transpose(1, 2) + self.position  # [B, T, d]
        count, last = z.shape[1], len(self.blocks) - 1
        likely, kept = None, None
        for i, block in enumerate(self.blocks):
            if i == len(self.blocks) - self.preset.part_depth:  # part queries join the last blocks (as EoMT's)
                joined = [self.part_tokens] if self.learned is None else [self.part_tokens, self.learned]
                z = torch.cat([z, *(queries.expand(z.shape[0], -1, -1) for queries in joined)], 1)
            if i == last and self.focus is not None:
                likely = self.focus(z[:, :count])[..., 0]
                kept = self._kept(likely, z.shape[1] - count)
            z = block(z, kept)
        z = self.norm(z)
        tokens, part_queries = z[:, :count], z[:, count : count + self.part_tokens.shape[1]]
        candidates = tokens if self.learned is None else z[:, -self.preset.queries :]
        t16 = tokens.transpose(1, 2).reshape(-1, self.preset.width, side, side)
        y = self.smooth8(F.interpolate(self.lateral16(t16), scale_factor=2.0, mode="bilinear") + self.lateral8(f8))
        x = self.smooth4(F.interpolate(y, scale_factor=2.0, mode="bilinear") + self.lateral4(f4))
        return Encoded(tokens, candidates, part_queries, y, x, likely)

    def _kept(self, likely: Tensor, rest: int) -> Tensor:
        """Rows that the last block updates [B, k + rest]: the k likeliest of the tokens [B, T], every other query.

        A fixed number instead of eq. 22's threshold: it keeps the graph static.
        """
        count = likely.shape[1]
        tokens = likely.topk(min(self.preset.focus, count), dim=1).indices
        queries = torch.arange(count, count + rest, device=likely.device).expand(likely.shape[0], -1)
        return torch.cat([tokens, queries], 1)

    def query(self, tokens: Tensor, centres: Tensor) -> Queries:
        """Heads on queries [B, N, d] that stand at [B, N, 2] in [0, 1] (x, y)."""
        quality, names, filters = self.quality(tokens), self.classify(tokens), self.filters(tokens)
        m, nd = self.preset.mask_channels, self.preset.damages
        reach = 0.25 if self.learned is None else 0.5  # a learned query stands in the middle and must reach every edge
        centre = centres + reach * torch.tanh(filters[..., m + 1 : m + 3])
        sigma = filters[..., m + 3 : m + 5].clamp(-3.0, 3.0) - 1.5
        return Queries(
            objectness=quality[..., 0],
            damage=names[..., :nd],
            fake=names[..., nd:],
            filters=filters[..., : m + 1],
            prior=torch.cat([centre, sigma], -1),
        )

    def masks(self, features: Tensor, queries: Queries) -> Tensor:
        """Mask logits [B, N, h, h] (eq. 4): filter times features, plus the log of the Gaussian prior (eq. 14).

        The prior's exponent is a sum of two separable terms, so it costs one outer sum per query.
        """
        b, m, h, w = features.shape
        weight, bias = queries.filters[..., :m], queries.filters[..., m:]
        logits = (weight @ features.flatten(2) + bias).reshape(b, -1, h, w)
        grid = (torch.arange(h, device=features.device, dtype=features.dtype) + 0.5) / h
        cx, cy, sx, sy = queries.prior.unbind(-1)  # each [B, N]
        px = ((grid - cx[..., None]) * torch.exp(-sx)[..., None]) ** 2  # [B, N, w]
        py = ((grid - cy[..., None]) * torch.exp(-sy)[..., None]) ** 2
        return logits - 0.5 * (py[..., :, None] + px[..., None, :]).clamp(max=200.0)

    def mask_quality(self, tokens: Tensor, masks: Tensor, pyramid: Tensor) -> Tensor:
        """Predicted IoU logits [B, N] of mask logits [B, N, h, h]: what the query says and what lies inside its mask.

        Table m's rescoring. A token alone does not know how its mask came out, and orders masks badly.
        """
        inside = masks.detach().sigmoid().flatten(2)  # [B, N, hh]
        area = inside.sum(-1, keepdim=True).clamp(min=1e-3)
        pooled = inside @ pyramid.flatten(2).transpose(1, 2) / area  # [B, N, c]
        sharp = (inside * inside).sum(-1, keepdim=True) / area
        quality: Tensor = self.rescore(torch.cat([tokens, pooled, area.log(), sharp], -1))[..., 0]
        return quality

    def part_masks(self, encoded: Encoded) -> Tensor:
        """Part logits [B, 1 + P, h/2, h/2]: one dynamic filter per part of the vocabulary; 0 is none."""
        features = self.part_features(encoded.coarse)
        b, m, h, w = features.shape
        filters = self.part_filters(encoded.part_queries)
        logits: Tensor = filters[..., :m] @ features.flatten(2) + filters[..., m:]
        return logits.reshape(b, -1, h, w)

    def centres(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Where candidates stand, [C, 2] as (x, y) in [0, 1]: a token at its centre, a learned query in the middle."""
        if self.learned is not None:
            return torch.full((self.preset.queries, 2), 0.5, device=device, dtype=dtype)
        side = self.preset.size // 16
        line = (torch.arange(side, device=device, dtype=dtype) + 0.5) / side
        y, x = torch.meshgrid(line, line, indexing="ij")
        return torch.stack([x, y], -1).reshape(-1, 2)

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The seven outputs of OUTPUTS, as docs/architecture.md describes them."""
        encoded = self.encode(photo)
        objectness = self.quality(encoded.candidates)[..., 0]  # [B, T]
        index = objectness.topk(self.preset.queries, dim=1).indices  # [B, N]
        d = self.preset.width
        tokens = encoded.candidates.gather(1, index[..., None].expand(-1, -1, d))
        centres = self.centres(photo.device, encoded.candidates.dtype)[index.reshape(-1)].reshape(*index.shape, 2)
        queries = self.query(tokens, centres)
        masks = self.masks(self.mask_features(encoded.pyramid), queries)
        return (
            masks,
            queries.objectness,
            self.mask_quality(tokens, masks, encoded.pyramid),
            queries.damage,
            queries.fake,
            self.part_masks(encoded),
            self.damaged(encoded.pyramid)[:, 0],
        )


OUTPUTS = ("mask_logits", "objectness", "iou", "damage_logits", "fake_logits", "part_logits", "damaged_logits")
