"""Wikitext to text, construct by construct, with the text that a reader of Korean expects.

LINES and PAGES hold what articles are made of, KINDS what goes wrong with them in the wild: for
every kind the fault, as it was seen, and other instances of it. Sentences that stay are as many as
sentences that go.
"""
import html
import random
import re
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "web-crawler/sample"
sys.path.insert(0, str(ROOT / "web-crawler"))
from wikitext import to_text  # noqa: E402

RESIDUE = ("섬네일|", "파일:", "분류:", "{{", "}}", "[[", "]]", "<ref", "__목차숨김__", "(, )",
           "()", "'''", "&nbsp;")


def articles():
    """(title, wikitext) of the articles in the sample dump, read without the project's code."""
    page = "{http://www.mediawiki.org/xml/export-0.11/}"
    for node in ElementTree.parse(SAMPLE / "kowiki-sample.xml").getroot().iter(f"{page}page"):
        if node.findtext(f"{page}ns") == "0" and node.find(f"{page}redirect") is None:
            yield node.findtext(f"{page}title"), node.findtext(f"{page}revision/{page}text")


DROPPED = ("인물 정보", "각주", "웹 인용", "서적 인용", "뉴스 인용", "저널 인용", "ArXiv 인용",
           "콘퍼런스 인용", "출처 필요", "토막글", "전거 통제", "위키데이터 속성 추적", "다른 뜻",
           "참고",
           "본문", "국기그림", "위치 지도")

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
    "file, nested caption": (
        "[[파일:A.jpg|섬네일|[[가|나]]와 {{lang|en|b}} [[파일:B.svg|20px]] 끝]]뒤.", "뒤."),
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
    "title with a colon": ("[[스타워즈: 새로운 희망]]을 보았다.",
        "스타워즈: 새로운 희망을 보았다."),
    "external": ("[http://example.org 누리집]과 [mailto:a@example.org 전자우편]",
        "누리집과 전자우편"),
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
    "convert": ("{{convert|30|m|ft}}, {{convert|100|km2}}, {{convert|5|-|7|kg|lb}}",
        "30 m, 100 km², 5~7 kg"),
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
    "parser function for a note": ("글이다.{{#tag:ref|주석 글|group=주}} 다음이다.",
        "글이다. 다음이다."),
    "argument": ("앞 {{{이름|값}}} 뒤", "앞 뒤"),
    "empty llang": ("가람({{llang|en|}}, 江)은", "가람(江)은"),
    "empty lang": ("가람({{lang|en|}})은", "가람은"),
    # tags
    "ref": ("글<ref>《책》, [[가]] {{서적 인용|제목=a}} <b>b</b></ref>이다.", "글이다."),
    "ref, self-closing": ('글<ref name=a />이다.<ref name="b/c"/> 다음<REF>d</REF>.',
        "글이다. 다음."),
    "ref, spanning lines": ("글<ref>{{웹 인용\n|제목=a\n}}\n</ref>이다.", "글이다."),
    "ref, unclosed": ("글이다.<ref>{{웹 인용|제목=a", "글이다."),
    "gallery": ("글<gallery widths=150>\n파일:A.jpg|첫 [[사진]]\n</gallery>이다.", "글이다."),
    "code block": ('앞 <syntaxhighlight lang="c">a[[0]] == {{1}};\n</syntaxhighlight>뒤', "앞 뒤"),
    "ruby with rb": ("<ruby><rb>漢字</rb><rp>(</rp><rt>한자</rt><rp>)</rp></ruby>를", "漢字를"),
    "ruby": ("<ruby>漢<rp>(</rp><rt>한</rt><rp>)</rp></ruby><ruby>城<rt>성</ruby>이다.",
        "漢城이다."),
    "sub and sup": ("H<sub>2</sub>O, m/s<sup>2</sup>, 10<sup>3</sup>", "H2O, m/s2, 10^3"),
    "break": ("왕이다.<br />다음<br>이다.", "왕이다. 다음 이다."),
    "inline": ('<span style="color:red">가</span><small>나</small> <b>다</b>', "가나 다"),
    "nowiki": ("<nowiki>[[가]] {{나}} ''다''</nowiki> 라<nowiki />마", "가 나 ''다'' 라마"),
    "inclusion": (
        "<onlyinclude>가</onlyinclude><noinclude>나</noinclude><includeonly>다</includeonly>",
        "가나"),
    "comment": ("앞<!-- [[가]]\n{{ -->뒤<!-- 닫히지 않은", "앞뒤"),
    "simple formula": ("식 <math>x^2 + y_{1} \\le \\pi</math>는", "식 x^2 + y1 ≤ π는"),
    "formula": ("앞이다. 식 <math>\\frac{1}{2}</math>은 작다. 뒤이다.", "앞이다. 뒤이다."),
    "formula with a space": ("길이 <math>10\\,\\mathrm{m}</math>", "길이 10 m"),
    "formula in brackets": ("광속(<math>\\frac{1}{2}</math>)은", "광속은"),
    # characters
    "entities": ("605&nbsp;km&sup2;&mdash;&#44032; &lt;ref&gt; &amp;lt;", "605 km²—가 <ref> &lt;"),
    "old hangul": ("‘ᄒᆞᆫ글’, ‘남ᄀᆞᆫ’", "‘ᄒᆞᆫ글’, ‘남ᄀᆞᆫ’"),
    "spaces": ("가\u00a0나\u3000 다\u200b라\r", "가 나 다라"),
    "switch": ("__목차숨김__ 글이다. __NOTOC__ __색인거부____화랑숨김__", "글이다."),
    "not a switch": ("__init__ 함수", "__init__ 함수"),
    # brackets and commas
    "empty brackets": ("가람 ({{음성|a}}, )은 ({{음성|a}})", "가람은"),
    "written brackets": ("print()와 f( )는 (, )이다.", "print()와 f는이다."),
    "leading comma": ("홍길동({{음성|a}}, 1950년 ~ )은", "홍길동(1950년 ~)은"),
    "comma between": ("가(나, {{음성|a}}, 다)는", "가(나, 다)는"),
    "comma before a stop": ("가, {{lang|en|}}. 나이고; {{음성|a}}. 다이다.", "가. 나이고. 다이다."),
    "stop before a stop": ("끝. http://a.b/c. 다음.<ref>a</ref>. 김 Jr. {{음성|b}}, 1950년.",
                           "끝. 다음. 김 Jr., 1950년."),
    "comma in a sentence": ("가 , 나 {{음성|a}} , 다", "가 , 나, 다"),
    "label alone": ("가람(발음: {{음성|a}}, 한자: {{lang|zh|}}, 1950년 ~ )은", "가람(1950년 ~)은"),
    "slash": ("가람({{lang-en|a}} / {{음성|b}})과 강({{음성|b}}/江)", "가람(영어: a)과 강(江)"),
    "slash between words": ("서울<ref>가</ref> / {{국기그림|나}}부산", "서울 / 부산"),
    "name alone": ("앞이다. 제목은 《{{음성|a}}》이다. ‘{{음성|b}}’(《{{음성|c}}》)도.", "앞이다."),
    "word lost before a particle": ("앞이다. 또 {{가 나라}}의 수도를 보았다.", "앞이다."),
    "word lost before a comma": ("{{가 나라}}, {{나 나라}} 등이 있다. 뒤이다.", "뒤이다."),
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
    "headings": ("머리.\n== 생애 ==\n=== 어린 [[시절]] ===\n글.", ["머리.", "생애", "어린 시절",
        "글."]),
    "heading with markup": ("==''가''<ref>b</ref>==\n글.", ["가", "글."]),
    "empty heading": ("== 표 ==\n{|\n|a\n|}\n== 글 ==\n글.\n== 빈 ==\n", ["글", "글."]),
    "trailing sections": (
        "글.\n== 같이 보기 ==\n* [[가]]\n== 각주 ==\n{{각주}}\n==참고문헌==\n* 책\n"
        "=== 논문 ===\n* 글\n== 외부 링크 ==\n* [http://example.org 가]\n", ["글."]),
    "trailing sections, rarer": (
        "글.\n== 주해 ==\n* 가\n== 참고 자료 ==\n* 나\n==  참고  문헌==\n* 다", ["글."]),
    "blank before a colon": (
        "[[파일 : A.jpg|200px|그림]]글.[[분류 :강|가람]][[Category : Rivers]][[:분류 : 강]]",
        ["글.강"]),
    "equals sign": ("{{lang|en|1+1{{=}}2}}", ["1+1=2"]),
    "prose after one": ("== 각주 ==\n* 가\n=== 나 ===\n다\n== 평가 ==\n좋다.", ["평가", "좋다."]),
    "infobox": ("{{인물 정보\n|출생={{출생일|1|2|3}}<br />[[나]]\n|표={{표|{{표}}}}\n}}\n글.", [
        "글."]),
    "quotation": ("앞.{{인용문|밝은 달.|어느 글}}뒤.", ["앞.", "밝은 달.", "뒤."]),
    "block tags": ("<div class=a>가</div>나<blockquote>다</blockquote>\n<poem>\n라\n마</poem>",
                   ["가", "나", "다", "라", "마"]),
    "table": ("앞\n{| class=x\n|+ 제목\n! 가 !! 나\n|-\n| {{국기|a}} || [[b]]\n|}\n뒤", ["앞",
        "뒤"]),
    "nested table": ("앞\n:{|\n| 가\n{|\n| 나\n|}\n| 다\n|}\n뒤", ["앞", "뒤"]),
    "table in a template": ("{{숨김|\n{|\n| 가\n|}}}\n뒤", ["뒤"]),
    "html table": ("앞<table><tr><td>가<table><td>나</td></table></td></tr></table>\n뒤", ["앞",
        "뒤"]),
    "unclosed table": ("앞\n{| class=x\n! 가\n|-\n| 나\n\n뒤", ["앞", "뒤"]),
    "formula alone": ("앞\n: <math>a</math>, <math>\\frac12</math>.\n뒤", ["앞", "뒤"]),
    "dropped by name": (
        "".join(f"{{{{{name}|가|[[나]]={{{{lang|en|다}}}}}}}}\n" for name in DROPPED) + "글.",
                        ["글."]),
    "navigation": ("글.\n{{태양계}}\n{{기본정렬:가}}\n{{토막글|b}}\n[[분류:가]]\n[[en:A]]\n", [
        "글."]),
    "unclosed ref and the next": ("가<ref>나\n다<ref>라</ref>", ["가", "다"]),
    "unclosed box": ("{{정보\n|이름=가\n|값=[[나]]\n'''글'''이다.", ["글이다."]),
    "broken file": ("섬네일|오른쪽|설명\n파일:A.jpg|설명\n글이다.", ["글이다."]),
    "nothing": ("{{각주}}\n.\n", []),
    "empty": ("", []),
}  # fmt: skip


KINDS = {  # kind -> {instance: (wikitext, lines of text)}
    "a < swallows no text": {
        "formula": (
            "확률이 <math>0<p</math>인 일은 일어난다. 비는 온다.\n\n합은 <math>q>2</math>이다.",
            ["확률이 0<p인 일은 일어난다. 비는 온다.", "합은 q>2이다."]),
        "formula, other tags": (
            "두 수 <math>a<b</math>, <math>i<u</math>, <math>s<q</math>는 크다. 끝.", [
            "두 수 a<b, i<u, s<q는 크다. 끝."]),
        "formula of both signs": ("값이 <math>p<q, r>s</math>이면 참이다. 끝.",
                                  ["값이 p<q, r>s이면 참이다. 끝."]),
        "code": ("비교는 <code>i<s && j>t</code>처럼 한다.", ["비교는 i<s && j>t처럼 한다."]),
        "code, two signs of tags": ("식 <code>a<b>c</code>는 거짓이다. 다음 글.",
                                    ["식 a<b>c는 거짓이다. 다음 글."]),
        "code, a type": ("<code>vector<int></code>와 <code>#include <stdio.h></code>이다.",
                         ["vector<int>와 #include <stdio.h>이다."]),
        "code, a tag": ("<code><p></code> 태그와 <code><div id=\"a\"></code> 태그가 있다.",
                        ["<p> 태그와 <div id=\"a\"> 태그가 있다."]),
        "code, real tags": ("<code>''x''<sub>1</sub> <b>y</b></code>는 이름이다.", [
            "x1 y는 이름이다."]),
        "title": ("그는 <U.F.O. 가을>, <B-사감>, <I-95>를 썼다. 그 뒤이다.",
                  ["그는 <U.F.O. 가을>, <B-사감>, <I-95>를 썼다. 그 뒤이다."]),
        "title of words": ("노래 <I am here>와 <Code 7>, <Table for Two>, <S 다이어리>가 있다.",
                           ["노래 <I am here>와 <Code 7>, <Table for Two>, <S 다이어리>가 있다."]),
        "title of one word": ("앨범 <Big>과 <Q>, <Time>을 냈다. 끝.",
                              ["앨범 <Big>과 <Q>, <Time>을 냈다. 끝."]),
        "Hangul title": ("영화 <가을 길>이 나왔다. <1987>도 보았다.",
                         ["영화 <가을 길>이 나왔다. <1987>도 보았다."]),
        "a tag is no title": ("<Big>큰</Big> 글과 <Small>작은 글.", ["큰 글과 작은 글."]),
        "signs in a sentence": ("농도는 <1 mg이고 n>3이며 p < 0.05, -> <- 이다.",
                                ["농도는 <1 mg이고 n>3이며 p < 0.05, -> <- 이다."]),
        "comment in nowiki": ("주석은 <nowiki><!--</nowiki>로 연다. 다음 글이다.",
                              ["주석은 <!--로 연다. 다음 글이다."]),
        "code, a note": ("<code>a<ref && b</code>와 <code>i<u; j<s</code>를 쓴다. 다음 글.",
                         ["a<ref && b와 i<u; j<s를 쓴다. 다음 글."]),
        "template": ("{{수학|0<p}}이고 <math>q>1</math>이며 {{code|a<b}}이다.", [
            "0<p이고 q>1이며 a<b이다."]),
        "tags without their end": ("봄<br 여름, 가<small>을</small 겨울, 눈</b이 온다.",
                                   ["봄 여름, 가을 겨울, 눈이 온다."]),
        "formula never closed": ("앞이다. 식 <math>0<p에서 참이다.\n뒤이다.", ["앞이다.",
            "뒤이다."]),
    },
    "a formula is said": {
        "power": ("질량은 <math>9.1\\times 10^{-31}</math> kg이다.", ["질량은 9.1×10^-31 kg이다."]),
        "function": ("걸린 시간은 <math>O(\\log n)</math>, 각은 <math>\\sin \\theta</math>이다.",
                     ["걸린 시간은 O(log n), 각은 sin θ이다."]),
        "index": ("항 <math>x_{i+1}</math>과 <math>x_{ij}</math>가 있다.", [
            "항 xi+1과 xij가 있다."]),
        "letter": ("각운동량 <math>\\ell</math>, 상수 <math>\\hbar</math>이다.",
                   ["각운동량 ℓ, 상수 ℏ이다."]),
        "text in an index": (
            "크기 <math>d_{\\text{key, head}}</math>와 <math>T_\\mathrm{max}</math>이다.", [
            "크기 dkey, head와 Tmax이다."]),
        "nested braces": ("값 <math>{{x}_{{a}_{1}}}</math>과 <math>e^{-x^{2}}</math>이다.",
                          ["값 xa1과 e^(-x^2)이다."]),
        "power of a sum": ("수는 <math>2^{n-1}</math>개, <math>x^{(k)}</math>이다.",
                           ["수는 2^(n-1)개, x^(k)이다."]),
        "degree": ("각은 <math>45^\\circ</math>이고 <math>f \\circ g</math>이다.",
                   ["각은 45°이고 f ∘ g이다."]),
        "set": ("집합 <math>\\left\\{1, 2\\right\\}</math>와 <math>[0, 1)</math>, "
            "<math>|A|</math>이다.", ["집합 {1, 2}와 [0, 1), |A|이다."]),
        "fonts": ("힘 <math>\\mathbf{F}\\in\\mathbb{R}^3</math>이다.", ["힘 F∈R^3이다."]),
        "root and accent": ("길이는 <math>\\sqrt{2}</math>, 평균은 <math>\\bar{x}</math>이다.",
                            ["길이는 √2, 평균은 x̄이다."]),
        "primes": ("도함수 <math>f''(x)</math>를 본다.", ["도함수 f′′(x)를 본다."]),
        "remainder": ("수 <math>a \\equiv 1 \\pmod{4}</math>이다.", ["수 a ≡ 1 (mod 4)이다."]),
        "arrow": ("사상 <math>f\\colon X\\to Y</math>이다.", ["사상 f: X→Y이다."]),
        "chemistry": ("물 <chem>H2O</chem>과 <ce>CO2</ce>이다.", ["물 H2O과 CO2이다."]),
        "commands of MediaWiki": ("수 <math>x\\in\\Z</math>, <math>f: \\R \\to \\R^d</math>이다.",
                                  ["수 x∈Z, f: R → R^d이다."]),
        "geometry": ("변 <math>\\overline{AB}</math>와 <math>\\angle ABC</math>이다.",
                     ["변 AB와 ∠ABC이다."]),
        "Hangul": ("<math>\\text{속력} = 3</math>이다.", ["속력 = 3이다."]),
    },
    "a formula is not said": {
        "fraction": ("앞이다. 값 <math>\\tfrac{a}{b}</math>는 작다. 뒤이다.", ["앞이다. 뒤이다."]),
        "sum": ("앞이다. 합 <math>\\sum_{i=1}^n i</math>을 구한다. 뒤이다.", ["앞이다. 뒤이다."]),
        "integral": ("앞이다. 넓이 <math>\\int_0^1 x</math>를 구한다. 뒤이다.", [
            "앞이다. 뒤이다."]),
        "limit": ("앞이다. 극한 <math>\\lim_{x \\to 0} x</math>이다. 뒤이다.", ["앞이다. 뒤이다."]),
        "matrix": ("앞이다. <math>\\begin{pmatrix}1\\end{pmatrix}</math>이다. 뒤이다.",
                   ["앞이다. 뒤이다."]),
        "torn": ("앞이다. 값 <math>x^{2</math>이다. 값 <math>x}</math>이다. 뒤이다.",
                 ["앞이다. 뒤이다."]),
        "deep": (f"앞이다. 값 <math>{'{' * 60}x{'}' * 60}</math>이다. 뒤이다.", [
            "앞이다. 뒤이다."]),
        "long": (f"앞이다. 값 <math>{'x+' * 900}1</math>이다. 뒤이다.", ["앞이다. 뒤이다."]),
    },
    "a display formula": {
        "then prose": (
            "<math display=\"block\">\\frac{m}{n}</math> 위의 수는 유리수이다. 그것은 많다.", [
            "위의 수는 유리수이다. 그것은 많다."]),
        "then prose, indented": (": <math>\\frac{m}{n}</math> 위의 수는 유리수이다.",
                                 ["위의 수는 유리수이다."]),
        "fragments": ("넓이는\n: <math>\\frac{1}{2}</math>\n이다. 그래서 작다.\n\n행렬\n"
                      ":<math>\\begin{matrix}1\\end{matrix}</math>\n을 보자. 이 행렬은 작다.",
                      ["그래서 작다.", "이 행렬은 작다."]),
        "fragments, blank lines": ("글이다. 값은\n\n: <math>\\frac12</math>\n\n로 정한다. 끝이다.",
                                   ["글이다. 끝이다."]),
        "fragments, two formulas": (
            "수열이\n: <math>\\frac12</math>,\n: <math>\\frac13</math> (1)\n이므로 참이다. 끝.",
            ["끝."]),
        "fragments, display": ("합은 <math display=block>\\sum x</math>이다. 끝이다.", ["끝이다."]),
        "fragments, a chain": (
            "앞이다. 함수\n:<math>\\sum x</math>\n가 크면\n:<math>\\int x</math>\n이다. 끝이다.",
            ["앞이다. 끝이다."]),
        "subject": ("벡터\n: <math>\\frac12</math>\n이 된다. 끝이다.", ["끝이다."]),
        "lost template": ("값은\n: {{번호 식|가|1}}\n이다. 끝이다.", ["끝이다."]),
        "said": ("넓이는\n: <math>x+1</math>\n이다. 그래서 크다.", [
            "넓이는 x+1이다. 그래서 크다."]),
        "sentence before": ("정의는 다음과 같다.\n: <math>\\frac12</math>\n이 식은 짧다.",
                            ["정의는 다음과 같다.", "이 식은 짧다."]),
        "sentence before, no stop": (
            "정의는 다음과 같다\n: <math>\\frac12</math>\n여기서 수는 작다.", [
            "정의는 다음과 같다", "여기서 수는 작다."]),
        "label before": ("피타고라스 정리:\n: <math>\\frac12</math>\n이와 같이 쓴다.",
                         ["피타고라스 정리:", "이와 같이 쓴다."]),
        "this after": ("예를 든다.\n: <math>\\frac12</math>\n이를 나누면 작다. 이는 옳다.",
                       ["예를 든다.", "이를 나누면 작다. 이는 옳다."]),
        "labels before": (
            "* 원의 넓이\n: <math>\\frac12</math>\n* 원의 정의\n: <math>\\frac12</math>\n* 효과",
            ["원의 넓이", "원의 정의", "효과"]),
        "noun before": ("* 반지름\n: <math>\\frac12</math>\n* 지름", ["반지름", "지름"]),
    },
    "a word lost with a template: its sentence goes": {
        name: (f"앞이다. {sentence} 뒤이다.", ["앞이다. 뒤이다."]) for name, sentence in {
            "라고": "옛 이름을 {{일본 글자|山}}라고 적었다.",
            "이라는": "{{일본 글자|山}}이라는 뜻이다.",
            "가": "그 뒤 {{사람 틀|가}}가 맡았다.",
            "이": "그 뒤 {{사람 틀|가}}이 처음 맡았다.",
            "이다": "정답은 {{수 틀|3}}이다.",
            "까지": "{{역 이름|가}}까지 다닌다.",
            "에서": "열차는 {{역 이름|가}}에서 떠난다.",
            "에서는": "{{역 이름|가}}에서는 표를 판다.",
            "부터": "길은 {{역 이름|가}}부터 좁다.",
            "에게": "상은 {{사람 틀|가}}에게 갔다.",
            "와": "그는 {{사람 틀|가}}와 같이 살았다.",
            "으로": "이를 {{일본 글자|山}}으로 옮겼다.",
            "보다": "물은 {{원소 틀|철}}보다 가볍다.",
            "처럼": "그는 {{사람 틀|가}}처럼 걸었다.",
            "도": "그때 {{사람 틀|가}}도 왔다.",
            "였다": "이름은 {{사람 틀|가}}였다.",
            "이며": "수도는 {{도시 틀|가}}이며 크다.",
            "인": "수도가 {{도시 틀|가}}인 나라이다.",
            "란": "낱말 {{일본 글자|山}}란 산이다.",
            "하였다": "그는 나라를 {{낱말 틀|가}}하였다.",
            "된": "나라가 {{낱말 틀|가}}된 해이다.",
            "명": "사는 사람은 {{인구 틀|053}}명이다.",
            "만 명": "사는 사람은 약 {{인구 틀|053}}만 명이다.",
            "년": "그는 {{해 틀|가}}년에 났다.",
            "년 at the beginning": "{{해 틀|가}}년에 났다.",
            "개": "섬은 {{수 틀|3}}개가 있다.",
            "위": "순위는 {{수 틀|3}}위였다.",
            "번째": "올해로 {{수 틀|3}}번째를 맞았다.",
            "%": "비율은 {{수 틀|3}}%이다.",
            "km²": "넓이는 {{넓이 틀|053}} km²이다.",
            "㎢": "넓이는 {{넓이 틀|053}}㎢로 넓다.",
            "m": "높이는 {{높이 틀|가}} m, 둘레는 5 m이다.",
            "미터": "높이는 {{높이 틀|가}}미터이다.",
            "원": "값은 {{값 틀|가}}원으로 올랐다.",
            "들": "그 뒤 {{사람 틀|가}}들이 왔다.",
            "in quotation marks": "그 뜻은 “{{일본 글자|山}}”이다.",
            "in straight marks": "그것을 '{{일본 글자|山}}'라고 한다.",
            "before a stop": "이름은 {{일본 글자|山}}.",
            "before a comma": "이름은 {{일본 글자|山}}, 뜻은 산이다.",
            "with a note": "이를 {{일본 글자|山}}<ref>책</ref>라고 적었다.",
            "여 명": "약 {{인구 틀|053}}여 명이 살았다.",
            "개월": "그는 {{수 틀|3}}개월 동안 앓았다.",
            "호선": "그는 {{수 틀|3}}호선을 탔다.",
            "dates": "그는 {{해 틀|가}}년 {{달 틀|나}}월에 났다.",
            "두 낱말": "글자 {{일본 글자|山}}와 {{일본 글자|川}}이다.",
            "만이": "{{사람 틀|가}}만이 남았다.",
            "뿐만": "{{사람 틀|가}}뿐만 아니라 모두 왔다.",
            "일 때": "값이 {{수 틀|3}}일 때 멈춘다.",
            "이지만": "그는 {{낱말 틀|가}}이지만 젊다.",
            "listing": "명령은 <source lang=c>int a;</source>이다.",
            "hieroglyphs": "이름은 <hiero>A1</hiero>라고 읽는다.",
            "named arguments": "넓이는 {{값 틀|이름=가}} km²이다.",
            "lines": "수도는 {{도시 틀\n|서울\n}}이다.",
            "name of a box": "인구는 {{인구 정보}}명이다.",
            "named arguments at the beginning": "{{값 틀|이름=가}}는 넓다.",
            "table without its argument": "{{수학|f(x)=1}}은 상수이다.",
            "table, other arguments": "{{link-interwiki|en=A|ko=가}}는 나이다.",
            "table, no arguments": "그 수는 {{수학}}은 아니다.",
            "language without a word": "옛 이름 {{llang|en|}}을 버렸다.",
            "picture in a line": "그 글자 [[파일:산.svg|20px]]는 산이다.",
        }.items()},
    "no word lost: the sentence stays": {
        name: (f"앞이다.{wikitext} 뒤이다.", [f"앞이다.{text} 뒤이다."])
        for name, (wikitext, text) in {
            "this, after a box": (" {{책 정보|가}}이 책은 얇다.", " 이 책은 얇다."),
            "this, after any": (" {{아무 틀|가}}이 이론이라는 말은 옳다.",
                " 이 이론이라는 말은 옳다."),
            "this, as an object": (" {{아무 틀|가}}이 노래를 부른다.", " 이 노래를 부른다."),
            "it": (" {{아무 틀|가}}이는 옳다.", " 이는 옳다."),
            "by it": (" {{아무 틀|가}}이로 인해 졌다.", " 이로 인해 졌다."),
            "they": (" {{아무 틀|가}}이들은 컸다.", " 이들은 컸다."),
            "I": (" {{아무 틀|가}}나는 간다.", " 나는 간다."),
            "thin": (" {{아무 틀|가}}가는 실이다.", " 가는 실이다."),
            "autumn": (" {{아무 틀|가}}가을이 왔다.", " 가을이 왔다."),
            "silver": (" {{아무 틀|가}}은메달을 받았다.", " 은메달을 받았다."),
            "town": (" {{아무 틀|가}}도시는 크다.", " 도시는 크다."),
            "road": (" {{아무 틀|가}}도로는 넓다.", " 도로는 넓다."),
            "intention": (" {{아무 틀|가}}의도는 좋았다.", " 의도는 좋았다."),
            "Edo": (" {{아무 틀|가}}에도 시대의 그림이다.", " 에도 시대의 그림이다."),
            "Iran": (" {{아무 틀|가}}이란 대통령이 왔다.", " 이란 대통령이 왔다."),
            "mainly": (" {{아무 틀|가}}주로 산다.", " 주로 산다."),
            "dog": (" {{아무 틀|가}}개는 동물이다.", " 개는 동물이다."),
            "pen name": (" {{아무 틀|가}}호는 다산이다.", " 호는 다산이다."),
            "circle": (" {{아무 틀|가}}원은 둥글다.", " 원은 둥글다."),
            "age": (" {{아무 틀|가}}만 20세가 되었다.", " 만 20세가 되었다."),
            "but": (" {{아무 틀|가}}하지만 졌다.", " 하지만 졌다."),
            "within a word": (" 서울{{아무 틀|가}}의 밤은 길다.", " 서울의 밤은 길다."),
            "after a word": (" 서울 {{아무 틀|가}} 사람이다.", " 서울 사람이다."),
            "a note": (" 그는 {{출처 필요|날짜=2020년}}가 아니라고 했다.",
                " 그는 가 아니라고 했다."),
            "when": (" 그는 {{언제}}이 책을 썼다.", " 그는 이 책을 썼다."),
            "where": (" 그는 {{어디}}도시로 갔다.", " 그는 도시로 갔다."),
            "a source": (" 그는{{출처|가}} 갔다.", " 그는 갔다."),
            "a note by name": (" 그는 <ref name=가 />이 책을 썼다.", " 그는 이 책을 썼다."),
            "thumbnail": ("\n[[파일:가.jpg|섬네일|나]]이 산은 높다.", "\n이 산은 높다."),
            "flag alone": (" {{국기그림|독일}} 독일은 나라이다.", " 독일은 나라이다."),
            "named arguments, on a line": ("\n{{아무 틀|가=나}}\n이 나라는 멀다.",
                "\n이 나라는 멀다."),
            "lines, before a name": ("\n{{아무 정보\n|가\n}} {{나 상자|다}}\n사이 나쁜 이는 없다.",
                "\n사이 나쁜 이는 없다."),
            "named arguments, after a word": (" 서울{{웹 인용|제목=가}}의 밤은 길다.",
                " 서울의 밤은 길다."),
            "box, then its article": ("\n{{아무 정보|이름=가}}이 나라는 멀다.",
                "\n이 나라는 멀다."),
            "in brackets": (" 서울({{아무 틀|가}})의 밤이다.", " 서울의 밤이다."),
            "navigation": ("\n{{태양계}}\n이 별은 밝다.", "\n이 별은 밝다."),
            "anchor": (" {{앵커|가}}은 글자이다.", " 은 글자이다."),
            "clear": ("\n{{-}}이 글은 짧다.", "\n이 글은 짧다."),
            "blank before": (" 그것은 {{아무 틀|가}} 원인이다.", " 그것은 원인이다."),
            "noun after a noun": (" 옛 {{아무 틀|가}}왕조실록이다.", " 옛 왕조실록이다."),
            "verb": (" 그는 {{아무 틀|가}}갔다.", " 그는 갔다."),
            "adverb": (" 그는 {{아무 틀|가}}다시 왔다.", " 그는 다시 왔다."),
            "this, within a sentence": (" 그 뒤 {{아무 틀|가}}이 책은 널리 읽혔다.",
                                        " 그 뒤 이 책은 널리 읽혔다."),
            "it, within a sentence": (" 그 뒤 {{아무 틀|가}}이는 옳았다.", " 그 뒤 이는 옳았다."),
            "me": (" 그 뒤 {{아무 틀|가}}나를 보았다.", " 그 뒤 나를 보았다."),
            "state": (" 그 뒤 {{아무 틀|가}}국가가 섰다.", " 그 뒤 국가가 섰다."),
            "system": (" 그 뒤 {{아무 틀|가}}제도를 고쳤다.", " 그 뒤 제도를 고쳤다."),
            "these": (" 그 뒤 {{아무 틀|가}}이들이 왔다.", " 그 뒤 이들이 왔다."),
            "numbers": (" 그는 {{아무 틀|가}}3명이었다.", " 그는 3명이었다."),
            "a condition": (" {{#만약:가|나}} 그는 갔다.", " 그는 갔다."),
            "bracket with a hole": (" 그는 ({{사람 틀|가}}에서 온 말로) 웃었다.", " 그는 웃었다."),
            "formula in a bracket": (" 그는 (즉 <math>\\frac12</math>일 때) 웃었다.",
                " 그는 웃었다."),
            "a slash": (" 서울 / {{아무 틀|가}}부산이다.", " 서울 / 부산이다."),
            "at the end": (" 그는 갔다{{아무 틀|가}}.", " 그는 갔다."),
        }.items()},
    "templates that say something": {
        "flag with a name": (
            "{{국기|독일}}의 강이다. {{JPN}}의 산이다.\n* {{국기나라|영국}} [[런던]]\n* "
            "{{USA}} [[뉴욕]]", ["독일의 강이다. 일본의 산이다.", "영국 런던", "미국 뉴욕"]),
        "flag by a code": ("{{국기|KOR}}과 {{flag|FRA}}, {{GER}}, {{SUI}}, {{URS}}이다.",
                           ["대한민국과 프랑스, 독일, 스위스, 소련이다."]),
        "flag with options": ("{{국기|미국|1960}}과 {{국가대표|브라질|축구}}이다.", [
            "미국과 브라질이다."]),
        "not a flag": ("앞{{Col}} {{can}} 뒤", ["앞 뒤"]),
        "legend": ("색\n* {{범례|#00f|[[가당]] (3석)}}\n* {{legend|red|나당}}\n* "
            "{{범례2|#fff|다당|border=1px}}", ["색", "가당 (3석)", "나당", "다당"]),
        "color without a name": ("* {{색 상자|red}} 가당", ["가당"]),
        "feet and inches": ("키는 {{convert|6|ft|2|in|cm}}, {{변환|6|ft|2+1/2|in}}이다.",
                            ["키는 6 ft 2 in, 6 ft 2 1/2 in이다."]),
        "two sides": ("크기는 {{convert|5|x|7|m|ft}}, {{cvt|1|by|2|×|3|cm|in}}이다.",
                      ["크기는 5×7 m, 1×2×3 cm이다."]),
        "millions": ("거리는 {{convert|2.5|e6km|e6mi}}, {{convert|3|e3km2}}이다.",
                     ["거리는 2.5×10^6 km, 3×10^3 km²이다."]),
        "from and to": ("{{convert|10|to|20|km|mi}}, {{convert|1|or|2|kg}}, {{convert|5|±|1|C}}",
                        ["10~20 km, 1 또는 2 kg, 5±1 °C"]),
        "precision": ("{{convert|120|km/h|mph|0}}, {{cvt|30|m|ft|abbr=on}}, {{convert|9|m/s2}}",
                      ["120 km/h, 30 m, 9 m/s²"]),
        "quotations": ("그는 썼다.\n{{인용 상자|달이 밝다.|어느 이}}\n{{quote box|quote=별이 "
            "밝다.|source=책}}\n"
            "{{Quotation|해가 밝다.|책}}\n{{인용문2|내용=불이 밝다.}}\n{{rquote|left|눈이 "
            "희다.|이}}", ["그는 썼다.", "달이 밝다.", "별이 밝다.", "해가 밝다.", "불이 밝다.",
            "눈이 희다."]),
        "quotation of lines": ("{{Quote_box\n|width=30%\n|quote=달이\n밝다.\n}}\n뒤.", ["달이",
            "밝다.", "뒤."]),
        "blanks": ("5{{nbsp}}kg, 봄{{snd}}가을, 봄{{•}}가을, 봄{{·}}가을, 봄{{sp}}날, 봄{{zwsp}}날",
                   ["5 kg, 봄 – 가을, 봄 • 가을, 봄 · 가을, 봄 날, 봄날"]),
        "dashes": ("1{{ndash}}2, 봄{{mdash}}가을, {{(}}가{{)}}", ["1–2, 봄—가을, {가}"]),
        "one argument": (
            "{{nihongo|가}}, {{frac|4}}, {{lang|漢字}}, {{llang|글}}, {{색|글}}, {{루비|漢}}", [
            "가, 1/4, 漢字, 글, 글, 漢"]),
        "one argument that says nothing": (
            "가{{lang|ja}}나{{color|red}}다{{lang-en}}라{{llang|en}}", ["가나다라"]),
        "fractions": ("{{분수|1|3}}, {{frac|2|1|3}}, {{sfrac|3|4}}", ["1/3, 2 1/3, 3/4"]),
        "names and signs": ("{{nihongo|가|漢}}, {{chem|H|2|O}}, {{제곱근|2}}, {{10^|6}}", [
            "가(漢), H2O, √2, ×10^6"]),
    },
    "notes and addresses": {
        "no > before the end": ("봄이다.<ref name=책</ref> 여름이다.", ["봄이다. 여름이다."]),
        "no > at the end": ("봄이다.<ref>책, 1990</ref 여름이다.", ["봄이다. 여름이다."]),
        "the same tag twice": ("봄이다.<ref>책<ref> 여름이다.", ["봄이다. 여름이다."]),
        "begun twice": ("봄이다.<ref><ref>책</ref> 여름이다.", ["봄이다. 여름이다."]),
        "never closed": ("봄이다.<ref>책\n여름이다.<ref>책</ref> 가을이다.", ["봄이다.",
            "여름이다. 가을이다."]),
        "never closed before a heading": ("봄이다.<ref>책\n== 가을 ==\n글이다.</ref> 끝.",
                                          ["봄이다.", "가을", "글이다. 끝."]),
        "ended by itself": ("봄이다.<ref>책<ref/> 여름이다.<ref name=a/> 가을이다.", [
            "봄이다. 여름이다. 가을이다."]),
        "misspelt": (
            "봄이다.<ref>책</rf> 여름이다.<ref>책<\\ref> 가을이다.<ref>책< /ref> 겨울이다.", [
            "봄이다. 여름이다. 가을이다. 겨울이다."]),
        "no < at the end": ("봄이다.<ref>책/ref> 여름이다.", ["봄이다. 여름이다."]),
        "no < at the beginning": ("봄이다.ref>책</ref> 여름이다.", ["봄이다. 여름이다."]),
        "ended twice": ("봄이다.<ref>책</ref></ref> 여름이다.", ["봄이다. 여름이다."]),
        "one in another": ("봄이다.<ref>책<ref>안</ref> 밖</ref> 여름이다.", ["봄이다. 여름이다."]),
        "no > and a slash": ("봄이다.<ref name=책/ 여름이다. 가을이다.<ref name = 나 / > 겨울이다.",
                             ["봄이다. 여름이다. 가을이다. 겨울이다."]),
        "no slash": ("봄이다.<ref name=책> 여름이다.<ref name=책 /> 가을이다.", [
            "봄이다. 여름이다. 가을이다."]),
        "never closed, then a name": (
            "봄이다.<ref>책\n여름이다.<ref name=나/> 가을이다.<ref>책</ref> 겨울이다.", [
            "봄이다.", "여름이다. 가을이다. 겨울이다."]),
        "a quote too few": ('봄이다.<ref name="책>책</ref> 여름이다.<ref name=책"/> 가을이다.',
                            ["봄이다. 여름이다. 가을이다."]),
        "> in a value": (
            '가<br style="a > b" />나이다.<ref name="c > d" /> 라이다. <span title="1 > '
            '0">마</span>이다.', ["가 나이다. 라이다. 마이다."]),
        "> in a value, other tags": (
            "<div title='a > b'>가</div><ref name=\"x>y\">책</ref><b class=\"p>q\">나</b>", ["가"
            , "나"]),
        "address after a sentence": ("그는 이겼다.https://example.org/a 그 뒤 쉬었다.", [
            "그는 이겼다. 그 뒤 쉬었다."]),
        "address with a label": ("학교(주소: https://example.org/a)는 크다.", ["학교는 크다."]),
        "address between signs": ("봄이 왔고<http://example.org/a> 꽃이 피었다.", [
            "봄이 왔고 꽃이 피었다."]),
        "address as a source": (
            "꽃이 피었다 (http://example.org). 새가 운다(출처: http://example.org/2).", [
            "꽃이 피었다. 새가 운다."]),
        "address that a sentence needs": (
            "봄이다. 그 글은 http://example.org/a 에 있다. 누리집은 http://example.org이다. 끝.",
            ["봄이다. 끝."]),
        "address as an object": ("봄이다. http://example.org/a 를 보라. 끝.", ["봄이다. 끝."]),
        "address alone": ("* 누리집: http://example.org\n* http://example.org\n글.", ["글."]),
        "bracket too few": (
            "[[봄]은 온다. [여름]]은 덥다. [[가을|단풍]이 진다. [[파일:가.jpg|섬네일|나] 겨울.",
            ["봄은 온다. 여름은 덥다. 단풍이 진다. 겨울."]),
        "brace too few": ("{{llang|en|Spring}은 봄. {llang|en|Fall}}은 가을. 물({{lang|zh|水}, "
            "{{한자|水}})이다.", ["영어: Spring은 봄. 영어: Fall은 가을. 물(水, 水)이다."]),
        "address with a bracket too few": ("[http://example.org 누리집은 좋다.", [
            "누리집은 좋다."]),
        "address with a bracket too many": ("[[http://example.org 누리집]]은 좋다.", [
            "누리집은 좋다."]),
    },
    "tables that end oddly": {
        name: (f"앞.\n{table}\n뒤.", ["앞.", "뒤."]) for name, table in {
            "one brace more": "{| class=x\n| {{표|{{나}}}} || [[가]]\n|}}",
            "two braces more": "{|\n| 가\n|}}}",
            "a blank": "{|\n| 가\n| }",
            "another bracket": "{|\n| 가\n|)",
            "indented": ":{|\n| 가\n :|}",
            "template that ends alike": "{|\n| {{표\n| 가\n|}}\n| 나\n|}",
            "inner one with a brace more": "{|\n| 가\n{|\n| 나\n|}}\n|}",
            "never": "{|\n| 가\n|-\n! 나 !! 다",
            "in the middle of a line":
                "{| class=x\n|+ 가\n|}\n{| style=\"a\"\n| {| class=y\n| 나\n|}",
            "by a tag": "<table><tr><td>가</td></tr></table",
            "templates for bars": "{{{!}} class=x\n{{!}} 가\n{{!}}}",
            "old templates for bars": "{{(!}} class=x\n{{!-}}\n{{!}} 가\n{{!)}}",
            "never, with signs in a cell": "{|\n| <math>|x|</math> || {{!}}\n! <code>|</code>",
            "end alone": "|}",
        }.items()} | {"text after it": ("{|\n| 가\n|} 뒤.", ["뒤."])},
    "code, switches, functions, prefixes, entities": {
        "code lines": ("셈은 이렇다.\n h_t ← step(x_t)\n '''모든''' t '''에 대해''' 1:len(h) "
            "'''되풀이'''\n   h[t] ← f(h[t])\n\n다음 글.", ["셈은 이렇다.", "다음 글."]),
        "code of C": ("앞.\n int main() {\n   return 0; // 끝낸다.\n }\n뒤.", ["앞.", "뒤."]),
        "code of a shell": ("앞.\n $ ls -l\n total 0\n뒤.", ["앞.", "뒤."]),
        "code in lines": ("앞 <code>\nx = 1\ny = 2\n</code>\n뒤.", ["앞", "뒤."]),
        "listing in a line": (
            "<syntaxhighlight lang=\"c\" inline>a[0] < b</syntaxhighlight>는 식이다.", [
            "a[0] < b는 식이다."]),
        "verse": ("앞.\n 산에는 꽃 피네\n 꽃이 피네\n뒤.", ["앞.", "산에는 꽃 피네", "꽃이 피네",
            "뒤."]),
        "paragraph with a blank": ("앞.\n 산에는 꽃이 핀다. 값은 x = 1이다.\n뒤.",
                                   ["앞.", "산에는 꽃이 핀다. 값은 x = 1이다.", "뒤."]),
        "address lines": ("앞.\n 서울특별시 종로구\n뒤.", ["앞.", "서울특별시 종로구", "뒤."]),
        "switches": ("__문단편집숨김__ __색인안함__ __목차표시__ __새문단쓰기__ __내변안함__ "
            "__NOGLOBAL__ 글.", ["글."]),
        "Korean functions": (
            "봄이다.{{#태그:ref|주석|group=주}} 별은 {{수형식:1234567}}개이다. 지금은 "
            "{{지역년}}년이다.", ["봄이다. 별은 1,234,567개이다."]),
        "functions that need MediaWiki": (
            "봄이다. {{#만약:가|나}}이다. {{#스위치:가|나=다}}이 있다. {{현재월}}월이다. "
            "{{보호수준:edit}}이다.", ["봄이다."]),
        "functions that say nothing": (
            "봄이다.{{기본정렬:가}}{{표시제목:나}}{{짧은설명|다}}{{DISPLAYTITLE:라}} 끝.", [
            "봄이다. 끝."]),
        "case": ("{{lc:ABC}}, {{대문자:abc}}, {{첫대문자:abc}}, {{lcfirst:ABC}}", [
            "abc, ABC, Abc, aBC"]),
        "number without commas": ("{{수형식:1,234|R}}, {{FORMATNUM:9876}}", ["1234, 9,876"]),
        "particles": ("{{#을를:사과}} 먹고 {{#은는:물}} 마신다.", ["사과를 먹고 물은 마신다."]),
        "tags": ("{{#tag:small|작은}} {{#태그:math|x^2}} {{#tag:poem|시}}", ["작은 x^2", "시"]),
        "before a name": ("{{풀기:nowrap|가}}, {{안전풀기:lang|en|b}}, {{Template:nowrap|다}}", [
            "가, b, 다"]),
        "prefixes that are no languages": (
            "[[doi:10.1/x|글]], [[git:가|나]], [[wmde:나|다]], [[hdl:1|라]], [[사토:마]]", [
            "글, 나, 다, 라, 마"]),
        "titles like languages": ("[[abc: 가나다|그 글]]과 [[pop: 노래]]", ["그 글과 pop: 노래"]),
        "languages": ("글.[[en:A]][[zh-classical:B]][[EN:C]][[simple:D]][[be-x-old:E]]", ["글."]),
        "entities that spell tags": (
            "<nowiki><b></nowiki>와 <code>&lt;div&gt;</code>, &lt;Small&gt;, &#60;br&#62;, "
            "&lt;ref&gt;이다.", ["<b>와 <div>, <Small>, <br>, <ref>이다."]),
        "note after a heading": ("== 봄 ==<ref>책</ref>\n글.\n== 가을 == <!-- 가 -->\n글.", ["봄"
            , "글.", "가을", "글."]),
    },
    "a number stays the number that it was": {
        "powers in HTML": ("수는 10<sup>&minus;19</sup>, 2<sup>''n''</sup>, 2<sup>n-1</sup>, "
            "[[10]]<sup>3</sup>, 10 <sup>3</sup>, x<sub>1</sub><sup>2</sup>이다.",
            ["수는 10^−19, 2^n, 2^n-1, 10^3, 10^3, x1^2이다."]),
        "what is no power": ("1<sup>st</sup>와 H<sup>+</sup>, 14<sup>e</sup>이다.",
                             ["1st와 H+, 14e이다."]),
        "two indices": ("값은 <math>x^2_0</math>과 <math>\\chi^2_{0.05}</math>이다.",
                        ["값은 x0^2과 χ0.05^2이다."]),
        "power before a digit": ("값은 <math>2^{2}5</math>, <math>\\log_{10}2</math>이다.",
                                 ["값은 2^2 5, log10 2이다."]),
        "isotopes": ("앞이다. 그것은 <math>{}^{238}_{92}\\mathrm{U}</math>이다. 그것은 "
            "<math>n + ^{14}_{6}C</math>이다. 그것은 <math>{}_6^{14}C</math>이다. 뒤이다.",
            ["앞이다. 뒤이다."]),
        "isotopes in HTML": ("앞이다. 그것은 <sup>235</sup><sub>92</sub>U이다. 그것은 "
            "<sub>92</sub><sup>235</sup>U이다. 그것은 {{sup|235}}{{sub|92}}U이다. 뒤이다.",
            ["앞이다. 뒤이다."]),
        "one number before": (
            "<math>{}^{14}C</math>, <math>{}_5C_2</math>, <sup>235</sup>U가 있다.",
            ["^14C, 5C2, 235U가 있다."]),
        "combinations behind a number": (
            "앞이다. 값은 <math>5{}_5C_2</math>이다. 값은 <math>{}_5C_2{}_3C_1</math>이다. 뒤이다.",
            ["앞이다. 뒤이다."]),
        "two indices on a base": (
            "값은 <math>[x]_0^1</math>, x<sup>2</sup><sub>0</sub>, O<sub>4</sub><sup>2-</sup>이다.",
            ["값은 [x]0^1, x0^2, O4^2-이다."]),
        "power of a bracket": (
            "값은 (-1)<sup>3</sup>, (1+0.05)<sup>10</sup>, (''x''+''y'')<sup>2</sup>이다.",
            ["값은 (-1)^3, (1+0.05)^10, (x+y)^2이다."]),
        "note behind a bracket": ("홍길동(洪吉童)<sup>1)</sup>은", ["홍길동(洪吉童)1)은"]),
        "number behind a power": ("값은 2<sup>10</sup>3, 1010<sub>2</sub>3, log<sub>2</sub>8이다.",
                                  ["값은 2^10 3, 1010_2 3, log2 8이다."]),
        "errors": ("{{val|12.3|0.4|0.5}}, {{val|12.3|+0.4|-0.5}}, {{val|10|-|20|u=km}}",
                   ["12.3 (+0.4, −0.5), 12.3 (+0.4, −0.5), 10~20 km"]),
        "unit, prefix, suffix": ("{{val|10|u=km|up=s}}, {{val|p=~|10|s=%|fmt=commas}}",
                                 ["10 km/s, ~10%"]),
        "other arguments": ("앞이다. 값은 {{val|1|2|3|4}}이다. 값은 {{val|1|끝=2}}이다. 뒤이다.",
                            ["앞이다. 뒤이다."]),
        "zeros": ("{{출생일|2020|01|05}}, {{날짜|2000|10|20}}",
                  ["2020년 1월 5일, 2000년 10월 20일"]),
        "base": ("수는 <math>1010_2</math>와 1010<sub>2</sub>이다.", ["수는 1010_2와 1010_2이다."]),
        "mixed": ("길이는 5{{frac|1|2}}인치, 3<sup>1</sup>/<sub>2</sub>피트이다.",
                  ["길이는 5 1/2인치, 3 1/2피트이다."]),
    },
    "a formula is said, once more": {
        "font above": ("행렬 <math>A^\\mathrm{T}A</math>이다.", ["행렬 A^TA이다."]),
        "relation": ("연산 <math>\\cdot</math>, 관계 <math>\\le</math>이다.",
                     ["연산 ·, 관계 ≤이다."]),
        "negation": ("수 <math>x\\not\\in A</math>이다.", ["수 x∉A이다."]),
        "operator": ("환의 <math>\\operatorname{Spec}R</math>이다.", ["환의 Spec R이다."]),
        "chemistry": ("식은 <math chem>\\ce{H2O}</math>이다. 뒤이다.", ["식은 H2O이다. 뒤이다."]),
    },
    "a line that no line before it begins": {
        "after a quotation": ("그가 썼다.\n{{인용문|별이 밝다.}}\n라고 적었다. 뒤이다.",
                              ["그가 썼다.", "별이 밝다.", "뒤이다."]),
        "after a list": ("구성원은\n* 가\n* 나\n이다. 뒤이다.",
                         ["구성원은", "가", "나", "뒤이다."]),
        "before a formula": ("앞이다. 여기서\n:<math>\\frac12</math>\n따라서 참이다.",
                             ["앞이다.", "따라서 참이다."]),
        "after more than a formula": (
            "이를 풀면\n:x = <math>\\frac12</math> (단, <math>y>0</math>)\n이다. 뒤이다.",
            ["뒤이다."]),
        "a sentence that stays": ("앞이다.\n이다음에는 고 전태일이 왔다.\n을지로에 갔다.",
                                  ["앞이다.", "이다음에는 고 전태일이 왔다.", "을지로에 갔다."]),
    },
    "what a lost template leaves, once more": {
        "tag of a function": ("값은 {{#tag:math|x=1}}이고 가 {{#tag:foo|바=사}} 나이다.",
                              ["값은 x=1이고 가 나이다."]),
        "two particles": ("그는 {{표기|a}}(이)라고 했다. 그가 {{표기|a}}을(를) 샀다. 뒤이다.",
                          ["뒤이다."]),
        "a head and its bracket": ("인구는 {{수|3}}(2010년)이다. 뒤이다.", ["뒤이다."]),
        "ordinal and sign": ("그는 제{{수|3}}대 왕이다. 기온은 -{{수|3}}도이다. 뒤이다.",
                             ["뒤이다."]),
        "semicolons": ("버락({{llang|en|Barack}}, {{IPAc-en|b}}; 1961년 ~ )은 사람이다.",
                       ["버락(영어: Barack; 1961년 ~)은 사람이다."]),
    },
    "a line may begin with a sign of tables": {
        "formula": ("<math>|G|</math>가 소수이면 순환군이다. 뒤이다.",
                    ["|G|가 소수이면 순환군이다. 뒤이다."]),
        "formula, once the sentence before it goes": (
            "값은 <math>\\frac12</math>이다. <math>|x|<1</math>이면 참이다.",
            ["|x|<1이면 참이다."]),
        "code": ("<code>||</code> 연산자는 참이다. 뒤이다.", ["|| 연산자는 참이다. 뒤이다."]),
        "code, exclamation mark": ("* <code>! a</code>는 부정이다.", ["! a는 부정이다."]),
        "template": ("{{!}} 기호는 막대이다.\n\n{{code|! a}}는 부정이다.",
                     ["| 기호는 막대이다.", "! a는 부정이다."]),
        "entity": ("&#124;는 막대이고 &vert;도 그렇다.", ["|는 막대이고 |도 그렇다."]),
        "nowiki": ("<nowiki>|-</nowiki>는 행이다.", ["|-는 행이다."]),
        "link": ("[[가||나]]는 글이고 [[다||]]도 글이다.", ["나는 글이고 다도 글이다."]),
        "row": ("앞이다.\n| 가 || 나\n! 가 !! 나\n{{국기그림|가}} || 나\n뒤이다.",
                ["앞이다.", "뒤이다."]),
    },
    "a line may begin as a file does": {
        "label": ("* 그림:홍길동\n* 글:홍길동", ["그림:홍길동", "글:홍길동"]),
        "sentence": ("그림:김철수, 글:홍길동으로 나온 책이다.",
                     ["그림:김철수, 글:홍길동으로 나온 책이다."]),
        "category": ("분류:잎이 넓은 나무. 뒤이다.", ["분류:잎이 넓은 나무. 뒤이다."]),
        "file": ("파일:가.jpg\n그림:나.PNG 설명\nFile:a b.svg|가\n글이다.", ["글이다."]),
        "remnants, then a row": ("앞이다.\n}}}| 가 || 나\n{}}}| class=x\n뒤이다.",
                                 ["앞이다.", "뒤이다."]),
        "half a link": ("분류:강]]\n파일:가|섬네일]]\n글이다.", ["글이다."]),
    },
    "an entity ends with a semicolon": {
        "names": ("R&region, A&section, Cut&copy, AT&T.", ["R&region, A&section, Cut&copy, AT&T."]),
        "nowiki": ("주소의 끝은 <nowiki>?a=1&copy=2&lt</nowiki>이다.",
                   ["주소의 끝은 ?a=1&copy=2&lt이다."]),
        "a longer name": ("&notin; &notit; &copy; &#xAC00;&#44033;", ["∉ &notit; © 가각"]),
        "formula": ("<math>a \\& b</math>와 <code>p&amp;q</code>이다.", ["a & b와 p&q이다."]),
    },
    "a name after a box that says nothing": {
        "no particle": ("글이다.\n{{태양계}}\n사이먼은 왔다. 뒤이다.",
                        ["글이다.", "사이먼은 왔다. 뒤이다."]),
    },
    "titles and links, once more": {
        "joined sections": ("글이다.\n== 각주 및 출처 ==\n목록이다.\n== 외부 링크와 참고 자료 ==\n"
            "더 있다.\n== 출처와 평가 ==\n평이다.", ["글이다.", "출처와 평가", "평이다."]),
        "apostrophe": ("노래 <I'm Fine>과 <U/S>, <TIME>이 있다.", [
            "노래 <I'm Fine>과 <U/S>, <TIME>이 있다."]),
        "bar in a link": ("[http://a.b/c|누리집]을 열었다.", ["누리집을 열었다."]),
        "address in quotes": ("주소는 \"http://a.b/c\"라고 한다. 뒤이다.", ["뒤이다."]),
        "HTML": ("<a href=\"http://a.b/c\">누리집</a>과 <nobr>글</nobr>이다.",
                 ["누리집과 글이다."]),
    },
    "a sign at the beginning of a line is no tag": {
        name: (f"{wikitext}\n[[분류:가]]", lines) for name, (wikitext, lines) in {
            "code in a list": ("* <code>#define</code>은 명령이다.", ["#define은 명령이다."]),
            "two lists": ("* * 가\n: * 나", ["* 가", "* 나"]),
            "link in a list": ("* [[*NSYNC]]", ["*NSYNC"]),
            "link": ("[[엔싱크|*NSYNC]]은 밴드이다.", ["*NSYNC은 밴드이다."]),
            "equation": (": = 2×3 = 6", ["= 2×3 = 6"]),
            "more equals signs": (": == 가 === 나 = 다", ["== 가 === 나 = 다"]),
            "rule in a list": ("앞.\n:----\n뒤.", ["앞.", "뒤."]),
            "term and meaning": ("* ;가:나 다", [";가:나 다"]),
            "table in a list": ("앞.\n;{| 가\n| 나 || 다\n|}\n뒤.", ["앞.", "뒤."]),
        }.items()},
    "code may begin as a list does": {
        "number sign": ("<code>#include</code>는 지시자이다.", ["#include는 지시자이다."]),
        "star": ("<tt>*p</tt>는 값이다.", ["*p는 값이다."]),
        "colon": ("<code>:q</code>는 명령이다.", [":q는 명령이다."]),
        "semicolon": ("<code>;;</code>로 끝난다.\n\n<nowiki>;</nowiki>은 표이다.",
                      [";;로 끝난다.", ";은 표이다."]),
        "hyphens": ("<code>----</code>는 줄이다.", ["----는 줄이다."]),
        "equals signs": ("<code>==</code>와 <code>!==</code>", ["==와 !=="]),
        "heading": ("=== #GUN ===\n글.\n== * 각주 ==\n책.", ["#GUN", "글."]),
    },
    "a template behind a heading": {
        "anchor": ("== 봄 == {{앵커|가}}\n글.\n== 각주 =={{각주}}\n책.", ["봄", "글."]),
        "template in it": ("== 봄 == {{앵커|{{b}}|{{c|d}}}}\n글.", ["봄", "글."]),
        "picture": ("== 개요 == [[파일:a.jpg|섬네일|[[가|나]] 다]] [[File:b.png]]\n글이다.",
                    ["개요", "글이다."]),
        "category": ("글.\n== 각주 == [[분류:가]]\n* 책", ["글."]),
        "link": ("= 가 = [[나]]\n글.", ["= 가 = 나", "글."]),
    },
    "a template keeps what its argument says": {
        "link with an equals sign": (
            "{{인용문|이것은 [[E=mc²]]라는 식이다.}}\n"
            "{{nowrap|[[가|가=나]]}}, {{lang|ja|[[=LOVE]]}}.",
            ["이것은 E=mc²라는 식이다.", "가=나, =LOVE."]),
        "brackets": ("{{code|main()}} 함수와 {{nihongo|가|}}, {{니혼고|나|漢|na}}이다.",
                     ["main() 함수와 가, 나(漢)이다."]),
        "signs and zeros": (
            "{{formatnum:-0.5}}, {{formatnum:007}}, {{formatnum:+5}}, {{formatnum:−12345.678}}",
            ["-0.5, 007, +5, −12,345.678"]),
        "keys": ("{{키|Ctrl|C}}와 {{key|A}}를 누른다.", ["Ctrl+C와 A를 누른다."]),
        "more arguments": ("{{linktext|大|學}}은 {{rtl-lang|he|א}}와 {{script|Grek|α}}이다.",
                           ["大學은 א와 α이다."]),
    },
    "a link keeps all of its target": {
        "numeric entity": ("[[L&#39;Arc~en~Ciel]]은 밴드이다. [[R&#38;B]]와 [[가{{!}}나]]이다.",
                           ["L'Arc~en~Ciel은 밴드이다. R&B와 가|나이다."]),
        "entity and section": ("[[R&#38;B#역사]]와 [[#역&#39;사]]이다.", ["R&B와 역'사이다."]),
        "no section": ("[[C#]]은 언어이다.", ["C#은 언어이다."]),
        "brackets in a label": (
            "[[파일:A.jpg|섬네일|홍길동[洪]]]본문이다. [[가|나[다]]]이다.",
            ["본문이다. 나[다]이다."]),
        "more brackets in a label": (
            "[[파일:A.jpg|섬네일|홍길동[洪] 나[吉]]]본문이다. [[[가]]]이고 [[가[나]]]이다.",
            ["본문이다. [가]이고 가[나]이다."]),
        "brackets of half a link": ("글.\n[분류:가]]]\n[분류:시조| ]]]]", ["글."]),
        "address in a long caption": (
            f"[[파일:A.jpg|섬네일|{'긴 ' * 100}[http://a.b 설명]]]홍길동은 왔다.",
            ["홍길동은 왔다."]),
    },
    "an address of another kind": {
        "of a host": (
            "앞이다. [[그]] 글은 git://a.b/c.git 에 있다. irc://a.b/c 를 보라. [ssh://a.b 누리집].",
            ["앞이다. 누리집."]),
        "of no host": (
            "전화는 Tel:02-123-4567 이다. 예는 urn:isbn:0451450523 이다. [sip:a@b.c 나]이다.\n"
            "[[분류:가]]",
            ["전화는 Tel:02-123-4567 이다. 예는 urn:isbn:0451450523 이다. 나이다."]),
        "of no host, a blank for a label": ("전화 [tel:02-123 ]로 걸라.\n[[분류:가]]",
                                            ["전화 tel:02-123로 걸라."]),
        "without a link beside it": ("전화는 Tel:02-123-4567 이다. 글은 git://a.b/c.git 에 있다.",
                                     ["전화는 Tel:02-123-4567 이다."]),
    },
    "a number stays the number that it was, once more": {
        "charge": ("{{chem|SO|4|2-}}, {{chem|Ca|2+}}, {{chem|Ca|(OH)|2}}, {{chem|NO|3|-}}",
                   ["SO4^2-, Ca2+, Ca(OH)2, NO3^-"]),
        "isotopes": ("앞이다. 그것은 {{chem|235|92|U}}이다. 그것은 {{chem|n|+|14|6|C}}이다. "
            "{{chem|14|C}}도 있다.", ["앞이다. 14C도 있다."]),
        "base in a template": ("수는 1010{{sub|2}}, log{{sub|2}}8, 2{{위 첨자|10}}3이다.",
                               ["수는 1010_2, log2 8, 2^10 3이다."]),
        "power, then a base": ("10<sup>3</sup><sub>2</sub>와 10{{sup|3}}{{sub|2}}",
                               ["10_2^3와 10_2^3"]),
        "template or link as a power": (
            "2<sup>{{frac|1|2}}</sup>, 2<sup>{{mvar|n}}</sup>, 2<sup>[[8]]</sup>",
            ["2^1/2, 2^n, 2^8"]),
        "lost template between digits": (
            "앞이다. 값은 1{{가 나|3}}234이다. 값은 5{{가 나}}명이다. 뒤이다.",
            ["앞이다. 값은 5명이다. 뒤이다."]),
        "root before a digit": ("값은 <math>\\sqrt{2}3</math>, <math>\\sqrt12</math>이다.",
                                ["값은 √2 3, √1 2이다."]),
    },
    "a word that looks like a particle": {
        "begins an item": ("* 갑 선거구\n* 을 선거구\n* 과 대표\n* 로 스쿨\n* 와 이어",
                           ["갑 선거구", "을 선거구", "과 대표", "로 스쿨", "와 이어"]),
        "goes on with a sentence": ("* 가\n* 나\n을 말한다. 뒤이다.\n* 다\n등이 있다", ["가", "나",
            "뒤이다.", "다"]),
        "goes on with another ending": ("구성원은\n* 가\n* 나\n을 포함함.",
                                        ["구성원은", "가", "나"]),
        "begins an item with commas": ("* 갑 선거구: 가동, 나동\n* 을 선거구: 다동, 라동",
                                       ["갑 선거구: 가동, 나동", "을 선거구: 다동, 라동"]),
    },
    "the Americas": {
        "section": ("글.\n== 미주 ==\n미국이 있다.\n== 출전 ==\n책.",
                    ["글.", "미주", "미국이 있다."]),
    },
    "signs that show nothing, or an apostrophe": {
        "direction and joining": ("가\u202a나\u202c\u2060다\u2067라\u2069마&#x202E;바",
                                  ["가나다라마바"]),
        "elision": ("L'''Avventura''는 영화이다. '''굵은 ''글'' 씨'''와 L'''b'''이다.",
                    ["L'Avventura는 영화이다. 굵은 글 씨와 Lb이다."]),
        "no elision": (
            "'''Mac'''OS ''X''는 글이다.\n\n'''i'''Phone과 ''iPad''\n\n"
            "'''R'''hythm and '''B'''lues는 ''장르''이다.",
            ["MacOS X는 글이다.", "iPhone과 iPad", "Rhythm and Blues는 장르이다."]),
    },
}  # fmt: skip


@pytest.mark.parametrize("wikitext, text", LINES.values(), ids=LINES)
def test_construct(wikitext, text):
    assert to_text(wikitext) == [text]


@pytest.mark.parametrize("wikitext, lines", PAGES.values(), ids=PAGES)
def test_page(wikitext, lines):
    assert to_text(wikitext) == lines


INSTANCES = {f"{kind}: {name}": case
             for kind, cases in KINDS.items() for name, case in cases.items()}  # fmt: skip


@pytest.mark.parametrize("wikitext, lines", INSTANCES.values(), ids=INSTANCES)
def test_kind(wikitext, lines):
    assert to_text(wikitext) == [line for text in lines for line in text.split("\n")]


# ---- Whole pages, and those of others where they are at hand

SHARED = ROOT.parent / "shared/fixtures"


def hangul(text):
    return Counter(re.findall("[가-힣]", text))


def share_kept(gold, lines):
    """The share of the Hangul of a gold text that stands in lines, sentence by sentence."""
    text = "\n".join(lines)
    sentences = re.split(r"(?<=[.!?])\s+|\n", gold)
    kept = sum((hangul(sentence) for sentence in sentences if sentence in text), Counter())
    return kept.total() / hangul(gold).total()


PAGES_OF_OURS = Path(__file__).parent / "pages"  # NAME.wiki, and its text, NAME.txt


@pytest.mark.parametrize("name", ["formulas", "article"])
def test_page_of_many_constructs(name):
    lines = to_text((PAGES_OF_OURS / f"{name}.wiki").read_text(encoding="utf-8"))
    assert lines == (PAGES_OF_OURS / f"{name}.txt").read_text(encoding="utf-8").splitlines()


BOXES = re.compile(r"^\{\{.*?\}\}$|^\{\{[^\n]*\n(?:[| ][^\n]*\n)*.*?\}\}$"
                   r"|\[\[(?:파일|분류):.*$", re.M)


def plain(wikitext):
    """The prose of a real page by other means: its lines that are no markup, without notes."""
    for line in re.sub(r"<ref.*?(?:/>|</ref>)|<!--.*?-->", "", wikitext).split("\n"):
        line = re.sub(r"\{\{llang\|de\|(\w+)\}\}.*?\)", r"독일어: \1)", line)
        line = re.sub(r"\{\{llang\|en\|(.*?)\}\}", r"영어: \1", line)
        line = re.sub(r"\{\{범례\|#\w+\|(.*?)\}\}|\{\{국기나라\|(.*?)\}\}", r"\1\2", line)
        line = line.replace("{{USA}}", "미국").replace("{{JPN}}", "일본")
        line = re.sub(r"\{\{[A-Z]{3}\}\} ", "", line)
        line = re.sub(r"\[\[(?:[^]|]*\|)?([^]]*)\]\]|''+", r"\1", line)
        line = line.strip("=* ").replace(" ~ )", " ~)")
        if re.match("[가-힣A-Z0-9《]", line) and "{{" not in line:
            yield line


@pytest.mark.parametrize("name", ["berlin_dbpedia_minidump.xml", "wiki2plain_jimmy_carter.wiki",
                                  "mwtext_cjk_test_ko.wiki", "state_space_search_page.xml"])
def test_real_page_keeps_its_prose(name):
    if not (SHARED / "wikitext" / name).exists():
        pytest.skip("the real pages are not at hand")
    text = (SHARED / "wikitext" / name).read_text(encoding="utf-8")
    if name.endswith("xml"):
        text = max((node.text or "" for node in ElementTree.fromstring(text).iter()), key=len)
    text, _, _ = text.partition("== 각주 ==")
    gold = "\n".join(plain(BOXES.sub("", text)))
    lines = to_text(text)
    assert hangul(gold).total() > 60 and share_kept(gold, lines) >= 0.98
    assert not [sign for sign in RESIDUE if any(sign in line for line in lines)]


def cases_at_hand():
    return sorted((SHARED / "wikitext_cases").glob("*.txt")) or [None]


@pytest.mark.parametrize("path", cases_at_hand(), ids=lambda path: path.stem if path else "none")
def test_case_at_hand(path):
    if path is None:
        pytest.skip("the cases are not at hand")
    text = path.read_text(encoding="utf-8")
    _, wikitext, expected = re.split("--- input\n|\n--- expected\n", text)
    assert to_text(wikitext) == expected.partition("\n--- today")[0].strip("\n").split("\n")


def test_names_of_korean_wikipedia():
    """Its own list: every switch goes, no prefix of a project is one of a language, and so on."""
    if not (SHARED / "kowiki_siteinfo.xml").exists():
        pytest.skip("the list is not at hand")
    root = ElementTree.parse(SHARED / "kowiki_siteinfo.xml").getroot()
    aliases = [node.text for node in root.iter("alias")]
    assert to_text("".join(alias for alias in aliases if alias.startswith("__")) + "글.") == ["글."]
    for node in root.iter("iw"):
        prefix = node.get("prefix")
        expected = ["앞뒤"] if node.get("language") else ["앞글뒤"]
        assert to_text(f"앞[[{prefix}:가|글]]뒤") == expected, prefix
        assert to_text(f"앞[[:{prefix}:가]]뒤") == ["앞가뒤"], prefix
    dropped = ("파일", "분류", "틀", "미디어", "File", "Category", "Template", "Media", "Image",
               "그림")  # fmt: skip
    for node in root.iter("ns"):
        for name in {node.text, node.get("canonical")} - {None, ""}:
            expected = ["앞뒤" if name in dropped else "앞글뒤"]
            assert to_text(f"앞[[{name}:가|글]]뒤") == expected, name
    for word in root.iter("magicword"):
        if word.get("name") in ("if", "ifeq", "switch", "expr", "time", "invoke", "property"):
            for alias in word.iter("alias"):
                text = f"앞이다. {{{{#{alias.text}:가|나}}}}이다. 뒤."
                assert to_text(text) == ["앞이다. 뒤."], alias.text
        if word.get("name").startswith(("current", "local", "numberof", "revision", "server")):
            for alias in word.iter("alias"):
                text = alias.text + "가" * alias.text.endswith(":")
                assert to_text(f"앞이다. {{{{{text}}}}}이다. 뒤.") == ["앞이다. 뒤."], alias.text


def test_sample():
    texts = ["\n".join([title, *to_text(wikitext)]) for title, wikitext in articles()]
    assert len(texts) == 132
    files = [SAMPLE / name for name in ("kowiki.txt", "valid.txt")]  # each has a part of them
    found = [text for file in files
             for text in file.read_text(encoding="utf-8").rstrip("\n").split("\n\n")]
    assert sorted(texts) == sorted(found)


def mutations(count):
    """Sample articles and the constructs above with pieces cut out, doubled and swapped."""
    rng = random.Random(0)
    sources = [text for _, text in articles()]
    sources += [text for text, _ in [*LINES.values(), *PAGES.values()]]
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
        for line in lines:
            assert line and line == " ".join(line.split()) and min(line) >= " ", text
            assert not [sign for sign in ("{{", "}}", "[[", "]]") if sign in line], text


NESTS = [
    ("{{가|", "}}"), ("[[가|", "]]"), ("{{{가|", "}}}"), ("{{lang|en|[[", "]]}}"),
    ("{|\n|", "\n|}\n"), ("<ref>", "</ref>"), ("<table>", "</table>")]


@pytest.mark.parametrize("opening, closing", NESTS)
@pytest.mark.parametrize("count", [(3000, 3000), (3000, 0), (0, 3000), (3000, 2999)], ids=str)
def test_deep_nesting_neither_fails_nor_hangs(opening, closing, count):
    text = opening * count[0] + "나" + closing * count[1]
    lines = to_text(f"앞이다.\n\n{text}\n\n== 뒤 ==\n끝이다.")
    assert lines[0] == "앞이다." and lines[-1] == "끝이다."
    assert not [sign for sign in RESIDUE if any(sign in line for line in lines)]


# ---- Pages torn at random

TORN_SIGNS = [
    "[[", "]]", "{{", "}}", "{{{", "}}}", "'''", "''", "<ref>", "</ref>", "<ref name=a/>", "|",
    "=", "==", "*", "#", ":", ";", "----", "<!--", "-->", "\n", "{|", "|}", "|-", "<nowiki>",
    "</nowiki>", "<math>", "</math>", "<div>", "<br", "<", ">", "&", "&lt;", "&#91;&#91;",
    "[http://a b", "__TOC__", "[[파일:", "[[분류:", "\x00", "\x01", "\x07", "\u2028", "\x85",
    "\U0001f600", "(", ")", "{{lang|en|", "{{출생일|1|", "{{#if:", "<code>", "</code>",
    "<math>\\frac", "http://a.b/", "\n ", "|}}", "<pre>"]


def delete(text, other, rng):
    i, j = span(text, rng)
    return text[:i] + text[j:]


def duplicate(text, other, rng):
    i, j = span(text, rng)
    return text[:j] + text[i:j] * rng.randint(1, 3) + text[j:]


def swap(text, other, rng):
    (i, j), (k, m) = sorted((span(text, rng), span(text, rng)))
    k, m = max(j, k), max(j, m)
    return text[:i] + text[k:m] + text[j:k] + text[i:j] + text[m:]


def insert(text, other, rng):
    i = rng.randint(0, len(text))
    return text[:i] + rng.choice(TORN_SIGNS) * rng.choice((1, 1, 1, 2, 30)) + text[i:]


def truncate(text, other, rng):
    i = rng.randint(0, len(text))
    return rng.choice((text[:i], text[i:]))


def graft(text, other, rng):
    (i, j), k = span(other, rng), rng.randint(0, len(text))
    return text[:k] + other[i:j] + text[k:]


def span(text, rng):
    i = rng.randint(0, len(text))
    return i, min(len(text), i + rng.choice((1, 2, 3, 10, 200)))


def torn(count):
    """Pages of the sample and wikitext of the tests above, each changed in 1 to 12 places."""
    rng = random.Random(7)
    sources = [text for text, _ in (*LINES.values(), *PAGES.values(), *INSTANCES.values())]
    sources += [text for _, text in articles()]
    kinds = [delete, duplicate, swap, insert, insert, insert, graft, truncate]
    for _ in range(count):
        text = rng.choice(sources)
        for _ in range(rng.randint(1, 12)):
            text = rng.choice(kinds)(text, rng.choice(sources), rng)
        yield text


# With these a bar that is text may begin a line or a heading, or a sentence that becomes its first.
BAR_AS_TEXT = re.compile(
    r"<(?:nowiki|math|code)|\{\{!|&(?:#|vert;)|''|[.!?][^\w\n]*\||^=[^\w\n]*\|", re.M)


def check_lines(lines, text):
    """Lines as kowiki.txt may hold them: text, no markup that was to go, not many more than it."""
    assert sum(map(len, lines)) <= 2 * len(text) + 100, text
    for line in lines:
        assert line and line == " ".join(line.split()) and len(line.splitlines()) == 1, (line, text)
        assert min(line) >= " " and re.search(r"\w", line), (line, text)
        assert not [sign for sign in ("{{", "}}", "[[", "]]") if sign in line], (line, text)
        assert BAR_AS_TEXT.search(text) or not line.startswith(("|", "{|")), (line, text)
        spelt = re.search("&(?:lt|#|amp)|<nowiki|<code|inline", text, re.I)  # a page may show tags
        assert spelt or not re.search(r"</?ref\b", line, re.I), (line, text)
        line.encode()


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_torn_pages_leave_no_markup_and_take_no_longer_than_whole_ones(count):
    longest = 0.0
    for text in torn(count):
        begin = time.process_time()
        lines = to_text(text)
        longest = max(longest, (time.process_time() - begin) / (len(text) + 5000))
        check_lines(lines, text)
    assert longest < 2e-5  # seconds a character, 20 times those of the sample


REPEATED = [
    "{{틀|", "[[가|", "''", "{|\n|", "<ref>", "<ref name=a", "{{{", "<!--", "<math>", "<nowiki>",
    "<b", '<span a="', "=a", "= ", "[http://a ", "[http://a b [[c]] ", "http://a/", "<ref/>",
    "</ref>", "<code>a<b", "<gallery>", "<table>", "((", "( ,", "*", "|}}\n", "{|\n|}}\n", "}}",
    "]]", "&lt;", "\n ", "\n x=1", "\n: <math>x</math>\n이다", "<math>\\frac</math>\n", "{[",
    "{[[", "_", "\n----", "\n;a :", "<Big>", "<", "<br", "/ref>", "ref>", "[[파일:a|",
    "{{lang|en|", "{{a}", "[[a]", "<pre>", "<math>{", '"', "《", "{{{a|", "|", "=", "\t",
    "가 {{x}}는", "{{x}}, ", "<!-- -->", "\n==a==", "\n=a", "[//", "(a: {{x}}, ", "={{b}}",
    "={{={{a}}", "=[[파일:a[[b]]", "[[a[b]", "a'''b", "{{음성}}", "가. {{음성|a}}"]


def seconds(text):
    begin = time.process_time()
    to_text(text)
    return time.process_time() - begin


@pytest.mark.parametrize("size", [4_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_time_is_linear_on_hostile_pages(size):
    for sign in REPEATED:
        for text in (sign * (size // len(sign)),
                     (sign + "\n") * (size // (len(sign) + 1)),
                     sign * (size // 2 // len(sign)) + "}}]]</math></ref>-->" * (size // 40)):
            assert seconds(text) < 0.3 + 3e-5 * size, text[:100]
    for opening, closing in NESTS:
        assert seconds(opening * (size // 10) + closing * (size // 10)) < 0.3 + 3e-5 * size, opening
