"""TeX of a <math> to plain text: `say(tex)`, where letters, digits and signs can say it.

`10^{-19}` becomes 10^-19 and `a_{n+1}` an+1. A fraction, a sum, a matrix or any command that is
not in the tables here has no such text. The time is linear in the length of the formula.
"""

import re
import unicodedata

from wikinames import pairs, words

LONGEST = 1000  # characters; longer formulas are matrices and derivations
DEEPEST = 20  # braces within braces

SIGNS = pairs(words(r"""
    times=× cdot=· pm=± mp=∓ div=÷ ast=∗ star=⋆ bullet=• circ=∘ oplus=⊕ ominus=⊖ otimes=⊗ odot=⊙
    le=leq=leqslant=≤ ge=geq=geqslant=≥ ne=neq=≠ lt=< gt=> ll=≪ gg=≫ approx=≈ equiv=≡ cong=≅
    sim=∼ simeq=≃ propto=∝ prec=≺ succ=≻ perp=bot=⊥ top=⊤ parallel=∥ mid=vert=lvert=rvert=|
    to=rightarrow=longrightarrow=→ gets=leftarrow=longleftarrow=← leftrightarrow=↔ mapsto=↦
    Rightarrow=implies=Longrightarrow=⇒ Leftarrow=⇐ Leftrightarrow=iff=Longleftrightarrow=⇔
    uparrow=↑ downarrow=↓ rightleftharpoons=⇌ infty=∞ in=isin=∈ notin=∉ ni=∋ subset=⊂ subseteq=⊆
    supset=⊃ supseteq=⊇ subsetneq=⊊ cup=∪ cap=∩ setminus=smallsetminus=∖ emptyset=varnothing=∅
    forall=∀ exists=∃ nexists=∄ land=wedge=∧ lor=vee=∨ neg=lnot=¬ vdash=⊢ models=⊨ therefore=∴
    because=∵ partial=∂ nabla=∇ prime=′ ldots=dots=cdots=dotsc=dotsb=… vdots=⋮ angle=∠
    triangle=△ square=□ degree=° hbar=ℏ ell=ℓ Re=ℜ Im=ℑ aleph=ℵ wp=℘ imath=ı jmath=ȷ dagger=†
    ddagger=‡ langle=⟨ rangle=⟩ lceil=⌈ rceil=⌉ lfloor=⌊ rfloor=⌋ lbrace={ rbrace=} lbrack=[
    rbrack=] R=reals=Reals=R C=Complex=C N=natnums=N Z=Z Q=Q and=∧ or=∨ exist=∃ empty=∅ infin=∞
    sdot=⋅ plusmn=± sub=⊂ sube=⊆ supe=⊇ lang=⟨ rang=⟩ rarr=→ larr=← harr=↔ Rarr=rArr=⇒ lArr=⇐
    hArr=Harr=⇔ alef=ℵ ang=∠ bull=• real=ℜ image=ℑ weierp=℘ Alpha=Α Beta=Β Epsilon=Ε Zeta=Ζ
    Eta=Η Iota=Ι Kappa=Κ Mu=Μ Nu=Ν Rho=Ρ Tau=Τ Chi=Χ lVert=rVert=Vert=‖ backslash=\ slash=/ S=§
    pounds=£ AA=Å alpha=α beta=β gamma=γ delta=δ epsilon=ε varepsilon=ε zeta=ζ eta=η theta=θ
    vartheta=ϑ iota=ι kappa=κ lambda=λ mu=μ nu=ν xi=ξ omicron=ο pi=π varpi=ϖ rho=ρ varrho=ϱ
    sigma=σ varsigma=ς tau=τ upsilon=υ phi=φ varphi=φ chi=χ psi=ψ omega=ω Gamma=Γ Delta=Δ
    Theta=Θ Lambda=Λ Xi=Ξ Pi=Π Sigma=Σ Upsilon=Υ Phi=Φ Psi=Ψ Omega=Ω nmid=∤ hookrightarrow=↪
    twoheadrightarrow=↠ rtimes=⋊ ltimes=⋉ lesssim=≲ gtrsim=≳ preceq=≼ succeq=≽ vDash=⊨
    triangleq=≜ Box=□ Diamond=◇ beth=ℶ complement=∁ dotsm=dotso=… leqq=≦ geqq=≧ asymp=≍
    coloneqq=≔ trianglelefteq=⊴"""))
SIGNS |= {"|": "‖", "{": "{", "}": "}", "%": "%", "#": "#", "$": "$", "&": "&", "_": "_",
          "colon": ": ", ",": " ", ";": " ", ":": " ", " ": " ", "!": "", "quad": " ", "qquad": " ",
          "space": " ", "thinspace": " "}  # fmt: skip
# These change how what follows looks, or how large it is.
LOOKS = set(words("""
    mathrm mathbf mathbb mathcal mathit mathsf mathtt mathfrak mathscr boldsymbol bold bm pmb rm
    bf it cal sf tt displaystyle textstyle scriptstyle limits nolimits left right middle
    mathopen mathclose mathord mathbin mathrel big Big bigg Bigg bigl bigr Bigl Bigr
    biggl biggr mathstrut Bbb ce large Large small"""))
TEXTS = set(words("""
    text mbox hbox textrm textbf textit textsf texttt textnormal textup operatorname operatorname*
    mathop"""))
NAMES = set(words("""
    log ln lg exp sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan max min sup inf
    lim limsup liminf det dim ker gcd deg arg Pr hom mod bmod"""))
LIMITS = set(words("max min sup inf lim limsup liminf"))  # what stands below them is no index
OVER_LETTERS = set(words("overline overrightarrow widehat vec"))  # AB, from A to B
ACCENTS = {"hat": "\u0302", "widehat": "\u0302", "bar": "\u0304", "overline": "\u0304",
           "tilde": "\u0303", "widetilde": "\u0303", "vec": "\u20d7", "dot": "\u0307",
           "ddot": "\u0308", "check": "\u030c"}  # fmt: skip

TOKEN = re.compile(r"\\(?:operatorname\*|[A-Za-z]+|.)|\s+|[^\\]", re.S)
BASE = re.compile(r"[\w)\]}|‖⟩⌋⌉′*∂∇∞\u0300-\u036f\u20d7]\s*\Z")  # bears a power or an index
PLAIN_POWER = re.compile(r"[-+−±]?[\w.,∞′*†∘°]+|\([^()]*\)|[-+−*′†⊥⊤]+")  # needs no brackets
NO_FORMULA = re.compile(r"</|<ref\b|\n[ \t]*\n|\[\[|'''", re.I)  # an article, its <math> was torn


class Unsayable(Exception):
    """The formula holds what letters, digits and signs cannot say."""


def say(tex: str) -> str | None:
    """TeX -> its text in one line, or None where there is none."""
    if not tex.strip() or len(tex) > LONGEST or NO_FORMULA.search(tex):
        return None
    try:
        text = group(TOKEN.findall(tex), 0, 0)[0]
    except Unsayable:
        return None
    text = " ".join(unicodedata.normalize("NFC", text).split())
    said = re.search(r"[\w·∞∅*]", text) or any(unicodedata.category(sign) == "Sm" for sign in text)
    return text if said else None


def group(tokens: list[str], place: int, depth: int) -> tuple[str, int]:
    """(text, place after it) of the tokens up to the } that ends the group, or to the end."""
    out: list[str] = []
    raised = -1  # the length of out after a power or an index
    bare = False  # whether that one stands on nothing
    while place < len(tokens) and tokens[place] != "}":
        token = tokens[place]
        if raised == len(out) and token.isdigit() and out[-1][-1:].isdigit():
            out.append(" ")  # 2^2 5 is not 2^25
        if token in "^_":
            if raised == len(out) and bare:  # {}^{238}_{92}U: either number would be in the other
                raise Unsayable
            bare = raised != len(out) and is_bare(out)
            text, place = argument(tokens, place + 1, depth)
            index = text.strip()
            if token == "^":
                out.append(power(text))
            elif raised == len(out):  # x^2_0 is x0^2
                out.insert(-1, index)
            elif out and out[-1][-1:].isdigit() and index[:1].isdigit():  # 1010_2
                out.append(f"_{index}")
            else:
                out.append(index)
            raised = len(out)
        elif token == "{":
            text, place = argument(tokens, place, depth)
            out.append(text)
        elif token[0] == "\\":
            place = command(tokens, place, depth, out)
        elif token == "&":
            raise Unsayable
        else:
            out.append("′" if token == "'" else " " if token == "~" or token.isspace() else token)
            place += 1
    if (place < len(tokens)) != (depth > 0):  # a } too many, or too few
        raise Unsayable
    return "".join(out), place + 1


def is_bare(out: list[str]) -> bool:
    """Whether a power or an index stands on nothing, as after {}. Unsayable if behind a digit."""
    if out and not out[-1] and "".join(out[-4:])[-1:].isdigit():  # 5{}_5C_2 is not 55C2
        raise Unsayable
    return not out or not out[-1] or not BASE.search("".join(out[-4:]))


def argument(tokens: list[str], place: int, depth: int) -> tuple[str, int]:
    """(text, place after it) of what a command or a ^ takes: a group, or one token."""
    place = after_blanks(tokens, place)
    if depth > DEEPEST or place == len(tokens) or tokens[place] in "^_}":
        raise Unsayable
    if tokens[place] == "{":
        return group(tokens, place + 1, depth + 1)
    if tokens[place][1:] in LOOKS:  # A^\mathrm T
        return argument(tokens, after_blanks(tokens, place + 1), depth)
    if tokens[place][0] == "\\":
        out: list[str] = []
        place = command(tokens, place, depth + 1, out)
        return "".join(out), place
    return tokens[place], place + 1


def power(text: str) -> str:
    """What stands above: ° and ′ alone need no ^, and a sum needs brackets."""
    text = text.strip()
    if text in ("∘", "°"):
        return "°"
    if text and not text.strip("′"):
        return text
    return f"^{text}" if PLAIN_POWER.fullmatch(text) else f"^({text})"


def apart(name: str, tokens: list[str], place: int, out: list[str]) -> str:
    """The name of a function, with a blank where a letter or a digit stands beside it."""
    before = bool(out) and out[-1][-1:].isalnum()
    after = place < len(tokens) and (tokens[place][0] == "\\" or tokens[place].isalnum())
    return " " * before + name + " " * after


def command(tokens: list[str], place: int, depth: int, out: list[str]) -> int:
    """Appends the text of the command at this place; returns the place after it."""
    name = tokens[place][1:]
    place += 1
    if name in SIGNS:
        spaced = bool(out) and out[-1].endswith(" ")
        out.append(SIGNS[name])
        return place if spaced or not name.isalpha() else after_blanks(tokens, place)
    if name == "not":
        text, place = argument(tokens, place, depth)
        out.append(text.strip() + "\u0338")
        return place
    if name in TEXTS:
        text, place = argument(tokens, place, depth)
        out.append(apart(text, tokens, place, out) if name.startswith("operatorname") else text)
        return place
    if name in LOOKS:
        place = after_blanks(tokens, place)
        if name in ("left", "right") and tokens[place : place + 1] == ["."]:
            place += 1
        return place
    if name in NAMES:
        place = after_blanks(tokens, place)
        if name in LIMITS and tokens[place : place + 1] == ["_"]:
            raise Unsayable
        out.append(apart(name.removeprefix("b"), tokens, place, out))
        return place
    if name in ACCENTS or name in OVER_LETTERS or name in ("sqrt", "pmod"):
        text, place = argument(tokens, place, depth)
        out.append(marked(name, text.strip()))
        if out[-1][-1:].isdigit() and place < len(tokens) and tokens[place].isdigit():
            out.append(" ")  # √2 3 is not √23
        return place
    raise Unsayable


def marked(name: str, text: str) -> str:
    """The text below an accent or a root, or (mod n)."""
    if name == "pmod":
        return f" (mod {text})"
    if name == "sqrt":
        if not text or text.startswith("["):
            raise Unsayable
        return f"√{text}" if re.fullmatch(r"[\d.]+|\w", text) else f"√({text})"
    if name in OVER_LETTERS and len(text) > 1 and text.isupper() and text.isalpha():
        return text
    if len(text) != 1 or name not in ACCENTS:
        raise Unsayable
    return text + ACCENTS[name]


def after_blanks(tokens: list[str], place: int) -> int:
    """The place of the next token that is no blank: TeX ignores those after a command."""
    while place < len(tokens) and tokens[place].isspace():
        place += 1
    return place
