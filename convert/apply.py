"""Apply a rule table to a checkpoint: account for every variable first, then move the axes of those that are used."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..effdet_torch.config import OFFICIAL_NAMES, VARIANTS, Config
from ..errors import CheckpointError, first_names
from .formats.bundle import RELEASE_BYTES
from .layout import Array
from .output_kinds import CHECKPOINT
from .plausibility import Averages, examine
from .rules import OBJECT_SUFFIX, Rule, rules
from .sources import OBJECT_GRAPH, Checkpoint, Container, Variable, checksum

EMA_SUFFIX = "/ExponentialMovingAverage"
OBJECT_SLOT = "/.OPTIMIZER_SLOT/optimizer/"
OBJECT_EMA_SLOT = "average"
OPTIMIZER_SLOTS = ("Momentum", "Adam", "Adam_1", "RMSProp", "RMSProp_1")
OBJECT_OPTIMIZER_SLOTS = ("momentum", "m", "v", "vhat", "rms")
STEP_COUNTERS = {"global_step": "training step counter"}
TF1_OPTIMIZER_STATE = ("beta1_power", "beta2_power")
RAW_NOTICE = "raw weights used, as asked; the published figures were made with the moving averages"
ONLY_NOTICE = "no moving averages in this file; it holds one set of weights, which is used"
TWICE_NOTICE = "effconv wrote one set of weights here, as raw weights and as moving averages alike"
UNFILLED_NOTICE = (
    "the moving averages in this file hold their initial values, as in an exported SavedModel; "
    "its plain weights are used (an export puts the averages there)"
)


class IncompleteConversion(CheckpointError):  # noqa: N818  (a state of affairs, as DESIGN.md names it)
    """Some variable or parameter has no counterpart. The message has the first of each kind, `lists` all of them.

    Where `others` are the models that it does fit, the message names these instead.
    """

    def __init__(self, source: str, config: Config, gaps: Mapping[str, Sequence[str]], others: Sequence[Config] = ()):
        self.lists = {label: list(names) for label, names in gaps.items() if names}
        counts = ", ".join(f"{len(names)} {label}" for label, names in self.lists.items())
        named = "; ".join(f"{label}: {first_names(names)}" for label, names in self.lists.items())
        if others:
            named = f"Its tensors are those of {' and '.join(other.label for other in others)}"
            self.parameters = {"model": " or ".join(other.name.removeprefix("efficientdet-") for other in others)}
        super().__init__(f"{source} does not fit {config.name}: {counts}\n{named}")


class NonfiniteError(CheckpointError):
    """Weights that are NaN or infinite; `lists` names all of them."""

    def __init__(self, source: str, names: Sequence[str]):
        self.lists = {"not finite": names}
        super().__init__(
            f"{source}: {len(names)} weights are not finite; use weights of an earlier step (in Python, "
            f"allow_nonfinite=True takes these)\n{first_names(names)}"
        )


class Plan(NamedTuple):
    """What will be converted: (rule, name in the container) per parameter, and why each other variable is left out."""

    rows: tuple[tuple[Rule, str], ...]
    dropped: dict[str, str]
    weights: str  # "ema": moving averages; "raw": training weights; "only": the container holds one set
    notice: str  # what a user should know about that choice; "" where the averages were there and are used
    averages: Averages | None  # how plausible the chosen averages are; None where none are chosen


def container_name(container: Container, rule: Rule) -> str:
    """The name `rule`'s variable has in a container of that kind."""
    return {Container.TF1: rule.tf, Container.KERAS_OBJECTS: rule.object_key, Container.H5: rule.h5_path}[container]


def average_name(container: Container, rule: Rule) -> str | None:
    """The name of the moving average of `rule`'s variable; None where the container has no place for one.

    Source: google/automl `inference.py: restore_ckpt` (TF1); tensorflow-addons' MovingAverage (Keras).
    """
    if container is Container.TF1:
        return rule.tf + EMA_SUFFIX
    if container is Container.KERAS_OBJECTS:
        return rule.object_path + OBJECT_SLOT + OBJECT_EMA_SLOT + OBJECT_SUFFIX
    return None


def plan(checkpoint: Checkpoint, config: Config, weights: str | None = None) -> Plan:
    """Pair every rule with a variable and every variable with a rule or a reason.

    `weights` is "ema", "raw", or None for the moving averages where there are any. Raises IncompleteConversion listing
    every variable without a rule, rule without a variable, duplicate, and difference in shape or type; CheckpointError
    when moving averages are asked of a file that has none, or none that were ever filled.
    """
    table, variables, container = rules(config), checkpoint.variables, checkpoint.container
    average = {rule.torch: average_name(container, rule) for rule in table}
    has_average = any(name in variables for name in average.values())
    unfilled = has_average and averages_are_initial(checkpoint, table)
    if weights == "ema" and (unfilled or not has_average):
        problem = "its moving averages hold their initial values" if unfilled else "it holds no moving averages"
        raise CheckpointError(
            f"{checkpoint.path}: {problem}; use the raw weights, which it has", parameters={"weights": "raw"}
        )
    use_average = has_average and not unfilled and weights != "raw"
    rows, known = [], _known_reasons(table, variables, container)
    for rule in table:
        plain, averaged = container_name(container, rule), average[rule.torch]
        chosen, unused = (averaged or plain, plain) if use_average else (plain, averaged)
        rows.append((rule, chosen))
        if unused and unused in variables:
            if unfilled:
                known[unused] = "moving average that was never filled"
            elif use_average:
                known[unused] = "raw weight; its moving average is used"
            else:
                known[unused] = "moving average; the raw weight is used"
    _require_complete(rows, known, checkpoint, config)
    dropped = {name: known[name] for name in variables if name in known}
    if use_average:
        kind, notice = "ema", ""
    elif has_average and not unfilled:
        kind, notice = "raw", RAW_NOTICE
    else:
        kind, notice = "only", UNFILLED_NOTICE if unfilled else ONLY_NOTICE
    averages = examine_averages(checkpoint, table) if use_average else None
    if averages and written_twice(checkpoint, averages):
        notice = TWICE_NOTICE
    return Plan(tuple(rows), dropped, kind, notice, averages)


def with_its_classes(variables: Mapping[str, Variable], container: Container, config: Config) -> Config:
    """An official `config` with as many classes as a checkpoint's class outputs have; any other as it is.

    Training on other data (google/automl `main.py --hparams=num_classes=3`) changes nothing else of a model.
    """
    bias = next(rule for rule in rules(config) if rule.torch == "class_head.predict.pointwise.bias")
    variable = variables.get(container_name(container, bias))
    if config not in VARIANTS.values() or variable is None or len(variable.shape) != 1:
        return config
    classes, rest = divmod(variable.shape[0], config.num_anchors)
    return config if rest or not classes else replace(config, num_classes=classes)


def examine_averages(checkpoint: Checkpoint, table: Sequence[Rule]) -> Averages:
    """How plausible the moving averages of a checkpoint are, all of which must be there."""
    kind = checkpoint.container
    rows = [(rule, average_name(kind, rule) or "", container_name(kind, rule)) for rule in table]
    return examine(rows, checkpoint.checksums(), ours=_is_ours(checkpoint))


def written_twice(checkpoint: Checkpoint, averages: Averages) -> bool:
    """Whether effconv, given one set of weights, wrote it as raw weights and as moving averages."""
    return averages.raw == averages.chosen and _is_ours(checkpoint)


def _is_ours(checkpoint: Checkpoint) -> bool:
    """Whether effconv wrote the checkpoint, by the `checkpoint` file beside it; False of one in an archive."""
    index = checkpoint.path.with_name(checkpoint.path.name + ".index")
    return index.is_file() and CHECKPOINT.recognises(index)


def averages_are_initial(checkpoint: Checkpoint, table: Sequence[Rule]) -> bool:
    """Whether the moving averages were never filled: every gamma's is one and every beta's zero, though theirs are not.

    The official code's exported SavedModels are so: they restore the averages into the plain variables and leave the
    shadows at their initial values. Taking those would give an untrained network.
    """
    if checkpoint.container is not Container.TF1:
        return False
    checksums = checkpoint.checksums()
    norms = [rule for rule in table if rule.tf.endswith(("/gamma", "/beta"))]

    def initial(rule: Rule, name: str) -> bool:
        value = 1 if rule.tf.endswith("/gamma") else 0
        return checksums.get(name) == checksum(np.full(rule.shape, value, np.float32))

    averages_initial = all(initial(rule, rule.tf + EMA_SUFFIX) for rule in norms)
    return averages_initial and not all(initial(rule, rule.tf) for rule in norms)


def _known_reasons(table: Sequence[Rule], variables: Iterable[str], container: Container) -> dict[str, str]:
    """Every name that may be left out, with the reason; slots count only beside a variable the model has."""
    known: dict[str, str] = {}
    slot = "optimizer slot"
    if container is Container.TF1:
        known.update(STEP_COUNTERS)
        known.update(dict.fromkeys(TF1_OPTIMIZER_STATE, "optimizer state"))
        known.update({f"{rule.tf}/{name}": slot for rule in table for name in OPTIMIZER_SLOTS})
    elif container is Container.KERAS_OBJECTS:
        known[OBJECT_GRAPH] = "description of the saved objects"
        known["save_counter" + OBJECT_SUFFIX] = "save counter"
        known.update({name: "optimizer state" for name in variables if name.startswith("optimizer/")})
        known.update(
            {
                f"{rule.object_path}{OBJECT_SLOT}{name}{OBJECT_SUFFIX}": slot
                for rule in table
                for name in OBJECT_OPTIMIZER_SLOTS
            }
        )
    else:
        known.update({name: "optimizer state" for name in variables if name.startswith("/optimizer_weights/")})
    return known


def _require_complete(
    rows: Sequence[tuple[Rule, str]], known: Mapping[str, str], checkpoint: Checkpoint, config: Config
) -> None:
    variables = checkpoint.variables
    expected = {name: Variable("float32", rule.shape) for rule, name in rows}
    gaps = _gaps(expected, {name: variable for name, variable in variables.items() if name not in known})
    gaps["named twice by the rules"] = [
        *_repeated(name for _, name in rows),
        *_repeated(rule.torch for rule, _ in rows),
    ]
    if any(gaps.values()):
        others = [other for other in looks_like(variables, checkpoint.container) if rules(other) != rules(config)]
        raise IncompleteConversion(str(checkpoint.path), config, gaps, others)


def _gaps(expected: Mapping[str, Variable], actual: Mapping[str, Variable]) -> dict[str, list[str]]:
    return {
        "missing from the file": [name for name in expected if name not in actual],
        "unknown to the model": [name for name in actual if name not in expected],
        "of another shape or type": [
            f"{name} (expected {_label(expected[name])}, found {_label(actual[name])})"
            for name in expected
            if name in actual and actual[name] != expected[name]
        ],
    }


def _label(variable: Variable) -> str:
    return f"{variable.dtype} {list(variable.shape)}"


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def looks_like(variables: Mapping[str, Variable], container: Container) -> list[Config]:
    """The official architectures, with any number of classes, whose every variable is in `variables` with its shape."""
    fitting = []
    for name in OFFICIAL_NAMES:
        config = with_its_classes(variables, container, VARIANTS[name])
        table = rules(config)
        if all(variables.get(container_name(container, rule)) == Variable("float32", rule.shape) for rule in table):
            fitting.append(config)
    return fitting


def only_model(checkpoint: Checkpoint) -> Config:
    """The official model that a checkpoint is of. Raises CheckpointError unless it is one."""
    found = looks_like(checkpoint.variables, checkpoint.container)
    if len(found) != 1:
        which = f"those of {' and '.join(config.label for config in found)}" if found else "of no official model"
        raise CheckpointError(
            f"{checkpoint.path}: its variables are {which}; say which model it is", parameters={"model": None}
        )
    return found[0]


def apply(plan: Plan, read: Callable[[str], Array], release: Callable[[], None] = lambda: None) -> dict[str, Array]:
    """{state dict key: contiguous float32 array in PyTorch's layout}, one copy of each variable used.

    `read` gives a variable by its container name; `release` lets memory-mapped pages go as they are done with.
    """
    state: dict[str, Array] = {}
    since_release = 0
    for rule, name in plan.rows:
        state[rule.torch] = np.array(rule.layout.to_torch(read(name)), order="C")
        since_release += state[rule.torch].nbytes
        if since_release > RELEASE_BYTES:
            release()
            since_release = 0
    release()
    return state


def apply_inverse(state: Mapping[str, Array], config: Config, source: str) -> dict[str, Array]:
    """{TF1 variable name: array in TensorFlow's layout}; undoes `apply` bit for bit.

    Raises IncompleteConversion as `require_state` does.
    """
    require_state(state, config, source)
    return {rule.tf: rule.layout.to_tensorflow(state[rule.torch]) for rule in rules(config)}


def require_state(state: Mapping[str, Array], config: Config, source: str) -> None:
    """Check that `state` is a whole state dict of the model, in float32.

    Raises IncompleteConversion listing every parameter without a rule, rule without a parameter, and difference in
    shape or type.
    """
    actual = {key: Variable(array.dtype.name, array.shape) for key, array in state.items()}
    expected = {rule.torch: Variable("float32", rule.layout.torch_shape(rule.shape)) for rule in rules(config)}
    gaps = _gaps(expected, actual)
    if any(gaps.values()):
        raise IncompleteConversion(source, config, gaps)


def require_finite(arrays: Mapping[str, Array], source: str) -> None:
    """Raise NonfiniteError naming every array that holds NaN or infinity, with how many."""
    bad = [
        f"{name} ({int(np.isnan(array).sum())} NaN, {int(np.isinf(array).sum())} infinite)"
        for name, array in arrays.items()
        if not np.isfinite(array).all()
    ]
    if bad:
        raise NonfiniteError(source, bad)
