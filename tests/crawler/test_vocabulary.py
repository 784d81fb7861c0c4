"""The vocabulary that kowiki.py makes, and the one that is shipped."""


import sentencepiece

from crawler.helpers import ROOT, check_error, check_success, kowiki, run


def test_shipped_model_gives_the_published_pieces(capsys):
    kowiki.show_examples(ROOT / "vocab/kowiki.model")
    shown = capsys.readouterr().out.split("\n")
    pieces = ["▁겨울 이 ▁되어 서 ▁날 씨 가 ▁무 척 ▁추 워 요 .",
              "▁이번 ▁성 탄 절 은 ▁화 이트 ▁크리스 마 스가 ▁될 까 요 ?",
              "▁겨울 에 ▁감 기 ▁조 심 하 시 고 ▁행 복 한 ▁연 말 ▁되 세 요 ."]
    assert [line.strip() for line in shown[2::4]] == pieces
    numbers = {piece: i for i, piece in enumerate(vocabulary(ROOT / "vocab/kowiki.vocab"))}
    assert [line.split() for line in shown[3::4]] == [[str(numbers[piece]) for piece in line.split()]
                                                      for line in pieces]


def vocabulary(path):
    return [line.split("\t")[0] for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def vocab(folder, *more):
    return run(kowiki, "--stage", "vocab", "--output_dir", folder, "--vocab_dir", folder,
               "--vocab_size", 1500, *more)


def test_vocabulary_is_that_of_the_trainer_and_kept(corpus):
    check_success(vocab(corpus))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus / "kowiki.txt"), model_prefix=str(corpus / "plain"), model_type="bpe",
        vocab_size=1500, max_sentence_length=999999, pad_id=0, pad_piece="[PAD]", unk_id=1, unk_piece="[UNK]",
        bos_id=2, bos_piece="[BOS]", eos_id=3, eos_piece="[EOS]", user_defined_symbols="[SEP],[CLS],[MASK]",
        minloglevel=2)
    assert (corpus / "kowiki.vocab").read_bytes() == (corpus / "plain.vocab").read_bytes()
    pieces = vocabulary(corpus / "kowiki.vocab")
    assert pieces[:7] == ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[SEP]", "[CLS]", "[MASK]"]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(corpus / "kowiki.model"))
    assert [processor.id_to_piece(i) for i in range(1500)] == pieces
    first = (corpus / "kowiki.model").read_bytes()
    assert "kept" in check_success(vocab(corpus, "--vocab_size", 1400)).out
    assert (corpus / "kowiki.model").read_bytes() == first
    check_success(vocab(corpus, "--overwrite"))
    assert (corpus / "kowiki.model").read_bytes() == first  # again the same


def test_vocabulary_from_a_sample_depends_on_the_seed_alone(corpus):
    models = []
    for seed in (1, 1, 2):
        check_success(vocab(corpus, "--overwrite", "--sample_sentences", 400, "--seed", seed))
        models.append((corpus / "kowiki.vocab").read_bytes())
    assert models[0] == models[1] != models[2]


def test_vocabulary_beyond_the_text_is_told(corpus):
    (corpus / "kowiki.txt").write_text("가나\n" * 20, encoding="utf-8")
    check_error(vocab(corpus), "1500 pieces")
    assert not (corpus / "kowiki.model").exists()
