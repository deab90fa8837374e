"""The passes of each target family, in order: lists of pass objects to read, take, edit and run."""

from __future__ import annotations

from xdsl.passes import ModulePass

from sparsecc.passes.convert_cpu_to_c import ConvertCpuToCPass
from sparsecc.passes.convert_linalg_to_sddmm import ConvertLinalgToSddmmPass
from sparsecc.passes.convert_linalg_to_sparse import ConvertLinalgToSparsePass
from sparsecc.passes.convert_sparse_to_cpu import ConvertSparseToCpuPass
from sparsecc.passes.convert_sparse_to_tu import ConvertSparseToTuPass
from sparsecc.passes.convert_sparse_to_xbar import ConvertSparseToXbarPass
from sparsecc.passes.convert_tu_to_c import ConvertTuToCPass
from sparsecc.passes.convert_xbar_to_c import ConvertXbarToCPass
from sparsecc.passes.sparse_compact import SparseCompactPass
from sparsecc.passes.sparse_group import SparseGroupPass
from sparsecc.passes.sparse_lift import SparseLiftPass
from sparsecc.passes.sparse_lower import SparseLowerPass
from sparsecc.passes.tu_unroll import TuUnrollPass
from sparsecc.passes.xbar_bundle_slices import XbarBundleSlicesPass
from sparsecc.passes.xbar_drop_empty_slices import XbarDropEmptySlicesPass
from sparsecc.passes.xbar_fit_adc import XbarFitAdcPass
from sparsecc.passes.xbar_place import XbarPlacePass
from sparsecc.passes.xbar_recode import XbarRecodePass
from sparsecc.passes.xbar_schedule import XbarSchedulePass
from sparsecc.passes.xbar_share_blocks import XbarShareBlocksPass
from sparsecc.passes.xbar_slice_bits import XbarSliceBitsPass
from sparsecc.passes.xbar_squeeze_out import XbarSqueezeOutPass


def tensor_unit(
    target: str, plan: str = "auto", effort: int = 1, seed: int = 0, simulate: bool = False
) -> list[ModulePass]:
    """From a product with a constant to C calls, for dense tensor units.

    target: a preset's name or the path of a TOML file. plan: "auto", "dense", or a mode of sparse-compact.
    effort, seed: of the search for covers, 0 to 3. simulate: whether the simulator decides between the best
    covers and schedules, else the cost model does; needs a C compiler.
    """
    return [
        ConvertLinalgToSddmmPass(target=target),
        ConvertLinalgToSparsePass(target=target),
        SparseCompactPass(mode=plan, target=target, effort=effort, seed=seed, simulate=simulate),
        SparseLowerPass(),
        SparseLiftPass(),
        SparseGroupPass(),
        ConvertSparseToTuPass(target=target, simulate=simulate, effort=effort),
        TuUnrollPass(),
        ConvertTuToCPass(),
    ]


def crossbar(target: str, plan: str = "auto", effort: int = 1, seed: int = 0) -> list[ModulePass]:
    """From a product with a constant to C calls, for memristor crossbars.

    target: a preset's name or the path of a TOML file. plan: "auto", "dense", or a mode of sparse-compact.
    effort, seed: of the search for covers, 0 to 3.
    """
    return [
        ConvertLinalgToSparsePass(target=target),
        SparseCompactPass(mode=plan, target=target, effort=effort, seed=seed),
        ConvertSparseToXbarPass(target=target),
        XbarSliceBitsPass(),
        XbarDropEmptySlicesPass(),
        XbarSqueezeOutPass(),
        XbarRecodePass(),
        XbarBundleSlicesPass(),
        XbarShareBlocksPass(),
        XbarFitAdcPass(),
        XbarPlacePass(),
        XbarSchedulePass(),
        ConvertXbarToCPass(),
    ]


def cpu(target: str = "cpu", kernel: str = "auto", seed: int = 0) -> list[ModulePass]:
    """From a product with a constant to C calls, for CPUs.

    target: "cpu" for this machine's, a preset's name or the path of a TOML file. kernel: "auto", "line",
    "csr", "vector" or "dense". seed: of the values that are multiplied while times are taken.
    """
    return [
        ConvertLinalgToSparsePass(target=target),
        ConvertSparseToCpuPass(target=target, kernel=kernel, seed=seed),
        ConvertCpuToCPass(),
    ]
