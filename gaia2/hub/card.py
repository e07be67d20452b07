"""The model card: Markdown made of facts, with the front matter that a hub reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gaia2.hub.facts import Facts

LIBRARY = "gaia2"
TAGS = ("world-model", "driving", "autonomous-driving", "multi-camera", "video-generation", "flow-matching")
PAPER = "2503.20523"
CONTROLS = {
    "speed": "speed of the ego vehicle, m/s, each frame",
    "curvature": "curvature of its path, 1/m, each frame",
    "agents": "3D boxes of other road users with their categories and tracks",
    "camera": "intrinsics, extrinsics and distortion of each camera",
    "timestamps": "time of each frame, seconds",
    "metadata": "categories of the scene, see below",
    "clip_embedding": "CLIP embedding of a picture or a prompt",
    "scenario_embedding": "embedding of a driving scenario",
}
"""What the conditions of the paper ask for."""
COLUMNS = ("genuine", "round trip", "generated", "shuffled")


def model_card(
    facts: Facts,
    repo_id: str,
    *,
    license: str = "apache-2.0",
    data: Sequence[str] = (),
    about: str = "",
) -> str:
    """A model card.

    Args:
        facts: Of the folder, see `read_facts`.
        repo_id: The repository, for the example.
        license: Of the weights, as the hub names it.
        data: Data that the weights were trained on, each with its licence, in a sentence of yours; beside what the
            facts say.
        about: A paragraph of yours.

    Returns:
        Markdown, with front matter in YAML.

    Example:
        >>> import gaia2
        >>> card = model_card(gaia2.hub.read_facts(gaia2.default_model()), "org/name")
        >>> card.splitlines()[:3]
        ['---', 'library_name: gaia2', 'license: apache-2.0']
    """
    front = ["---", f"library_name: {LIBRARY}", f"license: {license}", "tags:", *(f"- {tag}" for tag in TAGS), "---"]
    is_pipeline = "transformer" in facts.configs and "vae" in facts.configs
    parts = [
        "\n".join(front),
        f"# {repo_id.split('/')[-1]}",
        _what(facts, is_pipeline),
        about.strip(),
        "\n\n".join(f"![A sample of the model]({name})" for name in facts.pictures),
        f"## Use\n\n{_use(facts, repo_id, is_pipeline)}",
        _section("What is in it", _components(facts)),
        _section("Training", _training(facts.manifest)),
        _section("Data and licences", _data(facts.manifest, data)),
        _section("Metrics", _metrics(facts)),
        _section("Controls", _controls(facts.configs.get("transformer", {}))),
        _section("Limits", _limits(facts)),
        _section("Intended use", _INTENDED),
        _section("Licence and citation", _citation(license)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_INTENDED = """\
Research on world models, video generation and driving policies: synthetic multi-camera video of scenes that one
describes, and its study.

Not for decisions in vehicles on roads, nor as evidence of how a real place, vehicle or person looked or behaved.
Policies that are trained or tested in generated video need a check on recorded and real driving. Generated video should
be labelled as such."""


def _what(facts: Facts, is_pipeline: bool) -> str:
    library = "the PyTorch library `gaia2`, an independent implementation of the world model of"
    kind = "A multi-camera driving world model" if is_pipeline else f"A `{facts.class_name}`"
    return f"{kind} for {library} [arXiv {PAPER}](https://arxiv.org/abs/{PAPER})."


def _use(facts: Facts, repo_id: str, is_pipeline: bool) -> str:
    lines = ["import gaia2", ""]
    if not is_pipeline:
        lines.append(f'part = gaia2.{facts.class_name}.from_pretrained("{repo_id}")')
        return _fenced(lines)
    vae, transformer = facts.configs["vae"], facts.configs["transformer"]
    size = "x".join(map(str, vae.get("sample_size", ()))) or "the trained size"
    lines += [
        f'pipe = gaia2.{facts.class_name}.from_pretrained("{repo_id}")',
        'scene = gaia2.Scene.create(rig="surround", num_frames=24, speed=10.0, weather="rain", time_of_day="dusk")',
        "video = pipe(scene)",
        'video.save_video("rain.mp4")',
    ]
    window = transformer.get("window_latents")
    longer = f" Its window is {window} latents; longer videos are made window by window." if window else ""
    guided = (
        f" Unless a call says otherwise it is sampled with classifier-free guidance {facts.guidance_scale:g};"
        " `guidance_scale=1` is none, and takes about half the time."
        if facts.guidance_scale != 1
        else ""
    )
    return f"{_fenced(lines)}\n\n`pip install gaia2`. Frames are {size} pixels (height x width).{longer}{guided}"


def _components(facts: Facts) -> str:
    rows = []
    for name, config in facts.configs.items():
        numbers = facts.parameters.get(name)
        told = "" if numbers is None else f"{numbers / 1e6:,.2f} million"
        size = f"{facts.sizes[name] / 1e6:,.1f} MB" if name in facts.sizes else ""
        kinds = ", ".join(facts.kinds.get(name, ()))
        rows.append((f"`{name or '.'}`", f"`{config.get('_class_name', '')}`", told, kinds, size))
    table = _table(("Component", "Class", "Numbers", "Format", "Weights"), rows)
    if not facts.variants:
        return table
    named = " and ".join(f"`variant={name!r}`" for name in facts.variants)
    return f"{table}\n\nThe weights are there in other formats as well: {named} of `from_pretrained`."


def _training(manifest: Mapping[str, Any]) -> str:
    parts = []
    if manifest.get("commit"):
        parts.append(f"With the recipes of `gaia2` at commit `{manifest['commit']}`.")
    if isinstance(manifest.get("versions"), Mapping):
        parts.append("Versions: " + ", ".join(f"{k} {v}" for k, v in manifest["versions"].items()) + ".")
    if isinstance(manifest.get("options"), Mapping):
        parts.append(_table(("Option", "Value"), _flat(manifest["options"])))
    return "\n\n".join(parts)


def _data(manifest: Mapping[str, Any], data: Sequence[str]) -> str:
    told = manifest.get("trained_on")
    if isinstance(told, Mapping):
        lines = [f"- {name}: {said}" for name, said in _flat(told)]
    else:
        lines = [f"- {said}" for said in ([told] if isinstance(told, str) else told or ())]
    return "\n".join([*lines, *(f"- {said}" for said in data)])


def _metrics(facts: Facts) -> str:
    parts = []
    if isinstance(facts.manifest.get("figures"), Mapping):
        parts.append(_table(("Figure", "Value"), _flat(facts.manifest["figures"])))
    figures = facts.evaluation.get("figures")
    if isinstance(figures, Mapping):
        refused = facts.evaluation.get("refused") or {}
        columns = [name for name in COLUMNS if any(name in row for row in figures.values())]
        rows = [
            (name, *(_cell(row.get(column)) for column in columns))
            for name, row in figures.items()
            if name not in refused
        ]
        parts.append(_table(("", *columns), rows))
        parts.append(
            "*Genuine* are rendered clips, *round trip* those after the tokenizer, *generated* those of the model, and "
            "*shuffled* generated ones judged against other scenes: what one gets for nothing. In brackets a 95% "
            "interval."
        )
    protocol = facts.evaluation.get("protocol")
    if isinstance(protocol, Mapping):
        named = ("clips", "num_inference_steps", "guidance_scale", "weights", "scenes", "extractor")
        parts.append("Protocol: " + ", ".join(f"{name} {protocol[name]}" for name in named if name in protocol) + ".")
    return "\n\n".join(parts)


def _controls(config: Mapping[str, Any]) -> str:
    trained = config.get("trained_conditions")
    if not config:
        return ""
    own = [*(config.get("conditions") or ()), *(trained or ())]
    known = {**dict.fromkeys(own, "a condition of its own"), **CONTROLS}
    known = {name: known[name] for name in dict.fromkeys([*CONTROLS, *own])}
    rows = [(f"`{name}`", about, _yes(trained is None or name in trained)) for name, about in known.items()]
    parts = [_table(("Condition", "What", "Trained on"), rows)]
    metadata = config.get("metadata")
    pairs = metadata.items() if isinstance(metadata, Mapping) else metadata or ()
    values = [(f"`{name}`", ", ".join(map(_word, options))) for name, options in pairs]
    if values:
        parts.append(_table(("Metadata", "Values"), values))
    if config.get("agent_categories"):
        parts.append("Categories of agents: " + ", ".join(config["agent_categories"]) + ".")
    return "\n\n".join(parts)


def _limits(facts: Facts) -> str:
    transformer, lines = facts.configs.get("transformer", {}), []
    trained = transformer.get("trained_conditions")
    if trained is not None and (untrained := [name for name in CONTROLS if name not in trained]):
        lines.append(f"- It was not trained on {', '.join(untrained)}: they change next to nothing.")
    span = transformer.get("trained_range") or {}
    if "cameras" in span:
        lines.append(f"- It has seen at most {span['cameras']} cameras at a time.")
    if "seconds" in span:
        low, high = span["seconds"]
        lines.append(f"- Its latents were {low:g} s apart." if low == high else f"- Latents: {low:g} to {high:g} s.")
    ignored = _not_obeyed(facts.evaluation)
    if ignored:
        lines.append(
            f"- By the metrics above it does not obey, or cannot be shown to obey: {', '.join(ignored)}. The intervals "
            "of *generated* and *shuffled* overlap."
        )
    noted = facts.manifest.get("not_uninterrupted")
    lines += [f"- {said}" for said in noted or ()] if isinstance(noted, list) else []
    return "\n".join(lines)


def _not_obeyed(evaluation: Mapping[str, Any]) -> list[str]:
    """Figures of which generated clips are no better than clips of other scenes, as their intervals say."""
    refused, ignored = evaluation.get("refused") or {}, []
    for name, row in (evaluation.get("figures") or {}).items():
        made, nothing = row.get("generated"), row.get("shuffled")
        if name in refused or not made or not nothing or None in (*_ends(made), *_ends(nothing)):
            continue
        if made["low"] <= nothing["high"] and nothing["low"] <= made["high"]:
            ignored.append(name)
    return ignored


def _ends(figure: Mapping[str, Any]) -> tuple[Any, Any]:
    return figure.get("low"), figure.get("high")


def _citation(license: str) -> str:
    bibtex = [
        "@article{gaia2,",
        "  author  = {Russell, Lloyd and Hu, Anthony and Bertoni, Lorenzo and Fedoseev, George and Shotton, Jamie and "
        "Arani, Elahe and Corrado, Gianluca},",
        "  title   = {GAIA-2: A Controllable Multi-View Generative World Model for Autonomous Driving},",
        "  journal = {arXiv:" + PAPER + "},",
        "  year    = {2025}",
        "}",
    ]
    return (
        f"The weights are under {license}. This is an independent implementation; it comes without Wayve's weights or "
        f"data. The paper:\n\n{_fenced(bibtex, 'bibtex')}"
    )


def _section(title: str, content: str) -> str:
    return f"## {title}\n\n{content}" if content else ""


def _fenced(lines: Iterable[str], language: str = "python") -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Names and values of a nested mapping, a row each."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{name}: ")
        else:
            rows.append((f"{before}{name}", _word(value)))
    return rows


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_word, value))
    return value if isinstance(value, str) else json.dumps(value)


def _cell(figure: Mapping[str, Any] | None) -> str:
    if not figure or figure.get("value") is None:
        return ""
    if None in _ends(figure):
        return f"{figure['value']:.2f}"
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
