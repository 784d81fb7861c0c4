"""Wikitext of Korean Wikipedia to lines of plain text: `to_text(wikitext)`.

A page goes through four steps, each linear in its length:

1. `strip_tags`    comments and tags go by regular expressions: most of what is dropped stands between tags.
2. `sections`      headings part the page; those that never hold prose (각주, 외부 링크 ...) go unread.
3. `expand`        mwparserfromhell's tokenizer finds templates and links, however nested, and one stack
                   puts in their place the text that the tables below give. Its tree is not built: that would
                   take twice as long as all the rest.
4. `tidy`          entities, list marks and broken markup; then holes are mended, `(, 1950년)` for one.

What becomes of which construct stands in the tables of section 1, and nowhere else.
"""

import html
import re
from collections.abc import Iterator

from mwparserfromhell.parser import tokens

try:
    from mwparserfromhell.parser._tokenizer import CTokenizer as Tokenizer
except ImportError:  # where its C extension could not be built
    from mwparserfromhell.parser.tokenizer import Tokenizer


def words(text: str) -> list[str]:
    """The words of a table, a list of str."""
    return text.split()


def entries(text: str) -> list[str]:
    """The entries of a table whose entries may hold blanks: what commas part, a list of str."""
    return [" ".join(entry.split()) for entry in text.split(",")]


def pairs(table: list[str]) -> dict[str, str]:
    """{a: b} of the entries a=b."""
    return dict(entry.split("=") for entry in table)


# ---- 1. Policy: what becomes of what -----------------------------------------------------------------------
# A template becomes this text, {1} its first argument, {name} a named one; case of latin letters is ignored.
# A template that is not here nor in `template` becomes nothing: boxes, citations, notices, navigation, flags.
FIRST_ARGUMENT = entries("""
    한자, hanja, ipa, 학명, ruby, 루비, 윗주, abbr, 약어, 툴팁, tooltip, unicode, 유니코드,
    ill, 임시링크, 국기나라,
    nowrap, nobr, 줄바꿈 방지, 강조, 굵게, 작게, 크게, small, big, sub, 아래 첨자, 밑줄,
    수학, math, mvar, nts, num""")
DATES = entries("""
    출생일, 출생일과 나이, birth date, 사망일, 사망일과 나이, death date, 날짜,
    시작일, 시작 날짜, start date, 종료일, 종료 날짜, end date""")
QUOTATIONS = entries("인용문, 인용문2, quote, cquote, blockquote")
TEMPLATES = {
    **dict.fromkeys(FIRST_ARGUMENT, "{1}"),
    **dict.fromkeys(DATES, "{date}"),
    **dict.fromkeys(QUOTATIONS, "\n{1}{내용}{text}\n"),
    **dict.fromkeys(["시", "poem", "columns-list"], "\n{1}\n"),
    **dict.fromkeys(["lang", "색", "color", "글씨 색"], "{2}"),
    **dict.fromkeys(["sup", "위 첨자"], "^{1}"),  # 10^3 is not 103
    **dict.fromkeys(["분수", "frac"], "{1}/{2}"),
    **dict.fromkeys(["convert", "변환"], "{measure}"),
    "val": "{quantity}",
    "문화어": "문화어: {1}",
    "nihongo": "{1}({2})",
    "·": " · ",
    "!": "|",
    "=": "=",
}
# Values only MediaWiki knows, as it knows those of {{#if: ...}}: the sentence that needs one is dropped.
VARIABLES = set(words("""
    pagename fullpagename sitename currentyear currentmonth currentday numberofarticles
    문서이름 문서수 현재연도 현재년 현재월 현재월이름 현재일 현재요일 현재시분 localyear 나이 age"""))
# {{llang|en|x}} and {{lang-en|x}}, "영어: x"; a code that is not here leaves x alone.
LANGUAGES = pairs(entries("""
    ko=한국어, ja=일본어, ain=아이누어, zh=중국어, zh-hant=중국어 정체자, zh-hans=중국어 간체자, yue=광둥어,
    mnc=만주어, mn=몽골어, bo=티베트어, ug=위구르어,
    vi=베트남어, th=태국어, lo=라오어, km=크메르어, my=버마어, id=인도네시아어, ms=말레이어, tl=타갈로그어,
    hi=힌디어, sa=산스크리트어, ur=우르두어, bn=벵골어, ta=타밀어, te=텔루구어, si=싱할라어, ne=네팔어,
    ar=아랍어, fa=페르시아어, he=히브리어, tr=튀르키예어, ka=조지아어, hy=아르메니아어, az=아제르바이잔어,
    kk=카자흐어, uz=우즈베크어, ky=키르기스어, tg=타지크어, tk=투르크멘어, akk=아카드어, egy=이집트어,
    en=영어, ang=고대 영어, de=독일어, nl=네덜란드어, sv=스웨덴어, no=노르웨이어, nb=노르웨이어, da=덴마크어,
    is=아이슬란드어, non=고대 노르드어, ga=아일랜드어, cy=웨일스어, af=아프리칸스어,
    la=라틴어, fr=프랑스어, es=스페인어, it=이탈리아어, pt=포르투갈어, ro=루마니아어, ca=카탈루냐어,
    gl=갈리시아어, eu=바스크어, el=그리스어, grc=고대 그리스어, sq=알바니아어,
    ru=러시아어, uk=우크라이나어, be=벨라루스어, pl=폴란드어, cs=체코어, sk=슬로바키아어, bg=불가리아어,
    sr=세르비아어, hr=크로아티아어, sl=슬로베니아어, mk=마케도니아어, lv=라트비아어, lt=리투아니아어,
    fi=핀란드어, et=에스토니아어, hu=헝가리어,
    sw=스와힐리어, am=암하라어, mi=마오리어, haw=하와이어, eo=에스페란토"""))
# {{convert|100|km2}}; a unit that is not here stays as it is written.
UNITS = pairs(words("""
    C=°C F=°F km2=km² m2=m² cm2=cm² mm2=mm² km3=km³ m3=m³ cm3=cm³ mm3=mm³ sqkm=km² sqm=m²
    sqmi=제곱마일 sqft=제곱피트 cuft=세제곱피트 acre=에이커"""))

# Links with these prefixes go, caption and all; so do links to the article in another language, [[en:...]].
DROPPED_LINKS = set(words("파일 그림 file image 분류 category 미디어 media 틀 template"))
# These prefixes alone go, and the rest stays; as do those after a colon, [[:분류:...]].
PREFIXES = DROPPED_LINKS | set(words("""
    w wikt s b q n v c d m commons wiktionary wikisource wikibooks wikiquote species meta voy mw
    위키낱말사전 위키문헌 위키책
    토론 사용자 사용자토론 위키백과 백 위키백과토론 파일토론 틀토론 도움말 분류토론 들머리 위키프로젝트
    프로젝트 초안 모듈 특수 특수기능
    user project wikipedia help portal special"""))
LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(-[a-z]+)*|simple")

# Tags that go with what they hold, tags that end a line, and tags that only go; <br> becomes a space.
DROPPED_TAGS = words("""
    ref references gallery syntaxhighlight source pre timeline score imagemap hiero templatedata graph
    mapframe maplink categorytree inputbox indicator includeonly table templatestyles style script""")
BLOCK_TAGS = words("div p blockquote poem center ul ol li dl dt dd hr h1 h2 h3 h4 h5 h6 section")
INLINE_TAGS = words("""
    b i u s em strong big small sub sup span font tt code kbd var samp cite abbr q del ins strike mark bdi
    bdo time dfn wbr ruby rb noinclude onlyinclude nowiki data link meta tr td th caption tbody thead br
    math chem ce""")
SWITCHES = words("""
    목차숨김 목차보임 목차 단락편집숨김 갤러리숨김 화랑숨김 새글쓰기 새글쓰기숨김 숨은분류 색인 색인거부
    넘겨주기고정 제목변환숨김 내용변환숨김
    NOTOC FORCETOC TOC NOEDITSECTION NOGALLERY NEWSECTIONLINK NONEWSECTIONLINK HIDDENCAT INDEX NOINDEX
    EXPECTUNUSEDCATEGORY STATICREDIRECT DISAMBIG NOTITLECONVERT NOTC NOCONTENTCONVERT NOCC""")

# Sections without prose: they go with their subsections. Blanks in a title do not matter.
NO_PROSE = entries("""
    같이 보기, 함께 보기, 더 보기, 관련 항목, 관련 문서,
    각주, 주석, 주해, 내용주, 미주, 출처, 출전, 인용, 인용 문헌, 각주 및 참고 문헌, 각주와 참고 문헌,
    참고, 참고 문헌, 참고 자료, 참고 서적, 참고 링크, 참고 사이트, 참고 문헌 및 각주, 참조, 참조 문헌,
    관련 서적, 관련 문헌, 더 읽을거리, 읽을거리, 추가 문헌,
    외부 링크, 외부 고리, 바깥 고리, 링크, 관련 링크, 관련 사이트, 외부 참조,
    See also, References, Notes, External links""")
DROPPED_SECTIONS = {"".join(title.split()) for title in NO_PROSE}

# <math>: these commands have a sign; a formula with any other, or with a fraction, is a hole in its sentence.
SIGNS = pairs(words("""
    times=× cdot=· pm=± le=≤ leq=≤ ge=≥ geq=≥ ne=≠ neq=≠ approx=≈ equiv=≡ to=→ rightarrow=→ infty=∞
    in=∈ subset=⊂ cup=∪ cap=∩ forall=∀ exists=∃ partial=∂ nabla=∇ circ=° prime=′ ldots=… dots=… cdots=…
    alpha=α beta=β gamma=γ delta=δ epsilon=ε varepsilon=ε zeta=ζ eta=η theta=θ kappa=κ lambda=λ mu=μ nu=ν
    xi=ξ pi=π rho=ρ sigma=σ tau=τ phi=φ varphi=φ chi=χ psi=ψ omega=ω
    Gamma=Γ Delta=Δ Theta=Θ Lambda=Λ Xi=Ξ Pi=Π Sigma=Σ Phi=Φ Psi=Ψ Omega=Ω"""))
SIGNS |= dict.fromkeys(words("mathrm mathbf mathbb mathcal mathit text operatorname left right !"), "")
SIGNS |= dict.fromkeys([",", ";"], " ")  # 10\,m

# ---- 2. Tags -----------------------------------------------------------------------------------------------
# Characters that XML forbids, so that no page holds them, mark what was taken out until `tidy` mends it.
GAP, HOLE, BAR, EQUALS, LESS, AND, FORMULA = "\x01\x02\x03\x04\x05\x06\x0e"  # GAP: nothing lacks; HOLE: words
UNMATCHED = {"{{": "\x07", "[[": "\x08"}

INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\u00ad\u200b\u200e\u200f\ufeff]")
INVISIBLE_ENTITY = re.compile("[\u00ad\u200b\u200e\u200f\ufeff]")
COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)


def held(names: list[str]) -> str:
    """A pattern of the tags with such names and what they hold, up to the first tag of the same name."""
    return rf"<({'|'.join(names)})\b[^<>]*>([^<]*(?:<(?!/?\1\b)[^<]*)*)</\1\s*>"


NOWIKI = re.compile(held(["nowiki"]), re.I)
MATH = re.compile(held(["math", "chem", "ce"]), re.I)
DROPPED = re.compile(rf"<(?:{'|'.join(DROPPED_TAGS)})\b[^<>]*/>|{held(DROPPED_TAGS)}", re.I)
UNCLOSED = re.compile(r"<(?:ref|gallery|syntaxhighlight)\b[^\n]*", re.I)
READING = re.compile(r"<(?:rt|rp|rtc)\b[^<>]*>[^<]*(?:</(?:rt|rp|rtc)\s*>)?", re.I)  # of <ruby>
POWER = re.compile(r"(?<=\d)<sup\b[^<>]*>(?=[\d−-])", re.I)  # 10<sup>3</sup> is not 103
BREAK = re.compile(r"<br\b[^<>]*>|</br\s*>", re.I)
BLOCK = re.compile(rf"</?(?:{'|'.join(BLOCK_TAGS)})\b[^<>]*>", re.I)
INLINE = re.compile(rf"</?(?:{'|'.join(INLINE_TAGS + DROPPED_TAGS)})\b[^<>]*>", re.I)


def strip_tags(text: str) -> str:
    """The text without comments and tags, and without what the dropped ones hold."""
    text = INVISIBLE.sub("", text)
    if "<" not in text:
        return text
    text = COMMENT.sub("", text)
    text = NOWIKI.sub(lambda match: re.sub(r"[^\w\s&;,.]", lambda sign: f"&#{ord(sign[0])};", match[2]), text)
    text = MATH.sub(formula, text)
    for _ in range(4):  # once for what is nested in itself
        text, count = DROPPED.subn(GAP, text)
        if not count:
            break
    text = UNCLOSED.sub(GAP, text)
    text = BREAK.sub(" ", POWER.sub("^", READING.sub("", text)))
    return INLINE.sub("", BLOCK.sub("\n", text)).replace("<", LESS)


def formula(match: re.Match[str]) -> str:
    """A <math> as text if letters and signs can say it, or else a hole."""
    tex = re.sub(r"\\([A-Za-z]+|[,;!])", lambda command: SIGNS.get(command[1], command[0]), match[2])
    tex = " ".join(re.sub(r"_?\{(\w+)\}", r"\1", tex).replace("_", "").split())
    tex = tex.replace("<", LESS)
    return f"{FORMULA}{tex}{FORMULA}" if tex and not re.search(r"[\\{}&\[\]|]", tex) else HOLE


# ---- 3. Sections -------------------------------------------------------------------------------------------
HEADING = re.compile(r"^(={1,6})(.+?)\1[ \t]*$", re.M)


def sections(text: str) -> Iterator[tuple[int, str, str]]:
    """(level, title, body) of every section that may hold prose; the lead has level 0 and no title."""
    parts = HEADING.split(text)
    yield 0, "", parts[0]
    dropped = 7  # the level of the dropped section we are in, 7 for none
    for marks, title, body in zip(parts[1::3], parts[2::3], parts[3::3]):
        level = len(marks)
        if level > dropped:
            continue
        title = " ".join(lines_of(title))
        dropped = level if "".join(title.split()) in DROPPED_SECTIONS else 7
        if dropped == 7:
            yield level, title, body


def to_text(wikitext: str) -> list[str]:
    """Wikitext of one article -> list of str: its paragraphs, headings and list items, a line each.

    Lines are never blank, and hold no markup. Headings without any text below them are left out.
    """
    lines = []
    headings: list[tuple[int, str]] = []  # above the present section, that await their first line
    for level, title, body in sections(strip_tags(wikitext)):
        headings = [heading for heading in headings if heading[0] < level]
        headings.append((level, title))
        if found := lines_of(body):
            lines += [title for _, title in headings if title] + found
            headings = []
    return lines


# ---- 4. Templates and links --------------------------------------------------------------------------------
TABLE_MARK = re.compile(r"^[ \t:*#]*(?:(\{\|)|\|\}(?!\}(?!\})))", re.M)
EXTERNAL = re.compile(r"\[(?:https?://|ftp://|//|mailto:)[^\s\[\]]*"
                      r"(?:[ \t]((?:[^\[\]\n]|\[\[[^\[\]\n]*\]\])*))?\]")  # fmt: skip
URL = re.compile(r"(?:https?|ftp)://[^\s\[\]{}|\"<>\x05()]*[^\s\[\]{}|\"<>\x05().,;:!?]")
PLAIN_LINK = re.compile(r"\[\[([^\[\]{}|:#\n]+)(?:\|([^\[\]{}|\n]+))?\]\]")
SWITCH = re.compile(rf"__(?:{'|'.join(SWITCHES)})__", re.I)
RULE = re.compile(r"^-{4,}", re.M)
DEFINITION = re.compile(r"^;[ \t]*([^\n:]*) :[ \t]", re.M)  # "; term : its meaning" on one line
BULLET = re.compile(r"^[*#:;]+[ \t]*", re.M)


def drop_tables(text: str) -> str:
    """The text without its tables, nested or not; one that never ends is left to `tidy`, line by line."""
    kept, depth, start = [], 0, 0
    for mark in TABLE_MARK.finditer(text):
        if mark[1]:
            if not depth:
                kept.append(text[start : mark.start()])
                start = mark.start()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                start = mark.end()
    return "".join([*kept, text[start:]])


def template(inner: str) -> str:
    """The text in place of a template, from its name and arguments as `expand` joins them."""
    name, *parts = inner.split(BAR)
    name = " ".join(name.replace("_", " ").split()).lower().removeprefix("틀:")
    function, colon, value = name.partition(":")
    if colon and function == "formatnum":
        return group_digits(value.strip())
    if name.startswith("#tag:"):  # {{#tag:ref|...}}; those that hold prose have a tag of their own
        return GAP
    if name.startswith("#") or name in VARIABLES:
        return HOLE
    rule = TEMPLATES.get(name)
    if rule is None and name != "llang" and not name.startswith("lang-"):
        return GAP
    arguments, position = {}, 0
    for part in parts:
        key, equals, value = part.partition(EQUALS)
        if not equals:
            position += 1
            key, value = str(position), key
        arguments[key.strip()] = value.strip()
    if rule is None:
        return in_language(name, arguments)
    if not any(arguments.values()) and "{" in rule:
        return GAP
    for field, make in (("date", date), ("measure", measure), ("quantity", quantity)):
        if field in rule:
            arguments[field] = make(arguments)
    text = re.sub(r"\{(\w+)\}", lambda field: arguments.get(field[1], ""), rule)
    return text.strip(" ") or GAP


def in_language(name: str, arguments: dict[str, str]) -> str:
    """{{llang|en|text}} or {{lang-en|text}} -> "영어: text"."""
    code, text = (name[5:], arguments.get("1")) if name != "llang" else map(arguments.get, "12")
    language = LANGUAGES.get((code or "").lower())
    return f"{language}: {text}" if text and language else text or GAP


def group_digits(number: str) -> str:
    """1234567.5 -> 1,234,567.5; what is no number comes back as it was."""
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}" if re.fullmatch(r"[-+]?\d{1,30}", whole) else number


def date(arguments: dict[str, str]) -> str:
    """{{...|1924|10|1}} -> 1924년 10월 1일, as much of it as is given; {{...|1924년 10월}} stays as it is."""
    parts = [(arguments[key], unit) for key, unit in zip("123", "년월일") if arguments.get(key)]
    return " ".join(part + unit if re.fullmatch(rf"\D*\d+{GAP}*", part) else part for part, unit in parts)


def measure(arguments: dict[str, str]) -> str:
    """{{convert|30|m|ft}} -> 30 m, and {{convert|10|-|20|km2}} -> 10~20 km²: the first unit only."""
    first, second, third, fourth = (arguments.get(key, "") for key in "1234")
    amount, unit = (f"{first}~{third}", fourth) if re.fullmatch(r"-|–|~|to|and", second) else (first, second)
    return f"{amount} {UNITS.get(unit, unit)}"


def quantity(arguments: dict[str, str]) -> str:
    """{{val|1.5|0.1|e=6|u=m}} -> 1.5±0.1×10^6 m."""
    amount, error, power = (arguments.get(key, "") for key in ("1", "2", "e"))
    unit = arguments.get("u") or arguments.get("ul") or ""
    return f"{amount}{error and '±' + error}{power and '×10^' + power} {unit}"


def split_prefix(target: str) -> tuple[str, str, str]:
    """(prefix, colon, rest) of the target of a link; blanks may stand before the colon."""
    prefix, colon, rest = target.partition(":")
    return prefix.rstrip(" _"), colon, rest


def link(inner: str) -> str:
    """The text in place of [[target|label]], from both as `expand` joins them."""
    target, bar, label = inner.partition(BAR)
    prefix, colon, rest = split_prefix(target.strip())
    if colon and (prefix.lower() in DROPPED_LINKS or is_language(prefix)):
        return GAP
    if label.strip():
        return label
    target = target.strip()
    while colon and (not prefix or prefix.lower() in PREFIXES or is_language(prefix)):
        target = rest.strip()
        prefix, colon, rest = split_prefix(target)
    page, _, part = target.partition("#")
    return re.sub(r" ?\([^()]*\)$", "", page or part) if bar else page or part


def is_language(prefix: str) -> bool:
    """Whether an interwiki prefix stands for a language; it does not for w, s, wikt and other projects."""
    return LANGUAGE_CODE.fullmatch(prefix) is not None and prefix not in PREFIXES


OPEN = {tokens.TemplateOpen, tokens.WikilinkOpen, tokens.ArgumentOpen, tokens.ExternalLinkOpen}
MIDDLE = {tokens.TemplateParamSeparator: BAR, tokens.WikilinkSeparator: BAR, tokens.ArgumentSeparator: BAR,
          tokens.ExternalLinkSeparator: BAR, tokens.TemplateParamEquals: EQUALS}  # fmt: skip
CLOSE = {tokens.TemplateClose: template, tokens.WikilinkClose: link, tokens.ArgumentClose: lambda inner: GAP,
         tokens.ExternalLinkClose: lambda inner: inner.partition(BAR)[2]}  # fmt: skip


BRACKETS = re.compile(r"\{\{|\}\}|\[\[|\]\]")


def hide_unmatched(text: str) -> str:
    """A mark for every {{ and [[ that is never closed: to the tokenizer they cost quadratic time."""
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
    """The text with every template and link replaced by what it says, from the innermost outwards."""
    out, outer = [], []  # pieces of the innermost open construct; those of the ones around it
    for token in Tokenizer().tokenize(hide_unmatched(text).replace("&", AND), 0, True):
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
            out.append(CLOSE[kind](inner))
    text = "".join(out).replace(AND, "&")
    for bracket, mark in UNMATCHED.items():
        text = text.replace(mark, bracket)
    return text


def lines_of(text: str) -> list[str]:
    """The lines of plain text of a section without its tags: list of str."""
    if "{|" in text:
        text = drop_tables(text)
    if "//" in text or "mailto:" in text:
        text = URL.sub(HOLE, EXTERNAL.sub(r"\1", text))
    if "__" in text:
        text = SWITCH.sub("", text)
    text = BULLET.sub("", DEFINITION.sub(r"\1: ", RULE.sub("", text)))
    text = PLAIN_LINK.sub(lambda match: match[2] or match[1], text)  # most links, ten times as fast
    return tidy(expand(text) if "{{" in text or "[[" in text else text)


# ---- 5. Plain text -----------------------------------------------------------------------------------------
FILE_OR_CATEGORY = "(?:파일|그림|file|image|분류|category) ?:"
BROKEN_LINK = re.compile(rf"\[\[[: ]*{FILE_OR_CATEGORY}[^\n]*|\[\[(?:[^\[\]|\n]*\|)?", re.I)
RESIDUE = re.compile(rf"[|]|! |{{\||{FILE_OR_CATEGORY}\S|.*(?:섬네일|썸네일|thumb)\|", re.I)  # in no text
REF_TAG = re.compile(r"</?ref\b[^<>\n]*>?", re.I)
PAIRS = re.compile(r"\{\{+|\}\}+|\[\[+|\]\]+")
FORMULAS_ALONE = re.compile(f"^[ \t.,;]*(?:(?:{HOLE}|{FORMULA}[^{FORMULA}\n]*{FORMULA})[ \t.,;]*)+$", re.M)
NOTHING = rf"[\s,;·:~–\-{GAP}{HOLE}]"
EMPTY_QUOTES = re.compile(rf"[《〈“‘「『][\s{GAP}{HOLE}]+[》〉”’」』]")  # the name that stood there lacks
EMPTY_BRACKETS = re.compile(rf" ?[(（\[](?=[~:–-]*[\s,;{GAP}{HOLE}]){NOTHING}*[)）\]]")
AFTER_OPENING = re.compile(rf"(?<=[(（])[\s,;·{GAP}{HOLE}]+")
BEFORE_CLOSING = re.compile(rf"(?<![\s,;{GAP}])[\s,;{GAP}]+(?=[)）])")
DOUBLE_COMMA = re.compile(rf",[\s{GAP}]*(?=,)")
GAPS = re.compile(rf"{GAP}(?: ?{GAP})+")
BEFORE_STOP = re.compile(rf" ?{GAP} ?(?=[.,])")
LABEL_ALONE = re.compile(rf"(?<=[(（,;])[^(),;:]{{1,20}}: ?{GAP}(?= ?[,;)）])")  # (발음: , 1950년)
SLASH = re.compile(rf" ?/ ?{GAP}(?=[,;)）])|(?<=[(（]){GAP} ?/ ?")  # (영어: Garam / )
# A gap that starts a word and bears a particle, or starts the line and is followed by a comma, was a word.
LOST_WORD = re.compile(rf"{GAP}(?<![^ ]{GAP})(?=(?:은|는|을|를|의|에|에서|와|과|으로|로) )|^{GAP}(?= ?,)")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def tidy(text: str) -> list[str]:
    """The lines of a text whose templates and links are gone: no broken markup, no entities, no marks."""
    if "{{" in text:
        text = re.sub(r"\{\{[^\n]*", HOLE, text)
    if "[[" in text:
        text = BROKEN_LINK.sub("", text)
    if "''" in text:
        text = re.sub(r"''+", lambda quotes: "'" if len(quotes[0]) == 4 else "", text)
    if "&" in text:
        text = INVISIBLE_ENTITY.sub("", html.unescape(text))
    if LESS in text:
        text = text.replace(LESS, "<")
    if "<" in text:
        text = INLINE.sub("", BLOCK.sub(" ", text))
    text = without_remnants(text)
    if HOLE in text or FORMULA in text:
        text = FORMULAS_ALONE.sub("", text).replace(FORMULA, "")
    lines = [" ".join(mended(" ".join(line.split())).split()) for line in text.split("\n")]
    return [line for line in lines if re.search(r"\w", line) and not RESIDUE.match(line)]


def mended(line: str) -> str:
    """A line without gaps, brackets and commas that they left empty, and sentences that lack a word."""
    if not (GAP in line or HOLE in line or "(," in line or "( " in line or " )" in line or ",)" in line):
        return line
    line = EMPTY_QUOTES.sub(HOLE, GAPS.sub(GAP, line))
    if ":" in line or "/" in line:
        line = SLASH.sub(GAP, LABEL_ALONE.sub(GAP, line))
    line = LOST_WORD.sub(HOLE, line)
    line = BEFORE_CLOSING.sub("", AFTER_OPENING.sub("", EMPTY_BRACKETS.sub("", line)))
    line = BEFORE_STOP.sub("", DOUBLE_COMMA.sub("", line)).replace(GAP, "")
    if HOLE in line:
        line = " ".join(part for part in SENTENCE_END.split(line) if HOLE not in part)
    return without_remnants(" ".join(line.split()))


def without_remnants(text: str) -> str:
    """The text without pairs of brackets and tags of <ref>, those included that come about on the way."""
    while any(sign in text for sign in ("{{", "}}", "[[", "]]")) or ("<" in text and REF_TAG.search(text)):
        text = REF_TAG.sub("", PAIRS.sub("", text))
    return text
