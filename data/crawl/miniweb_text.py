"""What the mini-web's pages say: worked word problems in several formula encodings, and prose about everything else."""

from __future__ import annotations

import html
import random
from collections.abc import Callable
from dataclasses import dataclass

from data.problems.generated import WordProblem
from data.programs.calculator import strip_marks

ENCODINGS: dict[str, Callable[[str], str]] = {
    "tex": lambda tex: f"${tex}$",
    "parentheses": lambda tex: rf"\({tex}\)",
    "script": lambda tex: f'<script type="math/tex">{tex}</script>',
    "katex": lambda tex: (
        '<span class="katex"><span class="katex-mathml"><math><semantics><mrow></mrow>'
        f'<annotation encoding="application/x-tex">{tex}</annotation></semantics></math></span>'
        f'<span class="katex-html" aria-hidden="true">{tex}</span></span>'
    ),
    "mathml": lambda tex: (
        f'<math xmlns="http://www.w3.org/1998/Math/MathML"><semantics><mrow><mtext>{tex}</mtext></mrow>'
        f'<annotation encoding="application/x-tex">{tex}</annotation></semantics></math>'
    ),
    "alttext": lambda tex: f'<math alttext="{tex}"><mtext>{tex}</mtext></math>',
    "image": lambda tex: f'<img class="latex" src="/latex.php?latex={tex.replace("+", "%2B").replace("=", "%3D")}" alt="{tex}">',
    "container": lambda tex: f'<span class="math-container">${tex}$</span>',
    "none": lambda tex: html.escape(tex),
}
"""How a page writes its formulas; `none` is mathematics in plain text, which nothing in the markup gives away."""


@dataclass(frozen=True)
class Content:
    """The part of a page that is its own: title and paragraphs of HTML."""

    title: str
    paragraphs: tuple[str, ...]


LESSONS = ["Adding", "Subtracting", "Counting", "Comparing", "Combining", "Sharing", "Keeping", "Losing"]
LESSON_THINGS = ["fruit", "toys", "money", "books", "collections", "presents", "marbles", "animals"]
OPENINGS = (
    "Read each question slowly and write one line for each step.",
    "Here are problems with every step shown.",
    "These answers were checked by a second reader.",
    "Cover the solution, try it first, then compare.",
    "Each line below is one sum or one difference.",
    "The last line of every solution holds the answer.",
)


def math_content(problems: list[WordProblem], encoding: str, rng: random.Random) -> Content:
    """Word problems with their solutions, every step written in one of `ENCODINGS`."""
    write = ENCODINGS[encoding]
    paragraphs = [f"<p>{rng.choice(OPENINGS)}</p>"]
    for problem in problems:
        steps = [*strip_marks(problem.solution).split("\n"), rf"\boxed{{{problem.answer}}}"]
        lines = "<br>\n".join(write(step) for step in steps)
        paragraphs.append(f"<p>{html.escape(problem.question)}<br>\nAnswer:<br>\n{lines}</p>")
    title = f"{rng.choice(LESSONS)} {rng.choice(LESSON_THINGS)}, sheet {rng.randint(1, 9999)}"
    return Content(title, tuple(paragraphs))


@dataclass(frozen=True)
class Topic:
    """A subject that is not mathematics: whom, what, where and how its sentences speak of."""

    who: list[str]
    does: list[str]
    what: list[str]
    where: list[str]
    how: list[str]


def _words(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split("|")]


TOPICS = {
    "recipes": Topic(
        _words("The cook|My aunt|A baker|Our neighbour|The chef|Every student|Grandfather|The waiter|A friend|The host"),
        _words("fries|bakes|chops|stirs|salts|serves|cools|peels|roasts|simmers|tastes|freezes"),
        _words("onions|a fish pie|the lentils|warm bread|tomato soup|rice pudding|garlic butter|the beans|a lemon cake|spiced tea|noodles"),
        _words("in a heavy pan|on the stove|by the window|in the old oven|at the market stall|under a cloth|over charcoal|in a clay pot"),
        _words("until golden|with fresh herbs|before dinner|without hurry|for the children|after the rain|with cream|on cold evenings"),
    ),
    "travel": Topic(
        _words("The ferry|A night train|Our guide|The hikers|Two tourists|The pilot|A cyclist|The caravan|Some pilgrims|The driver"),
        _words("reaches|leaves|crosses|photographs|remembers|visits|avoids|explores|circles|describes|misses"),
        _words("the harbour|a mountain hut|the old town|the lighthouse|a quiet beach|the border|the cathedral|a salt lake|the desert road"),
        _words("near the coast|behind the station|above the valley|along the river|past the vineyards|beyond the bridge|east of the pass"),
        _words("at sunrise|in heavy fog|by noon|during the festival|every autumn|with little luggage|on foot|despite the storm"),
    ),
    "sport": Topic(
        _words("The keeper|A young runner|The captain|Their coach|The referee|A swimmer|The home side|The champion|A substitute|The rower"),
        _words("wins|loses|saves|misses|celebrates|delays|watches|trains for|regrets|protests"),
        _words("the final|a penalty|the relay|the long jump|the derby|an early goal|the medal|the second half|the title|a replay"),
        _words("in the stadium|on wet grass|before a full house|in the national league|at the new pool|on the island|away from home"),
        _words("after extra time|with a sore ankle|to loud cheers|against all odds|in bright sun|without a break|for the third season"),
    ),
    "news": Topic(
        _words("The mayor|A spokeswoman|The council|Local farmers|The ministry|Two witnesses|The union|A judge|The museum|Residents"),
        _words("announces|rejects|welcomes|postpones|criticises|approves|denies|investigates|funds|repeats"),
        _words("the new tram line|a water ban|the school plan|the budget|an inquiry|the election result|the road works|a housing law"),
        _words("in the capital|at the town hall|on Tuesday|in the northern district|before the vote|near the factory|across the region"),
        _words(
            "after long talks|despite protests|in a short statement|without comment|for the first time|behind closed doors|under pressure"
        ),
    ),
    "shop": Topic(
        _words(
            "This jacket|The blue kettle|Our best lamp|A leather bag|The garden chair|This carpet|The winter boot|A silver watch|The desk"
        ),
        _words(
            "costs only $5 more than|replaces|matches|outlasts|ships with|comes before|goes well with|sells faster than|is lighter than"
        ),
        _words("the older model|a cotton scarf|the travel set|our gift box|the premium line|a spare battery|the oak table|the $20 bundle"),
        _words("in our online store|at the corner shop|from the warehouse|in every colour|with free delivery|in three sizes|on sale"),
        _words("while stocks last|until Sunday|for members|with a two year warranty|at $10 off|without extra fees|this season"),
    ),
    "gardening": Topic(
        _words("The gardener|A rose|My tomato plant|The hedge|An apple tree|The compost|Our lawn|A bee|The fern|The orchid"),
        _words("needs|likes|hides|shelters|loses|grows beside|outgrows|covers|feeds|survives"),
        _words("morning light|the wet soil|a stone wall|the vegetable bed|dry leaves|the greenhouse|a late frost|the pond|old roots"),
        _words("behind the shed|in early spring|near the gate|under glass|along the fence|in a large pot|beside the path|in the shade"),
        _words("for several weeks|with some care|all summer|in poor soil|when watered well|without fertiliser|until the first snow"),
    ),
}


def other_content(topic: str, rng: random.Random) -> Content:
    """Prose about something else: sentences put together from the topic's phrases."""
    words = TOPICS[topic]
    sentences = []
    for _ in range(rng.randint(14, 24)):
        sentence = " ".join(rng.choice(part) for part in (words.who, words.does, words.what, words.where, words.how))
        sentences.append(sentence + ".")
    cuts = sorted(rng.sample(range(1, len(sentences)), 3))
    bounds = list(zip([0, *cuts], [*cuts, len(sentences)], strict=True))
    title = f"{rng.choice(words.who)} and {rng.choice(words.what)}"
    return Content(title, tuple(f"<p>{html.escape(' '.join(sentences[a:b]))}</p>" for a, b in bounds))


def edited(content: Content, rng: random.Random) -> Content:
    """A near-duplicate: another title, and a sentence of its own at the end."""
    words = TOPICS[rng.choice(sorted(TOPICS))]
    remark = f"{rng.choice(words.who)} {rng.choice(words.does)} {rng.choice(words.what)}."
    return Content(f"{content.title} (copy {rng.randint(2, 99)})", (*content.paragraphs, f"<p>{html.escape(remark)}</p>"))


def render(content: Content, host: str, links: list[str]) -> str:
    """A whole HTML page: navigation, the content, a sidebar and a footer."""
    items = "".join(f'<li><a href="{link}">{html.escape(link.strip("/").replace("-", " "))}</a></li>' for link in links)
    body = "\n".join(content.paragraphs)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(content.title)} | {host}</title>'
        '<style>body { font: 16px serif; color: #222 }</style><script>var page = { cost: "$5", area: "$10" };</script></head>\n'
        f"<body><nav><ul>{items}</ul></nav>\n<main><article><h1>{html.escape(content.title)}</h1>\n{body}\n</article></main>\n"
        f'<aside><a href="/offers">Offers from $5 to $10</a></aside><footer>{host}</footer></body></html>\n'
    )
