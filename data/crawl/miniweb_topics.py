"""Content of the other mini-web pages: cooking, sport, travel, news, shopping, and pages about a site itself.

Sentences are templates: `{word}` stands for a choice from a list, `{2-12}` for a number. Prices are written as `$5` to
test that formula extraction does not take them for formulas.
"""

from __future__ import annotations

import random
import re

from mathquarry.data.crawl.miniweb_document import Block, Document, Heading, Paragraph

_SLOT = re.compile(r"\{(?:(\d+)-(\d+)|(\w+))\}")

_LISTS: dict[str, tuple[str, ...]] = {
    key: tuple(text.split(", "))
    for key, text in {
        "dish": (
            "lentil soup, apple pie, roast chicken, fried rice, onion tart, bean stew, fish curry, tomato salad, "
            "potato cake, garlic bread, plum jam, noodle soup, lamb roast, berry crumble"
        ),
        "food": (
            "butter, flour, garlic, onions, carrots, cream, honey, rice, thyme, lemon juice, olive oil, salt, "
            "pepper, brown sugar, spinach, mushrooms, parsley, ginger"
        ),
        "tool": ("heavy pan, wooden spoon, large bowl, sharp knife, baking tray, small pot, whisk, sieve, cast iron skillet, glass jar"),
        "taste": "rich, mild, smoky, sweet, sharp, bitter, salty, fresh, nutty, warm, earthy, bright",
        "team": ("Rovers, United, Wanderers, Falcons, Harbour City, Northgate, Riverside, Lions, Old Mill, Kestrels, Eastfield, Comets"),
        "player": ("Harris, Okafor, Lindqvist, Moreau, Tanaka, Silva, Novak, Brennan, Castillo, Weber, Dube, Petrov, Hughes, Marino"),
        "event": "cup tie, league match, friendly, final, derby, training game, quarter final, season opener, replay",
        "move": "header, free kick, long pass, late tackle, corner, penalty, quick break, fine save, volley",
        "city": ("Lisbon, Porto, Ghent, Bergen, Turin, Krakow, Valencia, Lucerne, Galway, Dubrovnik, Utrecht, Seville, Tallinn, Nantes"),
        "sight": (
            "old harbour, castle hill, covered market, botanical garden, cathedral square, river path, city "
            "museum, stone bridge, fishing village, lighthouse"
        ),
        "ride": "night train, local bus, ferry, rental bike, tram, cable car, taxi boat, coach",
        "mood": "quiet, busy, charming, windy, sunny, crowded, sleepy, colourful, noisy, foggy, friendly",
        "office": (
            "city council, school board, water company, planning office, transport agency, health service, "
            "harbour authority, housing office"
        ),
        "matter": (
            "bridge repairs, bus routes, library hours, rent rules, flood walls, parking fees, street lights, "
            "tree planting, market stalls, cycle lanes"
        ),
        "person": (
            "Clara Nowak, Peter Hall, Ingrid Sand, Omar Reyes, Judith Klein, Martin Shaw, Elena Rossi, Paul "
            "Adeyemi, Nora Finch, Victor Lang"
        ),
        "product": (
            "rain jacket, desk lamp, coffee grinder, hiking boot, phone case, wool blanket, garden chair, "
            "backpack, kettle, bike pump, reading light, tool box"
        ),
        "stuff": "cotton, steel, oak, leather, recycled plastic, bamboo, canvas, aluminium, glass, merino wool",
        "colour": "black, navy, olive, sand, grey, white, burgundy, forest green, rust, cream",
        "day": "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
        "month": "January, February, March, April, May, June, July, August, September, October, November, December",
        "season": "spring, summer, autumn, winter",
    }.items()
}

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "cooking": (
        "My {dish} starts with {food} and {food} in a {tool}.",
        "Stir the {food} with a {tool} until it smells {taste}.",
        "Add {2-12} spoons of {food} and let the {food} melt slowly.",
        "The {season} I first cooked {dish}, I burned the {food}.",
        "Bake for {15-90} minutes; the crust of a {dish} should look {taste}.",
        "Serve the {dish} {taste} and hot, with {food} on the side.",
        "If {food} is out of season, {food} works almost as well.",
        "My grandmother made {dish} with {food} every {day}.",
        "Keep what is left in a {tool}; {dish} tastes better on {day}.",
        "A {taste} sauce of {food} and {food} goes well with {dish}.",
        "Chop the {food}, crush the {food}, and warm the {tool} over a low flame.",
        "Leave the dough for {20-80} minutes, then fold in {food}.",
        "At the market {food} costs ${2-9} in {month} and ${10-19} in {month}.",
        "Taste it: more {food} makes it {taste}, more {food} makes it {taste}.",
        "Readers asked whether {dish} freezes well; with {food} it does.",
        "Heat the oven to {150-230} degrees and grease a {tool} with {food}.",
    ),
    "sport": (
        "{team} beat {team} {2-6} to {0-1} in a {event} on {day}.",
        "{player} scored after {3-88} minutes with a {move} that {player} could not stop.",
        "The coach of {team} praised {player} for a {move} in the {event}.",
        "Fans of {team} sang for {player} long after the {event}.",
        "{player} joins {team} in {month} after {2-9} years at {team}.",
        "A {move} by {player} settled the {event} against {team}.",
        "Tickets for the {event} between {team} and {team} cost ${8-15} to ${20-60}.",
        "{team} have not won a {event} at home since {month}.",
        "{player} limped off in the {event} and misses the trip to {team}.",
        "In {season} the {team} academy sent {2-8} players to {team}.",
        "The referee waved away a {move} by {player}, to the anger of {team}.",
        "{team} travel to {team} on {day} without {player}.",
        "It was the first {event} for {player} since the injury in {month}.",
        "Rain stopped the {event} for {10-50} minutes before {player} found the net.",
        "{player} and {player} trained apart from the rest of {team} on {day}.",
        "The board of {team} wants a new stand before the {event} in {month}.",
    ),
    "travel": (
        "We reached {city} by {ride} on a {mood} {day}.",
        "The {sight} in {city} is {mood} in {month} and {mood} in {season}.",
        "From the {sight} a {ride} takes you to {city} in {20-95} minutes.",
        "Rooms near the {sight} cost ${40-90} in {month} and ${95-180} in {season}.",
        "Walk from the {sight} to the {sight} before the {mood} crowds come.",
        "In {city} we ate {dish} beside the {sight}.",
        "The {ride} to {city} was {mood}, and the view of the {sight} made up for it.",
        "Skip the {sight} on {day}; go to the {sight} instead.",
        "{city} feels {mood} after {city}, and I would return in {season}.",
        "A {mood} guide called {person} showed us the {sight}.",
        "Pack a {product} for {city}: {month} can be {mood}.",
        "We missed the {ride} and spent the {day} at the {sight}.",
        "The old road between {city} and {city} passes a {mood} {sight}.",
        "Tickets for the {sight} are ${4-12} on {day} and free in {month}.",
        "For {dish}, ask at the {sight}; for maps, ask {person}.",
        "Our {ride} left {city} at dawn, {mood} and half empty.",
    ),
    "news": (
        "The {office} will decide on {matter} in {month}.",
        "{person} of the {office} said on {day} that {matter} come first.",
        "Residents near the {sight} complained about {matter} all {season}.",
        "The plan for {matter} would cost ${2-90} million, said {person}.",
        "A petition on {matter} reached the {office} on {day}.",
        "{person} asked the {office} why {matter} were left out.",
        "After the storm in {month} the {office} closed the {sight}.",
        "The {office} and the {office} disagree about {matter}.",
        "Work on {matter} starts beside the {sight} next {season}.",
        "{person}, who lives by the {sight}, called the delay unfair.",
        "Figures from {month} show {3-80} percent support for {matter}.",
        "A {mood} meeting on {day} ended without a vote on {matter}.",
        "The {office} promised a report on {matter} before {season}.",
        "Shops around the {sight} fear {matter} will keep buyers away.",
        "{person} replaces {person} at the {office} from {month}.",
        "Police closed the road to the {sight} for {2-9} hours on {day}.",
    ),
    "shopping": (
        "This {colour} {product} is made of {stuff} and {stuff}.",
        "Our {product} was ${30-80}, now only ${10-29} until {day}.",
        "Buyers of the {product} also liked the {colour} {product}.",
        "The {stuff} handle makes the {product} light enough for {season}.",
        "Choose {colour}, {colour} or {colour}; the {product} ships on {day}.",
        "Returns of any {product} are free within {14-60} days.",
        "The {product} has a {stuff} lining and a {colour} strap.",
        "We tested the {product} through a {mood} {season} in {city}.",
        "{person} gives this {product} {3-5} stars for its {stuff} finish.",
        "Wash the {product} cold; {stuff} does not like heat.",
        "A {product} in {colour} goes well with a {product} in {stuff}.",
        "Order the {product} before {day} and save ${2-9} on a {product}.",
        "New in {month}: the {product} with {stuff} parts and a {colour} box.",
        "The old {product} was too heavy; this one of {stuff} is not.",
        "Every {product} is checked by {person} in our {city} workshop.",
        "Gift cards of ${20-90} can be spent on a {product} too.",
    ),
    "site": (
        "This site was started by {person} in {month} as a hobby.",
        "Write to {person} if a page does not load on {day}.",
        "We moved to a new server in {season}; thanks to {person} for the help.",
        "{person} and {person} read every letter that reaches us.",
        "The meeting of editors is on {day} in {city}.",
        "Old pages from {month} will be removed in {season}.",
        "Please be polite; {person} deletes rude posts every {day}.",
        "Our yearly party is at the {sight} in {city}.",
        "The newsletter comes out each {day}, edited by {person}.",
        "You can support us with ${5-50} or a {colour} {product} for the office.",
        "Passwords were reset in {month} after a {mood} week.",
        "{person} took the picture of the {sight} on the front page.",
        "Volunteers met in {city} on {day} to sort the archive.",
        "The mobile version was rewritten in {season} by {person}.",
        "We share no addresses with the {office} or anybody else.",
        "Since {month} the forum rules are kept by {person}.",
    ),
}
_TITLES: dict[str, tuple[str, ...]] = {
    "cooking": ("{dish} with {food}", "A {taste} {dish} for {season}", "How I cook {dish} on a {day}"),
    "sport": ("{team} against {team}: {player} decides it", "{player} leaves {team}", "Before the {event}: {team} in {month}"),
    "travel": ("Three days in {city}", "{city} by {ride}", "The {sight} of {city} in {season}"),
    "news": ("{office} to vote on {matter}", "{matter}: {person} answers", "What {month} brings for {matter}"),
    "shopping": ("{colour} {product}, {stuff}", "Sale in {month}: {product}", "Which {product} for {season}?"),
    "site": ("About us", "News from {month}", "A note from {person}"),
}
TOPICS = ("cooking", "sport", "travel", "news", "shopping")
"""Topics of sites without mathematics. `site` pages are about the site itself."""

_SENTENCES = (9, 16)
_PARAGRAPH = (2, 4)


def topic_document(topic: str, rng: random.Random) -> Document:
    """A page on `topic` (one of `TOPICS`, or "site")."""
    title = _fill(rng.choice(_TITLES[topic]), rng)
    count = rng.randint(*_SENTENCES)
    sentences = [_fill(template, rng) for template in rng.sample(_TEMPLATES[topic], count)]
    sentences += [_fill(template, rng) for template in rng.sample(_TEMPLATES[topic], rng.randint(2, 6))]
    blocks: list[Block] = []
    while sentences:
        size = rng.randint(*_PARAGRAPH)
        blocks.append(Paragraph.of(" ".join(sentences[:size])))
        sentences = sentences[size:]
    if len(blocks) > 3:
        blocks.insert(len(blocks) // 2, Heading(_fill("More for {season}", rng)))
    return Document(title[0].upper() + title[1:], tuple(blocks))


def _fill(template: str, rng: random.Random) -> str:
    def choose(slot: re.Match[str]) -> str:
        return str(rng.randint(int(slot[1]), int(slot[2]))) if slot[1] else rng.choice(_LISTS[slot[3]])

    filled = _SLOT.sub(choose, template)
    return filled[0].upper() + filled[1:]
