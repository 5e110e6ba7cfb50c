"""The benches by name: the published tables and figures, in the order of the papers, then those of known truth."""

from collections.abc import Mapping

from situ.bench import (
    interactivity,
    lelsd_distance,
    lelsd_palette,
    lelsd_properties,
    lelsd_sequence,
    magec_consistency,
    magec_editability,
    magec_reconstruction,
    magec_truth,
    resefa_edits,
    truth,
)
from situ.bench.run import Bench

_ALL = (
    lelsd_properties.BENCH,
    lelsd_palette.BENCH,
    lelsd_distance.BENCH,
    lelsd_sequence.BENCH,
    interactivity.BENCH,
    resefa_edits.TABLE_BENCH,
    resefa_edits.FIGURE_BENCH,
    magec_reconstruction.BENCH,
    magec_editability.BENCH,
    magec_consistency.BENCH,
    truth.BENCH,
    magec_truth.BENCH,
)

BENCHES: Mapping[str, Bench] = {bench.name: bench for bench in _ALL}
