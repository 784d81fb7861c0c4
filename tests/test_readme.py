"""The pages in Markdown: their commands run, their figures are the logs', and both READMEs agree.

The commands run from top to bottom in one folder, as a reader would type them. BUDGETS gives a
smaller job to a command that takes long or needs the network; a command without an entry there runs
to the letter. What installs and tests is left to .ci/run. Blocks marked `text` are not run: they
show output, other systems, or commands of an earlier commit.
"""

import importlib.util
import inspect
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, copy_project

import convbert

RESULTS = ROOT / "tests/results"
READMES = ("README.md", "README.ko.md")
PAGES = ("README.md", "web-crawler/README.md", "tests/results/README.md")  # whose commands run
PROGRAMS = ("convbert.py", "web-crawler/kowiki.py", "web-crawler/naver_movie.py",
            "tests/experiments/ablation.py", "tests/experiments/benchmark.py",
            "tests/experiments/benchmark_crawler.py")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")  # code in running text
INSTALL = re.compile(r"^python3 -m venv \.venv && \.venv/bin/pip install .*?txt && ", re.MULTILINE)
TEST = "-r tests/requirements.txt"
BASH = ["bash", "-e", "-c"]
OPTIONAL = {"needs wikiextractor": "wikiextractor", "needs scikit-learn": "sklearn",
            "transformers import": "transformers", "visualize": "matplotlib"}  # a word: its package
SMALL = "--max_steps 2 --batch_size 2 --max_eval_samples 4"
BUDGETS = {  # what a page says: what runs here
    "kowiki.py         #": "kowiki.py --dump web-crawler/sample/kowiki-sample.xml #",
    "naver_movie.py    #": "naver_movie.py --archive web-crawler/sample #",
    "/tmp/": "../shown/",
    "--megabytes 200": "--megabytes 1 --rounds 1",
    "--max_minutes 20": SMALL,
    "--max_steps 6800": SMALL,
    "--eval_steps 1500": "--max_train_samples 120 " + SMALL,
    "--train_file mine.csv": "--size tiny --max_steps 2 --train_file mine.csv",
    "--batch_size 256 --compile --max_minutes 12": "--size tiny " + SMALL,
    "--gradient_accumulation_steps 2": "--size tiny --gradient_accumulation_steps 2 " + SMALL,
    "ablation.py --corpus": "ablation.py --only '^sdconv$' --seeds 1 --max_steps 2 "
                            "--max_train_samples 64 --size tiny --corpus",
    "--rounds 2": "--rounds 1 --steps 1 --size tiny --only 'infer tiny 1x128'",
    "pytest ": "pytest --collect-only -q ",  # fails where nothing is found
}


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page="README.md", languages=("bash", "python")):
    """The blocks of code in these languages: (language, text)."""
    return [block for block in BLOCK.findall(read(page)) if block[0] in languages]


def spans(page="README.md"):
    return [" ".join(span.split()) for span in SPAN.findall(BLOCK.sub("", read(page)))]


def tables(page):
    """The cells of every row of a table, without marks."""
    lines = re.findall(r"^\| ?(.*) \|$", BLOCK.sub("", read(page)), re.MULTILINE)
    return [[re.sub(r"[`*]", "", cell).strip() for cell in line.split(" |")] for line in lines]


# ---- Commands ------------------------------------------------------------------------------------
CASES = [(page, number) for page in PAGES for number in range(len(blocks(page)))]
COMMANDS = [span for page in PAGES for span in spans(page) if span.startswith("pytest ")]


def within_budget(text):
    for said, run in BUDGETS.items():
        text = text.replace(said, run)
    return INSTALL.sub("", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clone without its history, with a .venv that is this Python, and a reader's own files."""
    folder = tmp_path_factory.mktemp("clone")
    copy_project(folder)
    (folder / "weights").symlink_to(ROOT / "weights")
    (folder / ".venv/bin").mkdir(parents=True)
    for name, arguments in (("python", ""), ("torchrun", "-m torch.distributed.run")):
        program = folder / ".venv/bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    sample = ROOT / "web-crawler/sample"
    for name in ("kowiki.txt", "ratings_train.txt"):
        shutil.copy(sample / name, folder)
    shutil.copy(sample / "kowiki.txt", folder / "valid.txt")
    rows = next(text for _, text in blocks(languages=["text"]) if text.startswith("리뷰,분류"))
    head, *rows = rows.splitlines()
    rows = [f"{number}번 {row}" for number in range(80) for row in rows]  # no two are the same
    (folder / "mine.csv").write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    return folder


def execute(program, text, folder):
    for said, module in OPTIONAL.items():
        if said in text and not importlib.util.find_spec(module):
            pytest.skip(f"needs {module}")
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])  # activated
    done = subprocess.run([*program, within_budget(text)], cwd=folder, env=env, capture_output=True,
                          text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page, number", CASES)
def test_block_runs(page, number, folder):
    language, text = blocks(page)[number]
    if TEST in text:
        pytest.skip("the tests themselves, which .ci/run starts")
    execute(BASH if language == "bash" else [sys.executable, "-c"], text, folder)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_in_running_text_runs(command, folder):
    execute(BASH, command, folder)


def test_the_quick_start_prints_about_what_the_readme_shows(folder):
    """bf16 and other processors move the figures a little."""
    if not (folder / "runs/sample/finetune/eval_results.json").exists():
        pytest.skip("reads what the blocks of the README have made")
    for name, near in (("eval_loss_at_start", 0.05), ("eval_loss", 0.2)):
        assert abs(log("sample/pretrain")[name] - log(folder / "runs/sample/pretrain")[name]) < near
    here = log(folder / "runs/sample/finetune")
    assert abs(log("sample/finetune")["eval_accuracy"] - here["eval_accuracy"]) < 0.08


def test_every_budget_is_for_something_that_a_page_says():
    text = "".join(text for page in PAGES for _, text in blocks(page)) + "".join(COMMANDS)
    assert [said for said in BUDGETS if said not in text] == []


def test_every_option_that_a_page_names_exists():
    said = set()
    for page in (*PAGES, "README.ko.md"):
        text = " ".join([*spans(page), *(text for _, text in blocks(page))])
        said |= set(re.findall(r"(?<![\w-])--\w+", text))
    # --no-templates is wikiextractor's, the others are torchrun's and pytest's
    said -= {"--no", "--nproc_per_node", "--dist"}
    helps = [subprocess.run([sys.executable, ROOT / program, "--help"], capture_output=True,
                            text=True, check=True).stdout for program in PROGRAMS]
    assert said - set(re.findall(r"--\w+", " ".join(helps))) == set()


def test_there_are_two_commands_to_set_up():
    for page in READMES:
        found = re.findall(r"^python3 -m venv \.venv && (.*)$", read(page), re.MULTILINE)
        assert len(found) == 2 and found[0].endswith("pretrain") and " pytest " in found[1]


# ---- Two languages, and the code that they speak of ----------------------------------------------
def test_both_readmes_have_the_same_code_headings_tables_and_figures():
    english, korean = map(read, READMES)
    assert BLOCK.findall(korean) == BLOCK.findall(english)
    assert sorted(spans("README.ko.md")) == sorted(spans())
    levels = [re.findall(r"^(#+) ", BLOCK.sub("", text), re.MULTILINE)
              for text in (english, korean)]
    assert levels[0] == levels[1]
    shapes = [[len(row) for row in tables(page)] for page in READMES]
    assert shapes[0] == shapes[1]
    figures = [set(re.findall(r"\d[\d,]*\.?\d+", BLOCK.sub("", text)))
               for text in (english, korean)]
    assert figures[0] ^ figures[1] <= {"200,000", "20"}  # 20만
    assert max(len(text.splitlines()) for text in (english, korean)) <= 240


@pytest.mark.parametrize("page", READMES)
def test_the_map_of_the_file_is_right(page):
    source = read("convbert.py")
    sections = re.findall(r"^# ---- (\d+)\. (.*?) -+$", source, re.MULTILINE)
    rows = [row[0] for row in tables(page)]
    assert [row for row in rows if re.match(r"\d+ ", row)] == [" ".join(pair) for pair in sections]
    names = [span for span in spans(page) if re.fullmatch(r"[A-Za-z]+_?[a-zA-Z]+", span)]
    methods = vars(convbert.ConvBertSelfAttention)
    others = {"batch_size", "conv_type", "label", "pipeline", "predicted_label", "score",
              "torchrun"}
    known = {*vars(convbert), *methods, *convbert.CONVOLUTIONS, *convbert.TASKS, *others}
    assert set(names) - known == set()
    assert len(inspect.getsource(convbert.LightConvolution).splitlines()) == 9


@pytest.mark.parametrize("page", READMES)
def test_the_messages_of_the_troubleshooting_table_exist(page):
    source = read("convbert.py") + read("pictures.py")
    start = [row[0] for row in tables(page)].index("another run is writing there")
    for message, _ in tables(page)[start:]:
        assert message.removesuffix("...").strip() in source


@pytest.mark.parametrize("page", [*PAGES, "README.ko.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", read(page)):
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            path = (ROOT / page).parent / file
            assert path.exists(), target
            if anchor:
                titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = [re.sub(r"[^\w -]", "", title.lower()) for title in titles]
                assert anchor.replace("-", " ") in slugs, target


# ---- Figures and logs ----------------------------------------------------------------------------
def log(folder, file="eval_results.json"):
    return json.loads((RESULTS / folder / file).read_text(encoding="utf-8"))


def percent(share):
    return f"{100 * share:.2f}"


def mean_and_spread(*folders):
    shares = [100 * log(folder)["eval_accuracy"] for folder in folders]
    return f"{statistics.mean(shares):.2f} ± {statistics.stdev(shares):.2f}"


WITH_REVIEWS = ("nsmc", "nsmc-43", "nsmc-44")
WITHOUT = tuple(f"kowiki-alone/{name}" for name in WITH_REVIEWS)
WHOLE_WORDS = tuple(f"whole-words/{name}" for name in (*WITH_REVIEWS, "nsmc-after-40-minutes"))
THREE_SEEDS = ("shipped/nsmc-2-42", "shipped/nsmc-2-43", "shipped/nsmc-2-44")
SHIPPED = ("shipped/not-pretrained", "shipped/kowiki-alone", "shipped/nsmc-42", "shipped/nsmc-43",
           *THREE_SEEDS, "shipped/one-epoch")
PRETRAINED_SHIPPED = ("shipped/kowiki", "shipped/reviews", "shipped/reviews-2")
TUNED = (*SHIPPED, *WITH_REVIEWS, *WITHOUT, "nsmc-without-pretraining", "nsmc-25-minutes",
         *WHOLE_WORDS)
PRETRAINED = ("shipped/kowiki-120", *PRETRAINED_SHIPPED, "kowiki", "reviews",
              "kowiki-alone/pretrain", "whole-words/kowiki", "whole-words/reviews",
              "whole-words/reviews-more")


def millions_of_tokens(folder):
    total = seconds = 0
    for line in (RESULTS / folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "tokens_per_second" in record:
            total += record["tokens_per_second"] * (record["seconds"] - seconds)
            seconds = record["seconds"]
    return total / 1e6


@pytest.mark.parametrize("page", READMES)
def test_figures_of_the_readmes_are_those_of_the_logs(page):
    rows, text = {tuple(row) for row in tables(page)}, read(page)
    shipped = percent(log("shipped/evaluate")["eval_accuracy"])
    for accuracy, pretrained in ((shipped, PRETRAINED_SHIPPED),
                                 (mean_and_spread(*THREE_SEEDS), PRETRAINED_SHIPPED),
                                 (percent(log("shipped/kowiki-alone")["eval_accuracy"]),
                                  ("shipped/kowiki-120",))):
        row = next(row for row in rows if row[1] == accuracy and "ConvBERT" in row[0])
        tokens = f"{sum(map(millions_of_tokens, pretrained)):.0f}M"
        assert row[3].replace(" ", "").startswith(tokens)
        minutes = sum(log(run, "train_results.json")["seconds"] for run in pretrained) / 60
        assert f"{minutes:.0f}" in row[4]
    assert any(row[1] == percent(log("shipped/not-pretrained")["eval_accuracy"]) for row in rows)
    assert "| " + percent(log(".", "baseline-official.json")["eval_accuracy"]) + " |" in text
    model = convbert.ConvBertForMaskedLM(convbert.ConvBertConfig.from_pretrained(ROOT))
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" in text
    before, after = (log("sample/pretrain")[name] for name in ("eval_loss_at_start", "eval_loss"))
    assert f"{before:.2f}" in text and f"{after:.2f}" in text


def test_accuracies_of_the_results_are_those_of_the_logs():
    rows = {row[0]: row for row in tables("tests/results/README.md") if row[0] in TUNED}
    assert set(rows) == set(TUNED)
    for folder, row in rows.items():
        scores, seconds = log(folder), log(folder, "train_results.json")["seconds"]
        values = [percent(scores[name]) for name in ("dev_accuracy", "eval_accuracy", "eval_f1")]
        assert row[3:] == [*values, f"{seconds / 60:.0f}"]
    text = read("tests/results/README.md")
    assert mean_and_spread(*WITH_REVIEWS) in text and mean_and_spread(*WITHOUT) in text
    shipped = log("shipped/evaluate")
    for row in shipped["confusion_matrix"]:
        assert " | ".join(f"{count:,}" for count in row) in text
    assert mean_and_spread(*THREE_SEEDS) in text
    for average in ("shipped/average", "shipped/average-2", "shipped/average-3",
                    "shipped/student-1", "shipped/student-2"):
        assert f"{percent(log(average)['dev_accuracy'])} %" in text
    assert f"{percent(shipped['eval_accuracy'])} % (F1 {percent(shipped['eval_f1'])})" in text
    assert f"{log('.', 'baseline.json')['features']:,}" in text


def test_losses_of_the_results_are_those_of_the_logs():
    rows = {row[0].removesuffix(", from there"): row for row in tables("tests/results/README.md")
            if len(row) == 6}
    for folder in PRETRAINED:
        end = log(folder, "train_results.json")
        assert rows[folder][1:] == [
            f"{end['seconds'] / 60:.0f}", f"{end['step']:,}", f"{millions_of_tokens(folder):.1f}",
            *(f"{end['evals'][i]['eval_loss']:.2f}" for i in (0, -1))]
    text = read("tests/results/README.md")
    failed = [log("gpu-rtd", f"finetune-{seed}.json")["eval_accuracy"] for seed in (42, 43, 44)]
    losses = [f"{log('gpu-rtd')[name]:.2f}" for name in ("eval_loss_at_start", "eval_loss")]
    for name in ("no-warmup", "warmup"):
        last = (RESULTS / f"gpu-rtd/on-two-cores/{name}.jsonl").read_text().splitlines()[-1]
        losses.append(f"{json.loads(last)['eval_loss']:.2f}")
    rows = [row[1] for row in tables("tests/results/README.md") if len(row) == 3]
    assert ", ".join(map(percent, failed)) + " %" in rows and set(losses) <= set(rows)
    sample = log("sample/pretrain")
    assert f"{sample['eval_loss_at_start']:.3f} | {sample['eval_loss']:.3f}" in text
    assert f"| | {log('sample/finetune')['eval_accuracy']} |" in text


def ablation_cell(results, variant, task, key, digits, scale=1):
    runs = [run for run in results.get(variant, {}).values() if key in run.get(task, {})]
    values = [scale * run[task][key] for run in runs]
    each = ", ".join(f"{value:.{digits}f}" for value in values)
    return f"{statistics.mean(values):.{digits}f} ({each})" if values else ""


def test_the_ablation_is_that_of_its_logs():
    pieces = log(".", "ablation-pieces.json")["results"]
    words = log(".", "ablation.json")["results"]
    page = tables("tests/results/README.md")
    rows = [row for row in page if row[0] in {*pieces, *words}]
    assert len(rows) == 8
    for variant, _, *cells in rows:
        expected = []
        for results in (pieces, words):
            expected += [ablation_cell(results, variant, "pretrain", "eval_loss", 3),
                         ablation_cell(results, variant, "finetune", "eval_accuracy", 2, 100)]
        assert cells == expected
    masks = [row[1:] for row in page if "masked in training" in row[0]]
    tokens, whole = "sdconv, tokens masked, not words", "sdconv, whole words masked"
    assert masks == [
        [ablation_cell(pieces, on_pieces, "pretrain", "eval_loss", 3),
         ablation_cell(words, on_words, "pretrain", "eval_loss", 3),
         ablation_cell(words, on_words, "finetune", "eval_accuracy", 2, 100)]
        for on_pieces, on_words in (("sdconv", tokens), (whole, "sdconv"))]


def test_speed_and_memory_are_those_of_the_benchmark():
    results = log(".", "benchmark.json")["rows"]
    found = {row[0]: row[1:] for row in tables("tests/results/README.md")}
    shown = 0

    def cells(row):
        sides = [sorted(run["value"] for run in results[row][side]) for side in ("ours", "hf")]
        middle = [statistics.median(values) for values in sides]
        return [*(f"{half:,.0f} ({values[0]:,.0f}-{values[-1]:,.0f})"
                  for half, values in zip(middle, sides)), f"{middle[0] / middle[1]:.2f}"]

    for row in results:
        label = row.removeprefix("train ").replace(" dropout", ", dropout")
        label = label.replace(" each", ", each at its")
        if label in found:
            size = [results[row][side][0]["tensors"] for side in ("ours", "hf")]
            sizes = [f"{size[0]:,.0f}", f"{size[1]:,.0f}", f"{size[0] / size[1]:.2f}"]
            assert found[label] == [*cells(row), *sizes]
            shown += 1
    assert shown == 10
    names = {"inference, 64 rows of 128, tokens/s": "infer small 64x128 bf16",
             "inference, 64 reviews, tokens/s": "infer small 64xreviews bf16",
             "inference, 1 row of 128, tokens/s": "infer small 1x128 bf16",
             "inference, 1 review, tokens/s": "infer small 1xreviews bf16",
             "fine-tuning in batches of 32, reviews/s; HF's Trainer":
                 "finetune small 32xreviews bf16"}
    for label, row in names.items():
        assert found[label] == cells(row)
