"""How kernels become machine code."""

import numba

from softgrad.kernels.cpu import compiling


@compiling.inline
def twice(x):
    return 2 * x


def test_what_only_goes_into_a_kernel_is_no_machine_code_by_itself():
    def kernel(x):
        return twice(x) + 1

    made = numba.njit([numba.float64(numba.float64)])(kernel)
    assert made(3.0) == 7.0
    (part,) = (found.library for found in twice.overloads.values())
    assert isinstance(part, compiling.Part)
    name = next(iter(twice.overloads.values())).fndesc.mangled_name
    assert part.get_pointer_to_function(name) == 0
    (code,) = made.inspect_llvm().values()
    assert "twice" not in "".join(line for line in code.splitlines() if " call " in line)
