"""Scan by the gated delta rule, readably: a memory replaces what it holds under a key, and forgets.

Source: Gated Delta Networks (arXiv 2412.06464), equation 10 and the chunked form of its section 3.3. Every head has a
matrix S [D, D] that token t changes and query t reads:

    S_t = a_t (S_(t-1) - b_t k_t (k_t^T S_(t-1))) + b_t k_t v_t^T        o_t = S_t^T q_t

with keys of length one, a_t in 0..1 what is kept and b_t how much of what stood under the key is replaced. A chunk of
tokens is solved at once as a triangular system, which changes the order of the sums and nothing else. Any device, and
differentiable. Where keys, decays and strengths come from is not known here (engine/ttt/baselines.py).
"""

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def scan(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    strength: torch.Tensor,
    state: torch.Tensor,
    chunk: int,
    index: torch.Tensor | None = None,
    checkpoint_every: int = 16,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scan all tokens. q, k, v [B, L, H, D]; log_decay [B, L, H], log a_t, at most 0; strength [B, L, H], b_t, 0..1 (up
    to 2 is stable); state S [B, H, D, D], float32 or float64, in which all is computed.

    index [L'] or None for 0 .. L - 1: the order of the scan, as in kernels.scan; tokens that it leaves out stay 0 in
    out. chunk: tokens that are solved at once; the result does not depend on it. checkpoint_every: chunks between two
    kept states when gradients are asked for; 0 keeps everything.

    Returns out [B, L, H, D] in q's dtype and the state after the last token.
    """
    given = (q, k, v, log_decay, strength)
    rows = [x if index is None else x.index_select(1, index) for x in given]
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (*rows, state))
    group = chunk * checkpoint_every if needs_grad and checkpoint_every else max(1, rows[0].shape[1])
    outs = []
    for XQ, XK, XV, decay, b in zip(*(x.split(group, 1) for x in rows), strict=True):
        arguments = (XQ, XK, XV, decay, b, state, chunk)
        if group < rows[0].shape[1]:
            out, state = checkpoint(_scan_group, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            out, state = _scan_group(*arguments)
        outs.append(out)
    out = torch.cat(outs, 1)
    if index is not None:
        out = torch.zeros_like(q).index_copy(1, index.long(), out)
    return out, state


def _scan_group(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    strength: torch.Tensor,
    state: torch.Tensor,
    chunk: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scan a group: q, k, v [B, L, H, D], log_decay, strength [B, L, H] in the order of the scan -> out [B, L, H, D],
    state.
    """
    tokens = q.shape[1]

    def chunks(x: torch.Tensor) -> torch.Tensor:
        """Cut [B, L, H, d] into [B, H, NC, K, d]; what fills the last chunk up forgets nothing and writes nothing."""
        x = F.pad(x.transpose(1, 2).to(state.dtype), (0, 0, 0, -tokens % chunk))
        return x.unflatten(2, (-1, chunk))

    XQ, XK, XV, b = (chunks(x) for x in (q, k, v, strength[..., None]))
    kept = chunks(log_decay[..., None]).cumsum(-2)  # [B, H, NC, K, 1], log of what is left of the chunk's start
    later = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).triu(1)
    between = (kept - kept.mT).masked_fill(later, -torch.inf).exp()  # [.., K, K], row i: what i sees of what j wrote
    # What each token writes: its value, less what stood under its key, which earlier tokens of the chunk changed too.
    overlap = b * (XK @ XK.mT) * between
    written = torch.linalg.solve_triangular(
        overlap, b * torch.cat([XV, XK * kept.exp()], -1), upper=False, unitriangular=True
    )
    values, replaced = written.chunk(2, -1)
    seen, start, end = (XQ @ XK.mT) * between, XQ * kept.exp(), kept[..., -1:, :]
    into = XK * (end - kept).exp()
    outs = []
    for number in range(XQ.shape[2]):
        new = values[:, :, number] - replaced[:, :, number] @ state  # [B, H, K, D]
        outs.append(start[:, :, number] @ state + seen[:, :, number] @ new)
        state = end[:, :, number].exp() * state + into[:, :, number].mT @ new
    return torch.cat(outs, 2)[:, :, :tokens].transpose(1, 2).to(q.dtype), state
