"""Longreel Alpha Space Sampler: the SAMPLER that CogVideoX needs."""

from comfy_api.latest import io

from ..hosts.sampling.alpha_space import GUIDANCE_MODES, AlphaSpaceSampler


class LongreelAlphaSpaceSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelAlphaSpaceSampler",
            display_name="Longreel Alpha Space Sampler",
            category="Longreel/sampling",
            description="DPM-Solver++(2M) SDE and DDIM for models that predict v in alpha space (CogVideoX), which "
            "core's samplers feed at the wrong scale. Wire it into SamplerCustomAdvanced, SamplerCustom or "
            "Longreel Sampler, with the sigmas of any core scheduler.",
            search_aliases=["cogvideox sampler", "ddim", "dpm++ 2m sde", "v-prediction", "dynamic cfg"],
            inputs=[
                io.DynamicCombo.Input(
                    "solver",
                    tooltip=(
                        "dpmpp_2m_sde: second order, as CogVideoX, DiTCtrl and ttt-video sample; about 50 steps. ddim: "
                        "first order, keeps the starting noise to the end."
                    ),
                    options=[
                        io.DynamicCombo.Option("dpmpp_2m_sde", [_eta(1.0, "1 is the published solver")]),
                        io.DynamicCombo.Option("ddim", [_eta(0.0, "0 is the published DDIM, 1 is ancestral (DDPM)")]),
                    ],
                ),
                io.Combo.Input(
                    "dynamic_guidance",
                    options=list(GUIDANCE_MODES),
                    default="off",
                    tooltip=(
                        "off: the guider's cfg in every step. published: cfg jumps between 1 and 1 + cfg from step to "
                        "step, as CogVideoX's code computes it (cfg 6 there). rising: cfg climbs smoothly from 1 "
                        "towards 1 + cfg, as its documentation says. Needs a guider with a positive and a negative "
                        "conditioning."
                    ),
                ),
            ],
            outputs=[io.Sampler.Output()],
        )

    @classmethod
    def execute(cls, solver: dict | str, dynamic_guidance: str) -> io.NodeOutput:
        if isinstance(solver, str):  # ComfyUI lets a choice that is no option through, bare; the sampler names it
            solver = {"solver": solver}
        return io.NodeOutput(AlphaSpaceSampler(**solver, guidance=dynamic_guidance))


def _eta(default: float, published: str) -> io.Float.Input:
    return io.Float.Input(
        "eta",
        default=default,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip=f"Share of fresh noise per step, 0 (deterministic) to 1; {published}.",
    )
