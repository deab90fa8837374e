"""What sparsecc adds to every xDSL tool: dialects, passes and targets by name.

xDSL finds SPARSECC_UNIVERSE through the entry point group `xdsl.universe`. Each entry is a factory that
imports its module when it is first used, so that tools start fast.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from xdsl.universe import Universe

DIALECTS = {
    "cpu": ("sparsecc.dialects.cpu", "Cpu"),
    "host": ("sparsecc.dialects.host", "Host"),
    "nn": ("sparsecc.dialects.nn", "Nn"),
    "sparse": ("sparsecc.dialects.sparse", "Sparse"),
    "tu": ("sparsecc.dialects.tu", "Tu"),
    "xbar": ("sparsecc.dialects.xbar", "Xbar"),
}
# In the order of the pipeline.
PASSES = {
    "nn-widen-floats": ("sparsecc.passes.nn_widen_floats", "NnWidenFloatsPass"),
    "sparse-propagate": ("sparsecc.passes.sparse_propagate", "SparsePropagatePass"),
    "sparse-reorder": ("sparsecc.passes.sparse_reorder", "SparseReorderPass"),
    "nn-fold-bias": ("sparsecc.passes.nn_fold_bias", "NnFoldBiasPass"),
    "nn-quantize": ("sparsecc.passes.nn_quantize", "NnQuantizePass"),
    "nn-fold-quantization": ("sparsecc.passes.nn_fold_quantization", "NnFoldQuantizationPass"),
    "convert-nn-to-host": ("sparsecc.passes.convert_nn_to_host", "ConvertNnToHostPass"),
    "fuse-into-products": ("sparsecc.passes.fuse_into_products", "FuseIntoProductsPass"),
    "convert-linalg-to-sddmm": ("sparsecc.passes.convert_linalg_to_sddmm", "ConvertLinalgToSddmmPass"),
    "convert-linalg-to-sparse": ("sparsecc.passes.convert_linalg_to_sparse", "ConvertLinalgToSparsePass"),
    "sparse-compact": ("sparsecc.passes.sparse_compact", "SparseCompactPass"),
    "sparse-lower": ("sparsecc.passes.sparse_lower", "SparseLowerPass"),
    "sparse-lift": ("sparsecc.passes.sparse_lift", "SparseLiftPass"),
    "sparse-group": ("sparsecc.passes.sparse_group", "SparseGroupPass"),
    "convert-sparse-to-linalg": ("sparsecc.passes.convert_sparse_to_linalg", "ConvertSparseToLinalgPass"),
    "convert-sparse-to-tu": ("sparsecc.passes.convert_sparse_to_tu", "ConvertSparseToTuPass"),
    "tu-unroll": ("sparsecc.passes.tu_unroll", "TuUnrollPass"),
    "convert-tu-to-c": ("sparsecc.passes.convert_tu_to_c", "ConvertTuToCPass"),
    "convert-sparse-to-cpu": ("sparsecc.passes.convert_sparse_to_cpu", "ConvertSparseToCpuPass"),
    "convert-cpu-to-c": ("sparsecc.passes.convert_cpu_to_c", "ConvertCpuToCPass"),
    "convert-sparse-to-xbar": ("sparsecc.passes.convert_sparse_to_xbar", "ConvertSparseToXbarPass"),
    "xbar-slice-bits": ("sparsecc.passes.xbar_slice_bits", "XbarSliceBitsPass"),
    "xbar-drop-empty-slices": ("sparsecc.passes.xbar_drop_empty_slices", "XbarDropEmptySlicesPass"),
    "xbar-squeeze-out": ("sparsecc.passes.xbar_squeeze_out", "XbarSqueezeOutPass"),
    "xbar-recode": ("sparsecc.passes.xbar_recode", "XbarRecodePass"),
    "xbar-bundle-slices": ("sparsecc.passes.xbar_bundle_slices", "XbarBundleSlicesPass"),
    "xbar-share-blocks": ("sparsecc.passes.xbar_share_blocks", "XbarShareBlocksPass"),
    "xbar-fit-adc": ("sparsecc.passes.xbar_fit_adc", "XbarFitAdcPass"),
    "xbar-place": ("sparsecc.passes.xbar_place", "XbarPlacePass"),
    "xbar-schedule": ("sparsecc.passes.xbar_schedule", "XbarSchedulePass"),
    "convert-xbar-to-c": ("sparsecc.passes.convert_xbar_to_c", "ConvertXbarToCPass"),
}
TARGETS = {
    "c": ("sparsecc.codegen.c_target", "CTarget"),
}


def _lazy(module: str, name: str) -> Callable[[], Any]:
    """A factory that imports `module` when it is called, and returns what is called `name` there."""
    return lambda: getattr(import_module(module), name)


def _factories(table: dict[str, tuple[str, str]]) -> dict[str, Callable[[], Any]]:
    return {key: _lazy(module, name) for key, (module, name) in table.items()}


SPARSECC_UNIVERSE = Universe(
    all_dialects=_factories(DIALECTS),
    all_passes=_factories(PASSES),
    all_targets=_factories(TARGETS),
)
