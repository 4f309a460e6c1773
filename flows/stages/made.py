"""The artifacts of a recipe's stages. Each is made on first access, after its inputs.

If a recipe starts from its own policy, corpus or reward model, the stages that would make one are never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from mathquarry.flows.stages.crawl import crawl_flow
from mathquarry.flows.stages.curate import curate_flow
from mathquarry.flows.stages.imports import import_corpus_flow, import_flow
from mathquarry.flows.stages.mine import mine_flow
from mathquarry.flows.stages.pretrain import pretrain_flow
from mathquarry.flows.stages.problems import problems_flow
from mathquarry.flows.stages.references import given_artifact
from mathquarry.flows.stages.rejection import rejection_flow
from mathquarry.flows.stages.reward import reward_flow
from mathquarry.flows.stages.sft import sft_flow

if TYPE_CHECKING:
    from mathquarry.flows.recipe import Recipe
    from mathquarry.flows.recorded_run import Run


class Made:
    """References of the artifacts of supervised training and of the first reward model. `before` has artifacts that a run has, by name.

    Every property raises the error of its stage, and `MathQuarryError` if an artifact in section `start` is not in the store.
    """

    def __init__(self, run: Run, recipe: Recipe, before: Mapping[str, str] | None = None) -> None:
        self.run, self.recipe, self.before = run, recipe, before or {}

    @cached_property
    def problems(self) -> str:
        """Questions to train on and to score."""
        return self.before.get("problems") or self.run.stage("problems", problems_flow, self.recipe.problems)

    @cached_property
    def crawl(self) -> str:
        """The crawl, given or made."""
        given = given_artifact(self.run.store, "crawl", self.recipe.start.crawl)
        return given or self.before.get("crawl") or self.run.stage("crawl", crawl_flow, self.recipe.crawl, self.problems)

    @cached_property
    def corpus(self) -> str:
        """The corpus, given or mined."""
        name = self.recipe.start.corpus
        if given := given_artifact(self.run.store, "corpus", name):
            return given
        if name is not None:
            return self.before.get("import-corpus") or self.run.stage("import-corpus", import_corpus_flow, name)
        problems, crawl = self.problems, self.crawl
        return self.before.get("mine") or self.run.stage("mine", mine_flow, self.recipe.mine, crawl, problems)

    @cached_property
    def start(self) -> str | None:
        """The policy that the recipe starts from, as an artifact."""
        start = self.recipe.start
        if start.policy is None:
            return None
        if given := given_artifact(self.run.store, "policy", start.policy):
            return given
        return self.before.get("import") or self.run.stage("import", import_flow, start.policy, "policy", start.chat_template)

    @cached_property
    def base(self) -> str:
        """The base model: pretrained, or the policy that the recipe starts from."""
        recipe = self.recipe
        if "pretrain" in self.before:
            return self.before["pretrain"]
        if self.start is not None and recipe.start.leaves_out("pretrain"):
            return self.start
        problems, corpus = self.problems, self.corpus
        after = () if self.start is None else (self.start,)
        return self.run.stage("pretrain", pretrain_flow, recipe.model, recipe.pretrain, corpus, problems, *after)

    @cached_property
    def examples(self) -> str:
        """Worked solutions to fine-tune on."""
        return self.before.get("curate") or self.run.stage("curate", curate_flow, self.recipe.curate, self.problems)

    @cached_property
    def sampled(self) -> str | None:
        """Solutions sampled from a first fine-tuned policy, if the recipe uses them."""
        if not self.recipe.rejection.enabled:
            return None
        if "rejection" in self.before:
            return self.before["rejection"]
        sampler = self.run.stage("sft-first", sft_flow, self.recipe.sft, self.base, self.examples)
        return self.run.stage("rejection", rejection_flow, self.recipe.rejection, sampler, self.problems, self.examples)

    @cached_property
    def policy(self) -> str:
        """The fine-tuned policy, or the base model if there is no fine-tuning."""
        if "sft" in self.before:
            return self.before["sft"]
        base = self.base
        if self.recipe.start.leaves_out("sft"):
            return base
        examples = self.examples
        return self.run.stage("sft", sft_flow, self.recipe.sft, base, examples, self.sampled)

    @cached_property
    def reward(self) -> str:
        """The first reward model, given or trained."""
        name = self.recipe.start.reward
        if given := given_artifact(self.run.store, "reward", name):
            return given
        if name is not None:
            return self.before.get("import-reward") or self.run.stage("import-reward", import_flow, name, "reward", None)
        if "reward-0" in self.before:
            return self.before["reward-0"]
        start = self.base if self.recipe.reward.initialise_from == "base" else self.policy
        return self.run.stage("reward-0", reward_flow, self.recipe.reward, start, self.policy, self.problems)
