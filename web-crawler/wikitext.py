"""Wikitext of Korean Wikipedia to lines of plain text: `to_text(wikitext)`.

A page goes through four steps, each linear in its length:

1. `strip_tags`    comments, formulas, notes and tags go by regular expressions: most of what is
                   dropped stands between tags.
2. `sections`      headings part the page; sections that never hold prose (각주 ...) go unread.
3. `expand`        mwparserfromhell's tokenizer finds templates and links, however nested, and one
                   stack puts in their place the text that the tables give. Its tree is not built:
                   that would take twice as long as all the rest.
4. `tidy`          entities, list marks and broken markup; then sentences that lack a word.

wikinames.py says what becomes of which name, formulas.py what a formula says, and holes.py what
becomes of a sentence that lost a word.
"""

import html
import html.entities
import re
from collections.abc import Callable, Iterator

import wikinames as names
from formulas import say
from holes import ADDRESS, FORMULA, GAP, HOLE, LOST, mend
from mwparserfromhell.parser import Parser, tokens
from wikinames import words

# Like those of holes.py, characters that no page holds. LESS is a < that begins no tag, BOX a
# template that looks like a box: it lacks nothing where it stands alone on a line.
BAR, EQUALS, LESS, AND, BOX = "\x03\x04\x05\x06\x11"
UNMATCHED = {"{{": "\x07", "[[": "\x08"}

# ---- 1. Tags -------------------------------------------------------------------------------------
# Tags that go with what they hold: those that lack nothing, and those that may have said a word.
SILENT_TAGS = words("""
    references gallery templatedata mapframe maplink categorytree inputbox indicator includeonly
    table templatestyles style script""")
LOST_TAGS = words("syntaxhighlight source pre timeline score imagemap hiero graph phonos")
# Tags that end a line, and tags that only go; <br> becomes a blank.
BLOCK_TAGS = words("div p blockquote poem center ul ol li dl dt dd hr h1 h2 h3 h4 h5 h6 section")
INLINE_TAGS = words("""
    b i u s em strong big small sub sup span font tt code kbd var samp cite abbr q del ins
    strike mark bdi bdo time dfn wbr ruby rb noinclude onlyinclude nowiki data link meta tr td
    th caption tbody thead tfoot colgroup col br math chem ce ref a nobr acronym img label blink
    marquee centre""")
CODE_TAGS = words("code tt kbd samp var")
FORMULA_TAGS = words("math chem ce")

# Hyphens and blanks that show nothing, marks of the direction of letters.
UNSEEN = "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
INVISIBLE = re.compile(f"[\x00-\x08\x0b-\x1f{UNSEEN}]")
INVISIBLE_ENTITY = re.compile(f"[{UNSEEN}]")

# What stands between the name of a tag and its >, which may stand in a quoted value, too. No words
# but attributes: a<b && c>d is no tag, nor is the title <P.S. 안녕>.
VALUES = r"""(?:[^<>"']*(?:(?:"[^"<]*"|'[^'<]*')[^<>"']*)*|[^<>]*)"""
BARE = ("chem|line|inline|nowrap|reversed|compact|noshade|clear|raw|class|style|center|left|right"
        "|align")
ATTRIBUTES = (r"(?:\s*[/\\]?\s*|\s*[\"';/](?![A-Za-z가-힣])" + VALUES
              + r"|\s+(?:[\w:.-]+\s*=(?!=)|(?:" + BARE + r")(?=[\s/>]))" + VALUES + ")>")


def one_of(tags: list[str]) -> str:
    """A pattern of the names of tags, none of which goes on as another word."""
    return f"(?:{'|'.join(tags)})(?![\\w.-])"


def held(tags: list[str]) -> str:
    """A pattern of such tags and what they hold, up to the first tag of the same name.

    The < before is not in the pattern: several that begin with the same sign are found fast.
    """
    return (rf"(?P<tag>{'|'.join(tags)})(?![\w.-])(?P<attributes>{ATTRIBUTES})"
            rf"(?P<text>[^<]*(?:<(?!/?(?P=tag)\b)[^<]*)*)"
            rf"</(?P=tag)(?![\w.-])\s*>?")  # fmt: skip


def tag(tags: list[str]) -> str:
    """A pattern of such tags without their <; those at an end may lack the >."""
    return (rf"(?:/\s*(?:{'|'.join(tags)})(?![a-z0-9.-])(?:{ATTRIBUTES})?"
            rf"|\s?{one_of(tags)}{ATTRIBUTES})")  # fmt: skip


# Whichever of these begins first hides the others.
OPAQUE = re.compile(
    rf"<(?:!--.*?(?:-->|\Z)|{held(words('nowiki syntaxhighlight source pre') + FORMULA_TAGS)})",
    re.I | re.S)  # fmt: skip
CODE = re.compile(f"<{held(CODE_TAGS)}", re.I)
TITLE = re.compile(r"<([A-Z]+[a-z]*)>")
DROPPED = re.compile(
    rf"<(?:{one_of(SILENT_TAGS + LOST_TAGS)}[^<>]*/>|{held(SILENT_TAGS + LOST_TAGS)})", re.I)
UNCLOSED = re.compile(
    rf"<{one_of(FORMULA_TAGS + words('syntaxhighlight'))}{ATTRIBUTES}[^\n]*"
    rf"|^[ \t*:#]*<{one_of(['gallery'])}{ATTRIBUTES}[ \t]*$", re.I | re.M)
READING = re.compile(r"<(?:rt|rp|rtc)\b[^<>]*>[^<]*(?:</(?:rt|rp|rtc)\s*>)?", re.I)  # of <ruby>
POWER = re.compile(  # 10<sup>3</sup> is not 103, nor 2<sup>''n''</sup> 2n; but 1<sup>st</sup>
    r"(?:(?<=\d)|(?<=[\dA-Za-z']\)))((?:'|\]\]|</(?:sub|i|b|small|span)>)*) ?<sup\b[^<>]*>"
    r"(?:\s|&nbsp;|<(?:small|b|i|span)\b[^<>]*>)*"
    r"(?=(?:''+)?(?:[\d−–-]|\+\d|&minus;|&ndash;|&#8722;)|''[a-zπ]|\[\[(?:[^\[\]|]*\|)?[\d−-]"
    r"|\{\{(?:s?frac|분수|math|mvar|수학)\||(?![aeor]</)[a-z](?:[-+−]\d+)?</sup)", re.I)
BASE = re.compile(r"(?<=\d)<sub\b[^<>]*>(?=\d+</sub)", re.I)  # 1010<sub>2</sub> is not 10102
# <sup>235</sup><sub>92</sub>U is not 23592U; x<sup>2</sup><sub>0</sub> is x0^2. In either way of
# writing, and in either order.
ABOVE = r"(?:<sup\b[^<>]*>|\{\{(?:sup|위 ?첨자)\|)([^<>{}|\n]*)(?:</sup\s*>|\}\})"
BELOW = r"(?:<sub\b[^<>]*>|\{\{(?:sub|아래 ?첨자)\|)([^<>{}|\n]*)(?:</sub\s*>|\}\})"
BOTH = re.compile(rf"{ABOVE} ?{BELOW}(?P<letter>(?:\[\[|''+)?[A-Za-z])?|{BELOW} ?{ABOVE}", re.I)
AFTER_NUMBER = re.compile(r"(?<=\d)</su[bp]\s*>(?=\d)", re.I)  # 2<sup>10</sup>3 is not 2^103
# 5{{frac|1|2}} is not 51/2.  What begins with a plain sign is found fast.
MIXED_TEMPLATE = re.compile(r"\{\{(?<=\d\{\{)(?=(?:s?frac|분수)\|)", re.I)
MIXED_TAGS = re.compile(r"<(?<=\d<)sup>(\d+)</sup>[/⁄]<sub>(\d+)</sub>", re.I)
# BASE and AFTER_NUMBER in the other way of writing.
BASE_TEMPLATE = re.compile(r"\{\{(?<=\d\{\{)(?=(?:sub|아래 ?첨자)\|\d+\}\})", re.I)
AFTER_TEMPLATE = re.compile(r"(\{\{(?:su[bp]|(?:위|아래) ?첨자)\|[^{}|\n]*\d\}\})(?=\d)", re.I)
ROW_SIGNS = re.compile(r"\A[ \t]*[|!]+")
LINE_SIGNS = re.compile(r"\A[ \t]*[|!*#:;=-]+")
INLINE = re.compile(r"\binline\b|\benclose\s*=\W*none", re.I)
BREAK = re.compile(rf"</?\s*br(?![\w-])(?:{ATTRIBUTES}|[ /\\.]*>?)", re.I)
BLOCK = re.compile(f"<{tag(BLOCK_TAGS)}[ \\t]*", re.I)
TAGS = INLINE_TAGS + BLOCK_TAGS + SILENT_TAGS + LOST_TAGS
TAG = re.compile(f"<{tag(TAGS)}", re.I)
# <Big> may be a title; these are written so by a phone's keyboard, and without an end, more often.
TITLES = set(TAGS) - set(words("""
    br hr p li dd dt tr td th wbr ref references nowiki div span center font small sub sup ul ol
    table gallery math noinclude onlyinclude includeonly blockquote"""))


def strip_tags(text: str) -> str:
    """The text without comments and tags, and without what the dropped ones hold."""
    text = MIXED_TEMPLATE.sub(" {{", text)
    text = AFTER_TEMPLATE.sub(r"\1 ", BASE_TEMPLATE.sub("_{{", text))
    if any(word in text for word in ("sup", "Sup", "SUP", "첨자")):
        text = BOTH.sub(both, text)
    if "<" not in text:
        return text
    page, text = text, OPAQUE.sub(opaque, text)
    if TITLE.search(text):
        text = TITLE.sub(title_or_tag(page), text)
    text = drop_notes(CODE.sub(code, text))
    if "<" not in text:
        return text
    for _ in range(4):  # once for what is nested in itself
        text, count = DROPPED.subn(
            lambda found: LOST if (found["tag"] or "").lower() in LOST_TAGS else GAP, text)
        if not count:
            break
    text = UNCLOSED.sub(HOLE, text)
    if "<su" in text or "<SU" in text:
        text = MIXED_TAGS.sub(r" \1/\2", text)
        text = BASE.sub("_", POWER.sub(r"\1^", text))
        text = AFTER_NUMBER.sub(" ", text)
    text = BREAK.sub(" ", READING.sub("", text))
    return TAG.sub("", BLOCK.sub("\n", text)).replace("<", LESS)


def both(match: re.Match[str]) -> str:
    """What becomes of a number above and one below at the same place: a hole without a base."""
    above, below, letter = match[1], match[2], match["letter"] or ""
    before = match.string[max(0, match.start() - 1) : match.start()]
    based = re.match(r"[\w)\]}'’]", before) and not letter
    if not re.search(r"\d", match[0]) or (based and above is None):
        return match[0]
    if not based:
        return HOLE + letter
    parted = (before + below[:1]).isdigit()  # 10<sup>3</sup><sub>2</sub> is not 102^3
    return f"{'_' if parted else ''}{below}^{above}"


def opaque(match: re.Match[str]) -> str:
    """What becomes of a comment, a <nowiki>, a formula or a listing."""
    name, text = (match["tag"] or "").lower(), match["text"]
    if not name:
        return ""
    if name in FORMULA_TAGS:
        return formula(match["attributes"], text)
    inline = "\n" not in text and INLINE.search(match["attributes"])
    return as_text(text) if inline or name == "nowiki" else LOST


def as_text(text: str) -> str:
    """The text with its signs as entities, so that no later step takes them for markup.

    Entities stay as they are: none begins with a semicolon, but a line of a list does.
    """
    return re.sub(r"^;|[^\w\s&;,.]", lambda sign: f"&#{ord(sign[0])};", text, flags=re.M)


def no_row(text: str) -> str:
    """The text of a template or a link: a bar at its beginning opens no row of a table."""
    return ROW_SIGNS.sub(lambda signs: as_text(signs[0]), text)


def no_mark(text: str) -> str:
    """The text of a tag or a heading: no sign at its beginning makes a row, a list or a rule."""
    return LINE_SIGNS.sub(lambda signs: as_text(signs[0]), text)


def formula(attributes: str, tex: str) -> str:
    """A <math> as text if letters and signs can say it, or else a hole; a display on a line."""
    text = say(tex)
    shown = HOLE if text is None else FORMULA + as_text(text.replace("&", "&amp;")) + FORMULA
    return f"\n{shown}\n" if re.search(r"display\s*=\W*block", attributes, re.I) else shown


def title_or_tag(page: str) -> Callable[[re.Match[str]], str]:
    """What becomes of <Big>: a title if no tag of this page ends it."""
    titles = TITLES - {name.lower() for name in re.findall("</([A-Za-z]+)", page)}
    return lambda found: LESS + found[0][1:] if found[1].lower() in titles else found[0]


def code(match: re.Match[str]) -> str:
    """What <code> holds: only those tags are tags that it ends itself. A listing of lines goes."""
    text = match["text"]
    if "\n" in text.strip():
        return LOST
    text = no_mark(text)
    if "<" not in text:
        return text
    lowered = text.lower()
    pieces, start = [], 0
    for tag in TAG.finditer(text):
        name = re.split(r"[\s/>]", tag[0].lower().lstrip("</ "))[0]
        if name in ("br", "wbr", "nowiki") or (f"<{name}" in lowered and f"</{name}" in lowered):
            pieces += [text[start : tag.start()].replace("<", "&lt;"), tag[0]]
            start = tag.end()
    return "".join([*pieces, text[start:].replace("<", "&lt;")])


# ---- 2. Notes ------------------------------------------------------------------------------------
# A <ref> as people write it: with a bracket too few, with the same tag at both ends, never closed.
NOTE = re.compile(
    r"<(?:(?P<end>\s*[/\\]+\s*(?:ref|refs|rf|re|erf)(?![a-z.-])(?:\s+name\s*=[^<>\n]*(?=>))?"
    r"(?:\s*/?\s*>)?)"
    r"|ref(?=[\s/<>\"'=]|name|$)(?P<values>" + VALUES.replace("[^<>]*)", r"[^<>\n]*\n?[^<>\n]*)>")
    + r"|\s+name\s*=\s*(?:\"[^\"<\n]*\"|[^\s/<>\"]+)\s*/|[^<>\n]*))", re.I)  # fmt: skip
END_WITHOUT_BRACKET = re.compile(r"/ref>(?<!</ref>)")
START_WITHOUT_BRACKET = re.compile(r"ref(?<![<\w/\\-]ref)((?:\s+name=[^<>\n]{0,200})?)>")


def drop_notes(text: str) -> str:
    """The text without its notes; one that is never closed takes the rest of its line."""
    if text.count("/ref>") != text.count("</ref>"):
        text = END_WITHOUT_BRACKET.sub("</ref>", text)
    if text.count("ref>") > text.count("</ref>") + text.count("<ref>"):
        text = START_WITHOUT_BRACKET.sub(r"<ref\1>", text)
    marks = list(NOTE.finditer(text))
    if not marks:
        return text
    kept: list[str] = []
    start = 0  # where prose goes on
    opened: re.Match[str] | None = None  # the tag that begins the present note
    nested, ended_line = 0, False
    for place, mark in enumerate(marks):
        kind = kind_of_note(mark)
        if opened is not None:
            between = text[marks[place - 1].end() : mark.start()]
            ended_line = ended_line or "\n" in between
            if "\n=" in between or (kind == "start" and ended_line):
                start, opened = unclosed_end(text, opened), None
        if opened is None:
            kept.append(text[start : mark.start()])
            start = mark.end()
            if kind != "end":
                kept.append(GAP)
            if kind == "start":
                opened, nested, ended_line = mark, 0, False
            continue
        if kind == "start" and between.strip():
            following = [kind_of_note(other) for other in marks[place + 1 : place + 3]]
            if following[:1] == ["end"] and "\n" not in text[mark.end() : marks[place + 1].start()]:
                nested += following == ["end", "end"]
                continue
            kind = "end"  # <ref>책<ref>
        if kind == "end" or (kind == "whole" and not mark["values"].strip(" />")):
            if nested:
                nested -= 1
            else:
                start, opened = mark.end(), None
    if opened is not None:
        start = unclosed_end(text, opened)
    return "".join([*kept, text[start:]])


def unclosed_end(text: str, note: re.Match[str]) -> int:
    """Where the text of a note that is never closed ends: with its line.

    A name and a blank after it are <ref name=a/> without the slash: prose goes on there.
    """
    values, following = note["values"], text[note.end() : note.end() + 1]
    if values.endswith(">") and "name" in values and following.isspace():
        return note.end()
    end = text.find("\n", note.end())
    return len(text) if end < 0 else end


def kind_of_note(mark: re.Match[str]) -> str:
    """start, end, or whole for <ref name=a/>."""
    if mark["end"]:
        return "end"
    return "whole" if mark["values"].rstrip("> ").endswith("/") else "start"


# ---- 3. Sections ---------------------------------------------------------------------------------
FILE_OR_CATEGORY = "(?:파일|그림|file|image|분류|category) ?:"
# What may follow a heading: an anchor, a picture or a category. Each may hold another.
TEMPLATE_BEHIND = r"\{\{(?:[^{}\n]|\{\{[^{}\n]*\}\})*\}\}"
LINK_BEHIND = rf"\[\[{FILE_OR_CATEGORY}(?:[^\[\]\n]|\[\[[^\[\]\n]*\]\])*\]\]"
HEADING = re.compile(
    rf"^(={{1,6}})(.+?)\1(?:[ \t{GAP}{LOST}]|{TEMPLATE_BEHIND}|{LINK_BEHIND})*$", re.I | re.M)
TITLE_PARTS = re.compile(r" 및 |(?<=[가-힣])[와과] | ?[·,/] ?")  # 각주 및 출처


def sections(text: str) -> Iterator[tuple[int, str, str]]:
    """(level, title, body) of every section that may hold prose; the lead has level 0, no title."""
    parts = HEADING.split(text)
    yield 0, "", parts[0]
    dropped = 7  # the level of the dropped section we are in, 7 for none
    for marks, title, body in zip(parts[1::3], parts[2::3], parts[3::3]):
        level = len(marks)
        if level > dropped:
            continue
        title = " ".join(lines_of(no_mark(title.strip())))
        named = TITLE_PARTS.split(title.strip(" *#:;.<>■▶"))
        known = all("".join(name.split()) in names.DROPPED_SECTIONS for name in named)
        dropped = level if known else 7
        if dropped == 7:
            yield level, title, body


def to_text(wikitext: str) -> list[str]:
    """Wikitext of one article -> list of str: its paragraphs, headings and list items, a line each.

    Lines are never blank, and hold no markup but tags that the page spells with entities. Headings
    without any text below them are left out. Any text is taken, without an error.
    """
    lines = []
    headings: list[tuple[int, str]] = []  # above the present section, that await their first line
    for level, title, body in sections(strip_tags(INVISIBLE.sub("", wikitext))):
        headings = [heading for heading in headings if heading[0] < level]
        headings.append((level, title))
        if found := lines_of(body):
            lines += [title for _, title in headings if title] + found
            headings = []
    return lines


# ---- 4. Templates --------------------------------------------------------------------------------
FIELD = re.compile(r"\{(\w+)\}")
Arguments = dict[str, str]  # {"1": the first without a name, "name": a named one}


def template(inner: str) -> str:
    """The text in place of a template, from its name and arguments as `expand` joins them."""
    head, *parts = inner.split(BAR)
    head = " ".join(head.replace("_", " ").split())
    while (modifier := head.partition(":"))[1] and modifier[0].lower() in names.MODIFIERS:
        head = modifier[2].strip()
    name = head.lower()
    if name in names.SIGNS:
        return names.SIGNS[name]
    text = function(head, parts)
    if text is not None:
        return text
    arguments: Arguments = {}
    position = 0
    for part in parts:
        key, equals, value = part.partition(EQUALS)
        if not equals:
            position += 1
            key, value = str(position), key
        arguments[key.strip()] = value.strip()
    if name == "llang" or name.startswith("lang-"):
        return in_language(name, arguments)
    rule = names.TEMPLATES.get(name)
    if rule is None:
        if head in names.COUNTRIES and len(inner) < 40:
            return names.COUNTRIES[head]
        return GAP if is_note(name) else BOX if is_box(name, inner, arguments) else LOST
    if not any(arguments.values()):
        return LOST
    text = FIELD.sub(lambda field: value_of(field[1], arguments), rule)
    return text.strip(" ") or LOST


def is_note(name: str) -> bool:
    """Whether a template lacks nothing wherever it stood: a note."""
    return name in names.NOTES or name.rstrip("0123456789 ") in names.NOTES


def is_box(name: str, inner: str, arguments: Arguments) -> bool:
    """Whether a template that is in no table looks like a box, which stands alone on its line."""
    if "\n" in inner or (arguments and "1" not in arguments):
        return True
    name = name.rstrip("0123456789 ")
    return " " in name and name.split()[-1] in names.BOX_ENDINGS


def function(head: str, parts: list[str]) -> str | None:
    """The text of a parser function or a variable, or None if the name is that of a template."""
    name, colon, value = head.partition(":")
    hashed = name.startswith("#")
    name, value = name.lstrip("#").strip().lower(), value.strip()
    if hashed and name in ("tag", "태그"):
        if value.lower() not in TAGS:
            return GAP
        text = parts[0].replace(EQUALS, "=") if parts else ""
        return strip_tags(f"<{value}>{text}</{value}>")
    if name in names.VARIABLES:
        return HOLE
    if colon and name in ("formatnum", "수형식"):
        return value.replace(",", "") if parts else group_digits(value)
    if colon and name in names.CASES:
        return names.CASES[name](value)
    if colon and name in names.PARTICLES and re.search("[가-힣]$", value):
        return value + names.PARTICLES[name].split("/")[(ord(value[-1]) - 0xAC00) % 28 == 0]
    if hashed and name in ("language", "언어"):
        return names.LANGUAGES.get(value.lower(), HOLE)
    if hashed:
        return LOST if name in names.CONDITIONS else HOLE
    return None


def value_of(field: str, arguments: Arguments) -> str:
    """What stands in a rule for {field}: an argument, or what is made of several."""
    return FIELDS[field](arguments) if field in FIELDS else arguments.get(field, "")


def positional(arguments: Arguments) -> list[str]:
    """The arguments without names, as far as none is missing, list of str."""
    values: list[str] = []
    while (key := str(len(values) + 1)) in arguments:
        values.append(arguments[key])
    return values


def in_language(name: str, arguments: Arguments) -> str:
    """{{llang|en|text}} or {{lang-en|text}} -> "영어: text"; {{llang|글}} -> 글."""
    if name == "llang":
        code, text = arguments.get("1", ""), second(arguments)
    else:
        code, text = name[5:], arguments.get("1", "")
    language = names.LANGUAGES.get(code.lower())
    return f"{language}: {text}" if text and language else text or LOST


def second(arguments: Arguments) -> str:
    """The second argument; the first if it is alone, and no code of a language or a color."""
    first = arguments.get("1", "")
    return arguments.get("2", "") or (first if re.search(r"[^\x00-\x7f]", first) else "")


def group_digits(number: str) -> str:
    """1234567.5 -> 1,234,567.5; what is no number comes back as it was."""
    whole, point, rest = number.partition(".")
    if re.fullmatch(r"[-+−]?\d{1,30}", whole):
        whole = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", whole)
    return whole + point + rest


def date(arguments: Arguments) -> str:
    """{{...|1924|10|01}} -> 1924년 10월 1일, as much as is given; {{...|1924년 10월}} stays."""
    parts = [(re.sub(r"(?<!\d)0+(?=\d)", "", arguments[key]), unit)
             for key, unit in zip("123", "년월일") if arguments.get(key)]
    return " ".join(part + unit if re.fullmatch(rf"\D*\d+{GAP}*", part) else part
                    for part, unit in parts)  # fmt: skip


def measure(arguments: Arguments) -> str:
    """{{convert|30|m|ft}} -> 30 m: the numbers and the unit given, not what they are in others.

    {{convert|10|-|20|km2}} -> 10~20 km², {{convert|5|ft|6|in|cm}} -> 5 ft 6 in.
    """
    values = positional(arguments)
    texts: list[str] = []
    units: list[str] = []
    while values:
        amount = values.pop(0)
        while len(values) > 1 and values[0] in names.BETWEEN:
            amount += names.BETWEEN[values.pop(0)] + values.pop(0)
        unit = values.pop(0) if values else ""
        if power := re.fullmatch(r"e(\d+)(\D.*)", unit):
            amount, unit = f"{amount}×10^{power[1]}", power[2]
        amount = re.sub(r"(?<=\d)\+(?=\d+/\d)", " ", amount).replace("//", "/")
        texts.append(f"{amount} {names.UNITS.get(unit, unit)}".rstrip())
        units.append(unit)
        if len(values) < 2 or (unit, values[1]) not in names.COMPOUND_UNITS:
            break
    return " ".join(texts)


def height(arguments: Arguments) -> str:
    """{{height|ft=5|in=6}} -> 5 ft 6 in."""
    found = [f"{arguments[unit]} {unit}" for unit in ("m", "cm", "ft", "in") if arguments.get(unit)]
    return " ".join(found) or arguments.get("1", "")


def quantity(arguments: Arguments) -> str:
    """{{val|1.5|0.1|e=6|u=m}} -> 1.5±0.1×10^6 m, {{val|12|4|5}} -> 12 (+4, −5); HOLE for others."""
    if arguments.keys() - names.QUANTITY:
        return HOLE
    amount, error, low, power = (arguments.get(key, "") for key in ("1", "2", "3", "e"))
    unit = arguments.get("u") or arguments.get("ul") or ""
    below = arguments.get("up") or arguments.get("upl") or ""
    if error in names.BETWEEN:
        error = names.BETWEEN[error] + low
    elif low:
        error = f" (+{error.lstrip('+')}, −{low.lstrip('-−')})"
    elif error:
        error = error if error.startswith("(") else "±" + error
    said = f"{arguments.get('p', '')}{amount}{error}{power and '×10^' + power}"
    return f"{said}{arguments.get('s', '')} {unit}{below and '/' + below}"


def fraction(arguments: Arguments) -> str:
    """{{frac|2}} -> 1/2, {{frac|2|3}} -> 2/3, {{frac|1|2|3}} -> 1 2/3."""
    values = positional(arguments)
    if len(values) == 1:
        return f"1/{values[0]}"
    return " ".join([*values[:-2], "/".join(values[-2:])])


def chemical(arguments: Arguments) -> str:
    """{{chem|SO|4|2-}} -> SO4^2-; HOLE for {{chem|235|92|U}}: both numbers would be one."""
    text = ""
    for value in positional(arguments):
        if text[-1:].isdigit() and re.match(r"[\d+−-]", value):
            if not re.search(r"[A-Za-z)\]]\d+$", text):
                return HOLE
            text += "^"
        text += value
    return text


def japanese(arguments: Arguments) -> str:
    """{{nihongo|가람|川}} -> 가람(川)."""
    first, written = arguments.get("1", ""), arguments.get("2", "")
    return f"{first}({written})" if written else first


def quotation(arguments: Arguments) -> str:
    """The text of a quotation, without who said it."""
    first = "2" if arguments.get("1", "") in ("left", "right", "center", "왼쪽", "오른쪽") else "1"
    keys = (first, *words("quote text 내용 인용 인용문 글 본문 quotetext"))
    return next((arguments[key] for key in keys if arguments.get(key)), "")


def country(arguments: Arguments) -> str:
    """The name of a country, from it or its code."""
    first = arguments.get("1", "")
    return names.COUNTRIES.get(first, first)


FIELDS: dict[str, Callable[[Arguments], str]] = {
    "date": date, "measure": measure, "height": height, "quantity": quantity,
    "fraction": fraction, "quotation": quotation, "country": country, "second": second,
    "chemical": chemical, "japanese": japanese,
    "last": lambda arguments: (positional(arguments) or [""])[-1],
    "joined": lambda arguments: "".join(positional(arguments)),
    "keys": lambda arguments: "+".join(filter(None, positional(arguments))),
}  # fmt: skip

# ---- 5. Links ------------------------------------------------------------------------------------
PREFIXES = names.DROPPED_LINKS | names.NAMESPACES | names.LANGUAGE_CODES | {""}
# Prefixes of other projects: small letters, and no blank after the colon. [[wikt:가]]
PROJECT = re.compile(r"[a-zé][a-z0-9é_-]*:(?! )")
ANCHOR = re.compile(rf"(?<![&{AND}])#(?!$)")  # L&#39;Arc and C# have none
THUMBNAIL = re.compile(r"섬네일|썸네일|축소판|thumb|프레임|frame")


def split_prefix(target: str) -> tuple[str, str, str]:
    """(prefix, colon, rest) of the target of a link; blanks may stand before the colon."""
    prefix, colon, rest = target.partition(":")
    return prefix.replace("_", " ").strip().lower(), colon, rest


def link(inner: str) -> str:
    """The text in place of [[target|label]], from both as `expand` joins them."""
    target, bar, label = inner.partition(BAR)
    prefix, colon, rest = split_prefix(target.strip())
    if colon and (prefix in names.DROPPED_LINKS or prefix in names.LANGUAGE_CODES):
        inline = prefix in ("파일", "그림", "file", "image") and not THUMBNAIL.search(label)
        return LOST if inline else GAP
    label = label.lstrip("|")  # [[가||나]] is a slip
    if label.strip():
        return label
    target = target.strip()
    while colon and (is_prefix(prefix) or PROJECT.match(target)):
        target = rest.strip()
        prefix, colon, rest = split_prefix(target)
    page, *part = ANCHOR.split(target, 1)
    page = page or "".join(part)
    return re.sub(r" ?\([^()]*\)$", "", page) if bar else page


def is_prefix(name: str) -> bool:
    """Whether a name before a colon is a namespace, its talk or a language, no part of a title."""
    return name.removesuffix(" talk").removesuffix("토론") in PREFIXES


# ---- 6. The tokenizer ----------------------------------------------------------------------------
OPEN = {tokens.TemplateOpen, tokens.WikilinkOpen, tokens.ArgumentOpen, tokens.ExternalLinkOpen}
MIDDLE = {tokens.TemplateParamSeparator: BAR, tokens.WikilinkSeparator: BAR,
          tokens.ArgumentSeparator: BAR, tokens.ExternalLinkSeparator: BAR,
          tokens.TemplateParamEquals: EQUALS}  # fmt: skip
CLOSE = {tokens.TemplateClose: template, tokens.WikilinkClose: link,
         tokens.ArgumentClose: lambda inner: GAP,
         tokens.ExternalLinkClose: lambda inner: inner.partition(BAR)[2] or inner.rstrip(BAR)}

BRACKETS = re.compile(r"\{\{|\}\}|\[\[|\]\]")
NO_BRACKET = r"[^\[\]\n]"
IN_A_LINK = re.compile(  # [[가|나[다]]]
    rf"(\[\[{NO_BRACKET}+(?:\[{NO_BRACKET}*\]{NO_BRACKET}*)*)\[({NO_BRACKET}+)\](?=\]\])")
# One bracket too few, at either end; no longer than a line, so the time stays linear.
TOO_FEW = [
    (re.compile(r"\[\[([^\[\]\n]{1,200})\](?!\])"), r"[[\1]]"),
    (re.compile(r"\[(?<!\[\[)(?!\w+://|//|mailto:)([^\[\]\n]{1,200})\]\](?!\])"), r"[[\1]]"),
    (re.compile(r"\{\{([^{}\n]{1,200})\}(?!\})"), r"{{\1}}"),
    (re.compile(r"\{(?<!\{\{)([^{}|\n]{1,50}\|[^{}\n]{1,200})\}\}(?!\})"), r"{{\1}}"),
]


def hide_unmatched(text: str) -> str:
    """A mark for every {{ and [[ that is never closed: they cost the tokenizer quadratic time."""
    opened, unmatched, pieces, start = [], [], [], 0
    count = {"{{": 0, "[[": 0}  # in opened
    for bracket in BRACKETS.finditer(text):
        opener = {"}}": "{{", "]]": "[["}.get(bracket[0])
        if not opener:
            opened.append(bracket)
            count[bracket[0]] += 1
        elif count[opener]:
            while (last := opened.pop())[0] != opener:
                unmatched.append(last)
                count[last[0]] -= 1
            count[opener] -= 1
    for bracket in sorted(unmatched + opened, key=re.Match.start):
        pieces += [text[start : bracket.start()], UNMATCHED[bracket[0]]]
        start = bracket.end()
    return "".join([*pieces, text[start:]])


def expand(text: str) -> str:
    """The text with every template and link replaced by what it says, the innermost first."""
    out: list[str] = []  # pieces of the innermost open construct
    outer: list[list[str]] = []  # those of the ones around it
    tokenizer = Parser()._tokenizer  # that of C, where it could be built
    equals = ""  # around the present heading; a line of text may look like one: = 2×3 = 6
    found = iter(tokenizer.tokenize(hide_unmatched(text).replace("&", AND), 0, True))
    for token in found:
        kind = type(token)
        if kind is tokens.Text:
            out.append(token["text"])
        elif kind in MIDDLE:
            out.append(MIDDLE[kind])
        elif kind in OPEN:
            outer.append(out)
            out = []
        elif kind in CLOSE:
            inner = "".join(out)
            out = outer.pop()
            out.append(no_row(CLOSE[kind](inner)))
        elif kind in (tokens.TagOpenOpen, tokens.TagOpenClose):  # a sign that stands for a tag
            out.append(token["wiki_markup"])
            next(found)  # the name of that tag
        elif kind is tokens.HeadingStart:
            equals = "=" * token["level"]
            out.append(equals)
        elif kind is tokens.HeadingEnd:
            out.append(equals)
    text = "".join(out).replace(AND, "&")
    for bracket, mark in UNMATCHED.items():
        text = text.replace(mark, bracket)
    return text


# ---- 7. Tables, addresses, lists -----------------------------------------------------------------
TABLE_MARK = re.compile(
    r"^[ \t:*#]*(?:(?P<open>\{\|)|\|\}(?P<more>\}*)|\|[ \t]*[)\]][ \t]*$|\|[ \t]+\}[ \t]*$)", re.M)
TABLE_LEFT = re.compile(r"^([ \t:*#]*)\{\||\{\|(?:[ \t]*[a-z-]+[ \t]*=[^\n]*|[ \t]*)$", re.M)
TABLE_TEMPLATE = re.compile(r"^([ \t:*#]*)(\{?)\{\{!\}\}(\}?)", re.M)  # {{{!}} and {{!}}}
SCHEME = "(?:https?|ftps?|sftp|ircs?|git|ssh|svn|gopher|telnet|nntp|mms|redis|worldwind)"
# Of three brackets at the end, two end a link around it.
EXTERNAL = re.compile(rf"\[\[?(?:(?:{SCHEME}:)?//|mailto:)[^\s\[\]|]*"
                      r"(?:[ \t|]+((?:[^\[\]\n]|\[\[[^\[\]\n]*\]\])*))?"
                      r"\](?:\](?!\]))?")  # fmt: skip
PART = rf"(?:[^\s\[\]{{}}|\"<>{LESS}()〉》」』”’가-힣]|(?<![A-Za-z0-9)])[가-힣])"
# A host is no Hangul; what follows it may be, up to a blank.
URL = re.compile(
    rf"{SCHEME}://[^\s\[\]{{}}|\"<>{LESS}()가-힣/?#,;!]+"
    rf"(?:[/?#](?:{PART}|\({PART}*\))*(?:(?![.,;:!?]){PART}|\({PART}*\))|[/?#])?")
AROUND_ADDRESS = re.compile(rf"\[+{ADDRESS}|{LESS}{ADDRESS}>?")
# Without =, which would part the name of an argument from its value.
PLAIN_LINK = re.compile(r"\[\[([^\[\]{}|:#=\n]+)(?:\|([^\[\]{}|=\n]+))?\]\]")
SWITCH = re.compile(rf"__(?:[가-힣]+|{'|'.join(names.SWITCHES)})__", re.I)
DEFINITION = re.compile(r"^;[ \t]*([^\n:]*) :[ \t]", re.M)  # "; term : its meaning" on one line
INDENTED = re.compile(rf"^([*#:]*:[ \t]*{HOLE}[ \t]*[.,]?)[ \t]+(?=[가-힣])", re.M)
RULE = re.compile(r"^-{4,}", re.M)
BOXES_ALONE = re.compile(rf"^(?:[^\S\n]|[{GAP}{LOST}])*{BOX}(?:[^\S\n]|[{GAP}{LOST}{BOX}])*$", re.M)
BULLET = re.compile(r"^[*#:;]+[ \t]*", re.M)


def drop_tables(text: str) -> str:
    """The text without its tables, nested or not; one that never ends is left to `tidy`."""
    kept: list[str] = []
    depth, start, counted, braces = 0, 0, 0, 0
    for mark in TABLE_MARK.finditer(text):
        more = len(mark["more"] or "")
        if depth and more in (1, 3):  # |}} ends a table, or a template within it that is open
            braces += text.count("{{", counted, mark.start())
            braces -= text.count("}}", counted, mark.start())
            counted = mark.start()
        if mark["open"]:
            if not depth:
                kept.append(text[start : mark.start()])
                start, counted, braces = mark.start(), mark.end(), 0
            depth += 1
        elif depth and not (more == 1 and braces > 0):
            depth -= 1
            if not depth:
                start = mark.end() - more + more % 2
    left = "".join([*kept, text[start:]])
    return TABLE_LEFT.sub(lambda mark: "" if mark[1] is None else f"{mark[1]}|", left)


def lines_of(text: str) -> list[str]:
    """The lines of plain text of a section without its tags: list of str."""
    if "{{(!}}" in text:  # as old pages write the two ends of a table
        text = text.replace("{{(!}}", "{{{!}}").replace("{{!)}}", "{{!}}}")
    if "{{{!}}" in text:
        text = TABLE_TEMPLATE.sub(r"\1\2|\3", text)
    if "{|" in text:
        text = drop_tables(text)
    if "//" in text or "mailto:" in text:
        text = EXTERNAL.sub(lambda match: match[1] or ADDRESS, text)
        if "://" in text:
            text = URL.sub(ADDRESS, text)
        text = AROUND_ADDRESS.sub(ADDRESS, text)
    if "__" in text:
        text = SWITCH.sub("", text)
    if HOLE in text:
        text = INDENTED.sub(r"\1\n", text)
    if ";" in text:
        text = DEFINITION.sub(r"\1: ", text)
    if "----" in text:
        text = RULE.sub("", text)
    text = BULLET.sub("", text)
    text = PLAIN_LINK.sub(lambda match: match[2] or match[1], text)  # most links, ten times as fast
    if BRACKETS.search(text):
        text = IN_A_LINK.sub(r"\1&#91;\2&#93;", text)
        for pattern, whole in TOO_FEW:
            text = pattern.sub(whole, text)
        text = expand(text)
    if BOX in text:
        text = BOXES_ALONE.sub(GAP, text).replace(BOX, LOST)
    return tidy(text)


# ---- 8. Plain text -------------------------------------------------------------------------------
BROKEN_LINK = re.compile(rf"\[\[[: ]*{FILE_OR_CATEGORY}[^\n]*|\[\[(?:[^\[\]|\n]*\|)?", re.I)
# What stands in no text: rows of a table that never ends, and links to files without their [[.
# Prose may begin alike: "그림: 김철수". So a bar, a ]] or the ending of a file has to follow.
FILE_NAME = rf"{FILE_OR_CATEGORY}\S[^\n]*(?:[|]|\]\]|\.(?:jpe?g|png|svg|gif|tiff?|webp|og[gv]))"
RESIDUE = re.compile(
    rf"^(?:(?:[^\S\n]|[{GAP}{HOLE}{LOST}{ADDRESS}{{}}\[\]])*(?:[|]|! |{FILE_NAME})"
    rf"|[^\n]*(?:섬네일|썸네일|thumb)\|)[^\n]*", re.I | re.M)
# MediaWiki reads no entity without its semicolon: R&region stays.
ENTITY = re.compile(r"&(?:#(?:\d+|[xX][0-9a-fA-F]+)|[A-Za-z][A-Za-z0-9]*);")
WORDED = re.compile(r"\w")
REMNANT = re.compile(
    rf"{{{{+|}}}}+|\[\[+|\]\]+|{LESS}/?[Rr][Ee][Ff](?![A-Za-z])[^{LESS}<>\n]*>?")
# L'''Avventura''. Where apostrophes stand before these, they may end what those begin.
ELISION = re.compile(r"^([^'\n]*[A-Za-z])'''(?=[A-Za-zÀ-ÿ][^'\n]*''(?!'))", re.M)
CODE_LINES = re.compile(r"^(?:[ \t][^\n]*(?:\n|\Z))+", re.M)
CODE_SIGN = re.compile(rf"[←→─-╿=;{{}}\\_{LESS}]|[A-Za-z]\w*[\[(]|^\s*(?://|#|--|\$|>)|\+-|--")
SENTENCE = re.compile(r"\s*[\w\"'“‘《〈「『(].*[가-힣][.!?]['\"”’」』)]*\s*")


def drop_code(match: re.Match[str]) -> str:
    """Of lines that begin with a blank, as code does: code goes, sentences and verse stay."""
    lines = [line for line in match[0].split("\n") if line.strip()]
    coded = sum(1 for line in lines if CODE_SIGN.search(line) and not mostly_hangul(line))
    if 2 * coded < len(lines) or not coded:
        return match[0]
    prose = [line for line in lines if SENTENCE.fullmatch(line) and mostly_hangul(line)]
    return "".join(f"{line}\n" for line in prose)


def mostly_hangul(line: str) -> bool:
    """Whether more than half of the signs of a line are Hangul."""
    return 2 * len(re.findall("[가-힣]", line)) > len("".join(line.split()))


def tidy(text: str) -> list[str]:
    """The lines of a text whose templates and links are gone: no markup, no entities, no marks."""
    if "{{" in text or "[[" in text:
        text = BROKEN_LINK.sub("", re.sub(r"\{\{[^\n]*", HOLE, text))
    text = RESIDUE.sub("", text)  # while entities are spelt: a bar that one stands for is text
    if "''" in text:
        text = ELISION.sub(r"\1''''", text)
        text = re.sub(r"''+", lambda quotes: "'" if len(quotes[0]) == 4 else "", text)
    if "&" in text:
        text = INVISIBLE_ENTITY.sub("", ENTITY.sub(character, text))
    text = without_remnants(text)
    if "\n " in text or "\n\t" in text or text[:1] in (" ", "\t"):
        text = CODE_LINES.sub(drop_code, text)
    lines = mend(text)
    if has_remnants("\n".join(lines)) or LESS in text:
        lines = [without_remnants(line).replace(LESS, "<") for line in lines]
        lines = [" ".join(line.split()) for line in lines]
    return [line for line in lines if WORDED.search(line)]


def character(entity: re.Match[str]) -> str:
    """The sign that an entity stands for; itself if it is no name of one."""
    known = entity[0][1] == "#" or entity[0][1:] in html.entities.html5
    return html.unescape(entity[0]) if known else entity[0]


def has_remnants(text: str) -> bool:
    """Whether there may be something for `without_remnants` to do."""
    return LESS in text or "{{" in text or "}}" in text or "[[" in text or "]]" in text


def without_remnants(text: str) -> str:
    """The text without pairs of brackets and tags of <ref>, even if they come about on the way."""
    for _ in range(20):
        before = text
        if has_remnants(text):
            text = REMNANT.sub("", text)
        if text == before:
            return text
    return re.sub(rf"[\[\]{{}}{LESS}]", "", text)
