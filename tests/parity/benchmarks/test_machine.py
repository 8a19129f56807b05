"""Where contestants compute: what is refused, and what is asked of a GPU, which is a stand-in here that counts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from effconv.cli import main
from effconv.commands.bench_networks import PRECISIONS
from effconv.effdet_torch.engines import engines
from effconv.effdet_torch.engines.engines import compiled, make_engine
from effconv.errors import EffconvError
from effconv.parity.benchmarks import contestants
from effconv.parity.benchmarks.equal_work import require_outputs, work_of
from effconv.parity.benchmarks.machine import COARSER, Machine
from tiny_models import load_tiny

SWISH = Path(__file__).parents[2] / "golden" / "tiny-swish"
TINY = ("--model", SWISH / "config.json", "--ckpt", SWISH)
GPU = Machine("cuda:1", "tf32")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of `torch.cuda`, in order; memory grows by a thousand bytes at each look."""
    log: list[str] = []

    def note(name: str, value: Any = None) -> None:
        def call(device: str) -> Any:
            log.append(f"{name} {device}")
            return len(log) * 1000 if value is None else value

        monkeypatch.setattr(torch.cuda, name, call)

    for name in ("synchronize", "reset_peak_memory_stats"):
        note(name, 0)
    note("memory_allocated")
    note("max_memory_allocated", 9000)
    return log


def test_the_command_line_offers_every_precision() -> None:
    assert tuple(COARSER) == PRECISIONS


def test_a_turn_ends_when_the_device_has_done_its_work(calls: list[str]) -> None:
    GPU.complete(lambda: calls.append("work"))()
    assert calls == ["work", "synchronize cuda:1"]
    calls.clear()
    Machine().complete(lambda: calls.append("work"))()
    assert calls == ["work"]


def test_peak_memory_is_the_works_own(calls: list[str]) -> None:
    found = GPU.watched(lambda: calls.append("work"))
    first = ["synchronize cuda:1", "reset_peak_memory_stats cuda:1", "memory_allocated cuda:1"]
    assert calls == [*first, "work", "synchronize cuda:1", "max_memory_allocated cuda:1"]
    assert found == (None, 9000 - 3000)
    assert Machine().watched(lambda: 5) == (5, 0)


def test_tf32_is_where_it_is_asked_for_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = [SimpleNamespace(allow_tf32=False), SimpleNamespace(allow_tf32=False)]
    monkeypatch.setattr(torch.backends, "cudnn", backends[0])
    monkeypatch.setattr(torch.backends.cuda, "matmul", backends[1])
    for precision in COARSER:
        with Machine("cuda", precision).arithmetic():
            assert {each.allow_tf32 for each in backends} == {precision == "tf32"}
        assert {each.allow_tf32 for each in backends} == {False}


@pytest.mark.parametrize("command", ["inference", "training", "predict"])
def test_a_device_that_is_not_there_is_refused_in_a_line(command: str, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    images = ("--images", tmp_path) if command == "predict" else ()
    result = run("bench", command, *images, "--model", "d0", "--device", "cuda")
    assert result.exit_code == 2
    assert result.stderr.startswith("effconv: device cuda: cannot be used (")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("inference", "--engines", "fast,openvino", "--device", "cuda"), "openvino: only on the CPU in float32"),
        (("inference", "--peers", "tensorflow", "--precision", "bfloat16"), "tensorflow: only on the CPU in float32"),
        (("inference", "--precision", "tf32"), "precision tf32: of CUDA devices only, found cpu (--precision float32)"),
        (("training", "--precision", "tf32"), "precision tf32: of CUDA devices only"),
        (("predict", "--images", "x", "--engines", "onnxruntime", "--device", "cuda"), "onnxruntime: only on the CPU"),
    ],
)
def test_what_a_machine_does_not_have_is_refused(words: tuple[str, ...], said: str) -> None:
    result = run("bench", *words)
    assert (result.exit_code, said in result.stderr, result.stderr.count("\n")) == (2, True, 1), result.stderr


@pytest.mark.parametrize("engine", ["eager", "fast"])
def test_bfloat16_is_of_weights_and_outputs_and_zeros_are_not_its_rounding(engine: str) -> None:
    model, machine = load_tiny(SWISH), Machine("cpu", "bfloat16")
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    work = work_of(model, images)
    network = contestants.contestant(engine, model, SWISH, (128, 128), machine).network
    with torch.inference_mode():
        outputs = network(images.to(machine.dtype))
    assert {level.dtype for kind in outputs for level in kind} == {torch.bfloat16}
    assert next(model.parameters()).dtype == torch.float32
    outputs = tuple([level.float() for level in kind] for kind in outputs)
    require_outputs(engine, outputs, work, COARSER["bfloat16"])
    wrong = {
        "zeros": tuple([torch.zeros_like(level) for level in kind] for kind in outputs),
        "an image twice": tuple([level[:1].expand_as(level) for level in kind] for kind in outputs),
        "float32's": outputs,
    }
    for name, found in wrong.items():
        with pytest.raises(EffconvError, match="does other work"):
            require_outputs(name, found, work, 1 if name == "float32's" else COARSER["bfloat16"])


def test_bench_inference_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from effconv.parity.benchmarks import inference

    monkeypatch.setattr(inference, "use_threads", lambda threads: None)
    words = ("bench", "inference", *TINY, "--size", "64x64", "--threads", 1, "--rounds", 1, "--batch", 1)
    result = run(*words, "--engines", "fast", "--precision", "bfloat16", "--json")
    assert result.exit_code == 0, result.output
    record = inference.InferenceRecord.read(__import__("json").loads(result.stdout))
    assert (record.provenance["device"], record.provenance["dtype"]) == ("cpu", "bfloat16")
    error = record.rows[0].error_beside_the_model
    assert error is not None
    assert 1e-4 < error < 0.3


def test_graphs_of_a_gpu_are_copied_from() -> None:
    """What a CUDA graph gives is overwritten when it is replayed."""
    model = load_tiny(SWISH)
    given: dict[str, Any] = {}
    kept = [torch.zeros(2)], [torch.zeros(3)]

    def compile(network: Any, **options: Any) -> Any:
        given.update(network=network, **options)

        def run(images: torch.Tensor) -> Any:
            for part in kept:
                part[0].fill_(float(images))
            return kept

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", compile)
        patch.setattr(engines, "next", lambda _: SimpleNamespace(device=torch.device("cuda")), raising=False)
        network = compiled(model)
    assert given == {"network": model, "mode": "reduce-overhead", "dynamic": False}
    first, second = network(torch.tensor(1.0)), network(torch.tensor(2.0))
    assert [float(part[0][0]) for part in first] == [1.0, 1.0]
    assert [float(part[0][0]) for part in second] == [2.0, 2.0]


def test_what_is_compiled_says_where_and_of_which_type_it_is() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda network: network.__call__)
        network = make_engine("compile", load_tiny(SWISH), (64, 64), "bfloat16")
    (place,) = network.parameters()
    assert place.dtype == torch.bfloat16
    assert network(torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16))[0][0].dtype == torch.bfloat16


def test_parity_of_an_engine_elsewhere_is_refused_where_that_is_nowhere() -> None:
    if not torch.cuda.is_available():
        for engine in ("eager", "fast", "compile"):
            result = run("parity", "--engine", engine, "--device", "cuda")
            assert result.exit_code == 2
            assert result.stderr.startswith("effconv: device cuda: cannot be used (")
            assert result.stderr.count("\n") == 1
    result = run("parity", "--engine", "onnxruntime", "--device", "cuda")
    assert result.stderr.startswith("effconv: the engine onnxruntime computes on the CPU, found cuda; there are eager")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
