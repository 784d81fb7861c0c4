"""Sentences that lack a word: what stays of them, line by line: `mend(text)`.

wikitext.py leaves a mark where something was taken out. A GAP lacks nothing: a note, a picture, a
box. A LOST template may have been a word, and an ADDRESS may have been the end of a sentence: what
stands beside them shows it. A HOLE lacks words for certain. Where a word lacks, its sentence goes
and the rest of the line stays.

A lost word shows by the particle, ending, counter or unit that it leaves alone: "인구는 명이다."
Such a syllable may be a word of its own: 이 in 이 책은, 은 in 은메달. So only whole words count;
those that can begin a sentence count only within one.
"""

import re

from wikinames import words

# Characters that XML forbids, so that no page holds them.
GAP, HOLE, FORMULA, LOST, ADDRESS = "\x01\x02\x0e\x0f\x10"
MARKS = GAP + HOLE + FORMULA + LOST + ADDRESS


def alternatives(text: str) -> str:
    """A pattern of the words of a text, each a pattern itself."""
    return f"(?:{'|'.join(words(text))})"


# ---- 1. Words that need a word before them -------------------------------------------------------
# Particles; of these, the first never begin a sentence, with or without a second particle.
BOUND = alternatives("""
    는 을 를 에 에서 에게 에게서 께서 와 으?로 으?로서 으?로써 으?로부터 부터 까지 마저 조차
    처럼 만큼 마다 밖에 뿐 이랑 이?라도 이?야말로 에서부터 한테 이?든지""")
BOUND_PARTICLE = rf"{BOUND}(?:는|도|의|만)?"
ALONE_PARTICLE = alternatives("은 의 가 과 도 만 뿐만 이나")  # a second makes words: 의도
PARTICLE = alternatives("""
    은 는 이 가 을 를 의 에 에서 에게 에게서 께서 와 과 이랑 랑 하고 으?로 으?로서 으?로써
    으?로부터 부터 까지 마저 조차 도 만 뿐 뿐만 밖에 처럼 같이 만큼 보다 대로 마다 이?나 이?든
    이?라도 이?든지 에서부터 한테 이?야말로 씩 당 끼리""")
PARTICLE += "(?:은|는|이|을|를|의|도|만|에|와|과|가)?"
COPULA = alternatives("""
    이다 이었다 였다 입니다 이었으며 였으며 이었고 였고 이었던 였던 이었지만 였지만 이었으나
    였으나 이며 이고 이지만 이므로 이라서 라서 이?라고 이?라고도 이?라고는 이?라는 이?라며
    이?라면서 이라면 이?라 인데 인지 이기도 이기 이거나 임을 임이 이?던 이요 이오 이?라든가
    이었을 였을 이었기 였기 이라 이며도 이라든지 이라야""")
MORE_COPULA = alternatives("""
    다 인 일 임 이면 이자 이어서 여서 라면 이?란 이?며 지만 므로 고 이나 이니 나 자 란 인가 일까
    이어야""")
VERB = alternatives("""
    하였다 했다 하다 한다 하는 하였으며 했으며 하였고 했고 하며 하여 되었다 됐다 되다 된다 되는
    되었으며 됐으며 되었고 되며 되어 시켰다 시킨다 당했다 당하였다 받았다""")
MORE_VERB = alternatives("""
    한 할 함 하고 하면 하지 된 될 됨 되고 되면 하던 되던 시키는 시켜 해 돼 했던 됐던""")
BEGINS_NO_SENTENCE = re.compile(
    rf"{BOUND_PARTICLE}|{ALONE_PARTICLE}|{COPULA}|{VERB}"
    rf"|만이|번째|(?:[%‰℃㎞㎢㎡]|km)[가-힣]*|년(?:{PARTICLE}|{COPULA})?"
    rf"|(?:명|개국|개월|개소|번째|제곱킬로미터|킬로미터|퍼센트)(?:{COPULA}|으로|로|의|에|에서)")

COUNTER = alternatives("""
    명 개 년 월 일 시 분 초 세 살 회 번 위 점 골 석 표 호 층 권 편 대 척 마리 가구 세대 가지 곳
    종 건 배 쪽 장 원 달러 엔 유로 위안 파운드 퍼센트 프로 도 시간 분간 일간 년간 개월 개월간 주
    주년 주간 차례 차 인 분의 번째 회째 년대 세기 개국 개소 면 글자 줄 자루 그루 송이 병 잔 켤레
    채 필 승 패 무 경기 라운드 대째 인승 층짜리 년생 학년 월분 인분 억 만 천 백 조 등 쌍 매 통
    구 동 부 학급 개교 판 단 급 등급 호선 학기 분기 회차 주차 부작 단계 칸 량 안타 홈런 득점""")
UNIT = alternatives("""
    미터 킬로미터 센티미터 밀리미터 제곱미터 제곱킬로미터 세제곱미터 헥타르 평 킬로그램 그램
    밀리그램 톤 리터 밀리리터 마일 피트 인치 에이커 파운드 온스 볼트 암페어 와트 킬로와트
    메가와트 헤르츠 킬로헤르츠 메가헤르츠 바이트 킬로바이트 메가바이트 기가바이트 비트 칼로리 줄
    파스칼 켈빈 노트 광년 파섹 [kcmnµμ]?m[²³23]? k?g mg t ha [Ll] m[Ll] [KMG]?Hz [kKMGT]?B
    [kM]?W [kM]?Wh [km]?V m?A k?Pa hPa K J kJ °C °F ℃ ℉ % ‰ ° km/h km/s m/s m/s² mph ft in mi yd
    lb oz px dB ppm ㎞ ㎡ ㎢ ㎏ ㎝ ㎜ ㎥ ㎖ ㏊ 명/km² 명/㎢ 원 달러""")
AROUND = alternatives("여 경 쯤 가량 정도 간 째 이상 이하 미만 짜리 동안 만 분 들 의 말 초 대")
SUFFIX = alternatives("""
    들 적 식 형 측 족 씨 님 당 군 국 어 인 파 계 류 상 호 급 제 화 가 학파 주의 시대 왕조""")
TAIL = rf"(?:{PARTICLE}|{COPULA}|{MORE_COPULA})?"
WITHIN_A_SENTENCE = re.compile(
    rf"{PARTICLE}|{COPULA}|{MORE_COPULA}|{VERB}|{MORE_VERB}"
    rf"|여|{COUNTER}{AROUND}?{TAIL}|{UNIT}{TAIL}|{SUFFIX}{TAIL}")
AFTER_A_BLANK = re.compile(rf"(?:는|을|를|{COPULA})|명(?:{COPULA}|이|을|으로)|{UNIT}{TAIL}")
# These parse as syllables above, but are words: as they are, or with a particle.
WORDS = set(words("""
    이는 이를 이가 이에 이와 이로 이의 이도 이만 이인 이만큼 이같이 이처럼 이보다 이마저 이대로
    이까지 이부터 이에서 이에게 나 나는 나의 나를 나와 나도 나만 가는 가의 가를 만은 만의 과는
    과의 과를 도는 도의 도를 도가 시의 위와 위의 로만 하지만 일단 일이 주로 해 자 상의 백만 천만
    억만 조만"""))
NOUN = re.compile(alternatives("""
    이들 이하 이상 만일 만약 인도 인가 시도 시가 대회 대가 세가 호가 호수 국가 화가 제도 상가
    군도 국도 일부 한때 등""") + f"(?:{PARTICLE})?")

# 이 is a particle (책이 있다) or "this" (이 책은): what follows tells.
PREDICATE = re.compile(
    r" (?:된|되[었는어며고면지]|됐|아니[다라며고었]|아닌|있[다었으는어고던]|없[다었으는어고던]|"
    r"많[다았으]|"
    r"처음|가장|널리|주로|자주|다시|먼저|성립[하한]|존재[하한]|[가-힣]+다[.!?])")
TOPIC = re.compile(r" [가-힣A-Za-z0-9]+(?:은|는)[ ,]")
ADNOMINAL = re.compile(
    r" (?:\S*[하되있없쓰]는|[많높낮작좋같맡받얻낳옳적깊넓좁]은|맞는|이끄는|다니는) ")


def is_orphan(word: str, rest: str, begins: bool, spaced: bool) -> bool:
    """Whether a word of Hangul or Latin letters needs a word before it that is not there.

    rest follows it in the line. begins: it stands where a sentence may begin. spaced: a blank
    parts it from the place of the lost word, as Korean does not part particles.
    """
    if not word:
        return False
    if word == "이":
        if spaced:
            return False
        if begins:
            return PREDICATE.match(rest) is not None
        return TOPIC.match(rest) is None or ADNOMINAL.match(rest) is not None
    if re.fullmatch("이?란", word):  # Iran, too
        return not begins or re.match(" (?:뜻|말|이름|의미|것|단어|제목)", rest) is not None
    if word == "만" and re.match(r" ?\d", rest):  # 만 20세
        return False
    if word == "에도" and re.match(" (?:시대|막부|성|만|시)", rest):
        return False
    if word in WORDS or NOUN.fullmatch(word):
        return False
    if spaced:
        return not begins and AFTER_A_BLANK.fullmatch(word) is not None
    pattern = BEGINS_NO_SENTENCE if begins else WITHIN_A_SENTENCE
    return pattern.fullmatch(word) is not None


# ---- 2. Places where something was taken out -----------------------------------------------------
PLACES = re.compile(rf"[{GAP}{LOST}{ADDRESS}](?: ?[{GAP}{LOST}{ADDRESS}])*")
WORD = re.compile(r"( ?)([^\s,.!?;:()\[\]{}'\"“”‘’《》〈〉「」『』<>~…·" + MARKS + "]*)")
ENDED = re.compile(r"(?:[.!?:。]['\"”’」』)\]]*|[:•|])$")
EITHER = re.compile(  # (이)라고, 을(를)
    r"\((?:이|으|은|는|을|를|과|와)\)[가-힣]|[은는이가을를와과]\([은는이가을를와과]\)")
BRACKET = re.compile(r" ?\([^()\n]*\)(?=[가-힣])")
BEFORE_NUMBER = re.compile(r"(?:^|[ (])(?:제|[-−$₩€£¥])$")
NEEDS_A_WORD = re.compile(r"[가-힣](?:은|는|을|를|의|와|과) $")
OPENED = " ([{'\"“‘《〈「『~·/:" + HOLE + "\u3000"


def found_holes(line: str) -> str:
    """The line with a HOLE wherever a word was lost, and a GAP for every other such place."""
    def mark(place: re.Match[str]) -> str:
        lost = LOST in place[0] or ADDRESS in place[0]
        return HOLE if lost and lacks_word(line, place.start(), place.end()) else GAP
    return PLACES.sub(mark, line)


def lacks_word(line: str, start: int, end: int) -> bool:
    """Whether the marks in line[start:end] stand for a word that the rest of the line needs."""
    before = line[max(0, start - 80) : start].translate(WITHOUT_MARKS)
    blank, word = WORD.match(line, end).groups()  # type: ignore[union-attr]  # it matches anything
    rest = line[end + len(blank + word) : end + len(blank + word) + 40]
    said = before.rstrip()
    needed = NEEDS_A_WORD.search(before) is not None
    if ADDRESS in line[start:end]:
        if blank and is_orphan(word, rest, True, False):
            return True
        alone = not said or said.endswith(":")  # or with a label: "누리집: "
        if not word and rest[:1] in ("", ".", ",") and (alone or needed):
            return True
    if before[-1:].isdigit() and not blank and word[:1].isdigit():  # 1{{가}}2 is not 12
        return True
    if before and before[-1] not in OPENED and not BEFORE_NUMBER.search(before):
        return False
    if not blank and EITHER.match(line, end):
        return True
    begins = not said or ENDED.search(said) is not None
    if (begins or needed) and (bracket := BRACKET.match(line, end)):
        end, blank = bracket.end(), ""
        word = WORD.match(line, end)[2]  # type: ignore[index]
        rest = line[end + len(word) : end + len(word) + 40]
        begins = True
    if not word:
        return (not before and rest.startswith(",")) or (
            needed and not blank and rest[:1] in (",", "."))
    return is_orphan(word, rest, begins, bool(blank))


WITHOUT_MARKS = dict.fromkeys(map(ord, GAP + LOST + ADDRESS + FORMULA))

# ---- 3. Formulas on lines of their own -----------------------------------------------------------
SHOWN = f"(?:{HOLE}|{FORMULA}[^{FORMULA}\n]*{FORMULA})"
FORMULA_LINE = re.compile(  # with what is no Korean sentence: x = 1 또는 x = 2 (단, x > 0) ... (1)
    rf"(?=[^\n]*?{SHOWN})(?:{SHOWN}|또는|그리고|혹은|및|\((?:식|단)[^()\n]*\)"
    rf"|[^가-힣{HOLE}{FORMULA}])+")
LOST_LINE = re.compile(rf"[\s{GAP}]*{LOST}[\s{GAP}{LOST}]*")
CLOSED = re.compile(r"[.!?:。][\"'”’」』)\]]*$|[다까요오음함임됨]$")  # nothing lacks at this end
OPEN = re.compile(  # a label may end like others: 정의, 효과, 넓이
    r"(?:은|는|을|를|이면|에서|으로|즉|및|또는|그리고|때|,|이고|이며|되고|같고|하고|하며|되며|내며|하여"
    r"|해서|써서|므로|하도록|되도록|하거나|이거나|이어서|위해|의해|대해|통해|따라|때문에|경우에"
    r"|(?:[이하되같쓰]|않으|같다|이라|따르|정리하)면|(?:다음과|아래와) 같이|다음처럼"
    r"|(?:^|[ .])(?:따라서|그러므로|그러면|여기서|이때|그런데|하지만|또|또한|다시|결국|특히|만약"
    r"|만일|단|반면|예를 들어|예를 들면|마찬가지로|일반적으로))$")
FIRST_WORD = re.compile(r"[가-힣]+")
AFTER_FORMULA = re.compile(
    r"인 |일 때|이면|라 [하놓부]|이자 |이?란 |가 된|다\.|이 \d|보다 [크작]|꼴[이의로]|하에서"
    r"|까지|사이(?:[의에]|(?![가-힣]))|이상이|이하이|또는 |및 ")


def fold_formulas(lines: list[str]) -> list[str]:
    """The lines without those of formulas alone; what stands around one is joined to a sentence.

    The formula stands in it as text, or as a hole.
    """
    out: list[str] = []
    waiting: str | None = None  # the formula between the last line and this one
    for line in lines:
        if not line.strip():
            continue
        if FORMULA_LINE.fullmatch(line):
            says = HOLE not in line and waiting is None
            waiting = line.strip(" \t.,;") if says else HOLE
            continue
        if LOST_LINE.fullmatch(line):
            waiting = waiting or LOST
            continue
        if waiting is not None:
            join(out, waiting, line)
        else:
            out.append(line)
        waiting = None
    if out and waiting and waiting != LOST:
        join(out, waiting, "")
    return out


def join(out: list[str], formula: str, line: str) -> None:
    """Adds a line that follows a formula (or a lost template) on a line of its own."""
    word = FIRST_WORD.match(line)
    orphan = AFTER_FORMULA.match(line) is not None or (
        word is not None and is_orphan(word[0], line[word.end() : word.end() + 40], True, False))
    last = out[-1].rstrip(" " + GAP) if out else ""
    if formula == LOST:
        formula = HOLE if orphan else GAP
    if orphan and last and not CLOSED.search(last):
        out[-1] = f"{out[-1]} {formula}{line}"
    elif orphan:
        out.append(formula + line)
    else:
        if formula != GAP and OPEN.search(last) and not CLOSED.search(last):
            out[-1] = f"{out[-1]} {formula}"
        out.append(line)


# ---- 4. Brackets and commas that were left empty -------------------------------------------------
NOTHING = rf"[\s,;·:~–\-{GAP}{HOLE}]"
EMPTY_QUOTES = re.compile(  # the name that stood there lacks
    rf"[《〈“‘「『][\s{GAP}{HOLE}{LOST}{ADDRESS}]+[》〉”’」』]"
    rf"|\"[{GAP}{HOLE}{LOST}{ADDRESS}]+\"|(?<!\w)'[{GAP}{HOLE}{LOST}{ADDRESS}]+'")
EMPTY_BRACKETS = re.compile(rf" ?[(（\[](?=[~:–-]*[\s,;{GAP}{HOLE}]){NOTHING}*[)）\]]")
AFTER_OPENING = re.compile(rf"(?<=[(（])(?:[\s,;·{GAP}])+")
TORN_BRACKETS = re.compile(rf" ?[(（][^()（）]*{HOLE}[^()（）]*[)）]")  # what they say is no part
BEFORE_CLOSING = re.compile(rf"(?<![\s,;{GAP}])[\s,;{GAP}]+(?=[)）])")
DASH_ALONE = re.compile(rf" [-–—] ?{GAP}\s*$")  # 가 - {{소리|...}}
LEFT_OUT = rf"\s*{GAP}[\s{GAP}]*"
DOUBLED = re.compile(rf"[,;]{LEFT_OUT}(?=[,;.])|\.{LEFT_OUT}(?=\.)|,\s*(?=,)")
BEFORE_STOP = re.compile(rf" ?{GAP} ?(?=[.,])")
LABEL_ALONE = re.compile(rf"(?<=[(（,;])[^(),;:]{{1,20}}: ?{GAP}(?= ?[,;)）])")  # (발음: , 1950년)
SLASH = re.compile(rf" ?/ ?{GAP}(?=[,;)）])|(?<=[(（]){GAP} ?/ ?")  # (영어: Garam / )
# A stop after a letter or a digit may be that of a name or a number: J. 가, 1994. 5.
SENTENCE_END = re.compile(
    r"(?<=[^A-Z\d\s][.!?])\s+|(?<=\d{2}[.!?])\s+(?=[가-힣])|(?<=[.!?][\"'”’」』)\]])\s+")
SIGNS = re.compile(rf"[{MARKS}]|\(,|\( | \)|,\)")
TORN = re.compile(  # what goes on after a quotation on lines of its own; or after a list
    r"[^\S\n]*(?:(?P<quoting>이?라(?:고|는|며|면서)(?: |도 )"
    r"|고 (?:말하|말했|하였|했|적었|적혀|썼|밝|전했|주장하|주장했|물었|답하|답했|외쳤|평했|평하))"
    r"|(?:이다|이었다|였다|입니다|이며|이고)(?=[ .,])|(?:으로|를|등이) [가-힣]|등이다"
    r"|(?:로|을|와|과) [가-힣](?=[^\n]*(?:[가-힣]\.|다,)))")  # words, too: 을 선거구
SOME_TORN = re.compile(rf"\n{TORN.pattern}")


def torn_beginnings(lines: list[str]) -> list[str]:
    """The lines, with a HOLE where one goes on with a sentence that no line before it begins."""
    out: list[str] = []
    last = ""
    for line in lines:
        torn = TORN.match(line) if last else None
        if torn and (torn["quoting"] or not (ENDED.search(last) or SIGNS.search(last))):
            line = HOLE + line.lstrip()
        out.append(line)
        last = line.strip() or last
    return out


def mend(text: str) -> list[str]:
    """Text with marks -> list of str: its lines without marks, blank ones among them.

    A sentence that lacks a word goes, and so do lines of formulas alone. Runs of blanks become one.
    """
    lines = text.split("\n")
    if SOME_TORN.search(text):
        lines = torn_beginnings(lines)
        text = "\n".join(lines)
    if not SIGNS.search(text):
        return [" ".join(line.split()) for line in lines]
    if HOLE in text or FORMULA in text or LOST in text:
        lines = fold_formulas(lines)
    return [mended(" ".join(line.split())) for line in lines]


def mended(line: str) -> str:
    """One line without marks, without brackets and commas left empty, without torn sentences."""
    if not SIGNS.search(line):
        return line
    line = found_holes(EMPTY_QUOTES.sub(HOLE, line.replace(FORMULA, "")))
    if ":" in line or "/" in line:
        line = SLASH.sub(GAP, LABEL_ALONE.sub(GAP, line))
    line = AFTER_OPENING.sub("", EMPTY_BRACKETS.sub("", line))
    if HOLE in line:
        line = TORN_BRACKETS.sub("", line)
    line = BEFORE_CLOSING.sub("", line)
    line = DASH_ALONE.sub("", line)
    line = BEFORE_STOP.sub("", DOUBLED.sub("", line)).replace(GAP, "")
    if HOLE in line:
        line = " ".join(part for part in SENTENCE_END.split(line) if HOLE not in part)
    return " ".join(line.split())
