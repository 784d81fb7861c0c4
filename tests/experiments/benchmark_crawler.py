"""\
Speed of web-crawler/kowiki.py beside wikiextractor: python tests/experiments/benchmark_crawler.py

Makes a dump of --megabytes from the pages of the sample (or of the dumps given by --pages), in
random order, each with other numbers in title and text, so that no two are the same. Both extract
it with as many processes as there are cores, in turns; "residue" counts lines that still hold
markup. Then a vocabulary is trained, and tokens are made, from our text or that of --corpus.
wikiextractor is left out where it is not installed. Not collected by pytest.
"""

import argparse
import importlib.util
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "web-crawler"))
from dump import read_pages, why_not

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "web-crawler/sample/kowiki-sample.xml"
RESIDUE = re.compile(r"섬네일\||썸네일\||파일:|분류:|\{\{|\}\}|\[\[|\]\]|\{\||</?ref|&lt;|"
                     r"__[가-힣A-Z]+__|\(\s*[,;)]")
FULL = 5900  # MB of XML in the dump of 2026-05-01


def vary(text, rng):
    """The text with other numbers."""
    return re.sub(r"\d+", lambda match: str(rng.randrange(10 ** len(match[0]))), text)


def write_dump(path, sources, megabytes):
    """A dump of articles made from those of the sources; returns its size in MB."""
    rng, number, size = random.Random(0), 0, 0
    pages = [page for source in sources for page in read_pages(source)
             if not why_not(page)]
    with open(path, "w", encoding="utf-8") as file:
        file.write(SAMPLE.read_text(encoding="utf-8").partition("<page>")[0])  # with the namespaces
        while size < megabytes * 1e6:
            page, number = rng.choice(pages), number + 1
            text = vary(page.text, rng)
            size += file.write(
                f"  <page>\n    <title>{escape(page.title)} {number}</title>\n    <ns>0</ns>\n"
                f"    <id>{number}</id>\n    <revision>\n      <id>{number}</id>\n"
                "      <timestamp>2026-11-01T00:00:00Z</timestamp>\n      <model>wikitext</model>\n"
                f'      <text bytes="{len(text.encode())}" xml:space="preserve">'
                f"{escape(text)}</text>\n"
                "    </revision>\n  </page>\n") + len(text.encode()) - len(text)
        file.write("</mediawiki>\n")
    return path.stat().st_size / 1e6


def family_memory(process, peaks):
    """Keeps the peak of the resident memory of a process and its descendants, in MB; Linux only."""
    while process.poll() is None and Path("/proc").exists():
        listing = subprocess.run(["ps", "-eo", "pid=,ppid=,rss="], capture_output=True,
                                 text=True).stdout
        rows = [[int(value) for value in line.split()] for line in listing.splitlines()]
        family, known = {process.pid}, 0
        while len(family) > known:
            known = len(family)
            family |= {pid for pid, parent, _ in rows if parent in family}
        peaks.append(sum(size for pid, _, size in rows if pid in family) / 1024)
        time.sleep(0.2)


def timed(*command):
    """Seconds, and peak memory in MB, of a command."""
    begin, peaks = time.perf_counter(), [0]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    watcher = threading.Thread(target=family_memory, args=(process, peaks))
    watcher.start()
    error = process.communicate()[1]
    seconds = time.perf_counter() - begin
    watcher.join()
    if process.returncode:
        sys.exit(f"{command}: {error.decode()[-2000:]}")
    return seconds, max(peaks)


def residue(files):
    """(lines, lines that hold markup, examples of them)."""
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if RESIDUE.search(re.sub(r"^</?doc.*", "", line))]
    return len(lines), len(found), found[:3]


def extract(who, dump, folder, processes):
    """Seconds and MB of one extraction, and the files it wrote."""
    if who == "ours":
        measured = timed(sys.executable, "web-crawler/kowiki.py", "--stage", "extract",
                         "--dump", dump, "--overwrite", "--output_dir", folder,
                         "--processes", processes)
        return *measured, [folder / "kowiki.txt"]
    measured = timed(sys.executable, "-m", "wikiextractor.WikiExtractor", "--no-templates",
                     "-q", "-b", "1G", "-o", folder, "--processes", processes, dump)
    return *measured, sorted(folder.glob("*/wiki_*"))


def compare_extraction(options, folder):
    """Prints a table of both; returns our text."""
    dump = folder / "dump.xml"
    size = write_dump(dump, options.pages, options.megabytes)
    names = ["ours"] + ["wikiextractor"] * bool(importlib.util.find_spec("wikiextractor"))
    runs = {who: [] for who in names}
    for _ in range(options.rounds):
        for who in names:
            runs[who].append(extract(who, dump, folder / who, options.processes))
    print(f"{size:.0f} MB of XML, {options.processes} processes, {options.rounds} rounds")
    print("| | MB/s | range | peak memory, MB | lines | with residue | full dump, minutes |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for who, results in runs.items():
        speeds = sorted(size / seconds for seconds, *_ in results)
        lines, bad, examples = residue(results[-1][2])
        speed = statistics.median(speeds)
        peak = max(peak for _, peak, _ in results)
        print(f"| {who} | {speed:.2f} | {speeds[0]:.2f}-{speeds[-1]:.2f} | {peak:.0f} "
              f"| {lines:,} | {bad:,} | {FULL / speed / 60:.0f} |")
        print(*(f"  {who}: {line[:100]}" for line in examples), sep="\n", file=sys.stderr)
    return runs["ours"][0][2][0]


def measure_vocabulary(corpus, folder, sample):
    """Prints the time and memory of training on a text, and the speed of encoding by the shipped
    model."""
    folder = folder / "corpus"
    folder.mkdir()
    (folder / "kowiki.txt").symlink_to(corpus.resolve())
    seconds, peak = timed(sys.executable, "web-crawler/kowiki.py", "--stage", "vocab",
                          "--output_dir", folder, "--vocab_dir", folder,
                          "--sample_sentences", sample)
    size = corpus.stat().st_size / 1e6
    print(f"vocabulary from {size:.0f} MB (--sample_sentences {sample}): {seconds:.1f} s, "
          f"{peak:.0f} MB")
    code = ("import sys, time, json; sys.path.insert(0, '.'); import convbert\n"
            "tokenizer = convbert.Tokenizer('vocab/kowiki.model'); begin = time.perf_counter()\n"
            f"convbert.corpus_rows([{str(folder / 'kowiki.txt')!r}], tokenizer, 128)\n"
            "print(json.dumps(time.perf_counter() - begin))")
    seconds = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))
    print(f"tokens of {size:.0f} MB: {seconds:.1f} s, {size / seconds:.1f} MB/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=200, help="Size of the dump.")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each.")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="As many for both.")
    parser.add_argument("--pages", type=Path, nargs="+", default=[SAMPLE],
                        help="Dumps to take pages from.")
    parser.add_argument("--corpus", type=Path,
                        help="Text for vocabulary and tokens; else that extracted.")
    parser.add_argument("--sample_sentences", type=int, default=0, help="As in kowiki.py.")
    parser.add_argument("--folder",
                        help="For the dump and all outputs; a temporary one if not given.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        text = compare_extraction(options, Path(folder))
        measure_vocabulary(options.corpus or text, Path(folder), options.sample_sentences)


if __name__ == "__main__":
    main()
