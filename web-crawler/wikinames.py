"""Names that wikitext.py looks up: templates, languages, countries, units, prefixes, switches.

Tables alone; what is done with a name stands in wikitext.py. Switches, variables, namespaces and
prefixes are those that Korean Wikipedia itself gives (api.php?action=query&meta=siteinfo).
"""

from collections.abc import Callable


def words(text: str) -> list[str]:
    """The words of a table, a list of str."""
    return text.split()


def entries(text: str) -> list[str]:
    """The entries of a table whose entries may hold blanks: what commas part, a list of str."""
    return [" ".join(entry.split()) for entry in text.split(",")]


def pairs(table: list[str]) -> dict[str, str]:
    """{a: b} of the entries a=b; an entry a=b=c gives {a: c, b: c}."""
    result: dict[str, str] = {}
    for entry in table:
        *keys, value = entry.split("=")
        result |= dict.fromkeys(keys, value)
    return result


# ---- Templates -----------------------------------------------------------------------------------
# A template becomes this text: {1} its first argument, {name} a named one, {last} the last.
# Letters' case does not matter.
FIRST_ARGUMENT = entries("""
    한자, hanja, ipa, 학명, ruby, 루비, 윗주, ruby-ja, 후리가나, 옛한글, 고대 한글, unicode,
    유니코드, abbr, 약어, 툴팁, tooltip, ill, 임시링크, 임시 링크, link-interwiki, 위키링크,
    nowrap, nobr, nobreak, 줄바꿈 방지, 줄바꿈없음, 강조, 굵게, 기울임, 작게, 크게, small,
    smaller, big, larger, sub, 아래 첨자, 아래첨자, 밑줄, 취소선, strong, em, nobold, noitalic,
    underline, mono, code, kbd, tt, samp, var, varserif, serif, 수학, math, mvar, nts, num, chem2,
    chem name, flagathlete, 국기 선수, 화학식""")
SECOND_ARGUMENT = entries("""
    lang, rtl-lang, script, 색, 색깔, color, colour, 글씨 색, 글자색, 글자 색, font color,
    fontcolor, 배경색, 형광펜, 음영, color box, colorbox, 글씨 크기, 글자 크기, resize,
    font size""")
LEGENDS = entries("""
    범례, 범례2, 범례0, 범례 줄, legend, legend2, legend0, legend inline, legend-line""")
DATES = entries("""
    출생일, 출생일과 나이, birth date, birth date and age, 사망일, 사망일과 나이, death date,
    날짜, 연월일, dts, 시작일, 시작 날짜, 시작일과 나이, start date, start date and age,
    종료일, 종료 날짜, end date""")
QUOTATIONS = entries("""
    인용문, 인용문2, 인용구, 인용 상자, 인용상자, 인용문 상자, 인용박스, 따옴표, 큰따옴표,
    큰 따옴표, quote, quotation, quote box, quotebox, quote box2, quote frame, cquote, cquote2,
    rquote, bquote, blockquote, pull quote, pullquote, centered pull quote, right pull quote,
    block quotation, blockquotation, bq, 대사, 명언, verse translation, epigraph""")
COUNTRIES_NAMED = entries("""
    국기, 국기나라, 국기 나라, 국기나라2, 국기이름, 국기 이름, 나라, flag, flagu, flagcountry,
    flag country, flagg, 국가대표, 국가대표팀, 국대, fb, fbw, fb-rt, nft, ih, bk, vb,
    hb""")
TEMPLATES = {
    **dict.fromkeys(FIRST_ARGUMENT, "{1}"),
    **dict.fromkeys(SECOND_ARGUMENT, "{second}"),
    **dict.fromkeys(LEGENDS, "{2}"),
    **dict.fromkeys(DATES, "{date}"),
    **dict.fromkeys(QUOTATIONS, "\n{quotation}\n"),
    **dict.fromkeys(COUNTRIES_NAMED, "{country}"),
    **dict.fromkeys(["시", "poem", "columns-list"], "\n{1}\n"),
    **dict.fromkeys(["transl", "음역", "transliteration"], "{last}"),
    **dict.fromkeys(["sup", "위 첨자", "위첨자"], "^{1}"),  # 10^3 is not 103
    **dict.fromkeys(["e", "exp", "10^"], "×10^{1}"),
    **dict.fromkeys(["분수", "frac", "fraction", "sfrac"], "{fraction}"),
    **dict.fromkeys(["convert", "변환", "cvt", "단위 변환", "단위변환"], "{measure}"),
    **dict.fromkeys(["height", "신장"], "{height}"),
    **dict.fromkeys(["제곱근", "sqrt", "root"], "√{1}"),
    **dict.fromkeys(["circa", "c."], "약 {1}"),
    **dict.fromkeys(["nihongo", "nihongo2", "니혼고"], "{japanese}"),
    **dict.fromkeys(["chem", "화학"], "{chemical}"),
    **dict.fromkeys(["key", "키", "key press", "keypress"], "{keys}"),
    "linktext": "{joined}",
    "val": "{quantity}",
    "문화어": "문화어: {1}",
}
# Templates that stand for signs, blanks among them, as they are.
SIGNS = {
    **dict.fromkeys(entries("""
        nbsp, space, spaces, sp, thinsp, thin space, thinspace, hairsp, hair space, nnbsp, ensp,
        emsp, en space, em space, pad, gap, 공백, 빈칸, 띄어쓰기, 전각 공백, br, break, 줄바꿈, pb,
        in5"""), " "),
    **dict.fromkeys(entries("snd, snds, spnd, sndash, spaced ndash, spaced en dash, spaced endash"),
                    " – "),
    **dict.fromkeys(entries("smd, spmd, smdash, spaced mdash, spaced em dash"), " — "),
    **dict.fromkeys(entries("•, bull, bullet, spaced bullet, •w"), " • "),
    **dict.fromkeys(entries("·, dot, middot, interpunct, ·w, 가운뎃점"), " · "),
    **dict.fromkeys(entries("ndash, en dash, endash, –"), "–"),
    **dict.fromkeys(entries("mdash, em dash, emdash, —, --"), "—"),
    **dict.fromkeys(entries("zwsp, zwnj, zwj, wbr, shy, 0, ., nowrap begin, nowrap end"), ""),
    **dict.fromkeys(entries("pi, π"), "π"),
    "!": "|", "!!": "||", "=": "=", "(": "{", ")": "}", "'": "'", "colon": ":", "*": "•", "%": "%",
    "·,": "· ", "\\": " / ", "spaced slash": " / ", ",": " · ", "dirmark": "", "directionmark": "",
    "명령검토": "",
}  # fmt: skip
# Templates where no word is wanting when they go: notes, notices, anchors, icons. Boxes, alone on
# their lines, are those whose names end in a word of BOX_ENDINGS, those that have named arguments
# alone, and those of several lines.
NOTES = set(entries("""
    출처 필요, 출처, 출처필요, 사실, fact, cn, citation needed, 언제, 누가, 어디, 무엇, 어떤,
    왜, 어떻게, 누구, when, who, where, which, 확인 필요, 확인필요, 검증 필요, 모호, 불확실,
    의견, 설명 필요, 정확성, 중립 필요, 쪽 필요, 독자 연구, 낡은 정보, 갱신 필요, 번역 필요,
    비자유, 죽은 링크, 깨진 링크, dead link, 웨이백, webarchive, 각주, 주석, 주, 내용주, refn,
    efn, sfn, sfnp, sfnm, sfnref, harv, harvnb, harvtxt, harvp, r, rp, ref, ref label, note,
    note label, 안전한 각주, 하버드 인용, 하버드 출처, 각주 시작, 각주 끝, 다른 뜻,
    다른뜻, 동음이의, 동명이인, 참고, 본문, 자세한 내용, 더 보기, main, see also, about, 토막글,
    전거 통제, 위키데이터 속성 추적, 위키공용, 위키공용분류, 자매 프로젝트, 포털, 좌표, coord,
    위치 지도, anchor, 닻, 앵커, -, clear, 소리, audio, listen, 국기그림, 국기 그림, 국기아이콘,
    국기 아이콘, flagicon, flagdeco, flag icon, 아이콘, icon, 증가, 감소, 변동 없음, increase,
    decrease, steady, 목차, toc, 목차 왼쪽, 목차 오른쪽, toc right, toc left, 다단 시작,
    다단 끝, col-begin, col-2, col-3, col-end, div col, div col end, 스포일러, 공사중, 편집중,
    ko icon, en icon, ja icon, 언어링크, 언어 링크, 중, pp, 보호, 보호 문서, 글로벌 세계화,
    다듬기, 위키화"""))
BOX_ENDINGS = set(words("""
    정보 상자 인용 토막글 둘러보기 목록 표 필요 각주 시작 끝
    box infobox navbox icon 아이콘 그림"""))

# {{llang|en|x}} and {{lang-en|x}}, "영어: x"; a code that is not here leaves x alone.
LANGUAGES = pairs(entries("""
    ko=한국어, ja=일본어, ain=아이누어, zh=중국어, zh-hant=중국어 정체자, zh-hans=중국어 간체자,
    yue=광둥어, mnc=만주어, mn=몽골어, bo=티베트어, ug=위구르어, vi=베트남어, th=태국어,
    lo=라오어, km=크메르어, my=버마어, id=인도네시아어, ms=말레이어, tl=타갈로그어, hi=힌디어,
    sa=산스크리트어, ur=우르두어, bn=벵골어, ta=타밀어, te=텔루구어, si=싱할라어, ne=네팔어,
    ar=아랍어, fa=페르시아어, he=히브리어, tr=튀르키예어, ka=조지아어, hy=아르메니아어,
    az=아제르바이잔어, kk=카자흐어, uz=우즈베크어, ky=키르기스어, tg=타지크어, tk=투르크멘어,
    akk=아카드어, egy=이집트어, en=영어, ang=고대 영어, de=독일어, nl=네덜란드어, sv=스웨덴어,
    no=노르웨이어, nb=노르웨이어, da=덴마크어, is=아이슬란드어, non=고대 노르드어,
    ga=아일랜드어, cy=웨일스어, af=아프리칸스어, la=라틴어, fr=프랑스어, es=스페인어,
    it=이탈리아어, pt=포르투갈어, ro=루마니아어, ca=카탈루냐어, gl=갈리시아어, eu=바스크어,
    el=그리스어, grc=고대 그리스어, sq=알바니아어, ru=러시아어, uk=우크라이나어, be=벨라루스어,
    pl=폴란드어, cs=체코어, sk=슬로바키아어, bg=불가리아어, sr=세르비아어, hr=크로아티아어,
    sl=슬로베니아어, mk=마케도니아어, lv=라트비아어, lt=리투아니아어, fi=핀란드어,
    et=에스토니아어, hu=헝가리어, sw=스와힐리어, am=암하라어, mi=마오리어, haw=하와이어,
    eo=에스페란토, pi=팔리어, jv=자와어, ku=쿠르드어, ps=파슈토어, tt=타타르어, sux=수메르어,
    fro=고대 프랑스어, enm=중세 영어, gd=스코틀랜드 게일어, nn=노르웨이어, lb=룩셈부르크어,
    mt=몰타어"""))

# {{KOR}}, a flag with the name of the country; codes of ISO 3166 and of the Olympic Games.
COUNTRIES = pairs(entries("""
    KOR=대한민국, PRK=조선민주주의인민공화국, JPN=일본, CHN=PRC=중화인민공화국, ROC=TWN=중화민국,
    TPE=중화 타이베이, HKG=홍콩, MAC=마카오, MNG=MGL=몽골, VNM=VIE=베트남, LAO=라오스,
    KHM=CAM=캄보디아, THA=태국, MMR=MYA=미얀마, MYS=MAS=말레이시아, SGP=SIN=싱가포르,
    IDN=INA=인도네시아, BRN=BRU=브루나이, PHL=PHI=필리핀, TLS=동티모르, IND=인도, PAK=파키스탄,
    BGD=BAN=방글라데시, LKA=SRI=스리랑카, NPL=NEP=네팔, BTN=BHU=부탄, MDV=몰디브,
    AFG=아프가니스탄, IRN=IRI=이란, IRQ=이라크, SYR=시리아, LBN=LIB=레바논, JOR=요르단,
    ISR=이스라엘, PSE=PLE=팔레스타인, SAU=KSA=사우디아라비아, YEM=예멘, OMN=OMA=오만,
    ARE=UAE=아랍에미리트, QAT=카타르, BHR=바레인, KWT=KUW=쿠웨이트, TUR=튀르키예,
    GEO=조지아, ARM=아르메니아, AZE=아제르바이잔, KAZ=카자흐스탄, UZB=우즈베키스탄,
    KGZ=키르기스스탄, TJK=타지키스탄, TKM=투르크메니스탄, USA=US=미국, CAN=캐나다, MEX=멕시코,
    GTM=GUA=과테말라, BLZ=BIZ=벨리즈, SLV=ESA=엘살바도르, HND=HON=온두라스, NIC=NCA=니카라과,
    CRI=CRC=코스타리카, PAN=파나마, CUB=쿠바, HTI=HAI=아이티, DOM=도미니카 공화국, JAM=자메이카,
    BHS=BAH=바하마, TTO=TRI=트리니다드 토바고, BRB=BAR=바베이도스, DMA=도미니카 연방,
    GRD=GRN=그레나다, LCA=세인트루시아, VCT=VIN=세인트빈센트 그레나딘, ATG=ANT=앤티가 바부다,
    KNA=SKN=세인트키츠 네비스, PRI=PUR=푸에르토리코, COL=콜롬비아, VEN=베네수엘라, GUY=가이아나,
    SUR=수리남, ECU=에콰도르, PER=페루, BOL=볼리비아, BRA=브라질, PRY=PAR=파라과이,
    URY=URU=우루과이, ARG=아르헨티나, CHL=CHI=칠레, GBR=UK=영국, ENG=잉글랜드, SCO=스코틀랜드,
    WAL=웨일스, NIR=북아일랜드, IRL=아일랜드, FRA=프랑스, DEU=GER=독일, NLD=NED=네덜란드,
    BEL=벨기에, LUX=룩셈부르크, CHE=SUI=스위스, AUT=오스트리아, LIE=리히텐슈타인, ESP=스페인,
    PRT=POR=포르투갈, AND=안도라, ITA=이탈리아, SMR=산마리노, VAT=바티칸 시국, MCO=MON=모나코,
    MLT=몰타, GRC=GRE=그리스, CYP=키프로스, ALB=알바니아, MKD=북마케도니아, SRB=세르비아,
    MNE=몬테네그로, BIH=보스니아 헤르체고비나, HRV=CRO=크로아티아, SVN=SLO=슬로베니아,
    KOS=XKX=코소보, HUN=헝가리, ROU=루마니아, BGR=BUL=불가리아, POL=폴란드, CZE=체코,
    SVK=슬로바키아, RUS=러시아, UKR=우크라이나, BLR=벨라루스, MDA=몰도바, LTU=리투아니아,
    LVA=LAT=라트비아, EST=에스토니아, FIN=핀란드, SWE=스웨덴, NOR=노르웨이, DNK=DEN=덴마크,
    ISL=아이슬란드, FRO=페로 제도, GRL=그린란드, GIB=지브롤터, AUS=오스트레일리아,
    NZL=뉴질랜드, PNG=파푸아뉴기니, FJI=FIJ=피지, SLB=SOL=솔로몬 제도, VUT=VAN=바누아투,
    WSM=SAM=사모아, TON=TGA=통가, KIR=키리바시, TUV=투발루, NRU=나우루, FSM=미크로네시아 연방,
    MHL=마셜 제도, PLW=팔라우, GUM=괌, COK=쿡 제도, EGY=이집트, LBY=LBA=리비아, TUN=튀니지,
    DZA=ALG=알제리, MAR=모로코, SDN=SUD=수단, SSD=남수단, ETH=에티오피아, ERI=에리트레아,
    DJI=지부티, SOM=소말리아, KEN=케냐, UGA=우간다, TZA=TAN=탄자니아, RWA=르완다,
    BDI=부룬디, COD=콩고 민주 공화국, COG=CGO=콩고 공화국, GAB=가봉, CMR=카메룬,
    CAF=중앙아프리카 공화국, TCD=CHA=차드, NER=NIG=니제르, NGA=NGR=나이지리아, BEN=베냉,
    TGO=TOG=토고, GHA=가나, CIV=코트디부아르, BFA=BUR=부르키나파소, MLI=말리, SEN=세네갈,
    GMB=GAM=감비아, GNB=GBS=기니비사우, GIN=GUI=기니, SLE=시에라리온, LBR=라이베리아,
    MRT=MTN=모리타니, CPV=카보베르데, STP=상투메 프린시페, GNQ=GEQ=적도 기니, AGO=ANG=앙골라,
    ZMB=ZAM=잠비아, MWI=MAW=말라위, MOZ=모잠비크, ZWE=ZIM=짐바브웨, BWA=BOT=보츠와나,
    NAM=나미비아, ZAF=RSA=남아프리카 공화국, LSO=LES=레소토, SWZ=에스와티니,
    MDG=MAD=마다가스카르, COM=코모로, MUS=MRI=모리셔스, SYC=SEY=세이셸, EU=유럽 연합,
    SUN=URS=USSR=소련, GDR=DDR=동독, FRG=서독, TCH=CSK=체코슬로바키아, YUG=유고슬라비아,
    SCG=세르비아 몬테네그로"""))

# {{convert|100|km2}}; a unit that is not here stays as it is written.
UNITS = pairs(words("""
    C=degC=°C F=degF=°F K=K km2=sqkm=km² m2=sqm=m² cm2=cm² mm2=mm² km3=km³ m3=cum=m³ cm3=cm³
    mm3=mm³ dm3=dm³ m/s2=m/s² ft/s2=ft/s² kg/m3=kg/m³ g/cm3=g/cm³ um=μm uL=μL L=l=L
    sqmi=mi2=제곱마일 sqft=ft2=제곱피트 cuft=ft3=세제곱피트 sqin=in2=제곱인치
    cuin=in3=세제곱인치 sqyd=yd2=제곱야드 cuyd=yd3=세제곱야드 cumi=mi3=세제곱마일
    acre=acres=에이커 nmi=해리 PD/sqkm=/sqkm=/km2=명/km² PD/sqmi=/sqmi=명/제곱마일 USgal=US갤런
    impgal=영국갤런"""))
# A second number and unit belong to the first; after others, they say what to convert to.
COMPOUND_UNITS = {("ft", "in"), ("yd", "ft"), ("yd", "in"), ("mi", "yd"), ("mi", "ft"),
                  ("st", "lb"), ("lb", "oz"), ("m", "cm"), ("km", "m")}
# The arguments of {{val}} that are understood; fmt= only parts the digits in another way.
QUANTITY = set(words("1 2 3 e u ul up upl p s fmt"))
# What stands between the numbers of a conversion, and what it is in Korean.
BETWEEN = pairs(entries("""
    -=–=—=~=to=to(-)=to about=-to-=~, x=×=by=xx=*=×, +/-=±=+/−=±, +=+, /=/"""))
BETWEEN |= {"and": " 및 ", "and(-)": " 및 ", "&": " 및 ", "or": " 또는 ", ",": ", ", ", and": ", ",
            ", or": ", ", "및": " 및 ", "또는": " 또는 "}  # fmt: skip

# ---- Parser functions and variables --------------------------------------------------------------
# Values only MediaWiki knows, as it knows those of {{#if: ...}}: the sentence that needs one goes.
VARIABLES = set(words("""
    상위문서이름 basepagename 연쇄식원본 계단식원본 cascadingsources 기본언어 contentlanguage
    contentlang 현재일 currentday 현재일2 currentday2 현재요일 currentdayname 현재요일숫자
    currentdow 현재시 currenthour 현재월 currentmonth currentmonth2 현재월1 currentmonth1
    현재월이름약자 currentmonthabbrev 현재월이름 currentmonthname 현재월이름소유격
    currentmonthnamegen 현재시각 현재시분 currenttime 현재타임스탬프 currenttimestamp 현재버전
    currentversion 현재주 currentweek 현재년 currentyear 전체문서이름 fullpagename 이름공간
    namespace 이름공간수 namespacenumber 권한별사용자수 그룹별사용자수 numberingroup numingroup
    활동중인사용자수 numberofactiveusers 관리자수 numberofadmins 문서수 numberofarticles 편집수
    numberofedits 파일수 그림수 numberoffiles 모든문서수 numberofpages 사용자수 계정수
    numberofusers 문서이름 pagename 분류문서수 pagesincategory pagesincat 이름공간문서수
    pagesinnamespace pagesinns 문서크기 pagesize 보호수준 protectionlevel 판일 revisionday 판일2
    revisionday2 판번호 revisionid 판월 revisionmonth 판월1 revisionmonth1 판크기 revisionsize
    판타임스탬프 revisiontimestamp 판사용자 revisionuser 판년 revisionyear 최상위문서이름
    rootpagename 사이트이름 sitename 본문서이름 subjectpagename articlepagename 본문서이름공간
    subjectspace articlespace 하위문서이름 subpagename 토론문서이름 talkpagename 토론이름공간
    talkspace translatablepage formal pagelanguage protectionexpiry 책갈피인코딩 anchorencode
    항목경로 기사경로 articlepath 표준주소 canonicalurl 파일경로 그림경로 filepath 날짜형식
    formatdate dateformat 전체주소 fullurl 성별 gender 문법 grammar 인터페이스 int 지역주소
    localurl 이름 ns 대체왼쪽 padleft 대체오른쪽 padright 문서번호 pageid 복수 복수형 plural
    스크립트경로 scriptpath 서버 server 서버이름 servername 스타일경로 stylepath 주소인코딩
    urlencode 주소디코딩 urldecode bidi numberofwikis 위키잘못메시지 msgnw 나이 만나이 age
    현재연도 경과년수 날짜차이"""))
# Those of the reader's own time, and as part of an address.
VARIABLES |= {name.replace("current", "local").replace("현재", "지역") for name in VARIABLES}
VARIABLES |= {name + "e" for name in VARIABLES}
# What these say may be nothing.
CONDITIONS = set(words("""
    if 만약 ifeq 만약일치 ifexpr 만약계산 iferror 만약오류 ifexist 만약존재 switch 스위치
    coordinates 관련 related 분류트리 categorytree 바벨 babel"""))
# Words before the name of a template that change nothing of what it gives.
MODIFIERS = set(words("""
    틀 template subst 풀기 safesubst 안전풀기 msg 메시지 raw 원본"""))
# {{#을를:사과}} gives the word with the particle that fits: after a consonant/after a vowel.
PARTICLES = pairs(words("""
    을를=eulruel=eul/ruel=을/를 은는=eunneun=eun/neun=은/는 이가=ega=e/ga=이/가
    과와=gwawa=gwa/wa=과/와 아야=aya=a/ya=아/야 으로=euro=euro/ro=으로/로 이=e=e/=이/"""))
CASES: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(["lc", "소문자"], str.lower),
    **dict.fromkeys(["uc", "대문자"], str.upper),
    **dict.fromkeys(["lcfirst", "첫소문자"], lambda text: text[:1].lower() + text[1:]),
    **dict.fromkeys(["ucfirst", "첫대문자"], lambda text: text[:1].upper() + text[1:]),
}
# Those in Korean are words of Hangul between the same signs.
SWITCHES = words("""
    DISAMBIG FORCETOC HIDDENCAT INDEX NEWSECTIONLINK NOCONTENTCONVERT NOCC NOEDITSECTION NOGALLERY
    NOINDEX NONEWSECTIONLINK NOTITLECONVERT NOTC NOTOC STATICREDIRECT TOC NOGLOBAL ARCHIVEDTALK
    NOTALK EXPECTED_UNCONNECTED_PAGE EXPECTWITHOUTSCANS EXPECTUNUSEDCATEGORY""")

# ---- Links ---------------------------------------------------------------------------------------
# Links with these prefixes go, caption and all; so do links to the article in another language.
DROPPED_LINKS = set(words("파일 그림 file image 분류 category 미디어 media 틀 template"))
NAMESPACES = set(entries("""
    특수, 사용자, 위키백과, 미디어위키, 도움말, 포털, 위키프로젝트, 초안, timedtext, 모듈,
    특, 특수기능, 사, 사토, wp, wikipedia, 백, 백토, 들, 들머리, 들토, 프, 프토, draft, special,
    talk, user, project, mediawiki, help, module, 위키낱말사전, 위키문헌, 위키책, 위키인용집,
    위키뉴스, 위키배움터, 위키생물종, 위키여행, 위키데이터, 위키공용, commons, wikt,
    wiktionary, wikisource, wikidata"""))
LANGUAGE_CODES = set(words("""
    aa ab ace ady af als alt am ami an ang anp ar arc ary arz as ast atj av avk awa ay az azb ba
    ban bar bat-smg bbc bcl be be-tarask be-x-old bew bg bh bi bjn blk bm bn bo bpy br bs btm
    bug bxr ca cbk-zam cdo ce ceb ch cho chr chy ckb co cr crh cs csb cu cv cy da dag de dga din
    diq dsb dtp dty dv dz ee egl el eml en eo es et eu ext fa fat ff fi fiu-vro fj fo fon fr frp
    frr fur fy ga gag gan gcr gd gl glk gn gom gor got gpe gsw gu guc gur guw gv ha hak haw he
    hi hif ho hr hsb ht hu hy hyw hz ia id ie ig igl ii ik ilo inh io is it iu ja jam jbo jv ka
    kaa kab kbd kbp kcg kg ki kj kk kl km kn ko koi kr krc ks ksh ku kus kv kw ky la lad lb lbe
    lez lfn lg li lij lld lmo ln lo lrc lt ltg lv lzh mad mai map-bms mdf mg mh mhr mi min mk ml
    mn mni mnw mo mr mrj ms mt mus mwl my myv mzn na nah nan nap nb nds nds-nl ne new ng nia nl
    nn no nov nqo nrm nso nv ny oc olo om or os pa pag pam pap pcd pcm pdc pfl pi pih pl pms pnb
    pnt ps pt pwn qu rm rmy rn ro roa-rup roa-tara ru rue rup rw sa sah sat sc scn sco sd se sg
    sgs sh shi shn shy si simple sk skr sl sm smn sn so sq sr srn ss st stq su sv sw szl szy ta
    tay tcy te tet tg th ti tk tl tly tn to tpi tr trv ts tt tum tw ty tyv udm ug uk ur uz ve
    vec vep vi vls vo vro wa war wo wuu xal xh xmf yi yo yue za zea zgh zh zh-classical zh-cn
    zh-min-nan zh-tw zh-yue zu"""))

# ---- Sections ------------------------------------------------------------------------------------
# Sections without prose: they go with their subsections. Blanks in a title do not matter.
DROPPED_SECTIONS = set(words("""
    같이보기 함께보기 더보기 관련항목 관련문서 각주 주석 주해 내용주 출처 출전 인용 인용문헌
    각주및참고문헌 각주와참고문헌 참고 참고문헌 참고자료 참고서적 참고링크 참고사이트
    참고문헌및각주 참조 참조문헌 관련서적 관련문헌 더읽을거리 읽을거리 추가문헌 외부링크 외부고리
    바깥고리 바깥링크 외부연결 링크 관련링크 관련사이트 관련웹사이트 웹사이트 공식사이트
    공식웹사이트 외부참조 참고문서 인용자료 더알아보기 Seealso References Notes
    Externallinks"""))
