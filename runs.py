"""What the paper has no part in: the machine that a run gets, and the folder that it leaves.

One run at a time writes to a folder, and a killed one goes on from its checkpoint:

    config.json, model.safetensors    the trained model: the last, or the best evaluated one of a fine-tuning
    metrics.jsonl                     a line for every --logging_steps updates and for every evaluation
    eval_results.json                 the scores of that model
    train_results.json                comes last: the run is finished
    checkpoint-STEP/                  a model folder, and in training_state.pt all that is needed to go on

A file or a folder gets its name only when it is whole. What is loaded here never runs code (weights_only).
"""

import contextlib
import ctypes
import fcntl
import json
import math
import os
import shutil
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import nn

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
FREE = ("output_dir", "device", "num_threads", "resume", "overwrite_output_dir", "text", "layer",
        "logging_steps", "save_steps", "save_total_limit")  # these may differ between two parts of one run


class UserError(Exception):
    """Something the user can put right; the command line prints it as one line and ends with status 2."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """What goes wrong ends the program with one line, and status 2 where the user can put it right."""
    if RANK:  # process 0 speaks for all
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        yield
        if dist.is_initialized():
            dist.destroy_process_group()
    except (RuntimeError, MemoryError) as error:
        text = str(error).partition("\n")[0]
        full = isinstance(error, MemoryError) or "out of memory" in text or "CPUAllocator" in text
        if WORLD == 1 and not full:
            raise
        why = "try a smaller --batch_size" if full else "a process of the run has died or failed"
        print(f"convbert.py: error: {why} ({text})", file=sys.__stderr__ if RANK else sys.stderr)
        sys.exit(2 if full else 1)
    except BrokenPipeError:
        os._exit(1)  # whoever read stdout has gone, as `head` does
    except (UserError, OSError, ModuleNotFoundError) as error:
        print(f"convbert.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def choose_hardware(args: Namespace) -> None:
    """Settles device, precision, threads and memory. UserError if the device cannot be had."""
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        args.device = torch.device(args.device or best)
        if args.device.type == "cuda":
            torch.cuda.set_device(args.device.index or int(os.environ.get("LOCAL_RANK", 0)))
        torch.zeros(1, device=args.device).item()
    except Exception as error:  # each kind of device has its own
        raise UserError(f"--device {args.device}: not to be had ({str(error).splitlines()[0]})") from None
    if args.precision == "auto":
        on_cpu = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
        fast = {"cpu": on_cpu, "cuda": torch.cuda.is_bf16_supported}.get(args.device.type, bool)()
        args.precision = "bf16" if fast else "fp32"
    if (shared := args.gradient_accumulation_steps) % WORLD:
        raise UserError(f"--gradient_accumulation_steps {shared}: no multiple of the {WORLD} processes")
    if WORLD > 1:  # started by torchrun
        dist.init_process_group("nccl" if args.device.type == "cuda" else "gloo")
    torch.set_num_threads(args.num_threads or torch.get_num_threads())
    # A page fresh from the system costs more than what is computed in it: let glibc keep what is freed.
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, value in ((-4, 0), (-2, 1 << 26), (-1, 2**31 - 1)):  # M_MMAP_MAX, TOP_PAD, TRIM_THRESHOLD
            libc.mallopt(option, value)


def mean_over_processes(*numbers: float, device: torch.device) -> Sequence[float]:
    """The means of what each process gives. None goes on before all have come here."""
    if WORLD == 1:
        return numbers
    total = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return (total / WORLD).tolist()


def record(loss_of: Callable, batch: dict, device: torch.device, parameters: Iterable) -> Callable:
    """Records loss_of(batch) and its backward pass as a CUDA graph; all parameters must have .grad, which
    stays as it is. What is returned takes a batch of the same shapes, adds to .grad and returns the loss."""
    inputs, parameters = {name: tensor.to(device) for name, tensor in batch.items()}, list(parameters)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):  # what happens once only, such as compiling, happens before
        for _ in range(3):
            torch.autograd.grad(loss_of(inputs), parameters, allow_unused=True)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = loss_of(inputs)
        loss.backward()

    def replay(batch: dict) -> torch.Tensor:
        for name, tensor in batch.items():
            inputs[name].copy_(tensor)
        graph.replay()
        return loss.detach()

    return replay


def catch_signals() -> list[signal.Signals]:
    """The list to which from now on SIGINT and SIGTERM are added, instead of ending the program."""
    caught: list[signal.Signals] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: caught.append(signal.Signals(number)))
    return caught


def release_signals() -> None:
    """From now on SIGINT ends the program again; a SIGTERM leaves it the time to finish."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def leave(caught: list[signal.Signals], step: int) -> NoReturn:
    number = caught[0] if caught else signal.SIGTERM  # it came to another process
    print(f"{number.name}: saved at step {step}; the same command goes on", file=sys.stderr)
    raise SystemExit(128 + number)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside path; what is written there takes the place of path at the end."""
    temporary = Path(f"{path}.tmp{os.environ.get('RANK', '')}")  # each process its own
    try:
        yield temporary
    except (RuntimeError, SafetensorError) as error:  # what PyTorch and safetensors make of a full disk
        raise UserError(f"{path}: cannot be written ({' '.join(str(error).split())})") from None
    os.replace(temporary, path)


def write_json(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*[0-9]"), key=lambda path: int(path.name.split("-")[1]))


def save_checkpoint(args: Namespace, model: Any, optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Writes checkpoint-STEP; of the older ones, those beyond --save_total_limit go."""
    temporary, log = args.output_dir / "checkpoint.tmp", args.output_dir / "metrics.jsonl"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    more = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "log_size": log.stat().st_size}
    with replacing(temporary / "training_state.pt") as path:
        torch.save(state | more, path)
    temporary.rename(args.output_dir / f"checkpoint-{state['step']}")
    for old in checkpoints(args.output_dir)[: -args.save_total_limit]:
        shutil.rmtree(old)


def last_state(found: list[Path]) -> dict:
    """What the newest readable checkpoint holds; damaged ones are renamed. UserError if none is left."""
    for folder in reversed(found):
        try:
            return torch.load(folder / "training_state.pt", map_location="cpu", weights_only=True)
        except Exception as error:  # reading a damaged file can raise almost anything
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise  # this is no damage
            with contextlib.suppress(FileNotFoundError):  # another process of the run has been faster
                folder.rename(f"{folder}.damaged")
                print(f"{folder}: damaged, set aside ({type(error).__name__})", file=sys.stderr)
    raise UserError(f"{found[-1].parent}: no checkpoint can be read; --overwrite_output_dir starts anew")


def find_state(args: Namespace, config: object) -> dict:
    """The state that the last checkpoint in the output folder holds, or else that of a new run.
    UserError where two runs would mix or files be overwritten, SystemExit if this one is finished."""
    folder, again, here = args.output_dir, args.overwrite_output_dir, f"--output_dir {args.output_dir}"
    folder.mkdir(parents=True, exist_ok=True)
    options = {k: str(v) for k, v in vars(args).items() if k not in FREE} | {"config": str(config)}
    if (found := checkpoints(folder)) and args.resume and not again:
        state = last_state(found)
        if other := [name for name in options if state["options"].get(name) != options[name]]:
            raise UserError(f"{here} holds a run of other {', '.join(other)}; --overwrite_output_dir ends it")
        if (folder / "train_results.json").exists():
            print(f"{folder}: finished; --overwrite_output_dir runs it again", file=sys.stderr)
            raise SystemExit(0)
        print(f"going on from {folder}/checkpoint-{state['step']}", file=sys.stderr)
        return state
    files = {path.name for path in folder.iterdir()} - {"metrics.jsonl", "checkpoint.tmp"}
    if files and not again:
        raise UserError(f"{here} holds {min(files)}: choose another folder, or --overwrite_output_dir")
    since_log = {"losses": [], "tokens": 0, "logged": 0.0}
    return {"options": options, "step": 0, "seconds": 0.0, "evals": [], "best": {}, "log_size": 0} | since_log


def open_log(args: Namespace, state: dict) -> TextIO:
    """Opens metrics.jsonl where the state left it, for this run alone: UserError if another one writes there.
    With --overwrite_output_dir the older run goes."""
    folder = args.output_dir
    log = open(folder / "metrics.jsonl", "a")  # noqa: SIM115
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"--output_dir {folder}: another run is writing there") from None
    if args.overwrite_output_dir:
        (folder / "train_results.json").unlink(missing_ok=True)
        for old in checkpoints(folder):
            shutil.rmtree(old)
    log.truncate(state["log_size"])  # what was logged after the checkpoint will come again
    return log


def keep_metrics(state: dict, rate: float, log: TextIO) -> str:
    """Notes the steps since the last time: mean loss, last learning rate, tokens a second. Returns a text."""
    speed = state["tokens"] / (state["seconds"] - state["logged"])
    record = {"step": state["step"], "loss": float(np.mean(state["losses"])), "learning_rate": rate,
              "tokens_per_second": speed, "seconds": state["seconds"]}
    print(json.dumps(record), file=log, flush=True)
    state |= {"losses": [], "tokens": 0, "logged": state["seconds"]}
    return "loss {loss:.4f} lr {learning_rate:.1e} {tokens_per_second:,.0f} tokens/s".format(**record)


def keep_score(evaluate: Callable, model: nn.Module, state: dict, log: TextIO) -> None:
    """Notes what evaluate(model) gives; state["best"] is that of the highest eval_accuracy, if any, with the
    weights."""
    with torch.compiler.set_stance("force_eager"):  # to compile for its shapes too would take longer
        scores = evaluate(model)
    if not math.isfinite(scores["eval_loss"]):
        raise UserError(f"step {state['step']}: eval_loss {scores['eval_loss']}; the last checkpoint is kept")
    state["evals"].append({"step": state["step"]} | scores)
    print(json.dumps(state["evals"][-1]), file=log, flush=True)
    if scores.get("eval_accuracy", -1) > state["best"].get("eval_accuracy", -1):
        weights = {name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()}
        state["best"] = state["evals"][-1] | {"model": weights}


def finish(args: Namespace, model: Any, state: dict, scores: dict) -> None:
    """The result of a training; train_results.json comes last and says that the run is finished."""
    import pictures  # which imports this module
    model.save_pretrained(args.output_dir)
    for path in Path(args.vocab_file).parent.glob("tokenizer*.json"):  # AutoTokenizer reads them
        shutil.copyfile(path, args.output_dir / path.name)
    write_json(args.output_dir / "eval_results.json", scores)
    write_json(args.output_dir / "train_results.json", {k: state[k] for k in ("step", "seconds", "evals")})
    pictures.of_run(args.output_dir)
    print(f"{args.output_dir} after {state['step']} steps, {state['seconds']:.0f} s: {json.dumps(scores)}")
