"""A model as a drawing in text."""


def drawing(model) -> str:
    """Encoders, mixing block, core and heads of a `MixMo`."""
    height, width, channels = model.encoders.encoders[0].output_shape[1:]
    mixing = model.batching.mixing
    mask = "sum" if mixing is None else getattr(mixing.mask, "__name__", mixing.mask)
    ends = model.core.output_shape
    features = f"{len(ends)} maps" if isinstance(ends, list) else ends[-1]
    middle = f" mixing block ({mask}, {height}×{width}×{channels}) ── core ({features}) ─"
    if model.num_members == 1:
        return f"image ── encoder ──{middle}─ head ── label"
    last = model.num_members - 1
    lines = [f"image {member} ── encoder {member} ─{{}}─ head {member} ── label {member}" for member in range(last + 1)]
    corners = [("┐", "┌"), *[("┤", "├")] * (last - 1), ("┘", "└")]
    lines = [line.format(left + " " * len(middle) + right) for line, (left, right) in zip(lines, corners, strict=True)]
    indent = " " * lines[0].index("┐")
    lines.insert(model.num_members // 2, f"{indent}├{middle}┤")
    return "\n".join(lines)
