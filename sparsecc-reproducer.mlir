// sparsecc-opt sparsecc-reproducer.mlir -p 'convert-linalg-to-sparse{max_density=0.5}'
// Traceback (most recent call last):
//   File "/tmp/sddmm/sparsecc/driver/opt.py", line 193, in apply_passes
//     super().apply_passes(prog)
//   File "/tmp/venv/lib/python3.11/site-packages/xdsl/xdsl_opt_main.py", line 356, in apply_passes
//     self.pipeline.apply(self.ctx, prog)
//   File "/tmp/venv/lib/python3.11/site-packages/xdsl/passes.py", line 175, in apply
//     self.passes[-1].apply(ctx, op)
//   File "/tmp/sddmm/sparsecc/passes/convert_linalg_to_sparse.py", line 54, in apply
//     for matmul in [found for found in op.walk() if isinstance(found, MatmulOp)]:
//                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
//   File "/tmp/sddmm/sparsecc/passes/convert_linalg_to_sparse.py", line 54, in <listcomp>
//     for matmul in [found for found in op.walk() if isinstance(found, MatmulOp)]:
//                                                                      ^^^^^^^^
// NameError: name 'MatmulOp' is not defined
builtin.module {
  func.func @left(%x: tensor<4x3xf32>) -> tensor<2x3xf32> {
    %w = sparse.constant #sparse.weight<2x4xf32, [(0, 1, 0.5)]> : tensor<2x4xf32>
    %zero = arith.constant 0.000000e+00 : f32
    %empty = tensor.empty() : tensor<2x3xf32>
    %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<2x3xf32>) -> tensor<2x3xf32>
    %y = linalg.matmul ins(%w, %x : tensor<2x4xf32>, tensor<4x3xf32>) outs(%init : tensor<2x3xf32>) -> tensor<2x3xf32>
    func.return %y : tensor<2x3xf32>
  }
}
