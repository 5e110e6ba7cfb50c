"""The benches by name: the published tables and figures, in the order of the papers, then those of known truth."""

from collections.abc import Mapping

from situ.bench import lelsd_distance, resefa_edits
from situ.bench.run import Bench

_ALL = (lelsd_distance.BENCH, resefa_edits.TABLE_BENCH, resefa_edits.FIGURE_BENCH)

BENCHES: Mapping[str, Bench] = {bench.name: bench for bench in _ALL}
