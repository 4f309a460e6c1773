"""Section "grid": credit assignment, reward, and refreshed or frozen reward model, after several iterations and over several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count, duration
from mathquarry.data.report.page.charts import Line, lines
from mathquarry.data.report.page.noise import CHANCE
from mathquarry.data.report.page.opening import Link, Opening, Sentence
from mathquarry.data.report.page.scores import AT_K, read_scores
from mathquarry.data.report.page.source import Source, literal, strings
from mathquarry.data.report.sections.comparison import Spread
from mathquarry.data.report.sections.grid import AUC, CREDITS, REWARDS, SECONDS, SHARED, START, ArmKey, GridArm, grid_of
from mathquarry.data.report.sections.grid_claims import Claim, claims_of, verdicts_of

TABLE, EVERY, ORDERINGS = "Greedy accuracy after the last iteration", "Every arm after every iteration", "Orderings, paired by seed"
BY_ITERATION = "Greedy accuracy by iteration"
FEW_SEEDS = 5
Grid = Mapping[ArmKey, GridArm]


def grid_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show the table of credit by reward, the orderings, curves over iterations, and the cost of each arm; `None` in other runs."""
    arms = grid_of(artifacts)
    if not any(arm.last for arm in arms.values()):
        return None
    source = _source(arms, artifacts)
    claims = claims_of(arms)
    blocks: list[Block] = [
        last_iteration_table(arms, source),
        *([_orderings(claims, source)] if claims else []),
        *_curves(arms, "Greedy", BY_ITERATION, ".0%", source),
        *_curves(arms, AUC, "Reward model's AUC by iteration", ".2f", source),
        every_iteration_table(arms, source),
    ]
    return Section(
        "grid",
        "Credit, reward and refresh",
        "Iterations of GRPO from one fine-tuned policy. Credit: all tokens get the completion's reward, or each step gets the sum of the "
        "step rewards from it on (as in the paper), or their minimum. Reward: the answer checker's rule, a learned outcome or process "
        "model, or a process model plus a share of the rule. The reward model is refreshed between iterations on the latest completions, "
        f"or frozen. Means over at most {_seeds(arms)} seeds; ± and error bars are one standard error over seeds. AUC: how well the "
        "reward model separates correct from wrong completions that the policy is trained on.",
        blocks,
    )


def grid_opening(artifacts: Sequence[ReportArtifact]) -> Opening:
    """Say which arm is best, and which of the paper's orderings hold."""
    arms = grid_of(artifacts)
    scored = {key: arm for key, arm in arms.items() if arm.last}
    if not scored:
        return Opening()
    seeds = _seeds(scored)
    warnings = [Sentence(f"{seeds} seeds are few, so their spread is uncertain.", (Link("grid", TABLE),))] if 1 < seeds < FEW_SEEDS else []
    if seeds == 1:
        warnings = [Sentence("With only one seed, differences between arms cannot be told from noise.", (Link("grid", TABLE),))]
    best = max(scored, key=lambda key: _spread(scored[key], "Greedy", scored[key].last).mean)
    spread = _spread(scored[best], "Greedy", scored[best].last)
    told = [
        Sentence(
            f"The highest mean greedy accuracy is {spread}, after iteration {scored[best].last} of the arm {best.words}. "
            f"{count(len(scored))} arms were compared, and the highest of several is partly luck.",
            (Link("grid", TABLE), Link("grid", f"{BY_ITERATION}: {REWARDS[best.reward]}")),
        )
    ]
    by_text: dict[str, list[Claim]] = {}
    for claim in claims_of(arms):
        if claim.in_paper:
            by_text.setdefault(claim.text, []).append(claim)
    for text, claims in by_text.items():
        verdicts = ", ".join(f"{verdict} in {number}" for verdict, number in verdicts_of(claims).items())
        told.append(Sentence(f"{text[:1].upper()}{text[1:]}: {verdicts} of {count(len(claims))} comparisons.", (Link("grid", ORDERINGS),)))
    return Opening(warnings, told)


def _seeds(arms: Grid) -> int:
    return max(len(values) for arm in arms.values() for values in arm.metrics["Greedy"].values())


def _spread(arm: GridArm, metric: str, iteration: int) -> Spread:
    return Spread.of(list(arm.metrics[metric][iteration].values()))


def _shown(arm: GridArm, metric: str, iteration: int) -> str:
    return str(_spread(arm, metric, iteration)) if arm.metrics.get(metric, {}).get(iteration) else "–"


def _auc(arm: GridArm, iteration: int) -> str:
    if not arm.metrics.get(AUC, {}).get(iteration):
        return "–"
    spread = _spread(arm, AUC, iteration)
    return f"{spread.mean:.3f}" + (f" ± {spread.error:.3f}" if spread.seeds > 1 else "")


def last_iteration_table(arms: Grid, source: Source) -> Table:
    """Return a table with a row per credit assignment, and a column per reward and reward model."""
    columns = list(dict.fromkeys((key.reward, key.model) for key in arms))
    columns.sort(key=lambda column: list(REWARDS).index(column[0]))
    rows = []
    for credit in dict.fromkeys(key.credit for key in arms):
        cells = []
        for reward, model in columns:
            arm = arms.get(ArmKey(credit, reward, model))
            cells.append(_shown(arm, "Greedy", arm.last) if arm and arm.last else "–")
        rows.append([CREDITS[credit], *cells])
    headers = ["Credit", *(REWARDS[reward] + ("" if model == SHARED else f", {model}") for reward, model in columns)]
    note = "A dash means that there is no such arm, or no score yet."
    return Table(headers, rows, frozenset(range(1, len(headers))), TABLE, note=note, source=source)


def _orderings(claims: Sequence[Claim], source: Source) -> Table:
    rows = [
        [
            claim.text[:1].upper() + claim.text[1:],
            claim.source,
            claim.better.words,
            claim.worse.words,
            count(len(claim.differences)),
            claim.points,
            claim.verdict,
        ]
        for claim in claims
    ]
    headers = ["Ordering", "From", "Arm", "Against", "Seeds", "Difference in points", f"Here (t-test, p < {CHANCE:g})"]
    by_chance = f"{CHANCE * len(claims):.2g}"
    note = f"If none of the {count(len(claims))} orderings were real, {by_chance} would be significant by chance, on average."
    return Table(headers, rows, frozenset({4, 5}), ORDERINGS, note=note, source=source)


def _curves(arms: Grid, metric: str, title: str, y_format: str, source: Source) -> list[Block]:
    """Draw one chart per reward, with one line per credit assignment: solid with a refreshed reward model, dashed with a frozen one."""
    blocks: list[Block] = []
    colours = {credit: f"@c{place}" for place, credit in enumerate(CREDITS, 1)}
    for reward in dict.fromkeys(key.reward for key in arms):
        drawn, dashed = [], []
        for key, arm in arms.items():
            spreads = {i: _spread(arm, metric, i) for i, values in sorted(arm.metrics.get(metric, {}).items()) if values}
            if key.reward != reward or not spreads:
                continue
            name = CREDITS[key.credit] + ("" if key.model == SHARED else f", {key.model}")
            means, errors = [spread.mean for spread in spreads.values()], [spread.error for spread in spreads.values()]
            drawn.append(Line(name, list(spreads), means, colours[key.credit], errors))
            dashed.append(key.model == "frozen")
        if not drawn:
            continue
        spec = lines(drawn, "iteration", y_format, points=True)
        spec["layout"]["xaxis"]["dtick"] = 1
        spec["layout"]["yaxis"]["rangemode"] = "normal"
        for trace, is_dashed in zip(spec["data"], dashed, strict=True):
            trace["line"]["dash"] = "dash" if is_dashed else "solid"
        note = "Error bars: one standard error over seeds. The axis does not start at zero."
        blocks.append(Chart(f"{title}: {REWARDS[reward]}", spec, note, source=source))
    return blocks


def every_iteration_table(arms: Grid, source: Source) -> Table:
    """Return a table with a row per arm and iteration: scores, AUC, and time."""
    metrics = list(dict.fromkeys(metric for arm in arms.values() for metric in arm.metrics if metric not in (AUC, SECONDS)))
    rows = []
    for key, arm in arms.items():
        for iteration in range(1, arm.last + 1):
            seconds = list(arm.metrics[SECONDS].get(iteration, {}).values())
            rows.append(
                [
                    CREDITS[key.credit],
                    REWARDS[key.reward],
                    "–" if key.reward == "rule" else key.model,
                    count(iteration),
                    count(len(arm.metrics["Greedy"].get(iteration, {}))),
                    *(_shown(arm, metric, iteration) for metric in metrics),
                    _auc(arm, iteration),
                    duration(sum(seconds) / len(seconds)) if seconds else "–",
                ]
            )
    headers = ["Credit", "Reward", "Reward model", "After iteration", "Seeds", *metrics, "AUC", "Time per seed"]
    note = "Time: of the iteration, its scores and the training of its reward model, even if an earlier run made them; averaged over seeds."
    return Table(headers, rows, frozenset(range(3, len(headers))), EVERY, note=note, source=source)


def _source(arms: Grid, artifacts: Sequence[ReportArtifact]) -> Source:
    """Return the query for means and standard errors over the seeds of each arm and iteration: scores, AUC, and seconds."""
    parts = [(key, place.iteration, place.seed, artifact.key) for key, arm in arms.items() for place, artifact in arm.artifacts]
    start = next((artifact for artifact in artifacts if artifact.name == START), None)
    if start is not None:
        parts += [(key, 0, seed, start.key) for key, arm in arms.items() for seed in arm.metrics["Greedy"].get(1, {})]
    rows = ",\n".join(f"({literal(key.words)}, {iteration}, {seed}, {literal(made)})" for key, iteration, seed, made in parts)
    columns = read_scores(start.summary).columns() if start is not None else {}
    metrics = [metric.lower() for metric in columns] or [
        name for arm in arms.values() for _, one in arm.artifacts for name in one.summary if name == "greedy" or AT_K.fullmatch(name)
    ]
    mean = "count(*) as seeds, avg(value) as mean, coalesce(stddev_samp(value) / sqrt(count(*)), 0) as error"
    query = (
        f"with parts as (from (values {rows}) as parts(arm, iteration, seed, key)),\n"
        "found as (select arm, iteration, seed, f.key as metric, f.value::double as value\n"
        "from parts join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {strings(metrics)} and stage = 'evaluate'\n"
        f"union all select arm, iteration, seed, '{AUC}', avg(value) from parts join metrics using (key)\n"
        "where metrics.name = 'reward_auc' group by arm, iteration, seed\n"
        f"union all select arm, iteration, seed, '{SECONDS}', sum(seconds) from parts join artifacts using (key)\n"
        "where iteration > 0 group by arm, iteration, seed)\n"
        f"select arm, iteration, metric, {mean} from found group by arm, iteration, metric order by all"
    )
    made = [artifact for arm in arms.values() for _, artifact in arm.artifacts]
    return Source.of([*made, *([start] if start is not None else [])], query)
