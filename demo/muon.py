"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al. 2024, github.com/KellerJordan/Muon).

On these small networks it reaches in minutes what AdamW reaches in an hour. Matrices of equal shape are
orthogonalised together in one batched Newton-Schulz iteration.
"""

import torch


def orthogonalise(x: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Nearest (roughly) orthogonal matrices: [N, rows, columns] -> same shape, quintic Newton-Schulz in bf16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Muon:
    """The optimiser, of weights that count as matrices [rows, columns]: all further axes are columns."""

    def __init__(self, parameters: list[torch.nn.Parameter], weight_decay: float = 0.02, momentum: float = 0.95):
        self.weight_decay, self.momentum = weight_decay, momentum
        self.groups: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
        for p in parameters:
            self.groups.setdefault((p.shape[0], p[0].numel()), []).append(p)
        self.state = {shape: torch.zeros(len(ps), *shape, device=ps[0].device) for shape, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for (rows, columns), ps in self.groups.items():
            gradient = torch.stack(
                [(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(rows, columns) for p in ps]
            )
            average = self.state[rows, columns].lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(average, self.momentum))  # Nesterov
            scale = learning_rate * max(1.0, rows / columns) ** 0.5
            for p, u in zip(ps, update, strict=False):
                p.mul_(1 - learning_rate * self.weight_decay).add_(u.reshape(p.shape), alpha=-scale)
