"""Checks which combinations of settings in section `grpo` are valid. Importable without torch: called before a run, and again by GRPO."""

from __future__ import annotations

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.rl.config import GRPOConfig


def check_method(config: GRPOConfig) -> None:
    """Raise `MathQuarryError` for a combination without a gradient or a meaning."""
    paradigm, size = config.paradigm, config.group_size
    kinds = {term.kind for term in config.reward_terms}
    if paradigm.advantage in ("group", "preference") and size < 2:
        raise MathQuarryError(f"grpo.group_size is {size}; completions are compared within a group, which needs at least 2.")
    if paradigm.data != "examples" and config.rollout.temperature == 0:
        raise MathQuarryError("grpo.rollout.temperature is 0: all completions of a question would be the same. Set it above 0.")
    if paradigm.advantage != "constant" and (not kinds or paradigm.data == "examples"):
        raise MathQuarryError(
            f"grpo.paradigm.advantage `{paradigm.advantage}` needs a reward and sampled completions; reward is `{paradigm.reward}` and "
            f"data `{paradigm.data}`."
        )
    if paradigm.advantage == "preference" and (kinds != {"rule"} or config.num_updates > 1):
        raise MathQuarryError("grpo.paradigm.advantage `preference` (DPO) needs reward `rule` and num_updates = 1.")
    if paradigm.reward == "none" and config.rewards:
        raise MathQuarryError("grpo.paradigm.reward is `none`, but grpo.rewards has entries. Remove one of the two.")
    if kinds == {"rule"} and config.by_step:
        raise MathQuarryError("grpo.supervision is `process`, but a rule gives one reward per completion. Set it to `outcome`.")
    if config.format == "tool" and (paradigm.data == "examples" or paradigm.advantage in ("preference", "gae")):
        raise MathQuarryError(
            f"grpo.format is `tool`, which is sampled and has advantage `group` or `reward`; data is `{paradigm.data}` and advantage "
            f"`{paradigm.advantage}`."
        )
    if config.format == "tool" and config.kl_place == "reward":
        raise MathQuarryError("grpo.kl is `reward`, which counts every token, and grpo.format is `tool`. Set kl to `loss` or `none`.")
    if config.rollout.ahead:
        _check_ahead(config)
    if config.ranks.size > 1:
        _check_ranks(config)


def _check_ahead(config: GRPOConfig) -> None:
    paradigm = config.paradigm
    if paradigm.data != "online":
        raise MathQuarryError(
            f"grpo.rollout.ahead is 1, and grpo.paradigm.data is `{paradigm.data}`: only completions of the policy as it is can be sampled "
            "ahead of it. Set ahead to 0."
        )
    if paradigm.advantage not in ("group", "gae"):
        raise MathQuarryError(
            f"grpo.rollout.ahead is 1, which is off-policy and needs truncated importance sampling; the loss of advantage "
            f"`{paradigm.advantage}` has none. Set ahead to 0."
        )
    if config.tis_cap is None:
        raise MathQuarryError(
            "grpo.rollout.ahead is 1, so a step learns from completions of the policy before the last update, and grpo.tis_cap is not set. "
            "Set it, to 2.0 for example, or ahead to 0."
        )


def _check_ranks(config: GRPOConfig) -> None:
    size = config.ranks.size
    if config.prompts_per_step < size:
        raise MathQuarryError(
            f"grpo.prompts_per_step is {config.prompts_per_step}, but the {size} processes of grpo.ranks share the questions of a step, "
            "and each needs at least one. Raise it."
        )
