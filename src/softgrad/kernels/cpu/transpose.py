"""Short rows turned, so that each lane holds one: through registers, both ways.

A block is `LANES` rows of `SIDE` elements.  It is turned as LANES/SIDE squares beside each other: vector
r holds row r of the first, row r of the second, …, and then column r of all rows.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .buffer import BYTES, IN_MEMORY
from .memory import first_lanes, joined, load_first, narrow, part_of, place_of, store_first, widen
from .vec import LANES, i32

SIDE = 16


def exchanged(builder, vectors):
    """Rows and columns of the squares exchanged.

    Four rounds; round s exchanges, in each part of 2s × 2s, the upper right s × s with the lower left.
    """
    index = ir.VectorType(i32, LANES)
    vectors = list(vectors)
    for s in (1, 2, 4, 8):
        upper = index([lane if not lane & s else LANES + lane - s for lane in range(LANES)])
        lower = index([lane + s if not lane & s else LANES + lane for lane in range(LANES)])
        for i in range(SIDE):
            if not i & s:
                pair = vectors[i], vectors[i + s]
                vectors[i] = builder.shuffle_vector(*pair, upper)
                vectors[i + s] = builder.shuffle_vector(*pair, lower)
    return vectors


@intrinsic
def load_block(typingctx, array, at, pitch, rows, columns, target, target_at):
    """target[target_at + LANES·c + r] = array[at + pitch·r + c] for r < `rows`, c < `columns`.

    All LANES·SIDE places of the block in `target` are written; what the others get is not said.
    """
    dtype = array.dtype
    raw_type = ir.VectorType(IN_MEMORY[dtype], SIDE)

    def codegen(context, builder, sig, args):
        memory, at, pitch, rows, columns, room, target_at = args

        def move(read):
            raws, place = [], at
            for r in range(LANES):
                raws.append(read(place_of(builder, memory, dtype, place, SIDE)))
                # past the last row, read that one again
                more = builder.icmp_signed("<", rows.type(r + 1), rows)
                place = builder.add(place, builder.select(more, pitch, pitch.type(0)))
            vectors = [widen(builder, joined(builder, raws[r::SIDE]), dtype) for r in range(SIDE)]
            for c, vector in enumerate(exchanged(builder, vectors)):
                there = builder.add(target_at, target_at.type(LANES * c))
                builder.store(vector, place_of(builder, room, target.dtype, there)).align = BYTES[
                    target.dtype
                ]

        def whole(place):
            raw = builder.load(place)
            raw.align = BYTES[dtype]
            return raw

        def some(place):
            return load_first(builder, place, dtype, first_lanes(builder, columns, SIDE), raw_type(None))

        with builder.if_else(builder.icmp_signed(">=", columns, columns.type(SIDE))) as (full, part):
            with full:
                move(whole)
            with part:
                move(some)
        return context.get_dummy_value()

    return types.none(array, *[types.intp] * 4, target, types.intp), codegen


@intrinsic
def store_block(typingctx, source, source_at, array, at, pitch, rows, columns):
    """array[at + pitch·r + c] = source[source_at + LANES·c + r] for r < `rows`, c < `columns`."""
    dtype = array.dtype

    def codegen(context, builder, sig, args):
        room, source_at, memory, at, pitch, rows, columns = args
        vectors = []
        for c in range(SIDE):
            place = builder.add(source_at, source_at.type(LANES * c))
            vector = builder.load(place_of(builder, room, source.dtype, place))
            vector.align = BYTES[source.dtype]
            vectors.append(vector)
        vectors = [narrow(builder, vector, dtype) for vector in exchanged(builder, vectors)]
        whole = builder.and_(
            builder.icmp_signed(">=", rows, rows.type(LANES)),
            builder.icmp_signed(">=", columns, columns.type(SIDE)),
        )

        def each_row():
            for r in range(LANES):
                place = builder.add(at, builder.mul(pitch, pitch.type(r)))
                raw = part_of(builder, vectors[r % SIDE], r // SIDE, SIDE)
                yield r, raw, place_of(builder, memory, dtype, place, SIDE)

        with builder.if_else(whole) as (full, part):
            with full:
                for _, raw, place in each_row():
                    builder.store(raw, place).align = BYTES[dtype]
            with part:
                for r, raw, place in each_row():
                    there = builder.icmp_signed("<", rows.type(r), rows)
                    live = builder.select(there, columns, columns.type(0))
                    store_first(builder, raw, place, dtype, first_lanes(builder, live, SIDE))
        return context.get_dummy_value()

    return types.none(source, types.intp, array, *[types.intp] * 4), codegen
