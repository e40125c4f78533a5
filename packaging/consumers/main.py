# SPDX-License-Identifier: Apache-2.0
"""The same from Python."""
import sys

import cohort

got = []
with cohort.Padata() as pool, cohort.Shell(pool) as stream:
    for i in range(1000):
        stream.submit(pow, i, 2, then=lambda square, error: got.append(square))
    stream.drain()
in_order = got == [i * i for i in range(1000)]
print(len(got), "squares,", "in order" if in_order else "OUT OF ORDER", "cohort", cohort.version())
sys.exit(0 if in_order else 1)
