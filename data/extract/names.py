"""Recognizes blocks of web pages by their classes, ids and headings. All expressions expect lower case."""

from __future__ import annotations

import re
from functools import lru_cache


def _names(*words: str) -> re.Pattern[bytes]:
    """Matches any of the words as a whole part of a name: `share` in `post-share`, not in `shared`."""
    return re.compile(rf"(?<=[\"' =_-])(?:{'|'.join(words)})(?=[\"' >_-])".encode())


_ATTRIBUTES = re.compile(rb"""\b(?:class|id|role)\s*=\s*("[^"]*"|'[^']*'|[^\s>]+)""")
"""Values that name a block."""

_SURROUNDINGS = _names(
    # links to other pages and sites
    r"related|recommend(?:ed|ations?)?|recirc\w*|similar\w*|popular|trending|most-?read|archives?|blogroll|teasers?|flyout\w*|supplemental\w*",
    # navigation
    r"nav(?:bar|igation)?|menus?|submenu|toolbar|topbar|side-?bar\w*|rail|siderail|breadcrumbs?|paginat(?:ion|or)|pager|page-?nav\w*|search\w*",
    r"foot(?:er)?|prefooter|masthead|catlinks|hatnote|sitesub|jump-to-nav",
    # calls to action
    r"shar(?:e|ing)(?:bar|box|buttons?|daddy)?|socials?|addthis\w*|newsletter\w*|subscri(?:be|ption)\w*|sign-?up|login|log-in|register",
    r"cookies?\w*|consent|gdpr|promo(?:s|ted|tions?)?|sponsor(?:s|ed)?|advert\w*|ads|adsense|adbox|outbrain|taboola\w*|modal|popup|overlay|tooltip",
    # metadata of the text
    r"by-?line|dateline|timestamp|post-?meta|entry-?meta|metadata|author-?(?:bio|box|info|card)|signature|tags|tag-?list|tag-?cloud|rating\w*|votes?",
    r"copyright|disclaimer|noprint|no-print|hidden-print|printfooter|(?<!elementor-)widgets?|(?:video-?)?player\w*|settings",
)
"""Blocks around a text. (Elementor wraps every block of a page in "widgets".)"""

_COMMENTS = _names(r"comments|commentlist|comment-?(?:list|area|section|thread|box)s?|disqus\w*|respond|user-post|livefyre\w*")
"""Blocks of readers' comments under a text."""

POSTS = _names(
    r"post-?_?(?:body|content|message|bit|wrapper|text|element|container)|message-?(?:body|content|text)|topic-?(?:post|body)|js-post|cpost",
    r"answers?|question|t_f|pcb",
)
"""Posts of a forum, questions and answers."""

ANY_POST = re.compile(rb"comment|post|reply|answer|message|question|entry|article")
"""Part of a name that may denote a post on any site."""

_HEADINGS = (
    r"related|you (?:may|might) (?:also )?(?:like|be interested)|recommended|recommendations|what others|similar|see also:?$",
    r"more (?:from|stories|in|on|by|like|articles|posts|news)\b|most (?:popular|read|viewed|commented|shared)|trending|popular",
    r"(?:recent|latest|new(?:est)?|featured|top) (?:news|posts?|comments?|articles?|stories|topics|threads|entries|videos)",
    r"(?:from )?around the web|also on|in other news|hot network|not the answer|who is online|quick links|about the author",
    r"share (?:this|on|with|your)|sign ?up|subscribe|newsletter|follow us|navigation|menu$|categories$|archives?$|tags?\W*$",
    r"advertisement|sponsored|comments?\W*\d*\W*$|\d+ (?:comments?|responses?|thoughts?|repl(?:y|ies))",
    r"(?:leave|post|add|write) (?:a |your )?(?:reply|comment)|join the (?:conversation|discussion)",
    r"ähnliche|verwandte|mehr zum thema|lesen sie auch|articles (?:similaires|liés|associés)|à lire aussi|sur le même",
    r"artículos relacionados|noticias relacionadas|te puede interesar|leia (?:mais|também)|leggi anche|похожие|читайте также",
    r"相关|相關|関連|추천|最新|热门|熱門|推荐|推薦|人気|ランキング|留言|评论|評論",
)
ELSEWHERE = re.compile(rf"\W*(?:{'|'.join(_HEADINGS)})")
"""The start of a heading above content that does not belong to the text, in the most common languages of the web."""

# Source that may contain a formula. Each expression starts with a plain word or sign, and looks around only where that is found: a search
# for plain bytes is much faster than one for alternatives.
_BACKSLASH = re.compile(rb"\\(?:[(\[]|begin\{)")
_DOLLAR = re.compile(rb"\$(?:\$|[^$<>\n]{0,80}[\\^_=][^$<>\n]{0,80}\$)")
_MATH = re.compile(
    rb"math(?:(?<=<math)|/(?:(?<=type=math/)|(?<=type=[\"']math/))|\](?<=\[/math\])"
    rb"|(?<=[\"' ]math)(?:jax\w*|-container)?[\"' ]|(?<=[\"' ]mwe-math)\S*[\"' ])"
)
_PREFIXED_MATH = re.compile(rb"<\w+:math")
_TEX = re.compile(rb"tex(?:(?<=latex)|\](?:(?<=\[/tex\])|(?<=\[/itex\]))|[\"' ](?:(?<=[\"' ]tex.)|(?<=[\"' ]katex.)))", re.DOTALL)


def may_have_formula(source: bytes) -> bool:
    """Whether source in lower case may contain a formula, apart from MathJax's own elements."""
    return (
        (b"\\" in source and _BACKSLASH.search(source) is not None)
        or (b"$" in source and _DOLLAR.search(source) is not None)
        or _MATH.search(source) is not None
        or _TEX.search(source) is not None
        or b"codecogs" in source
        or (b":math" in source and _PREFIXED_MATH.search(source) is not None)
    )


_LONGEST_CACHED = 400
"""Bytes of a tag; longer ones are unlikely to be seen again."""


def name_of(tag: bytes) -> tuple[bytes, str | None]:
    """(class, id and role between spaces, "comments", "surroundings" or None) of a block's start tag; the name is empty if it has none."""
    return _cached_name(tag) if len(tag) <= _LONGEST_CACHED else _name_of(tag)


def _name_of(tag: bytes) -> tuple[bytes, str | None]:
    values = _ATTRIBUTES.findall(tag)
    if not values:
        return b"", None
    name = b" %s " % b" ".join(values)
    return name, "comments" if _COMMENTS.search(name) else "surroundings" if _SURROUNDINGS.search(name) else None


_cached_name = lru_cache(maxsize=20_000)(_name_of)
