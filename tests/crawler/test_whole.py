"""All of it, as the README has it."""

import subprocess
import sys

from conftest import copy_project

from crawler.helpers import read_json


def test_from_nothing_to_two_trained_models(tmp_path):
    copy_project(tmp_path)
    model = (tmp_path / "vocab/kowiki.model").read_bytes()
    cheap = ("--size tiny --max_steps 2 --device cpu --num_threads 1 --precision fp32 "
             "--max_seq_length 32")
    for folder, line in (("web-crawler", "kowiki.py --dump sample/kowiki-sample.xml --processes 1"),
                         (".", "convbert.py --task pretrain " + cheap),
                         ("web-crawler", "naver_movie.py --train_file sample/ratings_train.txt "
                                         "--test_file sample/ratings_test.txt"),
                         (".", "convbert.py --task finetune " + cheap)):
        done = subprocess.run([sys.executable, *line.split()], cwd=tmp_path / folder,
                              capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "takes its place" not in done.stderr  # convbert.py has found what was made
    assert (tmp_path / "vocab/kowiki.model").read_bytes() == model
    assert read_json(tmp_path / "runs/finetune/eval_results.json")["eval_samples"] == 200
