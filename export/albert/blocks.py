"""The encoder's block: pre-norm self-attention and MLP, which may update only the tokens in focus.

Shapes: B photos, T tokens, k tokens in focus, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention (eq. 12) over [B, T, d]; only `looking` [B, k, d] look at all, where it is given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, looking: Tensor | None = None) -> Tensor:
        d = x.shape[-1]
        if looking is None:
            q, k, v = self._split(self.qkv(x), 3)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            (q,) = self._split(F.linear(looking, weight[:d], bias[:d]), 1)
            k, v = self._split(F.linear(x, weight[d:], bias[d:]), 2)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        out: Tensor = self.proj(y.reshape(*y.shape[:2], d))
        return out

    def _split(self, y: Tensor, count: int) -> tuple[Tensor, ...]:
        """[B, T, count * d] -> `count` times [B, H, T, d / H]."""
        return y.reshape(*y.shape[:2], count, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


class EncoderBlock(nn.Module):
    """Pre-norm transformer block.

    paper (eq. 2): z = MHSA(z) + MLP(LN z), without an identity, which does not train; here: the standard block.
    `parallel` is the nearest reading of eq. 2 that does: z + MHSA(LN z) + MLP(LN z).
    """

    def __init__(self, width: int, heads: int, drop: float, *, parallel: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale1, self.scale2 = nn.Parameter(torch.full((width,), 0.1)), nn.Parameter(torch.full((width,), 0.1))
        self.drop, self.parallel = drop, parallel

    def _branch(self, y: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return y
        keep = (torch.rand(y.shape[0], 1, 1, device=y.device) > self.drop).to(y.dtype)
        return y * keep / (1 - self.drop)

    def forward(self, x: Tensor, focus: Tensor | None = None) -> Tensor:
        """[B, T, d] -> [B, T, d]. `focus`: int64 [B, k], the only tokens that are updated (eq. 22).

        They see all the others, so that what is in focus comes out as it would without a focus.
        """
        if focus is None:
            return self._update(x, self.attn(self.norm1(x)))
        index, seen = focus[..., None].expand(-1, -1, x.shape[-1]), self.norm1(x)
        rows = self._update(x.gather(1, index), self.attn(seen, seen.gather(1, index)))
        return x.scatter(1, index, rows)

    def _update(self, x: Tensor, attended: Tensor) -> Tensor:
        y = x + self._branch(self.scale1 * attended)
        return y + self._branch(self.scale2 * self.mlp(self.norm2(x if self.parallel else y)))
