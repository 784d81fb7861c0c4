"""Wikitext to text, construct by construct, with the text that a reader of Korean expects."""
import html
import random
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "web-crawler/sample"
sys.path.insert(0, str(ROOT / "web-crawler"))
from wikitext import to_text  # noqa: E402

RESIDUE = ("섬네일|", "파일:", "분류:", "{{", "}}", "[[", "]]", "<ref", "__목차숨김__", "(, )", "()",
           "'''", "&nbsp;")


def articles():
    """(title, wikitext) of the articles in the sample dump, read without the project's code."""
    page = "{http://www.mediawiki.org/xml/export-0.11/}"
    for node in ElementTree.parse(SAMPLE / "kowiki-sample.xml").getroot().iter(f"{page}page"):
        if node.findtext(f"{page}ns") == "0" and node.find(f"{page}redirect") is None:
            yield node.findtext(f"{page}title"), node.findtext(f"{page}revision/{page}text")


SWITCHES = ("목차숨김", "목차보임", "목차", "단락편집숨김", "갤러리숨김", "화랑숨김", "새글쓰기", "숨은분류",
            "색인거부", "넘겨주기고정", "NOTOC", "FORCETOC", "TOC", "NOEDITSECTION", "NOGALLERY", "HIDDENCAT",
            "NEWSECTIONLINK", "NOINDEX", "STATICREDIRECT")
DROPPED = ("인물 정보", "각주", "웹 인용", "서적 인용", "뉴스 인용", "저널 인용", "ArXiv 인용",
           "콘퍼런스 인용", "출처 필요", "토막글", "전거 통제", "위키데이터 속성 추적", "다른 뜻", "참고",
           "본문", "국기", "위치 지도")

LINES = {  # one line of wikitext -> one line of text
    "plain": ("가을이 왔다.", "가을이 왔다."),
    "bold and italic": ("'''가람'''은 ''강''의 '''''옛말'''''이다.", "가람은 강의 옛말이다."),
    "apostrophe": ("It's '가' 편이다.", "It's '가' 편이다."),
    # links
    "particle": ("[[대한민국]]의 [[대통령]]들", "대한민국의 대통령들"),
    "label": ("[[조류 (수중 생물)|조류]]와 [[새]]", "조류와 새"),
    "section link": ("[[#역사|역사 절]]과 [[서울역#역사|역]]과 [[#지리]]", "역사 절과 역과 지리"),
    "pipe trick": ("[[가람 (강)|]]", "가람"),
    "file": ("앞 [[파일:A.jpg|섬네일|오른쪽|200px|설명]]뒤", "앞 뒤"),
    "file, more options": ("[[파일:A.jpg|썸네일|왼쪽|테두리|9픽셀|upright=1|링크=가|나]]글"
                           "[[파일:A.jpg|가운데|프레임없음|다]][[파일:A.jpg|없음|프레임|라]]", "글"),
    "file, nested caption": ("[[파일:A.jpg|섬네일|[[가|나]]와 {{lang|en|b}} [[파일:B.svg|20px]] 끝]]뒤.",
                             "뒤."),
    "file, english and old": ("[[File:A.jpg|thumb|가]][[그림:B.png|왼쪽]][[Image:C.gif]]글", "글"),
    "file, two lines": ("앞 [[파일:A.jpg|200px\n|섬네일|[[가]]]]뒤", "앞 뒤"),
    "category": ("글이다.[[분류:1924년 출생|홍]][[Category:Capitals]]", "글이다."),
    "category link": ("[[:분류:조선의 왕]]과 [[:분류:강|강들]]", "조선의 왕과 강들"),
    "file link": ("[[:파일:A.jpg|그 사진]]을 보라.", "그 사진을 보라."),
    "interlanguage": ("글이다.[[en:Hong]][[zh-min-nan:Hong]]", "글이다."),
    "interlanguage as text": ("[[w:en:Seoul|영어판]]과 [[:en:Seoul]]과 [[w:en:Busan]]",
                              "영어판과 Seoul과 Busan"),
    "sister project": ("[[s:춘향전|위키문헌]]의 [[s:심청전]]", "위키문헌의 심청전"),
    "namespaces": ("[[위키백과:가]], [[백:나]], [[사용자:다]], [[특수:라]]", "가, 나, 다, 라"),
    "title with a colon": ("[[스타워즈: 새로운 희망]]을 보았다.", "스타워즈: 새로운 희망을 보았다."),
    "external": ("[http://example.org 누리집]과 [mailto:a@example.org 전자우편]", "누리집과 전자우편"),
    "external, no label": ("글이다.[https://example.org/a?b=c]", "글이다."),
    "external around a link": ("[https://example.org [[가|나]] 소개]", "나 소개"),
    "bare url": ("앞이다. 주소는 http://example.org/a_b 이다. 뒤이다.", "앞이다. 뒤이다."),
    "bare url at the end": ("앞이다. 주소는 http://example.org/a. 뒤이다.", "앞이다. 뒤이다."),
    "bare url in brackets": ("학교(http://example.org/가)의 글", "학교의 글"),
    # templates
    "llang": ("가({{llang|en|a}}, {{lang-ja|い}}, {{llang|xx|u}})", "가(영어: a, 일본어: い, u)"),
    "lang": ("{{lang|en|Hong}}, {{Lang|ja|ホン}}", "Hong, ホン"),
    "hanja": ("서울({{한자|漢城|한성}}, {{문화어|서울}})", "서울(漢城, 문화어: 서울)"),
    "ruby template": ("{{ruby|漢字|한자}}를 쓴다.", "漢字를 쓴다."),
    "nowrap": ("{{nowrap|30 [[미터|m]]}}이다.", "30 m이다."),
    "convert": ("{{convert|30|m|ft}}, {{convert|100|km2}}, {{convert|5|-|7|kg|lb}}", "30 m, 100 km², 5~7 kg"),
    "convert, signs": ("{{convert|-3|C|F}}와 {{변환|2|sqmi}}", "-3 °C와 2 제곱마일"),
    "formatnum": ("{{formatnum:1234567}}명, {{formatnum:-1234.5}}, {{formatnum:약 5}}",
                  "1,234,567명, -1,234.5, 약 5"),
    "dates": ("{{출생일|1924|10|1}}, {{출생일과 나이|1950|2}}", "1924년 10월 1일, 1950년 2월"),
    "date in words": ("{{사망일|1924년 10월 1일}}에", "1924년 10월 1일에"),
    "date before Christ": ("{{출생일|기원전 100|7<ref>가</ref>|13}}에", "기원전 100년 7월 13일에"),
    "val": ("{{val|−3|u=°C}}에서", "−3 °C에서"),
    "val, error and power": ("{{val|1.5|0.1|e=6|ul=m}}이다.", "1.5±0.1×10^6 m이다."),
    "sup template": ("10{{sup|3}}과 H{{sub|2}}O", "10^3과 H2O"),
    "math template": ("{{수학|''a'' < ''b''}}이면", "a < b이면"),
    "numbered argument": ("{{nowrap|1=a=b}}이다.", "a=b이다."),
    "template in a template": ("{{인용문|서울은 {{강조|{{lang|en|big}}}} 도시이다.}}",
                               "서울은 big 도시이다."),
    "dropped": ("글{{출처 필요|날짜=2020-1-1}}이다.{{안전한 각주|홍|1999|p=3}}", "글이다."),
    "namespace and underscore": ("{{틀:Lang|en|a}} {{start_date|2020|1}}", "a 2020년 1월"),
    "parser function": ("한 문장이다. {{#expr: 1 + 2}}명이 산다. 끝이다.", "한 문장이다. 끝이다."),
    "variable": ("앞이다. 지금은 {{현재연도}}년이다. {{나이|1950|1|1}}세이다.", "앞이다."),
    "parser function for a note": ("글이다.{{#tag:ref|주석 글|group=주}} 다음이다.", "글이다. 다음이다."),
    "argument": ("앞 {{{이름|값}}} 뒤", "앞 뒤"),
    "empty llang": ("가람({{llang|en|}}, 江)은", "가람(江)은"),
    "empty lang": ("가람({{lang|en|}})은", "가람은"),
    # tags
    "ref": ("글<ref>《책》, [[가]] {{서적 인용|제목=a}} <b>b</b></ref>이다.", "글이다."),
    "ref, self-closing": ('글<ref name=a />이다.<ref name="b/c"/> 다음<REF>d</REF>.', "글이다. 다음."),
    "ref, spanning lines": ("글<ref>{{웹 인용\n|제목=a\n}}\n</ref>이다.", "글이다."),
    "ref, unclosed": ("글이다.<ref>{{웹 인용|제목=a", "글이다."),
    "gallery": ("글<gallery widths=150>\n파일:A.jpg|첫 [[사진]]\n</gallery>이다.", "글이다."),
    "code block": ('앞 <syntaxhighlight lang="c">a[[0]] == {{1}};\n</syntaxhighlight>뒤', "앞 뒤"),
    "ruby with rb": ("<ruby><rb>漢字</rb><rp>(</rp><rt>한자</rt><rp>)</rp></ruby>를", "漢字를"),
    "ruby": ("<ruby>漢<rp>(</rp><rt>한</rt><rp>)</rp></ruby><ruby>城<rt>성</ruby>이다.", "漢城이다."),
    "sub and sup": ("H<sub>2</sub>O, m/s<sup>2</sup>, 10<sup>3</sup>", "H2O, m/s2, 10^3"),
    "break": ("왕이다.<br />다음<br>이다.", "왕이다. 다음 이다."),
    "inline": ('<span style="color:red">가</span><small>나</small> <b>다</b>', "가나 다"),
    "nowiki": ("<nowiki>[[가]] {{나}} ''다''</nowiki> 라<nowiki />마", "가 나 ''다'' 라마"),
    "inclusion": ("<onlyinclude>가</onlyinclude><noinclude>나</noinclude><includeonly>다</includeonly>",
                  "가나"),
    "comment": ("앞<!-- [[가]]\n{{ -->뒤<!-- 닫히지 않은", "앞뒤"),
    "simple formula": ("식 <math>x^2 + y_{1} \\le \\pi</math>는", "식 x^2 + y1 ≤ π는"),
    "formula": ("앞이다. 식 <math>\\frac{1}{2}</math>은 작다. 뒤이다.", "앞이다. 뒤이다."),
    "formula with a space": ("길이 <math>10\\,\\mathrm{m}</math>", "길이 10 m"),
    "formula in brackets": ("광속(<math>\\frac{1}{2}</math>)은", "광속은"),
    # characters
    "entities": ("605&nbsp;km&sup2;&mdash;&#44032; &lt;ref&gt; &amp;lt;", "605 km²—가 &lt;"),
    "old hangul": ("‘ᄒᆞᆫ글’, ‘남ᄀᆞᆫ’", "‘ᄒᆞᆫ글’, ‘남ᄀᆞᆫ’"),
    "spaces": ("가\u00a0나\u3000 다\u200b라\r", "가 나 다라"),
    "switches": ("".join(f"__{name}__" for name in SWITCHES) + "글이다.", "글이다."),
    "switch": ("__목차숨김__ 글이다. __NOTOC__ __색인거부____화랑숨김__", "글이다."),
    "not a switch": ("__init__ 함수", "__init__ 함수"),
    # brackets and commas
    "empty brackets": ("가람 ({{음성|a}}, )은 ({{음성|a}})", "가람은"),
    "written brackets": ("print()와 f( )는 (, )이다.", "print()와 f는이다."),
    "leading comma": ("홍길동({{음성|a}}, 1950년 ~ )은", "홍길동(1950년 ~)은"),
    "comma between": ("가(나, {{음성|a}}, 다)는", "가(나, 다)는"),
    "comma in a sentence": ("가 , 나 {{음성|a}} , 다", "가 , 나, 다"),
    "label alone": ("가람(발음: {{음성|a}}, 한자: {{lang|zh|}}, 1950년 ~ )은", "가람(1950년 ~)은"),
    "slash": ("가람({{lang-en|a}} / {{음성|b}})과 강({{음성|b}}/江)", "가람(영어: a)과 강(江)"),
    "slash between words": ("서울<ref>가</ref> / {{국기|나}}부산", "서울 / 부산"),
    "name alone": ("앞이다. 제목은 《{{음성|a}}》이다. ‘{{음성|b}}’(《{{음성|c}}》)도.", "앞이다."),
    "word lost before a particle": ("앞이다. 또 {{국기|가}}의 수도를 보았다.", "앞이다."),
    "word lost before a comma": ("{{국기|가}}, {{국기|나}} 등이 있다. 뒤이다.", "뒤이다."),
    "gap within a word": ("서울{{출처 필요}}의 글과 {{출처 필요}} 은 글", "서울의 글과 은 글"),
    "gap before a stop": ("끝났다 <ref>a</ref> .", "끝났다."),
    # broken markup
    "unclosed template": ("앞이다. 뒤에 {{틀 | 값 과 [[가]]", "앞이다."),
    "unclosed link": ("앞 [[링크 끝 없음. '''굵은", "앞 링크 끝 없음. 굵은"),
    "unclosed file": ("앞 [[파일:A.jpg|섬네일|[[가]] 설명", "앞"),
    "stray closers": ("앞 ]] 뒤 }} 끝", "앞 뒤 끝"),
}  # fmt: skip

PAGES = {  # several lines of wikitext -> lines of text
    "lists": ("* 하나\n** [[둘]]\n# 셋\n: 넷\n*: 다섯", ["하나", "둘", "셋", "넷", "다섯"]),
    "definitions": ("; 용어 : 설명\n; 말\n: 뜻", ["용어: 설명", "말", "뜻"]),
    "rule": ("앞\n----\n뒤", ["앞", "뒤"]),
    "paragraphs": ("하나.\n\n\n둘.\n", ["하나.", "둘."]),
    "headings": ("머리.\n== 생애 ==\n=== 어린 [[시절]] ===\n글.", ["머리.", "생애", "어린 시절", "글."]),
    "heading with markup": ("==''가''<ref>b</ref>==\n글.", ["가", "글."]),
    "empty heading": ("== 표 ==\n{|\n|a\n|}\n== 글 ==\n글.\n== 빈 ==\n", ["글", "글."]),
    "trailing sections": ("글.\n== 같이 보기 ==\n* [[가]]\n== 각주 ==\n{{각주}}\n==참고문헌==\n* 책\n"
                          "=== 논문 ===\n* 글\n== 외부 링크 ==\n* [http://example.org 가]\n", ["글."]),
    "trailing sections, rarer": ("글.\n== 주해 ==\n* 가\n== 참고 자료 ==\n* 나\n==  참고  문헌==\n* 다",
                                 ["글."]),
    "blank before a colon": (
        "[[파일 : A.jpg|200px|그림]]글.[[분류 :강|가람]][[Category : Rivers]][[:분류 : 강]]", ["글.강"]),
    "equals sign": ("{{lang|en|1+1{{=}}2}}", ["1+1=2"]),
    "prose after one": ("== 각주 ==\n* 가\n=== 나 ===\n다\n== 평가 ==\n좋다.", ["평가", "좋다."]),
    "infobox": ("{{인물 정보\n|출생={{출생일|1|2|3}}<br />[[나]]\n|표={{표|{{표}}}}\n}}\n글.", ["글."]),
    "quotation": ("앞.{{인용문|밝은 달.|어느 글}}뒤.", ["앞.", "밝은 달.", "뒤."]),
    "block tags": ("<div class=a>가</div>나<blockquote>다</blockquote>\n<poem>\n라\n마</poem>",
                   ["가", "나", "다", "라", "마"]),
    "table": ("앞\n{| class=x\n|+ 제목\n! 가 !! 나\n|-\n| {{국기|a}} || [[b]]\n|}\n뒤", ["앞", "뒤"]),
    "nested table": ("앞\n:{|\n| 가\n{|\n| 나\n|}\n| 다\n|}\n뒤", ["앞", "뒤"]),
    "table in a template": ("{{숨김|\n{|\n| 가\n|}}}\n뒤", ["뒤"]),
    "html table": ("앞<table><tr><td>가<table><td>나</td></table></td></tr></table>\n뒤", ["앞", "뒤"]),
    "unclosed table": ("앞\n{| class=x\n! 가\n|-\n| 나\n\n뒤", ["앞", "뒤"]),
    "formula alone": ("앞\n: <math>a</math>, <math>\\frac12</math>.\n뒤", ["앞", "뒤"]),
    "dropped by name": ("".join(f"{{{{{name}|가|[[나]]={{{{lang|en|다}}}}}}}}\n" for name in DROPPED) + "글.",
                        ["글."]),
    "navigation": ("글.\n{{태양계}}\n{{기본정렬:가}}\n{{토막글|b}}\n[[분류:가]]\n[[en:A]]\n", ["글."]),
    "unclosed ref and the next": ("가<ref>나\n다<ref>라</ref>", ["가", "다"]),
    "unclosed box": ("{{정보\n|이름=가\n|값=[[나]]\n'''글'''이다.", ["글이다."]),
    "broken file": ("섬네일|오른쪽|설명\n파일:A.jpg|설명\n글이다.", ["글이다."]),
    "nothing": ("{{각주}}\n.\n", []),
    "empty": ("", []),
}  # fmt: skip


@pytest.mark.parametrize("wikitext, text", LINES.values(), ids=LINES)
def test_construct(wikitext, text):
    assert to_text(wikitext) == [text]


@pytest.mark.parametrize("wikitext, lines", PAGES.values(), ids=PAGES)
def test_page(wikitext, lines):
    assert to_text(wikitext) == lines


def test_sample():
    texts = ["\n".join([title, *to_text(wikitext)]) for title, wikitext in articles()]
    assert len(texts) == 132
    files = [SAMPLE / name for name in ("kowiki.txt", "valid.txt")]  # each has a part of them
    found = [file.read_text(encoding="utf-8").rstrip("\n").split("\n\n") for file in files]
    assert sorted(texts) == sorted(sum(found, []))


def mutations(count):
    """Sample articles and the constructs above with pieces cut out, doubled and swapped."""
    rng = random.Random(0)
    sources = [text for _, text in articles()] + [text for text, _ in [*LINES.values(), *PAGES.values()]]
    for _ in range(count):
        text = rng.choice(sources) + rng.choice(sources)
        for _ in range(rng.randint(1, 8)):
            i, j = sorted(rng.randrange(len(text) + 1) for _ in range(2))
            j = min(j, i + rng.choice((1, 2, 3, 40)))
            text = text[:i] + rng.choice(("", text[i:j] * 2, html.escape(text[i:j]))) + text[j:]
            k = rng.randrange(len(text) + 1)
            sign = rng.choice(("{{", "}}", "[[", "]]", "|", "<ref>", "\n", "<", "{|", "=", "&"))
            text = text[:k] + sign + text[k:]
        yield text


def test_mutations_leave_no_brackets():
    for text in mutations(400):
        lines = to_text(text)
        assert all(line and line == " ".join(line.split()) and min(line) >= " " for line in lines), text
        assert not [line for line in lines for sign in ("{{", "}}", "[[", "]]") if sign in line], text


NESTS = [("{{가|", "}}"), ("[[가|", "]]"), ("{{{가|", "}}}"), ("{{lang|en|[[", "]]}}"), ("{|\n|", "\n|}\n"),
         ("<ref>", "</ref>"), ("<table>", "</table>")]


@pytest.mark.parametrize("opening, closing", NESTS)
@pytest.mark.parametrize("count", [(3000, 3000), (3000, 0), (0, 3000), (3000, 2999)], ids=str)
def test_deep_nesting_neither_fails_nor_hangs(opening, closing, count):
    text = opening * count[0] + "나" + closing * count[1]
    lines = to_text(f"앞이다.\n\n{text}\n\n== 뒤 ==\n끝이다.")
    assert lines[0] == "앞이다." and lines[-1] == "끝이다."
    assert not [sign for sign in RESIDUE if any(sign in line for line in lines)]
