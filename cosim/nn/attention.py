"""Attention: the projections of ``nn.MultiheadAttention`` on crossbars; scores and softmax are digital."""

from __future__ import annotations

import math

import torch
from torch import nn

from cosim.errors import SpecError
from cosim.nn.hardware import Hardware
from cosim.nn.layers import DigitalState, register_bias
from cosim.nn.matmul import CrossbarMatmul

__all__ = ["MultiheadAttention"]

_Three = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class MultiheadAttention(nn.Module):
    """``nn.MultiheadAttention`` with the projections of query, key, value and output on crossbars.

    >>> import cosim
    >>> layer = MultiheadAttention(nn.MultiheadAttention(8, 2), Hardware(device=cosim.Device("vteam")))
    >>> x = torch.zeros(5, 3, 8)
    >>> [part.shape for part in layer(x, x, x)]
    [torch.Size([5, 3, 8]), torch.Size([3, 5, 5])]
    """

    in_proj_bias: torch.Tensor | None
    bias_k: torch.Tensor | None
    bias_v: torch.Tensor | None
    output_bias: torch.Tensor | None

    def __init__(
        self,
        digital: nn.MultiheadAttention,
        hardware: Hardware,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim, self.num_heads = digital.embed_dim, digital.num_heads
        self.dropout, self.batch_first = digital.dropout, digital.batch_first
        self.add_zero_attn = digital.add_zero_attn
        self._qkv_same_embed_dim = digital._qkv_same_embed_dim  # nn.TransformerEncoderLayer looks at it
        weights = (
            digital.in_proj_weight.chunk(3)
            if digital.in_proj_weight is not None
            else (digital.q_proj_weight, digital.k_proj_weight, digital.v_proj_weight)
        )
        self.query = CrossbarMatmul(weights[0], hardware, generator=generator)
        self.key = CrossbarMatmul(weights[1], hardware, generator=generator)
        self.value = CrossbarMatmul(weights[2], hardware, generator=generator)
        self.output = CrossbarMatmul(digital.out_proj.weight, hardware, generator=generator)
        register_bias(self, "in_proj_bias", digital.in_proj_bias, hardware)
        register_bias(self, "output_bias", digital.out_proj.bias, hardware)
        register_bias(self, "bias_k", digital.bias_k, hardware)
        register_bias(self, "bias_v", digital.bias_v, hardware)

    def digital_state(self) -> DigitalState:
        """Parameters of the digital layer by name."""
        q, k, v = (part.weight[0] for part in (self.query, self.key, self.value))
        weights: DigitalState = {"q_proj_weight": q, "k_proj_weight": k, "v_proj_weight": v}
        if self._qkv_same_embed_dim:
            weights = {"in_proj_weight": torch.cat([q, k, v])}
        biases = {"in_proj_bias": self.in_proj_bias, "bias_k": self.bias_k, "bias_v": self.bias_v}
        output = {"out_proj.weight": self.output.weight[0], "out_proj.bias": self.output_bias}
        return {**weights, **biases, **output}

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As the digital layer: outputs, and the attention weights where they are needed."""
        if is_causal and attn_mask is None:
            raise SpecError("is_causal=True needs attn_mask=, as in torch")
        flat = query.ndim == 2
        q, k, v = (self._batch_first(x, flat) for x in (query, key, value))  # (batch, length, inputs)
        q, k, v = self._project(q, k, v)
        mask = self._mask(attn_mask, key_padding_mask, (len(q), q.shape[1], k.shape[1]), q)
        q, k, v = self._extended(q, k, v)
        heads, weights = self._attend(q, k, v, mask)
        outputs = self.output(heads)
        if self.output_bias is not None:
            outputs = outputs + self.output_bias
        outputs = outputs[0] if flat else outputs if self.batch_first else outputs.transpose(0, 1)
        if not need_weights:
            return outputs, None
        weights = weights.mean(1) if average_attn_weights else weights
        return outputs, weights[0] if flat else weights

    def _batch_first(self, x: torch.Tensor, flat: bool) -> torch.Tensor:
        return x[None] if flat else x if self.batch_first else x.transpose(0, 1)

    def _project(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> _Three:
        q, k, v = self.query(q), self.key(k), self.value(v)
        if self.in_proj_bias is None:
            return q, k, v
        q_bias, k_bias, v_bias = self.in_proj_bias.chunk(3)
        return q + q_bias, k + k_bias, v + v_bias

    def _extended(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> _Three:
        """Heads on an axis of their own; learned and zero keys appended: ``(batch, heads, length, size)``."""
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), -1, -1)], 1)
            v = torch.cat([v, self.bias_v.expand(len(v), -1, -1)], 1)
        if self.add_zero_attn:
            k, v = (torch.cat([x, torch.zeros_like(x[:, :1])], 1) for x in (k, v))
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        return q, k, v

    def _mask(
        self,
        attention: torch.Tensor | None,
        padding: torch.Tensor | None,
        shape: tuple[int, int, int],
        like: torch.Tensor,
    ) -> torch.Tensor | None:
        """Both masks as one that is added to the scores, ``(batch, heads, queries, keys)``."""
        batch, queries, keys = shape
        if attention is None and padding is None:
            return None
        mask = like.new_zeros(batch, 1, queries, keys)
        if attention is not None:
            added = _additive(attention, like)
            mask = mask + (added.unflatten(0, (batch, self.num_heads)) if added.ndim == 3 else added)
        if padding is not None:
            mask = mask + _additive(padding, like).reshape(batch, 1, 1, keys)
        extra = (self.bias_k is not None) + self.add_zero_attn
        return nn.functional.pad(mask, (0, extra))

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        weights = (scores if mask is None else scores + mask).softmax(-1)
        weights = nn.functional.dropout(weights, self.dropout, self.training)
        return (weights @ v).transpose(1, 2).flatten(2), weights


def _additive(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A boolean mask (True: not looked at) as what is added to the scores."""
    if mask.dtype != torch.bool:
        return mask.to(like)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
