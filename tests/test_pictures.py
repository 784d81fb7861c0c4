"""pictures.py: the arrays behind a picture, what pictures show, and that they cost no training."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers import conv_types, make, random_ids

import pictures
from convbert import ConvBertModel

LINES = [  # of a metrics.jsonl
    {"step": 0, "eval_accuracy": 0.5, "eval_loss": 0.7, "eval_samples": 4,
     "confusion_matrix": [[2, 0]] * 2},
    {"step": 10, "loss": 0.6, "learning_rate": 2e-4, "tokens_per_second": 900.0, "seconds": 3.5},
    {"step": 20, "loss": 0.4, "learning_rate": 1e-4, "tokens_per_second": 950.0, "seconds": 7.25},
    {"step": 20, "eval_accuracy": 0.75, "eval_loss": 0.5, "eval_samples": 4,
     "confusion_matrix": [[1, 1]]},
]


@pytest.fixture
def shown(monkeypatch):
    """The figures drawn in a test, in order."""
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is optional").Figure
    figures, savefig = [], figure.savefig

    def watched(self, *args, **options):
        figures.append(self)
        savefig(self, *args, **options)
    monkeypatch.setattr(figure, "savefig", watched)
    return figures


@pytest.fixture
def run(tmp_path):
    """A folder as finetune leaves it."""
    scores = {"eval_accuracy": 0.8, "eval_f1": 0.75, "confusion_matrix": [[1500, 500], [250, 750]]}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    (tmp_path / "eval_results.json").write_text(json.dumps(scores))
    config = {"id2label": {"0": "negative", "1": "positive"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.fixture
def fonts(monkeypatch):
    """fonts(*paths): these are all that the system has."""
    manager = pytest.importorskip("matplotlib.font_manager", reason="matplotlib is optional")

    def install(*paths):
        monkeypatch.setattr(manager, "findSystemFonts", lambda: [str(path) for path in paths])
        pictures.label_fonts.cache_clear()
    yield install
    pictures.label_fonts.cache_clear()


def build_font(family, letters):
    """A font of squares for the letters."""
    builder = pytest.importorskip("fontTools.fontBuilder").FontBuilder(1000, isTTF=True)
    pen = pytest.importorskip("fontTools.pens.ttGlyphPen").TTGlyphPen(None)
    for step, point in enumerate([(0, 0), (0, 700), (700, 700), (700, 0)]):
        (pen.lineTo if step else pen.moveTo)(point)
    pen.closePath()
    names, square = [f"uni{ord(letter):04X}" for letter in letters], pen.glyph()
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names)})
    builder.setupGlyf(dict.fromkeys([".notdef", *names], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    return builder.font


def save_font(path, *families_and_letters):
    fonts = [build_font(*pair) for pair in families_and_letters]
    if path.suffix == ".ttc":
        collection = pytest.importorskip("fontTools.ttLib").TTCollection()
        collection.fonts = fonts
        collection.save(path)
    else:
        fonts[0].save(path)
    return path


# ---- What the model looks at
@pytest.mark.parametrize("layer", (1, 2))
def test_attention_is_that_of_hugging_face(layer, tmp_path):
    hf = pytest.importorskip("transformers")
    model, ids = make(ConvBertModel), random_ids(11)
    model.save_pretrained(tmp_path)
    theirs = hf.ConvBertModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = theirs(ids[None], output_attentions=True).attentions[layer - 1][0].numpy()
    attention, _ = pictures.look(model, ids, layer)
    assert attention.shape == expected.shape == (2, 11, 11)
    assert np.abs(attention - expected).max() < 1e-5


def naive_kernels(mixed, x):
    """[N, T, K] by loops, in double precision, from the input [T, H] of a layer."""
    w = {name: tensor.detach().double().numpy() for name, tensor in mixed.state_dict().items()}
    x, T, N = x.double().numpy(), len(x), mixed.N
    if "conv_kernel" in w:
        scores = np.stack([w["conv_kernel"]] * T, 1)
    else:
        source = x @ w["conv_out_layer.weight"].T + w["conv_out_layer.bias"]
        if "key_conv_attn_layer.bias" not in w:
            a, gate = np.split(source, 2, axis=1)
            source = a / (1 + np.exp(-gate))
        else:
            depthwise, spans = w["key_conv_attn_layer.depthwise.weight"][:, 0], np.zeros_like(x)
            for t in range(T):
                for j in range(depthwise.shape[1]):
                    if 0 <= t + j - depthwise.shape[1] // 2 < T:
                        spans[t] += depthwise[:, j] * x[t + j - depthwise.shape[1] // 2]
            key = spans @ w["key_conv_attn_layer.pointwise.weight"][..., 0].T
            query = x @ w["query.weight"].T + w["query.bias"]
            source = (key + w["key_conv_attn_layer.bias"].T) * query
        scores = source @ w["conv_kernel_layer.weight"].T + w["conv_kernel_layer.bias"]
        scores = scores.reshape(T, N, -1).transpose(1, 0, 2)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


@conv_types
@torch.no_grad()
def test_kernels_by_hand(conv_type):
    model, ids = make(ConvBertModel, conv_type=conv_type, embedding_size=16), random_ids(7)
    attention, kernels = pictures.look(model, ids.tolist(), layer=1)
    assert attention.sum(-1) == pytest.approx(np.ones_like(attention[..., 0]), abs=1e-5)
    if conv_type == "noconv":
        assert kernels is None and attention.shape == (4, 7, 7)
        return
    x = model.embeddings_project(model.embeddings(ids[None]))[0]
    expected = naive_kernels(model.encoder.layer[0].attention.self, x)
    assert kernels.shape == expected.shape == (2, 7, 9)
    assert np.abs(kernels - expected).max() < 1e-5


@conv_types
def test_looking_leaves_the_model_alone(conv_type):
    model, ids = make(ConvBertModel, conv_type=conv_type), random_ids(5)
    pictures.look(model, ids, 2)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def by_title(figure):
    """The axes of the figure that have a title."""
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


@conv_types
def test_mixed_attention_shows_both_halves(conv_type, shown, fonts, tmp_path):
    fonts()
    model, ids, pieces = make(ConvBertModel, conv_type=conv_type), random_ids(6), list("[▁한국어]")
    pictures.mixed_attention(model, ids, pieces, 2, tmp_path / "new" / "a.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    axes, (attention, kernels) = by_title(shown[0]), pictures.look(model, ids, 2)
    assert len(axes) == (4 if conv_type != "noconv" else len(attention))
    for head, weights in enumerate(attention, 1):
        shows = axes[f"Attention, head {head}"]
        assert np.array_equal(shows.collections[0].get_array(), weights)
        assert [label.get_text() for label in shows.get_xticklabels()] == pieces
        assert [label.get_text() for label in shows.get_yticklabels()] == pieces
        assert shows.yaxis_inverted()  # the first token on top
    for head, weights in enumerate(() if kernels is None else kernels, 1):
        shows = axes[f"Kernel, head {head}"]
        steps = [int(label.get_text().replace("−", "-")) for label in shows.get_xticklabels()]
        assert steps == [-4, -3, -2, -1, 0, 1, 2, 3, 4]
        for t, row in enumerate(np.ma.filled(shows.collections[0].get_array(), np.nan)):
            inside = [0 <= t + step < 6 for step in steps]
            assert row[inside] == pytest.approx(weights[t, inside])
            assert np.isnan(row[np.logical_not(inside)]).all()


def test_pictures_grow_with_the_text(shown, fonts, tmp_path):
    fonts()
    for T in (5, 40):
        pieces = ["조각"] * T
        pictures.mixed_attention(make(ConvBertModel), random_ids(T), pieces, 1, tmp_path / "a.png")
    short, long = (figure.get_size_inches() for figure in shown)
    assert (long > short + 5).all()


# ---- Fonts
def test_finds_the_font_that_holds_hangul(fonts, tmp_path, capsys):
    latin = save_font(tmp_path / "a.ttf", ("Latin Only", "AB"))
    broken = tmp_path / "b.ttf"
    broken.write_bytes(b"no font")
    fonts(latin, broken, save_font(tmp_path / "c.ttf", ("Some Hangul", "A가")))
    assert pictures.label_fonts() == ["Some Hangul", "DejaVu Sans"]
    fonts(latin, save_font(tmp_path / "d.ttc", ("Hangul One", "A가"), ("Hangul Two", "A가")))
    assert pictures.label_fonts() == ["Hangul One", "DejaVu Sans"]
    fonts(tmp_path / "c.ttf", save_font(tmp_path / "NanumGothic.ttf", ("Better Hangul", "A가")))
    assert pictures.label_fonts() == ["Better Hangul", "DejaVu Sans"]
    assert not capsys.readouterr().err


def test_without_such_a_font_there_is_one_hint_and_a_picture(fonts, recwarn, tmp_path, capsys):
    fonts(save_font(tmp_path / "a.ttf", ("Latin Only", "AB")))
    for _ in range(2):
        pieces = ["▁한", "국"]
        pictures.mixed_attention(make(ConvBertModel), random_ids(2), pieces, 1, tmp_path / "a.png")
    assert capsys.readouterr().err.count("\n") == 1 and (tmp_path / "a.png").exists()
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]


# ---- Runs
def drawn(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_curves_show_the_log(run, shown):
    pictures.curves(run)
    loss, accuracy, rate = shown[0].axes
    assert drawn(loss)["training"] == [[10, 0.6], [20, 0.4]]
    assert drawn(loss)["evaluation"] == [[0, 0.7], [20, 0.5]]
    assert list(drawn(accuracy).values()) == [[[0, 0.5], [20, 0.75]]]
    assert list(drawn(rate).values()) == [[[10, 2e-4], [20, 1e-4]]]
    assert [axes.get_ylabel() for axes in shown[0].axes] == ["loss", "accuracy", "learning rate"]


def test_confusion_matrix_has_counts_and_shares_of_rows(run, shown):
    pictures.curves(run)
    axes = shown[1].axes[0]
    texts = {text.get_position(): text.get_text().split() for text in axes.texts}  # (column, row)
    assert texts == {(0, 0): ["1,500", "75.0%"], (1, 0): ["500", "25.0%"],
                     (0, 1): ["250", "25.0%"], (1, 1): ["750", "75.0%"]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["negative", "positive"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert {path.name for path in run.glob("*.png*")} == {"curves.png", "confusion_matrix.png"}

@pytest.mark.parametrize("names", [["배송", "$품질$", "가격 " * 20], [f"c{i}" for i in range(30)]])
def test_confusion_matrix_of_any_names_is_drawn(names, run, shown, monkeypatch):
    """With a font that holds Hangul where names do; signs of TeX are signs; many classes fit."""
    asked = []
    monkeypatch.setattr(pictures, "label_fonts", lambda: asked.append(1) or ["DejaVu Sans"])
    counts = [[i + j for j in range(len(names))] for i in range(len(names))]
    scores = {"eval_accuracy": 0.5, "eval_f1": 0.5, "confusion_matrix": counts}
    (run / "eval_results.json").write_text(json.dumps(scores))
    (run / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))
    pictures.confusion_matrix(run)
    (axes,) = shown[0].axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[:2] == names[:2] and max(map(len, labels)) <= 20
    assert bool(asked) == (len(names) == 3)
    assert axes.get_xticklabels()[0].get_fontsize() == 11
    assert len(axes.texts) == (9 if len(names) == 3 else 0)



def test_pretraining_has_no_accuracy(run, shown):
    lines = [{k: v for k, v in line.items() if k != "eval_accuracy"} for line in LINES]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "eval_results.json").write_text('{"eval_loss": 0.5}')
    pictures.curves(run)
    assert [axes.get_ylabel() for axes in shown[0].axes] == ["loss", "learning rate"]
    assert {path.name for path in run.glob("*.png*")} == {"curves.png"}


def test_events_are_the_log(run):
    pytest.importorskip("tensorboard", reason="tensorboard is optional")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    for _ in range(2):  # the second set takes the place of the first
        pictures.events(run)
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert not (run / "tensorboard.tmp").exists()
    found = EventAccumulator(str(run / "tensorboard")).Reload()
    scalars = {tag: [(event.step, round(event.value, 6)) for event in found.Scalars(tag)]
               for tag in found.Tags()["scalars"]}
    assert scalars == {
        "train/loss": [(10, 0.6), (20, 0.4)], "train/learning_rate": [(10, 2e-4), (20, 1e-4)],
        "train/tokens_per_second": [(10, 900), (20, 950)], "eval/samples": [(0, 4), (20, 4)],
        "eval/accuracy": [(0, 0.5), (20, 0.75)], "eval/loss": [(0, 0.7), (20, 0.5)]}
    first, second = (event.wall_time for event in found.Scalars("train/loss"))
    assert second - first == pytest.approx(3.75, abs=0.01)  # the seconds of the log


@pytest.mark.parametrize("missing", ("matplotlib.figure", "torch.utils.tensorboard"))
def test_goes_without_a_package(missing, run, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is optional")
    monkeypatch.setitem(sys.modules, missing, None)
    pictures.of_run(run)
    error = capsys.readouterr().err
    assert error.count("\n") == ("matplotlib" in missing) == error.count("pip install matplotlib")
    assert (run / "curves.png").exists() == ("matplotlib" not in missing)


def test_a_damaged_log_costs_a_line_each(run, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is optional")
    (run / "metrics.jsonl").write_text('{"step": 0')
    pictures.of_run(run)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith(f"{run}: no ") for line in lines)
    assert not list(run.glob("*.png*"))
