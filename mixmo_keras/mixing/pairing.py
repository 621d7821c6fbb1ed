"""Which image each member is shown."""

from keras import ops

from mixmo_keras import seeds


def row_of_each_member(seed, num_rows, num_members: int, input_repetition=None):
    """The row whose image each member sees: integers (B, M), a permutation of the rows for each member.

    The rows are shuffled once; then each member reshuffles the first 1 − ρ of them on its own, and the rest keeps its place,
    so that a share ρ of the rows shows the same image to all members (MIMO, section 4.2).

    Args:
        seed: Of the shuffles.
        num_rows: B, may be a tensor.
        num_members: M.
        input_repetition: ρ, a number or a tensor. Defaults to none: every member's order is its own.
    """
    common, *of_members = ops.unstack(seeds.permutations(seed, 1 + num_members, num_rows), 1 + num_members)
    if input_repetition is None:
        return ops.stack(of_members, axis=1)
    position = ops.arange(num_rows)
    num_moving = ops.cast(ops.round(ops.cast(num_rows, "float32") * (1 - input_repetition)), position.dtype)
    rows = []
    for order in of_members:
        order = ops.cast(order, position.dtype)
        # sorting by this key shuffles the first rows among themselves and leaves the others where they are
        key = ops.where(position < num_moving, order - num_rows, position)
        rows.append(ops.take(common, ops.argsort(key)))
    return ops.stack(rows, axis=1)
