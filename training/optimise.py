"""Step with AdamW on float32 masters, with clipping and an average of the weights over time.

Source: the training configs of One-Minute Video Generation with Test-Time Training (docs/ttt.md, Training): betas
0.9, 0.95, weight decay 1e-4 except on names with `bias`, `norm`, `b1`, `b2`, the norm of all gradients clipped at 0.1.
The average (EMA) is not in the paper; it is what is saved, and 0 turns it off.

A parameter in bfloat16 or float16 is a working copy: the optimiser owns a float32 master, adds the gradients up in
float32, and writes the master back after every step. A float32 parameter is its own master. Where parameters are
divided between processes (training/shards.py), so is all that is made here, and the norm is that of the whole. Where
gradients come from is not known here.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from .shards import copy_into, whole

NOT_DECAYED = ("bias", "norm", "b1", "b2")


def decays(name: str) -> bool:
    """Tell whether weight decay acts on a parameter of this name. Gates decay, as published."""
    return not any(part in name for part in NOT_DECAYED)


class Optimiser:
    """Train groups of parameters. groups: {group: {name: parameter}}; the groups are those that `step` gets rates for.
    betas, weight_decay: of AdamW. clip_norm: of all gradients together, above 0. ema: 0..1, the share of the average
    that a step keeps; 0 for none.

    Raises ValueError for a name that two groups hold, no parameters, and numbers out of range.
    """

    def __init__(
        self,
        groups: Mapping[str, Mapping[str, nn.Parameter]],
        weight_decay: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        clip_norm: float = 0.1,
        ema: float = 0.999,
    ):
        if not 0 <= ema < 1:
            raise ValueError(f"ema is {ema:g}, not 0 to below 1; use 0.999, or 0 for no average")
        if not clip_norm > 0:
            raise ValueError(f"clip_norm is {clip_norm:g}, not above 0; use 0.1 as published")
        self.parameters = {name: parameter for group in groups.values() for name, parameter in group.items()}
        named = sum(len(group) for group in groups.values())
        if not self.parameters or named != len(self.parameters):
            raise ValueError(
                f"{named} parameters have {len(self.parameters)} names; train at least one, each under a name of its "
                f"own"
            )
        self.clip_norm, self.ema = clip_norm, ema
        self.masters = {name: _master(parameter) for name, parameter in self.parameters.items()}
        self.average = {name: master.detach().clone() for name, master in self.masters.items()} if ema else {}
        self.updates = 0
        split = []
        for group, parameters in groups.items():
            for decayed in (True, False):
                own = [self.masters[name] for name in parameters if decays(name) == decayed]
                if own:
                    split.append({"params": own, "group": group, "weight_decay": weight_decay if decayed else 0.0})
        # One kernel per tensor: the order of the sums, and so a resumed run, does not depend on what else is trained.
        self.adam = torch.optim.AdamW(split, lr=0.0, betas=betas, eps=1e-8, foreach=False)

    def gather(self) -> None:
        """Add what one backward pass left in working copies to their masters, in float32."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if parameter is master or parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def step(self, rates: Mapping[str, float]) -> float:
        """Make one update at the rates of each group, and return the norm that the gradients had before they were
        clipped.

        Raises ValueError where that norm is no number; nothing has been changed then.
        """
        self.gather()
        gradients = [master.grad for master in self.masters.values() if master.grad is not None]
        norm = float(whole(torch.stack([gradient.norm() for gradient in gradients]).norm())) if gradients else 0.0
        if not math.isfinite(norm):
            bad = [
                name
                for name, master in self.masters.items()
                if master.grad is not None and not bool(whole(master.grad).isfinite().all())
            ]
            self.clear()
            raise ValueError(
                f"the gradients of {len(bad)} of {len(self.masters)} parameters are no numbers, first "
                f"{(bad or list(self.masters))[0]}; lower the learning rate, or train in float32"
            )
        if norm > self.clip_norm:
            for gradient in gradients:
                gradient.mul_(self.clip_norm / norm)
        for group in self.adam.param_groups:
            group["lr"] = rates[group["group"]]
        self.adam.step()
        self.clear()
        self.updates += 1
        keep = min(self.ema, self.updates / (self.updates + 9))  # else the start would weigh on a short run
        with torch.no_grad():
            for name, average in self.average.items():
                average.lerp_(self.masters[name], 1 - keep)
        self.write_back()
        return norm

    def clear(self) -> None:
        for values in (self.parameters, self.masters):
            for value in values.values():
                value.grad = None

    @torch.no_grad()
    def write_back(self) -> None:
        """Write the masters' values into the working copies."""
        for name, parameter in self.parameters.items():
            if parameter is not self.masters[name]:
                parameter.copy_(self.masters[name])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the parameters the average meanwhile; without an average they stay as they are."""
        before = {name: parameter.detach().clone() for name, parameter in self.parameters.items() if self.average}
        with torch.no_grad():
            for name, average in self.average.items():
                self.parameters[name].copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in before.items():
                    self.parameters[name].copy_(value)

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything that the next step depends on: `weight.`, `average.`, `first.` and `second.` (AdamW's
        moments) before each name, and `updates`; divided where the parameters are.
        """
        found = {f"weight.{name}": master.detach() for name, master in self.masters.items()}
        found |= {f"average.{name}": value for name, value in self.average.items()}
        for name, master in self.masters.items():
            moments = self.adam.state.get(master, {})
            if moments:
                found |= {
                    f"first.{name}": moments["exp_avg"],
                    f"second.{name}": moments["exp_avg_sq"],
                    f"steps.{name}": moments["step"],
                }
        return found | {"updates": torch.tensor(self.updates)}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load what `state` returned. Raises ValueError where it is of other parameters."""
        missing = sorted(name for name in self.masters if f"weight.{name}" not in state)
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(self.masters)} parameters are not in the checkpoint, first "
                f"{missing[0]}; start a new run folder"
            )
        self.carry_over(state)
        for name, master in self.masters.items():
            if f"first.{name}" in state:
                moments = {"exp_avg": state[f"first.{name}"], "exp_avg_sq": state[f"second.{name}"]}
                self.adam.state[master] = {key: torch.zeros_like(master.detach()) for key in moments}
                for key, value in moments.items():
                    copy_into(self.adam.state[master][key], value)
                self.adam.state[master]["step"] = state[f"steps.{name}"].cpu().clone()

    @torch.no_grad()
    def carry_over(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take weights and average of the parameters that both train from another stage's `state`; no moments.

        Raises ValueError for a weight of another shape.
        """
        for name, master in self.masters.items():
            kept = state.get(f"weight.{name}")
            if kept is None:
                continue
            if kept.shape != master.shape:
                raise ValueError(
                    f"{name} has shape {list(master.shape)} and {list(kept.shape)} in the checkpoint; "
                    f"start a new run folder"
                )
            copy_into(master, kept)
            if self.average:
                copy_into(self.average[name], state[f"average.{name}"])
        self.updates = int(state["updates"])
        self.write_back()


def _master(parameter: nn.Parameter) -> nn.Parameter:
    if parameter.dtype == torch.float32:
        return parameter
    return nn.Parameter(parameter.detach().float())
